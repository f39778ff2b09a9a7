//! The window of a file that is in memory: one block, and the beginning of a record that it cut.

use hurtig_core::str::Block;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;

/// Bytes read at once by default.
pub(crate) const DEFAULT_BLOCK_BYTES: usize = 256 * 1024;

/// Bytes of a file that have been read and not consumed.
///
/// Strings cut from [`Buffer::block`] keep it alive; the next refill then takes fresh memory, and
/// otherwise reads into the same.
pub(crate) struct Buffer {
    /// Meaningful in `..filled` only.
    block: Block,
    start: usize,
    filled: usize,
    /// Position of `block[0]` in the (decompressed) file.
    base: u64,
    ended: bool,
    block_bytes: usize,
}

impl Buffer {
    /// An empty buffer that stands at `position` and reads `block_bytes` at once.
    pub(crate) fn new(position: u64, block_bytes: usize) -> Self {
        assert!(block_bytes > 0, "a block holds at least one byte");
        Self {
            block: Block::default(),
            start: 0,
            filled: 0,
            base: position,
            ended: false,
            block_bytes,
        }
    }

    /// What has been read and not consumed.
    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        &self.block[self.start..self.filled]
    }

    /// The memory behind [`Buffer::unread`].
    pub(crate) fn block(&self) -> &Block {
        &self.block
    }

    /// Where `unread()[..len]` lies in the block.
    #[inline]
    pub(crate) fn range(&self, len: usize) -> Range<usize> {
        debug_assert!(len <= self.unread().len());
        self.start..self.start + len
    }

    /// Moves on by `len` bytes.
    #[inline]
    pub(crate) fn consume(&mut self, len: usize) {
        assert!(
            len <= self.filled - self.start,
            "nobody consumes what was not read"
        );
        self.start += len;
    }

    /// Position of the first unread byte in the file.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Whether the end of the file has been read; unread bytes may be left.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Reads up to one block behind the unread bytes.
    ///
    /// *Cost*: moves the unread bytes to the front unless they are there; does not allocate while no
    /// string shares the block and the unread part does not grow.
    pub(crate) fn refill(&mut self, input: &mut dyn Read) -> io::Result<()> {
        let mut bytes = self.make_room();
        let end = self.filled + self.block_bytes;
        let result = loop {
            if self.filled == end {
                break Ok(());
            }
            match input.read(&mut bytes[self.filled..end]) {
                Ok(0) => {
                    self.ended = true;
                    break Ok(());
                }
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        self.block = Block::from(bytes);
        result
    }

    /// The buffer with the unread bytes in front and room for a block behind them.
    fn make_room(&mut self) -> Vec<u8> {
        let kept = self.start..self.filled;
        let wanted = kept.len() + self.block_bytes;
        self.base += self.start as u64;
        (self.start, self.filled) = (0, kept.len());
        match std::mem::take(&mut self.block).reclaim() {
            Ok(mut bytes) if bytes.len() <= 2 * wanted => {
                bytes.copy_within(kept, 0);
                bytes.resize(wanted.max(bytes.len()), 0);
                bytes
            }
            Ok(old) => copied(&old[kept], wanted),
            Err(shared) => copied(&shared[kept], wanted),
        }
    }
}

fn copied(kept: &[u8], wanted: usize) -> Vec<u8> {
    let mut bytes = vec![0; wanted];
    bytes[..kept.len()].copy_from_slice(kept);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::str::Str;

    #[test]
    fn what_is_not_consumed_survives_a_refill_and_strings_keep_their_block() {
        let text = b"a first line of more than 22 bytes|second";
        let mut input: &[u8] = text;
        let mut buffer = Buffer::new(100, 36);
        buffer.refill(&mut input).unwrap();
        let long = Str::from_block(buffer.block(), buffer.range(34)).unwrap();
        buffer.consume(35);
        buffer.refill(&mut input).unwrap();
        assert_eq!(buffer.unread(), b"second");
        assert_eq!(buffer.position(), 135);
        assert!(buffer.ended());
        assert_eq!(long, "a first line of more than 22 bytes");
    }

    #[test]
    fn memory_is_one_block_again_after_a_long_record() {
        let mut input = std::io::repeat(b'x');
        let mut buffer = Buffer::new(0, 16);
        for _ in 0..100 {
            buffer.refill(&mut input).unwrap();
        }
        assert_eq!(buffer.unread().len(), 1_600);
        buffer.consume(1_600);
        buffer.refill(&mut input).unwrap();
        assert!(buffer.block().allocated_bytes() <= 32);
    }
}
