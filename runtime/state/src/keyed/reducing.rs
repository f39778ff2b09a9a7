//! One value for each key, folded from what is added.

use super::store::{AnyStore, AnyTable, Table, TableCell};
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

/// A table and the function that folds into it.
pub(super) struct Folded<K, V> {
    values: TableCell<K, V>,
    reduce: ReduceFunction<V>,
}

impl<K, V> Folded<K, V> {
    pub(super) fn new(values: TableCell<K, V>, reduce: ReduceFunction<V>) -> Self {
        Self { values, reduce }
    }
}

impl<K: OwnedKey, V: StateValue> AnyStore<K> for Folded<K, V> {
    fn cell(&self) -> &dyn AnyTable<K> {
        &self.values
    }

    fn cell_mut(&mut self) -> &mut dyn AnyTable<K> {
        &mut self.values
    }
}

impl<V: StateValue> ReducingState<V> {
    #[inline]
    fn folded<K: OwnedKey>(self, state: &KeyedState<K>) -> &Folded<K, V> {
        state.store(self.index)
    }

    /// The whole table, for operators that find it once for a batch.
    #[inline]
    pub fn table<K: OwnedKey>(self, state: &KeyedState<K>) -> RefMut<'_, Table<K, V>> {
        self.folded(state).values.borrow_mut()
    }

    /// Folds a value into the current key's; a key's first value is kept as it is.
    #[inline]
    pub fn add<'a, C: KeyScope<'a>>(self, cx: C, value: V) {
        let folded = self.folded(cx.state());
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
        let values = self.folded(cx.state()).values.borrow();
        Ref::filter_map(values, |table| table.get(cx.hash(), cx.key())).ok()
    }

    /// Forgets the current key's value.
    pub fn clear<'a, C: KeyScope<'a>>(self, cx: C) {
        self.folded(cx.state())
            .values
            .borrow_mut()
            .remove(cx.hash(), cx.key());
    }
}
