//! One value for each key, that expires. Reducing and aggregating states are such too.

use super::Timed;
use crate::cached::Codec;
use crate::encoded::put_entry_with;
use crate::entries::read_with;
use crate::function::StateValue;
use crate::keyed::KeyScope;
use crate::keyed::store::{Format, TableCell};
use crate::snapshot::{decode, write_named};
use crate::table::GroupedTable;
use crate::ttl::stamps::{Stamped, Stamps, put_times};
use hurtig_core::error::Result;
use hurtig_core::key::OwnedKey;
use std::borrow::Borrow;
use std::cell::{Ref, RefMut};

impl<K: OwnedKey, V: StateValue> Format<K, Timed<V>> {
    /// One entry for each key, with its time.
    pub(in crate::keyed) fn timed() -> Self {
        Self::new(
            begin,
            |table, entry| read_with(table, entry, read),
            Codec::new(write, read),
        )
        .stamped(Stamps::One)
    }
}

fn begin<K: OwnedKey, V: StateValue>(table: &mut GroupedTable<K, Timed<V>>, left_out: i64) {
    table.begin_scan_copying(Box::new(move |key, timed, out| {
        if timed.at <= left_out {
            return Ok(0);
        }
        put_entry_with(out, key, &[], |out| write(timed, out))?;
        Ok(1)
    }));
}

/// Appends a value behind its time.
pub(super) fn write<V: StateValue>(timed: &Timed<V>, out: &mut Vec<u8>) -> Result<()> {
    put_times(out, &[timed.at]);
    write_named(&timed.value, out)
}

pub(super) fn read<V: StateValue>(bytes: &[u8]) -> Result<Timed<V>> {
    let stamped = Stamped::expect(bytes)?;
    Ok(Timed {
        at: stamped.one()?,
        value: decode(stamped.value)?,
    })
}

impl<K: OwnedKey, V: 'static> TableCell<K, Timed<V>> {
    /// The value that the current key has and that is seen.
    pub(in crate::keyed) fn get_seen<'a, C>(&'a self, cx: C) -> Option<Ref<'a, V>>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let moment = self.ttl().access();
        if self.ttl().expiry.on_read {
            self.renew(cx, moment.now, moment.expired);
        }
        let table = self.borrow();
        let timed = Ref::filter_map(table, |table| table.get(cx.hash(), cx.key())).ok()?;
        if timed.at > moment.hidden {
            return Some(Ref::map(timed, |timed| &timed.value));
        }
        drop(timed);
        // If another value of the state is held, it is removed later.
        if let Some(mut table) = self.try_borrow_mut() {
            table.remove(cx.hash(), cx.key());
        }
        None
    }

    /// Renews a value that has not expired.
    fn renew<'a, C>(&self, cx: C, now: i64, expired: i64)
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let mut table = self.borrow_mut();
        let at = table.get(cx.hash(), cx.key()).map(|timed| timed.at);
        // One that has the time already need not be written again.
        if at.is_some_and(|at| at > expired && at != now)
            && let Some(timed) = table.get_mut(cx.hash(), cx.key())
        {
            timed.at = now;
        }
    }

    /// The value that the current key has and that is seen, to change it.
    pub(in crate::keyed) fn get_seen_mut<'a, C>(&'a self, cx: C) -> Option<RefMut<'a, V>>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let moment = self.ttl().access();
        let mut table = self.borrow_mut();
        if table.get(cx.hash(), cx.key())?.at <= moment.hidden {
            table.remove(cx.hash(), cx.key());
            return None;
        }
        let value = RefMut::filter_map(table, |table| {
            let timed = table.get_mut(cx.hash(), cx.key())?;
            timed.at = moment.now;
            Some(&mut timed.value)
        });
        value.ok()
    }

    /// The current key's value, to change it; `init` makes it when none is seen.
    pub(in crate::keyed) fn seen_or<'a, C>(&'a self, cx: C, init: impl FnOnce() -> V) -> RefMut<'a, V>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let mut init = Some(init);
        self.place(cx, || {
            // Filled above and asked for once: a value that was just made is seen.
            let init = init
                .take()
                .unwrap_or_else(|| unreachable!("a value is made once"));
            init()
        })
    }

    /// Sets the current key's value, or hands it back with the one that is seen.
    pub(in crate::keyed) fn set_or<'a, C>(&'a self, cx: C, value: V) -> Option<(RefMut<'a, V>, V)>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let mut value = Some(value);
        let place = self.place(cx, || {
            // Filled above and asked for once: a value that was just made is seen.
            value
                .take()
                .unwrap_or_else(|| unreachable!("a value is made once"))
        });
        value.map(|value| (place, value))
    }

    /// The current key's value with the time of now; `make` makes it when none is seen.
    fn place<'a, C>(&'a self, cx: C, mut make: impl FnMut() -> V) -> RefMut<'a, V>
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        let moment = self.ttl().access();
        let at = moment.now;
        RefMut::map(self.borrow_mut(), |table| {
            let timed = table.upsert(cx.hash(), cx.key(), || Timed { at, value: make() });
            if timed.at <= moment.hidden {
                timed.value = make();
            }
            timed.at = at;
            &mut timed.value
        })
    }

    /// Forgets the current key's value.
    pub(in crate::keyed) fn clear<'a, C>(&self, cx: C)
    where
        C: KeyScope<'a>,
        C::Q: ToOwned<Owned = K>,
        K: Borrow<C::Q>,
    {
        self.ttl().access();
        self.borrow_mut().remove(cx.hash(), cx.key());
    }
}
