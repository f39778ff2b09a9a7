//! The questions that processes ask each other, and the endpoints that take them.
//!
//! What JobMasters and workers say to each other is private to one executable. The rest is a contract between versions: fields are
//! added with a default, and what needs a new meaning gets a new message.

use super::delivery::Delivery;
use crate::config::CheckpointKind;
use crate::details::VertexDetail;
use crate::job_master::{CheckpointStatistics, TakenCheckpoint};
use crate::messages::{DispatcherMessage, JobMasterMessage, ResourceManagerMessage, TaskManagerMessage};
use crate::process::MachineFacts;
use crate::process::launch::{JobLaunch, ProcessExit, ProcessId, RunningProcess};
use crate::result::{FailureEntry, JobResult, VertexOverview};
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::{AllocationId, CheckpointId, JobId, TaskManagerId, VertexId};
use hurtig_core::metrics::MetricSample;
use hurtig_dataflow::chain::StopMode;
use hurtig_dataflow::graph::{JobGraph, Requirements};
use hurtig_rpc::{TlsGiven, rpc_endpoint, rpc_message};
use hurtig_storage::SavepointFormat;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;
use uuid::Uuid;

// To the leader.

/// Who leads? Anybody may ask, of any jobmanager; who will be commanded asks before it registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WhoLeads {}

/// The answer to [`WhoLeads`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WhoLeadsAnswer {
    /// `None`: nobody does at the moment.
    pub(crate) leader: Option<Leads>,
}

/// The leader's term.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leads {
    /// The cluster.
    pub(crate) cluster: Uuid,
    /// Of the cluster's records.
    pub(crate) incarnation: u64,
    /// The term.
    pub(crate) revision: NonZeroU64,
    /// Where the leader listens.
    pub(crate) address: String,
    /// Whether another one will follow it.
    #[serde(default)]
    pub(crate) durable: bool,
}

/// From a TaskManager, first of all: it has slots. *Reply*: it is known. *Repeated*: the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RegisterTaskManager {
    /// Who.
    pub(crate) task_manager: TaskManagerId,
    /// How many.
    pub(crate) slots: u32,
    /// Where it listens.
    pub(crate) address: String,
    /// What it runs, when it was led by somebody else before.
    #[serde(default)]
    pub(crate) processes: Vec<RunningProcess>,
}

/// From a TaskManager: a process that it started has ended. *Reply*: it is known. *Repeated, late*: ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessEnded {
    /// Where.
    pub(crate) task_manager: TaskManagerId,
    /// Which.
    pub(crate) process: ProcessId,
    /// How.
    pub(crate) exit: ProcessExit,
}

/// From a JobMaster, its first act. *Reply*: [`Claim`]. *Repeated by the same process*: the same answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClaimJob {
    /// The job.
    pub(crate) job: JobId,
    /// The epoch in which it was started.
    pub(crate) epoch: NonZeroU64,
    /// The incarnation of its process.
    pub(crate) process: Uuid,
    /// Where it listens.
    pub(crate) address: String,
    /// Its workers, when it was led by somebody else before.
    #[serde(default)]
    pub(crate) workers: Option<Vec<TaskManagerId>>,
}

/// The answer to [`ClaimJob`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Claim {
    /// The job is the asker's.
    Granted {
        /// The whole path of the checkpoint that it begins with; `None`: as the job was submitted.
        restore: Option<String>,
        /// Its checkpoints have this id and higher ones.
        first_checkpoint: CheckpointId,
        /// How long ago the job was submitted.
        #[serde(default)]
        age: Duration,
        /// It was stopped with what it begins with: it only commits that, and ends.
        #[serde(default)]
        stopped: Option<StopsWith>,
        /// Between which bounds its vertices run; `None`: nobody has declared any.
        #[serde(default)]
        requirements: Option<Requirements>,
        /// It has come to this end already: what is to be deleted is deleted, and no more.
        #[serde(default)]
        ending: Option<BeginEnd>,
    },
    /// It is somebody else's, or over.
    Refused(String),
}

/// A stop of a job: with the savepoint that this is said of, the job has come to its end but for what that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopsWith {
    /// Under which trigger id it was asked for, if under one.
    pub(crate) trigger: Option<String>,
    /// Whether event time was brought to its end.
    pub(crate) drain: bool,
}

/// From a JobMaster: this checkpoint is durable. *Reply*: it is recorded, and may be told of. *Repeated*: the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordCheckpoint {
    /// The job.
    pub(crate) job: JobId,
    /// Which.
    pub(crate) checkpoint: CheckpointId,
    /// Its whole path.
    pub(crate) path: String,
    /// It is a savepoint, and the job stops with it.
    #[serde(default)]
    pub(crate) stop: Option<StopsWith>,
}

