//! The Dispatcher's actor: starts JobMasters and owes answers to clients.

use super::brain::{DispatcherBrain, DispatcherEffect, DispatcherEvent, Submission};
use super::clients::Clients;
use super::processes::{DispatcherCall, MasterProcesses};
use super::queries::JobQuery;
use crate::config::{ClusterConfig, JobOptions};
use crate::error::ClusterError;
use crate::job_master::{
    CheckpointCall, JobMaster, JobMasterEvent, JobMasterLinks, JobSettings, SavepointCall, TakenCheckpoint,
};
use crate::messages::{DispatcherMessage, JobMasterMessage};
use crate::process::launch::JobLaunch;
use crate::programs::Programs;
use crate::resource_manager::ResourceManagerEvent;
use crate::result::{JobOverview, JobResult};
use hurtig_core::ids::{JobId, VertexId};
use hurtig_dataflow::graph::{Bounds, JobGraph, JobStatus, Requirements};
use hurtig_kit::{Component, ExitReason, Mailbox, Outbox, Reply, Shell, ShellCx};
use hurtig_task::interface::TaskFactory;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Messages that may wait for the Dispatcher.
const CAPACITY: usize = 4_096;
/// Messages that may wait for a JobMaster's mailbox.
const OUTBOX: usize = 1_024;

pub(crate) type Answer<T> = Reply<Result<T, ClusterError>>;

/// A job and how to run it.
pub(crate) struct SubmitJob {
    pub(crate) graph: Arc<JobGraph>,
    pub(crate) code: JobCode,
}

/// Where the code of a job is.
pub(crate) enum JobCode {
    /// In this process.
    Linked(Arc<dyn TaskFactory>, Box<JobOptions>),
    /// In an artifact, of which processes are started.
    Artifact(Box<JobLaunch>),
}

/// The answer to an accepted submission.
pub(crate) struct Submitted {
    pub(crate) status: watch::Receiver<JobStatus>,
}

/// What reaches the Dispatcher's actor. Each question is answered, or dropped when the Dispatcher
/// ends. Asking is legal at any time.
pub(crate) enum DispatcherInput {
    /// From a JobMaster.
    Message(DispatcherMessage),
    /// Run a job. Repeated: the same job.
    Submit(Box<SubmitJob>, Answer<Submitted>),
    /// End a job. Answered as soon as its JobMaster was told.
    Cancel(JobId, Answer<()>),
    /// A job's state.
    Status(JobId, Answer<JobStatus>),
    /// A job's state as it changes.
    Watch(JobId, Answer<watch::Receiver<JobStatus>>),
    /// All jobs.
    List(Answer<Vec<JobOverview>>),
    /// The client that a job ends with is there, and will be heard of again before this time of day (in milliseconds since 1970), or
    /// within the time that the job's submission has said.
    Heartbeat(JobId, Option<i64>, Answer<()>),
    /// Timer: which of them are gone.
    LookAfterClients,
    /// How a job ends; answered when it has ended.
    Result(JobId, Answer<Arc<JobResult>>),
    /// A question about a job, running or ended.
    Query(JobId, JobQuery),
    /// Between which bounds the vertices of a job run.
    Requirements(JobId, Answer<Requirements>),
    /// Let the vertices of a job run between these bounds. Answered when that outlives this process, if there is such a place.
    Declare(JobId, BTreeMap<VertexId, Bounds>, Answer<()>),
    /// Take a savepoint of a job. Answered when it is durable, and of a stop when the job has ended.
    Savepoint(JobId, SavepointCall, Answer<String>),
    /// Take a checkpoint of a job. Answered when it is complete.
    Checkpoint(CheckpointCall, Answer<TakenCheckpoint>),
    /// End: cancel every job. Answered when all have ended.
    ShutDown(Answer<()>),
    /// What only a cluster of processes has.
    Processes(DispatcherCall),
}

/// What a Dispatcher is made from.
pub(crate) struct DispatcherSetup {
    pub(crate) config: ClusterConfig,
    pub(crate) resource_manager: Mailbox<ResourceManagerEvent>,
    /// The code of jobs that run in this process.
    pub(crate) programs: Programs,
    /// In a cluster of processes: the JobMasters that have one.
    pub(crate) processes: Option<MasterProcesses>,
}

