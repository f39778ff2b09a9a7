//! Reading and writing the keyed entries of window operators.

use hurtig_core::key::{OwnedKey, StableKey, decode_exact, key_group};
use hurtig_core::{Error, Result};
use hurtig_state::EntryRef;
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
    pub(super) fn key<K: OwnedKey>(&self, entry: EntryRef<'_>) -> Result<Option<(u64, K)>> {
        let key: K = decode_exact(entry.key)
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
