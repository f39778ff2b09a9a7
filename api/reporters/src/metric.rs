//! A metric with the scope and the variables that Flink gives it.

use hurtig_core::metrics::{MetricPlace, MetricSample, MetricValue};

/// What the names of operators are cut to, as in Flink.
const MAX_OPERATOR_NAME: usize = 80;

/// What a metric is about: Flink's scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A jobmanager.
    JobManager,
    /// A job, as its JobMaster knows it.
    JobManagerJob,
    /// A TaskManager.
    TaskManager,
    /// A job's process at a TaskManager.
    TaskManagerJob,
    /// A subtask.
    Task,
    /// An operator of a subtask.
    Operator,
}

impl Level {
    /// Its parts, as they stand in names.
    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::JobManager => &["jobmanager"],
            Self::JobManagerJob => &["jobmanager", "job"],
            Self::TaskManager => &["taskmanager"],
            Self::TaskManagerJob => &["taskmanager", "job"],
            Self::Task => &["taskmanager", "job", "task"],
            Self::Operator => &["taskmanager", "job", "task", "operator"],
        }
    }
}

/// One metric of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// What it is about.
    pub level: Level,
    /// Which one: names and values of variables, those of the user's groups among them.
    pub variables: Vec<(String, String)>,
    /// Groups within the scope: the user's have values, the system's have none.
    pub groups: Vec<(String, Option<String>)>,
    /// Its name.
    pub name: String,
    /// What it was.
    pub value: MetricValue,
}

/// A job, as its metrics name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobNames<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
}

impl Metric {
    /// One of the system's. What stands before the last dot of its name are groups: `Status.JVM.CPU.Time`.
    pub(crate) fn of_the_system(
        level: Level,
        variables: &[(&str, &str)],
        (name, value): (String, MetricValue),
    ) -> Self {
        let (groups, name) = parted(&name);
        Self {
            level,
            variables: owned(variables),
            groups,
            name,
            value,
        }
    }

    /// One that a job has measured. `host_of` says where a TaskManager is, and `None` of what is not about this cluster.
    pub(crate) fn of_a_job(
        job: JobNames<'_>,
        sample: MetricSample,
        (own_host, host_of): (&str, &dyn Fn(&str) -> Option<String>),
    ) -> Option<Self> {
        let place = MetricPlace::of(&sample.scope);
        let host = match place.task_manager() {
            Some(id) => host_of(id)?,
            None => own_host.to_owned(),
        };
        let mut variables = vec![("host", host.as_str())];
        variables.extend(place.task_manager().map(|id| ("tm_id", id)));
        variables.extend([("job_id", job.id), ("job_name", job.name)]);
        let cut;
        let level = match (place.task_manager(), place.task_id(), place.operator()) {
            (None, _, _) => Level::JobManagerJob,
            (_, None, _) => Level::TaskManagerJob,
            (_, _, None) => Level::Task,
            (_, _, Some(name)) => {
                cut = name.chars().take(MAX_OPERATOR_NAME).collect::<String>();
                variables.push(("operator_name", &cut));
                variables.extend(place.operator_id().map(|id| ("operator_id", id)));
                Level::Operator
            }
        };
        variables.extend(place.task_id().map(|id| ("task_id", id)));
        variables.extend(place.task().map(|name| ("task_name", name)));
        variables.extend(place.attempt().map(|number| ("task_attempt_num", number)));
        variables.extend(place.subtask().map(|index| ("subtask_index", index)));
        // Programs measure in operators: all else is the engine's.
        if place.process().is_some() || level == Level::Task {
            let variables = variables.clone();
            return Some(Self::of_the_system(
                level,
                &variables,
                (sample.name.clone(), sample.value),
            ));
        }
        variables.extend(place.groups.iter().copied());
        let own = place.groups.iter();
        let own = own.map(|(kind, value)| ((*kind).to_owned(), Some((*value).to_owned())));
        Some(Self {
            level,
            variables: owned(&variables),
            groups: own.collect(),
            name: sample.name.clone(),
            value: sample.value,
        })
    }

