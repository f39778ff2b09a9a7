//! The ResourceManager of a leader: its brain is the product's; which TaskManager starts what, and what follows when something ends,
//! is after `actors/cluster/src/process/placement.rs`, for one job.

use crate::job::JOB;
use crate::kernel::Kernel;
use crate::launcher::stamp_of;
use crate::messages::{Ask, Pid, Proc, Then, Timer};
use hurtig_cluster::messages::{JobMasterMessage, ResourceManagerMessage};
use hurtig_cluster::{LoadBalance, ResourceBrain, ResourceEffect};
use hurtig_core::ids::{AllocationId, TaskManagerId};
use hurtig_core::time::Time;
use hurtig_ha::leader::Term;
use hurtig_rpc::Stamp;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

/// How long a TaskManager may take to take up a command.
const COMMAND: Duration = Duration::from_secs(60);
/// How long the processes of an epoch may take to end.
const ENDING: Duration = Duration::from_secs(10);
/// How long the processes of a job that is over may take to end by themselves.
const GRACE: Duration = Duration::from_secs(10);
/// How long who was led by another jobmanager has to come back.
const SETTLING: Duration = Duration::from_secs(10);
/// A worker that ended so soon after its start is not replaced at once.
const SOON: Duration = Duration::from_secs(2);
/// But after this.
const PAUSE: Duration = Duration::from_secs(1);

struct Worker {
    at: TaskManagerId,
    since: Time,
    allocations: Vec<AllocationId>,
}

/// The processes of the job.
struct Processes {
    epoch: NonZeroU64,
    wanted: bool,
    master_at: Option<TaskManagerId>,
    master: Option<Pid>,
    workers: BTreeMap<TaskManagerId, Worker>,
    /// Who has not said yet that nothing of an earlier epoch runs; none when nothing is being ended.
    clearing: BTreeSet<TaskManagerId>,
    over: bool,
    settling: Option<Option<ResourceManagerMessage>>,
    returned: BTreeSet<AllocationId>,
    expected: Option<BTreeSet<TaskManagerId>>,
}

impl Processes {
    fn new(epoch: NonZeroU64, settling: bool) -> Self {
        Self {
            epoch,
            wanted: false,
            master_at: None,
            master: None,
            workers: BTreeMap::new(),
            clearing: BTreeSet::new(),
            over: false,
            settling: settling.then_some(None),
            returned: BTreeSet::new(),
            expected: None,
        }
    }
}

/// See the module.
pub(crate) struct Placement {
    own: Pid,
    term: Term,
    brain: ResourceBrain,
    starters: BTreeMap<TaskManagerId, Pid>,
    job: Option<Processes>,
    taken_on: bool,
    messages: Vec<JobMasterMessage>,
}

impl Placement {
    pub(crate) fn new(own: Pid, term: Term) -> Self {
        Self {
            own,
            term,
            brain: ResourceBrain::of_term(LoadBalance::Slots, term.revision.0),
            starters: BTreeMap::new(),
            job: None,
            taken_on: false,
            messages: Vec::new(),
        }
    }

    /// What the JobMaster is to be told.
    pub(crate) fn take_messages(&mut self) -> Vec<JobMasterMessage> {
        std::mem::take(&mut self.messages)
    }

    fn tell_master(&mut self, message: JobMasterMessage) {
        if self.job.as_ref().is_some_and(|job| job.master.is_some()) {
            self.messages.push(message);
        }
    }

    pub(crate) fn taken_on(&mut self, kernel: &mut Kernel) {
        self.taken_on = true;
        kernel.timer(self.own, SETTLING, Timer::Settled);
    }

    pub(crate) fn inherit(&mut self, epoch: NonZeroU64) {
        self.job = Some(Processes::new(epoch, true));
    }

    pub(crate) fn decide(&mut self, message: ResourceManagerMessage, kernel: &mut Kernel) {
        let mut effects = Vec::new();
        kernel.tell(self.own, format_args!("resources: {message:?}"));
        self.brain.handle(message, &mut effects);
        for effect in effects {
            let ResourceEffect::Allocate {
                task_manager,
                allocations,
                ..
            } = effect;
            self.start_worker(task_manager, allocations, kernel);
        }
    }

