//! The clock of deadlines: it goes on while the machine sleeps.

use hurtig_core::time::{Clock, Time};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;

/// Time since the machine was started, its sleep included, as leases count it. Where the system has no such clock: the monotonic
/// one.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl BootClock {
    /// The clock.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self)
    }
}

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

impl Clock for BootClock {
    fn now(&self) -> Time {
        nanos(CLOCK)
    }

    fn wall_ms(&self) -> i64 {
        i64::try_from(nanos(ClockId::Realtime).as_nanos() / 1_000_000).unwrap_or(i64::MAX)
    }
}

fn nanos(clock: ClockId) -> Time {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Time::from_nanos(
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_go_back_and_knows_the_year() {
        let clock = BootClock::new();
        let before = clock.now();
        assert!(clock.now() >= before && before > Time::ZERO);
        // 2020, in milliseconds.
        assert!(clock.wall_ms() > 1_577_836_800_000);
    }
}
