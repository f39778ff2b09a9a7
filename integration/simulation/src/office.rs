//! What a jobmanager has while it leads: a Dispatcher and a ResourceManager. Their brains are the product's, and so are the records
//! and the lives of JobMasters; the rest is after `actors/cluster/src/dispatcher/{processes,writes,durable}.rs`, for one job.

use crate::courier::{Couriers, Way};
use crate::job::JOB;
use crate::kernel::Kernel;
use crate::messages::{Ask, Begins, Done, Granted, Input, Payload, Pid, Refused, Reply, Then, Timer, Write};
use crate::placement::Placement;
use crate::store::SimStore;
use hurtig_cluster::messages::DispatcherMessage;
use hurtig_cluster::simulation::{AfterExit, Inbox, MasterLives};
use hurtig_cluster::{DispatcherBrain, DispatcherEvent, Submission};
use hurtig_core::Error;
use hurtig_core::ids::{CheckpointId, JobId};
use hurtig_dataflow::graph::JobStatus;
use hurtig_ha::leader::Term;
use hurtig_ha::records::{
    CheckpointPointer, Cleanup, Digest, Epoch, EpochToken, Failure, FinalStatus, JobRecord, JobView,
    LeaderToken, PointerKind, Records, ResultRecord,
};
use hurtig_rpc::{FenceError, Fences, Stamp};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::time::Duration;
use uuid::Uuid;

/// How long a JobMaster's launcher has to say how it has ended.
const WITNESS: Duration = Duration::from_millis(300);
/// How long the JobMaster of an earlier term may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// How long nothing is asked of a store that did not answer.
const PAUSE: Duration = Duration::from_millis(300);
/// How long nothing is tried after a refusal.
const REST: Duration = Duration::from_secs(10);
/// Checkpoint ids that a JobMaster gets.
const IDS: u64 = 1 << 20;

/// Does it until the store has decided.
pub(crate) async fn insist<T>(
    store: &SimStore,
    mut write: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    loop {
        match write().await {
            Err(failure)
                if failure.may_retry() || matches!(failure, Failure::Unknown(_) | Failure::Overtaken) =>
            {
                store.sleep(PAUSE).await;
            }
            decided => return decided,
        }
    }
}

/// What the Dispatcher knows of the job beside its brain.
#[derive(Default)]
struct Job {
    lives: MasterLives,
    queue: VecDeque<Write>,
    writing: bool,
    admitted: bool,
    submitters: Vec<u64>,
    ending: bool,
    result: Option<FinalStatus>,
    /// The JobMaster that waits for the end to be written.
    owed: Option<u64>,
}

/// See the module.
pub(crate) struct Office {
    own: Pid,
    leader: LeaderToken,
    records: Records,
    store: SimStore,
    pub(crate) fences: Fences,
    brain: DispatcherBrain,
    job: Option<Job>,
    ended: bool,
    couriers: Couriers,
    inbox: Inbox,
    pub(crate) placement: Placement,
}

impl Office {
    pub(crate) fn new(
        own: Pid,
        (term, leader): (Term, LeaderToken),
        (records, store): (Records, SimStore),
        fences: Fences,
    ) -> Self {
        Self {
            own,
            leader,
            records,
            store,
            fences,
            brain: DispatcherBrain::new(10, 10),
            job: None,
            ended: false,
            couriers: Couriers::default(),
            inbox: Inbox::default(),
            placement: Placement::new(own, term),
        }
    }

    /// Takes on what earlier terms have left.
    pub(crate) fn take_on(&mut self, jobs: BTreeMap<JobId, JobView>, kernel: &mut Kernel) {
        for view in jobs.into_values() {
            if view.result.is_some() {
                self.ended = true;
                continue;
            }
            // Nobody has submitted it before in this process.
            let _ = self.brain.submit(kernel.graph.clone());
            let claimed = view
                .epoch
                .as_ref()
                .is_some_and(|epoch| epoch.value.claimed_by.is_some());
            let epoch = NonZeroU64::new(view.epoch().0).filter(|_| claimed);
            self.job = Some(Job {
                lives: MasterLives::inherited([], false),
                admitted: true,
                ..Job::default()
            });
            match epoch {
                Some(epoch) => self.await_master(epoch, kernel),
                None => self.write(Write::Raise, kernel),
            }
        }
        self.placement.taken_on(kernel);
    }

