//! Who is told what a cluster measures, and how its metrics are named.

use std::collections::BTreeMap;

use crate::config::{AnyOption, ConfigOption, Scope};

/// Which reporters run.
pub static METRICS_REPORTERS: ConfigOption<Option<String>> = ConfigOption::new(
    "metrics.reporters",
    Scope::Cluster,
    || None,
    "Names of the reporters that run, with commas between them. When it is not set: all that `metrics.reporter` configures.",
)
.flink("(none)");

/// What each reporter is told.
pub static METRICS_REPORTER: ConfigOption<BTreeMap<String, String>> = ConfigOption::new(
    "metrics.reporter",
    Scope::Cluster,
    BTreeMap::new,
    "Reporters and their parameters: `metrics.reporter.<name>.<parameter>`. `factory.class` says what a reporter is (`slf4j`, `statsd`, \
     `prometheus`, or Flink's name of its factory), `interval` how often it tells (`10 s`), `filter.includes` and `filter.excludes` what, \
     `scope.delimiter` what stands between the parts of names. Prometheus needs none: it asks at `/metrics` of `rest.port`.",
);

/// What stands between the parts of names.
pub static METRICS_SCOPE_DELIMITER: ConfigOption<String> = ConfigOption::new(
    "metrics.scope.delimiter",
    Scope::Cluster,
    || ".".to_owned(),
    "What stands between the parts of a metric's name, for reporters that know no labels.",
)
.flink(".");

macro_rules! scope_format {
    ($name:ident, $key:literal, $default:literal, $of:literal) => {
        #[doc = concat!("How the scope of ", $of, " is written.")]
        pub static $name: ConfigOption<String> = ConfigOption::new(
            $key,
            Scope::Cluster,
            || $default.to_owned(),
            concat!(
                "What the names of metrics of ",
                $of,
                " begin with, for reporters that know no labels. Variables stand in angle brackets."
            ),
        )
        .flink($default);
    };
}

scope_format!(
    METRICS_SCOPE_JM,
    "metrics.scope.jm",
    "<host>.jobmanager",
    "the jobmanager"
);
scope_format!(
    METRICS_SCOPE_JM_JOB,
    "metrics.scope.jm-job",
    "<host>.jobmanager.<job_name>",
    "a job"
);
scope_format!(
    METRICS_SCOPE_TM,
    "metrics.scope.tm",
    "<host>.taskmanager.<tm_id>",
    "a TaskManager"
);
scope_format!(
    METRICS_SCOPE_TM_JOB,
    "metrics.scope.tm-job",
    "<host>.taskmanager.<tm_id>.<job_name>",
    "a job at a TaskManager"
);
scope_format!(
    METRICS_SCOPE_TASK,
    "metrics.scope.task",
    "<host>.taskmanager.<tm_id>.<job_name>.<task_name>.<subtask_index>",
    "a subtask"
);
scope_format!(
    METRICS_SCOPE_OPERATOR,
    "metrics.scope.operator",
    "<host>.taskmanager.<tm_id>.<job_name>.<operator_name>.<subtask_index>",
    "an operator"
);

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &METRICS_REPORTERS,
    &METRICS_REPORTER,
    &METRICS_SCOPE_DELIMITER,
    &METRICS_SCOPE_JM,
    &METRICS_SCOPE_JM_JOB,
    &METRICS_SCOPE_TM,
    &METRICS_SCOPE_TM_JOB,
    &METRICS_SCOPE_TASK,
    &METRICS_SCOPE_OPERATOR,
];
