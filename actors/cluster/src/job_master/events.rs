//! What reaches a JobMaster's brain, and what it wants done.

use super::checkpoints::{CheckpointSettings, CheckpointTimer, RequestId};
use super::rescaling::ScalingTimer;
use crate::config::{
    CheckpointKind, CheckpointRetention, ClusterConfig, FailoverStrategy, JobOptions, RestartStrategyConfig,
    RestoreFrom, ScalingConfig,
};
use crate::messages::{JobMasterMessage, SlotNeed};
use crate::result::JobResult;
use hurtig_core::ids::{CheckpointId, ExecutionId, NodeId, TaskManagerId};
use hurtig_core::time::Time;
use hurtig_dataflow::chain::StopMode;
use hurtig_dataflow::graph::{JobStatus, Requirements};
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_dataflow::source::{Assignment, Split};
use hurtig_state::StateShapes;
use hurtig_storage::{CheckpointMetadata, SavepointFormat, SnapshotFolder, StateHandle};
use hurtig_task::interface::{CheckpointOrder, SavepointOrder, TaskDescriptor, TaskFailure};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What effects are collected in.
pub(super) type Effects = Vec<JobEffect>;

/// With this one a job's first JobMaster begins, and no later one.
const FIRST_CHECKPOINT: CheckpointId = CheckpointId(1);

/// How a job is run.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSettings {
    /// What happens after a failure.
    pub restart: RestartStrategyConfig,
    /// What is started again after one.
    pub failover: FailoverStrategy,
    /// How long slots may be waited for.
    pub slot_request_timeout: Duration,
    /// How long tasks may take to stop.
    pub cancellation_timeout: Duration,
    /// Failures that are remembered.
    pub exception_history: usize,
    /// When checkpoints are taken.
    pub checkpoints: CheckpointSettings,
    /// Complete checkpoints that are kept; at least one.
    pub retained_checkpoints: usize,
    /// What becomes of them when the job ends.
    pub retention: CheckpointRetention,
    /// What the job begins with; `None`: afresh.
    pub restore: Option<RestoreFrom>,
    /// The job was stopped so, with what it begins with: it only commits that and ends.
    pub stopped: Option<StopMode>,
    /// Where savepoints go for which nobody says it.
    pub savepoint_dir: Option<String>,
    /// In which form they hold keyed state, if nobody says it.
    pub savepoint_format: SavepointFormat,
    /// The id of the first checkpoint, unless the job begins with a later one.
    pub first_checkpoint: CheckpointId,
    /// How long ago the job was submitted.
    pub age: Duration,
    /// How it follows the slots that there are.
    pub scaling: ScalingConfig,
    /// Between which bounds its vertices run; `None`: nobody has declared any.
    pub requirements: Option<Requirements>,
}

impl JobSettings {
    /// Those of a job that was submitted with `options`, under its first JobMaster.
    pub(crate) fn new(options: JobOptions, cluster: &ClusterConfig) -> Self {
        Self {
            restart: options.restart,
            failover: options.failover,
            checkpoints: options.checkpoints,
            retained_checkpoints: options.retained_checkpoints,
            retention: options.retention,
            restore: options.restore,
            stopped: None,
            savepoint_dir: options.savepoint_dir,
            savepoint_format: options.savepoint_format,
            slot_request_timeout: cluster.slot_request_timeout,
            cancellation_timeout: cluster.cancellation_timeout,
            exception_history: cluster.exception_history,
            first_checkpoint: FIRST_CHECKPOINT,
            age: Duration::ZERO,
            scaling: options.scaling,
            requirements: None,
        }
    }

    /// Whether no other JobMaster had the job before.
    pub(super) fn is_first_life(&self) -> bool {
        self.first_checkpoint == FIRST_CHECKPOINT
    }
}

