//! Keys of keyed streams: what may be one, its bytes, its hash and its key group.
//!
//! Everything in this module outlives the process that computed it: the bytes are written into
//! state stores and snapshots, the hash decides which subtask owns a key. So nothing here depends
//! on the compiler, the platform, [`std::hash`] or a random seed, and golden-value tests hold every
//! function to the values it first returned.
//!
//! # The bytes of a key
//!
//! Every encoding is *self-delimiting* (a key can be followed by anything and still be read back)
//! and *order-preserving* (comparing bytes gives the same answer as comparing keys), so a store that
//! sorts bytes sorts keys.
//!
//! | Key | Bytes |
//! |---|---|
//! | unsigned integer | big-endian, its own width (`usize`: 8 bytes) |
//! | signed integer | big-endian, its own width, sign bit flipped (`isize`: 8 bytes) |
//! | `bool` | `00` or `01` |
//! | `char` | its scalar value, 4 bytes big-endian |
//! | string, byte string | the bytes, each `00` written `00 FF`, then `00 00` |
//! | `Uuid` | its 16 bytes |
//! | `Option` | `00` for `None`; `01` and the value for `Some` |
//! | tuple, array, struct | its parts in order, nothing between them |
//! | enum | the variant's position (1 byte), then its fields; sorted by position |
//! | `()` | no bytes |
//!
//! # What is not a key
//!
//! Floating-point numbers are not (`NaN != NaN`, `-0.0 == 0.0` with different bits), nor are maps and
//! sets (their iteration order is not part of their value):
//!
//! ```compile_fail
//! fn key<K: hurtig_core::key::StableKey>(_: K) {}
//! key(1.5_f64);
//! ```
//!
//! ```compile_fail
//! fn key<K: hurtig_core::key::StableKey>(_: K) {}
//! key(1.5_f32);
//! ```
//!
//! ```compile_fail
//! fn key<K: hurtig_core::key::StableKey>(_: K) {}
//! key(std::collections::HashMap::<u64, u64>::new());
//! ```
//!
//! ```
//! fn key<K: hurtig_core::key::StableKey>(_: K) {}
//! key(("user", 7_u32, Some('x')));
//! ```

mod compound;
mod decode;
mod group;
mod hash;
mod scalar;
mod short;
mod text;
mod writer;

pub use decode::{KeyDecodeError, take, take_tag};
pub use group::{
    KeyGroup, KeyGroupRange, MAX_KEY_GROUPS, default_max_parallelism, first_selector, group_selector,
    key_group, subtask_of_group,
};
pub use hash::{hash_bytes, hash_encoding, hash_int};
pub use writer::KeyWriter;

#[cfg(test)]
mod tests;

/// The version of [`StableKey::stable_hash`] and of the way from it to a key group. Every snapshot
/// stores it: keyed state of another version would be looked for in the wrong groups.
pub const KEY_HASH_VERSION: u32 = 1;

/// A key with an encoding and a hash that no compiler version can change.
///
/// Implemented for integers, `bool`, `char`, strings, byte strings, `Uuid`, `()`, references to
/// keys, and tuples, arrays and `Option`s of keys. Structs and enums derive it:
///
/// ```ignore
/// #[derive(Clone, PartialEq, Eq, StableKey)]
/// struct Route { from: Airport, to: Airport, carrier: Str }
/// ```
///
/// Two types with the same shape ([`Self::shape`]) have the same bytes and hashes: a stream may be
/// keyed by `&str`, [`Str`](crate::str::Str) or `String` and reach the same state.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key: its bytes and hash would not be stable",
    label = "not a stable key",
    note = "derive `StableKey` on your own structs and enums, or use an integer or a string",
    note = "floating-point numbers, maps and sets are never keys; key by an integer or a string made from them"
)]
pub trait StableKey: Eq {
    /// Whether the hash is a few steps of arithmetic, so that processors can compute several at once.
    const ARITHMETIC: bool = false;

    /// Writes the key's bytes (see the [module](self) for each type's).
    fn encode_to<W: KeyWriter>(&self, out: &mut W);

    /// Appends the canonical text of the key's type, e.g. `u64`, `(str,i32)` or
    /// `struct User{id:u64,name:str}`. Equal texts mean equal encodings.
    fn shape(out: &mut String);

    /// The hash that chooses the key group, version 1.
    ///
    /// Integers up to 64 bits, `bool` and `char`: the SplitMix64 finaliser of the sign- or
    /// zero-extended value, a bijection. Everything else: XXH3-64, seed 0, of the key's bytes.
    ///
    /// *Cost*: does not allocate.
    #[inline]
    fn stable_hash(&self) -> u64 {
        hash_encoding(self)
    }

    /// Appends the key's bytes to `out`.
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.encode_to(out);
    }
}

/// A key that state can own: it can be read back from its bytes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key that state owns",
    label = "not an owned key",
    note = "derive `StableKey` (and `Clone`) on your own structs and enums, or use an integer or a string",
    note = "a borrowed key such as `&str` is owned as `String` or `Str`"
)]
pub trait OwnedKey: StableKey + Clone + Send + 'static {
    /// Reads one key from the front of `input` and moves `input` behind it.
    ///
    /// # Errors
    ///
    /// [`KeyDecodeError`] when the bytes are not an encoding of `Self`; `input` is then anywhere
    /// within the key.
    fn decode(input: &mut &[u8]) -> Result<Self, KeyDecodeError>;

    /// Copies what the key borrows from a shared block (see [`Str`](crate::str::Str)), so that a key
    /// kept in state does not keep its source's block alive. Plain keys return themselves.
    #[must_use]
    fn detach(self) -> Self {
        self
    }
}

/// Reads a key that must fill `input` exactly.
///
/// # Errors
///
/// [`KeyDecodeError`] when the bytes are not an encoding of `K`, or when bytes remain after it.
pub fn decode_exact<K: OwnedKey>(mut input: &[u8]) -> Result<K, KeyDecodeError> {
    let key = K::decode(&mut input)?;
    if input.is_empty() {
        Ok(key)
    } else {
        Err(KeyDecodeError::TrailingBytes { count: input.len() })
    }
}

/// The canonical text of a key's type; see [`StableKey::shape`].
#[must_use]
pub fn shape_of<K: StableKey + ?Sized>() -> String {
    let mut shape = String::new();
    K::shape(&mut shape);
    shape
}

/// XXH3-64 of the key's [shape](StableKey::shape). It is written beside keyed state; a restore whose
/// key has another fingerprint is refused.
#[must_use]
pub fn shape_fingerprint<K: StableKey + ?Sized>() -> u64 {
    xxhash_rust::xxh3::xxh3_64(shape_of::<K>().as_bytes())
}

impl<K: StableKey + ?Sized> StableKey for &K {
    const ARITHMETIC: bool = K::ARITHMETIC;

    #[inline]
    fn encode_to<W: KeyWriter>(&self, out: &mut W) {
        (**self).encode_to(out);
    }

    fn shape(out: &mut String) {
        K::shape(out);
    }

    #[inline]
    fn stable_hash(&self) -> u64 {
        (**self).stable_hash()
    }
}
