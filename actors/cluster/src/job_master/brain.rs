//! The JobMaster's brain: one job's life, decided from events.

use super::accumulators::AccumulatorKinds;
use super::checkpointing::JobCheckpoints;
use super::descriptors::describe;
use super::events::{Effects, JobEffect, JobEvent, JobSettings, StorageWork};
use super::failures::{FailureHistory, locate};
use super::metadata;
use super::restart::RestartStrategy;
use super::savepoints::JobSavepoints;
use super::slots::SlotPool;
use super::splits::{Asked, SplitCoordinators};
use super::statistics::CheckpointStatistics;
use crate::messages::JobMasterMessage;
use crate::result::{JobFailure, JobResult};
use hurtig_core::Fault;
use hurtig_core::accumulators::{AccumulatorValues, merge_accumulators};
use hurtig_core::ids::{AllocationId, ExecutionId, NodeId, TaskManagerId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::{ExecutionGraph, JobGraph, JobStatus, NodeKind, StateChange, TaskState};
use hurtig_dataflow::source::{Assignment, Split};
use hurtig_task::interface::{TaskFailure, TaskReport};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One job's JobMaster.
#[derive(Clone, Debug)]
pub struct JobMasterBrain {
    pub(super) settings: JobSettings,
    pub(super) graph: ExecutionGraph,
    slots: SlotPool,
    pub(super) splits: SplitCoordinators,
    pub(super) checkpoints: JobCheckpoints,
    pub(super) savepoints: JobSavepoints,
    strategy: RestartStrategy,
    failures: FailureHistory,
    reports: BTreeMap<ExecutionId, TaskReport>,
    kinds: AccumulatorKinds,
    submitted: Time,
    restarts: u32,
    /// Slots and enumerators of this generation are being waited for.
    preparing: bool,
    /// The delay before the restart is over.
    restart_due: bool,
}

impl JobMasterBrain {
    /// The JobMaster of a job that was submitted now.
    pub fn new(graph: Arc<JobGraph>, settings: JobSettings, now: Time) -> Self {
        let seed = u64::try_from(graph.id.0.as_u128() & u128::from(u64::MAX)).unwrap_or(0);
        Self {
            graph: ExecutionGraph::new(graph, now),
            slots: SlotPool::default(),
            splits: SplitCoordinators::default(),
            checkpoints: JobCheckpoints::new(settings.checkpoints.clone()),
            savepoints: JobSavepoints::default(),
            strategy: RestartStrategy::new(settings.restart.clone(), seed),
            failures: FailureHistory::new(settings.exception_history),
            reports: BTreeMap::new(),
            kinds: AccumulatorKinds::default(),
            submitted: now,
            restarts: 0,
            preparing: false,
            restart_due: false,
            settings,
        }
    }

    /// The job's state.
    pub fn status(&self) -> JobStatus {
        self.graph.status()
    }

    /// The tasks and their states.
    pub fn graph(&self) -> &ExecutionGraph {
        &self.graph
    }

    /// The accumulators of the present attempts, as last reported.
    pub fn accumulators(&self) -> AccumulatorValues {
        let mut merged = AccumulatorValues::new();
        for report in self.reports.values() {
            merge_accumulators(&mut merged, &report.accumulators);
        }
        merged
    }

    /// What became of checkpoints and savepoints so far.
    pub fn checkpoint_statistics(&self) -> &CheckpointStatistics {
        &self.checkpoints.statistics.so_far
    }

    /// Decides what an event leads to. Events after the end lead to nothing but refusals.
    pub fn handle(&mut self, now: Time, event: JobEvent, out: &mut Effects) {
        if let JobEvent::SavepointRequested(id, order) = event {
            return self.on_savepoint_requested(now, id, order, out);
        }
        if self.status().is_terminal() {
            return;
        }
        match event {
            JobEvent::Start => self.start(now, out),
            JobEvent::Message(message) => self.on_message(now, message, out),
            JobEvent::RestartDue { generation } if self.is_present(generation) => {
                self.restart_due = true;
                self.settle(now, out);
            }
            JobEvent::CancellationDeadline { generation } if self.is_present(generation) => self.give_up(out),
            JobEvent::SlotDeadline => self.on_slot_deadline(now, out),
            JobEvent::CheckpointTimer(timer) => self.on_checkpoint_timer(now, timer, out),
            JobEvent::CheckpointPublished(checkpoint, result) => {
                self.on_published(now, checkpoint, result, out);
            }
            JobEvent::CheckpointLoaded(loaded) => {
                self.on_checkpoint_loaded(now, loaded.map(|found| found.map(|found| *found)), out);
            }
            coordination => self.on_coordination(now, coordination, out),
        }
    }

    fn on_message(&mut self, now: Time, message: JobMasterMessage, out: &mut Effects) {
        match message {
            JobMasterMessage::SlotsOffered {
                task_manager,
                allocations,
            } => {
                self.on_slots(now, task_manager, &allocations, out);
            }
            JobMasterMessage::TaskStateChanged {
                execution,
                state,
                failure,
            } => {
                self.on_task_state(now, execution, (state, failure), out);
            }
            JobMasterMessage::TaskReported { execution, report } => {
                self.on_report(now, execution, report, out);
            }
            JobMasterMessage::SplitRequested { execution, node } => {
                self.on_split_request(execution, node, out);
            }
            JobMasterMessage::CheckpointRequested { execution } => self.on_requested(now, execution, out),
            JobMasterMessage::SavepointPrepared {
                execution,
                checkpoint,
            } => self.on_savepoint_prepared(execution, checkpoint, out),
            JobMasterMessage::CheckpointAcknowledged {
                execution,
                checkpoint,
                part,
            } => self.on_acknowledged(now, (execution, checkpoint), part, out),
            JobMasterMessage::CheckpointDeclined {
                execution,
                checkpoint,
                reason,
            } => self.on_declined(now, (execution, checkpoint), reason, out),
            JobMasterMessage::Cancel => self.cancel(now, out),
        }
    }

    /// Events of the enumerators of the present generation.
    fn on_coordination(&mut self, now: Time, event: JobEvent, out: &mut Effects) {
        match event {
            JobEvent::EnumeratorStarted {
                generation,
                node,
                enumerates,
            } if self.is_present(generation) => {
                self.splits.started(node, enumerates);
                self.proceed(now, out);
            }
            JobEvent::EnumeratorFailed {
                generation,
                node,
                failure,
            } if self.is_present(generation) => {
                let failure = self.enumerator_failure(now, node, failure);
                self.fail(now, failure, out);
            }
            JobEvent::SplitAssigned {
                generation,
                node,
                reader,
                assignment,
            } if self.is_present(generation) => {
                self.on_assignment(node, reader, assignment, out);
            }
            JobEvent::AskAgain {
                generation,
                node,
                reader,
            } if self.is_present(generation) => {
                let next = self.splits.again(node, reader);
                self.take_turn(node, next, out);
            }
            JobEvent::EnumeratorSnapshot {
                generation,
                node,
                checkpoint,
                snapshot,
            } if self.is_present(generation) => {
                self.on_enumerator_snapshot((node, checkpoint), snapshot, out);
            }
            late => tracing::debug!(?late, "event of an earlier generation ignored"),
        }
    }

    fn is_present(&self, generation: u32) -> bool {
        generation == self.graph.generation()
    }

    fn set_status(&mut self, to: JobStatus, now: Time, out: &mut Effects) {
        if self.graph.set_status(to, now) {
            out.push(JobEffect::StatusChanged(to));
        }
    }

    pub(super) fn after(&self, now: Time) -> Duration {
        now.since(self.submitted)
    }

    // Starting.

    fn start(&mut self, now: Time, out: &mut Effects) {
        if self.status() != JobStatus::Initializing {
            return;
        }
        self.set_status(JobStatus::Created, now, out);
        out.push(JobEffect::RequireSlots(self.graph.job_graph().slots_required()));
        out.push(JobEffect::After(
            self.settings.slot_request_timeout,
            JobEvent::SlotDeadline,
        ));
        match self.settings.restore.clone() {
            Some(from) => out.push(JobEffect::Store(StorageWork::Load(from))),
            None => self.prepare(now, out),
        }
    }

    /// Begins a generation: its enumerators are made anew, and begin where the latest checkpoint stood.
    pub(super) fn prepare(&mut self, now: Time, out: &mut Effects) {
        self.preparing = true;
        let sources = self.sources();
        self.splits = SplitCoordinators::starting(sources.iter().map(|source| source.0));
        if !sources.is_empty() {
            out.push(JobEffect::StartEnumerators {
                generation: self.graph.generation(),
                sources,
            });
        }
        self.proceed(now, out);
    }

    fn sources(&self) -> Vec<(NodeId, u32, Option<Vec<u8>>)> {
        let latest = self.checkpoints.latest();
        let vertices = self.graph.job_graph().vertices.iter();
        let operators = vertices.flat_map(|vertex| {
            vertex
                .operators
                .iter()
                .map(move |operator| (operator, vertex.parallelism))
        });
        let sources = operators.filter(|(operator, _)| operator.kind == NodeKind::Source);
        sources
            .map(|(operator, parallelism)| {
                let state = latest.and_then(|found| metadata::enumerator_state(&found.metadata, operator));
                (operator.node, parallelism, state)
            })
            .collect()
    }

    fn on_slots(&mut self, now: Time, from: TaskManagerId, allocations: &[AllocationId], out: &mut Effects) {
        self.slots.offer(from, allocations);
        self.proceed(now, out);
    }

    /// Deploys as soon as every slot and every enumerator is there.
    fn proceed(&mut self, now: Time, out: &mut Effects) {
        if !self.preparing || !self.splits.all_started() {
            return;
        }
        let Some(slots) = self.slots.assign(self.graph.job_graph()) else {
            return;
        };
        self.preparing = false;
        self.set_status(JobStatus::Running, now, out);
        let graph = self.graph.job_graph().clone();
        for vertex in &graph.vertices {
            for execution in self.attempts(|id| id.subtask.vertex == vertex.id) {
                let slot = slots[&execution.subtask];
                self.graph.set_state(execution, TaskState::Scheduled, now);
                self.graph.set_state(execution, TaskState::Deploying, now);
                self.graph.set_location(execution, slot);
                let descriptor = Box::new(describe(
                    &self.graph,
                    vertex,
                    execution,
                    slot,
                    self.checkpoints.latest(),
                ));
                out.push(JobEffect::Deploy {
                    to: slot.0,
                    descriptor,
                });
            }
        }
    }

    fn attempts(&self, wanted: impl Fn(ExecutionId) -> bool) -> Vec<ExecutionId> {
        self.graph
            .executions()
            .map(|execution| execution.id)
            .filter(|id| wanted(*id))
            .collect()
    }

    fn on_slot_deadline(&mut self, now: Time, out: &mut Effects) {
        let (needed, present) = (self.graph.job_graph().slots_required() as usize, self.slots.len());
        if present >= needed {
            return;
        }
        let timeout = self.settings.slot_request_timeout;
        let message = format!(
            "the job needs {needed} slots and has {present} after {timeout:?}: lower its parallelism, or raise \
             taskmanager.numberOfTaskSlots"
        );
        let failure = JobFailure::of_job(Fault::User, message, self.after(now));
        self.fail(now, failure, out);
    }

    // Tasks.

    pub(super) fn current(&self, execution: ExecutionId) -> Option<&hurtig_dataflow::graph::Execution> {
        let subtask = self.graph.subtask(execution.subtask)?;
        Some(&subtask.current).filter(|current| current.id == execution)
    }

    fn on_task_state(
        &mut self,
        now: Time,
        execution: ExecutionId,
        (state, failure): (TaskState, Option<TaskFailure>),
        out: &mut Effects,
    ) {
        let change = self.graph.report(execution, state, now);
        tracing::debug!(%execution, %state, ?change, "task reported");
        let StateChange::Applied { to, .. } = change else {
            return;
        };
        match to {
            TaskState::Failed => {
                let cause = failure.unwrap_or_else(|| unexplained(execution));
                let failure = locate(self.graph.job_graph(), execution, cause, self.after(now));
                self.fail(now, failure, out);
            }
            TaskState::Running => self.start_checkpoints(now, out),
            TaskState::Finished => {
                self.on_task_finished(now, execution, out);
                self.settle(now, out);
            }
            TaskState::Canceled => self.settle(now, out),
            _ => {}
        }
    }

    fn on_report(&mut self, now: Time, execution: ExecutionId, report: TaskReport, out: &mut Effects) {
        if self.current(execution).is_none() {
            return;
        }
        let mistake = self.kinds.check(&report.accumulators);
        self.reports.insert(execution, report);
        if let Some(mistake) = mistake.filter(|_| self.status() == JobStatus::Running) {
            let cause = TaskFailure::new(&mistake, None);
            let failure = locate(self.graph.job_graph(), execution, cause, self.after(now));
            self.fail(now, failure, out);
        }
    }

    // Failures.

    /// The first failure decides; what comes while it is dealt with is kept beside it.
    pub(super) fn fail(&mut self, now: Time, failure: JobFailure, out: &mut Effects) {
        let is_new = match self.status() {
            JobStatus::Restarting => self.preparing,
            JobStatus::Cancelling | JobStatus::Failing => false,
            _ => true,
        };
        if !is_new {
            self.failures.add_concurrent(failure);
            return self.settle(now, out);
        }
        tracing::warn!(job = %self.graph.job_graph().id, %failure, "failure");
        let permanent = failure.cause.permanent;
        self.savepoints.because = Some(failure.to_string());
        self.failures.add_root(failure);
        self.stop_checkpoints(now, out);
        self.savepoints.because = None;
        self.decide(now, permanent, out);
        self.stop_tasks(now, out);
    }

    /// Restart or fail. A job that never ran fails: what keeps it from starting will not go away.
    fn decide(&mut self, now: Time, permanent: bool, out: &mut Effects) {
        let hopeful = !permanent && self.status() != JobStatus::Created;
        match self.strategy.on_failure(now).filter(|_| hopeful) {
            None => self.set_status(JobStatus::Failing, now, out),
            Some(delay) => {
                if self.status() != JobStatus::Restarting {
                    self.set_status(JobStatus::Restarting, now, out);
                }
                self.restart_due = false;
                let generation = self.graph.generation();
                out.push(JobEffect::After(delay, JobEvent::RestartDue { generation }));
            }
        }
    }

    fn enumerator_failure(&self, now: Time, node: NodeId, cause: TaskFailure) -> JobFailure {
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

    // Ending.

    fn cancel(&mut self, now: Time, out: &mut Effects) {
        if !self.status().can_become(JobStatus::Cancelling) {
            return;
        }
        self.stop_checkpoints(now, out);
        self.set_status(JobStatus::Cancelling, now, out);
        self.stop_tasks(now, out);
    }

    /// Stops every task that is not over: at once where nobody runs it, else by its TaskManager.
    fn stop_tasks(&mut self, now: Time, out: &mut Effects) {
        self.preparing = false;
        let mut told = false;
        for execution in self.attempts(|_| true) {
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
            let deadline = JobEvent::CancellationDeadline {
                generation: self.graph.generation(),
            };
            out.push(JobEffect::After(self.settings.cancellation_timeout, deadline));
        }
        self.settle(now, out);
    }

    /// Goes on when every task is over.
    fn settle(&mut self, now: Time, out: &mut Effects) {
        if !self.graph.all(TaskState::is_terminal) {
            return;
        }
        match self.status() {
            JobStatus::Running if self.graph.all(|state| state == TaskState::Finished) => {
                self.end(now, JobStatus::Finished, out);
            }
            JobStatus::Cancelling => self.end(now, JobStatus::Canceled, out),
            JobStatus::Failing => self.end(now, JobStatus::Failed, out),
            JobStatus::Restarting if self.restart_due => self.restart(now, out),
            _ => {}
        }
    }

    fn restart(&mut self, now: Time, out: &mut Effects) {
        self.end_generation(out);
        self.graph.restart(now);
        self.restarts += 1;
        self.restart_due = false;
        self.reports.clear();
        self.kinds = AccumulatorKinds::default();
        self.prepare(now, out);
    }

    fn end_generation(&self, out: &mut Effects) {
        let generation = self.graph.generation();
        out.push(JobEffect::EndGeneration {
            at: self.slots.task_managers(),
            generation,
        });
    }

    fn end(&mut self, now: Time, status: JobStatus, out: &mut Effects) {
        self.end_generation(out);
        self.savepoints.because = Some(format!("it is {status}"));
        self.stop_checkpoints(now, out);
        self.savepoints.because = None;
        self.end_checkpoints(status, out);
        self.set_status(status, now, out);
        self.end_savepoints(now, status, out);
        out.push(JobEffect::Release(self.slots.task_managers()));
        out.push(JobEffect::Ended(Box::new(self.result(now))));
    }

    fn result(&self, now: Time) -> JobResult {
        let failed = self.status() == JobStatus::Failed;
        JobResult {
            job: self.graph.job_graph().id,
            name: self.graph.job_graph().name.clone(),
            status: self.status(),
            accumulators: self.accumulators(),
            failure: self.failures.last_root().filter(|_| failed).cloned(),
            failures: self.failures.entries(),
            restarts: self.restarts,
            duration: self.after(now),
        }
    }

    /// Tasks do not stop. Nothing in this process can stop them.
    fn give_up(&self, out: &mut Effects) {
        let hanging = self
            .graph
            .executions()
            .filter(|execution| execution.state() == TaskState::Canceling);
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

    // Splits.

    fn on_split_request(&mut self, execution: ExecutionId, node: NodeId, out: &mut Effects) {
        let running = self
            .current(execution)
            .is_some_and(|current| current.state().is_deployed());
        if !running {
            return;
        }
        match self.splits.request(node, execution) {
            Asked::Turn(turn) => self.take_turn(node, Some(turn), out),
            Asked::NoSplits => self.send_split(execution, node, None, out),
            Asked::Wait => {}
        }
    }

    fn on_assignment(
        &mut self,
        node: NodeId,
        reader: ExecutionId,
        assignment: Assignment,
        out: &mut Effects,
    ) {
        let next = self
            .splits
            .answered(node, reader, !matches!(assignment, Assignment::Later(_)));
        match assignment {
            Assignment::Split(split) => self.send_split(reader, node, Some(split), out),
            Assignment::NoMore => self.send_split(reader, node, None, out),
            Assignment::Later(millis) => {
                let generation = self.graph.generation();
                let again = JobEvent::AskAgain {
                    generation,
                    node,
                    reader,
                };
                out.push(JobEffect::After(Duration::from_millis(millis), again));
            }
        }
        self.take_turn(node, next, out);
    }

    fn send_split(&self, execution: ExecutionId, node: NodeId, split: Option<Split>, out: &mut Effects) {
        let current = self
            .current(execution)
            .filter(|current| current.state().is_deployed());
        if let Some((to, _)) = current.and_then(|current| current.location) {
            out.push(JobEffect::SendSplit {
                to,
                execution,
                node,
                split,
            });
        }
    }
}

/// A task that says FAILED and no more.
fn unexplained(execution: ExecutionId) -> TaskFailure {
    let message = format!("task {execution} failed without a cause");
    TaskFailure {
        fault: Fault::Internal.into(),
        message,
        operator: None,
        panicked: false,
        permanent: false,
    }
}
