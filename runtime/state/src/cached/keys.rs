//! Which keys have a value.

use super::{CachedTable, stored_entry};
use crate::entries::read_part;
use crate::store::key::group_prefix;
use hurtig_core::error::Result;
use hurtig_core::key::OwnedKey;
use std::ops::ControlFlow;

impl<K: OwnedKey, V: 'static> CachedTable<K, V> {
    /// Calls `each` with every key that has a value, cached or in the store, in no order.
    ///
    /// *Cost*: reads the whole state of the store; changes nothing.
    ///
    /// # Errors
    /// Those of the store.
    pub fn for_each_key(&self, each: &mut dyn FnMut(&K)) -> Result<()> {
        self.table.for_each(&mut |key, entry| {
            if entry.peek().is_some() {
                each(key);
            }
        });
        let (store, state) = self.backing.store();
        for group in self.table.groups() {
            let mut failed = None;
            let mut visit = |key: &[u8], value: &[u8]| -> Result<()> {
                let key: K = read_part("key", stored_entry::<K>(key, value)?.key)?;
                // What the cache has of a key is newer.
                if self.table.get(key.stable_hash(), &key).is_none() {
                    each(&key);
                }
                Ok(())
            };
            let scanned = store.scan(
                state,
                &group_prefix(group),
                &mut |key, value| match visit(key, value) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                },
            );
            scanned.and(failed.map_or(Ok(()), Err))?;
        }
        Ok(())
    }
}
