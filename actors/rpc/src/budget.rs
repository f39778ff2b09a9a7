//! What may wait: reserved before it is taken, given back when it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So much of something, and no more. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        let used = Arc::default();
        Self { used, limit }
    }

    /// Takes `amount`; `None`: there is not so much left.
    pub(crate) fn reserve(&self, amount: usize) -> Option<Reservation> {
        let add = |used: usize| used.checked_add(amount).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
            .ok()?;
        let used = self.used.clone();
        Some(Reservation { used, amount })
    }

    /// What is taken.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    used: Arc<AtomicUsize>,
    amount: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let before = self.used.fetch_sub(self.amount, Ordering::AcqRel);
        debug_assert!(before >= self.amount, "more was given back than taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_is_given_and_what_is_dropped_comes_back() {
        let budget = Budget::new(10);
        let first = budget.reserve(7).unwrap();
        assert!(budget.reserve(4).is_none() && budget.reserve(usize::MAX).is_none());
        let second = budget.reserve(3).unwrap();
        drop(first);
        assert_eq!(budget.used(), 3);
        drop(second);
        assert!(budget.reserve(10).is_some());
    }
}
