//! The heap table of one keyed state in one subtask.
//!
//! One open-addressing table for all of the subtask's key groups, with its slots **in key-group
//! order**: the home bucket of a hash is a monotone map of the bits that choose its group, and
//! linear probing keeps neighbours sorted by those bits. So a group's entries are contiguous, a
//! snapshot by group is a scan, and growth sweeps from the front of one array to the front of the
//! next.
//!
//! It promises that no single call initialises, moves or frees much: storage is segmented, and
//! growth moves a few dozen slots with each insert (one cluster more where a cluster is in the
//! way). There is no wrap-around; probing past the last bucket runs into slack that grows when
//! needed. It refuses to know what keys mean, where snapshots go and who calls.
//!
//! The order is that of Amble and Knuth, *Ordered hash tables* (1974), applied to hashes. A miss
//! ends as early as a hit, and the iteration order depends on what is stored alone, except among
//! keys whose whole hash is equal.

mod array;
mod place;

#[cfg(test)]
mod measure;
#[cfg(test)]
mod tests;

use array::{Array, Slot};
use hurtig_core::key::{OwnedKey, StableKey, key_group};
use place::{Span, Tag};
use std::borrow::Borrow;
use std::ops::Range;

/// Buckets of a table that holds little.
const MIN_BUCKETS: usize = 16;
/// Slots that an insert moves or passes while a table grows, plus what is left of a cluster.
const MIGRATED_PER_INSERT: usize = 64;
/// A table grows when this share of its buckets, in tenths, is taken.
const MAX_LOAD_TENTHS: usize = 7;

/// Tables with fewer bytes of buckets live in a cache, where a pass of prefetching only costs.
const PREFETCH_FROM_BYTES: usize = 32 * 1_024 * 1_024;

/// What remains of the smaller array while a table grows.
///
/// Entries whose home in `old` lies before `cursor` are in the new array, all others here. The
/// cursor stands where no cluster is cut: at an empty slot or at an entry in its home.
#[derive(Debug)]
struct Growth<K, V> {
    old: Array<K, V>,
    cursor: usize,
}

/// Which array an entry is in.
#[derive(Clone, Copy, Debug)]
enum Side {
    New,
    Old,
}

/// A hash table of `V` by `K` whose entries lie in key-group order.
///
/// Callers pass the key's [`StableKey::stable_hash`], which they have in a hash column already.
///
/// *Panics*: every method that takes a hash panics when it belongs to none of the table's groups.
#[derive(Debug)]
pub struct GroupedTable<K, V> {
    span: Span,
    array: Array<K, V>,
    growth: Option<Growth<K, V>>,
    len: usize,
    #[cfg(test)]
    moved: usize,
}

