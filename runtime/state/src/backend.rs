//! Where keyed state is kept: in memory, or in stores behind caches.

use crate::cached::CacheMemory;
use crate::store::{ByteStore, ByteStoreFactory};
use hurtig_core::error::{Error, Result};
use hurtig_core::ids::random_number;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the keyed states of a process's operators are kept.
#[derive(Clone, Debug, Default)]
pub enum StateBackend {
    /// In the memory of the process, as values: Flink's `hashmap`.
    #[default]
    Heap,
    /// In stores on disk, one for each operator of a subtask, with the recently used values in memory.
    Store(StoreBackend),
}

/// Makes the stores of a process.
#[derive(Clone)]
pub struct StoreBackend {
    factory: Arc<dyn ByteStoreFactory>,
    root: Arc<ScratchDir>,
    memory: CacheMemory,
    next: Arc<AtomicU64>,
}

impl fmt::Debug for StoreBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBackend")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl StoreBackend {
    /// Stores of `factory` in directories below `root`; caches share `memory`.
    pub fn new(factory: Arc<dyn ByteStoreFactory>, root: ScratchDir, memory: CacheMemory) -> Self {
        Self {
            factory,
            root: Arc::new(root),
            memory,
            next: Arc::default(),
        }
    }

    pub(crate) fn memory(&self) -> &CacheMemory {
        &self.memory
    }

    /// An empty store for one operator of a subtask.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn create(&self) -> Result<SubtaskStore> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let dir = self.root.path().join(number.to_string());
        Ok(SubtaskStore {
            store: Some(self.factory.create(&dir)?),
            dir,
            _root: Arc::clone(&self.root),
        })
    }
}

/// What the directories of all processes begin with.
const SCRATCH: &str = "hurtig-state-";
/// Locked by the process whose directory it is.
const LOCK: &str = "lock";

/// A directory that is this process's own, and gone when it is dropped. That of a process that was killed is
/// removed when the next one makes its own.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    /// Unlocked by the system when the process ends, however it does.
    _lock: File,
}

impl ScratchDir {
    /// A new directory in `base`, which is made if it is not there.
    ///
    /// # Errors
    /// When the disk fails; the text names the directory.
    pub fn in_dir(base: &Path) -> Result<Self> {
        fs::create_dir_all(base).map_err(|e| cannot_make(base, e))?;
        sweep(base);
        let path = base.join(format!(
            "{SCRATCH}{}-{:016x}",
            std::process::id(),
            random_number()
        ));
        fs::create_dir(&path).map_err(|e| cannot_make(&path, e))?;
        let lock = lock_file(&path.join(LOCK), true).map_err(|e| cannot_make(&path, e))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // Whoever comes next tries again.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn lock_file(path: &Path, new: bool) -> io::Result<File> {
    let file = File::options().write(true).create_new(new).open(path)?;
    file.try_lock()?;
    Ok(file)
}

/// Removes directories whose processes have ended. One that has no lock file yet is being made, or was left at
/// that moment, with nothing in it.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(SCRATCH);
        if ours && let Ok(lock) = lock_file(&entry.path().join(LOCK), false) {
            // While it is locked here nobody else removes it.
            let _ = fs::remove_dir_all(entry.path());
            drop(lock);
        }
    }
}

fn cannot_make(dir: &Path, error: io::Error) -> Error {
    let dir = dir.display();
    let what = format!("cannot make the directory '{dir}' for keyed state; check the disk and permissions");
    Error::external(what, error)
}

/// A store and the directory that is its own. Both are gone when it is dropped.
pub(crate) struct SubtaskStore {
    /// There until the drop.
    store: Option<Arc<dyn ByteStore>>,
    dir: PathBuf,
    /// Removed behind the last store.
    _root: Arc<ScratchDir>,
}

impl SubtaskStore {
    pub(crate) fn get(&self) -> &Arc<dyn ByteStore> {
        match &self.store {
            Some(store) => store,
            None => unreachable!("it is there until the drop"),
        }
    }
}

impl Drop for SubtaskStore {
    fn drop(&mut self) {
        self.store = None;
        // What is left is removed with the root.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl fmt::Debug for SubtaskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubtaskStore")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_an_ended_process_is_swept_and_no_other() {
        let base = tempfile::tempdir().unwrap();
        let alive = ScratchDir::in_dir(base.path()).unwrap();
        fs::write(alive.path().join("file"), "in use").unwrap();
        // What a killed process leaves: a lock file that nobody holds.
        let dead = base.path().join(format!("{SCRATCH}1-dead"));
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        let foreign = base.path().join("other");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join(LOCK), "").unwrap();
        let next = ScratchDir::in_dir(base.path()).unwrap();
        assert!(!dead.exists() && foreign.exists() && alive.path().join("file").exists());
        assert_ne!(next.path(), alive.path());
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists() && next.path().exists());
    }
}
