//! Sorted batches of changes, in one allocation.

use std::fmt;

/// What a [`Run`] does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// The key has this value.
    Put(&'a [u8]),
    /// The key has no value.
    Delete,
}

/// Changes of one state, each key once, ascending. Made by [`RunBuilder::sort`].
#[derive(Clone, Copy)]
pub struct Run<'a> {
    bytes: &'a [u8],
    entries: &'a [Entry],
}

/// Collects changes in any order for a [`Run`]. Its memory is kept for the next one.
#[derive(Debug, Default)]
pub struct RunBuilder {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    sorted: bool,
}

/// Where key and value are: the value follows its key.
#[derive(Clone, Debug)]
struct Entry {
    start: usize,
    /// The value's start, which is the key's end.
    middle: usize,
    end: usize,
    deletes: bool,
}

impl Entry {
    fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start..self.middle]
    }

    fn op<'a>(&self, bytes: &'a [u8]) -> Op<'a> {
        match self.deletes {
            true => Op::Delete,
            false => Op::Put(&bytes[self.middle..self.end]),
        }
    }
}

impl RunBuilder {
    /// Without changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value for a key that has no change yet; `value` appends its bytes, and their number is
    /// returned.
    ///
    /// # Errors
    /// Those of `value`; nothing is added then.
    pub fn put_with<E>(
        &mut self,
        key: &[u8],
        value: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let middle = self.bytes.len();
        if let Err(error) = value(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        self.add(start, middle, false);
        Ok(self.bytes.len() - middle)
    }

    /// Adds a value for a key that has no change yet.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        let (start, middle) = (self.bytes.len(), self.bytes.len() + key.len());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.add(start, middle, false);
    }

    /// Adds the deletion of a key that has no change yet.
    pub fn delete(&mut self, key: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.add(start, self.bytes.len(), true);
    }

    fn add(&mut self, start: usize, middle: usize, deletes: bool) {
        let end = self.bytes.len();
        self.sorted = false;
        self.entries.push(Entry {
            start,
            middle,
            end,
            deletes,
        });
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes the keys and values have.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets the changes and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// The changes, sorted.
    ///
    /// # Panics
    /// When a key has two changes or no bytes: the order of changes would be lost.
    pub fn sort(&mut self) -> Run<'_> {
        let bytes = &self.bytes;
        if !self.sorted {
            self.entries
                .sort_unstable_by(|a, b| a.key(bytes).cmp(b.key(bytes)));
            self.sorted = true;
            let ascends = |pair: &[Entry]| pair[0].key(bytes) < pair[1].key(bytes);
            assert!(
                self.entries.windows(2).all(ascends),
                "a key is changed twice in one run"
            );
            let first = self.entries.first();
            assert!(
                first.is_none_or(|entry| entry.start < entry.middle),
                "a key without bytes"
            );
        }
        Run {
            bytes: &self.bytes,
            entries: &self.entries,
        }
    }
}

impl<'a> Run<'a> {
    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.end - entry.start).sum()
    }

    /// The changes by key, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a [u8], Op<'a>)> + use<'a> {
        let bytes = self.bytes;
        self.entries
            .iter()
            .map(move |entry| (entry.key(bytes), entry.op(bytes)))
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_run_is_the_map_of_its_changes(
            changes in proptest::collection::btree_map(
                proptest::collection::vec(any::<u8>(), 1..4),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4)),
                0..40,
            ),
            turn in any::<usize>(),
        ) {
            let mut builder = RunBuilder::new();
            builder.put(b"left over", b"from before");
            builder.sort();
            builder.clear();
            let mut shuffled: Vec<_> = changes.iter().collect();
            shuffled.rotate_left(turn % changes.len().max(1));
            for (key, value) in shuffled {
                match value {
                    Some(value) => builder.put(key, value),
                    None => builder.delete(key),
                }
            }
            let run = builder.sort();
            let read: BTreeMap<_, _> = run.iter().map(|(key, op)| (key.to_vec(), match op {
                Op::Put(value) => Some(value.to_vec()),
                Op::Delete => None,
            })).collect();
            prop_assert!(run.iter().is_sorted_by_key(|(key, _)| key));
            prop_assert_eq!(&read, &changes);
            let length = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len);
            prop_assert_eq!(run.bytes(), changes.iter().map(length).sum::<usize>());
        }
    }

    #[test]
    fn what_cannot_be_encoded_leaves_nothing_behind() {
        let mut builder = RunBuilder::new();
        builder.put(b"a", b"1");
        let broken = builder.put_with(b"b", |out| {
            out.push(7);
            Err("no")
        });
        assert_eq!(broken, Err("no"));
        builder.put(b"c", b"");
        let read: Vec<_> = builder.sort().iter().collect();
        assert_eq!(read, [(&b"a"[..], Op::Put(b"1")), (b"c", Op::Put(b""))]);
    }

    #[test]
    #[should_panic(expected = "a key is changed twice")]
    fn two_changes_of_a_key_are_refused() {
        let mut builder = RunBuilder::new();
        builder.put(b"a", b"1");
        builder.delete(b"a");
        builder.sort();
    }
}
