//! The JobMaster's part in checkpoints: it takes the coordinator's decisions to tasks, enumerators and
//! the store, and brings back what they say.

use super::brain::JobMasterBrain;
use super::checkpoints::{
    AbortReason, CheckpointCoordinator, CheckpointEffect, CheckpointTask, CheckpointTimer, CompleteCut,
    RequestKind, TaskStage,
};
use super::events::{Effects, FoundCheckpoint, JobEffect, JobEvent, StorageWork};
use super::metadata;
use super::recovery::Hit;
use super::shared::SharedFiles;
use super::splits::Turn;
use super::states::check_states;
use super::statistics::{CheckpointStatistics, SnapshotType, Statistics};
use crate::config::{CheckpointKind, CheckpointRetention, RestoreFrom, RestoreTarget};
use crate::result::JobFailure;
use hurtig_core::Fault;
use hurtig_core::ids::{CheckpointId, ExecutionId, NodeId, SubtaskId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::{JobStatus, TaskState};
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_storage::{CheckpointLayout, CheckpointMetadata, SnapshotFolder, SnapshotKind, is_whole};
use hurtig_task::interface::{CheckpointPart, TaskFailure};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a JobMaster remembers of its job's checkpoints.
#[derive(Clone, Debug)]
pub(super) struct JobCheckpoints {
    coordinator: CheckpointCoordinator<CheckpointPart>,
    /// The one that collects the enumerators' snapshots or the tasks' parts.
    current: Option<Current>,
    /// The one whose metadata is being written.
    publishing: Option<Arc<CheckpointMetadata>>,
    /// What the job begins with after a failure.
    latest: Option<Latest>,
    /// Whether that is known: as long as it is not, nothing begins.
    restoring: Restoring,
    /// Complete ones that are kept, oldest first.
    retained: VecDeque<CheckpointId>,
    shared: SharedFiles,
    /// Checkpoints of jobs that have ended, to be deleted when as many of this one are complete as are
    /// kept.
    claimed: Vec<String>,
    pub(super) statistics: Statistics,
    /// Whether checkpoints are taken: all tasks run.
    started: bool,
    /// Whether anything may have been stored.
    pub(super) any: bool,
}

/// How far it is with what the job begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restoring {
    /// It is known, or there is nothing.
    Known,
    /// It is to be looked for.
    Wanted,
    /// It is being looked for.
    Asked {
        /// Everything else is ready to begin.
        held: bool,
    },
}

/// What tasks and enumerators begin with.
#[derive(Clone, Debug)]
pub(super) struct Latest {
    pub(super) metadata: Arc<CheckpointMetadata>,
    /// The store that has its files; `None`: that of the job's checkpoints.
    pub(super) store: Option<String>,
    /// The job has stopped with it: all that is left is to commit what it holds.
    pub(super) stopped: bool,
}

/// A checkpoint that is under way.
#[derive(Clone, Debug)]
struct Current {
    checkpoint: CheckpointId,
    /// Enumerators that have not said what they remember.
    asked: BTreeSet<NodeId>,
    enumerators: BTreeMap<NodeId, Vec<u8>>,
    /// Whether the tasks know of it.
    triggered: bool,
}

impl JobCheckpoints {
    pub(super) fn new(settings: super::checkpoints::CheckpointSettings, first: CheckpointId) -> Self {
        Self {
            coordinator: CheckpointCoordinator::new(settings, first),
            current: None,
            publishing: None,
            latest: None,
            restoring: Restoring::Wanted,
            retained: VecDeque::new(),
            shared: SharedFiles::default(),
            claimed: Vec::new(),
            statistics: Statistics::default(),
            started: false,
            any: false,
        }
    }

    pub(super) fn statistics_at(&self, now: Time, wall_ms: i64) -> CheckpointStatistics {
        let retained = self.retained.iter().copied().collect();
        self.statistics.at(now, wall_ms, &retained)
    }

