//! One accumulator for each key.

use super::store::{AnyStore, AnyTable, Table, TableCell};
use super::timed::Timed;
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

/// A table of accumulators, with their times or without, and the function they belong to.
pub(super) struct Accumulated<K, A: AggregateFunction, S = <A as AggregateFunction>::Acc> {
    accumulators: TableCell<K, S>,
    function: A,
}

impl<K, A: AggregateFunction, S> Accumulated<K, A, S> {
    pub(super) fn new(accumulators: TableCell<K, S>, function: A) -> Self {
        Self {
            accumulators,
            function,
        }
    }
}

impl<K: OwnedKey, A: AggregateFunction, S: Send + 'static> AnyStore<K> for Accumulated<K, A, S> {
    fn cell(&self) -> &dyn AnyTable<K> {
        &self.accumulators
    }

    fn cell_mut(&mut self) -> &mut dyn AnyTable<K> {
        &mut self.accumulators
    }
}

impl<A: AggregateFunction> AggregatingState<A> {
    /// The accumulators of a state that does not expire.
    #[inline]
    fn accumulated<K: OwnedKey>(self, state: &KeyedState<K>) -> Option<&Accumulated<K, A>> {
        state.find(self.index)
    }

    /// The accumulators of a state that does.
    #[cold]
    fn timed<K: OwnedKey>(self, state: &KeyedState<K>) -> &Accumulated<K, A, Timed<A::Acc>> {
        state.store(self.index)
    }

    /// The whole table of accumulators, for operators that find it once for a batch.
    ///
    /// # Panics
    /// When the state has a time-to-live.
    #[inline]
    pub fn table<K: OwnedKey>(self, state: &KeyedState<K>) -> RefMut<'_, Table<K, A::Acc>> {
        let accumulated = state.store::<Accumulated<K, A>>(self.index);
        accumulated.accumulators.borrow_mut()
    }

    /// Adds to the current key's accumulator.
    #[inline]
    pub fn add<'a, C: KeyScope<'a>>(self, cx: C, input: A::In) {
        let Some(accumulated) = self.accumulated(cx.state()) else {
            let Accumulated {
                accumulators,
                function,
            } = self.timed(cx.state());
            return function.add(&mut accumulators.seen_or(cx, || function.create()), input);
        };
        let Accumulated {
            accumulators,
            function,
        } = accumulated;
        let mut table = accumulators.borrow_mut();
        function.add(table.upsert(cx.hash(), cx.key(), || function.create()), input);
    }

    /// The result for the current key; `None` before anything was added.
    #[inline]
    pub fn get<'a, C: KeyScope<'a>>(self, cx: C) -> Option<A::Out> {
        let Some(accumulated) = self.accumulated(cx.state()) else {
            let timed = self.timed(cx.state());
            let acc = timed.accumulators.get_seen(cx)?;
            return Some(timed.function.result(&acc));
        };
        accumulated
            .accumulators
            .borrow()
            .get(cx.hash(), cx.key())
            .map(|acc| accumulated.function.result(acc))
    }

    /// Forgets the current key's accumulator.
    pub fn clear<'a, C: KeyScope<'a>>(self, cx: C) {
        match self.accumulated(cx.state()) {
            Some(accumulated) => drop(accumulated.accumulators.borrow_mut().remove(cx.hash(), cx.key())),
            None => self.timed(cx.state()).accumulators.clear(cx),
        }
    }
}
