//! The Dispatcher and the JobMasters as actix actors with typed messages, for programs that have actors of their own.
//!
//! A gateway is the address that a program holds: a [`DispatcherGateway`] of a cluster, a [`JobMasterGateway`] of one of its jobs.
//! It lives on the cluster's thread, hands each message to the actor that decides, and answers with what that says. This module
//! promises that a message is answered with what has become of it or with a [`ClusterError`], and that so many are open at once and
//! not more ([`MAX_OPEN`]). It refuses to decide anything: what holds between a question and its answer is the actor's own rule.
//!
//! Whoever holds the address of a gateway holds the cluster, as with a [`ClusterHandle`]. When that was shut down, actix says
//! `MailboxError::Closed`.

use crate::config::{CheckpointKind, JobOptions};
use crate::embedded::ClusterHandle;
use crate::error::ClusterError;
use crate::job_master::{CheckpointStatistics, TakenCheckpoint};
use crate::result::{FailureEntry, JobDetail, JobOverview, JobResult};
use actix::{Actor, Addr, Context, Handler, Message, Recipient, ResponseFuture};
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::{JobId, VertexId};
use hurtig_core::metrics::MetricSample;
use hurtig_dataflow::chain::StopMode;
use hurtig_dataflow::graph::{Bounds, JobGraph, JobStatus, Requirements};
use hurtig_kit::{AskError, TellError};
use hurtig_storage::SavepointFormat;
use hurtig_task::interface::TaskFactory;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Messages that may wait in the mailbox of a gateway. `send` waits for room, `try_send` refuses.
pub const MAILBOX: usize = 256;
/// Questions to one gateway that may be open, and those who watch through it; one more is refused as overload.
pub const MAX_OPEN: usize = 1_024;
/// After which time it is seen that an actor has ended that watches a job in which nothing happens.
const LOOK_AFTER_WATCHERS: Duration = Duration::from_secs(10);

/// A message to the Dispatcher about one job: `OfJob(id, Cancel)`.
#[derive(Debug)]
pub struct OfJob<M>(pub JobId, pub M);

impl<M: JobMessage> Message for OfJob<M> {
    type Result = Result<M::Answer, ClusterError>;
}

/// What can be said to a job: to its [`JobMasterGateway`], or as [`OfJob`] to the [`DispatcherGateway`].
pub trait JobMessage: Message<Result = Result<Self::Answer, ClusterError>> + Send + 'static {
    /// The answer, if nothing is wrong.
    type Answer: Send + 'static;

    /// Has it done.
    fn ask(
        self,
        job: JobId,
        cluster: ClusterHandle,
    ) -> impl Future<Output = Result<Self::Answer, ClusterError>> + Send + 'static;
}

/// Its state. Legal at any time, also when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetStatus;

/// What is known of it: its graph, its vertices, when it was in which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetDetail;

/// What failed in it so far, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetExceptions;

/// Its accumulators, merged over its subtasks, as they were last reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetAccumulators;

/// What became of its checkpoints and savepoints so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetCheckpoints;

/// The metrics of it and of its tasks; of one that has ended, none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetMetrics;

/// Between which bounds its vertices run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetRequirements;

/// Lets its vertices run between these bounds from now on. Answered when the job was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclareRequirements(pub BTreeMap<VertexId, Bounds>);

/// Takes a checkpoint. Answered when it is complete; taken whether somebody waits for it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeCheckpoint(pub CheckpointKind);

/// Takes a savepoint, and says where it is. Answered when it is durable; taken whether somebody waits for it or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakeSavepoint {
    /// The directory in which its folder is made; `None`: `execution.checkpointing.savepoint-dir`.
    pub directory: Option<String>,
    /// `None`: as the job's options say.
    pub format: Option<SavepointFormat>,
}

/// Stops the job with a savepoint, and says where that is. Answered when all that the savepoint holds is committed and the job has
/// ended; the job stops whether somebody waits for it or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopWithSavepoint {
    /// Whether the job goes on from there later, or its input ends.
    pub mode: StopMode,
    /// As of [`TakeSavepoint`].
    pub savepoint: TakeSavepoint,
}

/// Ends the job without a savepoint. Answered when it was told; [`AwaitResult`] says when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel;

/// Waits for its end. A job that failed has a result, which says so; it is no error. Asked with a timeout (`send(…).timeout(…)`), the
/// question ends and the job goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AwaitResult;

