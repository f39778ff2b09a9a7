//! The JobMaster's part in savepoints, and in checkpoints that somebody asked for: all tasks know what one will be before
//! its barrier can come to any of them; who asked is answered when it is durable, and of a stop when the job has ended.

use super::brain::JobMasterBrain;
use super::checkpoints::{AbortReason, RequestId, RequestKind, SnapshotRequest};
use super::events::{Effects, JobEffect, StorageWork, WantedCheckpoint};
use super::recovery::Hit;
use super::statistics::SnapshotType;
use crate::result::JobFailure;
use hurtig_core::Fault;
use hurtig_core::ids::{CheckpointId, ExecutionId};
use hurtig_core::time::Time;
use hurtig_dataflow::chain::StopMode;
use hurtig_dataflow::graph::{JobStatus, TaskState};
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_storage::{CheckpointMetadata, SnapshotFolder};
use hurtig_task::interface::{CheckpointOrder, SavepointOrder};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Savepoints that are over of which late parts can still come: as many are remembered.
const MAX_OVER: usize = 16;

/// The request of a stop whose savepoint a predecessor of the JobMaster has taken. Those of its own begin with 1.
pub(super) const STOPPED_BEFORE: RequestId = 0;

/// What a JobMaster remembers of the checkpoints and savepoints that were asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct JobSavepoints {
    wanted: BTreeMap<RequestId, Wanted>,
    current: Option<UnderWay>,
    /// Where those went that are over, the latest last.
    over: VecDeque<(CheckpointId, SnapshotFolder)>,
    /// Who is told at the end where the savepoint is that the job has stopped with.
    stopped: Option<Stopped>,
    /// Why the job restarts or fails, while that is being decided.
    pub(super) because: Option<String>,
}

/// What somebody has asked for.
#[derive(Clone, Debug)]
enum Wanted {
    Savepoint(SavepointOrder),
    Checkpoint(WantedCheckpoint),
}

impl Wanted {
    /// What tasks have to know of it before it begins.
    fn order(&self) -> Option<CheckpointOrder> {
        match self {
            Self::Savepoint(order) => Some(CheckpointOrder::Savepoint(order.clone())),
            Self::Checkpoint(wanted) => wanted.order.clone(),
        }
    }
}

/// A savepoint that the job has stopped with.
#[derive(Clone, Debug)]
struct Stopped {
    asked: RequestId,
    checkpoint: CheckpointId,
    folder: SnapshotFolder,
    mode: StopMode,
}

/// A savepoint, or another checkpoint that tasks have to know of, that is under way.
#[derive(Clone, Debug)]
struct UnderWay {
    checkpoint: CheckpointId,
    order: CheckpointOrder,
    /// Tasks that have not said that they know of it.
    preparing: BTreeSet<ExecutionId>,
    /// Whether tasks were told to begin it.
    triggered: bool,
}

impl UnderWay {
    /// Whether the input of tasks was ended for it.
    fn has_drained(&self) -> bool {
        let stop = self.order.savepoint().and_then(|order| order.stop);
        self.triggered && stop == Some(StopMode::Drain)
    }
}

impl JobSavepoints {
    /// Where the checkpoint goes if it is a savepoint.
    pub(super) fn folder_of(&self, checkpoint: CheckpointId) -> Option<&SnapshotFolder> {
        let over = self.over.iter().find(|(id, _)| *id == checkpoint);
        self.under_way(checkpoint)
            .map(|order| &order.folder)
            .or(over.map(|(_, folder)| folder))
    }

    /// The savepoint that the checkpoint is, if it is under way and one.
    pub(super) fn under_way(&self, checkpoint: CheckpointId) -> Option<&SavepointOrder> {
        let current = self.current.as_ref();
        let current = current.filter(|current| current.checkpoint == checkpoint);
        current.and_then(|current| current.order.savepoint())
    }

    /// The savepoint that the job has stopped with, if the next job of its name has to go on from there: a
    /// job that was drained and has finished has come to its end.
    pub(super) fn goes_on_from(&self, status: JobStatus) -> Option<CheckpointId> {
        let stopped = self.stopped.as_ref()?;
        let ended = stopped.mode == StopMode::Drain && status == JobStatus::Finished;
        (!ended).then_some(stopped.checkpoint)
    }

