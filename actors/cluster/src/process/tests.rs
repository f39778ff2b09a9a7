//! A cluster whose processes are threads: the actors, messages and links of real ones, with a fake program and without a launcher.

use super::blobs::{MAX_ARTIFACT, fetch};
use super::directory::find_leader;
use super::job_manager::{JobManager, JobManagerConfig, JobManagerHandle};
use super::launch::{JobLaunch, Role};
use super::runtime::{FAILED, listen, run};
use super::security::Security;
use super::{JobCodeHere, Obeys, run_job_master, run_worker};
use crate::config::{ClusterConfig, JobOptions};
use crate::wire::{
    BlobRpc, EndProcess, EndProcesses, LauncherRpc, Leads, Plan, PlanJob, RegisterTaskManager,
    ResourceManagerRpc, StartJobMaster, StartWorker,
};
use hurtig_core::accumulators::AccumulatorValue;
use hurtig_core::config::Configuration;
use hurtig_core::ids::{CheckpointId, JobId, NodeId, TaskManagerId};
use hurtig_core::{Error, Result};
use hurtig_dataflow::graph::{
    GraphSettings, JobGraph, JobStatus, NodeKind, PartitionKind, StreamEdge, StreamGraph, StreamNode,
    TaskState,
};
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_dataflow::source::{Assignment, Split, SplitEnumerator};
use hurtig_ha::blob::BlobDir;
use hurtig_kit::{Component, ExitReason, Shell, ShellCx};
use hurtig_rpc::{Call, ClusterId, Fences, Registration, Routes, Stamp};
use hurtig_task::interface::{
    CheckpointOrder, TaskControl, TaskDescriptor, TaskFactory, TaskHandle, TaskLink, TaskReport,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

const SOURCE: NodeId = NodeId(0);
const SPLITS: u32 = 300;
const PATIENCE: Duration = Duration::from_secs(30);

/// source (2 subtasks) -> hash -> sink (3 subtasks): three slots.
fn graph(job: u128) -> JobGraph {
    let mut graph = StreamGraph::new();
    let mut source = StreamNode::new("numbers", "Source", NodeKind::Source);
    source.parallelism = Some(2);
    let mut sink = StreamNode::new("sink", "Sink", NodeKind::Sink);
    sink.parallelism = Some(3);
    let (source, sink) = (graph.add_node(source), graph.add_node(sink));
    let key = "u64".to_owned();
    graph.add_edge(StreamEdge::new(source, sink).partitioned(PartitionKind::Hash { key }));
    let settings = GraphSettings::default();
    graph.job_graph(JobId::from_u128(job), &settings).unwrap()
}

/// Its source reads splits until there are no more; with `endless`, its sink runs until it is cancelled.
struct Program {
    graph: JobGraph,
    endless: bool,
    read: Arc<Mutex<Vec<u32>>>,
    /// What the cluster's configuration said, by each process.
    told: Mutex<Vec<BTreeMap<String, String>>>,
}

struct Numbers(std::ops::Range<u32>);

impl SplitEnumerator for Numbers {
    fn start(&mut self, _: u32) -> Result<()> {
        Ok(())
    }

    fn next_split(&mut self, _: u32) -> Result<Assignment> {
        let split = |number: u32| {
            Assignment::Split(Split {
                id: number.to_string(),
                bytes: vec![0; 100],
            })
        };
        Ok(self.0.next().map_or(Assignment::NoMore, split))
    }

    fn add_back(&mut self, _: Vec<Split>) {}

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: &[u8], _: u32) -> Result<()> {
        Ok(())
    }
}

struct Task {
    link: Box<dyn TaskLink>,
    read: Arc<Mutex<Vec<u32>>>,
}

fn finish(link: &dyn TaskLink) {
    let mut report = TaskReport::default();
    report
        .accumulators
        .insert("tasks".to_owned(), AccumulatorValue::Long(1));
    link.report(report);
    link.state_changed(TaskState::Finished, None);
}

impl TaskControl for Task {
    fn cancel(&self) {
        self.link.state_changed(TaskState::Canceled, None);
    }

    fn set_backlog(&self, _: NodeId, _: bool) {}

    fn add_split(&self, node: NodeId, split: Option<Split>) {
        match split {
            Some(split) => {
                self.read.lock().unwrap().push(split.id.parse().unwrap());
                self.link.request_split(node);
            }
            None => finish(&*self.link),
        }
    }

