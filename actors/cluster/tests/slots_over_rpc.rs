//! A TaskManager of another process registers, is asked for slots, and offers them: the brains of the cluster behind gateways.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use hurtig_cluster::messages::{ResourceManagerMessage, TaskManagerMessage};
use hurtig_cluster::{
    LoadBalance, ResourceBrain, ResourceEffect, TaskManagerBrain, TaskManagerEffect, TaskManagerEvent,
};
use hurtig_core::ids::{AllocationId, JobId, TaskManagerId};
use hurtig_core::time::SystemClock;
use hurtig_kit::{ActorEnv, BlockingPool, Component, ExitReason, KillSwitch, Shell, ShellCx};
use hurtig_rpc::{
    Call, ClusterId, Connectivity, DeathReason, FenceError, Fences, Gateway, Identity, Registration, Routes,
    Rpc, RpcError, RpcSetup, Stamp, TcpAcceptor, rpc_endpoint, rpc_message,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::num::NonZeroU64;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use uuid::Uuid;

/// Where the leader listens, said to the process of the TaskManager.
const LEADER: &str = "HURTIG_TEST_LEADER";
const DEADLINE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(10);
const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(7));
const SLOTS: u32 = 3;

/// Who leads? Anybody may ask; the answer comes before anything is commanded.
#[derive(Serialize, Deserialize)]
struct WhoLeads;

/// The leader's term.
#[derive(Serialize, Deserialize)]
struct Term {
    incarnation: u64,
    revision: NonZeroU64,
}

/// [`ResourceManagerMessage::Register`].
#[derive(Serialize, Deserialize)]
struct Register {
    task_manager: TaskManagerId,
    slots: Option<u32>,
}

/// [`ResourceManagerMessage::Require`].
#[derive(Serialize, Deserialize)]
struct Require {
    job: JobId,
    slots: u32,
}

/// [`TaskManagerMessage::RequestSlots`], with the name of the JobMaster who is to have them.
#[derive(Serialize, Deserialize)]
struct RequestSlots {
    job: JobId,
    allocations: Vec<AllocationId>,
    master: String,
}

/// What a JobMaster is offered.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SlotsOffered {
    task_manager: TaskManagerId,
    allocations: Vec<AllocationId>,
}

rpc_message!(WhoLeads => Term, "who-leads", Control, since 1);
rpc_message!(Register => (), "register", Control, since 1);
rpc_message!(Require => (), "require", Control, since 1);
rpc_message!(RequestSlots => (), "request-slots", Control, since 1);
rpc_message!(SlotsOffered => (), "slots-offered", Control, since 1);

rpc_endpoint!(
    /// The ResourceManager.
    ResourceManagerRpc = "resource-manager" { WhoLeads, Register, Require }
);
rpc_endpoint!(
    /// A TaskManager.
    TaskManagerRpc = "task-manager" { RequestSlots }
);
rpc_endpoint!(
    /// A JobMaster.
    JobMasterRpc = "job-master" { SlotsOffered }
);

fn term(revision: u64) -> Stamp {
    Stamp::cluster(CLUSTER, 1, NonZeroU64::new(revision).unwrap())
}

enum ManagerEvent {
    WhoLeads(Call<WhoLeads>),
    Register(Call<Register>),
    Require(Call<Require>),
    Asked(Result<(), RpcError>),
}

/// The ResourceManager's shell, with its brain as it is.
struct Manager {
    brain: ResourceBrain,
    stamp: Stamp,
    task_managers: BTreeMap<TaskManagerId, Gateway<TaskManagerRpc>>,
}

impl Manager {
    fn decide(&mut self, message: ResourceManagerMessage, cx: &mut ShellCx<'_, Self>) {
        let mut effects = Vec::new();
        self.brain.handle(message, &mut effects);
        for effect in effects {
            let ResourceEffect::Allocate {
                task_manager,
                job,
                allocations,
            } = effect;
            let master = format!("job-master/{job}");
            let request = RequestSlots {
                job,
                allocations,
                master,
            };
            let asked = self.task_managers[&task_manager].ask(request, SOON);
            cx.drive(asked, |asked| ManagerEvent::Asked(asked.unwrap()));
        }
    }
}

impl Component for Manager {
    type Event = ManagerEvent;

    fn name(&self) -> String {
        "resource manager".to_owned()
    }

    fn capacity(&self) -> usize {
        100
    }

