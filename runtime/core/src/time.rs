//! Time as the engine sees it.
//!
//! Two clocks never mix. *Event time* is an `i64` of milliseconds since the Unix epoch and travels
//! with records. *Engine time* is [`Time`], nanoseconds of an injected [`Clock`]; nothing in the
//! runtime reads the machine's clock by itself, so that a simulation can hold it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Event time of a record that has none.
pub const NO_TIMESTAMP: i64 = i64::MIN;
/// Watermark before any other: nothing is known.
pub const MIN_WATERMARK: i64 = i64::MIN;
/// Watermark after all others: event time has ended.
pub const MAX_WATERMARK: i64 = i64::MAX;

/// A point of engine time: nanoseconds since an arbitrary origin, and monotonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The clock's origin.
    pub const ZERO: Time = Time(0);

    /// The point `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Time(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time elapsed since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The point `d` later, saturating at the end of time.
    pub fn after(self, d: Duration) -> Time {
        Time(
            self.0
                .saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// The source of both clocks, handed to whoever needs to know the time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Monotonic engine time.
    fn now(&self) -> Time;
    /// Wall-clock time in milliseconds since the Unix epoch: the engine's *processing time*.
    fn wall_ms(&self) -> i64;
}

/// A clock that stands still until it is moved: tests and simulations hold one.
#[derive(Debug, Default)]
pub struct ManualClock {
    nanos: AtomicU64,
}

impl ManualClock {
    /// A clock at the origin.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.nanos
            .fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Moves the clock to `wall_ms`, never backwards.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        let nanos = u64::try_from(wall_ms).unwrap_or(0).saturating_mul(1_000_000);
        self.nanos.fetch_max(nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time(self.nanos.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> i64 {
        i64::try_from(self.nanos.load(Ordering::SeqCst) / 1_000_000).unwrap_or(i64::MAX)
    }
}

/// The machine's own clocks. The one place of the runtime that reads them.
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl SystemClock {
    /// A clock whose origin is now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everyone else is handed"
    )]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: std::time::Instant::now(),
        })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everyone else is handed"
    )]
    fn wall_ms(&self) -> i64 {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since_epoch.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Durations as people say them: `5.seconds()`, `200.millis()`.
pub trait DurationExt: Sized {
    /// So many milliseconds.
    fn millis(self) -> Duration;
    /// So many seconds.
    fn seconds(self) -> Duration;
    /// So many minutes.
    fn minutes(self) -> Duration;
    /// So many hours.
    fn hours(self) -> Duration;
    /// So many days of 24 hours.
    fn days(self) -> Duration;
}

impl DurationExt for u64 {
    fn millis(self) -> Duration {
        Duration::from_millis(self)
    }
    fn seconds(self) -> Duration {
        Duration::from_secs(self)
    }
    fn minutes(self) -> Duration {
        Duration::from_secs(self * 60)
    }
    fn hours(self) -> Duration {
        Duration::from_secs(self * 3_600)
    }
    fn days(self) -> Duration {
        Duration::from_secs(self * 86_400)
    }
}

/// A duration in whole milliseconds of event time, saturating.
pub fn to_event_millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_told_and_never_back() {
        let clock = ManualClock::new();
        assert_eq!(clock.now(), Time::ZERO);
        clock.set_wall_ms(1_000);
        clock.set_wall_ms(10);
        clock.advance(5.millis());
        assert_eq!(clock.wall_ms(), 1_005);
    }

    #[test]
    fn time_differences_saturate() {
        let early = Time::from_nanos(10);
        assert_eq!(early.since(Time::from_nanos(20)), Duration::ZERO);
        assert_eq!(Time::from_nanos(u64::MAX).after(1.seconds()).as_nanos(), u64::MAX);
    }
}
