//! One name for each metric, for reporters that know no labels: the scope as a format, the groups, the name.

use crate::metric::{Level, Metric};
use hurtig_core::config::{Configuration, options};

/// How the scope of each level is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScopeFormats {
    formats: [String; 6],
}

impl ScopeFormats {
    pub(crate) fn read(settings: &Configuration) -> Self {
        let formats = [
            &options::METRICS_SCOPE_JM,
            &options::METRICS_SCOPE_JM_JOB,
            &options::METRICS_SCOPE_TM,
            &options::METRICS_SCOPE_TM_JOB,
            &options::METRICS_SCOPE_TASK,
            &options::METRICS_SCOPE_OPERATOR,
        ];
        Self {
            formats: formats.map(|option| settings.get(option)),
        }
    }

    fn of(&self, level: Level) -> &str {
        let at = match level {
            Level::JobManager => 0,
            Level::JobManagerJob => 1,
            Level::TaskManager => 2,
            Level::TaskManagerJob => 3,
            Level::Task => 4,
            Level::Operator => 5,
        };
        &self.formats[at]
    }
}

/// How a reporter writes names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Naming {
    pub(crate) formats: ScopeFormats,
    pub(crate) delimiter: String,
    /// A character that names must not have, and what stands for it.
    pub(crate) instead: Option<(char, char)>,
}

impl Naming {
    /// `127_0_0_1.taskmanager.<tm_id>.clicks.count.0.numRecordsIn`. Within a part the delimiter becomes `_`, so that parts stay
    /// apart.
    pub(crate) fn name(&self, metric: &Metric) -> String {
        let scope = self
            .formats
            .of(metric.level)
            .split('.')
            .map(|part| fill(part, metric));
        let groups = metric.groups.iter();
        let groups = groups.flat_map(|(kind, value)| [Some(kind.clone()), value.clone()]);
        let parts = scope.chain(groups.flatten()).chain([metric.name.clone()]);
        let parts: Vec<String> = parts.map(|part| self.clean(&part)).collect();
        parts.join(&self.delimiter)
    }

    fn clean(&self, part: &str) -> String {
        let parted = match self.delimiter.as_str() {
            "" => part.to_owned(),
            delimiter => part.replace(delimiter, "_"),
        };
        let keep = |c: char| match self.instead {
            Some((bad, good)) if c == bad => good,
            // A name is one line, and one word.
            _ if c.is_control() => '_',
            _ => c,
        };
        parted.chars().map(keep).collect()
    }
}

/// Puts values into the places of variables. What is no variable of the metric stays as it is.
fn fill(part: &str, metric: &Metric) -> String {
    let (mut filled, mut rest) = (String::new(), part);
    while let Some((before, after)) = rest.split_once('<') {
        filled.push_str(before);
        let found = after.split_once('>').and_then(|(name, after)| {
            let mut variables = metric.variables.iter();
            let (_, value) = variables.find(|(of, _)| of == name)?;
            Some((value, after))
        });
        match found {
            Some((value, after)) => {
                filled.push_str(value);
                rest = after;
            }
            None => {
                filled.push('<');
                rest = after;
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::metrics::MetricValue;

    fn metric(level: Level, groups: &[(&str, Option<&str>)]) -> Metric {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let variables = [
            ("host", "127.0.0.1"),
            ("tm_id", "m"),
            ("job_name", "my: job"),
            ("task_name", "t"),
            ("operator_name", "o"),
            ("subtask_index", "3"),
        ];
        Metric {
            level,
            variables: variables.map(own).into(),
            groups: groups
                .iter()
                .map(|(kind, value)| ((*kind).to_owned(), value.map(ToOwned::to_owned)))
                .collect(),
            name: "numRecordsIn".to_owned(),
            value: MetricValue::Counter(1),
        }
    }

    fn naming(definitions: &[&str], delimiter: &str) -> Naming {
        let settings = Configuration::builder()
            .definitions(definitions.iter().copied())
            .build()
            .unwrap();
        Naming {
            formats: ScopeFormats::read(&settings),
            delimiter: delimiter.to_owned(),
            instead: Some((':', '-')),
        }
    }

    #[test]
    fn scopes_are_written_as_flink_writes_them() {
        let usual = naming(&[], ".");
        let cases = [
            (Level::JobManager, "127_0_0_1.jobmanager.numRecordsIn"),
            (Level::JobManagerJob, "127_0_0_1.jobmanager.my- job.numRecordsIn"),
            (Level::TaskManager, "127_0_0_1.taskmanager.m.numRecordsIn"),
            (
                Level::TaskManagerJob,
                "127_0_0_1.taskmanager.m.my- job.numRecordsIn",
            ),
            (Level::Task, "127_0_0_1.taskmanager.m.my- job.t.3.numRecordsIn"),
            (
                Level::Operator,
                "127_0_0_1.taskmanager.m.my- job.o.3.numRecordsIn",
            ),
        ];
        for (level, wanted) in cases {
            assert_eq!(usual.name(&metric(level, &[])), wanted);
        }
        let grouped = metric(Level::JobManager, &[("Status", None), ("k", Some("v.w"))]);
        assert_eq!(
            usual.name(&grouped),
            "127_0_0_1.jobmanager.Status.k.v_w.numRecordsIn"
        );
    }

    #[test]
    fn formats_may_name_any_variable_and_what_is_none_stays() {
        let own = naming(&["metrics.scope.task=<host>/<tm_id>-<tm_id>.<none>.<a"], "|");
        assert_eq!(
            own.name(&metric(Level::Task, &[])),
            "127.0.0.1/m-m|<none>|<a|numRecordsIn"
        );
    }
}
