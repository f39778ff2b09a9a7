//! Reading keys back from their bytes.

/// Bytes that are not a key of the expected type.
///
/// Keys are written and read by the same code, so this is the fault of whoever handed over the
/// bytes: a damaged file, or state that belongs to another key type. A retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyDecodeError {
    /// The bytes end inside the key.
    #[error("key ends early: {needed} more bytes of {shape} expected, {available} left")]
    Truncated {
        /// What was being read.
        shape: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// A string or byte string without its final `00 00`.
    #[error("key ends early: a {shape} without its terminator 00 00")]
    Unterminated {
        /// `str` or `bytes`.
        shape: &'static str,
    },
    /// A zero byte that is followed by neither `FF` nor `00`.
    #[error("damaged key: byte {found:#04x} after a 00 in a {shape}, expected FF or 00")]
    BadEscape {
        /// `str` or `bytes`.
        shape: &'static str,
        /// The byte after the zero.
        found: u8,
    },
    /// A tag that no value of this type has (`bool`, `Option`, an enum's variant).
    #[error("damaged key: tag {found} is not one of {type_name}'s (0 to {max})")]
    BadTag {
        /// The type whose tag it should be.
        type_name: &'static str,
        /// The tag found.
        found: u8,
        /// The greatest tag of the type.
        max: u8,
    },
    /// A number that is not a Unicode scalar value.
    #[error("damaged key: {found:#x} is not a character")]
    BadChar {
        /// The number found.
        found: u32,
    },
    /// A string that is not UTF-8.
    #[error("damaged key: a string is not UTF-8")]
    BadUtf8(#[source] std::str::Utf8Error),
    /// A number too large for this platform's `usize` or `isize`.
    #[error("key {found} does not fit this platform's {type_name}")]
    OutOfRange {
        /// `usize` or `isize`.
        type_name: &'static str,
        /// The number found.
        found: i128,
    },
    /// Bytes after the end of a key that should have filled its input.
    #[error("damaged key: {count} bytes follow its end")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

/// Takes `N` bytes from the front of `input`.
///
/// # Errors
///
/// [`KeyDecodeError::Truncated`] when there are fewer.
#[inline]
pub fn take<const N: usize>(input: &mut &[u8], shape: &'static str) -> Result<[u8; N], KeyDecodeError> {
    match input.split_first_chunk::<N>() {
        Some((head, rest)) => {
            *input = rest;
            Ok(*head)
        }
        None => Err(KeyDecodeError::Truncated {
            shape,
            needed: N,
            available: input.len(),
        }),
    }
}

/// Takes a tag byte that must be at most `max`.
///
/// # Errors
///
/// [`KeyDecodeError::Truncated`] without a byte, [`KeyDecodeError::BadTag`] when it is greater.
#[inline]
pub fn take_tag(input: &mut &[u8], type_name: &'static str, max: u8) -> Result<u8, KeyDecodeError> {
    let [found] = take::<1>(input, type_name)?;
    if found <= max {
        Ok(found)
    } else {
        Err(KeyDecodeError::BadTag {
            type_name,
            found,
            max,
        })
    }
}
