//! What can go wrong with checkpoint files, made for the one who must react.

use hurtig_core::error::{Error, Fault};
use std::io;

/// The result of anything in this crate that can fail.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// A failure to store or read checkpoint files.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A new object was to take a path that has one. Nothing was changed.
    #[error("'{path}' exists already and is never overwritten; write under a name that was never used")]
    AlreadyExists {
        /// The object.
        path: String,
    },
    /// There is no such object.
    #[error(
        "'{path}' does not exist; check the checkpoint directory, and that the checkpoint was not deleted"
    )]
    NotFound {
        /// The object.
        path: String,
    },
    /// A path that could lead out of the store or that not every store can hold.
    #[error(
        "'{path}' is not a path of an object: {problem}; use a relative path such as 'job/chk-1/_metadata'"
    )]
    BadPath {
        /// What was given.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A place for checkpoints that no store can be opened for.
    #[error(
        "cannot store checkpoints at '{location}': {problem}; use a plain path, 'file:///absolute/path' or 's3://bucket/path'"
    )]
    BadLocation {
        /// What was given.
        location: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A store that does not let itself be used as it is set up.
    #[error("cannot use the store '{location}': {problem}")]
    Refused {
        /// The store.
        location: String,
        /// What it says, and what to do.
        problem: String,
    },
    /// The disk, or whatever stands in its place, failed.
    #[error("cannot {action} '{path}'")]
    Io {
        /// What was being done, as in "cannot …".
        action: &'static str,
        /// The object or folder.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder that was to be restored holds no snapshot.
    #[error(
        "there is no checkpoint or savepoint in '{folder}': it has no `_metadata`; name the folder that has it, and \
         check that the snapshot was not deleted"
    )]
    NoSnapshot {
        /// The folder's whole path.
        folder: String,
    },
    /// The bytes of a file are not those that were written.
    #[error(
        "'{path}' is damaged at byte {offset}: {problem}; nothing of it was restored. Put back an unchanged \
         copy of the file, or restore another checkpoint or savepoint"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// Where the damaged part begins, in bytes from the start of the file.
        offset: u64,
        /// What was expected and what was found.
        problem: String,
    },
    /// A sound file that this build cannot use.
    #[error("cannot use '{path}': {problem}")]
    Incompatible {
        /// The file.
        path: String,
        /// What does not fit, and what to do.
        problem: String,
    },
    /// State that cannot be given to the operator as it is declared now.
    #[error("cannot redistribute state: {problem}")]
    Rescale {
        /// What does not fit, and what to do.
        problem: String,
    },
    /// State that is in a store of its own could not be read from it.
    #[error("cannot read keyed state for a snapshot")]
    State(#[source] Error),
    /// Something that the engine promises never to hand in: a bug.
    #[error("{0}; this is a bug of Hurtig")]
    Internal(String),
}

impl StorageError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::BadLocation { .. }
            | Self::Refused { .. }
            | Self::Incompatible { .. }
            | Self::NoSnapshot { .. }
            | Self::Rescale { .. } => Fault::User,
            Self::NotFound { .. } | Self::Io { .. } | Self::Corrupt { .. } => Fault::External,
            Self::AlreadyExists { .. } | Self::BadPath { .. } | Self::Internal(_) => Fault::Internal,
            Self::State(error) => error.fault(),
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn can_retry(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    /// The same with paths that begin with `root`, for those who know of several stores.
    #[must_use]
    pub fn within(mut self, root: &str) -> Self {
        match &mut self {
            Self::AlreadyExists { path }
            | Self::BadPath { path, .. }
            | Self::NotFound { path }
            | Self::Io { path, .. }
            | Self::Corrupt { path, .. }
            | Self::Incompatible { path, .. } => *path = format!("{}/{path}", root.trim_end_matches('/')),
            Self::NoSnapshot { .. }
            | Self::BadLocation { .. }
            | Self::Refused { .. }
            | Self::Rescale { .. }
            | Self::State(_)
            | Self::Internal(_) => {}
        }
        self
    }

    pub(crate) fn io(action: &'static str, path: &str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Io { action, path, source },
        }
    }

    pub(crate) fn corrupt(path: &str, offset: u64, problem: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            problem: problem.into(),
        }
    }

    pub(crate) fn incompatible(path: &str, problem: impl Into<String>) -> Self {
        Self::Incompatible {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        let message = error.to_string();
        match error {
            StorageError::Io { source, .. } => Self::external(message, source),
            StorageError::State(source) => source.context(message),
            other => match other.fault() {
                Fault::User => Self::user(message),
                Fault::External => Self::external(message, "checkpoint storage"),
                Fault::Internal => Self::internal(message),
            },
        }
    }
}
