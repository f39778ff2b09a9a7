//! Where the metrics of a process are found: by scope and name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::histogram::Cells;
use super::primitives::Rate;
use super::{Counter, Gauge, Histogram, HistogramSnapshot, Meter};
use crate::time::Time;

/// What a metric is about: a path of kinds and values, from the whole to the part, such as
/// `job=clicks / task=window / subtask=3 / operator=count`.
///
/// Reporters turn it into labels or into a dotted name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<(String, String)>", into = "Vec<(String, String)>")]
pub struct MetricScope(Arc<[(String, String)]>);

impl MetricScope {
    /// The scope of the process itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// A part of this scope.
    #[must_use]
    pub fn child(&self, kind: &str, value: &str) -> Self {
        let last = (kind.to_owned(), value.to_owned());
        Self(self.0.iter().cloned().chain([last]).collect())
    }

    /// Its kinds and values, from the whole to the part.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(kind, value)| (kind.as_str(), value.as_str()))
    }

    /// The value of the innermost part of this kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(of, _)| of == kind)
            .map(|(_, value)| value.as_str())
    }

    /// Whether this is `other` or a part of it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl From<Vec<(String, String)>> for MetricScope {
    fn from(parts: Vec<(String, String)>) -> Self {
        Self(parts.into())
    }
}

impl From<MetricScope> for Vec<(String, String)> {
    fn from(scope: MetricScope) -> Self {
        scope.0.to_vec()
    }
}

impl fmt::Display for MetricScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (_, value)) in self.0.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{value}")?;
        }
        Ok(())
    }
}

/// What a metric was when it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum MetricValue {
    /// A count.
    Counter(u64),
    /// A whole number.
    Gauge(i64),
    /// A number that is computed when it is read.
    Computed(f64),
    /// A count and its rate over the last minute.
    Meter {
        /// Events so far.
        count: u64,
        /// Events a second.
        per_second: f64,
    },
    /// A distribution.
    Histogram(HistogramSnapshot),
}

/// One metric as it was when it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricSample {
    /// What it is about.
    pub scope: MetricScope,
    /// Its name.
    pub name: String,
    /// What it was.
    pub value: MetricValue,
}

/// A registered metric, from the reader's side.
enum Metric {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicI64>),
    Computed(Box<dyn Fn() -> f64 + Send + Sync>),
    Meter(Arc<AtomicU64>, Arc<Rate>),
    Histogram(Arc<Cells>),
}

impl Metric {
    fn read(&self) -> MetricValue {
        match self {
            Self::Counter(count) => MetricValue::Counter(count.load(Ordering::Relaxed)),
            Self::Gauge(value) => MetricValue::Gauge(value.load(Ordering::Relaxed)),
            Self::Computed(compute) => MetricValue::Computed(compute()),
            Self::Meter(count, rate) => MetricValue::Meter {
                count: count.load(Ordering::Relaxed),
                per_second: rate.per_second(),
            },
            Self::Histogram(cells) => MetricValue::Histogram(cells.snapshot()),
        }
    }
}

type Metrics = BTreeMap<(MetricScope, String), Metric>;

struct Shared {
    metrics: Mutex<Metrics>,
    capacity: usize,
    refused: AtomicU64,
}

