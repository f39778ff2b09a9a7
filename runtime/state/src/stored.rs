//! Keyed states that are in a store, on their way into a checkpoint.
//!
//! When the barrier has passed, the task hands out its store and what the store does not have yet: a
//! [`Delta`] of each state. Until the store was looked at, the task's caches write nothing to it. Whoever stores the
//! checkpoint, on a thread that may block, calls [`StoredStates::settle`]: it brings the cold parts of the deltas into
//! the store, takes a view of that, and lets the caches go on. The view with what the deltas have fresh is the state of
//! the barrier, and reading it takes as long as it takes.

use crate::backend::SubtaskStore;
use crate::cached::{Delta, Layout};
use crate::encoded::EncodedEntries;
use crate::snapshot::EntryRef;
use crate::store::key::{GROUP_BYTES, group_prefix};
use crate::store::{StateId, StoreFile, StoreView};
use crate::ttl::filter::Hold;
use crate::uploads::Upload;
use hurtig_core::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Entries are handed out in pieces of about so many bytes.
const PIECE_BYTES: usize = 64 * 1_024;

/// The stored states of one operator of a subtask as they were at a barrier.
///
/// When the last clone is dropped without [`Self::settle`], the caches go on as if there had been no snapshot.
#[derive(Clone)]
pub struct StoredStates {
    parts: Arc<Parts>,
}

struct Parts {
    store: Arc<SubtaskStore>,
    groups: Range<u16>,
    states: Vec<StoredState>,
    handover: Arc<Handover>,
}

/// One state.
pub(crate) struct StoredState {
    pub(crate) name: Arc<str>,
    pub(crate) state: StateId,
    pub(crate) layout: Layout,
    pub(crate) delta: Delta,
    /// What was last accessed until then is left out where entries are written.
    pub(crate) left_out: i64,
    /// Has the store keep what had not expired at the barrier.
    pub(crate) _hold: Option<Hold>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.handover.withdraw();
    }
}

impl PartialEq for StoredStates {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.parts, &other.parts)
    }
}

impl Eq for StoredStates {}

impl fmt::Debug for StoredStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredStates")
            .field("store", &self.parts.store)
            .finish_non_exhaustive()
    }
}

impl StoredStates {
    pub(crate) fn new(
        store: Arc<SubtaskStore>,
        groups: Range<u16>,
        states: Vec<StoredState>,
        handover: Arc<Handover>,
    ) -> Self {
        Self {
            parts: Arc::new(Parts {
                store,
                groups,
                states,
                handover,
            }),
        }
    }

    /// Whether there is a state of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.parts.states.iter().any(|state| &*state.name == name)
    }

    /// Brings what the store is to have into it, once, and takes a view of what it has then. Blocks.
    ///
    /// # Errors
    /// When the store fails, after which the task fails too, and when the task has given the snapshot up.
    pub fn settle(&self) -> Result<SettledStates<'_>> {
        let parts = &*self.parts;
        let store = parts.store.get();
        let view = parts.handover.take_in(|| {
            parts.bring_in_cold()?;
            store.view()
        })?;
        Ok(SettledStates { parts, view })
    }
}

impl StoredStates {
    /// Forgets which files were kept for checkpoints before the last complete one, and for those that were given up.
    pub fn forget_uploads(&self, completed: u64, given_up: &BTreeSet<u64>) {
        self.parts.store.uploads().forget(completed, given_up);
    }

    /// Remembers that a checkpoint keeps none of the store's files.
    pub fn uploaded_nothing(&self, checkpoint: u64) {
        self.parts.store.uploads().named(checkpoint, BTreeMap::new());
    }

    /// As [`Self::settle`], with the files of the store in place of a view. Blocks.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub fn settle_files(&self) -> Result<SettledFiles<'_>> {
        let parts = &*self.parts;
        let store = parts.store.get();
        let dir = parts.store.checkpoint_path();
        let files = parts.handover.take_in(|| {
            parts.bring_in_cold()?;
            store.checkpoint(&dir)
        })?;
        Ok(SettledFiles { parts, dir, files })
    }
}

