//! The seam between a TaskManager and the tasks that it runs.
//!
//! What crosses processes later is serde ([`TaskDescriptor`], [`TaskFailure`], [`TaskReport`]); what
//! stays on an arbiter is a trait object each way: a task reports through its [`TaskLink`] and is
//! commanded through its [`TaskHandle`]. Neither ever blocks, and neither knows the other's actor.

use crate::accumulators::AccumulatorValues;
use crate::checkpoint::CheckpointStorage;
use hurtig_core::error::{Error, Fault};
use hurtig_core::ids::{AllocationId, CheckpointId, EdgeId, ExecutionId, JobId, NodeId, TaskManagerId};
use hurtig_core::key::KeyGroupRange;
use hurtig_core::metrics::{MetricGroup, MetricSample};
use hurtig_dataflow::chain::StopMode;
use hurtig_dataflow::graph::{JobGraph, PartitionKind, TaskState};
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_dataflow::source::{Split, SplitEnumerator};
use hurtig_exchange::remote::{Exchange, NetworkConfig, PeerWorker};
use hurtig_state::StateShapes;
use hurtig_storage::{SavepointFormat, Scale, SnapshotFolder, StateHandle, SubtaskState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// One input of a task: an edge, as seen by one consuming subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputDescriptor {
    /// The edge.
    pub edge: EdgeId,
    /// Which input of the chain's head: 0 or 1.
    pub input: u8,
    /// How the producers partition.
    pub partition: PartitionKind,
    /// The producing subtasks that are connected; one channel each.
    pub producers: Range<u32>,
    /// Whether its channels begin in backlog, because a source behind them does.
    #[serde(default)]
    pub backlog: bool,
    /// The producers in other processes, and where each is in [`TaskDescriptor::peers`].
    #[serde(default)]
    pub elsewhere: BTreeMap<u32, u32>,
}

/// One output of a task: an edge, as seen by one producing subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputDescriptor {
    /// The edge.
    pub edge: EdgeId,
    /// The operator of the chain whose output it is.
    pub producer: NodeId,
    /// The side output; `None`: the main one.
    pub side: Option<String>,
    /// How records find their consumer.
    pub partition: PartitionKind,
    /// The consuming subtasks that are connected; one channel each.
    pub consumers: Range<u32>,
    /// The parallelism of the consuming vertex.
    pub consumer_parallelism: u32,
    /// The key groups of the consuming vertex.
    pub consumer_max_parallelism: u32,
    /// The consumers in other processes, and where each is in [`TaskDescriptor::peers`].
    #[serde(default)]
    pub elsewhere: BTreeMap<u32, u32>,
}

/// Everything that a TaskManager is told about a task; the rest is in the job's graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDescriptor {
    /// The job.
    pub job: JobId,
    /// Vertex, subtask and attempt.
    pub execution: ExecutionId,
    /// The vertex's name, for logs.
    pub name: String,
    /// The operators of the chain, first first.
    pub operators: Vec<NodeId>,
    /// How many subtasks the vertex has.
    pub parallelism: u32,
    /// How many key groups the vertex has.
    pub max_parallelism: u32,
    /// The key groups of this subtask.
    pub key_groups: KeyGroupRange,
    /// The slot that it occupies.
    pub slot: AllocationId,
    /// Whether it needs a thread of its own.
    pub blocking: bool,
    /// The deployment of its region: goes into every [`hurtig_core::ids::ChannelId`] of the task.
    pub generation: u32,
    /// Its inputs.
    pub inputs: Vec<InputDescriptor>,
    /// Its outputs.
    pub outputs: Vec<OutputDescriptor>,
    /// The checkpoint that it begins with; `None`: afresh.
    pub restore: Option<TaskRestore>,
    /// Whether its source begins in backlog.
    #[serde(default)]
    pub backlog: bool,
    /// The other workers that channels of the task lead to or come from.
    #[serde(default)]
    pub peers: Vec<PeerWorker>,
}

