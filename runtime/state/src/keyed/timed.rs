//! States with a time-to-live: values that know when they were last accessed.
//!
//! They are in the same tables as others, as values of other types: so a state that does not expire pays nothing for
//! those that do. A handle finds the table of its own type first; that it is not there costs a second look-up.

mod list;
mod map;
mod value;

pub(super) use list::TimedList;

use crate::cached::CachedTable;
use crate::table::GroupedTable;
use crate::table::sweep::{Expiring, Fate, Hand};
use crate::ttl::filter::{ExpiredValues, Hold};
use crate::ttl::{Expiry, Moment, NEVER};
use hurtig_core::key::OwnedKey;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// A value and when it was last accessed, in milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub(super) struct Timed<V> {
    pub(super) at: i64,
    pub(super) value: V,
}

impl<V> Expiring for Timed<V> {
    const IN_PARTS: bool = false;

    fn fate(&self, expired: i64) -> Fate {
        match self.at <= expired {
            true => Fate::Drop,
            false => Fate::Keep,
        }
    }

    fn trim(&mut self, _: i64) {}
}

/// Removes some of what has expired from a table `T`.
type Sweep<T> = fn(&mut T, &mut Hand, &mut isize, i64);

/// The time-to-live of one state, and how far its clean-up has come.
pub(super) struct TimeToLive<K, V> {
    pub(super) expiry: Expiry,
    sweep: Sweep<GroupedTable<K, V>>,
    /// The same of values in a cache, where parts of them expire. What expires as a whole is the store's to drop.
    trim: Option<Sweep<CachedTable<K, V>>>,
    /// Entries to look at for the accesses since the last clean-up; less than none after a large one.
    owed: Cell<isize>,
    hand: Cell<Hand>,
    /// What tells the store what has expired, if it is to drop that.
    filter: Option<Arc<ExpiredValues>>,
    /// Of the snapshot that has begun.
    begun: RefCell<LeftOut>,
}

/// What a snapshot does not have.
#[derive(Default)]
pub(super) struct LeftOut {
    /// What was last accessed until then.
    pub(super) until: Option<i64>,
    /// Has the store keep the rest until the snapshot is written.
    pub(super) hold: Option<Hold>,
}

impl<K: OwnedKey, V: Expiring + 'static> TimeToLive<K, V> {
    pub(super) fn new(expiry: Expiry) -> Self {
        let trim: Sweep<CachedTable<K, V>> = CachedTable::trim;
        Self {
            expiry,
            sweep: GroupedTable::sweep,
            trim: V::IN_PARTS.then_some(trim),
            owed: Cell::new(0),
            hand: Cell::default(),
            filter: None,
            begun: RefCell::default(),
        }
    }
}

impl<K, V> TimeToLive<K, V> {
    /// The time of an access.
    pub(super) fn access(&self) -> Moment {
        self.owe(self.expiry.per_access);
        self.expiry.moment()
    }

    fn owe(&self, entries: usize) {
        self.owed.set(self.owed.get().saturating_add_unsigned(entries));
    }

    /// The same before a store that drops what has expired, as `filter` tells it.
    pub(super) fn with_filter(mut self, filter: Arc<ExpiredValues>) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Notes the time of a snapshot, and returns what is left out of it.
    pub(super) fn begin_snapshot(&self) -> i64 {
        let expired = self.expiry.moment().expired;
        let until = self.expiry.full_snapshot.then_some(expired);
        let hold = self.filter.as_ref().map(|filter| filter.hold(expired));
        *self.begun.borrow_mut() = LeftOut { until, hold };
        until.unwrap_or(NEVER)
    }

    /// What the snapshot that has begun does not have.
    pub(super) fn hand_over(&self) -> LeftOut {
        self.begun.take()
    }

    /// Looks at as many entries of a table in memory as are owed for accesses and records, each at most once.
    pub(super) fn clean_up(&self, table: &mut GroupedTable<K, V>, records: usize) {
        let all = table.len();
        self.look_at(all, records, |hand, parts, expired| {
            (self.sweep)(table, hand, parts, expired);
        });
    }

    /// The same of a cache, where values lose parts.
    pub(super) fn clean_up_cached(&self, table: &mut CachedTable<K, V>, records: usize)
    where
        K: OwnedKey,
        V: 'static,
    {
        if let Some(trim) = self.trim {
            let all = table.cached_keys();
            self.look_at(all, records, |hand, parts, expired| {
                trim(table, hand, parts, expired);
            });
        }
    }

    fn look_at(&self, all: usize, records: usize, sweep: impl FnOnce(&mut Hand, &mut isize, i64)) {
        self.owe(self.expiry.per_record.saturating_mul(records));
        if self.owed.get() <= 0 {
            return;
        }
        let all = isize::try_from(all).unwrap_or(isize::MAX);
        let (mut hand, mut parts) = (self.hand.get(), self.owed.get().min(all));
        sweep(&mut hand, &mut parts, self.expiry.moment().expired);
        self.hand.set(hand);
        self.owed.set(parts.min(0));
    }
}
