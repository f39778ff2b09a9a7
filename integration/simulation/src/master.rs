//! The process of a JobMaster: its brain, and a shell after `actors/cluster/src/job_master/shell.rs`, `remote.rs` and
//! `process/job_master.rs`.

use crate::courier::{Couriers, Way};
use crate::job::{JOB, Program, Splits, settings};
use crate::kernel::Kernel;
use crate::messages::{Ask, Enumerated, Granted, Input, Payload, Pid, Refused, Reply, Then, Timer};
use hurtig_cluster::messages::{
    DispatcherMessage, JobMasterMessage, ResourceManagerMessage, SlotNeed, TaskId, TaskManagerMessage,
};
use hurtig_cluster::simulation::{Inbox, JobStorage, StorageQueue};
use hurtig_cluster::{EnumeratorStart, JobEffect, JobEvent, JobMasterBrain, JobResult, StorageWork};
use hurtig_core::Error;
use hurtig_core::ids::{CheckpointId, NodeId, TaskManagerId};
use hurtig_dataflow::graph::JobStatus;
use hurtig_dataflow::source::SplitEnumerator as _;
use hurtig_ha::leader::Term;
use hurtig_ha::records::FinalStatus;
use hurtig_rpc::{FenceError, Fences, Scope, Stamp};
use hurtig_storage::CheckpointLayout;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How long a claim or a record may take before it is asked again.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a worker's launcher has to say how it has ended.
const WITNESS: Duration = Duration::from_millis(300);
/// How long nobody is asked who has not answered.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is asked whether another jobmanager leads.
const LOOK: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Master {
    own: Pid,
    epoch: NonZeroU64,
    process: Uuid,
    leader: Option<(Pid, Option<Term>)>,
    /// Who has granted its claim, and is told of checkpoints.
    granted_by: Option<Pid>,
    claiming: bool,
    brain: Option<JobMasterBrain>,
    storage: Option<JobStorage>,
    queue: StorageQueue,
    done: Option<JobEvent>,
    /// What the leader is to record before anybody is told of it.
    recording: Option<(CheckpointId, String)>,
    /// Whose answer counts.
    attempt: u64,
    enumerators: BTreeMap<NodeId, (u32, Splits)>,
    workers: BTreeMap<TaskManagerId, Pid>,
    couriers: Couriers,
    inbox: Inbox,
    fences: Fences,
    result: Option<Box<JobResult>>,
    /// The end that the job comes to, which is being recorded.
    ending: Option<Box<JobResult>>,
    begun: bool,
    ended: bool,
}

impl Master {
    pub(crate) fn new(own: Pid, epoch: NonZeroU64, leader: Pid, process: Uuid) -> Self {
        let fences = Fences::open();
        // It knows of no other yet.
        let _ = fences.hold(Stamp::job(JOB, epoch));
        Self {
            own,
            epoch,
            process,
            leader: Some((leader, None)),
            granted_by: None,
            claiming: false,
            brain: None,
            storage: None,
            queue: StorageQueue::default(),
            done: None,
            recording: None,
            attempt: 0,
            enumerators: BTreeMap::new(),
            workers: BTreeMap::new(),
            couriers: Couriers::default(),
            inbox: Inbox::default(),
            fences,
            result: None,
            ending: None,
            begun: false,
            ended: false,
        }
    }

    /// The job's state, as it sees it.
    pub(crate) fn brain(&self) -> Option<&JobMasterBrain> {
        self.brain.as_ref()
    }

    fn stamp(&self) -> Stamp {
        Stamp::job(JOB, self.epoch)
    }

    pub(crate) fn handle(&mut self, input: Input, kernel: &mut Kernel) {
        match input {
            Input::Begin => {
                if let Some((leader, _)) = self.leader {
                    kernel.watch(self.own, leader);
                    self.claim(leader, kernel);
                }
                kernel.timer(self.own, LOOK, Timer::LookForLeader);
            }
            Input::Call { from, id, stamp, ask } => self.on_call((from, id), stamp, ask, kernel),
            Input::Lost(peer) => self.on_lost(peer, kernel),
            Input::Timer(timer) => self.on_timer(timer, kernel),
            _ => {}
        }
    }

