//! What the store does not have of a checkpoint, encoded while records flow.
//!
//! At the barrier nothing is written: [`CachedTable::begin_delta`] holds write-backs back, so that the store stays
//! as it is, and the table notes the moment. The task then encodes the entries that were dirty at that moment
//! in slices, between batches; an entry that is about to change is encoded first.
//!
//! A [`Delta`] has two parts. What changes from delta to delta is *fresh*: it stays dirty, and is stored with
//! the checkpoint. So a value that changes all the time is not written to the store, which would be thrown away soon.
//! What has rested is *cold*: it is brought into the store before that is looked at, and is stored once. It has not changed
//! since the delta before, or has for the first time since then; a new key has its first delta to show what it is. Store and
//! fresh part together are the state of the barrier.
//!
//! [`CachedTable::end_delta`] lets write-backs go on, when the cold part is in the store or never will be.

use super::CachedTable;
use super::entry::{Entry, Part};
use crate::encoded::{EncodedEntries, put_entry_with, put_key};
use crate::snapshot::EntryRef;
use crate::store::key::{group_prefix, write_key};
use crate::store::{ByteStore, RunBuilder, StateId, bring_in};
use crate::table::ScanBudget;
use hurtig_core::error::{Error, Result};
use hurtig_core::key::{OwnedKey, key_group};
use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

/// Entries that were not in the store at a barrier.
#[derive(Debug, Default)]
pub struct Delta {
    fresh: EncodedEntries,
    cold: Mutex<RunBuilder>,
}

impl Delta {
    /// What the store is not to have yet, in key-group order. An entry without a value is a deletion: no value
    /// has zero bytes.
    pub fn fresh(&self) -> &EncodedEntries {
        &self.fresh
    }

    /// Brings the other part into the store.
    ///
    /// # Errors
    /// Those of [`ByteStore::write`].
    pub fn settle(&self, store: &dyn ByteStore, state: StateId) -> Result<()> {
        let mut cold = self.cold.lock().unwrap_or_else(PoisonError::into_inner);
        bring_in(store, state, &cold.sort())
    }

    /// The fresh part as a run, once sorted: what makes a store that was restored the state of the barrier.
    ///
    /// # Errors
    /// When the bytes are not those of entries.
    pub fn fresh_run(&self) -> Result<RunBuilder> {
        let (mut run, mut store_key) = (RunBuilder::new(), Vec::new());
        for entry in self.fresh.iter() {
            let EntryRef {
                group,
                key,
                namespace,
                value,
            } = entry?;
            store_key.clear();
            for part in [&group_prefix(group)[..], key, namespace] {
                store_key.extend_from_slice(part);
            }
            match value.is_empty() {
                true => run.delete(&store_key),
                false => run.put(&store_key, value),
            }
        }
        Ok(run)
    }
}

impl<K: OwnedKey, V: 'static> CachedTable<K, V> {
    /// Begins a delta of what is dirty now, and writes nothing to the store until [`Self::end_delta`].
    ///
    /// *Cost*: does not depend on the size of the table.
    ///
    /// # Errors
    /// Those of [`Self::quiet_point`].
    ///
    /// # Panics
    /// When a delta has begun and not ended.
    pub fn begin_delta(&mut self) -> Result<()> {
        assert!(!self.held, "one delta at a time");
        self.settle();
        self.backing.take_failure()?;
        self.held = true;
        self.deltas.begin();
        let (codec, deltas, cold) = (self.backing.codec(), self.deltas, Arc::clone(&self.cold));
        let max_parallelism = self.backing.max_parallelism();
        let place = RefCell::new(Vec::new());
        self.table
            .begin_scan(Box::new(move |key: &K, entry: &Entry<V>, out| {
                match (entry.save(deltas), entry.peek()) {
                    (Part::None, _) => return Ok(0),
                    (Part::Fresh, Some(value)) => {
                        put_entry_with(out, key, &[], |out| codec.encode(value, out))?;
                        return Ok(1);
                    }
                    (Part::Fresh, None) => {
                        put_key(out, key);
                        return Ok(1);
                    }
                    (Part::Cold, value) => {
                        let mut cold = cold.lock().unwrap_or_else(PoisonError::into_inner);
                        let group = key_group(key.stable_hash(), max_parallelism).get() as u16;
                        let mut place = place.borrow_mut();
                        write_key(&mut place, group, key, &[], &[]);
                        match value {
                            Some(value) => drop(cold.put_with(&place, |out| codec.encode(value, out))?),
                            None => cold.delete(&place),
                        }
                    }
                }
                Ok(0)
            }));
        Ok(())
    }

    /// Goes on with the delta until the budget is spent. `None` while there is more to do, or when none has
    /// begun.
    ///
    /// # Errors
    /// When a value cannot be encoded. The delta is to be ended as one that was not written.
    pub fn continue_delta(&mut self, budget: &mut ScanBudget) -> Result<Option<Delta>> {
        let fresh = self.table.continue_scan(budget)?;
        Ok(fresh.map(|fresh| Delta {
            fresh,
            cold: Mutex::new(self.take_cold()),
        }))
    }

    /// Whether a delta has begun and not been handed out.
    pub fn is_encoding(&self) -> bool {
        self.table.is_scanning()
    }

    /// Whether a delta has begun and not ended.
    pub fn is_holding(&self) -> bool {
        self.held
    }

    fn take_cold(&self) -> RunBuilder {
        std::mem::take(&mut *self.cold.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The cold part is in the store (`ingested`), or will never be: write-backs go on.
    ///
    /// # Errors
    /// When the delta is not encoded to its end; that it was ingested cannot be then.
    pub fn end_delta(&mut self, ingested: bool) -> Result<()> {
        if self.table.is_scanning() {
            if ingested {
                return Err(Error::internal("a delta was ingested before it was encoded"));
            }
            // What it says is not needed any more; only its end is.
            let _ = self.table.continue_scan(&mut ScanBudget::unbounded());
            self.take_cold();
        }
        self.deltas.end(ingested);
        self.held = false;
        self.stuck_at = 0;
        Ok(())
    }
}
