//! The heap table of one keyed state in one subtask.
//!
//! **Extendible hashing.** The entries lie in segments, each a `hashbrown` table for a stretch of hashes
//! in key-group order. A small directory says which segment a hash belongs to; a segment that is full
//! is split in two. So the table promises that no single call initialises, moves or frees more than one
//! segment (some thousand entries, some ten microseconds), however large it is, and that entries
//! come out by key group at the cost of looking at few others.
//!
//! It refuses to know what keys mean, where snapshots go and who calls.
//!
//! The bits of a hash are used apart: bits 16 to 47 choose group and segment, `hashbrown` takes low
//! bits for the bucket and the top seven for its tags.
//!
//! Directory and splits are those of Fagin, Nievergelt, Pippenger and Strong, *Extendible hashing* (1979).

mod change;
mod directory;
mod home;
mod noted;
mod scan;
mod segment;
mod span;
pub(crate) mod sweep;

#[cfg(test)]
mod measure;
#[cfg(test)]
mod tests;

pub use change::Change;
pub use scan::{EncodeEntries, ScanBudget};

use directory::Directory;
use home::Home;
use hurtig_core::key::{OwnedKey, StableKey};
use scan::Scan;
use segment::{Slot, Slots, shrink, shrinks, split, split_at};
use span::Span;
use std::borrow::Borrow;
use std::ops::Range;

/// A hash table of `V` by `K`, divided by key group.
///
/// Callers pass the key's [`StableKey::stable_hash`], which they have in a hash column already.
///
/// *Panics*: a method that would add a key panics when its hash belongs to none of the table's groups.
#[derive(Debug)]
pub struct GroupedTable<K, V> {
    span: Span,
    directory: Directory,
    segments: Vec<Slots<K, V>>,
    /// Segments from here on are empty.
    used: usize,
    /// A segment that [`Self::pop_any`] is emptying; put back before anything else changes.
    popped: Vec<Slot<K, V>>,
    /// The segments of the hashes at hand, see [`Self::change_each`]; kept for its memory.
    located: Vec<u32>,
    /// Where segments are in memory, as far as that is known; see [`Self::change_each`].
    homes: Vec<Home>,
    len: usize,
    /// A snapshot that is being taken.
    scan: Option<Box<Scan<K, V>>>,
}

impl<K, V> GroupedTable<K, V> {
    /// An empty table for the keys of `groups`. No slot is allocated before the first insert.
    ///
    /// # Panics
    /// When the groups are empty or not below `max_parallelism`.
    pub fn new(groups: Range<u16>, max_parallelism: u32) -> Self {
        let span = Span::new(groups, max_parallelism);
        Self {
            directory: Directory::new(&span),
            segments: vec![Slots::new()],
            span,
            used: 0,
            popped: Vec::new(),
            located: Vec::new(),
            homes: Vec::new(),
            len: 0,
            scan: None,
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
        self.span.group_of(hash)
    }

    /// Bytes of the table itself, without what keys and values own elsewhere.
    pub fn capacity_bytes(&self) -> usize {
        let slots = self.segments.iter().map(Slots::allocation_size);
        let segments = self.segments.capacity() * size_of::<Slots<K, V>>();
        let popped = self.popped.capacity() * size_of::<Slot<K, V>>();
        let located = self.located.capacity() * size_of::<u32>();
        let homes = self.homes.capacity() * size_of::<Home>();
        slots.sum::<usize>() + segments + popped + located + homes + self.directory.bytes()
    }
}

/// The number of a hash's segment.
#[inline]
fn locate(directory: &Directory, span: &Span, hash: u64) -> usize {
    match directory.segment(span.offset(hash)) {
        Some(segment) => segment,
        None => span.foreign(hash),
    }
}

impl<K: StableKey, V> GroupedTable<K, V> {
    /// Removes everything and frees the memory.
    pub fn clear(&mut self) {
        self.settle();
        self.scan_all();
        let scan = self.scan.take();
        *self = Self::new(self.span.groups(), self.span.max_parallelism());
        self.scan = scan;
    }