    fn start_worker(&mut self, at: TaskManagerId, allocations: Vec<AllocationId>, kernel: &mut Kernel) {
        let Some(job) = self.job.as_mut() else { return };
        let Some(master) = job.master else { return };
        let worker = TaskManagerId::from_u128(kernel.random.wide());
        let (epoch, since) = (job.epoch, kernel.now);
        let known = allocations.clone();
        job.workers.insert(
            worker,
            Worker {
                at,
                since,
                allocations: known,
            },
        );
        kernel.tell(self.own, format_args!("worker {worker} is to be started at {at}"));
        let order = Ask::StartWorker {
            worker,
            epoch,
            allocations,
            master,
        };
        self.command(at, Proc::Worker { epoch, worker }, order, kernel);
    }

    fn command(&self, at: TaskManagerId, process: Proc, order: Ask, kernel: &mut Kernel) {
        let Some(pid) = self.starters.get(&at) else { return };
        let then = Then::TakenUp {
            task_manager: at,
            process,
        };
        kernel.ask(
            (self.own, *pid),
            Some(stamp_of(self.term)),
            order,
            (COMMAND, then),
        );
    }

    fn place_master(&mut self, kernel: &mut Kernel) {
        let Some(job) = &mut self.job else { return };
        if !job.wanted || !job.clearing.is_empty() || job.over {
            return;
        }
        let all: Vec<TaskManagerId> = self.starters.keys().copied().collect();
        let Some(at) = kernel.random.pick(&all) else {
            return;
        };
        (job.wanted, job.master_at) = (false, Some(at));
        let epoch = job.epoch;
        self.command(at, Proc::Master { epoch }, Ask::StartMaster { epoch }, kernel);
    }

    /// A TaskManager is there. False while it is not known what jobs there are.
    pub(crate) fn register(
        &mut self,
        (id, pid): (TaskManagerId, Pid),
        slots: u32,
        processes: &[(Proc, Vec<AllocationId>)],
        kernel: &mut Kernel,
    ) -> bool {
        if !self.taken_on {
            return false;
        }
        if self.starters.contains_key(&id) {
            return true;
        }
        kernel.watch(self.own, pid);
        self.starters.insert(id, pid);
        let held = self.take_back(id, processes, kernel);
        for allocations in &held {
            self.brain.hold(id, JOB, allocations);
        }
        self.place_master(kernel);
        let register = ResourceManagerMessage::Register {
            task_manager: id,
            slots: Some(slots),
        };
        self.decide(register, kernel);
        if !held.is_empty() {
            self.compare(kernel);
        }
        true
    }

    /// Processes of the present epoch go on, all others are ended. Slots that the former have.
    fn take_back(
        &mut self,
        at: TaskManagerId,
        processes: &[(Proc, Vec<AllocationId>)],
        kernel: &mut Kernel,
    ) -> Vec<Vec<AllocationId>> {
        let mut held = Vec::new();
        for (process, allocations) in processes {
            let current =
                |job: &&mut Processes| job.epoch == process.epoch() && job.clearing.is_empty() && !job.over;
            let since = kernel.now;
            match (process, self.job.as_mut().filter(current)) {
                (Proc::Master { .. }, Some(job)) => job.master_at = Some(at),
                (Proc::Worker { worker, .. }, Some(job)) if job.settling.is_some() => {
                    let kept = allocations.iter().filter(|slot| !job.returned.contains(slot));
                    let allocations: Vec<AllocationId> = kept.copied().collect();
                    if allocations.is_empty() {
                        self.end_process(at, *process, kernel);
                        continue;
                    }
                    held.push(allocations.clone());
                    job.workers.insert(
                        *worker,
                        Worker {
                            at,
                            since,
                            allocations,
                        },
                    );
                }
                _ => self.end_process(at, *process, kernel),
            }
        }
        held
    }

    fn end_process(&self, at: TaskManagerId, process: Proc, kernel: &mut Kernel) {
        if let Some(pid) = self.starters.get(&at) {
            let stamp = Some(stamp_of(self.term));
            kernel.ask(
                (self.own, *pid),
                stamp,
                Ask::EndProcess { process },
                (ENDING, Then::Nothing),
            );
        }
    }

