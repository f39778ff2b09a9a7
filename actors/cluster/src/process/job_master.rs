//! The process of a JobMaster: it claims its job, runs the actor, and ends when everything it had to say has arrived.

use super::runtime::{DONE, FAILED, ORPHANED, REFUSED, listen, run};
use crate::config::{ClusterConfig, JobOptions, RestoreFrom, RestoreTarget};
use crate::dispatcher::DispatcherInput;
use crate::job_master::{JobMaster, JobMasterCall, JobMasterEvent, JobMasterLinks, JobSettings, RemoteLinks};
use crate::resource_manager::ResourceManagerEvent;
use crate::wire::{Claim, ClaimJob, Courier, DispatcherRpc, JobMasterRpc, ResourceManagerRpc};
use hurtig_core::ids::CheckpointId;
use hurtig_dataflow::graph::{JobGraph, JobStatus};
use hurtig_kit::{ActorEnv, Shell};
use hurtig_rpc::{ClusterId, Fences, Peer, Registration, Routes, Stamp};
use hurtig_storage::SnapshotFolder;
use hurtig_task::interface::TaskFactory;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

/// How long a claim may take.
const CLAIMING: Duration = Duration::from_secs(10);
/// How long the last messages may take to arrive.
const FAREWELL: Duration = Duration::from_secs(20);

/// The code of the job of this process.
#[derive(Clone)]
pub struct JobCodeHere {
    /// The graph that was submitted.
    pub graph: JobGraph,
    /// The program.
    pub factory: Arc<dyn TaskFactory>,
    /// How it is run.
    pub options: JobOptions,
    /// What the cluster is configured with.
    pub config: ClusterConfig,
}

impl fmt::Debug for JobCodeHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobCodeHere")
            .field("job", &self.graph.id)
            .finish_non_exhaustive()
    }
}

/// Runs the JobMaster of a job. Returns the code with which the process ends.
pub fn run_job_master(cluster: Uuid, leader: String, epoch: NonZeroU64, code: JobCodeHere) -> u8 {
    run(async move |env| {
        let begun = begin(ClusterId(cluster), &leader, epoch, code, &env).await;
        match begun {
            Ok(Begun::Running(running)) => running.until_the_end().await,
            Ok(Begun::Refused(why)) => {
                tracing::warn!(why, "the job is not this process's");
                REFUSED
            }
            Err(why) => {
                tracing::error!(why, "the JobMaster cannot begin");
                FAILED
            }
        }
    })
}

enum Begun {
    Running(Running),
    Refused(String),
}

struct Running {
    ended: oneshot::Receiver<()>,
    lost: mpsc::Receiver<String>,
    waiting: [watch::Receiver<usize>; 2],
}

async fn begin(
    cluster: ClusterId,
    leader: &str,
    epoch: NonZeroU64,
    code: JobCodeHere,
    env: &ActorEnv,
) -> Result<Begun, String> {
    let (rpc, address) = listen("job master", Some(cluster), env, 0).await?;
    let job = code.graph.id;
    let stamp = Stamp::job(job, epoch);
    let peer = rpc.connect(leader);
    let dispatcher = peer.gateway::<DispatcherRpc>("dispatcher").stamped(stamp);
    let process = rpc.identity().incarnation;
    let claim = ClaimJob {
        job,
        epoch,
        process,
        address,
    };
    let claimed = dispatcher.ask(claim, CLAIMING).await;
    let (restore, first, age) = match claimed.map_err(|error| format!("claiming the job: {error}"))? {
        Claim::Granted {
            restore,
            first_checkpoint,
            age,
        } => (restore, first_checkpoint, age),
        Claim::Refused(why) => return Ok(Begun::Refused(why)),
    };
    let remote = RemoteLinks {
        rpc,
        stamp,
        dispatcher,
        secret: Uuid::new_v4(),
    };
    let mut settings = settings(&code, restore, first)?;
    settings.age = age;
    start(&peer, remote, settings, code, env).map(Begun::Running)
}