/// A JobMaster and those who wait for its job.
pub(super) struct Master {
    /// `None`: its process has not claimed the job.
    pub(super) outbox: Option<Outbox<JobMasterEvent>>,
    waiting: Vec<Answer<Arc<JobResult>>>,
}

/// The Dispatcher.
pub(crate) struct Dispatcher {
    pub(super) setup: DispatcherSetup,
    pub(super) brain: DispatcherBrain,
    pub(super) masters: BTreeMap<JobId, Master>,
    /// Kept for ended jobs too, as long as the archive remembers them.
    pub(super) statuses: BTreeMap<JobId, watch::Sender<JobStatus>>,
    /// What was declared of jobs that run in this process.
    pub(super) declared: BTreeMap<JobId, Requirements>,
    /// Those that jobs end with.
    pub(super) clients: Clients,
    shutting_down: Vec<Answer<()>>,
    /// The time of day of the present event, in milliseconds since 1970.
    pub(super) wall_ms: i64,
}

impl Dispatcher {
    pub(crate) fn new(setup: DispatcherSetup) -> Self {
        let mut brain = DispatcherBrain::new(setup.config.max_jobs, setup.config.job_store_capacity);
        if setup.config.jobs_outlive_the_cluster {
            brain.jobs_outlive_the_cluster();
        }
        let (masters, statuses) = (BTreeMap::new(), BTreeMap::new());
        Self {
            setup,
            brain,
            masters,
            statuses,
            declared: BTreeMap::new(),
            clients: Clients::default(),
            shutting_down: Vec::new(),
            wall_ms: 0,
        }
    }

    /// Answered when the job is where it outlives this process, if there is such a place.
    fn submit(&mut self, job: SubmitJob, answer: Answer<Submitted>, cx: &mut ShellCx<'_, Self>) {
        let id = job.graph.id;
        match self.accept(job, cx) {
            Ok(submitted) => {
                if let Some(answer) = self.answer_admitted(id, answer) {
                    answer.send(Ok(submitted));
                }
            }
            Err(error) => answer.send(Err(error)),
        }
    }

    fn accept(&mut self, job: SubmitJob, cx: &mut ShellCx<'_, Self>) -> Result<Submitted, ClusterError> {
        if let JobCode::Linked(factory, _) = &job.code {
            let (program, submitted) = (factory.job_graph().fingerprint, job.graph.fingerprint);
            if program != submitted {
                let (program, submitted) = (program.to_string(), submitted.to_string());
                return Err(ClusterError::Fingerprint { program, submitted });
            }
        }
        let id = job.graph.id;
        if self.brain.submit(job.graph.clone())? == Submission::Accepted {
            self.brain.note_start(id, cx.env().clock.wall_ms());
            self.start_master(job, cx);
        }
        let status = self.watch(id)?;
        Ok(Submitted { status })
    }

    fn watch(&mut self, job: JobId) -> Result<watch::Receiver<JobStatus>, ClusterError> {
        let known = self.brain.status(job)?;
        let status = self.statuses.entry(job);
        Ok(status.or_insert_with(|| watch::Sender::new(known)).subscribe())
    }

    /// A job that has no JobMaster yet, or has this one.
    pub(super) fn expect(&mut self, job: JobId, outbox: Option<Outbox<JobMasterEvent>>, status: JobStatus) {
        let waiting = Vec::new();
        self.masters.insert(job, Master { outbox, waiting });
        self.statuses
            .entry(job)
            .or_insert_with(|| watch::Sender::new(status));
    }

