//! What state holds for the next records of an input, brought from its store at once.

use crate::key::{KeySelector, owned_key};
use crate::operator::Cx;
use hurtig_core::key::OwnedKey;
use hurtig_core::{Batch, Result};
use hurtig_state::KeyedState;
use std::time::Duration;

/// Records whose state is asked for at once: the more there are the less each costs (256: 6.3 us, 1,024: 5.7, 4,096:
/// 5.0), and the longer the task does nothing else.
const LEAST: usize = 128;
const MOST: usize = 4_096;
const FIRST: usize = 512;
/// A look-up should not take longer than this.
const BOUND: Duration = Duration::from_millis(25);

/// How many of the first records of an input have their state in memory already.
///
/// One call may process fewer records than are worth a look-up in the store.
#[derive(Debug)]
pub(super) struct Prefetched {
    ahead: usize,
    /// How many are asked for at once: adapted to what that takes.
    at_once: usize,
}

impl Default for Prefetched {
    fn default() -> Self {
        Self {
            ahead: 0,
            at_once: FIRST,
        }
    }
}

impl Prefetched {
    /// Brings what state holds for the first records of `input`, which have hashes, unless that was done or does not
    /// pay. At most so many records are to be processed before this is called again.
    #[inline]
    pub(super) fn ahead<T, S: KeySelector<T>>(
        &mut self,
        state: &KeyedState<S::Key>,
        selector: &S,
        input: &mut Batch<T>,
        cx: Cx<'_>,
    ) -> usize {
        if self.ahead == 0 {
            if !state.wants_prefetch() {
                return usize::MAX;
            }
            self.bring(state, selector, input, cx);
        }
        self.ahead
    }

    #[inline(never)]
    fn bring<T, S: KeySelector<T>>(
        &mut self,
        state: &KeyedState<S::Key>,
        selector: &S,
        input: &mut Batch<T>,
        cx: Cx<'_>,
    ) {
        let (hashes, records) = input.hashes_and_records_mut();
        let key_at = |at: usize| owned_key(selector, &records[at]);
        let begun = cx.now();
        let asked = hashes.len().min(self.at_once);
        self.ahead = state.prefetch(&hashes[..asked], &key_at);
        self.adapt(cx.now().since(begun));
    }

    fn adapt(&mut self, took: Duration) {
        if took > BOUND {
            self.at_once = (self.at_once / 2).max(LEAST);
        } else if took < BOUND / 2 && self.ahead == self.at_once {
            self.at_once = (self.at_once * 2).min(MOST);
        }
    }

    /// So many records were processed.
    #[inline]
    pub(super) fn processed(&mut self, records: usize) {
        self.ahead = self.ahead.saturating_sub(records);
    }

    /// [`KeyedState::quiet_point`], which makes room in caches only once what was brought is used.
    #[inline]
    pub(super) fn quiet_point<K: OwnedKey>(&self, state: &KeyedState<K>) -> Result<()> {
        match self.ahead {
            0 => state.quiet_point(),
            _ => state.check(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are asked for at once when each look-up for as many takes so long.
    fn after(times: &[u64]) -> usize {
        let mut prefetched = Prefetched::default();
        for &millis in times {
            prefetched.ahead = prefetched.at_once;
            prefetched.adapt(Duration::from_millis(millis));
        }
        prefetched.at_once
    }

    #[test]
    fn as_many_are_asked_for_as_take_no_longer_than_the_bound() {
        assert_eq!([after(&[1]), after(&[20]), after(&[26])], [1_024, 512, 256]);
        assert_eq!([after(&[1; 9]), after(&[100; 9])], [MOST, LEAST]);
        let mut few = Prefetched {
            ahead: 3,
            ..Prefetched::default()
        };
        few.adapt(Duration::ZERO);
        assert_eq!(
            few.at_once, FIRST,
            "a look-up for few says nothing of one for many"
        );
    }
}
