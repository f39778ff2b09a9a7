//! A whole cluster in one process, on threads of its own: any caller may wait for it, with any
//! runtime or none.

use crate::config::CheckpointKind;
use crate::config::{ClusterConfig, JobOptions};
use crate::details::VertexDetail;
use crate::dispatcher::{
    Dispatcher, DispatcherInput, DispatcherSetup, JobCode, JobQuery, SubmitJob, Submitted,
};
use crate::error::ClusterError;
use crate::gateway::DispatcherGateway;
use crate::job_master::{CheckpointCall, CheckpointStatistics, SavepointCall, TakenCheckpoint};
use crate::programs::Programs;
use crate::resource_manager::ResourceManager;
use crate::result::{FailureEntry, JobDetail, JobOverview, JobResult};
use crate::task_manager::{TaskManager, TaskManagerSetup};
use actix::{Addr, Arbiter, ArbiterHandle, System};
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::{JobId, TaskManagerId, VertexId};
use hurtig_core::metrics::MetricSample;
use hurtig_core::time::{Clock, SystemClock};
use hurtig_dataflow::chain::StopMode;
use hurtig_dataflow::graph::{Bounds, JobGraph, JobStatus, Requirements};
use hurtig_kit::{
    ActorEnv, ActorFault, AskError, BlockingPool, KillSwitch, Mailbox, Reply, Shell, TellError, Threads,
};
use hurtig_storage::SavepointFormat;
use hurtig_task::interface::TaskFactory;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock, mpsc};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How long the end of a cluster waits for an enumerator that is being asked. One that takes longer
/// keeps its thread until it returns, and nothing else.
const ENUMERATOR_PATIENCE: Duration = Duration::from_secs(1);

/// Starts clusters within this process.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedCluster;

/// The way to the Dispatcher; `None` while this process does not lead.
pub(crate) type DispatcherWay = watch::Receiver<Option<Mailbox<DispatcherInput>>>;

/// What the cluster's thread says when it is ready.
struct Ready {
    dispatcher: DispatcherWay,
    arbiter: ArbiterHandle,
}

impl EmbeddedCluster {
    /// Starts a cluster with the machine's clock. It ends with [`ClusterHandle::shutdown`], or, at
    /// once, when its last handle is dropped.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn start(config: ClusterConfig) -> Result<ClusterHandle, ClusterError> {
        Self::start_with(config, SystemClock::new())
    }

    /// Starts a cluster with another clock. Timers run in real time all the same.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn start_with(config: ClusterConfig, clock: Arc<dyn Clock>) -> Result<ClusterHandle, ClusterError> {
        let ask_timeout = config.ask_timeout;
        let start = move |env: ActorEnv| async move {
            let (_, dispatcher) = watch::channel(Some(start_actors(&config, &env)));
            Ok((dispatcher, ()))
        };
        start_thread(ask_timeout, clock, start).map(|(cluster, ())| cluster)
    }
}

/// Runs actors on a thread of their own, which ends with the last handle. `start` starts them there, and says what its caller
/// needs beside the handle.
pub(crate) fn start_thread<T, F>(
    ask_timeout: Duration,
    clock: Arc<dyn Clock>,
    start: impl FnOnce(ActorEnv) -> F + Send + 'static,
) -> Result<(ClusterHandle, T), ClusterError>
where
    T: Send + 'static,
    F: Future<Output = Result<(DispatcherWay, T), String>>,
{
    let kill = KillSwitch::new();
    let pool = BlockingPool::new().map_err(|error| ClusterError::Start(error.to_string()))?;
    let env = ActorEnv {
        clock,
        kill: kill.clone(),
        blocking: pool.threads(),
    };
    let (ready, is_ready) = mpsc::sync_channel(1);
    let (stop, stopped) = watch::channel(false);
    let (alive, ended) = watch::channel(());
    let thread = std::thread::Builder::new().name("hurtig-cluster".to_owned());
    thread
        .spawn(move || {
            run(env, start, ready, stopped);
            pool.close(ENUMERATOR_PATIENCE);
            // Those who wait for the end see this sender go.
            drop(alive);
        })
        .map_err(|error| ClusterError::Start(error.to_string()))?;
    let started = is_ready
        .recv()
        .map_err(|_| ClusterError::Start("the thread ended at once".to_owned()))?;
    let (Ready { dispatcher, arbiter }, more) = started.map_err(ClusterError::Start)?;
    let cluster = ClusterHandle {
        dispatcher,
        arbiter,
        kill,
        ended,
        ask_timeout,
        stop: Arc::new(stop),
    };
    Ok((cluster, more))
}

