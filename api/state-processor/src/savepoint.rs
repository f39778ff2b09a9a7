//! [`Savepoint`]: one that is open, with the names and kinds of all states in it.

use crate::error::{Result, StatePlace, StateProcessorError};
use hurtig_core::ids::OperatorId;
use hurtig_state::{OperatorSection, OperatorSnapshot, Redistribution};
use hurtig_storage::store_files::{FRESH_SECTION, STORE_SECTION};
use hurtig_storage::{
    BlobStore, BlobStores, CheckpointMetadata, OperatorStates, SnapshotFolder, StateHandle, StorageError,
    read_state_groups, verify_file,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// No key group: of a file, only operator state is read.
const NO_GROUPS: Range<u16> = 0..0;

/// What a state is, as far as a savepoint knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKind {
    /// Keyed state: values, lists or maps, timers, or windows. Which of them it is the program knows.
    Keyed,
    /// A list whose elements are split between subtasks.
    List,
    /// A list of which every subtask gets everything.
    Union,
    /// A map that is the same in every subtask.
    Broadcast,
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyed => "keyed state",
            Self::List => "an operator list",
            Self::Union => "a union list",
            Self::Broadcast => "broadcast state",
        })
    }
}

impl From<Redistribution> for StateKind {
    fn from(how: Redistribution) -> Self {
        match how {
            Redistribution::Split => Self::List,
            Redistribution::Union => Self::Union,
            Redistribution::Broadcast => Self::Broadcast,
        }
    }
}

/// Names of states with their kinds: a keyed state may have the name of an operator state.
pub(crate) type Kinds = BTreeSet<(String, StateKind)>;

/// An operator in a savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorInfo {
    /// To whom the state belongs.
    pub id: OperatorId,
    /// The uid that the id was made from, if there was one.
    pub uid: Option<String>,
    /// Its name, for people.
    pub name: String,
    /// How many subtasks it had.
    pub parallelism: u32,
    /// How many key groups its keys are divided into.
    pub max_parallelism: u32,
    /// The names and kinds of its states, those of the engine (timers, windows) among them. A keyed state may have the name of
    /// another one.
    pub states: BTreeSet<(String, StateKind)>,
}

impl OperatorInfo {
    /// The uid, or the id of an operator without one: what methods that take a uid know it by.
    pub fn key(&self) -> String {
        self.uid.clone().unwrap_or_else(|| self.id.to_string())
    }

    /// The kinds of the states of a name.
    pub fn kinds(&self, state: &str) -> impl Iterator<Item = StateKind> {
        let named = self.states.iter().filter(move |(name, _)| name == state);
        named.map(|(_, kind)| *kind)
    }

    /// Whether there is a state of a name.
    pub fn has(&self, state: &str) -> bool {
        self.kinds(state).next().is_some()
    }
}

/// A savepoint, or a retained checkpoint, to read.
///
/// An operator is named by its uid; one without by its id, 32 hexadecimal digits. Copies are cheap.
#[derive(Clone)]
pub struct Savepoint {
    inner: Arc<Inner>,
}

struct Inner {
    folder: SnapshotFolder,
    store: Arc<dyn BlobStore>,
    metadata: CheckpointMetadata,
    operators: Vec<OperatorInfo>,
}

impl fmt::Debug for Savepoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Savepoint").field(&self.path()).finish()
    }
}

impl Savepoint {
    /// Opens the savepoint or checkpoint in a folder, its `_metadata` included in the path or not.
    ///
    /// *Cost*: reads the index and the operator state of each file.
    ///
    /// # Errors
    /// When there is none, and when its metadata or the index of a file is damaged; with the path.
    pub fn open(path: &str) -> Result<Self> {
        Self::open_in(path, &BlobStores::local())
    }