/// What a task begins with after a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRestore {
    /// From which checkpoint.
    pub checkpoint: CheckpointId,
    /// The subtask had finished when it was taken: it has nothing left to do.
    pub finished: bool,
    /// The store that has the files; `None`: that of the job's checkpoints.
    pub store: Option<String>,
    /// The job had stopped with this savepoint, and what it holds is still to be committed: the task opens
    /// its operators and ends.
    pub stopped: bool,
    /// What was stored of each operator of the chain, in order; `None` when the checkpoint does not know
    /// it, so that it begins afresh.
    pub operators: Vec<Option<OperatorRestore>>,
}

/// What a checkpoint holds of one operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRestore {
    /// How many subtasks it had.
    pub parallelism: u32,
    /// How many key groups it had.
    pub max_parallelism: u32,
    /// The types of its states; none when nothing was written down of them.
    pub shapes: StateShapes,
    /// The state of each subtask.
    pub subtasks: BTreeMap<u32, SubtaskState>,
}

impl OperatorRestore {
    pub(crate) fn scale(&self) -> Scale {
        Scale {
            parallelism: self.parallelism,
            max_parallelism: self.max_parallelism,
        }
    }
}

/// What a task has to know of a checkpoint before its barrier comes, if it is not one like all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointOrder {
    /// It is a savepoint.
    Savepoint(SavepointOrder),
    /// It names no files of earlier ones, although the job's checkpoints do.
    Full,
    /// It names files of earlier ones if it can, although the job's checkpoints do not.
    Incremental,
}

impl CheckpointOrder {
    /// What there is to know of it as a savepoint.
    pub fn savepoint(&self) -> Option<&SavepointOrder> {
        match self {
            Self::Savepoint(order) => Some(order),
            Self::Full | Self::Incremental => None,
        }
    }
}

/// A savepoint that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointOrder {
    /// Where it goes.
    pub folder: SnapshotFolder,
    /// How the job stops with it; `None`: it goes on.
    pub stop: Option<StopMode>,
    /// In which form it holds keyed state.
    #[serde(default)]
    pub format: SavepointFormat,
}

/// What a task has stored of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPart {
    /// The file that holds the state of its operators in their order; none when they have no state.
    pub handle: Option<StateHandle>,
    /// The types of the states of its operators, in their order.
    pub shapes: Vec<StateShapes>,
    /// How long it took to be stored, beside the records.
    #[serde(default)]
    pub stored_in: Duration,
    /// Whether its barrier overtook records, which are part of it.
    #[serde(default)]
    pub overtook: bool,
    /// What was measured; `None`: by a program that was built before it could be.
    #[serde(default)]
    pub figures: Option<PartFigures>,
}

/// What a task has measured of its part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartFigures {
    /// When the first of its barriers came, in milliseconds since 1970.
    pub came_ms: i64,
    /// How long barriers of other channels were waited for then.
    pub alignment: Duration,
    /// How long the barrier took from the first operator to the last, each of which said what it remembers.
    pub through: Duration,
    /// Bytes of records that the barrier has overtaken.
    pub in_flight_bytes: u64,
    /// Bytes of the files of stores that the part names beside its own file.
    pub named_bytes: u64,
    /// Those of them that were written for it.
    pub new_bytes: u64,
}

/// Why a task failed, as it crosses processes: the chain of causes is text by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFailure {
    /// Who has to do something about it.
    pub fault: TaskFault,
    /// The error and its causes, joined by `: `.
    pub message: String,
    /// The operator that failed, when one of the chain can be blamed.
    pub operator: Option<NodeId>,
    /// Whether user or engine code panicked.
    pub panicked: bool,
    /// Whether a restart would end the same way, so that the job fails whatever its strategy says.
    pub permanent: bool,
    /// The worker that the task could not reach any more, if that is the reason.
    #[serde(default)]
    pub worker: Option<TaskManagerId>,
}

/// [`Fault`] on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskFault {
    /// Program, input or configuration.
    User,
    /// Something outside of the engine.
    External,
    /// Hurtig itself.
    Internal,
}

impl From<Fault> for TaskFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::User => Self::User,
            Fault::External => Self::External,
            Fault::Internal => Self::Internal,
        }
    }
}