/// The cluster's thread, from its first to its last moment.
fn run<T, F>(
    env: ActorEnv,
    start: impl FnOnce(ActorEnv) -> F,
    ready: mpsc::SyncSender<Result<(Ready, T), String>>,
    mut stopped: watch::Receiver<bool>,
) where
    F: Future<Output = Result<(DispatcherWay, T), String>>,
{
    let runner = System::new();
    let kill = env.kill.clone();
    runner.block_on(async {
        let started = start(env).await.map(|(dispatcher, more)| {
            let arbiter = Arbiter::current();
            (Ready { dispatcher, arbiter }, more)
        });
        let failed = started.is_err();
        // The starter waits for this; if it is gone, so is the receiver of `stopped`'s sender.
        let _ = ready.send(started);
        if failed {
            return;
        }
        // An error means that the last handle was dropped.
        let stopped = async { stopped.wait_for(|stop| *stop).await.is_ok() };
        either(stopped, kill.killed()).await;
    });
    System::current().stop();
    if let Err(error) = runner.run() {
        tracing::error!(%error, "the cluster's thread did not end cleanly");
    }
}

fn start_actors(config: &ClusterConfig, env: &ActorEnv) -> Mailbox<DispatcherInput> {
    let programs = Programs::default();
    let (resource_manager, _) = Shell::start(ResourceManager::new(config.load_balance), env.clone());
    let setup = TaskManagerSetup {
        id: TaskManagerId::random(),
        of: None,
        threads: u32::try_from(config.worker_threads.max(1)).unwrap_or(u32::MAX),
        slots: config.task_slots,
        spawner: Box::new(Threads),
        programs: programs.clone(),
        resource_manager: Some(resource_manager.clone()),
        alive: None,
    };
    // Its mailbox is known to the ResourceManager, with which it registers.
    Shell::start(TaskManager::new(setup), env.clone());
    let setup = DispatcherSetup {
        config: config.clone(),
        resource_manager,
        programs,
        processes: None,
    };
    Shell::start(Dispatcher::new(setup), env.clone()).0
}

