//! What tells a store which entries have expired.

use super::NEVER;
use crate::cached::Layout;
use crate::store::ExpiryFilter;
use hurtig_core::time::Clock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Values of one state. It goes by a time that was read a while ago: so it keeps some longer, and drops none early.
///
/// What had not expired when a snapshot began is kept until that is written, since a store drops it from the snapshot's
/// view too.
pub(crate) struct ExpiredValues {
    layout: Layout,
    ttl_ms: i64,
    clock: Arc<dyn Clock>,
    /// After how many values the time is read again.
    query_time_after: u64,
    asked: AtomicU64,
    /// What was last accessed until then has expired.
    expired: AtomicI64,
    /// The same at the beginning of each snapshot that is being taken, and the least of them.
    snapshots: Mutex<Vec<i64>>,
    oldest: AtomicI64,
}

/// Keeps in the store what is in a snapshot, until it is dropped.
pub(crate) struct Hold {
    filter: Arc<ExpiredValues>,
    expired: i64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.filter.change_snapshots(|snapshots| {
            if let Some(at) = snapshots.iter().position(|expired| *expired == self.expired) {
                snapshots.swap_remove(at);
            }
        });
    }
}

impl ExpiredValues {
    /// From now on drops nothing that was last accessed after `expired`.
    pub(crate) fn hold(self: &Arc<Self>, expired: i64) -> Hold {
        self.change_snapshots(|snapshots| snapshots.push(expired));
        Hold {
            filter: Arc::clone(self),
            expired,
        }
    }

    fn change_snapshots(&self, change: impl FnOnce(&mut Vec<i64>)) {
        // A change is one call of a vector's method: nobody can have panicked half way.
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut snapshots);
        let oldest = snapshots.iter().min().copied().unwrap_or(i64::MAX);
        self.oldest.store(oldest, Ordering::SeqCst);
    }

    pub(super) fn new(
        layout: Layout,
        query_time_after: u64,
        (ttl_ms, clock): (i64, &Arc<dyn Clock>),
    ) -> Self {
        Self {
            layout,
            ttl_ms,
            clock: Arc::clone(clock),
            query_time_after: query_time_after.max(1),
            asked: AtomicU64::new(0),
            expired: AtomicI64::new(NEVER),
            snapshots: Mutex::default(),
            oldest: AtomicI64::new(i64::MAX),
        }
    }
}

impl ExpiryFilter for ExpiredValues {
    fn has_expired(&self, value: &[u8]) -> bool {
        // Which of several threads reads the time does not matter: it only goes on.
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if asked.is_multiple_of(self.query_time_after) {
            let expired = self.clock.wall_ms().saturating_sub(self.ttl_ms);
            self.expired.store(expired, Ordering::Relaxed);
        }
        let expired = self.expired.load(Ordering::Relaxed);
        // Read behind the time: a snapshot that began before that is among them.
        let kept = self.oldest.load(Ordering::SeqCst);
        // What is no value is kept for whoever can say that it is none.
        let has_expired = self.layout.has_expired(value, expired.min(kept));
        has_expired.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ttl::stamps::put_times;
    use hurtig_core::time::ManualClock;

    #[test]
    fn a_value_has_expired_when_all_of_it_has() {
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = clock.clone();
        let filter = |layout, after| ExpiredValues::new(layout, after, (10, &shared));
        let value = |times: &[i64]| {
            let mut bytes = Vec::new();
            put_times(&mut bytes, times);
            bytes.push(0xc0);
            bytes
        };
        let map = |values: &[Vec<u8>]| {
            let mut bytes = vec![values.len() as u8];
            for value in values {
                bytes.extend([1, b'k', value.len() as u8]);
                bytes.extend(value);
            }
            bytes
        };
        clock.set_wall_ms(20);
        let values = filter(Layout::Value, 1);
        assert!(values.has_expired(&value(&[10])) && values.has_expired(&value(&[1, 10])));
        assert!(!values.has_expired(&value(&[11])) && !values.has_expired(&value(&[1, 11])));
        assert!(!values.has_expired(&[0xc0]), "a value without a time");
        assert!(!values.has_expired(&value(&[1])[..5]), "what is no value");
        let maps = filter(Layout::Map, 1);
        assert!(maps.has_expired(&map(&[value(&[10]), value(&[3])])));
        assert!(!maps.has_expired(&map(&[value(&[10]), value(&[11])])));
        // The time is asked once in a while.
        let now_and_then = filter(Layout::Value, 3);
        let old = value(&[15]);
        assert!(!now_and_then.has_expired(&old));
        clock.set_wall_ms(25);
        let asked = [(); 4].map(|()| now_and_then.has_expired(&old));
        assert_eq!(asked, [false, false, true, true]);
    }

    #[test]
    fn what_a_snapshot_has_is_kept_until_it_is_written() {
        let clock: Arc<ManualClock> = ManualClock::new();
        let shared: Arc<dyn Clock> = clock.clone();
        let filter = Arc::new(ExpiredValues::new(Layout::Value, 1, (10, &shared)));
        let expired = |time: i64| {
            let mut bytes = Vec::new();
            put_times(&mut bytes, &[time]);
            filter.has_expired(&bytes)
        };
        clock.set_wall_ms(100);
        let (late, early) = (filter.hold(70), filter.hold(60));
        assert_eq!([60, 61, 90].map(expired), [true, false, false]);
        drop(early);
        assert_eq!([61, 70, 71, 90].map(expired), [true, true, false, false]);
        drop(late);
        assert_eq!([71, 90, 91].map(expired), [true, true, false]);
    }
}
