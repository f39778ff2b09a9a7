//! The simplest store: a map for each state.

use super::{ByteStore, ByteStoreFactory, ExpiryFilter, Op, Run, StateId, StoreFile, StoreView};
use hurtig_core::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::ops::{Bound, ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The only file of a checkpoint.
const FILE: &str = "entries";

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// A [`ByteStore`] in memory: what other stores are compared with, and an example of one.
///
/// It drops what has expired with every write, before and after it: as early as a store may.
pub struct ModelStore {
    dir: PathBuf,
    states: Mutex<BTreeMap<String, (StateId, Entries)>>,
    filters: Mutex<BTreeMap<StateId, Arc<dyn ExpiryFilter>>>,
}

impl fmt::Debug for ModelStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelStore")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// Opens [`ModelStore`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelFactory;

impl ModelStore {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (StateId, Entries)>> {
        // Whoever panicked did so between two changes or in a visitor, which changes nothing.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what has expired of all states.
    fn drop_expired(&self) {
        let filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        if filters.is_empty() {
            return;
        }
        for (state, entries) in self.lock().values_mut() {
            if let Some(filter) = filters.get(state) {
                entries.retain(|_, value| !filter.has_expired(value));
            }
        }
    }

    fn with<R>(&self, state: StateId, act: impl FnOnce(&mut Entries) -> R) -> Result<R> {
        let mut states = self.lock();
        let found = states.values_mut().find(|(id, _)| *id == state);
        match found {
            Some((_, entries)) => Ok(act(entries)),
            None => Err(Error::internal(format!(
                "the store at '{}' has no {state:?}: it is of another store",
                self.dir.display()
            ))),
        }
    }
}

impl ByteStore for ModelStore {
    fn open_state(&self, name: &str) -> Result<StateId> {
        let mut states = self.lock();
        // States are never removed, and nobody declares 2^32 of them.
        let next = StateId::new(states.len() as u32);
        let state = states.entry(name.to_owned());
        Ok(state.or_insert_with(|| (next, Entries::new())).0)
    }

    fn open_expiring_state(&self, name: &str, filter: Arc<dyn ExpiryFilter>) -> Result<StateId> {
        let state = self.open_state(name)?;
        let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        filters.insert(state, filter);
        Ok(state)
    }

    fn state_names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn get(&self, state: StateId, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        value.clear();
        self.with(state, |entries| {
            let found = entries.get(key);
            value.extend_from_slice(found.map_or(&[], Vec::as_slice));
            found.is_some()
        })
    }

    fn is_unwritten(&self, state: StateId) -> bool {
        self.with(state, |entries| entries.is_empty())
            .is_ok_and(|empty| empty)
    }

    fn multi_get(
        &self,
        state: StateId,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        self.with(state, |entries| {
            for (at, key) in keys.iter().enumerate() {
                found(at, entries.get(*key).map(Vec::as_slice));
            }
        })
    }

    fn write(&self, state: StateId, run: &Run<'_>) -> Result<()> {
        self.drop_expired();
        self.with(state, |entries| {
            for (key, op) in run.iter() {
                match op {
                    Op::Put(value) => entries.insert(key.to_vec(), value.to_vec()),
                    Op::Delete => entries.remove(key),
                };
            }
        })?;
        self.drop_expired();
        Ok(())
    }

    fn delete_range(&self, state: StateId, range: Range<&[u8]>) -> Result<()> {
        self.with(state, |entries| {
            entries.retain(|key, _| !range.contains(&key.as_slice()));
        })
    }

    fn scan(
        &self,
        state: StateId,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.with(state, |entries| visit_prefix(entries, prefix, visit))
    }

    fn view(&self) -> Result<Box<dyn StoreView + '_>> {
        let states = self.lock();
        let states = states.values().map(|(id, entries)| (*id, entries.clone()));
        Ok(Box::new(ModelView {
            states: states.collect(),
        }))
    }

    fn checkpoint(&self, dir: &Path) -> Result<Vec<StoreFile>> {
        let states = self.lock();
        let mut bytes = (states.len() as u64).to_le_bytes().to_vec();
        for (name, (_, entries)) in &*states {
            put(&mut bytes, name.as_bytes());
            bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
            for part in entries.iter().flat_map(|(key, value)| [key, value]) {
                put(&mut bytes, part);
            }
        }
        let made = fs::create_dir(dir).and_then(|()| fs::write(dir.join(FILE), &bytes));
        made.map_err(|e| failed("make the checkpoint", dir, e))?;
        Ok(vec![StoreFile {
            name: FILE.into(),
            bytes: bytes.len() as u64,
            shared: false,
        }])
    }

    fn memory_used(&self) -> usize {
        let states = self.lock();
        let entries = states.values().flat_map(|(_, entries)| entries);
        entries
            .map(|(key, value)| key.capacity() + value.capacity())
            .sum()
    }
}

fn visit_prefix(entries: &Entries, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>) {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    let matching = entries
        .range::<[u8], _>(from)
        .take_while(|(key, _)| key.starts_with(prefix));
    for (key, value) in matching {
        if visit(key, value).is_break() {
            return;
        }
    }
}

/// A copy.
struct ModelView {
    states: BTreeMap<StateId, Entries>,
}

impl StoreView for ModelView {
    fn scan(
        &self,
        state: StateId,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        // A state that was opened later has nothing.
        if let Some(entries) = self.states.get(&state) {
            visit_prefix(entries, prefix, visit);
        }
        Ok(())
    }
}

impl ByteStoreFactory for ModelFactory {
    fn create(&self, dir: &Path) -> Result<Arc<dyn ByteStore>> {
        fs::create_dir(dir).map_err(|e| failed("create the store", dir, e))?;
        Ok(Arc::new(ModelStore {
            dir: dir.into(),
            states: Mutex::default(),
            filters: Mutex::default(),
        }))
    }

    fn restore(&self, checkpoint: &Path, dir: &Path) -> Result<Arc<dyn ByteStore>> {
        let file = checkpoint.join(FILE);
        let bytes = fs::read(&file).map_err(|e| failed("read the checkpoint", &file, e))?;
        let states = states(&mut &bytes[..]).ok_or_else(|| {
            let problem = io::Error::from(io::ErrorKind::UnexpectedEof);
            failed("read the checkpoint", &file, problem)
        })?;
        fs::create_dir(dir).map_err(|e| failed("create the store", dir, e))?;
        Ok(Arc::new(ModelStore {
            dir: dir.into(),
            states: Mutex::new(states),
            filters: Mutex::default(),
        }))
    }
}

fn put(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&(part.len() as u64).to_le_bytes());
    out.extend_from_slice(part);
}

fn number(input: &mut &[u8]) -> Option<usize> {
    let (number, rest) = input.split_first_chunk()?;
    *input = rest;
    usize::try_from(u64::from_le_bytes(*number)).ok()
}

fn part(input: &mut &[u8]) -> Option<Vec<u8>> {
    let length = number(input)?;
    let (part, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(part.to_vec())
}

/// What a checkpoint's file holds; `None` when it is not whole.
fn states(input: &mut &[u8]) -> Option<BTreeMap<String, (StateId, Entries)>> {
    let mut states = BTreeMap::new();
    for _ in 0..number(input)? {
        let name = String::from_utf8(part(input)?).ok()?;
        let mut entries = Entries::new();
        for _ in 0..number(input)? {
            entries.insert(part(input)?, part(input)?);
        }
        states.insert(name, (StateId::new(states.len() as u32), entries));
    }
    Some(states)
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    let message = format!(
        "cannot {doing} at '{}'; check that the path is free, the disk has room and the permissions are right",
        path.display()
    );
    Error::external(message, error)
}