/// Waits for whichever comes first.
async fn either(one: impl Future, other: impl Future) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|cx| {
        let ready = one.as_mut().poll(cx).is_ready() || other.as_mut().poll(cx).is_ready();
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// An embedded cluster. Clones are the same cluster; it ends when the last handle (of the cluster
/// or of a job) is dropped.
#[derive(Clone)]
pub struct ClusterHandle {
    dispatcher: DispatcherWay,
    arbiter: ArbiterHandle,
    kill: KillSwitch,
    ended: watch::Receiver<()>,
    ask_timeout: Duration,
    stop: Arc<watch::Sender<bool>>,
}

impl ClusterHandle {
    /// Runs a job. Submitting the same graph under the same id again yields the same job.
    ///
    /// # Errors
    /// When the cluster refuses it or has ended. How the job itself ends is in its result.
    pub async fn submit(
        &self,
        graph: JobGraph,
        factory: Arc<dyn TaskFactory>,
        options: impl Into<JobOptions>,
    ) -> Result<JobHandle, ClusterError> {
        let (id, name) = (graph.id, graph.name.clone());
        let job = Box::new(SubmitJob {
            graph: Arc::new(graph),
            code: JobCode::Linked(factory, Box::new(options.into())),
        });
        let submitted = self.submit_job(job).await?;
        let (status, result) = (submitted.status, Arc::default());
        Ok(JobHandle {
            id,
            name,
            cluster: self.clone(),
            status,
            result,
        })
    }

    /// The cluster's Dispatcher, for actors: it takes the messages of [`crate::gateway`]. The address keeps the cluster as a handle does.
    pub fn dispatcher(&self) -> Addr<DispatcherGateway> {
        DispatcherGateway::start(self.clone())
    }

    pub(crate) fn thread(&self) -> &ArbiterHandle {
        &self.arbiter
    }

    /// The states of a job as they change, by its id.
    pub(crate) async fn job_statuses(&self, job: JobId) -> Result<watch::Receiver<JobStatus>, ClusterError> {
        let asked = self.ask("job status", move |reply| DispatcherInput::Watch(job, reply));
        asked.await
    }

    pub(crate) async fn submit_job(&self, job: Box<SubmitJob>) -> Result<Submitted, ClusterError> {
        self.ask("submit", |reply| DispatcherInput::Submit(job, reply))
            .await
    }

    /// The state of a job, by its id.
    ///
    /// # Errors
    /// When it is not known, or the cluster has ended.
    pub async fn job_status(&self, job: JobId) -> Result<JobStatus, ClusterError> {
        let asked = self.ask("job status", move |reply| DispatcherInput::Status(job, reply));
        asked.await
    }

    /// Cancels a job, by its id. Returns once it was told.
    ///
    /// # Errors
    /// When it is not known or has ended, or the cluster has.
    pub async fn cancel_job(&self, job: JobId) -> Result<(), ClusterError> {
        let asked = self.ask("cancel", move |reply| DispatcherInput::Cancel(job, reply));
        asked.await
    }

    /// Says that the client of a job is there, with which the job ends: it will be heard of again before this time of day, in milliseconds
    /// since 1970, or within `client.heartbeat.timeout` of the job's submission. A job that goes on without its client takes no note of it.
    ///
    /// # Errors
    /// When the job is not known, or the cluster has ended.
    pub async fn client_heartbeat(&self, job: JobId, until_ms: Option<i64>) -> Result<(), ClusterError> {
        let asked = self.ask("heartbeat", move |reply| {
            DispatcherInput::Heartbeat(job, until_ms, reply)
        });
        asked.await
    }

    /// Waits for the end of a job, by its id.
    ///
    /// # Errors
    /// When it is not known, or the cluster ended first.
    pub async fn job_result(&self, job: JobId) -> Result<Arc<JobResult>, ClusterError> {
        self.wait(move |reply| DispatcherInput::Result(job, reply)).await
    }

    /// What failed in a job so far, by its id.
    ///
    /// # Errors
    /// When it is not known, or the cluster has ended.
    pub async fn job_exceptions(&self, job: JobId) -> Result<Vec<FailureEntry>, ClusterError> {
        let asked = self.ask("exceptions", move |reply| {
            DispatcherInput::Query(job, JobQuery::Exceptions(reply))
        });
        asked.await
    }

    /// What became of the checkpoints of a job that runs or ended lately, by its id.
    ///
    /// # Errors
    /// When it is not known, or the cluster has ended.
    pub async fn job_checkpoints(&self, job: JobId) -> Result<CheckpointStatistics, ClusterError> {
        let asked = self.ask("checkpoint statistics", move |reply| {
            DispatcherInput::Query(job, JobQuery::Checkpoints(reply))
        });
        asked.await
    }

    /// What is known of a job that runs or ended lately, by its id.
    ///
    /// # Errors
    /// When it is not known, or the cluster has ended.
    pub async fn job_detail(&self, job: JobId) -> Result<JobDetail, ClusterError> {
        let asked = self.ask("job detail", move |reply| {
            DispatcherInput::Query(job, JobQuery::Detail(reply))
        });
        asked.await
    }

    /// The subtasks of a vertex of a job that runs or ended lately.
    ///
    /// # Errors
    /// When the job or the vertex is not known, or the cluster has ended.
    pub async fn job_vertex(&self, job: JobId, vertex: VertexId) -> Result<VertexDetail, ClusterError> {
        let asked = self.ask("subtasks", move |reply| {
            DispatcherInput::Query(job, JobQuery::Vertex(vertex, reply))
        });
        asked.await
    }

    /// The metrics of a job that runs and of its tasks, by its id. Of a job that has ended there are none.
    ///
    /// # Errors
    /// When it is not known, or the cluster has ended.
    pub async fn job_metrics(&self, job: JobId) -> Result<Vec<MetricSample>, ClusterError> {
        let asked = self.ask("metrics", move |reply| {
            DispatcherInput::Query(job, JobQuery::Metrics(reply))
        });
        asked.await
    }

    /// The accumulators of a job that runs or ended lately, by its id, merged over its subtasks.
    ///
    /// # Errors
    /// When it is not known, or the cluster has ended.
    pub async fn job_accumulators(&self, job: JobId) -> Result<AccumulatorValues, ClusterError> {
        let asked = self.ask("accumulators", move |reply| {
            DispatcherInput::Query(job, JobQuery::Accumulators(reply))
        });
        asked.await
    }

    /// Takes a savepoint of a job, by its id, and stops the job with it if `stop` says how; see
    /// [`JobHandle::savepoint`] and [`JobHandle::stop`].
    ///
    /// # Errors
    /// As of those.
    pub async fn job_savepoint(
        &self,
        job: JobId,
        dir: Option<String>,
        stop: Option<StopMode>,
        format: Option<SavepointFormat>,
    ) -> Result<String, ClusterError> {
        let call = SavepointCall {
            job,
            dir,
            stop,
            format,
            trigger: None,
        };
        self.wait(move |reply| DispatcherInput::Savepoint(job, call, reply))
            .await
    }

    /// Between which bounds the vertices of a job run, by its id.
    ///
    /// # Errors
    /// When it is not known or has ended, or the cluster has.
    pub async fn job_requirements(&self, job: JobId) -> Result<Requirements, ClusterError> {
        self.ask("resource requirements", move |reply| {
            DispatcherInput::Requirements(job, reply)
        })
        .await
    }

    /// Lets the vertices of a job, by its id, run between these bounds; see [`JobHandle::declare`].
    ///
    /// # Errors
    /// As there.
    pub async fn declare_requirements(
        &self,
        job: JobId,
        bounds: BTreeMap<VertexId, Bounds>,
    ) -> Result<(), ClusterError> {
        self.wait(move |reply| DispatcherInput::Declare(job, bounds, reply))
            .await
    }

    /// Takes a checkpoint of a job, by its id; see [`JobHandle::checkpoint`].
    ///
    /// # Errors
    /// As there.
    pub async fn job_checkpoint(
        &self,
        job: JobId,
        kind: CheckpointKind,
    ) -> Result<TakenCheckpoint, ClusterError> {
        let call = CheckpointCall {
            job,
            kind,
            trigger: None,
        };
        self.wait(move |reply| DispatcherInput::Checkpoint(call, reply))
            .await
    }

    /// The jobs that run and those that ended lately.
    ///
    /// # Errors
    /// When the cluster has ended.
    pub async fn jobs(&self) -> Result<Vec<JobOverview>, ClusterError> {
        self.ask("list jobs", DispatcherInput::List).await
    }

    /// The fault that ended the cluster.
    pub fn fault(&self) -> Option<ActorFault> {
        self.kill.fault()
    }

    /// Cancels every job, waits for their ends, then ends the cluster and its threads. Takes no
    /// longer than `task.cancellation.timeout` allows. An enumerator that blocks is left behind on its
    /// thread.
    ///
    /// # Errors
    /// When tasks could not be stopped, or the cluster had failed before.
    pub async fn shutdown(&self) -> Result<(), ClusterError> {
        let jobs_ended = self.wait(DispatcherInput::ShutDown).await;
        self.stop.send_replace(true);
        // Any other error means that someone else has shut it down.
        if let Err(ClusterError::Fatal(fault)) = jobs_ended {
            return Err(ClusterError::Fatal(fault));
        }
        self.ended().await;
        Ok(())
    }

    /// Asks with a deadline, which the cluster's own timers keep.
    async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        question: impl FnOnce(Reply<Result<T, ClusterError>>) -> DispatcherInput + Send + 'static,
    ) -> Result<T, ClusterError> {
        let (reply, answer) = oneshot::channel();
        let (dispatcher, deadline) = (self.way()?, self.ask_timeout);
        self.arbiter.spawn(async move {
            // The asker may have given up.
            let _ = reply.send(dispatcher.ask(question, deadline).await);
        });
        match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(AskError::NoReply | AskError::Refused(TellError::Closed))) | Err(_) => Err(self.ending()),
            Ok(Err(source)) => Err(ClusterError::Ask { what, source }),
        }
    }

    /// Asks something that takes as long as it takes.
    pub(crate) async fn wait<T>(
        &self,
        question: impl FnOnce(Reply<Result<T, ClusterError>>) -> DispatcherInput,
    ) -> Result<T, ClusterError> {
        let (reply, answer) = Reply::new();
        match self.way()?.tell(question(reply)) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(self.ending())),
            Err(TellError::Closed) => Err(self.ending()),
            Err(refused) => Err(ClusterError::Ask {
                what: "wait for a job",
                source: refused.into(),
            }),
        }
    }

    fn way(&self) -> Result<Mailbox<DispatcherInput>, ClusterError> {
        if let Some(fault) = self.kill.fault() {
            return Err(ClusterError::Fatal(fault));
        }
        let there = self.dispatcher.borrow().clone();
        there.ok_or_else(ClusterError::nobody_leads_here)
    }

    /// Does something on the cluster's own thread; `None` when that has ended.
    pub(crate) async fn there<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.arbiter.spawn(async move {
            // The asker may have given up.
            let _ = reply.send(work.await);
        });
        answer.await.ok()
    }

    /// The same for what must not leave that thread.
    pub(crate) async fn there_with<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.arbiter.spawn_fn(move || {
            actix::spawn(async move {
                // The asker may have given up.
                let _ = reply.send(work().await);
            });
        });
        answer.await.ok()
    }

    /// Waits for the end of the cluster's threads.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Why nobody answers any more.
    fn ending(&self) -> ClusterError {
        self.kill
            .fault()
            .map_or(ClusterError::ShutDown, ClusterError::Fatal)
    }
}

