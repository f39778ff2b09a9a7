//! A map for each key, whose entries expire one by one.

use super::{Timed, value};
use crate::cached::{Codec, decode_map, encode_map};
use crate::encoded::put_entry_with;
use crate::function::StateValue;
use crate::keyed::KeyScope;
use crate::keyed::map::read_entry;
use crate::keyed::store::{Format, Table, TableCell};
use crate::table::GroupedTable;
use crate::table::sweep::{Expiring, Fate};
use crate::ttl::stamps::Stamps;
use crate::ttl::{Moment, NEVER};
use hurtig_core::key::OwnedKey;
use std::borrow::Borrow;
use std::cell::{Ref, RefMut};
use std::collections::BTreeMap;

type Map<UK, UV> = BTreeMap<UK, Timed<UV>>;

impl<UK: Ord, UV> Expiring for Map<UK, UV> {
    const IN_PARTS: bool = true;

    fn fate(&self, expired: i64) -> Fate {
        let gone = self.values().filter(|timed| timed.at <= expired).count();
        match gone {
            all if all == self.len() => Fate::Drop,
            0 => Fate::Keep,
            _ => Fate::Trim,
        }
    }

    fn trim(&mut self, expired: i64) {
        self.retain(|_, timed| timed.at > expired);
    }

    fn parts(&self) -> usize {
        self.len().max(1)
    }
}

impl<K: OwnedKey, UK: OwnedKey + Ord, UV: StateValue> Format<K, Map<UK, UV>> {
    /// One entry for each user key, with its time.
    pub(in crate::keyed) fn timed_map() -> Self {
        let codec = Codec::of_map(
            |map, out| encode_map(map, out, value::write),
            |bytes| decode_map(bytes, value::read),
        );
        Self::new(begin, |table, entry| read_entry(table, entry, value::read), codec).stamped(Stamps::One)
    }
}

fn begin<K: OwnedKey, UK: OwnedKey, UV: StateValue>(table: &mut GroupedTable<K, Map<UK, UV>>, left_out: i64) {
    table.begin_scan(Box::new(move |key: &K, map: &Map<UK, UV>, out| {
        let (mut entries, mut namespace) = (0, Vec::new());
        for (user_key, timed) in map.iter().filter(|(_, timed)| timed.at > left_out) {
            namespace.clear();
            user_key.encode(&mut namespace);
            put_entry_with(out, key, &namespace, |out| value::write(timed, out))?;
            entries += 1;
        }
        Ok(entries)
    }));
}

/// Changes the current key's map, and removes it if nothing is left.
fn change<'a, K, UK, UV, C, R>(
    table: &mut Table<K, Map<UK, UV>>,
    cx: C,
    change: impl FnOnce(&mut Map<UK, UV>) -> R,
) -> Option<R>
where
    K: OwnedKey,
    UK: Ord + 'static,
    UV: 'static,
    C: KeyScope<'a>,
    C::Q: ToOwned<Owned = K>,
    K: Borrow<C::Q>,
{
    let map = table.get_mut(cx.hash(), cx.key())?;
    let changed = change(map);
    if map.is_empty() {
        table.remove(cx.hash(), cx.key());
    }
    Some(changed)
}

