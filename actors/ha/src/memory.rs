//! `none`: a store in memory. Also what tests and simulations hold in place of the others.

use crate::kv::{
    Batch, Entry, Key, Lease, LeaseId, Listing, Machine, Outcome, Pending, Revision, Store, StoreError,
    Transaction, Watch, Watched,
};
use hurtig_core::time::{Clock, Time};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Revisions of history that are kept for watches.
const HISTORY: u64 = 4096;

/// Where changes go before they count.
pub(crate) trait Journal: Send {
    /// Keeps a batch for good.
    ///
    /// # Errors
    /// The outcome, when it was not kept or nobody knows.
    fn keep(&mut self, batch: &Batch, machine: &Machine) -> Result<(), Outcome>;
}

/// Keeps nothing.
struct Forgetful;

impl Journal for Forgetful {
    fn keep(&mut self, _: &Batch, _: &Machine) -> Result<(), Outcome> {
        Ok(())
    }
}

struct State {
    machine: Machine,
    journal: Box<dyn Journal>,
}

struct Inner {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    /// Moves with each revision, so that watches wake.
    moved: watch::Sender<Revision>,
}

/// A machine behind a lock, with a journal.
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

impl MemoryStore {
    /// An empty store that forgets everything with its last handle.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_journal(Machine::default(), Box::new(Forgetful), clock)
    }

    pub(crate) fn with_journal(machine: Machine, journal: Box<dyn Journal>, clock: Arc<dyn Clock>) -> Self {
        let (moved, _) = watch::channel(machine.revision());
        let state = Mutex::new(State { machine, journal });
        Self {
            inner: Arc::new(Inner { state, clock, moved }),
        }
    }

    /// Ends the leases whose time is over. Every call does so first; a test that has moved the clock may do it for watches.
    pub fn expire(&self) {
        drop(self.inner.current());
    }

    /// Carries out a transaction at once. May wait for a disk when there is a journal.
    #[must_use]
    pub fn commit_now(&self, transaction: &Transaction) -> Outcome {
        match self.inner.current() {
            Ok(mut state) => self.inner.commit(&mut state, transaction),
            Err(outcome) => outcome,
        }
    }

    pub(crate) fn get_now(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let state = self.inner.readable()?;
        Ok(state.machine.get(key).cloned())
    }

    pub(crate) fn list_now(&self, above: &Key) -> Result<Listing, StoreError> {
        let state = self.inner.readable()?;
        Ok(state.machine.list(above))
    }

    pub(crate) fn watch_now(&self, above: &Key, after: Revision) -> Box<dyn Watch> {
        let moved = self.inner.moved.subscribe();
        let (inner, above) = (self.inner.clone(), above.clone());
        Box::new(MemoryWatch {
            inner,
            moved,
            above,
            after,
        })
    }

    pub(crate) fn grant_now(&self, ttl: Duration) -> Result<Lease, StoreError> {
        let mut state = self.inner.readable()?;
        Ok(state.machine.grant(self.inner.clock.now(), ttl))
    }

    pub(crate) fn renew_now(&self, lease: LeaseId) -> Result<(), StoreError> {
        let mut state = self.inner.readable()?;
        let lives = state.machine.renew(self.inner.clock.now(), lease);
        lives.then_some(()).ok_or(StoreError::LeaseGone(lease))
    }

    pub(crate) fn revoke_now(&self, lease: LeaseId) -> Result<(), StoreError> {
        let mut state = self.inner.readable()?;
        self.inner
            .end_lease(&mut state, lease)
            .map_err(|outcome| error_of(&outcome))
    }

    pub(crate) fn compact_now(&self, up_to: Revision) -> Result<(), StoreError> {
        self.inner.readable()?.machine.compact(up_to);
        Ok(())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves the machine as the journal has it: `apply` comes last.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, without what has expired.
    fn current(&self) -> Result<MutexGuard<'_, State>, Outcome> {
        let mut state = self.lock();
        for lease in state.machine.expired(self.clock.now()) {
            self.end_lease(&mut state, lease)?;
        }
        Ok(state)
    }

    fn readable(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        self.current().map_err(|outcome| error_of(&outcome))
    }

    fn commit(&self, state: &mut State, transaction: &Transaction) -> Outcome {
        match state.machine.decide(transaction) {
            Ok(batch) => match self.apply(state, &batch) {
                Ok(()) => Outcome::Done(batch.revision),
                Err(outcome) => outcome,
            },
            Err(outcome) => outcome,
        }
    }

    fn end_lease(&self, state: &mut State, lease: LeaseId) -> Result<(), Outcome> {
        if let Some(batch) = state.machine.bound_to(lease) {
            self.apply(state, &batch)?;
        }
        state.machine.forget(lease);
        Ok(())
    }

    fn apply(&self, state: &mut State, batch: &Batch) -> Result<(), Outcome> {
        state.journal.keep(batch, &state.machine)?;
        state.machine.apply(batch);
        let revision = batch.revision;
        if state.machine.history_len() as u64 > HISTORY {
            state
                .machine
                .compact(Revision(revision.0.saturating_sub(HISTORY / 2)));
        }
        self.moved.send_replace(revision);
        Ok(())
    }
}