    fn handle(&mut self, event: ManagerEvent, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match event {
            ManagerEvent::WhoLeads(call) => call.reply.send(Term {
                incarnation: self.stamp.token.incarnation,
                revision: self.stamp.token.number,
            }),
            ManagerEvent::Register(call) => {
                let Register { task_manager, slots } = call.message;
                // The way back lies in the call, where a mailbox came beside the message before.
                let back = call.context.peer.gateway("task-manager").stamped(self.stamp);
                self.task_managers.insert(task_manager, back);
                self.decide(ResourceManagerMessage::Register { task_manager, slots }, cx);
                call.reply.send(());
            }
            ManagerEvent::Require(call) => {
                let Require { job, slots } = call.message;
                let require = ResourceManagerMessage::Require {
                    job,
                    slots,
                    least: None,
                    returned: Vec::new(),
                };
                self.decide(require, cx);
                call.reply.send(());
            }
            ManagerEvent::Asked(asked) => asked.unwrap(),
        }
        Ok(())
    }
}

enum WorkerEvent {
    RequestSlots(Call<RequestSlots>),
    Offered(Result<(), RpcError>),
}

/// The TaskManager's shell, with its brain as it is.
struct Worker {
    id: TaskManagerId,
    brain: TaskManagerBrain,
}

impl Component for Worker {
    type Event = WorkerEvent;

    fn name(&self) -> String {
        "task manager".to_owned()
    }

    fn capacity(&self) -> usize {
        100
    }

    fn handle(&mut self, event: WorkerEvent, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match event {
            WorkerEvent::RequestSlots(call) => {
                let RequestSlots {
                    job,
                    allocations,
                    master,
                } = call.message;
                let (mut effects, message) =
                    (Vec::new(), TaskManagerMessage::RequestSlots { job, allocations });
                self.brain
                    .handle(TaskManagerEvent::Message(message), &mut effects);
                call.reply.send(());
                let master = call.context.peer.gateway::<JobMasterRpc>(&master);
                for effect in effects {
                    let TaskManagerEffect::OfferSlots { allocations, .. } = effect else {
                        panic!("{effect:?}");
                    };
                    let task_manager = self.id;
                    let offered = master.ask(
                        SlotsOffered {
                            task_manager,
                            allocations,
                        },
                        SOON,
                    );
                    cx.drive(offered, |offered| WorkerEvent::Offered(offered.unwrap()));
                }
            }
            WorkerEvent::Offered(offered) => offered.unwrap(),
        }
        Ok(())
    }
}

/// A JobMaster that only counts what it is offered.
struct Master(mpsc::Sender<SlotsOffered>);

impl Component for Master {
    type Event = Call<SlotsOffered>;

    fn name(&self) -> String {
        "job master".to_owned()
    }

    fn capacity(&self) -> usize {
        10
    }

    fn handle(&mut self, call: Call<SlotsOffered>, _: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        call.reply.send(());
        self.0.try_send(call.message).unwrap();
        Ok(())
    }
}

fn run<T>(test: impl AsyncFnOnce(ActorEnv) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let pool = BlockingPool::new().unwrap();
    let env = ActorEnv {
        clock: SystemClock::new(),
        kill: KillSwitch::new(),
        blocking: pool.threads(),
    };
    let result = LocalSet::new().block_on(&runtime, within(DEADLINE, test(env)));
    pool.close(Duration::ZERO);
    result
}

async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(patience, work).await;
    done.unwrap_or_else(|_| panic!("not within {patience:?}"))
}

fn rpc(name: &str, env: &ActorEnv) -> Rpc {
    let mut setup = RpcSetup::tcp(Identity::new(name, Some(CLUSTER)), env.clone());
    // A process that is killed is dead to who was dialled by it after so long a silence.
    setup.config.heartbeat_interval = Duration::from_millis(500);
    setup.config.heartbeat_timeout = Duration::from_secs(3);
    setup.config.connect_timeout = Duration::from_secs(2);
    Rpc::new(setup).unwrap()
}

