//! Reading files: every byte is checked before anything is made of it.

use super::block::{self, Block, BlockKind, END_BYTES, End};
use super::checksum;
use super::header::{self, FileKind, HEADER_BYTES, WriterVersion};
use crate::error::{Result, StorageError};
use crate::store::BlobStore;

/// What a file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// What it is.
    pub kind: FileKind,
    /// Who wrote it.
    pub writer: WriterVersion,
    /// Its length.
    pub bytes: u64,
    /// Its checksum, as a [`StateHandle`](crate::StateHandle) names it.
    pub checksum: u64,
    /// How many blocks it has besides the last.
    pub blocks: u64,
}

/// Reads a whole file and checks every byte of it.
///
/// # Errors
/// [`StorageError::Corrupt`] with the offset of the first damaged part, or what the store fails with.
pub fn verify_file(store: &dyn BlobStore, path: &str) -> Result<FileInfo> {
    verify(path, &store.get(path)?)
}

/// Checks every byte of a file.
pub(crate) fn verify(path: &str, bytes: &[u8]) -> Result<FileInfo> {
    let (kind, writer) = header::read(path, bytes)?;
    let mut blocks = Blocks::new(path, HEADER_BYTES as u64, &bytes[HEADER_BYTES..]);
    let mut index_offset = None;
    let mut count = 0;
    let last = loop {
        let block = blocks.next_block()?;
        match block.kind {
            BlockKind::End => break block,
            BlockKind::Index => {
                index_offset.get_or_insert(block.offset);
            }
            BlockKind::Data if index_offset.is_some() => {
                return Err(StorageError::corrupt(
                    path,
                    block.offset,
                    "a data block behind the index",
                ));
            }
            BlockKind::Data => {}
        }
        count += 1;
    };
    let end = last.end(path)?;
    let found = End {
        blocks: count,
        index_offset: index_offset.unwrap_or(last.offset),
        checksum: checksum(0, &bytes[..bytes.len() - blocks.rest.len() - END_BYTES]),
    };
    if end != found {
        let problem = format!("the end expects {end:?}, and the file has {found:?}");
        return Err(StorageError::corrupt(path, last.offset, problem));
    }
    if !blocks.rest.is_empty() {
        let problem = format!("{} bytes behind the end", blocks.rest.len());
        return Err(StorageError::corrupt(path, blocks.offset, problem));
    }
    Ok(FileInfo {
        kind,
        writer,
        bytes: bytes.len() as u64,
        checksum: end.checksum,
        blocks: count,
    })
}

/// The data of a whole file of one kind, after a check of every byte.
pub(crate) fn data_of(path: &str, bytes: &[u8], kind: FileKind) -> Result<Vec<u8>> {
    expect_kind(path, verify(path, bytes)?.kind, kind)?;
    let mut blocks = Blocks::new(path, HEADER_BYTES as u64, &bytes[HEADER_BYTES..]);
    let (mut data, mut raw) = (Vec::new(), Vec::new());
    loop {
        let block = blocks.next_block()?;
        if block.kind != BlockKind::Data {
            return Ok(data);
        }
        block.decode(path, &mut raw)?;
        data.extend_from_slice(&raw);
    }
}

/// Refuses a file of another kind.
pub(crate) fn expect_kind(path: &str, found: FileKind, expected: FileKind) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let problem = format!("it is a {found}, expected a {expected}; check the path");
    Err(StorageError::incompatible(path, problem))
}

/// Reads the header and the last block of a file of which only these are at hand.
pub(crate) fn ends(path: &str, head: &[u8], tail: &[u8], tail_offset: u64) -> Result<(FileKind, End)> {
    let (kind, _) = header::read(path, head)?;
    let mut rest = tail;
    let last = block::read(path, tail_offset, &mut rest)?;
    let end = last.end(path)?;
    if end.index_offset < HEADER_BYTES as u64 || end.index_offset > tail_offset {
        let problem = format!("the index begins at {}, outside of the file", end.index_offset);
        return Err(StorageError::corrupt(path, tail_offset, problem));
    }
    Ok((kind, end))
}

/// Blocks one after the other.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    path: &'a str,
    offset: u64,
    rest: &'a [u8],
}

impl<'a> Blocks<'a> {
    /// The blocks in `bytes`, which lie at `offset` of the file.
    pub(crate) fn new(path: &'a str, offset: u64, bytes: &'a [u8]) -> Self {
        Self {
            path,
            offset,
            rest: bytes,
        }
    }

    /// Whether there are no more bytes.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next block, checked. That there is none is an error too: the last one is missing.
    pub(crate) fn next_block(&mut self) -> Result<Block<'a>> {
        let block = block::read(self.path, self.offset, &mut self.rest)?;
        self.offset += block.file_bytes();
        Ok(block)
    }
}
