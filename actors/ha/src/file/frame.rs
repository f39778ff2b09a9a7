//! The bytes of the log. Little-endian; named in `docs/formats.md`.
//!
//! A frame is: magic (4), length of the body (4), revision (8), checksum of revision and body (8), body. The body is one byte of
//! kind, a count of changes (4), and the changes: kind (1), length of the key (4), key, and for a put the lease (8), the
//! revision of creation (8), that of the last write (8), length of the value (4), value.

use crate::kv::{Batch, Change, Entry, Key, LeaseId, Revision};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const MAGIC: [u8; 4] = *b"hha1";
const HEADER: usize = 24;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// All there was at a revision. Stands first.
    Image(Revision, Vec<Entry>),
    /// What changed.
    Changes(Batch),
}

/// What stands at a place of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A frame, and where the next one begins.
    Frame(Frame, usize),
    /// No frame that is whole.
    Broken,
    /// The log ends here.
    End,
}

/// A frame with all entries.
pub(super) fn image<'a>(revision: Revision, entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    let mut body = vec![b'I', 0, 0, 0, 0];
    let mut count: u32 = 0;
    for entry in entries {
        count += 1;
        let (created, modified) = (entry.created, entry.modified);
        write_put(
            &mut body,
            &entry.key,
            &entry.value,
            (entry.lease, created, modified),
        );
    }
    finish(body, count, revision)
}

/// A frame with the changes of one revision.
pub(super) fn changes(batch: &Batch) -> Vec<u8> {
    let mut body = vec![b'C', 0, 0, 0, 0];
    for change in &batch.changes {
        match change {
            Change::Put(key, value, lease) => {
                write_put(&mut body, key, value, (*lease, Revision(0), batch.revision));
            }
            Change::Delete(key) => {
                body.push(DELETE);
                write_bytes(&mut body, key.as_str().as_bytes());
            }
        }
    }
    finish(body, len32(batch.changes.len()), batch.revision)
}

/// Reads what stands at `at`.
pub(super) fn read(log: &[u8], at: usize) -> Read {
    let rest = log.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return Read::End;
    }
    frame(rest).map_or(Read::Broken, |(frame, len)| Read::Frame(frame, at + len))
}

/// Whether a frame that is whole stands anywhere behind `at`.
pub(super) fn any_behind(log: &[u8], at: usize) -> bool {
    (at + 1..log.len())
        .any(|place| log[place..].starts_with(&MAGIC) && matches!(read(log, place), Read::Frame(..)))
}

fn finish(mut body: Vec<u8>, count: u32, revision: Revision) -> Vec<u8> {
    body[1..5].copy_from_slice(&count.to_le_bytes());
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&len32(body.len()).to_le_bytes());
    bytes.extend_from_slice(&revision.0.to_le_bytes());
    bytes.extend_from_slice(&xxh3_64_with_seed(&body, revision.0).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Lengths are bounded by the bound of records and of a transaction's changes, far below 4 GiB.
fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn write_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(&len32(bytes.len()).to_le_bytes());
    body.extend_from_slice(bytes);
}

fn write_put(body: &mut Vec<u8>, key: &Key, value: &[u8], about: (Option<LeaseId>, Revision, Revision)) {
    let (lease, created, modified) = about;
    body.push(PUT);
    write_bytes(body, key.as_str().as_bytes());
    body.extend_from_slice(&lease.map_or(0, |lease| lease.0).to_le_bytes());
    body.extend_from_slice(&created.0.to_le_bytes());
    body.extend_from_slice(&modified.0.to_le_bytes());
    write_bytes(body, value);
}

/// A place in bytes that are read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.take(len)
    }

    fn key(&mut self) -> Option<Key> {
        Some(Key::new(std::str::from_utf8(self.bytes()?).ok()?))
    }
}

fn frame(bytes: &[u8]) -> Option<(Frame, usize)> {
    let mut reader = Reader(bytes);
    if reader.take(4)? != MAGIC {
        return None;
    }
    let len = usize::try_from(reader.u32()?).ok()?;
    let (revision, checksum) = (reader.u64()?, reader.u64()?);
    let body = reader.take(len)?;
    if xxh3_64_with_seed(body, revision) != checksum {
        return None;
    }
    Some((parse(body, Revision(revision))?, HEADER + len))
}

fn parse(body: &[u8], revision: Revision) -> Option<Frame> {
    let mut reader = Reader(body);
    let kind = reader.take(1)?[0];
    let count = reader.u32()?;
    let frame = match kind {
        b'I' => Frame::Image(
            revision,
            (0..count).map(|_| entry(&mut reader)).collect::<Option<_>>()?,
        ),
        b'C' => {
            let changes = (0..count).map(|_| change(&mut reader)).collect::<Option<_>>()?;
            Frame::Changes(Batch { revision, changes })
        }
        _ => return None,
    };
    reader.0.is_empty().then_some(frame)
}

fn change(reader: &mut Reader<'_>) -> Option<Change> {
    if reader.0.first() == Some(&DELETE) {
        reader.take(1)?;
        return Some(Change::Delete(reader.key()?));
    }
    let entry = entry(reader)?;
    Some(Change::Put(entry.key, entry.value, entry.lease))
}

fn entry(reader: &mut Reader<'_>) -> Option<Entry> {
    if reader.take(1)?[0] != PUT {
        return None;
    }
    let key = reader.key()?;
    let lease = i64::from_le_bytes(reader.take(8)?.try_into().ok()?);
    let (created, modified) = (Revision(reader.u64()?), Revision(reader.u64()?));
    let value = reader.bytes()?.to_vec();
    let lease = (lease != 0).then_some(LeaseId(lease));
    Some(Entry {
        key,
        value,
        created,
        modified,
        lease,
    })
}
