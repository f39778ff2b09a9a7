//! The JobMaster's part in failures: what they hit, what is stopped, and what is started again.

use super::brain::JobMasterBrain;
use super::events::{Effects, EnumeratorStart, JobEffect, JobEvent};
use super::failures::EntryId;
use super::metadata;
use crate::result::JobFailure;
use hurtig_core::ids::{ExecutionId, NodeId, SubtaskId, TaskManagerId, VertexId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::{ExecutionGraph, JobStatus, NodeKind, RegionId, TaskState};
use hurtig_task::interface::TaskFailure;
use std::collections::BTreeSet;
use std::time::Duration;

/// What a failure has hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hit {
    /// A task.
    Task(SubtaskId),
    /// A task that does not reach a worker any more, and so whatever runs there.
    Worker(SubtaskId, TaskManagerId),
    /// The enumerator of a source, and so all of its readers.
    Source(NodeId),
    /// What ran on a TaskManager that is gone.
    Regions(BTreeSet<RegionId>),
    /// The whole job.
    Job,
}

/// A source of the job.
struct JobSource {
    node: NodeId,
    vertex: VertexId,
    parallelism: u32,
    /// What its enumerator begins with.
    state: Option<Vec<u8>>,
}

impl JobMasterBrain {
    // Failing.

    /// A failure with the first of its consequences. One that hits nothing but what is being stopped already is kept
    /// beside the failure that is the reason for that.
    pub(super) fn fail(&mut self, now: Time, failure: JobFailure, hit: Hit, out: &mut Effects) {
        let regions = self.regions_hit(hit);
        let ending = matches!(self.status(), JobStatus::Cancelling | JobStatus::Failing);
        let part_of = match ending {
            true => self.failures.last(),
            false => self.failover.part_of(&regions),
        };
        // What fails while it is being stopped to change the parallelism starts again anyway.
        let planned = self.failover.is_planned(&regions);
        if ending || planned || part_of.is_some() {
            self.note(failure, part_of);
            return self.settle(now, out);
        }
        tracing::warn!(job = %self.graph.job_graph().id, %failure, "failure");
        self.savepoints.because = Some(failure.to_string());
        // A job that never ran fails: what keeps it from starting will not go away.
        let never_ran = self.status() == JobStatus::Created && self.settings.is_first_life();
        let hopeful = !failure.cause.permanent && !never_ran;
        let same_attempt = self.strategy.is_same_attempt(now);
        let delay = self.strategy.on_failure(now).filter(|_| hopeful);
        let part_of = self.failures.last().filter(|_| same_attempt && delay.is_some());
        let cause = self.note(failure, part_of);
        match delay {
            Some(_) if regions.len() < self.graph.regions().len() => self.suspend_checkpoints(now, out),
            _ => self.stop_checkpoints(now, out),
        }
        self.savepoints.because = None;
        match delay {
            Some(delay) => self.stop_for_restart(now, regions, (cause, delay), out),
            None => {
                self.failover.give_up();
                self.set_status(JobStatus::Failing, now, out);
                self.stop_tasks(now, &self.all_regions(), out);
            }
        }
    }

    /// Keeps a failure beside the one that it is a part of, or as one of its own.
    fn note(&mut self, failure: JobFailure, part_of: Option<EntryId>) -> EntryId {
        match part_of {
            Some(entry) => {
                self.failures.add_concurrent(entry, failure);
                entry
            }
            None => self.failures.add_root(failure),
        }
    }

    fn stop_for_restart(
        &mut self,
        now: Time,
        regions: BTreeSet<RegionId>,
        (cause, delay): (EntryId, Duration),
        out: &mut Effects,
    ) {
        if self.status() == JobStatus::Created {
            // Under another JobMaster it ran, and its tasks are being scheduled.
            self.set_status(JobStatus::Running, now, out);
        }
        if self.status() != JobStatus::Restarting {
            self.set_status(JobStatus::Restarting, now, out);
        }
        self.rescaling.drop_plans();
        let (restart, regions) = self.failover.stop(regions, cause);
        out.push(JobEffect::After(delay, JobEvent::RestartDue { restart }));
        self.stop_tasks(now, &regions, out);
    }

    pub(super) fn all_regions(&self) -> BTreeSet<RegionId> {
        let count = u32::try_from(self.graph.regions().len()).unwrap_or(u32::MAX);
        (0..count).map(RegionId).collect()
    }

