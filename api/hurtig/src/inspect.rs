//! Looking into checkpoints and savepoints without a job, and deleting savepoints.

use crate::Error;
use hurtig_storage::{BlobStores, SnapshotDescription, SnapshotFolder, SnapshotKind};

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
    let described = serde_json::to_string_pretty(&SnapshotDescription::of(&folder, &metadata));
    described.map_err(|error| Error::Input(format!("'{folder}' cannot be described: {error}")))
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