    fn start_master(&mut self, job: SubmitJob, cx: &mut ShellCx<'_, Self>) {
        let id = job.graph.id;
        match job.code {
            JobCode::Linked(factory, options) => {
                let status = watch::Sender::new(JobStatus::Initializing);
                self.setup.programs.insert(id, factory.clone());
                let links = JobMasterLinks {
                    dispatcher: cx.mailbox(),
                    resource_manager: self.setup.resource_manager.clone(),
                    status: status.clone(),
                    remote: None,
                };
                let settings = JobSettings::new(*options, &self.setup.config);
                let master = JobMaster::new(job.graph, settings, factory, links);
                let (mailbox, _) = Shell::start(master, cx.env().clone());
                let outbox = cx.outbox("dispatcher to job master", mailbox, OUTBOX);
                self.statuses.insert(id, status);
                self.expect(id, Some(outbox), JobStatus::Initializing);
            }
            JobCode::Artifact(launch) => {
                self.expect(id, None, JobStatus::Initializing);
                self.expect_client(id, &launch, cx);
                self.admit(id, *launch, cx);
            }
        }
    }

    /// Whoever recovers the job knows of it, if anybody will.
    pub(super) fn cancel(&mut self, job: JobId, answer: Answer<()>, cx: &mut ShellCx<'_, Self>) {
        answer.send(self.decide(DispatcherEvent::Cancel(job)));
        self.end_cancelled(cx);
    }

    pub(super) fn outbox_to(
        &self,
        mailbox: Mailbox<JobMasterEvent>,
        cx: &ShellCx<'_, Self>,
    ) -> Outbox<JobMasterEvent> {
        cx.outbox("dispatcher to job master", mailbox, OUTBOX)
    }

    pub(super) fn decide(&mut self, event: DispatcherEvent) -> Result<(), ClusterError> {
        let mut effects = Vec::new();
        let outcome = self.brain.handle(self.wall_ms, event, &mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
        outcome
    }

    fn carry_out(&mut self, effect: DispatcherEffect) {
        match effect {
            DispatcherEffect::CancelJob(job) => {
                self.intend_to_cancel(job);
                if let Some(outbox) = self.masters.get(&job).and_then(|master| master.outbox.as_ref()) {
                    outbox.send(JobMasterMessage::Cancel.into());
                }
            }
            DispatcherEffect::Publish(result) => self.publish(&result),
            DispatcherEffect::AllEnded => {
                self.shutting_down
                    .drain(..)
                    .for_each(|answer| answer.send(Ok(())));
            }
        }
    }

    fn publish(&mut self, result: &Arc<JobResult>) {
        let waiting = self
            .masters
            .remove(&result.job)
            .map(|master| master.waiting)
            .unwrap_or_default();
        waiting
            .into_iter()
            .for_each(|answer| answer.send(Ok(result.clone())));
        self.declared.remove(&result.job);
        self.clients.forget(result.job);
        self.setup.programs.remove(result.job);
        self.forget_process(result);
        let brain = &self.brain;
        self.statuses.retain(|job, _| brain.status(*job).is_ok());
    }

    fn result(&mut self, job: JobId, answer: Answer<Arc<JobResult>>) {
        match (self.masters.get_mut(&job), self.brain.result(job)) {
            (Some(master), _) => {
                master.waiting.retain(Reply::is_wanted);
                master.waiting.push(answer);
            }
            (None, Some(result)) => answer.send(Ok(result.clone())),
            (None, None) => answer.send(Err(ClusterError::UnknownJob(job))),
        }
    }

    /// The way to a job's JobMaster; `None`: the job is over, or not known.
    pub(super) fn master(&self, job: JobId) -> Option<Result<&Outbox<JobMasterEvent>, ClusterError>> {
        let master = self.masters.get(&job)?;
        Some(master.outbox.as_ref().ok_or(ClusterError::NoMaster(job)))
    }

    /// The way to the JobMaster of a job that has not ended.
    pub(super) fn running(&self, job: JobId) -> Result<&Outbox<JobMasterEvent>, ClusterError> {
        match self.master(job) {
            Some(master) => master,
            None => Err(ClusterError::Ended {
                job,
                status: self.brain.status(job)?,
            }),
        }
    }

    fn savepoint(&self, job: JobId, call: SavepointCall, answer: Answer<String>, cx: &mut ShellCx<'_, Self>) {
        match self.running(job) {
            Err(error) => answer.send(Err(error)),
            Ok(outbox) => {
                let (reply, taken) = Reply::new();
                let ends = call.stop.and_then(|_| self.statuses.get(&job));
                let mut ends = ends.map(watch::Sender::subscribe);
                outbox.send(JobMasterEvent::Savepoint(call, reply));
                let lost = move |cause| ClusterError::Savepoint { job, cause };
                let patience = self.setup.config.ask_timeout;
                let stopped = async move {
                    let taken = taken.await;
                    if let (Ok(Ok(_)), Some(status)) = (&taken, &mut ends) {
                        // Whoever is told that the job has stopped finds it so, unless its JobMaster dies before it can say its
                        // result: then the savepoint is told all the same.
                        let ended = status.wait_for(|status| status.is_globally_terminal());
                        drop(tokio::time::timeout(patience, ended).await);
                    }
                    taken
                };
                cx.detach(relay(stopped, answer, lost));
            }
        }
    }

    fn checkpoint(&self, call: CheckpointCall, answer: Answer<TakenCheckpoint>, cx: &mut ShellCx<'_, Self>) {
        let job = call.job;
        match self.running(job) {
            Err(error) => answer.send(Err(error)),
            Ok(outbox) => {
                let (reply, taken) = Reply::new();
                outbox.send(JobMasterEvent::Checkpoint(call, reply));
                let lost = move |cause| ClusterError::Checkpoint { job, cause };
                cx.detach(relay(taken, answer, lost));
            }
        }
    }
}

/// Hands on what a JobMaster answers, which takes its time; `lost` makes the answer when it ends without one.
async fn relay<T, E>(
    taken: impl Future<Output = Result<Result<T, ClusterError>, E>>,
    answer: Answer<T>,
    lost: impl FnOnce(String) -> ClusterError,
) {
    let cause = "its JobMaster has ended before it could say what became of it; the job goes on with the last checkpoint or \
                 savepoint that was recorded";
    let taken = taken.await;
    answer.send(taken.unwrap_or_else(|_| Err(lost(cause.to_owned()))));
}

impl Component for Dispatcher {
    type Event = DispatcherInput;

