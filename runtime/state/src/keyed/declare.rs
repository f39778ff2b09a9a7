//! Declaring states: what is made for each, and where.

use super::store::{AnyStore, Format, Table, TableCell};
use super::timed::{TimeToLive, Timed, TimedList};
use super::{
    AggregatingState, Declared, KeyedState, ListState, MapState, ReducingState, StateDescriptor, ValueState,
    aggregating, reducing,
};
use crate::backend::{StateBackend, StoreBackend};
use crate::cached::CacheOptions;
use crate::function::{AggregateFunction, StateValue};
use crate::shape::StateShape;
use crate::store::key::group_prefix;
use crate::store::{ByteStore, RunBuilder, bring_in};
use crate::table::sweep::Expiring;
use crate::ttl::{Expiry, shown};
use hurtig_core::error::{Error, Result};
use hurtig_core::key::{OwnedKey, shape_of};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

impl<K: OwnedKey> KeyedState<K> {
    /// Declares a state of one value for each key. What is given is its name, or a [`StateDescriptor`].
    ///
    /// # Errors
    /// When the name is taken, after [`Self::restore`], when the time-to-live is too short, and when a store fails; so
    /// for all kinds of state.
    pub fn value<V: StateValue>(&mut self, state: impl Into<StateDescriptor>) -> Result<ValueState<V>> {
        let state = state.into();
        let index = match self.expiry(&state)? {
            None => self.declare::<V>(&state, self.table::<V>(&state, Format::value())?),
            Some(ttl) => self.declare::<V>(
                &state,
                self.timed_table(&state, (Format::<_, Timed<V>>::timed(), ttl))?,
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
            None => self.declare::<Vec<V>>(&state, self.table::<Vec<V>>(&state, Format::value())?),
            Some(ttl) => {
                let table = self.timed_table(&state, (Format::<_, TimedList<V>>::timed_list(), ttl))?;
                self.declare::<Vec<V>>(&state, table)
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
            None => self.declare::<UV>(&state, self.table::<BTreeMap<UK, UV>>(&state, Format::map())?),
            Some(ttl) => {
                let format = Format::<_, BTreeMap<UK, Timed<UV>>>::timed_map();
                let table = self.timed_table(&state, (format, ttl))?;
                self.declare::<UV>(&state, table)
            }
        };
        let index = index?;
        self.states[index as usize].shape.namespace = Some(shape_of::<UK>());
        Ok(MapState::at(index))
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
                self.declare::<V>(&state, reducing::Folded::new(table, reduce))
            }
            Some(ttl) => {
                let table = self.timed_table(&state, (Format::<_, Timed<V>>::timed(), ttl))?;
                self.declare::<V>(&state, reducing::Folded::new(table, reduce))
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
                self.declare::<A::Acc>(&state, aggregating::Accumulated::new(table, function))
            }
            Some(ttl) => {
                let table = self.timed_table(&state, (Format::<_, Timed<A::Acc>>::timed(), ttl))?;
                self.declare::<A::Acc>(&state, aggregating::Accumulated::new(table, function))
            }
        };
        index.map(AggregatingState::at)
    }

    /// The time-to-live of a state that is being declared; `None` when it does not expire. Comes first.
    fn expiry<V: Expiring + 'static>(&mut self, state: &StateDescriptor) -> Result<Option<TimeToLive<K, V>>> {
        if let StateBackend::Store(backend) = &self.backend
            && self.stored.borrow().restored
        {
            self.continue_former(state, &*self.byte_store(backend)?)?;
        }
        let Some(ttl) = state.ttl() else {
            return Ok(None);
        };
        let expiry = Expiry::new(&state.name, ttl, self.clock.as_ref())?;
        // Where states are in a store, that drops what has expired as a whole.
        let here = V::IN_PARTS || matches!(self.backend, StateBackend::Heap);
        self.cleans_up |= expiry.per_access > 0 && here;
        Ok(Some(TimeToLive::new(expiry)))
    }

    /// A table whose values expire.
    fn timed_table<V: Expiring + 'static>(
        &self,
        state: &StateDescriptor,
        (format, mut ttl): (Format<K, V>, TimeToLive<K, V>),
    ) -> Result<TableCell<K, V>> {
        if let StateBackend::Store(backend) = &self.backend
            && let Some(filter) = ttl.expiry.filter(format.codec().layout())
        {
            // The table finds it open.
            self.byte_store(backend)?
                .open_expiring_state(&state.name, Arc::clone(&filter) as _)?;
            ttl = ttl.with_filter(filter);
        }
        Ok(self.table(state, format)?.with_ttl(ttl))
    }

    /// Has a restored store know a state by its name that it knows by a former one.
    fn continue_former(&self, state: &StateDescriptor, store: &dyn ByteStore) -> Result<()> {
        let known = store.state_names();
        let former = state.aliases.iter().find(|alias| known.contains(alias));
        match former {
            Some(former) if !known.contains(&state.name) => {
                let moved = move_state(store, former, &state.name, self.groups());
                moved.map_err(|e| e.context(format!("cannot continue state '{former}' as '{}'", state.name)))
            }
            _ => Ok(()),
        }
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
                    let now = self.clock.as_ref().map_or(0, |clock| shown(&**clock));
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

    /// Adds a state whose values are stored as `V`.
    fn declare<V: StateValue>(&mut self, state: &StateDescriptor, store: impl AnyStore<K>) -> Result<u32> {
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
            shape: StateShape {
                aliases: state.aliases.clone(),
                ..StateShape::keyed::<K, V>()
            },
            store: Box::new(store),
        });
        // An operator's states are counted by hand, far below 2^32.
        Ok((self.states.len() - 1) as u32)
    }
}

/// Writes all entries of a state under another name, those of a key group at a time in memory, and deletes them.
fn move_state(store: &dyn ByteStore, from: &str, to: &str, groups: Range<u16>) -> Result<()> {
    let (old, new) = (store.open_state(from)?, store.open_state(to)?);
    for group in groups {
        let prefix = group_prefix(group);
        let mut run = RunBuilder::new();
        store.scan(old, &prefix, &mut |key, value| {
            run.put(key, value);
            ControlFlow::Continue(())
        })?;
        bring_in(store, new, &run.sort())?;
        let next = group_prefix(group + 1);
        store.delete_range(old, &prefix..&next)?;
    }
    Ok(())
}
