//! The process of a jobmanager, and the handle by which its front door speaks to it.
//!
//! It stands for election, says who leads, and while it leads itself has a Dispatcher, a ResourceManager and artifacts for TaskManagers.

use super::artifact::{ArtifactError, Note, read_note};
use super::blobs::MAX_ARTIFACT;
use super::directory::{Directory, DirectoryEvent};
use super::launch::{JobLaunch, LAUNCH_VERSION};
use super::leader::{Leader, LeaderEvent, LeaderSetup, Office};
use super::machine::MachineFacts;
use super::overview::{MachineQuestion, TaskManagers};
use super::placement::ProcessEvent;
use super::runtime::listen;
use super::security::Security;
use crate::config::ClusterConfig;
use crate::dispatcher::{DispatcherCall, DispatcherInput, Durable, JobCode, SubmitJob};
use crate::embedded::{ClusterHandle, DispatcherWay, start_thread};
use crate::error::ClusterError;
use crate::resource_manager::ResourceManagerEvent;
use crate::wire::DirectoryRpc;
use hurtig_core::config::{Configuration, HighAvailability, JobDefaults, options};
use hurtig_core::ids::{JobId, TaskManagerId};
use hurtig_core::time::Clock;
use hurtig_dataflow::graph::JobGraph;
use hurtig_ha::blob::{BlobDir, BlobError};
use hurtig_ha::clock::BootClock;
use hurtig_ha::leader::{Candidate, ElectionEvent, LeaderElection, Leadership, current_leader};
use hurtig_ha::records::{Digest, Failure, LeaderRecord, Life, Records};
use hurtig_ha::settings::HighAvailabilityServices;
use hurtig_kit::{ActorEnv, Mailbox, Reply, Shell};
use hurtig_rpc::{ClusterId, Fences, Registration, Routes, Rpc};
use hurtig_storage::BlobStores;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// How long a store is left alone that did not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// What a jobmanager is configured with.
#[derive(Clone, Debug)]
pub struct JobManagerConfig {
    /// The port at which TaskManagers and JobMasters reach it; 0: any.
    pub port: u16,
    /// Where it keeps artifacts when nothing outlives it; otherwise they are in `high-availability.storageDir`.
    pub storage_dir: PathBuf,
    /// Limits and times.
    pub cluster: ClusterConfig,
    /// Whether jobs outlive it, and how (`high-availability.*`).
    pub settings: Configuration,
    /// Where its REST API is, for other jobmanagers: `http://127.0.0.1:8081`.
    pub rest: Option<String>,
    /// Where savepoints may lie that it is to delete.
    pub stores: BlobStores,
    /// How it speaks with TaskManagers and JobMasters.
    pub security: Security,
}

/// Starts jobmanagers.
#[derive(Clone, Copy, Debug)]
pub struct JobManager;

/// Why a job was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The file is no artifact of this cluster.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// Artifacts cannot be kept.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// There is no such artifact.
    #[error("there is no artifact `{0}`")]
    UnknownArtifact(String),
    /// The program cannot be run.
    #[error("{0}")]
    Plan(String),
    /// The cluster does not take the job.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// A jobmanager of this process. Clones are the same; it ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct JobManagerHandle {
    cluster: ClusterHandle,
    here: Here,
}

/// What a jobmanager's thread says when it is ready.
#[derive(Clone, Debug)]
struct Here {
    resource_manager: watch::Receiver<Option<Mailbox<ResourceManagerEvent>>>,
    durable: watch::Receiver<Option<Durable>>,
    clock: Arc<dyn Clock>,
    deposed: watch::Receiver<bool>,
    artifacts: BlobDir,
    address: String,
    records: Records,
    /// What jobs begin with that this jobmanager takes.
    job_defaults: Arc<BTreeMap<String, String>>,
    /// The right to resign.
    election: Mailbox<ElectionEvent>,
}

