//! What can go wrong, as programs see it.

use hurtig_core::config::ConfigError;

/// Why a program could not run, or why its job ended without success.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is wrong.
    #[error("{0}")]
    Config(String),
    /// The graph is wrong; the message names the operators.
    #[error("{0}")]
    Program(String),
    /// Something that the job needs is missing or unusable, found before it started.
    #[error("{0}")]
    Input(String),
    /// The job failed; the message names operator, uid, subtask and cause.
    #[error("job '{job}' FAILED: {cause}")]
    JobFailed {
        /// The job's name.
        job: String,
        /// Where and why.
        cause: String,
    },
    /// The job was cancelled.
    #[error("job '{job}' was CANCELED")]
    JobCanceled {
        /// The job's name.
        job: String,
    },
    /// The embedded cluster is broken or gone.
    #[error("{0}")]
    Cluster(String),
}

impl Error {
    pub(crate) fn config(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }

    pub(crate) fn program(message: String) -> Self {
        Self::Program(message)
    }

    pub(crate) fn job(error: hurtig_core::Error) -> Self {
        Self::Input(error.chain())
    }
}

/// The result of a program: any error will do.
pub type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
