//! Reading a state file's data as one stream of bytes, whichever blocks they lie in.

use crate::error::{Result, StorageError};
use crate::format::block::{BLOCK_HEADER_BYTES, BlockKind, MAX_RAW_BYTES};
use crate::format::header::HEADER_BYTES;
use crate::format::reader::Blocks;
use crate::format::writer::BlockLengths;
use crate::store::BlobStore;
use hurtig_core::varint;
use hurtig_state::EncodedEntries;
use hurtig_state::encoded::GroupRun;
use std::borrow::Cow;
use std::ops::Range;

/// The most bytes that are fetched at once.
const FETCH_BYTES: u64 = 4 * 1024 * 1024;

/// The most bytes that are made room for before they are read.
const ROOM_BYTES: u64 = 1024 * 1024;

/// Where a file's bytes come from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// All of them are here, and checked.
    Whole(&'a [u8]),
    /// They are fetched as they are needed.
    Store(&'a dyn BlobStore),
}

impl<'a> Source<'a> {
    /// The bytes of a range, all of them.
    pub(super) fn fetch(self, path: &str, range: Range<u64>) -> Result<Cow<'a, [u8]>> {
        let bytes = match self {
            Self::Whole(bytes) => {
                let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Cow::Borrowed(&bytes[at(range.start)..at(range.end)])
            }
            Self::Store(store) => Cow::Owned(store.get_range(path, range.clone())?),
        };
        let found = bytes.len() as u64;
        if range.start + found == range.end {
            return Ok(bytes);
        }
        let problem = format!("the file ends here; expected bytes up to {}", range.end);
        let file_end = match found {
            0 => self.length(path)?.min(range.start),
            _ => range.start + found,
        };
        Err(StorageError::corrupt(path, file_end, problem))
    }

    /// The file's length, for the error that says where it ends: it costs all of the file.
    fn length(self, path: &str) -> Result<u64> {
        Ok(match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Store(store) => store.get(path)?.len(),
        } as u64)
    }
}

/// A data block's place in the file and in the stream.
#[derive(Clone, Copy, Debug)]
struct Place {
    file: u64,
    stream: u64,
}

/// The places of all data blocks, and of what follows them.
#[derive(Debug)]
pub(super) struct BlockMap {
    places: Vec<Place>,
}

impl BlockMap {
    /// The map of blocks with these lengths; `None` when they do not end at `data_end`.
    pub(super) fn new(blocks: &[BlockLengths], data_end: u64) -> Option<Self> {
        let mut place = Place {
            file: HEADER_BYTES as u64,
            stream: 0,
        };
        let mut places = vec![place];
        for block in blocks {
            if block.raw == 0 || block.raw as usize > MAX_RAW_BYTES {
                return None;
            }
            place.file += BLOCK_HEADER_BYTES as u64 + u64::from(block.stored);
            place.stream += u64::from(block.raw);
            places.push(place);
        }
        (place.file == data_end).then_some(Self { places })
    }

    /// The length of the stream.
    pub(super) fn stream_bytes(&self) -> u64 {
        self.places.last().map_or(0, |place| place.stream)
    }

    /// The index of the block that a byte of the stream is in.
    fn block_of(&self, stream: u64) -> usize {
        self.places.partition_point(|place| place.stream <= stream) - 1
    }
}