/// Messages to jobs: what is answered, and how that is found out.
macro_rules! job_messages {
    ($($name:ident -> $answer:ty: |$message:ident, $job:ident, $cluster:ident| $ask:expr;)*) => {$(
        impl Message for $name {
            type Result = Result<$answer, ClusterError>;
        }

        impl JobMessage for $name {
            type Answer = $answer;

            async fn ask(self, $job: JobId, $cluster: ClusterHandle) -> Self::Result {
                let $message = self;
                $ask.await
            }
        }
    )*};
}

job_messages! {
    GetStatus -> JobStatus: |_message, job, cluster| cluster.job_status(job);
    GetDetail -> JobDetail: |_message, job, cluster| cluster.job_detail(job);
    GetExceptions -> Vec<FailureEntry>: |_message, job, cluster| cluster.job_exceptions(job);
    GetAccumulators -> AccumulatorValues: |_message, job, cluster| cluster.job_accumulators(job);
    GetCheckpoints -> CheckpointStatistics: |_message, job, cluster| cluster.job_checkpoints(job);
    GetMetrics -> Vec<MetricSample>: |_message, job, cluster| cluster.job_metrics(job);
    GetRequirements -> Requirements: |_message, job, cluster| cluster.job_requirements(job);
    DeclareRequirements -> (): |message, job, cluster| cluster.declare_requirements(job, message.0);
    TakeCheckpoint -> TakenCheckpoint: |message, job, cluster| cluster.job_checkpoint(job, message.0);
    TakeSavepoint -> String: |message, job, cluster|
        cluster.job_savepoint(job, message.directory, None, message.format);
    StopWithSavepoint -> String: |message, job, cluster|
        cluster.job_savepoint(job, message.savepoint.directory, Some(message.mode), message.savepoint.format);
    Cancel -> (): |_message, job, cluster| cluster.cancel_job(job);
    AwaitResult -> Arc<JobResult>: |_message, job, cluster| cluster.job_result(job);
}

/// To the Dispatcher: run this job. The same graph under the same id again is the same job.
pub struct SubmitJob {
    /// What is run.
    pub graph: JobGraph,
    /// Its code.
    pub code: Arc<dyn TaskFactory>,
    /// How it is run.
    pub options: JobOptions,
}

impl fmt::Debug for SubmitJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubmitJob({} '{}')", self.graph.id, self.graph.name)
    }
}

impl Message for SubmitJob {
    type Result = Result<SubmittedJob, ClusterError>;
}

/// The answer: a job that was taken.
#[derive(Clone, Debug)]
pub struct SubmittedJob {
    /// Its id.
    pub id: JobId,
    /// Its JobMaster.
    pub master: Addr<JobMasterGateway>,
}

/// To the Dispatcher: the jobs that run and those that ended lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListJobs;

impl Message for ListJobs {
    type Result = Result<Vec<JobOverview>, ClusterError>;
}

/// To the Dispatcher: the JobMaster of a job. Of a job that ended lately it tells what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindJobMaster(pub JobId);

impl Message for FindJobMaster {
    type Result = Result<Addr<JobMasterGateway>, ClusterError>;
}

/// To a JobMaster: tell this actor the job's state now, and each that follows. States that follow quickly on one another may be skipped,
/// the last one never. Whoever watches keeps no cluster alive, and is forgotten when his actor or the job has ended.
#[derive(Clone)]
pub struct WatchStatus(pub Recipient<JobStatusChanged>);

impl Message for WatchStatus {
    type Result = Result<(), ClusterError>;
}

impl fmt::Debug for WatchStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchStatus")
    }
}

/// To an actor that watches a job: its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobStatusChanged {
    /// The job.
    pub job: JobId,
    /// Its state now.
    pub status: JobStatus,
}

impl Message for JobStatusChanged {
    type Result = ();
}

/// The cluster as a gateway sees it, and how much of it is in use.
#[derive(Clone, Debug)]
struct Access {
    cluster: ClusterHandle,
    open: Arc<Semaphore>,
}

impl Access {
    fn new(cluster: ClusterHandle) -> Self {
        let open = Arc::new(Semaphore::new(MAX_OPEN));
        Self { cluster, open }
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, ClusterError> {
        let full = |_| ClusterError::Ask {
            what: "the gateway has as many open questions as it may",
            source: AskError::Refused(TellError::Overloaded),
        };
        self.open.clone().try_acquire_owned().map_err(full)
    }

    /// Asks, if there is room for one more.
    fn ask<T: 'static, F>(
        &self,
        ask: impl FnOnce(ClusterHandle) -> F + 'static,
    ) -> ResponseFuture<Result<T, ClusterError>>
    where
        F: Future<Output = Result<T, ClusterError>> + 'static,
    {
        let (entered, cluster) = (self.enter(), self.cluster.clone());
        Box::pin(async move {
            let _open = entered?;
            ask(cluster).await
        })
    }
}

