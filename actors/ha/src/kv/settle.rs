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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Change, Entry, Guard, Key};

    fn put() -> Transaction {
        let key = Key::new("/a");
        let token = Guard::CreatedAt(Key::new("/token"), Revision(1));
        Transaction::new(
            vec![Guard::Absent(key.clone()), token],
            vec![Change::Put(key, b"mine".to_vec(), None)],
        )
    }

    fn seen(value: Option<&[u8]>, token: u64) -> Outcome {
        let entry = |key: &str, value: &[u8], at: u64| Entry {
            key: Key::new(key),
            value: value.to_vec(),
            created: Revision(at),
            modified: Revision(at),
            lease: None,
        };
        let mut entries: Vec<Entry> = value.map(|value| entry("/a", value, 5)).into_iter().collect();
        entries.push(entry("/token", b"", token));
        Outcome::Refused(Listing {
            revision: Revision(9),
            entries,
        })
    }

    #[test]
    fn who_was_in_doubt_believes_only_what_was_seen() {
        let judged = |outcome, doubted| judge(&put(), outcome, doubted);
        assert_eq!(judged(seen(Some(b"mine"), 1), true), Settled::Done(Revision(5)));
        assert!(matches!(
            judged(seen(Some(b"theirs"), 1), true),
            Settled::Overtaken(_)
        ));
        assert!(matches!(
            judged(seen(Some(b"theirs"), 1), false),
            Settled::Refused(_)
        ));
        // Fenced for good, and never in effect.
        assert!(matches!(judged(seen(None, 2), true), Settled::Refused(_)));
        let gone = Outcome::Rejected(StoreError::Full(String::new()));
        assert!(matches!(judged(gone.clone(), true), Settled::Unknown(_)));
        assert!(matches!(judged(gone, false), Settled::Rejected(_)));
    }
}
