//! A guarded transaction: what must hold, and what changes then.

use super::{Entry, Key, LeaseId, Listing, Revision};

/// What must hold for a transaction to take effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing is under the key.
    Absent(Key),
    /// Something is under the key.
    Present(Key),
    /// What is under the key came there at this revision, and was not deleted since.
    CreatedAt(Key, Revision),
    /// What is under the key was last written at this revision.
    Unchanged(Key, Revision),
    /// Nothing is under any key that this one contains.
    NoneBelow(Key),
}

impl Guard {
    /// The guard that holds as long as nobody has written since `seen` was read under `key`.
    #[must_use]
    pub fn as_seen(key: &Key, seen: Option<&Entry>) -> Self {
        match seen {
            Some(entry) => Self::Unchanged(key.clone(), entry.modified),
            None => Self::Absent(key.clone()),
        }
    }

    /// The key that it looks at, or above whose descendants it looks.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key)
            | Self::Present(key)
            | Self::CreatedAt(key, _)
            | Self::Unchanged(key, _)
            | Self::NoneBelow(key) => key,
        }
    }

    /// Whether it holds for what is under its key.
    #[must_use]
    pub fn holds(&self, seen: Option<&Entry>) -> bool {
        match self {
            Self::Absent(_) | Self::NoneBelow(_) => seen.is_none(),
            Self::Present(_) => seen.is_some(),
            Self::CreatedAt(_, revision) => seen.is_some_and(|entry| entry.created == *revision),
            Self::Unchanged(_, revision) => seen.is_some_and(|entry| entry.modified == *revision),
        }
    }
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a value, which ends with the lease if there is one.
    Put(Key, Vec<u8>, Option<LeaseId>),
    /// Deletes what is under a key, if anything is.
    Delete(Key),
}

impl Change {
    /// The key that changes.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(key, ..) | Self::Delete(key) => key,
        }
    }
}

/// Guards and changes that take effect together, at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    guards: Vec<Guard>,
    changes: Vec<Change>,
}

impl Transaction {
    /// A transaction that refuses itself once it has taken effect.
    ///
    /// # Panics
    /// When no key that it changes is guarded by [`Guard::Absent`] or [`Guard::Unchanged`], so that it could take
    /// effect twice; or when it changes a key twice. One without changes only asks whether its guards hold.
    #[must_use]
    pub fn new(guards: Vec<Guard>, changes: Vec<Change>) -> Self {
        let transaction = Self { guards, changes };
        assert!(
            transaction.changes.is_empty() || transaction.anchor().is_some(),
            "a transaction must guard a key that it changes: {:?}",
            transaction.guards
        );
        let keys = &transaction.changes;
        assert!(
            keys.iter()
                .enumerate()
                .all(|(at, change)| keys[..at].iter().all(|before| before.key() != change.key())),
            "a transaction changes a key twice"
        );
        transaction
    }

    /// What must hold.
    #[must_use]
    pub fn guards(&self) -> &[Guard] {
        &self.guards
    }

    /// What changes.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Every key that it names, once, in order; [`Guard::NoneBelow`] is not among them.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        let guarded = self
            .guards
            .iter()
            .filter(|guard| !matches!(guard, Guard::NoneBelow(_)));
        let changed = self.changes.iter().map(Change::key);
        let mut keys: Vec<Key> = guarded.map(Guard::key).chain(changed).cloned().collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// The guard that keeps it from taking effect twice, and the change that it guards.
    pub(super) fn anchor(&self) -> Option<(&Guard, &Change)> {
        self.guards.iter().find_map(|guard| {
            let fixed = matches!(guard, Guard::Absent(_) | Guard::Unchanged(..));
            let writes_anew = |change: &&Change| {
                change.key() == guard.key()
                    && (matches!(guard, Guard::Unchanged(..)) || matches!(change, Change::Put(..)))
            };
            let change = self.changes.iter().find(writes_anew)?;
            fixed.then_some((guard, change))
        })
    }

    /// Whether what was seen shows that it was carried out and that nobody has written since. Relies on values being
    /// told apart by their stamps.
    #[must_use]
    pub fn is_seen_in(&self, seen: &Listing) -> bool {
        let Some((_, change)) = self.anchor() else {
            return false;
        };
        match change {
            Change::Put(key, value, _) => seen.get(key).is_some_and(|entry| entry.value == *value),
            Change::Delete(key) => seen.get(key).is_none(),
        }
    }

    /// Whether what was seen shows that it has not been carried out, and that no copy of it ever will be: its own key is
    /// as it was, and a guard is broken for good. Revisions do not come back, absence may.
    #[must_use]
    pub fn is_impossible_in(&self, seen: &Listing) -> bool {
        let holds = |guard: &Guard| guard.holds(seen.get(guard.key()));
        let broken =
            |guard: &Guard| matches!(guard, Guard::CreatedAt(..) | Guard::Unchanged(..)) && !holds(guard);
        self.anchor().is_some_and(|(own, _)| holds(own)) && self.guards.iter().any(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new("/a")
    }

    #[test]
    #[should_panic(expected = "must guard a key that it changes")]
    fn a_transaction_that_could_take_effect_twice_is_refused() {
        let put = Change::Put(Key::new("/b"), vec![], None);
        let _ = Transaction::new(vec![Guard::Absent(key())], vec![put]);
    }

    #[test]
    #[should_panic(expected = "must guard a key that it changes")]
    fn presence_does_not_guard_against_a_second_time() {
        let put = Change::Put(key(), vec![], None);
        let _ = Transaction::new(vec![Guard::Present(key())], vec![put]);
    }

    #[test]
    #[should_panic(expected = "must guard a key that it changes")]
    fn deleting_what_must_be_absent_guards_nothing() {
        let _ = Transaction::new(vec![Guard::Absent(key())], vec![Change::Delete(key())]);
    }

    #[test]
    fn its_own_value_under_its_own_key_says_that_it_was_carried_out() {
        let put = |value: u8| {
            Transaction::new(
                vec![Guard::Absent(key())],
                vec![Change::Put(key(), vec![value], None)],
            )
        };
        let (created, modified) = (Revision(1), Revision(1));
        let entry = Entry {
            key: key(),
            value: vec![1],
            created,
            modified,
            lease: None,
        };
        let seen = Listing {
            revision: Revision(1),
            entries: vec![entry],
        };
        assert!(put(1).is_seen_in(&seen) && !put(2).is_seen_in(&seen));
        assert!(!put(1).is_impossible_in(&seen) && !put(2).is_impossible_in(&seen));
    }

    #[test]
    fn only_a_revision_that_has_passed_is_gone_for_good() {
        let seen = Listing::default();
        let put = || vec![Change::Put(key(), vec![1], None)];
        let token = Key::new("/token");
        let fenced = Transaction::new(
            vec![Guard::Absent(key()), Guard::CreatedAt(token.clone(), Revision(1))],
            put(),
        );
        assert!(fenced.is_impossible_in(&seen));
        let waiting = Transaction::new(vec![Guard::Absent(key()), Guard::Present(token)], put());
        assert!(!waiting.is_impossible_in(&seen));
    }
}
