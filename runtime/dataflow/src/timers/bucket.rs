//! The timers of one time: a small vector that gets a hash index once it is no longer small.

use hurtig_core::key::{StableKey, hash_int};
use std::borrow::Borrow;

/// Up to this many timers are found by looking at each.
const LINEAR_MAX: usize = 8;
/// An index slot that holds nothing.
const EMPTY: u32 = u32::MAX;

/// One timer of a bucket; its time is the bucket's.
#[derive(Debug)]
pub(super) struct Entry<K, N> {
    pub(super) hash: u64,
    pub(super) key: K,
    pub(super) namespace: N,
}

impl<K, N: Eq> Entry<K, N> {
    #[inline]
    fn is<Q>(&self, hash: u64, key: &Q, namespace: &N) -> bool
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        self.hash == hash && self.namespace == *namespace && self.key.borrow() == key
    }
}

/// The timers of one time.
///
/// # Invariants
/// `slots` is empty (no index), or a power of two, at most 3/4 full, and holds every position of
/// `entries` once, reachable by linear probing from [`spread`] of the entry.
#[derive(Debug)]
pub(super) struct Bucket<K, N> {
    entries: Vec<Entry<K, N>>,
    slots: Vec<u32>,
}

impl<K, N> Default for Bucket<K, N> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            slots: Vec::new(),
        }
    }
}

/// Where the search for an entry begins, before masking.
#[inline]
fn spread<N: StableKey>(hash: u64, namespace: &N) -> usize {
    hash_int(hash ^ namespace.stable_hash().rotate_left(32)) as usize
}

impl<K, N: StableKey> Bucket<K, N> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn entries(&self) -> &[Entry<K, N>] {
        &self.entries
    }

    /// Memory held, in entries; decides whether the bucket is worth keeping for reuse.
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Forgets the index of an empty bucket, keeping memory.
    pub(super) fn reset(&mut self) {
        debug_assert!(self.entries.is_empty(), "only empty buckets are reused");
        self.slots.clear();
    }

    #[inline]
    pub(super) fn find<Q>(&self, hash: u64, key: &Q, namespace: &N) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        if self.slots.is_empty() {
            return self
                .entries
                .iter()
                .position(|entry| entry.is(hash, key, namespace));
        }
        let mask = self.slots.len() - 1;
        let mut slot = spread(hash, namespace) & mask;
        while self.slots[slot] != EMPTY {
            let position = self.slots[slot] as usize;
            if self.entries[position].is(hash, key, namespace) {
                return Some(position);
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    /// Adds an entry that [`Self::find`] has not found.
    #[inline]
    pub(super) fn push(&mut self, entry: Entry<K, N>) {
        self.entries.push(entry);
        let len = self.entries.len();
        if !self.slots.is_empty() && len * 4 <= self.slots.len() * 3 {
            self.link(len - 1);
        } else if len > LINEAR_MAX {
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        let wanted = (self.entries.len() * 2).next_power_of_two();
        assert!(
            wanted < EMPTY as usize,
            "more than two billion timers of one time"
        );
        self.slots.clear();
        self.slots.resize(wanted, EMPTY);
        for position in 0..self.entries.len() {
            self.link(position);
        }
    }

    fn link(&mut self, position: usize) {
        let mask = self.slots.len() - 1;
        let mut slot = self.home(position) & mask;
        while self.slots[slot] != EMPTY {
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = position as u32;
    }

    fn home(&self, position: usize) -> usize {
        let entry = &self.entries[position];
        spread(entry.hash, &entry.namespace)
    }

    fn slot_of(&self, position: usize) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.home(position) & mask;
        while self.slots[slot] as usize != position {
            debug_assert_ne!(self.slots[slot], EMPTY, "an indexed entry is reachable");
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Removes the entry at `position`; the last one takes its place.
    pub(super) fn remove(&mut self, position: usize) -> Entry<K, N> {
        if !self.slots.is_empty() {
            let last = self.entries.len() - 1;
            self.unlink(position);
            if last != position {
                let slot = self.slot_of(last);
                self.slots[slot] = position as u32;
            }
        }
        self.entries.swap_remove(position)
    }

    /// Removes the entry that is cheapest to remove.
    pub(super) fn pop(&mut self) -> Option<Entry<K, N>> {
        let last = self.entries.len().checked_sub(1)?;
        Some(self.remove(last))
    }

    /// Empties the slot of `position` and shifts back what was pushed past it.
    fn unlink(&mut self, position: usize) {
        let mask = self.slots.len() - 1;
        let mut hole = self.slot_of(position);
        let mut next = (hole + 1) & mask;
        while self.slots[next] != EMPTY {
            let home = self.home(self.slots[next] as usize) & mask;
            // The entry may move into the hole unless its home lies behind the hole.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[hole] = EMPTY;
    }
}
