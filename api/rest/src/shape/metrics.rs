//! Metrics as clients know them: by the names that Flink gives them within a job, a vertex or a subtask.

use hurtig_core::ids::VertexId;
use hurtig_core::metrics::{HistogramSnapshot, MetricPlace, MetricSample, MetricScope, MetricValue};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Numbers by their names.
pub(crate) type Named = BTreeMap<String, Number>;

/// A number, as text and as what can be added up.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Number {
    pub(crate) text: String,
    pub(crate) value: f64,
}

impl Number {
    /// A whole one.
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums and means need no more than 53 bits"
    )]
    pub(crate) fn whole(value: i64) -> Self {
        Self {
            text: value.to_string(),
            value: value as f64,
        }
    }

    /// A count.
    pub(crate) fn count(value: u64) -> Self {
        Self::whole(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// One with a fraction, however small that is.
    pub(crate) fn fraction(value: f64) -> Self {
        let text = format!("{value:?}");
        Self { text, value }
    }
}

/// The metrics of the job itself.
pub(crate) fn of_job(samples: &[MetricSample]) -> Named {
    let own = samples.iter().filter(|sample| {
        let place = MetricPlace::of(&sample.scope);
        place.task_id().is_none() && place.process().is_none()
    });
    collect(own.map(|sample| (&sample.value, sample.name.clone())))
}

/// What is known by name.
pub(crate) fn of_values(values: Vec<(String, MetricValue)>) -> Named {
    collect(values.iter().map(|(name, value)| (value, name.clone())))
}

/// The metrics of a vertex, by subtask.
pub(crate) fn of_vertex(samples: &[MetricSample], vertex: VertexId) -> BTreeMap<u32, Named> {
    let id = vertex.to_string();
    let mut subtasks: BTreeMap<u32, Vec<&MetricSample>> = BTreeMap::new();
    for sample in samples {
        let place = MetricPlace::of(&sample.scope);
        let index = place.subtask().and_then(|index| index.parse().ok());
        if let Some(index) = index.filter(|_| place.task_id() == Some(&id)) {
            subtasks.entry(index).or_default().push(sample);
        }
    }
    let named = |samples: Vec<&MetricSample>| {
        collect(
            samples
                .into_iter()
                .map(|sample| (&sample.value, within_task(sample))),
        )
    };
    subtasks
        .into_iter()
        .map(|(index, samples)| (index, named(samples)))
        .collect()
}

/// The name of a metric within its subtask: that of an operator and of groups within it come first.
fn within_task(sample: &MetricSample) -> String {
    let inner = inner_scope(&sample.scope);
    inner.into_iter().map(|part| part + ".").collect::<String>() + &sample.name
}

fn inner_scope(scope: &MetricScope) -> Vec<String> {
    let place = MetricPlace::of(scope);
    let groups = place.groups.iter().map(|(_, value)| *value);
    place.operator().into_iter().chain(groups).map(valid).collect()
}

/// What can stand in the name of a metric.
fn valid(name: &str) -> String {
    let keep = |c: char| {
        if c.is_alphanumeric() || "-_".contains(c) {
            c
        } else {
            '_'
        }
    };
    name.chars().map(keep).collect()
}

fn collect<'a>(values: impl Iterator<Item = (&'a MetricValue, String)>) -> Named {
    let mut all = Named::new();
    for (value, name) in values {
        match value {
            MetricValue::Counter(count) => _ = all.entry(name).or_insert(Number::count(*count)),
            MetricValue::Gauge(value) => _ = all.entry(name).or_insert(Number::whole(*value)),
            MetricValue::Computed(value) => _ = all.entry(name).or_insert(Number::fraction(*value)),
            MetricValue::Meter { per_second, .. } => {
                all.entry(name).or_insert(Number::fraction(*per_second));
            }
            MetricValue::Histogram(histogram) => all.extend(of_histogram(&name, histogram)),
        }
    }
    all
}

fn of_histogram(name: &str, histogram: &HistogramSnapshot) -> Vec<(String, Number)> {
    let shares = [
        ("median", 0.5),
        ("p75", 0.75),
        ("p90", 0.9),
        ("p95", 0.95),
        ("p98", 0.98),
        ("p99", 0.99),
        ("p999", 0.999),
    ];
    let share = |(part, share)| (part, Number::count(histogram.quantile(share)));
    let parts = [
        ("count", Number::count(histogram.count())),
        ("min", Number::count(histogram.min())),
        ("max", Number::count(histogram.max())),
        ("mean", Number::fraction(histogram.mean())),
    ];
    let all = parts.into_iter().chain(shares.into_iter().map(share));
    all.map(|(part, number)| (format!("{name}_{part}"), number))
        .collect()
}

/// All subtasks as one list: each name begins with the number of its subtask.
pub(crate) fn numbered(subtasks: &BTreeMap<u32, Named>) -> Named {
    let one = |(index, named): (&u32, &Named)| {
        let index = *index;
        let named = named.iter();
        named
            .map(move |(name, number)| (format!("{index}.{name}"), number.clone()))
            .collect::<Vec<_>>()
    };
    subtasks.iter().flat_map(one).collect()
}

