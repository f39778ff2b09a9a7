//! [`MemoryStore`]: objects in memory, for tests.

use super::BlobStore;
use crate::error::{Result, StorageError};
use crate::path::{below, check_folder, check_path};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Objects in memory; gone with the process. Nothing is ever left unfinished.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Arc<[u8]>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Arc<[u8]>>> {
        // Every change is one call of the map, so a panic elsewhere left it whole.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, path: &str) -> Result<Arc<[u8]>> {
        check_path(path)?;
        let object = self.objects().get(path).cloned();
        object.ok_or_else(|| StorageError::NotFound {
            path: path.to_owned(),
        })
    }
}

impl BlobStore for MemoryStore {
    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<()> {
        check_path(path)?;
        let mut objects = self.objects();
        if objects.contains_key(path) {
            return Err(StorageError::AlreadyExists {
                path: path.to_owned(),
            });
        }
        objects.insert(path.to_owned(), bytes.into());
        Ok(())
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.object(path)?.to_vec())
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let object = self.object(path)?;
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(object.len());
        let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
        Ok(object[start..end].to_vec())
    }

    fn exists(&self, path: &str) -> Result<bool> {
        check_path(path)?;
        Ok(self.objects().contains_key(path))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        check_folder(folder)?;
        let objects = self.objects();
        let paths = objects.keys().filter(|path| below(folder, path).is_some());
        Ok(paths.cloned().collect())
    }

    fn delete(&self, path: &str) -> Result<()> {
        check_path(path)?;
        self.objects().remove(path);
        Ok(())
    }

    fn delete_all(&self, folder: &str) -> Result<()> {
        check_folder(folder)?;
        self.objects().retain(|path, _| below(folder, path).is_none());
        Ok(())
    }

    fn sweep(&self, folder: &str) -> Result<usize> {
        check_folder(folder).map(|()| 0)
    }
}
