//! [`Str`]: the string of records. Short ones are held inline, long ones share their source's block.
//!
//! A record with a `String` field costs an allocation for each record; one with a `Str` field costs
//! none, which is most of the difference between reading 5 and 50 million records a second.
//!
//! This module holds UTF-8 validity as an invariant of [`Str`]: every constructor checks, nothing
//! mutates. It is the one module of the crate with unsafe code, a single call of
//! `from_utf8_unchecked`: checking again at each access takes 4.6 ns for a word of 12 bytes and 20 ns
//! for 1 KiB, the access itself 0.6 ns.

mod block;
mod impls;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::str::Utf8Error;

pub use block::{Block, BlockText};

/// The longest string that is held inline, in bytes.
pub const INLINE_BYTES: usize = 22;

/// [`Str::detach`] leaves a string in a block of up to this many times its length.
const MAX_BLOCK_SHARE: usize = 2;

/// An immutable string: inline up to 22 bytes, otherwise a counted slice of a [`Block`].
///
/// It is 24 bytes large, clones without allocating, and compares, orders, hashes and serializes as
/// `str` does. As a key it equals `String` and `&str` ([`StableKey`](crate::key::StableKey)).
///
/// A long `Str` keeps its whole block alive. State must not do that to a source's buffer, so a string
/// that enters state goes through [`Self::detach`].
#[derive(Clone)]
pub struct Str(Repr);

#[derive(Clone)]
enum Repr {
    /// `bytes[..len]` is UTF-8; the bytes behind are zero, so equal strings are equal arrays.
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    /// `block[offset..offset + len]` is UTF-8.
    Shared { offset: u32, len: u32, block: Block },
}

const _: () = assert!(size_of::<Str>() == 24, "a Str is three words");
const _: () = assert!(size_of::<Option<Str>>() == 24, "and so is an optional one");

impl Str {
    /// The empty string.
    pub const EMPTY: Self = Self(Repr::Inline {
        len: 0,
        bytes: [0; INLINE_BYTES],
    });

    /// The string in `block[range]`: a copy when it fits inline, a share of the block otherwise.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] when those bytes are not UTF-8.
    ///
    /// # Panics
    ///
    /// When `range` is not within the block, or the string is 4 GiB or longer.
    ///
    /// *Cost*: does not allocate (unless the string begins beyond 4 GiB of its block).
    #[inline]
    pub fn from_block(block: &Block, range: Range<usize>) -> Result<Self, Utf8Error> {
        let offset = range.start;
        let text = std::str::from_utf8(&block[range])?;
        Ok(Self::share(block, offset, text))
    }

    /// `text`, which lies at `offset` of `block`.
    #[inline]
    fn share(block: &Block, offset: usize, text: &str) -> Self {
        debug_assert_eq!(&block[offset..offset + text.len()], text.as_bytes());
        if let Some(inline) = Self::inline(text) {
            return inline;
        }
        match u32::try_from(offset) {
            Ok(offset) => Self(Repr::Shared {
                offset,
                len: shared_len(text),
                block: block.clone(),
            }),
            Err(_) => Self::from(text),
        }
    }

    /// The string's text.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.as_bytes();
        debug_assert!(std::str::from_utf8(bytes).is_ok());
        #[allow(unsafe_code, reason = "checked once, when the string was made")]
        // SAFETY: every constructor (`inline`, `share`, `whole`) takes these very bytes from a
        // `str`; `share` is private to this module and only given text of its block. A `Str` has no method that changes them, `bytes`
        // is private, and a `Block` gives out its buffer only when nothing else shares it, so they
        // are still the same bytes.
        unsafe {
            std::str::from_utf8_unchecked(bytes)
        }
    }

    /// The string's bytes, which are UTF-8.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Shared { offset, len, block } => {
                let start = *offset as usize;
                &block[start..start + *len as usize]
            }
        }
    }

    /// Its length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Inline { len, .. } => usize::from(*len),
            Repr::Shared { len, .. } => *len as usize,
        }
    }

    /// Whether it has no characters.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is held without a block.
    #[inline]
    #[must_use]
    pub fn is_inline(&self) -> bool {
        matches!(self.0, Repr::Inline { .. })
    }

    /// Bytes on the heap that this string alone would keep alive: its whole block, or none.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match &self.0 {
            Repr::Inline { .. } => 0,
            Repr::Shared { block, .. } => block.allocated_bytes(),
        }
    }

    /// The same string without a claim on a large block: copied into a block of its own when it
    /// keeps more than twice its length alive.
    #[must_use]
    pub fn detach(self) -> Self {
        if self.held_bytes() > self.len().saturating_mul(MAX_BLOCK_SHARE) {
            Self::from(self.as_str())
        } else {
            self
        }
    }

    #[inline]
    fn inline(text: &str) -> Option<Self> {
        let mut bytes = [0; INLINE_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self(Repr::Inline {
            len: text.len() as u8,
            bytes,
        }))
    }

    /// A string that has its block to itself.
    fn whole(text: String) -> Self {
        let len = shared_len(&text);
        Self(Repr::Shared {
            offset: 0,
            len,
            block: Block::from(text.into_bytes()),
        })
    }
}

/// A shared string's length; sources bound their records far below 4 GiB.
#[inline]
fn shared_len(text: &str) -> u32 {
    assert!(u32::try_from(text.len()).is_ok(), "a Str is shorter than 4 GiB");
    text.len() as u32
}

impl From<&str> for Str {
    #[inline]
    fn from(text: &str) -> Self {
        Self::inline(text).unwrap_or_else(|| Self::whole(text.to_owned()))
    }
}

impl From<String> for Str {
    #[inline]
    fn from(text: String) -> Self {
        Self::inline(&text).unwrap_or_else(|| Self::whole(text))
    }
}

impl PartialEq for Str {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Inline { len: a, bytes: x }, Repr::Inline { len: b, bytes: y }) => a == b && x == y,
            _ => self.as_bytes() == other.as_bytes(),
        }
    }
}

impl Eq for Str {}
