//! The process of a jobmanager: Dispatcher, ResourceManager and artifacts, and the handle by which its front door speaks to them.

use super::artifact::{ArtifactError, Note, read_note};
use super::blobs::{BlobEvent, Blobs, MAX_ARTIFACT};
use super::launch::{JobLaunch, LAUNCH_VERSION};
use super::placement::{Placement, ProcessEvent, TaskManagers};
use super::runtime::listen;
use crate::config::ClusterConfig;
use crate::dispatcher::{
    Dispatcher, DispatcherCall, DispatcherInput, DispatcherSetup, JobCode, MasterProcesses, SubmitJob,
};
use crate::embedded::{ClusterHandle, start_thread};
use crate::error::ClusterError;
use crate::programs::Programs;
use crate::resource_manager::{ResourceManager, ResourceManagerEvent};
use crate::wire::{BlobRpc, DispatcherRpc, ResourceManagerRpc};
use hurtig_core::ids::{JobId, random_number};
use hurtig_core::time::SystemClock;
use hurtig_ha::blob::{BlobDir, BlobError};
use hurtig_ha::records::Digest;
use hurtig_kit::{ActorEnv, Mailbox, Reply, Shell};
use hurtig_rpc::{ClusterId, Fences, Registration, Routes, Rpc, Stamp};
use std::io::Read;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

/// What a jobmanager is configured with.
#[derive(Clone, Debug, PartialEq)]
pub struct JobManagerConfig {
    /// The port at which TaskManagers and JobMasters reach it; 0: any.
    pub port: u16,
    /// Where it keeps artifacts.
    pub storage_dir: PathBuf,
    /// Limits and times.
    pub cluster: ClusterConfig,
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
    resource_manager: Mailbox<ResourceManagerEvent>,
    artifacts: BlobDir,
    address: String,
}

impl JobManager {
    /// Starts one.
    ///
    /// # Errors
    /// When its port is taken, or its directory cannot be used.
    pub fn start(config: JobManagerConfig) -> Result<JobManagerHandle, ClusterError> {
        let artifacts =
            BlobDir::open(&config.storage_dir).map_err(|error| ClusterError::Start(error.to_string()))?;
        let (dir, ask_timeout) = (artifacts.clone(), config.cluster.ask_timeout);
        let start = move |env: ActorEnv| async move { start_actors(config, dir, &env).await };
        let (cluster, (resource_manager, address)) = start_thread(ask_timeout, SystemClock::new(), start)?;
        Ok(JobManagerHandle {
            cluster,
            resource_manager,
            artifacts,
            address,
        })
    }
}

type Started = (Mailbox<DispatcherInput>, (Mailbox<ResourceManagerEvent>, String));

async fn start_actors(
    config: JobManagerConfig,
    artifacts: BlobDir,
    env: &ActorEnv,
) -> Result<Started, String> {
    let cluster = ClusterId(Uuid::new_v4());
    // Without high availability the term is this process.
    let stamp = Stamp::cluster(cluster, random_number() | 1, NonZeroU64::MIN);
    let (rpc, address) = listen("jobmanager", Some(cluster), env, config.port).await?;
    let fences = Fences::open();
    fences.hold(stamp).map_err(|error| error.to_string())?;
    let placement = Placement::new(rpc.clone(), stamp);
    // They know each other by their mailboxes, so one of them is told later.
    let (resource_manager, probe) = Shell::start(
        ResourceManager::of_processes(placement, config.cluster.load_balance),
        env.clone(),
    );
    register_resource_manager(&rpc, &resource_manager, (probe, fences.clone()))?;
    let setup = DispatcherSetup {
        config: config.cluster,
        resource_manager: resource_manager.clone(),
        programs: Programs::default(),
        processes: Some(MasterProcesses::new(rpc.clone(), fences.clone())),
    };
    let (dispatcher, probe) = Shell::start(Dispatcher::new(setup), env.clone());
    let reporting = ResourceManagerEvent::Processes(Box::new(ProcessEvent::ReportTo(dispatcher.clone())));
    resource_manager
        .tell(reporting)
        .map_err(|error| error.to_string())?;
    let call = DispatcherInput::Processes;
    let registration = Registration {
        name: "dispatcher".to_owned(),
        mailbox: dispatcher.clone(),
        routes: Routes::<DispatcherRpc, _>::new()
            .on(move |claim| call(DispatcherCall::Claim(claim)))
            .on(move |record| call(DispatcherCall::Record(record)))
            .on(move |delivery| call(DispatcherCall::Delivered(delivery))),
        fences: fences.clone(),
        probe: Some(probe),
    };
    rpc.register(registration).map_err(|error| error.to_string())?;
    let (blobs, probe) = Shell::start(Blobs(artifacts), env.clone());
    let registration = Registration {
        name: "blobs".to_owned(),
        mailbox: blobs,
        routes: Routes::<BlobRpc, _>::new().on(BlobEvent::Read),
        fences,
        probe: Some(probe),
    };
    rpc.register(registration).map_err(|error| error.to_string())?;
    Ok((dispatcher, (resource_manager, address)))
}