impl Shared {
    /// A panic in a computed metric must not hide the others.
    fn lock(&self) -> MutexGuard<'_, Metrics> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All metrics of a process; cloning it gives another handle to the same ones.
#[derive(Clone)]
pub struct MetricRegistry(Arc<Shared>);

impl MetricRegistry {
    /// An empty registry for at most `capacity` metrics.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let (metrics, refused) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Shared {
            metrics,
            capacity,
            refused,
        }))
    }

    /// The group of metrics about `scope`.
    #[must_use]
    pub fn group(&self, scope: MetricScope) -> MetricGroup {
        MetricGroup {
            registry: self.clone(),
            scope,
        }
    }

    /// Every metric as it is now, sorted by scope and name.
    #[must_use]
    pub fn samples(&self) -> Vec<MetricSample> {
        let metrics = self.0.lock();
        let sample = |((scope, name), metric): (&(MetricScope, String), &Metric)| MetricSample {
            scope: scope.clone(),
            name: name.clone(),
            value: metric.read(),
        };
        metrics.iter().map(sample).collect()
    }

    /// Tells meters the time, from which their rates follow. Call it every five seconds.
    pub fn tick(&self, now: Time) {
        for metric in self.0.lock().values() {
            if let Metric::Meter(count, rate) = metric {
                rate.tick(now, count.load(Ordering::Relaxed));
            }
        }
    }

    /// As [`MetricRegistry::tick`], for the meters about `scope` and its parts.
    pub fn tick_within(&self, scope: &MetricScope, now: Time) {
        for ((of, _), metric) in self.0.lock().iter() {
            if let Metric::Meter(count, rate) = metric
                && of.is_within(scope)
            {
                rate.tick(now, count.load(Ordering::Relaxed));
            }
        }
    }

    /// Forgets the metrics about `scope` and its parts; their writers go on unread.
    pub fn remove(&self, scope: &MetricScope) {
        self.0.lock().retain(|(of, _), _| !of.is_within(scope));
    }

    /// How many metrics were not registered, because their name was taken or the registry was full.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    fn register(&self, scope: &MetricScope, name: &str, metric: Metric) {
        let mut metrics = self.0.lock();
        let is_full = metrics.len() >= self.0.capacity;
        match metrics.entry((scope.clone(), name.to_owned())) {
            Entry::Vacant(entry) if !is_full => {
                entry.insert(metric);
            }
            _ => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl fmt::Debug for MetricRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MetricRegistry({} of {} metrics)",
            self.0.lock().len(),
            self.0.capacity
        )
    }
}

/// Makes the metrics about one scope.
///
/// When a name is taken within the scope, or the registry is full, the new metric can be written
/// but is not read by anyone, and [`MetricRegistry::refused`] counts it: a task does not fail for
/// its metrics.
#[derive(Debug, Clone)]
pub struct MetricGroup {
    registry: MetricRegistry,
    scope: MetricScope,
}

impl MetricGroup {
    /// A group whose metrics nobody reads, for tests and tools.
    #[must_use]
    pub fn unregistered() -> Self {
        MetricRegistry::new(0).group(MetricScope::root())
    }

    /// What the group is about.
    #[must_use]
    pub fn scope(&self) -> &MetricScope {
        &self.scope
    }

    /// The group of a part of this scope.
    #[must_use]
    pub fn child(&self, kind: &str, value: &str) -> Self {
        self.registry.group(self.scope.child(kind, value))
    }

    /// A new counter.
    #[must_use]
    pub fn counter(&self, name: &str) -> Counter {
        let counter = Counter::new();
        self.registry
            .register(&self.scope, name, Metric::Counter(counter.cell()));
        counter
    }

