//! Reading a state file, all of it or some key groups.

use super::StateHandle;
use super::cursor::{BlockMap, Cursor, Source};
use super::index::{Index, Section, SectionKind};
use crate::error::{Result, StorageError};
use crate::format::block::{BlockKind, END_BYTES, End};
use crate::format::header::{FileKind, HEADER_BYTES};
use crate::format::reader::{Blocks, ends, expect_kind, verify};
use crate::store::BlobStore;
use hurtig_state::encoded::GroupRun;
use hurtig_state::{EncodedEntries, OperatorSection, OperatorSnapshot};
use std::ops::Range;

/// Reads all snapshots of a state file, in the order in which they were written, their keyed sections decoded. Every
/// byte of the file is checked first.
///
/// # Errors
/// [`StorageError::Corrupt`] with the offset of the first damaged part, also when the file is not the
/// one that the handle names; or what the store fails with.
pub fn read_state(store: &dyn BlobStore, handle: &StateHandle) -> Result<Vec<OperatorSnapshot>> {
    let bytes = store.get(&handle.path)?;
    check_length(handle, bytes.len() as u64)?;
    verify(&handle.path, &bytes)?;
    let mut snapshots = read_from(Source::Whole(&bytes), handle, 0..u16::MAX)?;
    let decoded = snapshots
        .iter_mut()
        .try_for_each(OperatorSnapshot::decode_sections);
    decoded.map_err(StorageError::State)?;
    Ok(snapshots)
}

/// Reads of a state file what belongs to some key groups, and all operator state. Keyed sections stay encoded, as a
/// restore takes them: millions of entries are a few large pieces of memory.
///
/// *Cost*: fetches the index and the blocks with these groups; only what is fetched is checked.
///
/// # Errors
/// As [`read_state`].
pub fn read_state_groups(
    store: &dyn BlobStore,
    handle: &StateHandle,
    groups: Range<u16>,
) -> Result<Vec<OperatorSnapshot>> {
    // One byte more than there should be, to see that the file ends.
    let past = store.get_range(&handle.path, handle.bytes..handle.bytes.saturating_add(1))?;
    check_length(handle, handle.bytes.saturating_add(past.len() as u64))?;
    read_from(Source::Store(store), handle, groups)
}

fn check_length(handle: &StateHandle, found: u64) -> Result<()> {
    let least = (HEADER_BYTES + END_BYTES) as u64;
    if found == handle.bytes && found >= least {
        return Ok(());
    }
    let problem = format!(
        "the file has {found} bytes or more, expected {}",
        handle.bytes.max(least)
    );
    Err(StorageError::corrupt(
        &handle.path,
        found.min(handle.bytes),
        problem,
    ))
}

fn read_from(source: Source<'_>, handle: &StateHandle, groups: Range<u16>) -> Result<Vec<OperatorSnapshot>> {
    let path = &handle.path;
    let end_offset = handle.bytes - END_BYTES as u64;
    let head = source.fetch(path, 0..HEADER_BYTES as u64)?;
    let tail = source.fetch(path, end_offset..handle.bytes)?;
    let (kind, end) = ends(path, &head, &tail, end_offset)?;
    expect_kind(path, kind, FileKind::State)?;
    if end.checksum != handle.checksum {
        let problem = format!(
            "the file has checksum {:016x}, expected {:016x}: it is not the one that the checkpoint names",
            end.checksum, handle.checksum
        );
        return Err(StorageError::corrupt(path, end_offset, problem));
    }
    let index = read_index(source, path, end, end_offset)?;
    let bad_index = || StorageError::corrupt(path, end.index_offset, "the index does not fit the data");
    let map = BlockMap::new(&index.blocks, end.index_offset).ok_or_else(bad_index)?;
    let mut bytes = index.snapshots.iter().flatten().map(Section::bytes);
    let total = bytes.try_fold(0_u64, |sum, bytes| sum.checked_add(bytes?));
    if total != Some(map.stream_bytes()) {
        return Err(bad_index());
    }
    let mut reader = SectionReader {
        cursor: Cursor::new(path, source, &map),
        position: 0,
        groups,
    };
    index
        .snapshots
        .iter()
        .map(|sections| reader.snapshot(sections))
        .collect()
}

fn read_index(source: Source<'_>, path: &str, end: End, end_offset: u64) -> Result<Index> {
    let bytes = source.fetch(path, end.index_offset..end_offset)?;
    let mut blocks = Blocks::new(path, end.index_offset, &bytes);
    let (mut index, mut raw) = (Vec::new(), Vec::new());
    while !blocks.is_done() {
        let block = blocks.next_block()?;
        if block.kind != BlockKind::Index {
            let problem = format!("expected a block of the index, found {:?}", block.kind);
            return Err(StorageError::corrupt(path, block.offset, problem));
        }
        block.decode(path, &mut raw)?;
        index.extend_from_slice(&raw);
    }
    Index::from_bytes(&index)
        .ok_or_else(|| StorageError::corrupt(path, end.index_offset, "the index cannot be read"))
}

/// Reads sections in the order of their data.
struct SectionReader<'a> {
    cursor: Cursor<'a>,
    /// Where in the stream the next section begins.
    position: u64,
    groups: Range<u16>,
}

impl SectionReader<'_> {
    fn snapshot(&mut self, sections: &[Section]) -> Result<OperatorSnapshot> {
        let mut snapshot = OperatorSnapshot::default();
        for section in sections {
            let name = section.name.clone();
            match &section.kind {
                SectionKind::Keyed(runs) => {
                    snapshot.encoded.insert(name, vec![self.keyed(runs)?]);
                }
                SectionKind::Operator {
                    redistribution,
                    entries,
                    bytes,
                } => {
                    let section = OperatorSection {
                        redistribution: *redistribution,
                        entries: self.operator(*entries, *bytes)?,
                    };
                    snapshot.operator.insert(name, section);
                }
            }
        }
        Ok(snapshot)
    }

    fn keyed(&mut self, runs: &[GroupRun]) -> Result<EncodedEntries> {
        let start = runs.partition_point(|run| run.group < self.groups.start);
        let end = runs.partition_point(|run| run.group < self.groups.end).max(start);
        let length = |runs: &[GroupRun]| runs.iter().map(|run| run.bytes).sum::<u64>();
        let from = self.position + length(&runs[..start]);
        let to = from + length(&runs[start..end]);
        self.position += length(runs);
        self.cursor.seek(from..to);
        let mut entries = EncodedEntries::default();
        for run in &runs[start..end] {
            let bytes = self.cursor.take(run.bytes)?;
            let pushed = entries.push_run(run.group, run.entries, bytes);
            pushed.map_err(|problem| {
                let GroupRun { group, entries, .. } = run;
                self.cursor.corrupt_before(format!(
                    "the bytes of key group {group} are not {entries} entries: {problem}"
                ))
            })?;
        }
        self.cursor.expect_end()?;
        Ok(entries)
    }

    fn operator(&mut self, count: u64, bytes: u64) -> Result<Vec<Vec<u8>>> {
        self.cursor.seek(self.position..self.position + bytes);
        self.position += bytes;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(self.cursor.part()?);
        }
        self.cursor.expect_end()?;
        Ok(entries)
    }
}
