//! Looking into checkpoints and savepoints without a job, and deleting savepoints.

use crate::Error;
use hurtig_storage::{BlobStores, CheckpointMetadata, OperatorStates, SnapshotFolder, SnapshotKind};
use serde_json::{Value, json};

/// What a checkpoint or savepoint consists of, as JSON: of which job and when, and for each operator its
/// uid, parallelism and state files. `path` is its folder, which may be a URL; what its store needs to be opened is read from
/// the settings file and the environment, as programs do. State files are named and not read.
///
/// ```no_run
/// println!("{}", hurtig::inspect_snapshot("/backup/savepoint-5e6f94-48b327cde3747140")?);
/// # Ok::<(), hurtig::Error>(())
/// ```
///
/// # Errors
/// When there is none, or its metadata are damaged.
pub fn inspect_snapshot(path: &str) -> Result<String, Error> {
    let unreadable = |error: hurtig_storage::StorageError| Error::Input(error.to_string());
    let folder = SnapshotFolder::of_path(path).map_err(unreadable)?;
    let metadata = folder.read(&stores()?).map_err(unreadable)?;
    Ok(format!("{:#}", described(&folder, &metadata)))
}

/// Deletes a savepoint: its metadata first, then the files that they name, then its folder, if nothing else is in it.
/// Nothing may be restored from it any more, and no job may be reading it.
///
/// ```no_run
/// hurtig::dispose_savepoint("/backup/savepoint-5e6f94-48b327cde3747140")?;
/// # Ok::<(), hurtig::Error>(())
/// ```
///
/// # Errors
/// When there is none, its metadata are damaged, or it is a checkpoint, which may share files with others of its job;
/// when a file cannot be deleted.
pub fn dispose_savepoint(path: &str) -> Result<(), Error> {
    let failed = |error: hurtig_storage::StorageError| Error::Input(error.to_string());
    let folder = SnapshotFolder::of_path(path).map_err(failed)?;
    let stores = stores()?;
    let metadata = folder.read(&stores).map_err(failed)?;
    if metadata.kind == SnapshotKind::Checkpoint {
        return Err(Error::Input(format!(
            "'{folder}' is a checkpoint of job {}, which may share files with others: only savepoints are disposed of",
            metadata.job_id
        )));
    }
    folder.delete(&stores).map_err(failed)
}

/// The stores that the process's settings open.
fn stores() -> Result<BlobStores, Error> {
    let config = crate::entry::read_config(Vec::new()).map_err(Error::Config)?;
    Ok(crate::stores::blob_stores(&config))
}

fn described(folder: &SnapshotFolder, metadata: &CheckpointMetadata) -> Value {
    let operators: Vec<Value> = metadata.operators.iter().map(operator).collect();
    json!({
        "path": folder.path(),
        "kind": metadata.kind.to_string(),
        "savepoint_format": (metadata.kind == SnapshotKind::Savepoint).then_some(match metadata.native {
            Some(_) => "native",
            None => "canonical",
        }),
        "state_backend": metadata.native,
        "format_version": metadata.format_version,
        "job_id": metadata.job_id.to_string(),
        "job_name": metadata.job_name,
        "checkpoint_id": metadata.checkpoint_id.0,
        "triggered_ms": metadata.triggered_ms,
        "key_hash_version": metadata.key_hash_version,
        "supersedes": metadata.supersedes,
        "operators": operators,
    })
}

fn operator(states: &OperatorStates) -> Value {
    let subtasks = states.subtasks.iter().map(|(index, subtask)| {
        json!({
            "subtask": index,
            "finished": subtask.finished,
            "file": subtask.handle.as_ref().map(|handle| &handle.path),
            "store_files": subtask.handle.as_ref().map(|handle| &handle.shared),
            "file_bytes": subtask.handle.as_ref().map(|handle| handle.bytes),
            "index_in_file": subtask.index_in_file,
        })
    });
    json!({
        "operator": states.operator.to_string(),
        "uid": states.uid,
        "name": states.name,
        "parallelism": states.parallelism,
        "max_parallelism": states.max_parallelism,
        "coordinator_bytes": states.coordinator.as_ref().map(Vec::len),
        "subtasks": subtasks.collect::<Vec<_>>(),
        "states": states.states,
    })
}
