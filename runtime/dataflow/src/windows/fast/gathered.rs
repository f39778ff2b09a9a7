//! Accumulators that come out of tables: of windows that are put together or have fired.

use crate::timers::bucket::{Bucket, Placed};
use crate::windows::TimeWindow;
use crate::windows::snapshot::{KeyReader, key_bytes};

use hurtig_core::key::{OwnedKey, StableKey, decode_exact, key_group};
use hurtig_core::{Error, Result};
use hurtig_state::snapshot::{decode, encode};
use hurtig_state::{KeyedEntry, OperatorSnapshot};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Debug)]
struct Held<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K, V> Placed for Held<K, V> {
    fn place(&self) -> u64 {
        self.hash
    }
}

/// The hash as tables give it back: they cannot tell a hash of 0 (the key 0) from this one.
#[inline]
fn from_table(hash: u64) -> u64 {
    if hash == 0 { 1 << 48 } else { hash }
}

/// Values by key in the order in which they came, which may be that of their hashes.
#[derive(Debug)]
pub(super) struct Gathered<K, V> {
    held: Bucket<Held<K, V>>,
}

impl<K, V> Default for Gathered<K, V> {
    fn default() -> Self {
        Self {
            held: Bucket::default(),
        }
    }
}

impl<K: OwnedKey, V> Gathered<K, V> {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn find<Q>(&self, hash: u64, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        let hash = from_table(hash);
        self.held
            .find(|| hash, |held| held.hash == hash && held.key.borrow() == key)
    }

    pub(super) fn get_mut<Q>(&mut self, hash: u64, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        let position = self.find(hash, key)?;
        Some(&mut self.held.entry_mut(position).value)
    }

    pub(super) fn upsert<Q>(&mut self, hash: u64, key: &Q, init: impl FnOnce() -> V) -> &mut V
    where
        K: Borrow<Q>,
        Q: StableKey + ToOwned<Owned = K> + ?Sized,
    {
        let position = self.find(hash, key).unwrap_or_else(|| {
            self.held.push(Held {
                hash: from_table(hash),
                key: key.to_owned().detach(),
                value: init(),
            })
        });
        &mut self.held.entry_mut(position).value
    }

    /// Sets the value of a key.
    pub(super) fn insert(&mut self, hash: u64, key: K, value: V) {
        match self.find(hash, &key) {
            Some(position) => self.held.entry_mut(position).value = value,
            None => {
                self.held.push(Held {
                    hash: from_table(hash),
                    key,
                    value,
                });
            }
        }
    }

    pub(super) fn remove<Q>(&mut self, hash: u64, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        let Held { key, value, .. } = self.held.remove(self.find(hash, key)?);
        Some((key, value))
    }

    pub(super) fn pop_any(&mut self) -> Option<(u64, K, V)> {
        self.held
            .pop()
            .map(|Held { hash, key, value }| (hash, key, value))
    }

    fn iter(&self) -> impl Iterator<Item = (u64, &K, &V)> {
        self.held
            .entries()
            .iter()
            .map(|held| (held.hash, &held.key, &held.value))
    }
}

/// [`Gathered`] accumulators by window, in window order.
#[derive(Debug)]
pub(super) struct GatheredWindows<K, V> {
    groups: Range<u16>,
    max_parallelism: u32,
    windows: BTreeMap<TimeWindow, Gathered<K, V>>,
}

impl<K: OwnedKey, V> GatheredWindows<K, V> {
    pub(super) fn new(groups: Range<u16>, max_parallelism: u32) -> Self {
        Self {
            groups,
            max_parallelism,
            windows: BTreeMap::new(),
        }
    }

    pub(super) fn first(&self) -> Option<TimeWindow> {
        self.windows.first_key_value().map(|(window, _)| *window)
    }

    pub(super) fn get(&mut self, window: TimeWindow) -> Option<&mut Gathered<K, V>> {
        self.windows.get_mut(&window)
    }

    pub(super) fn get_or_insert(&mut self, window: TimeWindow) -> &mut Gathered<K, V> {
        self.windows.entry(window).or_default()
    }

    pub(super) fn remove(&mut self, window: TimeWindow) {
        self.windows.remove(&window);
    }
}

impl<K: OwnedKey, V: Serialize + DeserializeOwned> GatheredWindows<K, V> {
    /// Writes the section `name`, with one window more that stands elsewhere.
    pub(super) fn snapshot(
        &self,
        name: &str,
        more: Option<(&TimeWindow, &Gathered<K, V>)>,
        snapshot: &mut OperatorSnapshot,
    ) -> Result<()> {
        let mut entries = Vec::new();
        for (window, gathered) in self.windows.iter().chain(more) {
            for (hash, key, value) in gathered.iter() {
                let group = key_group(hash, self.max_parallelism).index() as u16;
                let (key, namespace, value) = (key_bytes(key), key_bytes(window), encode(value)?);
                entries.push(KeyedEntry {
                    group,
                    key,
                    namespace,
                    value,
                });
            }
        }
        snapshot.put_keyed(name, entries);
        Ok(())
    }

    /// Adds what the section `name` holds for this subtask's key groups.
    pub(super) fn restore(&mut self, name: &str, snapshot: &OperatorSnapshot) -> Result<()> {
        let reader = KeyReader::new(self.groups.clone(), self.max_parallelism);
        snapshot.section(name).visit(|entry| {
            let Some((hash, key)) = reader.key::<K>(entry)? else {
                return Ok(());
            };
            let window: TimeWindow = decode_exact(entry.namespace)
                .map_err(|e| Error::user(format!("cannot restore a window of state '{name}'")).because(e))?;
            self.get_or_insert(window).insert(hash, key, decode(entry.value)?);
            Ok(())
        })?;
        Ok(())
    }
}
