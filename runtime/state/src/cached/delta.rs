//! What the store does not have of a checkpoint, encoded while records flow.
//!
//! At the barrier nothing is written: [`CachedTable::begin_delta`] holds write-backs back, so that the store stays
//! as it is, and the table notes the moment. The task then encodes the entries that were dirty at that moment
//! in slices, between batches; an entry that is about to change is encoded first. Meanwhile another thread makes
//! the store's checkpoint. Store and delta together are the state of the barrier.
//!
//! When the delta has been ingested into the store, [`CachedTable::end_delta`] lets write-backs go on. Until then
//! entries of the delta stay in the cache, since the store has older values.

use super::CachedTable;
use super::entry::Entry;
use crate::encoded::{EncodedEntries, put_entry_with, put_key};
use crate::store::RunBuilder;
use crate::store::key::group_prefix;
use crate::table::ScanBudget;
use hurtig_core::error::{Error, Result};
use hurtig_core::key::OwnedKey;

/// Entries that were not in the store at a barrier, in key-group order. One without a value is a deletion: no
/// value has zero bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    entries: EncodedEntries,
}

impl Delta {
    /// A delta that was stored.
    pub fn new(entries: EncodedEntries) -> Self {
        Self { entries }
    }

    /// What to store.
    pub fn entries(&self) -> &EncodedEntries {
        &self.entries
    }

    /// The delta as a run for [`ByteStore::ingest`](crate::ByteStore::ingest), once sorted.
    ///
    /// # Errors
    /// When the bytes are not those of entries.
    pub fn to_run(&self) -> Result<RunBuilder> {
        let (mut run, mut store_key) = (RunBuilder::new(), Vec::new());
        self.entries.each(|group, [key, namespace, value]| {
            store_key.clear();
            for part in [&group_prefix(group)[..], key, namespace] {
                store_key.extend_from_slice(part);
            }
            match value.is_empty() {
                true => run.delete(&store_key),
                false => run.put(&store_key, value),
            }
        })?;
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
        let codec = self.backing.codec();
        self.table
            .begin_scan(Box::new(move |key: &K, entry: &Entry<V>, out| {
                if !entry.is_dirty() {
                    return Ok(0);
                }
                match entry.peek() {
                    Some(value) => put_entry_with(out, key, &[], |out| codec.encode(value, out))?,
                    None => put_key(out, key),
                }
                entry.saved();
                Ok(1)
            }));
        Ok(())
    }

    /// Goes on with the delta until the budget is spent. `None` while there is more to do, or when none has
    /// begun.
    ///
    /// # Errors
    /// When a value cannot be encoded. The delta is to be ended as one that was not written.
    pub fn continue_delta(&mut self, budget: &mut ScanBudget) -> Result<Option<Delta>> {
        Ok(self.table.continue_scan(budget)?.map(Delta::new))
    }

    /// Whether a delta has begun and not been handed out.
    pub fn is_encoding(&self) -> bool {
        self.table.is_scanning()
    }

    /// Whether a delta has begun and not ended.
    pub fn is_holding(&self) -> bool {
        self.held
    }

    /// The delta is in the store (`ingested`), or will never be: write-backs go on.
    ///
    /// *Cost*: looks at the whole table.
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
        }
        self.table
            .iter()
            .for_each(|(_, _, entry)| entry.delta_ended(ingested));
        self.held = false;
        self.stuck_at = 0;
        Ok(())
    }
}
