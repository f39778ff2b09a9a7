//! Which files the job's complete checkpoints share, so that the others can be deleted.
//!
//! A file's name begins with the checkpoint that it was written for. Of those up to the one that has just been
//! completed, whatever no retained checkpoint names is garbage: a checkpoint that is under way names files of its own
//! and such as the last complete one names too. So nobody counts references, and what failed or killed tasks have
//! left goes the same way.

use super::events::StorageWork;
use hurtig_core::ids::CheckpointId;
use hurtig_storage::CheckpointMetadata;
use std::collections::{BTreeMap, BTreeSet};

/// The shared files of complete checkpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedFiles {
    retained: BTreeMap<CheckpointId, Vec<String>>,
    /// Whether any checkpoint had shared files.
    any: bool,
}

impl SharedFiles {
    /// A checkpoint is complete and kept.
    pub(super) fn retain(&mut self, metadata: &CheckpointMetadata) {
        let files: Vec<String> = metadata.shared_files().map(str::to_owned).collect();
        self.any |= !files.is_empty();
        self.retained.insert(metadata.checkpoint_id, files);
    }

    /// A checkpoint is not kept any more.
    pub(super) fn release(&mut self, checkpoint: CheckpointId) {
        self.retained.remove(&checkpoint);
    }

    /// Deletes what was written for checkpoints up to this one and is not needed any more.
    pub(super) fn sweep(&self, up_to: CheckpointId) -> Option<StorageWork> {
        let kept: BTreeSet<String> = self.retained.values().flatten().cloned().collect();
        self.any.then_some(StorageWork::SweepShared { up_to, kept })
    }

    /// Deletes all that is not needed; nobody writes any more.
    pub(super) fn sweep_all(&self) -> Option<StorageWork> {
        self.sweep(CheckpointId(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::{JobId, OperatorId};
    use hurtig_storage::{METADATA_FORMAT_VERSION, OperatorStates, SnapshotKind, StateHandle, SubtaskState};

    fn metadata(checkpoint: u64, shared: &[&str]) -> CheckpointMetadata {
        let handle = StateHandle {
            path: "own".into(),
            bytes: 1,
            checksum: 2,
            shared: shared.iter().map(ToString::to_string).collect(),
        };
        let subtask = SubtaskState {
            handle: Some(handle),
            ..SubtaskState::default()
        };
        let operator = OperatorStates {
            operator: OperatorId::from_u128(1),
            uid: None,
            name: "count".into(),
            parallelism: 1,
            max_parallelism: 128,
            subtasks: BTreeMap::from([(0, subtask)]),
            coordinator: None,
            states: [].into(),
        };
        CheckpointMetadata {
            format_version: METADATA_FORMAT_VERSION,
            checkpoint_id: CheckpointId(checkpoint),
            kind: SnapshotKind::Checkpoint,
            job_id: JobId::from_u128(1),
            job_name: "job".into(),
            triggered_ms: 0,
            key_hash_version: hurtig_core::key::KEY_HASH_VERSION,
            supersedes: Vec::new(),
            native: None,
            operators: vec![operator],
        }
    }

    fn swept(work: Option<StorageWork>) -> Option<(u64, Vec<String>)> {
        match work? {
            StorageWork::SweepShared { up_to, kept } => Some((up_to.0, kept.into_iter().collect())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_retained_checkpoint_names_is_kept() {
        let mut shared = SharedFiles::default();
        shared.retain(&metadata(1, &[]));
        assert_eq!(
            swept(shared.sweep(CheckpointId(1))),
            None,
            "no folder is looked through"
        );
        shared.retain(&metadata(2, &["1-a", "2-b"]));
        shared.retain(&metadata(3, &["2-b", "3-c"]));
        shared.release(CheckpointId(1));
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            swept(shared.sweep(CheckpointId(3))),
            Some((3, names(&["1-a", "2-b", "3-c"])))
        );
        shared.release(CheckpointId(2));
        assert_eq!(
            swept(shared.sweep(CheckpointId(3))),
            Some((3, names(&["2-b", "3-c"])))
        );
        shared.retain(&metadata(4, &[]));
        shared.release(CheckpointId(3));
        assert_eq!(
            swept(shared.sweep(CheckpointId(4))),
            Some((4, names(&[]))),
            "the last ones go too"
        );
        assert_eq!(swept(shared.sweep_all()), Some((u64::MAX, names(&[]))));
    }
}
