//! Stores of bytes behind keyed state: the contract that RocksDB and third parties implement.
//!
//! A [`ByteStore`] keeps sorted keys and values of several states, answers for them, and makes
//! checkpoints that a [`ByteStoreFactory`] restores. It knows bytes only. It refuses to know key and
//! value types, caches, key groups and who calls.
//!
//! # Writing a store
//!
//! Implement the two traits, then let [`conformance::check`] run against the factory in a test: it
//! goes through every promise made here, and panics with the name of the first that is broken.
//! [`ModelStore`] is the shortest implementation that passes.
//!
//! # What the bytes are
//!
//! The store needs to know nothing about them but their order, which is that of unsigned bytes. For
//! whoever reads a store with other tools, [`mod@key`] documents the keys; values are MessagePack with
//! named fields, as in snapshots.

pub mod conformance;
pub mod key;
mod model;
mod run;
#[cfg(test)]
mod tests;

pub use model::{ModelFactory, ModelStore};
pub use run::{Op, Run, RunBuilder};

use hurtig_core::error::Result;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

/// One state of a [`ByteStore`], from [`ByteStore::open_state`] of the same store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(u32);

impl StateId {
    /// The state with this number; only a store makes them.
    pub fn new(index: u32) -> Self {
        Self(index)
    }

    /// Its number.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreFile {
    /// Its name in the checkpoint's directory; no path.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Whether a file of this name and length in a later checkpoint of the same store has the same
    /// bytes, so that an incremental checkpoint need not save it again.
    pub shared: bool,
}

/// Sorted bytes of several states.
///
/// **Order**: keys are compared as unsigned bytes. They have at least one byte; values may be empty.
///
/// **Threads**: every method may be called from several threads. A write is atomic: a reader and a
/// checkpoint see all of a [`Run`] or nothing. A checkpoint is a cut through all states: when it has
/// a write, it has every write that returned before that one began, whatever its state.
///
/// **Durability**: none but that of checkpoints. A store that is dropped without one is lost, so
/// nothing is synced and no log is written.
///
/// **Errors** say the path, and what to do. After a failed write the contents are undefined: the
/// owner drops the store and restores the last checkpoint. A failed checkpoint leaves the store as it was.
///
/// **Drop** ends all background work and frees memory; the directory stays and is its owner's to delete.
pub trait ByteStore: Send + Sync {
    /// The state of a name, made empty when there is none. The name may be any text.
    ///
    /// # Errors
    /// When the store fails.
    fn open_state(&self, name: &str) -> Result<StateId>;

    /// As [`Self::open_state`], for a state whose entries are of no use once `filter` says so of their values. A store
    /// may drop them whenever it likes, and need not. Views and checkpoints may lack them too. A state that was opened
    /// otherwise before begins to expire; opened with [`Self::open_state`] after a restore, it expires no more.
    ///
    /// # Errors
    /// As [`Self::open_state`].
    fn open_expiring_state(&self, name: &str, filter: Arc<dyn ExpiryFilter>) -> Result<StateId> {
        let _ = filter;
        self.open_state(name)
    }

    /// The names of all states, sorted; after a restore those of the checkpoint.
    fn state_names(&self) -> Vec<String>;

    /// Replaces `value` with the key's. False, with `value` empty, when it has none.
    ///
    /// # Errors
    /// When the store fails or finds itself damaged.
    fn get(&self, state: StateId, key: &[u8], value: &mut Vec<u8>) -> Result<bool>;

    /// Whether no key of the state has a value for sure: nothing was written to it yet. False is never wrong.
    ///
    /// *Cost*: far less than [`Self::get`], in place of which it is asked.
    fn is_unwritten(&self, state: StateId) -> bool {
        let _ = state;
        false
    }

