//! What a reader publishes about each of its splits, under Flink's names.

use hurtig_core::metrics::{Counter, Gauge, Meter, MetricGroup};
use hurtig_core::time::{MIN_WATERMARK, Time};
use std::cell::Cell;
use std::time::Duration;

/// The metrics of one split, in the scope `split` below its operator's. They are gone when it is dropped.
///
/// No split is ever paused, as watermarks are not aligned: there is no `pausedTimeMsPerSecond`.
#[derive(Debug)]
pub(super) struct SplitMetrics {
    group: MetricGroup,
    watermark: Gauge,
    active: TimeSpent,
    idle: TimeSpent,
    /// Until when the time was counted.
    counted: Cell<Time>,
}

/// Time in one condition: all of it, and as a rate.
#[derive(Debug)]
struct TimeSpent {
    total: Counter,
    per_second: Meter,
    spent: Cell<Duration>,
}

impl TimeSpent {
    fn new(group: &MetricGroup, condition: &str) -> Self {
        let lower = condition.to_lowercase();
        Self {
            total: group.counter(&format!("watermark.accumulated{condition}TimeMs")),
            per_second: group.meter(&format!("watermark.{lower}TimeMsPerSecond")),
            spent: Cell::default(),
        }
    }

    fn add(&self, time: Duration) {
        self.spent.set(self.spent.get() + time);
        let millis = u64::try_from(self.spent.get().as_millis()).unwrap_or(u64::MAX);
        let more = millis.saturating_sub(self.total.get());
        self.total.add(more);
        self.per_second.mark_many(more);
    }
}

impl SplitMetrics {
    /// Registers the metrics of a split that is active from `now` on.
    pub(super) fn new(operator: &MetricGroup, split: u64, now: Time) -> Self {
        let group = operator.child("split", &split.to_string());
        let watermark = group.gauge("watermark.currentWatermark");
        watermark.set(MIN_WATERMARK);
        Self {
            watermark,
            active: TimeSpent::new(&group, "Active"),
            idle: TimeSpent::new(&group, "Idle"),
            counted: Cell::new(now),
            group,
        }
    }

    /// The split's watermark, and what it was since the last call.
    pub(super) fn update(&self, watermark: i64, was_idle: bool, now: Time) {
        self.watermark.set(watermark);
        let spent = if was_idle { &self.idle } else { &self.active };
        spent.add(now.since(self.counted.replace(now)));
    }
}

impl Drop for SplitMetrics {
    fn drop(&mut self) {
        self.group.close();
    }
}
