//! What can go wrong, by what somebody has to do about it.

use crate::savepoint::StateKind;
use hurtig_core::{Error, Fault};
use hurtig_storage::StorageError;
use std::fmt;

/// The result of everything here.
pub type Result<T, E = StateProcessorError> = std::result::Result<T, E>;

/// Which state is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePlace {
    /// The whole path of the savepoint.
    pub path: String,
    /// The operator's uid, or its id if it has none.
    pub operator: String,
    /// The state's name.
    pub state: String,
}

impl fmt::Display for StatePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            operator,
            state,
        } = self;
        write!(f, "state '{state}' of operator '{operator}' in '{path}'")
    }
}

/// Why a savepoint could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateProcessorError {
    /// A file is missing, damaged or of no use to this build.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no such operator.
    #[error("'{path}' has no operator '{operator}'; it has {stored}")]
    NoOperator {
        /// The whole path of the savepoint.
        path: String,
        /// What was asked for.
        operator: String,
        /// What there is instead.
        stored: String,
    },
    /// The operator has no such state.
    #[error("there is no {place}: the operator has {stored}; name one of these")]
    NoState {
        /// What was asked for.
        place: StatePlace,
        /// What there is instead.
        stored: String,
    },
    /// The state is of another kind.
    #[error("{place} is {stored} and not {wanted}; read it as what it is")]
    OtherKind {
        /// Which state.
        place: StatePlace,
        /// Its kind.
        stored: StateKind,
        /// What it was taken for.
        wanted: StateKind,
    },
    /// An entry is not of the type that was named.
    #[error("cannot read {place}: {problem}")]
    OtherType {
        /// Which state.
        place: StatePlace,
        /// What does not fit, and what to do.
        problem: String,
    },
    /// The keyed state is in files that belong to RocksDB.
    #[error(
        "cannot read {place}: it is in files of RocksDB, as in incremental checkpoints and native savepoints; take a canonical \
         savepoint of a job that was restored from it, and read that"
    )]
    InStoreFiles {
        /// Which state.
        place: StatePlace,
    },
    /// What was to be written makes no savepoint.
    #[error("cannot write a savepoint: {problem}")]
    Unwritable {
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl StateProcessorError {
    pub(crate) fn unwritable(problem: impl Into<String>) -> Self {
        Self::Unwritable {
            problem: problem.into(),
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Storage(error) => error.fault(),
            _ => Fault::User,
        }
    }
}

impl From<StateProcessorError> for Error {
    fn from(error: StateProcessorError) -> Self {
        match error {
            StateProcessorError::Storage(error) => error.into(),
            error => Self::user(error.to_string()),
        }
    }
}
