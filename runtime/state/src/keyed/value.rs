//! One value for each key.

use super::store::{Table, TableCell};
use super::timed::Timed;
use super::{KeyScope, KeyedState};
use crate::function::StateValue;
use hurtig_core::key::OwnedKey;
use std::cell::{Ref, RefMut};
use std::fmt;
use std::marker::PhantomData;

/// Declares a handle: an index and the types behind it.
macro_rules! handle {
    ($(#[$doc:meta])* $name:ident<$($parameter:ident),+>) => {
        $(#[$doc])*
        pub struct $name<$($parameter),+> {
            index: u32,
            types: PhantomData<fn() -> ($($parameter,)+)>,
        }

        impl<$($parameter),+> $name<$($parameter),+> {
            pub(super) fn at(index: u32) -> Self {
                Self { index, types: PhantomData }
            }
        }

        impl<$($parameter),+> $crate::keyed::StateHandle for $name<$($parameter),+> {
            fn index(&self) -> u32 {
                self.index
            }
        }

        impl<$($parameter),+> Clone for $name<$($parameter),+> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($parameter),+> Copy for $name<$($parameter),+> {}

        impl<$($parameter),+> fmt::Debug for $name<$($parameter),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.index)
            }
        }
    };
}
pub(super) use handle;

handle! {
    /// A handle to a state of one value for each key; see [`KeyedState::value`].
    ValueState<V>
}

impl<V: StateValue> ValueState<V> {
    /// The values of a state that does not expire.
    #[inline]
    fn cell<K: OwnedKey>(self, state: &KeyedState<K>) -> Option<&TableCell<K, V>> {
        state.find(self.index)
    }

    /// The values of a state that does.
    #[cold]
    fn timed<K: OwnedKey>(self, state: &KeyedState<K>) -> &TableCell<K, Timed<V>> {
        state.store(self.index)
    }

    /// The whole table, for operators that find it once for a batch.
    ///
    /// # Panics
    /// When the state has a time-to-live.
    #[inline]
    pub fn table<K: OwnedKey>(self, state: &KeyedState<K>) -> RefMut<'_, Table<K, V>> {
        state.store::<TableCell<K, V>>(self.index).borrow_mut()
    }

    /// The current key's value.
    #[inline]
    pub fn get<'a, C: KeyScope<'a>>(self, cx: C) -> Option<Ref<'a, V>> {
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).get_seen(cx);
        };
        Ref::filter_map(cell.borrow(), |table| table.get(cx.hash(), cx.key())).ok()
    }

    /// A copy of the current key's value.
    pub fn get_cloned<'a, C: KeyScope<'a>>(self, cx: C) -> Option<V> {
        self.get(cx).map(|value| value.clone())
    }

    /// The current key's value, to change it.
    #[inline]
    pub fn get_mut<'a, C: KeyScope<'a>>(self, cx: C) -> Option<RefMut<'a, V>> {
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).get_seen_mut(cx);
        };
        RefMut::filter_map(cell.borrow_mut(), |table| table.get_mut(cx.hash(), cx.key())).ok()
    }

    /// The current key's value, to change it; `init` makes it when there is none.
    #[inline]
    pub fn get_or<'a, C: KeyScope<'a>>(self, cx: C, init: impl FnOnce() -> V) -> RefMut<'a, V> {
        let Some(cell) = self.cell(cx.state()) else {
            return self.timed(cx.state()).seen_or(cx, init);
        };
        RefMut::map(cell.borrow_mut(), |table| table.upsert(cx.hash(), cx.key(), init))
    }

    /// Changes the current key's value, which starts as the type's default.
    #[inline]
    pub fn update<'a, C: KeyScope<'a>, R>(self, cx: C, change: impl FnOnce(&mut V) -> R) -> R
    where
        V: Default,
    {
        let Some(cell) = self.cell(cx.state()) else {
            return change(&mut self.timed(cx.state()).seen_or(cx, V::default));
        };
        change(cell.borrow_mut().upsert(cx.hash(), cx.key(), V::default))
    }

    /// Sets the current key's value.
    pub fn set<'a, C: KeyScope<'a>>(self, cx: C, value: V) {
        let Some(cell) = self.cell(cx.state()) else {
            if let Some((mut place, value)) = self.timed(cx.state()).set_or(cx, value) {
                *place = value;
            }
            return;
        };
        let mut table = cell.borrow_mut();
        let mut value = Some(value);
        let place = table.upsert(cx.hash(), cx.key(), || {
            // `value` was filled two lines above and this runs at most once.
            value.take().unwrap_or_else(|| unreachable!("the value is there"))
        });
        if let Some(value) = value {
            *place = value;
        }
    }

    /// Forgets the current key's value.
    pub fn clear<'a, C: KeyScope<'a>>(self, cx: C) {
        match self.cell(cx.state()) {
            Some(cell) => drop(cell.borrow_mut().remove(cx.hash(), cx.key())),
            None => self.timed(cx.state()).clear(cx),
        }
    }
}
