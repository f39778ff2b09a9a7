//! [`KeyedStates`]: the entries of one keyed state, a piece of a file at a time.
//!
//! A piece is some key groups of one state file, of a few megabytes on average; nothing else is in memory. Pieces come in the
//! order of key groups, and what is in one is sorted by the bytes of its keys. So the order is the same whichever
//! backend the state was in.

use crate::entry::{self, Decode, Problem, key_bytes};
use crate::error::{Result, StatePlace, StateProcessorError};
use crate::savepoint::{Savepoint, StateKind};
use hurtig_core::key::{KeyGroupRange, OwnedKey, StableKey, hash_bytes, key_group};
use hurtig_dataflow::timers::{EVENT_SECTION, PROCESSING_SECTION, TimeDomain};
use hurtig_state::{KeyedEntry, StateValue};
use hurtig_storage::StateHandle;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::vec::IntoIter;

/// How many bytes of a state file make a piece, compressed and all states of its operators together.
const PIECE_BYTES: u64 = 4 * 1_024 * 1_024;

/// Some key groups of one state file.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    handle: StateHandle,
    index: u32,
    groups: Range<u16>,
}

/// Which keys are wanted, by their bytes.
#[derive(Clone, Debug)]
enum Filter {
    Keys(Arc<BTreeSet<Vec<u8>>>),
    Range(Bound<Vec<u8>>, Bound<Vec<u8>>),
}

impl Filter {
    fn passes(&self, key: &Vec<u8>) -> bool {
        match self {
            Self::Keys(keys) => keys.contains(key),
            Self::Range(from, to) => (from.as_ref(), to.as_ref()).contains(key),
        }
    }

    /// Appends bytes that no other filter has.
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Keys(keys) => {
                (0_u8, keys.len() as u64).encode(out);
                keys.iter().for_each(|key| key.encode(out));
            }
            Self::Range(from, to) => {
                1_u8.encode(out);
                for bound in [from, to] {
                    match bound {
                        Bound::Unbounded => 0_u8.encode(out),
                        Bound::Included(key) => (1_u8, key.clone()).encode(out),
                        Bound::Excluded(key) => (2_u8, key.clone()).encode(out),
                    }
                }
            }
        }
    }
}

/// A keyed state of a savepoint: its keys, and what each one has. To be iterated over, or read by a job as its
/// source.
pub struct KeyedStates<K, V> {
    savepoint: Savepoint,
    place: StatePlace,
    max_parallelism: u32,
    pieces: Arc<[Piece]>,
    filters: Vec<Filter>,
    key: fn(&KeyedEntry, u32) -> Result<K, Problem>,
    decode: Decode<V>,
}

impl<K, V> Clone for KeyedStates<K, V> {
    fn clone(&self) -> Self {
        Self {
            savepoint: self.savepoint.clone(),
            place: self.place.clone(),
            max_parallelism: self.max_parallelism,
            pieces: self.pieces.clone(),
            filters: self.filters.clone(),
            key: self.key,
            decode: self.decode,
        }
    }
}

impl<K, V> fmt::Debug for KeyedStates<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStates")
            .field("place", &self.place)
            .field("pieces", &self.pieces.len())
            .finish_non_exhaustive()
    }
}

impl Savepoint {
    /// A state of one value for each key.
    ///
    /// ```
    /// use hurtig_state_processor::{OperatorBuilder, Savepoint, SavepointWriter};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("savepoint").display().to_string();
    /// let counts = OperatorBuilder::new("counts", 128)?.value("count", [("ada", 3_u64), ("bob", 1)])?;
    /// SavepointWriter::new("clicks").operator(counts)?.write(&path)?;
    ///
    /// let of_ada = Savepoint::open(&path)?.value::<String, u64>("counts", "count")?.only_keys(["ada"]);
    /// assert_eq!(of_ada.into_iter().collect::<Result<Vec<_>, _>>()?, [("ada".to_owned(), 3)]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When there is no such operator or keyed state. Whether the types fit is seen when entries are read.
    pub fn value<K: OwnedKey, V: StateValue>(&self, uid: &str, state: &str) -> Result<KeyedStates<K, V>> {
        KeyedStates::new(self, (uid, state), entry::one)
    }

