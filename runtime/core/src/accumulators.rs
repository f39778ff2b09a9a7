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
    /// The least integer.
    LongMin(i64),
    /// The greatest integer.
    LongMax(i64),
    /// The least floating-point number.
    DoubleMin(f64),
    /// The greatest floating-point number.
    DoubleMax(f64),
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
            (Self::LongMin(mine), Self::LongMin(theirs)) => *mine = (*mine).min(*theirs),
            (Self::LongMax(mine), Self::LongMax(theirs)) => *mine = (*mine).max(*theirs),
            (Self::DoubleMin(mine), Self::DoubleMin(theirs)) => *mine = mine.min(*theirs),
            (Self::DoubleMax(mine), Self::DoubleMax(theirs)) => *mine = mine.max(*theirs),
            (Self::Histogram(mine), Self::Histogram(theirs)) => {
                theirs
                    .iter()
                    .for_each(|(value, count)| *mine.entry(*value).or_insert(0) += count);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(values: &[AccumulatorValue]) -> AccumulatorValue {
        let mut into = values[0].clone();
        assert!(values[1..].iter().all(|value| into.merge(value)));
        into
    }

    #[test]
    fn each_kind_merges_by_its_own_rule() {
        use AccumulatorValue as V;
        assert_eq!(merged(&[V::Long(2), V::Long(-5)]), V::Long(-3));
        assert_eq!(merged(&[V::Double(0.5), V::Double(1.0)]), V::Double(1.5));
        assert_eq!(
            merged(&[V::LongMin(2), V::LongMin(-5), V::LongMin(7)]),
            V::LongMin(-5)
        );
        assert_eq!(
            merged(&[V::LongMax(2), V::LongMax(-5), V::LongMax(7)]),
            V::LongMax(7)
        );
        assert_eq!(
            merged(&[V::DoubleMin(2.0), V::DoubleMin(-5.0)]),
            V::DoubleMin(-5.0)
        );
        assert_eq!(
            merged(&[V::DoubleMax(2.0), V::DoubleMax(-5.0)]),
            V::DoubleMax(2.0)
        );
        let histogram = merged(&[
            V::Histogram([(1, 2)].into()),
            V::Histogram([(1, 1), (3, 4)].into()),
        ]);
        assert_eq!(histogram, V::Histogram([(1, 3), (3, 4)].into()));
    }

    #[test]
    fn kinds_that_differ_do_not_merge_and_are_reported_by_name() {
        let mut into: AccumulatorValues = [("a".to_owned(), AccumulatorValue::Long(1))].into();
        let from = [
            ("a".to_owned(), AccumulatorValue::Double(1.0)),
            ("b".to_owned(), AccumulatorValue::Long(2)),
        ]
        .into();
        assert_eq!(merge_accumulators(&mut into, &from), ["a"]);
        assert_eq!(into["a"], AccumulatorValue::Long(1));
        assert_eq!(into["b"], AccumulatorValue::Long(2));
    }
}
