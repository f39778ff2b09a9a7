//! What reaches a JobMaster's brain, and what it wants done.

use crate::config::RestartStrategyConfig;
use crate::messages::JobMasterMessage;
use crate::result::JobResult;
use hurtig_core::ids::{ExecutionId, NodeId, TaskManagerId};
use hurtig_dataflow::graph::JobStatus;
use hurtig_dataflow::source::{Assignment, Split};
use hurtig_task::interface::{TaskDescriptor, TaskFailure};
use std::time::Duration;

/// How a job is run.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSettings {
    /// What happens after a failure.
    pub restart: RestartStrategyConfig,
    /// How long slots may be waited for.
    pub slot_request_timeout: Duration,
    /// How long tasks may take to stop.
    pub cancellation_timeout: Duration,
    /// Failures that are remembered.
    pub exception_history: usize,
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
        /// For which generation it was made.
        generation: u32,
        /// The source.
        node: NodeId,
        /// Whether there is one.
        enumerates: bool,
    },
    /// An enumerator has answered a reader.
    SplitAssigned {
        /// For which generation it was made.
        generation: u32,
        /// The source.
        node: NodeId,
        /// Who asked.
        reader: ExecutionId,
        /// The answer.
        assignment: Assignment,
    },
    /// An enumerator has failed, at its start or with an answer.
    EnumeratorFailed {
        /// For which generation it was made.
        generation: u32,
        /// The source.
        node: NodeId,
        /// How.
        failure: TaskFailure,
    },
    /// Timer: a reader that was told to wait may ask again.
    AskAgain {
        /// For which generation.
        generation: u32,
        /// The source.
        node: NodeId,
        /// Who.
        reader: ExecutionId,
    },
    /// Timer: the delay before a restart is over.
    RestartDue {
        /// The generation that is to be replaced.
        generation: u32,
    },
    /// Timer: tasks had time enough to stop.
    CancellationDeadline {
        /// Of which generation.
        generation: u32,
    },
    /// Timer: slots were waited for long enough.
    SlotDeadline,
}

/// What a JobMaster wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEffect {
    /// Declare to the ResourceManager that so many slots are needed.
    RequireSlots(u32),
    /// Give everything back: nothing of the job runs any more.
    Release(Vec<TaskManagerId>),
    /// Make and start the enumerators of these sources, given the readers of each; answer for each.
    StartEnumerators {
        /// To be repeated in the answers.
        generation: u32,
        /// Sources and their parallelism.
        sources: Vec<(NodeId, u32)>,
    },
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
    /// All tasks of a generation are over.
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
    /// The job is over; the last effect.
    Ended(Box<JobResult>),
    /// Tasks cannot be stopped: the process that they run in has to end.
    Fatal(String),
}
