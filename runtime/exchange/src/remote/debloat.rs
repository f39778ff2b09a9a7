//! How much is to be on its way to who reads slowly: what is read in a given time.

use hurtig_core::time::Time;
use std::time::Duration;

/// The least that is on its way, however slowly it is read.
const LEAST: u64 = 4 << 10;

/// How credit follows what is read.
#[derive(Clone, Copy, Debug)]
pub struct Debloat {
    /// The time in which what is on its way should have been read.
    pub target: Duration,
    /// How long one measurement takes.
    pub period: Duration,
    /// Over about how many measurements the mean is taken.
    pub samples: u32,
    /// A change of less than so many percent does not count.
    pub threshold_percent: u32,
}

/// Measures how fast a channel is read, over the time in which something waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    /// When it was looked at last, what had been consumed by then, and whether something waited.
    last: Option<(Time, u64, bool)>,
    busy: Duration,
    bytes: u64,
    /// Bytes a second.
    rate: Option<f64>,
}

impl Meter {
    /// Takes note of what was consumed by now and what waits; returns the bytes that should be on their way, from those that are in
    /// force and the most there may be.
    pub(super) fn look(
        &mut self,
        debloat: &Debloat,
        (now, consumed, waiting): (Time, u64, u64),
        (window, most): (u64, u64),
    ) -> u64 {
        if let Some((at, before, true)) = self.last {
            self.busy += now.since(at);
            self.bytes += consumed.saturating_sub(before);
        }
        self.last = Some((now, consumed, waiting > 0));
        if self.busy < debloat.period || self.busy.is_zero() {
            return window;
        }
        let measured = self.bytes as f64 / self.busy.as_secs_f64();
        (self.busy, self.bytes) = (Duration::ZERO, 0);
        let weight = 2.0 / (f64::from(debloat.samples) + 1.0);
        let rate = self
            .rate
            .map_or(measured, |rate| rate + weight * (measured - rate));
        self.rate = Some(rate);
        // As far as it goes: a rate is finite and not negative.
        let wanted = ((rate * debloat.target.as_secs_f64()) as u64).clamp(LEAST.min(most), most);
        let change = wanted.abs_diff(window);
        match change * 100 >= window * u64::from(debloat.threshold_percent) {
            true => wanted,
            false => window,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBLOAT: Debloat = Debloat {
        target: Duration::from_secs(1),
        period: Duration::from_millis(200),
        samples: 4,
        threshold_percent: 25,
    };
    const MOST: u64 = 1_000_000;

    /// Lets so many bytes a second be read for so many seconds while more wait, from a time on; the window in the end.
    fn read(meter: &mut Meter, from: u64, seconds: u64, rate: u64, window: u64) -> u64 {
        let mut window = window;
        let consumed_before = meter.last.map_or(0, |(_, consumed, _)| consumed);
        for tick in 1..=seconds * 20 {
            let now = Time::from_nanos((from * 20 + tick) * 50_000_000);
            let consumed = consumed_before + rate * tick / 20;
            window = meter.look(&DEBLOAT, (now, consumed, 500), (window, MOST));
        }
        window
    }

    #[test]
    fn the_window_follows_what_is_read_in_the_target_time() {
        let mut meter = Meter::default();
        let slow = read(&mut meter, 0, 10, 50_000, MOST);
        assert!((40_000..=63_000).contains(&slow), "{slow}");
        let faster = read(&mut meter, 10, 10, 300_000, slow);
        assert!((240_000..=375_000).contains(&faster), "{faster}");
        assert_eq!(
            read(&mut meter, 20, 20, 90_000_000, faster),
            MOST,
            "no more than there is"
        );
        let least = read(&mut meter, 40, 20, 0, MOST);
        assert!(
            (LEAST..2 * LEAST).contains(&least),
            "no less than one can go on with: {least}"
        );
    }

    #[test]
    fn a_small_change_is_none() {
        let mut meter = Meter::default();
        let window = read(&mut meter, 0, 10, 100_000, MOST);
        assert_eq!(read(&mut meter, 10, 10, 115_000, window), window);
    }

    #[test]
    fn time_in_which_nothing_waits_does_not_count() {
        let mut meter = Meter::default();
        let mut window = MOST;
        for second in 0..100 {
            // A tenth of a second with something to read, nine without.
            let at = |tenths: u64| Time::from_nanos((second * 10 + tenths) * 100_000_000);
            window = meter.look(&DEBLOAT, (at(0), second * 50_000, 50_000), (window, MOST));
            window = meter.look(&DEBLOAT, (at(1), (second + 1) * 50_000, 0), (window, MOST));
        }
        assert!((400_000..=600_000).contains(&window), "{window}");
    }
}