    fn prepare_checkpoint(&self, _: CheckpointId, _: CheckpointOrder) {}

    fn trigger_checkpoint(&self, _: CheckpointId) {}

    fn notify_checkpoint(&self, _: CheckpointEvent) {}
}

impl TaskFactory for Program {
    fn job_graph(&self) -> &JobGraph {
        &self.graph
    }

    fn enumerator(&self, node: NodeId) -> Option<Box<dyn SplitEnumerator>> {
        (node == SOURCE).then(|| Box::new(Numbers(0..SPLITS)) as Box<dyn SplitEnumerator>)
    }

    fn start_task(&self, descriptor: TaskDescriptor, link: Box<dyn TaskLink>) -> Result<TaskHandle, Error> {
        link.state_changed(TaskState::Initializing, None);
        link.state_changed(TaskState::Running, None);
        match descriptor.operators[0] {
            SOURCE => link.request_split(SOURCE),
            _ if self.endless => {}
            _ => finish(&*link),
        }
        let read = self.read.clone();
        Ok(TaskHandle::new(Task { link, read }))
    }
}

fn obeys(cluster: Uuid, leader: String) -> Obeys {
    Obeys {
        cluster,
        leader,
        jobmanagers: Vec::new(),
        tls: None,
    }
}

/// A TaskManager that starts threads.
struct Starter {
    program: Arc<Program>,
    cluster: Uuid,
    leader: String,
}

enum Event {
    Master(Call<StartJobMaster>),
    Worker(Call<StartWorker>),
    End(Call<EndProcesses>),
    EndOne(Call<EndProcess>),
    Plan(Call<PlanJob>),
}

impl Starter {
    fn code(&self, launch: &JobLaunch) -> JobCodeHere {
        self.program.told.lock().unwrap().push(launch.defaults.clone());
        JobCodeHere {
            graph: (**launch.graph.as_ref().unwrap()).clone(),
            factory: self.program.clone(),
            options: JobOptions::default(),
            config: ClusterConfig::default(),
        }
    }
}

impl Component for Starter {
    type Event = Event;

    fn name(&self) -> String {
        "starter".to_owned()
    }

    fn capacity(&self) -> usize {
        16
    }

    fn handle(&mut self, event: Event, _: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match event {
            Event::Master(call) => {
                let (code, epoch) = (self.code(&call.message.launch), call.message.epoch);
                let (cluster, leader) = (self.cluster, self.leader.clone());
                let obeys = obeys(cluster, leader);
                std::thread::spawn(move || run_job_master(obeys, epoch, code));
                call.reply.send(());
            }
            Event::Worker(call) => {
                let code = self.code(&call.message.launch);
                let role = Role::Worker {
                    cluster: self.cluster,
                    worker: call.message.worker,
                    epoch: call.message.epoch,
                    allocations: call.message.allocations,
                    master: call.message.master,
                    threads: 2,
                    task_manager: None,
                    tls: None,
                };
                std::thread::spawn(move || run_worker(&role, code));
                call.reply.send(());
            }
            Event::End(call) => call.reply.send(()),
            Event::EndOne(call) => call.reply.send(()),
            Event::Plan(call) => {
                let told = &self.program.told;
                told.lock().unwrap().push(call.message.launch.defaults);
                call.reply.send(Plan::Graph(Box::new(self.program.graph.clone())));
            }
        }
        Ok(())
    }
}

async fn start(leader: String, slots: u32, program: Arc<Program>, env: &hurtig_kit::ActorEnv) {
    let (rpc, address) = listen("starter", None, env, (0, &Security::default()))
        .await
        .unwrap();
    let Leads {
        cluster,
        incarnation,
        revision,
        address: there,
        ..
    } = find_leader(&rpc, &[leader]).await;
    let leader = there;
    let resources = rpc
        .connect(&*leader)
        .gateway::<ResourceManagerRpc>("resource-manager");
    let fences = Fences::new();
    let stamp = Stamp::cluster(ClusterId(cluster), incarnation, revision);
    fences.follow(stamp).unwrap();
    let starter = Starter {
        program,
        cluster,
        leader,
    };
    let (mailbox, _) = Shell::start(starter, env.clone());
    let routes = Routes::<LauncherRpc, _>::new();
    let registration = Registration {
        name: "task-manager".to_owned(),
        mailbox,
        routes: routes
            .on(Event::Master)
            .on(Event::Worker)
            .on(Event::End)
            .on(Event::EndOne)
            .on(Event::Plan),
        fences,
        probe: None,
    };
    rpc.register(registration).unwrap();
    let register = RegisterTaskManager {
        task_manager: TaskManagerId::random(),
        slots,
        address,
        processes: Vec::new(),
    };
    resources.stamped(stamp).ask(register, PATIENCE).await.unwrap();
    std::future::pending::<()>().await;
}

