//! Unknown outcomes: read back by sending the same transaction again.

use super::{Listing, Outcome, Revision, Store, StoreError, Transaction};

/// How often a transaction is sent before its outcome is left unknown for now.
const SENDS: usize = 3;

/// A transaction whose outcome is unknown. Whoever holds it deletes nothing and settles it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// What was sent.
    pub transaction: Transaction,
    /// Why the outcome is unknown.
    pub why: String,
}

/// How a transaction ended, in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It took effect. The revision is known unless that had to be read back.
    Done(Revision),
    /// It never took effect. Here is what was seen.
    Refused(Listing),
    /// It may have been in effect until somebody else wrote. Delete nothing.
    Overtaken(Listing),
    /// It never took effect.
    Rejected(StoreError),
    /// Still unknown.
    Unknown(Parked),
}

/// Sends a transaction until its outcome is known, at most a few times. `parked` is one whose outcome was unknown before.
pub async fn settle(store: &dyn Store, transaction: Transaction, parked: bool) -> Settled {
    let mut doubted = parked;
    let mut reason = String::new();
    for _ in 0..SENDS {
        match judge(&transaction, store.commit(transaction.clone()).await, doubted) {
            Settled::Unknown(unknown) => reason = unknown.why,
            settled => return settled,
        }
        doubted = true;
    }
    Settled::Unknown(Parked {
        transaction,
        why: reason,
    })
}

/// What an outcome means, for a transaction that may have taken effect before if `doubted`.
fn judge(transaction: &Transaction, outcome: Outcome, doubted: bool) -> Settled {
    let parked = |why: String| {
        Settled::Unknown(Parked {
            transaction: transaction.clone(),
            why,
        })
    };
    match outcome {
        Outcome::Done(revision) => Settled::Done(revision),
        Outcome::Unknown(why) => parked(why),
        // The copy that was sent before may still be on its way.
        Outcome::Rejected(error) if doubted => parked(error.to_string()),
        Outcome::Rejected(error) => Settled::Rejected(error),
        Outcome::Refused(seen) if !doubted || transaction.is_impossible_in(&seen) => Settled::Refused(seen),
        Outcome::Refused(seen) if transaction.is_seen_in(&seen) => {
            let written = transaction
                .anchor()
                .and_then(|(_, change)| seen.get(change.key()));
            Settled::Done(written.map_or(seen.revision, |entry| entry.modified))
        }
        Outcome::Refused(seen) => Settled::Overtaken(seen),
    }
}