/// What reaches a JobMaster.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEvent {
    /// The first event.
    Start,
    /// From another component.
    Message(JobMasterMessage),
    /// A source's enumerator has found its splits, or there is none.
    EnumeratorStarted {
        /// Which enumerator of the source: they are numbered.
        generation: u32,
        /// The source.
        node: NodeId,
        /// Whether there is one.
        enumerates: bool,
    },
    /// An enumerator says that what is being read is backlog, or is not any more.
    BacklogChanged {
        /// Which enumerator of the source: they are numbered.
        generation: u32,
        /// The source.
        node: NodeId,
        /// Whether it is.
        backlog: bool,
    },
    /// An enumerator has answered a reader.
    SplitAssigned {
        /// Which enumerator of the source: they are numbered.
        generation: u32,
        /// The source.
        node: NodeId,
        /// Who asked.
        reader: ExecutionId,
        /// The answer.
        assignment: Assignment,
    },
    /// An enumerator has said what it remembers.
    EnumeratorSnapshot {
        /// Which enumerator of the source: they are numbered.
        generation: u32,
        /// The source.
        node: NodeId,
        /// The checkpoint that it was asked for.
        checkpoint: CheckpointId,
        /// What it remembers.
        snapshot: Vec<u8>,
    },
    /// Timer of the checkpoint coordinator.
    CheckpointTimer(CheckpointTimer),
    /// The metadata of a checkpoint is durable, or could not be written.
    CheckpointPublished(CheckpointId, Result<(), String>),
    /// The checkpoint that the job is to begin with; `None`: there is none yet.
    CheckpointLoaded(Result<Option<Box<FoundCheckpoint>>, TaskFailure>),
    /// Somebody wants a savepoint; answered once by [`JobEffect::AnswerSavepoint`].
    SavepointRequested(RequestId, SavepointOrder),
    /// Somebody wants a checkpoint; answered once by [`JobEffect::AnswerCheckpoint`].
    CheckpointWanted(RequestId, WantedCheckpoint),
    /// An enumerator has failed, at its start, with an answer or with its snapshot.
    EnumeratorFailed {
        /// Which enumerator of the source: they are numbered.
        generation: u32,
        /// The source.
        node: NodeId,
        /// How.
        failure: TaskFailure,
    },
    /// An enumerator has taken back splits.
    SplitsTakenBack {
        /// Which enumerator of the source: they are numbered.
        generation: u32,
        /// The source.
        node: NodeId,
    },
    /// Timer: a reader that was told to wait may ask again.
    AskAgain {
        /// Of which enumerator.
        generation: u32,
        /// The source.
        node: NodeId,
        /// Who.
        reader: ExecutionId,
    },
    /// Timer: the delay before a restart is over.
    RestartDue {
        /// Which restart: they are numbered.
        restart: u32,
    },
    /// Timer: tasks that were told to stop had time enough.
    CancellationDeadline,
    /// Timer: what a change of the parallelism waits for may be there, or was waited for long enough.
    Scaling(ScalingTimer),
    /// Timer: slots were waited for long enough.
    SlotDeadline {
        /// The request whose deadline it is.
        request: u32,
    },
}

/// A checkpoint that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedCheckpoint {
    /// What they said.
    pub kind: CheckpointKind,
    /// What tasks have to know of it, if it is not like those of the interval.
    pub order: Option<CheckpointOrder>,
}

/// A checkpoint or savepoint that a job is to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundCheckpoint {
    /// The store that it lies in; `None`: that of the job's own checkpoints.
    pub store: Option<String>,
    /// Its folder there.
    pub folder: String,
    /// What it consists of.
    pub metadata: CheckpointMetadata,
    /// What led to it among the job's own checkpoints, if it is a savepoint that a job of the same name has stopped with.
    pub record: Option<FoundRecord>,
    /// What states the program's operators declare.
    pub declared: BTreeMap<NodeId, StateShapes>,
}

/// The record that a job has stopped with a savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRecord {
    /// Its folder.
    pub folder: String,
    /// Checkpoints of other jobs that the stopped one had still to delete.
    pub supersedes: Vec<String>,
}

/// How often tasks of a job were started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// In all (`numRestarts`).
    pub all: u32,
    /// All tasks at once (`fullRestarts`).
    pub full: u32,
}

/// An enumerator that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnumeratorStart {
    /// The source.
    pub node: NodeId,
    /// To be repeated in the answers.
    pub generation: u32,
    /// How many readers the source has.
    pub parallelism: u32,
    /// What it begins with.
    pub state: Option<Vec<u8>>,
}

