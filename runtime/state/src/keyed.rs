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
//! In snapshots each state is a section under its name: one entry for each key with the value in
//! MessagePack, or for a [`MapState`] one for each user key, whose bytes stand where the namespace
//! does.

mod aggregating;
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

use crate::backend::{RestoredStore, StateBackend, StoreBackend, SubtaskStore};
use crate::cached::CacheOptions;
use crate::function::{AggregateFunction, StateValue};
use crate::snapshot::OperatorSnapshot;
use crate::store::ByteStore;
use crate::stored::{Handover, Outcome, StoredState, StoredStates};
use crate::table::ScanBudget;
use crate::table::sweep::Expiring;
use crate::ttl::Expiry;
use hurtig_core::error::{Error, Result};
use hurtig_core::key::OwnedKey;
use hurtig_core::time::Clock;
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use store::{AnyStore, AnyTable, Format, Section, TableCell};
use timed::{TimeToLive, Timed, TimedList};

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

    /// Declares a state of one value for each key. What is given is its name, or a [`StateDescriptor`].
    ///
    /// # Errors
    /// When the name is taken, after [`Self::restore`], when the time-to-live is too short, and when a store fails; so
    /// for all kinds of state.
    pub fn value<V: StateValue>(&mut self, state: impl Into<StateDescriptor>) -> Result<ValueState<V>> {
        let state = state.into();
        let index = match self.expiry(&state)? {
            None => self.declare(&state, self.table::<V>(&state, Format::value())?),
            Some(ttl) => self.declare(
                &state,
                self.table(&state, Format::<_, Timed<V>>::timed())?.with_ttl(ttl),
            ),
        };
        index.map(ValueState::at)
    }

    /// Declares a state of a list for each key. With a time-to-live, elements expire one by one.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn list<V: StateValue>(&mut self, state: impl Into<StateDescriptor>) -> Result<ListState<V>> {
        let state = state.into();
        let index = match self.expiry(&state)? {
            None => self.declare(&state, self.table::<Vec<V>>(&state, Format::value())?),
            Some(ttl) => {
                let table = self.table(&state, Format::<_, TimedList<V>>::timed_list())?;
                self.declare(&state, table.with_ttl(ttl))
            }
        };
        index.map(ListState::at)
    }

    /// Declares a state of a map for each key. With a time-to-live, user keys expire one by one.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn map<UK: OwnedKey + Ord, UV: StateValue>(
        &mut self,
        state: impl Into<StateDescriptor>,
    ) -> Result<MapState<UK, UV>> {
        let state = state.into();
        let index = match self.expiry(&state)? {
            None => self.declare(&state, self.table::<BTreeMap<UK, UV>>(&state, Format::map())?),
            Some(ttl) => {
                let table = self.table(&state, Format::<_, BTreeMap<UK, Timed<UV>>>::timed_map())?;
                self.declare(&state, table.with_ttl(ttl))
            }
        };
        index.map(MapState::at)
    }

    /// Declares a state that folds what is added to a key into one value.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn reducing<V: StateValue>(
        &mut self,
        state: impl Into<StateDescriptor>,
        reduce: impl Fn(&mut V, V) + Send + Sync + 'static,
    ) -> Result<ReducingState<V>> {
        let (state, reduce) = (state.into(), Arc::new(reduce));
        let index = match self.expiry(&state)? {
            None => {
                let table = self.table::<V>(&state, Format::value())?;
                self.declare(&state, reducing::Folded::new(table, reduce))
            }
            Some(ttl) => {
                let table = self.table(&state, Format::<_, Timed<V>>::timed())?.with_ttl(ttl);
                self.declare(&state, reducing::Folded::new(table, reduce))
            }
        };
        index.map(ReducingState::at)
    }

    /// Declares a state that folds what is added to a key into an accumulator.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn aggregating<A: AggregateFunction>(
        &mut self,
        state: impl Into<StateDescriptor>,
        function: A,
    ) -> Result<AggregatingState<A>> {
        let state = state.into();
        let index = match self.expiry(&state)? {
            None => {
                let table = self.table::<A::Acc>(&state, Format::value())?;
                self.declare(&state, aggregating::Accumulated::new(table, function))
            }
            Some(ttl) => {
                let table = self
                    .table(&state, Format::<_, Timed<A::Acc>>::timed())?
                    .with_ttl(ttl);
                self.declare(&state, aggregating::Accumulated::new(table, function))
            }
        };
        index.map(AggregatingState::at)
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
            StateBackend::Store(_) => self.quiet_stored(),
        }
    }

    /// To be called between batches, with the number of records since the last call: where states are in memory,
    /// removes some of what has expired.
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
    /// of late. `key_at` makes the key of a hash, by its place.
    pub fn prefetch(&self, hashes: &[u64], key_at: &dyn Fn(usize) -> K) {
        let cells = self.states.iter().map(|state| state.store.cell());
        for cell in cells.filter(|cell| cell.wants_prefetch()) {
            cell.prefetch(hashes, key_at);
        }
    }

    #[inline(never)]
    fn quiet_stored(&self) -> Result<()> {
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
        states.try_for_each(|state| state.store.cell().quiet_point())
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
        for Declared { name, store } in &self.states {
            let cell = store.cell();
            if !cell.is_scanning() {
                continue;
            }
            let done = cell.continue_snapshot(budget);
            match done.map_err(|e| e.context(format!("cannot snapshot state '{name}'")))? {
                Some(Section::Whole(entries)) => snapshot.put_encoded(name, entries),
                Some(Section::Delta(state, layout, delta)) => {
                    let left_out = cell.left_out();
                    let name = Arc::clone(name);
                    let delta = StoredState {
                        name,
                        state,
                        layout,
                        delta,
                        left_out,
                    };
                    self.stored.borrow_mut().deltas.push(delta);
                }
                None => return Ok(false),
            }
        }
        self.hand_over(snapshot);
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
        for Declared { name, store } in &mut self.states {
            let restored = store.cell_mut().restore(snapshot.keyed(name));
            restored.map_err(|e| e.context(format!("cannot restore state '{name}'")))?;
        }
        Ok(())
    }

    /// Bytes of all tables, without what keys and values own elsewhere; of caches what they count.
    pub fn capacity_bytes(&self) -> usize {
        let cells = self.states.iter().map(|state| state.store.cell());
        cells.map(AnyTable::capacity_bytes).sum()
    }

    /// The time-to-live of a state that is being declared; `None` when it does not expire.
    fn expiry<V: Expiring>(&mut self, state: &StateDescriptor) -> Result<Option<TimeToLive<K, V>>> {
        let Some(ttl) = state.ttl() else {
            return Ok(None);
        };
        let expiry = Expiry::new(&state.name, ttl, self.clock.as_ref())?;
        self.cleans_up |= expiry.per_access > 0;
        Ok(Some(TimeToLive::new(expiry)))
    }

    fn table<V: 'static>(&self, state: &StateDescriptor, format: Format<K, V>) -> Result<TableCell<K, V>> {
        let name = &*state.name;
        let table = match &self.backend {
            StateBackend::Heap => Table::heap(self.groups(), self.max_parallelism),
            StateBackend::Store(backend) => {
                let options = CacheOptions {
                    groups: self.groups(),
                    max_parallelism: self.max_parallelism,
                    memory: backend.memory().clone(),
                };
                let mut table = Table::cached(self.byte_store(backend)?, (name, format.codec()), options)?;
                if self.stored.borrow().restored {
                    let now = self.clock.as_ref().map_or(0, |clock| clock.wall_ms());
                    let converted = table.convert_stored(format.stamps(), now);
                    converted.map_err(|e| e.context(format!("cannot restore state '{name}'")))?;
                }
                table
            }
        };
        Ok(TableCell::new(name, format, table))
    }

    /// The store of this operator, made for its first state.
    fn byte_store(&self, backend: &StoreBackend) -> Result<Arc<dyn ByteStore>> {
        let mut stored = self.stored.borrow_mut();
        let store = match &stored.store {
            Some(store) => store,
            None => stored.store.insert(Arc::new(backend.create()?)),
        };
        Ok(Arc::clone(store.get()))
    }

    fn declare(&mut self, state: &StateDescriptor, store: impl AnyStore<K>) -> Result<u32> {
        let name = &*state.name;
        if self.states.iter().any(|state| &*state.name == name) {
            return Err(Error::user(format!(
                "keyed state '{name}' is declared twice in one operator; give each state its own name"
            )));
        }
        if self.restored {
            return Err(Error::user(format!(
                "keyed state '{name}' is declared after the operator was restored, so it would miss \
                 its contents; declare states when the operator opens"
            )));
        }
        self.states.push(Declared {
            name: name.into(),
            store: Box::new(store),
        });
        // An operator's states are counted by hand, far below 2^32.
        Ok((self.states.len() - 1) as u32)
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
