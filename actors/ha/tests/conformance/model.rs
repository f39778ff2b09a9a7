//! The records against a naive model, while requests and answers get lost.
//!
//! The model knows no revision, no guard and no fault: each operation happens once, at the call. Whatever is injected, answers and records
//! must be the same.

use crate::faulty::{Fault, FaultyStore};
use crate::records::{job, pointer, result};
use crate::world::{World, block_on};
use hurtig_core::ids::{CheckpointId, JobId};
use hurtig_core::time::ManualClock;
use hurtig_ha::kv::Revision;
use hurtig_ha::memory::MemoryStore;
use hurtig_ha::records::{
    Cleanup, Epoch, EpochToken, Failure, FinalStatus, Intent, IntentOutcome, JobIntent, LeaderToken, Records,
    Submission,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What is done. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Op {
    NewLeader,
    Submit {
        leader: usize,
        job: u8,
        graph: u8,
    },
    Raise {
        leader: usize,
        job: u8,
    },
    Claim {
        raised: usize,
        process: u8,
    },
    Reserve {
        token: usize,
    },
    Commit {
        token: usize,
        id: u64,
    },
    Intend {
        leader: usize,
        job: u8,
        trigger: u8,
        cancel: bool,
    },
    Answer {
        token: usize,
        trigger: u8,
    },
    Finish {
        token: usize,
        failed: bool,
    },
    EndJob {
        leader: usize,
        raised: usize,
    },
    Clean {
        leader: usize,
        job: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::NewLeader),
        3 => (0..3usize, 0..2u8, 0..2u8).prop_map(|(leader, job, graph)| Op::Submit { leader, job, graph }),
        3 => (0..3usize, 0..2u8).prop_map(|(leader, job)| Op::Raise { leader, job }),
        4 => (0..4usize, 0..2u8).prop_map(|(raised, process)| Op::Claim { raised, process }),
        3 => (0..3usize).prop_map(|token| Op::Reserve { token }),
        5 => (0..3usize, 1..20u64).prop_map(|(token, id)| Op::Commit { token, id }),
        2 => (0..3usize, 0..2u8, 0..2u8, any::<bool>())
            .prop_map(|(leader, job, trigger, cancel)| Op::Intend { leader, job, trigger, cancel }),
        2 => (0..3usize, 0..2u8).prop_map(|(token, trigger)| Op::Answer { token, trigger }),
        1 => (0..3usize, any::<bool>()).prop_map(|(token, failed)| Op::Finish { token, failed }),
        1 => (0..3usize, 0..4usize).prop_map(|(leader, raised)| Op::EndJob { leader, raised }),
        1 => (0..3usize, 0..2u8).prop_map(|(leader, job)| Op::Clean { leader, job }),
    ]
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        3 => Just(Fault::None),
        1 => Just(Fault::LostRequest),
        1 => Just(Fault::LostAnswer),
        1 => Just(Fault::Late),
    ];
    prop::collection::vec(fault, 0..5)
}

#[derive(Clone, Debug, Default, PartialEq)]
struct ModelJob {
    graph: Option<u8>,
    epoch: u64,
    claimed: Option<u8>,
    next_id: u64,
    checkpoints: BTreeSet<u64>,
    latest: u64,
    /// By trigger: whether it is a cancel, and whether it was answered.
    intents: BTreeMap<u8, (bool, bool)>,
    result: Option<(u8, FinalStatus, Cleanup)>,
}

/// How an operation ends, in words that the model knows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Done,
    Deposed,
    Fenced,
    NoJob,
    Ended,
    Conflict,
    Running,
    Same,
    Number(u64),
    /// There is nobody to do it.
    Nothing,
}

fn end_of<T>(answer: Result<T, Failure>, ok: impl FnOnce(T) -> End) -> End {
    match answer {
        Ok(value) => ok(value),
        Err(Failure::Deposed(_)) => End::Deposed,
        Err(Failure::Fenced { .. }) => End::Fenced,
        Err(Failure::NoJob(_)) => End::NoJob,
        Err(Failure::Ended(_)) => End::Ended,
        Err(Failure::Conflict(_)) => End::Conflict,
        Err(other) => panic!("{other:?}"),
    }
}

#[derive(Clone, Copy, Debug)]
struct Raised {
    job: u8,
    epoch: u64,
    token: EpochToken,
}

