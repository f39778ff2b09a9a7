//! Event times and watermarks made in the middle of a stream.
//!
//! What arrives from upstream, watermarks and idleness, is ignored, save the end of event time: the
//! strategy alone decides, as Flink's `assignTimestampsAndWatermarks` does. Watermarks are not part of a snapshot.

use super::splits::SplitWatermarks;
use super::watermark::WatermarkStrategy;
use super::when_empty;
use crate::operator::{Budget, Collector, Cx, OpenContext, Operator, Progress};
use hurtig_core::element::WatermarkStatus;
use hurtig_core::time::{MAX_WATERMARK, Time};
use hurtig_core::{Batch, Result};
use std::time::Duration;

/// A call that is so late was held up; less is what clocks and rounds are rounded by.
const HELD_UP: Duration = Duration::from_millis(20);

/// The only split: the operator's input.
const INPUT: u64 = 0;

/// Assigns event times and makes watermarks by a [`WatermarkStrategy`].
#[derive(Debug)]
pub struct AssignWatermarks<T> {
    watermarks: SplitWatermarks<T>,
    /// Records on their way through, to be changed apart from those already emitted.
    scratch: Batch<T>,
    /// For when processing time was last asked for.
    due: Option<Time>,
    /// When the operator was last called.
    ran: Time,
}

impl<T: 'static> AssignWatermarks<T> {
    /// The operator for `strategy`; watermarks leave at most once in `interval`.
    pub fn new(strategy: WatermarkStrategy<T>, interval: Duration) -> Self {
        Self {
            watermarks: SplitWatermarks::new(strategy, interval),
            scratch: Batch::new(),
            due: None,
            ran: Time::ZERO,
        }
    }

    fn poll(&mut self, cx: Cx<'_>, out: &mut Collector<T>) {
        let now = cx.now();
        let update = self.watermarks.poll(now);
        if let Some(watermark) = update.watermark {
            out.watermark(watermark);
        }
        if let Some(status) = update.status {
            cx.set_idle(status == WatermarkStatus::Idle);
        }
        self.ran = now;
        self.schedule(now, cx);
    }

    fn schedule(&mut self, now: Time, cx: Cx<'_>) {
        if let Some(at) = self.watermarks.next_poll(now) {
            // Rounded up: the wall clock counts whole milliseconds.
            let wait = at.since(now).as_nanos().div_ceil(1_000_000);
            let wait = i64::try_from(wait).unwrap_or(i64::MAX).max(1);
            self.due = Some(now.after(Duration::from_millis(u64::try_from(wait).unwrap_or(0))));
            cx.schedule(cx.processing_time().saturating_add(wait));
        }
    }
}

impl<T: Send + 'static> Operator<T, T> for AssignWatermarks<T> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let cx = ctx.cx();
        let now = cx.now();
        // From here on this operator decides who is idle.
        cx.set_idle(false);
        self.ran = now;
        self.watermarks.split_added(INPUT, now);
        self.schedule(now, cx);
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<T>,
        cx: Cx<'_>,
        out: &mut Collector<T>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let room = self.watermarks.room().unwrap_or(usize::MAX);
        let n = b.take(input.len().min(out.room()).min(room));
        input.clear_hashes();
        self.scratch.append(input, n);
        self.watermarks.on_batch(INPUT, &mut self.scratch, cx.now());
        out.batch().append(&mut self.scratch, n);
        self.poll(cx, out);
        Ok(when_empty(input))
    }

    fn on_watermark(
        &mut self,
        wm: i64,
        cx: Cx<'_>,
        _: &mut Collector<T>,
        _: &mut Budget,
    ) -> Result<Progress> {
        if wm == MAX_WATERMARK {
            cx.set_idle(false);
        } else {
            cx.hold_watermark();
        }
        Ok(Progress::Done)
    }

    fn on_processing_time(
        &mut self,
        _: i64,
        cx: Cx<'_>,
        out: &mut Collector<T>,
        _: &mut Budget,
    ) -> Result<Progress> {
        // A call that comes late was held up by the consumers, who knows since when: silence does not
        // count since the operator last ran.
        let now = cx.now();
        if self.due.take().is_some_and(|due| now.since(due) > HELD_UP) {
            self.watermarks.set_back_pressured(true, self.ran);
            self.watermarks.set_back_pressured(false, now);
        }
        self.poll(cx, out);
        Ok(Progress::Done)
    }
}