    /// The scope as rules of filters name it: `taskmanager.job.task.operator.mygroup`.
    pub(crate) fn scope_for_filters(&self) -> String {
        self.scope_parts().collect::<Vec<_>>().join(".")
    }

    fn scope_parts(&self) -> impl Iterator<Item = &str> {
        let groups = self.groups.iter().map(|(kind, _)| kind.as_str());
        self.level.parts().iter().copied().chain(groups)
    }

    /// The scope without what tells one from another: `taskmanager_job_task_operator_mygroup`.
    pub fn logical_scope(&self) -> String {
        self.scope_parts().map(filtered).collect::<Vec<_>>().join("_")
    }
}

/// Groups of the system, and what follows the last of them.
fn parted(name: &str) -> (Vec<(String, Option<String>)>, String) {
    let mut parts: Vec<&str> = name.split('.').collect();
    let last = parts.pop().unwrap_or(name);
    let groups = parts.into_iter().map(|group| (group.to_owned(), None));
    (groups.collect(), last.to_owned())
}

fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(own).collect()
}

/// What Flink makes of names for Prometheus: characters that it does not know become `_`.
pub(crate) fn filtered(text: &str) -> String {
    let keep = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | ':' | '_' => c,
        _ => '_',
    };
    text.chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::metrics::MetricScope;

    fn sample(scope: MetricScope) -> MetricSample {
        MetricSample {
            scope,
            name: "late".to_owned(),
            value: MetricValue::Counter(1),
        }
    }

    fn of(scope: MetricScope) -> Option<Metric> {
        let job = JobNames {
            id: "7",
            name: "my job",
        };
        let host_of = |id: &str| (id == "m").then(|| "there".to_owned());
        Metric::of_a_job(job, sample(scope), ("here", &host_of))
    }

    fn variable<'a>(metric: &'a Metric, name: &str) -> Option<&'a str> {
        let mut variables = metric.variables.iter();
        variables
            .find(|(of, _)| of == name)
            .map(|(_, value)| value.as_str())
    }

    #[test]
    fn an_operator_has_flinks_scope_and_variables() {
        let long = "o".repeat(100);
        let scope = MetricScope::root()
            .child("job", "my job")
            .child("task", "Source: a")
            .child("task_id", "9")
            .child("subtask", "3")
            .child("attempt", "2")
            .child("operator", &long)
            .child("operator_id", "5")
            .child("my key", "my value")
            .at_task_manager("m");
        let metric = of(scope).unwrap();
        assert_eq!(metric.logical_scope(), "taskmanager_job_task_operator_my_key");
        let wanted = [
            ("host", "there"),
            ("tm_id", "m"),
            ("job_id", "7"),
            ("job_name", "my job"),
            ("task_id", "9"),
            ("task_name", "Source: a"),
            ("task_attempt_num", "2"),
            ("subtask_index", "3"),
            ("operator_id", "5"),
            ("my key", "my value"),
        ];
        for (name, value) in wanted {
            assert_eq!(variable(&metric, name), Some(value), "{name}");
        }
        assert_eq!(variable(&metric, "operator_name").unwrap().len(), 80);
        assert_eq!(metric.variables.len(), wanted.len() + 1);
    }

    #[test]
    fn jobs_tasks_and_processes_have_scopes_of_their_own() {
        let job = MetricScope::root().child("job", "my job");
        let metric = of(job.clone()).unwrap();
        assert_eq!(
            (metric.level, variable(&metric, "host")),
            (Level::JobManagerJob, Some("here"))
        );
        let task = job.child("task", "a").child("task_id", "9").child("subtask", "0");
        assert_eq!(of(task.at_task_manager("m")).unwrap().level, Level::Task);
        assert_eq!(of(task.at_task_manager("gone")), None);
        let worker = job.child("process", "worker").at_task_manager("m");
        let worker = MetricSample {
            name: "Status.JVM.CPU.Time".to_owned(),
            ..sample(worker)
        };
        let job = JobNames { id: "7", name: "j" };
        let metric = Metric::of_a_job(job, worker, ("here", &|_| Some("there".to_owned()))).unwrap();
        assert_eq!(metric.logical_scope(), "taskmanager_job_Status_JVM_CPU");
        assert_eq!(metric.name, "Time");
    }
}
