//! What became of a job's checkpoints and savepoints, for those who watch it.

use super::checkpoints::AbortReason;
use crate::config::CheckpointKind;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_storage::{CheckpointMetadata, SavepointFormat, SnapshotKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Checkpoints and savepoints of a job since it was submitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointStatistics {
    /// Begun, savepoints included.
    pub triggered: u64,
    /// Durable, savepoints included.
    pub completed: u64,
    /// Given up, savepoints included. Those that ended with their job or its restart do not count.
    pub failed: u64,
    /// The last checkpoint that is durable.
    pub last_checkpoint: Option<CompletedCheckpoint>,
    /// The last savepoint that is durable.
    pub last_savepoint: Option<CompletedCheckpoint>,
    /// The last one that was given up.
    pub last_failure: Option<FailedCheckpoint>,
}

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotType {
    /// A checkpoint, as the configuration says or as somebody has asked for it.
    Checkpoint(CheckpointKind),
    /// A savepoint.
    Savepoint(SavepointFormat),
}

/// A checkpoint or savepoint that is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedCheckpoint {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// What it is.
    pub kind: SnapshotType,
    /// From its trigger until it was durable.
    pub duration: Duration,
    /// Length of all its state files, as stored.
    pub bytes: u64,
}

/// A checkpoint or savepoint that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCheckpoint {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// What it was to be.
    pub kind: SnapshotType,
    /// From its trigger until it was given up.
    pub duration: Duration,
    /// Why.
    pub cause: String,
}

/// Statistics as they grow.
#[derive(Clone, Debug, Default)]
pub(super) struct Statistics {
    pub(super) so_far: CheckpointStatistics,
    /// Those that are under way.
    triggered: BTreeMap<CheckpointId, (Time, SnapshotType)>,
}

impl Statistics {
    pub(super) fn triggered(&mut self, now: Time, checkpoint: CheckpointId, kind: SnapshotType) {
        self.so_far.triggered += 1;
        self.triggered.insert(checkpoint, (now, kind));
    }

    pub(super) fn completed(&mut self, now: Time, metadata: &CheckpointMetadata) {
        let checkpoint = metadata.checkpoint_id;
        let Some((triggered, kind)) = self.triggered.remove(&checkpoint) else {
            return;
        };
        let completed = CompletedCheckpoint {
            checkpoint,
            kind,
            duration: now.since(triggered),
            bytes: bytes(metadata),
        };
        self.so_far.completed += 1;
        match metadata.kind {
            SnapshotKind::Checkpoint => self.so_far.last_checkpoint = Some(completed),
            SnapshotKind::Savepoint => self.so_far.last_savepoint = Some(completed),
        }
    }

    pub(super) fn aborted(&mut self, now: Time, checkpoint: CheckpointId, reason: &AbortReason) {
        let Some((triggered, kind)) = self.triggered.remove(&checkpoint) else {
            return;
        };
        if *reason != AbortReason::Stopped {
            self.so_far.failed += 1;
            self.so_far.last_failure = Some(FailedCheckpoint {
                checkpoint,
                kind,
                duration: now.since(triggered),
                cause: reason.to_string(),
            });
        }
    }
}

/// Operators of one chain share a file: each file counts once.
fn bytes(metadata: &CheckpointMetadata) -> u64 {
    let subtasks = metadata.operators.iter().flat_map(|one| one.subtasks.values());
    let handles = subtasks.filter_map(|subtask| subtask.handle.as_ref());
    let files: BTreeMap<&str, u64> = handles
        .map(|handle| (handle.path.as_str(), handle.bytes))
        .collect();
    files.values().sum()
}
