//! Metrics as Prometheus reads them, in its text format 0.0.4.
//!
//! Names and labels are those of Flink's `PrometheusReporter`: `flink_`, the scope, the name. One text has each name once, with
//! its type, and each series once: a text that says something twice is refused as a whole.

use crate::metric::{Metric, filtered};
use hurtig_core::metrics::{HistogramSnapshot, MetricValue};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What all names begin with that Flink has, or could have.
const PREFIX: &str = "flink_";

/// The shares of a distribution that are told, as by Flink.
const QUANTILES: [(&str, f64); 6] = [
    ("0.5", 0.5),
    ("0.75", 0.75),
    ("0.95", 0.95),
    ("0.98", 0.98),
    ("0.99", 0.99),
    ("0.999", 0.999),
];

/// How much of it is written, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of lines with values.
    pub bytes: usize,
    /// Whether characters of values of labels that Flink does not know become `_`.
    pub filter_label_values: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 16 << 20,
            filter_label_values: true,
        }
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Summary,
    /// Some count with it, others measure.
    Untyped,
}

impl Kind {
    fn of(value: &MetricValue) -> Self {
        match value {
            MetricValue::Counter(_) => Self::Counter,
            MetricValue::Gauge(_) | MetricValue::Computed(_) | MetricValue::Meter { .. } => Self::Gauge,
            MetricValue::Histogram(_) => Self::Summary,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }

    /// What both are; `None`: they have nothing in common.
    fn with(self, other: Self) -> Option<Self> {
        match (self == Self::Summary, other == Self::Summary) {
            (true, true) => Some(Self::Summary),
            (false, false) if self == other => Some(self),
            (false, false) => Some(Self::Untyped),
            _ => None,
        }
    }
}

/// All series of a name.
struct Family {
    help: String,
    kind: Kind,
    lines: String,
}

/// A text that grows.
struct Exposition {
    limits: Limits,
    families: BTreeMap<String, Family>,
    /// Names that summaries have beside their own.
    parts: BTreeSet<String>,
    series: BTreeSet<String>,
    bytes: usize,
    left_out: u64,
}

/// Writes metrics down, and how many of them have found no room, or no name that is not taken. Where room runs out, what is
/// about the whole comes before its parts.
pub fn exposition(metrics: &[Metric], limits: Limits) -> (String, u64) {
    let mut sorted: Vec<&Metric> = metrics.iter().collect();
    sorted.sort_by_key(|metric| metric.level);
    let mut exposition = Exposition {
        limits,
        families: BTreeMap::new(),
        parts: BTreeSet::new(),
        series: BTreeSet::new(),
        bytes: 0,
        left_out: 0,
    };
    for metric in sorted {
        if exposition.add(metric).is_none() {
            exposition.left_out += 1;
        }
    }
    (exposition.text(), exposition.left_out)
}

impl Exposition {
    /// `None`: it cannot be told.
    fn add(&mut self, metric: &Metric) -> Option<()> {
        let scope = metric.logical_scope();
        let name = format!("{PREFIX}{scope}_{}", filtered(&metric.name));
        let kind = self.kind_of(&name, Kind::of(&metric.value))?;
        let labels = labels(&metric.variables, self.limits.filter_label_values, kind)?;
        let lines = lines(&name, &labels, &metric.value);
        if self.bytes + lines.len() > self.limits.bytes || !self.series.insert(format!("{name}{{{labels}}}"))
        {
            return None;
        }
        self.bytes += lines.len();
        if kind == Kind::Summary {
            self.parts.extend(parts(&name));
        }
        let new = || Family {
            help: format!("{} (scope: {scope})", metric.name),
            kind,
            lines: String::new(),
        };
        let family = self.families.entry(name).or_insert_with(new);
        family.kind = kind;
        family.lines.push_str(&lines);
        Some(())
    }

    fn kind_of(&self, name: &str, kind: Kind) -> Option<Kind> {
        if let Some(family) = self.families.get(name) {
            return family.kind.with(kind);
        }
        let is_free = |name: &String| !self.families.contains_key(name);
        let taken = self.parts.contains(name) || (kind == Kind::Summary && !parts(name).iter().all(is_free));
        Some(kind).filter(|_| !taken)
    }

    fn text(&self) -> String {
        let mut text = String::with_capacity(self.bytes + 200 * self.families.len());
        for (name, family) in &self.families {
            let (help, kind) = (escaped_help(&family.help), family.kind.name());
            // Writing into a text cannot fail.
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{}",
                family.lines
            );
        }
        text
    }
}

