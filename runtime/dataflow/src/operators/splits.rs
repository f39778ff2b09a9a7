//! Watermarks of a reader that reads several splits.
//!
//! Each split has its own generator, so that one that runs ahead does not make the records of another
//! late. What the reader says is the least of its active splits' watermarks; it never moves back, a
//! finished split no longer counts, and a reader whose splits are all idle is idle.

use super::merge::WatermarkUpdate;
use super::split_metrics::SplitMetrics;
use super::watermark::{WatermarkGenerator, WatermarkOutput, WatermarkStrategy};
use hurtig_core::Batch;
use hurtig_core::element::WatermarkStatus;
use hurtig_core::metrics::MetricGroup;
use hurtig_core::time::{MAX_WATERMARK, MIN_WATERMARK, Time};
use std::collections::BTreeMap;
use std::time::Duration;

struct Split<T> {
    generator: Box<dyn WatermarkGenerator<T>>,
    output: WatermarkOutput,
    /// On the clock that stands still under back pressure.
    last_record: Time,
    timed_out: bool,
    /// Its watermark as it counts: as of the last time at which one was to be sent.
    known: i64,
    /// Records since then, if records decide when that is.
    since_sent: u32,
    metrics: Option<SplitMetrics>,
}

impl<T> Split<T> {
    /// Asks the generator how far event time has come.
    fn ask(&mut self) {
        self.generator.on_periodic(&mut self.output);
        self.known = self.output.watermark();
    }

    /// The same if records have been read that are as many as the gap. Whether they have.
    fn ask_behind(&mut self, records: usize, gap: u32) -> bool {
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        self.since_sent = self.since_sent.saturating_add(records);
        let due = self.since_sent >= gap;
        if due {
            self.since_sent = 0;
            self.ask();
        }
        due
    }

    fn idle(&self) -> bool {
        self.timed_out || self.output.is_idle()
    }

    /// Call it also before the split becomes idle or active.
    fn publish(&self, now: Time) {
        if let Some(metrics) = &self.metrics {
            metrics.update(self.output.watermark(), self.idle(), now);
        }
    }
}

/// Engine time without the spans during which the task was back-pressured.
#[derive(Debug, Default)]
struct PausedClock {
    since: Option<Time>,
    paused: Duration,
}

impl PausedClock {
    fn set(&mut self, paused: bool, now: Time) {
        match (self.since, paused) {
            (None, true) => self.since = Some(now),
            (Some(since), false) => {
                self.paused += now.since(since);
                self.since = None;
            }
            _ => {}
        }
    }

    fn at(&self, now: Time) -> Time {
        let until = self.since.unwrap_or(now);
        let paused = u64::try_from(self.paused.as_nanos()).unwrap_or(u64::MAX);
        Time::from_nanos(until.as_nanos().saturating_sub(paused))
    }
}

/// Gives batches their event times and keeps the watermarks of a reader's splits together.
pub struct SplitWatermarks<T> {
    strategy: WatermarkStrategy<T>,
    interval: Duration,
    splits: BTreeMap<u64, Split<T>>,
    /// The least watermark of active splits, as far as it has come.
    combined: i64,
    sent: i64,
    status: WatermarkStatus,
    clock: PausedClock,
    /// Since when there has been no split, on the clock that stands still under back pressure.
    empty_since: Option<Time>,
    next_send: Time,
    /// A record or a split's end may have moved the watermark since the last periodic call.
    pending: bool,
    /// A watermark is due behind the records that were read, whatever the clock says.
    behind_event: bool,
    /// Those of the operator.
    metrics: Option<MetricGroup>,
}