impl From<TaskFault> for Fault {
    fn from(fault: TaskFault) -> Self {
        match fault {
            TaskFault::User => Self::User,
            TaskFault::External => Self::External,
            TaskFault::Internal => Self::Internal,
        }
    }
}

impl TaskFailure {
    /// The failure that an error of an operator (or of the task itself) means.
    pub fn new(error: &Error, operator: Option<NodeId>) -> Self {
        Self {
            fault: error.fault().into(),
            message: error.chain(),
            operator,
            panicked: false,
            permanent: error.is_permanent(),
            worker: error.worker(),
        }
    }

    /// The same, of a kind that no restart helps against.
    #[must_use]
    pub fn for_good(self) -> Self {
        Self {
            permanent: true,
            ..self
        }
    }

    /// The failure that a caught panic means; `message` is what it said.
    pub fn panic(fault: Fault, message: impl fmt::Display, operator: Option<NodeId>) -> Self {
        Self {
            fault: fault.into(),
            message: format!("panicked: {message}"),
            operator,
            panicked: true,
            permanent: false,
            worker: None,
        }
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a task measures, as totals since it started; a later report replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Accumulators of all operators of the chain, merged, by name.
    pub accumulators: AccumulatorValues,
    /// Milliseconds spent working.
    pub busy_ms: u64,
    /// Milliseconds spent waiting for input.
    pub idle_ms: u64,
    /// Milliseconds spent waiting for room in an output.
    pub backpressured_ms: u64,
    /// Records read from channels.
    pub records_in: u64,
    /// Records written to channels, or by sinks.
    pub records_out: u64,
    /// The bytes of those that were read from channels: estimated within a worker, as they came from others.
    #[serde(default)]
    pub bytes_in: u64,
    /// The estimated bytes of those that were written to channels.
    #[serde(default)]
    pub bytes_out: u64,
}

/// How a task talks to its TaskManager and, through it, to the JobMaster. Called on the arbiter's
/// thread; never blocks.
pub trait TaskLink: 'static {
    /// The task is in another state: INITIALIZING, RUNNING, then one of FINISHED, CANCELED, FAILED;
    /// `failure` goes with FAILED. A terminal state is the last call on this link, and says that
    /// everything the task held (state, files, channels) is released. DEPLOYING and CANCELING are
    /// the JobMaster's own and are not reported.
    fn state_changed(&self, state: TaskState, failure: Option<TaskFailure>);

    /// The reader of source `node` wants a split. [`TaskHandle::add_split`] is called exactly once
    /// for each request, unless the task ends before; a source asks again only after that.
    fn request_split(&self, node: NodeId);

    /// New totals; a task reports every so often and just before FINISHED.
    fn report(&self, report: TaskReport);

    /// The task's input has ended, and what it has written waits for a checkpoint to be committed: the
    /// task finishes when one that is triggered from now on has completed.
    fn request_checkpoint(&self);

    /// The task knows what a checkpoint will be: its barrier may come.
    fn checkpoint_prepared(&self, checkpoint: CheckpointId);

    /// The task's part of a checkpoint is stored. Said before FINISHED when its barrier came before the
    /// task's end; a task that ends otherwise may never say it.
    fn acknowledge(&self, checkpoint: CheckpointId, part: CheckpointPart);

    /// The task's part of a checkpoint cannot be stored; `reason` says why. The task goes on.
    fn decline(&self, checkpoint: CheckpointId, reason: String);
}

/// What a running task can be told. Implemented over the Task actor's mailbox; calls never block
/// and, once the task has ended, do nothing.
pub trait TaskControl: 'static {
    /// Stop as soon as possible and report CANCELED. Repeated calls mean the same.
    fn cancel(&self);

    /// The answer to a split request of source `node`; `None`: there are no more and never will be.
    fn add_split(&self, node: NodeId, split: Option<Split>);

    /// What source `node` reads from now on is backlog, or is not any more.
    fn set_backlog(&self, node: NodeId, backlog: bool);

    /// Report totals now, through [`TaskLink::report`].
    fn report_now(&self) {}

    /// What the checkpoint of this id will be. Answered by [`TaskLink::checkpoint_prepared`]; its barrier comes after
    /// that.
    fn prepare_checkpoint(&self, checkpoint: CheckpointId, order: CheckpointOrder);

    /// Begin a checkpoint: a source, or a task whose producers have all finished. Splits that were added
    /// before are part of it. A task whose end is near does nothing: its FINISHED is the answer.
    fn trigger_checkpoint(&self, checkpoint: CheckpointId);

    /// A checkpoint has completed or was given up.
    fn notify_checkpoint(&self, event: CheckpointEvent);
}

