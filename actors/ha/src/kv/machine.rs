//! The definition of a store: entries, leases, revisions, history. No clock, no lock, no file.
//!
//! `none` and `file` are this machine; the tests hold etcd to it as well.

use super::{
    Change, Entry, Guard, Key, Lease, LeaseId, Listing, Outcome, Revision, StoreError, Transaction, Watched,
};
use hurtig_core::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What changes at one revision. What a store has to keep in order to be the same again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The revision.
    pub revision: Revision,
    /// The changes.
    pub changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug)]
struct LeaseState {
    ttl: Duration,
    ends: Time,
}

/// A store as a value.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    entries: BTreeMap<Key, Entry>,
    revision: Revision,
    leases: BTreeMap<LeaseId, LeaseState>,
    last_lease: i64,
    history: VecDeque<(Revision, Vec<(Key, Option<Entry>)>)>,
    /// The history up to here is forgotten.
    compacted: Revision,
}

impl Machine {
    /// A machine with these entries, and nothing that happened before. Leases do not outlive a machine.
    #[must_use]
    pub fn restored(revision: Revision, entries: Vec<Entry>) -> Self {
        Self {
            entries: entries
                .into_iter()
                .map(|entry| (entry.key.clone(), entry))
                .collect(),
            revision,
            compacted: revision,
            ..Self::default()
        }
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// All entries, in the order of keys.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// What is under a key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// What is under all keys that `above` contains.
    #[must_use]
    pub fn list(&self, above: &Key) -> Listing {
        Listing {
            revision: self.revision,
            entries: self.below(above).cloned().collect(),
        }
    }

    /// Decides on a transaction: what would change, or how it ends without a change.
    ///
    /// # Errors
    /// The outcome, when nothing changes.
    pub fn decide(&self, transaction: &Transaction) -> Result<Batch, Outcome> {
        if !transaction.guards().iter().all(|guard| self.holds(guard)) {
            let entries = transaction
                .keys()
                .iter()
                .filter_map(|key| self.get(key).cloned())
                .collect();
            let revision = self.revision;
            return Err(Outcome::Refused(Listing { revision, entries }));
        }
        let leases = transaction.changes().iter().filter_map(|change| match change {
            Change::Put(_, _, lease) => *lease,
            Change::Delete(_) => None,
        });
        for lease in leases {
            if !self.leases.contains_key(&lease) {
                return Err(Outcome::Rejected(StoreError::LeaseGone(lease)));
            }
        }
        if transaction.changes().is_empty() {
            return Err(Outcome::Done(self.revision));
        }
        Ok(self.batch(transaction.changes().to_vec()))
    }

    /// Carries out what was decided.
    ///
    /// # Panics
    /// When the batch does not follow the last one.
    pub fn apply(&mut self, batch: &Batch) {
        assert_eq!(batch.revision.0, self.revision.0 + 1, "changes follow each other");
        self.revision = batch.revision;
        let keys = batch.changes.iter().map(Change::key).cloned().collect::<Vec<_>>();
        for change in &batch.changes {
            match change {
                Change::Put(key, value, lease) => self.put(key, value, *lease),
                Change::Delete(key) => drop(self.entries.remove(key)),
            }
        }
        let now_there = keys.into_iter().map(|key| {
            let entry = self.entries.get(&key).cloned();
            (key, entry)
        });
        let told = now_there.collect();
        self.history.push_back((batch.revision, told));
    }

    /// Grants a lease.
    pub fn grant(&mut self, now: Time, ttl: Duration) -> Lease {
        self.last_lease += 1;
        let id = LeaseId(self.last_lease);
        let ends = now.after(ttl);
        self.leases.insert(id, LeaseState { ttl, ends });
        Lease { id, ttl }
    }

    /// Lets a lease live on; whether it did live.
    pub fn renew(&mut self, now: Time, id: LeaseId) -> bool {
        let Some(lease) = self.leases.get_mut(&id) else {
            return false;
        };
        lease.ends = now.after(lease.ttl);
        true
    }

    /// When the next lease ends.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Time> {
        self.leases.values().map(|lease| lease.ends).min()
    }