    /// Whether it is not known yet whether a checkpoint is durable.
    pub(super) fn is_publishing(&self) -> bool {
        self.coordinator.is_publishing()
    }

    /// What tasks and enumerators begin with.
    pub(super) fn latest(&self) -> Option<&Latest> {
        self.latest.as_ref()
    }

    /// The job has stopped with a savepoint, and begins with it if it has to.
    pub(super) fn stop_with(&mut self, metadata: CheckpointMetadata, store: String) {
        // A record of it lies among the checkpoints.
        self.any = true;
        self.latest = Some(Latest {
            metadata: Arc::new(metadata),
            store: Some(store),
            stopped: true,
        });
    }
}

impl JobMasterBrain {
    // Restoring.

    /// Looks for what the job begins with; false when that is known, or nothing.
    pub(super) fn look_for_checkpoint(&mut self, out: &mut Effects) -> bool {
        let Some(from) = self.settings.restore.clone() else {
            return false;
        };
        if self.checkpoints.restoring == Restoring::Wanted {
            self.checkpoints.restoring = Restoring::Asked { held: false };
            out.push(JobEffect::Store(StorageWork::Load(from)));
        }
        self.may_not_begin()
    }

    /// Whether it is not known yet what the job begins with.
    pub(super) fn may_not_begin(&self) -> bool {
        self.settings.restore.is_some() && self.checkpoints.restoring != Restoring::Known
    }

    /// Whether a start has to wait for what the job begins with. An earlier JobMaster's tasks have committed what they did:
    /// to begin without it would do that again.
    pub(super) fn is_held(&mut self, out: &mut Effects) -> bool {
        let held = self.look_for_checkpoint(out);
        if held {
            self.checkpoints.restoring = Restoring::Asked { held };
        }
        held
    }

    /// The checkpoint that the job was to begin with is known, or cannot be.
    pub(super) fn on_checkpoint_loaded(
        &mut self,
        now: Time,
        loaded: Result<Option<FoundCheckpoint>, TaskFailure>,
        out: &mut Effects,
    ) {
        let Some(from) = self.settings.restore.clone() else {
            return;
        };
        let Restoring::Asked { held } = self.checkpoints.restoring else {
            return;
        };
        self.checkpoints.restoring = Restoring::Wanted;
        if !matches!(self.status(), JobStatus::Created | JobStatus::Restarting) {
            return;
        }
        match loaded {
            Ok(found) => match found.map_or(Ok(()), |found| self.adopt(now, &from, found)) {
                Ok(()) => {
                    self.checkpoints.restoring = Restoring::Known;
                    match held {
                        true => self.prepare(now, &self.all_regions(), out),
                        false if self.status() == JobStatus::Created => self.begin(now, out),
                        // The delay of a restart is not over.
                        false => {}
                    }
                }
                Err(problem) => {
                    // It will not do any better the next time.
                    let mut failure = JobFailure::of_job(Fault::User, problem, self.after(now));
                    failure.cause = failure.cause.for_good();
                    self.refuse(now, failure, out);
                }
            },
            Err(cause) => {
                let mut failure = JobFailure::of_job(cause.fault.into(), String::new(), self.after(now));
                failure.cause = cause;
                self.refuse(now, failure, out);
            }
        }
    }

    fn refuse(&mut self, now: Time, failure: JobFailure, out: &mut Effects) {
        self.fail(now, failure, Hit::Job, out);
    }

