//! Strings and byte strings as keys: escaped, terminated, so that bytes sort as the strings do.

use super::{KeyDecodeError, KeyWriter, OwnedKey, StableKey, hash_bytes};

/// Ends a string; sorts before every continuation, escaped zero bytes included.
const TERMINATOR: [u8; 2] = [0x00, 0x00];
/// Follows a zero byte that belongs to the string.
const ESCAPE: u8 = 0xff;

/// Writes `bytes` with every `00` as `00 FF`, then `00 00`.
#[inline]
pub(crate) fn write_escaped<W: KeyWriter>(bytes: &[u8], out: &mut W) {
    let mut rest = bytes;
    while let Some(zero) = memchr::memchr(0, rest) {
        out.put(&rest[..=zero]);
        out.put(&[ESCAPE]);
        rest = &rest[zero + 1..];
    }
    out.put(rest);
    out.put(&TERMINATOR);
}

/// Reads what [`write_escaped`] wrote, handing each stretch without escapes to `push`.
pub(crate) fn read_escaped(
    input: &mut &[u8],
    shape: &'static str,
    mut push: impl FnMut(&[u8]),
) -> Result<(), KeyDecodeError> {
    loop {
        let unterminated = KeyDecodeError::Unterminated { shape };
        let zero = memchr::memchr(0, input).ok_or(unterminated.clone())?;
        let after = *input.get(zero + 1).ok_or(unterminated)?;
        match after {
            0x00 => push(&input[..zero]),
            ESCAPE => push(&input[..=zero]),
            found => return Err(KeyDecodeError::BadEscape { shape, found }),
        }
        *input = &input[zero + 2..];
        if after == 0x00 {
            return Ok(());
        }
    }
}

/// Reads a byte string into a vector.
pub(crate) fn read_bytes(input: &mut &[u8], shape: &'static str) -> Result<Vec<u8>, KeyDecodeError> {
    let mut bytes = Vec::new();
    read_escaped(input, shape, |part| bytes.extend_from_slice(part))?;
    Ok(bytes)
}

macro_rules! text_key {
    ($type:ty, $shape:literal, $bytes:ident) => {
        impl StableKey for $type {
            #[inline]
            fn encode_to<W: KeyWriter>(&self, out: &mut W) {
                write_escaped(self.$bytes(), out);
            }

            fn shape(out: &mut String) {
                out.push_str($shape);
            }

            #[inline]
            fn stable_hash(&self) -> u64 {
                hash_bytes(self.$bytes())
            }
        }
    };
}

text_key!(str, "str", as_bytes);
text_key!(String, "str", as_bytes);
text_key!([u8], "bytes", as_ref);
text_key!(Vec<u8>, "bytes", as_slice);

impl OwnedKey for String {
    fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
        let bytes = read_bytes(input, "str")?;
        Self::from_utf8(bytes).map_err(|error| KeyDecodeError::BadUtf8(error.utf8_error()))
    }
}

impl OwnedKey for Vec<u8> {
    fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError> {
        read_bytes(input, "bytes")
    }
}
