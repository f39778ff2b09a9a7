//! Typed records over a store: each change is one guarded write, under the token of who may make it.
//!
//! It promises that no write of an old term or epoch takes effect, that a job with a result is never run again, and that
//! nothing is deleted while an outcome is unknown. It refuses to know how jobs run.

mod artifacts;
mod blobs;
mod codec;
mod error;
mod intents;
mod jobs;
mod keys;
mod life;
mod masters;
mod model;
mod tokens;

pub use blobs::{BlobsInUse, Condemned, Reclaim};
pub use codec::{MAX_RECORD, Record, Stored};
pub use error::Failure;
pub use intents::{JobIntent, cancels, effective, outcome_of};
pub use jobs::{JobView, Submission};
pub use keys::{Keys, is_part};
pub use life::Life;
pub use masters::IdBlock;
pub use model::*;
pub use tokens::{EpochToken, LeaderToken, Token};

use crate::kv::{Change, Guard, Key, Parked, Revision, Settled, Store, Transaction, settle};
use hurtig_core::ids::random_number;
use std::sync::Arc;

/// The records of a cluster.
#[derive(Clone, Debug)]
pub struct Records {
    store: Arc<dyn Store>,
    keys: Keys,
}

/// What is to be written, under a token.
struct Write<'a> {
    token: &'a dyn Token,
    guards: Vec<Guard>,
    changes: Vec<Change>,
}

impl<'a> Write<'a> {
    fn under(token: &'a dyn Token) -> Self {
        let (guards, changes) = (Vec::new(), Vec::new());
        Self {
            token,
            guards,
            changes,
        }
    }

    fn when(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    /// Writes a record in the place of the one that was seen, or where there was none.
    fn replace<T: Record>(
        mut self,
        key: &Key,
        seen: Option<&Stored<T>>,
        record: &T,
    ) -> Result<Self, Failure> {
        let bytes = codec::encode(key, record, random_number(), seen.map(Stored::origin))?;
        self.guards.push(unchanged(key, seen));
        self.changes.push(Change::Put(key.clone(), bytes, None));
        Ok(self)
    }

    /// Writes a record where there is none.
    fn create<T: Record>(self, key: &Key, record: &T) -> Result<Self, Failure> {
        self.replace(key, None, record)
    }

    /// Deletes what is under a key, if anything is.
    fn delete(mut self, key: Key) -> Self {
        self.changes.push(Change::Delete(key));
        self
    }
}

/// The bytes of a record that is written where there is none.
pub(crate) fn encode_new<T: Record>(key: &Key, record: &T) -> Result<Vec<u8>, Failure> {
    codec::encode(key, record, random_number(), None)
}

/// What holds as long as a record is as it was seen.
fn unchanged<T>(key: &Key, seen: Option<&Stored<T>>) -> Guard {
    match seen {
        Some(stored) => Guard::Unchanged(key.clone(), stored.modified),
        None => Guard::Absent(key.clone()),
    }
}

/// How a write ended that did not fail.
enum Written {
    At(Revision),
    /// A guard of the caller did not hold; the token's did.
    Refused(crate::kv::Listing),
}

impl Records {
    /// The records of the cluster with these keys.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, keys: Keys) -> Self {
        Self { store, keys }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Finds out how a write ended whose outcome was unknown. It is in effect when this returns `Ok`.
    ///
    /// # Errors
    /// [`Failure::Unknown`] when it is still not known; [`Failure::Overtaken`]; [`Failure::Changed`] when it never took effect.
    pub async fn settle(&self, parked: Parked) -> Result<Revision, Failure> {
        match settle(&*self.store, parked.transaction.clone(), true).await {
            Settled::Done(revision) => Ok(revision),
            Settled::Refused(_) => Err(Failure::Changed(changed_key(&parked.transaction))),
            other => Err(failure(other)),
        }
    }

    /// Reads a record. What was read decides nothing: it is the guard of a write.
    ///
    /// # Errors
    /// When the store cannot be reached, or what is there cannot be read.
    pub async fn read<T: Record>(&self, key: &Key) -> Result<Option<Stored<T>>, Failure> {
        let entry = self.store.get(key).await?;
        entry.as_ref().map(Stored::read).transpose()
    }

    /// Carries out a write, if its token allows that at this moment. One that was overtaken counts as refused: only for those
    /// who delete nothing then.
    async fn write(&self, write: Write<'_>) -> Result<Written, Failure> {
        let token = write.token;
        let seen = match self.send(write).await? {
            Settled::Done(revision) => return Ok(Written::At(revision)),
            Settled::Refused(seen) | Settled::Overtaken(seen) => seen,
            other => return Err(failure(other)),
        };
        match token.refusal(&self.keys, &seen) {
            Some(failure) => Err(failure),
            None => Ok(Written::Refused(seen)),
        }
    }

    async fn send(&self, write: Write<'_>) -> Result<Settled, Failure> {
        let Write {
            token,
            mut guards,
            changes,
        } = write;
        token.check()?;
        guards.extend(token.guards(&self.keys));
        Ok(settle(&*self.store, Transaction::new(guards, changes), false).await)
    }

    /// Carries out a write that only a race can refuse.
    async fn write_unraced(&self, write: Write<'_>) -> Result<Revision, Failure> {
        let token = write.token;
        let key = write.changes.first().map(|change| change.key().clone());
        match self.send(write).await? {
            Settled::Done(revision) => Ok(revision),
            Settled::Refused(seen) => {
                let changed = || Failure::Changed(key.unwrap_or_else(|| self.keys.root().clone()));
                Err(token.refusal(&self.keys, &seen).unwrap_or_else(changed))
            }
            other => Err(failure(other)),
        }
    }
}

fn changed_key(transaction: &Transaction) -> Key {
    let first = transaction.changes().first();
    first.map_or_else(|| Key::new(""), |change| change.key().clone())
}

fn failure(settled: Settled) -> Failure {
    match settled {
        Settled::Overtaken(_) => Failure::Overtaken,
        Settled::Rejected(error) => Failure::Store(error),
        Settled::Unknown(parked) => Failure::Unknown(parked),
        Settled::Done(_) | Settled::Refused(_) => Failure::Internal(format!("{settled:?} is no failure")),
    }
}
