//! The process of a JobMaster: it claims its job, runs the actor, and ends when everything it had to say has arrived.

use super::directory::{dead, find_leader, superseded};
use super::machine::measure;
use super::runtime::{DONE, FAILED, ORPHANED, REFUSED, listen, run};
use super::security::{ExchangeAuthority, Security};
use crate::config::{ClusterConfig, JobOptions, RestoreFrom, RestoreTarget};
use crate::dispatcher::DispatcherInput;
use crate::job_master::{JobMaster, JobMasterCall, JobMasterEvent, JobMasterLinks, JobSettings, RemoteLinks};
use crate::resource_manager::ResourceManagerEvent;
use crate::wire::{
    BeginEnd, Claim, ClaimJob, Courier, DispatcherRpc, JobMasterRpc, ResourceManagerRpc, StopsWith,
};
use hurtig_core::ids::{CheckpointId, TaskManagerId};
use hurtig_dataflow::chain::StopMode;
use hurtig_dataflow::graph::{JobGraph, JobStatus};
use hurtig_kit::{ActorEnv, Mailbox, Reply, Shell};
use hurtig_rpc::{
    ClusterId, FenceError, Fences, Gateway, Peer, Registration, Routes, Rpc, RpcError, Stamp, TlsGiven,
};
use hurtig_storage::SnapshotFolder;
use hurtig_task::interface::TaskFactory;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

/// How long a claim may take before the leader is looked for again.
const CLAIMING: Duration = Duration::from_secs(10);
/// How long nobody may lead.
const LEADERLESS: Duration = Duration::from_secs(15 * 60);
/// How long a leader is left alone that does not answer, at first and at last.
const TURNS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// How long the last messages may take to arrive at a leader that nobody follows.
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

/// Who a JobMaster obeys.
#[derive(Clone, Debug)]
pub struct Obeys {
    /// The cluster.
    pub cluster: Uuid,
    /// Where the leader listens.
    pub leader: String,
    /// Where jobmanagers listen, one of which follows the leader when that is gone; none: nobody does.
    pub jobmanagers: Vec<String>,
    /// Its certificate; none: it speaks in the clear.
    pub tls: Option<Box<TlsGiven>>,
}

/// Runs the JobMaster of a job. Returns the code with which the process ends.
pub fn run_job_master(obeys: Obeys, epoch: NonZeroU64, code: JobCodeHere) -> u8 {
    run(async move |env| match lead_job(obeys, epoch, code, &env).await {
        Ok(code) => code,
        Err(why) => {
            tracing::error!(why, "the JobMaster cannot begin");
            FAILED
        }
    })
}

/// Who sees to it that a JobMaster has a leader.
struct Following {
    rpc: Rpc,
    jobmanagers: Vec<String>,
    claim: ClaimJob,
    master: Mailbox<JobMasterEvent>,
    dispatcher: watch::Sender<Gateway<DispatcherRpc>>,
    resources: watch::Sender<Gateway<ResourceManagerRpc>>,
}

struct Running {
    ended: oneshot::Receiver<()>,
    lost: mpsc::Receiver<String>,
    waiting: [watch::Receiver<usize>; 2],
    /// How long the last messages may take to arrive.
    farewell: Duration,
}