    /// The regions that cannot go on.
    fn regions_hit(&self, hit: Hit) -> BTreeSet<RegionId> {
        // A job whose input was ended for a savepoint, or that has stopped with one, goes on as a whole or not at all.
        let stopping = self.savepoints.is_stopping() && self.checkpoints.is_publishing();
        if self.savepoints.binds_all() || stopping {
            return self.all_regions();
        }
        match hit {
            Hit::Job => self.all_regions(),
            Hit::Task(subtask) => self.graph.region_of(subtask).into_iter().collect(),
            Hit::Worker(subtask, worker) => {
                let there = self.running_at(worker).into_iter().map(|(id, _)| id.subtask);
                let hit = there.chain([subtask]);
                hit.filter_map(|subtask| self.graph.region_of(subtask)).collect()
            }
            Hit::Regions(regions) => regions,
            Hit::Source(node) => {
                let vertex = self.graph.job_graph().vertex_of(node).map(|vertex| vertex.id);
                let readers = self.graph.executions().map(|execution| execution.id.subtask);
                let readers = readers.filter(|subtask| Some(subtask.vertex) == vertex);
                readers
                    .filter_map(|reader| self.graph.region_of(reader))
                    .collect()
            }
        }
    }

    pub(super) fn enumerator_failure(&self, now: Time, node: NodeId, cause: TaskFailure) -> JobFailure {
        let graph = self.graph.job_graph();
        let vertex = graph.vertex_of(node);
        let operator = vertex.and_then(|vertex| vertex.operators.iter().find(|one| one.node == node));
        let mut failure = JobFailure::of_job(cause.fault.into(), String::new(), self.after(now));
        failure.cause = cause;
        failure.operator = operator.map(|operator| operator.name.clone());
        failure.uid = operator.and_then(|operator| operator.uid.clone());
        failure.vertex = vertex.map(|vertex| vertex.name.clone());
        failure
    }

    // Stopping.

    /// Stops every task of these regions that is not over: at once where nobody runs it, else by its TaskManager.
    pub(super) fn stop_tasks(&mut self, now: Time, regions: &BTreeSet<RegionId>, out: &mut Effects) {
        let mut told = false;
        for execution in self.attempts_of(regions) {
            let Some(current) = self.current(execution) else {
                continue;
            };
            let (state, location) = (current.state(), current.location);
            match location.filter(|_| state.is_deployed()) {
                Some((to, _)) => {
                    told = true;
                    self.graph.set_state(execution, TaskState::Canceling, now);
                    out.push(JobEffect::CancelTask { to, execution });
                }
                None if state.can_become(TaskState::Canceled) && state != TaskState::Canceling => {
                    self.graph.set_state(execution, TaskState::Canceled, now);
                }
                None => {}
            }
        }
        if told {
            let timeout = self.settings.cancellation_timeout;
            out.push(JobEffect::After(timeout, JobEvent::CancellationDeadline));
        }
        self.settle(now, out);
    }

    /// The present attempts of these regions, by vertex and index within each.
    pub(super) fn attempts_of(&self, regions: &BTreeSet<RegionId>) -> Vec<ExecutionId> {
        let regions = regions.iter().filter_map(|region| self.graph.region(*region));
        let subtasks = regions.flat_map(|region| &region.subtasks);
        let current = subtasks.filter_map(|subtask| self.graph.subtask(*subtask));
        current.map(|subtask| subtask.current.id).collect()
    }

    /// Tasks do not stop. Nothing in this process can stop them.
    pub(super) fn give_up(&self, now: Time, out: &mut Effects) {
        let hanging = self.graph.executions().filter(|execution| {
            let since = execution.entered(TaskState::Canceling);
            let long = since.is_some_and(|since| now.since(since) >= self.settings.cancellation_timeout);
            execution.state() == TaskState::Canceling && long
        });
        let names: Vec<String> = hanging.map(|execution| self.task_name(execution.id)).collect();
        if names.is_empty() {
            return;
        }
        out.push(JobEffect::Fatal(format!(
            "{} did not stop within task.cancellation.timeout ({:?}): user code blocks or loops without end",
            names.join(", "),
            self.settings.cancellation_timeout
        )));
    }

    fn task_name(&self, execution: ExecutionId) -> String {
        let vertex = self.graph.job_graph().vertex(execution.subtask.vertex);
        let (name, of) = vertex.map_or(("", 0), |vertex| (vertex.name.as_str(), vertex.parallelism));
        format!("task '{name}' ({} of {of})", execution.subtask.index + 1)
    }

    // Starting again.

