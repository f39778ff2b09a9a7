//! Bodies: MessagePack with named fields, all of it, and not too deep.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Cursor;

/// Structures within structures that a body may have; decoding uses the stack.
const MAX_DEPTH: usize = 64;

/// A body that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value cannot be encoded: its type serialises in a way that MessagePack does not have.
    #[error("cannot be encoded")]
    Encode(#[source] rmp_serde::encode::Error),
    /// The bytes are not of this type.
    #[error("cannot be decoded")]
    Decode(#[source] rmp_serde::decode::Error),
    /// The value ends before its bytes do.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

/// The bytes of a value.
///
/// # Errors
/// When its type cannot be encoded.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    rmp_serde::to_vec_named(value).map_err(CodecError::Encode)
}

/// The value whose bytes these are, from the first to the last.
///
/// # Errors
/// When they are of another type, damaged, nested too deep, or too many. *Cost*: memory follows the bytes that are there.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut decoder = rmp_serde::Deserializer::new(Cursor::new(bytes));
    decoder.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut decoder).map_err(CodecError::Decode)?;
    let read = usize::try_from(decoder.position()).unwrap_or(usize::MAX);
    match bytes.len().saturating_sub(read) {
        0 => Ok(value),
        trailing => Err(CodecError::Trailing(trailing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        name: String,
        slots: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        slots: u32,
        #[serde(default)]
        zone: Option<String>,
        name: String,
    }

    #[test]
    fn fields_are_found_by_name_in_both_directions() {
        let old = Old {
            name: "a".to_owned(),
            slots: 2,
        };
        let new: New = decode(&encode(&old).unwrap()).unwrap();
        assert_eq!(
            (new.slots, new.zone.as_deref(), new.name.as_str()),
            (2, None, "a")
        );
        let back: Old = decode(&encode(&new).unwrap()).unwrap();
        assert_eq!(back, old);
    }

    #[test]
    fn bytes_that_follow_or_lack_are_errors() {
        let mut bytes = encode(&7u32).unwrap();
        bytes.push(0xc0);
        assert!(matches!(decode::<u32>(&bytes), Err(CodecError::Trailing(1))));
        assert!(decode::<u32>(&[]).is_err());
    }

    #[test]
    fn depth_and_claimed_lengths_cost_nothing() {
        #[derive(Debug, Deserialize)]
        struct Nested(#[expect(dead_code, reason = "only built")] Vec<Nested>);
        assert!(decode::<Nested>(&[0x91; 100_000]).is_err());
        // An array that claims four thousand million elements.
        assert!(decode::<Vec<u64>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(decode::<String>(&[0xdb, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
