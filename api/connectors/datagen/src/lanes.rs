//! Which indices a subtask has still to produce.

use hurtig_core::Result;
use hurtig_dataflow::operator::OpenContext;
use hurtig_state::{OperatorSnapshot, Redistribution};
use serde::{Deserialize, Serialize};

/// Name of the snapshot's section.
const LANES: &str = "index-lanes";

/// Indices `next, next + step, …` below `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lane {
    pub(crate) next: u64,
    pub(crate) end: u64,
    pub(crate) step: u64,
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.next >= self.end
    }

    /// The part of subtask `index` of `parallelism` when `count` indices are cut into ranges whose
    /// lengths differ by at most one.
    pub(crate) fn range(count: u64, index: u32, parallelism: u32) -> Self {
        let cut = |i: u32| (u128::from(count) * u128::from(i) / u128::from(parallelism)) as u64;
        Self {
            next: cut(index),
            end: cut(index + 1),
            step: 1,
        }
    }

    /// The part of subtask `index` of `parallelism` when indices below `end` are dealt in turn.
    pub(crate) fn stride(end: u64, index: u32, parallelism: u32) -> Self {
        Self {
            next: u64::from(index),
            end,
            step: u64::from(parallelism),
        }
    }
}

/// A subtask's lanes: one, or after a restore at a smaller parallelism several, merged by index.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    /// The lane with the smallest index, while there is any.
    least: usize,
    /// The smallest index of the other lanes.
    other: u64,
}

/// Indices `first, first + step, …`, `len` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) step: u64,
    pub(crate) len: usize,
}

impl Run {
    /// The `i`-th of them.
    #[inline]
    pub(crate) fn index(self, i: usize) -> u64 {
        self.first + i as u64 * self.step
    }

    /// All of them, in order.
    #[inline]
    pub(crate) fn indices(self) -> impl ExactSizeIterator<Item = u64> {
        (0..self.len).map(move |i| self.index(i))
    }
}

impl Lanes {
    /// The restored lanes, or `fresh` on a fresh start.
    pub(crate) fn open(ctx: &OpenContext<'_>, fresh: Lane) -> Result<Self> {
        let lanes = match ctx.restored() {
            Some(snapshot) => snapshot.operator(LANES)?,
            None => vec![fresh],
        };
        Ok(Self::new(lanes))
    }

    fn new(mut lanes: Vec<Lane>) -> Self {
        lanes.retain(|lane| !lane.is_empty());
        let mut lanes = Self {
            lanes,
            least: 0,
            other: 0,
        };
        lanes.find_least();
        lanes
    }

    fn find_least(&mut self) {
        let next = |&i: &usize| self.lanes[i].next;
        self.least = (0..self.lanes.len()).min_by_key(next).unwrap_or(0);
        let others = (0..self.lanes.len()).filter(|&i| i != self.least);
        self.other = others.map(|i| self.lanes[i].next).min().unwrap_or(u64::MAX);
    }

    /// The smallest index that is left.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u64> {
        self.lanes.get(self.least).map(|lane| lane.next)
    }

    /// Takes up to `max` of the smallest indices, all below `bound` and evenly spaced. Empty when
    /// there are none.
    pub(crate) fn take(&mut self, max: usize, bound: u64) -> Run {
        let Some(lane) = self.lanes.get_mut(self.least) else {
            return Run {
                first: 0,
                step: 1,
                len: 0,
            };
        };
        let Lane {
            next: first,
            end,
            step,
        } = *lane;
        let below = end.min(bound).min(self.other);
        // A division takes as long as making dozens of records: only where it decides.
        let max = max as u64;
        let len = match max.checked_mul(step) {
            Some(span) if span <= below.saturating_sub(first) => max,
            _ => below.saturating_sub(first).div_ceil(step).min(max),
        };
        lane.next = first.saturating_add(len.saturating_mul(step));
        let ended = lane.is_empty();
        if ended {
            self.lanes.swap_remove(self.least);
        }
        if ended || self.lanes.len() > 1 {
            self.find_least();
        }
        Run {
            first,
            step,
            len: len as usize,
        }
    }

    pub(crate) fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator(LANES, Redistribution::Split, &self.lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_index_is_in_one_lane(count in 0u64..200, parallelism in 1u32..9, max in 1usize..20) {
            for part in [Lane::range, Lane::stride] {
                let mut all: Vec<u64> = Vec::new();
                for index in 0..parallelism {
                    let mut lanes = Lanes::new(vec![part(count, index, parallelism)]);
                    let before = all.len();
                    while let Some(next) = lanes.peek() {
                        let run = lanes.take(max, u64::MAX);
                        prop_assert_eq!(next, run.first);
                        all.extend(run.indices());
                    }
                    let share = (all.len() - before) as u64;
                    prop_assert!(share.abs_diff(count / u64::from(parallelism)) <= 1, "shares are even");
                }
                all.sort_unstable();
                prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_largest_ranges_do_not_overflow() {
        let last = Lane::range(u64::MAX, 6, 7);
        assert_eq!(last.end, u64::MAX);
        let mut lanes = Lanes::new(vec![Lane {
            next: u64::MAX - 1,
            end: u64::MAX,
            step: 5,
        }]);
        assert_eq!(
            lanes.take(9, u64::MAX),
            Run {
                first: u64::MAX - 1,
                step: 5,
                len: 1
            }
        );
        assert_eq!(lanes.peek(), None);
    }

    proptest! {
        /// Lanes of former subtasks are merged by index, whatever the sizes of the runs.
        #[test]
        fn lanes_are_merged(starts in prop::collection::vec(0u64..9, 1..5), max in 1usize..9, bound in 0u64..60) {
            let parallelism = starts.len() as u64;
            let lane = |(i, &start): (usize, &u64)| Lane { next: i as u64 + start * parallelism, end: 50, step: parallelism };
            let lanes: Vec<Lane> = starts.iter().enumerate().map(lane).collect();
            let mut want: Vec<u64> = lanes.iter().flat_map(|l| (l.next..50.min(bound)).step_by(l.step as usize)).collect();
            want.sort_unstable();
            let (mut merged, mut got) = (Lanes::new(lanes), Vec::new());
            loop {
                let run = merged.take(max, bound);
                if run.len == 0 { break }
                got.extend(run.indices());
            }
            prop_assert_eq!(got, want);
        }
    }
}
