//! Parts of values that have expired, where a value as a whole has not.
//!
//! A store drops what has expired as a whole. A list or map that is written again and again never does, and the store knows
//! no older part of it: so it is the cache that takes such parts out.

use super::CachedTable;
use super::entry::Entry;
use crate::table::sweep::{Expiring, Fate, Hand};
use hurtig_core::key::OwnedKey;

impl<K: OwnedKey, V: 'static> CachedTable<K, V> {
    /// Looks at some values in the cache, going on where it stopped last, and takes out what was last accessed until
    /// `expired`, unless nothing would be left. See [`GroupedTable::sweep`](crate::GroupedTable::sweep).
    pub(crate) fn trim(&mut self, hand: &mut Hand, parts: &mut isize, expired: i64)
    where
        V: Expiring,
    {
        self.settle();
        self.table.sweep(hand, parts, expired);
    }
}

impl<V: Expiring> Expiring for Entry<V> {
    const IN_PARTS: bool = V::IN_PARTS;

    /// What expires as a whole stays, and need not be written for that.
    fn fate(&self, expired: i64) -> Fate {
        match self.peek().map(|value| value.fate(expired)) {
            Some(Fate::Trim) => Fate::Trim,
            _ => Fate::Keep,
        }
    }

    fn trim(&mut self, expired: i64) {
        if let Some(value) = self.value_unused_mut() {
            value.trim(expired);
        }
    }

    fn parts(&self) -> usize {
        self.peek().map_or(1, V::parts)
    }
}
