//! `stable_hash_v1`: the hash of a key, the same in every process, version and platform.

use super::writer::KeyHasher;
use super::{StableKey, short, text};

/// The hash of an integer key: the SplitMix64 finaliser.
///
/// It is a bijection, so equal hashes mean equal integers. Narrower integers are sign- or
/// zero-extended to 64 bits first, so that `5_u8` and `5_u64` hash alike.
///
/// Source: Steele, Lea, Flood, *Fast splittable pseudorandom number generators* (2014), with the
/// constants of Stafford's variant 13.
#[inline]
#[must_use]
pub const fn hash_int(value: u64) -> u64 {
    let z = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The hash of a string or byte string key: XXH3-64, seed 0, of its escaped, terminated bytes.
///
/// *Cost*: no copy and no allocation up to 30 bytes without a zero byte.
#[inline]
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    match short::hash(bytes) {
        Some(hash) => hash,
        None => hash_long(bytes),
    }
}

#[inline(never)]
fn hash_long(bytes: &[u8]) -> u64 {
    let mut hasher = KeyHasher::new();
    text::write_escaped(bytes, &mut hasher);
    hasher.finish()
}

/// The hash of any other key: XXH3-64, seed 0, of its bytes.
#[inline]
#[must_use]
pub fn hash_encoding<K: StableKey + ?Sized>(key: &K) -> u64 {
    let mut hasher = KeyHasher::new();
    key.encode_to(&mut hasher);
    hasher.finish()
}
