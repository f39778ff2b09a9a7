//! Time-to-live: state that expires when it was not written, or not used, for a while.
//!
//! [`StateTtlConfig`] is what users say. `Expiry` is what accesses of one state need of it, with the clock,
//! `stamps` how the times of last access stand in snapshots and stores, and `filter` tells stores what has expired.
//!
//! Time is processing time. A value that was last accessed at `t` has expired when the clock shows `t + ttl` or more.

pub(crate) mod filter;
pub(crate) mod stamps;

use crate::cached::Layout;
use filter::ExpiredValues;
use hurtig_core::error::{Error, Result};
use hurtig_core::time::Clock;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What renews the time-to-live of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateType {
    /// Nothing: the state does not expire.
    Disabled,
    /// Creating and changing it.
    #[default]
    OnCreateAndWrite,
    /// Reading it too.
    OnReadAndWrite,
}

/// Whether a value is seen that has expired and is still there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateVisibility {
    /// Never.
    #[default]
    NeverReturnExpired,
    /// Until it is cleaned up.
    ReturnExpiredIfNotCleanedUp,
}

/// Entries that are looked at for each access, unless something else is said.
const CLEANUP_SIZE: usize = 5;
/// Entries that a compaction looks at before it asks the time again, unless something else is said.
const QUERY_TIME_AFTER: u64 = 1_000;

/// How state expires: Flink's `StateTtlConfig`.
///
/// ```
/// use hurtig_state::{StateDescriptor, StateTtlConfig, UpdateType};
/// use std::time::Duration;
///
/// let ttl = StateTtlConfig::new(Duration::from_secs(3_600)).update_type(UpdateType::OnReadAndWrite);
/// let last = StateDescriptor::new("last").enable_time_to_live(ttl);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTtlConfig {
    ttl: Duration,
    update_type: UpdateType,
    visibility: StateVisibility,
    full_snapshot: bool,
    background: bool,
    incremental: Incremental,
    query_time_after: u64,
}

/// How much of a state in memory is looked at in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incremental {
    /// Entries for each access.
    pub(crate) entries: usize,
    /// Also for each record.
    pub(crate) per_record: bool,
}

impl StateTtlConfig {
    /// State that expires when it was not written for `ttl`, is never seen afterwards, and is cleaned up in the
    /// background. Parts of a millisecond do not count.
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            update_type: UpdateType::default(),
            visibility: StateVisibility::default(),
            full_snapshot: false,
            background: true,
            incremental: Incremental {
                entries: CLEANUP_SIZE,
                per_record: false,
            },
            query_time_after: QUERY_TIME_AFTER,
        }
    }

    /// State that does not expire.
    pub fn disabled() -> Self {
        Self::new(Duration::MAX).update_type(UpdateType::Disabled)
    }

    /// What renews it; [`UpdateType::OnCreateAndWrite`] unless it is said.
    #[must_use]
    pub fn update_type(mut self, update_type: UpdateType) -> Self {
        self.update_type = update_type;
        self
    }

    /// Whether expired values are seen; [`StateVisibility::NeverReturnExpired`] unless it is said.
    #[must_use]
    pub fn state_visibility(mut self, visibility: StateVisibility) -> Self {
        self.visibility = visibility;
        self
    }

    /// Leaves expired values out of checkpoints and savepoints that hold all of the state. Incremental checkpoints,
    /// which hold a store's files, are not changed by it.
    #[must_use]
    pub fn cleanup_full_snapshot(mut self) -> Self {
        self.full_snapshot = true;
        self
    }

    /// How state in memory is cleaned up in the background: for each access, so many entries are looked at and
    /// removed if they have expired; with `per_record` for each record too. 5 entries, not for each record, unless it
    /// is said. An entry is what a key has, and of a map as much as it has user keys. Of lists and maps in RocksDB, it is
    /// how many of those in its cache are looked at, which lose what of them has expired.
    #[must_use]
    pub fn cleanup_incrementally(mut self, entries: usize, per_record: bool) -> Self {
        self.incremental = Incremental { entries, per_record };
        self
    }

    /// How state in RocksDB is cleaned up in the background: a compaction drops what has expired, and asks the time after
    /// so many entries; 1,000 unless it is said. What a key has is dropped when all of it has expired, of lists and maps
    /// too; for their parts see [`Self::cleanup_incrementally`].
    #[must_use]
    pub fn cleanup_in_rocksdb_compact_filter(mut self, query_time_after_num_entries: u64) -> Self {
        self.query_time_after = query_time_after_num_entries;
        self
    }

    /// Leaves expired values where they are until they are accessed, or left out of a snapshot.
    #[must_use]
    pub fn disable_cleanup_in_background(mut self) -> Self {
        self.background = false;
        self
    }

    /// Whether state expires at all.
    pub fn is_enabled(&self) -> bool {
        self.update_type != UpdateType::Disabled
    }

    /// How long state lives.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }
}

