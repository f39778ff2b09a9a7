//! What a checkpoint consists of, as its `_metadata` says.
//!
//! Paths of files that lie in the metadata's own directory are stored relative to it, so that the directory can be moved
//! or copied as a whole.

use crate::error::{Result, StorageError};
use crate::format::Compression;
use crate::format::header::FileKind;
use crate::format::reader::data_of;
use crate::format::writer::{FileImage, FileWriter};
use crate::path::{below, check_path, join, scheme_of};
use crate::rescale::Scale;
use crate::state_file::StateHandle;
use crate::store::BlobStore;
use hurtig_core::ids::{CheckpointId, JobId, OperatorId};
use hurtig_core::key::{KEY_HASH_VERSION, MAX_KEY_GROUPS};
use hurtig_state::StateShapes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// The version of [`CheckpointMetadata`] that this build writes.
pub const METADATA_FORMAT_VERSION: u32 = 2;

/// The oldest version that this build reads. It had no [`OperatorStates::states`].
const OLDEST_FORMAT_VERSION: u32 = 1;

/// The name of the metadata in a checkpoint's directory.
pub const METADATA_NAME: &str = "_metadata";

/// What a stored path begins with when it is relative to the metadata's directory. No path in a
/// store begins so.
pub(crate) const OWN: &str = "./";

/// Who owns a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotKind {
    /// The engine, which deletes it when newer ones have taken its place.
    Checkpoint,
    /// The user. It names no file outside of its own directory.
    Savepoint,
}

/// A completed checkpoint or savepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMetadata {
    /// [`METADATA_FORMAT_VERSION`], also of metadata that were read from an older one.
    pub format_version: u32,
    /// Which checkpoint of the job.
    pub checkpoint_id: CheckpointId,
    /// Who owns it.
    pub kind: SnapshotKind,
    /// The job.
    pub job_id: JobId,
    /// The job's name.
    pub job_name: String,
    /// When it was triggered, in milliseconds since 1970 by the clock of the one who did.
    pub triggered_ms: u64,
    /// [`KEY_HASH_VERSION`] of the job.
    pub key_hash_version: u32,
    /// Folders of checkpoints of jobs that have ended, which this one was restored from and takes the
    /// place of: whoever owns this one deletes them. One that begins with a slash, or is a URL, is a whole path, of a
    /// folder in another store.
    pub supersedes: Vec<String>,
    /// Of a native savepoint, the state backend whose files it consists of: no other one is promised to read them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<String>,
    /// The state of all operators.
    pub operators: Vec<OperatorStates>,
}

/// In which form a savepoint holds keyed state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SavepointFormat {
    /// As entries, which any state backend reads.
    #[default]
    Canonical,
    /// As the files of the job's state backend.
    Native,
}

/// The state of one operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorStates {
    /// Which operator.
    pub operator: OperatorId,
    /// The uid that its id was made from, if it had one.
    pub uid: Option<String>,
    /// Its name, for people.
    pub name: String,
    /// How many subtasks it had.
    pub parallelism: u32,
    /// How many key groups its keys were divided into.
    pub max_parallelism: u32,
    /// What each subtask left; subtasks without state may be missing.
    pub subtasks: BTreeMap<u32, SubtaskState>,
    /// What the operator's coordinator left.
    #[serde(with = "serde_bytes")]
    pub coordinator: Option<Vec<u8>>,
    /// The types of its states, by name; none when nothing was written down of them.
    #[serde(default)]
    pub states: StateShapes,
}

impl CheckpointMetadata {
    /// The paths of all files, once for each operator and subtask that has a part in one.
    pub fn state_files(&self) -> impl Iterator<Item = &str> {
        let own = self.handles().map(|handle| handle.path.as_str());
        own.chain(self.shared_files())
    }

    /// The paths of all files that other checkpoints may name too.
    pub fn shared_files(&self) -> impl Iterator<Item = &str> {
        self.handles()
            .flat_map(|handle| handle.shared.iter().map(String::as_str))
    }

    fn handles(&self) -> impl Iterator<Item = &StateHandle> {
        let subtasks = self.operators.iter().flat_map(|states| states.subtasks.values());
        subtasks.filter_map(|subtask| subtask.handle.as_ref())
    }
}

impl OperatorStates {
    /// Its parallelisms.
    pub fn scale(&self) -> Scale {
        Scale {
            parallelism: self.parallelism,
            max_parallelism: self.max_parallelism,
        }
    }
}

/// What one subtask of an operator left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskState {
    /// The file that its state is in; none when it had none.
    pub handle: Option<StateHandle>,
    /// Which snapshot in that file is the operator's.
    pub index_in_file: u32,
    /// Whether the subtask had finished before.
    pub finished: bool,
}

/// Writes the metadata of a checkpoint into its directory. When this returns, the checkpoint can be
/// restored after any failure.
///
/// # Errors
/// [`StorageError::AlreadyExists`] when the directory has metadata; what [`BlobStore::put_new`] fails
/// with; [`StorageError::Internal`] for metadata that make no sense.
pub fn write_metadata(store: &dyn BlobStore, dir: &str, metadata: &CheckpointMetadata) -> Result<()> {
    let file = FileWriter::new(FileKind::Metadata, Compression::None);
    store.put_new(
        &join(dir, METADATA_NAME),
        &metadata_image(dir, metadata, file)?.bytes,
    )
}