    /// Leases that have ended.
    #[must_use]
    pub fn expired(&self, now: Time) -> Vec<LeaseId> {
        let ended = self.leases.iter().filter(|(_, lease)| lease.ends <= now);
        ended.map(|(id, _)| *id).collect()
    }

    /// What is to be deleted before a lease may be forgotten.
    #[must_use]
    pub fn bound_to(&self, id: LeaseId) -> Option<Batch> {
        self.orphans(|lease| lease == id)
    }

    /// Forgets a lease.
    pub fn forget(&mut self, id: LeaseId) {
        self.leases.remove(&id);
    }

    /// What is to be deleted because its lease is of another life of this store.
    #[must_use]
    pub fn orphaned(&self) -> Option<Batch> {
        self.orphans(|lease| !self.leases.contains_key(&lease))
    }

    /// Forgets the history up to a revision.
    pub fn compact(&mut self, up_to: Revision) {
        self.compacted = self.compacted.max(up_to.min(self.revision));
        while self
            .history
            .front()
            .is_some_and(|(revision, _)| *revision <= self.compacted)
        {
            self.history.pop_front();
        }
    }

    /// What a watch of keys below `above` is told next after `after`.
    #[must_use]
    pub fn since(&self, above: &Key, after: Revision) -> Option<Watched> {
        if after < self.compacted {
            return Some(Watched::Compacted);
        }
        let later = self.history.iter().filter(|(revision, _)| *revision > after);
        later
            .map(|(revision, changes)| {
                let told = changes.iter().filter(|(key, _)| above.contains(key)).cloned();
                (*revision, told.collect::<Vec<_>>())
            })
            .find(|(_, changes)| !changes.is_empty())
            .map(|(revision, changes)| Watched::Changed(revision, changes))
    }

    /// How many revisions of history there are.
    #[must_use]
    pub fn history_len(&self) -> usize {
        self.history.len()
    }

    fn holds(&self, guard: &Guard) -> bool {
        match guard {
            Guard::NoneBelow(above) => self.below(above).next().is_none(),
            other => other.holds(self.get(other.key())),
        }
    }

    fn below<'a>(&'a self, above: &'a Key) -> impl Iterator<Item = &'a Entry> {
        self.entries
            .range(above.clone()..)
            .map(|(_, entry)| entry)
            .skip_while(move |entry| entry.key == *above)
            .take_while(move |entry| entry.key.as_str().starts_with(above.as_str()))
            .filter(move |entry| above.contains(&entry.key))
    }

    fn put(&mut self, key: &Key, value: &[u8], lease: Option<LeaseId>) {
        let revision = self.revision;
        let created = self.entries.get(key).map_or(revision, |entry| entry.created);
        let (key, value) = (key.clone(), value.to_vec());
        let entry = Entry {
            key: key.clone(),
            value,
            created,
            modified: revision,
            lease,
        };
        self.entries.insert(key, entry);
    }

    fn batch(&self, changes: Vec<Change>) -> Batch {
        let revision = Revision(self.revision.0 + 1);
        Batch { revision, changes }
    }

    fn orphans(&self, gone: impl Fn(LeaseId) -> bool) -> Option<Batch> {
        let orphans = self
            .entries
            .values()
            .filter(|entry| entry.lease.is_some_and(&gone));
        let changes: Vec<Change> = orphans.map(|entry| Change::Delete(entry.key.clone())).collect();
        (!changes.is_empty()).then(|| self.batch(changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_below_another_are_found_whatever_sorts_between() {
        let mut machine = Machine::default();
        let keys = ["/a", "/a-b", "/a.c", "/a/b", "/a/c/d", "/ab", "/b"];
        for key in keys {
            let put = Change::Put(Key::new(key), vec![1], None);
            let batch = machine.decide(&Transaction::new(vec![Guard::Absent(Key::new(key))], vec![put]));
            machine.apply(&batch.unwrap());
        }
        let listing = machine.list(&Key::new("/a"));
        let found: Vec<&str> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(found, ["/a/b", "/a/c/d"]);
        assert_eq!(listing.revision, Revision(7));
    }
}
