//! How much of a task's time goes to snapshots that have begun.

use std::time::Duration;

/// Turns time spent on records into time for snapshots.
#[derive(Debug, Default)]
pub(super) struct Scanning {
    going_on: bool,
    /// Nanoseconds that snapshots may take, or have taken too much.
    credit: i64,
}

impl Scanning {
    /// Entries that are encoded before records are looked at again: some ten microseconds' worth.
    pub(super) const SLICE: usize = 256;
    /// For each nanosecond of snapshots this many go to records: a fifth of the time is for snapshots.
    const RECORDS: i64 = 4;

    pub(super) fn begin(&mut self) {
        if !self.going_on {
            *self = Self {
                going_on: true,
                credit: 0,
            };
        }
    }

    pub(super) fn end(&mut self) {
        self.going_on = false;
    }

    pub(super) fn is_going_on(&self) -> bool {
        self.going_on
    }

    pub(super) fn earn(&mut self, worked: Duration) {
        self.credit += nanos(worked) / Self::RECORDS;
    }

    pub(super) fn spend(&mut self, took: Duration) {
        self.credit -= nanos(took);
    }

    /// Whether it is the snapshots' turn.
    pub(super) fn may_go_on(&self) -> bool {
        self.going_on && self.credit > 0
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX / 2)
}
