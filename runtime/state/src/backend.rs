//! Where keyed state is kept: in memory, or in stores behind caches.

use crate::cached::{CacheMemory, Layout};
use crate::encoded::EncodedEntries;
use crate::snapshot::EntryRef;
use crate::store::key::{GROUP_BYTES, group_prefix};
use crate::store::{ByteStore, ByteStoreFactory, RunBuilder, bring_in};
use crate::uploads::Uploads;
use hurtig_core::error::{Error, Result};
use hurtig_core::ids::random_number;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
        let dir = self.new_path();
        let store = self.factory.create(&dir)?;
        Ok(self.own(store, dir))
    }

    /// A store of what [`ByteStore::checkpoint`] has put into a directory, which may be removed then.
    ///
    /// # Errors
    /// When files are missing or damaged, or the disk fails.
    pub fn restore(&self, checkpoint: &Path) -> Result<RestoredStore> {
        let dir = self.new_path();
        let store = self.factory.restore(checkpoint, &dir)?;
        Ok(RestoredStore {
            store: Arc::new(self.own(store, dir)),
        })
    }

    fn own(&self, store: Arc<dyn ByteStore>, dir: PathBuf) -> SubtaskStore {
        SubtaskStore {
            store: Some(store),
            dir,
            checkpoints: AtomicU64::new(0),
            uploads: Mutex::default(),
            _root: Arc::clone(&self.root),
        }
    }

    /// A path in the backend's directory that nothing has yet.
    pub fn new_path(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.root.path().join(number.to_string())
    }
}

/// A store that was made of a checkpoint.
#[derive(Clone, Debug)]
pub struct RestoredStore {
    store: Arc<SubtaskStore>,
}

impl PartialEq for RestoredStore {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.store, &other.store)
    }
}

impl Eq for RestoredStore {}

impl RestoredStore {
    pub(crate) fn into_store(self) -> Arc<SubtaskStore> {
        self.store
    }

    /// Changes a state as the fresh part of a delta says, whose entries these are: one without a value is a
    /// deletion.
    ///
    /// # Errors
    /// When the store fails or a key comes twice.
    pub fn bring_in(&self, name: &str, fresh: &EncodedEntries) -> Result<()> {
        let store = self.store.get();
        let state = store.open_state(name)?;
        let (mut run, mut key) = (RunBuilder::new(), Vec::new());
        for entry in fresh.iter() {
            let entry = entry?;
            key.clear();
            for part in [&group_prefix(entry.group)[..], entry.key, entry.namespace] {
                key.extend_from_slice(part);
            }
            match entry.value.is_empty() {
                true => run.delete(&key),
                false => run.put(&key, entry.value),
            }
            if run.len() == RUN_ENTRIES {
                bring_in(&**store, state, &run.sort())?;
                run.clear();
            }
        }
        bring_in(&**store, state, &run.sort())
    }

