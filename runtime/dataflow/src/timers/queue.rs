//! The timers of one time domain: a tree by time of hashed buckets.

use super::bucket::{Bucket, Placed};
use super::{HashedKey, Timer};

use hurtig_core::key::{OwnedKey, StableKey, hash_int, key_group};
use hurtig_core::{Error, Result};
use hurtig_state::{EntryRef, KeyedEntry, KeyedSection};
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Emptied buckets that are kept for reuse.
const SPARE_BUCKETS: usize = 64;
/// Buckets that have grown beyond this are given back.
const SPARE_CAPACITY: usize = 1_024;

/// One timer of a bucket; its time is the bucket's.
#[derive(Debug)]
struct Entry<K, N> {
    hash: u64,
    key: K,
    namespace: N,
}

fn place<N: StableKey>(hash: u64, namespace: &N) -> u64 {
    hash_int(hash ^ namespace.stable_hash().rotate_left(32))
}

impl<K, N: StableKey> Placed for Entry<K, N> {
    fn place(&self) -> u64 {
        place(self.hash, &self.namespace)
    }
}

/// Where a bucket holds a timer.
#[inline]
fn find<K, N, Q>(bucket: &Bucket<Entry<K, N>>, key: HashedKey<'_, Q>, namespace: &N) -> Option<usize>
where
    K: Borrow<Q>,
    N: StableKey,
    Q: StableKey + ?Sized,
{
    let is = |entry: &Entry<K, N>| {
        entry.hash == key.hash && entry.namespace == *namespace && entry.key.borrow() == key.key
    };
    bucket.find(|| place(key.hash, namespace), is)
}

/// Timers of one domain, in time order.
///
/// # Invariants
/// No bucket is empty; `len` is the sum of the buckets' lengths.
#[derive(Debug)]
pub struct TimerQueue<K, N> {
    times: BTreeMap<i64, Bucket<Entry<K, N>>>,
    len: usize,
    spare: Vec<Bucket<Entry<K, N>>>,
}

impl<K, N> Default for TimerQueue<K, N> {
    fn default() -> Self {
        Self {
            times: BTreeMap::new(),
            len: 0,
            spare: Vec::new(),
        }
    }
}

impl<K: OwnedKey, N: OwnedKey + Ord> TimerQueue<K, N> {
    /// Registers a timer; false when it existed.
    pub fn register<Q>(&mut self, time: i64, key: HashedKey<'_, Q>, namespace: &N) -> bool
    where
        K: Borrow<Q>,
        Q: StableKey + ToOwned<Owned = K> + ?Sized,
    {
        let spare = &mut self.spare;
        let bucket = self
            .times
            .entry(time)
            .or_insert_with(|| spare.pop().unwrap_or_default());
        if find(bucket, key, namespace).is_some() {
            return false;
        }
        let owned = key.key.to_owned().detach();
        bucket.push(Entry {
            hash: key.hash,
            key: owned,
            namespace: namespace.clone(),
        });
        self.len += 1;
        true
    }

    /// Deletes a timer; false when there was none.
    pub fn delete<Q>(&mut self, time: i64, key: HashedKey<'_, Q>, namespace: &N) -> bool
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        let Some(bucket) = self.times.get_mut(&time) else {
            return false;
        };
        let Some(position) = find(bucket, key, namespace) else {
            return false;
        };
        bucket.remove(position);
        self.len -= 1;
        if bucket.is_empty() {
            let emptied = self.times.remove(&time);
            self.recycle(emptied);
        }
        true
    }

    /// Whether a timer is registered.
    pub fn contains<Q>(&self, time: i64, key: HashedKey<'_, Q>, namespace: &N) -> bool
    where
        K: Borrow<Q>,
        Q: StableKey + ?Sized,
    {
        let bucket = self.times.get(&time);
        bucket.is_some_and(|bucket| find(bucket, key, namespace).is_some())
    }

    /// Takes the earliest timer that is due at `up_to`.
    pub fn pop_due(&mut self, up_to: i64) -> Option<Timer<K, N>> {
        let mut first = self.times.first_entry()?;
        let time = *first.key();
        if time > up_to {
            return None;
        }
        let Entry { hash, key, namespace } = first.get_mut().pop()?;
        self.len -= 1;
        if first.get().is_empty() {
            let emptied = first.remove();
            self.recycle(Some(emptied));
        }
        Some(Timer {
            time,
            hash,
            key,
            namespace,
        })
    }

    fn recycle(&mut self, bucket: Option<Bucket<Entry<K, N>>>) {
        let Some(mut bucket) = bucket else { return };
        if self.spare.len() < SPARE_BUCKETS && bucket.capacity() <= SPARE_CAPACITY {
            bucket.reset();
            self.spare.push(bucket);
        }
    }

    /// The time of the earliest timer.
    #[inline]
    pub fn next_time(&self) -> Option<i64> {
        self.times.first_key_value().map(|(time, _)| *time)
    }

    /// How many timers there are.
    pub fn len(&self) -> usize {
        debug_assert_eq!(self.len, self.times.values().map(Bucket::len).sum::<usize>());
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every timer as (time, hash, key, namespace), in time order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, u64, &K, &N)> {
        self.times.iter().flat_map(|(time, bucket)| {
            bucket
                .entries()
                .iter()
                .map(|entry| (*time, entry.hash, &entry.key, &entry.namespace))
        })
    }

    pub(super) fn entries(&self, max_parallelism: u32) -> Vec<KeyedEntry> {
        let mut entries = Vec::with_capacity(self.len);
        for (time, hash, key, namespace) in self.iter() {
            let mut key_bytes = Vec::new();
            key.encode(&mut key_bytes);
            let mut namespace_bytes = Vec::with_capacity(8);
            time.encode(&mut namespace_bytes);
            namespace.encode(&mut namespace_bytes);
            let group = key_group(hash, max_parallelism).index() as u16;
            entries.push(KeyedEntry {
                group,
                key: key_bytes,
                namespace: namespace_bytes,
                value: Vec::new(),
            });
        }
        entries
    }

    pub(super) fn restore(
        &mut self,
        section: &str,
        entries: KeyedSection<'_>,
        wanted: impl Fn(u16) -> bool,
    ) -> Result<()> {
        entries.visit(|entry| {
            if !wanted(entry.group) {
                return Ok(());
            }
            self.restore_entry(entry).map_err(|e| {
                Error::user(format!(
                    "cannot restore a timer from '{section}': the snapshot was written with another key or namespace type"
                ))
                .because(e)
            })
        })
    }

    fn restore_entry(&mut self, entry: EntryRef<'_>) -> Result<(), hurtig_core::key::KeyDecodeError> {
        let key = hurtig_core::key::decode_exact::<K>(entry.key)?;
        let (time, namespace) = {
            let mut rest = entry.namespace;
            let time = i64::decode(&mut rest)?;
            (time, hurtig_core::key::decode_exact::<N>(rest)?)
        };
        let hash = key.stable_hash();
        let spare = &mut self.spare;
        let bucket = self
            .times
            .entry(time)
            .or_insert_with(|| spare.pop().unwrap_or_default());
        if find(bucket, HashedKey::new(hash, &key), &namespace).is_none() {
            bucket.push(Entry {
                hash,
                key: key.detach(),
                namespace,
            });
            self.len += 1;
        }
        Ok(())
    }
}