/// The Dispatcher of a cluster, as its clients see it; see [`ClusterHandle::dispatcher`].
#[derive(Debug)]
pub struct DispatcherGateway(Access);

impl DispatcherGateway {
    pub(crate) fn start(cluster: ClusterHandle) -> Addr<Self> {
        let thread = cluster.thread().clone();
        Self::start_in_arbiter(&thread, move |_| Self(Access::new(cluster)))
    }
}

impl Actor for DispatcherGateway {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<SubmitJob> for DispatcherGateway {
    type Result = ResponseFuture<Result<SubmittedJob, ClusterError>>;

    fn handle(&mut self, job: SubmitJob, _: &mut Self::Context) -> Self::Result {
        self.0.ask(|cluster| async move {
            let id = cluster.submit(job.graph, job.code, job.options).await?.id();
            let master = JobMasterGateway::start(id, cluster);
            Ok(SubmittedJob { id, master })
        })
    }
}

impl Handler<ListJobs> for DispatcherGateway {
    type Result = ResponseFuture<Result<Vec<JobOverview>, ClusterError>>;

    fn handle(&mut self, _: ListJobs, _: &mut Self::Context) -> Self::Result {
        self.0.ask(|cluster| async move { cluster.jobs().await })
    }
}

impl Handler<FindJobMaster> for DispatcherGateway {
    type Result = ResponseFuture<Result<Addr<JobMasterGateway>, ClusterError>>;

    fn handle(&mut self, FindJobMaster(job): FindJobMaster, _: &mut Self::Context) -> Self::Result {
        self.0.ask(move |cluster| async move {
            cluster.job_status(job).await?;
            Ok(JobMasterGateway::start(job, cluster))
        })
    }
}

impl<M: JobMessage> Handler<OfJob<M>> for DispatcherGateway {
    type Result = ResponseFuture<Result<M::Answer, ClusterError>>;

    fn handle(&mut self, OfJob(job, message): OfJob<M>, _: &mut Self::Context) -> Self::Result {
        self.0.ask(move |cluster| message.ask(job, cluster))
    }
}

/// The JobMaster of a job, as its clients see it. A job that gets another JobMaster keeps this address.
#[derive(Debug)]
pub struct JobMasterGateway {
    job: JobId,
    access: Access,
}

impl JobMasterGateway {
    fn start(job: JobId, cluster: ClusterHandle) -> Addr<Self> {
        let thread = cluster.thread().clone();
        Self::start_in_arbiter(&thread, move |_| {
            let access = Access::new(cluster);
            Self { job, access }
        })
    }
}

impl Actor for JobMasterGateway {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl<M: JobMessage> Handler<M> for JobMasterGateway {
    type Result = ResponseFuture<Result<M::Answer, ClusterError>>;

    fn handle(&mut self, message: M, _: &mut Self::Context) -> Self::Result {
        let job = self.job;
        self.access.ask(move |cluster| message.ask(job, cluster))
    }
}

impl Handler<WatchStatus> for JobMasterGateway {
    type Result = ResponseFuture<Result<(), ClusterError>>;

    fn handle(&mut self, WatchStatus(watcher): WatchStatus, _: &mut Self::Context) -> Self::Result {
        let (job, entered, cluster) = (self.job, self.access.enter(), self.access.cluster.clone());
        Box::pin(async move {
            let open = entered?;
            let mut statuses = cluster.job_statuses(job).await?;
            let thread = cluster.thread().clone();
            // It lives with the cluster's thread, and must not keep that alive.
            drop(cluster);
            thread.spawn(async move {
                let _open = open;
                loop {
                    let status = *statuses.borrow_and_update();
                    let told = watcher.send(JobStatusChanged { job, status }).await;
                    let over = told.is_err() || status.is_globally_terminal();
                    if over || !changed(&mut statuses, &watcher).await {
                        return;
                    }
                }
            });
            Ok(())
        })
    }
}

/// Waits for the next state; `false`: nobody wants to know, or there will be none.
async fn changed(statuses: &mut watch::Receiver<JobStatus>, watcher: &Recipient<JobStatusChanged>) -> bool {
    while watcher.connected() {
        match tokio::time::timeout(LOOK_AFTER_WATCHERS, statuses.changed()).await {
            Ok(changed) => return changed.is_ok(),
            Err(_) => continue,
        }
    }
    false
}
