//! A write-back cache of typed values before a store of bytes.
//!
//! [`CachedTable`] answers like a heap table: a key that is in the cache costs a hash look-up. It promises
//! that its answers are those of a map, whatever was written back or evicted in between; that it stays
//! near a budget of bytes; and that entries leave it only in [`CachedTable::quiet_point`], which the task
//! calls between batches. It refuses to know batches, barriers and where checkpoints go.
//!
//! What is in the cache is clean (as in the store), dirty (to be written), absent (known not to be in the
//! store) or deleted (to be deleted there). Dirty entries are written back as sorted runs: those that
//! leave, when the budget is used up, and all of them in [`CachedTable::flush`].
//!
//! **Checkpoints** either flush and then ask the store for one, or, without a pause, take a [`Delta`] beside it:
//! [`CachedTable::begin_delta`].
//!
//! **Failures.** A read that fails cannot be returned from [`CachedTable::get`]. The table keeps the first
//! failure, answers as if the key were absent, writes nothing any more, and returns the failure at the next
//! quiet point or flush. The task fails there, before anything of it is in a checkpoint.

mod backing;
mod batch;
mod codec;
mod convert;
mod delta;
mod entry;
mod evict;
mod keys;
#[cfg(test)]
mod measure;
mod memory;
mod reads;
#[cfg(test)]
mod tests;
mod trim;

pub use codec::{Codec, Layout};
pub(crate) use codec::{decode_map, encode_map};
pub use delta::Delta;
pub use memory::CacheMemory;

use crate::encoded::EncodedEntries;
use crate::entries::{of_key, read_key, twice};
use crate::snapshot::{EntryRef, KeyedSection};
use crate::store::key::{GROUP_BYTES, group_prefix, split_key};
use crate::store::{ByteStore, RunBuilder, StateId};
use crate::table::GroupedTable;
use crate::ttl::stamps::{Stamps, convert};
use backing::Backing;
use entry::{Deltas, Entry};
use hurtig_core::error::Result;
use hurtig_core::key::{OwnedKey, StableKey};
use memory::CacheShare;
use reads::Reads;
use std::borrow::Borrow;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

/// Entries of a restore that are written at a time, and their bytes: a file of the store.
const RESTORE_ENTRIES: usize = 262_144;
const RESTORE_BYTES: usize = 16 << 20;

/// The first bytes of a key, of which one that is less stands first.
fn head(key: &[u8]) -> u64 {
    let mut head = [0; size_of::<u64>()];
    let length = key.len().min(head.len());
    head[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(head)
}

/// What a [`CachedTable`] covers, and how large it may be.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// The subtask's key groups.
    pub groups: Range<u16>,
    /// How many key groups the job has.
    pub max_parallelism: u32,
    /// What the cached entries share with those of other tables.
    pub memory: CacheMemory,
}

/// The values of one state by key, the recently used ones in memory.
///
/// Hashes are those of [`GroupedTable`], which holds the entries. Between two quiet points it grows by what
/// is touched, so a batch may exceed the budget by its own keys.
#[derive(Debug)]
pub struct CachedTable<K, V> {
    table: GroupedTable<K, Entry<V>>,
    /// What was read since the last change.
    reads: Reads<K, Entry<V>>,
    backing: Backing<V>,
    share: CacheShare,
    /// Entries of the table that the last sweep has passed.
    hand: usize,
    run: RunBuilder,
    /// Write-backs wait for a delta.
    held: bool,
    deltas: Deltas,
    /// The cold part of the delta that has begun.
    cold: Arc<Mutex<RunBuilder>>,
    /// Nothing leaves below: what is here could not when that was last tried.
    stuck_at: usize,
    /// Many keys were missing of late.
    misses_many: bool,
}

