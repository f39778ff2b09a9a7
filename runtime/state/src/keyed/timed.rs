//! States with a time-to-live: values that know when they were last accessed.
//!
//! They are in the same tables as others, as values of other types: so a state that does not expire pays nothing for
//! those that do. A handle finds the table of its own type first; that it is not there costs a second look-up.

mod list;
mod map;
mod value;

pub(super) use list::TimedList;

use crate::table::GroupedTable;
use crate::table::sweep::{Expiring, Fate, Hand};
use crate::ttl::{Expiry, Moment, NEVER};
use hurtig_core::key::OwnedKey;
use std::cell::Cell;

/// A value and when it was last accessed, in milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub(super) struct Timed<V> {
    pub(super) at: i64,
    pub(super) value: V,
}

impl<V> Expiring for Timed<V> {
    fn fate(&self, expired: i64) -> Fate {
        match self.at <= expired {
            true => Fate::Drop,
            false => Fate::Keep,
        }
    }

    fn trim(&mut self, _: i64) {}
}

/// Removes some of what has expired.
type Sweep<K, V> = fn(&mut GroupedTable<K, V>, &mut Hand, &mut isize, i64);

/// The time-to-live of one state, and how far its clean-up has come.
pub(super) struct TimeToLive<K, V> {
    pub(super) expiry: Expiry,
    sweep: Sweep<K, V>,
    /// Entries to look at for the accesses since the last clean-up; less than none after a large one.
    owed: Cell<isize>,
    hand: Cell<Hand>,
    /// What was last accessed until then is left out of the snapshot that has begun.
    left_out: Cell<i64>,
}

impl<K: OwnedKey, V: Expiring> TimeToLive<K, V> {
    pub(super) fn new(expiry: Expiry) -> Self {
        Self {
            expiry,
            sweep: GroupedTable::sweep,
            owed: Cell::new(0),
            hand: Cell::default(),
            left_out: Cell::new(NEVER),
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

    /// Notes the time of a snapshot, and returns what is left out of it.
    pub(super) fn begin_snapshot(&self) -> i64 {
        let expired = match self.expiry.full_snapshot {
            true => self.expiry.moment().expired,
            false => NEVER,
        };
        self.left_out.set(expired);
        expired
    }

    /// What is left out of the snapshot that has begun.
    pub(super) fn left_out(&self) -> i64 {
        self.left_out.get()
    }

    /// Looks at as many entries as are owed for accesses and records, each at most once.
    pub(super) fn clean_up(&self, table: &mut GroupedTable<K, V>, records: usize) {
        self.owe(self.expiry.per_record.saturating_mul(records));
        if self.owed.get() <= 0 {
            return;
        }
        let all = isize::try_from(table.len()).unwrap_or(isize::MAX);
        let (mut hand, mut parts) = (self.hand.get(), self.owed.get().min(all));
        (self.sweep)(table, &mut hand, &mut parts, self.expiry.moment().expired);
        self.hand.set(hand);
        self.owed.set(parts.min(0));
    }
}