impl fmt::Debug for ClusterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterHandle")
            .field("fault", &self.kill.fault())
            .finish_non_exhaustive()
    }
}

/// A job that was submitted.
#[derive(Clone, Debug)]
pub struct JobHandle {
    id: JobId,
    name: String,
    cluster: ClusterHandle,
    status: watch::Receiver<JobStatus>,
    result: Arc<OnceLock<Arc<JobResult>>>,
}

impl JobHandle {
    /// Its id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that runs it.
    pub fn cluster(&self) -> &ClusterHandle {
        &self.cluster
    }

    /// Its state; the last one also after the cluster has ended.
    ///
    /// # Errors
    /// When the cluster has ended before the job did, or forgotten the job.
    pub async fn status(&self) -> Result<JobStatus, ClusterError> {
        let seen = *self.status.borrow();
        if seen.is_globally_terminal() {
            return Ok(seen);
        }
        let id = self.id;
        self.cluster
            .ask("job status", move |reply| DispatcherInput::Status(id, reply))
            .await
    }

    /// Its state as it changes; needs no runtime. States that follow quickly on one another may be
    /// skipped, the last one never.
    pub fn status_updates(&self) -> watch::Receiver<JobStatus> {
        self.status.clone()
    }

    /// Cancels it. Returns once the job was told; [`Self::result`] says when it has ended.
    ///
    /// # Errors
    /// When it has ended already, or the cluster has.
    pub async fn cancel(&self) -> Result<(), ClusterError> {
        let id = self.id;
        self.cluster
            .ask("cancel", move |reply| DispatcherInput::Cancel(id, reply))
            .await
    }

