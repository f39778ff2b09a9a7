//! Which producing subtask is connected to which consuming subtask of an edge.

use super::stream::PartitionKind;
use std::ops::Range;

/// How an edge connects subtasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Each producer with its share of the consumers, or each consumer with its share of producers.
    Pointwise,
    /// Everyone with everyone.
    AllToAll,
}

impl PartitionKind {
    /// How an edge with this partitioning connects subtasks.
    pub fn distribution(&self) -> Distribution {
        if self.is_pointwise() {
            Distribution::Pointwise
        } else {
            Distribution::AllToAll
        }
    }
}

/// The consumers of subtask `producer` when `producers` subtasks feed `consumers` subtasks.
///
/// # Panics
/// When `producer` is not one of the producers, or there are no consumers.
pub fn consumers_of(how: Distribution, producer: u32, producers: u32, consumers: u32) -> Range<u32> {
    assert!(
        producer < producers && consumers > 0,
        "a subtask's index is below its parallelism"
    );
    match how {
        Distribution::AllToAll => 0..consumers,
        Distribution::Pointwise if producers <= consumers => {
            first_of(producer, producers, consumers)..first_of(producer + 1, producers, consumers)
        }
        Distribution::Pointwise => {
            let consumer = owner_of(producer, producers, consumers);
            consumer..consumer + 1
        }
    }
}

/// The producers that feed subtask `consumer`; the inverse of [`consumers_of`].
///
/// # Panics
/// When `consumer` is not one of the consumers, or there are no producers.
pub fn producers_of(how: Distribution, consumer: u32, producers: u32, consumers: u32) -> Range<u32> {
    consumers_of(how, consumer, consumers, producers)
}

/// The first of `many` that belongs to number `one` of `few`: shares differ by at most one.
fn first_of(one: u32, few: u32, many: u32) -> u32 {
    let first = (u64::from(one) * u64::from(many)).div_ceil(u64::from(few));
    u32::try_from(first).unwrap_or(u32::MAX)
}

/// Which of `few` the number `one` of `many` belongs to.
fn owner_of(one: u32, many: u32, few: u32) -> u32 {
    let owner = u64::from(one) * u64::from(few) / u64::from(many);
    u32::try_from(owner).unwrap_or(u32::MAX)
}
