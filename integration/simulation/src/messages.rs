//! What processes of a simulated cluster say to each other, and what else reaches them.

use crate::courier::Way;
use hurtig_cluster::JobEvent;
use hurtig_cluster::messages::{
    DispatcherMessage, JobMasterMessage, ResourceManagerMessage, TaskId, TaskManagerMessage,
};
use hurtig_cluster::simulation::Delivery;
use hurtig_core::ids::{AllocationId, CheckpointId, ExecutionId, JobId, NodeId, SubtaskId, TaskManagerId};
use hurtig_ha::leader::{Input as ElectionInput, Term};
use hurtig_ha::records::{EpochToken, Failure, FinalStatus, IdBlock, JobView};
use hurtig_rpc::{FenceError, Stamp};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use uuid::Uuid;

/// A process, once and for ever: one that is started again has another.
pub(crate) type Pid = u64;

/// A process of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proc {
    Master {
        epoch: NonZeroU64,
    },
    Worker {
        epoch: NonZeroU64,
        worker: TaskManagerId,
    },
}

impl Proc {
    pub(crate) fn epoch(self) -> NonZeroU64 {
        match self {
            Self::Master { epoch } | Self::Worker { epoch, .. } => epoch,
        }
    }
}

/// What couriers carry.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Dispatcher(DispatcherMessage),
    Resources(ResourceManagerMessage),
    Master(JobMasterMessage),
    Worker(TaskManagerMessage),
}

/// What one process asks another.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Submit,
    WhoLeads,
    Register {
        task_manager: TaskManagerId,
        slots: u32,
        processes: Vec<(Proc, Vec<AllocationId>)>,
    },
    ProcessEnded {
        process: Proc,
        how: String,
    },
    Claim {
        epoch: NonZeroU64,
        process: Uuid,
        workers: Option<Vec<TaskManagerId>>,
    },
    Record {
        checkpoint: CheckpointId,
        path: String,
    },
    BeginEnd {
        status: FinalStatus,
    },
    StartMaster {
        epoch: NonZeroU64,
    },
    StartWorker {
        worker: TaskManagerId,
        epoch: NonZeroU64,
        allocations: Vec<AllocationId>,
        master: Pid,
    },
    EndProcesses {
        epoch: NonZeroU64,
    },
    EndProcess {
        process: Proc,
    },
    OpenWorker {
        worker: TaskManagerId,
    },
    Deliver(Delivery<Payload>),
}

/// Where a JobMaster begins.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) restore: Option<String>,
    pub(crate) first: CheckpointId,
    /// The end that the job has come to.
    pub(crate) ending: Option<FinalStatus>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Done,
    Leader(Option<(Pid, Term)>),
    Claimed(Result<Granted, String>),
}

/// Why there is no answer, or none that helps.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    /// Nobody knows whether it arrived; it may be asked again.
    Unreachable,
    /// Ask again later, or somebody else.
    NotNow,
    /// For good.
    Fenced(FenceError),
    /// For good.
    Failed(String),
}

impl Refused {
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Unreachable => "unreachable".to_owned(),
            Self::NotNow => "not now".to_owned(),
            Self::Fenced(error) => error.to_string(),
            Self::Failed(why) => why.clone(),
        }
    }
}

/// What follows upon an answer.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    Nothing,
    Delivered {
        way: Way,
        place: u64,
        sent: usize,
    },
    // Of a process that looks for a leader.
    Leads,
    Claimed {
        leader: Pid,
    },
    Registered {
        leader: Pid,
    },
    Recorded {
        attempt: u64,
    },
    EndBegun,
    Opened,
    // Of the leader.
    TakenUp {
        task_manager: TaskManagerId,
        process: Proc,
    },
    Cleared {
        epoch: NonZeroU64,
        task_manager: TaskManagerId,
    },
    // Of a TaskManager.
    Reported {
        process: Proc,
    },
    // Of who submits.
    Submitted,
}

/// A time that has come.
#[derive(Clone, Debug)]
pub(crate) enum Timer {
    Courier {
        way: Way,
        place: u64,
    },
    Tick(u64),
    LookForLeader,
    Job(JobEvent),
    StorageDone,
    Enumerated(Box<Enumerated>),
    RecordAgain(u64),
    EndAgain,
    GiveUp(TaskManagerId),
    // The leader's.
    MasterEnded {
        epoch: NonZeroU64,
        cause: String,
    },
    Raise,
    Silent(NonZeroU64),
    Settled,
    Expired(NonZeroU64),
    Freed {
        task_manager: TaskManagerId,
        allocations: Vec<AllocationId>,
    },
    Write(Box<Write>),
    // A worker's.
    Opened(TaskId),
    Step(TaskId),
    Stored {
        task: TaskId,
        checkpoint: CheckpointId,
        state: Vec<u8>,
    },
    // A TaskManager's.
    Report {
        process: Proc,
    },
    Launch(Box<Launch>),
}

