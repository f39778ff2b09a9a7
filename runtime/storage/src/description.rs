//! What a checkpoint or savepoint consists of, for people and tools: state files are named and not read.

use crate::{CheckpointMetadata, OperatorStates, SnapshotFolder, SnapshotKind, SubtaskState};
use hurtig_state::StateShapes;
use serde::Serialize;

/// A checkpoint or savepoint as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotDescription {
    path: String,
    kind: String,
    savepoint_format: Option<&'static str>,
    state_backend: Option<String>,
    format_version: u32,
    job_id: String,
    job_name: String,
    checkpoint_id: u64,
    triggered_ms: u64,
    key_hash_version: u32,
    supersedes: Vec<String>,
    operators: Vec<OperatorDescription>,
}

#[derive(Clone, Debug, Serialize)]
struct OperatorDescription {
    operator: String,
    uid: Option<String>,
    name: String,
    parallelism: u32,
    max_parallelism: u32,
    coordinator_bytes: Option<usize>,
    subtasks: Vec<SubtaskDescription>,
    states: StateShapes,
}

#[derive(Clone, Debug, Serialize)]
struct SubtaskDescription {
    subtask: u32,
    finished: bool,
    file: Option<String>,
    store_files: Option<Vec<String>>,
    file_bytes: Option<u64>,
    index_in_file: u32,
}

impl SnapshotDescription {
    /// Of the metadata that lie in `folder`.
    pub fn of(folder: &SnapshotFolder, metadata: &CheckpointMetadata) -> Self {
        let of_savepoint = metadata.kind == SnapshotKind::Savepoint;
        let format = metadata.native.as_ref().map_or("canonical", |_| "native");
        Self {
            path: folder.path(),
            kind: metadata.kind.to_string(),
            savepoint_format: of_savepoint.then_some(format),
            state_backend: metadata.native.clone(),
            format_version: metadata.format_version,
            job_id: metadata.job_id.to_string(),
            job_name: metadata.job_name.clone(),
            checkpoint_id: metadata.checkpoint_id.0,
            triggered_ms: metadata.triggered_ms,
            key_hash_version: metadata.key_hash_version,
            supersedes: metadata.supersedes.clone(),
            operators: metadata.operators.iter().map(OperatorDescription::of).collect(),
        }
    }
}

impl OperatorDescription {
    fn of(states: &OperatorStates) -> Self {
        let subtasks = states.subtasks.iter();
        Self {
            operator: states.operator.to_string(),
            uid: states.uid.clone(),
            name: states.name.clone(),
            parallelism: states.parallelism,
            max_parallelism: states.max_parallelism,
            coordinator_bytes: states.coordinator.as_ref().map(Vec::len),
            subtasks: subtasks
                .map(|(index, subtask)| SubtaskDescription::of(*index, subtask))
                .collect(),
            states: states.states.clone(),
        }
    }
}

impl SubtaskDescription {
    fn of(index: u32, subtask: &SubtaskState) -> Self {
        let handle = subtask.handle.as_ref();
        Self {
            subtask: index,
            finished: subtask.finished,
            file: handle.map(|handle| handle.path.clone()),
            store_files: handle.map(|handle| handle.shared.clone()),
            file_bytes: handle.map(|handle| handle.bytes),
            index_in_file: subtask.index_in_file,
        }
    }
}