    fn adopt(&mut self, now: Time, from: &RestoreFrom, found: FoundCheckpoint) -> Result<(), String> {
        let FoundCheckpoint {
            store,
            folder,
            metadata,
            record,
            declared,
        } = found;
        // A folder of another store is known by its whole path.
        let whole = |folder: &str| match &store {
            None => folder.to_owned(),
            Some(_) if is_whole(folder) => folder.to_owned(),
            Some(store) => format!("{}/{folder}", store.trim_end_matches('/')),
        };
        let dir = whole(&folder);
        let graph = self.graph.job_graph();
        let doubts = metadata::check_restore(graph, &metadata, from.allow_non_restored_state)
            .and_then(|()| check_states(graph, &metadata, &declared))
            .map_err(|problem| format!("cannot restore the job from '{dir}': {problem}"))?;
        for doubt in doubts {
            tracing::warn!(job = %graph.id, checkpoint = dir, "{doubt}");
        }
        tracing::info!(job = %self.graph.job_graph().id, checkpoint = dir, "restored");
        self.checkpoints.coordinator.begin_after(metadata.checkpoint_id);
        // A predecessor of this JobMaster has completed it: it is a checkpoint of this job as any other.
        let own_folder = CheckpointLayout::new(graph.id).checkpoint(metadata.checkpoint_id);
        let mine = store.is_none() && folder == own_folder;
        if mine {
            self.checkpoints.any = true;
            self.checkpoints.retained.push_back(metadata.checkpoint_id);
            self.checkpoints.shared.retain(&metadata);
        }
        // What led to a savepoint is the job's; the savepoint itself only if that was said of it by name.
        let named = matches!(from.checkpoint, RestoreTarget::Folder(_));
        let own = from.claim && (named || record.is_none()) && !mine;
        let superseded = metadata.supersedes.iter().map(|folder| whole(folder));
        // Who goes on from it, however it was found, makes the record of the stop untrue: nobody else learns of what
        // the stopped job had still to delete.
        let record = record.filter(|_| named || from.claim);
        let (record, left) = record.map_or((None, Vec::new()), |record| {
            (Some(record.folder), record.supersedes)
        });
        let claimed = superseded
            .filter(|_| from.claim)
            .chain(left.iter().cloned())
            .chain(own.then(|| dir.clone()))
            .chain(record);
        self.checkpoints.claimed = claimed.collect();
        self.checkpoints.statistics.restored(now, &metadata, dir);
        let stopped = self.settings.stopped.is_some();
        if let (Some(mode), RestoreTarget::Folder(folder)) = (self.settings.stopped, &from.checkpoint) {
            // It belongs to who asked for it, and so does the record that leads to it.
            self.checkpoints.claimed = left;
            self.checkpoints.any = true;
            self.savepoints
                .has_stopped_before(metadata.checkpoint_id, folder.clone(), mode);
        }
        self.checkpoints.latest = Some(Latest {
            metadata: Arc::new(metadata),
            store,
            stopped,
        });
        Ok(())
    }

    // Beginning and ending.

    /// Checkpoints are taken once every task runs.
    pub(super) fn start_checkpoints(&mut self, now: Time, out: &mut Effects) {
        let ready = |state| matches!(state, TaskState::Running | TaskState::Finished);
        let wanted = !self.checkpoints.started && !self.savepoints.has_stopped();
        if wanted && self.status() == JobStatus::Running && self.graph.all(ready) {
            self.checkpoints.started = true;
            self.coordinate(now, out, |coordinator, effects| coordinator.start(now, effects));
        }
    }

    /// The whole job restarts, or it ends.
    pub(super) fn stop_checkpoints(&mut self, now: Time, out: &mut Effects) {
        self.checkpoints.started = false;
        self.coordinate(now, out, |coordinator, effects| coordinator.stop(now, effects));
    }

    /// Some tasks start again, and the others may need a checkpoint to end.
    pub(super) fn suspend_checkpoints(&mut self, now: Time, out: &mut Effects) {
        self.checkpoints.started = false;
        self.coordinate(now, out, |coordinator, effects| coordinator.suspend(now, effects));
    }

