//! The bytes of a value in a store.

use crate::entries::{key_bytes, read_part};
use crate::function::StateValue;
use crate::snapshot::{EntryRef, decode, write_named};
use crate::ttl::NEVER;
use crate::ttl::stamps::{Stamps, convert, has_expired, live};
use hurtig_core::error::{Error, Result};
use hurtig_core::key::OwnedKey;
use hurtig_core::varint;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// How values become bytes of a store, and come back. No value has zero bytes.
pub struct Codec<V> {
    encode: fn(&V, &mut Vec<u8>) -> Result<()>,
    decode: fn(&[u8]) -> Result<V>,
    layout: Layout,
}

/// What a value's bytes are made of, for those who do not know its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// The value as a snapshot has it: one entry.
    Value,
    /// A map: the number of its entries, then the bytes of each user key and value behind their lengths, in the
    /// order of user keys. A snapshot has an entry for each user key.
    Map,
}

impl<V> Clone for Codec<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Codec<V> {}

impl<V> fmt::Debug for Codec<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codec({:?})", self.layout)
    }
}

impl<V: StateValue> Codec<V> {
    /// MessagePack with named fields.
    pub fn value() -> Self {
        Self {
            encode: write_named,
            decode,
            layout: Layout::Value,
        }
    }
}

impl<UK: OwnedKey + Ord, UV: StateValue> Codec<BTreeMap<UK, UV>> {
    /// All of a map as one value.
    pub fn map() -> Self {
        Self {
            encode: |map, out| encode_map(map, out, write_named),
            decode: |bytes| decode_map(bytes, decode),
            layout: Layout::Map,
        }
    }
}

impl<V> Codec<V> {
    /// The codec of a map, made of what [`encode_map`] and [`decode_map`] do.
    pub(crate) fn of_map(encode: fn(&V, &mut Vec<u8>) -> Result<()>, decode: fn(&[u8]) -> Result<V>) -> Self {
        Self {
            encode,
            decode,
            layout: Layout::Map,
        }
    }
}

impl<V> Codec<V> {
    /// Values with bytes of their own, one entry each.
    pub(crate) fn new(encode: fn(&V, &mut Vec<u8>) -> Result<()>, decode: fn(&[u8]) -> Result<V>) -> Self {
        Self {
            encode,
            decode,
            layout: Layout::Value,
        }
    }

    /// Appends a value's bytes.
    ///
    /// # Errors
    /// When it cannot be encoded; what was appended is to be cut off then.
    pub(crate) fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        (self.encode)(value, out)
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<V> {
        (self.decode)(bytes)
    }

    /// What the bytes are made of.
    pub fn layout(&self) -> Layout {
        self.layout
    }
}

/// Appends the bytes of a map, with its values as `write` appends them.
pub(crate) fn encode_map<UK: OwnedKey, UV>(
    map: &BTreeMap<UK, UV>,
    out: &mut Vec<u8>,
    write: impl Fn(&UV, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    varint::put(out, map.len() as u64);
    let mut bytes = Vec::new();
    for (user_key, value) in map {
        put_bytes(out, &key_bytes(user_key));
        bytes.clear();
        write(value, &mut bytes)?;
        put_bytes(out, &bytes);
    }
    Ok(())
}

/// Reads a map, with its values as `decode` reads them.
pub(crate) fn decode_map<UK: OwnedKey + Ord, UV>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<UV>,
) -> Result<BTreeMap<UK, UV>> {
    map_parts(bytes)?
        .map(|parts| {
            let (user_key, value) = parts?;
            Ok((read_part("user key", user_key)?, decode(value)?))
        })
        .collect()
}

