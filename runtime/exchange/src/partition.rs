//! Where each record goes.

use crate::spread::Spread;
use hurtig_core::Batch;
use hurtig_core::key::{KeyGroup, first_selector, key_group};
use std::fmt;
use std::sync::Arc;

/// Fills the hash column of a batch: one call a batch, a typed loop inside.
pub trait HashRecords<T>: Send + Sync {
    /// Appends the stable hash of each record's key.
    fn hash_all(&self, records: &[T], hashes: &mut Vec<u64>);

    /// Whether hashing a batch again costs its receiver less than taking over a column of hashes. Records that
    /// are copied into buffers then travel without.
    fn cheap(&self) -> bool {
        false
    }

    /// Lists the places of records in order: those whose hash has a selector below `bound` in the first list, and those
    /// of the others, whose number it returns, in the second. The lists have [`PLACES`](hurtig_core::vector::PLACES)
    /// more places than there are records. `None` when that takes a column of hashes.
    fn split(&self, _records: &[T], _bound: u32, _lists: (&mut [u32], &mut [u32])) -> Option<usize> {
        None
    }
}

/// A user's choice of channel: record and number of channels to channel.
pub type Route<T> = Arc<dyn Fn(&T, usize) -> usize + Send + Sync>;

/// How an edge spreads records over its channels.
pub enum Partitioner<T> {
    /// To the one channel that there is.
    Forward,
    /// By key group; records carry their key's hash afterwards.
    Hash {
        /// Computes the hashes.
        hasher: Arc<dyn HashRecords<T>>,
        /// Number of key groups.
        max_parallelism: u32,
        /// Channel of each key group.
        channel_of_group: Vec<u16>,
    },
    /// One after the other, in runs that keep batches whole.
    Rebalance {
        /// The channel whose turn it is.
        next: usize,
    },
    /// At random, from a seeded generator.
    Shuffle {
        /// State of the generator; never 0.
        state: u64,
    },
    /// To all.
    Broadcast,
    /// To the first.
    Global,
    /// As a function says; its result is taken modulo the number of channels.
    Custom(Route<T>),
}

impl<T> fmt::Debug for Partitioner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Partitioner::Forward => "Forward",
            Partitioner::Hash { .. } => "Hash",
            Partitioner::Rebalance { .. } => "Rebalance",
            Partitioner::Shuffle { .. } => "Shuffle",
            Partitioner::Broadcast => "Broadcast",
            Partitioner::Global => "Global",
            Partitioner::Custom(_) => "Custom",
        })
    }
}

impl<T> Partitioner<T> {
    /// A hash partitioner over `channels` subtasks.
    pub fn hash(hasher: Arc<dyn HashRecords<T>>, max_parallelism: u32, channels: u32) -> Self {
        let channel_of = |group: u32| u64::from(group) * u64::from(channels) / u64::from(max_parallelism);
        let channel_of_group = (0..max_parallelism)
            .map(|g| u16::try_from(channel_of(g)).unwrap_or(u16::MAX))
            .collect();
        Partitioner::Hash {
            hasher,
            max_parallelism,
            channel_of_group,
        }
    }

    /// Whether all records of a batch go to one channel of `channels`, and which.
    pub(crate) fn single_target(&self, channels: usize) -> Option<usize> {
        match self {
            Partitioner::Forward | Partitioner::Global => Some(0),
            Partitioner::Broadcast => None,
            _ => (channels == 1).then_some(0),
        }
    }

    /// Prepares a batch: fills the hash column, or drops one that no longer says anything.
    pub(crate) fn prepare(&self, batch: &mut Batch<T>) {
        match self {
            Partitioner::Hash { hasher, .. } => {
                batch.set_hashes(|records, hashes| hasher.hash_all(records, hashes));
            }
            _ => batch.clear_hashes(),
        }
    }

    /// The smallest [`hurtig_core::key::group_selector`] of hashes that go to the second of two channels, when
    /// hashes decide.
    pub(crate) fn first_of_second(&self, channels: usize) -> Option<u32> {
        match self {
            Partitioner::Hash {
                max_parallelism,
                channel_of_group,
                ..
            } if channels == 2 => {
                let second = channel_of_group.partition_point(|&channel| channel == 0);
                Some(first_selector(KeyGroup::new(second as u32), *max_parallelism))
            }
            _ => None,
        }
    }

