//! [`StopRecord`]: what a job that stopped with a savepoint leaves among its checkpoints, so that whoever
//! looks for the latest one finds the savepoint: whatever was committed with it must not be repeated.

use crate::error::{Result, StorageError};
use crate::folder::SnapshotFolder;
use crate::format::Compression;
use crate::format::header::FileKind;
use crate::format::reader::data_of;
use crate::format::writer::FileWriter;
use crate::metadata::{CheckpointMetadata, check_superseded};
use crate::path::join;
use crate::store::BlobStore;
use hurtig_core::ids::{CheckpointId, JobId};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The name of the record in the directory that the savepoint would have as a checkpoint.
pub const STOP_RECORD_NAME: &str = "_savepoint";

/// The version of [`StopRecord`] that this build writes, and the only one there is yet.
const VERSION: u32 = 1;

/// Where the savepoint is that a job has stopped with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRecord {
    format_version: u32,
    /// The job.
    pub job_id: JobId,
    /// Its name.
    pub job_name: String,
    /// Which of its checkpoints the savepoint is.
    pub checkpoint_id: CheckpointId,
    /// When it was triggered, in milliseconds since 1970.
    pub triggered_ms: u64,
    /// Where it is.
    pub savepoint: SnapshotFolder,
    /// Checkpoints of other jobs that this one went on from, and had not deleted when it stopped; as
    /// [`CheckpointMetadata::supersedes`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<String>,
}

impl StopRecord {
    /// The record of a job that stops with a savepoint whose metadata are given.
    pub fn of(metadata: &CheckpointMetadata, savepoint: SnapshotFolder) -> Self {
        Self {
            format_version: VERSION,
            job_id: metadata.job_id,
            job_name: metadata.job_name.clone(),
            checkpoint_id: metadata.checkpoint_id,
            triggered_ms: metadata.triggered_ms,
            savepoint,
            supersedes: Vec::new(),
        }
    }

    /// The same, of a job that has still to delete these checkpoints of others.
    pub fn superseding(self, supersedes: Vec<String>) -> Self {
        Self { supersedes, ..self }
    }

    /// Writes the record into a checkpoint's directory. When this returns, the savepoint is the job's
    /// latest checkpoint after any failure.
    ///
    /// # Errors
    /// [`StorageError::AlreadyExists`] when there is one; what [`BlobStore::put_new`] fails with.
    pub fn write(&self, store: &dyn BlobStore, dir: &str) -> Result<()> {
        let bytes = rmp_serde::to_vec_named(self)
            .map_err(|error| StorageError::Internal(format!("stop record for '{dir}': {error}")))?;
        let mut file = FileWriter::new(FileKind::StopRecord, Compression::None);
        file.write(&bytes);
        store.put_new(&join(dir, STOP_RECORD_NAME), &file.finish().bytes)
    }

    /// Reads the record of a checkpoint's directory; `None` when there is none: it is a checkpoint.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] with the offset; [`StorageError::Incompatible`] when this build cannot use
    /// it; what the store fails with.
    pub fn read(store: &dyn BlobStore, dir: &str) -> Result<Option<Self>> {
        let path = join(dir, STOP_RECORD_NAME);
        let bytes = match store.get(&path) {
            Err(StorageError::NotFound { .. }) => return Ok(None),
            bytes => bytes?,
        };
        let data = data_of(&path, &bytes, FileKind::StopRecord)?;
        let unusable = |problem: String| StorageError::incompatible(&path, problem);
        let record: Self = rmp_serde::from_slice(&data).map_err(|error| unusable(error.to_string()))?;
        if record.format_version != VERSION {
            return Err(unusable(format!(
                "it has version {}, and this build knows {VERSION} only; restore the savepoint with the version of \
                 Hurtig that wrote it",
                record.format_version
            )));
        }
        check_superseded(&record.supersedes).map_err(unusable)?;
        Ok(Some(record))
    }
}