impl JobManager {
    /// Starts one. Without others it leads when this returns; else it may wait for its turn.
    ///
    /// # Errors
    /// When its port is taken, or what it is configured with cannot be used.
    pub fn start(config: JobManagerConfig) -> Result<JobManagerHandle, ClusterError> {
        let ask_timeout = config.cluster.ask_timeout;
        let start = move |env: ActorEnv| async move { start_actors(config, &env).await };
        let (cluster, here) = start_thread(ask_timeout, BootClock::new(), start)?;
        Ok(JobManagerHandle { cluster, here })
    }
}

async fn start_actors(config: JobManagerConfig, env: &ActorEnv) -> Result<(DispatcherWay, Here), String> {
    let kind = config.settings.get(&options::HIGH_AVAILABILITY_TYPE);
    let services = HighAvailabilityServices::open(&config.settings, env.clock.clone(), env.blocking.clone());
    let services = services.map_err(|error| error.to_string())?;
    let artifacts = match services.blobs.clone() {
        Some(blobs) => blobs,
        None => BlobDir::open(&config.storage_dir).map_err(|error| error.to_string())?,
    };
    let records = Records::new(services.store.clone(), services.keys.clone());
    let life = life(&records).await?;
    let (id, way) = (Some(ClusterId(life.cluster)), (config.port, &config.security));
    let (rpc, address) = listen("jobmanager", id, env, way).await?;
    let leadership = Leadership::new(env.clock.clone());
    let outlived = kind != HighAvailability::None;
    let directory = Directory {
        records: records.clone(),
        life,
        leadership: leadership.clone(),
        address: address.clone(),
        durable: outlived,
    };
    register_directory(&rpc, directory, env)?;
    let (dispatcher, way) = watch::channel(None);
    let (resource_manager, resources) = watch::channel(None);
    let (deposed, is_deposed) = watch::channel(false);
    let JobDefaults { settings, secrets } = config.settings.job_defaults();
    let (durable, writing) = watch::channel(None);
    let setup = LeaderSetup {
        secrets,
        rpc,
        records: records.clone(),
        life,
        leadership: leadership.clone(),
        blobs: artifacts.clone(),
        stores: config.stores,
        config: ClusterConfig {
            jobs_outlive_the_cluster: outlived,
            ..config.cluster
        },
        office: Office {
            dispatcher,
            resource_manager,
            durable,
            deposed,
        },
    };
    let (leader, _) = Shell::start(Leader::new(setup), env.clone());
    let record = LeaderRecord {
        candidate: Uuid::new_v4().to_string(),
        address: address.clone(),
        rest: config.rest,
    };
    let election = stand(&services, life, record, (leadership, leader), env);
    if kind != HighAvailability::Etcd {
        // There is nobody else: it leads soon, or says why not.
        let mut way = way.clone();
        tokio::select! {
            _ = way.wait_for(Option::is_some) => {}
            fault = env.kill.killed() => return Err(fault.to_string()),
        }
    }
    let here = Here {
        resource_manager: resources,
        durable: writing,
        clock: env.clock.clone(),
        deposed: is_deposed,
        artifacts,
        address,
        records,
        job_defaults: Arc::new(settings),
        election,
    };
    Ok((way, here))
}

/// The cluster's life in the store, however long that takes to answer.
async fn life(records: &Records) -> Result<Life, String> {
    loop {
        match records.life().await {
            Err(failure) if failure.may_retry() || matches!(failure, Failure::Unknown(_)) => {
                tracing::warn!(%failure, "the store does not answer; it is asked again");
                tokio::time::sleep(PAUSE).await;
            }
            life => return life.map_err(|failure| failure.to_string()),
        }
    }
}