    /// Deletes what nobody will restore.
    pub(super) fn end_checkpoints(&mut self, status: JobStatus, out: &mut Effects) {
        let keep = match status {
            JobStatus::Canceled => self.settings.retention == CheckpointRetention::RetainOnCancellation,
            JobStatus::Failed => self.settings.retention != CheckpointRetention::NoExternalizedCheckpoints,
            _ => false,
        };
        if self.checkpoints.any && !keep {
            let all_but = self.savepoints.goes_on_from(status);
            let discard = all_but.map_or(StorageWork::DiscardJob, StorageWork::DiscardJobBut);
            out.push(JobEffect::Store(discard));
        } else {
            out.extend(self.checkpoints.shared.sweep_all().map(JobEffect::Store));
        }
        if status == JobStatus::Finished {
            self.discard_claimed(out);
        }
    }

    // The coordinator.

    pub(super) fn on_checkpoint_timer(&mut self, now: Time, timer: CheckpointTimer, out: &mut Effects) {
        let tasks = self.checkpoint_tasks();
        self.coordinate(now, out, |coordinator, effects| {
            coordinator.on_timer(now, timer, &tasks, effects);
        });
    }

    /// A task needs a checkpoint to finish.
    pub(super) fn on_requested(&mut self, now: Time, execution: ExecutionId, out: &mut Effects) {
        if self.current(execution).is_some() {
            self.coordinate(now, out, |coordinator, effects| coordinator.request(now, effects));
        }
    }

    pub(super) fn on_acknowledged(
        &mut self,
        now: Time,
        (execution, checkpoint): (ExecutionId, CheckpointId),
        part: CheckpointPart,
        out: &mut Effects,
    ) {
        let statistics = &mut self.checkpoints.statistics;
        statistics.acknowledged(now, checkpoint, execution, Some(&part));
        self.coordinate(now, out, |coordinator, effects| {
            coordinator.acknowledge(checkpoint, execution, part, effects);
        });
    }

    pub(super) fn on_declined(
        &mut self,
        now: Time,
        (execution, checkpoint): (ExecutionId, CheckpointId),
        reason: String,
        out: &mut Effects,
    ) {
        self.coordinate(now, out, |coordinator, effects| {
            coordinator.decline(now, checkpoint, (execution, reason), effects);
        });
    }

    /// A task has finished: it owes nothing any more, and those behind it may have no producer left that
    /// would send them the barrier.
    pub(super) fn on_task_finished(&mut self, now: Time, execution: ExecutionId, out: &mut Effects) {
        self.coordinate(now, out, |coordinator, effects| {
            coordinator.task_finished(execution, effects);
        });
        if let Some(checkpoint) = self.checkpoints.statistics.in_progress() {
            let statistics = &mut self.checkpoints.statistics;
            statistics.acknowledged(now, checkpoint, execution, None);
        }
        self.prepared_without(execution, out);
        if let Some(checkpoint) = self.triggered() {
            let graph = self.graph.job_graph();
            let consumers: BTreeSet<_> = graph
                .outputs(execution.subtask.vertex)
                .map(|edge| edge.to)
                .collect();
            let left = self.checkpoint_tasks().into_iter().filter(|task| {
                task.source
                    && task.stage == TaskStage::Running
                    && consumers.contains(&task.execution.subtask.vertex)
            });
            let left: Vec<ExecutionId> = left.map(|task| task.execution).collect();
            self.trigger_tasks(checkpoint, &left, out);
        }
    }

    pub(super) fn on_published(
        &mut self,
        now: Time,
        checkpoint: CheckpointId,
        result: Result<(), String>,
        out: &mut Effects,
    ) {
        self.coordinate(now, out, |coordinator, effects| {
            coordinator.published(now, checkpoint, result, effects);
        });
        // What has stopped meanwhile has waited for that.
        self.settle(now, out);
    }

    /// The checkpoint that tasks were told of.
    fn triggered(&self) -> Option<CheckpointId> {
        let current = self.checkpoints.current.as_ref()?;
        current.triggered.then_some(current.checkpoint)
    }