async fn lead_job(obeys: Obeys, epoch: NonZeroU64, code: JobCodeHere, env: &ActorEnv) -> Result<u8, String> {
    let security = Security::of_job(obeys.tls.map(|tls| *tls))?;
    let cluster = Some(ClusterId(obeys.cluster));
    let (rpc, address) = listen("job master", cluster, env, (0, &security)).await?;
    let job = code.graph.id;
    let stamp = Stamp::job(job, epoch);
    let process = rpc.identity().incarnation;
    let claim = ClaimJob {
        job,
        epoch,
        process,
        address,
        workers: None,
    };
    let mut peer = rpc.connect(&*obeys.leader);
    let claimed = loop {
        match claim_at(&peer, stamp, claim.clone()).await {
            Err(why) if obeys.jobmanagers.is_empty() => return Err(format!("claiming the job: {why}")),
            Err(why) => {
                tracing::warn!(why, "the leader does not give the job; it is looked for again");
                tokio::time::sleep(TURNS[1]).await;
                (peer, ..) = next_leader(&rpc, &obeys.jobmanagers).await?;
            }
            Ok(claimed) => break claimed,
        }
    };
    let (begins, age, stopped, requirements, ending) = match claimed {
        Claim::Granted {
            restore,
            first_checkpoint,
            age,
            stopped,
            requirements,
            ending,
        } => ((restore, first_checkpoint), age, stopped, requirements, ending),
        Claim::Refused(why) => return Ok(refused(&why)),
    };
    let (dispatcher, dispatcher_way) = watch::channel(peer.gateway("dispatcher").stamped(stamp));
    let (resources, resources_way) = watch::channel(peer.gateway("resource-manager").stamped(stamp));
    let remote = RemoteLinks {
        rpc: rpc.clone(),
        stamp,
        dispatcher: dispatcher_way,
        secret: Uuid::new_v4(),
        stopped,
        exchange: ExchangeAuthority::of(job, &security)?,
    };
    let mut settings = settings(&code, begins, remote.stopped.as_ref())?;
    (settings.age, settings.requirements) = (age, requirements);
    let (mut running, master) = start((remote, resources_way), (settings, ending), code, env)?;
    if !obeys.jobmanagers.is_empty() {
        running.farewell = LEADERLESS;
    }
    let following = Following {
        rpc,
        jobmanagers: obeys.jobmanagers,
        claim,
        master,
        dispatcher,
        resources,
    };
    let at = (peer, obeys.leader, None);
    tokio::select! {
        code = running.until_the_end() => Ok(code),
        code = following.forever(at) => code,
    }
}

fn refused(why: &str) -> u8 {
    tracing::warn!(why, "the job is not this process's");
    REFUSED
}

async fn claim_at(peer: &Peer, stamp: Stamp, claim: ClaimJob) -> Result<Claim, String> {
    let dispatcher = peer.gateway::<DispatcherRpc>("dispatcher").stamped(stamp);
    tokio::select! {
        claimed = dispatcher.ask(claim, CLAIMING) => match claimed {
            Err(RpcError::Fence(FenceError::Fenced { newer, .. })) => {
                Ok(Claim::Refused(format!("the job is in epoch {}", newer.number)))
            }
            claimed => claimed.map_err(|error| error.to_string()),
        },
        why = dead(peer) => Err(why),
    }
}

/// A leader: the link to it, where it is, and its term.
type Led = (Peer, String, Option<(u64, NonZeroU64)>);

async fn next_leader(rpc: &Rpc, jobmanagers: &[String]) -> Result<Led, String> {
    let found = tokio::time::timeout(LEADERLESS, find_leader(rpc, jobmanagers)).await;
    let leads = found.map_err(|_| format!("nobody has led for {LEADERLESS:?}"))?;
    let term = (leads.incarnation, leads.revision);
    Ok((rpc.connect(&*leads.address), leads.address, Some(term)))
}

impl Following {
    /// Goes on under each leader that follows; tasks do not notice. Returns the code with which the process ends.
    async fn forever(self, mut leader: Led) -> Result<u8, String> {
        loop {
            let why = self.until_it_is_gone(&leader).await;
            if self.jobmanagers.is_empty() {
                tracing::error!(why, "the leader is gone, and no other follows it");
                return Ok(ORPHANED);
            }
            tracing::warn!(why, "the leader is gone; another one is looked for");
            leader = match self.claim_again().await? {
                Ok(leader) => leader,
                Err(code) => return Ok(code),
            };
            self.turn_to(&leader.0);
        }
    }

    async fn until_it_is_gone(&self, (peer, address, term): &Led) -> String {
        tokio::select! {
            why = dead(peer) => why,
            () = superseded(&self.rpc, &self.jobmanagers, address, *term) => {
                peer.close("another jobmanager leads");
                "another jobmanager leads".to_owned()
            }
        }
    }

    fn turn_to(&self, leader: &Peer) {
        tracing::info!("goes on under another leader");
        let stamp = Stamp::job(self.claim.job, self.claim.epoch);
        self.dispatcher
            .send_replace(leader.gateway("dispatcher").stamped(stamp));
        self.resources
            .send_replace(leader.gateway("resource-manager").stamped(stamp));
    }