/// The names of a summary beside its own.
fn parts(name: &str) -> [String; 2] {
    [format!("{name}_sum"), format!("{name}_count")]
}

/// `a="b",c="d"`, in the order of names; `None`: a name is there twice, for which the whole text would be refused.
fn labels(variables: &[(String, String)], filter: bool, kind: Kind) -> Option<String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    if kind == Kind::Summary {
        // Taken by the summary itself.
        all.insert("quantile".to_owned(), String::new());
    }
    for (name, value) in variables {
        let value = if filter { filtered(value) } else { escaped(value) };
        if all.insert(label_name(name), value).is_some() {
            return None;
        }
    }
    let own = all
        .iter()
        .filter(|(name, _)| kind != Kind::Summary || *name != "quantile");
    let pairs: Vec<String> = own.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    Some(pairs.join(","))
}

/// Labels allow less than names of metrics: no colon, no digit in front, and what begins with two `_` is Prometheus's own.
fn label_name(name: &str) -> String {
    let name = filtered(name).replace(':', "_");
    match name.as_bytes() {
        [] => "_".to_owned(),
        [b'0'..=b'9', ..] => format!("_{name}"),
        [b'_', b'_', ..] => format!("_{}", name.trim_start_matches('_')),
        _ => name,
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn escaped_help(help: &str) -> String {
    help.replace('\\', "\\\\").replace('\n', "\\n")
}

fn lines(name: &str, labels: &str, value: &MetricValue) -> String {
    let line = |value: String| match labels {
        "" => format!("{name} {value}\n"),
        labels => format!("{name}{{{labels}}} {value}\n"),
    };
    match value {
        MetricValue::Counter(count) => line(count.to_string()),
        MetricValue::Gauge(value) => line(value.to_string()),
        MetricValue::Computed(value) => line(number(*value)),
        MetricValue::Meter { per_second, .. } => line(number(*per_second)),
        MetricValue::Histogram(histogram) => summary(name, labels, histogram),
    }
}

/// Of nothing there are no shares.
fn summary(name: &str, labels: &str, histogram: &HistogramSnapshot) -> String {
    let (count, mut text) = (histogram.count(), String::new());
    let (comma, whole) = match labels {
        "" => ("", String::new()),
        labels => (",", format!("{{{labels}}}")),
    };
    for (share, of) in QUANTILES {
        let value = match count {
            0 => "NaN".to_owned(),
            _ => histogram.quantile(of).to_string(),
        };
        let _ = writeln!(text, "{name}{{{labels}{comma}quantile=\"{share}\"}} {value}");
    }
    let _ = writeln!(
        text,
        "{name}_sum{whole} {}\n{name}_count{whole} {count}",
        histogram.sum()
    );
    text
}

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value if value.is_nan() => "NaN".to_owned(),
        value => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Level;
    use hurtig_core::metrics::Histogram;

    fn metric(name: &str, variables: &[(&str, &str)], value: MetricValue) -> Metric {
        Metric {
            level: Level::Task,
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            groups: Vec::new(),
            name: name.to_owned(),
            value,
        }
    }

    fn written(metrics: &[Metric]) -> (String, u64) {
        exposition(metrics, Limits::default())
    }

    #[test]
    fn each_name_has_its_type_once_and_the_text_is_exactly_this() {
        let histogram = Histogram::new();
        (1..=10).for_each(|value| histogram.record(value));
        let all = [
            metric(
                "b",
                &[("task_name", "Map: \"x\\y\""), ("host", "a.b")],
                MetricValue::Gauge(-4),
            ),
            metric("a b", &[("host", "x")], MetricValue::Counter(3)),
            metric("b", &[("host", "y")], MetricValue::Computed(f64::INFINITY)),
            metric(
                "h",
                &[("host", "x")],
                MetricValue::Histogram(histogram.snapshot()),
            ),
            metric("h", &[], MetricValue::Histogram(HistogramSnapshot::default())),
        ];
        let wanted = "\
# HELP flink_taskmanager_job_task_a_b a b (scope: taskmanager_job_task)
# TYPE flink_taskmanager_job_task_a_b counter
flink_taskmanager_job_task_a_b{host=\"x\"} 3
# HELP flink_taskmanager_job_task_b b (scope: taskmanager_job_task)
# TYPE flink_taskmanager_job_task_b gauge
flink_taskmanager_job_task_b{host=\"a_b\",task_name=\"Map:__x_y_\"} -4
flink_taskmanager_job_task_b{host=\"y\"} +Inf
# HELP flink_taskmanager_job_task_h h (scope: taskmanager_job_task)
# TYPE flink_taskmanager_job_task_h summary
flink_taskmanager_job_task_h{host=\"x\",quantile=\"0.5\"} 5
flink_taskmanager_job_task_h{host=\"x\",quantile=\"0.75\"} 8
flink_taskmanager_job_task_h{host=\"x\",quantile=\"0.95\"} 10
flink_taskmanager_job_task_h{host=\"x\",quantile=\"0.98\"} 10
flink_taskmanager_job_task_h{host=\"x\",quantile=\"0.99\"} 10
flink_taskmanager_job_task_h{host=\"x\",quantile=\"0.999\"} 10
flink_taskmanager_job_task_h_sum{host=\"x\"} 55
flink_taskmanager_job_task_h_count{host=\"x\"} 10
flink_taskmanager_job_task_h{quantile=\"0.5\"} NaN
flink_taskmanager_job_task_h{quantile=\"0.75\"} NaN
flink_taskmanager_job_task_h{quantile=\"0.95\"} NaN
flink_taskmanager_job_task_h{quantile=\"0.98\"} NaN
flink_taskmanager_job_task_h{quantile=\"0.99\"} NaN
flink_taskmanager_job_task_h{quantile=\"0.999\"} NaN
flink_taskmanager_job_task_h_sum 0
flink_taskmanager_job_task_h_count 0
";
        assert_eq!(written(&all), (wanted.to_owned(), 0));
    }

    #[test]
    fn values_of_labels_are_escaped_where_they_are_left_as_they_are() {
        let limits = Limits {
            filter_label_values: false,
            ..Limits::default()
        };
        let odd = metric("a\nb", &[("v", "q\" b\\ n\n ü")], MetricValue::Counter(1));
        let (text, _) = exposition(&[odd], limits);
        assert!(text.contains("{v=\"q\\\" b\\\\ n\\n ü\"} 1\n"), "{text}");
        assert!(
            text.contains("# HELP flink_taskmanager_job_task_a_b a\\nb (scope"),
            "{text}"
        );
    }

    #[test]
    fn what_would_spoil_the_text_is_left_out_and_counted() {
        let one = MetricValue::Counter(1);
        let histogram = || MetricValue::Histogram(HistogramSnapshot::default());
        let cases: [(&[Metric], &str); 5] = [
            (
                &[
                    metric("a", &[("k", "x y")], one.clone()),
                    metric("a", &[("k", "x_y")], one.clone()),
                ],
                "a series twice",
            ),
            (
                &[
                    metric("a", &[], one.clone()),
                    metric("a", &[("k k", "1"), ("k_k", "2")], one.clone()),
                ],
                "a label twice",
            ),
            (
                &[
                    metric("a", &[], one.clone()),
                    metric("a", &[("k", "v")], histogram()),
                ],
                "a summary among counters",
            ),
            (
                &[metric("a_count", &[], one.clone()), metric("a", &[], histogram())],
                "a part of a summary that is taken",
            ),
            (
                &[
                    metric("a", &[("quantile", "1")], histogram()),
                    metric("a", &[], one.clone()),
                ],
                "a label of summaries",
            ),
        ];
        for (metrics, what) in cases {
            let (text, left_out) = written(metrics);
            assert_eq!(left_out, 1, "{what}: {text}");
            assert_eq!(text.matches("# TYPE").count(), 1, "{what}: {text}");
        }
        let (text, left_out) = written(&[
            metric("a", &[], one),
            metric("a", &[("k", "v")], MetricValue::Gauge(1)),
        ]);
        assert!(left_out == 0 && text.contains(" untyped\n"), "{text}");
    }

    #[test]
    fn names_of_labels_are_those_that_prometheus_takes() {
        let names = ["a.b", "a:b", "1a", "", "__name__", "_x", "ü"];
        assert_eq!(
            names.map(label_name),
            ["a_b", "a_b", "_1a", "_", "_name__", "_x", "_"]
        );
    }

    #[test]
    fn where_room_runs_out_the_whole_comes_before_its_parts() {
        let of = |level, name: &str| Metric {
            level,
            ..metric(name, &[], MetricValue::Counter(1))
        };
        let all = [
            of(Level::Operator, "o"),
            of(Level::JobManager, "j"),
            of(Level::Task, "t"),
        ];
        let limits = Limits {
            bytes: 60,
            ..Limits::default()
        };
        let (text, left_out) = exposition(&all, limits);
        assert!(text.contains("flink_jobmanager_j 1\n") && left_out >= 1, "{text}");
        assert!(!text.contains("operator"), "{text}");
    }
}