/// A jobmanager, and TaskManagers with so many slots.
fn cluster(slots: &[u32], program: &Arc<Program>) -> (JobManagerHandle, tempfile::TempDir) {
    cluster_with("", slots, program)
}

/// With settings, and all that is kept of it below the directory.
fn cluster_with(
    settings: &str,
    slots: &[u32],
    program: &Arc<Program>,
) -> (JobManagerHandle, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let storage = format!("high-availability.storageDir={}", dir.path().display());
    let config = JobManagerConfig {
        port: 0,
        storage_dir: dir.path().to_owned(),
        cluster: ClusterConfig::default(),
        settings: Configuration::builder()
            .yaml("test", settings)
            .definitions([storage])
            .build()
            .unwrap(),
        rest: None,
        stores: hurtig_storage::BlobStores::local(),
        security: Security::default(),
    };
    let handle = JobManager::start(config).unwrap();
    for slots in slots {
        let (leader, slots, program) = (handle.address().to_owned(), *slots, program.clone());
        // They end with the test's process.
        std::thread::spawn(move || {
            run(async move |env| {
                start(leader, slots, program, &env).await;
                FAILED
            })
        });
    }
    let wanted = slots.len();
    block_on(async {
        while handle.task_managers().await.unwrap().all.len() < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    (handle, dir)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
    done.unwrap_or_else(|_| panic!("not within {PATIENCE:?}"))
}

fn launch() -> JobLaunch {
    JobLaunch {
        artifact: String::new(),
        args: Vec::new(),
        config: [].into(),
        defaults: [].into(),
        parallelism: None,
        graph: None,
    }
}

fn program(endless: bool) -> Arc<Program> {
    Arc::new(Program {
        graph: graph(1),
        endless,
        read: Arc::default(),
        told: Mutex::default(),
    })
}

#[test]
fn a_job_runs_through_all_processes_and_every_message_arrives_once() {
    let program = program(false);
    let (handle, _dir) = cluster(&[3], &program);
    let result = block_on(async {
        let job = handle.run(launch()).await.unwrap();
        handle.cluster().job_result(job).await.unwrap()
    });
    assert_eq!(result.status, JobStatus::Finished, "{:?}", result.failure);
    assert_eq!(result.accumulators["tasks"], AccumulatorValue::Long(5));
    let mut read = program.read.lock().unwrap().clone();
    read.sort_unstable();
    assert_eq!(read, (0..SPLITS).collect::<Vec<_>>());
}

#[test]
fn a_job_is_cancelled_and_its_slots_are_free_for_the_next_one() {
    let program = program(true);
    let (handle, _dir) = cluster(&[3], &program);
    let free = async || handle.task_managers().await.unwrap().free;
    block_on(async {
        let job = handle.run(launch()).await.unwrap();
        while handle.cluster().job_status(job).await.unwrap() != JobStatus::Running {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(free().await, 0);
        handle.cluster().cancel_job(job).await.unwrap();
        let result = handle.cluster().job_result(job).await.unwrap();
        assert_eq!(result.status, JobStatus::Canceled);
        while free().await != 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_job_that_the_cluster_has_no_room_for_is_refused() {
    let program = program(false);
    let (handle, _dir) = cluster(&[1, 1], &program);
    let refused = block_on(handle.run(launch())).unwrap_err().to_string();
    assert!(
        refused.contains("needs 3 slots, and the cluster has 2, in 2 TaskManagers"),
        "{refused}"
    );
}

#[test]
fn the_first_claim_counts_and_an_old_epoch_is_refused() {
    let program = program(true);
    let (handle, _dir) = cluster(&[3], &program);
    let job = block_on(async {
        let job = handle.run(launch()).await.unwrap();
        while handle.cluster().job_status(job).await.unwrap() != JobStatus::Running {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        job
    });
    let code = JobCodeHere {
        graph: program.graph.clone(),
        factory: program,
        options: JobOptions::default(),
        config: ClusterConfig::default(),
    };
    // A second process that thinks it is the JobMaster of this epoch.
    let epoch = std::num::NonZeroU64::MIN;
    let cluster = Uuid::from_u128(0);
    let leader = handle.address().to_owned();
    let (other, same) = (code.clone(), cluster_of(&handle));
    assert_eq!(
        run_job_master(obeys(same, leader.clone()), epoch, other),
        super::runtime::REFUSED
    );
    // One of another cluster is not even heard.
    assert_eq!(run_job_master(obeys(cluster, leader), epoch, code), FAILED);
    block_on(async {
        assert_eq!(
            handle.cluster().job_status(job).await.unwrap(),
            JobStatus::Running
        );
        handle.cluster().cancel_job(job).await.unwrap();
        handle.cluster().job_result(job).await.unwrap();
    });
}

#[test]
fn an_artifact_arrives_whole_and_can_be_executed() {
    let (handle, dir) = cluster(&[], &program(false));
    let bytes: Vec<u8> = (0..9_000_000_u32).map(|n| (n % 251) as u8).collect();
    let kept = BlobDir::open(dir.path()).unwrap();
    let digest = kept.store(&mut &bytes[..], MAX_ARTIFACT).unwrap();
    let (leader, cache) = (handle.address().to_owned(), tempfile::tempdir().unwrap());
    let (sender, receiver) = std::sync::mpsc::sync_channel(2);
    let there = BlobDir::open(cache.path()).unwrap();
    let (dir, wanted) = (there.clone(), digest.to_string());
    let (next, go_on) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        run(async move |env| {
            let (rpc, _) = listen("reader", None, &env, (0, &Security::default()))
                .await
                .unwrap();
            let blobs = rpc.connect(leader).gateway::<BlobRpc>("blobs");
            for digest in [wanted.clone(), wanted, "0".repeat(64)] {
                let fetched = fetch(dir.clone(), digest, blobs.clone(), env.blocking.clone()).await;
                sender.send(fetched).unwrap();
                go_on.recv_timeout(PATIENCE).unwrap();
            }
            FAILED
        })
    });
    let program = receiver.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(program.is_unchanged());
    let path = there.file(digest).unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o500);
    // Somebody writes to it where it lies: it is not executed any more, and fetched again.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"x", 0).unwrap();
    assert!(!program.is_unchanged());
    next.send(()).unwrap();
    let program = receiver.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(program.is_unchanged() && std::fs::read(&path).unwrap() == bytes);
    next.send(()).unwrap();
    let missing = receiver.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(missing.contains("cannot be fetched"), "{missing}");
}

/// Asked of the leader, as a TaskManager does.
fn cluster_of(handle: &JobManagerHandle) -> Uuid {
    let leader = handle.address().to_owned();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        run(async move |env| {
            let (rpc, _) = listen("asker", None, &env, (0, &Security::default()))
                .await
                .unwrap();
            let leads = find_leader(&rpc, &[leader]).await;
            sender.send(leads.cluster).unwrap();
            FAILED
        })
    });
    receiver.recv().unwrap()
}

#[test]
fn secrets_of_the_cluster_are_told_to_processes_and_not_recorded() {
    let program = program(true);
    let settings = "high-availability.type: file\ns3.secret-key: hunter2\npipeline.batch-size: 7";
    let (handle, dir) = cluster_with(settings, &[3], &program);
    // A plan, a JobMaster and a worker.
    block_on(async {
        handle.run(launch()).await.unwrap();
        while program.told.lock().unwrap().len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let told = program.told.lock().unwrap().clone();
    for told in told {
        let told: Vec<_> = told.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(told, [("pipeline.batch-size", "7"), ("s3.secret-key", "hunter2")]);
    }
    let (mut folders, mut recorded) = (vec![dir.path().to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            match path.is_dir() {
                true => folders.push(path),
                false => recorded.extend(std::fs::read(path).unwrap()),
            }
        }
    }
    let recorded = String::from_utf8_lossy(&recorded);
    assert!(
        recorded.contains("pipeline.batch-size"),
        "the job is recorded with its settings"
    );
    assert!(!recorded.contains("hunter2"));
}