    pub(crate) fn answered(&mut self, then: Then, answer: Result<Reply, Refused>, kernel: &mut Kernel) {
        match (then, answer) {
            (Then::Delivered { way, place, sent }, answer) => {
                let lost = self
                    .couriers
                    .answered(self.own, (way, place, sent), answer.err(), kernel);
                match (lost, way) {
                    (None, _) => self.leave_when_said(kernel),
                    (Some(_), Way::Worker(worker)) => kernel.timer(self.own, WITNESS, Timer::GiveUp(worker)),
                    (Some(_), _) => kernel.end(self.own, "the job was given to another process"),
                }
            }
            (Then::Leads, Ok(Reply::Leader(Some((leader, term))))) => self.on_leader(leader, term, kernel),
            (Then::Claimed { leader }, answer) => self.on_claimed(leader, answer, kernel),
            (Then::EndBegun, answer) => self.on_end_begun(answer, kernel),
            (Then::Recorded { attempt }, answer) if attempt == self.attempt => {
                self.on_recorded(answer, kernel);
            }
            _ => {}
        }
    }

    // Leaders.

    fn claim(&mut self, leader: Pid, kernel: &mut Kernel) {
        self.claiming = true;
        let counted_on = |brain: &JobMasterBrain| {
            let known = self.workers.keys().copied();
            known.filter(|worker| !brain.has_given_up(*worker)).collect()
        };
        let workers = self.brain.as_ref().map(counted_on);
        let (epoch, process) = (self.epoch, self.process);
        let ask = Ask::Claim {
            epoch,
            process,
            workers,
        };
        let stamp = Some(self.stamp());
        kernel.ask(
            (self.own, leader),
            stamp,
            ask,
            (PATIENCE, Then::Claimed { leader }),
        );
    }

    fn on_claimed(&mut self, leader: Pid, answer: Result<Reply, Refused>, kernel: &mut Kernel) {
        self.claiming = false;
        match answer {
            Ok(Reply::Claimed(Ok(granted))) => {
                kernel.tell(
                    self.own,
                    format_args!("has epoch {} of {leader}, begins with {granted:?}", self.epoch),
                );
                self.turn_to(leader, &granted, kernel);
            }
            Ok(Reply::Claimed(Err(why))) => kernel.end(self.own, format!("refused: {why}")),
            Err(Refused::Fenced(FenceError::Fenced { .. })) => kernel.end(self.own, "refused: fenced"),
            _ => {
                kernel.unwatch(self.own, leader);
                self.leader = None;
            }
        }
    }

    fn turn_to(&mut self, leader: Pid, granted: &Granted, kernel: &mut Kernel) {
        if self.leader.is_none_or(|(known, _)| known != leader) {
            return;
        }
        self.granted_by = Some(leader);
        for way in [Way::Dispatcher, Way::Resources] {
            self.couriers.lead(way, (self.own, leader), self.stamp(), kernel);
        }
        if !self.begun {
            self.begun = true;
            self.begin(granted, kernel);
        } else if self.recording.is_some() && self.attempt > 0 {
            // The link to the last leader is closed, and with it what was asked there.
            self.record(kernel);
        }
    }

