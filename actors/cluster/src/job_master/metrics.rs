//! What a JobMaster publishes about its job, under Flink's names.

use super::events::Restarts;
use crate::details::TaskPlace;
use hurtig_core::ids::{SubtaskId, TaskManagerId};
use hurtig_core::metrics::{Gauge, MetricGroup, MetricPlace, MetricSample, MetricScope, MetricValue};
use hurtig_dataflow::graph::ExecutionGraph;
use std::collections::BTreeMap;

/// How often tasks of the job were started again, and how many of its sources read backlog.
pub(super) struct JobMetrics {
    all: Gauge,
    full: Gauge,
    in_backlog: Gauge,
}

impl JobMetrics {
    /// Registers the metrics of a job.
    pub(super) fn new(job: &MetricGroup) -> Self {
        Self {
            all: job.gauge("numRestarts"),
            full: job.gauge("fullRestarts"),
            in_backlog: job.gauge("numSourcesInBacklog"),
        }
    }

    pub(super) fn set_backlog(&self, sources: usize) {
        self.in_backlog.set(i64::try_from(sources).unwrap_or(i64::MAX));
    }

    pub(super) fn set_restarts(&self, restarts: Restarts) {
        self.all.set(restarts.all.into());
        self.full.set(restarts.full.into());
    }
}

/// Where the present attempts at a job's subtasks run.
#[derive(Clone, Debug, Default)]
pub(super) struct Presence {
    attempts: BTreeMap<SubtaskId, (u32, TaskManagerId)>,
    /// The TaskManagers of workers.
    at: BTreeMap<TaskManagerId, TaskManagerId>,
}

impl Presence {
    /// `places` are those of workers, as far as they are known.
    pub(super) fn of(graph: &ExecutionGraph, places: &BTreeMap<TaskManagerId, TaskPlace>) -> Self {
        let present = graph.executions().filter_map(|execution| {
            let (worker, _) = execution.location?;
            Some((execution.id.subtask, (execution.id.attempt.0, worker)))
        });
        let at = places.iter().map(|(worker, place)| (*worker, place.task_manager));
        Self {
            attempts: present.collect(),
            at: at.collect(),
        }
    }

    /// What a worker says of its process and of the attempts that are there now, with its TaskManager's id. What earlier
    /// attempts have measured is no longer true.
    pub(super) fn told(&self, worker: TaskManagerId, samples: Vec<MetricSample>) -> Vec<MetricSample> {
        let at = self.at.get(&worker).unwrap_or(&worker).to_string();
        let counts = |sample: &MetricSample| {
            let place = MetricPlace::of(&sample.scope);
            match place.task_id() {
                None => place.process().is_some(),
                Some(_) => self.is_present(&place, worker),
            }
        };
        let told = samples.into_iter().filter(counts);
        told.map(|sample| MetricSample {
            scope: sample.scope.at_task_manager(&at),
            ..sample
        })
        .collect()
    }

    fn is_present(&self, place: &MetricPlace<'_>, worker: TaskManagerId) -> bool {
        let subtask = || {
            Some(SubtaskId {
                vertex: place.task_id()?.parse().ok()?,
                index: place.subtask()?.parse().ok()?,
            })
        };
        let present = subtask().and_then(|subtask| self.attempts.get(&subtask));
        present.is_some_and(|(attempt, at)| {
            *at == worker && place.attempt().is_some_and(|text| text == attempt.to_string())
        })
    }
}

/// What the JobMaster's own process has measured of the job itself. In an embedded cluster its tasks are there too, and are
/// told of by their worker.
pub(super) fn of_the_job(own: Vec<MetricSample>) -> Vec<MetricSample> {
    let of_the_job = |sample: &MetricSample| MetricPlace::of(&sample.scope).task_id().is_none();
    own.into_iter().filter(of_the_job).collect()
}

/// How many workers did not say what they have measured.
pub(super) fn of_silence(job: &str, silent: usize) -> MetricSample {
    MetricSample {
        scope: MetricScope::root().child("job", job),
        name: "numSilentWorkers".to_owned(),
        value: MetricValue::Gauge(i64::try_from(silent).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::VertexId;

    fn sample(subtask: &str, attempt: &str) -> MetricSample {
        let task = MetricScope::root()
            .child("job", "clicks")
            .child("task", "count")
            .child("task_id", &VertexId::from_u128(7).to_string());
        MetricSample {
            scope: task.child("subtask", subtask).child("attempt", attempt),
            name: "numRecordsIn".to_owned(),
            value: MetricValue::Counter(1),
        }
    }

    fn presence() -> Presence {
        let subtask = |index| SubtaskId {
            vertex: VertexId::from_u128(7),
            index,
        };
        let [one, other] = [1, 2].map(TaskManagerId::from_u128);
        Presence {
            attempts: [(subtask(0), (1, one)), (subtask(1), (0, other))].into(),
            at: [(one, TaskManagerId::from_u128(11))].into(),
        }
    }

    #[test]
    fn only_present_attempts_count_and_only_where_they_are() {
        let told = |worker, samples: &[MetricSample]| {
            let told = presence().told(TaskManagerId::from_u128(worker), samples.to_vec());
            told.iter().map(|one| one.scope.to_string()).collect::<Vec<_>>()
        };
        let all = [
            sample("0", "0"),
            sample("0", "1"),
            sample("1", "0"),
            sample("2", "0"),
        ];
        let (vertex, eleven) = (VertexId::from_u128(7), TaskManagerId::from_u128(11));
        assert_eq!(
            told(1, &all),
            [format!("clicks.{eleven}.count.{vertex}.0.1")],
            "an earlier attempt, and one that runs elsewhere by now"
        );
        let two = TaskManagerId::from_u128(2);
        assert_eq!(told(2, &all), [format!("clicks.{two}.count.{vertex}.1.0")]);
        assert!(told(3, &all).is_empty());
    }

    #[test]
    fn the_job_and_processes_are_told_of_once() {
        let job = MetricScope::root().child("job", "clicks");
        let of = |scope: &MetricScope| MetricSample {
            scope: scope.clone(),
            ..sample("0", "1")
        };
        let process = of(&job.child("process", "worker"));
        let all = vec![of(&job), process.clone(), sample("0", "1")];
        assert_eq!(of_the_job(all.clone()), [of(&job), process]);
        let told = presence().told(TaskManagerId::from_u128(1), all);
        assert_eq!(told.len(), 2, "the process and the task: {told:?}");
    }
}