    /// A process has this epoch, and may come back.
    fn await_master(&mut self, epoch: NonZeroU64, kernel: &mut Kernel) {
        if let Some(job) = &mut self.job {
            job.lives.raised(epoch);
        }
        self.follow(epoch, kernel);
        self.placement.inherit(epoch);
        kernel.timer(self.own, SILENCE, Timer::Silent(epoch));
    }

    fn follow(&self, epoch: NonZeroU64, kernel: &mut Kernel) {
        if let Err(error) = self.fences.follow(Stamp::job(JOB, epoch)) {
            kernel
                .checks
                .violated(format!("epoch {epoch} of the store is old: {error}"));
        }
    }

    pub(crate) fn on_call(
        &mut self,
        (from, id): (Pid, u64),
        stamp: Option<Stamp>,
        ask: Ask,
        kernel: &mut Kernel,
    ) {
        match ask {
            Ask::Submit => self.submit(id, kernel),
            Ask::Claim {
                epoch,
                process,
                workers,
            } => match &self.job {
                None => {
                    let over = Err("the job is over, or not known".to_owned());
                    kernel.answer(self.own, id, Ok(Reply::Claimed(over)));
                }
                Some(_) => self.write(
                    Write::Claim {
                        from,
                        call: id,
                        epoch,
                        process,
                        workers,
                    },
                    kernel,
                ),
            },
            Ask::Record { checkpoint, path } => match (&self.job, stamp) {
                (None, Some(stamp)) => {
                    let gone = Refused::Fenced(FenceError::Unregistered(stamp.scope));
                    kernel.answer(self.own, id, Err(gone));
                }
                _ => self.write(
                    Write::Record {
                        call: id,
                        stamp,
                        checkpoint,
                        path,
                    },
                    kernel,
                ),
            },
            Ask::BeginEnd { status } => self.write(
                Write::BeginEnd {
                    call: id,
                    stamp,
                    status,
                },
                kernel,
            ),
            Ask::Register {
                task_manager,
                slots,
                processes,
            } => {
                let known = self
                    .placement
                    .register((task_manager, from), slots, &processes, kernel);
                let answer = if known {
                    Ok(Reply::Done)
                } else {
                    Err(Refused::NotNow)
                };
                kernel.answer(self.own, id, answer);
            }
            Ask::ProcessEnded { process, how } => {
                if let Some((epoch, cause)) = self.placement.on_ended(process, how, kernel) {
                    self.on_master_ended(epoch, &cause, kernel);
                }
                kernel.answer(self.own, id, Ok(Reply::Done));
                self.tell_master(kernel);
            }
            Ask::Deliver(delivery) => match self.inbox.accept(delivery) {
                Ok(messages) => {
                    let messages: Vec<Payload> = messages.collect();
                    self.on_delivered(messages, (id, stamp), kernel);
                }
                Err(missing) => {
                    let why = Error::from(missing).to_string();
                    kernel.answer(self.own, id, Err(Refused::Failed(why)));
                }
            },
            _ => kernel.answer(self.own, id, Err(Refused::Failed("no such question".to_owned()))),
        }
    }

    fn on_delivered(
        &mut self,
        messages: Vec<Payload>,
        (id, stamp): (u64, Option<Stamp>),
        kernel: &mut Kernel,
    ) {
        let mut speaks_of_job = false;
        for message in messages {
            let current = self.job.as_ref().and_then(|job| job.lives.epoch());
            let current = current.is_some_and(|epoch| stamp == Some(Stamp::job(JOB, epoch)));
            match message {
                Payload::Dispatcher(message) => {
                    speaks_of_job = true;
                    if current {
                        self.on_message(message, kernel);
                    }
                }
                Payload::Resources(message) => self.placement.on_message(message, stamp, kernel),
                _ => {}
            }
        }
        match self.job.as_mut().filter(|job| job.ending && speaks_of_job) {
            // Its JobMaster goes on asking until it is written how the job has ended.
            Some(job) => job.owed = Some(id),
            None => kernel.answer(self.own, id, Ok(Reply::Done)),
        }
        self.tell_master(kernel);
    }

