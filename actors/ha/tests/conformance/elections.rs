//! Elections with their shell, over any store.

use crate::records::job;
use crate::world::World;
use hurtig_core::time::{Clock, ManualClock, SystemClock};
use hurtig_ha::kv::{
    Entry, Key, Lease, LeaseId, Listing, Outcome, Pending, Revision, Store, StoreError, Transaction, Watch,
    Watched,
};
use hurtig_ha::leader::{
    Candidate, ElectionEvent, LeaderElection, Leadership, Signal, Standing, Term, Timing, current_leader,
};
use hurtig_ha::records::{Failure, LeaderRecord, LeaderToken};
use hurtig_kit::{ActorEnv, BlockingPool, KillSwitch, Mailbox, Shell};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A candidate that runs.
pub(crate) struct Running {
    pub(crate) mailbox: Mailbox<ElectionEvent>,
    pub(crate) leadership: Leadership,
    signals: mpsc::Receiver<Signal>,
    pool: Option<BlockingPool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let pool = self.pool.take();
        std::thread::spawn(move || drop(pool)).join().unwrap();
    }
}

impl Running {
    pub(crate) async fn signal(&mut self) -> Signal {
        self.signals.recv().await.expect("the election has ended")
    }

    /// Waits until it is elected, whatever comes before.
    pub(crate) async fn elected(&mut self) -> Term {
        loop {
            if let Signal::Elected(term) = self.signal().await {
                return term;
            }
        }
    }

    pub(crate) fn token(&self, term: Term) -> LeaderToken {
        LeaderToken::new(term, self.leadership.clone())
    }
}

pub(crate) fn timing(ttl: Duration) -> Timing {
    Timing {
        ttl,
        renew_every: ttl / 5,
        deadline: ttl * 4 / 5,
        retry: Duration::from_millis(50),
    }
}

pub(crate) fn start(world: &World, store: Arc<dyn Store>, clock: Arc<dyn Clock>, timing: Timing) -> Running {
    let pool = BlockingPool::new().unwrap();
    let env = ActorEnv {
        clock: clock.clone(),
        kill: KillSwitch::default(),
        blocking: pool.threads(),
    };
    let (tell, signals) = mpsc::channel(64);
    let record = LeaderRecord {
        candidate: "somebody".into(),
        address: "localhost:1".into(),
        rest: None,
    };
    let candidate = Candidate {
        record,
        incarnation: 1,
        timing,
    };
    let leadership = Leadership::new(clock);
    let election = LeaderElection::new(
        candidate,
        (store, world.keys()),
        leadership.clone(),
        move |signal| {
            tell.try_send(signal).unwrap();
        },
    );
    let (mailbox, _) = Shell::start(election, env);
    Running {
        mailbox,
        leadership,
        signals,
        pool: Some(pool),
    }
}

fn started(world: &World) -> Running {
    let lasting = timing(Duration::from_secs(60));
    start(world, world.store.clone(), SystemClock::new(), lasting)
}

pub(crate) async fn one_leads_and_the_next_one_follows_under_a_greater_term(world: &World) {
    let mut first = started(world);
    let one = first.elected().await;
    let mut second = started(world);
    // Time for a campaign of the second one: that it is not elected is the subject.
    let none = tokio::time::timeout(Duration::from_millis(300), second.signal()).await;
    assert!(none.is_err(), "{none:?}");
    assert_eq!(first.leadership.leading(), Some(one));
    assert_eq!(second.leadership.leading(), None);
    let leader = current_leader(&*world.store, &world.keys())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(leader.created, one.revision);
    first.mailbox.tell(ElectionEvent::Resign).unwrap();
    assert_eq!(first.signal().await, Signal::Deposed(one));
    let two = second.elected().await;
    assert!(two > one);
    assert_eq!(first.leadership.standing(one), Standing::Deposed);
    assert_eq!(second.leadership.standing(two), Standing::Leading);
}

pub(crate) async fn a_lease_that_is_revoked_early_deposes(world: &World) {
    let mut leader = started(world);
    let one = leader.elected().await;
    let entry = world.store.get(&world.keys().leader()).await.unwrap().unwrap();
    world.store.revoke(entry.lease.unwrap()).await.unwrap();
    assert_eq!(leader.signal().await, Signal::Deposed(one));
    assert!(leader.elected().await > one);
}

pub(crate) async fn a_candidate_whose_lease_is_gone_is_not_crowned(world: &World) {
    let mut first = started(world);
    first.elected().await;
    let spy = Arc::new(Spy::over(world.store.clone()));
    // It renews hardly ever, so that it does not find out in time.
    let patient = Timing {
        renew_every: Duration::from_secs(20),
        ttl: Duration::from_secs(60),
        ..timing(world.ttl)
    };
    let patient = Timing {
        deadline: Duration::from_secs(50),
        ..patient
    };
    let mut second = start(world, spy.clone(), SystemClock::new(), patient);
    let lease = spy.first_lease().await;
    world.store.revoke(lease).await.unwrap();
    first.mailbox.tell(ElectionEvent::Resign).unwrap();
    let term = second.elected().await;
    let entry = world
        .store
        .get(&world.keys().leader())
        .await
        .unwrap()
        .expect("it leads without a key");
    assert_eq!(entry.created, term.revision);
    assert_ne!(entry.lease, Some(lease));
}

