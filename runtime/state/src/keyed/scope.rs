//! Which key a state is accessed for.

use super::KeyedState;
use hurtig_core::key::{OwnedKey, StableKey};
use std::fmt;

/// The current key and the states it reaches: what contexts of keyed functions implement.
pub trait KeyScope<'a>: Copy {
    /// The key as functions see it: `str` for keys that state owns as `String`.
    type Q: ?Sized + StableKey + ToOwned<Owned: OwnedKey + 'static> + 'static;

    /// The operator's states.
    fn state(self) -> &'a KeyedState<<Self::Q as ToOwned>::Owned>;

    /// The current key.
    fn key(self) -> &'a Self::Q;

    /// The current key's [`StableKey::stable_hash`].
    fn hash(self) -> u64;
}

/// A [`KeyScope`] made of its three parts.
pub struct CurrentKey<'a, Q: ?Sized + ToOwned<Owned: OwnedKey>> {
    state: &'a KeyedState<Q::Owned>,
    key: &'a Q,
    hash: u64,
}

impl<'a, Q: ?Sized + StableKey + ToOwned<Owned: OwnedKey>> CurrentKey<'a, Q> {
    /// The scope of `key`, whose stable hash is `hash`.
    #[inline]
    pub fn new(state: &'a KeyedState<Q::Owned>, key: &'a Q, hash: u64) -> Self {
        debug_assert_eq!(hash, key.stable_hash(), "the hash column belongs to another key");
        Self { state, key, hash }
    }
}

impl<Q: ?Sized + ToOwned<Owned: OwnedKey>> Clone for CurrentKey<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q: ?Sized + ToOwned<Owned: OwnedKey>> Copy for CurrentKey<'_, Q> {}

impl<Q: ?Sized + ToOwned<Owned: OwnedKey>> fmt::Debug for CurrentKey<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentKey")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl<'a, Q: ?Sized + StableKey + ToOwned<Owned: OwnedKey> + 'static> KeyScope<'a> for CurrentKey<'a, Q> {
    type Q = Q;

    #[inline]
    fn state(self) -> &'a KeyedState<Q::Owned> {
        self.state
    }

    #[inline]
    fn key(self) -> &'a Q {
        self.key
    }

    #[inline]
    fn hash(self) -> u64 {
        self.hash
    }
}
