//! JobMasters that have processes of their own: they claim their jobs, and are replaced when they are gone.

use super::brain::DispatcherEvent;
use super::durable::{Begins, Digests, Durable, Inheritance, Unfinished};
use super::intents::Obeyed;
use super::lives::{AfterExit, MasterLives};
use super::shell::{Answer, Dispatcher, DispatcherInput, Submitted};
use super::writes::{Write, Written};
use crate::error::ClusterError;
use crate::job_master::JobMasterEvent;
use crate::messages::{DispatcherMessage, JobMasterMessage};
use crate::process::launch::JobLaunch;
use crate::process::placement::ProcessEvent;
use crate::resource_manager::ResourceManagerEvent;
use crate::result::{FailureEntry, JobFailure, JobResult};
use crate::wire::{BeginEnd, Claim, ClaimJob, Courier, Delivery, Inbox, JobMasterRpc, RecordCheckpoint};
use hurtig_core::Fault;
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::{CheckpointId, JobId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::{JobStatus, Requirements};
use hurtig_ha::records::{Epoch, JobIntent, ProcessExit};
use hurtig_kit::{Mailbox, ShellCx};
use hurtig_rpc::{Call, FenceError, Fences, Responder, RpcError, Scope, Stamp};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// How long a JobMaster's launcher has to say how it has ended: it knows more than who does not reach it any more.
const WITNESS: Duration = Duration::from_millis(300);

/// How long the JobMaster of an earlier term may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// What reaches the Dispatcher of a cluster of processes.
pub(crate) enum DispatcherCall {
    /// A JobMaster's first act.
    Claim(Call<ClaimJob>),
    /// A checkpoint is durable.
    Record(Call<RecordCheckpoint>),
    /// A job comes to an end.
    BeginEnd(Call<BeginEnd>),
    /// Messages of a JobMaster.
    Delivered(Call<Delivery<DispatcherMessage>>),
    /// From the ResourceManager, or after a while from the way to it: a JobMaster is gone.
    MasterEnded {
        /// Of which job.
        job: JobId,
        /// In which epoch.
        epoch: NonZeroU64,
        /// How, for people.
        cause: String,
    },
    /// A JobMaster cannot be reached any more.
    MasterLost {
        /// Of which job.
        job: JobId,
        /// In which epoch.
        epoch: NonZeroU64,
        /// Why, for people.
        cause: String,
    },
    /// Timer: a JobMaster is to be started.
    StartMaster(JobId),
    /// Timer: a JobMaster of an earlier term has had time to come back.
    Silent(JobId, NonZeroU64),
    /// Timer: something is to be written.
    Write(JobId, Box<Write>),
    /// Timer: another one is, after one has ended so.
    RaiseAfter(JobId, Box<ProcessExit>),
    /// Somebody asks something of a job. Answered when it is in the store.
    Intend(JobId, JobIntent, Answer<()>),
    /// What a job was launched with that has not ended; none: the id is free.
    Launched(JobId, Answer<Option<Arc<JobLaunch>>>),
    /// A JobMaster has done what it was asked under a trigger id, or nothing is heard of it.
    Obeyed((JobId, NonZeroU64), String, Obeyed),
    /// Timer: a JobMaster is asked again.
    Obey(JobId, String),
    /// Something about a job is in the store, or never will be.
    Written(JobId, Box<Written>),
}

/// The JobMasters of a cluster of processes.
pub(crate) struct MasterProcesses {
    rpc: hurtig_rpc::Rpc,
    /// Those of the Dispatcher and the ResourceManager: which epochs are heard.
    fences: Fences,
    pub(super) durable: Durable,
    /// What earlier terms have left; the Dispatcher's first act is to take it on.
    left: Option<Inheritance>,
    jobs: BTreeMap<JobId, Job>,
    inbox: Inbox,
}

pub(super) struct Job {
    pub(super) launch: Arc<JobLaunch>,
    pub(super) lives: MasterLives,
    /// When it was submitted, in milliseconds since 1970.
    pub(super) submitted_ms: i64,
    /// By what it is known in the store; `None`: it is not there yet.
    pub(super) digests: Option<Digests>,
    /// Who waits for that.
    pub(super) admitting: Vec<Answer<Submitted>>,
    /// What is to be written, and whether something is being written.
    pub(super) queue: VecDeque<Write>,
    pub(super) writing: bool,
    /// Its result is to be written: that its JobMaster ends means nothing.
    pub(super) ending: bool,
    /// Its JobMaster, which waits for that.
    owed: Vec<Responder<()>>,
    /// The first checkpoint id that is not reserved.
    pub(super) ids_end: CheckpointId,
    /// What it was asked and has not done, by trigger id.
    pub(super) open: BTreeMap<String, JobIntent>,
    /// The savepoint that it stops with is recorded.
    pub(super) stopped: bool,
    /// Between which bounds its vertices run; `None`: nobody has declared any.
    pub(super) requirements: Option<Requirements>,
    /// How JobMasters of it have ended, those that ended last.
    exits: VecDeque<FailureEntry>,
    /// How many have.
    exited: u32,
}

impl MasterProcesses {
    pub(crate) fn new(rpc: hurtig_rpc::Rpc, fences: Fences, durable: Durable, left: Inheritance) -> Self {
        Self {
            rpc,
            fences,
            durable,
            left: Some(left),
            jobs: BTreeMap::new(),
            inbox: Inbox::default(),
        }
    }
}

impl Dispatcher {
    pub(super) fn job(&mut self, job: JobId) -> Option<&mut Job> {
        self.setup.processes.as_mut()?.jobs.get_mut(&job)
    }

    /// A job was submitted that runs in processes.
    pub(super) fn admit(&mut self, job: JobId, launch: JobLaunch, cx: &mut ShellCx<'_, Self>) {
        let wall_ms = self.wall_ms;
        let Some(processes) = &mut self.setup.processes else {
            return;
        };
        processes.jobs.insert(job, Job::new(launch, wall_ms));
        self.write(job, Write::Admit, cx);
    }

    fn launched(&self, job: JobId) -> Result<Option<Arc<JobLaunch>>, ClusterError> {
        match self.brain.status(job) {
            Err(_) => Ok(None),
            Ok(status) if status.is_globally_terminal() => Err(ClusterError::Ended { job, status }),
            Ok(_) => {
                let processes = self.setup.processes.as_ref();
                let known = processes.and_then(|processes| processes.jobs.get(&job));
                let known = known.ok_or(ClusterError::Conflict(job))?;
                match known.digests {
                    Some(_) => Ok(Some(known.launch.clone())),
                    None => Err(ClusterError::Unavailable(format!(
                        "job {job} is being written down"
                    ))),
                }
            }
        }
    }

    /// Whether a submission is answered later, when its job is in the store.
    pub(super) fn answer_admitted(
        &mut self,
        job: JobId,
        answer: Answer<Submitted>,
    ) -> Option<Answer<Submitted>> {
        match self.job(job).filter(|known| known.digests.is_none()) {
            Some(known) => {
                known.admitting.push(answer);
                None
            }
            None => Some(answer),
        }
    }

    /// A job that is not in the store was never there.
    pub(super) fn withdraw(&mut self, job: JobId) {
        self.brain.withdraw(job);
        self.clients.forget(job);
        self.masters.remove(&job);
        self.statuses.remove(&job);
        if let Some(processes) = &mut self.setup.processes {
            processes.jobs.remove(&job);
        }
    }

    /// Takes on what earlier terms have left. A job whose JobMaster may still run has time to say so; others get one of the next epoch.
    pub(super) fn take_on(&mut self, cx: &mut ShellCx<'_, Self>) {
        let Some(left) = self
            .setup
            .processes
            .as_mut()
            .and_then(|processes| processes.left.take())
        else {
            return;
        };
        for ended in left.ended {
            let (graph, result) = (Arc::new(ended.graph), Arc::new(ended.result));
            self.brain.inherit_ended(graph, result, ended.times);
        }
        for job in left.dirty {
            if let Some(processes) = &self.setup.processes {
                cx.detach(processes.durable.clone().clean(job));
            }
        }
        for unfinished in left.unfinished {
            self.take_on_one(unfinished, cx);
        }
        self.to_placement(ProcessEvent::TakenOn);
    }

    fn take_on_one(&mut self, unfinished: Unfinished, cx: &mut ShellCx<'_, Self>) {
        let Some(graph) = unfinished.launch.graph.clone() else {
            tracing::error!("a job without a graph was written down; it is left alone");
            return;
        };
        let (job, wall_ms) = (graph.id, self.wall_ms);
        let (claimed, cancelled) = (unfinished.claimed, unfinished.cancelled);
        let epoch = NonZeroU64::new(unfinished.epoch.0).filter(|_| claimed);
        tracing::info!(%job, name = graph.name, epoch = %unfinished.epoch, claimed, "taken on");
        let status = match epoch {
            Some(_) => JobStatus::Reconciling,
            None => JobStatus::Restarting,
        };
        self.brain
            .inherit(Arc::new(*graph), status, (unfinished.submitted_ms, wall_ms));
        self.expect(job, None, status);
        let known = Job::inherited(unfinished, (cx.now(), wall_ms));
        let launch = known.launch.clone();
        self.expect_client(job, &launch, cx);
        let Some(processes) = &mut self.setup.processes else {
            return;
        };
        processes.jobs.insert(job, known);
        match epoch {
            Some(epoch) => self.await_master((job, epoch), launch, cx),
            None if cancelled => self.end_cancelled(cx),
            None => self.write(job, Write::Raise(None), cx),
        }
    }

    /// A process has this epoch, and may come back.
    fn await_master(
        &mut self,
        (job, epoch): (JobId, NonZeroU64),
        launch: Arc<JobLaunch>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        if let Some(known) = self.job(job) {
            known.lives.raised(epoch);
        }
        if let Some(processes) = &self.setup.processes
            && let Err(error) = processes.fences.follow(Stamp::job(job, epoch))
        {
            tracing::error!(%job, %epoch, %error, "an epoch of the store is old");
        }
        self.to_placement(ProcessEvent::Inherited { job, epoch, launch });
        let silent = DispatcherCall::Silent(job, epoch);
        cx.after(SILENCE, DispatcherInput::Processes(silent));
    }

    pub(super) fn start_process(&mut self, job: JobId, epoch: NonZeroU64) {
        let Some(processes) = &self.setup.processes else {
            return;
        };
        let Some(known) = processes.jobs.get(&job) else {
            return;
        };
        // Before anybody of this epoch can speak.
        if let Err(error) = processes.fences.follow(Stamp::job(job, epoch)) {
            tracing::error!(%job, %epoch, %error, "an epoch that was raised is old");
        }
        self.to_placement(ProcessEvent::StartMaster {
            job,
            epoch,
            launch: known.launch.clone(),
        });
    }

    pub(super) fn to_placement(&self, event: ProcessEvent) {
        let told = self
            .setup
            .resource_manager
            .tell(ResourceManagerEvent::Processes(Box::new(event)));
        if let Err(error) = told {
            // Both have bounds that jobs stay far below, and end together.
            tracing::error!(%error, "the resource manager cannot be told");
        }
    }

    pub(super) fn intend_to_cancel(&mut self, job: JobId) {
        let processes = self.setup.processes.as_mut();
        if let Some(job) = processes.and_then(|processes| processes.jobs.get_mut(&job)) {
            job.lives.cancelled = true;
        }
    }

    /// A job is over.
    pub(super) fn forget_process(&mut self, result: &JobResult) {
        let job = result.job;
        let Some(processes) = &mut self.setup.processes else {
            return;
        };
        let Some(known) = processes.jobs.remove(&job) else {
            return;
        };
        if let Some(epoch) = known.lives.last_epoch() {
            self.to_placement(ProcessEvent::JobEnded { job, epoch });
        }
        known.owed.into_iter().for_each(|owed| owed.send(()));
        if let Some(status) = self.statuses.get(&job) {
            status.send_replace(result.status);
        }
    }

    pub(super) fn on_call(&mut self, call: DispatcherCall, cx: &mut ShellCx<'_, Self>) {
        match call {
            DispatcherCall::Claim(call) => {
                let job = call.message.job;
                if self.job(job).is_none() {
                    let refused = format!("job {job} is over, or not known");
                    return call.reply.send(Claim::Refused(refused));
                }
                self.write(job, Write::Claim(call), cx);
            }
            DispatcherCall::Record(call) => {
                let job = call.message.job;
                match self.unknown(job, call.context.stamp) {
                    Some(unknown) => call.reply.settle(Err(RpcError::Fence(unknown))),
                    None => self.write(job, Write::Record(call), cx),
                }
            }
            DispatcherCall::BeginEnd(call) => {
                let job = call.message.result.job;
                match self.unknown(job, call.context.stamp) {
                    Some(unknown) => call.reply.settle(Err(RpcError::Fence(unknown))),
                    None => self.write(job, Write::BeginEnd(call), cx),
                }
            }
            DispatcherCall::Delivered(call) => self.on_delivered(call, cx),
            DispatcherCall::MasterEnded { job, epoch, cause } => {
                self.on_master_ended((job, epoch), &cause, cx);
            }
            DispatcherCall::MasterLost { job, epoch, cause } => {
                let ended = DispatcherCall::MasterEnded { job, epoch, cause };
                cx.after(WITNESS, DispatcherInput::Processes(ended));
            }
            DispatcherCall::StartMaster(job) => self.write(job, Write::Raise(None), cx),
            DispatcherCall::Silent(job, epoch) => self.on_silence(job, epoch, cx),
            DispatcherCall::Write(job, what) => self.write(job, *what, cx),
            DispatcherCall::RaiseAfter(job, exit) => self.write(job, Write::Raise(Some(*exit)), cx),
            DispatcherCall::Written(job, written) => self.on_written(job, *written, cx),
            DispatcherCall::Intend(job, asked, answer) => self.intend(job, asked, answer, cx),
            DispatcherCall::Launched(job, answer) => answer.send(self.launched(job)),
            DispatcherCall::Obeyed(who, trigger, obeyed) => self.on_obeyed(who, trigger, obeyed, cx),
            DispatcherCall::Obey(job, trigger) => self.obey(job, &trigger, cx),
        }
    }

    /// A process has claimed its job.
    pub(super) fn grant(&mut self, claim: &ClaimJob, begins: Begins, cx: &ShellCx<'_, Self>) -> Claim {
        let ClaimJob {
            job,
            epoch,
            process,
            ref address,
            ..
        } = *claim;
        let wall_ms = self.wall_ms;
        let Some(processes) = &mut self.setup.processes else {
            return Claim::Refused("this cluster has no processes".to_owned());
        };
        let Some(known) = processes.jobs.get_mut(&job) else {
            return Claim::Refused(format!("job {job} is over, or not known"));
        };
        if known.lives.epoch() != Some(epoch) {
            // It was given up while its claim was being written.
            return Claim::Refused(format!("epoch {epoch} is over"));
        }
        known.ids_end = begins.ids_end;
        known.stopped |= begins.stopped.is_some();
        let first_time = known.lives.claimed(process, begins.token, begins.latest);
        let restore = known.lives.latest().map(|(_, path)| path.clone());
        let (cancelled, age) = (known.lives.cancelled, known.age(wall_ms));
        let requirements = known.requirements.clone();
        if first_time {
            let gateway = processes
                .rpc
                .connect(&**address)
                .gateway::<JobMasterRpc>("job-master");
            let own: Mailbox<DispatcherInput> = cx.mailbox();
            let on_lost = Box::new(move |cause| {
                let lost = DispatcherCall::MasterLost { job, epoch, cause };
                // A Dispatcher that has ended needs to know nothing.
                let _ = own.tell(DispatcherInput::Processes(lost));
            });
            let stamped = gateway.stamped(Stamp::job(job, epoch));
            let way = Courier::<JobMasterEvent>::start(stamped, cx.env(), on_lost);
            self.to_placement(ProcessEvent::MasterClaimed {
                job,
                epoch,
                address: address.clone(),
                master: way.mailbox.clone(),
                workers: claim.workers.clone(),
            });
            let outbox = self.outbox_to(way.mailbox, cx);
            // One that comes from an earlier term may not have heard of them.
            if let Some(requirements) = requirements.clone() {
                outbox.send(JobMasterMessage::RequirementsDeclared(requirements).into());
            }
            if cancelled {
                outbox.send(JobMasterMessage::Cancel.into());
            }
            if let Some(master) = self.masters.get_mut(&job) {
                master.outbox = Some(outbox);
            }
        }
        tracing::info!(%job, %epoch, %process, "claimed");
        Claim::Granted {
            restore,
            first_checkpoint: begins.first_checkpoint,
            age,
            stopped: begins.stopped,
            requirements,
            ending: begins.ending,
        }
    }

    fn on_delivered(&mut self, call: Call<Delivery<DispatcherMessage>>, cx: &mut ShellCx<'_, Self>) {
        let Some(processes) = &mut self.setup.processes else {
            return;
        };
        let stamp = call.context.stamp;
        let messages: Vec<_> = match processes.inbox.accept(call.message) {
            Ok(messages) => messages.collect(),
            Err(missing) => return call.reply.fail(&missing.into()),
        };
        for message in messages {
            if self.is_current(&message, stamp) {
                self.on_message(message, cx);
            }
        }
        // Its JobMaster goes on asking until it is written how the job has ended: then it may end.
        let owner = stamp.and_then(|stamp| match stamp.scope {
            Scope::Job(job) => Some(job),
            Scope::Cluster(_) => None,
        });
        match owner.and_then(|job| self.job(job)).filter(|known| known.ending) {
            Some(known) => {
                // One is under way at a time, and who asks again does not wait for the first answer.
                known.owed.clear();
                known.owed.push(call.reply);
            }
            None => call.reply.send(()),
        }
    }

    /// Why what is said of a job is not heard, if nobody knows it here.
    fn unknown(&mut self, job: JobId, stamp: Option<Stamp>) -> Option<FenceError> {
        let unknown = stamp.map_or(FenceError::Unstamped, |stamp| {
            FenceError::Unregistered(stamp.scope)
        });
        self.job(job).is_none().then_some(unknown)
    }

    fn is_current(&self, message: &DispatcherMessage, stamp: Option<Stamp>) -> bool {
        let job = match message {
            DispatcherMessage::JobStatusChanged { job, .. } => *job,
            DispatcherMessage::JobEnded(result) => result.job,
        };
        let processes = self.setup.processes.as_ref();
        let known = processes.and_then(|processes| processes.jobs.get(&job));
        let current = known.and_then(|known| known.lives.epoch());
        current.is_some_and(|epoch| stamp == Some(Stamp::job(job, epoch)))
    }

    fn on_message(&mut self, message: DispatcherMessage, cx: &mut ShellCx<'_, Self>) {
        match message {
            DispatcherMessage::JobEnded(mut result) => {
                let job = result.job;
                let Some(known) = self.job(job) else { return };
                let Some(token) = known.lives.token() else { return };
                known.complete(&mut result);
                known.ending = true;
                self.write(job, Write::Finish(result, token), cx);
            }
            DispatcherMessage::JobStatusChanged { job, status } => {
                if let Some(watched) = self.statuses.get(&job)
                    && !status.is_globally_terminal()
                {
                    watched.send_replace(status);
                }
                self.tell_brain(DispatcherMessage::JobStatusChanged { job, status });
            }
        }
    }

    fn tell_brain(&mut self, message: DispatcherMessage) {
        if let Err(error) = self.decide(DispatcherEvent::Message(message)) {
            tracing::error!(%error, "message of a job master refused");
        }
    }

    /// The end of a job is in the store: everybody may know of it.
    pub(super) fn end(&mut self, result: JobResult) {
        self.tell_brain(DispatcherMessage::JobEnded(Box::new(result)));
    }

    fn on_master_ended(
        &mut self,
        (job, epoch): (JobId, NonZeroU64),
        cause: &str,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let (remembered, wall_ms) = (self.setup.config.exception_history.max(1), self.wall_ms);
        let Some(processes) = &mut self.setup.processes else {
            return;
        };
        let Some(known) = processes.jobs.get_mut(&job) else {
            return;
        };
        if known.ending {
            return;
        }
        let after = known.lives.ended(cx.now(), epoch);
        if after == AfterExit::Nothing {
            return;
        }
        tracing::warn!(%job, %epoch, cause, ?after, "its JobMaster is gone");
        let message = format!("the process of its JobMaster (epoch {epoch}) is gone: {cause}");
        let failure = JobFailure::of_job(Fault::External, message, known.age(wall_ms));
        known.note_exit(failure, remembered);
        if let Some(master) = self.masters.get_mut(&job) {
            master.outbox = None;
        }
        match after {
            AfterExit::StartAgain { after } => {
                let exit = ProcessExit {
                    at_ms: wall_ms,
                    epoch: Epoch(epoch.get()),
                    how: cause.to_owned(),
                };
                let status = JobStatus::Restarting;
                self.on_message(DispatcherMessage::JobStatusChanged { job, status }, cx);
                if after.is_zero() {
                    self.write(job, Write::Raise(Some(exit)), cx);
                } else {
                    let raise = DispatcherCall::RaiseAfter(job, Box::new(exit));
                    cx.after(after, DispatcherInput::Processes(raise));
                }
                self.end_cancelled(cx);
            }
            AfterExit::GiveUp { .. } if self.job(job).is_some_and(|known| known.lives.cancelled) => {
                self.end_cancelled(cx);
            }
            AfterExit::GiveUp { exits } => self.give_up(job, (exits, cause), cx),
            AfterExit::Nothing => {}
        }
    }

    /// The JobMaster of an earlier term has not come back.
    fn on_silence(&mut self, job: JobId, epoch: NonZeroU64, cx: &mut ShellCx<'_, Self>) {
        let Some(known) = self.job(job).filter(|known| !known.lives.is_claimed()) else {
            return;
        };
        if known.writing || !known.queue.is_empty() {
            // It may be coming back at this moment.
            let silent = DispatcherCall::Silent(job, epoch);
            cx.after(WITNESS, DispatcherInput::Processes(silent));
        } else if known.lives.silent(epoch) {
            tracing::warn!(%job, %epoch, "nothing was heard of its JobMaster since another jobmanager leads");
            let status = JobStatus::Restarting;
            self.on_message(DispatcherMessage::JobStatusChanged { job, status }, cx);
            self.write(job, Write::Raise(None), cx);
            self.end_cancelled(cx);
        }
    }

    /// The job has no JobMaster and gets none.
    fn give_up(&mut self, job: JobId, (exits, cause): (usize, &str), cx: &mut ShellCx<'_, Self>) {
        let message = format!(
            "the process of its JobMaster ended {exits} times within ten minutes, the last time: {cause}"
        );
        self.end_without_master(job, (JobStatus::Failed, Some(message)), cx);
    }

    /// A job that is cancelled and has no JobMaster needs none to end.
    pub(super) fn end_cancelled(&mut self, cx: &mut ShellCx<'_, Self>) {
        let Some(processes) = &self.setup.processes else {
            return;
        };
        let jobs = processes.jobs.iter();
        let ended = jobs.filter(|(_, job)| job.lives.cancelled && !job.lives.is_claimed() && !job.ending);
        for job in ended.map(|(job, _)| *job).collect::<Vec<_>>() {
            self.end_without_master(job, (JobStatus::Canceled, None), cx);
        }
    }

    /// The Dispatcher writes the result of a job without a JobMaster. Whoever may still want to claim it is refused.
    fn end_without_master(
        &mut self,
        job: JobId,
        (status, failure): (JobStatus, Option<String>),
        cx: &mut ShellCx<'_, Self>,
    ) {
        let processes = self.setup.processes.as_ref();
        let Some(known) = processes.and_then(|processes| processes.jobs.get(&job)) else {
            return;
        };
        let duration = known.age(self.wall_ms);
        let name = self.brain.jobs().into_iter().find(|known| known.job == job);
        let mut result = JobResult {
            job,
            name: name.map(|known| known.name).unwrap_or_default(),
            status,
            accumulators: AccumulatorValues::default(),
            failure: failure.map(|message| JobFailure::of_job(Fault::External, message, duration)),
            failures: Vec::new(),
            restarts: 0,
            duration,
            vertices: Vec::new(),
            details: Vec::new(),
            checkpoints: None,
        };
        known.complete(&mut result);
        if let Some(known) = self.job(job) {
            known.ending = true;
        }
        self.write(job, Write::End(Box::new(result)), cx);
    }

    /// What somebody has declared of a job, and what is written down.
    pub(super) fn declared_of(&self, job: JobId) -> Option<Requirements> {
        let known = self.setup.processes.as_ref()?.jobs.get(&job)?;
        known.requirements.clone()
    }

    /// What ended before the present JobMaster began, which knows nothing of it.
    pub(super) fn exits(&self, job: JobId) -> Vec<FailureEntry> {
        let processes = self.setup.processes.as_ref();
        let known = processes.and_then(|processes| processes.jobs.get(&job));
        known
            .map(|known| known.exits.iter().cloned().collect())
            .unwrap_or_default()
    }
}

impl Job {
    fn new(launch: JobLaunch, submitted_ms: i64) -> Self {
        Self {
            launch: Arc::new(launch),
            lives: MasterLives::default(),
            submitted_ms,
            digests: None,
            admitting: Vec::new(),
            queue: VecDeque::new(),
            writing: false,
            ending: false,
            owed: Vec::new(),
            ids_end: CheckpointId(0),
            open: BTreeMap::new(),
            stopped: false,
            requirements: None,
            exits: VecDeque::new(),
            exited: 0,
        }
    }

    fn inherited(unfinished: Unfinished, (now, wall_ms): (Time, i64)) -> Self {
        let ago =
            |exit: &ProcessExit| Duration::from_millis(u64::try_from(wall_ms - exit.at_ms).unwrap_or(0));
        let then = |ago: Duration| {
            Time::from_nanos(
                now.as_nanos()
                    .saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX)),
            )
        };
        let exits = unfinished.exits.iter().map(|exit| then(ago(exit)));
        let mut known = Self {
            lives: MasterLives::inherited(exits, unfinished.cancelled),
            digests: Some(unfinished.digests),
            requirements: unfinished.requirements,
            ..Self::new(unfinished.launch, unfinished.submitted_ms)
        };
        for exit in &unfinished.exits {
            let message = format!(
                "the process of its JobMaster (epoch {}) is gone: {}",
                exit.epoch, exit.how
            );
            let failure = JobFailure::of_job(Fault::External, message, known.age(exit.at_ms));
            known.note_exit(failure, usize::MAX);
        }
        known
    }

    fn age(&self, wall_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(wall_ms - self.submitted_ms).unwrap_or(0))
    }

    fn note_exit(&mut self, root: JobFailure, remembered: usize) {
        self.exited += 1;
        if self.exits.len() >= remembered {
            self.exits.pop_front();
        }
        let concurrent = Vec::new();
        self.exits.push_back(FailureEntry { root, concurrent });
    }

    /// Adds to what a JobMaster says of the job what its predecessors cannot say any more.
    fn complete(&self, result: &mut JobResult) {
        let failures = std::mem::take(&mut result.failures);
        result.failures = self.exits.iter().cloned().chain(failures).collect();
        result.restarts = result.restarts.saturating_add(self.exited);
    }
}
