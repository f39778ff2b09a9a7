//! The keyed states of one operator subtask, and the handles that reach them.
//!
//! An operator declares its states by name when it opens and keeps the handles it gets. A handle is
//! an index and a type: `Copy`, `Send`, without a pointer. Every access names the current key
//! through a [`KeyScope`] and costs one downcast; operators that work through a batch take the
//! [`Table`] once instead.
//!
//! Each state has its own `RefCell`, so that several can be held at once. Holding what one state
//! returned while changing the same state panics with the state's name.
//!
//! Where values are is decided by a [`StateBackend`]: in memory, or in a store behind caches, one store for an
//! operator of a subtask. Functions see no difference.
//!
//! A state that is declared with a time-to-live has a table of another type, whose values know when they were last
//! accessed. Handles are the same, and find out.
//!
//! In snapshots each state is a section under its name: one entry for each key with the value in
//! MessagePack, or for a [`MapState`] one for each user key, whose bytes stand where the namespace
//! does.

mod aggregating;
mod declare;
mod descriptor;
mod list;
mod map;
mod reducing;
mod scope;
mod store;
mod timed;
mod value;

#[cfg(test)]
mod tests;

pub use aggregating::AggregatingState;
pub use descriptor::StateDescriptor;
pub use list::ListState;
pub use map::MapState;
pub use reducing::ReducingState;
pub use scope::{CurrentKey, KeyScope};
pub use store::Table;
pub use value::ValueState;

use crate::backend::{RestoredStore, StateBackend, SubtaskStore};
use crate::entries::key_bytes;
use crate::shape::{self, Shape, StateShape, StateShapes};
use crate::snapshot::OperatorSnapshot;
use crate::stored::{Handover, Outcome, StoredState, StoredStates};
use crate::table::ScanBudget;
use crate::ttl::NEVER;
use hurtig_core::error::{Error, Result};
use hurtig_core::key::OwnedKey;
use hurtig_core::time::Clock;
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use store::{AnyStore, AnyTable, Section};
use timed::LeftOut;

/// A handle to a state of any kind.
pub trait StateHandle {
    /// Which of its operator's states it is, in the order in which they were declared.
    fn index(&self) -> u32;
}

/// All keyed states of one subtask of an operator whose keys are `K`.
pub struct KeyedState<K: OwnedKey> {
    groups: Range<u16>,
    max_parallelism: u32,
    states: Vec<Declared<K>>,
    restored: bool,
    backend: StateBackend,
    stored: RefCell<Stored>,
    /// Processing time, for states that expire.
    clock: Option<Arc<dyn Clock>>,
    /// Whether a state is cleaned up between batches.
    cleans_up: bool,
}

/// What the states have in common that are in a store.
#[derive(Default)]
struct Stored {
    /// Made for the first of them, and dropped behind them.
    store: Option<Arc<SubtaskStore>>,
    /// Whether it has come out of a checkpoint.
    restored: bool,
    /// Deltas of the snapshot that is being taken.
    deltas: Vec<StoredState>,
    /// What becomes of the deltas of the last snapshot, until they have ended.
    handover: Option<Arc<Handover>>,
}

struct Declared<K> {
    name: Arc<str>,
    /// Its types, and those that its values may have from before.
    shape: StateShape,
    store: Box<dyn AnyStore<K>>,
}

impl<K: OwnedKey> fmt::Debug for KeyedState<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedState")
            .field("groups", &self.groups)
            .field(
                "states",
                &self.states.iter().map(|state| &state.name).collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}

impl<K: OwnedKey> KeyedState<K> {
    /// Without states yet, for the keys of `groups` out of `max_parallelism`, in memory.
    ///
    /// # Panics
    /// When a state is declared and the groups are empty or not below `max_parallelism`.
    pub fn new(groups: Range<u16>, max_parallelism: u32) -> Self {
        Self::kept_in(StateBackend::Heap, groups, max_parallelism)
    }

    /// As [`Self::new`], where `backend` keeps state.
    pub fn kept_in(backend: StateBackend, groups: Range<u16>, max_parallelism: u32) -> Self {
        Self {
            groups,
            max_parallelism,
            states: Vec::new(),
            restored: false,
            backend,
            stored: RefCell::default(),
            clock: None,
            cleans_up: false,
        }
    }

    /// The same with the clock whose processing time states with a time-to-live go by.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The same with what a restore has found in a store. States are declared afterwards.
    #[must_use]
    pub fn with_store(mut self, restored: RestoredStore) -> Self {
        let stored = self.stored.get_mut();
        (stored.store, stored.restored) = (Some(restored.into_store()), true);
        self
    }

    /// The key groups of this subtask.
    pub fn groups(&self) -> Range<u16> {
        self.groups.clone()
    }

