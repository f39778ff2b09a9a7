//! The JobMaster's part in savepoints: all tasks know of one before its barrier can come to any of them;
//! who asked is answered when it is durable, and of a stop when the job has ended.

use super::brain::JobMasterBrain;
use super::checkpoints::{AbortReason, SavepointId, SavepointRequest};
use super::events::{Effects, JobEffect, StorageWork};
use super::recovery::Hit;
use crate::result::JobFailure;
use hurtig_core::Fault;
use hurtig_core::ids::{CheckpointId, ExecutionId};
use hurtig_core::time::Time;
use hurtig_dataflow::chain::StopMode;
use hurtig_dataflow::graph::{JobStatus, TaskState};
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_storage::{CheckpointMetadata, SnapshotFolder};
use hurtig_task::interface::SavepointOrder;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Savepoints that are over of which late parts can still come: as many are remembered.
const MAX_OVER: usize = 16;

/// What a JobMaster remembers of the savepoints that were asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct JobSavepoints {
    orders: BTreeMap<SavepointId, SavepointOrder>,
    current: Option<UnderWay>,
    /// Where those went that are over, the latest last.
    over: VecDeque<(CheckpointId, SnapshotFolder)>,
    /// Who is told at the end where the savepoint is that the job has stopped with.
    stopped: Option<Stopped>,
    /// Why the job restarts or fails, while that is being decided.
    pub(super) because: Option<String>,
}

/// A savepoint that the job has stopped with.
#[derive(Clone, Debug)]
struct Stopped {
    asked: SavepointId,
    checkpoint: CheckpointId,
    folder: SnapshotFolder,
    mode: StopMode,
}

/// A savepoint that is under way.
#[derive(Clone, Debug)]
struct UnderWay {
    checkpoint: CheckpointId,
    order: SavepointOrder,
    /// Tasks that have not said that they know of it.
    preparing: BTreeSet<ExecutionId>,
    /// Whether tasks were told to begin it.
    triggered: bool,
}

impl JobSavepoints {
    /// Where the checkpoint goes if it is a savepoint.
    pub(super) fn folder_of(&self, checkpoint: CheckpointId) -> Option<&SnapshotFolder> {
        let current = self.current.as_ref();
        let current = current.filter(|current| current.checkpoint == checkpoint);
        let over = self.over.iter().find(|(id, _)| *id == checkpoint);
        current
            .map(|current| &current.order.folder)
            .or(over.map(|(_, folder)| folder))
    }

    /// Where the checkpoint that is under way goes if it is a savepoint, and whether the job stops with it.
    pub(super) fn destination(&self, checkpoint: CheckpointId) -> Option<(SnapshotFolder, bool)> {
        let current = self.current.as_ref()?;
        let order = &current.order;
        (current.checkpoint == checkpoint).then(|| (order.folder.clone(), order.stop.is_some()))
    }

    /// The savepoint that the job has stopped with, if the next job of its name has to go on from there: a
    /// job that was drained and has finished has come to its end.
    pub(super) fn goes_on_from(&self, status: JobStatus) -> Option<CheckpointId> {
        let stopped = self.stopped.as_ref()?;
        let ended = stopped.mode == StopMode::Drain && status == JobStatus::Finished;
        (!ended).then_some(stopped.checkpoint)
    }

    /// Whether the job has stopped with a savepoint: it only has to commit and to end.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Whether all tasks have to be started again when one is: their input was ended for a savepoint that is under
    /// way, or the job has stopped with one.
    pub(super) fn binds_all(&self) -> bool {
        let current = self.current.as_ref();
        let drained = |current: &UnderWay| current.triggered && current.order.stop == Some(StopMode::Drain);
        self.has_stopped() || current.is_some_and(drained)
    }

    /// Tasks were told to begin this checkpoint.
    pub(super) fn triggered(&mut self, checkpoint: CheckpointId) {
        let current = self.current.as_mut();
        current
            .filter(|current| current.checkpoint == checkpoint)
            .into_iter()
            .for_each(|current| current.triggered = true);
    }

    fn finish(&mut self) -> Option<UnderWay> {
        let current = self.current.take()?;
        if self.over.len() == MAX_OVER {
            self.over.pop_front();
        }
        self.over
            .push_back((current.checkpoint, current.order.folder.clone()));
        Some(current)
    }
}

fn answer(id: SavepointId, result: Result<String, String>, out: &mut Effects) {
    out.push(JobEffect::AnswerSavepoint(id, result));
}

impl JobMasterBrain {
    /// Somebody wants a savepoint.
    pub(super) fn on_savepoint_requested(
        &mut self,
        now: Time,
        id: SavepointId,
        order: SavepointOrder,
        out: &mut Effects,
    ) {
        let status = self.status();
        if status.is_terminal() || matches!(status, JobStatus::Cancelling | JobStatus::Failing) {
            return answer(id, Err(format!("the job is {status}")), out);
        }
        if let Some(Stopped { folder, .. }) = &self.savepoints.stopped {
            let why = format!("the job is stopping, with the savepoint '{folder}'");
            return answer(id, Err(why), out);
        }
        let stop = order.stop.is_some();
        self.savepoints.orders.insert(id, order);
        self.coordinate(now, out, |coordinator, effects| {
            coordinator.request_savepoint(SavepointRequest { id, stop }, effects);
        });
    }