/// The bytes of the metadata of a checkpoint in `dir`.
pub(crate) fn metadata_image(
    dir: &str,
    metadata: &CheckpointMetadata,
    mut file: FileWriter,
) -> Result<FileImage> {
    let bad = |problem| StorageError::Internal(format!("metadata for '{dir}': {problem}"));
    check(metadata).map_err(bad)?;
    let mut stored = metadata.clone();
    for handle in handles(&mut stored) {
        for path in handle.shared.iter_mut().chain([&mut handle.path]) {
            check_path(path)?;
            match below(dir, path) {
                Some(own) => *path = format!("{OWN}{own}"),
                None if metadata.kind == SnapshotKind::Savepoint => {
                    return Err(bad(format!("a savepoint names '{path}', outside of it")));
                }
                None => {}
            }
        }
    }
    let bytes = rmp_serde::to_vec_named(&stored).map_err(|e| bad(e.to_string()))?;
    file.write(&bytes);
    Ok(file.finish())
}

/// Reads the metadata of a checkpoint from its directory. Paths of state files are those of the
/// store, wherever the directory lies now.
///
/// # Errors
/// [`StorageError::NotFound`] when there are none; [`StorageError::Corrupt`] with the offset;
/// [`StorageError::Incompatible`] when this build cannot use them.
pub fn read_metadata(store: &dyn BlobStore, dir: &str) -> Result<CheckpointMetadata> {
    let path = join(dir, METADATA_NAME);
    let data = data_of(&path, &store.get(&path)?, FileKind::Metadata)?;
    let unusable = |problem: String| StorageError::incompatible(&path, problem);
    let versions: Versions = rmp_serde::from_slice(&data).map_err(|e| unusable(e.to_string()))?;
    versions.check().map_err(unusable)?;
    let mut metadata: CheckpointMetadata =
        rmp_serde::from_slice(&data).map_err(|e| unusable(format!("its document cannot be read: {e}")))?;
    metadata.format_version = METADATA_FORMAT_VERSION;
    check(&metadata).map_err(unusable)?;
    for handle in handles(&mut metadata) {
        for path in handle.shared.iter_mut().chain([&mut handle.path]) {
            *path = resolve(dir, path);
            check_path(path).map_err(|e| unusable(format!("it names a state file: {e}")))?;
        }
    }
    Ok(metadata)
}

/// The path that a stored one is, in a file of this directory.
pub(crate) fn resolve(dir: &str, path: &str) -> String {
    match path.strip_prefix(OWN) {
        Some(own) => join(dir, own),
        None => path.to_owned(),
    }
}

/// What tells whether the rest can be read.
#[derive(Deserialize)]
struct Versions {
    format_version: u32,
    key_hash_version: u32,
}

impl Versions {
    fn check(&self) -> Result<(), String> {
        for (what, found, oldest, newest) in versions(self.format_version, self.key_hash_version) {
            let known = match oldest == newest {
                true => format!("{newest} only"),
                false => format!("{oldest} to {newest}"),
            };
            if !(oldest..=newest).contains(&found) {
                return Err(format!(
                    "it has {what} version {found}, and this build knows {known}; restore it with the version of \
                     Hurtig that wrote it"
                ));
            }
        }
        Ok(())
    }
}

/// Versions as they are, beside the oldest and the newest that this build knows.
fn versions(format: u32, key_hash: u32) -> [(&'static str, u32, u32, u32); 2] {
    [
        (
            "metadata format",
            format,
            OLDEST_FORMAT_VERSION,
            METADATA_FORMAT_VERSION,
        ),
        ("key hash", key_hash, KEY_HASH_VERSION, KEY_HASH_VERSION),
    ]
}

/// These folders will be deleted: the empty one would be the whole store.
pub(crate) fn check_superseded(folders: &[String]) -> Result<(), String> {
    for folder in folders {
        let rest = scheme_of(folder).map(|scheme| &folder[scheme.len() + 3..]);
        let path = rest.unwrap_or_else(|| folder.strip_prefix('/').unwrap_or(folder));
        check_path(path).map_err(|e| format!("it supersedes a checkpoint: {e}"))?;
    }
    Ok(())
}

/// What the rest of the engine relies on.
fn check(metadata: &CheckpointMetadata) -> Result<(), String> {
    for (what, found, _, known) in versions(metadata.format_version, metadata.key_hash_version) {
        if found != known {
            return Err(format!("it is of {what} version {found}, and {known} is written"));
        }
    }
    check_superseded(&metadata.supersedes)?;
    let mut seen = BTreeMap::new();
    for operator in &metadata.operators {
        if let Some(other) = seen.insert(operator.operator, &operator.name) {
            return Err(format!(
                "it has the state of operator {} twice, as '{other}' and as '{}'",
                operator.operator, operator.name
            ));
        }
    }
    for operator in &metadata.operators {
        let name = &operator.name;
        let (parallelism, max) = (operator.parallelism, operator.max_parallelism);
        if parallelism == 0 || parallelism > max || max > MAX_KEY_GROUPS {
            return Err(format!(
                "operator '{name}' has parallelism {parallelism} of at most {max}"
            ));
        }
        if let Some((index, _)) = operator
            .subtasks
            .last_key_value()
            .filter(|(index, _)| **index >= parallelism)
        {
            return Err(format!(
                "operator '{name}' has a subtask {index} and parallelism {parallelism}"
            ));
        }
    }
    Ok(())
}

fn handles(metadata: &mut CheckpointMetadata) -> impl Iterator<Item = &mut StateHandle> {
    let operators = metadata.operators.iter_mut();
    let subtasks = operators.flat_map(|operator| operator.subtasks.values_mut());
    subtasks.filter_map(|subtask| subtask.handle.as_mut())
}