    /// The leader that has taken the claim, or the code with which the process ends.
    async fn claim_again(&self) -> Result<Result<Led, u8>, String> {
        let stamp = Stamp::job(self.claim.job, self.claim.epoch);
        let [mut turn, longest] = TURNS;
        loop {
            tokio::time::sleep(turn).await;
            turn = (turn * 2).min(longest);
            let leader = next_leader(&self.rpc, &self.jobmanagers).await?;
            let claim = ClaimJob {
                workers: self.workers().await,
                ..self.claim.clone()
            };
            match claim_at(&leader.0, stamp, claim).await {
                Ok(Claim::Granted { .. }) => return Ok(Ok(leader)),
                Ok(Claim::Refused(why)) => return Ok(Err(refused(&why))),
                Err(why) => tracing::warn!(why, "the leader does not give the job; it is looked for again"),
            }
        }
    }

    async fn workers(&self) -> Option<Vec<TaskManagerId>> {
        let (reply, workers) = Reply::new();
        let asked = JobMasterEvent::Remote(JobMasterCall::Workers(reply));
        // One that has ended has none.
        self.master.tell(asked).ok()?;
        workers.await.ok()
    }
}

/// A JobMaster that follows another one begins with what that one has had recorded.
fn settings(
    code: &JobCodeHere,
    (restore, first): (Option<String>, CheckpointId),
    stopped: Option<&StopsWith>,
) -> Result<JobSettings, String> {
    let mut settings = JobSettings::new(code.options.clone(), &code.config);
    settings.first_checkpoint = first;
    settings.stopped = stopped.map(|stopped| match stopped.drain {
        true => StopMode::Drain,
        false => StopMode::Suspend,
    });
    if let Some(path) = restore {
        let folder = SnapshotFolder::of_path(&path).map_err(|error| error.to_string())?;
        settings.restore = Some(RestoreFrom {
            checkpoint: RestoreTarget::Folder(folder),
            allow_non_restored_state: settings.restore.is_some_and(|from| from.allow_non_restored_state),
            // A savepoint belongs to who asked for it.
            claim: stopped.is_none(),
        });
    }
    Ok(settings)
}

fn start(
    (remote, resources): (RemoteLinks, watch::Receiver<Gateway<ResourceManagerRpc>>),
    (settings, ending): (JobSettings, Option<BeginEnd>),
    code: JobCodeHere,
    env: &ActorEnv,
) -> Result<(Running, Mailbox<JobMasterEvent>), String> {
    let (rpc, stamp) = (remote.rpc.clone(), remote.stamp);
    let (lost_sender, lost) = mpsc::channel(2);
    let on_lost = || {
        let lost = lost_sender.clone();
        Box::new(move |why| {
            // The first loss is enough.
            let _ = lost.try_send(why);
        })
    };
    let to_dispatcher = Courier::<DispatcherInput>::follow(remote.dispatcher.clone(), env, on_lost());
    let to_resources = Courier::<ResourceManagerEvent>::follow(resources, env, on_lost());
    let links = JobMasterLinks {
        dispatcher: to_dispatcher.mailbox,
        resource_manager: to_resources.mailbox,
        status: watch::Sender::new(JobStatus::Initializing),
        remote: Some(remote),
    };
    let (alive, ended) = oneshot::channel();
    if let Some(group) = code.factory.job_metrics() {
        measure(&group, "job-master");
    }
    let master = JobMaster::new(Arc::new(code.graph), settings, code.factory, links);
    let master = master.ending(ending).watched(alive);
    let (mailbox, probe) = Shell::start(master, env.clone());
    let fences = Fences::open();
    fences.hold(stamp).map_err(|error| error.to_string())?;
    let registration = Registration {
        name: "job-master".to_owned(),
        routes: routes(),
        mailbox: mailbox.clone(),
        fences,
        probe: Some(probe),
    };
    rpc.register(registration).map_err(|error| error.to_string())?;
    let running = Running {
        ended,
        lost,
        waiting: [to_dispatcher.waiting, to_resources.waiting],
        farewell: FAREWELL,
    };
    Ok((running, mailbox))
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
        .on(move |call| remote(JobMasterCall::Vertex(call)))
        .on(move |call| remote(JobMasterCall::Metrics(call)))
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
        match tokio::time::timeout(self.farewell, arrived).await {
            Ok(()) => DONE,
            Err(_) => ORPHANED,
        }
    }
}
