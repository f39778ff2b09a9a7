//! JobMasters that have processes of their own: they claim their jobs, and are replaced when they are gone.

use super::brain::DispatcherEvent;
use super::lives::{AfterExit, MasterLives};
use super::shell::{Dispatcher, DispatcherInput};
use crate::job_master::JobMasterEvent;
use crate::messages::{DispatcherMessage, JobMasterMessage};
use crate::process::launch::JobLaunch;
use crate::process::placement::ProcessEvent;
use crate::resource_manager::ResourceManagerEvent;
use crate::result::{FailureEntry, JobFailure, JobResult};
use crate::wire::{Claim, ClaimJob, Courier, Delivery, Inbox, JobMasterRpc, RecordCheckpoint};
use hurtig_core::Fault;
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::JobId;
use hurtig_core::time::Time;
use hurtig_dataflow::graph::JobStatus;
use hurtig_kit::{Mailbox, ShellCx};
use hurtig_rpc::{Call, FenceError, Fences, RpcError, Stamp};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// How long a JobMaster's launcher has to say how it has ended: it knows more than who does not reach it any more.
const WITNESS: Duration = Duration::from_millis(300);

/// What reaches the Dispatcher of a cluster of processes.
pub(crate) enum DispatcherCall {
    /// A JobMaster's first act.
    Claim(Call<ClaimJob>),
    /// A checkpoint is durable.
    Record(Call<RecordCheckpoint>),
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
    StartMaster(JobId, NonZeroU64),
}

/// The JobMasters of a cluster of processes.
pub(crate) struct MasterProcesses {
    rpc: hurtig_rpc::Rpc,
    /// Those of the Dispatcher and the ResourceManager: which epochs are heard.
    fences: Fences,
    jobs: BTreeMap<JobId, Job>,
    inbox: Inbox,
}

struct Job {
    launch: Arc<JobLaunch>,
    lives: MasterLives,
    /// When it was submitted.
    since: Time,
    /// How JobMasters of it have ended, those that ended last.
    exits: VecDeque<FailureEntry>,
    /// How many have.
    exited: u32,
}

impl MasterProcesses {
    pub(crate) fn new(rpc: hurtig_rpc::Rpc, fences: Fences) -> Self {
        Self {
            rpc,
            fences,
            jobs: BTreeMap::new(),
            inbox: Inbox::default(),
        }
    }
}

impl Dispatcher {
    /// A job was submitted that runs in processes.
    pub(super) fn start_first(&mut self, job: JobId, launch: JobLaunch, now: Time) {
        let Some(processes) = &mut self.setup.processes else {
            return;
        };
        let (launch, lives) = (Arc::new(launch), MasterLives::new());
        let epoch = lives.epoch();
        processes.jobs.insert(
            job,
            Job {
                launch,
                lives,
                since: now,
                exits: VecDeque::new(),
                exited: 0,
            },
        );
        self.start_process(job, epoch);
    }

