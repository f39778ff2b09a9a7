//! What the Dispatcher writes, over a store that loses requests and answers, and under leaders that are killed at any point of a write and
//! followed by others.
//!
//! Checked against what was answered: what was accepted is never forgotten, a job that has ended is never run again, nothing is obeyed twice,
//! and whoever is told that something was not written finds that it never is.

use super::brain::Times;
use super::durable::{Archive, Begins, Durable, NotWritten};
use super::intents::Asked;
use crate::process::launch::JobLaunch;
use crate::result::JobResult;
use crate::wire::{Deletion, StopsWith};
use hurtig_core::ids::{CheckpointId, JobId};
use hurtig_core::time::SystemClock;
use hurtig_dataflow::graph::{
    GraphSettings, JobGraph, JobStatus, NodeKind, StreamEdge, StreamGraph, StreamNode,
};
use hurtig_ha::blob::BlobDir;
use hurtig_ha::kv::{
    Change, Entry, Guard, Key, Lease, LeaseId, Listing, Outcome, Pending, Revision, Store, StoreError,
    Transaction, Watch,
};
use hurtig_ha::leader::{Leadership, Term};
use hurtig_ha::memory::MemoryStore;
use hurtig_ha::records::{EpochToken, Failure, Intent, IntentOutcome, JobIntent, Keys, LeaderToken, Records};
use hurtig_kit::{BlockingPool, BlockingThreads};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

/// A small generator, the same for a seed everywhere.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// A store of which every answer may be lost, and every request too, or come late.
#[derive(Debug)]
struct FaultyStore {
    store: MemoryStore,
    dice: Mutex<Dice>,
    late: Mutex<Vec<Transaction>>,
    /// In how many of a hundred calls something goes wrong.
    faults: u64,
}

impl FaultyStore {
    fn roll(&self, bound: u64) -> u64 {
        self.dice.lock().unwrap().below(bound)
    }

    /// What was late comes now, or never.
    fn catch_up(&self) {
        let late: Vec<Transaction> = self.late.lock().unwrap().drain(..).collect();
        for transaction in late {
            if self.roll(2) == 0 {
                let _ = self.store.commit_now(&transaction);
            }
        }
    }

    fn wrong(&self) -> Option<StoreError> {
        (self.roll(100) < self.faults).then(|| StoreError::Unreachable("a fault".to_owned()))
    }

    fn answer<T: Send + 'static>(&self, answer: T) -> Pending<T> {
        let turns = self.roll(4);
        Box::pin(async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            answer
        })
    }
}

