//! How jobs end, and what can be seen of them before.

use crate::details::{TaskTotals, VertexDetail};
use crate::job_master::CheckpointStatistics;
use hurtig_core::Fault;
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::{JobId, TaskManagerId, VertexId};
use hurtig_dataflow::graph::{JobGraph, JobStatus, Parallelisms, TaskState};
use hurtig_task::interface::{TaskFailure, TaskFault};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One failure, with the place where it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// What failed and why.
    pub cause: TaskFailure,
    /// The operator's name; that of the vertex when no operator can be blamed.
    pub operator: Option<String>,
    /// The operator's uid, when it has one.
    pub uid: Option<String>,
    /// The vertex's name.
    pub vertex: Option<String>,
    /// The subtask, from 0, and the vertex's parallelism.
    pub subtask: Option<(u32, u32)>,
    /// Which try it was.
    pub attempt: Option<u32>,
    /// Where the task ran.
    pub task_manager: Option<TaskManagerId>,
    /// When, since the job was submitted.
    pub after: Duration,
}

impl JobFailure {
    /// A failure that belongs to no task.
    pub fn of_job(fault: Fault, message: impl Into<String>, after: Duration) -> Self {
        let message = message.into();
        let cause = TaskFailure {
            fault: fault.into(),
            message,
            operator: None,
            panicked: false,
            permanent: false,
            worker: None,
        };
        Self {
            cause,
            operator: None,
            uid: None,
            vertex: None,
            subtask: None,
            attempt: None,
            task_manager: None,
            after,
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.cause.fault.into()
    }
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operator) = self.operator.as_ref().or(self.vertex.as_ref()) {
            write!(f, "operator '{operator}'")?;
            self.uid.iter().try_for_each(|uid| write!(f, " (uid '{uid}')"))?;
            self.subtask
                .iter()
                .try_for_each(|(index, of)| write!(f, ", subtask {} of {of}", index + 1))?;
            f.write_str(": ")?;
        }
        f.write_str(&self.cause.message)
    }
}

impl std::error::Error for JobFailure {}

/// A failure that had consequences, with those that came while they were dealt with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureEntry {
    /// What came first.
    pub root: JobFailure,
    /// What came until the job was restarted or had failed; bounded.
    pub concurrent: Vec<JobFailure>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// FINISHED, CANCELED or FAILED.
    pub status: JobStatus,
    /// Accumulators, merged over all subtasks.
    pub accumulators: AccumulatorValues,
    /// Why it failed; `None` unless FAILED.
    pub failure: Option<JobFailure>,
    /// Failures that it had, oldest first; bounded.
    pub failures: Vec<FailureEntry>,
    /// How often it was restarted.
    pub restarts: u32,
    /// From submission to the end.
    pub duration: Duration,
    /// What its vertices have come to.
    #[serde(default)]
    pub vertices: Vec<VertexOverview>,
    /// The same of their subtasks, as far as there is room.
    #[serde(default)]
    pub details: Vec<VertexDetail>,
    /// What became of checkpoints; `None`: nobody knows.
    #[serde(default)]
    pub checkpoints: Option<Box<CheckpointStatistics>>,
}

impl JobResult {
    /// Whose fault it is that the job failed.
    pub fn fault(&self) -> Option<TaskFault> {
        self.failure.as_ref().map(|failure| failure.cause.fault)
    }
}

/// One line of the list of jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOverview {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Its state.
    pub status: JobStatus,
    /// When it entered its states last, in milliseconds since 1970; what it was never in is missing.
    pub entered: BTreeMap<JobStatus, i64>,
    /// When it was submitted.
    pub start_ms: i64,
    /// When it ended; `None`: it has not.
    pub end_ms: Option<i64>,
}

/// A job, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDetail {
    /// What the list of jobs has of it.
    pub overview: JobOverview,
    /// The graph that was submitted, at the parallelism of its vertices.
    pub graph: Arc<JobGraph>,
    /// Its vertices; empty while it has no JobMaster.
    pub vertices: Vec<VertexOverview>,
}

impl JobDetail {
    /// A job may run at another parallelism than it was submitted with.
    pub(crate) fn scale_graph(&mut self) {
        let vertices = self.vertices.iter();
        let present: Parallelisms = vertices.map(|vertex| (vertex.id, vertex.parallelism)).collect();
        if !present.is_empty() && present != self.graph.parallelisms() {
            self.graph = Arc::new(self.graph.at(&present));
        }
    }
}

/// A vertex of a job, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VertexOverview {
    /// Its id.
    pub id: VertexId,
    /// Its name.
    pub name: String,
    /// How many subtasks it has.
    pub parallelism: u32,
    /// How many it can have.
    pub max_parallelism: u32,
    /// Whose subtasks may share slots with its.
    pub slot_sharing_group: String,
    /// How many subtasks are in which state.
    pub tasks: BTreeMap<TaskState, u32>,
    /// When the first subtask was deployed, in milliseconds since 1970; `None`: none was.
    pub start_ms: Option<i64>,
    /// When the last one ended; `None`: not all have.
    pub end_ms: Option<i64>,
    /// What its subtasks' present attempts have done.
    #[serde(default = "unknown")]
    pub totals: TaskTotals,
}

/// Those of who does not say them.
fn unknown() -> TaskTotals {
    TaskTotals::of(None)
}