    /// Tells all tasks of a savepoint that begins.
    pub(super) fn begin_savepoint(
        &mut self,
        checkpoint: CheckpointId,
        request: SavepointRequest,
        out: &mut Effects,
    ) {
        let Some(order) = self.savepoints.orders.get(&request.id).cloned() else {
            return;
        };
        tracing::info!(job = %self.graph.job_graph().id, %checkpoint, folder = %order.folder, "savepoint begins");
        let running = self
            .graph
            .executions()
            .filter(|execution| execution.state() == TaskState::Running);
        let located = running.filter_map(|execution| Some((execution.location?.0, execution.id)));
        let mut preparing = BTreeSet::new();
        for (to, execution) in located {
            preparing.insert(execution);
            out.push(JobEffect::PrepareSavepoint {
                to,
                execution,
                checkpoint,
                order: order.clone(),
            });
        }
        self.savepoints.current = Some(UnderWay {
            checkpoint,
            order,
            preparing,
            triggered: false,
        });
    }

    /// A task knows of a savepoint, or has ended.
    pub(super) fn on_savepoint_prepared(
        &mut self,
        execution: ExecutionId,
        checkpoint: CheckpointId,
        out: &mut Effects,
    ) {
        let current = self.savepoints.current.as_mut();
        let Some(current) = current.filter(|current| current.checkpoint == checkpoint) else {
            return;
        };
        if current.preparing.remove(&execution) && current.preparing.is_empty() {
            self.ask_enumerators(checkpoint, out);
        }
    }

    /// A task has finished: nothing has to be prepared there.
    pub(super) fn savepoint_without(&mut self, execution: ExecutionId, out: &mut Effects) {
        if let Some(checkpoint) = self.savepoints.current.as_ref().map(|current| current.checkpoint) {
            self.on_savepoint_prepared(execution, checkpoint, out);
        }
    }

    /// A savepoint is durable. Sinks commit what it holds only when the job stops with it: otherwise the
    /// next checkpoint does, and a restart that goes back behind the savepoint repeats nothing.
    pub(super) fn savepoint_taken(
        &mut self,
        checkpoint: CheckpointId,
        request: SavepointRequest,
        metadata: Option<CheckpointMetadata>,
        out: &mut Effects,
    ) {
        self.savepoints.orders.remove(&request.id);
        let Some(UnderWay { order, .. }) = self.savepoints.finish() else {
            return;
        };
        let folder = order.folder;
        tracing::info!(job = %self.graph.job_graph().id, %checkpoint, %folder, "savepoint taken");
        let Some(mode) = order.stop else {
            return answer(request.id, Ok(folder.path()), out);
        };
        // From here on only forward: what fails now is repeated from the savepoint.
        if let Some(metadata) = metadata {
            self.checkpoints.stop_with(metadata, folder.store.clone());
        }
        self.savepoints.stopped = Some(Stopped {
            asked: request.id,
            checkpoint,
            folder,
            mode,
        });
        self.notify(CheckpointEvent::Completed(checkpoint), out);
    }

    /// A savepoint was not taken, or not begun.
    pub(super) fn savepoint_failed(&mut self, id: SavepointId, why: String, out: &mut Effects) {
        self.savepoints.orders.remove(&id);
        let why = match &self.savepoints.because {
            Some(cause) => format!("{why}: {cause}"),
            None => why,
        };
        tracing::warn!(job = %self.graph.job_graph().id, why, "savepoint failed");
        answer(id, Err(why), out);
    }

    /// A checkpoint was given up. Returns whether it was a savepoint.
    pub(super) fn abandon_savepoint(
        &mut self,
        now: Time,
        checkpoint: CheckpointId,
        reason: &AbortReason,
        out: &mut Effects,
    ) -> bool {
        let ours = self
            .savepoints
            .current
            .as_ref()
            .is_some_and(|current| current.checkpoint == checkpoint);
        if !ours {
            return false;
        }
        let Some(given_up) = self.savepoints.finish() else {
            return false;
        };
        let discard = StorageWork::DiscardSavepoint(given_up.order.folder);
        out.push(JobEffect::Store(discard));
        if given_up.order.stop.is_some() {
            // There may be a record of it.
            out.push(JobEffect::Store(StorageWork::DiscardCheckpoint(checkpoint)));
        }
        let drained = given_up.triggered && given_up.order.stop == Some(StopMode::Drain);
        if drained && *reason != AbortReason::Stopped {
            let problem = format!(
                "the job's input was ended to stop it with a savepoint, and the savepoint failed: {reason}"
            );
            let failure = JobFailure::of_job(Fault::External, problem, self.after(now));
            self.fail(now, failure, Hit::Job, out);
        }
        true
    }

    /// The job has ended: nobody who asked for a savepoint is left without an answer.
    pub(super) fn end_savepoints(&mut self, now: Time, status: JobStatus, out: &mut Effects) {
        self.coordinate(now, out, |coordinator, effects| coordinator.end(effects));
        if let Some(Stopped { asked, folder, .. }) = self.savepoints.stopped.take() {
            let result = match status {
                JobStatus::Finished => Ok(folder.path()),
                status => Err(format!(
                    "the savepoint '{folder}' is complete, and what it holds may not be committed, because the job was \
                     {status} then; a job that is restored from it commits it"
                )),
            };
            answer(asked, result, out);
        }
    }
}
