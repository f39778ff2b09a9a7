//! Rates: when which record is due.

use hurtig_core::time::Time;
use std::time::Duration;

/// Records that fall due within one tick are emitted together.
const TICK: Duration = Duration::from_millis(1);

/// So many records in so much time, over all subtasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) records: u64,
    pub(crate) per: Duration,
}

impl Rate {
    /// How long after record 0 record `n` is due.
    fn offset(self, n: u64) -> Duration {
        let nanos = u128::from(n) * self.per.as_nanos() / u128::from(self.records.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many records are due when so much time has passed: the first `n` with an offset beyond it.
    fn due_after(self, passed: Duration) -> u64 {
        let due = (passed.as_nanos() + 1).saturating_mul(u128::from(self.records));
        u64::try_from(due.div_ceil(self.per.as_nanos().max(1))).unwrap_or(u64::MAX)
    }
}

/// The schedule of one subtask since it was opened.
///
/// It reads no clock. It knows the time at the start and the times until which it asked the engine to
/// wait; the engine calls again when they are reached, and if it is late, it is asked for a time in
/// the past and calls again at once until the schedule is caught up with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rate: Rate,
    start: Time,
    /// The index that was due at the start.
    first: u64,
    /// A time that is known to be reached.
    reached: Time,
    /// Indices below this one are due by then.
    due: u64,
}

impl Pace {
    pub(crate) fn new(rate: Rate, start: Time, first: u64) -> Self {
        let mut pace = Self {
            rate,
            start,
            first,
            reached: start,
            due: 0,
        };
        pace.reach(start);
        pace
    }

    fn reach(&mut self, time: Time) {
        self.reached = time;
        self.due = self
            .first
            .saturating_add(self.rate.due_after(time.since(self.start)));
    }

    /// Indices below this one are known to be due.
    #[inline]
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Until when to wait for `index`: its time, or the next tick if that is later.
    pub(crate) fn wait_for(&mut self, index: u64) -> Time {
        let at = self
            .start
            .after(self.rate.offset(index.saturating_sub(self.first)));
        self.reach(at.max(self.reached.after(TICK)));
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A record is never early, and late by less than a tick.
        #[test]
        fn records_are_due_within_a_tick(records in 1u64..5_000_000, millis in 1u64..5_000, n in 0u64..1_000_000) {
            let rate = Rate { records, per: Duration::from_millis(millis) };
            let exact = n as f64 * millis as f64 * 1e6 / records as f64;
            let mut pace = Pace::new(rate, Time::from_nanos(1_000), 0);
            let mut asked = 0;
            while n >= pace.due() {
                let before = pace.reached;
                let until = pace.wait_for(n);
                prop_assert!(until >= before.after(TICK));
                asked += 1;
            }
            prop_assert!(asked <= 1);
            prop_assert!(rate.offset(pace.due()) > pace.reached.since(pace.start), "nothing is early");
            prop_assert!(rate.offset(pace.due() - 1) <= pace.reached.since(pace.start), "nothing is left");
            let reached = pace.reached.as_nanos() as f64 - 1_000.0;
            prop_assert!(reached >= exact - 1.0 && reached <= exact + 1e6, "due at {}, reached {}", exact, reached);
        }
    }
}