    fn name(&self) -> String {
        "dispatcher".to_owned()
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn started(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        self.wall_ms = cx.env().clock.wall_ms();
        self.take_on(cx);
        Ok(())
    }

    fn handle(&mut self, event: DispatcherInput, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        self.wall_ms = cx.env().clock.wall_ms();
        match event {
            DispatcherInput::Message(message) => {
                if let Err(error) = self.decide(DispatcherEvent::Message(message)) {
                    tracing::error!(%error, "message of a job master refused");
                }
            }
            DispatcherInput::Submit(job, answer) => self.submit(*job, answer, cx),
            DispatcherInput::Cancel(job, answer) => match self.job(job) {
                Some(_) => self.write_cancel(job, answer, cx),
                None => self.cancel(job, answer, cx),
            },
            DispatcherInput::Status(job, answer) => answer.send(self.brain.status(job)),
            DispatcherInput::Watch(job, answer) => answer.send(self.watch(job)),
            DispatcherInput::Heartbeat(job, until, answer) => answer.send(self.heartbeat(job, until)),
            DispatcherInput::LookAfterClients => self.look_after_clients(cx),
            DispatcherInput::List(answer) => answer.send(Ok(self.brain.jobs())),
            DispatcherInput::Result(job, answer) => self.result(job, answer),
            DispatcherInput::Query(job, query) => self.answer(job, query, cx),
            DispatcherInput::Requirements(job, answer) => answer.send(self.requirements(job)),
            DispatcherInput::Declare(job, bounds, answer) => self.declare(job, bounds, answer, cx),
            DispatcherInput::Savepoint(job, call, answer) => self.savepoint(job, call, answer, cx),
            DispatcherInput::Checkpoint(call, answer) => self.checkpoint(call, answer, cx),
            DispatcherInput::ShutDown(answer) => {
                self.shutting_down.push(answer);
                if let Err(error) = self.decide(DispatcherEvent::ShutDown) {
                    tracing::error!(%error, "shutting down");
                }
                self.end_cancelled(cx);
            }
            DispatcherInput::Processes(call) => self.on_call(call, cx),
        }
        Ok(())
    }
}