/// The process of the TaskManager: not a test by itself.
#[test]
fn task_manager_process() {
    let Some(leader) = std::env::var_os(LEADER) else {
        return;
    };
    run(async |env| {
        let rpc = rpc("taskmanager", &env);
        let (id, brain) = (TaskManagerId::random(), TaskManagerBrain::new(1));
        let (mailbox, probe) = Shell::start(Worker { id, brain }, env);
        let fences = Fences::new();
        let registration = Registration {
            name: "task-manager".to_owned(),
            mailbox,
            routes: Routes::<TaskManagerRpc, _>::new().on(WorkerEvent::RequestSlots),
            fences: fences.clone(),
            probe: Some(probe),
        };
        rpc.register(registration).unwrap();
        let leader = rpc
            .connect(leader.to_str().unwrap())
            .gateway::<ResourceManagerRpc>("resource-manager");
        let Term {
            incarnation,
            revision,
        } = leader.ask(WhoLeads, SOON).await.unwrap();
        // Learned before it registers: a command that follows at once finds the fence standing.
        let stamp = Stamp::cluster(CLUSTER, incarnation, revision);
        fences.follow(stamp).unwrap();
        let (task_manager, slots) = (id, Some(SLOTS));
        leader
            .stamped(stamp)
            .ask(Register { task_manager, slots }, SOON)
            .await
            .unwrap();
        println!("\nregistered {id}");
        std::future::pending::<()>().await;
    });
}

/// Ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(leader: &str) -> (Process, impl Iterator<Item = String> + Send + use<>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "task_manager_process",
        "--nocapture",
        "--test-threads=1",
    ]);
    command
        .env(LEADER, leader)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (Process(child), lines.map_while(Result::ok))
}

#[test]
fn a_task_manager_of_another_process_offers_what_a_job_requires() {
    let (mut process, offered, registered) = run(async |env| {
        let rpc = rpc("jobmanager", &env);
        let stamp = term(40);
        let fences = Fences::open();
        fences.hold(stamp).unwrap();
        let manager = Manager {
            brain: ResourceBrain::new(LoadBalance::None),
            stamp,
            task_managers: BTreeMap::new(),
        };
        let (mailbox, probe) = Shell::start(manager, env.clone());
        let routes = Routes::<ResourceManagerRpc, _>::new();
        let registration = Registration {
            name: "resource-manager".to_owned(),
            mailbox,
            routes: routes
                .on(ManagerEvent::WhoLeads)
                .on(ManagerEvent::Register)
                .on(ManagerEvent::Require),
            fences,
            probe: Some(probe),
        };
        rpc.register(registration).unwrap();
        let (job, (sender, mut offers)) = (JobId::from_u128(9), mpsc::channel(4));
        let (mailbox, _) = Shell::start(Master(sender), env);
        let registration = Registration {
            name: format!("job-master/{job}"),
            mailbox,
            routes: Routes::<JobMasterRpc, _>::new().on(|call| call),
            fences: Fences::open(),
            probe: None,
        };
        rpc.register(registration).unwrap();
        let listener = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        rpc.serve(listener);
        // The JobMaster lives in the leader's process here; it could not tell.
        let resource_manager = rpc
            .local()
            .gateway::<ResourceManagerRpc>("resource-manager")
            .stamped(stamp);
        resource_manager
            .ask(Require { job, slots: 2 }, SOON)
            .await
            .unwrap();
        let (mut process, mut lines) = start(&address);
        let offered = offers.recv().await.unwrap();
        let registered = lines
            .find_map(|line| line.strip_prefix("registered ").map(ToOwned::to_owned))
            .unwrap();

        // Who was the leader before is fenced by the TaskManager, which changes nothing.
        let task_manager = rpc.accepted()[0].clone();
        let (allocations, master) = (vec![AllocationId::from_u128(99)], format!("job-master/{job}"));
        let old = task_manager
            .gateway::<TaskManagerRpc>("task-manager")
            .stamped(term(39));
        let refused = old
            .ask(
                RequestSlots {
                    job,
                    allocations,
                    master,
                },
                SOON,
            )
            .await;
        let fenced = |error: &RpcError| matches!(error, RpcError::Fence(FenceError::Fenced { newer, .. }) if *newer == stamp.token);
        assert!(refused.as_ref().is_err_and(fenced), "{refused:?}");

        process.0.kill().unwrap();
        let mut watch = task_manager.watch().unwrap();
        let dead =
            |connectivity: &Connectivity| matches!(connectivity, Connectivity::Dead(DeathReason::Silent(_)));
        watch.wait_for(|state| dead(&state.connectivity)).await.unwrap();
        assert!(
            offers.try_recv().is_err(),
            "the old leader's slots were not offered"
        );
        (process, offered, registered)
    });
    assert_eq!(offered.allocations.len(), 2);
    assert_eq!(offered.task_manager.to_string(), registered);
    process.0.wait().unwrap();
}
