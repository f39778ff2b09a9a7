//! What a program hears when the cluster cannot do what it asked.

use hurtig_core::ids::{JobId, TaskManagerId, VertexId};
use hurtig_core::{Error, Fault};
use hurtig_dataflow::graph::JobStatus;
use hurtig_kit::{ActorFault, AskError, ExitReason};

/// Why a cluster refused or could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClusterError {
    /// The environment has ended by a fault of its own or because a task could not be stopped.
    #[error("the environment has failed: {0}")]
    Fatal(ActorFault),
    /// The cluster was shut down.
    #[error("the cluster has been shut down")]
    ShutDown,
    /// No such job, or it ended too long ago.
    #[error("job {0} is not known to this cluster")]
    UnknownJob(JobId),
    /// The job has no such vertex.
    #[error("job {0} has no vertex {1}")]
    UnknownVertex(JobId, VertexId),
    /// The job has ended, and of this nothing was kept.
    #[error("job {0} has ended, and nothing is known of {1} any more")]
    Unrecorded(JobId, &'static str),
    /// No such TaskManager.
    #[error("there is no TaskManager {0}")]
    UnknownTaskManager(TaskManagerId),
    /// It is there, and does not answer.
    #[error("TaskManager {0} does not answer: {1}")]
    SilentTaskManager(TaskManagerId, String),
    /// The job is over and cannot be changed any more.
    #[error("job {job} has already ended: {status}")]
    Ended {
        /// The job.
        job: JobId,
        /// Its last state.
        status: JobStatus,
    },
    /// Another job has this id.
    #[error("job {0} was already submitted as something else: give the job another id")]
    Conflict(JobId),
    /// Its JobMaster is being started, or replaced.
    #[error("job {0} has no JobMaster at the moment: it is being started; ask again")]
    NoMaster(JobId),
    /// What was asked could not be written down, so it was not done.
    #[error("job {job}: {cause}")]
    NotRecorded {
        /// The job.
        job: JobId,
        /// Why, and what to do.
        cause: String,
    },
    /// The store of records does not answer: nothing can be decided before it does, and what was asked may or may not be done.
    #[error("{0}; ask again soon")]
    Unavailable(String),
    /// Another jobmanager decides, or none does at the moment.
    #[error("this jobmanager does not lead: {0}")]
    NotLeading(String),
    /// As many jobs run as may.
    #[error("the cluster already runs {0} jobs, which is its limit: wait for one to end")]
    TooManyJobs(usize),
    /// The program was built with another graph than the one submitted.
    #[error(
        "the program's graph differs from the submitted one (fingerprint {program}, submitted {submitted})"
    )]
    Fingerprint {
        /// Of the program.
        program: String,
        /// Of the submitted graph.
        submitted: String,
    },
    /// A savepoint was not taken, or the job did not stop with it.
    #[error("no savepoint of job {job}: {cause}")]
    Savepoint {
        /// The job.
        job: JobId,
        /// Why, and what to do.
        cause: String,
    },
    /// A checkpoint that was asked for was not taken.
    #[error("no checkpoint of job {job}: {cause}")]
    Checkpoint {
        /// The job.
        job: JobId,
        /// Why, and what to do.
        cause: String,
    },
    /// The job cannot run between these bounds.
    #[error("job {job}: {cause}")]
    Requirements {
        /// The job.
        job: JobId,
        /// What is wrong.
        cause: String,
    },
    /// A component did not answer.
    #[error("{what}: {source}")]
    Ask {
        /// What was asked.
        what: &'static str,
        /// What happened instead.
        source: AskError,
    },
    /// The cluster's thread could not be started.
    #[error("the cluster's thread could not be started: {0}")]
    Start(String),
}

impl ClusterError {
    pub(crate) fn nobody_leads_here() -> Self {
        Self::NotLeading("ask the one that does, or this one again soon".to_owned())
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Fatal(ActorFault {
                reason: ExitReason::Failed(error),
                ..
            }) => error.fault(),
            Self::Fatal(_) | Self::Ask { .. } => Fault::Internal,
            Self::Start(_)
            | Self::Savepoint { .. }
            | Self::Checkpoint { .. }
            | Self::NoMaster(_)
            | Self::NotRecorded { .. }
            | Self::Unavailable(_)
            | Self::SilentTaskManager(..)
            | Self::NotLeading(_) => Fault::External,
            Self::ShutDown
            | Self::UnknownJob(_)
            | Self::UnknownVertex(..)
            | Self::UnknownTaskManager(_)
            | Self::Unrecorded(..)
            | Self::Ended { .. }
            | Self::Conflict(_)
            | Self::TooManyJobs(_)
            | Self::Requirements { .. }
            | Self::Fingerprint { .. } => Fault::User,
        }
    }
}

impl From<ClusterError> for Error {
    fn from(error: ClusterError) -> Self {
        let text = error.to_string();
        match error.fault() {
            Fault::User => Error::user(text),
            Fault::External => Error::external("the cluster failed", text),
            Fault::Internal => Error::internal(text),
        }
    }
}