    /// A predecessor of this JobMaster has stopped the job with this savepoint.
    pub(super) fn has_stopped_before(
        &mut self,
        checkpoint: CheckpointId,
        folder: SnapshotFolder,
        mode: StopMode,
    ) {
        self.stopped = Some(Stopped {
            asked: STOPPED_BEFORE,
            checkpoint,
            folder,
            mode,
        });
    }

    /// Whether what is under way stops the job.
    pub(super) fn is_stopping(&self) -> bool {
        let order = self
            .current
            .as_ref()
            .and_then(|current| current.order.savepoint());
        order.is_some_and(|order| order.stop.is_some())
    }

    /// Whether the job has stopped with a savepoint: it only has to commit and to end.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Whether all tasks have to be started again when one is: their input was ended for a savepoint that is under
    /// way, or the job has stopped with one.
    pub(super) fn binds_all(&self) -> bool {
        self.has_stopped() || self.current.as_ref().is_some_and(UnderWay::has_drained)
    }

    /// Whether a savepoint is under way.
    pub(super) fn is_taking(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| current.order.savepoint().is_some())
    }

    /// Tasks were told to begin this checkpoint.
    pub(super) fn triggered(&mut self, checkpoint: CheckpointId) {
        let current = self.current.as_mut();
        current
            .filter(|current| current.checkpoint == checkpoint)
            .into_iter()
            .for_each(|current| current.triggered = true);
    }

    /// Forgets the checkpoint, if it is under way.
    fn finish_if(&mut self, checkpoint: CheckpointId) -> Option<UnderWay> {
        let current = self.current.take_if(|current| current.checkpoint == checkpoint)?;
        if let Some(order) = current.order.savepoint() {
            if self.over.len() == MAX_OVER {
                self.over.pop_front();
            }
            self.over.push_back((current.checkpoint, order.folder.clone()));
        }
        Some(current)
    }
}

fn answer(id: RequestId, result: Result<String, String>, out: &mut Effects) {
    out.push(JobEffect::AnswerSavepoint(id, result));
}

impl JobMasterBrain {
    /// Somebody wants a savepoint.
    pub(super) fn on_savepoint_requested(
        &mut self,
        now: Time,
        id: RequestId,
        order: SavepointOrder,
        out: &mut Effects,
    ) {
        if let Err(why) = self.takes_requests() {
            return answer(id, Err(why), out);
        }
        let kind = RequestKind::Savepoint {
            stop: order.stop.is_some(),
        };
        self.savepoints.wanted.insert(id, Wanted::Savepoint(order));
        self.request(now, SnapshotRequest { id, kind }, out);
    }

    /// Somebody wants a checkpoint.
    pub(super) fn on_checkpoint_wanted(
        &mut self,
        now: Time,
        id: RequestId,
        wanted: WantedCheckpoint,
        out: &mut Effects,
    ) {
        if let Err(why) = self.takes_requests() {
            return out.push(JobEffect::AnswerCheckpoint(id, Err(why)));
        }
        self.savepoints.wanted.insert(id, Wanted::Checkpoint(wanted));
        let kind = RequestKind::Checkpoint;
        self.request(now, SnapshotRequest { id, kind }, out);
    }

    fn takes_requests(&self) -> Result<(), String> {
        let status = self.status();
        if status.is_terminal() || matches!(status, JobStatus::Cancelling | JobStatus::Failing) {
            return Err(format!("the job is {status}"));
        }
        match &self.savepoints.stopped {
            Some(Stopped { folder, .. }) => {
                Err(format!("the job is stopping, with the savepoint '{folder}'"))
            }
            None => Ok(()),
        }
    }

    fn request(&mut self, now: Time, request: SnapshotRequest, out: &mut Effects) {
        self.coordinate(now, out, |coordinator, effects| {
            coordinator.request_snapshot(request, effects);
        });
    }

