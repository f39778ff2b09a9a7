//! Building a file: bytes in, blocks out. A long one is handed over piece by piece as it grows.

use super::block::{self, BlockKind, End, MAX_RAW_BYTES};
use super::codec::Compression;
use super::header::{self, FileKind, WriterVersion};
use crate::error::Result;
use xxhash_rust::xxh3::Xxh3;

/// A writer that holds more than this hands it over when asked to.
const HELD_BYTES: usize = 4 << 20;

/// How long a data block is, in the file (without its header) and uncompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockLengths {
    pub(crate) stored: u32,
    pub(crate) raw: u32,
}

/// What takes the bytes of an object one after the other.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// A file in the making. Data come first, then the index.
#[allow(missing_debug_implementations, reason = "the checksum in the making has none")]
pub(crate) struct FileWriter {
    /// What was not handed over yet.
    out: Vec<u8>,
    /// How many bytes were, and what they add to the checksum.
    handed_over: u64,
    sum: Xxh3,
    compression: Compression,
    pending: Vec<u8>,
    kind: BlockKind,
    blocks: u64,
    data_blocks: Vec<BlockLengths>,
    index_offset: Option<u64>,
}

/// A finished file.
#[derive(Debug)]
pub(crate) struct FileImage {
    /// All of it, or what is left to be handed over.
    pub(crate) bytes: Vec<u8>,
    /// How long it is.
    pub(crate) length: u64,
    /// Checksum of everything before the last block, which holds it.
    pub(crate) checksum: u64,
}

impl FileWriter {
    pub(crate) fn new(kind: FileKind, compression: Compression) -> Self {
        Self::by(kind, compression, WriterVersion::current())
    }

    /// A file that says it was written by `writer`.
    pub(crate) fn by(kind: FileKind, compression: Compression, writer: WriterVersion) -> Self {
        let mut out = Vec::new();
        header::write(&mut out, kind, writer);
        Self {
            out,
            handed_over: 0,
            sum: Xxh3::new(),
            compression,
            pending: Vec::with_capacity(MAX_RAW_BYTES),
            kind: BlockKind::Data,
            blocks: 0,
            data_blocks: Vec::new(),
            index_offset: None,
        }
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = MAX_RAW_BYTES - self.pending.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            if self.pending.len() == MAX_RAW_BYTES {
                self.flush();
            }
            bytes = later;
        }
    }

    /// Hands over what can be, if that is much.
    ///
    /// # Errors
    /// Those of `to`.
    pub(crate) fn hand_over(&mut self, to: Sink<'_>) -> Result<()> {
        if self.out.len() <= HELD_BYTES {
            return Ok(());
        }
        to(&self.out)?;
        self.sum.update(&self.out);
        self.handed_over += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// How long the file is by now.
    fn length(&self) -> u64 {
        self.handed_over + self.out.len() as u64
    }

    /// Ends the data; what follows is index. Returns the lengths of all data blocks.
    pub(crate) fn begin_index(&mut self) -> Vec<BlockLengths> {
        assert!(self.index_offset.is_none(), "a file has one index");
        self.flush();
        self.kind = BlockKind::Index;
        self.index_offset = Some(self.length());
        std::mem::take(&mut self.data_blocks)
    }

    pub(crate) fn finish(mut self) -> FileImage {
        self.flush();
        // The checksum of the whole file is that of bytes at its beginning.
        self.sum.update(&self.out);
        let checksum = self.sum.digest();
        let end = End {
            blocks: self.blocks,
            index_offset: self.index_offset.unwrap_or(self.length()),
            checksum,
        };
        let offset = self.length();
        block::write_end(&mut self.out, offset, end);
        FileImage {
            length: self.length(),
            bytes: self.out,
            checksum,
        }
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let offset = self.length();
        let body = (self.kind, self.compression, &self.pending[..]);
        let stored = block::write(&mut self.out, offset, body);
        self.blocks += 1;
        if self.kind == BlockKind::Data {
            // Both lengths are at most MAX_RAW_BYTES.
            self.data_blocks.push(BlockLengths {
                stored: stored as u32,
                raw: self.pending.len() as u32,
            });
        }
        self.pending.clear();
    }
}
