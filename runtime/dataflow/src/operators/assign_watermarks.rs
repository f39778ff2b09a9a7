//! Event times and watermarks made in the middle of a stream.
//!
//! What arrives from upstream is ignored, save the end of event time: the strategy alone decides, as
//! Flink's `assignTimestampsAndWatermarks` does. Watermarks are not part of a snapshot.

use super::splits::SplitWatermarks;
use super::watermark::WatermarkStrategy;
use super::{granted, when_empty};
use crate::operator::{Budget, Collector, Cx, OpenContext, Operator, Progress};
use hurtig_core::time::{MAX_WATERMARK, Time};
use hurtig_core::{Batch, Result};
use std::time::Duration;

/// The only split: the operator's input.
const INPUT: u64 = 0;

/// Assigns event times and makes watermarks by a [`WatermarkStrategy`].
#[derive(Debug)]
pub struct AssignWatermarks<T> {
    watermarks: SplitWatermarks<T>,
    /// Records on their way through, to be changed apart from those already emitted.
    scratch: Batch<T>,
}

impl<T: 'static> AssignWatermarks<T> {
    /// The operator for `strategy`; watermarks leave at most once in `interval`.
    pub fn new(strategy: WatermarkStrategy<T>, interval: Duration) -> Self {
        Self {
            watermarks: SplitWatermarks::new(strategy, interval),
            scratch: Batch::new(),
        }
    }

    fn poll(&mut self, cx: Cx<'_>, out: &mut Collector<T>) {
        let now = cx.now();
        let update = self.watermarks.poll(now);
        if let Some(watermark) = update.watermark {
            out.watermark(watermark);
        }
        self.schedule(now, cx);
    }

    fn schedule(&self, now: Time, cx: Cx<'_>) {
        if let Some(at) = self.watermarks.next_poll(now) {
            // Rounded up: the wall clock counts whole milliseconds.
            let wait = at.since(now).as_nanos().div_ceil(1_000_000);
            let wait = i64::try_from(wait).unwrap_or(i64::MAX).max(1);
            cx.schedule(cx.processing_time().saturating_add(wait));
        }
    }
}

impl<T: Send + 'static> Operator<T, T> for AssignWatermarks<T> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let cx = ctx.cx();
        let now = cx.now();
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
        let n = granted(input, out, b);
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
        if wm != MAX_WATERMARK {
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
        self.poll(cx, out);
        Ok(Progress::Done)
    }
}