impl Store for FaultyStore {
    fn commit(&self, transaction: Transaction) -> Pending<Outcome> {
        if self.roll(3) == 0 {
            self.catch_up();
        }
        let unknown = || Outcome::Unknown("a fault".to_owned());
        let outcome = match self.wrong() {
            None => self.store.commit_now(&transaction),
            Some(error) => match self.roll(4) {
                0 => Outcome::Rejected(error),
                1 => {
                    let _ = self.store.commit_now(&transaction);
                    unknown()
                }
                2 => {
                    self.late.lock().unwrap().push(transaction);
                    unknown()
                }
                _ => unknown(),
            },
        };
        self.answer(outcome)
    }
    fn get(&self, key: &Key) -> Pending<Result<Option<Entry>, StoreError>> {
        match self.wrong() {
            Some(error) => self.answer(Err(error)),
            None => self.store.get(key),
        }
    }
    fn list(&self, above: &Key) -> Pending<Result<Listing, StoreError>> {
        match self.wrong() {
            Some(error) => self.answer(Err(error)),
            None => self.store.list(above),
        }
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

fn graph(job: u128) -> JobGraph {
    let mut graph = StreamGraph::new();
    let source = graph.add_node(StreamNode::new("source", "Source", NodeKind::Source));
    let sink = graph.add_node(StreamNode::new("sink", "Sink", NodeKind::Sink));
    graph.add_edge(StreamEdge::new(source, sink));
    graph
        .job_graph(JobId::from_u128(job), &GraphSettings::default())
        .unwrap()
}

fn launch(job: JobId) -> JobLaunch {
    JobLaunch {
        artifact: String::new(),
        args: Vec::new(),
        config: [].into(),
        defaults: [].into(),
        parallelism: None,
        graph: Some(Box::new(graph(job.0.as_u128()))),
    }
}

fn archive(job: JobId, status: JobStatus) -> Archive {
    Archive {
        graph: graph(job.0.as_u128()),
        result: JobResult {
            job,
            name: String::new(),
            status,
            accumulators: [].into(),
            failure: None,
            failures: Vec::new(),
            restarts: 0,
            duration: Duration::ZERO,
            vertices: Vec::new(),
            details: Vec::new(),
            checkpoints: None,
        },
        times: Times::default(),
        deletions: vec![Deletion::Everything],
    }
}

/// What was asked under a trigger id, as far as it was answered.
#[derive(Clone, Debug, Default)]
struct Request {
    accepted: bool,
    cancel: bool,
    stop: bool,
    /// What was said of its outcome.
    answered: Option<IntentOutcome>,
    /// How often it was done, in whoever's eyes.
    savepoints: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Recorded {
    Surely,
    Perhaps,
}

#[derive(Clone, Debug, Default)]
struct Known {
    accepted: bool,
    ended: Option<JobStatus>,
    /// Somebody was killed while its end was being written.
    may_have_ended: Option<JobStatus>,
    /// The end that its JobMaster was told is recorded, or that may be.
    begun: Option<(JobStatus, Recorded)>,
    requests: BTreeMap<String, Request>,
    /// The latest checkpoint that somebody was told of.
    latest: u64,
    /// The savepoint of a stop that is recorded.
    stopped: Option<String>,
}

impl Known {
    /// Somebody was told so.
    #[track_caller]
    fn has_ended(&mut self) {
        self.ended = self.ended.or(self.may_have_ended);
        assert!(self.ended.is_some(), "nobody has ended it");
    }
}

/// A JobMaster that has claimed its job.
#[derive(Clone, Debug)]
struct Master {
    token: EpochToken,
    ids_end: CheckpointId,
    next: u64,
    latest: Option<CheckpointId>,
    stopped: bool,
    /// The end that it brings the job to.
    ends: Option<JobStatus>,
    open: BTreeSet<String>,
}

struct World {
    store: Arc<FaultyStore>,
    records: Records,
    blobs: BlobDir,
    threads: BlockingThreads,
    durable: Durable,
    /// Those who led before, and do not know that they do not any more.
    old: Vec<Durable>,
    known: BTreeMap<JobId, Known>,
    masters: BTreeMap<JobId, Master>,
    counter: u64,
}

/// A write that its leader may not survive: `None`, it was killed meanwhile.
async fn killed_at<T>(turns: Option<u64>, work: impl Future<Output = T>) -> Option<T> {
    let Some(turns) = turns else {
        return Some(work.await);
    };
    let killed = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = killed => None,
    }
}

impl World {
    fn durable(&self, leader: LeaderToken) -> Durable {
        Durable {
            records: self.records.clone(),
            leader,
            blobs: self.blobs.clone(),
            threads: self.threads.clone(),
            stores: hurtig_storage::BlobStores::local(),
        }
    }

    fn roll(&self, bound: u64) -> u64 {
        self.store.roll(bound)
    }

    /// The leader dies or is forgotten; the next one finds everything that was said.
    async fn next_leader(&mut self) {
        let leader = lead(&self.store.store, &self.records);
        let durable = self.durable(leader);
        self.old.push(std::mem::replace(&mut self.durable, durable));
        self.old.drain(..self.old.len().saturating_sub(2));
        self.check().await;
    }

    /// What the next leader finds.
    async fn check(&mut self) {
        let left = self.durable.inherit(1_000).await.unwrap();
        let job_of = |launch: &JobLaunch| launch.graph.as_ref().unwrap().id;
        let unfinished: BTreeMap<JobId, bool> = left
            .unfinished
            .iter()
            .map(|one| (job_of(&one.launch), one.cancelled))
            .collect();
        let ended: BTreeMap<JobId, JobStatus> = left
            .ended
            .iter()
            .map(|one| (one.result.job, one.result.status))
            .collect();
        for (job, known) in &mut self.known {
            if let (Some(may), Some(status)) = (known.may_have_ended, ended.get(job)) {
                assert_eq!(*status, may);
                known.ended = Some(may);
            }
            match known.ended {
                Some(status) => {
                    assert_eq!(ended.get(job), Some(&status), "{job} has ended");
                    assert!(!unfinished.contains_key(job), "{job} would run again");
                }
                None if known.accepted => {
                    assert!(unfinished.contains_key(job), "{job} is forgotten");
                    let cancels = |request: &Request| {
                        let done = request
                            .answered
                            .as_ref()
                            .is_some_and(|done| done.location.is_some());
                        request.cancel && request.accepted && (!request.stop || done)
                    };
                    let cancelled = known.requests.values().any(cancels);
                    assert!(!cancelled || unfinished[job], "{job} is not cancelled any more");
                }
                None => assert!(!ended.contains_key(job), "{job} was never accepted"),
            }
            for (trigger, request) in &known.requests {
                if !request.accepted && request.answered.is_none() {
                    continue;
                }
                let asked = loop {
                    match self.durable.asked(*job, trigger).await {
                        Err(failure) if failure.may_retry() => {}
                        asked => break asked.unwrap(),
                    }
                };
                let (_, outcome) = asked.unwrap_or_else(|| panic!("{trigger} of {job} is forgotten"));
                match &request.answered {
                    Some(answered) => assert_eq!(outcome.as_ref(), Some(answered), "{trigger}"),
                    None if known.ended.is_none() => assert_eq!(outcome, None, "{trigger} is under way"),
                    None => assert!(outcome.is_some(), "{trigger} ends with its job"),
                }
                assert!(
                    request.savepoints.len() <= 1,
                    "{trigger} was obeyed twice: {request:?}"
                );
            }
        }
    }

    async fn submit(&mut self, job: JobId, kill: Option<u64>) {
        let launch = launch(job);
        let admitted = killed_at(kill, self.durable.admit(&launch, 1)).await;
        let known = self.known.entry(job).or_default();
        match admitted {
            Some(Ok(_)) => known.accepted = true,
            Some(Err(NotWritten::Record(Failure::Ended(_)))) => known.has_ended(),
            Some(Err(error)) => panic!("the leader leads: {error}"),
            // Whoever asks again is answered for sure.
            None => {}
        }
    }

    /// A process takes the job, as the next one or again.
    async fn master(&mut self, job: JobId, again: bool) {
        let known = self.known.get(&job).cloned().unwrap_or_default();
        if !known.accepted || known.ended.is_some() {
            return;
        }
        if again && self.masters.contains_key(&job) {
            return;
        }
        let known_now = self.known.get_mut(&job).unwrap();
        let raised = match self.durable.raise(job, None).await {
            Ok(raised) => raised,
            Err(NotWritten::Record(Failure::Ended(_))) => return known_now.has_ended(),
            Err(error) => panic!("{job} runs: {error}"),
        };
        // Whoever was killed has not ended it, and never will.
        known_now.may_have_ended = None;
        let claimed = self.durable.claim(job, raised.epoch.0, Uuid::new_v4()).await;
        let Begins {
            token,
            latest,
            first_checkpoint,
            ids_end,
            stopped,
            ending,
            open,
        } = claimed.unwrap();
        let from = latest.as_ref().map_or(0, |(id, _)| id.0);
        assert!(from >= known.latest, "checkpoint {} was told of", known.latest);
        assert!(first_checkpoint.0 > from);
        if let Some(trigger) = &known.stopped {
            let stops = stopped.as_ref().and_then(|stopped| stopped.trigger.clone());
            assert_eq!(stops.as_ref(), Some(trigger), "its stop is forgotten");
        }
        for (trigger, request) in &known.requests {
            let owed = request.accepted && request.answered.is_none();
            assert!(!owed || open.contains_key(trigger), "{trigger} is not obeyed");
            assert!(
                request.answered.is_none() || !open.contains_key(trigger),
                "{trigger} again"
            );
        }
        let ends = ending.map(|ending| {
            assert_eq!(ending.deletions, [Deletion::Everything]);
            ending.result.status
        });
        match (known.begun, ends) {
            (Some((status, _)), Some(ends)) => assert_eq!(ends, status, "another end"),
            (begun, None) => assert!(
                begun.is_none_or(|(_, recorded)| recorded == Recorded::Perhaps),
                "its end is forgotten"
            ),
            (None, Some(_)) => panic!("nobody has begun its end"),
        }
        // What may have been recorded behind the back of who was killed is a fact now.
        let stop = stopped.and_then(|stopped| stopped.trigger);
        let known = self.known.get_mut(&job).unwrap();
        known.latest = from;
        known.begun = ends.map(|status| (status, Recorded::Surely));
        if let Some(trigger) = &stop {
            known.stopped = Some(trigger.clone());
            known.requests.get_mut(trigger).unwrap().savepoints.insert(from);
        }
        let master = Master {
            token,
            ids_end,
            next: first_checkpoint.0,
            latest: latest.map(|(id, _)| id),
            stopped: stop.is_some(),
            ends,
            open: open.into_keys().collect(),
        };
        self.masters.insert(job, master);
    }

    async fn checkpoint(&mut self, job: JobId, stop: Option<String>, kill: Option<u64>) {
        let Some(master) = self
            .masters
            .get_mut(&job)
            .filter(|master| !master.stopped && master.ends.is_none())
        else {
            return;
        };
        let id = CheckpointId(master.next);
        master.next += 1;
        let stops = stop.clone().map(|trigger| StopsWith {
            trigger: Some(trigger),
            drain: false,
        });
        let pointer = (id, format!("/c/{id}"), stops);
        let (token, ids_end) = (master.token, master.ids_end);
        let committed = killed_at(kill, self.durable.commit(&token, pointer, ids_end, 1)).await;
        match committed {
            Some(Ok(ids_end)) => {
                let known = self.known.get_mut(&job).unwrap();
                known.latest = id.0;
                let master = self.masters.get_mut(&job).unwrap();
                (master.latest, master.ids_end) = (Some(id), ids_end);
                if let Some(trigger) = stop {
                    master.stopped = true;
                    known.requests.get_mut(&trigger).unwrap().savepoints.insert(id.0);
                    known.stopped = Some(trigger);
                }
            }
            Some(Err(error)) => panic!("it has the job: {error}"),
            // The process asks the next leader the same, or dies with this one.
            None => _ = self.masters.remove(&job),
        }
    }

    /// Which kinds of requests there are.
    async fn ask(&mut self, job: JobId, trigger: String, kind: u64, kill: Option<u64>) {
        let intent = match kind {
            0 => Intent::Cancel,
            1 => Intent::Stop {
                directory: None,
                drain: false,
                format: None,
            },
            _ => Intent::Savepoint {
                directory: None,
                format: None,
                cancel: kind == 2,
            },
        };
        let asked = JobIntent {
            trigger: trigger.clone(),
            intent,
            asked_ms: 1,
        };
        let intended = killed_at(kill, self.durable.intend(job, &asked)).await;
        let known = self.known.entry(job).or_default();
        let before = known.requests.get(&trigger).cloned();
        let request = known.requests.entry(trigger.clone()).or_insert_with(|| Request {
            cancel: kind == 0 || kind == 2,
            stop: kind != 0,
            ..Request::default()
        });
        match intended {
            Some(Ok(told)) => {
                let new = before.is_none_or(|before| !before.accepted);
                assert!(new || matches!(told, Asked::Before), "{trigger} is new again");
                request.accepted = true;
                if let Some(master) = self.masters.get_mut(&job) {
                    master.open.insert(trigger);
                }
            }
            Some(Err(NotWritten::Record(Failure::Ended(_)))) => {
                assert!(before.is_none_or(|before| !before.accepted));
                known.requests.remove(&trigger);
                known.has_ended();
            }
            Some(Err(NotWritten::Record(Failure::NoJob(_)))) => {
                assert!(!known.accepted);
                known.requests.remove(&trigger);
            }
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }

    /// The JobMaster has taken a savepoint, and the leader writes that.
    async fn obey(&mut self, job: JobId, kill: Option<u64>) {
        let Some(master) = self.masters.get(&job) else {
            return;
        };
        let known = self.known.get_mut(&job).unwrap();
        let next = master.open.iter().find(|trigger| {
            let request = known.requests.get(*trigger);
            request.is_some_and(|request| request.stop)
        });
        let Some(trigger) = next.cloned() else { return };
        let is_stop = trigger.starts_with("stop");
        if is_stop {
            return Box::pin(self.checkpoint(job, Some(trigger), kill)).await;
        }
        let token = master.token;
        let outcome = IntentOutcome {
            at_ms: 7,
            location: Some(format!("/s/{trigger}")),
            ..IntentOutcome::default()
        };
        let answered = self.durable.answer(Some(token), (job, &trigger), &outcome);
        let answered = match killed_at(kill, answered).await {
            Some(answered) => answered,
            // The same JobMaster says the same to the next leader.
            None => self.durable.answer(Some(token), (job, &trigger), &outcome).await,
        };
        answered.unwrap_or_else(|error| panic!("it has the job: {error}"));
        known.requests.get_mut(&trigger).unwrap().answered = Some(outcome);
        self.masters.get_mut(&job).unwrap().open.remove(&trigger);
    }

    fn some_end(&self) -> JobStatus {
        match self.roll(2) {
            0 => JobStatus::Finished,
            _ => JobStatus::Failed,
        }
    }

    /// The JobMaster is about to delete what the job has stored.
    async fn begin_end(&mut self, job: JobId, kill: Option<u64>) {
        let status = self.some_end();
        let Some(master) = self.masters.get_mut(&job).filter(|master| master.ends.is_none()) else {
            return;
        };
        let token = master.token;
        master.ends = Some(status);
        let digests = self.durable.admit(&launch(job), 1).await.unwrap();
        let archive = archive(job, status);
        let begun = killed_at(kill, self.durable.begin_end(&token, digests, &archive, 8)).await;
        let recorded = match begun {
            Some(Ok(())) => Recorded::Surely,
            Some(Err(error)) => panic!("it has the job: {error}"),
            None => {
                self.masters.remove(&job);
                Recorded::Perhaps
            }
        };
        self.known.get_mut(&job).unwrap().begun = Some((status, recorded));
    }

    /// It was cancelled, and has no JobMaster.
    async fn end_without_master(&mut self, job: JobId) {
        let known = self.known.get(&job).cloned().unwrap_or_default();
        if !known.accepted || known.ended.is_some() || known.may_have_ended.is_some() {
            return;
        }
        self.masters.remove(&job);
        let digests = self.durable.admit(&launch(job), 1).await.unwrap();
        let archive = archive(job, JobStatus::Canceled);
        let ended = self.durable.end(job, digests, &archive, 9).await;
        let told = match ended {
            Ok(()) => JobStatus::Canceled,
            Err(NotWritten::Record(Failure::Ended(_))) => self.durable.learn(job).await.unwrap().status,
            Err(error) => panic!("it has no JobMaster: {error}"),
        };
        match known.begun {
            Some((status, Recorded::Perhaps)) => assert!([status, JobStatus::Canceled].contains(&told)),
            Some((status, Recorded::Surely)) => assert_eq!(told, status, "another end than was begun"),
            None => assert_eq!(told, JobStatus::Canceled),
        }
        self.known.get_mut(&job).unwrap().ended = Some(told);
    }

    async fn end(&mut self, job: JobId, kill: Option<u64>) {
        let Some(master) = self.masters.remove(&job) else {
            return;
        };
        let digests = self.durable.admit(&launch(job), 1).await.unwrap();
        let status = master.ends.unwrap_or_else(|| self.some_end());
        let archive = archive(job, status);
        let finished = self.durable.finish(&master.token, digests, &archive, 9);
        let known = self.known.get_mut(&job).unwrap();
        match killed_at(kill, finished).await {
            Some(Ok(())) => known.ended = Some(status),
            Some(Err(error)) => panic!("it has the job: {error}"),
            None => known.may_have_ended = Some(status),
        }
    }

    /// Who has led before writes nothing any more, whatever he does.
    async fn zombie(&mut self, job: JobId) {
        let Some(old) = self.old.pop() else { return };
        let before = self
            .store
            .store
            .list(self.records.keys().root())
            .await
            .unwrap()
            .revision;
        let trigger = format!("zombie-{}", self.counter);
        let asked = JobIntent {
            trigger,
            intent: Intent::Cancel,
            asked_ms: 1,
        };
        // He hears that he is deposed, or that the job is not there; late requests of others are what else may come.
        self.store.late.lock().unwrap().clear();
        assert!(old.intend(job, &asked).await.is_err());
        assert!(old.raise(job, None).await.is_err());
        self.store.late.lock().unwrap().clear();
        let after = self
            .store
            .store
            .list(self.records.keys().root())
            .await
            .unwrap()
            .revision;
        assert_eq!(before, after, "he has written");
    }
}

/// Takes the lead, as an election does that somebody else has lost.
fn lead(store: &MemoryStore, records: &Records) -> LeaderToken {
    let key = records.keys().leader();
    let delete = Change::Delete(key.clone());
    let _ = store.commit_now(&Transaction::new(
        vec![Guard::Present(key.clone()), Guard::Absent(key.join("x"))],
        vec![],
    ));
    let seen = match store.commit_now(&Transaction::new(vec![Guard::Absent(key.clone())], vec![])) {
        Outcome::Refused(seen) => seen.get(&key).cloned(),
        _ => None,
    };
    if let Some(seen) = seen {
        let guard = Guard::Unchanged(key.clone(), seen.modified);
        assert!(matches!(
            store.commit_now(&Transaction::new(vec![guard], vec![delete])),
            Outcome::Done(_)
        ));
    }
    let put = Change::Put(key.clone(), b"somebody".to_vec(), None);
    let Outcome::Done(revision) = store.commit_now(&Transaction::new(vec![Guard::Absent(key)], vec![put]))
    else {
        panic!("nobody leads");
    };
    let term = Term {
        incarnation: 1,
        revision,
    };
    LeaderToken::new(term, Leadership::for_ever(SystemClock::new(), term))
}

async fn run(seed: u64, faults: u64, (blobs, threads): (BlobDir, BlockingThreads)) {
    let store = Arc::new(FaultyStore {
        store: MemoryStore::new(SystemClock::new()),
        dice: Mutex::new(Dice(seed * 2 + 1)),
        late: Mutex::default(),
        faults,
    });
    let records = Records::new(store.clone(), Keys::new("/hurtig", "test"));
    let leader = lead(&store.store, &records);
    let durable = Durable {
        records: records.clone(),
        leader,
        blobs: blobs.clone(),
        threads: threads.clone(),
        stores: hurtig_storage::BlobStores::local(),
    };
    let mut world = World {
        store,
        records,
        blobs,
        threads,
        durable,
        old: Vec::new(),
        known: BTreeMap::new(),
        masters: BTreeMap::new(),
        counter: 0,
    };
    for _ in 0..60 {
        world.counter += 1;
        let job = JobId::from_u128(u128::from(world.roll(3)) + 1);
        let kill = (world.roll(5) == 0).then(|| world.roll(40));
        match world.roll(15) {
            0 | 1 => world.submit(job, kill).await,
            2 | 3 => world.master(job, world.roll(2) == 0).await,
            4 | 5 => world.checkpoint(job, None, kill).await,
            6 => {
                let kind = world.roll(4);
                let name = ["cancel", "stop", "savepoint-and-cancel", "savepoint"][kind as usize];
                let trigger = format!("{name}-{}", world.roll(3));
                world.ask(job, trigger, kind, kill).await;
            }
            7 | 8 => world.obey(job, kill).await,
            9 => world.end(job, kill).await,
            10 => world.zombie(job).await,
            11 | 12 => world.begin_end(job, kill).await,
            13 if world.roll(3) == 0 => world.end_without_master(job).await,
            _ => world.next_leader().await,
        }
        if kill.is_some() {
            world.next_leader().await;
        }
    }
    world.next_leader().await;
}

#[test]
fn what_was_said_holds_whatever_the_store_loses_and_whoever_is_killed() {
    let seeds: u64 = std::env::var("HA_SEEDS").map_or(40, |seeds| seeds.parse().unwrap());
    let only: Option<u64> = std::env::var("HA_SEED").ok().map(|seed| seed.parse().unwrap());
    let pool = BlockingPool::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        let dir = tempfile::tempdir().unwrap();
        let house = (BlobDir::open(dir.path()).unwrap(), pool.threads());
        println!("HA_SEED={seed}");
        runtime.block_on(run(seed, [0, 10, 30][(seed % 3) as usize], house));
    }
}