impl Parts {
    fn bring_in_cold(&self) -> Result<()> {
        let store = self.store.get();
        for state in &self.states {
            state.delta.settle(&**store, state.state)?;
        }
        store.check()
    }
}

/// The files of a store with all that belongs to a snapshot. They are removed when this is dropped.
pub struct SettledFiles<'a> {
    parts: &'a Parts,
    dir: PathBuf,
    files: Vec<StoreFile>,
}

impl fmt::Debug for SettledFiles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettledFiles")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Drop for SettledFiles<'_> {
    fn drop(&mut self) {
        // What is left is removed with the backend's directory.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl SettledFiles<'_> {
    /// The key groups of the subtask.
    pub fn groups(&self) -> Range<u16> {
        self.parts.groups.clone()
    }

    /// The files, with the paths where they are.
    pub fn files(&self) -> impl Iterator<Item = (&StoreFile, PathBuf)> {
        self.files.iter().map(|file| (file, self.dir.join(&file.name)))
    }

    /// The states: name, layout, and what the files do not have.
    pub fn states(&self) -> impl Iterator<Item = (&str, Layout, &EncodedEntries)> {
        let states = self.parts.states.iter();
        states.map(|state| (&*state.name, state.layout, state.delta.fresh()))
    }

    /// What is kept of a file already and stays, if `completed` is the last checkpoint that is known to be complete.
    pub fn upload(&self, file: &StoreFile, completed: u64) -> Option<Upload> {
        self.parts.store.uploads().find(&file.name, completed)
    }

    /// Remembers what a checkpoint keeps of this snapshot's files.
    pub fn uploaded(&self, checkpoint: u64, uploads: BTreeMap<String, Upload>) {
        self.parts.store.uploads().named(checkpoint, uploads);
    }
}

/// A view of a store with all that belongs to a snapshot.
pub struct SettledStates<'a> {
    parts: &'a Parts,
    view: Box<dyn StoreView + 'a>,
}

impl fmt::Debug for SettledStates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettledStates")
            .field("store", &self.parts.store)
            .finish_non_exhaustive()
    }
}

impl SettledStates<'_> {
    /// Whether there is a state of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.parts.states.iter().any(|state| &*state.name == name)
    }

    /// The names of the states, in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.parts.states.iter().map(|state| &*state.name).collect();
        names.sort_unstable();
        names
    }

    /// Hands out the entries of a state in key-group order, as [`EncodedEntries`] has them: the group, how many
    /// entries, and their bytes.
    ///
    /// # Errors
    /// When the store fails or has what is no entry, and those of `visit`, after which it is not called again.
    pub fn visit(&self, name: &str, mut visit: impl FnMut(u16, u64, &[u8]) -> Result<()>) -> Result<()> {
        let state = self.parts.states.iter().find(|state| &*state.name == name);
        let Some(state) = state else { return Ok(()) };
        let mut fresh = state.delta.fresh().iter().peekable();
        let mut pieces = Pieces::new((state.layout, state.left_out), &mut visit);
        let mut changed = Changed::default();
        for group in self.parts.groups.clone() {
            changed.clear();
            while let Some(entry) = fresh.next_if(|entry| !matches!(entry, Ok(entry) if entry.group > group))
            {
                changed.add(entry?);
            }
            let mut failed = None;
            let of_store = |key: &[u8], value: &[u8]| {
                let key = key.get(GROUP_BYTES..).unwrap_or_default();
                if changed.contains(key) {
                    return ControlFlow::Continue(());
                }
                match pieces.add(group, key, value) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            };
            self.scan(state.state, group, of_store)?;
            failed.map_or(Ok(()), Err)?;
            for (key, value) in changed.values() {
                pieces.add(group, key, value)?;
            }
            pieces.hand_out(group)?;
        }
        Ok(())
    }

    fn scan(
        &self,
        state: StateId,
        group: u16,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.view.scan(state, &group_prefix(group), &mut visit)
    }

    /// All entries of a state, in memory.
    pub(crate) fn encode(&self, name: &str) -> Result<EncodedEntries> {
        let mut encoded = EncodedEntries::default();
        self.visit(name, |group, entries, bytes| {
            encoded.push(group, entries, bytes);
            Ok(())
        })?;
        Ok(encoded)
    }
}

