//! A sorted map for each key.

use super::store::{Format, TableCell};
use super::timed::Timed;
use super::value::handle;
use super::{KeyScope, KeyedState};
use crate::cached::Codec;
use crate::encoded::put_entry;
use crate::entries::{read_key, read_part, twice};
use crate::function::StateValue;
use crate::snapshot::{EntryRef, decode};
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
        Self::new(
            begin_maps,
            |table, entry| read_entry(table, entry, decode),
            Codec::map(),
        )
    }
}

fn begin_maps<K: OwnedKey, UK: OwnedKey, UV: StateValue>(
    table: &mut GroupedTable<K, BTreeMap<UK, UV>>,
    _: i64,
) {
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

/// Puts an entry of a user key back, whose value `decode` reads.
pub(super) fn read_entry<K: OwnedKey, UK: OwnedKey + Ord, UV>(
    table: &mut GroupedTable<K, BTreeMap<UK, UV>>,
    entry: EntryRef<'_>,
    decode: impl FnOnce(&[u8]) -> Result<UV>,
) -> Result<()> {
    let Some((hash, key)) = read_key(table, entry)? else {
        return Ok(());
    };
    let user_key = read_part("user key", entry.namespace)?;
    match table
        .upsert(hash, &key, BTreeMap::new)
        .insert(user_key, decode(entry.value)?)
    {
        None => Ok(()),
        Some(_) => Err(twice(entry)),
    }
}

impl<UK: OwnedKey + Ord, UV: StateValue> MapState<UK, UV> {
    /// The maps of a state that does not expire.
    #[inline]
    fn cell<K: OwnedKey>(self, state: &KeyedState<K>) -> Option<&TableCell<K, BTreeMap<UK, UV>>> {
        state.find(self.index)
    }

    /// The maps of a state that does.
    #[cold]
    fn timed<K: OwnedKey>(self, state: &KeyedState<K>) -> &TableCell<K, BTreeMap<UK, Timed<UV>>> {
        state.store(self.index)
    }

    /// The value of a user key.
    pub fn get<'a, C, B>(self, cx: C, user_key: &B) -> Option<Ref<'a, UV>>
    where
        C: KeyScope<'a>,
        UK: Borrow<B>,
        B: Ord + ?Sized,
    {
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).get_entry(cx, user_key);
        };
        let value = Ref::filter_map(cell.borrow(), |table| {
            table.get(cx.hash(), cx.key())?.get(user_key)
        });
        value.ok()
    }

    /// The value of a user key, to change it; `init` makes it when there is none.
    pub fn get_or<'a, C>(self, cx: C, user_key: UK, init: impl FnOnce() -> UV) -> RefMut<'a, UV>
    where
        C: KeyScope<'a>,
    {
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).entry_or(cx, user_key, init);
        };
        RefMut::map(cell.borrow_mut(), |table| {
            let map = table.upsert(cx.hash(), cx.key(), BTreeMap::new);
            map.entry(user_key).or_insert_with(init)
        })
    }

    /// Sets the value of a user key and returns the one it had.
    pub fn put<'a, C: KeyScope<'a>>(self, cx: C, user_key: UK, value: UV) -> Option<UV> {
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).put_entry(cx, user_key, value);
        };
        let mut table = cell.borrow_mut();
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
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).remove_entry(cx, user_key);
        };
        let mut table = cell.borrow_mut();
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
        self.get(cx, user_key).is_some()
    }

    /// Calls `f` with each user key and value, in order.
    pub fn for_each<'a, C: KeyScope<'a>>(self, cx: C, mut f: impl FnMut(&UK, &UV)) {
        let Some(cell) = self.cell(cx.state()) else {
            if let Some((map, hidden)) = self.timed(cx.state()).seen_entries(cx) {
                let seen = map.iter().filter(|(_, timed)| timed.at > hidden);
                seen.for_each(|(user_key, timed)| f(user_key, &timed.value));
            }
            return;
        };
        if let Some(map) = cell.borrow().get(cx.hash(), cx.key()) {
            map.iter().for_each(|(user_key, value)| f(user_key, value));
        }
    }

    /// Copies of the current key's user keys, in order.
    pub fn keys<'a, C: KeyScope<'a>>(self, cx: C) -> Vec<UK> {
        self.copies(cx, |user_key, _| user_key.clone())
    }

    /// Copies of the current key's user keys and values, in the order of the user keys.
    pub fn entries<'a, C: KeyScope<'a>>(self, cx: C) -> Vec<(UK, UV)> {
        self.copies(cx, |user_key, value| (user_key.clone(), value.clone()))
    }

    fn copies<'a, C: KeyScope<'a>, T>(self, cx: C, copy: impl Fn(&UK, &UV) -> T) -> Vec<T> {
        let Some(cell) = self.cell(cx.state()) else {
            let mut copies = Vec::new();
            self.for_each(cx, |user_key, value| copies.push(copy(user_key, value)));
            return copies;
        };
        let table = cell.borrow();
        let map = table.get(cx.hash(), cx.key());
        map.map_or_else(Vec::new, |map| {
            map.iter()
                .map(|(user_key, value)| copy(user_key, value))
                .collect()
        })
    }

    /// How many user keys the current key's map has.
    pub fn len<'a, C: KeyScope<'a>>(self, cx: C) -> usize {
        let Some(cell) = self.cell(cx.state()) else {
            let mut seen = 0;
            self.for_each(cx, |_, _| seen += 1);
            return seen;
        };
        cell.borrow().get(cx.hash(), cx.key()).map_or(0, BTreeMap::len)
    }

    /// Whether the current key's map is empty.
    pub fn is_empty<'a, C: KeyScope<'a>>(self, cx: C) -> bool {
        self.len(cx) == 0
    }

    /// Forgets the current key's map.
    pub fn clear<'a, C: KeyScope<'a>>(self, cx: C) {
        match self.cell(cx.state()) {
            Some(cell) => drop(cell.borrow_mut().remove(cx.hash(), cx.key())),
            None => self.timed(cx.state()).clear_entries(cx),
        }
    }
}
