//! Open loop: every record has an instant at which it is due, whatever became of those before it.
//! Delays count from that instant, so a stall is seen in all records that it held up.

use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// How long after the start of a run the first record is due: everyone is ready by then.
const LEAD: Duration = Duration::from_millis(100);

/// When records are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Records a second, a divisor of 10⁹.
    pub rate: u64,
    /// Records in all.
    pub records: u64,
}

/// Delays of up to a minute, in nanoseconds, with three digits.
pub(crate) fn delays() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, 60_000_000_000, 3) {
        Ok(histogram) => histogram,
        Err(e) => unreachable!("constant bounds: {e}"),
    }
}

/// Adds the delay of a record that was due at `due` and arrived at `arrived`.
#[inline]
pub(crate) fn record(delays: &mut Histogram<u64>, due: u64, arrived: u64) {
    delays.saturating_record(arrived.saturating_sub(due).max(1));
}

impl Schedule {
    /// Nanoseconds after the start at which record `index` is due.
    #[inline]
    pub(crate) const fn due_at(&self, index: u64) -> u64 {
        LEAD.as_nanos() as u64 + index * (1_000_000_000 / self.rate)
    }

    /// How many records are due `nanos` nanoseconds after the start.
    pub(crate) fn due_after(&self, nanos: u64) -> u64 {
        match nanos.checked_sub(self.due_at(0)) {
            None => 0,
            Some(since_first) => (since_first / (1_000_000_000 / self.rate) + 1).min(self.records),
        }
    }
}

/// Nanoseconds from `start` until now.
#[inline]
pub(crate) fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_when_they_are_due() {
        let schedule = Schedule {
            rate: 200_000,
            records: 1_000,
        };
        for index in [0, 1, 7, 999] {
            let due = schedule.due_at(index);
            assert_eq!(schedule.due_after(due), index + 1);
            assert_eq!(schedule.due_after(due - 1), index);
        }
        assert_eq!(schedule.due_after(u64::MAX), 1_000);
        assert_eq!(schedule.due_at(200_000) - schedule.due_at(0), 1_000_000_000);
    }

    #[test]
    fn a_stall_is_seen_in_every_record_that_it_held_up() {
        // 1,000 records a second for a second, and all that are due in a stall of 100 ms arrive after it.
        let schedule = Schedule {
            rate: 1_000,
            records: 1_000,
        };
        let (from, to) = (schedule.due_at(500), schedule.due_at(600));
        let mut delays = delays();
        for due in (0..schedule.records).map(|i| schedule.due_at(i)) {
            let arrived = if (from..to).contains(&due) { to } else { due };
            record(&mut delays, due, arrived);
        }
        assert_eq!(delays.count_between(2, u64::MAX), 100);
        assert!(delays.value_at_quantile(0.95).abs_diff(50_000_000) < 2_000_000);
    }
}