#[derive(Clone, Copy, Debug)]
struct Claimed {
    job: u8,
    epoch: u64,
    process: u8,
    token: EpochToken,
}

/// The model and the product, side by side.
struct Pair {
    jobs: BTreeMap<u8, ModelJob>,
    world: World,
    faulty: Arc<FaultyStore>,
    records: Records,
    leaders: Vec<LeaderToken>,
    raised: Vec<Raised>,
    claimed: Vec<Claimed>,
}

fn id(job: u8) -> JobId {
    JobId::from_u128(u128::from(job))
}

fn status(failed: bool) -> FinalStatus {
    if failed {
        FinalStatus::Failed
    } else {
        FinalStatus::Finished
    }
}

/// The latest but `back`, as far as there are any.
fn pick<T: Clone>(from: &[T], back: usize) -> Option<T> {
    from.iter()
        .rev()
        .nth(back.min(from.len().saturating_sub(1)))
        .cloned()
}

/// Does something until its outcome is known. Done again, it would be done twice; so it is settled.
macro_rules! known {
    ($pair:expr, $call:expr) => {{
        match $call.await {
            Err(Failure::Unknown(parked)) => Err($pair.settle(parked).await),
            other => Ok(other),
        }
    }};
}

impl Pair {
    async fn new() -> Self {
        let clock = ManualClock::new();
        let memory = MemoryStore::new(clock.clone());
        let faulty = Arc::new(FaultyStore::new(memory));
        let world = World {
            store: faulty.clone(),
            ttl: Duration::from_secs(1),
            clock,
            alive: Box::new(()),
        };
        let (records, leader) = (world.records(), world.lead().await);
        Self {
            jobs: BTreeMap::new(),
            world,
            faulty,
            records,
            leaders: vec![leader],
            raised: vec![],
            claimed: vec![],
        }
    }

    /// Whether it took effect, and when.
    async fn settle(&self, parked: hurtig_ha::kv::Parked) -> Result<Revision, Failure> {
        let mut parked = parked;
        loop {
            match self.records.settle(parked).await {
                Err(Failure::Unknown(still)) => parked = still,
                known => return known,
            }
        }
    }

    /// Does what may be done again until it is known.
    async fn insist<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T, Failure> {
        loop {
            match call().await {
                Err(Failure::Unknown(_)) => {}
                known => return known,
            }
        }
    }

    fn leader(&self, back: usize) -> (LeaderToken, bool) {
        let leader = pick(&self.leaders, back).unwrap();
        let leads = Some(leader.term()) == self.leaders.last().map(LeaderToken::term);
        (leader, leads)
    }

    fn model(&mut self, job: u8) -> &mut ModelJob {
        self.jobs.entry(job).or_default()
    }

    /// Why the model lets nobody write for a job.
    fn closed(&mut self, job: u8) -> Option<End> {
        let job = self.model(job);
        match (&job.result, job.graph) {
            (Some(_), _) => Some(End::Ended),
            (None, None) => Some(End::NoJob),
            _ => None,
        }
    }

    fn holds(&mut self, claimed: &Claimed) -> bool {
        let job = self.model(claimed.job);
        job.epoch == claimed.epoch && job.claimed == Some(claimed.process)
    }

    /// Does it to both; how it ended for the product, and for the model.
    async fn run(&mut self, op: &Op) -> (End, End) {
        match *op {
            Op::NewLeader => {
                self.faulty.inject(&[]);
                let leader = self.world.lead().await;
                self.leaders.push(leader);
                (End::Done, End::Done)
            }
            Op::Submit { leader, job, graph } => self.submit(leader, job, graph).await,
            Op::Raise { leader, job } => self.raise(leader, job).await,
            Op::Claim { raised, process } => self.claim(raised, process).await,
            Op::Reserve { token } => self.reserve(token).await,
            Op::Commit { token, id } => self.commit(token, id).await,
            Op::Intend {
                leader,
                job,
                trigger,
                cancel,
            } => self.intend(leader, (job, trigger), cancel).await,
            Op::Answer { token, trigger } => self.answer(token, trigger).await,
            Op::Finish { token, failed } => self.finish(token, failed).await,
            Op::EndJob { leader, raised } => self.end_job(leader, raised).await,
            Op::Clean { leader, job } => self.clean(leader, job).await,
        }
    }

