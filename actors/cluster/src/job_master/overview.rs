//! What clients see of a job's vertices and subtasks.

use super::brain::JobMasterBrain;
use super::metrics::Presence;
use crate::details::{AttemptDetail, SubtaskDetail, TaskPlace, TaskTotals, VertexDetail};
use crate::result::{JobFailure, VertexOverview};
use hurtig_core::ids::{ExecutionId, SubtaskId, TaskManagerId, VertexId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::{Execution, ExecutionGraph, ExecutionVertex, JobVertex, TaskState};
use hurtig_task::interface::TaskReport;
use std::collections::BTreeMap;

/// Subtasks of a job that has ended of which details are kept: a result is told in one message.
const KEPT_SUBTASKS: usize = 2_000;

/// What clients ask about tasks, beside what decisions need.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// Where the job's workers are, and were.
    places: BTreeMap<TaskManagerId, TaskPlace>,
    /// What attempts had done that were replaced.
    past: BTreeMap<ExecutionId, TaskTotals>,
}

impl Observed {
    /// A worker says where it is. Places where no attempt was that is remembered, and of no worker in `there`, are forgotten.
    pub(super) fn offered(
        &mut self,
        (worker, place): (TaskManagerId, TaskPlace),
        there: &[TaskManagerId],
        graph: &ExecutionGraph,
    ) {
        let used = |worker: &TaskManagerId| {
            let mut attempts = graph.subtasks().flat_map(attempts);
            there.contains(worker)
                || attempts.any(|attempt| attempt.location.is_some_and(|(at, _)| at == *worker))
        };
        if !self.places.contains_key(&worker) {
            self.places.retain(|known, _| used(known));
        }
        self.places.insert(worker, place);
    }

    /// An attempt is over, and another one takes its place.
    pub(super) fn replaced(&mut self, execution: ExecutionId, report: Option<&TaskReport>) {
        self.past.insert(execution, TaskTotals::of(report));
    }

    /// Where workers are, and were.
    pub(super) fn places(&self) -> &BTreeMap<TaskManagerId, TaskPlace> {
        &self.places
    }

    /// Tells a failure by the TaskManager of its worker.
    pub(super) fn locate(&self, failure: &mut JobFailure) {
        let worker = failure.task_manager;
        let place = worker.and_then(|worker| self.places.get(&worker));
        failure.task_manager = place.map(|place| place.task_manager).or(worker);
    }

    /// Forgets what the graph has forgotten.
    pub(super) fn forget(&mut self, graph: &ExecutionGraph) {
        self.past.retain(|execution, _| {
            let subtask = graph.subtask(execution.subtask);
            subtask.is_some_and(|subtask| subtask.previous.iter().any(|one| one.id == *execution))
        });
    }
}

fn attempts(subtask: &ExecutionVertex) -> impl Iterator<Item = &Execution> {
    subtask.previous.iter().chain([&subtask.current])
}

/// The time of day of what happened before.
struct Clock {
    now: Time,
    wall_ms: i64,
}

impl Clock {
    fn at(&self, time: Time) -> i64 {
        let ago = i64::try_from(self.now.since(time).as_millis()).unwrap_or(i64::MAX);
        self.wall_ms.saturating_sub(ago)
    }
}

impl JobMasterBrain {
    /// Where the present attempts run.
    pub(super) fn presence(&self) -> Presence {
        Presence::of(&self.graph, self.observed.places())
    }

    /// The vertices with the states of their subtasks. `wall_ms` is the time of day.
    pub fn vertices(&self, now: Time, wall_ms: i64) -> Vec<VertexOverview> {
        let mut seen: BTreeMap<VertexId, Seen> = BTreeMap::new();
        for execution in self.graph.executions() {
            let totals = TaskTotals::of(self.reports.get(&execution.id));
            seen.entry(execution.id.subtask.vertex)
                .or_default()
                .add(execution, &totals);
        }
        let clock = Clock { now, wall_ms };
        let vertices = self.graph.job_graph().vertices.iter();
        vertices
            .map(|vertex| seen.remove(&vertex.id).unwrap_or_default().of(vertex, &clock))
            .collect()
    }

