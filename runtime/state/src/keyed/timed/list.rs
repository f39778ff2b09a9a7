//! A list for each key, whose elements expire one by one.

use crate::cached::Codec;
use crate::encoded::put_entry_with;
use crate::entries::read_with;
use crate::function::StateValue;
use crate::keyed::KeyScope;
use crate::keyed::store::{Format, TableCell};
use crate::snapshot::{decode, write_named};
use crate::table::GroupedTable;
use crate::table::sweep::{Expiring, Fate};
use crate::ttl::stamps::{Stamped, Stamps, put_times};
use crate::ttl::{Moment, NEVER};
use hurtig_core::error::{Error, Result};
use hurtig_core::key::OwnedKey;
use std::borrow::Borrow;
use std::cell::Ref;

/// A list and when each element was last accessed, none before the one in front of it: what has expired is at the
/// front.
#[derive(Clone, Debug)]
pub(in crate::keyed) struct TimedList<V> {
    at: Vec<i64>,
    values: Vec<V>,
}

impl<V> TimedList<V> {
    fn new() -> Self {
        Self {
            at: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Appends an element. Where the clock went back, it counts as accessed with the one before.
    fn push(&mut self, now: i64, value: V) {
        self.at.push(now.max(self.at.last().copied().unwrap_or(NEVER)));
        self.values.push(value);
    }

    /// How many elements at the front were last accessed until `until`.
    fn before(&self, until: i64) -> usize {
        self.at.partition_point(|at| *at <= until)
    }

    fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl<V> Expiring for TimedList<V> {
    const IN_PARTS: bool = true;

    fn fate(&self, expired: i64) -> Fate {
        match self.before(expired) {
            0 if !self.is_empty() => Fate::Keep,
            some if some < self.at.len() => Fate::Trim,
            _ => Fate::Drop,
        }
    }

    fn trim(&mut self, expired: i64) {
        let before = self.before(expired);
        self.at.drain(..before);
        self.values.drain(..before);
    }
}

impl<K: OwnedKey, V: StateValue> Format<K, TimedList<V>> {
    /// One entry for each key, with a time for each element.
    pub(in crate::keyed) fn timed_list() -> Self {
        Self::new(
            begin,
            |table, entry| read_with(table, entry, read),
            Codec::new(|list, out| write(list, 0, out), read),
        )
        .stamped(Stamps::PerElement)
    }
}

fn begin<K: OwnedKey, V: StateValue>(table: &mut GroupedTable<K, TimedList<V>>, left_out: i64) {
    table.begin_scan_copying(Box::new(move |key, list, out| {
        let before = list.before(left_out);
        if before == list.at.len() {
            return Ok(0);
        }
        put_entry_with(out, key, &[], |out| write(list, before, out))?;
        Ok(1)
    }));
}

/// Appends the elements from `first` on behind their times.
fn write<V: StateValue>(list: &TimedList<V>, first: usize, out: &mut Vec<u8>) -> Result<()> {
    put_times(out, &list.at[first..]);
    write_named(&&list.values[first..], out)
}

fn read<V: StateValue>(bytes: &[u8]) -> Result<TimedList<V>> {
    let stamped = Stamped::expect(bytes)?;
    let (at, values) = (
        stamped.times().collect::<Vec<_>>(),
        decode::<Vec<V>>(stamped.value)?,
    );
    if at.len() != values.len() || !at.is_sorted() {
        return Err(Error::user(format!(
            "a list of {} elements has {} times of access: it was written as another kind of state",
            values.len(),
            at.len()
        )));
    }
    Ok(TimedList { at, values })
}

impl<K: OwnedKey, V: 'static> TableCell<K, TimedList<V>> {
    /// Appends to the current key's list.
    pub(in crate::keyed) fn push_elements<'a, C>(&self, cx: C, values: impl IntoIterator<Item = V>)
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let now = self.ttl().access().now;
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            let mut table = self.borrow_mut();
            let list = table.upsert(cx.hash(), cx.key(), TimedList::new);
            values.for_each(|value| list.push(now, value));
        }
    }

    /// The elements of the current key's list that are seen.
    pub(in crate::keyed) fn seen_elements<'a, C>(&'a self, cx: C) -> Ref<'a, [V]>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let moment = self.ttl().access();
        if self.ttl().expiry.on_read {
            self.renew_elements(cx, moment);
        } else {
            self.forget_elements(cx, moment);
        }
        Ref::map(self.borrow(), |table| {
            let list = table.get(cx.hash(), cx.key());
            list.map_or(&[][..], |list| &list.values[list.before(moment.hidden)..])
        })
    }

    /// Removes elements that are not seen any more, unless the state is in use.
    fn forget_elements<'a, C>(&self, cx: C, moment: Moment)
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let Some(mut table) = self.try_borrow_mut() else {
            return;
        };
        let list = table.get(cx.hash(), cx.key());
        match list.map_or(Fate::Keep, |list| list.fate(moment.hidden)) {
            Fate::Keep => {}
            Fate::Drop => drop(table.remove(cx.hash(), cx.key())),
            Fate::Trim => {
                if let Some(list) = table.get_mut(cx.hash(), cx.key()) {
                    list.trim(moment.hidden);
                }
            }
        }
    }

    /// Renews all elements that have not expired, and removes those that are not seen any more.
    fn renew_elements<'a, C>(&self, cx: C, moment: Moment)
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let mut table = self.borrow_mut();
        let Some(list) = table.get(cx.hash(), cx.key()) else {
            return;
        };
        if list.fate(moment.hidden) == Fate::Drop {
            table.remove(cx.hash(), cx.key());
            return;
        }
        // What has the time already need not be written again.
        let renewed = |at: &i64| *at <= moment.expired || *at >= moment.now;
        if list.fate(moment.hidden) == Fate::Keep && list.at.iter().all(renewed) {
            return;
        }
        if let Some(list) = table.get_mut(cx.hash(), cx.key()) {
            list.trim(moment.hidden);
            let live = list.before(moment.expired);
            list.at[live..]
                .iter_mut()
                .for_each(|at| *at = moment.now.max(*at));
        }
    }

    /// Replaces the current key's list.
    pub(in crate::keyed) fn replace_elements<'a, C>(&self, cx: C, values: Vec<V>)
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let now = self.ttl().access().now;
        let mut table = self.borrow_mut();
        if values.is_empty() {
            table.remove(cx.hash(), cx.key());
        } else {
            let at = vec![now; values.len()];
            *table.upsert(cx.hash(), cx.key(), TimedList::new) = TimedList { at, values };
        }
    }

    /// Takes the current key's list.
    pub(in crate::keyed) fn take_elements<'a, C>(&self, cx: C) -> Vec<V>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let moment = self.ttl().access();
        let Some(mut list) = self.borrow_mut().remove(cx.hash(), cx.key()) else {
            return Vec::new();
        };
        list.trim(moment.hidden);
        list.values
    }
}
