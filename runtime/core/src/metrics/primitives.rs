//! Counters, gauges and meters: one atomic number each.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::time::Time;

/// Makes a writer `!Sync`, so that two threads cannot write through one reference.
pub(super) type OneWriter = PhantomData<Cell<()>>;

/// A number that only grows: records, bytes, failures.
#[derive(Debug, Default)]
pub struct Counter {
    cell: Arc<AtomicU64>,
    one_writer: OneWriter,
}

impl Counter {
    /// A counter at zero that no registry knows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`; wraps around after 2⁶⁴.
    #[inline]
    pub fn add(&self, count: u64) {
        let sum = self.cell.load(Ordering::Relaxed).wrapping_add(count);
        self.cell.store(sum, Ordering::Relaxed);
    }

    /// The count.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.cell.load(Ordering::Relaxed)
    }

    pub(super) fn cell(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.cell)
    }
}

/// A number that is what it was last set to: a watermark, a length, a state.
#[derive(Debug, Default)]
pub struct Gauge {
    cell: Arc<AtomicI64>,
    one_writer: OneWriter,
}

impl Gauge {
    /// A gauge at zero that no registry knows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number.
    #[inline]
    pub fn set(&self, value: i64) {
        self.cell.store(value, Ordering::Relaxed);
    }

    /// The number last set.
    #[inline]
    #[must_use]
    pub fn get(&self) -> i64 {
        self.cell.load(Ordering::Relaxed)
    }

    pub(super) fn cell(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.cell)
    }
}

/// A count of events and their rate over the last minute.
///
/// The writer only counts. The rate comes from the counts that
/// [`MetricRegistry::tick`](super::MetricRegistry::tick) notes.
#[derive(Debug, Default)]
pub struct Meter {
    count: Counter,
    rate: Arc<Rate>,
}

impl Meter {
    /// A meter at zero that no registry knows; its rate stays 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes one event.
    #[inline]
    pub fn mark(&self) {
        self.count.inc();
    }

    /// Notes `events` events.
    #[inline]
    pub fn mark_many(&self, events: u64) {
        self.count.add(events);
    }

    /// Events so far.
    #[inline]
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    pub(super) fn parts(&self) -> (Arc<AtomicU64>, Arc<Rate>) {
        (self.count.cell(), Arc::clone(&self.rate))
    }
}

/// The time that a rate looks back.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// Counts kept for a rate; ticks that come faster than this many a window replace the newest.
const RATE_SAMPLES: usize = 12;

/// Counts at past ticks, from which a rate follows.
#[derive(Debug, Default)]
pub(super) struct Rate(Mutex<Vec<(Time, u64)>>);

impl Rate {
    /// Notes that the count was `count` at `now`.
    pub(super) fn tick(&self, now: Time, count: u64) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spacing = RATE_WINDOW / RATE_SAMPLES as u32;
        let replaces_newest = match samples.as_slice() {
            [.., before, _] => now.since(before.0) < spacing,
            _ => false,
        };
        if replaces_newest {
            samples.pop();
        }
        samples.push((now, count));
        // One sample older than the window stays, so that the rate covers all of the window.
        while samples.len() > 2 && now.since(samples[1].0) >= RATE_WINDOW {
            samples.remove(0);
        }
        debug_assert!(samples.len() <= RATE_SAMPLES + 3, "spacing bounds the samples");
    }

    /// Events a second between the oldest and the newest tick; 0 before there are two.
    pub(super) fn per_second(&self) -> f64 {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (samples.first(), samples.last()) {
            (Some((start, before)), Some((end, after))) if end > start => {
                after.wrapping_sub(*before) as f64 / end.since(*start).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn counters_and_gauges_hold_what_was_written() {
        let counter = Counter::new();
        counter.inc();
        counter.add(41);
        assert_eq!(counter.get(), 42);
        let gauge = Gauge::new();
        gauge.set(-7);
        assert_eq!(gauge.get(), -7);
        let meter = Meter::new();
        meter.mark();
        meter.mark_many(2);
        assert_eq!(meter.count(), 3);
    }

    #[test]
    fn writers_move_between_threads() {
        fn is_send<T: Send>() {}
        is_send::<Counter>();
        is_send::<Gauge>();
        is_send::<Meter>();
    }

    #[test]
    fn a_rate_looks_back_one_minute() {
        let rate = Rate::default();
        assert_eq!(rate.per_second(), 0.0);
        for tick in 0..100_u64 {
            // 10 a second in the first 250 seconds, 20 a second after them.
            let seconds = tick * 5;
            let count = 10 * seconds.min(250) + 20 * seconds.saturating_sub(250);
            rate.tick(at(seconds), count);
            let expected = match seconds {
                0 => 0.0,
                1..=250 => 10.0,
                310.. => 20.0,
                _ => continue,
            };
            assert!(
                (rate.per_second() - expected).abs() < 1e-9,
                "at {seconds} s: {}",
                rate.per_second()
            );
        }
    }

    #[test]
    fn fast_ticks_keep_few_samples_and_the_newest_count() {
        let rate = Rate::default();
        for millis in 0..120_000 {
            rate.tick(Time::ZERO.after(Duration::from_millis(millis)), 3 * millis);
        }
        assert!(
            (rate.per_second() - 3_000.0).abs() < 1e-6,
            "{}",
            rate.per_second()
        );
        assert!(rate.0.lock().unwrap().len() <= RATE_SAMPLES + 3);
    }
}