fn put_parts(out: &mut Vec<u8>, parts: [&[u8]; 3]) {
    parts.into_iter().for_each(|part| put_bytes(out, part));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// User keys and values of a map's bytes.
fn map_parts(mut bytes: &[u8]) -> Result<impl Iterator<Item = Result<(&[u8], &[u8])>>> {
    let count = varint::take(&mut bytes).ok_or_else(no_map)?;
    Ok((0..count).map(move |_| {
        let user_key = take_bytes(&mut bytes).ok_or_else(no_map)?;
        let value = take_bytes(&mut bytes).ok_or_else(no_map)?;
        Ok((user_key, value))
    }))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint::take(rest)?).ok()?;
    let (part, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(part)
}

fn no_map() -> Error {
    Error::user(
        "the bytes of a map in the store are not those of a map: the state was written as another kind",
    )
}

impl Layout {
    /// Appends the entries that a snapshot has for an entry of the store, and returns how many they are. What was
    /// last accessed until `left_out` is not among them.
    pub(crate) fn put_live_entries(
        self,
        out: &mut Vec<u8>,
        stored: EntryRef<'_>,
        left_out: i64,
    ) -> Result<u64> {
        if left_out == NEVER {
            return self.put_entries(out, stored);
        }
        let EntryRef { key, value, .. } = stored;
        let mut entries = 0;
        let mut put = |namespace, value| {
            if let Some(value) = live(value, left_out)? {
                put_parts(out, [key, namespace, &value]);
                entries += 1;
            }
            Ok::<_, Error>(())
        };
        match self {
            Self::Value => put(stored.namespace, value)?,
            Self::Map => {
                for parts in map_parts(value)? {
                    let (user_key, value) = parts?;
                    put(user_key, value)?;
                }
            }
        }
        Ok(entries)
    }

    /// Appends the entries that a snapshot has for an entry of the store, and returns how many they are.
    pub(crate) fn put_entries(self, out: &mut Vec<u8>, stored: EntryRef<'_>) -> Result<u64> {
        let EntryRef {
            key,
            namespace,
            value,
            ..
        } = stored;
        if self == Self::Value {
            put_parts(out, [key, namespace, value]);
            return Ok(1);
        }
        let mut entries = 0;
        for parts in map_parts(value)? {
            let (user_key, value) = parts?;
            put_parts(out, [key, user_key, value]);
            entries += 1;
        }
        Ok(entries)
    }

    /// Whether all of a value was last accessed until `until`. One without times was not.
    ///
    /// # Errors
    /// When it is no value of this layout.
    pub(crate) fn has_expired(self, value: &[u8], until: i64) -> Result<bool> {
        match self {
            Self::Value => has_expired(value, until),
            Self::Map => {
                for parts in map_parts(value)? {
                    if !has_expired(parts?.1, until)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Whether a value of the store has times and should not, or should and has none.
    pub(super) fn converts(self, value: &[u8], to: Stamps) -> Result<bool> {
        let first = match self {
            Self::Value => Some(value),
            Self::Map => map_parts(value)?.next().transpose()?.map(|(_, value)| value),
        };
        let converted = first.map(|value| Ok::<_, Error>(convert(value, to, 0)?.len() != value.len()));
        converted.transpose().map(|differs| differs == Some(true))
    }

    /// Appends a value of the store with times or without; those of a value that had none are `now`.
    pub(super) fn convert(self, out: &mut Vec<u8>, value: &[u8], (to, now): (Stamps, i64)) -> Result<()> {
        match self {
            Self::Value => out.extend_from_slice(&convert(value, to, now)?),
            Self::Map => {
                let mut parts = value;
                varint::put(out, varint::take(&mut parts).ok_or_else(no_map)?);
                for parts in map_parts(value)? {
                    let (user_key, value) = parts?;
                    put_bytes(out, user_key);
                    put_bytes(out, &convert(value, to, now)?);
                }
            }
        }
        Ok(())
    }

    /// Whether two entries of a snapshot, one behind the other, are of one value.
    pub(super) fn is_one_value(self, a: EntryRef<'_>, b: EntryRef<'_>) -> bool {
        self == Self::Map && (a.group, a.key) == (b.group, b.key)
    }

    /// The bytes of a value from its entries, given in the order of their namespaces: user keys of a map.
    pub(super) fn join<'a>(
        self,
        out: &mut Vec<u8>,
        entries: impl ExactSizeIterator<Item = Result<(&'a [u8], Cow<'a, [u8]>)>>,
    ) -> Result<()> {
        if self == Self::Map {
            varint::put(out, entries.len() as u64);
        }
        for entry in entries {
            let (user_key, value) = entry?;
            match self {
                Self::Value => out.extend_from_slice(&value),
                Self::Map => {
                    put_bytes(out, user_key);
                    put_bytes(out, &value);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoded::EncodedEntries;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_map_comes_back_from_its_bytes_and_from_its_entries(
            map in proptest::collection::btree_map("[\0a-c]{0,3}", proptest::collection::vec(any::<u8>(), 0..200), 0..6),
        ) {
            let codec = Codec::<BTreeMap<String, Vec<u8>>>::map();
            let mut bytes = Vec::new();
            codec.encode(&map, &mut bytes).unwrap();
            prop_assert_eq!(&codec.decode(&bytes).unwrap(), &map);
            prop_assert!(!bytes.is_empty());
            let stored = EntryRef { group: 3, key: b"k", namespace: b"", value: &bytes };
            let mut parts = Vec::new();
            let count = Layout::Map.put_entries(&mut parts, stored).unwrap();
            let mut encoded = EncodedEntries::default();
            encoded.push(3, count, &parts);
            let entries = if map.is_empty() { Vec::new() } else { encoded.to_entries().unwrap() };
            prop_assert_eq!(entries.len(), map.len());
            prop_assert!(entries.windows(2).all(|pair| Layout::Map.is_one_value(pair[0].view(), pair[1].view())));
            let mut joined = Vec::new();
            let parts = entries.iter().map(|e| Ok((&e.namespace[..], Cow::Borrowed(&e.value[..]))));
            Layout::Map.join(&mut joined, parts).unwrap();
            prop_assert_eq!(joined, bytes);
        }

        /// Wherever they end, bytes are a map or an error, never a panic.
        #[test]
        fn what_is_no_map_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Codec::<BTreeMap<u64, u64>>::map().decode(&bytes);
        }
    }

    #[test]
    fn a_map_that_was_cut_off_is_refused() {
        let mut bytes = Vec::new();
        let map = BTreeMap::from([(1_u64, 2_u64), (3, 4)]);
        Codec::map().encode(&map, &mut bytes).unwrap();
        for end in 0..bytes.len() {
            let refused = Codec::<BTreeMap<u64, u64>>::map().decode(&bytes[..end]);
            assert!(refused.is_err(), "{end}");
        }
    }
}