    /// The entries of a state in some key groups, as a snapshot has them.
    ///
    /// # Errors
    /// When the store fails, or has what is no value of this layout.
    pub fn entries(&self, name: &str, layout: Layout, groups: Range<u16>) -> Result<EncodedEntries> {
        let store = self.store.get();
        let state = store.open_state(name)?;
        let mut encoded = EncodedEntries::default();
        let mut bytes = Vec::new();
        for group in groups {
            let mut failed = None;
            store.scan(state, &group_prefix(group), &mut |key, value| {
                bytes.clear();
                let entry = EntryRef {
                    group,
                    key: key.get(GROUP_BYTES..).unwrap_or_default(),
                    namespace: &[],
                    value,
                };
                match layout.put_entries(&mut bytes, entry) {
                    Ok(entries) => encoded.push(group, entries, &bytes),
                    Err(error) => failed = Some(error),
                }
                match failed {
                    None => ControlFlow::Continue(()),
                    Some(_) => ControlFlow::Break(()),
                }
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        Ok(encoded)
    }
}

/// Entries that are brought into a restored store at a time.
const RUN_ENTRIES: usize = 65_536;

/// What the directories of all processes begin with.
const SCRATCH: &str = "hurtig-state-";
/// How often a directory is made anew that others have swept.
const ATTEMPTS: u32 = 10;
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
        let mut attempts = 0;
        loop {
            let name = format!("{SCRATCH}{}-{:016x}", std::process::id(), random_number());
            let path = base.join(name);
            let made = fs::create_dir(&path).and_then(|()| lock_file(&path.join(LOCK), true));
            attempts += 1;
            match made {
                Ok(lock) => return Ok(Self { path, _lock: lock }),
                // Somebody has swept it before it was locked.
                Err(error) if is_swept(&error) && attempts < ATTEMPTS => {}
                Err(error) => return Err(cannot_make(&path, error)),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        remove_scratch(&self.path);
    }
}

fn is_swept(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::WouldBlock)
}

/// Removes a directory whose lock is held, and the lock behind all else: what is left when the process is killed
/// meanwhile has a lock still, or nothing at all. Whoever comes next tries again.
fn remove_scratch(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name() != LOCK) {
        let path = entry.path();
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
    let _ = fs::remove_file(dir.join(LOCK)).and_then(|()| fs::remove_dir(dir));
}

fn lock_file(path: &Path, new: bool) -> io::Result<File> {
    lock(File::options().write(true).create_new(new).open(path)?, path)
}

/// Locks a file that was opened by this path. Before that, whoever sweeps may have locked it, removed it and let it go:
/// a lock on what has no name any more keeps nobody away.
fn lock(file: File, path: &Path) -> io::Result<File> {
    file.try_lock()?;
    fs::symlink_metadata(path)?;
    Ok(file)
}

/// Removes directories whose processes have ended. One that has no lock file has nothing else either: it was left
/// at its beginning or its end, or is being made by somebody who tries again.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    let ours = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(SCRATCH);
    for entry in entries.flatten().filter(ours) {
        match lock_file(&entry.path().join(LOCK), false) {
            // While it is locked here nobody else removes it.
            Ok(_lock) => remove_scratch(&entry.path()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Does nothing to one that is not empty.
                let _ = fs::remove_dir(entry.path());
            }
            Err(_) => {}
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
    checkpoints: AtomicU64,
    /// What checkpoints have kept of the store's files.
    uploads: Mutex<Uploads>,
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

impl SubtaskStore {
    /// Where the next checkpoint of the store can be made.
    pub(crate) fn checkpoint_path(&self) -> PathBuf {
        let number = self.checkpoints.fetch_add(1, Ordering::Relaxed);
        let mut path = self.dir.clone().into_os_string();
        path.push(format!("-{number}"));
        path.into()
    }

    pub(crate) fn uploads(&self) -> MutexGuard<'_, Uploads> {
        // Whoever panicked was between two changes.
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn a_directory_that_was_swept_before_it_was_locked_is_nobodys() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join(format!("{SCRATCH}3-new"));
        fs::create_dir(&dir).unwrap();
        let path = dir.join(LOCK);
        let file = File::create_new(&path).unwrap();
        sweep(base.path());
        assert!(!dir.exists());
        assert!(is_swept(&lock(file, &path).unwrap_err()), "another one is made");
    }

    #[test]
    fn the_directory_of_an_ended_process_is_swept_and_no_other() {
        let base = tempfile::tempdir().unwrap();
        let alive = ScratchDir::in_dir(base.path()).unwrap();
        fs::write(alive.path().join("file"), "in use").unwrap();
        // What a killed process leaves: a lock file that nobody holds.
        let dead = base.path().join(format!("{SCRATCH}1-dead"));
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        // And one that was killed while it swept, or when it had just begun.
        let empty = base.path().join(format!("{SCRATCH}2-empty"));
        fs::create_dir(&empty).unwrap();
        let foreign = base.path().join("other");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join(LOCK), "").unwrap();
        let next = ScratchDir::in_dir(base.path()).unwrap();
        assert!(!dead.exists() && !empty.exists() && foreign.exists() && alive.path().join("file").exists());
        assert_ne!(next.path(), alive.path());
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists() && next.path().exists());
    }
}