    /// A state of a list for each key.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn list<K: OwnedKey, V: StateValue>(&self, uid: &str, state: &str) -> Result<KeyedStates<K, Vec<V>>> {
        self.value(uid, state)
    }

    /// A state of a map for each key.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn map<K: OwnedKey, UK: OwnedKey + Ord, UV: StateValue>(
        &self,
        uid: &str,
        state: &str,
    ) -> Result<KeyedStates<K, BTreeMap<UK, UV>>> {
        KeyedStates::new(self, (uid, state), entry::map)
    }

    /// A state that folds what is added to a key: its value.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn reducing<K: OwnedKey, V: StateValue>(&self, uid: &str, state: &str) -> Result<KeyedStates<K, V>> {
        self.value(uid, state)
    }

    /// A state that aggregates what is added to a key: its accumulator.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn aggregating<K: OwnedKey, A: StateValue>(
        &self,
        uid: &str,
        state: &str,
    ) -> Result<KeyedStates<K, A>> {
        self.value(uid, state)
    }

    /// The times of each key's timers, in order; of a keyed function, whose timers belong to nothing but keys.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn timers<K: OwnedKey>(&self, uid: &str, domain: TimeDomain) -> Result<KeyedStates<K, Vec<i64>>> {
        let section = match domain {
            TimeDomain::Event => EVENT_SECTION,
            TimeDomain::Processing => PROCESSING_SECTION,
        };
        KeyedStates::new(self, (uid, section), entry::timers)
    }
}

impl<K: OwnedKey, V> KeyedStates<K, V> {
    pub(crate) fn new(savepoint: &Savepoint, (uid, state): (&str, &str), decode: Decode<V>) -> Result<Self> {
        let place = savepoint.place(uid, state, StateKind::Keyed)?;
        let stored = savepoint.stored(uid)?;
        let mut pieces = Vec::new();
        for (subtask, state) in &stored.subtasks {
            let Some(handle) = &state.handle else { continue };
            let groups = groups_of(*subtask, stored.parallelism, stored.max_parallelism);
            pieces.extend(cut(groups, handle.bytes).into_iter().map(|groups| Piece {
                handle: handle.clone(),
                index: state.index_in_file,
                groups,
            }));
        }
        Ok(Self {
            savepoint: savepoint.clone(),
            place,
            max_parallelism: stored.max_parallelism,
            pieces: pieces.into(),
            filters: Vec::new(),
            key: entry::key,
            decode,
        })
    }

    /// The same with these keys only; nothing but their key groups is read.
    #[must_use]
    pub fn only_keys<'q, Q>(mut self, keys: impl IntoIterator<Item = &'q Q>) -> Self
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized + 'q,
    {
        let (mut groups, mut only) = (BTreeSet::new(), BTreeSet::new());
        for key in keys {
            // Key groups are below 32,768.
            groups.insert(key_group(key.stable_hash(), self.max_parallelism).get() as u16);
            only.insert(key_bytes(key));
        }
        let pieces = groups.into_iter().filter_map(|group| {
            let piece = self.pieces.iter().find(|piece| piece.groups.contains(&group))?;
            let groups = group..group + 1;
            Some(Piece {
                groups,
                ..piece.clone()
            })
        });
        self.pieces = pieces.collect();
        self.filters.push(Filter::Keys(Arc::new(only)));
        self
    }

    /// The same with the keys of a range only, in the order of keys that their bytes have: that of numbers and texts. All key
    /// groups are read.
    #[must_use]
    pub fn only_keys_in(mut self, range: impl RangeBounds<K>) -> Self {
        let bytes = |bound: Bound<&K>| bound.map(key_bytes);
        let filter = Filter::Range(bytes(range.start_bound()), bytes(range.end_bound()));
        self.filters.push(filter);
        self
    }
}

impl<K, V> KeyedStates<K, V> {
    pub(crate) fn place(&self) -> &StatePlace {
        &self.place
    }

    pub(crate) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// A number that tells these entries from those of another savepoint or state, and from those that pass other filters.
    pub(crate) fn fingerprint(&self) -> u64 {
        let StatePlace { operator, state, .. } = &self.place;
        let mut bytes = Vec::new();
        for piece in &*self.pieces {
            let Range { start, end } = piece.groups;
            for number in [
                piece.handle.checksum,
                piece.index.into(),
                start.into(),
                end.into(),
            ] {
                number.encode(&mut bytes);
            }
        }
        for text in [operator, state] {
            text.encode(&mut bytes);
        }
        for filter in &self.filters {
            filter.encode(&mut bytes);
        }
        hash_bytes(&bytes)
    }

