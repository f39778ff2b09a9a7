//! The ResourceManager's hands in a cluster of processes: which TaskManager starts what, and what follows when something ends.

use super::launch::{JobLaunch, ProcessExit, ProcessId, RunningProcess};
use super::overview::{MachineQuestion, TaskManagers};
use crate::dispatcher::{DispatcherCall, DispatcherInput};
use crate::job_master::JobMasterEvent;
use crate::messages::{JobMasterMessage, ResourceManagerMessage};
use crate::resource_manager::{ResourceManager, ResourceManagerEvent};
use crate::wire::{
    Delivery, EndProcess, EndProcesses, Inbox, LauncherRpc, MachineRpc, Plan, ProcessEnded,
    RegisterTaskManager, StartJobMaster, StartWorker,
};
use hurtig_core::ids::{AllocationId, JobId, TaskManagerId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::JobGraph;
use hurtig_kit::{Mailbox, Reply, ShellCx};
use hurtig_rpc::{Call, Connectivity, Gateway, Peer, Rpc, RpcError, Stamp};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// How long a TaskManager may take to take up a command. It may fetch an artifact first.
const COMMAND: Duration = Duration::from_secs(60);
/// How long the processes of an epoch may take to end: they are killed.
const ENDING: Duration = Duration::from_secs(10);
/// How long who was led by another jobmanager has to come back.
const SETTLING: Duration = Duration::from_secs(10);

/// What reaches the ResourceManager of a cluster of processes.
pub(crate) enum ProcessEvent {
    /// A TaskManager is there.
    Registered(Call<RegisterTaskManager>),
    /// A process has ended.
    Ended(Call<ProcessEnded>),
    /// Messages of a JobMaster.
    Delivered(Call<Delivery<ResourceManagerMessage>>),
    /// From the Dispatcher: a job needs a JobMaster.
    StartMaster {
        /// Which.
        job: JobId,
        /// In which epoch.
        epoch: NonZeroU64,
        /// What.
        launch: Arc<JobLaunch>,
    },
    /// From the Dispatcher: a job of an earlier term, whose JobMaster may still run.
    Inherited {
        /// Which.
        job: JobId,
        /// In which epoch.
        epoch: NonZeroU64,
        /// What.
        launch: Arc<JobLaunch>,
    },
    /// From the Dispatcher: that were all of them.
    TakenOn,
    /// Timer: whoever was led before has had time to come back.
    Settled,
    /// From the Dispatcher: it has one.
    MasterClaimed {
        /// Which job.
        job: JobId,
        /// In which epoch.
        epoch: NonZeroU64,
        /// Where it listens.
        address: String,
        /// The way to it.
        master: Mailbox<JobMasterEvent>,
        /// Its workers, when it was led by somebody else before.
        workers: Option<Vec<TaskManagerId>>,
    },
    /// From the Dispatcher: its JobMaster is gone, and nothing of its epoch may run on.
    EpochEnded {
        /// Which job.
        job: JobId,
        /// The epoch.
        epoch: NonZeroU64,
    },
    /// From the Dispatcher: the job is over.
    JobEnded {
        /// Which job.
        job: JobId,
        /// Its last epoch.
        epoch: NonZeroU64,
    },
    /// Nothing of an epoch runs any more, or nobody can say so.
    Cleared(JobId, NonZeroU64),
    /// Timer: a job that is over has had time to end.
    Expired(JobId, NonZeroU64),
    /// Timer: slots of a job are free.
    Freed(TaskManagerId, JobId, Vec<AllocationId>),
    /// A TaskManager did not take up a command.
    NotStarted(TaskManagerId, ProcessId, RpcError),
    /// A TaskManager did.
    TakenUp,
    /// A TaskManager cannot be reached any more.
    Lost(TaskManagerId, String),
    /// A client wants the graph of a program.
    Plan(Box<JobLaunch>, Reply<Result<JobGraph, String>>),
    /// A TaskManager has planned it.
    Planned(Reply<Result<JobGraph, String>>, Result<Plan, RpcError>),
    /// Who is told of JobMasters that end; the first event.
    ReportTo(Mailbox<DispatcherInput>),
    /// A client asks who is there.
    TaskManagers(Reply<TaskManagers>),
    /// A client asks something of one of them.
    Ask(TaskManagerId, MachineQuestion),
}

/// A TaskManager that starts processes.
pub(super) struct Starter {
    pub(super) address: String,
    pub(super) slots: u32,
    pub(super) gateway: Gateway<LauncherRpc>,
    pub(super) machine: Gateway<MachineRpc>,
}

/// The processes of a job.
pub(super) struct JobProcesses {
    launch: Arc<JobLaunch>,
    pub(super) epoch: NonZeroU64,
    /// The Dispatcher waits for a JobMaster of this epoch, and none has been placed.
    wanted: bool,
    /// The TaskManager that runs the JobMaster.
    pub(super) master_at: Option<TaskManagerId>,
    /// Where the JobMaster listens, and the way to it.
    pub(super) master: Option<(String, Mailbox<JobMasterEvent>)>,
    pub(super) workers: BTreeMap<TaskManagerId, Worker>,
    /// Earlier epochs are being ended: nothing is started.
    pub(super) clearing: bool,
    pub(super) over: bool,
    /// Of an earlier term, whose workers may still come back: it gets no slots beside those that they have. What it requires meanwhile.
    pub(super) settling: Option<Option<ResourceManagerMessage>>,
    /// Slots that its JobMaster has given back.
    pub(super) returned: BTreeSet<AllocationId>,
    /// The workers that its JobMaster brings along from an earlier term; it knows no others.
    expected: Option<BTreeSet<TaskManagerId>>,
}

pub(super) struct Worker {
    pub(super) at: TaskManagerId,
    pub(super) since: Time,
    pub(super) allocations: Vec<AllocationId>,
}

/// Who starts processes, and which there are.
pub(crate) struct Placement {
    rpc: Rpc,
    stamp: Stamp,
    dispatcher: Option<Mailbox<DispatcherInput>>,
    pub(super) starters: BTreeMap<TaskManagerId, Starter>,
    pub(super) jobs: BTreeMap<JobId, JobProcesses>,
    inbox: Inbox,
    /// Whether all jobs of earlier terms are known.
    taken_on: bool,
    /// Passwords and keys of the cluster that its jobs may use. Their processes are told, and nothing is recorded.
    pub(super) secrets: BTreeMap<String, String>,
}

pub(super) type Cx<'a, 'b> = &'a mut ShellCx<'b, ResourceManager>;

pub(super) fn event(event: ProcessEvent) -> ResourceManagerEvent {
    ResourceManagerEvent::Processes(Box::new(event))
}

impl Placement {
    /// Without TaskManagers. What it commands carries `stamp`; jobs may use `secrets`.
    pub(crate) fn new(rpc: Rpc, stamp: Stamp, secrets: BTreeMap<String, String>) -> Self {
        Self {
            rpc,
            stamp,
            dispatcher: None,
            starters: BTreeMap::new(),
            jobs: BTreeMap::new(),
            inbox: Inbox::default(),
            taken_on: false,
            secrets,
        }
    }

    pub(crate) fn start_worker(
        &mut self,
        task_manager: TaskManagerId,
        job: JobId,
        allocations: Vec<AllocationId>,
        cx: Cx<'_, '_>,
    ) {
        let (Some(starter), Some(known)) = (self.starters.get(&task_manager), self.jobs.get_mut(&job)) else {
            tracing::error!(%job, %task_manager, "slots granted to or by someone who is not known");
            return;
        };
        let Some((master, _)) = &known.master else {
            // Its JobMaster has gone since; another one will require anew.
            return;
        };
        let (worker, epoch) = (TaskManagerId::random(), known.epoch);
        let order = StartWorker {
            worker,
            epoch,
            allocations: allocations.clone(),
            master: master.clone(),
            launch: with_secrets(&known.launch, &self.secrets),
        };
        let since = cx.now();
        known.workers.insert(
            worker,
            Worker {
                at: task_manager,
                since,
                allocations,
            },
        );
        let process = ProcessId::Worker { job, epoch, worker };
        let taken_up = starter.gateway.ask(order, COMMAND);
        command(taken_up, task_manager, process, cx);
    }

    pub(super) fn place_masters(&mut self, cx: Cx<'_, '_>) {
        let mut load: BTreeMap<TaskManagerId, usize> = self.starters.keys().map(|id| (*id, 0)).collect();
        for at in self.jobs.values().filter_map(|job| job.master_at) {
            load.entry(at).and_modify(|count| *count += 1);
        }
        for (job, known) in &mut self.jobs {
            if !known.wanted || known.clearing || known.over {
                continue;
            }
            let Some((&at, _)) = load.iter().min_by_key(|(_, count)| **count) else {
                return;
            };
            load.entry(at).and_modify(|count| *count += 1);
            let Some(starter) = self.starters.get(&at) else {
                continue;
            };
            (known.wanted, known.master_at) = (false, Some(at));
            let (job, epoch) = (*job, known.epoch);
            let order = StartJobMaster {
                epoch,
                launch: with_secrets(&known.launch, &self.secrets),
            };
            let taken_up = starter.gateway.ask(order, COMMAND);
            command(taken_up, at, ProcessId::JobMaster { job, epoch }, cx);
        }
    }

    /// What a TaskManager runs that was led by somebody else: processes of the present epochs go on, all others are ended. Slots that
    /// the former have.
    fn take_back(
        &mut self,
        at: TaskManagerId,
        processes: &[RunningProcess],
        cx: Cx<'_, '_>,
    ) -> Vec<(JobId, Vec<AllocationId>)> {
        let mut held = Vec::new();
        for RunningProcess { process, allocations } in processes {
            let current =
                |known: &&mut JobProcesses| known.epoch == process.epoch() && !known.clearing && !known.over;
            let known = self.jobs.get_mut(&process.job()).filter(current);
            match (process, known) {
                (ProcessId::JobMaster { .. }, Some(known)) => known.master_at = Some(at),
                (ProcessId::Worker { worker, job, .. }, Some(known)) if known.settling.is_some() => {
                    let kept = allocations.iter().filter(|slot| !known.returned.contains(slot));
                    let allocations: Vec<AllocationId> = kept.copied().collect();
                    if allocations.is_empty() {
                        self.end_process(at, *process, cx);
                        continue;
                    }
                    tracing::info!(%process, "goes on");
                    let back = Worker {
                        at,
                        since: cx.now(),
                        allocations: allocations.clone(),
                    };
                    known.workers.insert(*worker, back);
                    held.push((*job, allocations));
                }
                _ => self.end_process(at, *process, cx),
            }
        }
        held
    }

    pub(super) fn end_process(&self, at: TaskManagerId, process: ProcessId, cx: Cx<'_, '_>) {
        let Some(starter) = self.starters.get(&at) else {
            return;
        };
        let ended = starter.gateway.ask(EndProcess { process }, ENDING);
        cx.drive(ended, move |ended| {
            if let Ok(Err(error)) = ended {
                // What it cannot say is found out when its link ends.
                tracing::warn!(%process, %error, "its TaskManager does not say that it is being ended");
            }
            event(ProcessEvent::TakenUp)
        });
    }

    /// Ends all processes of a job up to an epoch, wherever they may be.
    pub(super) fn end_processes(&self, job: JobId, epoch: NonZeroU64) -> impl Future<Output = ()> + use<> {
        let asks: Vec<_> = self
            .starters
            .values()
            .map(|starter| starter.gateway.ask(EndProcesses { job, epoch }, ENDING))
            .collect();
        async move {
            for ask in asks {
                if let Err(error) = ask.await {
                    // What it cannot say is found out when its link ends.
                    tracing::warn!(%job, %epoch, %error, "a TaskManager does not say that processes have ended");
                }
            }
        }
    }

    pub(super) fn tell_dispatcher(&self, call: DispatcherCall) {
        if let Some(dispatcher) = &self.dispatcher
            && let Err(error) = dispatcher.tell(DispatcherInput::Processes(call))
        {
            tracing::error!(%error, "the dispatcher cannot be told");
        }
    }

    /// The JobMaster's way, where one has claimed the job.
    pub(super) fn tell_master(&self, job: JobId, message: JobMasterMessage) {
        let known = self.jobs.get(&job).and_then(|job| job.master.as_ref());
        if let Some((_, master)) = known
            && let Err(error) = master.tell(message.into())
        {
            tracing::warn!(%job, %error, "a JobMaster cannot be told");
        }
    }
}

/// Sends a command; a TaskManager that does not take it up is heard of.
fn command(
    taken_up: impl Future<Output = Result<(), RpcError>> + 'static,
    at: TaskManagerId,
    process: ProcessId,
    cx: Cx<'_, '_>,
) {
    cx.drive(taken_up, move |taken_up| match taken_up {
        Ok(Ok(())) => event(ProcessEvent::TakenUp),
        Ok(Err(error)) => event(ProcessEvent::NotStarted(at, process, error)),
        Err(panicked) => {
            let error = hurtig_core::Error::internal(panicked.to_string());
            let error = hurtig_rpc::RemoteError::new(&error).into();
            event(ProcessEvent::NotStarted(at, process, error))
        }
    });
}

impl ResourceManager {
    pub(crate) fn on_process_event(&mut self, event: ProcessEvent, cx: Cx<'_, '_>) {
        match event {
            ProcessEvent::Registered(call) => {
                if !self
                    .placement
                    .as_ref()
                    .is_some_and(|placement| placement.taken_on)
                {
                    let early = "this jobmanager does not know yet what jobs there are; ask again";
                    let early = hurtig_core::Error::external("too early", std::io::Error::other(early));
                    return call.reply.fail(&early);
                }
                self.register(&call.message, cx);
                call.reply.send(());
            }
            ProcessEvent::Inherited { job, epoch, launch } => self.inherit((job, epoch), launch),
            ProcessEvent::TakenOn => {
                if let Some(placement) = &mut self.placement {
                    placement.taken_on = true;
                }
                cx.after(SETTLING, self::event(ProcessEvent::Settled));
            }
            ProcessEvent::Settled => self.settle(cx),
            ProcessEvent::Ended(call) => {
                let ProcessEnded { process, exit, .. } = &call.message;
                self.on_ended(*process, exit, cx);
                call.reply.send(());
            }
            ProcessEvent::Delivered(call) => self.on_delivered(call, cx),
            ProcessEvent::StartMaster { job, epoch, launch } => self.start_master((job, epoch), launch, cx),
            ProcessEvent::MasterClaimed {
                job,
                epoch,
                address,
                master,
                workers,
            } => {
                if let Some(known) = self.job(job).filter(|known| known.epoch == epoch) {
                    known.master = Some((address, master));
                    known.expected = workers.map(|workers| workers.into_iter().collect());
                    self.compare(job, cx);
                }
            }
            ProcessEvent::EpochEnded { job, epoch } => self.clear(job, epoch, cx),
            ProcessEvent::JobEnded { job, epoch } => self.on_job_ended(job, epoch, cx),
            ProcessEvent::Cleared(job, epoch) => self.on_cleared(job, epoch, cx),
            ProcessEvent::Expired(job, epoch) => self.clear(job, epoch, cx),
            ProcessEvent::Freed(task_manager, job, allocations) => {
                let freed = ResourceManagerMessage::Freed {
                    task_manager,
                    job,
                    allocations,
                };
                self.decide(freed, cx);
            }
            ProcessEvent::NotStarted(at, process, error) => {
                let not_started = Some(format!("TaskManager {at}: {error}"));
                let exit = ProcessExit {
                    not_started,
                    ..ProcessExit::default()
                };
                self.on_ended(process, &exit, cx);
            }
            ProcessEvent::TakenUp => {}
            ProcessEvent::Lost(task_manager, cause) => self.on_lost(task_manager, &cause, cx),
            ProcessEvent::Plan(launch, reply) => self.plan(*launch, reply, cx),
            ProcessEvent::Planned(reply, planned) => self.on_planned(reply, planned),
            ProcessEvent::ReportTo(dispatcher) => {
                if let Some(placement) = &mut self.placement {
                    placement.dispatcher = Some(dispatcher);
                }
            }
            ProcessEvent::TaskManagers(reply) => reply.send(self.task_managers()),
            ProcessEvent::Ask(task_manager, question) => self.ask(task_manager, question, cx),
        }
    }

    pub(super) fn job(&mut self, job: JobId) -> Option<&mut JobProcesses> {
        self.placement.as_mut()?.jobs.get_mut(&job)
    }

    fn register(&mut self, registered: &RegisterTaskManager, cx: Cx<'_, '_>) {
        let Some(placement) = &mut self.placement else {
            return;
        };
        let RegisterTaskManager {
            task_manager,
            slots,
            ref address,
            ..
        } = *registered;
        if placement.starters.contains_key(&task_manager) {
            return;
        }
        let peer = placement.rpc.connect(address.clone());
        watch(&peer, task_manager, cx);
        let starter = Starter {
            address: address.clone(),
            slots,
            gateway: peer.gateway("task-manager").stamped(placement.stamp),
            machine: peer.gateway("machine"),
        };
        placement.starters.insert(task_manager, starter);
        tracing::info!(%task_manager, slots, address, "registered");
        let held = placement.take_back(task_manager, &registered.processes, cx);
        for (job, allocations) in &held {
            self.brain.hold(task_manager, *job, allocations);
        }
        if let Some(placement) = &mut self.placement {
            placement.place_masters(cx);
        }
        let slots = Some(slots);
        self.decide(ResourceManagerMessage::Register { task_manager, slots }, cx);
        held.into_iter().for_each(|(job, _)| self.compare(job, cx));
    }

    /// Ends workers of an earlier term that their JobMaster has given up, and waits for no others once all that it has are back.
    fn compare(&mut self, job: JobId, cx: Cx<'_, '_>) {
        let Some(known) = self.job(job) else { return };
        let Some(expected) = &known.expected else { return };
        let given_up: Vec<_> = known
            .workers
            .keys()
            .filter(|worker| !expected.contains(worker))
            .copied()
            .collect();
        let back = expected.iter().all(|worker| known.workers.contains_key(worker));
        if known.settling.is_none() {
            return;
        }
        for worker in given_up {
            self.end_worker(job, worker, cx);
        }
        if back {
            self.settle_one(job, cx);
        }
    }

    fn settle_one(&mut self, job: JobId, cx: Cx<'_, '_>) {
        let Some(known) = self.job(job) else { return };
        if let Some(Some(required)) = known.settling.take() {
            self.decide(required, cx);
        }
    }

    fn inherit(&mut self, (job, epoch): (JobId, NonZeroU64), launch: Arc<JobLaunch>) {
        let Some(placement) = &mut self.placement else {
            return;
        };
        placement.jobs.insert(
            job,
            JobProcesses {
                launch,
                epoch,
                wanted: false,
                master_at: None,
                master: None,
                workers: BTreeMap::new(),
                clearing: false,
                over: false,
                settling: Some(None),
                returned: BTreeSet::new(),
                expected: None,
            },
        );
    }

    /// Who has not come back by now is gone.
    fn settle(&mut self, cx: Cx<'_, '_>) {
        let jobs = self.placement.iter().flat_map(|placement| placement.jobs.keys());
        let jobs: Vec<JobId> = jobs.copied().collect();
        jobs.into_iter().for_each(|job| self.settle_one(job, cx));
    }

    fn on_delivered(&mut self, call: Call<Delivery<ResourceManagerMessage>>, cx: Cx<'_, '_>) {
        let Some(placement) = &mut self.placement else {
            return;
        };
        let stamp = call.context.stamp;
        let messages: Vec<_> = match placement.inbox.accept(call.message) {
            Ok(messages) => messages.collect(),
            Err(missing) => return call.reply.fail(&missing.into()),
        };
        for message in messages {
            let job = match &message {
                ResourceManagerMessage::Require { job, .. }
                | ResourceManagerMessage::Release { job }
                | ResourceManagerMessage::GiveUp { job, .. } => *job,
                _ => continue,
            };
            // The epoch may have been raised while the message waited.
            let current = self.job(job).filter(|known| !known.over).map(|known| known.epoch);
            if current.is_none_or(|epoch| stamp != Some(Stamp::job(job, epoch))) {
                continue;
            }
            if let ResourceManagerMessage::Require { returned, .. } = &message {
                self.take_slots_back(job, returned, cx);
            }
            if self.is_kept_for_later(job, &message) {
                continue;
            }
            if let ResourceManagerMessage::GiveUp { worker, .. } = message {
                if let Some(expected) = self.job(job).and_then(|known| known.expected.as_mut()) {
                    expected.remove(&worker);
                }
                self.end_worker(job, worker, cx);
                self.compare(job, cx);
            }
            self.decide(message, cx);
        }
        call.reply.send(());
    }

    /// What a job of an earlier term requires waits until its workers have had time to come back.
    fn is_kept_for_later(&mut self, job: JobId, message: &ResourceManagerMessage) -> bool {
        let Some(required) = self.job(job).and_then(|known| known.settling.as_mut()) else {
            return false;
        };
        match message {
            ResourceManagerMessage::Require { .. } => *required = Some(message.clone()),
            ResourceManagerMessage::Release { .. } => *required = None,
            _ => {}
        }
        matches!(message, ResourceManagerMessage::Require { .. })
    }

    fn start_master(&mut self, (job, epoch): (JobId, NonZeroU64), launch: Arc<JobLaunch>, cx: Cx<'_, '_>) {
        let Some(placement) = &mut self.placement else {
            return;
        };
        let known = placement.jobs.entry(job).or_insert_with(|| JobProcesses {
            launch: launch.clone(),
            epoch,
            wanted: true,
            master_at: None,
            master: None,
            workers: BTreeMap::new(),
            clearing: false,
            over: false,
            settling: None,
            returned: BTreeSet::new(),
            expected: None,
        });
        (known.epoch, known.wanted) = (epoch, true);
        placement.place_masters(cx);
    }
}

/// What a process of a job is told.
pub(super) fn with_secrets(launch: &JobLaunch, secrets: &BTreeMap<String, String>) -> JobLaunch {
    let mut launch = launch.clone();
    launch.defaults.extend(secrets.clone());
    launch
}

/// Says when a TaskManager is dead.
fn watch(peer: &Peer, task_manager: TaskManagerId, cx: Cx<'_, '_>) {
    let Some(mut states) = peer.watch() else { return };
    let dead = async move {
        let dead = states.wait_for(|state| matches!(state.connectivity, Connectivity::Dead(_)));
        match dead.await.map(|state| state.connectivity.clone()) {
            Ok(Connectivity::Dead(reason)) => reason.to_string(),
            _ => "its link has ended".to_owned(),
        }
    };
    cx.drive(dead, move |why| {
        event(ProcessEvent::Lost(
            task_manager,
            why.unwrap_or_else(|panicked| panicked.to_string()),
        ))
    });
}