    /// How many key groups the job has.
    pub fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    /// Begins a snapshot of what all states hold now; [`Self::continue_snapshot`] writes it.
    ///
    /// *Cost*: a few bytes for each thousand entries. Until the snapshot is written, the first change of each
    /// entry encodes its old value.
    ///
    /// # Errors
    /// Those of [`Self::quiet_point`].
    ///
    /// # Panics
    /// When the snapshot before has not ended, or a value is still borrowed.
    pub fn begin_snapshot(&self) -> Result<()> {
        self.give_up_deltas()?;
        for state in &self.states {
            state.store.cell().begin_snapshot()?;
        }
        let mut stored = self.stored.borrow_mut();
        stored.deltas.clear();
        stored.handover = stored.store.is_some().then(Arc::default);
        Ok(())
    }

    /// To be called between batches: where states are in a store, goes on with what a snapshot has held up and
    /// makes room in the caches.
    ///
    /// # Errors
    /// When the store has failed; the operator fails then.
    #[inline]
    pub fn quiet_point(&self) -> Result<()> {
        match self.backend {
            StateBackend::Heap => Ok(()),
            StateBackend::Store(_) => self.quiet_stored(true),
        }
    }

    /// [`Self::quiet_point`] without making room: what [`Self::prefetch`] has brought stays for the records that it is for.
    ///
    /// # Errors
    /// As [`Self::quiet_point`].
    #[inline]
    pub fn check(&self) -> Result<()> {
        match self.backend {
            StateBackend::Heap => Ok(()),
            StateBackend::Store(_) => self.quiet_stored(false),
        }
    }

    /// To be called between batches, with the number of records since the last call: removes some of what has expired
    /// of states in memory, and parts of lists and maps in caches.
    ///
    /// *Cost*: one branch when no state expires; else as much as [`StateTtlConfig`](crate::StateTtlConfig) says.
    #[inline]
    pub fn clean_up(&self, records: usize) {
        if self.cleans_up {
            self.clean_up_expired(records);
        }
    }

    #[inline(never)]
    fn clean_up_expired(&self, records: usize) {
        let cells = self.states.iter().map(|state| state.store.cell());
        cells.for_each(|cell| cell.clean_up(records));
    }

    /// Whether keys were missing of late, so that [`Self::prefetch`] pays.
    #[inline]
    pub fn wants_prefetch(&self) -> bool {
        match self.backend {
            StateBackend::Heap => false,
            StateBackend::Store(_) => self
                .states
                .iter()
                .any(|state| state.store.cell().wants_prefetch()),
        }
    }

    /// Brings what the states hold for many keys from the store at once, for those states whose keys were missing
    /// of late; for fewer keys than there are hashes where the caches have no room for more, and says for how many.
    /// `key_at` makes the key of a hash, by its place.
    pub fn prefetch(&self, hashes: &[u64], key_at: &dyn Fn(usize) -> K) -> usize {
        let cells = self.states.iter().map(|state| state.store.cell());
        let cells = cells.filter(|cell| cell.wants_prefetch());
        let room = cells.clone().map(|cell| cell.prefetch_room()).min();
        let keys = hashes.len().min(room.unwrap_or(usize::MAX));
        for cell in cells {
            cell.prefetch(&hashes[..keys], key_at);
        }
        keys
    }

    #[inline(never)]
    fn quiet_stored(&self, make_room: bool) -> Result<()> {
        let outcome = self
            .stored
            .borrow()
            .handover
            .as_ref()
            .map(|handover| handover.outcome());
        if let Some(outcome) = outcome {
            self.end_deltas(outcome)?;
        }
        let mut states = self.states.iter();
        states.try_for_each(|state| state.store.cell().quiet_point(make_room))
    }

    /// Ends the deltas of the snapshot before, whatever has become of them.
    fn give_up_deltas(&self) -> Result<()> {
        let outcome = self
            .stored
            .borrow()
            .handover
            .as_ref()
            .map(|handover| handover.withdraw());
        outcome.map_or(Ok(()), |outcome| self.end_deltas(outcome))
    }

    fn end_deltas(&self, outcome: Outcome) -> Result<()> {
        let ingested = match outcome {
            Outcome::Waiting => return Ok(()),
            Outcome::Ingested => true,
            Outcome::Withdrawn => false,
            Outcome::Failed(cause) => {
                let what = "keyed state cannot be written to its store; restart from the last checkpoint";
                return Err(Error::external(what, cause));
            }
        };
        self.stored.borrow_mut().handover = None;
        let mut states = self.states.iter();
        states.try_for_each(|state| state.store.cell().end_delta(ingested))
    }