    /// A new gauge.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Gauge {
        let gauge = Gauge::new();
        self.registry
            .register(&self.scope, name, Metric::Gauge(gauge.cell()));
        gauge
    }

    /// A number that `compute` finds out whenever it is read. It runs on the reader's thread with
    /// the registry locked: it must be quick and must not use the registry.
    pub fn computed(&self, name: &str, compute: impl Fn() -> f64 + Send + Sync + 'static) {
        self.registry
            .register(&self.scope, name, Metric::Computed(Box::new(compute)));
    }

    /// A new meter.
    #[must_use]
    pub fn meter(&self, name: &str) -> Meter {
        let meter = Meter::new();
        let (count, rate) = meter.parts();
        self.registry
            .register(&self.scope, name, Metric::Meter(count, rate));
        meter
    }

    /// A new histogram.
    #[must_use]
    pub fn histogram(&self, name: &str) -> Histogram {
        let histogram = Histogram::new();
        self.registry
            .register(&self.scope, name, Metric::Histogram(histogram.cells()));
        histogram
    }

    /// Tells the meters of this scope and its parts the time. Call it every five seconds.
    pub fn tick(&self, now: Time) {
        self.registry.tick_within(&self.scope, now);
    }

    /// Forgets the metrics of this scope and its parts.
    pub fn close(&self) {
        self.registry.remove(&self.scope);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn values(registry: &MetricRegistry) -> Vec<(String, MetricValue)> {
        let named = |sample: MetricSample| (format!("{}.{}", sample.scope, sample.name), sample.value);
        registry.samples().into_iter().map(named).collect()
    }

    #[test]
    fn a_registry_reads_what_tasks_write() {
        let registry = MetricRegistry::new(10);
        let task = registry.group(MetricScope::root().child("job", "clicks").child("subtask", "3"));
        let operator = task.child("operator", "count");
        let (records, watermark) = (task.counter("numRecordsIn"), task.gauge("currentInputWatermark"));
        let (rate, latency) = (operator.meter("late"), operator.histogram("latency"));
        operator.computed("fill", || 0.5);
        records.add(5);
        watermark.set(77);
        latency.record(9);
        registry.tick(Time::ZERO);
        rate.mark_many(20);
        registry.tick(Time::ZERO.after(Duration::from_secs(10)));
        let mut nine = HistogramSnapshot::default();
        nine.merge(&latency.snapshot());
        assert_eq!(
            values(&registry),
            [
                ("clicks.3.currentInputWatermark".into(), MetricValue::Gauge(77)),
                ("clicks.3.numRecordsIn".into(), MetricValue::Counter(5)),
                ("clicks.3.count.fill".into(), MetricValue::Computed(0.5)),
                (
                    "clicks.3.count.late".into(),
                    MetricValue::Meter {
                        count: 20,
                        per_second: 2.0
                    }
                ),
                ("clicks.3.count.latency".into(), MetricValue::Histogram(nine)),
            ]
        );
        assert_eq!(operator.scope().get("job"), Some("clicks"));
    }

    #[test]
    fn a_group_tells_its_own_meters_the_time() {
        let registry = MetricRegistry::new(10);
        let (one, two) = (
            registry.group(MetricScope::root().child("subtask", "1")),
            registry.group(MetricScope::root().child("subtask", "2")),
        );
        let (mine, theirs) = (one.child("operator", "x").meter("m"), two.meter("m"));
        one.tick(Time::ZERO);
        mine.mark_many(20);
        theirs.mark_many(20);
        one.tick(Time::ZERO.after(Duration::from_secs(10)));
        let meter = |per_second| MetricValue::Meter {
            count: 20,
            per_second,
        };
        assert_eq!(
            values(&registry),
            [("1.x.m".into(), meter(2.0)), ("2.m".into(), meter(0.0))]
        );
    }

    #[test]
    fn closing_a_group_forgets_its_parts_and_nothing_else() {
        let registry = MetricRegistry::new(10);
        let (one, two) = (
            registry.group(MetricScope::root().child("subtask", "1")),
            registry.group(MetricScope::root().child("subtask", "10")),
        );
        let _counters = [
            one.counter("a"),
            one.child("operator", "x").counter("b"),
            two.counter("c"),
        ];
        one.close();
        assert_eq!(values(&registry), [("10.c".into(), MetricValue::Counter(0))]);
        let again = one.counter("a");
        again.inc();
        assert_eq!(values(&registry).len(), 2);
        assert_eq!(registry.refused(), 0);
    }

    #[test]
    fn taken_names_and_full_registries_refuse() {
        let registry = MetricRegistry::new(1);
        let group = registry.group(MetricScope::root());
        let (first, taken, too_many) = (group.counter("a"), group.counter("a"), group.gauge("b"));
        first.inc();
        taken.add(10);
        too_many.set(1);
        assert_eq!(values(&registry), [(".a".into(), MetricValue::Counter(1))]);
        assert_eq!(registry.refused(), 2);
        MetricGroup::unregistered().counter("c").inc();
    }

    #[test]
    fn samples_travel() {
        let registry = MetricRegistry::new(2);
        let histogram = registry
            .group(MetricScope::root().child("job", "j"))
            .histogram("h");
        histogram.record(1_000);
        let bytes = rmp_serde::to_vec_named(&registry.samples()).unwrap();
        assert_eq!(
            rmp_serde::from_slice::<Vec<MetricSample>>(&bytes).unwrap(),
            registry.samples()
        );
    }
}