    /// Lets the coordinator decide, and carries its decisions on.
    pub(super) fn coordinate(
        &mut self,
        now: Time,
        out: &mut Effects,
        decide: impl FnOnce(
            &mut CheckpointCoordinator<CheckpointPart>,
            &mut Vec<CheckpointEffect<CheckpointPart>>,
        ),
    ) {
        let mut effects = Vec::new();
        decide(&mut self.checkpoints.coordinator, &mut effects);
        effects
            .into_iter()
            .for_each(|effect| self.carry_on(now, effect, out));
    }

    fn carry_on(&mut self, now: Time, effect: CheckpointEffect<CheckpointPart>, out: &mut Effects) {
        match effect {
            CheckpointEffect::Trigger(checkpoint, _) => {
                self.checkpoints.any = true;
                let kind = SnapshotType::Checkpoint(CheckpointKind::Configured);
                self.note_triggered(now, checkpoint, kind);
                self.ask_enumerators(checkpoint, out);
            }
            CheckpointEffect::Begin(checkpoint, request) => {
                self.begin_requested(now, checkpoint, request, out);
            }
            CheckpointEffect::Taken(checkpoint, request) if request.kind == RequestKind::Checkpoint => {
                self.requested_taken(checkpoint, request, out);
            }
            CheckpointEffect::Taken(checkpoint, request) => {
                let metadata = self.checkpoints.publishing.take();
                if let Some(metadata) = &metadata {
                    let folder = self.savepoints.folder_of(checkpoint);
                    let path = folder.map(SnapshotFolder::path).unwrap_or_default();
                    self.checkpoints.statistics.completed(now, metadata, path);
                }
                self.savepoint_taken(checkpoint, request, metadata.map(Arc::unwrap_or_clone), out);
            }
            CheckpointEffect::NotTaken(id, why) => self.not_taken(now, id, why, out),
            CheckpointEffect::Publish(cut) => self.publish(cut, out),
            CheckpointEffect::Completed(checkpoint) => self.completed(now, checkpoint, out),
            CheckpointEffect::Aborted(checkpoint, reason) => self.aborted(now, checkpoint, &reason, out),
            CheckpointEffect::Discard(checkpoint, part) => {
                let folder = self.savepoints.folder_of(checkpoint);
                let store = folder.map(|folder| folder.store.clone());
                let discard = |handle| JobEffect::Store(StorageWork::DiscardState(handle, store));
                out.extend(part.handle.map(discard));
            }
            CheckpointEffect::After(delay, timer) => {
                out.push(JobEffect::After(delay, JobEvent::CheckpointTimer(timer)));
            }
            CheckpointEffect::FailJob(problem) => {
                let failure = JobFailure::of_job(Fault::External, problem, self.after(now));
                self.fail(now, failure, Hit::Job, out);
            }
        }
    }

    /// Tasks that have finished owe nothing.
    pub(super) fn note_triggered(&mut self, now: Time, checkpoint: CheckpointId, kind: SnapshotType) {
        let statistics = &mut self.checkpoints.statistics;
        statistics.triggered(now, checkpoint, kind, self.graph.job_graph());
        let executions = self.graph.executions();
        executions
            .filter(|execution| execution.state() == TaskState::Finished)
            .for_each(|execution| statistics.acknowledged(now, checkpoint, execution.id, None));
    }

    /// Every task, how far it is, and whether barriers begin there.
    fn checkpoint_tasks(&self) -> Vec<CheckpointTask> {
        let executions = self.graph.executions();
        let task = |execution: &hurtig_dataflow::graph::Execution| CheckpointTask {
            execution: execution.id,
            source: self.has_no_producer(execution.id.subtask),
            stage: match execution.state() {
                TaskState::Running => TaskStage::Running,
                TaskState::Finished => TaskStage::Finished,
                _ => TaskStage::Other,
            },
        };
        executions.map(task).collect()
    }