impl<K: OwnedKey, V: 'static> CachedTable<K, V> {
    /// The state `name` of a store, with what the store has of it.
    ///
    /// # Errors
    /// When the store cannot open the state.
    pub fn open(
        store: Arc<dyn ByteStore>,
        (name, codec): (&str, Codec<V>),
        options: CacheOptions,
    ) -> Result<Self> {
        let slot = size_of::<(K, Entry<V>)>() + 1;
        Ok(Self {
            table: GroupedTable::new(options.groups, options.max_parallelism),
            reads: Reads::new(),
            backing: Backing::open(store, (name, codec), (options.max_parallelism, slot))?,
            share: options.memory.join(),
            hand: 0,
            run: RunBuilder::new(),
            held: false,
            deltas: Deltas::default(),
            cold: Arc::default(),
            stuck_at: 0,
            misses_many: false,
        })
    }

    /// The value of a key.
    ///
    /// *Cost*: blocks on the store when the key is not in the cache.
    #[inline]
    pub fn get<Q>(&self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        match self.table.get(hash, key) {
            Some(entry) => entry.value(),
            None => self.get_stored(hash, key),
        }
    }

    #[cold]
    fn get_stored<Q>(&self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        let same = |other: &K| other.borrow() == key;
        self.reads
            .get_or(hash, same, || self.backing.read_owned(hash, key))?
            .value()
    }

    /// The value of a key, to change it. It is written back even if it stays as it was.
    ///
    /// *Cost*: as [`Self::get`].
    #[inline]
    pub fn get_mut<Q>(&mut self, hash: u64, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        self.entry_mut(hash, key)?.value_mut()
    }

    /// The value of a key; when it has none, `init` makes it and the key is copied.
    ///
    /// *Cost*: as [`Self::get`].
    #[inline]
    pub fn upsert<Q>(&mut self, hash: u64, key: &Q, init: impl FnOnce() -> V) -> &mut V
    where
        K: Borrow<Q>,
        Q: StableKey + ToOwned<Owned = K> + ?Sized,
    {
        self.settle();
        let backing = &self.backing;
        let entry = self.table.upsert(hash, key, || backing.read(hash, key));
        if entry.peek().is_none() {
            backing.revive(entry, init());
        }
        match entry.value_mut() {
            Some(value) => value,
            None => unreachable!("it was just given a value"),
        }
    }

    /// Forgets a key and returns the value it had.
    ///
    /// *Cost*: as [`Self::get`].
    pub fn remove<Q>(&mut self, hash: u64, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        self.entry_mut(hash, key)?;
        let entry = self.table.get_mut(hash, key)?;
        self.backing.kill(entry)
    }

    /// The entry of a key, from the store if it is not in the cache.
    fn entry_mut<Q>(&mut self, hash: u64, key: &Q) -> Option<&mut Entry<V>>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        self.settle();
        if self.table.get(hash, key).is_none() {
            let (key, entry) = self.backing.read_owned(hash, key)?;
            self.table.insert(hash, key, entry);
        }
        self.table.get_mut(hash, key)
    }

    /// Moves what `&self` has read to where it can be changed.
    #[inline]
    fn settle(&mut self) {
        if !self.reads.is_empty() {
            self.move_reads();
        }
    }

    #[cold]
    #[inline(never)]
    fn move_reads(&mut self) {
        for (hash, key, entry) in self.reads.take() {
            self.table.insert(hash, key, entry);
        }
    }

    /// Bytes that the cached entries count for: their slots, and half as much again as keys and values have
    /// when they are encoded. A value that grew since it was last encoded counts as it did then.
    pub fn charged_bytes(&self) -> usize {
        self.backing.charged()
    }

    /// Its number in the store.
    pub fn state(&self) -> StateId {
        self.backing.store().1
    }

    /// How many keys the cache knows something of.
    pub fn cached_keys(&self) -> usize {
        self.table.len()
    }

    /// Puts entries of a snapshot straight into the store; those of other key groups are passed over. For a
    /// table without entries.
    ///
    /// # Errors
    /// When keys cannot be read, the max parallelism was another, an entry comes twice, or the store fails.
    pub(crate) fn restore(&mut self, section: KeyedSection<'_>, times: (Stamps, i64)) -> Result<()> {
        self.run.clear();
        if section.has_groups_in_one_piece() {
            self.restore_groups(section, times)?;
        } else {
            self.restore_together(section, times)?;
        }
        self.backing.ingest(&self.run.sort())
    }

    /// Puts the entries of a section into the store, one key group after the other.
    fn restore_groups(&mut self, section: KeyedSection<'_>, times: (Stamps, i64)) -> Result<()> {
        let mut group: Vec<(u64, EntryRef<'_>)> = Vec::new();
        section.visit_held(|entry| {
            if group.first().is_some_and(|(_, first)| first.group != entry.group) {
                self.restore_sorted(&mut group, times)?;
            }
            self.add_own(&mut group, entry)
        })?;
        self.restore_sorted(&mut group, times)?;
        let mut parts = section.away().iter();
        parts.try_for_each(|part| {
            part.read(|entries| {
                let mut group = Vec::new();
                entries
                    .iter()
                    .try_for_each(|entry| self.add_own(&mut group, entry?))?;
                self.restore_sorted(&mut group, times)
            })
        })
    }

    /// The same with all of them in memory at once: several parts have entries of one key group.
    fn restore_together(&mut self, section: KeyedSection<'_>, times: (Stamps, i64)) -> Result<()> {
        let mut brought = Vec::new();
        for part in section.away() {
            part.read(|group| {
                brought.push(group);
                Ok(())
            })?;
        }
        let mut all = Vec::new();
        section.visit_held(|entry| self.add_own(&mut all, entry))?;
        let mut entries = brought.iter().flat_map(EncodedEntries::iter);
        entries.try_for_each(|entry| self.add_own(&mut all, entry?))?;
        self.restore_sorted(&mut all, times)
    }

    /// Adds an entry, with the head of its key, if its key group is one of the table's.
    fn add_own<'a>(&self, to: &mut Vec<(u64, EntryRef<'a>)>, entry: EntryRef<'a>) -> Result<()> {
        if read_key(&self.table, entry)?.is_some() {
            to.push((head(entry.key), entry));
        }
        Ok(())
    }

    /// Puts entries into the store, all of a group or of several, given with the heads of their keys; leaves none.
    fn restore_sorted(
        &mut self,
        entries: &mut Vec<(u64, EntryRef<'_>)>,
        (stamps, now): (Stamps, i64),
    ) -> Result<()> {
        entries.sort_unstable_by(|(head, one), (other_head, other)| {
            let heads = (one.group, head).cmp(&(other.group, other_head));
            heads.then_with(|| one.place().cmp(&other.place()))
        });
        let same = |pair: &&[(u64, EntryRef<'_>)]| pair[0].1.place() == pair[1].1.place();
        if let Some(pair) = entries.windows(2).find(same) {
            return Err(twice(pair[0].1));
        }
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let layout = self.backing.codec().layout();
        for entries in entries.chunk_by(|(_, a), (_, b)| layout.is_one_value(*a, *b)) {
            let (_, first) = entries[0];
            key.clear();
            key.extend_from_slice(&group_prefix(first.group));
            key.extend_from_slice(first.key);
            value.clear();
            let parts = entries
                .iter()
                .map(|(_, entry)| Ok((entry.namespace, convert(entry.value, stamps, now)?)));
            layout.join(&mut value, parts)?;
            // Better now than when a record comes for it.
            let decoded = self.backing.codec().decode(&value);
            decoded.map_err(|e| of_key::<K>(e, first.key))?;
            self.run.put(&key, &value);
            if self.run.len() == RESTORE_ENTRIES || self.run.size() >= RESTORE_BYTES {
                self.backing.ingest(&self.run.sort())?;
                self.run.clear();
            }
        }
        entries.clear();
        Ok(())
    }

    /// Visits all entries of the subtask's key groups in key-group order, within a group by the bytes of the
    /// key; values are not decoded. Flushes first.
    ///
    /// # Errors
    /// Those of [`Self::flush`], of the store, and of the visitor, after which it is not called again.
    pub fn scan(&mut self, mut visit: impl FnMut(EntryRef<'_>) -> Result<()>) -> Result<()> {
        self.flush()?;
        let (store, state) = self.backing.store();
        for group in self.table.groups() {
            let mut failed = None;
            let scanned = store.scan(
                state,
                &group_prefix(group),
                &mut |key, value| match stored_entry::<K>(key, value).and_then(&mut visit) {
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

    /// All entries as a canonical snapshot has them. Flushes first.
    ///
    /// *Cost*: as large as the state, in memory; for states that fit, and for tests.
    ///
    /// # Errors
    /// Those of [`Self::scan`].
    pub fn encode(&mut self) -> Result<EncodedEntries> {
        let (mut encoded, mut bytes) = (EncodedEntries::default(), Vec::new());
        let layout = self.backing.codec().layout();
        self.scan(|entry| {
            bytes.clear();
            let entries = layout.put_entries(&mut bytes, entry)?;
            encoded.push(entry.group, entries, &bytes);
            Ok(())
        })?;
        Ok(encoded)
    }
}

fn stored_entry<'a, K: OwnedKey>(key: &'a [u8], value: &'a [u8]) -> Result<EntryRef<'a>> {
    let (_, parts) = split_key::<K>(key)?;
    debug_assert!(key.len() >= GROUP_BYTES);
    Ok(EntryRef {
        group: parts.group,
        key: parts.key,
        namespace: parts.rest,
        value,
    })
}