/// A JobMaster that follows another one begins with what that one has had recorded.
fn settings(code: &JobCodeHere, restore: Option<String>, first: CheckpointId) -> Result<JobSettings, String> {
    let mut settings = JobSettings::new(code.options.clone(), &code.config);
    settings.first_checkpoint = first;
    if let Some(path) = restore {
        let folder = SnapshotFolder::of_path(&path).map_err(|error| error.to_string())?;
        settings.restore = Some(RestoreFrom {
            checkpoint: RestoreTarget::Folder(folder),
            allow_non_restored_state: settings.restore.is_some_and(|from| from.allow_non_restored_state),
            claim: true,
        });
    }
    Ok(settings)
}

fn start(
    leader: &Peer,
    remote: RemoteLinks,
    settings: JobSettings,
    code: JobCodeHere,
    env: &ActorEnv,
) -> Result<Running, String> {
    let (rpc, stamp) = (remote.rpc.clone(), remote.stamp);
    let (lost_sender, lost) = mpsc::channel(2);
    let on_lost = || {
        let lost = lost_sender.clone();
        Box::new(move |why| {
            // The first loss is enough.
            let _ = lost.try_send(why);
        })
    };
    let to_dispatcher = Courier::<DispatcherInput>::start(remote.dispatcher.clone(), env, on_lost());
    let resources = leader
        .gateway::<ResourceManagerRpc>("resource-manager")
        .stamped(stamp);
    let to_resources = Courier::<ResourceManagerEvent>::start(resources, env, on_lost());
    let links = JobMasterLinks {
        dispatcher: to_dispatcher.mailbox,
        resource_manager: to_resources.mailbox,
        status: watch::Sender::new(JobStatus::Initializing),
        remote: Some(remote),
    };
    let (alive, ended) = oneshot::channel();
    let master = JobMaster::new(Arc::new(code.graph), settings, code.factory, links).watched(alive);
    let (mailbox, probe) = Shell::start(master, env.clone());
    let fences = Fences::open();
    fences.hold(stamp).map_err(|error| error.to_string())?;
    let registration = Registration {
        name: "job-master".to_owned(),
        routes: routes(),
        mailbox,
        fences,
        probe: Some(probe),
    };
    rpc.register(registration).map_err(|error| error.to_string())?;
    Ok(Running {
        ended,
        lost,
        waiting: [to_dispatcher.waiting, to_resources.waiting],
    })
}

fn routes() -> Routes<JobMasterRpc, JobMasterEvent> {
    let remote = JobMasterEvent::Remote;
    Routes::new()
        .on(move |call| remote(JobMasterCall::Opened(call)))
        .on(move |call| remote(JobMasterCall::Delivered(call)))
        .on(move |call| remote(JobMasterCall::Accumulators(call)))
        .on(move |call| remote(JobMasterCall::Checkpoints(call)))
        .on(move |call| remote(JobMasterCall::Exceptions(call)))
        .on(move |call| remote(JobMasterCall::Vertices(call)))
        .on(move |call| remote(JobMasterCall::Savepoint(call)))
        .on(move |call| remote(JobMasterCall::Checkpoint(call)))
}

impl Running {
    async fn until_the_end(mut self) -> u8 {
        tokio::select! {
            _ = &mut self.ended => {}
            why = self.lost.recv() => {
                tracing::error!(why, "the leader is gone, or has given the job to another process");
                return ORPHANED;
            }
        }
        let arrived = async {
            for waiting in &mut self.waiting {
                // A courier that has ended has nothing to deliver any more.
                let _ = waiting.wait_for(|waiting| *waiting == 0).await;
            }
        };
        match tokio::time::timeout(FAREWELL, arrived).await {
            Ok(()) => DONE,
            Err(_) => ORPHANED,
        }
    }
}
