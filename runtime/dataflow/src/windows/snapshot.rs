//! Reading and writing the keyed entries of window operators.

use hurtig_core::key::{OwnedKey, StableKey, decode_exact, key_group};
use hurtig_core::{Error, Result};
use hurtig_state::KeyedEntry;
use std::ops::Range;

/// The bytes of a key or window.
pub(super) fn key_bytes<K: StableKey>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}

/// Reads keys of entries and passes over those of other subtasks.
pub(super) struct KeyReader {
    groups: Range<u16>,
    max_parallelism: u32,
}

impl KeyReader {
    pub(super) fn new(groups: Range<u16>, max_parallelism: u32) -> Self {
        Self {
            groups,
            max_parallelism,
        }
    }

    /// The entry's key with its hash; `None` when its key group is another subtask's.
    pub(super) fn key<K: OwnedKey>(&self, entry: &KeyedEntry) -> Result<Option<(u64, K)>> {
        let key: K = decode_exact(&entry.key)
            .map_err(|e| Error::user("cannot restore a window's key: the key has another type").because(e))?;
        let hash = key.stable_hash();
        let group = key_group(hash, self.max_parallelism).index() as u16;
        if group != entry.group {
            return Err(Error::user(format!(
                "a window's key of group {group} was stored in group {}: restore with the max parallelism and \
                 key type that the snapshot was taken with",
                entry.group
            )));
        }
        Ok(self.groups.contains(&group).then_some((hash, key)))
    }
}

/// `entries` in an order that spreads evenly over their hashes at every moment.
///
/// Snapshots are in key-group order, and a table that is filled in that order keeps its first entries
/// in a few neighbouring buckets while it grows.
pub(super) fn spread_out(entries: &[KeyedEntry]) -> impl Iterator<Item = &KeyedEntry> {
    // An odd step modulo a power of two visits every index once; this one is near the golden ratio.
    let size = entries.len().next_power_of_two();
    let step = (size as f64 * 0.618) as usize | 1;
    (0..size).filter_map(move |i| entries.get(i.wrapping_mul(step) & (size - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreading_out_visits_every_entry_once() {
        for n in [0_u8, 1, 2, 7, 64, 200] {
            let entry = |key| KeyedEntry {
                group: 0,
                key: vec![key],
                namespace: vec![],
                value: vec![],
            };
            let entries: Vec<_> = (0..n).map(entry).collect();
            let mut seen: Vec<_> = spread_out(&entries).map(|entry| entry.key[0]).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
    }
}
