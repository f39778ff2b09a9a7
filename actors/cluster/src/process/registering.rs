//! The process of a TaskManager from its first to its last moment: it looks for a leader, registers, and looks for the next one.

use super::cgroup::Groups;
use super::confine::ProcessLimits;
use super::directory::{dead, find_leader, superseded};
use super::machine::{Logs, register_machine};
use super::output::LogBounds;
use super::runtime::{DONE, FAILED, ORPHANED, listen, run};
use super::security::Security;
use super::starter::Starter;
use super::task_manager::{Event, Led, ProcessTaskManager};
use crate::wire::{Leads, RegisterTaskManager, ResourceManagerRpc};
use actix_rt::signal::unix::{SignalKind, signal};
use hurtig_core::ids::TaskManagerId;
use hurtig_ha::blob::BlobDir;
use hurtig_kit::{ActorEnv, Mailbox, Reply, Shell};
use hurtig_rpc::{ClusterId, Fences, Registration, Rpc, Stamp};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a leader is left alone that refuses, at first and at last.
const TURNS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// How long the leader may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a TaskManager is configured with.
#[derive(Clone, Debug)]
pub struct TaskManagerConfig {
    /// Where jobmanagers listen (`jobmanager.addresses`); one of them leads.
    pub jobmanagers: Vec<String>,
    /// How long none of them may be heard of (`taskmanager.registration.timeout`).
    pub patience: Duration,
    /// How many slots it offers (`taskmanager.numberOfTaskSlots`).
    pub slots: u32,
    /// Threads of each worker (`taskmanager.worker-threads`); 0: one for each core.
    pub threads: u32,
    /// What it may delete when it begins: artifacts, and the working directories of jobs.
    pub work_dir: PathBuf,
    /// Where the logs of its processes go.
    pub log_dir: PathBuf,
    /// How much of them is kept.
    pub logs: LogBounds,
    /// What its processes may use up.
    pub limits: ProcessLimits,
    /// How it speaks with others.
    pub security: Security,
}

/// Runs a TaskManager until nobody leads it, or its launcher or a fault ends it. `launcher` are the arguments with which this program
/// is a launcher. To be called before the first thread is there. Returns the code with which the process ends.
pub fn run_task_manager(config: TaskManagerConfig, launcher: &[&str]) -> u8 {
    let (starter, launcher) = match Starter::spawn(launcher) {
        Ok(spawned) => spawned,
        Err(error) => {
            tracing::error!(%error, "the launcher cannot be started");
            return FAILED;
        }
    };
    let groups = match find_groups(&config.limits) {
        Ok(groups) => groups,
        Err(why) => {
            tracing::error!(why, "the TaskManager cannot begin");
            return FAILED;
        }
    };
    let ours = groups.clone();
    let code = run(async move |env| {
        // Before anybody can know that it is there.
        let told_to_end = told_to_end();
        match Registering::begin(config, (starter, groups), &env).await {
            Ok(registering) => tokio::select! {
                why = registering.until_nobody_leads() => {
                    tracing::error!(why, "the TaskManager ends");
                    ORPHANED
                }
                () = told_to_end => {
                    tracing::info!("the TaskManager is told to end, with all that it has started");
                    DONE
                }
            },
            Err(why) => {
                tracing::error!(why, "the TaskManager cannot begin");
                FAILED
            }
        }
    });
    launcher.await_it();
    ours.inspect(Groups::remove_own);
    code
}

/// Where its processes get groups of their own, if anywhere.
fn find_groups(limits: &ProcessLimits) -> Result<Option<Groups>, String> {
    match Groups::find(&limits.cgroup)? {
        Ok(groups) => {
            tracing::info!("{}", groups.describe());
            Ok(Some(groups))
        }
        Err(why) => {
            tracing::info!(
                why,
                "there is no control group for processes of jobs: each is bounded by its own limits (rlimits), and not together with what it starts"
            );
            Ok(None)
        }
    }
}

