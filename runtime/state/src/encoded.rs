//! Entries of a keyed section as they stand in a state file: encoded, in key-group order.
//!
//! A scan writes them while the table is in use, so a large state never exists as one allocation an
//! entry. Each entry is three parts (key, namespace, value), each behind its length as a
//! [`varint`].

use crate::snapshot::{EntryRef, KeyedEntry, write_named};
use hurtig_core::error::{Error, Result};
use hurtig_core::key::StableKey;
use hurtig_core::varint;
use serde::{Deserialize, Serialize};

/// A chunk that is longer than this gets no more.
const CHUNK_BYTES: usize = 64 * 1_024;

/// Key, namespace and value.
const PARTS: usize = 3;

/// The entries of one key group, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRun {
    /// The key group.
    pub group: u16,
    /// How many entries it has.
    pub entries: u64,
    /// How many bytes they take.
    pub bytes: u64,
}

/// Encoded entries in key-group order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedEntries {
    runs: Vec<GroupRun>,
    chunks: Vec<Vec<u8>>,
}

impl EncodedEntries {
    /// Where each key group's entries end, in order, without groups that have none.
    pub fn runs(&self) -> &[GroupRun] {
        &self.runs
    }

    /// How many entries there are.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.entries).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// All bytes, in order, in pieces that end anywhere.
    pub fn reader(&self) -> ByteReader<'_> {
        ByteReader {
            chunks: &self.chunks,
            at: 0,
        }
    }

    /// Appends `entries` whole entries of a group, which is not below the last one's.
    pub(crate) fn push(&mut self, group: u16, entries: u64, bytes: &[u8]) {
        match self.runs.last_mut() {
            Some(run) if run.group == group => {
                run.entries += entries;
                run.bytes += bytes.len() as u64;
            }
            last => {
                debug_assert!(last.is_none_or(|last| last.group < group), "groups are in order");
                let bytes = bytes.len() as u64;
                self.runs.push(GroupRun {
                    group,
                    entries,
                    bytes,
                });
            }
        }
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() + bytes.len() <= CHUNK_BYTES => chunk.extend_from_slice(bytes),
            _ => {
                let mut chunk = Vec::with_capacity(bytes.len().max(CHUNK_BYTES));
                chunk.extend_from_slice(bytes);
                self.chunks.push(chunk);
            }
        }
    }

    /// Appends all entries of one key group, which is above the last one's, without a copy.
    ///
    /// # Errors
    /// What is wrong, when `bytes` are not as many whole entries.
    pub fn push_run(&mut self, group: u16, entries: u64, bytes: Vec<u8>) -> Result<(), String> {
        let mut rest = &bytes[..];
        for _ in 0..entries {
            for _ in 0..PARTS {
                let left = rest.len();
                take_part(&mut rest)
                    .ok_or_else(|| format!("a part of an entry is longer than the {left} bytes left"))?;
            }
        }
        if !rest.is_empty() {
            return Err(format!("{} bytes are left behind the last entry", rest.len()));
        }
        debug_assert!(
            self.runs.last().is_none_or(|last| last.group < group),
            "groups are in order"
        );
        if entries > 0 {
            let run = GroupRun {
                group,
                entries,
                bytes: bytes.len() as u64,
            };
            self.runs.push(run);
            self.chunks.push(bytes);
        }
        Ok(())
    }

    /// Deals entries out to `parts` new ones, by the key group's `owner`.
    ///
    /// *Cost*: nothing is copied when all have one owner.
    pub fn deal(self, parts: usize, owner: impl Fn(u16) -> usize) -> Vec<Self> {
        let mut dealt = vec![Self::default(); parts];
        let Some(first) = self.runs.first().map(|run| owner(run.group)) else {
            return dealt;
        };
        if self.runs.iter().all(|run| owner(run.group) == first) {
            dealt[first] = self;
            return dealt;
        }
        let mut reader = self.reader();
        for run in &self.runs {
            let part = &mut dealt[owner(run.group)];
            // Counted once; pieces end with chunks, and so between entries.
            let mut entries = run.entries;
            reader.read(run.bytes, |piece| {
                part.push(run.group, std::mem::take(&mut entries), piece);
            });
        }
        dealt
    }

    /// The entries, one allocation a part: for tests and small states.
    ///
    /// # Errors
    /// When the bytes are not those of entries, which is a bug.
    pub fn to_entries(&self) -> Result<Vec<KeyedEntry>> {
        let entry = |entry: Result<EntryRef<'_>>| {
            let entry = entry?;
            Ok(KeyedEntry {
                group: entry.group,
                key: entry.key.to_vec(),
                namespace: entry.namespace.to_vec(),
                value: entry.value.to_vec(),
            })
        };
        self.iter().map(entry).collect()
    }

    /// The entries in order. That one cannot be read is a bug.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<EntryRef<'_>>> {
        // An entry ends in the chunk in which it begins.
        let mut chunks = self.chunks.iter();
        let mut rest: &[u8] = &[];
        let groups = self.runs.iter();
        let groups = groups.flat_map(|run| (0..run.entries).map(|_| run.group));
        groups.map(move |group| {
            if rest.is_empty() {
                rest = chunks.next().map_or(&[], Vec::as_slice);
            }
            Ok(EntryRef {
                group,
                key: part(&mut rest)?,
                namespace: part(&mut rest)?,
                value: part(&mut rest)?,
            })
        })
    }
}

/// Hands out the bytes of [`EncodedEntries`] from front to back.
#[derive(Clone, Debug)]
pub struct ByteReader<'a> {
    chunks: &'a [Vec<u8>],
    at: usize,
}

