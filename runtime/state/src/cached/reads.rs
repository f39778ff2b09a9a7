//! What `&self` has read from the store.

use std::cell::OnceCell;

/// Slots of the first chunk; each further one has twice as many, up to [`LARGEST`].
const FIRST: usize = 64;
const LARGEST: usize = 4_096;
/// Slots that a key may be in within a chunk.
const PROBES: usize = 8;

/// A table of entries that can be added to while references to others are held: entries never move
/// and are never replaced before everything is taken out.
///
/// It is made for the few keys that are read between two changes. Each chunk is an array of cells that
/// are written once; where a key's cells of a chunk are taken, it goes to the next, larger one.
#[derive(Debug)]
pub(super) struct Reads<K, E> {
    first: OnceCell<Box<Chunk<K, E>>>,
}

#[derive(Debug)]
struct Chunk<K, E> {
    slots: Box<[OnceCell<(u64, K, E)>]>,
    next: OnceCell<Box<Chunk<K, E>>>,
}

impl<K, E> Chunk<K, E> {
    fn new(slots: usize) -> Box<Self> {
        Box::new(Self {
            slots: (0..slots).map(|_| OnceCell::new()).collect(),
            next: OnceCell::new(),
        })
    }

    /// The cells where a hash may be. Their order is the order in which they are filled.
    fn cells(&self, hash: u64) -> impl Iterator<Item = &OnceCell<(u64, K, E)>> {
        let mask = self.slots.len() - 1;
        // The table that entries move to later uses other bits.
        let start = ((hash >> 48) ^ hash) as usize & mask;
        (start..start + PROBES).map(move |at| &self.slots[at & mask])
    }
}

impl<K, E> Reads<K, E> {
    pub(super) fn new() -> Self {
        Self {
            first: OnceCell::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    /// The entry of a hash and a key; made by `read` when there is none, with the key to keep.
    pub(super) fn get_or(
        &self,
        hash: u64,
        same: impl Fn(&K) -> bool,
        read: impl FnOnce() -> Option<(K, E)>,
    ) -> Option<&E> {
        let mut chunk = self.first.get_or_init(|| Chunk::new(FIRST));
        loop {
            for cell in chunk.cells(hash) {
                match cell.get() {
                    Some((other, key, entry)) if *other == hash && same(key) => return Some(entry),
                    Some(_) => {}
                    None => {
                        let (key, entry) = read()?;
                        return Some(&cell.get_or_init(|| (hash, key, entry)).2);
                    }
                }
            }
            let slots = (chunk.slots.len() * 2).min(LARGEST);
            chunk = chunk.next.get_or_init(|| Chunk::new(slots));
        }
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (u64, K, E)> + use<K, E> {
        let mut next = self.first.take();
        let chunks = std::iter::from_fn(move || {
            let chunk = *next.take()?;
            next = chunk.next.into_inner();
            Some(chunk.slots)
        });
        chunks.flat_map(|slots| slots.into_iter().filter_map(OnceCell::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Hashes that collide, so that chunks overflow; references live until all is read.
        #[test]
        fn what_was_read_stays_where_it_is(keys in proptest::collection::vec((0_u64..6, 0_u32..60), 0..300)) {
            let mut reads = Reads::new();
            let mut model = BTreeMap::new();
            let mut held = Vec::new();
            for (number, (hash, key)) in keys.into_iter().enumerate() {
                let first = *model.entry((hash, key)).or_insert(number);
                let entry = reads.get_or(hash, |other| *other == key, || Some((key, number))).unwrap();
                held.push((first, entry));
            }
            prop_assert!(held.iter().all(|(first, entry)| *first == **entry));
            let mut taken: Vec<_> = reads.take().map(|(hash, key, entry)| ((hash, key), entry)).collect();
            taken.sort();
            prop_assert_eq!(taken, model.into_iter().collect::<Vec<_>>());
            prop_assert!(reads.is_empty());
        }
    }

    #[test]
    fn what_could_not_be_read_leaves_room() {
        let reads = Reads::<u8, u8>::new();
        assert_eq!(reads.get_or(1, |_| true, || None), None);
        assert_eq!(reads.get_or(1, |_| true, || Some((7, 8))), Some(&8));
    }
}