impl<K, V> GroupedTable<K, V> {
    /// An empty table for the keys of `groups`. Nothing is allocated before the first insert.
    ///
    /// # Panics
    /// When the groups are empty or not below `max_parallelism`.
    pub fn new(groups: Range<u16>, max_parallelism: u32) -> Self {
        let span = Span::new(groups, max_parallelism);
        let array = Array::new(&span, MIN_BUCKETS);
        Self {
            span,
            array,
            growth: None,
            len: 0,
            #[cfg(test)]
            moved: 0,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The key groups that the table covers.
    pub fn groups(&self) -> Range<u16> {
        self.span.groups()
    }

    /// How many key groups the job has.
    pub fn max_parallelism(&self) -> u32 {
        self.span.max_parallelism()
    }

    /// The key group of a hash.
    pub fn group_of(&self, hash: u64) -> u16 {
        // Group numbers are below 2^15.
        key_group(hash, self.span.max_parallelism()).get() as u16
    }

    /// The array that holds a tag, and the tag's home bucket there.
    #[inline]
    fn home(&self, tag: Tag) -> (Side, usize) {
        if let Some(growth) = &self.growth {
            let home = growth.old.home(&self.span, tag);
            if home >= growth.cursor {
                return (Side::Old, home);
            }
        }
        (Side::New, self.array.home(&self.span, tag))
    }

    #[inline]
    fn side(&self, side: Side) -> &Array<K, V> {
        match (side, &self.growth) {
            (Side::Old, Some(growth)) => &growth.old,
            _ => &self.array,
        }
    }

    #[inline]
    fn side_mut(&mut self, side: Side) -> &mut Array<K, V> {
        match (side, &mut self.growth) {
            (Side::Old, Some(growth)) => &mut growth.old,
            _ => &mut self.array,
        }
    }

    #[inline]
    fn find<Q>(&self, tag: Tag, key: &Q) -> Option<(Side, usize)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let (side, home) = self.home(tag);
        self.side(side).find(home, tag, key).map(|index| (side, index))
    }

    /// Reads a word of each hash's home slot and of the slot after next, so that the cache misses of
    /// a batch overlap; to be called before a batch of updates. Tables that a cache holds skip it.
    ///
    /// *Cost*: nanoseconds for an update of a random `u64` key on two cores with 32 MiB of L3, the
    /// fastest of 30 runs, without and with this pass: 1,000 keys 8.5 and 10.4, 400,000 keys 14.0 and
    /// 17.0 (so it is skipped there), 1 M keys 38.7 and 35.7, 1.4 M 50.5 and 45.0, 8 M 50.0 and 44.1.
    /// Reading the home slot alone gave 37.9, 47.4 and 50.0.
    #[inline]
    pub fn prefetch(&self, hashes: &[u64]) {
        if self.array.bucket_bytes() < PREFETCH_FROM_BYTES {
            return;
        }
        let mut words = 0_u64;
        for &hash in hashes {
            let (side, home) = self.home(self.span.tag(hash));
            let array = self.side(side);
            words ^= array.peek(home) ^ array.peek(home + 2);
        }
        std::hint::black_box(words);
    }

    /// The value of a key.
    #[inline]
    pub fn get<Q>(&self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        let (side, index) = self.find(self.span.tag(hash), key)?;
        self.side(side).slot(index).map(|slot| &slot.value)
    }

    /// The value of a key, to change it.
    #[inline]
    pub fn get_mut<Q>(&mut self, hash: u64, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        let (side, index) = self.find(self.span.tag(hash), key)?;
        self.side_mut(side).slot_mut(index).map(|slot| &mut slot.value)
    }

    /// The value of a key; when it has none, `init` makes it and the key is copied.
    ///
    /// *Cost*: an update allocates nothing; an insert moves at most some 64 slots and a cluster.
    #[inline]
    pub fn upsert<Q>(&mut self, hash: u64, key: &Q, init: impl FnOnce() -> V) -> &mut V
    where
        K: OwnedKey + Borrow<Q>,
        Q: StableKey + ToOwned<Owned = K> + ?Sized,
    {
        let tag = self.span.tag(hash);
        if self.growth.is_none()
            && let Some(index) = self.array.find_near(self.array.home(&self.span, tag), tag, key)
        {
            return self.value_at(Side::New, index);
        }
        let (side, index) = match self.find(tag, key) {
            Some(found) => found,
            None => self.insert_new(Slot {
                tag,
                key: key.to_owned().detach(),
                value: init(),
            }),
        };
        self.value_at(side, index)
    }

    /// Changes the value of a key, which `init` makes when it has none: [`Self::upsert`] for inner
    /// loops, one look-up shorter.
    #[inline]
    pub fn update<Q, R>(
        &mut self,
        hash: u64,
        key: &Q,
        init: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> R
    where
        K: OwnedKey + Borrow<Q>,
        Q: StableKey + ToOwned<Owned = K> + ?Sized,
    {
        let tag = self.span.tag(hash);
        if self.growth.is_none() {
            let home = self.array.home(&self.span, tag);
            if let Some(value) = self.array.near_mut(home, tag, key) {
                return change(value);
            }
        }
        change(self.upsert(hash, key, init))
    }

    /// Sets the value of a key and returns the one it had.
    pub fn insert(&mut self, hash: u64, key: K, value: V) -> Option<V>
    where
        K: StableKey,
    {
        let tag = self.span.tag(hash);
        if let Some((side, index)) = self.find(tag, &key) {
            return Some(std::mem::replace(self.value_at(side, index), value));
        }
        self.insert_new(Slot { tag, key, value });
        None
    }

    /// Takes out a key and its value.
    pub fn remove<Q>(&mut self, hash: u64, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        let (side, index) = self.find(self.span.tag(hash), key)?;
        let array = match (side, &mut self.growth) {
            (Side::Old, Some(growth)) => &mut growth.old,
            _ => &mut self.array,
        };
        let slot = array.remove(&self.span, index)?;
        self.len -= 1;
        Some((slot.key, slot.value))
    }

    /// Takes out some entry, with its hash.
    ///
    /// *Cost*: amortised constant when a whole table is drained, with memory freed on the way.
    pub fn pop_any(&mut self) -> Option<(u64, K, V)> {
        let from_old = self
            .growth
            .as_mut()
            .and_then(|growth| growth.old.pop_last(growth.cursor));
        let slot = match from_old {
            Some(slot) => slot,
            None => {
                self.growth = None;
                self.array.pop_last(0)?
            }
        };
        self.len -= 1;
        Some((slot.tag.hash(), slot.key, slot.value))
    }

    /// Removes everything and frees the memory.
    pub fn clear(&mut self) {
        *self = Self::new(self.span.groups(), self.span.max_parallelism());
    }

    /// All entries with their hashes, in key-group order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &K, &V)> {
        let old = self.growth.iter().flat_map(|growth| growth.old.iter());
        self.array
            .iter()
            .chain(old)
            .map(|slot| (slot.tag.hash(), &slot.key, &slot.value))
    }

    /// All entries with their hashes, in key-group order, to change the values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &K, &mut V)> {
        let old = self.growth.iter_mut().flat_map(|growth| growth.old.iter_mut());
        self.array
            .iter_mut()
            .chain(old)
            .map(|slot| (slot.tag.hash(), &slot.key, &mut slot.value))
    }