impl ByteReader<'_> {
    /// Hands the next `bytes` bytes to `write`, in pieces.
    pub fn read(&mut self, mut bytes: u64, mut write: impl FnMut(&[u8])) {
        while bytes > 0 {
            let Some(chunk) = self.chunks.first() else { return };
            let left = &chunk[self.at..];
            // At most what is left of a chunk.
            let now = left.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            write(&left[..now]);
            self.at += now;
            bytes -= now as u64;
            if self.at == chunk.len() {
                (self.chunks, self.at) = (&self.chunks[1..], 0);
            }
        }
    }
}

/// Appends one entry: what a scan's `encode` does with each.
///
/// # Errors
/// When the value cannot be encoded; what was appended is to be cut off then.
pub fn put_entry<K: StableKey + ?Sized, V: Serialize>(
    out: &mut Vec<u8>,
    key: &K,
    namespace: &[u8],
    value: &V,
) -> Result<()> {
    put_entry_with(out, key, namespace, |out| write_named(value, out))
}

/// As [`put_entry`], with the value's bytes as `write` appends them.
pub(crate) fn put_entry_with<K: StableKey + ?Sized>(
    out: &mut Vec<u8>,
    key: &K,
    namespace: &[u8],
    write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    put_part(out, |out| {
        key.encode(out);
        Ok(())
    })?;
    varint::put(out, namespace.len() as u64);
    out.extend_from_slice(namespace);
    put_part(out, write)
}

/// Appends an entry that has a key alone: a deletion, where one is meant.
pub(crate) fn put_key<K: StableKey + ?Sized>(out: &mut Vec<u8>, key: &K) {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    for part in [&bytes[..], &[], &[]] {
        varint::put(out, part.len() as u64);
        out.extend_from_slice(part);
    }
}

/// Appends what `write` appends, behind its length. Most parts are short: one byte is left free for the
/// length, and a longer part is moved.
fn put_part(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let at = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
    } else {
        let mut head = Vec::new();
        varint::put(&mut head, length as u64);
        out.splice(at..=at, head);
    }
    Ok(())
}

#[inline]
fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    take_part(rest).ok_or_else(|| Error::internal("the bytes of a scanned state are not those of entries"))
}

#[inline]
fn take_part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint::take(rest)?).ok()?;
    let (part, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_come_back_whatever_their_length() {
        let mut encoded = EncodedEntries::default();
        let mut expected = Vec::new();
        for (i, length) in [0, 1, 127, 128, 300, 70_000, 5].into_iter().enumerate() {
            let group = i as u16 / 2;
            let (key, value) = ("k".repeat(length), "v".repeat(length));
            let namespace = vec![7; length];
            let mut bytes = Vec::new();
            put_entry(&mut bytes, key.as_str(), &namespace, &value).unwrap();
            encoded.push(group, 1, &bytes);
            let mut key_bytes = Vec::new();
            key.encode(&mut key_bytes);
            let value = crate::snapshot::encode(&value).unwrap();
            expected.push(KeyedEntry {
                group,
                key: key_bytes,
                namespace,
                value,
            });
        }
        assert_eq!(encoded.to_entries().unwrap(), expected);
        assert_eq!((encoded.len(), encoded.runs().len()), (7, 4));
        let mut reader = encoded.reader();
        let mut bytes = Vec::new();
        for run in encoded.runs() {
            let before = bytes.len();
            reader.read(run.bytes, |piece| bytes.extend_from_slice(piece));
            assert_eq!((bytes.len() - before) as u64, run.bytes);
        }
        assert_eq!(bytes, encoded.chunks.concat());
    }

    fn entry(key: u64, bytes: usize) -> Vec<u8> {
        let mut entry = Vec::new();
        put_entry(&mut entry, &key, &[], &"v".repeat(bytes)).unwrap();
        entry
    }

    #[test]
    fn a_run_is_whole_entries_or_refused() {
        let run = [entry(1, 3), entry(2, 200)].concat();
        let mut encoded = EncodedEntries::default();
        encoded.push_run(3, 2, run.clone()).unwrap();
        encoded.push_run(4, 0, Vec::new()).unwrap();
        assert_eq!(encoded.to_entries().unwrap().len(), 2);
        assert_eq!(encoded.runs().len(), 1, "a group without entries has no run");
        for (entries, bytes) in [
            (1, &run[..]),
            (3, &run[..]),
            (2, &run[..run.len() - 1]),
            (1, &[0xff]),
        ] {
            let refused = EncodedEntries::default().push_run(3, entries, bytes.to_vec());
            assert!(refused.is_err(), "{entries} in {} bytes", bytes.len());
        }
    }

    proptest! {
        /// Every entry goes to the owner of its group, in order, whether groups share pieces of memory or not.
        #[test]
        fn dealt_entries_are_those_of_the_owner(
            groups in prop::collection::btree_map(0_u16..40, prop::collection::vec(0_usize..90_000, 1..4), 0..12),
            owners in 1_usize..4,
            whole_runs: bool,
        ) {
            let mut encoded = EncodedEntries::default();
            for (&group, lengths) in &groups {
                let entries: Vec<_> = lengths.iter().map(|&length| entry(u64::from(group), length)).collect();
                match whole_runs {
                    true => encoded.push_run(group, entries.len() as u64, entries.concat()).unwrap(),
                    false => entries.iter().for_each(|entry| encoded.push(group, 1, entry)),
                }
            }
            let owner = |group: u16| usize::from(group) * owners / 40;
            let all = encoded.to_entries().unwrap();
            let dealt = encoded.deal(owners, owner);
            prop_assert_eq!(dealt.len(), owners);
            for (at, part) in dealt.iter().enumerate() {
                let expected: Vec<_> = all.iter().filter(|entry| owner(entry.group) == at).cloned().collect();
                prop_assert_eq!(part.to_entries().unwrap(), expected);
            }
        }
    }
}
