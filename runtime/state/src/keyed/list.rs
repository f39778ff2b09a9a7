//! A list for each key.

use super::store::TableCell;
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
    #[inline]
    fn cell<K: OwnedKey>(self, state: &KeyedState<K>) -> &TableCell<K, Vec<V>> {
        state.store(self.index)
    }

    /// Appends to the current key's list.
    #[inline]
    pub fn add<'a, C: KeyScope<'a>>(self, cx: C, value: V) {
        self.cell(cx.state())
            .borrow_mut()
            .upsert(cx.hash(), cx.key(), Vec::new)
            .push(value);
    }

    /// Appends several to the current key's list.
    pub fn extend<'a, C: KeyScope<'a>>(self, cx: C, values: impl IntoIterator<Item = V>) {
        let mut values = values.into_iter();
        if let Some(first) = values.next() {
            let mut table = self.cell(cx.state()).borrow_mut();
            let list = table.upsert(cx.hash(), cx.key(), Vec::new);
            list.push(first);
            list.extend(values);
        }
    }

    /// The current key's list, in the order of adding.
    #[inline]
    pub fn get<'a, C: KeyScope<'a>>(self, cx: C) -> Ref<'a, [V]> {
        Ref::map(self.cell(cx.state()).borrow(), |table| {
            table.get(cx.hash(), cx.key()).map_or(&[][..], Vec::as_slice)
        })
    }

    /// Replaces the current key's list.
    pub fn update<'a, C: KeyScope<'a>>(self, cx: C, values: Vec<V>) {
        let mut table = self.cell(cx.state()).borrow_mut();
        if values.is_empty() {
            table.remove(cx.hash(), cx.key());
        } else {
            *table.upsert(cx.hash(), cx.key(), Vec::new) = values;
        }
    }

    /// Takes the current key's list, leaving none.
    pub fn take<'a, C: KeyScope<'a>>(self, cx: C) -> Vec<V> {
        self.cell(cx.state())
            .borrow_mut()
            .remove(cx.hash(), cx.key())
            .unwrap_or_default()
    }

    /// Forgets the current key's list.
    pub fn clear<'a, C: KeyScope<'a>>(self, cx: C) {
        self.take(cx);
    }
}
