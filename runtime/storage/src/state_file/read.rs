//! Reading a state file, all of it or some key groups.

use super::StateHandle;
use super::away::{AwaySection, OpenFile};
use super::cursor::{BlockMap, Cursor, Source};
use super::index::{Index, Section, SectionKind};
use crate::error::{Result, StorageError};
use crate::format::block::{BlockKind, END_BYTES, End};
use crate::format::header::{FileKind, HEADER_BYTES};
use crate::format::reader::{Blocks, ends, expect_kind, verify};
use crate::store::BlobStore;
use crate::store_files::FRESH_SECTION;
use hurtig_state::encoded::GroupRun;
use hurtig_state::{AwayEntries, EncodedEntries, OperatorSection, OperatorSnapshot};
use std::ops::Range;
use std::sync::Arc;

/// Sections that are longer stay in their file.
const HELD_BYTES: u64 = 4 << 20;

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
    check_end(store, handle)?;
    read_from(Source::Store(store), handle, groups)
}

/// As [`read_state_groups`], with keyed sections that are large left in the file: a restore reads them key group by key
/// group, as a state may be larger than memory. `location` is what the store is called in errors, where there are
/// several.
///
/// # Errors
/// As [`read_state`]; the blocks of what was left are checked when they are read.
pub fn open_state_groups(
    (store, location): (&Arc<dyn BlobStore>, Option<&str>),
    handle: &StateHandle,
    groups: Range<u16>,
) -> Result<Vec<OperatorSnapshot>> {
    check_end(&**store, handle)?;
    let opened = open(Source::Store(&**store), handle)?;
    let file = OpenFile {
        store: store.clone(),
        location: location.map(str::to_owned),
        path: handle.path.clone(),
        map: opened.map.clone(),
    };
    opened.read(groups, Some(Arc::new(file)))
}

/// Refuses a file of another length.
fn check_end(store: &dyn BlobStore, handle: &StateHandle) -> Result<()> {
    // One byte more than there should be, to see that the file ends.
    let past = store.get_range(&handle.path, handle.bytes..handle.bytes.saturating_add(1))?;
    check_length(handle, handle.bytes.saturating_add(past.len() as u64))
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
    open(source, handle)?.read(groups, None)
}

/// A file of which the index was read.
struct Opened<'a> {
    path: &'a str,
    source: Source<'a>,
    index: Index,
    map: Arc<BlockMap>,
}

fn open<'a>(source: Source<'a>, handle: &'a StateHandle) -> Result<Opened<'a>> {
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
    Ok(Opened {
        path,
        source,
        index,
        map: Arc::new(map),
    })
}

impl Opened<'_> {
    fn read(&self, groups: Range<u16>, away: Option<Arc<OpenFile>>) -> Result<Vec<OperatorSnapshot>> {
        let mut reader = SectionReader {
            cursor: Cursor::new(self.path, self.source, &self.map),
            position: 0,
            groups,
            away,
        };
        let snapshots = self.index.snapshots.iter();
        snapshots.map(|sections| reader.snapshot(sections)).collect()
    }
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

/// Whether a section is left in its file. What a store did not have is not: it is small, and no section of a state.
fn stays(name: &str, range: &Range<u64>) -> bool {
    range.end - range.start > HELD_BYTES && !name.starts_with(FRESH_SECTION)
}

/// Reads sections in the order of their data.
struct SectionReader<'a> {
    cursor: Cursor<'a>,
    /// Where in the stream the next section begins.
    position: u64,
    groups: Range<u16>,
    /// The file, if large sections stay in it.
    away: Option<Arc<OpenFile>>,
}

impl SectionReader<'_> {
    fn snapshot(&mut self, sections: &[Section]) -> Result<OperatorSnapshot> {
        let mut snapshot = OperatorSnapshot::default();
        for section in sections {
            let name = section.name.clone();
            match &section.kind {
                SectionKind::Keyed(runs) => {
                    let (own, range) = self.own(runs);
                    match self.away.clone().filter(|_| stays(&name, &range)) {
                        Some(file) => {
                            let section = AwaySection {
                                file,
                                runs: own.to_vec(),
                                from: range.start,
                            };
                            let entries = AwayEntries::new(Arc::new(section));
                            snapshot.away.insert(name, vec![entries]);
                        }
                        None => {
                            snapshot.encoded.insert(name, vec![self.keyed(own, range)?]);
                        }
                    }
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

    /// The runs of the wanted key groups, and where in the stream they are; the position moves behind the section.
    fn own<'a>(&mut self, runs: &'a [GroupRun]) -> (&'a [GroupRun], Range<u64>) {
        let start = runs.partition_point(|run| run.group < self.groups.start);
        let end = runs.partition_point(|run| run.group < self.groups.end).max(start);
        let length = |runs: &[GroupRun]| runs.iter().map(|run| run.bytes).sum::<u64>();
        let from = self.position + length(&runs[..start]);
        let own = &runs[start..end];
        self.position += length(runs);
        (own, from..from + length(own))
    }

    fn keyed(&mut self, own: &[GroupRun], range: Range<u64>) -> Result<EncodedEntries> {
        self.cursor.seek(range);
        let mut entries = EncodedEntries::default();
        for run in own {
            self.cursor.run(run, &mut entries)?;
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