    /// Calls `each` with every key and its value, in no order.
    pub fn for_each(&self, each: &mut dyn FnMut(&K, &V)) {
        let slots = self.segments.iter().flat_map(|segment| segment.iter());
        for slot in slots.chain(&self.popped) {
            each(&slot.key, &slot.value);
        }
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> usize {
        locate(&self.directory, &self.span, hash)
    }

    /// The segment of a hash. A small table has only one.
    #[inline]
    fn slots(&self, hash: u64) -> &Slots<K, V> {
        match &self.segments[..] {
            [only] => only,
            many => &many[self.segment_of(hash)],
        }
    }

    #[inline]
    fn slots_mut(&mut self, hash: u64) -> &mut Slots<K, V> {
        match &mut self.segments[..] {
            [only] => only,
            many => &mut many[locate(&self.directory, &self.span, hash)],
        }
    }

    /// The value of a key.
    #[inline]
    pub fn get<Q>(&self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        match self.slots(hash).find(hash, |slot| slot.key.borrow() == key) {
            Some(slot) => Some(&slot.value),
            None if self.popped.is_empty() => None,
            None => self.get_popped(key),
        }
    }

    #[cold]
    fn get_popped<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        let found = self.popped.iter().find(|slot| slot.key.borrow() == key);
        found.map(|slot| &slot.value)
    }

    /// The value of a key, to change it.
    #[inline]
    pub fn get_mut<Q>(&mut self, hash: u64, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        self.settle();
        if self.scan.is_some() {
            return self.get_mut_scanned(hash, key);
        }
        let slots = self.slots_mut(hash);
        let slot = slots.find_mut(hash, |slot| slot.key.borrow() == key)?;
        Some(&mut slot.value)
    }

    #[cold]
    fn get_mut_scanned<Q>(&mut self, hash: u64, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        let at = self.segment_of(hash);
        let index = self.segments[at].find_bucket_index(hash, |slot| slot.key.borrow() == key)?;
        self.keep_image(at, index);
        Some(self.value_at(at, index))
    }

    /// The value of a key; when it has none, `init` makes it and the key is copied.
    ///
    /// *Cost*: an update allocates nothing; an insert may split a segment.
    #[inline]
    pub fn upsert<Q>(&mut self, hash: u64, key: &Q, init: impl FnOnce() -> V) -> &mut V
    where
        K: OwnedKey + Borrow<Q>,
        Q: StableKey + ToOwned<Owned = K> + ?Sized,
    {
        let at = self.segment_of(hash);
        match self.segments[at].find_bucket_index(hash, |slot| slot.key.borrow() == key) {
            Some(index) => {
                if self.scan.is_some() {
                    self.keep_image(at, index);
                }
                self.value_at(at, index)
            }
            None => self.insert_absent(hash, key, init),
        }
    }

    #[inline]
    fn value_at(&mut self, segment: usize, bucket: usize) -> &mut V {
        match self.segments[segment].get_bucket_mut(bucket) {
            Some(slot) => &mut slot.value,
            None => unreachable!("the slot was just found"),
        }
    }

    /// The value of a key that is in no segment: a new one, unless the key is being popped.
    #[cold]
    #[inline(never)]
    fn insert_absent<Q>(&mut self, hash: u64, key: &Q, init: impl FnOnce() -> V) -> &mut V
    where
        K: OwnedKey + Borrow<Q>,
        Q: StableKey + ToOwned<Owned = K> + ?Sized,
    {
        self.span.check(hash);
        self.settle();
        let at = self.segment_of(hash);
        let same = |slot: &Slot<K, V>| slot.key.borrow() == key;
        if let Some(index) = self.segments[at].find_bucket_index(hash, same) {
            self.keep_image(at, index);
            return self.value_at(at, index);
        }
        let (key, value) = (key.to_owned().detach(), init());
        self.len += 1;
        let (at, index) = self.place(hash, Slot { key, value });
        self.value_at(at, index)
    }

    /// Sets the value of a key and returns the one it had.
    pub fn insert(&mut self, hash: u64, key: K, value: V) -> Option<V> {
        if let Some(present) = self.get_mut(hash, &key) {
            return Some(std::mem::replace(present, value));
        }
        self.span.check(hash);
        self.len += 1;
        self.place(hash, Slot { key, value });
        None
    }

