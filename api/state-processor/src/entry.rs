//! Keys and values of entries, as types. What is not exactly of a type is refused.

use hurtig_core::key::{OwnedKey, StableKey, decode_exact, key_group};
use hurtig_core::varint;
use hurtig_state::KeyedEntry;
use serde::de::DeserializeOwned;
use std::any::type_name;
use std::collections::BTreeMap;

/// What does not fit, for people.
pub(crate) type Problem = String;

/// Before a value of a state with a time-to-live: a count, and as many times of access.
const TIMES: u8 = 0xc1;
const TIME_BYTES: u64 = 8;

/// The bytes of a key.
pub(crate) fn key_bytes<K: StableKey + ?Sized>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}

/// The key of an entry, which must belong to its key group: another type of the same length seldom does.
pub(crate) fn key<K: OwnedKey>(entry: &KeyedEntry, max_parallelism: u32) -> Result<K, Problem> {
    let key: K = part("key", &entry.key)?;
    let group = key_group(key.stable_hash(), max_parallelism).get();
    if group == u32::from(entry.group) {
        return Ok(key);
    }
    Err(format!(
        "a key with bytes {:02x?} is stored in key group {}, and a {} of these bytes belongs to {group}: name the type \
         that the program keys by",
        entry.key,
        entry.group,
        type_name::<K>()
    ))
}

/// A key, or a user key of a map.
pub(crate) fn part<K: OwnedKey>(what: &str, bytes: &[u8]) -> Result<K, Problem> {
    decode_exact(bytes).map_err(|error| {
        format!(
            "a {what} with bytes {bytes:02x?} is no {}: {error}; name the type that the program uses",
            type_name::<K>()
        )
    })
}

/// A value, all of it; times of access before it are passed over.
pub(crate) fn value<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, Problem> {
    let problem = |error: String| {
        let of = type_name::<V>();
        format!("a value is no {of}: {error}; name the type and the kind of state that the program uses")
    };
    let bytes = without_times(bytes).ok_or_else(|| problem("its times of access are cut off".to_owned()))?;
    let mut reader = rmp_serde::Deserializer::new(bytes);
    let value = V::deserialize(&mut reader).map_err(|error| problem(error.to_string()))?;
    match reader.get_ref().len() {
        0 => Ok(value),
        left => Err(problem(format!("{left} bytes are left behind it"))),
    }
}

fn without_times(bytes: &[u8]) -> Option<&[u8]> {
    let Some(mut rest) = bytes.strip_prefix(&[TIMES]) else {
        return Some(bytes);
    };
    let times = varint::take(&mut rest)?.checked_mul(TIME_BYTES)?;
    rest.get(usize::try_from(times).ok()?..)
}

/// What the entries of one key make: at least one is given.
pub(crate) type Decode<V> = fn(&[KeyedEntry]) -> Result<V, Problem>;

/// One value for a key.
pub(crate) fn one<V: DeserializeOwned>(entries: &[KeyedEntry]) -> Result<V, Problem> {
    match entries {
        [entry] if entry.namespace.is_empty() => value(&entry.value),
        [entry, ..] if entry.namespace.is_empty() => {
            Err(format!("the key with bytes {:02x?} is there twice", entry.key))
        }
        _ => Err(
            "its entries have something beside the key: it is a map state (read it with `map`), timers (with `timers`), or \
             windows, which cannot be read yet"
                .to_owned(),
        ),
    }
}

/// A map, of which each entry has one user key.
pub(crate) fn map<UK: OwnedKey + Ord, UV: DeserializeOwned>(
    entries: &[KeyedEntry],
) -> Result<BTreeMap<UK, UV>, Problem> {
    let mut map = BTreeMap::new();
    for entry in entries {
        if map
            .insert(part("user key", &entry.namespace)?, value(&entry.value)?)
            .is_some()
        {
            let (key, user_key) = (&entry.key, &entry.namespace);
            return Err(format!(
                "the key with bytes {key:02x?} has the user key {user_key:02x?} twice"
            ));
        }
    }
    Ok(map)
}

/// Times of timers, in order.
pub(crate) fn timers(entries: &[KeyedEntry]) -> Result<Vec<i64>, Problem> {
    let time = |entry: &KeyedEntry| {
        match entry.namespace.len() {
        length if length > size_of::<i64>() => Err(
            "its timers have something beside the key and the time: they are those of windows, which cannot be read yet"
                .to_owned(),
        ),
        _ => part("time", &entry.namespace),
    }
    };
    entries.iter().map(time).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_all_of_its_bytes() {
        assert_eq!(value::<u64>(&[7]), Ok(7));
        assert!(value::<u64>(&[7, 7]).unwrap_err().contains("1 bytes are left"));
        assert!(value::<u64>(&[]).is_err());
        assert!(value::<(u64, u64)>(&[0x92, 7]).is_err());
    }

    #[test]
    fn timers_of_windows_are_called_so() {
        let timer = |namespace: &(i64, i64)| KeyedEntry {
            group: 0,
            key: key_bytes(&7_u64),
            namespace: key_bytes(namespace),
            value: Vec::new(),
        };
        assert!(
            timers(&[timer(&(3, 4))])
                .unwrap_err()
                .contains("those of windows")
        );
        let mut plain = timer(&(3, 4));
        plain.namespace.truncate(8);
        assert_eq!(timers(&[plain]), Ok(vec![3]));
    }

    /// As states with a time-to-live are written: C1, how many times, the times, the value.
    #[test]
    fn times_of_access_are_passed_over() {
        let mut bytes = vec![0xc1, 2];
        bytes.extend(1_700_000_000_000_i64.to_le_bytes());
        bytes.extend(1_700_000_000_001_i64.to_le_bytes());
        bytes.extend([0x92, 5, 6]);
        assert_eq!(value::<Vec<u64>>(&bytes), Ok(vec![5, 6]));
        for end in 1..bytes.len() {
            assert!(value::<Vec<u64>>(&bytes[..end]).is_err(), "{end}");
        }
        let huge = [&[0xc1][..], &[0xff; 9], &[1]].concat();
        assert!(value::<u64>(&huge).unwrap_err().contains("cut off"));
    }
}
