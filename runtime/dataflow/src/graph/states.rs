//! The states of jobs and of tasks, and the one table of legal transitions of each.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    /// Accepted; its JobMaster is being started.
    Initializing,
    /// Known to its JobMaster; no task was scheduled yet.
    Created,
    /// Tasks are being scheduled or run.
    Running,
    /// A failure that the restart strategy does not forgive; the other tasks are being cancelled.
    Failing,
    /// Over, with a failure.
    Failed,
    /// Somebody cancelled it; tasks are being cancelled.
    Cancelling,
    /// Over, cancelled.
    Canceled,
    /// Over, all tasks finished.
    Finished,
    /// A failure that is forgiven; tasks are being cancelled, then start again.
    Restarting,
    /// Given up by this JobMaster, not over: another one will go on.
    Suspended,
    /// Taken over with its tasks running; their reports are being collected.
    Reconciling,
}

impl JobStatus {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Initializing,
        Self::Created,
        Self::Running,
        Self::Failing,
        Self::Failed,
        Self::Cancelling,
        Self::Canceled,
        Self::Finished,
        Self::Restarting,
        Self::Suspended,
        Self::Reconciling,
    ];

    /// The states that may follow: the table of legal transitions.
    pub const fn next(self) -> &'static [Self] {
        use JobStatus::*;
        match self {
            Initializing => &[Created, Failed, Canceled, Suspended],
            Created => &[Running, Failing, Cancelling, Suspended],
            Running => &[Finished, Failing, Cancelling, Restarting, Suspended],
            Failing => &[Failed, Cancelling, Suspended],
            Cancelling => &[Canceled, Failed, Suspended],
            Restarting => &[Running, Failing, Cancelling, Suspended],
            Reconciling => &[Running, Failing, Cancelling, Restarting, Suspended],
            Failed | Canceled | Finished | Suspended => &[],
        }
    }

    /// Whether `to` may follow.
    pub fn can_become(self, to: Self) -> bool {
        self.next().contains(&to)
    }

    /// Over for ever, whoever asks. A suspended job is not.
    pub const fn is_globally_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Finished)
    }

    /// Over for this JobMaster.
    pub const fn is_terminal(self) -> bool {
        self.is_globally_terminal() || matches!(self, Self::Suspended)
    }

    /// The name in REST answers and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Failing => "FAILING",
            Self::Failed => "FAILED",
            Self::Cancelling => "CANCELLING",
            Self::Canceled => "CANCELED",
            Self::Finished => "FINISHED",
            Self::Restarting => "RESTARTING",
            Self::Suspended => "SUSPENDED",
            Self::Reconciling => "RECONCILING",
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The state of one attempt at a subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskState {
    /// Known to the JobMaster.
    Created,
    /// Waits for a slot.
    Scheduled,
    /// Has a slot; its TaskManager was told to start it.
    Deploying,
    /// Its operators open and restore.
    Initializing,
    /// Records flow.
    Running,
    /// Its input has ended and its operators have closed.
    Finished,
    /// Was told to stop.
    Canceling,
    /// Stopped, as told.
    Canceled,
    /// Stopped by an error.
    Failed,
    /// Found running by a new JobMaster that has not adopted it yet.
    Reconciling,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Created,
        Self::Scheduled,
        Self::Deploying,
        Self::Initializing,
        Self::Running,
        Self::Finished,
        Self::Canceling,
        Self::Canceled,
        Self::Failed,
        Self::Reconciling,
    ];

    /// The states that may follow: the table of legal transitions.
    pub const fn next(self) -> &'static [Self] {
        use TaskState::*;
        match self {
            Created => &[Scheduled, Canceled, Failed],
            Scheduled => &[Deploying, Canceled, Failed],
            Deploying => &[Initializing, Canceling, Failed],
            Initializing => &[Running, Canceling, Failed],
            Running => &[Finished, Canceling, Failed],
            Canceling => &[Canceled, Failed],
            Reconciling => &[Running, Finished, Canceling, Canceled, Failed],
            Finished | Canceled | Failed => &[],
        }
    }

    /// Whether `to` may follow.
    pub fn can_become(self, to: Self) -> bool {
        self.next().contains(&to)
    }

    /// Whether the attempt is over.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Canceled | Self::Failed)
    }

    /// Whether a TaskManager knows of the attempt and has to be told to stop it.
    pub const fn is_deployed(self) -> bool {
        matches!(
            self,
            Self::Deploying | Self::Initializing | Self::Running | Self::Reconciling
        )
    }

    /// The name in REST answers and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Scheduled => "SCHEDULED",
            Self::Deploying => "DEPLOYING",
            Self::Initializing => "INITIALIZING",
            Self::Running => "RUNNING",
            Self::Finished => "FINISHED",
            Self::Canceling => "CANCELING",
            Self::Canceled => "CANCELED",
            Self::Failed => "FAILED",
            Self::Reconciling => "RECONCILING",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