    /// Whether a task is a source, or all that feed it have finished.
    fn has_no_producer(&self, consumer: SubtaskId) -> bool {
        let graph = self.graph.job_graph();
        graph.inputs(consumer.vertex).all(|edge| {
            self.graph.producers(edge, consumer.index).all(|index| {
                let producer = SubtaskId {
                    vertex: edge.from,
                    index,
                };
                let state = self
                    .graph
                    .subtask(producer)
                    .map(|subtask| subtask.current.state());
                state == Some(TaskState::Finished)
            })
        })
    }

    // The course of a checkpoint.

    /// Enumerators first: what they deal out later comes behind the barriers.
    pub(super) fn ask_enumerators(&mut self, checkpoint: CheckpointId, out: &mut Effects) {
        let asked: BTreeSet<NodeId> = self.splits.enumerating().collect();
        self.checkpoints.current = Some(Current {
            checkpoint,
            asked: asked.clone(),
            enumerators: BTreeMap::new(),
            triggered: false,
        });
        for node in asked {
            let turn = self.splits.want_snapshot(node);
            self.take_turn(node, turn, out);
        }
        self.trigger_when_asked(out);
    }

    /// An enumerator has said what it remembers.
    pub(super) fn on_enumerator_snapshot(
        &mut self,
        (node, checkpoint): (NodeId, CheckpointId),
        snapshot: Vec<u8>,
        out: &mut Effects,
    ) {
        let turn = self.splits.snapshot_taken(node, checkpoint);
        self.take_turn(node, turn, out);
        let current = self.checkpoints.current.as_mut();
        if let Some(current) = current.filter(|current| current.checkpoint == checkpoint)
            && current.asked.remove(&node)
        {
            current.enumerators.insert(node, snapshot);
            self.trigger_when_asked(out);
        }
    }

    /// What an enumerator does next.
    pub(super) fn take_turn(&self, node: NodeId, turn: Option<Turn>, out: &mut Effects) {
        let generation = self.splits.generation(node);
        let checkpoint = self
            .checkpoints
            .current
            .as_ref()
            .map(|current| current.checkpoint);
        out.extend(turn.and_then(|turn| match turn {
            Turn::TakeBack(splits) => Some(JobEffect::ReturnSplits {
                generation,
                node,
                splits,
            }),
            Turn::Answer(reader) => Some(JobEffect::AskEnumerator {
                generation,
                node,
                reader,
            }),
            Turn::Snapshot => checkpoint.map(|checkpoint| JobEffect::SnapshotEnumerator {
                generation,
                node,
                checkpoint,
            }),
        }));
    }

    fn trigger_when_asked(&mut self, out: &mut Effects) {
        let Some(current) = self
            .checkpoints
            .current
            .as_mut()
            .filter(|current| current.asked.is_empty())
        else {
            return;
        };
        current.triggered = true;
        let checkpoint = current.checkpoint;
        self.savepoints.triggered(checkpoint);
        let begin = self
            .checkpoint_tasks()
            .into_iter()
            .filter(|task| task.source && task.stage == TaskStage::Running);
        let begin: Vec<ExecutionId> = begin.map(|task| task.execution).collect();
        self.trigger_tasks(checkpoint, &begin, out);
        self.resume_enumerators(out);
    }

    fn trigger_tasks(&self, checkpoint: CheckpointId, tasks: &[ExecutionId], out: &mut Effects) {
        let located = tasks
            .iter()
            .filter_map(|execution| Some((self.current(*execution)?.location?.0, *execution)));
        out.extend(located.map(|(to, execution)| JobEffect::TriggerCheckpoint {
            to,
            execution,
            checkpoint,
        }));
    }

    fn resume_enumerators(&mut self, out: &mut Effects) {
        let nodes: Vec<NodeId> = self.splits.enumerating().collect();
        for node in nodes {
            let turn = self.splits.resume(node);
            self.take_turn(node, turn, out);
        }
    }