impl<T> std::fmt::Debug for SplitWatermarks<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SplitWatermarks")
            .field("splits", &self.splits.len())
            .field("combined", &self.combined)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl<T: 'static> SplitWatermarks<T> {
    /// Watermarks by `strategy`, sent at most once in `interval` of engine time; zero sends at every
    /// chance.
    pub fn new(strategy: WatermarkStrategy<T>, interval: Duration) -> Self {
        Self {
            strategy,
            interval,
            splits: BTreeMap::new(),
            combined: MIN_WATERMARK,
            sent: MIN_WATERMARK,
            status: WatermarkStatus::Active,
            clock: PausedClock::default(),
            empty_since: None,
            next_send: Time::ZERO,
            pending: false,
            behind_event: false,
            metrics: None,
        }
    }

    /// Publishes each split's watermark, and how long it was active and idle, below the operator's metrics.
    #[must_use]
    pub fn with_metrics(self, operator: MetricGroup) -> Self {
        Self {
            metrics: Some(operator),
            ..self
        }
    }

    /// The reader has been given a split, which from now on holds the watermark back.
    pub fn split_added(&mut self, split: u64, now: Time) {
        let last_record = self.clock.at(now);
        let (strategy, metrics) = (&self.strategy, &self.metrics);
        self.empty_since = None;
        self.splits.entry(split).or_insert_with(|| Split {
            generator: strategy.generator(),
            output: WatermarkOutput::default(),
            last_record,
            timed_out: false,
            known: MIN_WATERMARK,
            since_sent: 0,
            metrics: metrics.as_ref().map(|group| SplitMetrics::new(group, split, now)),
        });
    }

    /// Assigns event times to records that were just read from `split`, in place, and takes note of
    /// them. A split that was not announced is added.
    pub fn on_batch(&mut self, split: u64, batch: &mut Batch<T>, now: Time) {
        if batch.is_empty() {
            return;
        }
        let newest = self.strategy.assign_times(batch);
        if self.strategy.is_silent() {
            return;
        }
        if !self.splits.contains_key(&split) {
            self.split_added(split, now);
        }
        let (seen_at, gap) = (self.clock.at(now), self.strategy.on_event_gap());
        if let Some(state) = self.splits.get_mut(&split) {
            let was_idle = state.idle();
            if was_idle {
                state.publish(now);
            }
            state.output.mark_active();
            state.generator.on_batch(batch, newest, &mut state.output);
            state.last_record = seen_at;
            state.timed_out = false;
            if let Some(gap) = gap {
                self.behind_event |= state.ask_behind(batch.len(), gap);
                self.pending |= was_idle;
                return;
            }
        }
        self.pending = true;
    }

    /// How many records may be read before a watermark has to be sent behind them; `None`: any number.
    pub fn room(&self) -> Option<usize> {
        let gap = self
            .strategy
            .on_event_gap()
            .filter(|_| !self.strategy.is_silent())?;
        let left = self
            .splits
            .values()
            .map(|split| gap.saturating_sub(split.since_sent));
        Some(left.min().unwrap_or(gap).max(1) as usize)
    }

    /// `split` has ended and no longer holds the watermark back. What it knew still counts.
    pub fn split_finished(&mut self, split: u64) {
        if let Some(state) = self.splits.get_mut(&split) {
            state.ask();
            self.combine();
            self.splits.remove(&split);
            self.pending = true;
            self.behind_event |= self.strategy.on_event_gap().is_some();
        }
    }

    /// Tells whether the task is kept from sending; idleness is not measured meanwhile.
    pub fn set_back_pressured(&mut self, back_pressured: bool, now: Time) {
        self.clock.set(back_pressured, now);
    }

    /// What to send behind the records that were read so far. Call it behind every batch, and at
    /// [`Self::next_poll`].
    pub fn poll(&mut self, now: Time) -> WatermarkUpdate {
        let behind_event = std::mem::take(&mut self.behind_event);
        if (now < self.next_send && !behind_event) || self.strategy.is_silent() {
            return WatermarkUpdate::NONE;
        }
        let by_clock = self.strategy.on_event_gap().is_none();
        self.pending = false;
        let active_now = self.clock.at(now);
        if self.splits.is_empty() {
            self.empty_since.get_or_insert(active_now);
        }
        for split in self.splits.values_mut() {
            let timed_out = Self::timed_out(&self.strategy, split.last_record, active_now);
            if timed_out != split.timed_out {
                split.publish(now);
            }
            split.timed_out = timed_out;
            if !split.timed_out && by_clock {
                split.ask();
            }
        }
        self.combine();
        let update = WatermarkUpdate {
            watermark: self.advanced(),
            status: self.turned(active_now),
        };
        if !update.is_none() {
            self.next_send = now.after(self.interval);
        }
        update
    }

    /// When [`Self::poll`] may have something to say even if no record comes; `None` for never.
    pub fn next_poll(&self, now: Time) -> Option<Time> {
        if self.strategy.is_silent() {
            return None;
        }
        let by_clock = self.strategy.on_event_gap().is_none()
            && self.splits.values().any(|split| split.generator.by_clock());
        let tick = now.after(self.interval.max(Duration::from_millis(1)));
        let periodic = by_clock.then_some(tick);
        let due = self.pending.then_some(self.next_send);
        let next = [due, periodic, self.idle_at(now)].into_iter().flatten().min();
        next.map(|at| at.max(self.next_send))
    }

    /// Event time has ended: the last watermark of all.
    pub fn finish(&mut self) -> WatermarkUpdate {
        self.combined = MAX_WATERMARK;
        let woken = self.status == WatermarkStatus::Idle;
        self.status = WatermarkStatus::Active;
        WatermarkUpdate {
            watermark: self.advanced(),
            status: woken.then_some(WatermarkStatus::Active),
        }
    }

    /// Brings the metrics of all splits up to date.
    pub fn publish(&self, now: Time) {
        self.splits.values().for_each(|split| split.publish(now));
    }

    fn timed_out(strategy: &WatermarkStrategy<T>, since: Time, active_now: Time) -> bool {
        strategy
            .idleness()
            .is_some_and(|timeout| active_now.since(since) >= timeout)
    }

    /// When the next split turns idle if nothing comes and nothing holds the task up.
    fn idle_at(&self, now: Time) -> Option<Time> {
        let timeout = self.strategy.idleness()?;
        if self.clock.since.is_some() {
            return None;
        }
        let waiting = self
            .splits
            .values()
            .filter(|split| !split.timed_out)
            .map(|split| split.last_record);
        let empty = self
            .empty_since
            .filter(|_| self.status == WatermarkStatus::Active);
        let since = waiting.chain(empty).min()?;
        let gone = self.clock.at(now).since(since);
        Some(now.after(timeout.saturating_sub(gone)))
    }

    fn combine(&mut self) {
        let active = self.splits.values().filter(|split| !split.idle());
        if let Some(least) = active.map(|split| split.known).min() {
            self.combined = self.combined.max(least);
        }
    }

    fn advanced(&mut self) -> Option<i64> {
        let advanced = self.combined > self.sent;
        self.sent = self.sent.max(self.combined);
        advanced.then_some(self.combined)
    }

    fn turned(&mut self, active_now: Time) -> Option<WatermarkStatus> {
        let idle = match self.empty_since {
            Some(since) if self.splits.is_empty() => Self::timed_out(&self.strategy, since, active_now),
            _ => !self.splits.is_empty() && self.splits.values().all(Split::idle),
        };
        let status = if idle {
            WatermarkStatus::Idle
        } else {
            WatermarkStatus::Active
        };
        (std::mem::replace(&mut self.status, status) != status).then_some(status)
    }
}

#[cfg(test)]
#[path = "splits_tests.rs"]
mod tests;