pub(crate) async fn who_was_paused_is_suspended_and_then_deposed(world: &World) {
    let records = world.records();
    let clock = ManualClock::new();
    let spy = Spy::over(world.store.clone());
    let mut paused = start(world, Arc::new(spy.clone()), clock.clone(), timing(world.ttl));
    let old = paused.elected().await;
    let old_token = paused.token(old);
    records.submit(&old_token, &job(1, 1)).await.unwrap();
    spy.paused.send_replace(true);
    // It hears nothing, its clock stands still, and its lease ends.
    let mut next = started(world);
    let new = next.elected().await;
    assert!(new > old);
    // What it had checked before it was paused, it does now.
    assert_eq!(paused.leadership.standing(old), Standing::Leading);
    let late = records.raise_epoch(&old_token, job(1, 1).job).await;
    assert_eq!(late, Err(Failure::Deposed(old)));
    clock.advance(Duration::from_secs(60));
    // Before any timer or answer.
    assert_eq!(paused.leadership.standing(old), Standing::Suspended);
    assert_eq!(
        records.raise_epoch(&old_token, job(1, 1).job).await,
        Err(Failure::Suspended)
    );
    assert_eq!(paused.signal().await, Signal::Suspended(old));
    spy.paused.send_replace(false);
    assert_eq!(paused.signal().await, Signal::Deposed(old));
    assert_eq!(paused.leadership.standing(old), Standing::Deposed);
    records
        .raise_epoch(&next.token(new), job(1, 1).job)
        .await
        .unwrap();
}

pub(crate) async fn who_is_suspended_goes_on_under_the_same_term(world: &World) {
    let records = world.records();
    let clock = ManualClock::new();
    let long = Timing {
        ttl: Duration::from_secs(60),
        ..Timing::default()
    };
    let mut leader = start(world, world.store.clone(), clock.clone(), long);
    let term = leader.elected().await;
    clock.advance(Duration::from_secs(5));
    let token = leader.token(term);
    assert_eq!(records.submit(&token, &job(1, 1)).await, Err(Failure::Suspended));
    assert_eq!(leader.signal().await, Signal::Suspended(term));
    assert_eq!(leader.signal().await, Signal::Resumed(term));
    records.submit(&token, &job(1, 1)).await.unwrap();
}

/// A store as a process sees it that can be paused: nothing is asked and nothing is heard meanwhile. Notes which leases it grants.
#[derive(Clone, Debug)]
struct Spy {
    store: Arc<dyn Store>,
    leases: Arc<Mutex<Vec<LeaseId>>>,
    paused: Arc<watch::Sender<bool>>,
}

impl Spy {
    fn over(store: Arc<dyn Store>) -> Self {
        let paused = Arc::new(watch::Sender::new(false));
        let leases = Arc::default();
        Self {
            store,
            leases,
            paused,
        }
    }

    async fn first_lease(&self) -> LeaseId {
        loop {
            let first = self.leases.lock().unwrap().first().copied();
            if let Some(lease) = first {
                return lease;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn awake<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Store) -> Pending<T> + Send + 'static,
    ) -> Pending<T> {
        let spy = self.clone();
        Box::pin(async move {
            spy.is_awake().await;
            let answer = ask(&*spy.store).await;
            spy.is_awake().await;
            answer
        })
    }

    async fn is_awake(&self) {
        self.paused.subscribe().wait_for(|paused| !paused).await.unwrap();
    }
}

struct SpyWatch(Box<dyn Watch>, Spy);

impl Watch for SpyWatch {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Watched> + Send + '_>> {
        Box::pin(async {
            let watched = self.0.next().await;
            self.1.is_awake().await;
            watched
        })
    }
}

impl Store for Spy {
    fn commit(&self, transaction: Transaction) -> Pending<Outcome> {
        self.awake(move |store| store.commit(transaction))
    }
    fn get(&self, key: &Key) -> Pending<Result<Option<Entry>, StoreError>> {
        let key = key.clone();
        self.awake(move |store| store.get(&key))
    }
    fn list(&self, above: &Key) -> Pending<Result<Listing, StoreError>> {
        let above = above.clone();
        self.awake(move |store| store.list(&above))
    }
    fn watch(&self, above: &Key, after: Revision) -> Box<dyn Watch> {
        Box::new(SpyWatch(self.store.watch(above, after), self.clone()))
    }
    fn grant(&self, ttl: Duration) -> Pending<Result<Lease, StoreError>> {
        let leases = self.leases.clone();
        let granted = self.awake(move |store| store.grant(ttl));
        Box::pin(async move {
            let lease = granted.await?;
            leases.lock().unwrap().push(lease.id);
            Ok(lease)
        })
    }
    fn renew(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        self.awake(move |store| store.renew(lease))
    }
    fn revoke(&self, lease: LeaseId) -> Pending<Result<(), StoreError>> {
        self.awake(move |store| store.revoke(lease))
    }
    fn compact(&self, up_to: Revision) -> Pending<Result<(), StoreError>> {
        self.awake(move |store| store.compact(up_to))
    }
}