/// What a JobMaster wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEffect {
    /// Declare to the ResourceManager that so many slots are needed.
    RequireSlots(SlotNeed),
    /// All slots of this worker were given back: it ends, and nobody misses it.
    Dismiss(TaskManagerId),
    /// Give everything back: nothing of the job runs any more.
    Release(Vec<TaskManagerId>),
    /// Make and start the enumerators of these sources in place of those that they had; answer for each.
    StartEnumerators(Vec<EnumeratorStart>),
    /// Give splits back to an enumerator; answered by [`JobEvent::SplitsTakenBack`].
    ReturnSplits {
        /// To be repeated in the answer.
        generation: u32,
        /// The source.
        node: NodeId,
        /// The splits, in the order in which they were dealt out.
        splits: Vec<Split>,
    },
    /// Ask an enumerator what it remembers.
    SnapshotEnumerator {
        /// To be repeated in the answer.
        generation: u32,
        /// The source.
        node: NodeId,
        /// To be repeated in the answer.
        checkpoint: CheckpointId,
    },
    /// Tell a task what a checkpoint will be.
    PrepareCheckpoint {
        /// Where.
        to: TaskManagerId,
        /// Which.
        execution: ExecutionId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What the task has to know.
        order: CheckpointOrder,
    },
    /// Tell who asked for a savepoint where it is, or why there is none.
    AnswerSavepoint(RequestId, Result<String, String>),
    /// Tell who asked for a checkpoint which it is, or why there is none.
    AnswerCheckpoint(RequestId, Result<CheckpointId, String>),
    /// Begin a checkpoint at a task.
    TriggerCheckpoint {
        /// Where.
        to: TaskManagerId,
        /// Which.
        execution: ExecutionId,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Tell a task what became of a checkpoint.
    NotifyCheckpoint {
        /// Where.
        to: TaskManagerId,
        /// Which.
        execution: ExecutionId,
        /// What.
        event: CheckpointEvent,
    },
    /// Do something in the checkpoint store, after all that was asked for before.
    Store(StorageWork),
    /// Ask an enumerator for a reader's next split.
    AskEnumerator {
        /// To be repeated in the answer.
        generation: u32,
        /// The source.
        node: NodeId,
        /// Who asks.
        reader: ExecutionId,
    },
    /// Start a task.
    Deploy {
        /// Where.
        to: TaskManagerId,
        /// What.
        descriptor: Box<TaskDescriptor>,
    },
    /// Stop a task.
    CancelTask {
        /// Where.
        to: TaskManagerId,
        /// Which.
        execution: ExecutionId,
    },
    /// Answer a reader.
    SendSplit {
        /// Where.
        to: TaskManagerId,
        /// Who asked.
        execution: ExecutionId,
        /// The source.
        node: NodeId,
        /// The split; `None`: no more.
        split: Option<Split>,
    },
    /// Tell a reader whether what it reads is backlog.
    SetBacklog {
        /// Where.
        to: TaskManagerId,
        /// Which.
        execution: ExecutionId,
        /// The source.
        node: NodeId,
        /// Whether it is.
        backlog: bool,
    },
    /// So many sources read backlog by now.
    SourcesInBacklog(usize),
    /// All tasks of a generation of a region are over.
    EndGeneration {
        /// Where its tasks were.
        at: Vec<TaskManagerId>,
        /// Which.
        generation: u32,
    },
    /// Deliver an event later.
    After(Duration, JobEvent),
    /// Tell who watches.
    StatusChanged(JobStatus),
    /// Tasks are being started again: so often by now.
    Restarted(Restarts),
    /// The job is over; the last effect.
    Ended(Box<JobResult>),
    /// Tasks cannot be stopped: the process that they run in has to end.
    Fatal(String),
}

/// What is to be done in the checkpoint store.
#[derive(Clone, Debug, PartialEq)]
pub enum StorageWork {
    /// Find the checkpoint that the job begins with; answered by [`JobEvent::CheckpointLoaded`].
    Load(RestoreFrom),
    /// Write the metadata of a checkpoint; answered by [`JobEvent::CheckpointPublished`].
    Publish {
        /// All but the time.
        metadata: Box<CheckpointMetadata>,
        /// When it was triggered.
        triggered: Time,
        /// The savepoint that it is; `None`: a checkpoint.
        savepoint: Option<SavepointOrder>,
    },
    /// Delete all that was stored of a checkpoint.
    DiscardCheckpoint(CheckpointId),
    /// Delete all that was stored of a savepoint that will not be complete.
    DiscardSavepoint(SnapshotFolder),
    /// Delete the checkpoint of another job that has ended, and all else that it left; or a savepoint.
    DiscardClaimed(String),
    /// Delete a state file; one of a savepoint lies in the store that is named.
    DiscardState(StateHandle, Option<String>),
    /// Delete the shared files that were written for checkpoints up to this one, but those that are kept.
    SweepShared {
        /// The last checkpoint whose files nobody writes any more.
        up_to: CheckpointId,
        /// What retained checkpoints name.
        kept: BTreeSet<String>,
    },
    /// Delete all checkpoints of the job.
    DiscardJob,
    /// Delete all of them but the record that the job has stopped with this savepoint.
    DiscardJobBut(CheckpointId),
}
