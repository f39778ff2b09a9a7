//! Metrics as lines of a name and a number, for reporters that know nothing else.

use crate::metric::Metric;
use crate::names::Naming;
use hurtig_core::metrics::{HistogramSnapshot, MetricValue};

/// A number by its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) value: Value,
}

/// A number, as exactly as it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Count(u64),
    Whole(i64),
    Fraction(f64),
}

impl Value {
    /// `None`: it is no number.
    pub(crate) fn text(self) -> Option<String> {
        match self {
            Self::Count(count) => Some(count.to_string()),
            Self::Whole(value) => Some(value.to_string()),
            Self::Fraction(value) => value.is_finite().then(|| format!("{value:?}")),
        }
    }

    pub(crate) fn is_negative(self) -> bool {
        match self {
            Self::Count(_) => false,
            Self::Whole(value) => value < 0,
            Self::Fraction(value) => value < 0.0,
        }
    }
}

/// The lines of a metric: meters and histograms have several, as in Flink.
pub(crate) fn lines(metric: &Metric, naming: &Naming) -> Vec<Line> {
    let name = naming.name(metric);
    let part = |part: &str, value| Line {
        name: format!("{name}{}{part}", naming.delimiter),
        value,
    };
    match &metric.value {
        MetricValue::Counter(count) => vec![Line {
            name,
            value: Value::Count(*count),
        }],
        MetricValue::Gauge(value) => vec![Line {
            name,
            value: Value::Whole(*value),
        }],
        MetricValue::Computed(value) => vec![Line {
            name,
            value: Value::Fraction(*value),
        }],
        MetricValue::Meter { count, per_second } => vec![
            part("rate", Value::Fraction(*per_second)),
            part("count", Value::Count(*count)),
        ],
        MetricValue::Histogram(histogram) => of_histogram(histogram)
            .into_iter()
            .map(|(name, value)| part(name, value))
            .collect(),
    }
}

/// Of a histogram without numbers: that there are none.
fn of_histogram(histogram: &HistogramSnapshot) -> Vec<(&'static str, Value)> {
    let count = ("count", Value::Count(histogram.count()));
    if histogram.count() == 0 {
        return vec![count];
    }
    let shares = [
        ("p50", 0.5),
        ("p75", 0.75),
        ("p95", 0.95),
        ("p98", 0.98),
        ("p99", 0.99),
        ("p999", 0.999),
    ];
    let shares = shares.map(|(name, share)| (name, Value::Count(histogram.quantile(share))));
    let own = [
        count,
        ("max", Value::Count(histogram.max())),
        ("min", Value::Count(histogram.min())),
        ("mean", Value::Fraction(histogram.mean())),
    ];
    own.into_iter().chain(shares).collect()
}