    fn on_lost(&mut self, peer: Pid, kernel: &mut Kernel) {
        if self.leader.is_some_and(|(leader, _)| leader == peer) {
            self.leader = None;
        }
        let lost: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, pid)| **pid == peer)
            .map(|(id, _)| *id)
            .collect();
        for worker in lost {
            kernel.timer(self.own, WITNESS, Timer::GiveUp(worker));
        }
    }

    fn on_leader(&mut self, leader: Pid, term: Term, kernel: &mut Kernel) {
        let newer = match self.leader {
            None => true,
            Some((known, None)) if known == leader => {
                self.leader = Some((leader, Some(term)));
                false
            }
            Some((known, held)) => known != leader && held.is_none_or(|held| held < term),
        };
        if newer && !self.claiming {
            if let Some((old, _)) = self.leader {
                kernel.unwatch(self.own, old);
            }
            self.leader = Some((leader, Some(term)));
            kernel.watch(self.own, leader);
            self.claim(leader, kernel);
        }
    }

    fn look(&self, kernel: &mut Kernel) {
        let managers: Vec<Pid> = kernel.managers.values().copied().collect();
        for manager in managers {
            kernel.ask((self.own, manager), None, Ask::WhoLeads, (PATIENCE, Then::Leads));
        }
        kernel.timer(self.own, LOOK, Timer::LookForLeader);
    }

    // The brain.

    fn begin(&mut self, granted: &Granted, kernel: &mut Kernel) {
        let settings = match settings(granted.restore.as_deref(), granted.first) {
            Ok(settings) => settings,
            Err(why) => return kernel.end(self.own, why),
        };
        let program = Arc::new(Program::new(kernel.graph.clone(), &kernel.blobs));
        self.storage = Some(JobStorage {
            job: JOB,
            name: kernel.graph.name.clone(),
            storage: hurtig_task::interface::TaskFactory::checkpoints(&*program).cloned(),
            clock: kernel.clock.clone(),
            factory: program,
            postponed: self.queue.postponed.clone(),
        });
        if let Some(status) = granted.ending {
            return self.end_as_begun(status, kernel);
        }
        self.brain = Some(JobMasterBrain::new(kernel.graph.clone(), settings, kernel.now));
        self.decide(JobEvent::Start, kernel);
    }

    fn decide(&mut self, event: JobEvent, kernel: &mut Kernel) {
        let mut effects = Vec::new();
        if let Some(brain) = &mut self.brain {
            brain.handle(kernel.now, event, &mut effects);
        }
        for effect in effects {
            self.carry_out(effect, kernel);
        }
        self.go_on_in_store(kernel);
    }

    fn tell(&mut self, to: TaskManagerId, message: TaskManagerMessage, kernel: &mut Kernel) {
        self.couriers
            .send(self.own, Way::Worker(to), Payload::Worker(message), kernel);
    }

    fn tell_dispatcher(&mut self, message: DispatcherMessage, kernel: &mut Kernel) {
        self.couriers
            .send(self.own, Way::Dispatcher, Payload::Dispatcher(message), kernel);
    }

    fn tell_resources(&mut self, message: ResourceManagerMessage, kernel: &mut Kernel) {
        self.couriers
            .send(self.own, Way::Resources, Payload::Resources(message), kernel);
    }

    fn carry_out(&mut self, effect: JobEffect, kernel: &mut Kernel) {
        let job = JOB;
        match effect {
            JobEffect::RequireSlots(need) => self.require(need, kernel),
            JobEffect::Dismiss(worker) => self.forget_worker(worker),
            JobEffect::Release(workers) => {
                for worker in workers {
                    self.tell(worker, TaskManagerMessage::ReleaseJob { job }, kernel);
                }
                self.tell_resources(ResourceManagerMessage::Release { job }, kernel);
            }
            JobEffect::StartEnumerators(sources) => self.start_enumerators(sources, kernel),
            JobEffect::ReturnSplits {
                generation,
                node,
                splits,
            } => {
                self.enumerate(
                    Enumerated::TakeBack {
                        node,
                        generation,
                        splits,
                    },
                    kernel,
                );
            }
            JobEffect::AskEnumerator {
                generation,
                node,
                reader,
            } => {
                self.enumerate(
                    Enumerated::Ask {
                        node,
                        generation,
                        reader,
                    },
                    kernel,
                );
            }
            JobEffect::SnapshotEnumerator {
                generation,
                node,
                checkpoint,
            } => {
                self.enumerate(
                    Enumerated::Snapshot {
                        node,
                        generation,
                        checkpoint,
                    },
                    kernel,
                );
            }
            JobEffect::Store(work) => self.queue.push(work),
            JobEffect::EndGeneration { at, generation } => {
                for worker in at {
                    self.tell(
                        worker,
                        TaskManagerMessage::EndGeneration { job, generation },
                        kernel,
                    );
                }
            }
            JobEffect::After(delay, event) => kernel.timer(self.own, delay, Timer::Job(event)),
            JobEffect::StatusChanged(status) => {
                kernel.note(status as u64);
                kernel.tell(self.own, format_args!("the job is {status}"));
                self.tell_dispatcher(DispatcherMessage::JobStatusChanged { job, status }, kernel);
            }
            JobEffect::Ended(result) => self.come_to_end(result, kernel),
            JobEffect::Fatal(why) => kernel.end(self.own, why),
            to_task => self.command(to_task, kernel),
        }
    }

    /// What goes to one task.
    fn command(&mut self, effect: JobEffect, kernel: &mut Kernel) {
        let task = |execution| TaskId { job: JOB, execution };
        let (to, message) = match effect {
            JobEffect::Deploy { to, descriptor } => (to, TaskManagerMessage::Deploy(descriptor)),
            JobEffect::CancelTask { to, execution } => (to, TaskManagerMessage::CancelTask(task(execution))),
            JobEffect::SendSplit {
                to,
                execution,
                node,
                split,
            } => {
                let task = task(execution);
                (to, TaskManagerMessage::AddSplit { task, node, split })
            }
            JobEffect::TriggerCheckpoint {
                to,
                execution,
                checkpoint,
            } => {
                kernel.checks.triggered(checkpoint, self.epoch);
                let task = task(execution);
                (to, TaskManagerMessage::TriggerCheckpoint { task, checkpoint })
            }
            JobEffect::NotifyCheckpoint { to, execution, event } => {
                let task = task(execution);
                (to, TaskManagerMessage::NotifyCheckpoint { task, event })
            }
            _ => return,
        };
        self.tell(to, message, kernel);
    }

    fn require(&mut self, need: SlotNeed, kernel: &mut Kernel) {
        let require = ResourceManagerMessage::Require {
            job: JOB,
            slots: need.slots,
            least: Some(need.least),
            returned: need.returned,
        };
        self.tell_resources(require, kernel);
    }

    fn forget_worker(&mut self, worker: TaskManagerId) {
        self.workers.remove(&worker);
        self.couriers.drop(Way::Worker(worker));
    }

    // Enumerators.

    fn start_enumerators(&mut self, sources: Vec<EnumeratorStart>, kernel: &mut Kernel) {
        for source in sources {
            let (node, generation) = (source.node, source.generation);
            self.enumerators.insert(node, (generation, Splits::default()));
            let state = source.state;
            self.enumerate(
                Enumerated::Start {
                    node,
                    generation,
                    state,
                },
                kernel,
            );
        }
    }

    fn enumerate(&self, what: Enumerated, kernel: &mut Kernel) {
        let delay = kernel.random.millis(0, 30);
        kernel.timer(self.own, delay, Timer::Enumerated(Box::new(what)));
    }

    fn on_enumerated(&mut self, what: Enumerated, kernel: &mut Kernel) {
        let (node, generation) = match &what {
            Enumerated::Start { node, generation, .. }
            | Enumerated::Ask { node, generation, .. }
            | Enumerated::Snapshot { node, generation, .. }
            | Enumerated::TakeBack { node, generation, .. } => (*node, *generation),
        };
        let Some((_, splits)) = self
            .enumerators
            .get_mut(&node)
            .filter(|(present, _)| *present == generation)
        else {
            return;
        };
        splits.there = (
            kernel.splits(),
            kernel.splits_end.is_some_and(|end| end <= kernel.splits()),
        );
        match enumerated(splits, what) {
            Ok(event) => self.decide(event, kernel),
            Err(why) => kernel
                .checks
                .violated(format!("an enumerator of the model has failed: {why}")),
        }
    }

    // The checkpoint store.

    fn work_in_store(&mut self, kernel: &mut Kernel) {
        let Some(work) = self.queue.begin_next() else {
            return;
        };
        let Some(storage) = &self.storage else { return };
        let publishes = match &work {
            StorageWork::Publish { metadata, .. } => {
                kernel.checks.published(metadata.checkpoint_id, self.epoch);
                Some(metadata.checkpoint_id)
            }
            _ => None,
        };
        let told = format!("{work:?}");
        self.done = storage.carry_out(work);
        let told: String = told.chars().take(70).collect();
        let came = match &self.done {
            Some(JobEvent::CheckpointPublished(id, outcome)) => {
                format!("checkpoint {id} is published: {outcome:?}")
            }
            Some(JobEvent::CheckpointLoaded(Err(error))) => format!("not loaded: {error}"),
            _ => String::new(),
        };
        kernel.tell(self.own, format_args!("in the store: {told} {came}"));
        kernel.look_at_deleted();
        let published = matches!(self.done, Some(JobEvent::CheckpointPublished(_, Ok(()))));
        self.recording = publishes.filter(|_| published).map(|id| {
            let folder = CheckpointLayout::new(JOB).checkpoint(id);
            (id, format!("{}/{folder}", crate::blobs::LOCATION))
        });
        let delay = kernel.random.millis(1, 100);
        kernel.timer(self.own, delay, Timer::StorageDone);
    }

    fn on_storage_done(&mut self, kernel: &mut Kernel) {
        if self.recording.is_some() {
            return self.record(kernel);
        }
        self.stored(kernel);
    }

    fn stored(&mut self, kernel: &mut Kernel) {
        self.queue.done();
        match self.done.take() {
            Some(event) => self.decide(event, kernel),
            None => self.go_on_in_store(kernel),
        }
    }

    /// Begins what is next in the store; the job's end is told when that was all.
    fn go_on_in_store(&mut self, kernel: &mut Kernel) {
        self.work_in_store(kernel);
        self.end_when_stored(kernel);
    }

    /// Asks the leader; what was asked before is answered no more.
    fn record(&mut self, kernel: &mut Kernel) {
        self.attempt += 1;
        let attempt = self.attempt;
        let Some((checkpoint, path)) = self.recording.clone() else {
            return;
        };
        match self.granted_by {
            Some(leader) => {
                let ask = Ask::Record { checkpoint, path };
                let stamp = Some(self.stamp());
                kernel.ask(
                    (self.own, leader),
                    stamp,
                    ask,
                    (PATIENCE, Then::Recorded { attempt }),
                );
            }
            None => kernel.timer(self.own, PAUSE, Timer::RecordAgain(attempt)),
        }
    }

    fn on_recorded(&mut self, answer: Result<Reply, Refused>, kernel: &mut Kernel) {
        if self.recording.is_none() {
            return;
        }
        match answer {
            Ok(_) => {
                self.recording = None;
                self.stored(kernel);
            }
            Err(Refused::Unreachable | Refused::NotNow) => {
                kernel.timer(self.own, PAUSE, Timer::RecordAgain(self.attempt));
            }
            Err(refused) => kernel.end(
                self.own,
                format!("its checkpoints are not recorded: {}", refused.why()),
            ),
        }
    }

    // The end.

    /// What the job comes to is recorded before its checkpoints are deleted.
    fn come_to_end(&mut self, result: Box<JobResult>, kernel: &mut Kernel) {
        let deletes = |work: &StorageWork| {
            matches!(
                work,
                StorageWork::DiscardJob | StorageWork::DiscardClaimed(_) | StorageWork::SweepShared { .. }
            )
        };
        if self.queue.waiting().any(deletes) {
            self.queue.hold();
            self.ending = Some(result);
            self.begin_end(kernel);
        } else {
            self.result = Some(result);
        }
    }

    fn begin_end(&self, kernel: &mut Kernel) {
        let Some(result) = &self.ending else { return };
        let status = final_status(result.status);
        match self.granted_by {
            Some(leader) => {
                let stamp = Some(self.stamp());
                let ask = Ask::BeginEnd { status };
                kernel.ask((self.own, leader), stamp, ask, (PATIENCE, Then::EndBegun));
            }
            None => kernel.timer(self.own, PAUSE, Timer::EndAgain),
        }
    }

    fn on_end_begun(&mut self, answer: Result<Reply, Refused>, kernel: &mut Kernel) {
        if self.ending.is_none() {
            return;
        }
        match answer {
            Ok(_) => {
                self.result = self.ending.take();
                self.queue.release();
                self.go_on_in_store(kernel);
            }
            Err(Refused::Unreachable | Refused::NotNow) => kernel.timer(self.own, PAUSE, Timer::EndAgain),
            Err(refused) => kernel.end(self.own, format!("its end is not recorded: {}", refused.why())),
        }
    }

    /// A predecessor has had this end recorded, and may have deleted a part of what is to be deleted.
    fn end_as_begun(&mut self, status: FinalStatus, kernel: &mut Kernel) {
        kernel.checks.ended_by_successor += 1;
        self.queue.push(StorageWork::DiscardJob);
        self.result = Some(Box::new(JobResult {
            job: JOB,
            name: kernel.graph.name.clone(),
            status: match status {
                FinalStatus::Finished => JobStatus::Finished,
                FinalStatus::Canceled => JobStatus::Canceled,
                FinalStatus::Failed => JobStatus::Failed,
            },
            accumulators: BTreeMap::new(),
            failure: None,
            failures: Vec::new(),
            restarts: 0,
            duration: Duration::ZERO,
            vertices: Vec::new(),
            details: Vec::new(),
            checkpoints: None,
        }));
        self.go_on_in_store(kernel);
    }

    fn end_when_stored(&mut self, kernel: &mut Kernel) {
        if self.queue.is_idle()
            && let Some(result) = self.result.take()
        {
            self.ended = true;
            self.tell_dispatcher(DispatcherMessage::JobEnded(result), kernel);
        }
    }

    fn leave_when_said(&mut self, kernel: &mut Kernel) {
        if self.ended && self.couriers.are_empty(&[Way::Dispatcher, Way::Resources]) {
            kernel.end(self.own, "done");
        }
    }

    // Others.

    fn on_call(&mut self, (from, id): (Pid, u64), stamp: Option<Stamp>, ask: Ask, kernel: &mut Kernel) {
        if let Err(fenced) = self.fences.admit(stamp) {
            kernel.checks.fenced += 1;
            kernel.answer(self.own, id, Err(Refused::Fenced(fenced)));
            if self.fences.superseded_by(Scope::Job(JOB)).is_some() {
                kernel.end(self.own, "superseded");
            }
            return;
        }
        let answer = match ask {
            Ask::OpenWorker { worker } => {
                self.workers.insert(worker, from);
                kernel.watch(self.own, from);
                let stamp = self.stamp();
                if !self.couriers.has(Way::Worker(worker)) {
                    self.couriers
                        .lead(Way::Worker(worker), (self.own, from), stamp, kernel);
                }
                Ok(Reply::Done)
            }
            Ask::Deliver(delivery) => match self.inbox.accept(delivery) {
                Ok(messages) => {
                    for message in messages.collect::<Vec<_>>() {
                        if let Payload::Master(message) = message {
                            self.decide(JobEvent::Message(message), kernel);
                        }
                    }
                    Ok(Reply::Done)
                }
                Err(missing) => Err(Refused::Failed(Error::from(missing).to_string())),
            },
            _ => Err(Refused::Failed("no such question".to_owned())),
        };
        kernel.answer(self.own, id, answer);
    }

    fn on_timer(&mut self, timer: Timer, kernel: &mut Kernel) {
        match timer {
            Timer::Courier { way, place } => self.couriers.rested(self.own, (way, place), kernel),
            Timer::LookForLeader => self.look(kernel),
            Timer::Job(event) => self.decide(event, kernel),
            Timer::StorageDone => self.on_storage_done(kernel),
            Timer::Enumerated(what) => self.on_enumerated(*what, kernel),
            Timer::RecordAgain(attempt) if attempt == self.attempt => self.record(kernel),
            Timer::EndAgain => self.begin_end(kernel),
            Timer::GiveUp(worker) => self.give_up(worker, kernel),
            _ => {}
        }
    }

    /// A worker that is silent may still run, with slots that the job needs.
    fn give_up(&mut self, worker: TaskManagerId, kernel: &mut Kernel) {
        self.tell_resources(ResourceManagerMessage::GiveUp { job: JOB, worker }, kernel);
        kernel.tell(self.own, format_args!("gives up worker {worker}"));
        let cause = "it does not answer".to_owned();
        let task_manager = worker;
        self.decide(
            JobEvent::Message(JobMasterMessage::TaskManagerLost { task_manager, cause }),
            kernel,
        );
        self.forget_worker(worker);
    }
}