    /// Between which bounds its vertices run.
    ///
    /// # Errors
    /// When it or the cluster has ended.
    pub async fn requirements(&self) -> Result<Requirements, ClusterError> {
        self.cluster.job_requirements(self.id).await
    }

    /// Lets its vertices run between these bounds from now on: it takes as many slots as there are up to the upper ones, and
    /// goes over to what fits when it has taken a checkpoint. Returns when it was told.
    ///
    /// # Errors
    /// What is wrong with the bounds; when it or the cluster has ended.
    pub async fn declare(&self, bounds: BTreeMap<VertexId, Bounds>) -> Result<(), ClusterError> {
        self.cluster.declare_requirements(self.id, bounds).await
    }

    /// Lets all of its vertices but those whose parallelism the program sets run with so many subtasks, or with fewer while
    /// there are fewer slots; see [`Self::declare`].
    ///
    /// # Errors
    /// As there.
    pub async fn rescale(&self, parallelism: u32) -> Result<(), ClusterError> {
        let graph = self.cluster.job_detail(self.id).await?.graph;
        let wanted = Bounds {
            lower: 1,
            upper: parallelism,
        };
        let wanted = self.requirements().await?.all_at(&graph, wanted);
        self.declare(wanted.iter().collect()).await
    }

    /// What became of its checkpoints and savepoints so far.
    ///
    /// # Errors
    /// When it or the cluster has ended.
    pub async fn checkpoint_statistics(&self) -> Result<CheckpointStatistics, ClusterError> {
        let id = self.id;
        self.cluster
            .ask("checkpoint statistics", move |reply| {
                DispatcherInput::Query(id, JobQuery::Checkpoints(reply))
            })
            .await
    }