    /// Goes on with a snapshot until the budget is spent, and adds a section for each state that is through.
    /// True when all are.
    ///
    /// # Errors
    /// When a value cannot be encoded; the text names the state.
    ///
    /// # Panics
    /// When a value is still borrowed.
    pub fn continue_snapshot(
        &self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        for Declared { name, store, .. } in &self.states {
            let cell = store.cell();
            if !cell.is_scanning() {
                continue;
            }
            let done = cell.continue_snapshot(budget);
            match done.map_err(|e| e.context(format!("cannot snapshot state '{name}'")))? {
                Some(Section::Whole(entries)) => snapshot.put_encoded(name, entries),
                Some(Section::Delta(state, layout, delta)) => {
                    let LeftOut { until, hold } = cell.left_out();
                    let name = Arc::clone(name);
                    let delta = StoredState {
                        name,
                        state,
                        layout,
                        delta,
                        left_out: until.unwrap_or(NEVER),
                        _hold: hold,
                    };
                    self.stored.borrow_mut().deltas.push(delta);
                }
                None => return Ok(false),
            }
        }
        self.hand_over(snapshot);
        snapshot.shapes.extend(self.shapes());
        Ok(true)
    }

    /// Adds the store and all deltas to a snapshot that is through.
    fn hand_over(&self, snapshot: &mut OperatorSnapshot) {
        let mut stored = self.stored.borrow_mut();
        let deltas = std::mem::take(&mut stored.deltas);
        if let (Some(store), Some(handover), false) = (&stored.store, &stored.handover, deltas.is_empty()) {
            let (store, handover) = (Arc::clone(store), Arc::clone(handover));
            snapshot.put_stored(StoredStates::new(store, self.groups.clone(), deltas, handover));
        }
    }

    /// Adds what `snapshot` holds for the declared states and this subtask's key groups.
    ///
    /// After a change of parallelism it is called once with each former subtask's part. States
    /// must be declared before, and sections of other names are left alone.
    ///
    /// # Errors
    /// When keys or values cannot be decoded as the declared types, when the max parallelism was
    /// another, or when a key comes twice; the text names the state.
    pub fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.restored = true;
        let kept_as_bytes = matches!(self.backend, StateBackend::Store(_));
        for Declared { name, shape, store } in &mut self.states {
            shape::check(name, shape, &snapshot.shapes)?;
            let section = shape.name_in(name, |former| snapshot.has_section(former));
            let restored = store.cell_mut().restore(snapshot.section(section));
            restored.map_err(|e| e.context(format!("cannot restore state '{name}'")))?;
            if kept_as_bytes {
                match snapshot.shapes.continued(name, shape) {
                    Some((_, before)) => shape.written_before(&before.values),
                    None if snapshot.shapes.is_empty() => shape.written_before(&[Shape::unknown()]),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// The types of the declared states, by name. Where values are kept as bytes, they have the shapes of before too.
    pub fn shapes(&self) -> StateShapes {
        let states = self.states.iter();
        states
            .map(|state| (state.name.to_string(), state.shape.clone()))
            .collect()
    }

    /// All keys of the subtask that have a value of a state, sorted by their bytes.
    ///
    /// *Cost*: holds all of them in memory, and reads the whole state where it is kept in a store. Of a state that
    /// expires there may be keys with nothing but expired values.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Panics
    /// When the handle is of another operator's state.
    pub fn keys(&self, handle: &impl StateHandle) -> Result<Vec<K>> {
        let index = handle.index();
        let state = self.states.get(index as usize);
        let state = state.unwrap_or_else(|| self.wrong_handle(index));
        let mut keys = Vec::new();
        state
            .store
            .cell()
            .for_each_key(&mut |key| keys.push(key.clone()))?;
        keys.sort_by_cached_key(key_bytes);
        Ok(keys)
    }

    /// Bytes of all tables, without what keys and values own elsewhere; of caches what they count.
    pub fn capacity_bytes(&self) -> usize {
        let cells = self.states.iter().map(|state| state.store.cell());
        cells.map(AnyTable::capacity_bytes).sum()
    }

    /// The store behind a handle, if it is an `S`.
    #[inline]
    fn find<S: AnyStore<K>>(&self, index: u32) -> Option<&S> {
        let any: &dyn Any = &*self.states.get(index as usize)?.store;
        any.downcast_ref()
    }

    /// The store behind a handle.
    #[inline]
    fn store<S: AnyStore<K>>(&self, index: u32) -> &S {
        self.find(index).unwrap_or_else(|| self.wrong_handle(index))
    }

    #[cold]
    #[inline(never)]
    fn wrong_handle(&self, index: u32) -> ! {
        let state = self.states.get(index as usize);
        if let Some(state) = state
            && state.store.cell().has_ttl()
        {
            panic!(
                "the table of state '{}' is asked for, or its handle is used with another operator's state: a \
                 state with a time-to-live has no table of values alone",
                state.name
            );
        }
        let found = state.map_or("no state", |state| &*state.name);
        panic!("a state handle is used with another operator's state: it finds {found:?} at place {index}")
    }
}