fn final_status(status: JobStatus) -> FinalStatus {
    match status {
        JobStatus::Finished => FinalStatus::Finished,
        JobStatus::Canceled => FinalStatus::Canceled,
        _ => FinalStatus::Failed,
    }
}

/// What an enumerator does, and what follows.
fn enumerated(splits: &mut Splits, what: Enumerated) -> hurtig_core::Result<JobEvent> {
    Ok(match what {
        Enumerated::Start {
            node,
            generation,
            state,
        } => {
            match state {
                Some(state) => splits.restore(&state, crate::job::PARALLELISM)?,
                None => splits.start(crate::job::PARALLELISM)?,
            }
            JobEvent::EnumeratorStarted {
                generation,
                node,
                enumerates: true,
            }
        }
        Enumerated::Ask {
            node,
            generation,
            reader,
        } => JobEvent::SplitAssigned {
            generation,
            node,
            reader,
            assignment: splits.next_split(reader.subtask.index)?,
        },
        Enumerated::Snapshot {
            node,
            generation,
            checkpoint,
        } => JobEvent::EnumeratorSnapshot {
            generation,
            node,
            checkpoint,
            snapshot: splits.snapshot()?,
        },
        Enumerated::TakeBack {
            node,
            generation,
            splits: back,
        } => {
            splits.add_back(back);
            JobEvent::SplitsTakenBack { generation, node }
        }
    })
}
