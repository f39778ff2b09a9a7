//! Accumulators as they travel: named values that merge over subtasks.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The accumulators of a task or of a job, by name.
pub type AccumulatorValues = BTreeMap<String, AccumulatorValue>;

/// One accumulator's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AccumulatorValue {
    /// A sum of integers.
    Long(i64),
    /// A sum of floating-point numbers.
    Double(f64),
    /// How often each value was seen.
    Histogram(BTreeMap<i64, u64>),
}

impl AccumulatorValue {
    /// Adds what another subtask has accumulated. False, with nothing changed, when the two are of
    /// different kinds.
    pub fn merge(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Long(mine), Self::Long(theirs)) => *mine = mine.wrapping_add(*theirs),
            (Self::Double(mine), Self::Double(theirs)) => *mine += theirs,
            (Self::Histogram(mine), Self::Histogram(theirs)) => {
                theirs.iter().for_each(|(value, count)| *mine.entry(*value).or_insert(0) += count);
            }
            _ => return false,
        }
        true
    }
}

/// Merges `from` into `into`, and returns the names of accumulators whose kinds differ.
pub fn merge_accumulators(into: &mut AccumulatorValues, from: &AccumulatorValues) -> Vec<String> {
    let mut mismatched = Vec::new();
    for (name, value) in from {
        match into.get_mut(name) {
            None => {
                into.insert(name.clone(), value.clone());
            }
            Some(present) => {
                if !present.merge(value) {
                    mismatched.push(name.clone());
                }
            }
        }
    }
    mismatched
}