    /// Starts again what has stopped and whose delay is over.
    pub(super) fn restart_stopped(&mut self, now: Time, out: &mut Effects) {
        let over = |graph: &ExecutionGraph, region| graph.all_of(region, TaskState::is_terminal);
        while let Some((regions, planned)) = self.failover.stopped(|region| over(&self.graph, region)) {
            let all = regions.len() == self.graph.regions().len();
            // Everything is started with as many slots as there can be.
            if all && !self.slots_settled(out) {
                return;
            }
            let graph = &self.graph;
            let Some(regions) = self.failover.take_stopped(|region| over(graph, region)) else {
                return;
            };
            self.restart(now, &regions, planned, out);
        }
    }

    fn restart(&mut self, now: Time, regions: &BTreeSet<RegionId>, planned: bool, out: &mut Effects) {
        self.end_generations(regions, out);
        for execution in self.attempts_of(regions) {
            let report = self.reports.remove(&execution);
            self.observed.replaced(execution, report.as_ref());
        }
        let all = regions.len() == self.graph.regions().len();
        let rescaled = all && self.take_parallelism(now, out);
        if !rescaled {
            regions.iter().for_each(|region| self.graph.restart(*region, now));
        }
        self.observed.forget(&self.graph);
        if all {
            self.kinds = super::accumulators::AccumulatorKinds::default();
        }
        if !planned {
            self.restarts.all += 1;
            self.restarts.full += u32::from(all);
            out.push(JobEffect::Restarted(self.restarts));
        }
        match rescaled {
            true => self.prepare_all(now, out),
            false => self.prepare(now, regions, out),
        }
    }

    pub(super) fn end_generations(&self, regions: &BTreeSet<RegionId>, out: &mut Effects) {
        let regions = regions.iter().filter_map(|region| self.graph.region(*region));
        out.extend(regions.map(|region| JobEffect::EndGeneration {
            at: self.slots.task_managers(),
            generation: region.generation,
        }));
    }

    /// Lets these regions begin where the latest checkpoint stood: enumerators all of whose readers are among them
    /// are made anew, others are given back what they have dealt out since.
    pub(super) fn prepare(&mut self, now: Time, regions: &BTreeSet<RegionId>, out: &mut Effects) {
        if self.is_held(out) {
            return;
        }
        let mut starts = Vec::new();
        for source in self.sources() {
            let readers: Vec<SubtaskId> = (0..source.parallelism)
                .map(|index| SubtaskId {
                    vertex: source.vertex,
                    index,
                })
                .collect();
            let region_of = |reader: &SubtaskId| self.graph.region_of(*reader);
            let all: BTreeSet<RegionId> = readers.iter().filter_map(region_of).collect();
            if all.is_subset(regions) {
                starts.push(EnumeratorStart {
                    node: source.node,
                    generation: self.splits.make(source.node, all.len() > 1),
                    parallelism: source.parallelism,
                    state: source.state,
                });
                continue;
            }
            let again = readers
                .iter()
                .filter(|reader| region_of(reader).is_some_and(|region| regions.contains(&region)));
            let again: Vec<u32> = again.map(|reader| reader.index).collect();
            if !again.is_empty() {
                again
                    .iter()
                    .for_each(|reader| self.splits.reset(source.node, *reader));
                let turn = self.splits.next(source.node);
                self.take_turn(source.node, turn, out);
            }
        }
        if !starts.is_empty() {
            out.push(JobEffect::StartEnumerators(starts));
        }
        // A new enumerator has not said anything yet.
        self.look_at_backlog(now, out);
        self.proceed(now, out);
    }

    fn sources(&self) -> Vec<JobSource> {
        let latest = self.checkpoints.latest();
        let vertices = self.graph.job_graph().vertices.iter();
        let operators =
            vertices.flat_map(|vertex| vertex.operators.iter().map(move |operator| (operator, vertex)));
        let sources = operators.filter(|(operator, _)| operator.kind == NodeKind::Source);
        sources
            .map(|(operator, vertex)| JobSource {
                node: operator.node,
                vertex: vertex.id,
                parallelism: vertex.parallelism,
                state: latest.and_then(|found| metadata::enumerator_state(&found.metadata, operator)),
            })
            .collect()
    }

    /// Whether the enumerators of the sources in these regions are there.
    pub(super) fn have_enumerators(&self, regions: &BTreeSet<RegionId>) -> bool {
        let graph = self.graph.job_graph();
        regions
            .iter()
            .filter_map(|region| self.graph.region(*region))
            .all(|region| {
                let vertices: BTreeSet<VertexId> =
                    region.subtasks.iter().map(|subtask| subtask.vertex).collect();
                let operators = vertices.iter().filter_map(|vertex| graph.vertex(*vertex));
                let mut operators = operators.flat_map(|vertex| &vertex.operators);
                operators.all(|operator| self.splits.has_started(operator.node))
            })
    }
}