/// From a JobMaster: the job comes to this end, and then this is deleted. *Reply*: it is recorded. *Repeated*: what was said first stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BeginEnd {
    /// The end.
    pub(crate) result: Box<JobResult>,
    /// What nobody needs then.
    pub(crate) deletions: Vec<Deletion>,
}

/// What is deleted in the checkpoint store when a job ends. To delete it again does nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Deletion {
    /// All that the job has stored.
    Everything,
    /// The same, but the record that the job has stopped with this savepoint.
    EverythingBut(CheckpointId),
    /// What the job began with, and was given.
    Claimed(String),
    /// Files that no retained checkpoint names.
    Shared {
        /// The last checkpoint whose files may be among them.
        up_to: CheckpointId,
        /// What is named.
        kept: BTreeSet<String>,
    },
}

/// A part of a blob. *Reply*: its bytes, empty at the end. *Repeated*: the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReadBlob {
    /// Which.
    pub(crate) digest: String,
    /// From where.
    pub(crate) offset: u64,
}

/// Bytes of a blob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BlobPart {
    #[serde(with = "serde_bytes")]
    pub(crate) bytes: Vec<u8>,
}

// To a TaskManager, from the leader.

/// Start the JobMaster of a job. *Reply*: taken up; its end is reported. *Repeated*: ignored, an epoch is started once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StartJobMaster {
    /// In which epoch.
    pub(crate) epoch: NonZeroU64,
    /// What.
    pub(crate) launch: JobLaunch,
}

/// Start a worker for these slots of a job. *Reply*: taken up; its end is reported. *Repeated*: ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StartWorker {
    /// The name of the process, for its JobMaster.
    pub(crate) worker: TaskManagerId,
    /// For which epoch.
    pub(crate) epoch: NonZeroU64,
    /// The slots that it offers.
    pub(crate) allocations: Vec<AllocationId>,
    /// Where its JobMaster listens.
    pub(crate) master: String,
    /// What.
    pub(crate) launch: JobLaunch,
}

/// End all processes of a job up to an epoch. *Reply*: when they have ended. *Repeated*: nothing is left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EndProcesses {
    /// The job.
    pub(crate) job: JobId,
    /// The last epoch that is over.
    pub(crate) epoch: NonZeroU64,
}

/// End one process. *Reply*: it is being ended; its end is reported. *Repeated, late*: it has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EndProcess {
    /// Which.
    pub(crate) process: ProcessId,
}

/// Build the graph of a program. *Reply*: the graph, or what is wrong with the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlanJob {
    /// What; its graph is not known yet.
    pub(crate) launch: JobLaunch,
}

/// The answer to [`PlanJob`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Plan {
    /// The graph.
    Graph(Box<JobGraph>),
    /// What is wrong, for who has submitted it.
    Refused(String),
}

// To any process without user code.

/// What process are you, and on which machine? Anybody may ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskMachine {}

/// A part of a log. *Reply*: its bytes, empty at the end; `None`: there is no such log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReadLog {
    /// Which.
    pub(crate) name: String,
    /// From where.
    pub(crate) offset: u64,
}

// To a JobMaster.

/// From a worker, its first act: it is there. *Reply*: it is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenWorker {
    /// Who.
    pub(crate) worker: TaskManagerId,
    /// Where it listens.
    pub(crate) address: String,
}

/// The answer to [`OpenWorker`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkerOpened {
    /// By what the workers of the job know each other.
    pub(crate) secret: Uuid,
    /// What it exchanges records with; none: they travel in the clear.
    #[serde(default)]
    pub(crate) exchange: Option<TlsGiven>,
}

/// From the Dispatcher: the accumulators, as last reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskAccumulators {}

/// From the Dispatcher: what became of checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskCheckpoints {}

/// From the Dispatcher: what failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskExceptions {}

/// From the Dispatcher: the vertices and the states of their subtasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskVertices {}

/// From the Dispatcher: the subtasks of a vertex. *Reply*: `None`: the job has no such vertex.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskVertex {
    /// Which.
    pub(crate) vertex: VertexId,
}

/// From the Dispatcher: the metrics of the job and of its tasks, wherever they run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskMetrics {}

/// From a JobMaster, to a worker: the metrics of its tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskTaskMetrics {
    /// The job.
    pub(crate) job: JobId,
}

/// From the Dispatcher: take a savepoint. *Reply*: its path when it is durable, and of a stop when the job has ended. *Repeated with the same
/// trigger id*: the same savepoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TakeSavepoint {
    /// The directory that it goes into; `None`: the job's own.
    pub(crate) dir: Option<String>,
    /// How the job stops with it; `None`: it goes on.
    pub(crate) stop: Option<StopMode>,
    /// In which form it holds keyed state; `None`: as the job's settings say.
    #[serde(default)]
    pub(crate) format: Option<SavepointFormat>,
    /// See above.
    #[serde(default)]
    pub(crate) trigger: Option<String>,
}