fn register_resource_manager(
    rpc: &Rpc,
    mailbox: &Mailbox<ResourceManagerEvent>,
    (probe, fences): (Arc<hurtig_kit::Probe>, Fences),
) -> Result<(), String> {
    let event = |event| ResourceManagerEvent::Processes(Box::new(event));
    let registration = Registration {
        name: "resource-manager".to_owned(),
        mailbox: mailbox.clone(),
        routes: Routes::<ResourceManagerRpc, _>::new()
            .on(move |call| event(ProcessEvent::WhoLeads(call)))
            .on(move |call| event(ProcessEvent::Registered(call)))
            .on(move |call| event(ProcessEvent::Ended(call)))
            .on(move |call| event(ProcessEvent::Delivered(call))),
        fences,
        probe: Some(probe),
    };
    rpc.register(registration).map_err(|error| error.to_string())
}

impl JobManagerHandle {
    /// Where TaskManagers reach it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What clients ask of any cluster.
    pub fn cluster(&self) -> &ClusterHandle {
        &self.cluster
    }

    /// Keeps an artifact, after a look at what it is. It is not run for that. Blocks.
    ///
    /// # Errors
    /// Why it is no artifact, or cannot be kept.
    pub fn store_artifact(&self, source: &mut dyn Read) -> Result<(Digest, Note), SubmitError> {
        let digest = self.artifacts.store(source, MAX_ARTIFACT)?;
        let note = self.note(digest)?;
        Ok((digest, note))
    }

    /// What an artifact says of itself. Blocks.
    ///
    /// # Errors
    /// Why it is none.
    pub fn note(&self, digest: Digest) -> Result<Note, SubmitError> {
        let file = self.artifacts.file(digest);
        let file = file.ok_or_else(|| SubmitError::UnknownArtifact(digest.to_string()))?;
        Ok(read_note(&file)?.check(LAUNCH_VERSION)?)
    }

    /// Plans a job, on a TaskManager, and runs it. Returns when it is accepted.
    ///
    /// # Errors
    /// Why the program cannot be run, or the cluster does not take its job.
    pub async fn run(&self, launch: JobLaunch) -> Result<JobId, SubmitError> {
        let (reply, planned) = Reply::new();
        self.tell(ProcessEvent::Plan(Box::new(launch.clone()), reply))?;
        let graph = planned.await.map_err(|_| ClusterError::ShutDown)?;
        let graph = graph.map_err(SubmitError::Plan)?;
        let id = graph.id;
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

    /// Who is there.
    ///
    /// # Errors
    /// When the jobmanager has ended.
    pub async fn task_managers(&self) -> Result<TaskManagers, ClusterError> {
        let (reply, answer) = Reply::new();
        self.tell(ProcessEvent::TaskManagers(reply))?;
        answer.await.map_err(|_| ClusterError::ShutDown)
    }

    fn tell(&self, event: ProcessEvent) -> Result<(), ClusterError> {
        let told = self
            .resource_manager
            .tell(ResourceManagerEvent::Processes(Box::new(event)));
        told.map_err(|refused| ClusterError::Ask {
            what: "the resource manager",
            source: refused.into(),
        })
    }
}