    fn publish(&mut self, cut: CompleteCut<CheckpointPart>, out: &mut Effects) {
        let enumerators = self.checkpoints.current.take().map(|current| current.enumerators);
        let triggered = cut.triggered;
        let savepoint = self.savepoints.under_way(cut.checkpoint).cloned();
        let mut metadata = metadata::describe(self.graph.job_graph(), cut, enumerators.unwrap_or_default());
        if savepoint.is_some() {
            metadata.kind = SnapshotKind::Savepoint;
        }
        metadata.supersedes.clone_from(&self.checkpoints.claimed);
        self.checkpoints.publishing = Some(Arc::new(metadata.clone()));
        out.push(JobEffect::Store(StorageWork::Publish {
            metadata: Box::new(metadata),
            triggered,
            savepoint,
        }));
    }

    fn completed(&mut self, now: Time, checkpoint: CheckpointId, out: &mut Effects) {
        tracing::debug!(job = %self.graph.job_graph().id, %checkpoint, "checkpoint completed");
        if let Some(complete) = self.checkpoints.publishing.take() {
            let folder = CheckpointLayout::new(self.graph.job_graph().id).checkpoint(checkpoint);
            self.checkpoints.statistics.completed(now, &complete, folder);
            self.checkpoints.shared.retain(&complete);
            self.checkpoints.latest = Some(Latest {
                metadata: complete,
                store: None,
                stopped: false,
            });
        }
        self.splits.completed(checkpoint);
        self.notify(CheckpointEvent::Completed(checkpoint), out);
        self.checkpoints.retained.push_back(checkpoint);
        while self.checkpoints.retained.len() > self.settings.retained_checkpoints.max(1) {
            let Some(oldest) = self.checkpoints.retained.pop_front() else {
                break;
            };
            self.checkpoints.shared.release(oldest);
            out.push(JobEffect::Store(StorageWork::DiscardCheckpoint(oldest)));
        }
        out.extend(self.checkpoints.shared.sweep(checkpoint).map(JobEffect::Store));
        if self.checkpoints.retained.len() >= self.settings.retained_checkpoints {
            self.discard_claimed(out);
        }
        self.change_when_saved(out);
    }

    fn discard_claimed(&mut self, out: &mut Effects) {
        let claimed = self.checkpoints.claimed.drain(..);
        out.extend(claimed.map(|dir| JobEffect::Store(StorageWork::DiscardClaimed(dir))));
    }

    fn aborted(&mut self, now: Time, checkpoint: CheckpointId, reason: &AbortReason, out: &mut Effects) {
        match reason {
            AbortReason::Stopped => tracing::debug!(%checkpoint, "checkpoint given up: {reason}"),
            _ => {
                tracing::warn!(job = %self.graph.job_graph().id, %checkpoint, "checkpoint given up: {reason}");
            }
        }
        self.checkpoints.statistics.aborted(now, checkpoint, reason);
        self.checkpoints.current = None;
        self.checkpoints.publishing = None;
        self.resume_enumerators(out);
        self.notify(CheckpointEvent::Aborted(checkpoint), out);
        if !self.abandon_savepoint(now, checkpoint, reason, out) {
            out.push(JobEffect::Store(StorageWork::DiscardCheckpoint(checkpoint)));
        }
        if reason.is_failure() {
            self.change_missed_checkpoint(out);
        }
    }

    /// Tells every task that runs.
    pub(super) fn notify(&self, event: CheckpointEvent, out: &mut Effects) {
        let running = self
            .graph
            .executions()
            .filter(|execution| execution.state() == TaskState::Running);
        let located = running.filter_map(|execution| Some((execution.location?.0, execution.id)));
        out.extend(located.map(|(to, execution)| JobEffect::NotifyCheckpoint { to, execution, event }));
    }
}
