//! Which metrics a reporter tells: `scope:name:type`, as in Flink.

use crate::metric::Metric;
use hurtig_core::metrics::MetricValue;

/// What kinds of metrics there are, by Flink's names.
const TYPES: [&str; 4] = ["counter", "gauge", "meter", "histogram"];

/// Which metrics a reporter tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    includes: Vec<Rule>,
    excludes: Vec<Rule>,
}

/// Metrics by scope, name and type; of each, any of several patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    scopes: Vec<String>,
    names: Vec<String>,
    types: Vec<String>,
}

impl Filter {
    /// Reads both lists. Without includes there are all.
    ///
    /// # Errors
    /// Which rule is none, and why.
    pub(crate) fn parse(includes: &[String], excludes: &[String]) -> Result<Self, String> {
        let rules = |list: &[String]| {
            list.iter()
                .map(|text| Rule::parse(text))
                .collect::<Result<_, _>>()
        };
        Ok(Self {
            includes: rules(includes)?,
            excludes: rules(excludes)?,
        })
    }

    pub(crate) fn lets(&self, metric: &Metric) -> bool {
        let scope = metric.scope_for_filters();
        let matches = |rule: &Rule| rule.matches(&scope, metric);
        !self.excludes.iter().any(matches) && (self.includes.is_empty() || self.includes.iter().any(matches))
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let mut patterns = || {
            let part = parts.next().unwrap_or("*");
            part.split(',')
                .map(|one| one.trim().to_owned())
                .collect::<Vec<_>>()
        };
        let (scopes, names, types) = (patterns(), patterns(), patterns());
        let known = |name: &String| name == "*" || TYPES.contains(&name.to_lowercase().as_str());
        match types.iter().find(|name| !known(name)) {
            Some(strange) => Err(format!(
                "'{strange}' in '{text}' is no type of metrics: {} and * are",
                TYPES.join(", ")
            )),
            None => Ok(Self {
                scopes,
                names,
                types: types.iter().map(|name| name.to_lowercase()).collect(),
            }),
        }
    }

    fn matches(&self, scope: &str, metric: &Metric) -> bool {
        let any = |patterns: &[String], text: &str| patterns.iter().any(|pattern| fits(pattern, text));
        any(&self.scopes, scope) && any(&self.names, &metric.name) && any(&self.types, type_of(&metric.value))
    }
}

fn type_of(value: &MetricValue) -> &'static str {
    match value {
        MetricValue::Counter(_) => TYPES[0],
        MetricValue::Gauge(_) | MetricValue::Computed(_) => TYPES[1],
        MetricValue::Meter { .. } => TYPES[2],
        MetricValue::Histogram(_) => TYPES[3],
    }
}

/// Whether a text fits a pattern, in which `*` is anything. *Cost*: a pass over the text for each `*`.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        match text.split_once(part) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Level;

    #[test]
    fn a_star_is_anything() {
        let cases = [
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*e*c", "abcde", false),
            ("a*ab", "ab", false),
            ("a.b", "axb", false),
        ];
        for (pattern, text, wanted) in cases {
            assert_eq!(fits(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_excluded_is_not_told_whatever_else_is_included() {
        let metric = |name: &str, value| Metric {
            level: Level::Task,
            variables: Vec::new(),
            groups: Vec::new(),
            name: name.to_owned(),
            value,
        };
        let filter = |includes: &[&str], excludes: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
            Filter::parse(&own(includes), &own(excludes))
        };
        let (records, busy) = (
            metric("numRecordsIn", MetricValue::Counter(1)),
            metric("busy", MetricValue::Gauge(1)),
        );
        let cases: [(&[&str], &[&str], [bool; 2]); 7] = [
            (&[], &[], [true, true]),
            (&["*:*:*"], &[], [true, true]),
            (&["*:numRecords*"], &[], [true, false]),
            (&["taskmanager.job.task:*:gauge,Meter"], &[], [false, true]),
            (&["jobmanager*"], &[], [false, false]),
            (&["*"], &["*:x,busy"], [true, false]),
            (&[], &["*:*:counter"], [false, true]),
        ];
        for (includes, excludes, wanted) in cases {
            let filter = filter(includes, excludes).unwrap();
            let told = [filter.lets(&records), filter.lets(&busy)];
            assert_eq!(told, wanted, "{includes:?} {excludes:?}");
        }
        let error = filter(&["*:*:count"], &[]).unwrap_err();
        assert!(
            error.contains("'count'") && error.contains("histogram"),
            "{error}"
        );
    }
}
