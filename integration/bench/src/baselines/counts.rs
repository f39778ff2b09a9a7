//! The map of every counting loop: `hashbrown`, with the engine's stable hash.

use hashbrown::HashTable;
use hurtig_core::key::StableKey;

/// Counts by key.
#[derive(Clone, Debug)]
pub(crate) struct Counts<K> {
    table: HashTable<(K, u64)>,
}

impl<K: StableKey + Clone> Counts<K> {
    /// An empty map that grows as it fills, as the engine's tables do.
    pub(crate) const fn new() -> Self {
        Self {
            table: HashTable::new(),
        }
    }

    /// Adds `n` to the count of `key` and returns the new count.
    #[inline]
    pub(crate) fn add(&mut self, key: &K, hash: u64, n: u64) -> u64 {
        if let Some((_, count)) = self.table.find_mut(hash, |(k, _)| k == key) {
            *count += n;
            return *count;
        }
        self.insert(key, hash, n)
    }

    #[cold]
    fn insert(&mut self, key: &K, hash: u64, n: u64) -> u64 {
        self.table
            .insert_unique(hash, (key.clone(), n), |(k, _)| k.stable_hash());
        n
    }

    /// Counts every key of a batch once; the sum of the new counts.
    #[inline]
    pub(crate) fn add_batch(&mut self, keys: &[K], hashes: &[u64]) -> u64 {
        let counts = keys.iter().zip(hashes).map(|(key, hash)| self.add(key, *hash, 1));
        counts.fold(0, u64::wrapping_add)
    }

    /// Looks every key of a batch up, so that [`Self::add_batch`] finds its slots in the cache:
    /// independent reads that the processor overlaps, which is what a prefetch is for.
    #[inline]
    pub(crate) fn touch_batch(&self, keys: &[K], hashes: &[u64]) {
        let found =
            |(key, hash): (&K, &u64)| self.table.find(*hash, |(k, _)| k == key).map_or(0, |slot| slot.1);
        let sum = keys.iter().zip(hashes).map(found).fold(0, u64::wrapping_add);
        std::hint::black_box(sum);
    }

    /// How many keys it holds.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Its keys and counts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, u64)> {
        self.table.iter().map(|(key, count)| (key, *count))
    }

    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
    }
}

/// The sum of squares of `counts`: what the window benches compare, because it does not depend on
/// the order of results and differs when two results are mixed up.
pub(crate) fn squares(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, |sum, n| sum.wrapping_add(n.wrapping_mul(n)))
}
