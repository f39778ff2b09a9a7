//! What can go wrong with a store, made for the one who must react.

use hurtig_core::error::{Error, Fault};
use std::io;
use std::path::{Path, PathBuf};

/// The result of anything in this crate that can fail.
pub type Result<T, E = RocksError> = std::result::Result<T, E>;

/// A failure of a store.
#[derive(Debug, thiserror::Error)]
pub enum RocksError {
    /// A new directory was to take a path that has one. Nothing was changed.
    #[error("cannot {doing} in '{}': it exists already; give a directory that does not exist yet", .path.display())]
    Exists {
        /// What was being done.
        doing: &'static str,
        /// The directory.
        path: PathBuf,
    },
    /// A file or directory could not be made, read or linked.
    #[error("cannot {doing} '{}'; check that the disk has room and the permissions are right", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// RocksDB failed.
    #[error(
        "cannot {doing} in RocksDB at '{}'; check that the disk has room and works, then restart from the last \
         checkpoint", .path.display()
    )]
    Rocks {
        /// What was being done.
        doing: &'static str,
        /// The store's directory.
        path: PathBuf,
        /// What RocksDB said.
        #[source]
        source: rocksdb::Error,
    },
    /// The files are not those that were written.
    #[error(
        "cannot {doing} in RocksDB at '{}': its files are damaged or missing; restore another checkpoint, and \
         check the disk", .path.display()
    )]
    Damaged {
        /// What was being done.
        doing: &'static str,
        /// The store's directory.
        path: PathBuf,
        /// What RocksDB said.
        #[source]
        source: rocksdb::Error,
    },
    /// A flush or compaction failed while nobody waited for it.
    #[error(
        "RocksDB at '{}' failed {count} times in the background; the reason stands in its file LOG. Check that \
         the disk has room and works, then restart from the last checkpoint", .path.display()
    )]
    Background {
        /// The store's directory.
        path: PathBuf,
        /// How often.
        count: u64,
    },
    /// A number of a state that this store has not given out: a bug.
    #[error("RocksDB at '{}' has no state number {index}; this is a bug of Hurtig", .path.display())]
    NoState {
        /// The store's directory.
        path: PathBuf,
        /// The number.
        index: usize,
    },
}

impl RocksError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Io { .. } | Self::Rocks { .. } | Self::Damaged { .. } | Self::Background { .. } => {
                Fault::External
            }
            Self::Exists { .. } | Self::NoState { .. } => Fault::Internal,
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::AlreadyExists => Self::Exists { doing, path },
                _ => Self::Io { doing, path, source },
            }
        }
    }

    pub(crate) fn rocks(doing: &'static str, path: &Path) -> impl FnOnce(rocksdb::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match source.kind() {
                rocksdb::ErrorKind::Corruption => Self::Damaged { doing, path, source },
                _ => Self::Rocks { doing, path, source },
            }
        }
    }
}

impl From<RocksError> for Error {
    fn from(error: RocksError) -> Self {
        let message = error.to_string();
        match error {
            RocksError::Io { source, .. } => Self::external(message, source),
            RocksError::Rocks { source, .. } | RocksError::Damaged { source, .. } => {
                Self::external(message, source)
            }
            RocksError::Background { .. } => Self::external(message, "RocksDB's background work"),
            RocksError::Exists { .. } | RocksError::NoState { .. } => Self::internal(message),
        }
    }
}
