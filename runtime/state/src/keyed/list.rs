//! A list for each key.

use super::store::TableCell;
use super::timed::TimedList;
use super::value::handle;
use super::{KeyScope, KeyedState};
use crate::function::StateValue;
use hurtig_core::key::OwnedKey;
use std::cell::Ref;
use std::fmt;
use std::marker::PhantomData;

handle! {
    /// A handle to a state of a list for each key; see [`KeyedState::list`].
    ///
    /// An empty list is no state: it takes no memory and is not in snapshots.
    ListState<V>
}

impl<V: StateValue> ListState<V> {
    /// The lists of a state that does not expire.
    #[inline]
    fn cell<K: OwnedKey>(self, state: &KeyedState<K>) -> Option<&TableCell<K, Vec<V>>> {
        state.find(self.index)
    }

    /// The lists of a state that does.
    #[cold]
    fn timed<K: OwnedKey>(self, state: &KeyedState<K>) -> &TableCell<K, TimedList<V>> {
        state.store(self.index)
    }

    /// Appends to the current key's list.
    #[inline]
    pub fn add<'a, C: KeyScope<'a>>(self, cx: C, value: V) {
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).push_elements(cx, [value]);
        };
        cell.borrow_mut()
            .upsert(cx.hash(), cx.key(), Vec::new)
            .push(value);
    }

    /// Appends several to the current key's list.
    pub fn extend<'a, C: KeyScope<'a>>(self, cx: C, values: impl IntoIterator<Item = V>) {
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).push_elements(cx, values);
        };
        let mut values = values.into_iter();
        if let Some(first) = values.next() {
            let mut table = cell.borrow_mut();
            let list = table.upsert(cx.hash(), cx.key(), Vec::new);
            list.push(first);
            list.extend(values);
        }
    }

    /// The current key's list, in the order of adding.
    #[inline]
    pub fn get<'a, C: KeyScope<'a>>(self, cx: C) -> Ref<'a, [V]> {
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).seen_elements(cx);
        };
        Ref::map(cell.borrow(), |table| {
            table.get(cx.hash(), cx.key()).map_or(&[][..], Vec::as_slice)
        })
    }

    /// Replaces the current key's list.
    pub fn update<'a, C: KeyScope<'a>>(self, cx: C, values: Vec<V>) {
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).replace_elements(cx, values);
        };
        let mut table = cell.borrow_mut();
        if values.is_empty() {
            table.remove(cx.hash(), cx.key());
        } else {
            *table.upsert(cx.hash(), cx.key(), Vec::new) = values;
        }
    }

    /// Takes the current key's list, leaving none.
    pub fn take<'a, C: KeyScope<'a>>(self, cx: C) -> Vec<V> {
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).take_elements(cx);
        };
        cell.borrow_mut().remove(cx.hash(), cx.key()).unwrap_or_default()
    }

    /// Forgets the current key's list.
    pub fn clear<'a, C: KeyScope<'a>>(self, cx: C) {
        self.take(cx);
    }
}
