//! Timers: event-time and processing-time timers of a keyed operator.
//!
//! A timer is a (key, namespace, time) of one [`TimeDomain`]; registering it twice keeps one. Timers
//! fire in time order, one by one ([`TimerService::pop_due`]), so that a caller can stop between any
//! two and snapshot the rest. A timer that is registered while others fire, at a time that is
//! already due, fires in the same pass, as in Flink. The order within one time is unspecified.
//! The service knows no clock and calls nobody: its owner says how far time has come.

pub(crate) mod bucket;
mod queue;

pub use queue::TimerQueue;

use hurtig_core::Result;
use hurtig_core::key::{OwnedKey, StableKey};
use hurtig_state::{OperatorSnapshot, StateShape, StateShapes};
use std::borrow::Borrow;

/// Which of the two times a timer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeDomain {
    /// Event time: fires when the watermark reaches it.
    Event,
    /// Processing time: fires when the wall clock reaches it.
    Processing,
}

/// A borrowed key beside its stable hash.
#[derive(Debug, PartialEq, Eq)]
pub struct HashedKey<'a, Q: ?Sized> {
    /// The key's stable hash.
    pub hash: u64,
    /// The key.
    pub key: &'a Q,
}

impl<'a, Q: ?Sized> HashedKey<'a, Q> {
    /// The key with a hash that is known already.
    #[inline]
    pub fn new(hash: u64, key: &'a Q) -> Self {
        Self { hash, key }
    }
}

impl<'a, Q: StableKey + ?Sized> HashedKey<'a, Q> {
    /// Hashes the key.
    #[inline]
    pub fn of(key: &'a Q) -> Self {
        Self {
            hash: key.stable_hash(),
            key,
        }
    }
}

impl<Q: ?Sized> Clone for HashedKey<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q: ?Sized> Copy for HashedKey<'_, Q> {}

/// A timer that has fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer<K, N> {
    /// When it was due, in milliseconds of its domain.
    pub time: i64,
    /// The key's stable hash.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// The namespace it was registered for: a window, or `()`.
    pub namespace: N,
}

/// The timers of one operator in both domains.
///
/// `N` is the namespace: the window for window operators, `()` for process functions.
///
/// *Cost*: registering and deleting are O(log t) in the number of distinct times plus a hash
/// look-up among the timers of that time; popping is amortised O(log t). Memory of emptied times is
/// reused, so a steady load does not allocate.
#[derive(Debug)]
pub struct TimerService<K, N> {
    event: TimerQueue<K, N>,
    processing: TimerQueue<K, N>,
}

impl<K, N> Default for TimerService<K, N> {
    fn default() -> Self {
        Self {
            event: TimerQueue::default(),
            processing: TimerQueue::default(),
        }
    }
}

/// The snapshot section of event-time timers.
pub const EVENT_SECTION: &str = "timers/event";
/// The snapshot section of processing-time timers.
pub const PROCESSING_SECTION: &str = "timers/processing";

impl<K: OwnedKey, N: OwnedKey + Ord> TimerService<K, N> {
    /// A service without timers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The types of the sections of a snapshot.
    pub fn shapes() -> StateShapes {
        let sections = [EVENT_SECTION, PROCESSING_SECTION];
        sections
            .map(|section| (section.to_owned(), StateShape::timers::<K>().by::<N>()))
            .into()
    }

    /// The timers of one domain.
    #[inline]
    pub fn queue(&self, domain: TimeDomain) -> &TimerQueue<K, N> {
        match domain {
            TimeDomain::Event => &self.event,
            TimeDomain::Processing => &self.processing,
        }
    }

    /// The timers of one domain, to be changed.
    #[inline]
    pub fn queue_mut(&mut self, domain: TimeDomain) -> &mut TimerQueue<K, N> {
        match domain {
            TimeDomain::Event => &mut self.event,
            TimeDomain::Processing => &mut self.processing,
        }
    }

    /// Registers a timer; false when it existed.
    #[inline]
    pub fn register<Q>(&mut self, domain: TimeDomain, time: i64, key: HashedKey<'_, Q>, namespace: &N) -> bool
    where
        K: Borrow<Q>,
        Q: StableKey + ToOwned<Owned = K> + ?Sized,
    {
        self.queue_mut(domain).register(time, key, namespace)
    }

    /// Deletes a timer; false when there was none.
    #[inline]
    pub fn delete<Q>(&mut self, domain: TimeDomain, time: i64, key: HashedKey<'_, Q>, namespace: &N) -> bool
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        self.queue_mut(domain).delete(time, key, namespace)
    }

    /// Whether a timer is registered.
    pub fn contains<Q>(&self, domain: TimeDomain, time: i64, key: HashedKey<'_, Q>, namespace: &N) -> bool
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        self.queue(domain).contains(time, key, namespace)
    }

    /// Takes the earliest timer that is due at `up_to`. Call it until `None`, spending one unit of
    /// fuel before each call.
    #[inline]
    pub fn pop_due(&mut self, domain: TimeDomain, up_to: i64) -> Option<Timer<K, N>> {
        self.queue_mut(domain).pop_due(up_to)
    }

    /// The time of the earliest timer.
    #[inline]
    pub fn next_time(&self, domain: TimeDomain) -> Option<i64> {
        self.queue(domain).next_time()
    }

    /// How many timers a domain has.
    pub fn len(&self, domain: TimeDomain) -> usize {
        self.queue(domain).len()
    }

    /// Whether neither domain has a timer.
    pub fn is_empty(&self) -> bool {
        self.event.is_empty() && self.processing.is_empty()
    }

    /// Adds both domains' timers to a snapshot: sections [`EVENT_SECTION`] and
    /// [`PROCESSING_SECTION`], each entry's namespace being the order-preserving bytes of the time
    /// followed by those of the timer's namespace, its value empty.
    pub fn snapshot(&self, max_parallelism: u32, snapshot: &mut OperatorSnapshot) {
        snapshot.put_keyed(EVENT_SECTION, self.event.entries(max_parallelism));
        snapshot.put_keyed(PROCESSING_SECTION, self.processing.entries(max_parallelism));
    }

    /// Adds the timers of a snapshot that is already cut to this subtask's key groups.
    ///
    /// # Errors
    /// When an entry's bytes are not those of a timer with this key and namespace.
    pub fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.restore_where(snapshot, |_| true)
    }

    /// Adds the timers of a snapshot that belong to `groups`.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub fn restore_groups(
        &mut self,
        snapshot: &OperatorSnapshot,
        groups: std::ops::Range<u16>,
    ) -> Result<()> {
        self.restore_where(snapshot, |group| groups.contains(&group))
    }

    fn restore_where(&mut self, snapshot: &OperatorSnapshot, wanted: impl Fn(u16) -> bool) -> Result<()> {
        self.event
            .restore(EVENT_SECTION, snapshot.section(EVENT_SECTION), &wanted)?;
        self.processing
            .restore(PROCESSING_SECTION, snapshot.section(PROCESSING_SECTION), &wanted)
    }
}

#[cfg(test)]
mod tests;
