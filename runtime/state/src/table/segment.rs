//! A part of a table that is small enough to be split within a fraction of a batch.

use hashbrown::HashTable;
use hurtig_core::key::StableKey;

/// A segment has about this many bytes of slots, so that a split is short whatever the value,
const SEGMENT_BYTES: usize = 128 * 1_024;
/// and buckets between these bounds.
const MIN_BUCKETS: usize = 64;
const MAX_BUCKETS: usize = 4_096;
/// A segment of fewer entries than this does not shrink.
const SHRINK_FROM: usize = 64;

/// An entry.
#[derive(Clone, Debug)]
pub(super) struct Slot<K, V> {
    pub(super) key: K,
    pub(super) value: V,
}

/// The slots of a segment, which `hashbrown` finds by their keys' hashes.
pub(super) type Slots<K, V> = HashTable<Slot<K, V>>;

/// Entries at which a segment is split: what `hashbrown` puts into its buckets.
pub(super) const fn split_at<K, V>() -> usize {
    let fitting = SEGMENT_BYTES / (size_of::<Slot<K, V>>() + 1);
    let buckets = if fitting < MIN_BUCKETS {
        MIN_BUCKETS
    } else if fitting > MAX_BUCKETS {
        MAX_BUCKETS
    } else {
        1 << fitting.ilog2()
    };
    buckets / 8 * 7
}

/// Whether little enough of a segment's memory is used after a removal that it is given back.
pub(super) fn shrinks<K, V>(slots: &Slots<K, V>) -> bool {
    let (len, capacity) = (slots.len(), slots.capacity());
    capacity > SHRINK_FROM && len * 8 < capacity
}

/// Gives memory back; entries move.
pub(super) fn shrink<K: StableKey, V>(slots: &mut Slots<K, V>) {
    match slots.len() {
        0 => *slots = HashTable::new(),
        len => slots.shrink_to(len * 2, |slot| slot.key.stable_hash()),
    }
}

/// Leaves the entries whose hashes are `below` and returns the others.
///
/// Each half takes all the room it will have at once, so that nothing moves before the next split.
pub(super) fn split<K: StableKey, V>(slots: &mut Slots<K, V>, below: impl Fn(u64) -> bool) -> Slots<K, V> {
    let (mut lower, mut upper) = (HashTable::new(), HashTable::new());
    for slot in std::mem::take(slots) {
        let hash = slot.key.stable_hash();
        let half = if below(hash) { &mut lower } else { &mut upper };
        if half.capacity() == 0 {
            *half = HashTable::with_capacity(split_at::<K, V>());
        }
        half.insert_unique(hash, slot, |slot| slot.key.stable_hash());
    }
    *slots = lower;
    upper
}
