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
//! In snapshots each state is a section under its name: one entry for each key with the value in
//! MessagePack, or for a [`MapState`] one for each user key, whose bytes stand where the namespace
//! does.

mod aggregating;
mod list;
mod map;
mod reducing;
mod scope;
mod store;
mod value;

#[cfg(test)]
mod tests;

pub use aggregating::AggregatingState;
pub use list::ListState;
pub use map::MapState;
pub use reducing::ReducingState;
pub use scope::{CurrentKey, KeyScope};
pub use store::Table;
pub use value::ValueState;

use crate::function::{AggregateFunction, StateValue};
use crate::snapshot::OperatorSnapshot;
use crate::table::ScanBudget;
use hurtig_core::error::{Error, Result};
use hurtig_core::key::OwnedKey;
use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use store::{AnyStore, TableCell};

/// All keyed states of one subtask of an operator whose keys are `K`.
pub struct KeyedState<K: OwnedKey> {
    groups: Range<u16>,
    max_parallelism: u32,
    states: Vec<Declared<K>>,
    restored: bool,
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
    /// Without states yet, for the keys of `groups` out of `max_parallelism`.
    ///
    /// # Panics
    /// When a state is declared and the groups are empty or not below `max_parallelism`.
    pub fn new(groups: Range<u16>, max_parallelism: u32) -> Self {
        Self {
            groups,
            max_parallelism,
            states: Vec::new(),
            restored: false,
        }
    }

    /// The key groups of this subtask.
    pub fn groups(&self) -> Range<u16> {
        self.groups.clone()
    }

    /// How many key groups the job has.
    pub fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    /// Declares a state of one value for each key.
    ///
    /// # Errors
    /// When the name is taken, or after [`Self::restore`]; so for all kinds of state.
    pub fn value<V: StateValue>(&mut self, name: &str) -> Result<ValueState<V>> {
        let table = self.table::<V>(name);
        self.declare(name, table).map(ValueState::at)
    }

    /// Declares a state of a list for each key.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn list<V: StateValue>(&mut self, name: &str) -> Result<ListState<V>> {
        let table = self.table::<Vec<V>>(name);
        self.declare(name, table).map(ListState::at)
    }

    /// Declares a state of a map for each key.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn map<UK: OwnedKey + Ord, UV: StateValue>(&mut self, name: &str) -> Result<MapState<UK, UV>> {
        let maps = map::Maps::<K, UK, UV>::new(self.table(name));
        self.declare(name, maps).map(MapState::at)
    }

    /// Declares a state that folds what is added to a key into one value.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn reducing<V: StateValue>(
        &mut self,
        name: &str,
        reduce: impl Fn(&mut V, V) + Send + Sync + 'static,
    ) -> Result<ReducingState<V>> {
        let folded = reducing::Folded::new(self.table::<V>(name), Arc::new(reduce));
        self.declare(name, folded).map(ReducingState::at)
    }

    /// Declares a state that folds what is added to a key into an accumulator.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn aggregating<A: AggregateFunction>(
        &mut self,
        name: &str,
        function: A,
    ) -> Result<AggregatingState<A>> {
        let accumulated = aggregating::Accumulated::new(self.table::<A::Acc>(name), function);
        self.declare(name, accumulated).map(AggregatingState::at)
    }

    /// Begins a snapshot of what all states hold now; [`Self::continue_snapshot`] writes it.
    ///
    /// *Cost*: a few bytes for each thousand entries. Until the snapshot is written, the first change of each
    /// entry encodes its old value.
    ///
    /// # Panics
    /// When the snapshot before has not ended, or a value is still borrowed.
    pub fn begin_snapshot(&self) {
        self.states.iter().for_each(|state| state.store.begin_snapshot());
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
            if !store.is_scanning() {
                continue;
            }
            let done = store.continue_snapshot(budget);
            match done.map_err(|e| e.context(format!("cannot snapshot state '{name}'")))? {
                Some(entries) => snapshot.put_encoded(name, entries),
                None => return Ok(false),
            }
        }
        Ok(true)
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
            for entry in snapshot.keyed(name) {
                store
                    .restore(entry)
                    .map_err(|e| e.context(format!("cannot restore state '{name}'")))?;
            }
        }
        Ok(())
    }

    /// Bytes of all tables, without what keys and values own elsewhere.
    pub fn capacity_bytes(&self) -> usize {
        self.states.iter().map(|state| state.store.capacity_bytes()).sum()
    }

    fn table<V>(&self, name: &str) -> TableCell<K, V> {
        TableCell::new(name, Table::new(self.groups(), self.max_parallelism))
    }

    fn declare(&mut self, name: &str, store: impl AnyStore<K>) -> Result<u32> {
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

    /// The store behind a handle.
    #[inline]
    fn store<S: AnyStore<K>>(&self, index: u32) -> &S {
        let store = self.states.get(index as usize).and_then(|state| {
            let any: &dyn Any = &*state.store;
            any.downcast_ref()
        });
        store.unwrap_or_else(|| self.wrong_handle(index))
    }

    #[cold]
    #[inline(never)]
    fn wrong_handle(&self, index: u32) -> ! {
        let found = self
            .states
            .get(index as usize)
            .map_or("no state", |state| &*state.name);
        panic!("a state handle is used with another operator's state: it finds {found:?} at place {index}")
    }
}