/// Which metrics there are, or those that are asked for.
pub(crate) fn answer(named: &Named, get: Option<&str>) -> Value {
    match get {
        None => named.keys().map(|name| json!({ "id": name })).collect(),
        Some(names) => {
            let found = names.split(',').filter_map(|name| Some((name, named.get(name)?)));
            found
                .map(|(name, number)| json!({ "id": name, "value": number.text }))
                .collect()
        }
    }
}

/// How numbers are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregation {
    Min,
    Max,
    Avg,
    Sum,
    /// How far the numbers are from their mean, in percent of it; 100 at most.
    Skew,
}

impl Aggregation {
    pub(crate) const ALL: [Self; 5] = [Self::Min, Self::Max, Self::Avg, Self::Sum, Self::Skew];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
            Self::Sum => "sum",
            Self::Skew => "skew",
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "there are few of them")]
    fn of(self, numbers: &[f64]) -> f64 {
        let sum: f64 = numbers.iter().sum();
        let count = numbers.len().max(1) as f64;
        let mean = sum / count;
        match self {
            Self::Min => numbers.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Max => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Self::Avg => mean,
            Self::Sum => sum,
            Self::Skew if mean == 0.0 => 0.0,
            Self::Skew => {
                let apart: f64 = numbers.iter().map(|number| (number - mean).abs()).sum();
                (apart / count / mean * 100.0).min(100.0)
            }
        }
    }
}

/// The same put together over several.
pub(crate) fn aggregated(all: &[&Named], get: Option<&str>, wanted: &[Aggregation]) -> Value {
    let Some(names) = get else {
        let names: std::collections::BTreeSet<&String> = all.iter().flat_map(|named| named.keys()).collect();
        return names.into_iter().map(|name| json!({ "id": name })).collect();
    };
    let of_one = |name: &str| {
        let numbers: Vec<f64> = all
            .iter()
            .filter_map(|named| Some(named.get(name)?.value))
            .collect();
        if numbers.is_empty() {
            return None;
        }
        let mut answer = json!({ "id": name });
        for aggregation in wanted {
            answer[aggregation.name()] = json!(aggregation.of(&numbers));
        }
        Some(answer)
    };
    names.split(',').filter_map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::metrics::MetricRegistry;

    fn samples() -> Vec<MetricSample> {
        let registry = MetricRegistry::new(100);
        let job = registry.group(MetricScope::root().child("job", "j"));
        let vertex = VertexId::from_u128(1).to_string();
        job.gauge("numRestarts").set(2);
        for index in ["0", "1"] {
            let task = job
                .child("task", "a -> b")
                .child("task_id", &vertex)
                .child("subtask", index);
            task.counter("numRecordsOut")
                .add(if index == "0" { 120_538 } else { 120_532 });
            let operator = task
                .child("operator", "Source: numbers")
                .child("operator_id", "7");
            operator.gauge("currentOutputWatermark").set(5);
            operator.child("group", "mine").histogram("latency").record(9);
            operator.meter("late").mark();
        }
        registry.samples()
    }

    #[test]
    fn names_are_flinks() {
        let samples = samples();
        let subtasks = of_vertex(&samples, VertexId::from_u128(1));
        let all = numbered(&subtasks);
        assert_eq!(all["0.numRecordsOut"].text, "120538");
        assert_eq!(all["1.Source__numbers.currentOutputWatermark"].text, "5");
        assert_eq!(all["1.Source__numbers.mine.latency_p99"].text, "9");
        assert_eq!(all["0.Source__numbers.late"].text, "0.0");
        assert_eq!(of_job(&samples).keys().collect::<Vec<_>>(), ["numRestarts"]);
        assert!(of_vertex(&samples, VertexId::from_u128(2)).is_empty());
    }

    #[test]
    fn lists_have_no_values_and_what_is_not_there_is_left_out() {
        let named = of_job(&samples());
        assert_eq!(answer(&named, None), json!([{ "id": "numRestarts" }]));
        let found = answer(&named, Some("numRestarts,none"));
        assert_eq!(found, json!([{ "id": "numRestarts", "value": "2" }]));
    }

    #[test]
    fn subtasks_are_put_together_as_flink_does() {
        let samples = samples();
        let subtasks = of_vertex(&samples, VertexId::from_u128(1));
        let all: Vec<&Named> = subtasks.values().collect();
        let wanted = &Aggregation::ALL[..4];
        let answer = aggregated(&all, Some("numRecordsOut,none"), wanted);
        let expected = json!([{
            "id": "numRecordsOut", "min": 120_532.0, "max": 120_538.0, "avg": 120_535.0, "sum": 241_070.0
        }]);
        assert_eq!(answer, expected);
        let skew = Aggregation::Skew;
        assert_eq!(
            (skew.of(&[1.0, 3.0]), skew.of(&[5.0, 5.0]), skew.of(&[0.0])),
            (50.0, 0.0, 0.0)
        );
        assert_eq!(skew.of(&[0.0, 0.0, 0.0, 10.0]), 100.0);
    }
}