    fn end_worker(&self, worker: TaskManagerId, kernel: &mut Kernel) {
        let Some(job) = &self.job else { return };
        if let Some(at) = job.workers.get(&worker).map(|worker| worker.at) {
            let epoch = job.epoch;
            self.end_process(at, Proc::Worker { epoch, worker }, kernel);
        }
    }

    /// Ends workers that their JobMaster has given up, and waits for no others once all that it has are back.
    fn compare(&mut self, kernel: &mut Kernel) {
        let Some(job) = self.job.as_ref().filter(|job| job.settling.is_some()) else {
            return;
        };
        let Some(expected) = &job.expected else { return };
        let given_up: Vec<_> = job
            .workers
            .keys()
            .filter(|worker| !expected.contains(worker))
            .copied()
            .collect();
        let back = expected.iter().all(|worker| job.workers.contains_key(worker));
        for worker in given_up {
            self.end_worker(worker, kernel);
        }
        if back {
            self.settle(kernel);
        }
    }

    fn settle(&mut self, kernel: &mut Kernel) {
        if let Some(Some(required)) = self.job.as_mut().and_then(|job| job.settling.take()) {
            self.decide(required, kernel);
        }
    }

    pub(crate) fn on_message(
        &mut self,
        message: ResourceManagerMessage,
        stamp: Option<Stamp>,
        kernel: &mut Kernel,
    ) {
        let epoch = self.job.as_ref().filter(|job| !job.over).map(|job| job.epoch);
        if epoch.is_none_or(|epoch| stamp != Some(Stamp::job(JOB, epoch))) {
            return;
        }
        if let ResourceManagerMessage::Require { returned, .. } = &message {
            self.take_slots_back(returned, kernel);
        }
        if self.is_kept_for_later(&message) {
            return;
        }
        if let ResourceManagerMessage::GiveUp { worker, .. } = message {
            if let Some(expected) = self.job.as_mut().and_then(|job| job.expected.as_mut()) {
                expected.remove(&worker);
            }
            self.end_worker(worker, kernel);
            self.compare(kernel);
        }
        self.decide(message, kernel);
    }

    fn take_slots_back(&mut self, returned: &[AllocationId], kernel: &mut Kernel) {
        let Some(job) = &mut self.job else { return };
        job.returned = returned.iter().copied().collect();
        let (mut useless, mut freed) = (Vec::new(), Vec::new());
        for (id, worker) in &mut job.workers {
            if worker.allocations.iter().all(|slot| returned.contains(slot)) {
                useless.push(*id);
                continue;
            }
            freed.extend(worker.allocations.extract_if(.., |slot| returned.contains(slot)));
        }
        self.brain.give_back(JOB, &freed);
        for worker in useless {
            self.end_worker(worker, kernel);
        }
    }

    /// What a job of an earlier term requires waits until its workers have had time to come back.
    fn is_kept_for_later(&mut self, message: &ResourceManagerMessage) -> bool {
        let Some(required) = self.job.as_mut().and_then(|job| job.settling.as_mut()) else {
            return false;
        };
        match message {
            ResourceManagerMessage::Require { .. } => *required = Some(message.clone()),
            ResourceManagerMessage::Release { .. } => *required = None,
            _ => {}
        }
        matches!(message, ResourceManagerMessage::Require { .. })
    }

    pub(crate) fn start_master(&mut self, epoch: NonZeroU64, kernel: &mut Kernel) {
        let job = self.job.get_or_insert_with(|| Processes::new(epoch, false));
        (job.epoch, job.wanted) = (epoch, true);
        self.place_master(kernel);
    }

    pub(crate) fn master_claimed(
        &mut self,
        epoch: NonZeroU64,
        master: Pid,
        workers: Option<Vec<TaskManagerId>>,
        kernel: &mut Kernel,
    ) {
        if let Some(job) = self.job.as_mut().filter(|job| job.epoch == epoch) {
            job.master = Some(master);
            job.expected = workers.map(|workers| workers.into_iter().collect());
            self.compare(kernel);
        }
    }