    fn start_process(&mut self, job: JobId, epoch: NonZeroU64) {
        let Some(processes) = &self.setup.processes else {
            return;
        };
        let Some(known) = processes
            .jobs
            .get(&job)
            .filter(|known| known.lives.epoch() == epoch)
        else {
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

    fn to_placement(&self, event: ProcessEvent) {
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
        let epoch = known.lives.epoch();
        self.to_placement(ProcessEvent::JobEnded { job, epoch });
        if let Some(status) = self.statuses.get(&job) {
            status.send_replace(result.status);
        }
    }

    pub(super) fn on_call(&mut self, call: DispatcherCall, cx: &mut ShellCx<'_, Self>) {
        match call {
            DispatcherCall::Claim(call) => {
                let claim = self.claim(&call.message, cx);
                call.reply.send(claim);
            }
            DispatcherCall::Record(call) => self.record(call),
            DispatcherCall::Delivered(call) => self.on_delivered(call),
            DispatcherCall::MasterEnded { job, epoch, cause } => {
                self.on_master_ended((job, epoch), &cause, cx);
            }
            DispatcherCall::MasterLost { job, epoch, cause } => {
                let ended = DispatcherCall::MasterEnded { job, epoch, cause };
                cx.after(WITNESS, DispatcherInput::Processes(ended));
            }
            DispatcherCall::StartMaster(job, epoch) => self.start_process(job, epoch),
        }
    }

    fn claim(&mut self, claim: &ClaimJob, cx: &ShellCx<'_, Self>) -> Claim {
        let ClaimJob {
            job,
            epoch,
            process,
            ref address,
        } = *claim;
        let Some(processes) = &mut self.setup.processes else {
            return Claim::Refused("this cluster has no processes".to_owned());
        };
        let Some(known) = processes.jobs.get_mut(&job) else {
            return Claim::Refused(format!("job {job} is over, or not known"));
        };
        let first_time = !known.lives.is_claimed();
        if let Err(why) = known.lives.claim(epoch, process) {
            return Claim::Refused(why);
        }
        let (restore, first_checkpoint) = known.lives.beginning();
        let (cancelled, age) = (known.lives.cancelled, known.age(cx.now()));
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
            });
            let outbox = self.outbox_to(way.mailbox, cx);
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
            first_checkpoint,
            age,
        }
    }

    /// The epoch is looked at again: it may have been raised while the message waited.
    fn record(&mut self, call: Call<RecordCheckpoint>) {
        let RecordCheckpoint {
            job,
            checkpoint,
            path,
        } = call.message;
        let Some(stamp) = call.context.stamp else {
            return call.reply.settle(Err(RpcError::Fence(FenceError::Unstamped)));
        };
        let processes = self.setup.processes.as_mut();
        let known = processes.and_then(|processes| processes.jobs.get_mut(&job));
        let Some(known) = known else {
            let scope = stamp.scope;
            return call
                .reply
                .settle(Err(RpcError::Fence(FenceError::Unregistered(scope))));
        };
        let number = stamp.token.number;
        if stamp != Stamp::job(job, number) || !known.lives.record(number.get(), checkpoint, path) {
            let newer = Stamp::job(job, known.lives.epoch()).token;
            return call.reply.settle(Err(RpcError::Fence(FenceError::Fenced {
                scope: stamp.scope,
                yours: stamp.token,
                newer,
            })));
        }
        call.reply.send(());
    }

    fn on_delivered(&mut self, call: Call<Delivery<DispatcherMessage>>) {
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
                self.on_message(message);
            }
        }
        call.reply.send(());
    }

    fn is_current(&self, message: &DispatcherMessage, stamp: Option<Stamp>) -> bool {
        let job = match message {
            DispatcherMessage::JobStatusChanged { job, .. } => *job,
            DispatcherMessage::JobEnded(result) => result.job,
        };
        let processes = self.setup.processes.as_ref();
        let known = processes.and_then(|processes| processes.jobs.get(&job));
        known.is_some_and(|known| stamp == Some(Stamp::job(job, known.lives.epoch())))
    }

    fn on_message(&mut self, mut message: DispatcherMessage) {
        let processes = self.setup.processes.as_ref();
        if let DispatcherMessage::JobEnded(result) = &mut message
            && let Some(known) = processes.and_then(|processes| processes.jobs.get(&result.job))
        {
            known.complete(result);
        }
        if let DispatcherMessage::JobStatusChanged { job, status } = &message
            && let Some(watched) = self.statuses.get(job)
            && !status.is_globally_terminal()
        {
            watched.send_replace(*status);
        }
        if let Err(error) = self.decide(DispatcherEvent::Message(message)) {
            tracing::error!(%error, "message of a job master refused");
        }
    }

    fn on_master_ended(
        &mut self,
        (job, epoch): (JobId, NonZeroU64),
        cause: &str,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let remembered = self.setup.config.exception_history.max(1);
        let Some(processes) = &mut self.setup.processes else {
            return;
        };
        let Some(known) = processes.jobs.get_mut(&job) else {
            return;
        };
        let after = known.lives.ended(cx.now(), epoch);
        if after == AfterExit::Nothing {
            return;
        }
        tracing::warn!(%job, %epoch, cause, ?after, "its JobMaster is gone");
        let message = format!("the process of its JobMaster (epoch {epoch}) is gone: {cause}");
        let failure = JobFailure::of_job(Fault::External, message, known.age(cx.now()));
        known.note_exit(failure, remembered);
        if let Some(master) = self.masters.get_mut(&job) {
            master.outbox = None;
        }
        self.to_placement(ProcessEvent::EpochEnded { job, epoch });
        match after {
            AfterExit::StartAgain { after, epoch } => {
                let (status, start) = (JobStatus::Restarting, DispatcherCall::StartMaster(job, epoch));
                self.on_message(DispatcherMessage::JobStatusChanged { job, status });
                cx.after(after, DispatcherInput::Processes(start));
                self.end_cancelled(cx);
            }
            AfterExit::GiveUp { exits } => self.give_up(job, (exits, cause), cx),
            AfterExit::Nothing => {}
        }
    }

    /// The job has no JobMaster and gets none.
    fn give_up(&mut self, job: JobId, (exits, cause): (usize, &str), cx: &ShellCx<'_, Self>) {
        let message = format!(
            "the process of its JobMaster ended {exits} times within ten minutes, the last time: {cause}"
        );
        self.end_without_master(job, (JobStatus::Failed, Some(message)), cx);
    }

    /// A job that is cancelled and has no JobMaster needs none to end.
    pub(super) fn end_cancelled(&mut self, cx: &ShellCx<'_, Self>) {
        let Some(processes) = &self.setup.processes else {
            return;
        };
        let jobs = processes.jobs.iter();
        let ended = jobs.filter(|(_, job)| job.lives.cancelled && !job.lives.is_claimed());
        for job in ended.map(|(job, _)| *job).collect::<Vec<_>>() {
            self.end_without_master(job, (JobStatus::Canceled, None), cx);
        }
    }

    /// The Dispatcher writes the result of a job without a JobMaster. Whoever may still want to claim it is refused.
    fn end_without_master(
        &mut self,
        job: JobId,
        (status, failure): (JobStatus, Option<String>),
        cx: &ShellCx<'_, Self>,
    ) {
        let processes = self.setup.processes.as_ref();
        let Some(known) = processes.and_then(|processes| processes.jobs.get(&job)) else {
            return;
        };
        let duration = known.age(cx.now());
        let name = self.brain.jobs().into_iter().find(|known| known.job == job);
        let result = JobResult {
            job,
            name: name.map(|known| known.name).unwrap_or_default(),
            status,
            accumulators: AccumulatorValues::default(),
            failure: failure.map(|message| JobFailure::of_job(Fault::External, message, duration)),
            failures: Vec::new(),
            restarts: 0,
            duration,
            vertices: Vec::new(),
        };
        self.on_message(DispatcherMessage::JobEnded(Box::new(result)));
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
    fn age(&self, now: Time) -> Duration {
        now.since(self.since)
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