    fn on_message(&mut self, message: DispatcherMessage, kernel: &mut Kernel) {
        match message {
            DispatcherMessage::JobEnded(result) => {
                let Some(job) = &mut self.job else { return };
                let Some(token) = job.lives.token() else { return };
                job.ending = true;
                job.result = Some(match result.status {
                    JobStatus::Finished => FinalStatus::Finished,
                    JobStatus::Canceled => FinalStatus::Canceled,
                    _ => {
                        let why = result
                            .failure
                            .as_ref()
                            .map(ToString::to_string)
                            .unwrap_or_default();
                        kernel.checks.failed_with(why);
                        FinalStatus::Failed
                    }
                });
                self.write(Write::Finish(token), kernel);
            }
            message => {
                // A state of a job that is known changes nothing that could fail.
                let wall_ms = kernel.wall_ms();
                let _ = self
                    .brain
                    .handle(wall_ms, DispatcherEvent::Message(message), &mut Vec::new());
            }
        }
    }

    pub(crate) fn handle(&mut self, input: Input, kernel: &mut Kernel) {
        match input {
            Input::Lost(peer) => {
                let master = self.placement.master_lost(peer);
                if let Some(epoch) = master {
                    let cause = "it does not answer".to_owned();
                    kernel.timer(self.own, WITNESS, Timer::MasterEnded { epoch, cause });
                }
                if let Some(epoch) = self.placement.on_lost(peer, kernel) {
                    self.on_master_ended(epoch, "its TaskManager is gone", kernel);
                }
            }
            Input::Timer(timer) => self.on_timer(timer, kernel),
            Input::Done(done) => self.on_done(done, kernel),
            _ => {}
        }
        self.tell_master(kernel);
    }

    pub(crate) fn answered(&mut self, then: Then, answer: Result<Reply, Refused>, kernel: &mut Kernel) {
        match then {
            Then::Delivered { way, place, sent } => {
                let lost = self
                    .couriers
                    .answered(self.own, (way, place, sent), answer.err(), kernel);
                let epoch = self.job.as_ref().and_then(|job| job.lives.epoch());
                if let (Some(cause), Some(epoch)) = (lost, epoch) {
                    kernel.timer(self.own, WITNESS, Timer::MasterEnded { epoch, cause });
                }
            }
            Then::TakenUp {
                task_manager,
                process,
            } if answer.is_err() => {
                let how = format!("TaskManager {task_manager} did not take it up");
                if let Some((epoch, cause)) = self.placement.on_ended(process, how, kernel) {
                    self.on_master_ended(epoch, &cause, kernel);
                }
            }
            Then::Cleared { epoch, task_manager } => self.placement.cleared(epoch, task_manager, kernel),
            _ => {}
        }
        self.tell_master(kernel);
    }

    fn on_timer(&mut self, timer: Timer, kernel: &mut Kernel) {
        match timer {
            Timer::Courier { way, place } => self.couriers.rested(self.own, (way, place), kernel),
            Timer::MasterEnded { epoch, cause } => self.on_master_ended(epoch, &cause, kernel),
            Timer::Raise => self.write(Write::Raise, kernel),
            Timer::Silent(epoch) => self.on_silence(epoch, kernel),
            Timer::Write(write) => self.write(*write, kernel),
            other => self.placement.on_timer(other, kernel),
        }
    }

    /// What the ResourceManager has for the JobMaster.
    fn tell_master(&mut self, kernel: &mut Kernel) {
        for message in self.placement.take_messages() {
            self.couriers
                .send(self.own, Way::Master, Payload::Master(message), kernel);
        }
    }

    // Jobs.

    fn submit(&mut self, call: u64, kernel: &mut Kernel) {
        if self.ended {
            return kernel.answer(self.own, call, Ok(Reply::Done));
        }
        match self.brain.submit(kernel.graph.clone()) {
            Ok(Submission::Accepted) => {
                self.brain.note_start(JOB, kernel.wall_ms());
                let submitters = vec![call];
                self.job = Some(Job {
                    submitters,
                    ..Job::default()
                });
                self.write(Write::Admit, kernel);
            }
            Ok(Submission::Known) => match &mut self.job {
                Some(job) if !job.admitted => job.submitters.push(call),
                _ => kernel.answer(self.own, call, Ok(Reply::Done)),
            },
            Err(error) => kernel.answer(self.own, call, Err(Refused::Failed(error.to_string()))),
        }
    }