/// Control of a running task, kept by its TaskManager on the task's arbiter.
pub struct TaskHandle {
    control: Box<dyn TaskControl>,
}

impl TaskHandle {
    /// The handle of a task that `control` commands.
    pub fn new(control: impl TaskControl) -> Self {
        Self {
            control: Box::new(control),
        }
    }

    /// See [`TaskControl::cancel`].
    pub fn cancel(&self) {
        self.control.cancel();
    }

    /// See [`TaskControl::add_split`].
    pub fn add_split(&self, node: NodeId, split: Option<Split>) {
        self.control.add_split(node, split);
    }

    /// See [`TaskControl::set_backlog`].
    pub fn set_backlog(&self, node: NodeId, backlog: bool) {
        self.control.set_backlog(node, backlog);
    }

    /// See [`TaskControl::prepare_checkpoint`].
    pub fn prepare_checkpoint(&self, checkpoint: CheckpointId, order: CheckpointOrder) {
        self.control.prepare_checkpoint(checkpoint, order);
    }

    /// See [`TaskControl::trigger_checkpoint`].
    pub fn trigger_checkpoint(&self, checkpoint: CheckpointId) {
        self.control.trigger_checkpoint(checkpoint);
    }

    /// See [`TaskControl::notify_checkpoint`].
    pub fn notify_checkpoint(&self, event: CheckpointEvent) {
        self.control.notify_checkpoint(event);
    }

    /// See [`TaskControl::report_now`].
    pub fn report_now(&self) {
        self.control.report_now();
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskHandle")
    }
}

/// What a TaskManager and a JobMaster need from the job's code.
pub trait TaskFactory: Send + Sync {
    /// The graph that the program built; its fingerprint must be that of the submitted one.
    fn job_graph(&self) -> &JobGraph;

    /// An enumerator for a source, if it has splits. Called once for each (re)start of the job.
    fn enumerator(&self, node: NodeId) -> Option<Box<dyn SplitEnumerator>>;

    /// Starts the task of one subtask; called on the thread of the arbiter that is to run it, inside
    /// its local set. Tasks of one generation are started in any order; channels are made by
    /// whichever side comes first. An error here fails the task.
    ///
    /// # Errors
    /// When the task cannot be built; nothing of it is left then.
    fn start_task(&self, descriptor: TaskDescriptor, link: Box<dyn TaskLink>) -> Result<TaskHandle, Error>;

    /// How channels reach other workers of the job. Called at most once, before the first task; without it all of the
    /// job's tasks are in one process.
    fn connect(&self, exchange: Arc<dyn Exchange>) {
        drop(exchange);
    }

    /// The bounds of that exchange.
    fn network(&self) -> NetworkConfig {
        NetworkConfig::default()
    }

    /// What states the operators declare, see `Operator::declare`; those that cannot be asked are missing. It may block,
    /// and runs functions of the user.
    fn declared_states(&self) -> BTreeMap<NodeId, StateShapes> {
        BTreeMap::new()
    }

    /// Where the job's checkpoints are kept; `None`: it takes none.
    fn checkpoints(&self) -> Option<&CheckpointStorage> {
        None
    }

    /// The group of the job's own metrics, if they are kept.
    fn job_metrics(&self) -> Option<MetricGroup> {
        None
    }

    /// The metrics of the job's tasks in this process, and of its JobMaster if that is here, as they are now.
    fn metrics(&self) -> Vec<MetricSample> {
        Vec::new()
    }

    /// All tasks of a generation of a region are over: channels that nobody took may be dropped.
    fn generation_ended(&self, generation: u32) {
        let _ = generation;
    }
}
