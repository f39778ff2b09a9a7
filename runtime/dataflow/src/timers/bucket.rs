//! Entries that are found by hash: a vector that gets a hash index once it is no longer small.
//!
//! Unlike a [`GroupedTable`](hurtig_state::GroupedTable) it may be filled in the order of hashes, in
//! which such tables iterate and drain: there each prefix would land in a few neighbouring buckets,
//! and every insert would walk over all of them.

/// Up to this many entries are found by looking at each.
const LINEAR_MAX: usize = 8;
/// An index slot that holds nothing.
const EMPTY: u32 = u32::MAX;

/// An entry of a [`Bucket`].
pub(crate) trait Placed {
    /// A hash whose low bits are well mixed.
    fn place(&self) -> u64;
}

/// Entries of one bucket.
///
/// # Invariants
/// `slots` is empty (no index), or a power of two, at most 3/4 full, and holds every position of
/// `entries` once, reachable by linear probing from the entry's place.
#[derive(Debug)]
pub(crate) struct Bucket<E> {
    entries: Vec<E>,
    slots: Vec<u32>,
}

impl<E> Default for Bucket<E> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            slots: Vec::new(),
        }
    }
}

impl<E: Placed> Bucket<E> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn entries(&self) -> &[E] {
        &self.entries
    }

    /// Memory held, in entries; decides whether the bucket is worth keeping for reuse.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Forgets the index of an empty bucket, keeping memory.
    pub(crate) fn reset(&mut self) {
        debug_assert!(self.entries.is_empty(), "only empty buckets are reused");
        self.slots.clear();
    }

    /// The entry at a position that [`Self::find`] or [`Self::push`] returned.
    pub(crate) fn entry_mut(&mut self, position: usize) -> &mut E {
        &mut self.entries[position]
    }

    /// The position of the entry that `is` accepts; `place` is asked for only when there is an index.
    #[inline]
    pub(crate) fn find(&self, place: impl FnOnce() -> u64, is: impl Fn(&E) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return self.entries.iter().position(is);
        }
        let mask = self.slots.len() - 1;
        let mut slot = place() as usize & mask;
        while self.slots[slot] != EMPTY {
            let position = self.slots[slot] as usize;
            if is(&self.entries[position]) {
                return Some(position);
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    /// Adds an entry that [`Self::find`] has not found, and returns its position.
    #[inline]
    pub(crate) fn push(&mut self, entry: E) -> usize {
        self.entries.push(entry);
        let len = self.entries.len();
        if !self.slots.is_empty() && len * 4 <= self.slots.len() * 3 {
            self.link(len - 1);
        } else if len > LINEAR_MAX {
            self.rebuild();
        }
        len - 1
    }

    fn rebuild(&mut self) {
        let wanted = (self.entries.len() * 2).next_power_of_two();
        assert!(
            wanted < EMPTY as usize,
            "more than two billion entries of one bucket"
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
        self.entries[position].place() as usize
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
    pub(crate) fn remove(&mut self, position: usize) -> E {
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
    pub(crate) fn pop(&mut self) -> Option<E> {
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