    fn on_master_ended(&mut self, epoch: NonZeroU64, _: &str, kernel: &mut Kernel) {
        let Some(job) = self.job.as_mut().filter(|job| !job.ending) else {
            return;
        };
        match job.lives.ended(kernel.now, epoch) {
            AfterExit::Nothing => {}
            AfterExit::StartAgain { after } => {
                self.couriers.drop(Way::Master);
                kernel.checks.replaced += 1;
                kernel.timer(self.own, after, Timer::Raise);
            }
            AfterExit::GiveUp { .. } => kernel.checks.gave_up = true,
        }
    }

    /// The JobMaster of an earlier term has not come back.
    fn on_silence(&mut self, epoch: NonZeroU64, kernel: &mut Kernel) {
        let Some(job) = self.job.as_mut().filter(|job| !job.lives.is_claimed()) else {
            return;
        };
        if job.writing || !job.queue.is_empty() {
            // It may be coming back at this moment.
            kernel.timer(self.own, WITNESS, Timer::Silent(epoch));
        } else if job.lives.silent(epoch) {
            kernel.checks.replaced += 1;
            self.write(Write::Raise, kernel);
        }
    }

    // Writes: one at a time, in the order in which they were decided.

    fn write(&mut self, what: Write, kernel: &mut Kernel) {
        let Some(job) = &mut self.job else { return };
        // Who asks again does not wait for the first answer any more.
        match what {
            Write::Claim { .. } => job.queue.retain(|queued| !matches!(queued, Write::Claim { .. })),
            Write::Record { .. } => job.queue.retain(|queued| !matches!(queued, Write::Record { .. })),
            _ => {}
        }
        job.queue.push_back(what);
        self.next_write(kernel);
    }

    fn next_write(&mut self, kernel: &mut Kernel) {
        while let Some(job) = self.job.as_mut().filter(|job| !job.writing) {
            let Some(what) = job.queue.pop_front() else { return };
            let begun = self.begin_write(what, kernel);
            if let Some(job) = &mut self.job {
                job.writing = begun;
            }
        }
    }

    fn begin_write(&mut self, what: Write, kernel: &mut Kernel) -> bool {
        let Some(job) = &self.job else { return false };
        let (records, leader, store) = (self.records.clone(), self.leader.clone(), self.store.clone());
        let wall_ms = kernel.wall_ms();
        match what {
            Write::Admit => kernel.drive(self.own, async move {
                let record = job_record(wall_ms);
                let admitted = insist(&store, async || records.submit(&leader, &record).await).await;
                Done::Admitted(admitted.map(drop))
            }),
            Write::Raise => kernel.drive(self.own, async move {
                Done::Raised(insist(&store, async || records.raise_epoch(&leader, JOB).await).await)
            }),
            Write::Claim {
                call, epoch, process, ..
            } => {
                if let Some(why) = job.lives.refuses(epoch, process) {
                    kernel.answer(self.own, call, Ok(Reply::Claimed(Err(why))));
                    return false;
                }
                kernel.drive(self.own, async move {
                    let claimed = claim(&records, &store, epoch, process).await;
                    Done::Claimed(Box::new(what), claimed)
                });
            }
            Write::Record {
                call,
                stamp,
                checkpoint,
                ref path,
            } => {
                let current = job.lives.epoch().map(|epoch| Stamp::job(JOB, epoch));
                let Some(token) = job.lives.token().filter(|_| stamp.is_some() && stamp == current) else {
                    kernel.answer(
                        self.own,
                        call,
                        Err(Refused::Failed("it is not this process's".to_owned())),
                    );
                    return false;
                };
                let latest = job.lives.latest();
                if latest.is_some_and(|(id, known)| *id == checkpoint && known == path) {
                    kernel.answer(self.own, call, Ok(Reply::Done));
                    return false;
                }
                let pointer = pointer(checkpoint, path.clone(), wall_ms);
                kernel.drive(self.own, async move {
                    let commit = async || records.commit_checkpoint(&token, &pointer).await;
                    Done::Recorded(Box::new(what), insist(&store, commit).await)
                });
            }
            Write::BeginEnd { call, stamp, status } => {
                let current = job.lives.epoch().map(|epoch| Stamp::job(JOB, epoch));
                let Some(token) = job.lives.token().filter(|_| stamp.is_some() && stamp == current) else {
                    kernel.answer(
                        self.own,
                        call,
                        Err(Refused::Failed("it is not this process's".to_owned())),
                    );
                    return false;
                };
                kernel.drive(self.own, async move {
                    let end = result_record(status, wall_ms);
                    let begin = async || records.begin_end(&token, &end, None).await;
                    Done::EndBegun(call, insist(&store, begin).await)
                });
            }
            Write::Finish(token) => {
                let status = job.result.unwrap_or(FinalStatus::Failed);
                kernel.drive(self.own, async move {
                    let result = result_record(status, wall_ms);
                    let finish = async || records.finish(&token, &result, None).await;
                    Done::Finished(token, insist(&store, finish).await)
                });
            }
        }
        true
    }

