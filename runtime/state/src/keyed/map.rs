//! A sorted map for each key.

use super::store::{Format, TableCell};
use super::value::handle;
use super::{KeyScope, KeyedState};
use crate::cached::Codec;
use crate::encoded::put_entry;
use crate::entries::{read_key, read_part, twice};
use crate::function::StateValue;
use crate::snapshot::{KeyedEntry, decode};
use crate::table::GroupedTable;
use hurtig_core::error::Result;
use hurtig_core::key::OwnedKey;
use std::borrow::Borrow;
use std::cell::{Ref, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

handle! {
    /// A handle to a state of a map for each key; see [`KeyedState::map`].
    ///
    /// User keys are [`OwnedKey`]s and iterate in their order, which is that of their bytes, so that
    /// any store gives the same order. An empty map is no state.
    MapState<UK, UV>
}

impl<K: OwnedKey, UK: OwnedKey + Ord, UV: StateValue> Format<K, BTreeMap<UK, UV>> {
    /// One entry for each user key, whose bytes are the entry's namespace.
    pub(super) fn map() -> Self {
        Self::new(begin_maps, read_map, Codec::map())
    }
}

fn begin_maps<K: OwnedKey, UK: OwnedKey, UV: StateValue>(table: &mut GroupedTable<K, BTreeMap<UK, UV>>) {
    table.begin_scan(Box::new(|key: &K, map: &BTreeMap<UK, UV>, out| {
        let mut namespace = Vec::new();
        for (user_key, value) in map {
            namespace.clear();
            user_key.encode(&mut namespace);
            put_entry(out, key, &namespace, value)?;
        }
        Ok(map.len() as u64)
    }));
}

fn read_map<K: OwnedKey, UK: OwnedKey + Ord, UV: StateValue>(
    table: &mut GroupedTable<K, BTreeMap<UK, UV>>,
    entry: &KeyedEntry,
) -> Result<()> {
    let Some((hash, key)) = read_key(table, entry)? else {
        return Ok(());
    };
    let user_key = read_part("user key", &entry.namespace)?;
    match table
        .upsert(hash, &key, BTreeMap::new)
        .insert(user_key, decode(&entry.value)?)
    {
        None => Ok(()),
        Some(_) => Err(twice(entry)),
    }
}

impl<UK: OwnedKey + Ord, UV: StateValue> MapState<UK, UV> {
    #[inline]
    fn cell<K: OwnedKey>(self, state: &KeyedState<K>) -> &TableCell<K, BTreeMap<UK, UV>> {
        state.store(self.index)
    }

    fn map<'a, C: KeyScope<'a>>(self, cx: C) -> Option<Ref<'a, BTreeMap<UK, UV>>> {
        Ref::filter_map(self.cell(cx.state()).borrow(), |table| {
            table.get(cx.hash(), cx.key())
        })
        .ok()
    }

    /// The value of a user key.
    pub fn get<'a, C, B>(self, cx: C, user_key: &B) -> Option<Ref<'a, UV>>
    where
        C: KeyScope<'a>,
        UK: Borrow<B>,
        B: Ord + ?Sized,
    {
        Ref::filter_map(self.map(cx)?, |map| map.get(user_key)).ok()
    }

    /// The value of a user key, to change it; `init` makes it when there is none.
    pub fn get_or<'a, C>(self, cx: C, user_key: UK, init: impl FnOnce() -> UV) -> RefMut<'a, UV>
    where
        C: KeyScope<'a>,
    {
        RefMut::map(self.cell(cx.state()).borrow_mut(), |table| {
            let map = table.upsert(cx.hash(), cx.key(), BTreeMap::new);
            map.entry(user_key).or_insert_with(init)
        })
    }

    /// Sets the value of a user key and returns the one it had.
    pub fn put<'a, C: KeyScope<'a>>(self, cx: C, user_key: UK, value: UV) -> Option<UV> {
        let mut table = self.cell(cx.state()).borrow_mut();
        table
            .upsert(cx.hash(), cx.key(), BTreeMap::new)
            .insert(user_key, value)
    }

    /// Removes a user key and returns its value.
    pub fn remove<'a, C, B>(self, cx: C, user_key: &B) -> Option<UV>
    where
        C: KeyScope<'a>,
        UK: Borrow<B>,
        B: Ord + ?Sized,
    {
        let mut table = self.cell(cx.state()).borrow_mut();
        let map = table.get_mut(cx.hash(), cx.key())?;
        let removed = map.remove(user_key);
        if map.is_empty() {
            table.remove(cx.hash(), cx.key());
        }
        removed
    }

    /// Whether the current key's map has a user key.
    pub fn contains<'a, C, B>(self, cx: C, user_key: &B) -> bool
    where
        C: KeyScope<'a>,
        UK: Borrow<B>,
        B: Ord + ?Sized,
    {
        self.map(cx).is_some_and(|map| map.contains_key(user_key))
    }

    /// Calls `f` with each user key and value, in order.
    pub fn for_each<'a, C: KeyScope<'a>>(self, cx: C, mut f: impl FnMut(&UK, &UV)) {
        if let Some(map) = self.map(cx) {
            map.iter().for_each(|(user_key, value)| f(user_key, value));
        }
    }

    /// Copies of the current key's user keys, in order.
    pub fn keys<'a, C: KeyScope<'a>>(self, cx: C) -> Vec<UK> {
        self.map(cx)
            .map_or_else(Vec::new, |map| map.keys().cloned().collect())
    }

    /// Copies of the current key's user keys and values, in the order of the user keys.
    pub fn entries<'a, C: KeyScope<'a>>(self, cx: C) -> Vec<(UK, UV)> {
        let copy = |(user_key, value): (&UK, &UV)| (user_key.clone(), value.clone());
        self.map(cx)
            .map_or_else(Vec::new, |map| map.iter().map(copy).collect())
    }

    /// How many user keys the current key's map has.
    pub fn len<'a, C: KeyScope<'a>>(self, cx: C) -> usize {
        self.map(cx).map_or(0, |map| map.len())
    }

    /// Whether the current key's map is empty.
    pub fn is_empty<'a, C: KeyScope<'a>>(self, cx: C) -> bool {
        self.map(cx).is_none()
    }

    /// Forgets the current key's map.
    pub fn clear<'a, C: KeyScope<'a>>(self, cx: C) {
        self.cell(cx.state()).borrow_mut().remove(cx.hash(), cx.key());
    }
}