/// What a delta says of one key group.
#[derive(Default)]
struct Changed<'a> {
    entries: Vec<(&'a [u8], &'a [u8])>,
    /// The keys, when the first entry of the store asks for them.
    keys: HashSet<&'a [u8]>,
}

impl<'a> Changed<'a> {
    fn clear(&mut self) {
        self.entries.clear();
        self.keys.clear();
    }

    fn add(&mut self, entry: EntryRef<'a>) {
        self.entries.push((entry.key, entry.value));
    }

    fn contains(&mut self, key: &[u8]) -> bool {
        if self.keys.is_empty() {
            self.keys.extend(self.entries.iter().map(|(key, _)| *key));
        }
        self.keys.contains(key)
    }

    /// What is not deleted.
    fn values(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.entries
            .iter()
            .copied()
            .filter(|(_, value)| !value.is_empty())
    }
}

/// Entries of a group that are not handed out yet.
struct Pieces<F> {
    layout: Layout,
    left_out: i64,
    entries: u64,
    bytes: Vec<u8>,
    visit: F,
}

impl<F: FnMut(u16, u64, &[u8]) -> Result<()>> Pieces<F> {
    fn new((layout, left_out): (Layout, i64), visit: F) -> Self {
        Self {
            layout,
            left_out,
            entries: 0,
            bytes: Vec::new(),
            visit,
        }
    }

    fn add(&mut self, group: u16, key: &[u8], value: &[u8]) -> Result<()> {
        let entry = EntryRef {
            group,
            key,
            namespace: &[],
            value,
        };
        self.entries += self
            .layout
            .put_live_entries(&mut self.bytes, entry, self.left_out)?;
        match self.bytes.len() < PIECE_BYTES {
            true => Ok(()),
            false => self.hand_out(group),
        }
    }

    fn hand_out(&mut self, group: u16) -> Result<()> {
        if self.entries > 0 {
            (self.visit)(group, self.entries, &self.bytes)?;
            self.entries = 0;
            self.bytes.clear();
        }
        Ok(())
    }
}

/// What has become of the deltas that a task has handed out.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    state: Mutex<HandoverState>,
}

#[derive(Debug, Default)]
enum HandoverState {
    #[default]
    Waiting,
    Ingested,
    /// Nobody will ingest them.
    Withdrawn,
    Failed(String),
}

/// What a task learns of its deltas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Waiting,
    Ingested,
    Withdrawn,
    /// The store is not to be used any more.
    Failed(String),
}

impl Handover {
    fn lock(&self) -> MutexGuard<'_, HandoverState> {
        // Whoever panicked had not changed it: the deltas are still waiting.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `ingest` bring the deltas into the store, unless that was done or is not wanted any more.
    fn take_in<T>(&self, ingest: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut state = self.lock();
        if !matches!(*state, HandoverState::Waiting) {
            return Err(Error::external(
                "the snapshot of a store was given up for a newer one",
                "the checkpoint before it took too long",
            ));
        }
        match ingest() {
            Ok(done) => {
                *state = HandoverState::Ingested;
                Ok(done)
            }
            Err(error) => {
                *state = HandoverState::Failed(error.chain());
                Err(error)
            }
        }
    }

    /// What has become of them; that they are just being ingested counts as waiting.
    pub(crate) fn outcome(&self) -> Outcome {
        match self.state.try_lock() {
            Ok(state) => state.outcome(),
            Err(TryLockError::WouldBlock) => Outcome::Waiting,
            Err(TryLockError::Poisoned(state)) => state.into_inner().outcome(),
        }
    }

    /// The deltas are not wanted any more. Waits while they are being ingested.
    pub(crate) fn withdraw(&self) -> Outcome {
        let mut state = self.lock();
        if matches!(*state, HandoverState::Waiting) {
            *state = HandoverState::Withdrawn;
        }
        state.outcome()
    }
}

impl HandoverState {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Waiting => Outcome::Waiting,
            Self::Ingested => Outcome::Ingested,
            Self::Withdrawn => Outcome::Withdrawn,
            Self::Failed(text) => Outcome::Failed(text.clone()),
        }
    }
}
