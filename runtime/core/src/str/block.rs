//! A counted block of bytes, filled by a reader and shared by the strings within it.

use std::fmt;
use std::ops::{Deref, Range};
use std::str::Utf8Error;
use std::sync::Arc;

use super::Str;

/// Immutable bytes that any number of [`Str`](super::Str)s may share; freed with the last of them.
///
/// A source reads into a `Vec<u8>`, turns it into a block without a copy, and cuts strings out of it.
/// When no string remains, [`Self::reclaim`] gives the buffer back for the next read.
#[derive(Clone, Default)]
pub struct Block(Arc<Vec<u8>>);

impl Block {
    /// Bytes that the block keeps allocated, which may be more than it holds.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.0.capacity()
    }

    /// The buffer, when nothing else shares the block.
    ///
    /// # Errors
    ///
    /// The block itself, while a string or another handle still holds it.
    pub fn reclaim(self) -> Result<Vec<u8>, Self> {
        Arc::try_unwrap(self.0).map_err(Self)
    }
}

/// A stretch of a [`Block`] that was found to be UTF-8 as a whole.
///
/// Checking a block once (1 KiB in 20 ns) and cutting many strings out of it is cheaper than checking
/// each string ([`Str::from_block`], 4.6 ns for a word).
#[derive(Debug, Clone, Copy)]
pub struct BlockText<'a> {
    block: &'a Block,
    offset: usize,
    text: &'a str,
}

impl<'a> BlockText<'a> {
    /// The text in `block[range]`.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] when those bytes are not UTF-8.
    ///
    /// # Panics
    ///
    /// When `range` is not within the block.
    pub fn new(block: &'a Block, range: Range<usize>) -> Result<Self, Utf8Error> {
        let offset = range.start;
        let text = std::str::from_utf8(&block[range])?;
        Ok(Self { block, offset, text })
    }

    /// All of it.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The string in `range` of this text: a copy when it fits inline, a share of the block otherwise.
    ///
    /// # Panics
    ///
    /// When `range` is not within the text or cuts a character.
    #[inline]
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Str {
        let offset = self.offset + range.start;
        Str::share(self.block, offset, &self.text[range])
    }
}

impl From<Vec<u8>> for Block {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

impl Deref for Block {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.0.len())
    }
}
