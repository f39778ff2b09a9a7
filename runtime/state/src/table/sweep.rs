//! Going through a table little by little, to remove what is not needed any more.

use super::GroupedTable;
use super::segment::{shrink, shrinks};
use hurtig_core::key::StableKey;

/// Buckets without an entry that cost as much as one with.
const EMPTY_BUCKETS: usize = 16;

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays as it is.
    Keep,
    /// A part of it goes.
    Trim,
    /// All of it goes.
    Drop,
}

/// Values that can tell what of them is not needed any more.
pub(crate) trait Expiring {
    /// Whether a part of it can go before the rest.
    const IN_PARTS: bool;

    /// What becomes of it when what was last accessed until `expired` goes.
    fn fate(&self, expired: i64) -> Fate;

    /// Removes what was last accessed until `expired`.
    fn trim(&mut self, expired: i64);

    /// How many parts [`Self::fate`] looks at.
    fn parts(&self) -> usize {
        1
    }
}

/// How far sweeps of a table have come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hand {
    segment: usize,
    bucket: usize,
}

impl<K: StableKey, V> GroupedTable<K, V> {
    /// Looks at some entries, going on where the last sweep stopped, and removes what was last accessed until `expired`.
    ///
    /// `parts` becomes less by what was looked at; it may fall below zero by the parts of one value. Entries that
    /// were added or moved meanwhile may be seen in the next round only.
    ///
    /// *Cost*: what goes while a snapshot is being taken is encoded or copied before.
    pub(crate) fn sweep(&mut self, hand: &mut Hand, parts: &mut isize, expired: i64)
    where
        V: Expiring,
    {
        self.settle();
        let mut empty = 0;
        let mut wraps = 0;
        while *parts > 0 && !self.is_empty() {
            if hand.segment >= self.segments.len() {
                (*hand, wraps) = (Hand::default(), wraps + 1);
                if wraps > 1 {
                    return;
                }
            }
            if hand.bucket >= self.segments[hand.segment].num_buckets() {
                self.leave_segment(hand.segment);
                *hand = Hand {
                    segment: hand.segment + 1,
                    bucket: 0,
                };
                *parts -= 1;
                continue;
            }
            match self.sweep_bucket(hand.segment, hand.bucket, expired) {
                Some(looked_at) => *parts = parts.saturating_sub_unsigned(looked_at),
                None => {
                    empty += 1;
                    *parts -= isize::from(empty % EMPTY_BUCKETS == 0);
                }
            }
            hand.bucket += 1;
        }
    }

    /// Looks at a bucket, and returns how many parts its value has.
    fn sweep_bucket(&mut self, at: usize, bucket: usize, expired: i64) -> Option<usize>
    where
        V: Expiring,
    {
        let value = &self.segments[at].get_bucket(bucket)?.value;
        let (fate, parts) = (value.fate(expired), value.parts());
        if fate == Fate::Keep {
            return Some(parts);
        }
        self.keep_image(at, bucket);
        match fate {
            Fate::Drop => {
                if let Ok(entry) = self.segments[at].get_bucket_entry(bucket) {
                    entry.remove();
                    self.len -= 1;
                }
            }
            _ => self.value_at(at, bucket).trim(expired),
        }
        Some(parts)
    }

    /// Gives back memory of a segment that was swept to its end. Not before: entries move then.
    fn leave_segment(&mut self, at: usize) {
        if shrinks(&self.segments[at]) {
            self.scan_segment(at);
            shrink(&mut self.segments[at]);
        }
    }
}