/// What returns at SIGTERM. A TaskManager outlives what it has started, so from now on it does not end by the signal itself.
fn told_to_end() -> impl Future<Output = ()> {
    let terminate = signal(SignalKind::terminate());
    async {
        match terminate {
            Ok(mut terminate) => _ = terminate.recv().await,
            Err(error) => {
                tracing::warn!(%error, "SIGTERM ends it at once");
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Who sees to it that a TaskManager has a leader.
struct Registering {
    rpc: Rpc,
    fences: Fences,
    manager: Mailbox<Event>,
    config: TaskManagerConfig,
    id: TaskManagerId,
    address: String,
}

impl Registering {
    async fn begin(
        config: TaskManagerConfig,
        starter: (Starter, Option<Groups>),
        env: &ActorEnv,
    ) -> Result<Self, String> {
        let io = |path: &Path| {
            let path = path.display().to_string();
            move |error: std::io::Error| format!("{path}: {error}")
        };
        for dir in [&config.work_dir, &config.log_dir] {
            std::fs::create_dir_all(dir).map_err(io(dir))?;
        }
        let artifacts =
            BlobDir::open(&config.work_dir.join("artifacts")).map_err(|error| error.to_string())?;
        let (rpc, address) = listen("task manager", None, env, (0, &config.security)).await?;
        let (fences, id) = (Fences::new(), TaskManagerId::random());
        let manager = ProcessTaskManager::new(id, config.clone(), artifacts, starter);
        let (manager, probe) = Shell::start(manager, env.clone());
        let registration = Registration {
            name: "task-manager".to_owned(),
            mailbox: manager.clone(),
            routes: ProcessTaskManager::routes(),
            fences: fences.clone(),
            probe: Some(probe),
        };
        rpc.register(registration).map_err(|error| error.to_string())?;
        let logs = Logs::of_this_process(Some(config.log_dir.clone()));
        register_machine(&rpc, logs, env)?;
        Ok(Self {
            rpc,
            fences,
            manager,
            config,
            id,
            address,
        })
    }

    /// Registers with whoever leads, again and again. Says why it does not any more.
    async fn until_nobody_leads(self) -> String {
        let [shortest, longest] = TURNS;
        let mut turn = shortest;
        loop {
            let found = find_leader(&self.rpc, &self.config.jobmanagers);
            let Ok(leads) = tokio::time::timeout(self.config.patience, found).await else {
                let (asked, patience) = (self.config.jobmanagers.join(", "), self.config.patience);
                return format!("none of the jobmanagers {asked} has named a leader for {patience:?}");
            };
            let durable = leads.durable;
            match self.follow(leads).await {
                Ok(why) if !durable => {
                    return format!("the jobmanager is gone, and no other follows it: {why}");
                }
                Ok(why) => tracing::warn!(
                    why,
                    "the leader is gone; what runs runs on, and another one is looked for"
                ),
                Err(why) => {
                    tracing::warn!(why, "the leader does not take it; it is asked again");
                    tokio::time::sleep(turn).await;
                    turn = (turn * 2).min(longest);
                }
            }
        }
    }

    /// Obeys a leader until that is gone, and says how it went.
    async fn follow(&self, leads: Leads) -> Result<String, String> {
        let stamp = Stamp::cluster(ClusterId(leads.cluster), leads.incarnation, leads.revision);
        let peer = self.rpc.connect(&*leads.address);
        let resources = peer
            .gateway::<ResourceManagerRpc>("resource-manager")
            .stamped(stamp);
        self.fences.follow(stamp).map_err(|error| error.to_string())?;
        let address = leads.address;
        let led = Led {
            cluster: leads.cluster,
            address: address.clone(),
            durable: leads.durable,
            resources: resources.clone(),
            blobs: peer.gateway("blobs"),
        };
        let (reply, running) = Reply::new();
        let told = self.manager.tell(Event::Led(Box::new(led), reply));
        told.map_err(|error| error.to_string())?;
        let processes = running.await.map_err(|_| "its actor has ended")?;
        let register = RegisterTaskManager {
            task_manager: self.id,
            slots: self.config.slots,
            address: self.address.clone(),
            processes,
        };
        tokio::select! {
            registered = resources.ask(register, PATIENCE) => registered.map_err(|error| error.to_string())?,
            why = dead(&peer) => return Err(why),
        }
        tracing::info!(stamp = ?stamp.token, "registered");
        let told = self.manager.tell(Event::Registered);
        told.map_err(|error| error.to_string())?;
        let term = Some((leads.incarnation, leads.revision));
        tokio::select! {
            why = dead(&peer) => Ok(why),
            () = superseded(&self.rpc, &self.config.jobmanagers, &address, term) => {
                peer.close("another jobmanager leads");
                Ok("another jobmanager leads".to_owned())
            }
        }
    }
}