    /// Bytes of the table itself, without what keys and values own elsewhere.
    pub fn capacity_bytes(&self) -> usize {
        let old = self
            .growth
            .as_ref()
            .map_or(0, |growth| growth.old.capacity_bytes());
        self.array.capacity_bytes() + old
    }

    #[inline]
    fn value_at(&mut self, side: Side, index: usize) -> &mut V {
        let array = match (side, &mut self.growth) {
            (Side::Old, Some(growth)) => &mut growth.old,
            _ => &mut self.array,
        };
        match array.slot_mut(index) {
            Some(slot) => &mut slot.value,
            None => unreachable!("the slot was just found or filled"),
        }
    }

    /// Stores an entry whose key is not in the table.
    #[inline(never)]
    fn insert_new(&mut self, slot: Slot<K, V>) -> (Side, usize) {
        if self.growth.is_none() && self.len * 10 >= self.array.buckets() * MAX_LOAD_TENTHS {
            let larger = Array::new(&self.span, self.array.buckets() * 2);
            let old = std::mem::replace(&mut self.array, larger);
            self.growth = Some(Growth { old, cursor: 0 });
        }
        let migrated = self.migrate();
        self.len += 1;
        let (side, home) = self.home(slot.tag);
        let (index, shifted) = self.side_mut(side).insert(home, slot);
        self.note_moved(migrated + shifted);
        (side, index)
    }

    /// Moves the next stretch of the old array into the new one, up to a place where no cluster is
    /// cut. Returns how many entries moved.
    fn migrate(&mut self) -> usize {
        let Some(Growth { old, cursor }) = &mut self.growth else {
            return 0;
        };
        let (mut moved, stop) = (0, *cursor + MIGRATED_PER_INSERT);
        while *cursor < old.end() {
            let in_place = |slot: &Slot<K, V>| old.home(&self.span, slot.tag) == *cursor;
            if *cursor >= stop && old.slot(*cursor).is_none_or(in_place) {
                return moved;
            }
            if let Some(slot) = old.sweep(*cursor) {
                self.array.insert(self.array.home(&self.span, slot.tag), slot);
                moved += 1;
            }
            *cursor += 1;
        }
        self.growth = None;
        moved
    }

    #[cfg(test)]
    fn note_moved(&mut self, slots: usize) {
        self.moved = slots;
    }

    #[cfg(not(test))]
    #[inline]
    fn note_moved(&mut self, _slots: usize) {}
}