fn register_directory(rpc: &Rpc, directory: Directory, env: &ActorEnv) -> Result<(), String> {
    let (mailbox, probe) = Shell::start(directory, env.clone());
    let registration = Registration {
        name: "directory".to_owned(),
        mailbox,
        routes: Routes::<DirectoryRpc, _>::new().on(DirectoryEvent::WhoLeads),
        fences: Fences::open(),
        probe: Some(probe),
    };
    rpc.register(registration).map_err(|error| error.to_string())?;
    rpc.open_to_jobs("directory");
    Ok(())
}

/// Stands for election.
fn stand(
    services: &HighAvailabilityServices,
    life: Life,
    record: LeaderRecord,
    (leadership, leader): (Leadership, Mailbox<LeaderEvent>),
    env: &ActorEnv,
) -> Mailbox<ElectionEvent> {
    let candidate = Candidate {
        record,
        incarnation: life.incarnation,
        timing: services.timing,
    };
    let kill = env.kill.clone();
    let tell = move |signal| {
        if let Err(error) = leader.tell(LeaderEvent::Signal(signal)) {
            // Its mailbox has room for more than an election ever says: it has ended, and the process with it.
            tracing::debug!(%error, dead = kill.is_dead(), "nobody hears what became of the election");
        }
    };
    let shared = (services.store.clone(), services.keys.clone());
    let election = LeaderElection::new(candidate, shared, leadership, tell);
    Shell::start(election, env.clone()).0
}

impl JobManagerHandle {
    /// Where TaskManagers reach it.
    pub fn address(&self) -> &str {
        &self.here.address
    }

    /// Waits for its end, and says whether another one leads now, or may: then it should be started again.
    pub async fn ended(&self) -> bool {
        self.cluster.ended().await;
        *self.here.deposed.borrow()
    }

    pub(super) fn durable_here(&self) -> &watch::Receiver<Option<Durable>> {
        &self.here.durable
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        self.here.clock.clone()
    }

    pub(super) fn wall_ms(&self) -> i64 {
        self.here.clock.wall_ms()
    }

    /// Whether it leads, and knows what jobs there are.
    pub fn leads(&self) -> bool {
        self.here.resource_manager.borrow().is_some()
    }

    /// The REST address of whoever leads; `None` when nobody does, or it has none.
    pub async fn leading_rest(&self) -> Option<String> {
        let records = self.here.records.clone();
        let asked = async move { current_leader(&**records.store(), records.keys()).await };
        match self.cluster.there(asked).await? {
            Ok(leader) => leader?.value.rest,
            Err(error) => {
                tracing::warn!(%error, "it cannot be found out who leads");
                None
            }
        }
    }

    /// Leaves: another one may lead at once.
    pub fn resign(&self) {
        // An election that has ended leads nobody.
        let _ = self.here.election.tell(ElectionEvent::Resign);
    }

    /// What clients ask of any cluster.
    pub fn cluster(&self) -> &ClusterHandle {
        &self.cluster
    }

    /// Keeps the bytes of an artifact, after a look at what it is. It is not run for that. Blocks. What no artifact is made of soon is deleted.
    ///
    /// # Errors
    /// Why it is no artifact, or cannot be kept.
    pub fn store_artifact(&self, source: &mut dyn Read) -> Result<(Digest, Note), SubmitError> {
        let check = |file: &Path| Ok::<_, SubmitError>(read_note(file)?.check(LAUNCH_VERSION)?);
        self.here.artifacts.store_checked(source, MAX_ARTIFACT, check)
    }

    /// Plans a job, on a TaskManager, and runs it. Returns when it is accepted.
    ///
    /// # Errors
    /// Why the program cannot be run, or the cluster does not take its job.
    pub async fn run(&self, launch: JobLaunch) -> Result<JobId, SubmitError> {
        self.run_as(launch, None).await
    }

