//! One accumulator for each key.

use super::store::{AnyStore, AnyTable, Table, TableCell};
use super::value::handle;
use super::{KeyScope, KeyedState};
use crate::function::AggregateFunction;
use hurtig_core::key::OwnedKey;
use std::cell::RefMut;
use std::fmt;
use std::marker::PhantomData;

handle! {
    /// A handle to a state that aggregates what is added to a key; see [`KeyedState::aggregating`].
    AggregatingState<A>
}

/// A table of accumulators and the function they belong to.
pub(super) struct Accumulated<K, A: AggregateFunction> {
    accumulators: TableCell<K, A::Acc>,
    function: A,
}

impl<K, A: AggregateFunction> Accumulated<K, A> {
    pub(super) fn new(accumulators: TableCell<K, A::Acc>, function: A) -> Self {
        Self {
            accumulators,
            function,
        }
    }
}

impl<K: OwnedKey, A: AggregateFunction> AnyStore<K> for Accumulated<K, A> {
    fn cell(&self) -> &dyn AnyTable<K> {
        &self.accumulators
    }

    fn cell_mut(&mut self) -> &mut dyn AnyTable<K> {
        &mut self.accumulators
    }
}

impl<A: AggregateFunction> AggregatingState<A> {
    #[inline]
    fn accumulated<K: OwnedKey>(self, state: &KeyedState<K>) -> &Accumulated<K, A> {
        state.store(self.index)
    }

    /// The whole table of accumulators, for operators that find it once for a batch.
    #[inline]
    pub fn table<K: OwnedKey>(self, state: &KeyedState<K>) -> RefMut<'_, Table<K, A::Acc>> {
        self.accumulated(state).accumulators.borrow_mut()
    }

    /// Adds to the current key's accumulator.
    #[inline]
    pub fn add<'a, C: KeyScope<'a>>(self, cx: C, input: A::In) {
        let Accumulated {
            accumulators,
            function,
        } = self.accumulated(cx.state());
        let mut table = accumulators.borrow_mut();
        function.add(table.upsert(cx.hash(), cx.key(), || function.create()), input);
    }

    /// The result for the current key; `None` before anything was added.
    #[inline]
    pub fn get<'a, C: KeyScope<'a>>(self, cx: C) -> Option<A::Out> {
        let Accumulated {
            accumulators,
            function,
        } = self.accumulated(cx.state());
        accumulators
            .borrow()
            .get(cx.hash(), cx.key())
            .map(|acc| function.result(acc))
    }

    /// Forgets the current key's accumulator.
    pub fn clear<'a, C: KeyScope<'a>>(self, cx: C) {
        self.accumulated(cx.state())
            .accumulators
            .borrow_mut()
            .remove(cx.hash(), cx.key());
    }
}