    /// Takes out a key and its value.
    pub fn remove<Q>(&mut self, hash: u64, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        self.settle();
        let at = self.segment_of(hash);
        let index = self.segments[at].find_bucket_index(hash, |slot| slot.key.borrow() == key)?;
        self.keep_image(at, index);
        let slots = &mut self.segments[at];
        let (slot, _) = slots.get_bucket_entry(index).ok()?.remove();
        if shrinks(slots) {
            self.scan_segment(at);
            shrink(&mut self.segments[at]);
        }
        self.len -= 1;
        Some((slot.key, slot.value))
    }

    /// Takes out some entry, with its hash.
    ///
    /// *Cost*: amortised constant when a whole table is drained, with memory freed on the way. Any other
    /// change puts back what was prepared, up to one segment.
    pub fn pop_any(&mut self) -> Option<(u64, K, V)> {
        if self.popped.is_empty() {
            let full = self.segments[..self.used].iter().rposition(|s| !s.is_empty())?;
            self.scan_segment(full);
            self.popped.extend(std::mem::take(&mut self.segments[full]));
            self.used = full;
        }
        let slot = self.popped.pop()?;
        self.len -= 1;
        if self.len == 0 {
            self.clear();
        }
        Some((slot.key.stable_hash(), slot.key, slot.value))
    }

    /// Puts back what [`Self::pop_any`] has prepared.
    #[inline]
    fn settle(&mut self) {
        if !self.popped.is_empty() {
            self.put_back();
        }
    }

    #[cold]
    #[inline(never)]
    fn put_back(&mut self) {
        for slot in std::mem::take(&mut self.popped) {
            self.place(slot.key.stable_hash(), slot);
        }
    }

    /// Stores an entry whose key is not in the table, after making room for it.
    fn place(&mut self, hash: u64, slot: Slot<K, V>) -> (usize, usize) {
        let mut at = self.segment_of(hash);
        while self.segments[at].len() >= self.directory.limit(&self.span, at, split_at::<K, V>())
            && self.split(at)
        {
            at = self.segment_of(hash);
        }
        self.used = self.used.max(at + 1);
        if self.segments[at].len() == self.segments[at].capacity() {
            self.scan_segment(at);
        }
        let slots = &mut self.segments[at];
        let index = slots
            .insert_unique(hash, slot, |slot| slot.key.stable_hash())
            .bucket_index();
        if let Some(scan) = &mut self.scan {
            scan.added(at, index);
        }
        (at, index)
    }

    /// Splits a segment. False when it cannot be.
    fn split(&mut self, at: usize) -> bool {
        let Some(boundary) = self.directory.split(&self.span, at) else {
            return false;
        };
        self.scan_segment(at);
        let span = &self.span;
        let upper = split(&mut self.segments[at], |hash| span.offset(hash) < boundary);
        self.segments.push(upper);
        self.used = self.segments.len();
        true
    }

    /// All entries with their hashes, by segment in key-group order; entries of one segment are in no
    /// order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &K, &V)> {
        let segments = self.directory.in_order().map(|at| &self.segments[at]);
        let slots = segments.flat_map(|slots| slots.iter());
        slots
            .chain(&self.popped)
            .map(|slot| (slot.key.stable_hash(), &slot.key, &slot.value))
    }

    /// All entries with their hashes in key-group order, within a group by hash: what is stored decides
    /// the order, except among keys of one hash.
    ///
    /// *Cost*: sorts a segment's entries at a time.
    pub fn sorted(&self) -> impl Iterator<Item = (u64, &K, &V)> {
        let segments = self.directory.in_order().flat_map(|at| {
            // The segment that is being popped is the last that was not empty.
            let popped = if at == self.used { &self.popped[..] } else { &[] };
            let hashed = |slot: &'_ Slot<K, V>| self.span.offset(slot.key.stable_hash());
            let mut slots: Vec<&Slot<K, V>> = self.segments[at].iter().chain(popped).collect();
            slots.sort_by_cached_key(|slot| hashed(slot));
            slots
        });
        segments.map(|slot| (slot.key.stable_hash(), &slot.key, &slot.value))
    }

    /// All entries with their hashes in no order, to change the values.
    ///
    /// *Cost*: a scan that is going on is finished first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &K, &mut V)> {
        self.scan_all();
        let slots = self.segments.iter_mut().flat_map(|slots| slots.iter_mut());
        slots
            .chain(&mut self.popped)
            .map(|slot| (slot.key.stable_hash(), &slot.key, &mut slot.value))
    }
}