    fn on_done(&mut self, done: Done, kernel: &mut Kernel) {
        if let Some(job) = &mut self.job {
            job.writing = false;
        }
        match done {
            Done::Admitted(outcome) => self.on_admitted(outcome, kernel),
            Done::Raised(outcome) => self.on_raised(outcome, kernel),
            Done::Claimed(claim, outcome) => self.on_claimed(*claim, outcome, kernel),
            Done::Recorded(record, outcome) => self.on_recorded(*record, outcome, kernel),
            Done::EndBegun(call, outcome) => {
                let answer = outcome
                    .map(|()| Reply::Done)
                    .map_err(|error| Refused::Failed(error.to_string()));
                kernel.answer(self.own, call, answer);
            }
            Done::Finished(token, outcome) => self.on_finished(token, outcome, kernel),
            _ => {}
        }
        self.next_write(kernel);
    }

    fn on_admitted(&mut self, outcome: Result<(), Failure>, kernel: &mut Kernel) {
        let Some(job) = &mut self.job else { return };
        let submitters = std::mem::take(&mut job.submitters);
        match outcome {
            Ok(()) => {
                job.admitted = true;
                for call in submitters {
                    kernel.answer(self.own, call, Ok(Reply::Done));
                }
                self.write(Write::Raise, kernel);
            }
            Err(_) => {
                for call in submitters {
                    kernel.answer(self.own, call, Err(Refused::NotNow));
                }
                // It was never there: a Dispatcher of another term is asked next time.
                self.job = None;
                self.brain = DispatcherBrain::new(10, 10);
            }
        }
    }

    fn on_raised(&mut self, outcome: Result<EpochToken, Failure>, kernel: &mut Kernel) {
        let Some(job) = &mut self.job else { return };
        match outcome.map(|token| NonZeroU64::new(token.epoch.0)) {
            Ok(Some(epoch)) => {
                kernel.tell(self.own, format_args!("epoch {epoch} is raised"));
                let before = job.lives.last_epoch();
                job.lives.raised(epoch);
                if let Some(before) = before {
                    self.placement.clear(before, kernel);
                }
                self.follow(epoch, kernel);
                self.placement.start_master(epoch, kernel);
            }
            Ok(None) => kernel.checks.violated("the epoch was raised to 0".to_owned()),
            Err(Failure::Ended(_)) => self.end(kernel),
            Err(_) => kernel.timer(self.own, REST, Timer::Raise),
        }
    }

