//! What a task publishes about itself and its operators, under Flink's names.
//!
//! The dataflow only counts. What it has counted is copied here whenever the task reports, so that
//! these metrics cost nothing per record and are at most a second old.

use crate::channel_metrics::ChannelMetrics;
use hurtig_core::metrics::{Counter, Gauge, Meter, MetricGroup};
use hurtig_core::time::Time;
use hurtig_dataflow::chain::NodeStats;
use hurtig_dataflow::graph::{JobOperator, NodeKind};

/// Shares of less time than this would be noise, as at the end of a task.
const LEAST_NANOS: u64 = 500_000_000;

/// Time spent in each of the three conditions, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeSpent {
    pub(crate) busy: u64,
    pub(crate) idle: u64,
    pub(crate) back_pressured: u64,
}

impl TimeSpent {
    fn parts(&self) -> [u64; 3] {
        [self.busy, self.idle, self.back_pressured]
    }
}

/// What a task has counted since it started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) bytes_out: u64,
}

/// The metrics of one subtask and of the operators of its chain.
pub(crate) struct TaskMetrics {
    group: MetricGroup,
    records_in: Counted,
    records_out: Counted,
    bytes_out: Counted,
    conditions: [Condition; 3],
    /// What the shares were last computed from.
    shared: Option<TimeSpent>,
    /// That of the first operator; `None`: it is a source.
    input_watermark: Option<Gauge>,
    operators: Vec<OperatorMetrics>,
    channels: Option<ChannelMetrics>,
}

impl TaskMetrics {
    /// Registers the metrics of a subtask, whose group is empty, and of its operators.
    pub(crate) fn new(group: MetricGroup, operators: &[JobOperator]) -> Self {
        let consumes = operators
            .first()
            .is_some_and(|first| first.kind != NodeKind::Source);
        let conditions = ["Busy", "Idle", "BackPressured"];
        Self {
            records_in: Counted::new(&group, "numRecordsIn"),
            records_out: Counted::new(&group, "numRecordsOut"),
            bytes_out: Counted::new(&group, "numBytesOut"),
            conditions: conditions.map(|name| Condition::new(&group, name)),
            shared: None,
            input_watermark: consumes.then(|| input_watermark(&group)),
            operators: operators
                .iter()
                .map(|operator| OperatorMetrics::new(&operator_group(&group, operator)))
                .collect(),
            channels: None,
            group,
        }
    }

    /// The same, with those of the task's channels.
    #[must_use]
    pub(crate) fn with_channels(self, channels: ChannelMetrics) -> Self {
        Self {
            channels: Some(channels),
            ..self
        }
    }

    /// Tells meters the time.
    pub(crate) fn tick(&self, now: Time) {
        self.group.tick(now);
    }

    /// Publishes what was counted; `stats` are those of the operators, in their order. Returns the bytes that have come in.
    pub(crate) fn update(&mut self, totals: Totals, spent: TimeSpent, stats: &[NodeStats]) -> u64 {
        self.records_in.raise(totals.records_in);
        self.records_out.raise(totals.records_out);
        self.bytes_out.raise(totals.bytes_out);
        for (condition, nanos) in self.conditions.iter().zip(spent.parts()) {
            raise(&condition.total, nanos / 1_000_000);
        }
        self.share(spent);
        let bytes_in = self.channels.as_ref().map_or(0, ChannelMetrics::update);
        if let (Some(watermark), Some(first)) = (&self.input_watermark, stats.first()) {
            watermark.set(first.input_watermark);
        }
        for (operator, stats) in self.operators.iter().zip(stats) {
            operator.update(stats);
        }
        bytes_in
    }

    fn share(&mut self, spent: TimeSpent) {
        let before = self.shared.unwrap_or_default().parts();
        let mut parts = spent.parts();
        parts
            .iter_mut()
            .zip(before)
            .for_each(|(nanos, before)| *nanos = nanos.saturating_sub(before));
        let all: u64 = parts.iter().sum();
        if all == 0 || (self.shared.is_some() && all < LEAST_NANOS) {
            return;
        }
        for (condition, nanos) in self.conditions.iter().zip(parts) {
            let share = u128::from(nanos) * 1_000 / u128::from(all);
            condition.per_second.set(i64::try_from(share).unwrap_or(1_000));
        }
        self.shared = Some(spent);
    }
}

