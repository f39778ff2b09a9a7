//! Tokens: what proves, in the same transaction, that its holder may write.

use super::codec::Stored;
use super::error::Failure;
use super::keys::Keys;
use super::model::{Epoch, EpochRecord};
use crate::kv::{Guard, Listing, Revision};
use crate::leader::{Leadership, Standing, Term};
use hurtig_core::ids::JobId;
use serde::{Deserialize, Serialize};

/// A right to write that the store checks.
pub trait Token: Send + Sync {
    /// Whether it allows to write at this moment.
    ///
    /// # Errors
    /// When it does not.
    fn check(&self) -> Result<(), Failure>;

    /// What a write under it is guarded by.
    fn guards(&self, keys: &Keys) -> Vec<Guard>;

    /// Why a write was refused, if that was the token's fault.
    fn refusal(&self, keys: &Keys, seen: &Listing) -> Option<Failure>;
}

/// The right of the leader.
#[derive(Clone, Debug)]
pub struct LeaderToken {
    term: Term,
    leadership: Leadership,
}

impl LeaderToken {
    /// The right that goes with a term. It ends with the term, and rests while the leadership is suspended.
    #[must_use]
    pub fn new(term: Term, leadership: Leadership) -> Self {
        Self { term, leadership }
    }

    /// The term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }
}

impl Token for LeaderToken {
    fn check(&self) -> Result<(), Failure> {
        match self.leadership.standing(self.term) {
            Standing::Leading => Ok(()),
            Standing::Suspended => Err(Failure::Suspended),
            Standing::Deposed => Err(Failure::Deposed(self.term)),
        }
    }

    fn guards(&self, keys: &Keys) -> Vec<Guard> {
        vec![Guard::CreatedAt(keys.leader(), self.term.revision)]
    }

    fn refusal(&self, keys: &Keys, seen: &Listing) -> Option<Failure> {
        let ours = seen
            .get(&keys.leader())
            .is_some_and(|entry| entry.created == self.term.revision);
        (!ours).then_some(Failure::Deposed(self.term))
    }
}

/// The right of a job's JobMaster. It can be sent to whoever carries writes out for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochToken {
    /// The job.
    pub job: JobId,
    /// The epoch.
    pub epoch: Epoch,
    /// When the epoch was claimed, or raised: it was not written since.
    pub revision: Revision,
}

impl EpochToken {
    /// The failure that says that it is over.
    #[must_use]
    pub fn fenced(&self) -> Failure {
        let (job, epoch) = (self.job, self.epoch);
        Failure::Fenced { job, epoch }
    }

    pub(super) fn of(job: JobId, stored: &Stored<EpochRecord>) -> Self {
        let (epoch, revision) = (stored.value.epoch, stored.modified);
        Self { job, epoch, revision }
    }
}

impl Token for EpochToken {
    fn check(&self) -> Result<(), Failure> {
        // Nobody knows but the store.
        Ok(())
    }

    fn guards(&self, keys: &Keys) -> Vec<Guard> {
        vec![Guard::Unchanged(keys.epoch(self.job), self.revision)]
    }

    fn refusal(&self, keys: &Keys, seen: &Listing) -> Option<Failure> {
        let current = seen
            .get(&keys.epoch(self.job))
            .is_some_and(|entry| entry.modified == self.revision);
        (!current).then(|| self.fenced())
    }
}

/// Both rights at once: the leader writes for a job without JobMaster.
pub(super) struct Both<'a>(pub(super) &'a LeaderToken, pub(super) &'a EpochToken);

impl Token for Both<'_> {
    fn check(&self) -> Result<(), Failure> {
        self.0.check()
    }

    fn guards(&self, keys: &Keys) -> Vec<Guard> {
        [self.0.guards(keys), self.1.guards(keys)].concat()
    }

    fn refusal(&self, keys: &Keys, seen: &Listing) -> Option<Failure> {
        self.0.refusal(keys, seen).or_else(|| self.1.refusal(keys, seen))
    }
}