    /// As [`open`](Self::open), in any of these stores.
    ///
    /// # Errors
    /// As there.
    pub fn open_in(path: &str, stores: &BlobStores) -> Result<Self> {
        let folder = SnapshotFolder::of_path(path)?;
        let metadata = folder.read(stores)?;
        let store = folder.open(stores)?;
        let mut inner = Inner {
            folder,
            store,
            metadata,
            operators: Vec::new(),
        };
        let mut files = BTreeMap::new();
        let found = inner.metadata.operators.iter();
        let found = found.map(|states| inner.describe(states, &mut files));
        inner.operators = found.collect::<Result<_>>()?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Its whole path.
    pub fn path(&self) -> String {
        self.inner.folder.path()
    }

    /// The name of the job that it was taken of.
    pub fn job_name(&self) -> &str {
        &self.inner.metadata.job_name
    }

    /// Its operators.
    pub fn operators(&self) -> &[OperatorInfo] {
        &self.inner.operators
    }

    /// One of its operators.
    ///
    /// # Errors
    /// [`StateProcessorError::NoOperator`], which names those that there are.
    pub fn operator(&self, uid: &str) -> Result<&OperatorInfo> {
        self.place_of(uid).map(|at| &self.inner.operators[at])
    }

    pub(crate) fn metadata(&self) -> &CheckpointMetadata {
        &self.inner.metadata
    }

    /// All bytes of a file, each of them checked.
    pub(crate) fn sound_file(&self, handle: &StateHandle) -> Result<Vec<u8>> {
        let (store, path) = (&*self.inner.store, &handle.path);
        let read = || {
            let found = verify_file(store, path)?;
            if (found.bytes, found.checksum) == (handle.bytes, handle.checksum) {
                return store.get(path);
            }
            Err(StorageError::Incompatible {
                path: path.clone(),
                problem: "it is not the file that the savepoint's metadata name; put that one back"
                    .to_owned(),
            })
        };
        read().map_err(|error| self.inner.whole(error))
    }

    pub(crate) fn stored(&self, uid: &str) -> Result<&OperatorStates> {
        let at = self.place_of(uid)?;
        Ok(&self.inner.metadata.operators[at])
    }

    fn place_of(&self, uid: &str) -> Result<usize> {
        let operators = &self.inner.operators;
        let named = operators.iter().position(|operator| operator.key() == uid);
        named.ok_or_else(|| StateProcessorError::NoOperator {
            path: self.path(),
            operator: uid.to_owned(),
            stored: listed(
                operators
                    .iter()
                    .map(|operator| format!("'{}' ({})", operator.key(), operator.name)),
                "no operators",
            ),
        })
    }

    /// Where a state of a kind is.
    pub(crate) fn place(&self, uid: &str, state: &str, wanted: StateKind) -> Result<StatePlace> {
        let operator = self.operator(uid)?;
        let place = StatePlace {
            path: self.path(),
            operator: uid.to_owned(),
            state: state.to_owned(),
        };
        // The fresh part of a state: what the files do not have.
        let in_files = state.starts_with(FRESH_SECTION) || operator.has(&format!("{FRESH_SECTION}{state}"));
        if in_files && wanted == StateKind::Keyed {
            return Err(StateProcessorError::InStoreFiles { place });
        }
        // An operator that left not one entry: whatever its states are, they are empty.
        if operator.states.is_empty() || operator.kinds(state).any(|kind| kind == wanted) {
            return Ok(place);
        }
        if let Some(stored) = operator.kinds(state).next() {
            return Err(StateProcessorError::OtherKind {
                place,
                stored,
                wanted,
            });
        }
        if wanted == StateKind::Keyed && operator.has(STORE_SECTION) {
            return Err(StateProcessorError::InStoreFiles { place });
        }
        let states = operator.states.iter();
        let stored = listed(
            states.map(|(name, kind)| format!("'{name}' ({kind})")),
            "no state",
        );
        Err(StateProcessorError::NoState { place, stored })
    }

    /// What one subtask has in some key groups, and all of its operator state.
    pub(crate) fn part(
        &self,
        handle: &StateHandle,
        index: u32,
        groups: Range<u16>,
    ) -> Result<OperatorSnapshot> {
        let read = self.inner.read(handle, groups)?;
        let mut part = snapshot_at(read, handle, index).map_err(|error| self.inner.whole(error))?;
        let decoded = part.decode_sections();
        decoded.map_err(|error| self.inner.whole(StorageError::State(error)))?;
        Ok(part)
    }

    /// The sections of an operator's state by subtask.
    pub(crate) fn sections(
        &self,
        place: &StatePlace,
    ) -> impl Iterator<Item = Result<OperatorSection>> + use<'_> {
        let states = self.stored(&place.operator).ok();
        let subtasks = states.into_iter().flat_map(|states| states.subtasks.values());
        let name = place.state.clone();
        subtasks.filter_map(move |subtask| {
            let handle = subtask.handle.as_ref()?;
            let part = self.part(handle, subtask.index_in_file, NO_GROUPS);
            part.map(|mut part| part.operator.remove(&name)).transpose()
        })
    }
}

impl Inner {
    fn read(&self, handle: &StateHandle, groups: Range<u16>) -> Result<Vec<OperatorSnapshot>> {
        read_state_groups(&*self.store, handle, groups).map_err(|error| self.whole(error))
    }

    /// An error with whole paths.
    fn whole(&self, error: StorageError) -> StateProcessorError {
        error.within(&self.folder.store).into()
    }

    /// `files` remembers what is in those that several operators share.
    fn describe(
        &self,
        states: &OperatorStates,
        files: &mut BTreeMap<String, Vec<Kinds>>,
    ) -> Result<OperatorInfo> {
        let mut kinds = Kinds::new();
        for subtask in states.subtasks.values() {
            let Some(handle) = &subtask.handle else { continue };
            if !files.contains_key(&handle.path) {
                let read = self.read(handle, NO_GROUPS)?;
                files.insert(handle.path.clone(), read.iter().map(kinds_of).collect());
            }
            let found = files[&handle.path].clone();
            kinds.extend(snapshot_at(found, handle, subtask.index_in_file).map_err(|e| self.whole(e))?);
        }
        Ok(OperatorInfo {
            id: states.operator,
            uid: states.uid.clone(),
            name: states.name.clone(),
            parallelism: states.parallelism,
            max_parallelism: states.max_parallelism,
            states: kinds,
        })
    }
}

fn kinds_of(snapshot: &OperatorSnapshot) -> Kinds {
    let keyed = snapshot
        .keyed_names()
        .map(|name| (name.to_owned(), StateKind::Keyed));
    let operator = snapshot.operator.iter();
    let operator = operator.map(|(name, section)| (name.clone(), section.redistribution.into()));
    keyed.chain(operator).collect()
}

pub(crate) fn snapshot_at<T>(all: Vec<T>, handle: &StateHandle, index: u32) -> Result<T, StorageError> {
    let found = all.into_iter().nth(index as usize);
    found.ok_or_else(|| StorageError::Incompatible {
        path: handle.path.clone(),
        problem: format!("it holds no state of an operator {index}, which the metadata name"),
    })
}

fn listed(names: impl Iterator<Item = String>, none: &str) -> String {
    let names: Vec<String> = names.collect();
    match names.is_empty() {
        true => none.to_owned(),
        false => names.join(", "),
    }
}