/// The group of an operator of the task. Two operators of one vertex may have one name.
pub(crate) fn operator_group(task: &MetricGroup, operator: &JobOperator) -> MetricGroup {
    task.child("operator", &operator.name)
        .child("operator_id", &operator.id.to_string())
}

/// A total and its rate.
pub(crate) struct Counted {
    total: Counter,
    rate: Meter,
}

impl Counted {
    pub(crate) fn new(group: &MetricGroup, name: &str) -> Self {
        Self {
            total: group.counter(name),
            rate: group.meter(&format!("{name}PerSecond")),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.get()
    }

    pub(crate) fn raise(&self, total: u64) {
        raise(&self.total, total);
        self.rate.mark_many(total.saturating_sub(self.rate.count()));
    }
}

fn raise(counter: &Counter, total: u64) {
    counter.add(total.saturating_sub(counter.get()));
}

/// One of busy, idle and back-pressured.
struct Condition {
    total: Counter,
    per_second: Gauge,
}

impl Condition {
    fn new(group: &MetricGroup, name: &str) -> Self {
        let (first, rest) = name.split_at(1);
        let lower = first.to_lowercase() + rest;
        Self {
            total: group.counter(&format!("accumulate{name}TimeMs")),
            per_second: group.gauge(&format!("{lower}TimeMsPerSecond")),
        }
    }
}

/// The least there is, until one has come.
fn input_watermark(group: &MetricGroup) -> Gauge {
    let watermark = group.gauge("currentInputWatermark");
    watermark.set(i64::MIN);
    watermark
}

struct OperatorMetrics {
    records_in: Counted,
    records_out: Counted,
    watermark: Gauge,
    input_watermark: Gauge,
    backlog: Gauge,
}

impl OperatorMetrics {
    fn new(group: &MetricGroup) -> Self {
        let watermark = group.gauge("currentOutputWatermark");
        watermark.set(i64::MIN);
        Self {
            records_in: Counted::new(group, "numRecordsIn"),
            records_out: Counted::new(group, "numRecordsOut"),
            watermark,
            input_watermark: input_watermark(group),
            backlog: group.gauge("isBacklog"),
        }
    }

    fn update(&self, stats: &NodeStats) {
        self.records_in.raise(stats.records_in);
        self.records_out.raise(stats.records_out);
        self.watermark.set(stats.watermark);
        self.input_watermark.set(stats.input_watermark);
        self.backlog.set(stats.backlog.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::metrics::{MetricRegistry, MetricScope, MetricValue};

    #[test]
    fn shares_are_of_the_time_since_the_last_ones() {
        let registry = MetricRegistry::new(100);
        let mut metrics = TaskMetrics::new(registry.group(MetricScope::root()), &[]);
        let shares = || {
            let samples = registry.samples();
            [
                "busyTimeMsPerSecond",
                "idleTimeMsPerSecond",
                "backPressuredTimeMsPerSecond",
            ]
            .map(|name| {
                let found = samples.iter().find(|sample| sample.name == name);
                found.map(|sample| sample.value.clone())
            })
        };
        let gauges = |shares: [i64; 3]| shares.map(|share| Some(MetricValue::Gauge(share)));
        let ms = |busy: u64, idle: u64, back_pressured: u64| TimeSpent {
            busy: busy * 1_000_000,
            idle: idle * 1_000_000,
            back_pressured: back_pressured * 1_000_000,
        };
        assert_eq!(shares(), gauges([0, 0, 0]));
        metrics.update(Totals::default(), ms(30, 10, 0), &[]);
        assert_eq!(shares(), gauges([750, 250, 0]), "a task that was short");
        metrics.update(Totals::default(), ms(30, 10, 1_000), &[]);
        assert_eq!(shares(), gauges([0, 0, 1_000]));
        metrics.update(Totals::default(), ms(40, 10, 1_000), &[]);
        assert_eq!(shares(), gauges([0, 0, 1_000]), "ten milliseconds say nothing");
        metrics.update(Totals::default(), ms(530, 510, 1_000), &[]);
        assert_eq!(shares(), gauges([500, 500, 0]));
    }
}
