//! How a keyed stream finds the key of a record.

use hurtig_core::key::{OwnedKey, StableKey};
use hurtig_core::vector::{Vectors, WIDE};
use std::borrow::Borrow;
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::Arc;

/// Hashes that are computed at a time: one check for room, and a loop that unrolls (0.7 against 0.96 ns).
const CHUNK: usize = 8;

/// Computes or borrows the key of a record.
///
/// Every keyed operator is generic over its selector, so that hashing and look-up are inlined into
/// its loop; nothing is called through a table for each record.
pub trait KeySelector<T>: Send + Sync + 'static {
    /// The key as state stores it.
    type Key: OwnedKey + Borrow<Self::Borrowed>;
    /// The key as functions see it: the same type, or what it is borrowed as (`str` for `String`).
    type Borrowed: StableKey + ToOwned<Owned = Self::Key> + ?Sized + 'static;
    /// The key of one record: computed, or a reference into the record.
    type Ref<'a>: Borrow<Self::Borrowed>
    where
        T: 'a;

    /// The record's key.
    fn key_of<'a>(&self, record: &'a T) -> Self::Ref<'a>;

    /// Calls `f` with the record's key.
    #[inline(always)]
    fn with_key<R>(&self, record: &T, f: impl FnOnce(&Self::Borrowed) -> R) -> R {
        f(self.key_of(record).borrow())
    }

    /// Whether a batch is hashed by vectors: faster than a column of hashes is copied and read on another core.
    fn hashes_cheaply() -> bool {
        Self::Borrowed::ARITHMETIC && Vectors::get().is_some()
    }

    /// Lists the places of records by their keys' hashes, see [`Vectors::split_places`]; `None` where hashes are not
    /// computed by vectors.
    fn split_places(&self, records: &[T], bound: u32, lists: (&mut [u32], &mut [u32])) -> Option<usize> {
        let vectors = Vectors::get().filter(|_| Self::Borrowed::ARITHMETIC)?;
        let hash_of = |record: &T| self.with_key(record, StableKey::stable_hash);
        Some(vectors.split_places(records, hash_of, bound, lists))
    }

    /// Appends the stable hash of each record's key.
    fn hash_all(&self, records: &[T], hashes: &mut Vec<u64>) {
        hashes.reserve(records.len());
        if Self::Borrowed::ARITHMETIC
            && let Some(vectors) = Vectors::get()
        {
            let hash_of = |record: &T| self.with_key(record, StableKey::stable_hash);
            return vectors.run(|| {
                let (wide, rest) = records.as_chunks::<WIDE>();
                for records in wide {
                    hashes.extend(std::array::from_fn::<u64, WIDE, _>(|i| hash_of(&records[i])));
                }
                hashes.extend(rest.iter().map(hash_of));
            });
        }
        let hash_of = |record: &T| {
            let hash = self.with_key(record, StableKey::stable_hash);
            // One by one: 64-bit multiplication in shorter vectors is slower.
            black_box(());
            hash
        };
        let (chunks, rest) = records.as_chunks::<CHUNK>();
        for chunk in chunks {
            hashes.extend(std::array::from_fn::<u64, CHUNK, _>(|i| hash_of(&chunk[i])));
        }
        hashes.extend(rest.iter().map(hash_of));
    }
}

/// A record's key as state stores it.
pub(crate) fn owned_key<T, S: KeySelector<T>>(selector: &S, record: &T) -> S::Key {
    selector.with_key(record, |key| key.to_owned().detach())
}

/// A key that a closure computes: `key_by(|click| click.user_id)`.
pub struct ByValue<F, K> {
    select: F,
    key: PhantomData<fn() -> K>,
}

impl<F, K> ByValue<F, K> {
    /// The selector that calls `select`.
    pub fn new(select: F) -> Self {
        Self {
            select,
            key: PhantomData,
        }
    }
}

impl<T, K, F> KeySelector<T> for ByValue<F, K>
where
    K: OwnedKey,
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    type Key = K;
    type Borrowed = K;
    type Ref<'a>
        = K
    where
        T: 'a;

    #[inline(always)]
    fn key_of(&self, record: &T) -> K {
        (self.select)(record)
    }
}

/// A key that a closure borrows from the record: `key_by_ref(|click| click.user.as_str())`.
pub struct ByRef<F, Q: ?Sized> {
    select: F,
    key: PhantomData<fn() -> Box<Q>>,
}

impl<F, Q: ?Sized> ByRef<F, Q> {
    /// The selector that calls `select`.
    pub fn new(select: F) -> Self {
        Self {
            select,
            key: PhantomData,
        }
    }
}

impl<T, Q, F> KeySelector<T> for ByRef<F, Q>
where
    Q: StableKey + ToOwned + ?Sized + 'static,
    Q::Owned: OwnedKey,
    F: Fn(&T) -> &Q + Send + Sync + 'static,
{
    type Key = Q::Owned;
    type Borrowed = Q;
    type Ref<'a>
        = &'a Q
    where
        T: 'a;

    #[inline(always)]
    fn key_of<'a>(&self, record: &'a T) -> &'a Q {
        (self.select)(record)
    }
}

impl<T, S: KeySelector<T>> KeySelector<T> for Arc<S> {
    type Key = S::Key;
    type Borrowed = S::Borrowed;
    type Ref<'a>
        = S::Ref<'a>
    where
        T: 'a;

    #[inline(always)]
    fn key_of<'a>(&self, record: &'a T) -> S::Ref<'a> {
        (**self).key_of(record)
    }

    fn hash_all(&self, records: &[T], hashes: &mut Vec<u64>) {
        (**self).hash_all(records, hashes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A batch's hashes are those of its keys one by one, whatever instructions compute them.
    fn agrees<K: OwnedKey>(keys: &[K]) -> std::result::Result<(), TestCaseError> {
        let mut hashes = vec![7];
        ByValue::new(K::clone).hash_all(keys, &mut hashes);
        let one_by_one: Vec<u64> = keys.iter().map(StableKey::stable_hash).collect();
        prop_assert_eq!(&hashes[..1], [7]);
        prop_assert_eq!(&hashes[1..], one_by_one);
        Ok(())
    }

    proptest! {
        #[test]
        fn a_batch_is_hashed_as_its_records_are(
            numbers in prop::collection::vec(any::<u64>(), 0..200),
            texts in prop::collection::vec("[a-z]{0,40}", 0..20),
        ) {
            agrees(&numbers)?;
            agrees(&numbers.iter().map(|&n| n as i64).collect::<Vec<_>>())?;
            agrees(&numbers.iter().map(|&n| n as i32).collect::<Vec<_>>())?;
            agrees(&numbers.iter().map(|&n| n as u8).collect::<Vec<_>>())?;
            agrees(&numbers.iter().map(|&n| n as i16).collect::<Vec<_>>())?;
            agrees(&numbers.iter().map(|&n| n as usize).collect::<Vec<_>>())?;
            agrees(&numbers.iter().map(|&n| u128::from(n) << 40).collect::<Vec<_>>())?;
            agrees(&numbers.iter().map(|&n| n % 2 == 0).collect::<Vec<_>>())?;
            agrees(&numbers.iter().map(|&n| (n, n as u8)).collect::<Vec<_>>())?;
            agrees(&texts)?;
        }
    }
}