    /// The same under this id, or one that nobody else has. A job that has not ended and was submitted with the same is the same job: it is
    /// not planned again, which is of no matter to it.
    ///
    /// # Errors
    /// As [`Self::run`]. When another job has the id, or one that has ended, whatever else is wrong.
    pub async fn run_as(&self, launch: JobLaunch, job: Option<JobId>) -> Result<JobId, SubmitError> {
        if let Some(job) = job
            && let Some(known) = self.launched(job).await?
        {
            return match known.is_as(&launch) {
                true => Ok(job),
                false => Err(ClusterError::Conflict(job).into()),
            };
        }
        let launch = self.with_defaults(launch);
        let mut graph = self.planned(launch.clone()).await?;
        let id = job.unwrap_or(graph.id);
        graph.id = id;
        let launch = JobLaunch {
            graph: Some(Box::new(graph.clone())),
            ..launch
        };
        let job = Box::new(SubmitJob {
            graph: Arc::new(graph),
            code: JobCode::Artifact(Box::new(launch)),
        });
        self.cluster.submit_job(job).await?;
        Ok(id)
    }

    /// What a job was launched with that has not ended.
    async fn launched(&self, job: JobId) -> Result<Option<Arc<JobLaunch>>, ClusterError> {
        let question = move |reply| DispatcherInput::Processes(DispatcherCall::Launched(job, reply));
        self.cluster.wait(question).await
    }

    /// Who is there.
    ///
    /// # Errors
    /// When the jobmanager has ended.
    pub async fn task_managers(&self) -> Result<TaskManagers, ClusterError> {
        let (reply, answer) = Reply::new();
        self.tell(ProcessEvent::TaskManagers(reply))?;
        answer.await.map_err(|_| ClusterError::ShutDown)
    }

    /// What a TaskManager is, and where.
    ///
    /// # Errors
    /// When it is not known, or does not answer.
    pub async fn machine(&self, task_manager: TaskManagerId) -> Result<MachineFacts, ClusterError> {
        let (reply, answer) = Reply::new();
        self.tell(ProcessEvent::Ask(task_manager, MachineQuestion::Facts(reply)))?;
        answer.await.map_err(|_| ClusterError::ShutDown)?
    }

    /// A part of a log of a TaskManager, from an offset on; `None`: there is no such log.
    ///
    /// # Errors
    /// When the TaskManager is not known, or does not answer.
    pub async fn log(
        &self,
        task_manager: TaskManagerId,
        name: &str,
        offset: u64,
    ) -> Result<Option<Vec<u8>>, ClusterError> {
        let (reply, answer) = Reply::new();
        let question = MachineQuestion::Log(name.to_owned(), offset, reply);
        self.tell(ProcessEvent::Ask(task_manager, question))?;
        answer.await.map_err(|_| ClusterError::ShutDown)?
    }

    /// The graph that a program builds, without running it.
    ///
    /// # Errors
    /// What is wrong with the program.
    pub async fn plan(&self, launch: JobLaunch) -> Result<JobGraph, SubmitError> {
        self.planned(self.with_defaults(launch)).await
    }

    /// The same, with what the cluster's configuration says of jobs.
    fn with_defaults(&self, launch: JobLaunch) -> JobLaunch {
        let defaults = (*self.here.job_defaults).clone();
        JobLaunch { defaults, ..launch }
    }

    async fn planned(&self, launch: JobLaunch) -> Result<JobGraph, SubmitError> {
        let (reply, planned) = Reply::new();
        self.tell(ProcessEvent::Plan(Box::new(launch), reply))?;
        let graph = planned.await.map_err(|_| ClusterError::ShutDown)?;
        graph.map_err(SubmitError::Plan)
    }

    fn tell(&self, event: ProcessEvent) -> Result<(), ClusterError> {
        let there = self.here.resource_manager.borrow().clone();
        let told = there
            .ok_or_else(ClusterError::nobody_leads_here)?
            .tell(ResourceManagerEvent::Processes(Box::new(event)));
        told.map_err(|refused| ClusterError::Ask {
            what: "the resource manager",
            source: refused.into(),
        })
    }
}