/// From the Dispatcher: take a checkpoint. *Reply*: which it is, when it is complete. *Repeated with the same trigger id*: the same
/// checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TakeCheckpoint {
    /// What it is to be.
    pub(crate) kind: CheckpointKind,
    /// See above.
    #[serde(default)]
    pub(crate) trigger: Option<String>,
}

rpc_message!(WhoLeads => WhoLeadsAnswer, "who-leads", Control, since 1);
rpc_message!(RegisterTaskManager => (), "register-task-manager", Control, since 1);
rpc_message!(ProcessEnded => (), "process-ended", Report, since 1);
rpc_message!(ClaimJob => Claim, "claim-job", Control, since 1);
rpc_message!(RecordCheckpoint => (), "record-checkpoint", Control, since 1);
rpc_message!(BeginEnd => (), "begin-end", Report, since 1);
rpc_message!(ReadBlob => BlobPart, "read-blob", Bulk, since 1);
rpc_message!(StartJobMaster => (), "start-job-master", Bulk, since 1);
rpc_message!(StartWorker => (), "start-worker", Bulk, since 1);
rpc_message!(EndProcesses => (), "end-processes", Bulk, since 1);
rpc_message!(EndProcess => (), "end-process", Bulk, since 1);
rpc_message!(PlanJob => Plan, "plan-job", Bulk, since 1);
rpc_message!(AskMachine => MachineFacts, "machine", Report, since 1);
rpc_message!(ReadLog => Option<BlobPart>, "read-log", Bulk, since 1);
rpc_message!(OpenWorker => WorkerOpened, "open-worker", Control, since 1);
rpc_message!(AskAccumulators => AccumulatorValues, "accumulators", Report, since 1);
rpc_message!(AskCheckpoints => CheckpointStatistics, "checkpoints", Report, since 1);
rpc_message!(AskExceptions => Vec<FailureEntry>, "exceptions", Report, since 1);
rpc_message!(AskVertices => Vec<VertexOverview>, "vertices", Report, since 1);
rpc_message!(AskVertex => Option<VertexDetail>, "vertex", Report, since 1);
rpc_message!(AskMetrics => Vec<MetricSample>, "metrics", Report, since 1);
rpc_message!(AskTaskMetrics => Vec<MetricSample>, "task-metrics", Report, since 1);
rpc_message!(TakeSavepoint => Result<String, String>, "take-savepoint", Control, since 1);
rpc_message!(TakeCheckpoint => Result<TakenCheckpoint, String>, "take-checkpoint", Control, since 1);
rpc_message!(Delivery<DispatcherMessage> => (), "to-dispatcher", Report, since 1);
rpc_message!(Delivery<ResourceManagerMessage> => (), "to-resource-manager", Control, since 1);
rpc_message!(Delivery<JobMasterMessage> => (), "to-job-master", Report, since 1);
rpc_message!(Delivery<TaskManagerMessage> => (), "to-task-manager", Control, since 1);

rpc_endpoint!(
    /// The Dispatcher.
    pub(crate) DispatcherRpc = "dispatcher" { ClaimJob, RecordCheckpoint, BeginEnd, Delivery<DispatcherMessage> }
);
rpc_endpoint!(
    /// The ResourceManager.
    pub(crate) ResourceManagerRpc = "resource-manager" {
        RegisterTaskManager, ProcessEnded, Delivery<ResourceManagerMessage>
    }
);
rpc_endpoint!(
    /// Any jobmanager.
    pub(crate) DirectoryRpc = "directory" { WhoLeads }
);
rpc_endpoint!(
    /// The artifacts of the leader.
    pub(crate) BlobRpc = "blobs" { ReadBlob }
);
rpc_endpoint!(
    /// A process that starts others.
    pub(crate) LauncherRpc = "task-manager" { StartJobMaster, StartWorker, EndProcesses, EndProcess, PlanJob }
);
rpc_endpoint!(
    /// A process, about itself.
    pub(crate) MachineRpc = "machine" { AskMachine, ReadLog }
);
rpc_endpoint!(
    /// A JobMaster.
    pub(crate) JobMasterRpc = "job-master" {
        OpenWorker, Delivery<JobMasterMessage>, AskAccumulators, AskCheckpoints, AskExceptions, AskVertices, AskVertex, AskMetrics,
        TakeSavepoint, TakeCheckpoint
    }
);
rpc_endpoint!(
    /// A worker.
    pub(crate) WorkerRpc = "worker" { Delivery<TaskManagerMessage>, AskTaskMetrics }
);