    fn on_claimed(&mut self, claim: Write, outcome: Result<Begins, Failure>, kernel: &mut Kernel) {
        let Write::Claim {
            from,
            call,
            epoch,
            process,
            workers,
        } = claim
        else {
            return;
        };
        let Some(job) = &mut self.job else { return };
        let refused = |why: String| Ok(Reply::Claimed(Err(why)));
        let answer = match outcome {
            Err(error) => refused(error.to_string()),
            Ok(_) if job.lives.epoch() != Some(epoch) => refused(format!("epoch {epoch} is over")),
            Ok(begins) => {
                kernel.checks.claimed(epoch, process);
                let first_time = job.lives.claimed(process, begins.token, begins.latest);
                let restore = job.lives.latest().map(|(_, path)| path.clone());
                if first_time {
                    self.couriers
                        .lead(Way::Master, (self.own, from), Stamp::job(JOB, epoch), kernel);
                    kernel.watch(self.own, from);
                    self.placement.master_claimed(epoch, from, workers, kernel);
                }
                let (first, ending) = (begins.ids.first, begins.ending);
                Ok(Reply::Claimed(Ok(Granted {
                    restore,
                    first,
                    ending,
                })))
            }
        };
        kernel.answer(self.own, call, answer);
        self.tell_master(kernel);
    }

    fn on_recorded(&mut self, record: Write, outcome: Result<(), Failure>, kernel: &mut Kernel) {
        let Write::Record {
            call,
            checkpoint,
            path,
            ..
        } = record
        else {
            return;
        };
        let answer = match outcome {
            Ok(()) => {
                kernel.tell(self.own, format_args!("checkpoint {checkpoint} is recorded"));
                if let Some(job) = &mut self.job {
                    job.lives.recorded(checkpoint, path);
                }
                Ok(Reply::Done)
            }
            Err(error) => Err(Refused::Failed(error.to_string())),
        };
        kernel.answer(self.own, call, answer);
    }

    fn on_finished(&mut self, token: EpochToken, outcome: Result<(), Failure>, kernel: &mut Kernel) {
        match outcome {
            Ok(()) | Err(Failure::Ended(_)) => self.end(kernel),
            Err(Failure::Fenced { .. }) => {
                if let Some(job) = &mut self.job {
                    job.ending = false;
                }
                self.write(Write::Raise, kernel);
            }
            Err(_) => kernel.timer(self.own, REST, Timer::Write(Box::new(Write::Finish(token)))),
        }
    }

    /// The end of the job is in the store.
    fn end(&mut self, kernel: &mut Kernel) {
        self.ended = true;
        let Some(job) = self.job.take() else { return };
        if let Some(owed) = job.owed {
            kernel.answer(self.own, owed, Ok(Reply::Done));
        }
        if let Some(epoch) = job.lives.last_epoch() {
            self.placement.job_ended(epoch, kernel);
        }
    }
}

/// A process takes an epoch.
async fn claim(
    records: &Records,
    store: &SimStore,
    epoch: NonZeroU64,
    process: Uuid,
) -> Result<Begins, Failure> {
    let process = process.to_string();
    let token = insist(store, async || {
        records.claim(JOB, Epoch(epoch.get()), &process).await
    })
    .await?;
    let latest = insist(store, async || records.checkpoints(JOB).await)
        .await?
        .pop();
    let from = CheckpointId(latest.as_ref().map_or(0, |latest| latest.id.0 + 1));
    let reserve = async || records.reserve_checkpoint_ids(&token, from, IDS).await;
    let ids = insist(store, reserve).await?;
    let ending = insist(store, async || records.ending(JOB).await).await?;
    Ok(Begins {
        ending: ending.map(|ending| ending.status),
        token,
        latest: latest.map(|pointer| (pointer.id, pointer.location)),
        ids,
    })
}

fn pointer(id: CheckpointId, location: String, completed_ms: i64) -> CheckpointPointer {
    CheckpointPointer {
        id,
        kind: PointerKind::Checkpoint,
        location,
        completed_ms,
        drain: false,
    }
}

fn job_record(submitted_ms: i64) -> JobRecord {
    JobRecord {
        job: JOB,
        name: "simulated".to_owned(),
        artifact: None,
        graph: Digest::of(b"simulated"),
        restore: Default::default(),
        requirements: BTreeMap::new(),
        submitted_ms,
        exits: Vec::new(),
    }
}

fn result_record(status: FinalStatus, ended_ms: i64) -> ResultRecord {
    ResultRecord {
        artifact: None,
        graph: Digest::of(b"simulated"),
        status,
        ended_ms,
        error: None,
        archive: None,
        cleanup: Cleanup::Dirty,
    }
}