    async fn submit(&mut self, leader: usize, number: u8, graph: u8) -> (End, End) {
        let ((leader, leads), record) = (self.leader(leader), job(number, graph));
        let answer = self.insist(|| self.records.submit(&leader, &record)).await;
        let mine = self.faulty_answer_is_mine(&answer);
        let got = end_of(answer, |submission| match submission {
            Submission::Created => End::Done,
            Submission::Running => End::Running,
            Submission::Ended(_) => End::Same,
        });
        let model = self.model(number);
        let expected = match (&model.result, model.graph) {
            _ if !leads => End::Deposed,
            (Some((ended, ..)), _) => {
                if *ended == graph {
                    End::Same
                } else {
                    End::Conflict
                }
            }
            (None, Some(running)) => {
                if running == graph {
                    End::Running
                } else {
                    End::Conflict
                }
            }
            (None, None) => {
                model.graph = Some(graph);
                // Who asks again because he does not know finds himself.
                if mine { End::Running } else { End::Done }
            }
        };
        (got, expected)
    }

    /// Whether a submission found that it had been carried out before.
    fn faulty_answer_is_mine(&self, answer: &Result<Submission, Failure>) -> bool {
        matches!(answer, Ok(Submission::Running))
    }

    async fn raise(&mut self, leader: usize, job: u8) -> (End, End) {
        let (leader, leads) = self.leader(leader);
        let expected = match self.closed(job) {
            _ if !leads => End::Deposed,
            Some(closed) => closed,
            None => {
                let model = self.model(job);
                model.epoch += 1;
                model.claimed = None;
                End::Number(model.epoch)
            }
        };
        let epoch = self.model(job).epoch;
        let answer = match known!(self, self.records.raise_epoch(&leader, id(job))) {
            Ok(answer) => answer,
            Err(Ok(revision)) => Ok(EpochToken {
                job: id(job),
                epoch: Epoch(epoch),
                revision,
            }),
            // It never took effect, and never will: ask again for the reason.
            Err(Err(_)) => self.insist(|| self.records.raise_epoch(&leader, id(job))).await,
        };
        if let Ok(token) = &answer {
            self.raised.push(Raised {
                job,
                epoch,
                token: *token,
            });
        }
        (end_of(answer, |token| End::Number(token.epoch.0)), expected)
    }

    async fn claim(&mut self, raised: usize, process: u8) -> (End, End) {
        let Some(raised) = pick(&self.raised, raised) else {
            return (End::Nothing, End::Nothing);
        };
        let (job, epoch) = (raised.job, raised.epoch);
        let closed = self.closed(job);
        let model = self.model(job);
        let mine = model.claimed == Some(process);
        let gone = model
            .result
            .as_ref()
            .is_some_and(|(.., cleanup)| *cleanup == Cleanup::Clean);
        let expected = match closed {
            _ if gone || model.epoch != epoch || (model.claimed.is_some() && !mine) => End::Fenced,
            // The same process gets the same answer, whatever came since.
            _ if mine => End::Done,
            Some(closed) => closed,
            None => {
                model.claimed = Some(process);
                End::Done
            }
        };
        let name = format!("process {process}");
        let answer = self
            .insist(|| self.records.claim(id(job), Epoch(epoch), &name))
            .await;
        if let Ok(token) = &answer {
            self.claimed.push(Claimed {
                job,
                epoch,
                process,
                token: *token,
            });
        }
        (end_of(answer, |_| End::Done), expected)
    }

    async fn reserve(&mut self, token: usize) -> (End, End) {
        let Some(claimed) = pick(&self.claimed, token) else {
            return (End::Nothing, End::Nothing);
        };
        let holds = self.holds(&claimed) && !self.is_clean(claimed.job);
        let model = self.model(claimed.job);
        let first = model.next_id.max(1);
        let expected = if holds {
            model.next_id = first + 64;
            End::Number(first)
        } else {
            End::Fenced
        };
        let answer = match known!(
            self,
            self.records
                .reserve_checkpoint_ids(&claimed.token, CheckpointId(0), 64)
        ) {
            Ok(answer) => end_of(answer, |block| End::Number(block.first.0)),
            Err(Ok(_)) => End::Number(first),
            Err(Err(_)) => End::Fenced,
        };
        (answer, expected)
    }

