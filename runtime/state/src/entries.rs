//! How tables become snapshot entries and how entries find their way back into tables.

use crate::encoded::put_entry;
use crate::snapshot::{EntryRef, decode};
use crate::table::GroupedTable;
use hurtig_core::error::{Error, Result};
use hurtig_core::key::{OwnedKey, StableKey, decode_exact, shape_of};
use serde::{Serialize, de::DeserializeOwned};

/// Begins to encode an entry for each value that `table` has now.
pub(crate) fn begin_values<K, V>(table: &mut GroupedTable<K, V>, namespace: Vec<u8>)
where
    K: OwnedKey,
    V: Clone + Serialize,
{
    table.begin_scan_copying(Box::new(move |key, value, out| {
        put_entry(out, key, &namespace, value)?;
        Ok(1)
    }));
}

/// Puts an entry's value back; entries of other key groups are passed over.
pub(crate) fn read_value<K, V>(table: &mut GroupedTable<K, V>, entry: EntryRef<'_>) -> Result<()>
where
    K: OwnedKey,
    V: DeserializeOwned,
{
    read_with(table, entry, decode)
}

/// As [`read_value`], for values with bytes of their own.
pub(crate) fn read_with<K: OwnedKey, V>(
    table: &mut GroupedTable<K, V>,
    entry: EntryRef<'_>,
    decode: impl FnOnce(&[u8]) -> Result<V>,
) -> Result<()> {
    let Some((hash, key)) = read_key(table, entry)? else {
        return Ok(());
    };
    let value = decode(entry.value).map_err(|e| of_key::<K>(e, entry.key))?;
    match table.insert(hash, key, value) {
        None => Ok(()),
        Some(_) => Err(twice(entry)),
    }
}

/// An entry's key and hash, or `None` when its key group is not the table's.
pub(crate) fn read_key<K: OwnedKey, V>(
    table: &GroupedTable<K, V>,
    entry: EntryRef<'_>,
) -> Result<Option<(u64, K)>> {
    let key: K = decode_exact(entry.key).map_err(|e| damaged::<K>("key", entry.key).because(e))?;
    let hash = key.stable_hash();
    let group = table.group_of(hash);
    if group != entry.group {
        return Err(Error::user(format!(
            "a key of group {group} was stored as group {}: the snapshot belongs to another max \
             parallelism than {} or to another key type than {}; run with the ones it was taken with",
            entry.group,
            table.max_parallelism(),
            std::any::type_name::<K>()
        )));
    }
    Ok(table.groups().contains(&group).then_some((hash, key)))
}

/// An error that befell the value of a key.
pub(crate) fn of_key<K: OwnedKey>(error: Error, key: &[u8]) -> Error {
    error.context(format!(
        "the value of key {} cannot be read",
        key_text(&shape_of::<K>(), key)
    ))
}

/// A key for people: numbers and strings as such, others as their bytes.
pub(crate) fn key_text(shape: &str, bytes: &[u8]) -> String {
    fn text<K: OwnedKey>(bytes: &[u8], show: impl Fn(K) -> String) -> Option<String> {
        decode_exact(bytes).ok().map(show)
    }
    let known = match shape {
        "str" => text::<String>(bytes, |key| format!("'{key}'")),
        "u8" => text::<u8>(bytes, |key| key.to_string()),
        "u16" => text::<u16>(bytes, |key| key.to_string()),
        "u32" => text::<u32>(bytes, |key| key.to_string()),
        "u64" => text::<u64>(bytes, |key| key.to_string()),
        "i8" => text::<i8>(bytes, |key| key.to_string()),
        "i16" => text::<i16>(bytes, |key| key.to_string()),
        "i32" => text::<i32>(bytes, |key| key.to_string()),
        "i64" => text::<i64>(bytes, |key| key.to_string()),
        _ => None,
    };
    known.unwrap_or_else(|| format!("with bytes {bytes:02x?}"))
}

/// The bytes of a key or namespace.
pub(crate) fn key_bytes<K: StableKey>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}

/// Reads a namespace or a map state's user key.
pub(crate) fn read_part<N: OwnedKey>(what: &str, bytes: &[u8]) -> Result<N> {
    decode_exact(bytes).map_err(|e| damaged::<N>(what, bytes).because(e))
}

/// The error of an entry that is there twice.
pub(crate) fn twice(entry: EntryRef<'_>) -> Error {
    Error::user(format!(
        "the key with bytes {:02x?} is restored twice: the same snapshot was given twice, or two \
         overlap",
        entry.key
    ))
}

fn damaged<T>(what: &str, bytes: &[u8]) -> Error {
    Error::user(format!(
        "cannot read a {what} of type {} from bytes {bytes:02x?}",
        std::any::type_name::<T>()
    ))
}
