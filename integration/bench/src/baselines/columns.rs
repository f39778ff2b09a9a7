//! The batches of the batched loops: columns that are filled and used one after the other.

use crate::work::{BATCH, Events, Work};
use hurtig_core::key::hash_int;
use hurtig_core::vector::Vectors;

/// Appends the hash of each key, several at once where the processor can, as the engine does.
pub(crate) fn hash_all(keys: &[u64], hashes: &mut Vec<u64>) {
    let mut all = || hashes.extend(keys.iter().copied().map(hash_int));
    if let Some(vectors) = Vectors::get() {
        vectors.run(all);
    } else {
        all();
    }
}

/// A source's batches of keys, times and hashes. Memory is used again.
pub(crate) struct Batches {
    events: Events,
    /// Key of each record.
    pub keys: Vec<u64>,
    /// Event time of each record, in order.
    pub times: Vec<i64>,
    /// Stable hash of each key.
    pub hashes: Vec<u64>,
}

impl Batches {
    /// The batches of `work`.
    pub(crate) fn new(work: Work) -> Self {
        Self {
            events: work.events(0, 1),
            keys: Vec::with_capacity(BATCH),
            times: Vec::with_capacity(BATCH),
            hashes: Vec::with_capacity(BATCH),
        }
    }

    /// Fills the next batch; false when nothing is left.
    pub(crate) fn fill(&mut self) -> bool {
        self.keys.clear();
        self.times.clear();
        self.hashes.clear();
        for event in self.events.by_ref().take(BATCH) {
            self.keys.push(event.key);
            self.times.push(event.at);
        }
        hash_all(&self.keys, &mut self.hashes);
        !self.keys.is_empty()
    }
}
