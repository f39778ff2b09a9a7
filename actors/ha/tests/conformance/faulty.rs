//! A store whose answers and requests get lost, or come late.

use hurtig_ha::kv::{
    Entry, Key, Lease, LeaseId, Listing, Outcome, Pending, Revision, Store, StoreError, Transaction, Watch,
};
use hurtig_ha::memory::MemoryStore;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

/// What befalls a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It never arrives.
    LostRequest,
    /// It takes effect, and nobody says so.
    LostAnswer,
    /// Nobody says so, and it arrives later.
    Late,
}

/// A store in memory with faults to come, in order. Then there are no more.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    store: MemoryStore,
    faults: Mutex<VecDeque<Fault>>,
    late: Mutex<Vec<Transaction>>,
}

impl FaultyStore {
    pub(crate) fn new(store: MemoryStore) -> Self {
        let (faults, late) = (Mutex::default(), Mutex::default());
        Self { store, faults, late }
    }

    /// What befalls the next transactions.
    pub(crate) fn inject(&self, faults: &[Fault]) {
        *self.faults.lock().unwrap() = faults.iter().copied().collect();
    }

    /// All that was late arrives.
    pub(crate) fn catch_up(&self) {
        for late in self.late.lock().unwrap().drain(..) {
            let _ = self.store.commit_now(&late);
        }
    }
}

impl Store for FaultyStore {
    fn commit(&self, transaction: Transaction) -> Pending<Outcome> {
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
        let unknown = Outcome::Unknown(format!("{fault:?}"));
        let outcome = match fault {
            Fault::None => {
                // What was late comes just before or just after.
                let outcome = self.store.commit_now(&transaction);
                self.catch_up();
                outcome
            }
            Fault::LostRequest => unknown,
            Fault::LostAnswer => {
                let _ = self.store.commit_now(&transaction);
                unknown
            }
            Fault::Late => {
                self.late.lock().unwrap().push(transaction);
                unknown
            }
        };
        Box::pin(std::future::ready(outcome))
    }
    fn get(&self, key: &Key) -> Pending<Result<Option<Entry>, StoreError>> {
        self.store.get(key)
    }
    fn list(&self, above: &Key) -> Pending<Result<Listing, StoreError>> {
        self.store.list(above)
    }
    fn watch(&self, above: &Key, after: Revision) -> Box<dyn Watch> {
        self.store.watch(above, after)
    }
    fn grant(&self, ttl: Duration) -> Pending<Result<Lease, StoreError>> {
        self.store.grant(ttl)
    }
    fn renew(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        self.store.renew(lease)
    }
    fn revoke(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        self.store.revoke(lease)
    }
    fn compact(&self, up_to: Revision) -> Pending<Result<(), StoreError>> {
        self.store.compact(up_to)
    }
}