    /// Lists the places of two channels' records without a column of hashes; false when it takes one.
    pub(crate) fn split(&self, records: &[T], spread: &mut Spread) -> bool {
        let (Partitioner::Hash { hasher, .. }, Some(bound)) = (self, self.first_of_second(2)) else {
            return false;
        };
        spread.split(records.len(), |zeros, ones| {
            hasher.split(records, bound, (zeros, ones))
        })
    }

    /// Whether records that are copied into buffers travel without their hashes.
    pub(crate) fn leaves_hashes(&self) -> bool {
        matches!(self, Partitioner::Hash { hasher, .. } if hasher.cheap())
    }

    /// Appends the channel of each record of a prepared batch.
    pub(crate) fn route(&mut self, batch: &mut Batch<T>, channels: usize, targets: &mut Vec<u16>) {
        targets.clear();
        match self {
            Partitioner::Hash {
                max_parallelism,
                channel_of_group,
                ..
            } => {
                let max = *max_parallelism;
                let groups = batch.hashes().iter().map(|&hash| key_group(hash, max));
                targets.extend(groups.map(|group| channel_of_group[group.index()]));
            }
            Partitioner::Rebalance { next } => {
                deal(next, batch.len(), channels, targets);
            }
            Partitioner::Shuffle { state } => {
                targets.extend(
                    (0..batch.len()).map(|_| to_u16((next_random(state) % channels as u64) as usize)),
                );
            }
            Partitioner::Custom(route) => {
                let route = route.clone();
                targets.extend(
                    batch
                        .records()
                        .iter()
                        .map(|record| to_u16(route(record, channels) % channels)),
                );
            }
            Partitioner::Forward | Partitioner::Global | Partitioner::Broadcast => {
                targets.resize(batch.len(), 0);
            }
        }
    }
}

/// Records that go to one channel before the next has its turn.
const REBALANCE_RUN: usize = 128;

/// Deals `records` out from channel `next` on, in runs. As many to each as one after the other
/// would give: what channels have received never differs by more than one.
fn deal(next: &mut usize, mut records: usize, channels: usize, targets: &mut Vec<u16>) {
    while records > 0 {
        let part = records.min(REBALANCE_RUN * channels);
        let (each, left) = (part / channels, part % channels);
        for step in 0..channels {
            let run = each + usize::from(step < left);
            targets.extend(std::iter::repeat_n(to_u16((*next + step) % channels), run));
        }
        *next = (*next + left) % channels;
        records -= part;
    }
}

fn to_u16(channel: usize) -> u16 {
    u16::try_from(channel).unwrap_or(u16::MAX)
}

/// One step of xorshift64*.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::key::{group_selector, subtask_of_group};
    use proptest::prelude::*;

    /// Records are their own hashes.
    struct Itself;

    impl HashRecords<u64> for Itself {
        fn hash_all(&self, records: &[u64], hashes: &mut Vec<u64>) {
            hashes.extend_from_slice(records);
        }
    }

    proptest! {
        #[test]
        fn a_record_goes_where_its_key_group_is(
            channels in 2_u32..6,
            max in prop_oneof![6_u32..300, Just(32_768)],
            mut hashes in prop::collection::vec(any::<u64>(), 1..50),
        ) {
            // The edges of every group, where an error by one would show.
            for group in 0..max.min(300) {
                let edge = u64::from(first_selector(KeyGroup::new(group), max)) << 16;
                hashes.extend([edge, edge.wrapping_sub(1)]);
            }
            let mut partitioner = Partitioner::hash(Arc::new(Itself), max, channels);
            let mut batch = Batch::from_records(hashes.clone());
            partitioner.prepare(&mut batch);
            let mut targets = Vec::new();
            partitioner.route(&mut batch, channels as usize, &mut targets);
            let owner = |&hash: &u64| subtask_of_group(key_group(hash, max), channels, max) as u16;
            prop_assert_eq!(targets, hashes.iter().map(owner).collect::<Vec<_>>());
            if let Some(from) = partitioner.first_of_second(channels as usize) {
                prop_assert!(hashes.iter().all(|hash| (group_selector(*hash) >= from) == (owner(hash) == 1)));
            }
        }
    }
}
