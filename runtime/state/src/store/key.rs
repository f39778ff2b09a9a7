//! The keys of a store, byte by byte.
//!
//! ```text
//! key group (2 bytes, big-endian) · key · namespace · user key
//! ```
//!
//! | Part | Bytes |
//! |---|---|
//! | key group | the group of the key's hash, `00 00` … `7F FF` |
//! | key | `StableKey` bytes of the record's key |
//! | namespace | `StableKey` bytes of the window or whatever else divides the state; none without one |
//! | user key | `StableKey` bytes of the key within a map state; none in other states |
//!
//! `StableKey` bytes are those of [`hurtig_core::key`]. Each part says itself where it ends, so nothing
//! stands between the parts, and keys sort by group, then key, then namespace, then user key. All of a
//! group, and all of a key, lie together: a subtask's groups are one range, a key's map is one prefix.
//!
//! Example: key `"a"` (`str`) of group 258 in the window from 0 to 5 (`(i64, i64)`):
//!
//! ```text
//! 01 02 · 61 00 00 · 80 00 00 00 00 00 00 00 80 00 00 00 00 00 00 05
//! ```

use hurtig_core::error::{Error, Result};
use hurtig_core::key::{OwnedKey, StableKey};
use std::ops::Range;

/// Bytes of a key group at the front of every key.
pub const GROUP_BYTES: usize = 2;

/// Writes a store key for `key` into `out`, replacing what it held. `namespace` and `user_key` are encoded
/// already.
#[inline]
pub fn write_key<Q: StableKey + ?Sized>(
    out: &mut Vec<u8>,
    group: u16,
    key: &Q,
    namespace: &[u8],
    user_key: &[u8],
) {
    out.clear();
    append_key(out, group, key);
    out.extend_from_slice(namespace);
    out.extend_from_slice(user_key);
}

/// Appends the key group and the key to `out`: the prefix of everything that belongs to the key.
#[inline]
pub fn append_key<Q: StableKey + ?Sized>(out: &mut Vec<u8>, group: u16, key: &Q) {
    out.extend_from_slice(&group.to_be_bytes());
    key.encode(out);
}

/// The prefix of a key group.
pub fn group_prefix(group: u16) -> [u8; GROUP_BYTES] {
    group.to_be_bytes()
}

/// The range of keys of a range of key groups, for [`ByteStore::delete_range`](super::ByteStore::delete_range).
pub fn groups_range(groups: Range<u16>) -> Range<[u8; GROUP_BYTES]> {
    group_prefix(groups.start)..group_prefix(groups.end)
}

/// A store key taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The key group.
    pub group: u16,
    /// Bytes of the key.
    pub key: &'a [u8],
    /// What follows: namespace and user key.
    pub rest: &'a [u8],
}

/// Takes a store key apart whose key is a `K`, and reads that.
///
/// # Errors
/// When the bytes are not such a key.
pub fn split_key<K: OwnedKey>(bytes: &[u8]) -> Result<(K, Parts<'_>)> {
    let Some((group, behind)) = bytes.split_first_chunk::<GROUP_BYTES>() else {
        return Err(damaged::<K>(bytes));
    };
    let mut rest = behind;
    let key = K::decode(&mut rest).map_err(|e| damaged::<K>(bytes).because(e))?;
    let parts = Parts {
        group: u16::from_be_bytes(*group),
        key: &behind[..behind.len() - rest.len()],
        rest,
    };
    Ok((key, parts))
}

fn damaged<K>(bytes: &[u8]) -> Error {
    Error::user(format!(
        "cannot read a key of type {} from the store's key {bytes:02x?}: the state was written with another \
         key type; run with the one it was written with",
        std::any::type_name::<K>()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(group: u16, key: &str, namespace: Option<i64>) -> Vec<u8> {
        let (mut out, mut window) = (vec![9; 3], Vec::new());
        if let Some(namespace) = namespace {
            namespace.encode(&mut window);
        }
        write_key(&mut out, group, key, &window, &[]);
        out
    }

    /// The documented example, written by hand.
    #[test]
    fn the_bytes_are_the_documented_ones() {
        let (mut out, mut window) = (Vec::new(), Vec::new());
        (0_i64, 5_i64).encode(&mut window);
        write_key(&mut out, 258, "a", &window, &[0xab]);
        let expected = [
            0x01, 0x02, 0x61, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 5, 0xab,
        ];
        assert_eq!(out, expected);
        assert_eq!(groups_range(1..0x7fff), [0, 1]..[0x7f, 0xff]);
    }

    proptest! {
        #[test]
        fn bytes_sort_as_their_parts_and_come_apart_again(
            a in (0_u16..4, "[\0a-c]{0,3}", -2_i64..2),
            b in (0_u16..4, "[\0a-c]{0,3}", -2_i64..2),
        ) {
            let bytes = |(group, key, window): &(u16, String, i64)| written(*group, key, Some(*window));
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
            let bytes = bytes(&a);
            let (key, parts) = split_key::<String>(&bytes).unwrap();
            prop_assert_eq!((parts.group, &key), (a.0, &a.1));
            let mut window = Vec::new();
            a.2.encode(&mut window);
            prop_assert_eq!(parts.rest, &window[..]);
            prop_assert_eq!([&bytes[..2], parts.key, parts.rest].concat(), bytes.clone());
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bytes in [&[][..], &[1], &[1, 2, b'a'], &[1, 2, b'a', 0]] {
            let text = split_key::<String>(bytes).unwrap_err().chain();
            assert!(
                text.contains("String") && text.contains("another key type"),
                "{text}"
            );
        }
    }
}
