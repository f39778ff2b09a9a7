//! Checkpoints and savepoints that somebody asked for: they wait for the one that is under way and for nothing else.
//! A checkpoint that was asked for is one like those of the interval then; a savepoint belongs to who asked, and
//! counts neither among the checkpoints that are kept nor among the failures.

use super::{CheckpointCoordinator, CheckpointEffect, CheckpointTask, CheckpointTimer, Effects, sources_of};
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use std::time::Duration;

/// Requests of a job that may wait at once; more are refused.
pub const MAX_REQUESTS: usize = 100;

/// Names a request for a checkpoint or savepoint, within its JobMaster.
pub type RequestId = u64;

/// What somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// The request's name.
    pub id: RequestId,
    /// What it is for.
    pub kind: RequestKind,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A checkpoint.
    Checkpoint,
    /// A savepoint.
    Savepoint {
        /// Whether the job stops with it.
        stop: bool,
    },
}

impl<H: Clone> CheckpointCoordinator<H> {
    /// Somebody wants a checkpoint or savepoint. It begins when the tasks run and no other one is under way.
    pub fn request_snapshot(&mut self, request: SnapshotRequest, out: &mut Effects<H>) {
        if self.requests.len() >= MAX_REQUESTS {
            let why = format!("{MAX_REQUESTS} others wait already: wait for one of them");
            return out.push(CheckpointEffect::NotTaken(request.id, why));
        }
        self.requests.push_back(request);
        let timer = CheckpointTimer::GiveUp(request.id);
        out.push(CheckpointEffect::After(self.settings.timeout, timer));
        self.look_at_requests(out);
    }

    /// The job has ended: nothing that was asked for will be done.
    pub fn end(&mut self, out: &mut Effects<H>) {
        let failed =
            |request: SnapshotRequest| CheckpointEffect::NotTaken(request.id, "the job has ended".to_owned());
        out.extend(self.requests.drain(..).map(failed));
    }

    /// Sees to it that what waits is begun.
    pub(super) fn look_at_requests(&self, out: &mut Effects<H>) {
        if self.started && self.current.is_none() && !self.requests.is_empty() {
            out.push(CheckpointEffect::After(Duration::ZERO, CheckpointTimer::Trigger));
        }
    }

    /// Begins what was asked for first, if something was and it can begin.
    pub(super) fn begin_requested(
        &mut self,
        now: Time,
        tasks: &[CheckpointTask],
        out: &mut Effects<H>,
    ) -> bool {
        if !self.started || sources_of(tasks).is_none() {
            return false;
        }
        let Some(request) = self.requests.pop_front() else {
            return false;
        };
        let checkpoint = self.begin(now, tasks, Some(request));
        out.push(CheckpointEffect::Begin(checkpoint, request));
        self.expire_later(checkpoint, out);
        true
    }

    /// A request has waited long enough.
    pub(super) fn give_up(&mut self, id: RequestId, out: &mut Effects<H>) {
        let waiting = self.requests.len();
        self.requests.retain(|request| request.id != id);
        if self.requests.len() < waiting {
            let timeout = self.settings.timeout;
            let why = format!(
                "it could not begin within {timeout:?} (execution.checkpointing.timeout): the job's tasks did not run, or \
                 other checkpoints took so long"
            );
            out.push(CheckpointEffect::NotTaken(id, why));
        }
    }

    /// What was asked for is durable. After a savepoint that the job stops with, there is nothing more to be saved.
    pub(super) fn taken(&mut self, checkpoint: CheckpointId, request: SnapshotRequest, out: &mut Effects<H>) {
        out.push(CheckpointEffect::Taken(checkpoint, request));
        if request.kind == (RequestKind::Savepoint { stop: true }) {
            (self.started, self.requested, self.due) = (false, false, None);
        }
    }
}