    /// What was asked for begins.
    pub(super) fn begin_requested(
        &mut self,
        now: Time,
        checkpoint: CheckpointId,
        request: SnapshotRequest,
        out: &mut Effects,
    ) {
        let Some(wanted) = self.savepoints.wanted.get(&request.id) else {
            return;
        };
        let (order, kind) = (
            wanted.order(),
            match wanted {
                Wanted::Savepoint(order) => SnapshotType::Savepoint(order.format),
                Wanted::Checkpoint(wanted) => {
                    self.checkpoints.any = true;
                    SnapshotType::Checkpoint(wanted.kind)
                }
            },
        );
        tracing::info!(job = %self.graph.job_graph().id, %checkpoint, ?kind, "what was asked for begins");
        self.note_triggered(now, checkpoint, kind);
        match order {
            Some(order) => self.tell_tasks(checkpoint, order, out),
            None => self.ask_enumerators(checkpoint, out),
        }
    }

    /// Tells all tasks of a checkpoint that is not like all others.
    fn tell_tasks(&mut self, checkpoint: CheckpointId, order: CheckpointOrder, out: &mut Effects) {
        let running = self
            .graph
            .executions()
            .filter(|execution| execution.state() == TaskState::Running);
        let located = running.filter_map(|execution| Some((execution.location?.0, execution.id)));
        let mut preparing = BTreeSet::new();
        for (to, execution) in located {
            preparing.insert(execution);
            out.push(JobEffect::PrepareCheckpoint {
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

    /// A task knows what a checkpoint will be, or has ended.
    pub(super) fn on_checkpoint_prepared(
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
    pub(super) fn prepared_without(&mut self, execution: ExecutionId, out: &mut Effects) {
        if let Some(checkpoint) = self.savepoints.current.as_ref().map(|current| current.checkpoint) {
            self.on_checkpoint_prepared(execution, checkpoint, out);
        }
    }

    /// A checkpoint that was asked for is complete.
    pub(super) fn requested_taken(
        &mut self,
        checkpoint: CheckpointId,
        request: SnapshotRequest,
        out: &mut Effects,
    ) {
        self.savepoints.wanted.remove(&request.id);
        self.savepoints.finish_if(checkpoint);
        out.push(JobEffect::AnswerCheckpoint(request.id, Ok(checkpoint)));
    }

    /// A savepoint is durable. Sinks commit what it holds only when the job stops with it: otherwise the
    /// next checkpoint does, and a restart that goes back behind the savepoint repeats nothing.
    pub(super) fn savepoint_taken(
        &mut self,
        checkpoint: CheckpointId,
        request: SnapshotRequest,
        metadata: Option<CheckpointMetadata>,
        out: &mut Effects,
    ) {
        self.savepoints.wanted.remove(&request.id);
        let finished = self.savepoints.finish_if(checkpoint);
        let Some(order) = finished.and_then(|finished| finished.order.savepoint().cloned()) else {
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

    /// What was asked for was not taken, or not begun.
    pub(super) fn not_taken(&mut self, now: Time, id: RequestId, why: String, out: &mut Effects) {
        let wanted = self.savepoints.wanted.remove(&id);
        let why = match &self.savepoints.because {
            Some(cause) => format!("{why}: {cause}"),
            None => why,
        };
        tracing::warn!(job = %self.graph.job_graph().id, why, "what was asked for was not taken");
        match wanted {
            Some(Wanted::Checkpoint(_)) => out.push(JobEffect::AnswerCheckpoint(id, Err(why))),
            _ => answer(id, Err(why), out),
        }
        self.own_checkpoint_not_taken(now, id, out);
    }

    /// A checkpoint was given up. Returns whether it was a savepoint.
    pub(super) fn abandon_savepoint(
        &mut self,
        now: Time,
        checkpoint: CheckpointId,
        reason: &AbortReason,
        out: &mut Effects,
    ) -> bool {
        let Some(given_up) = self.savepoints.finish_if(checkpoint) else {
            return false;
        };
        let Some(order) = given_up.order.savepoint() else {
            return false;
        };
        let discard = StorageWork::DiscardSavepoint(order.folder.clone());
        out.push(JobEffect::Store(discard));
        if order.stop.is_some() {
            // There may be a record of it.
            out.push(JobEffect::Store(StorageWork::DiscardCheckpoint(checkpoint)));
        }
        if given_up.has_drained() && *reason != AbortReason::Stopped {
            let problem = format!(
                "the job's input was ended to stop it with a savepoint, and the savepoint failed: {reason}"
            );
            let failure = JobFailure::of_job(Fault::External, problem, self.after(now));
            self.fail(now, failure, Hit::Job, out);
        }
        true
    }

    /// The job has ended: nobody who asked for anything is left without an answer.
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