    /// Ends what is left of an epoch; what belongs to the next one waits for that.
    pub(crate) fn clear(&mut self, epoch: NonZeroU64, kernel: &mut Kernel) {
        let Some(job) = &mut self.job else { return };
        job.clearing = self.starters.keys().copied().collect();
        job.settling = None;
        (job.master_at, job.master) = (None, None);
        job.workers.clear();
        for (task_manager, pid) in &self.starters {
            let then = Then::Cleared {
                epoch,
                task_manager: *task_manager,
            };
            let stamp = Some(stamp_of(self.term));
            kernel.ask(
                (self.own, *pid),
                stamp,
                Ask::EndProcesses { epoch },
                (ENDING, then),
            );
        }
        self.decide(ResourceManagerMessage::Release { job: JOB }, kernel);
    }

    pub(crate) fn cleared(&mut self, epoch: NonZeroU64, task_manager: TaskManagerId, kernel: &mut Kernel) {
        let Some(job) = &mut self.job else { return };
        job.clearing.remove(&task_manager);
        if !job.clearing.is_empty() {
            return;
        }
        if job.over && job.epoch <= epoch {
            self.job = None;
            return;
        }
        self.place_master(kernel);
    }

    pub(crate) fn job_ended(&mut self, epoch: NonZeroU64, kernel: &mut Kernel) {
        let Some(job) = &mut self.job else { return };
        (job.over, job.settling) = (true, None);
        kernel.timer(self.own, GRACE, Timer::Expired(epoch));
        self.decide(ResourceManagerMessage::Release { job: JOB }, kernel);
    }

    /// A process has ended; the epoch of the JobMaster that it was, and how.
    pub(crate) fn on_ended(
        &mut self,
        process: Proc,
        how: String,
        kernel: &mut Kernel,
    ) -> Option<(NonZeroU64, String)> {
        let (epoch, worker) = match process {
            Proc::Master { epoch } => return Some((epoch, how)),
            Proc::Worker { epoch, worker } => (epoch, worker),
        };
        let job = self.job.as_mut().filter(|job| job.epoch == epoch)?;
        let ended = job.workers.remove(&worker)?;
        let (task_manager, cause) = (worker, how);
        self.tell_master(JobMasterMessage::WorkerEnded { task_manager, cause });
        let freed = Timer::Freed {
            task_manager: ended.at,
            allocations: ended.allocations,
        };
        let soon = kernel.now.since(ended.since) < SOON;
        kernel.timer(self.own, if soon { PAUSE } else { Duration::ZERO }, freed);
        None
    }

    /// Of which epoch the JobMaster is that cannot be reached any more.
    pub(crate) fn master_lost(&self, peer: Pid) -> Option<NonZeroU64> {
        let job = self.job.as_ref().filter(|job| job.master == Some(peer))?;
        Some(job.epoch)
    }

    /// A TaskManager is gone; the epoch of the JobMaster that was there.
    pub(crate) fn on_lost(&mut self, peer: Pid, kernel: &mut Kernel) -> Option<NonZeroU64> {
        let lost = self
            .starters
            .iter()
            .find(|(_, pid)| **pid == peer)
            .map(|(id, _)| *id)?;
        self.starters.remove(&lost);
        let mut there = Vec::new();
        let mut master = None;
        if let Some(job) = &mut self.job {
            master = (job.master_at == Some(lost)).then_some(job.epoch);
            there.extend(
                job.workers
                    .iter()
                    .filter(|(_, worker)| worker.at == lost)
                    .map(|(id, _)| *id),
            );
            job.workers.retain(|_, worker| worker.at != lost);
        }
        for task_manager in there {
            let cause = format!("its TaskManager {lost} is gone");
            self.tell_master(JobMasterMessage::TaskManagerLost { task_manager, cause });
        }
        self.decide(ResourceManagerMessage::Lost { task_manager: lost }, kernel);
        master
    }

    pub(crate) fn on_timer(&mut self, timer: Timer, kernel: &mut Kernel) {
        match timer {
            Timer::Settled => self.settle(kernel),
            Timer::Expired(epoch) => self.clear(epoch, kernel),
            Timer::Freed {
                task_manager,
                allocations,
            } => {
                let freed = ResourceManagerMessage::Freed {
                    task_manager,
                    job: JOB,
                    allocations,
                };
                self.decide(freed, kernel);
            }
            _ => {}
        }
    }
}
