//! The lock of a directory, and which file systems it means anything on.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The file that is locked. It is never deleted: whoever has it open must have the same one.
const LOCK_FILE: &str = "lock";

/// Why a store in a directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another process: only one may lead from a directory. Stop it, or wait for its end", .0.display())]
    InUse(PathBuf),
    /// Locks and renames mean less there.
    #[error(
        "{} lies on a network file system ({what}), whose locks and renames cannot be relied on. Use a local disk, or \
         `high-availability.type: etcd`", .dir.display()
    )]
    NetworkFileSystem {
        /// The directory.
        dir: PathBuf,
        /// The file system.
        what: &'static str,
    },
    /// What was written cannot be read.
    #[error("{} is damaged: {why}. Restore it from a backup; nothing was changed", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk says no.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// A directory that nobody else has.
#[derive(Debug)]
pub(super) struct DirLock {
    /// Locked until it is closed.
    _file: File,
}

impl DirLock {
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::io(dir, error);
        fs::create_dir_all(dir).map_err(io)?;
        if let Some(what) = network_file_system(dir).map_err(io)? {
            let dir = dir.to_owned();
            return Err(OpenError::NetworkFileSystem { dir, what });
        }
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK_FILE))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }
}

/// Types of `statfs(2)`, and their names.
const NETWORK: [(u32, &str); 13] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x5346_414f, "AFS"),
    (0x1983_0326, "BeeGFS"),
];

fn name_of(kind: u32) -> Option<&'static str> {
    NETWORK
        .iter()
        .find(|(known, _)| *known == kind)
        .map(|(_, name)| *name)
}

/// The network file system that a directory lies on, if it does.
#[cfg(target_os = "linux")]
fn network_file_system(dir: &Path) -> io::Result<Option<&'static str>> {
    let kind = rustix::fs::statfs(dir)?.f_type;
    // The type is a number of 32 bits whatever the width of the field and its sign.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "only these bits count"
    )]
    Ok(name_of(kind as u32))
}

/// Elsewhere the types have no numbers that one could know.
#[cfg(not(target_os = "linux"))]
fn network_file_system(_: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::take(dir.path()).unwrap();
        assert!(matches!(DirLock::take(dir.path()), Err(OpenError::InUse(_))));
        drop(held);
        DirLock::take(dir.path()).unwrap();
    }

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        // From statfs(2): NFS_SUPER_MAGIC, FUSE_SUPER_MAGIC; EXT4, TMPFS, OVERLAYFS.
        assert_eq!(name_of(0x6969), Some("NFS"));
        assert_eq!(name_of(0x6573_5546), Some("FUSE"));
        assert!(
            [0xef53, 0x0102_1994, 0x794c_7630]
                .into_iter()
                .all(|local| name_of(local).is_none())
        );
    }
}