/// A place in the stream; only the range it was set to is fetched.
pub(super) struct Cursor<'a> {
    path: &'a str,
    source: Source<'a>,
    map: &'a BlockMap,
    /// What was fetched: these blocks, and their bytes.
    fetched: Range<usize>,
    fetched_bytes: Cow<'a, [u8]>,
    /// The block that `raw` is of.
    block: Option<usize>,
    raw: Vec<u8>,
    position: u64,
    end: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a str, source: Source<'a>, map: &'a BlockMap) -> Self {
        Self {
            path,
            source,
            map,
            fetched: 0..0,
            fetched_bytes: Cow::Borrowed(&[]),
            block: None,
            raw: Vec::new(),
            position: 0,
            end: 0,
        }
    }

    /// Moves to a range, which lies in the stream.
    pub(super) fn seek(&mut self, range: Range<u64>) {
        assert!(
            range.end <= self.map.stream_bytes(),
            "ranges were checked against the stream"
        );
        (self.position, self.end) = (range.start, range.end);
    }

    /// Refuses bytes that were not read: an entry was shorter than the index says.
    pub(super) fn expect_end(&self) -> Result<()> {
        if self.position == self.end {
            return Ok(());
        }
        Err(self.corrupt(format!(
            "{} bytes are left behind the last entry",
            self.end - self.position
        )))
    }

    /// A length and as many bytes.
    pub(super) fn part(&mut self) -> Result<Vec<u8>> {
        let length = varint::read(|| {
            let byte = self.available()?.first().copied().unwrap_or_default();
            self.position += 1;
            Ok::<_, StorageError>(byte)
        })?;
        let left = self.end - self.position;
        match length {
            Some(length) if length <= left => self.take(length),
            _ => Err(self.corrupt(format!("a part of {length:?} bytes where {left} are left"))),
        }
    }

    /// The entries of a key group, which come next.
    pub(super) fn run(&mut self, run: &GroupRun, to: &mut EncodedEntries) -> Result<()> {
        let bytes = self.take(run.bytes)?;
        to.push_run(run.group, run.entries, bytes).map_err(|problem| {
            let GroupRun { group, entries, .. } = run;
            self.corrupt_before(format!(
                "the bytes of key group {group} are not {entries} entries: {problem}"
            ))
        })
    }

    /// The next `wanted` bytes of the range.
    pub(super) fn take(&mut self, mut wanted: u64) -> Result<Vec<u8>> {
        // What a range promises may not be there: room for more is made when blocks have brought it.
        let room = wanted.min(self.end - self.position).min(ROOM_BYTES);
        let mut part = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
        while wanted > 0 {
            let available = self.available()?;
            let now = available.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
            if part.capacity() - part.len() < now {
                // Twice as much as there is, and never more than is to come.
                let most = usize::try_from(wanted).unwrap_or(usize::MAX);
                part.reserve_exact(part.len().clamp(now, most));
            }
            part.extend_from_slice(&available[..now]);
            self.position += now as u64;
            wanted -= now as u64;
        }
        Ok(part)
    }

    /// Bytes of the range from the position on that lie in one block; at least one.
    fn available(&mut self) -> Result<&[u8]> {
        if self.position >= self.end {
            return Err(self.corrupt("an entry is longer than the index says".into()));
        }
        let block = self.map.block_of(self.position);
        if self.block != Some(block) {
            self.load(block)?;
        }
        let start = self.map.places[block].stream;
        let until = self.end.min(self.map.places[block + 1].stream);
        // Both lie within the block, which is at most MAX_RAW_BYTES long.
        Ok(&self.raw[(self.position - start) as usize..(until - start) as usize])
    }

    fn load(&mut self, block: usize) -> Result<()> {
        if !self.fetched.contains(&block) {
            self.fetch(block)?;
        }
        let places = &self.map.places;
        let base = places[self.fetched.start].file;
        let (from, to) = (places[block].file, places[block + 1].file);
        // The fetched bytes are those of the fetched blocks, so the difference fits.
        let bytes = &self.fetched_bytes[(from - base) as usize..(to - base) as usize];
        let mut blocks = Blocks::new(self.path, from, bytes);
        let found = blocks.next_block()?;
        self.block = None;
        found.decode(self.path, &mut self.raw)?;
        let raw = places[block + 1].stream - places[block].stream;
        if found.kind != BlockKind::Data || self.raw.len() as u64 != raw || !blocks.is_done() {
            let problem = format!("expected a data block of {raw} bytes, as the index says");
            return Err(StorageError::corrupt(self.path, from, problem));
        }
        self.block = Some(block);
        Ok(())
    }

    /// Fetches blocks from `first` on that the range needs, within bounds.
    fn fetch(&mut self, first: usize) -> Result<()> {
        let places = &self.map.places;
        let start = places[first].file;
        let needed = self.map.block_of(self.end - 1) + 1;
        let bounded = places.partition_point(|place| place.file <= start + FETCH_BYTES) - 1;
        let until = needed.min(bounded).max(first + 1);
        self.fetched_bytes = self.source.fetch(self.path, start..places[until].file)?;
        self.fetched = first..until;
        Ok(())
    }

    /// An error in the bytes that were taken last.
    fn corrupt_before(&self, problem: String) -> StorageError {
        let block = self.map.block_of(self.position.saturating_sub(1));
        StorageError::corrupt(self.path, self.map.places[block].file, problem)
    }

    fn corrupt(&self, problem: String) -> StorageError {
        let block = self.map.block_of(self.position.min(self.end.saturating_sub(1)));
        StorageError::corrupt(self.path, self.map.places[block].file, problem)
    }
}
