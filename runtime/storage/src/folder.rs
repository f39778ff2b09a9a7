//! [`SnapshotFolder`]: a checkpoint or savepoint by the place where it lies, in the job's own store or in
//! any other one.
//!
//! A folder is named by the location of a store and a path within it, so that whoever is told of it can
//! open it. Which of the slashes in a whole path divides the two follows from its last names: a checkpoint
//! may name files beside its own folder, a savepoint never does.

use crate::error::{Result, StorageError};
use crate::layout::is_checkpoint;
use crate::metadata::{CheckpointMetadata, METADATA_NAME, SnapshotKind, read_metadata};
use crate::path::{below, check_path, join, scheme_of};
use crate::store::{BlobStore, LocalStore};
use crate::stores::BlobStores;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// A folder of a store that is named by its location.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SnapshotFolder {
    /// Where the store is, as [`BlobStores::open`] takes it.
    pub store: String,
    /// The folder's path in the store.
    pub folder: String,
}

impl SnapshotFolder {
    /// The folder that a whole path names, its `_metadata` included or not. A relative path counts from
    /// the process's working directory. Whether there is a store for a URL is seen when it is opened.
    ///
    /// # Errors
    /// [`StorageError::BadLocation`] for the root of a store, and for what is no path.
    pub fn of_path(path: &str) -> Result<Self> {
        let bare = path.trim_end_matches('/');
        let bare = bare
            .strip_suffix(METADATA_NAME)
            .map_or(bare, |dir| dir.trim_end_matches('/'));
        let bad = || StorageError::BadLocation {
            location: path.to_owned(),
            problem: "it names no folder in which a checkpoint or savepoint could lie".to_owned(),
        };
        let scheme = scheme_of(path).filter(|scheme| *scheme != "file");
        let no_bucket = scheme.is_some_and(|scheme| bare.len() <= scheme.len() + 3);
        if (bare.is_empty() && !path.is_empty()) || no_bucket {
            return Err(bad());
        }
        let (begin, rest) = match scheme {
            // A bucket is a store, and never a folder.
            Some(scheme) => {
                let bucket = bare[scheme.len() + 3..].split('/').next().unwrap_or_default();
                let (begin, rest) = bare.split_at(scheme.len() + 3 + bucket.len());
                (begin.to_owned(), rest.to_owned())
            }
            None => {
                let root = LocalStore::open(bare)?.root().to_string_lossy().into_owned();
                (String::new(), root)
            }
        };
        let (above, name) = rest.trim_end_matches('/').rsplit_once('/').ok_or_else(bad)?;
        let (store, folder) = match above.rsplit_once('/') {
            Some((store, job)) if is_checkpoint(&join(job, name)) => (store, join(job, name)),
            _ => (above, name.to_owned()),
        };
        check_path(&folder).map_err(|_| bad())?;
        let store = format!("{begin}{store}");
        let store = if store.is_empty() { "/".to_owned() } else { store };
        Ok(Self { store, folder })
    }

    /// The whole path.
    pub fn path(&self) -> String {
        format!("{}/{}", self.store.trim_end_matches('/'), self.folder)
    }

    /// Opens its store.
    ///
    /// # Errors
    /// As [`BlobStores::open`].
    pub fn open(&self, stores: &BlobStores) -> Result<Arc<dyn BlobStore>> {
        stores.open(&self.store)
    }

    /// Reads its metadata.
    ///
    /// # Errors
    /// As [`read_metadata`], with whole paths; [`StorageError::Incompatible`] for a checkpoint that names
    /// files outside of its folder and was moved away from them.
    pub fn read(&self, stores: &BlobStores) -> Result<CheckpointMetadata> {
        let metadata = read_metadata(&*self.open(stores)?, &self.folder).map_err(|error| match error {
            StorageError::NotFound { .. } => StorageError::NoSnapshot { folder: self.path() },
            error => error.within(&self.store),
        })?;
        let outside = metadata
            .state_files()
            .find(|file| below(&self.folder, file).is_none());
        if let Some(file) = outside.filter(|_| !is_checkpoint(&self.folder)) {
            let problem = format!(
                "it names '{file}', which lies outside of its folder: it is a checkpoint that was moved; restore it \
                 from '<checkpoint directory>/{}/chk-{}', or take a savepoint, which can be moved",
                metadata.job_id, metadata.checkpoint_id
            );
            let path = join(&self.path(), METADATA_NAME);
            return Err(StorageError::incompatible(&path, problem));
        }
        Ok(metadata)
    }

    /// Deletes it, as [`delete_snapshot`].
    ///
    /// # Errors
    /// As [`delete_snapshot`].
    pub fn delete(&self, stores: &BlobStores) -> Result<()> {
        delete_snapshot(&*self.open(stores)?, &self.folder).map_err(|error| error.within(&self.store))
    }
}

/// Deletes the checkpoint or savepoint in a folder: first the metadata, then the files in the folder that
/// they name, then the folder, if nothing else is in it. Nothing happens without metadata: then it is no
/// snapshot.
///
/// # Errors
/// Metadata that cannot be read, and what the store fails with.
pub fn delete_snapshot(store: &dyn BlobStore, folder: &str) -> Result<()> {
    if !store.exists(&join(folder, METADATA_NAME))? {
        return Ok(());
    }
    let metadata = read_metadata(store, folder)?;
    store.delete(&join(folder, METADATA_NAME))?;
    let files = metadata
        .state_files()
        .filter(|file| below(folder, file).is_some());
    let files: Vec<String> = files.map(str::to_owned).collect();
    store.delete_each(&files)?;
    if store.list(folder)?.is_empty() {
        store.delete_all(folder)?;
    }
    Ok(())
}

impl fmt::Display for SnapshotFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// What the name of a snapshot's kind is in messages.
impl fmt::Display for SnapshotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checkpoint => "checkpoint",
            Self::Savepoint => "savepoint",
        })
    }
}