    /// Reads a piece and checks its keys; `None` behind the last one.
    pub(crate) fn load(&self, piece: usize) -> Result<Option<Entries>> {
        let Some(piece) = self.pieces.get(piece) else {
            return Ok(None);
        };
        let mut part = self
            .savepoint
            .part(&piece.handle, piece.index, piece.groups.clone())?;
        let mut entries = part.keyed.remove(&self.place.state).unwrap_or_default();
        // Before what is filtered: keys of another type would only not be found.
        for entry in &entries {
            (self.key)(entry, self.max_parallelism).map_err(|problem| self.other_type(problem))?;
        }
        for filter in &self.filters {
            entries.retain(|entry| filter.passes(&entry.key));
        }
        let order = |entry: &KeyedEntry| (entry.group, entry.key.clone(), entry.namespace.clone());
        entries.sort_by_cached_key(order);
        Ok(Some(Entries(entries.into_iter())))
    }

    /// The next key of a piece, and what it has.
    pub(crate) fn next_of(&self, entries: &mut Entries) -> Option<Result<(K, V)>> {
        let of_key = entries.of_next_key()?;
        let key = (self.key)(&of_key[0], self.max_parallelism);
        let read = key.and_then(|key| Ok((key, (self.decode)(&of_key)?)));
        Some(read.map_err(|problem| self.other_type(problem)))
    }

    fn other_type(&self, problem: Problem) -> StateProcessorError {
        let place = self.place.clone();
        StateProcessorError::OtherType { place, problem }
    }
}

/// What is left of a piece.
#[derive(Debug, Default)]
pub(crate) struct Entries(IntoIter<KeyedEntry>);

impl Entries {
    /// The entries of the next key, at least one.
    fn of_next_key(&mut self) -> Option<Vec<KeyedEntry>> {
        let first = self.0.next()?;
        let rest = self.0.as_slice().iter();
        let more = rest.take_while(|entry| entry.key == first.key).count();
        let mut of_key = vec![first];
        of_key.extend(self.0.by_ref().take(more));
        Some(of_key)
    }

    /// Passes over keys.
    pub(crate) fn skip_keys(&mut self, keys: u64) {
        for _ in 0..keys {
            self.of_next_key();
        }
    }
}

/// Goes through a keyed state, a piece at a time. Nothing follows an error.
#[derive(Debug)]
pub struct KeyedStatesIter<K, V> {
    states: KeyedStates<K, V>,
    next_piece: usize,
    entries: Entries,
}

impl<K, V> Iterator for KeyedStatesIter<K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = loop {
            if let Some(found) = self.states.next_of(&mut self.entries) {
                break found;
            }
            match self.states.load(self.next_piece) {
                Ok(entries) => self.entries = entries?,
                Err(error) => break Err(error),
            }
            self.next_piece += 1;
        };
        if found.is_err() {
            (self.next_piece, self.entries) = (usize::MAX, Entries::default());
        }
        Some(found)
    }
}

impl<K, V> IntoIterator for KeyedStates<K, V> {
    type Item = Result<(K, V)>;
    type IntoIter = KeyedStatesIter<K, V>;

    fn into_iter(self) -> KeyedStatesIter<K, V> {
        KeyedStatesIter {
            states: self,
            next_piece: 0,
            entries: Entries::default(),
        }
    }
}

/// The key groups of a subtask.
fn groups_of(subtask: u32, parallelism: u32, max_parallelism: u32) -> Range<u16> {
    let range = KeyGroupRange::of_subtask(subtask, parallelism, max_parallelism);
    // Key groups are below 32,768.
    range.first().get() as u16..range.last().get() as u16 + 1
}

/// Key groups in pieces, for a file of so many bytes.
fn cut(groups: Range<u16>, bytes: u64) -> Vec<Range<u16>> {
    let all = u64::from(groups.end - groups.start);
    let pieces = bytes.div_ceil(PIECE_BYTES).clamp(1, all);
    // At most the end of the groups.
    let at = |piece: u64| groups.start + (all * piece / pieces) as u16;
    (0..pieces).map(|piece| at(piece)..at(piece + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_all_key_groups_once_and_none_is_empty() {
        for (groups, bytes) in [
            (0..128, 0),
            (43..86, 10 * PIECE_BYTES),
            (5..6, 1 << 40),
            (0..32_768, 1 << 60),
        ] {
            let pieces = cut(groups.clone(), bytes);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!(
                (pieces[0].start, pieces[pieces.len() - 1].end),
                (groups.start, groups.end)
            );
        }
        assert_eq!(cut(0..128, 2 * PIECE_BYTES), [0..64, 64..128]);
    }
}