    fn is_clean(&mut self, job: u8) -> bool {
        let result = &self.model(job).result;
        matches!(result, Some((.., Cleanup::Clean)))
    }

    async fn commit(&mut self, token: usize, number: u64) -> (End, End) {
        let Some(claimed) = pick(&self.claimed, token) else {
            return (End::Nothing, End::Nothing);
        };
        let holds = self.holds(&claimed) && !self.is_clean(claimed.job);
        let model = self.model(claimed.job);
        let expected = match model.latest {
            latest if latest >= number && model.checkpoints.contains(&number) => End::Done,
            latest if latest >= number => End::Conflict,
            _ if !holds => End::Fenced,
            _ => {
                model.checkpoints = [number].into();
                model.latest = number;
                End::Done
            }
        };
        let pointer = pointer(number);
        let commit = || self.records.commit_checkpoint(&claimed.token, &pointer);
        let answer = match known!(self, commit()) {
            Ok(answer) => end_of(answer, |()| End::Done),
            Err(Ok(_)) => End::Done,
            Err(Err(_)) => End::Fenced,
        };
        (answer, expected)
    }

    async fn intend(&mut self, leader: usize, (job, trigger): (u8, u8), cancel: bool) -> (End, End) {
        let (leader, leads) = self.leader(leader);
        let closed = self.closed(job);
        let known = self.model(job).intents.get(&trigger).copied();
        let expected = match (known, closed) {
            _ if !leads => End::Deposed,
            (Some((before, _)), _) => {
                if before == cancel {
                    End::Done
                } else {
                    End::Conflict
                }
            }
            (None, Some(closed)) => closed,
            (None, None) => {
                self.model(job).intents.insert(trigger, (cancel, false));
                End::Done
            }
        };
        let intent = if cancel {
            Intent::Cancel
        } else {
            Intent::Savepoint {
                directory: None,
                format: None,
                cancel: false,
            }
        };
        let asked = JobIntent {
            trigger: format!("t{trigger}"),
            intent,
            asked_ms: 1,
        };
        let answer = self
            .insist(|| self.records.intend(&leader, id(job), &asked))
            .await;
        (end_of(answer, |()| End::Done), expected)
    }

    async fn answer(&mut self, token: usize, trigger: u8) -> (End, End) {
        let Some(claimed) = pick(&self.claimed, token) else {
            return (End::Nothing, End::Nothing);
        };
        let holds = self.holds(&claimed) && !self.is_clean(claimed.job);
        let expected = match self.model(claimed.job).intents.get_mut(&trigger) {
            None => End::Conflict,
            Some((_, true)) => End::Done,
            Some(_) if !holds => End::Fenced,
            Some((_, answered)) => {
                *answered = true;
                End::Done
            }
        };
        let outcome = IntentOutcome {
            at_ms: 1,
            ..IntentOutcome::default()
        };
        let name = format!("t{trigger}");
        let answer = self
            .insist(|| {
                self.records
                    .answer_intent(&claimed.token, (id(claimed.job), &name), &outcome)
            })
            .await;
        (end_of(answer, |()| End::Done), expected)
    }

    async fn finish(&mut self, token: usize, failed: bool) -> (End, End) {
        let Some(claimed) = pick(&self.claimed, token) else {
            return (End::Nothing, End::Nothing);
        };
        let holds = self.holds(&claimed) && !self.is_clean(claimed.job);
        let model = self.model(claimed.job);
        let graph = model.graph.unwrap_or_default();
        let expected = match &model.result {
            _ if !holds => End::Fenced,
            Some((_, before, _)) => {
                if *before == status(failed) {
                    End::Done
                } else {
                    End::Ended
                }
            }
            None => {
                model.result = Some((graph, status(failed), Cleanup::Dirty));
                End::Done
            }
        };
        let result = result(&job(claimed.job, graph), status(failed));
        let answer = self
            .insist(|| self.records.finish(&claimed.token, &result, None))
            .await;
        (end_of(answer, |()| End::Done), expected)
    }

