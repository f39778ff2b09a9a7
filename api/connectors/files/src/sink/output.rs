//! A file that becomes visible under its name when it is complete.

use hurtig_core::steps::{Step, reached};
use hurtig_core::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes collected before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// Ends the hidden name of a file that no snapshot knows.
pub(super) const IN_PROGRESS: &str = ".inprogress";
/// Ends the hidden name of a part that a snapshot counts on, complete or not.
pub(super) const PENDING: &str = ".pending";

/// A file being written as `.<name>.inprogress` beside its final path, or as `.<name>.pending` once a snapshot
/// counts on it. One that is neither finished nor [kept](Output::keep) is deleted when it is dropped: the job
/// was cancelled or failed. Pipes and devices are written to directly: they cannot be replaced.
pub(super) struct Output {
    file: File,
    /// Where it is written: `target` itself if that is a pipe or device.
    temporary: PathBuf,
    /// The file itself where the path is a link.
    target: PathBuf,
    /// Encoded and not yet written.
    pub(super) buffer: Vec<u8>,
    written: u64,
    /// A snapshot counts on it.
    kept: bool,
}

/// The name under which `target` is written.
pub(super) fn in_progress(target: &Path) -> PathBuf {
    hidden(target, IN_PROGRESS)
}

fn hidden(target: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(ending);
    target.with_file_name(name)
}

/// Whether there is something that is neither file nor folder: a pipe or a device.
pub(super) fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| !about.is_file() && !about.is_dir())
}

/// An error of the outside with the path that it happened to.
pub(super) fn failed(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let message = format!("cannot {doing} output file '{}'", path.display());
    move |e| Error::external(message, e)
}

/// Creates a folder and those above it.
pub(super) fn create_folder(path: &Path) -> Result<()> {
    let message = || format!("cannot create output folder '{}'", path.display());
    fs::create_dir_all(path).map_err(|e| Error::external(message(), e))
}

/// Creates the folder of a bucket and those above it, with durable names.
pub(super) fn create_bucket(folder: &Path, bucket: &Path) -> Result<()> {
    if bucket.is_dir() {
        return Ok(());
    }
    create_folder(bucket)?;
    let made = bucket.ancestors().take_while(|path| *path != folder);
    made.into_iter().try_for_each(sync_folder)
}

impl Output {
    /// Begins anew.
    pub(super) fn create(target: PathBuf) -> Result<Self> {
        if is_special(&target) {
            let file = OpenOptions::new().write(true).open(&target);
            let file = file.map_err(failed("open", &target))?;
            return Ok(Self::new(file, target.clone(), target, 0));
        }
        // A link stays, and what it points to is replaced.
        let target = fs::canonicalize(&target).unwrap_or(target);
        let temporary = in_progress(&target);
        let file = File::create(&temporary).map_err(failed("create", &temporary))?;
        Ok(Self::new(file, temporary, target, 0))
    }

    fn new(file: File, temporary: PathBuf, target: PathBuf, written: u64) -> Self {
        Self {
            file,
            kept: temporary == target,
            temporary,
            target,
            buffer: Vec::new(),
            written,
        }
    }

    /// Goes on with the first `length` bytes that an earlier attempt wrote, also when it had completed the
    /// file.
    pub(super) fn resume_any(target: PathBuf, length: u64) -> Result<Self> {
        if is_special(&target) {
            return Self::create(target);
        }
        let target = fs::canonicalize(&target).unwrap_or(target);
        let temporary = hidden_part(&target).unwrap_or_else(|| in_progress(&target));
        if !temporary.exists() && target.exists() {
            fs::rename(&target, &temporary).map_err(failed("continue", &target))?;
        }
        Self::reopen(target, temporary, length)
    }

    /// Goes on with the first `length` bytes of a part that a snapshot counts on. `None`: it is visible with at
    /// least so many, so there is nothing left to go on with.
    ///
    /// # Errors
    /// When bytes that the snapshot counts on are gone.
    pub(super) fn resume_part(target: PathBuf, length: u64) -> Result<Option<Self>> {
        let temporary = hidden_part(&target);
        let Some(temporary) = temporary else {
            return match fs::metadata(&target) {
                Ok(about) if about.len() >= length => Ok(None),
                Ok(about) => Err(too_short(about.len(), length)),
                Err(error) => Err(error),
            }
            .map_err(failed("continue", &target));
        };
        Self::reopen(target, temporary, length).map(Some)
    }

    fn reopen(target: PathBuf, temporary: PathBuf, length: u64) -> Result<Self> {
        let failure = failed("continue", &temporary);
        let reopen = || {
            let mut file = OpenOptions::new().write(true).open(&temporary)?;
            let there = file.metadata()?.len();
            if there < length {
                return Err(too_short(there, length));
            }
            file.set_len(length)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = reopen().map_err(failure)?;
        let mut output = Self::new(file, temporary, target, length);
        output.keep();
        Ok(output)
    }

    /// Keeps the file when it is dropped: a snapshot says to go on with it.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    /// Length of the file with what is buffered.
    pub(super) fn length(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Writes what is buffered if it is worth a call.
    pub(super) fn write_if_full(&mut self) -> Result<()> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes what is buffered.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.file
            .write_all(&self.buffer)
            .map_err(failed("write", &self.temporary))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is buffered through to the disk.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.flush()?;
        if self.is_direct() {
            return Ok(());
        }
        self.file.sync_data().map_err(failed("write", &self.temporary))
    }

    /// Whether it is a pipe or device.
    fn is_direct(&self) -> bool {
        self.temporary == self.target
    }

    /// Makes the complete file visible under its name.
    pub(super) fn finish(mut self) -> Result<()> {
        self.sync()?;
        if self.is_direct() {
            return Ok(());
        }
        self.kept = true;
        complete(&self.target)
    }

    /// Makes what was written durable, under a name that says that a snapshot counts on it.
    pub(super) fn promise(&mut self) -> Result<()> {
        self.sync()?;
        let promised = hidden(&self.target, PENDING);
        if !self.is_direct() && self.temporary != promised {
            fs::rename(&self.temporary, &promised).map_err(failed("keep", &self.temporary))?;
            self.temporary = promised;
            sync_folder(&self.temporary)?;
        }
        self.kept = true;
        Ok(())
    }
}

/// The hidden file of a part. Those of snapshots before there were two endings have the other one.
fn hidden_part(target: &Path) -> Option<PathBuf> {
    let names = [PENDING, IN_PROGRESS].map(|ending| hidden(target, ending));
    names.into_iter().find(|path| path.exists())
}

fn too_short(there: u64, length: u64) -> std::io::Error {
    std::io::Error::other(format!(
        "it has {there} bytes and the snapshot was taken at {length}"
    ))
}

/// Makes a complete file visible under its name; nothing happens when it is.
pub(super) fn complete(target: &Path) -> Result<()> {
    let renamed = match hidden_part(target) {
        Some(temporary) => {
            reached(Step::Completing);
            fs::rename(&temporary, target)
        }
        None => fs::metadata(target).map(drop),
    };
    renamed.map_err(failed("complete", target))?;
    reached(Step::FileCompleted);
    sync_folder(target)
}

/// Makes the names in a file's folder durable.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(failed("make durable the folder of", path))
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Nobody is left who could be told; a hidden file more does no harm.
        let _ = fs::remove_file(&self.temporary);
    }
}
