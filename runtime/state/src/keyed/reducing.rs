//! One value for each key, folded from what is added.

use super::store::{AnyStore, AnyTable, Table, TableCell};
use super::timed::Timed;
use super::value::handle;
use super::{KeyScope, KeyedState};
use crate::function::{ReduceFunction, StateValue};
use hurtig_core::key::OwnedKey;
use std::cell::{Ref, RefMut};
use std::fmt;
use std::marker::PhantomData;

handle! {
    /// A handle to a state that folds what is added to a key; see [`KeyedState::reducing`].
    ReducingState<V>
}

/// A table of `S`, which is `V` or `V` with its time, and the function that folds into it.
pub(super) struct Folded<K, V, S = V> {
    values: TableCell<K, S>,
    reduce: ReduceFunction<V>,
}

impl<K, V, S> Folded<K, V, S> {
    pub(super) fn new(values: TableCell<K, S>, reduce: ReduceFunction<V>) -> Self {
        Self { values, reduce }
    }
}

impl<K: OwnedKey, V: StateValue, S: Send + 'static> AnyStore<K> for Folded<K, V, S> {
    fn cell(&self) -> &dyn AnyTable<K> {
        &self.values
    }

    fn cell_mut(&mut self) -> &mut dyn AnyTable<K> {
        &mut self.values
    }
}

impl<V: StateValue> ReducingState<V> {
    /// The values of a state that does not expire.
    #[inline]
    fn folded<K: OwnedKey>(self, state: &KeyedState<K>) -> Option<&Folded<K, V>> {
        state.find(self.index)
    }

    /// The values of a state that does.
    #[cold]
    fn timed<K: OwnedKey>(self, state: &KeyedState<K>) -> &Folded<K, V, Timed<V>> {
        state.store(self.index)
    }

    /// The whole table, for operators that find it once for a batch.
    ///
    /// # Panics
    /// When the state has a time-to-live.
    #[inline]
    pub fn table<K: OwnedKey>(self, state: &KeyedState<K>) -> RefMut<'_, Table<K, V>> {
        state.store::<Folded<K, V>>(self.index).values.borrow_mut()
    }

    /// Folds a value into the current key's; a key's first value is kept as it is.
    #[inline]
    pub fn add<'a, C: KeyScope<'a>>(self, cx: C, value: V) {
        let Some(folded) = self.folded(cx.state()) else {
            let folded = self.timed(cx.state());
            if let Some((mut place, value)) = folded.values.set_or(cx, value) {
                (folded.reduce)(&mut place, value);
            }
            return;
        };
        let mut table = folded.values.borrow_mut();
        let mut value = Some(value);
        let place = table.upsert(cx.hash(), cx.key(), || {
            // `value` was filled two lines above and this runs at most once.
            value.take().unwrap_or_else(|| unreachable!("the value is there"))
        });
        if let Some(value) = value {
            (folded.reduce)(place, value);
        }
    }

    /// The current key's value; `None` before anything was added.
    #[inline]
    pub fn get<'a, C: KeyScope<'a>>(self, cx: C) -> Option<Ref<'a, V>> {
        let Some(folded) = self.folded(cx.state()) else {
            return self.timed(cx.state()).values.get_seen(cx);
        };
        Ref::filter_map(folded.values.borrow(), |table| table.get(cx.hash(), cx.key())).ok()
    }

    /// Forgets the current key's value.
    pub fn clear<'a, C: KeyScope<'a>>(self, cx: C) {
        match self.folded(cx.state()) {
            Some(folded) => drop(folded.values.borrow_mut().remove(cx.hash(), cx.key())),
            None => self.timed(cx.state()).values.clear(cx),
        }
    }
}
