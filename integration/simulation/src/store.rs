//! A model of etcd: the real definition of a store, behind a network and with faults. Requests are carried out when they reach it,
//! at once and in one order; the answer may be late or lost, and so may be the request.

use crate::kernel::{Happening, Kernel};
use crate::messages::Pid;
use hurtig_core::time::Time;
use hurtig_ha::kv::{
    Entry, Key, Lease, LeaseId, Listing, Machine, Outcome, Pending, Revision, Store, StoreError, Transaction,
    Watch, Watched,
};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often leases are looked at.
pub(crate) const LEASES: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Commit(Transaction),
    Get(Key),
    List(Key),
    Grant(Duration),
    Renew(LeaseId),
    Revoke(LeaseId),
    /// No request at all: time passes.
    Sleep(Duration),
}

/// What is answered.
#[derive(Clone, Debug)]
enum Given {
    Committed(Outcome),
    Entry(Option<Entry>),
    Listing(Listing),
    Lease(Lease),
    Renewed(bool),
    Nothing,
}

#[derive(Debug)]
struct Open {
    client: Pid,
    /// What the store says, once it was reached.
    given: Option<Given>,
    answered: bool,
}

/// The store and what is under way there.
#[derive(Debug, Default)]
pub(crate) struct StoreState {
    pub(crate) machine: Machine,
    open: BTreeMap<u64, Open>,
    /// What has not reached the store. It will, whatever becomes of who has asked.
    travelling: BTreeMap<u64, Request>,
    next: u64,
    new: Vec<u64>,
    /// So often in a hundred a request or its answer is lost.
    pub(crate) loss: u64,
    /// Nobody reaches it.
    pub(crate) away: bool,
    /// Requests take up to so many milliseconds.
    pub(crate) slow: u64,
}

/// A client's way to the store.
#[derive(Clone)]
pub(crate) struct SimStore {
    client: Pid,
    state: Arc<Mutex<StoreState>>,
}

pub(crate) fn locked(state: &Mutex<StoreState>) -> MutexGuard<'_, StoreState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Waiting {
    id: u64,
    state: Arc<Mutex<StoreState>>,
}

impl Future for Waiting {
    type Output = Option<Given>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = locked(&self.state);
        match state.open.get(&self.id) {
            Some(open) if !open.answered => Poll::Pending,
            Some(_) => match state.open.remove(&self.id) {
                Some(open) => Poll::Ready(open.given),
                None => Poll::Pending,
            },
            None => Poll::Pending,
        }
    }
}

impl SimStore {
    pub(crate) fn new(client: Pid, state: Arc<Mutex<StoreState>>) -> Self {
        Self { client, state }
    }

    fn begin(&self, request: Request) -> Waiting {
        let mut state = locked(&self.state);
        state.next += 1;
        let id = state.next;
        state.new.push(id);
        let client = self.client;
        let open = Open {
            client,
            given: None,
            answered: false,
        };
        state.open.insert(id, open);
        state.travelling.insert(id, request);
        let state = self.state.clone();
        Waiting { id, state }
    }

    /// Time passes.
    pub(crate) async fn sleep(&self, time: Duration) {
        self.begin(Request::Sleep(time)).await;
    }

    /// A question that changes nothing, or may be asked twice.
    fn ask<T: Send + 'static>(
        &self,
        request: Request,
        read: impl FnOnce(Given) -> Option<Result<T, StoreError>> + Send + 'static,
    ) -> Pending<Result<T, StoreError>> {
        let waiting = self.begin(request);
        Box::pin(async move {
            let given = waiting.await;
            let none = || Err(StoreError::Unreachable("no answer".to_owned()));
            given.and_then(read).unwrap_or_else(none)
        })
    }
}

impl Store for SimStore {
    fn commit(&self, transaction: Transaction) -> Pending<Outcome> {
        let waiting = self.begin(Request::Commit(transaction));
        Box::pin(async move {
            match waiting.await {
                Some(Given::Committed(outcome)) => outcome,
                _ => Outcome::Unknown("no answer".to_owned()),
            }
        })
    }

    fn get(&self, key: &Key) -> Pending<Result<Option<Entry>, StoreError>> {
        self.ask(Request::Get(key.clone()), |given| match given {
            Given::Entry(entry) => Some(Ok(entry)),
            _ => None,
        })
    }

    fn list(&self, above: &Key) -> Pending<Result<Listing, StoreError>> {
        self.ask(Request::List(above.clone()), |given| match given {
            Given::Listing(listing) => Some(Ok(listing)),
            _ => None,
        })
    }

    /// Watches are told to jobmanagers as events of their own.
    fn watch(&self, _: &Key, _: Revision) -> Box<dyn Watch> {
        Box::new(Nobody)
    }

    fn grant(&self, ttl: Duration) -> Pending<Result<Lease, StoreError>> {
        self.ask(Request::Grant(ttl), |given| match given {
            Given::Lease(lease) => Some(Ok(lease)),
            _ => None,
        })
    }

