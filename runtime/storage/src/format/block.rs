//! One block: a header, a body, and a checksum over both.

use super::codec::{self, Compression};
use super::{checksum, u32_at, u64_at};
use crate::error::{Result, StorageError};

/// Length of a block's header.
pub(crate) const BLOCK_HEADER_BYTES: usize = 20;

/// The most bytes a block holds, uncompressed, and what all but the last hold.
pub(crate) const MAX_RAW_BYTES: usize = 64 * 1024;

/// Length of the last block, which is never compressed.
pub(crate) const END_BYTES: usize = BLOCK_HEADER_BYTES + END_BODY_BYTES;

const END_BODY_BYTES: usize = 24;

/// Where the checksum is in a block's header; it covers what is before it and the body.
const CHECKSUM_AT: usize = 12;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// How many blocks there were; the last block.
    End,
    /// What the file is for.
    Data,
    /// Where in the data things are.
    Index,
}

impl BlockKind {
    fn code(self) -> u8 {
        match self {
            Self::End => 0,
            Self::Data => 1,
            Self::Index => 2,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        [Self::End, Self::Data, Self::Index]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// A block whose checksum was found right; its body is still compressed.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) kind: BlockKind,
    /// Where it begins in its file.
    pub(crate) offset: u64,
    compression: Compression,
    raw_bytes: usize,
    body: &'a [u8],
}

/// The last block's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// How many blocks come before it.
    pub(crate) blocks: u64,
    /// Where the index begins in the file; where this block begins when there is none.
    pub(crate) index_offset: u64,
    /// Checksum of everything before this block.
    pub(crate) checksum: u64,
}

/// Appends a block that lies at `offset` of its file and says how many bytes its body takes.
pub(super) fn write(
    out: &mut Vec<u8>,
    offset: u64,
    (kind, compression, raw): (BlockKind, Compression, &[u8]),
) -> usize {
    assert!(
        raw.len() <= MAX_RAW_BYTES,
        "blocks hold at most {MAX_RAW_BYTES} bytes"
    );
    let start = out.len();
    out.extend_from_slice(&[0; BLOCK_HEADER_BYTES]);
    let compression = codec::compress(compression, raw, out);
    let stored = out.len() - start - BLOCK_HEADER_BYTES;
    out[start] = kind.code();
    out[start + 1] = compression.code();
    // Both lengths are at most MAX_RAW_BYTES.
    out[start + 4..start + 8].copy_from_slice(&(stored as u32).to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&(raw.len() as u32).to_le_bytes());
    let sum = block_checksum(offset, &out[start..]);
    out[start + CHECKSUM_AT..start + BLOCK_HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    stored
}

/// Appends the last block, which lies at `offset` of its file.
pub(super) fn write_end(out: &mut Vec<u8>, offset: u64, end: End) {
    let numbers = [end.blocks, end.index_offset, end.checksum];
    let body: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    write(out, offset, (BlockKind::End, Compression::None, &body));
}

/// The checksum of a block, its own checksum field left out.
fn block_checksum(offset: u64, block: &[u8]) -> u64 {
    let header = checksum(offset, &block[..CHECKSUM_AT]);
    checksum(header, &block[BLOCK_HEADER_BYTES..])
}

/// Reads the block at the front of `bytes`, which lie at `offset` of the file, and moves `bytes`
/// behind it.
pub(crate) fn read<'a>(path: &str, offset: u64, bytes: &mut &'a [u8]) -> Result<Block<'a>> {
    let corrupt = |problem: String| StorageError::corrupt(path, offset, problem);
    let cut = |wanted: usize, found: usize| {
        corrupt(format!(
            "expected a block of {wanted} bytes, and the file ends after {found} of them"
        ))
    };
    if bytes.len() < BLOCK_HEADER_BYTES {
        return Err(cut(BLOCK_HEADER_BYTES, bytes.len()));
    }
    let (stored, raw_bytes) = (u32_at(bytes, 4) as usize, u32_at(bytes, 8) as usize);
    if stored > MAX_RAW_BYTES || raw_bytes > MAX_RAW_BYTES {
        let problem =
            format!("a block of {stored} bytes for {raw_bytes}, more than the {MAX_RAW_BYTES} allowed");
        return Err(corrupt(problem));
    }
    let length = BLOCK_HEADER_BYTES + stored;
    let Some((block, rest)) = bytes.split_at_checked(length) else {
        return Err(cut(length, bytes.len()));
    };
    let (expected, computed) = (u64_at(block, CHECKSUM_AT), block_checksum(offset, block));
    if expected != computed {
        let problem = format!(
            "a block of {length} bytes has checksum {computed:016x}, expected {expected:016x}: it was changed \
             after it was written"
        );
        return Err(corrupt(problem));
    }
    *bytes = rest;
    let known = BlockKind::of_code(block[0]).zip(Compression::of_code(block[1]));
    let (kind, compression) = known.ok_or_else(|| {
        corrupt(format!(
            "unknown block kind {} or compression {}",
            block[0], block[1]
        ))
    })?;
    Ok(Block {
        kind,
        offset,
        compression,
        raw_bytes,
        body: &block[BLOCK_HEADER_BYTES..],
    })
}

impl Block<'_> {
    /// How many bytes it takes in the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        (BLOCK_HEADER_BYTES + self.body.len()) as u64
    }

    /// Makes `raw` the bytes that it holds.
    pub(crate) fn decode(&self, path: &str, raw: &mut Vec<u8>) -> Result<()> {
        codec::decompress(self.compression, self.body, self.raw_bytes, raw)
            .map_err(|problem| StorageError::corrupt(path, self.offset, problem))
    }

    /// What it says as the last block.
    pub(crate) fn end(&self, path: &str) -> Result<End> {
        let sound = self.kind == BlockKind::End
            && self.compression == Compression::None
            && self.body.len() == END_BODY_BYTES;
        if !sound {
            let problem = format!(
                "expected the end of the file, found {:?} of {} bytes",
                self.kind,
                self.body.len()
            );
            return Err(StorageError::corrupt(path, self.offset, problem));
        }
        Ok(End {
            blocks: u64_at(self.body, 0),
            index_offset: u64_at(self.body, 8),
            checksum: u64_at(self.body, 16),
        })
    }
}
