//! Entries of a keyed section as they stand in a state file: encoded, in key-group order.
//!
//! A scan writes them while the table is in use, so a large state never exists as one allocation an
//! entry. Each entry is three parts (key, namespace, value), each behind its length as a
//! [`varint`].

use crate::snapshot::{KeyedEntry, write_named};
use hurtig_core::error::{Error, Result};
use hurtig_core::key::StableKey;
use hurtig_core::varint;
use serde::{Deserialize, Serialize};

/// A chunk that is longer than this gets no more.
const CHUNK_BYTES: usize = 64 * 1_024;

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

    /// The entries, one allocation a part: for tests and small states.
    ///
    /// # Errors
    /// When the bytes are not those of entries, which is a bug.
    pub fn to_entries(&self) -> Result<Vec<KeyedEntry>> {
        let entry = |entry: Result<(u16, [&[u8]; 3])>| {
            let (group, parts) = entry?;
            let [key, namespace, value] = parts.map(<[u8]>::to_vec);
            Ok(KeyedEntry {
                group,
                key,
                namespace,
                value,
            })
        };
        self.iter().map(entry).collect()
    }

    /// The group, key, namespace and value of each entry, in order. That an entry cannot be read is a bug.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<(u16, [&[u8]; 3])>> {
        // An entry ends in the chunk in which it begins.
        let mut chunks = self.chunks.iter();
        let mut rest: &[u8] = &[];
        let groups = self.runs.iter();
        let groups = groups.flat_map(|run| (0..run.entries).map(|_| run.group));
        groups.map(move |group| {
            if rest.is_empty() {
                rest = chunks.next().map_or(&[], Vec::as_slice);
            }
            Ok((group, [part(&mut rest)?, part(&mut rest)?, part(&mut rest)?]))
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

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = varint::take(rest).and_then(|length| usize::try_from(length).ok());
    let split = length.and_then(|length| rest.split_at_checked(length));
    let (part, after) =
        split.ok_or_else(|| Error::internal("the bytes of a scanned state are not those of entries"))?;
    *rest = after;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
