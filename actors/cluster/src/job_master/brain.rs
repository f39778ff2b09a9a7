//! The JobMaster's brain: one job's life, decided from events.

use super::accumulators::AccumulatorKinds;
use super::checkpointing::JobCheckpoints;
use super::descriptors::{Beginning, describe};
use super::events::{Effects, JobEffect, JobEvent, JobSettings, Restarts};
use super::failover::Failover;
use super::failures::{FailureHistory, locate};
use super::overview::Observed;
use super::recovery::Hit;
use super::rescaling::Rescaling;
use super::restart::RestartStrategy;
use super::savepoints::JobSavepoints;
use super::slots::{Slot, SlotPool};
use super::splits::{Asked, SplitCoordinators};
use super::statistics::CheckpointStatistics;
use crate::config::FailoverStrategy;
use crate::details::TaskPlace;
use crate::messages::JobMasterMessage;
use crate::result::{FailureEntry, JobFailure, JobResult};
use hurtig_core::Fault;
use hurtig_core::accumulators::{AccumulatorValues, merge_accumulators};
use hurtig_core::ids::{ExecutionId, NodeId, SubtaskId, TaskManagerId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::{ExecutionGraph, JobGraph, JobStatus, RegionId, StateChange, TaskState};
use hurtig_dataflow::source::{Assignment, Split};
use hurtig_task::interface::{TaskFailure, TaskReport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// One job's JobMaster.
#[derive(Clone, Debug)]
pub struct JobMasterBrain {
    pub(super) settings: JobSettings,
    pub(super) graph: ExecutionGraph,
    pub(super) slots: SlotPool,
    /// How often slots were required: what was missing earlier has a deadline of its own.
    slot_requests: u32,
    /// Workers that are gone, those that went last.
    pub(super) lost: VecDeque<TaskManagerId>,
    pub(super) splits: SplitCoordinators,
    pub(super) checkpoints: JobCheckpoints,
    pub(super) savepoints: JobSavepoints,
    pub(super) strategy: RestartStrategy,
    pub(super) failures: FailureHistory,
    /// What does not run and will.
    pub(super) failover: Failover,
    pub(super) reports: BTreeMap<ExecutionId, TaskReport>,
    /// What clients ask about tasks, beside what decisions need.
    pub(super) observed: Observed,
    pub(super) kinds: AccumulatorKinds,
    submitted: Time,
    /// Sources that read backlog.
    pub(super) in_backlog: usize,
    pub(super) restarts: Restarts,
    pub(super) rescaling: Rescaling,
}

impl JobMasterBrain {
    /// The JobMaster of a job that was submitted now.
    pub fn new(graph: Arc<JobGraph>, settings: JobSettings, now: Time) -> Self {
        let seed = u64::try_from(graph.id.0.as_u128() & u128::from(u64::MAX)).unwrap_or(0);
        let rescaling = Rescaling::new(&graph, &settings);
        let graph = match settings.failover {
            FailoverStrategy::Region => ExecutionGraph::new(graph, now),
            FailoverStrategy::Full => ExecutionGraph::as_one_region(graph, now),
        };
        Self {
            graph,
            slots: SlotPool::default(),
            slot_requests: 0,
            lost: VecDeque::new(),
            splits: SplitCoordinators::default(),
            checkpoints: JobCheckpoints::new(settings.checkpoints.clone(), settings.first_checkpoint),
            savepoints: JobSavepoints::default(),
            strategy: RestartStrategy::new(settings.restart.clone(), seed),
            failures: FailureHistory::new(settings.exception_history),
            failover: Failover::default(),
            reports: BTreeMap::new(),
            observed: Observed::default(),
            kinds: AccumulatorKinds::default(),
            submitted: now,
            in_backlog: 0,
            restarts: Restarts::default(),
            rescaling,
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

    /// What failed so far, oldest first.
    /// Where it failed is told by TaskManagers, and not by their workers.
    pub fn exceptions(&self) -> Vec<FailureEntry> {
        let mut entries = self.failures.entries();
        for entry in &mut entries {
            self.observed.locate(&mut entry.root);
            entry
                .concurrent
                .iter_mut()
                .for_each(|failure| self.observed.locate(failure));
        }
        entries
    }

    /// What became of checkpoints and savepoints so far.
    /// `wall_ms` is the time of day. Checkpoints are told by their folders in the job's store.
    pub fn checkpoint_statistics(&self, now: Time, wall_ms: i64) -> CheckpointStatistics {
        self.checkpoints.statistics_at(now, wall_ms)
    }

    /// Decides what an event leads to. Events after the end lead to nothing but refusals.
    pub fn handle(&mut self, now: Time, event: JobEvent, out: &mut Effects) {
        if let JobEvent::SavepointRequested(id, order) = event {
            return self.on_savepoint_requested(now, id, order, out);
        }
        if let JobEvent::CheckpointWanted(id, wanted) = event {
            return self.on_checkpoint_wanted(now, id, wanted, out);
        }
        if self.status().is_terminal() {
            return;
        }
        match event {
            JobEvent::Start => self.start(now, out),
            JobEvent::Message(message) => self.on_message(now, message, out),
            JobEvent::RestartDue { restart } => {
                self.failover.due(restart);
                self.settle(now, out);
            }
            JobEvent::CancellationDeadline => self.give_up(now, out),
            JobEvent::SlotDeadline { request } => self.on_slot_deadline(now, request, out),
            JobEvent::Scaling(timer) => self.on_scaling(now, timer, out),
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
                exchange,
                of,
            } => {
                // Whoever is given up gets nothing to do, and offers nothing that could stand in for another.
                if self.lost.contains(&task_manager) {
                    self.refuse_slots(task_manager, allocations, out);
                } else {
                    let place = TaskPlace {
                        task_manager: of.unwrap_or(task_manager),
                        exchange: exchange.clone(),
                    };
                    self.slots.offer(task_manager, &allocations, exchange);
                    let there = self.slots.task_managers();
                    self.observed.offered((task_manager, place), &there, &self.graph);
                    self.proceed(now, out);
                    self.look_at_slots(now, out);
                }
            }
            JobMasterMessage::TaskManagerLost { task_manager, cause } => {
                self.on_task_manager_lost(now, task_manager, &cause, out);
            }
            JobMasterMessage::WorkerEnded { task_manager, cause } => {
                self.on_worker_ended(now, task_manager, &cause, out);
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
            JobMasterMessage::CheckpointPrepared {
                execution,
                checkpoint,
            } => self.on_checkpoint_prepared(execution, checkpoint, out),
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
            JobMasterMessage::RequirementsDeclared(requirements) => {
                self.on_requirements(now, requirements, out);
            }
            JobMasterMessage::Cancel => self.cancel(now, out),
        }
    }

    /// Events of the present enumerators.
    fn on_coordination(&mut self, now: Time, event: JobEvent, out: &mut Effects) {
        match event {
            JobEvent::EnumeratorStarted {
                generation,
                node,
                enumerates,
            } if self.splits.is_present(node, generation) => {
                self.splits.started(node, enumerates);
                self.proceed(now, out);
            }
            JobEvent::EnumeratorFailed {
                generation,
                node,
                failure,
            } if self.splits.is_present(node, generation) => {
                let failure = self.enumerator_failure(now, node, failure);
                self.fail(now, failure, Hit::Source(node), out);
            }
            JobEvent::SplitAssigned {
                generation,
                node,
                reader,
                assignment,
            } if self.splits.is_present(node, generation) => {
                self.on_assignment(node, reader, assignment, out);
            }
            JobEvent::BacklogChanged {
                generation,
                node,
                backlog,
            } if self.splits.is_present(node, generation) => self.on_backlog(now, node, backlog, out),
            JobEvent::SplitsTakenBack { generation, node } if self.splits.is_present(node, generation) => {
                let next = self.splits.taken_back(node);
                self.take_turn(node, next, out);
            }
            JobEvent::AskAgain {
                generation,
                node,
                reader,
            } if self.splits.is_present(node, generation) => {
                let next = self.splits.again(node, reader);
                self.take_turn(node, next, out);
            }
            JobEvent::EnumeratorSnapshot {
                generation,
                node,
                checkpoint,
                snapshot,
            } if self.splits.is_present(node, generation) => {
                self.on_enumerator_snapshot((node, checkpoint), snapshot, out);
            }
            late => tracing::debug!(?late, "event of an earlier enumerator ignored"),
        }
    }

    pub(super) fn set_status(&mut self, to: JobStatus, now: Time, out: &mut Effects) {
        if self.graph.set_status(to, now) {
            out.push(JobEffect::StatusChanged(to));
        }
    }

    pub(super) fn after(&self, now: Time) -> Duration {
        self.settings.age.saturating_add(now.since(self.submitted))
    }

    // Starting.

    fn start(&mut self, now: Time, out: &mut Effects) {
        if self.status() != JobStatus::Initializing {
            return;
        }
        self.set_status(JobStatus::Created, now, out);
        self.require_slots(out);
        if !self.look_for_checkpoint(out) {
            self.begin(now, out);
        }
    }

    pub(super) fn require_slots(&mut self, out: &mut Effects) {
        self.slot_requests += 1;
        out.push(JobEffect::RequireSlots(self.slot_need()));
        out.push(JobEffect::After(
            self.slot_patience().1,
            JobEvent::SlotDeadline {
                request: self.slot_requests,
            },
        ));
    }

    /// Everything is started, for the first time or at another parallelism.
    pub(super) fn prepare_all(&mut self, now: Time, out: &mut Effects) {
        let regions = self.all_regions();
        self.failover.give_up();
        self.failover.start(regions.clone());
        self.prepare(now, &regions, out);
    }

    /// Deploys what has every slot and every enumerator.
    pub(super) fn proceed(&mut self, now: Time, out: &mut Effects) {
        if self.may_not_begin() {
            return;
        }
        let graph = self.graph.job_graph().clone();
        let Some(slots) = self.slots.assign(&graph) else {
            return self.look_at_shortage(now, out);
        };
        while let Some(regions) = self.take_prepared() {
            for execution in self.attempts_of(&regions) {
                self.deploy(now, execution, &slots, out);
            }
            if self.failover.is_over() {
                self.set_status(JobStatus::Running, now, out);
                self.note_running(now, out);
            }
        }
    }

    fn take_prepared(&mut self) -> Option<BTreeSet<RegionId>> {
        let mut failover = std::mem::take(&mut self.failover);
        let regions = failover.take_prepared(|regions| self.have_enumerators(regions));
        self.failover = failover;
        regions
    }

    fn deploy(
        &mut self,
        now: Time,
        execution: ExecutionId,
        slots: &BTreeMap<SubtaskId, Slot>,
        out: &mut Effects,
    ) {
        let slot = slots[&execution.subtask];
        let graph = self.graph.job_graph().clone();
        let Some(vertex) = graph.vertex(execution.subtask.vertex) else {
            return;
        };
        self.graph.set_state(execution, TaskState::Scheduled, now);
        self.graph.set_state(execution, TaskState::Deploying, now);
        self.graph.set_location(execution, slot);
        let latest = self.checkpoints.latest();
        let begins = Beginning {
            latest,
            in_backlog: &|vertex| self.begins_in_backlog(vertex),
            worker_of: &|subtask| slots[&subtask].0,
            peer: &|worker| self.slots.peer(worker),
        };
        let descriptor = Box::new(describe(&self.graph, vertex, (execution, slot), &begins));
        out.push(JobEffect::Deploy {
            to: slot.0,
            descriptor,
        });
    }

    fn on_slot_deadline(&mut self, now: Time, request: u32, out: &mut Effects) {
        let ((needed, timeout), present) = (self.slot_patience(), self.slots.len());
        // A job that runs goes on with less than somebody has declared.
        let runs = self.status() == JobStatus::Running;
        if present >= needed as usize || runs || request != self.slot_requests {
            return;
        }
        let message = format!(
            "the job needs {needed} slots and has {present} after {timeout:?}: lower its parallelism, or raise \
             taskmanager.numberOfTaskSlots"
        );
        let failure = JobFailure::of_job(Fault::User, message, self.after(now));
        self.fail(now, failure, Hit::Job, out);
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
                let hit = match cause.worker {
                    Some(worker) => Hit::Worker(execution.subtask, worker),
                    None => Hit::Task(execution.subtask),
                };
                let failure = locate(&self.graph, execution, cause, self.after(now));
                self.fail(now, failure, hit, out);
            }
            TaskState::Running => self.start_checkpoints(now, out),
            TaskState::Finished => {
                self.on_task_finished(now, execution, out);
                self.look_at_backlog(now, out);
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
        let region = self.graph.region_of(execution.subtask);
        let runs = region.is_some_and(|region| self.failover.runs(region));
        let runs = runs && matches!(self.status(), JobStatus::Running | JobStatus::Restarting);
        if let Some(mistake) = mistake.filter(|_| runs) {
            let cause = TaskFailure::new(&mistake, None);
            let failure = locate(&self.graph, execution, cause, self.after(now));
            self.fail(now, failure, Hit::Task(execution.subtask), out);
        }
    }

    // Ending.

    fn cancel(&mut self, now: Time, out: &mut Effects) {
        if !self.status().can_become(JobStatus::Cancelling) {
            return;
        }
        self.stop_checkpoints(now, out);
        self.set_status(JobStatus::Cancelling, now, out);
        self.failover.give_up();
        self.rescaling.drop_plans();
        self.stop_tasks(now, &self.all_regions(), out);
    }

    /// Goes on when tasks are over.
    pub(super) fn settle(&mut self, now: Time, out: &mut Effects) {
        if self.checkpoints.is_publishing() {
            // Somebody may go on from that already: it is known soon, or nothing could be said of the job's end either.
            return;
        }
        match self.status() {
            JobStatus::Restarting => self.restart_stopped(now, out),
            _ if !self.graph.all(TaskState::is_terminal) => {}
            JobStatus::Running if self.graph.all(|state| state == TaskState::Finished) => {
                self.end(now, JobStatus::Finished, out);
            }
            JobStatus::Cancelling => self.end(now, JobStatus::Canceled, out),
            JobStatus::Failing => self.end(now, JobStatus::Failed, out),
            _ => {}
        }
    }

    fn end(&mut self, now: Time, status: JobStatus, out: &mut Effects) {
        self.end_generations(&self.all_regions(), out);
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
        let mut failure = self.failures.last_root().cloned();
        failure
            .iter_mut()
            .for_each(|failure| self.observed.locate(failure));
        JobResult {
            job: self.graph.job_graph().id,
            name: self.graph.job_graph().name.clone(),
            status: self.status(),
            accumulators: self.accumulators(),
            failure: failure.filter(|_| failed),
            failures: self.exceptions(),
            restarts: self.restarts.all,
            duration: self.after(now),
            vertices: Vec::new(),
            details: Vec::new(),
            checkpoints: None,
        }
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
        let settled = !matches!(assignment, Assignment::Later(_));
        match assignment {
            Assignment::Split(split) if self.current(reader).is_none() => self.splits.unclaimed(node, split),
            Assignment::Split(split) => {
                // A reader that is being stopped gives it back when it starts again.
                self.splits.assigned(node, reader, &split);
                self.send_split(reader, node, Some(split), out);
            }
            Assignment::NoMore => self.send_split(reader, node, None, out),
            Assignment::Later(millis) => {
                let again = JobEvent::AskAgain {
                    generation: self.splits.generation(node),
                    node,
                    reader,
                };
                out.push(JobEffect::After(Duration::from_millis(millis), again));
            }
        }
        let next = self.splits.answered(node, reader, settled);
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
        worker: None,
    }
}