    /// What failed in it so far, oldest first; also after its end.
    ///
    /// # Errors
    /// When the cluster has ended.
    pub async fn exceptions(&self) -> Result<Vec<FailureEntry>, ClusterError> {
        let id = self.id;
        self.cluster
            .ask("exceptions", move |reply| {
                DispatcherInput::Query(id, JobQuery::Exceptions(reply))
            })
            .await
    }

    /// Takes a savepoint into a new folder of `dir` and says where it is, as a whole path. Without `dir` it
    /// goes where the job's options say. Returns when it can be restored after any failure.
    ///
    /// # Errors
    /// Why it could not be taken; the job goes on all the same. When the job or the cluster has ended.
    ///
    /// # Cancel safety
    /// The savepoint is taken whether somebody waits for it or not.
    pub async fn savepoint(&self, dir: Option<String>) -> Result<String, ClusterError> {
        self.take_savepoint(dir, (None, None)).await
    }

    /// Stops the job with a savepoint: as [`Self::savepoint`], and no record that it does not hold reaches
    /// a sink. Returns when everything that it holds is committed and the job is FINISHED.
    ///
    /// # Errors
    /// Why the savepoint could not be taken. The job then goes on, if its input was to end before the
    /// savepoint ([`StopMode::Drain`]) from its latest checkpoint. When the job ended otherwise after the
    /// savepoint was complete, the error says where that is.
    ///
    /// # Cancel safety
    /// The job stops whether somebody waits for it or not.
    pub async fn stop(&self, dir: Option<String>, mode: StopMode) -> Result<String, ClusterError> {
        self.take_savepoint(dir, (Some(mode), None)).await
    }

    /// As [`Self::savepoint`], in this format whatever the job's options say.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn savepoint_as(
        &self,
        format: SavepointFormat,
        dir: Option<String>,
    ) -> Result<String, ClusterError> {
        self.take_savepoint(dir, (None, Some(format))).await
    }

    /// As [`Self::stop`], with a savepoint in this format whatever the job's options say.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn stop_as(
        &self,
        format: SavepointFormat,
        dir: Option<String>,
        mode: StopMode,
    ) -> Result<String, ClusterError> {
        self.take_savepoint(dir, (Some(mode), Some(format))).await
    }

    async fn take_savepoint(
        &self,
        dir: Option<String>,
        (stop, format): (Option<StopMode>, Option<SavepointFormat>),
    ) -> Result<String, ClusterError> {
        let id = self.id;
        let call = SavepointCall {
            job: id,
            dir,
            stop,
            format,
            trigger: None,
        };
        self.cluster
            .wait(move |reply| DispatcherInput::Savepoint(id, call, reply))
            .await
    }

    /// Takes a checkpoint like those of the interval, which need not be set, and says which it is. Returns when it is
    /// complete.
    ///
    /// # Errors
    /// Why it could not be taken; the job goes on all the same, unless more checkpoints have failed than it bears. When the
    /// job or the cluster has ended.
    ///
    /// # Cancel safety
    /// The checkpoint is taken whether somebody waits for it or not.
    pub async fn checkpoint(&self, kind: CheckpointKind) -> Result<TakenCheckpoint, ClusterError> {
        self.cluster.job_checkpoint(self.id, kind).await
    }

    /// Its accumulators, merged, as they were last reported.
    ///
    /// # Errors
    /// When the cluster has ended, or forgotten the job.
    pub async fn accumulators(&self) -> Result<AccumulatorValues, ClusterError> {
        let id = self.id;
        self.cluster
            .ask("accumulators", move |reply| {
                DispatcherInput::Query(id, JobQuery::Accumulators(reply))
            })
            .await
    }

    /// Waits for its end. A failed job is a result, not an error. Once known, the result stays known
    /// to this handle and its clones.
    ///
    /// # Errors
    /// When the cluster ended first: by a fault, because tasks could not be stopped, or shut down.
    pub async fn result(&self) -> Result<Arc<JobResult>, ClusterError> {
        if let Some(result) = self.result.get() {
            return Ok(result.clone());
        }
        let id = self.id;
        let result = self
            .cluster
            .wait(move |reply| DispatcherInput::Result(id, reply))
            .await?;
        Ok(self.result.get_or_init(|| result).clone())
    }
}