/// The time-to-live of one state, as its accesses need it.
pub(crate) struct Expiry {
    ttl_ms: i64,
    pub(crate) on_read: bool,
    pub(crate) returns_expired: bool,
    pub(crate) full_snapshot: bool,
    /// Entries to look at for each access, and for each record.
    pub(crate) per_access: usize,
    pub(crate) per_record: usize,
    /// After how many entries a compaction asks the time; `None` when it does not clean up.
    query_time_after: Option<u64>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expiry")
            .field("ttl_ms", &self.ttl_ms)
            .finish_non_exhaustive()
    }
}

impl Expiry {
    /// That of the state `name`.
    ///
    /// # Errors
    /// When it is less than a millisecond, or there is no clock.
    pub(crate) fn new(name: &str, config: &StateTtlConfig, clock: Option<&Arc<dyn Clock>>) -> Result<Self> {
        let ttl_ms = i64::try_from(config.ttl.as_millis()).unwrap_or(i64::MAX);
        if ttl_ms == 0 {
            return Err(Error::user(format!(
                "keyed state '{name}' has a time-to-live of {:?}; give it at least a millisecond, or disable it",
                config.ttl
            )));
        }
        let Some(clock) = clock else {
            return Err(Error::internal(format!(
                "keyed state '{name}' has a time-to-live and its operator no clock"
            )));
        };
        let Incremental { entries, per_record } = config.incremental;
        let per_access = if config.background { entries } else { 0 };
        Ok(Self {
            ttl_ms,
            on_read: config.update_type == UpdateType::OnReadAndWrite,
            returns_expired: config.visibility == StateVisibility::ReturnExpiredIfNotCleanedUp,
            full_snapshot: config.full_snapshot,
            per_access,
            per_record: if per_record { per_access } else { 0 },
            query_time_after: config.background.then_some(config.query_time_after),
            clock: Arc::clone(clock),
        })
    }

    /// What tells a store which values of a layout have expired; `None` when it is not to drop any.
    pub(crate) fn filter(&self, layout: Layout) -> Option<Arc<ExpiredValues>> {
        let filter = ExpiredValues::new(layout, self.query_time_after?, (self.ttl_ms, &self.clock));
        Some(Arc::new(filter))
    }

    /// What the clock shows.
    pub(crate) fn moment(&self) -> Moment {
        let now = shown(&*self.clock);
        let expired = now.saturating_sub(self.ttl_ms);
        Moment {
            now,
            expired,
            hidden: if self.returns_expired { NEVER } else { expired },
        }
    }
}

/// A time before all others: what was accessed until then is nothing.
pub(crate) const NEVER: i64 = i64::MIN;

/// What a clock shows, which is not [`NEVER`].
pub(crate) fn shown(clock: &dyn Clock) -> i64 {
    clock.wall_ms().max(NEVER + 1)
}

/// A point of processing time, with what it means for values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Milliseconds since the Unix epoch.
    pub(crate) now: i64,
    /// What was accessed then or before has expired.
    pub(crate) expired: i64,
    /// What was accessed then or before is not seen.
    pub(crate) hidden: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::time::ManualClock;

    #[test]
    fn a_value_lives_to_the_millisecond() {
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = clock.clone();
        let expiry = Expiry::new(
            "s",
            &StateTtlConfig::new(Duration::from_millis(10)),
            Some(&shared),
        )
        .unwrap();
        clock.set_wall_ms(100);
        let written = expiry.moment().now;
        clock.set_wall_ms(109);
        assert!(written > expiry.moment().hidden);
        clock.set_wall_ms(110);
        assert!(written <= expiry.moment().hidden && expiry.moment().expired == 100);
        let for_ever = Expiry::new("s", &StateTtlConfig::new(Duration::MAX), Some(&shared)).unwrap();
        assert!(0 > for_ever.moment().expired);
    }

    #[test]
    fn no_time_at_all_is_refused() {
        let clock: Arc<dyn Clock> = ManualClock::new();
        let config = StateTtlConfig::new(Duration::from_micros(999));
        let text = Expiry::new("last", &config, Some(&clock)).unwrap_err().chain();
        assert!(
            text.contains("'last'") && text.contains("at least a millisecond"),
            "{text}"
        );
    }
}