    /// Looks for many keys at once and calls `found` once for each, with its place in `keys`, in
    /// their order.
    ///
    /// `keys` ascend strictly, which lets a store visit each of its blocks once.
    ///
    /// # Errors
    /// As [`Self::get`]; `found` was then called for some keys only.
    fn multi_get(
        &self,
        state: StateId,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, Option<&[u8]>),
    ) -> Result<()>;

    /// Applies a run. Deleting a key that is not there is no error.
    ///
    /// # Errors
    /// When the store fails.
    fn write(&self, state: StateId, run: &Run<'_>) -> Result<()>;

    /// Like [`Self::write`], for runs of many thousand entries: a store may make them into a file at
    /// once and take that in.
    ///
    /// # Errors
    /// As [`Self::write`].
    fn ingest(&self, state: StateId, run: &Run<'_>) -> Result<()> {
        self.write(state, run)
    }

    /// Deletes all keys from `range.start` to before `range.end`.
    ///
    /// # Errors
    /// As [`Self::write`].
    fn delete_range(&self, state: StateId, range: Range<&[u8]>) -> Result<()>;

    /// Visits the entries whose keys begin with `prefix`, ascending, until the visitor breaks off.
    ///
    /// It sees the state as it was at some moment of the call. The visitor must not write to the store.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn scan(
        &self,
        state: StateId,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()>;

    /// What the states hold now, to be read however long that takes while the store is written to.
    ///
    /// It is a cut as a checkpoint is one.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn view(&self) -> Result<Box<dyn StoreView + '_>>;

    /// Makes the directory `dir` with everything that a restore needs, and lists its files.
    ///
    /// The files are complete and never change again, whatever becomes of the store. `dir` lies on
    /// the store's file system, so that files can be linked. They are not synced: what must outlive the
    /// machine is copied elsewhere by the caller.
    ///
    /// *Cost*: may write everything that is in memory, so it runs on a thread that may block.
    ///
    /// # Errors
    /// When `dir` exists, or the disk fails. Nothing is left at `dir` then.
    fn checkpoint(&self, dir: &Path) -> Result<Vec<StoreFile>>;

    /// Bytes of memory that the store holds now, caches included.
    fn memory_used(&self) -> usize;

    /// Whether background work has failed since the store was opened.
    ///
    /// # Errors
    /// What failed. It is treated like a failed write.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Tells what has expired.
pub trait ExpiryFilter: Send + Sync {
    /// Whether a value is of no use any more. Once it is not, it never will be.
    ///
    /// *Cost*: called for each value that is rewritten, on a thread of the store, where it must not panic.
    fn has_expired(&self, value: &[u8]) -> bool;
}

/// Entries of a run from which on they become a file at once instead of going through the store's memory.
const INGEST_FROM: usize = 4_096;

/// Brings a run of any size into a store.
///
/// # Errors
/// As [`ByteStore::write`].
pub(crate) fn bring_in(store: &dyn ByteStore, state: StateId, run: &Run<'_>) -> Result<()> {
    match run.len() {
        0 => Ok(()),
        1..INGEST_FROM => store.write(state, run),
        _ => store.ingest(state, run),
    }
}

/// A store as it was at one moment.
pub trait StoreView {
    /// As [`ByteStore::scan`], at that moment.
    ///
    /// # Errors
    /// As [`ByteStore::get`].
    fn scan(
        &self,
        state: StateId,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()>;
}

/// Opens stores of one kind.
pub trait ByteStoreFactory: Send + Sync {
    /// An empty store in the directory `dir`, which does not exist yet; its parent does.
    ///
    /// # Errors
    /// When `dir` exists, or the disk fails.
    fn create(&self, dir: &Path) -> Result<Arc<dyn ByteStore>>;

    /// A store in the new directory `dir` with what [`ByteStore::checkpoint`] has put into
    /// `checkpoint`, which stays as it is and may be restored again. Both lie on one file system.
    ///
    /// # Errors
    /// When `dir` exists, the disk fails, or a file of the checkpoint is missing or too short.
    fn restore(&self, checkpoint: &Path, dir: &Path) -> Result<Arc<dyn ByteStore>>;
}