impl<K: OwnedKey, UK: OwnedKey + Ord, UV: 'static> TableCell<K, Map<UK, UV>> {
    /// The value of a user key that is seen.
    pub(in crate::keyed) fn get_entry<'a, C, B>(&'a self, cx: C, user_key: &B) -> Option<Ref<'a, UV>>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
        UK: Borrow<B>,
        B: Ord + ?Sized,
    {
        let moment = self.ttl().access();
        let find = |table: &Table<K, Map<UK, UV>>| -> Option<i64> {
            Some(table.get(cx.hash(), cx.key())?.get(user_key)?.at)
        };
        if self.ttl().expiry.on_read {
            let mut table = self.borrow_mut();
            if find(&table).is_some_and(|at| at > moment.expired && at != moment.now) {
                let map = table.get_mut(cx.hash(), cx.key());
                if let Some(timed) = map.and_then(|map| map.get_mut(user_key)) {
                    timed.at = moment.now;
                }
            }
        }
        let table = self.borrow();
        let timed = Ref::filter_map(table, |table| table.get(cx.hash(), cx.key())?.get(user_key)).ok()?;
        if timed.at > moment.hidden {
            return Some(Ref::map(timed, |timed| &timed.value));
        }
        drop(timed);
        // If another value of the state is held, it is removed later.
        if let Some(mut table) = self.try_borrow_mut() {
            change(&mut table, cx, |map| map.remove(user_key));
        }
        None
    }

    /// The value of a user key, to change it; `init` makes it when none is seen.
    pub(in crate::keyed) fn entry_or<'a, C>(
        &'a self,
        cx: C,
        user_key: UK,
        init: impl FnOnce() -> UV,
    ) -> RefMut<'a, UV>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let Moment { now, hidden, .. } = self.ttl().access();
        RefMut::map(self.borrow_mut(), |table| {
            let map = table.upsert(cx.hash(), cx.key(), BTreeMap::new);
            let timed = match map.entry(user_key) {
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Timed {
                    at: now,
                    value: init(),
                }),
                std::collections::btree_map::Entry::Occupied(entry) => {
                    let timed = entry.into_mut();
                    if timed.at <= hidden {
                        timed.value = init();
                    }
                    timed
                }
            };
            timed.at = now;
            &mut timed.value
        })
    }

    /// Sets the value of a user key and returns the one that was seen.
    pub(in crate::keyed) fn put_entry<'a, C>(&self, cx: C, user_key: UK, value: UV) -> Option<UV>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let moment = self.ttl().access();
        let mut table = self.borrow_mut();
        let map = table.upsert(cx.hash(), cx.key(), BTreeMap::new);
        let at = moment.now;
        seen(map.insert(user_key, Timed { at, value }), moment)
    }

    /// Removes a user key and returns the value that was seen.
    pub(in crate::keyed) fn remove_entry<'a, C, B>(&self, cx: C, user_key: &B) -> Option<UV>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
        UK: Borrow<B>,
        B: Ord + ?Sized,
    {
        let moment = self.ttl().access();
        let mut table = self.borrow_mut();
        let removed = change(&mut table, cx, |map| map.remove(user_key)).flatten();
        seen(removed, moment)
    }

    /// What is seen of the current key's map: the user keys and values whose time is after the one returned.
    pub(in crate::keyed) fn seen_entries<'a, C>(&'a self, cx: C) -> Option<(Ref<'a, Map<UK, UV>>, i64)>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let moment = self.ttl().access();
        if self.ttl().expiry.on_read {
            self.renew_entries(&mut self.borrow_mut(), cx, moment);
        } else if let Some(mut table) = self.try_borrow_mut() {
            self.forget_entries(&mut table, cx, moment);
        }
        let map = Ref::filter_map(self.borrow(), |table| table.get(cx.hash(), cx.key())).ok()?;
        Some((map, moment.hidden))
    }

    /// Forgets the current key's map.
    pub(in crate::keyed) fn clear_entries<'a, C>(&self, cx: C)
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        self.ttl().access();
        self.borrow_mut().remove(cx.hash(), cx.key());
    }

    fn forget_entries<'a, C>(&self, table: &mut Table<K, Map<UK, UV>>, cx: C, moment: Moment)
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let map = table.get(cx.hash(), cx.key());
        if moment.hidden != NEVER && map.is_some_and(|map| map.fate(moment.hidden) != Fate::Keep) {
            change(table, cx, |map| map.trim(moment.hidden));
        }
    }

    fn renew_entries<'a, C>(&self, table: &mut Table<K, Map<UK, UV>>, cx: C, moment: Moment)
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        self.forget_entries(table, cx, moment);
        let renews = |timed: &Timed<UV>| timed.at > moment.expired && timed.at != moment.now;
        let map = table.get(cx.hash(), cx.key());
        if map.is_some_and(|map| map.values().any(renews)) {
            change(table, cx, |map| {
                for timed in map.values_mut().filter(|timed| timed.at > moment.expired) {
                    timed.at = moment.now;
                }
            });
        }
    }
}

fn seen<UV>(timed: Option<Timed<UV>>, moment: Moment) -> Option<UV> {
    let timed = timed.filter(|timed| timed.at > moment.hidden);
    timed.map(|timed| timed.value)
}
