//! Building a file: bytes in, blocks out.

use super::block::{self, BlockKind, End, MAX_RAW_BYTES};
use super::checksum;
use super::codec::Compression;
use super::header::{self, FileKind, WriterVersion};

/// How long a data block is, in the file (without its header) and uncompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockLengths {
    pub(crate) stored: u32,
    pub(crate) raw: u32,
}

/// A file in the making. Data come first, then the index.
#[derive(Debug)]
pub(crate) struct FileWriter {
    out: Vec<u8>,
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
    pub(crate) bytes: Vec<u8>,
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

    /// Ends the data; what follows is index. Returns the lengths of all data blocks.
    pub(crate) fn begin_index(&mut self) -> Vec<BlockLengths> {
        assert!(self.index_offset.is_none(), "a file has one index");
        self.flush();
        self.kind = BlockKind::Index;
        self.index_offset = Some(self.out.len() as u64);
        std::mem::take(&mut self.data_blocks)
    }

    pub(crate) fn finish(mut self) -> FileImage {
        self.flush();
        let checksum = checksum(0, &self.out);
        let end = End {
            blocks: self.blocks,
            index_offset: self.index_offset.unwrap_or(self.out.len() as u64),
            checksum,
        };
        block::write_end(&mut self.out, end);
        FileImage {
            bytes: self.out,
            checksum,
        }
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let stored = block::write(&mut self.out, self.kind, self.compression, &self.pending);
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
