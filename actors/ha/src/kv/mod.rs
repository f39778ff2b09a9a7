//! The interface of a store: small values under keys, guarded transactions, leases, watches.
//!
//! It promises that a transaction takes effect at most once and wholly, and that whoever asks is told
//! when it is not known whether it did. It refuses to know what the values mean.

mod machine;
mod settle;
mod transaction;
mod watcher;

pub use machine::{Batch, Machine};
pub use settle::{Parked, Settled, settle};
pub use transaction::{Change, Guard, Transaction};
pub use watcher::{Update, Watcher};

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// What a store is doing.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A point in the history of a store. It only grows, and no two transactions have the same.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A name in a store: parts with `/` before each, as `/hurtig/default/leader`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// A key with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key below this one with one more part.
    #[must_use]
    pub fn join(&self, part: impl fmt::Display) -> Self {
        Self(format!("{}/{part}", self.0))
    }

    /// Whether the other key is this one's descendant: the same text, a `/`, and more.
    #[must_use]
    pub fn contains(&self, other: &Key) -> bool {
        other
            .0
            .strip_prefix(&self.0)
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// What stands behind the last `/`.
    #[must_use]
    pub fn last_part(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A promise to delete keys that nobody renews. Given out by a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// How long it lives without renewal. May be more than what was asked for.
    pub ttl: Duration,
}

/// A value under a key, and when it came there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Under which key.
    pub key: Key,
    /// The value.
    pub value: Vec<u8>,
    /// When the key came to be; another one after it was deleted and written again.
    pub created: Revision,
    /// When it was last written.
    pub modified: Revision,
    /// The lease with which it ends.
    pub lease: Option<LeaseId>,
}

/// What was found under keys, at a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The revision.
    pub revision: Revision,
    /// What was there, in the order of keys.
    pub entries: Vec<Entry>,
}

impl Listing {
    /// What is under this key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == *key)
    }
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect, at this revision. Without changes: its guards held at this revision.
    Done(Revision),
    /// A guard did not hold. Here is what was seen under all keys that it names.
    Refused(Listing),
    /// It certainly did not and will not take effect, for this reason.
    Rejected(StoreError),
    /// Nobody knows; it may even take effect later. Says why.
    Unknown(String),
}

/// Why a store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It did not answer, or cannot decide now.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The lease has ended.
    #[error("lease {0:?} is gone: it expired or was revoked")]
    LeaseGone(LeaseId),
    /// It has no room.
    #[error("the store has no room: {0}. Make room, or raise its quota")]
    Full(String),
    /// We may not do this.
    #[error(
        "the store denies access: {0}. Check the user and the certificates in `high-availability.etcd.*`"
    )]
    Denied(String),
    /// What was asked makes no sense to it: a bug of ours, or a store that is too old.
    #[error("the store does not accept what was asked: {0}")]
    Invalid(String),
    /// Its own data are damaged.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// What a watch has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// What changed at a revision: the keys, and what is under them now.
    Changed(Revision, Vec<(Key, Option<Entry>)>),
    /// The history that was asked for is not kept any more: list, and watch from there.
    Compacted,
    /// The watch is over, for this reason. Nothing is known of what follows.
    Lost(String),
}

/// A watch. After [`Watched::Compacted`] or [`Watched::Lost`] it says nothing more.
pub trait Watch: Send {
    /// Waits for what it has to say next.
    ///
    /// *Cancel safety*: nothing is lost when the future is dropped.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Watched> + Send + '_>>;
}

/// A store. All calls end within a time of the store's own; a call that is given up may still take effect.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Carries out a transaction.
    fn commit(&self, transaction: Transaction) -> Pending<Outcome>;

    /// What is under a key, at a revision that is not older than the last one which was answered.
    fn get(&self, key: &Key) -> Pending<Result<Option<Entry>, StoreError>>;

    /// What is under all keys that `above` contains.
    fn list(&self, above: &Key) -> Pending<Result<Listing, StoreError>>;

    /// Watches all keys that `above` contains, from the first revision after this one.
    fn watch(&self, above: &Key, after: Revision) -> Box<dyn Watch>;

    /// Grants a lease of about this length.
    fn grant(&self, ttl: Duration) -> Pending<Result<Lease, StoreError>>;

    /// Lets a lease live on. [`StoreError::LeaseGone`] when it does not live any more.
    fn renew(&self, lease: LeaseId) -> Pending<Result<(), StoreError>>;

    /// Ends a lease, and deletes its keys.
    fn revoke(&self, lease: LeaseId) -> Pending<Result<(), StoreError>>;

    /// Forgets the history up to this revision. Watches that still need it say so.
    fn compact(&self, up_to: Revision) -> Pending<Result<(), StoreError>>;
}
