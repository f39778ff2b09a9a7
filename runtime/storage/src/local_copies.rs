//! Copies of a checkpoint's store files on the disk of the process that wrote them.
//!
//! A store's files lie on this disk when they are written into a checkpoint. A hard link keeps each as it is for as long as
//! somebody may go back to the checkpoint, so that a task that starts again in this process need not fetch it. A copy is
//! used only if it is byte for byte what the checkpoint names; otherwise, and where there is none, the checkpoint's own
//! file is read. So copies may be lost, damaged or refused by the disk at any time.

use crate::format::Compression;
use crate::format::header::FileKind;
use crate::format::writer::FileWriter;
use hurtig_core::ids::CheckpointId;
use std::fs;
use std::path::{Path, PathBuf};

/// What the folder of a checkpoint's copies begins with.
const FOLDER: &str = "chk-";

/// Copies in one directory, a folder for each checkpoint.
#[derive(Clone, Debug)]
pub struct LocalCopies {
    root: PathBuf,
}

impl LocalCopies {
    /// Copies in this directory, which is made when there is one. It must be on the disk that has the stores, and
    /// whoever removes those removes it.
    pub fn in_dir(root: PathBuf) -> Self {
        Self { root }
    }

    fn folder(&self, checkpoint: CheckpointId) -> PathBuf {
        self.root.join(format!("{FOLDER}{checkpoint}"))
    }

    /// Keeps `file`, which never changes, as a copy of what the checkpoint has at `path`. Blocks.
    pub(crate) fn keep(&self, checkpoint: CheckpointId, path: &str, file: &Path) {
        let folder = self.folder(checkpoint);
        // Without the copy a restart reads the checkpoint's file.
        let _ = fs::create_dir_all(&folder).and_then(|()| fs::hard_link(file, folder.join(name_of(path))));
    }

    /// Drops the copies for checkpoints before this one: nobody goes back to them. Blocks.
    pub(crate) fn forget_before(&self, completed: u64) {
        for (checkpoint, folder) in self.folders() {
            if checkpoint < completed {
                // Another task of this process may be at it too; what is left goes with the directory.
                let _ = fs::remove_dir_all(&folder);
            }
        }
    }

    fn folders(&self) -> Vec<(u64, PathBuf)> {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let folder = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let checkpoint = name.to_str()?.strip_prefix(FOLDER)?.parse().ok()?;
            Some((checkpoint, entry.path()))
        };
        entries.filter_map(|entry| folder(entry.ok()?)).collect()
    }

    /// Puts the copy of `path` at `to`, if there is one that has this checksum as a file of a checkpoint. Blocks.
    pub(crate) fn take(&self, path: &str, checksum: u64, to: &Path) -> bool {
        let mut folders = self.folders();
        folders.sort_by_key(|(checkpoint, _)| std::cmp::Reverse(*checkpoint));
        let copies = folders.into_iter().map(|(_, folder)| folder.join(name_of(path)));
        for copy in copies {
            let Ok(bytes) = fs::read(&copy) else { continue };
            if image_checksum(&bytes) != checksum {
                // It would only be found damaged again. Other links to it are the same file.
                let _ = fs::remove_file(&copy);
                return false;
            }
            return fs::hard_link(&copy, to).is_ok();
        }
        false
    }
}

/// The checksum that a store's file with these bytes has in a checkpoint.
fn image_checksum(bytes: &[u8]) -> u64 {
    let mut file = FileWriter::new(FileKind::StoreFile, Compression::None);
    file.write(bytes);
    file.finish().checksum
}

/// The last part of a path; unique, since it holds a random number.
fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_taken_as_long_as_it_is_whole_and_somebody_may_need_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, to) = (dir.path().join("000007.sst"), dir.path().join("to"));
        fs::write(&file, b"sorted").unwrap();
        let checksum = image_checksum(b"sorted");
        let copies = LocalCopies::in_dir(dir.path().join("copies"));
        assert!(!copies.take("job/shared/1-a", checksum, &to), "there is none");
        for checkpoint in [1, 2] {
            copies.keep(CheckpointId(checkpoint), "job/shared/1-a", &file);
            copies.keep(CheckpointId(checkpoint), "job/shared/1-a", &file);
        }
        fs::remove_file(&file).unwrap();
        copies.forget_before(2);
        assert_eq!(copies.folders().len(), 1);
        assert!(!copies.take("job/shared/1-b", checksum, &to), "of another file");
        assert!(copies.take("job/shared/1-a", checksum, &to));
        assert_eq!(fs::read(&to).unwrap(), b"sorted");
        fs::remove_file(&to).unwrap();
        assert!(
            !copies.take("job/shared/1-a", checksum + 1, &to),
            "it is not what the checkpoint has"
        );
        copies.forget_before(3);
        assert!(!copies.take("job/shared/1-a", checksum, &to), "it is gone");
    }
}