    async fn end_job(&mut self, leader: usize, raised: usize) -> (End, End) {
        let Some(raised) = pick(&self.raised, raised) else {
            return (End::Nothing, End::Nothing);
        };
        let (leader, leads) = self.leader(leader);
        let clean = self.is_clean(raised.job);
        let model = self.model(raised.job);
        let unclaimed = !clean && model.epoch == raised.epoch && model.claimed.is_none();
        let graph = model.graph.unwrap_or_default();
        let expected = match &model.result {
            _ if !leads => End::Deposed,
            _ if !unclaimed => End::Fenced,
            Some(_) => End::Ended,
            None => {
                model.result = Some((graph, FinalStatus::Canceled, Cleanup::Dirty));
                End::Done
            }
        };
        let result = result(&job(raised.job, graph), FinalStatus::Canceled);
        let end = || self.records.end_job(&leader, &raised.token, (&result, None));
        let answer = match known!(self, end()) {
            Ok(answer) => end_of(answer, |()| End::Done),
            Err(Ok(_)) => End::Done,
            Err(Err(_)) => end_of(self.insist(end).await, |()| End::Done),
        };
        (answer, expected)
    }

    async fn clean(&mut self, leader: usize, job: u8) -> (End, End) {
        let (leader, leads) = self.leader(leader);
        let model = self.model(job);
        let expected = match &mut model.result {
            None => End::NoJob,
            Some(_) if !leads => End::Deposed,
            Some((.., cleanup)) => {
                *cleanup = Cleanup::Clean;
                model.graph = None;
                model.checkpoints.clear();
                (model.latest, model.next_id) = (0, 0);
                End::Done
            }
        };
        let answer = self.insist(|| self.records.clean_job(&leader, id(job))).await;
        (end_of(answer, |()| End::Done), expected)
    }

    /// What the store says of all jobs, in the words of the model.
    async fn seen(&self) -> BTreeMap<u8, ModelJob> {
        self.faulty.catch_up();
        let mut seen = BTreeMap::new();
        for (job, view) in self.records.jobs().await.unwrap() {
            let checkpoints = self.records.checkpoints(job).await.unwrap();
            let ids = self
                .records
                .read::<hurtig_ha::records::IdRecord>(&self.world.keys().ids(job))
                .await
                .unwrap();
            let number = |process: &String| process.trim_start_matches("process ").parse().unwrap();
            let trigger = |trigger: &String| trigger.trim_start_matches('t').parse::<u8>().unwrap();
            let intent = |record: &hurtig_ha::records::IntentRecord| {
                (record.intent == Intent::Cancel, record.outcome.is_some())
            };
            let model = ModelJob {
                graph: view.record.as_ref().map(|stored| stored.value.graph.0[0]),
                epoch: view.epoch().0,
                claimed: view
                    .epoch
                    .as_ref()
                    .and_then(|stored| stored.value.claimed_by.as_ref().map(number)),
                next_id: ids.map_or(0, |stored| stored.value.next),
                checkpoints: checkpoints.iter().map(|pointer| pointer.id.0).collect(),
                latest: view.latest.as_ref().map_or(0, |stored| stored.value.id.0),
                intents: view
                    .intents
                    .iter()
                    .map(|(key, stored)| (trigger(key), intent(&stored.value)))
                    .collect(),
                result: view
                    .result
                    .as_ref()
                    .map(|stored| (stored.value.graph.0[0], stored.value.status, stored.value.cleanup)),
            };
            seen.insert(u8::try_from(job.0.as_u128()).unwrap(), model);
        }
        seen
    }

    /// What the model says, without what it has only heard of.
    fn expected(&self) -> BTreeMap<u8, ModelJob> {
        let known = self
            .jobs
            .iter()
            .filter(|(_, job)| job.graph.is_some() || job.result.is_some());
        known
            .map(|(number, job)| {
                let mut job = job.clone();
                if matches!(job.result, Some((.., Cleanup::Clean))) {
                    (job.epoch, job.claimed) = (0, None);
                }
                (*number, job)
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn records_do_what_the_model_does_whatever_gets_lost(steps in prop::collection::vec((op(), faults()), 1..40)) {
        block_on(async {
            let mut pair = Pair::new().await;
            for (op, faults) in steps {
                pair.faulty.inject(&faults);
                let (got, expected) = pair.run(&op).await;
                assert_eq!(got, expected, "{op:?} with {faults:?}");
                pair.faulty.inject(&[]);
                assert_eq!(pair.seen().await, pair.expected(), "{op:?} with {faults:?}");
            }
        });
    }
}