    fn renew(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        self.ask(Request::Renew(lease), move |given| match given {
            Given::Renewed(true) => Some(Ok(())),
            Given::Renewed(false) => Some(Err(StoreError::LeaseGone(lease))),
            _ => None,
        })
    }

    fn revoke(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        self.ask(Request::Revoke(lease), |_| Some(Ok(())))
    }

    fn compact(&self, _: Revision) -> Pending<Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Nobody;

impl Watch for Nobody {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Watched> + Send + '_>> {
        let lost = "watches are events of the simulation".to_owned();
        Box::pin(std::future::ready(Watched::Lost(lost)))
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore of {}", self.client)
    }
}

impl StoreState {
    fn carry_out(&mut self, id: u64, now: Time) -> Option<Transaction> {
        let request = self.travelling.remove(&id)?;
        let mut changed = None;
        let given = match request {
            Request::Commit(transaction) => match self.machine.decide(&transaction) {
                Ok(batch) => {
                    self.machine.apply(&batch);
                    changed = Some(transaction);
                    Given::Committed(Outcome::Done(batch.revision))
                }
                Err(outcome) => Given::Committed(outcome),
            },
            Request::Get(key) => Given::Entry(self.machine.get(&key).cloned()),
            Request::List(above) => Given::Listing(self.machine.list(&above)),
            Request::Grant(ttl) => Given::Lease(self.machine.grant(now, ttl)),
            Request::Renew(lease) => Given::Renewed(self.machine.renew(now, lease)),
            Request::Revoke(lease) => {
                self.end_lease(lease);
                Given::Nothing
            }
            Request::Sleep(_) => Given::Nothing,
        };
        if let Some(open) = self.open.get_mut(&id).filter(|open| !open.answered) {
            open.given = Some(given);
        }
        changed
    }

    fn end_lease(&mut self, lease: LeaseId) -> bool {
        let bound = self.machine.bound_to(lease);
        if let Some(batch) = &bound {
            self.machine.apply(batch);
        }
        self.machine.forget(lease);
        bound.is_some()
    }
}

impl Kernel {
    /// Sends what processes have asked of the store since.
    pub(crate) fn send_requests(&mut self) {
        let shared = self.store.clone();
        let new: Vec<(u64, Pid, Request)> = {
            let mut state = locked(&shared);
            let new = std::mem::take(&mut state.new);
            let of = |id: &u64| Some((*id, state.open.get(id)?.client, state.travelling.get(id)?.clone()));
            new.iter().filter_map(of).collect()
        };
        for (id, client, request) in new {
            self.send_request((id, client), &request);
        }
    }

    fn send_request(&mut self, (id, client): (u64, Pid), request: &Request) {
        if let Request::Sleep(time) = request {
            return self.after(*time, Happening::StoreAnswered(id));
        }
        let shared = self.store.clone();
        let (away, slow, loss) = {
            let state = locked(&shared);
            (state.away, state.slow.max(8), state.loss)
        };
        let cut = self
            .hosts
            .get(&client)
            .is_none_or(|host| self.cut(*host, crate::world::STORE));
        let there = self.random.millis(0, slow);
        let back = self.random.millis(0, slow);
        if away || cut {
            return self.after(PATIENCE, Happening::StoreAnswered(id));
        }
        if loss > 0 && self.random.percent(loss) {
            // The request is lost, its answer, or it comes through after its client has given it up.
            match self.random.below(3) {
                0 => {}
                1 => self.after(there, Happening::StoreReached(id)),
                _ => {
                    let late = PATIENCE + self.random.millis(1, 2_000);
                    self.after(late, Happening::StoreReached(id));
                }
            }
            self.drop_answer(id);
            return self.after(PATIENCE, Happening::StoreAnswered(id));
        }
        self.after(there, Happening::StoreReached(id));
        self.after(there + back, Happening::StoreAnswered(id));
        self.after(PATIENCE, Happening::StoreAnswered(id));
    }

    /// Whatever the store says, its client will not hear it.
    fn drop_answer(&mut self, id: u64) {
        self.checks.unheard.insert(id);
    }

    pub(crate) fn store_reached(&mut self, id: u64) {
        let now = self.now;
        let shared = self.store.clone();
        let changed = locked(&shared).carry_out(id, now);
        if let Some(transaction) = changed {
            self.after_change(&transaction);
        }
    }

    /// Whether somebody waits for it.
    pub(crate) fn store_answered(&mut self, id: u64) -> Option<Pid> {
        let shared = self.store.clone();
        let mut state = locked(&shared);
        let unheard = self.checks.unheard.contains(&id);
        let open = state.open.get_mut(&id).filter(|open| !open.answered)?;
        open.answered = true;
        if unheard {
            open.given = None;
        }
        Some(open.client)
    }

    pub(crate) fn look_at_leases(&mut self) {
        let now = self.now;
        let shared = self.store.clone();
        let ended = {
            let mut state = locked(&shared);
            let expired = state.machine.expired(now);
            expired
                .into_iter()
                .filter(|lease| state.end_lease(*lease))
                .count()
        };
        if ended > 0 {
            self.tell_watchers();
        }
        self.after(LEASES, Happening::Leases);
    }
}