    /// The subtasks of a vertex; `None`: the job has no such vertex.
    pub fn vertex(&self, id: VertexId, now: Time, wall_ms: i64) -> Option<VertexDetail> {
        let vertex = self.graph.job_graph().vertex(id)?;
        let clock = Clock { now, wall_ms };
        let subtasks = (0..vertex.parallelism).filter_map(|index| {
            let subtask = self.graph.subtask(SubtaskId { vertex: id, index })?;
            Some(self.subtask(index, subtask, &clock))
        });
        Some(VertexDetail {
            id,
            subtasks: subtasks.collect(),
        })
    }

    /// The subtasks of all vertices, as far as a result has room for them.
    pub fn details(&self, now: Time, wall_ms: i64) -> Vec<VertexDetail> {
        let mut room = KEPT_SUBTASKS;
        let vertices = self.graph.job_graph().vertices.iter().take_while(|vertex| {
            let needed = vertex.parallelism as usize;
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            fits
        });
        vertices
            .filter_map(|vertex| self.vertex(vertex.id, now, wall_ms))
            .collect()
    }

    fn subtask(&self, index: u32, subtask: &ExecutionVertex, clock: &Clock) -> SubtaskDetail {
        let previous = subtask.previous.iter().map(|attempt| {
            let totals = self.observed.past.get(&attempt.id);
            self.attempt(attempt, totals.copied().unwrap_or(TaskTotals::of(None)), clock)
        });
        let report = self.reports.get(&subtask.current.id);
        let mut current = self.attempt(&subtask.current, TaskTotals::of(report), clock);
        current.accumulators = report
            .map(|report| report.accumulators.clone())
            .unwrap_or_default();
        SubtaskDetail {
            index,
            previous: previous.collect(),
            current,
        }
    }

    fn attempt(&self, execution: &Execution, totals: TaskTotals, clock: &Clock) -> AttemptDetail {
        let entered = TaskState::ALL
            .iter()
            .filter_map(|state| Some((*state, clock.at(execution.entered(*state)?))));
        let place = execution.location.map(|(worker, _)| {
            let unknown = TaskPlace {
                task_manager: worker,
                exchange: None,
            };
            self.observed.places.get(&worker).cloned().unwrap_or(unknown)
        });
        AttemptDetail {
            attempt: execution.id.attempt.0,
            state: execution.state(),
            entered: entered.collect(),
            place,
            slot: execution.location.map(|(_, slot)| slot),
            totals,
            accumulators: BTreeMap::new(),
        }
    }
}

/// What the subtasks of a vertex have come to.
struct Seen {
    tasks: BTreeMap<TaskState, u32>,
    began: Option<Time>,
    ended: Option<Time>,
    totals: TaskTotals,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            tasks: BTreeMap::new(),
            began: None,
            ended: None,
            totals: TaskTotals::NONE,
        }
    }
}

impl Seen {
    fn add(&mut self, execution: &Execution, totals: &TaskTotals) {
        *self.tasks.entry(execution.state()).or_default() += 1;
        let began = execution.entered(TaskState::Deploying);
        self.began = [self.began, began].into_iter().flatten().min();
        let ended = Some(execution.state()).filter(|state| state.is_terminal());
        self.ended = self.ended.max(ended.and_then(|state| execution.entered(state)));
        self.totals = self.totals.plus(totals);
    }

    fn of(self, vertex: &JobVertex, clock: &Clock) -> VertexOverview {
        let over = self.tasks.keys().all(|state| state.is_terminal());
        VertexOverview {
            id: vertex.id,
            name: vertex.name.clone(),
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            slot_sharing_group: vertex.slot_sharing_group.clone(),
            tasks: self.tasks,
            start_ms: self.began.map(|time| clock.at(time)),
            end_ms: self.ended.filter(|_| over).map(|time| clock.at(time)),
            totals: self.totals,
        }
    }
}