fn error_of(outcome: &Outcome) -> StoreError {
    match outcome {
        Outcome::Rejected(error) => error.clone(),
        other => StoreError::Unreachable(format!("{other:?}")),
    }
}

fn ready<T: Send + 'static>(value: T) -> Pending<T> {
    Box::pin(std::future::ready(value))
}

impl Store for MemoryStore {
    fn commit(&self, transaction: Transaction) -> Pending<Outcome> {
        ready(self.commit_now(&transaction))
    }

    fn get(&self, key: &Key) -> Pending<Result<Option<Entry>, StoreError>> {
        ready(self.get_now(key))
    }

    fn list(&self, above: &Key) -> Pending<Result<Listing, StoreError>> {
        ready(self.list_now(above))
    }

    fn watch(&self, above: &Key, after: Revision) -> Box<dyn Watch> {
        self.watch_now(above, after)
    }

    fn grant(&self, ttl: Duration) -> Pending<Result<Lease, StoreError>> {
        ready(self.grant_now(ttl))
    }

    fn renew(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        ready(self.renew_now(lease))
    }

    fn revoke(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        ready(self.revoke_now(lease))
    }

    fn compact(&self, up_to: Revision) -> Pending<Result<(), StoreError>> {
        ready(self.compact_now(up_to))
    }
}

struct MemoryWatch {
    inner: Arc<Inner>,
    moved: watch::Receiver<Revision>,
    above: Key,
    after: Revision,
}

impl MemoryWatch {
    /// What there is to say now, else how long until the next lease ends.
    fn poll(&mut self) -> Result<Watched, Option<Duration>> {
        self.moved.borrow_and_update();
        let state = self
            .inner
            .readable()
            .map_err(|error| Watched::Lost(error.to_string()));
        let state = match state {
            Ok(state) => state,
            Err(lost) => return Ok(lost),
        };
        match state.machine.since(&self.above, self.after) {
            Some(watched) => Ok(watched),
            None => {
                let now: Time = self.inner.clock.now();
                Err(state.machine.next_expiry().map(|at| at.since(now)))
            }
        }
    }
}

impl Watch for MemoryWatch {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Watched> + Send + '_>> {
        Box::pin(async move {
            loop {
                let expiry = match self.poll() {
                    Ok(watched) => {
                        if let Watched::Changed(revision, _) = &watched {
                            self.after = *revision;
                        }
                        return watched;
                    }
                    Err(expiry) => expiry,
                };
                match expiry {
                    // The store lives as long as this watch holds it, so there is a sender.
                    None => drop(self.moved.changed().await),
                    Some(wait) => drop(tokio::time::timeout(wait, self.moved.changed()).await),
                }
            }
        })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}
