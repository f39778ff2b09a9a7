//! Savepoints that somebody asked for: they wait for the checkpoint that is under way and for nothing else,
//! belong to who asked, and count neither among the checkpoints that are kept nor among the failures.

use super::{CheckpointCoordinator, CheckpointEffect, CheckpointTask, CheckpointTimer, Effects, sources_of};
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use std::time::Duration;

/// Savepoints of a job that may wait at once; more are refused.
pub const MAX_SAVEPOINT_REQUESTS: usize = 100;

/// Names a request for a savepoint, within its JobMaster.
pub type SavepointId = u64;

/// A savepoint that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavepointRequest {
    /// Its name.
    pub id: SavepointId,
    /// Whether the job stops with it.
    pub stop: bool,
}

impl<H: Clone> CheckpointCoordinator<H> {
    /// Somebody wants a savepoint. It begins when the tasks run and no checkpoint is under way.
    pub fn request_savepoint(&mut self, request: SavepointRequest, out: &mut Effects<H>) {
        if self.savepoints.len() >= MAX_SAVEPOINT_REQUESTS {
            let why = format!("{MAX_SAVEPOINT_REQUESTS} others wait already: wait for one of them");
            return out.push(CheckpointEffect::SavepointFailed(request.id, why));
        }
        self.savepoints.push_back(request);
        let timer = CheckpointTimer::GiveUp(request.id);
        out.push(CheckpointEffect::After(self.settings.timeout, timer));
        self.look_at_savepoints(out);
    }

    /// The job has ended: nothing that was asked for will be done.
    pub fn end(&mut self, out: &mut Effects<H>) {
        let failed = |request: SavepointRequest| {
            CheckpointEffect::SavepointFailed(request.id, "the job has ended".to_owned())
        };
        out.extend(self.savepoints.drain(..).map(failed));
    }

    /// Sees to it that a savepoint which waits is begun.
    pub(super) fn look_at_savepoints(&self, out: &mut Effects<H>) {
        if self.started && self.current.is_none() && !self.savepoints.is_empty() {
            out.push(CheckpointEffect::After(Duration::ZERO, CheckpointTimer::Trigger));
        }
    }

    /// Begins the first savepoint that waits, if there is one and it can begin.
    pub(super) fn begin_savepoint(
        &mut self,
        now: Time,
        tasks: &[CheckpointTask],
        out: &mut Effects<H>,
    ) -> bool {
        if !self.started || sources_of(tasks).is_none() {
            return false;
        }
        let Some(request) = self.savepoints.pop_front() else {
            return false;
        };
        let checkpoint = self.begin(now, tasks, Some(request));
        out.push(CheckpointEffect::BeginSavepoint(checkpoint, request));
        self.expire_later(checkpoint, out);
        true
    }

    /// A savepoint was waited for long enough.
    pub(super) fn give_up(&mut self, savepoint: SavepointId, out: &mut Effects<H>) {
        let waiting = self.savepoints.len();
        self.savepoints.retain(|request| request.id != savepoint);
        if self.savepoints.len() < waiting {
            let timeout = self.settings.timeout;
            let why = format!(
                "it could not begin within {timeout:?} (execution.checkpointing.timeout): the job's tasks did not run, or \
                 other checkpoints took so long"
            );
            out.push(CheckpointEffect::SavepointFailed(savepoint, why));
        }
    }

    /// A savepoint is durable. After one that the job stops with, there is nothing more to be saved.
    pub(super) fn savepoint_taken(
        &mut self,
        checkpoint: CheckpointId,
        request: SavepointRequest,
        out: &mut Effects<H>,
    ) {
        out.push(CheckpointEffect::SavepointTaken(checkpoint, request));
        if request.stop {
            (self.started, self.requested, self.due) = (false, false, None);
        }
    }
}