/// A process that is about to be there.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) process: Proc,
    pub(crate) allocations: Vec<AllocationId>,
    pub(crate) master: Pid,
    pub(crate) leader: Pid,
}

/// What an enumerator is asked, on a thread that takes its time.
#[derive(Clone, Debug)]
pub(crate) enum Enumerated {
    Start {
        node: NodeId,
        generation: u32,
        state: Option<Vec<u8>>,
    },
    Ask {
        node: NodeId,
        generation: u32,
        reader: ExecutionId,
    },
    Snapshot {
        node: NodeId,
        generation: u32,
        checkpoint: CheckpointId,
    },
    TakeBack {
        node: NodeId,
        generation: u32,
        splits: Vec<hurtig_dataflow::source::Split>,
    },
}

/// What the Dispatcher writes down, one thing at a time.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Admit,
    Raise,
    Claim {
        from: Pid,
        call: u64,
        epoch: NonZeroU64,
        process: Uuid,
        workers: Option<Vec<TaskManagerId>>,
    },
    Record {
        call: u64,
        stamp: Option<Stamp>,
        checkpoint: CheckpointId,
        path: String,
    },
    BeginEnd {
        call: u64,
        stamp: Option<Stamp>,
        status: FinalStatus,
    },
    Finish(EpochToken),
}

/// What a claim leads to, in the store.
#[derive(Clone, Debug)]
pub(crate) struct Begins {
    pub(crate) token: EpochToken,
    pub(crate) latest: Option<(CheckpointId, String)>,
    pub(crate) ids: IdBlock,
    pub(crate) ending: Option<FinalStatus>,
}

/// What came of work in the store.
#[derive(Debug)]
pub(crate) enum Done {
    Election(ElectionInput),
    Leader(u64, Option<(Pid, u64)>),
    Inherited(Term, Box<Result<BTreeMap<JobId, JobView>, Failure>>),
    Admitted(Result<(), Failure>),
    Raised(Result<EpochToken, Failure>),
    Claimed(Box<Write>, Result<Begins, Failure>),
    Recorded(Box<Write>, Result<(), Failure>),
    EndBegun(u64, Result<(), Failure>),
    Finished(EpochToken, Result<(), Failure>),
    Nothing,
}

/// A channel between two subtasks of one deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane {
    pub(crate) generation: u32,
    pub(crate) from: SubtaskId,
    pub(crate) to: SubtaskId,
}

/// A record, and how often its key was counted when it passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) struct Record {
    pub(crate) split: u32,
    pub(crate) index: u32,
    pub(crate) key: u32,
    pub(crate) count: u32,
}

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Records(Vec<Record>),
    Barrier(CheckpointId),
    End,
}

/// What reaches a process.
#[derive(Debug)]
pub(crate) enum Input {
    Begin,
    Call {
        from: Pid,
        id: u64,
        stamp: Option<Stamp>,
        ask: Ask,
    },
    Answered(u64, Box<Result<Reply, Refused>>),
    /// No answer has come, or none will.
    Missing(u64),
    /// A link is dead.
    Lost(Pid),
    /// A connection between workers is broken.
    Broken(Pid),
    Timer(Timer),
    Done(Done),
    /// What is under the election key, as a watch tells it.
    Watched(Option<u64>),
    Element {
        lane: Lane,
        element: Element,
    },
    /// A process that this TaskManager has started has ended.
    ChildEnded(Pid, String),
}

impl Input {
    /// For the trace.
    pub(crate) fn kind(&self) -> u64 {
        match self {
            Self::Begin => 1,
            Self::Call { .. } => 2,
            Self::Answered(..) => 3,
            Self::Missing(_) => 4,
            Self::Lost(_) => 5,
            Self::Broken(_) => 6,
            Self::Timer(_) => 7,
            Self::Done(_) => 8,
            Self::Watched(_) => 9,
            Self::Element { .. } => 10,
            Self::ChildEnded(..) => 11,
        }
    }
}
