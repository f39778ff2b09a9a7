//! What a process says: taken from it through a pipe, and kept in log files of a bounded size and number.
//!
//! A process that says more than can be written waits, as with a file. What cannot be written at all is dropped, so that nobody fails for
//! want of a log.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// Pieces that are taken from one process before others have their turn.
const PIECES: usize = 16;

/// How large logs become, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBounds {
    /// Bytes from which on a file is put aside (`env.log.max-size`).
    pub bytes: u64,
    /// Files that were put aside and are kept (`env.log.max`).
    pub old: u32,
}

/// The output of a process.
#[derive(Debug)]
pub(super) struct Output {
    /// `None`: nobody can say anything any more.
    pipe: Option<File>,
    log: Log,
}

impl Output {
    /// A pipe whose other end is returned, and the file at its end, at which earlier lines may be.
    pub(super) fn open(path: &Path, bounds: LogBounds) -> io::Result<(Self, OwnedFd)> {
        let log = Log::open(path, bounds)?;
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        // Ours only: programs expect that they may wait.
        fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
        let pipe = Some(File::from(ours));
        Ok((Self { pipe, log }, theirs))
    }

    /// Where it comes from, while there is somebody there.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Keeps what was said: at least what a process that has ended can have left in its pipe.
    pub(super) fn take(&mut self) {
        for _ in 0..PIECES {
            if !self.take_piece() {
                return;
            }
        }
    }

    /// False: there is no more at the moment.
    fn take_piece(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        let mut piece = vec![0; PIECE];
        match pipe.read(&mut piece) {
            Ok(0) => self.pipe = None,
            Ok(read) => {
                self.log.keep(&piece[..read]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => {}
            Err(_) => self.pipe = None,
        }
        false
    }
}

/// Log files.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    bounds: LogBounds,
    file: File,
    bytes: u64,
    /// Whether something could not be written, and that was said.
    failing: bool,
}

impl Log {
    fn open(path: &Path, bounds: LogBounds) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            bounds,
            bytes: file.metadata()?.len(),
            file,
            failing: false,
        })
    }

    /// A file ends with a line, unless that is longer than a piece.
    fn keep(&mut self, piece: &[u8]) {
        let kept = match self.bytes >= self.bounds.bytes {
            false => self.write(piece),
            true => match piece.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    let (last, next) = piece.split_at(end + 1);
                    let rotated = self.write(last).and_then(|()| self.rotate());
                    rotated.and_then(|()| self.write(next))
                }
                None if self.bytes < self.bounds.bytes + PIECE as u64 => self.write(piece),
                None => self.rotate().and_then(|()| self.write(piece)),
            },
        };
        match kept {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(log = %self.path.display(), %error, "output of a process is lost");
            }
            Err(_) => {}
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Puts the file aside and begins another one.
    fn rotate(&mut self) -> io::Result<()> {
        if self.bounds.old == 0 {
            self.file.set_len(0)?;
            self.bytes = 0;
            return Ok(());
        }
        for number in (1..self.bounds.old).rev() {
            match std::fs::rename(old(&self.path, number), old(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, old(&self.path, 1))?;
        *self = Self::open(&self.path, self.bounds)?;
        Ok(())
    }
}

/// A file that was put aside.
fn old(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Whether a file is a log, or one that was put aside.
pub(super) fn is_log(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let number = |end: &str| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once(".log") {
        Some((_, "")) => true,
        Some((_, end)) => end.strip_prefix('.').is_some_and(number),
        None => false,
    }
}

/// The last bytes of a log, of the file that was put aside before it too.
pub(super) fn last_bytes(path: &Path, bytes: u64) -> Vec<u8> {
    let end = |path: &Path, bytes: u64| {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
        let mut read = Vec::new();
        file.take(bytes).read_to_end(&mut read)?;
        Ok::<_, io::Error>(read)
    };
    let last = end(path, bytes).unwrap_or_default();
    let missing = bytes.saturating_sub(last.len() as u64);
    let before = match missing {
        0 => Vec::new(),
        missing => end(&old(path, 1), missing).unwrap_or_default(),
    };
    [before, last].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn logs_are_bounded_in_size_and_number_and_end_with_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.log");
        let bounds = LogBounds { bytes: 4_096, old: 2 };
        let (mut output, theirs) = Output::open(&path, bounds).unwrap();
        let mut theirs = File::from(theirs);
        for number in 0..5_000 {
            theirs.write_all(format!("line {number}\n").as_bytes()).unwrap();
            if number % 100 == 99 {
                output.take();
            }
        }
        drop(theirs);
        output.take();
        assert!(output.pipe().is_none(), "nobody writes any more");
        assert_eq!(names(dir.path()), ["worker.log", "worker.log.1", "worker.log.2"]);
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let [oldest, old, last] = ["worker.log.2", "worker.log.1", "worker.log"].map(read);
        for file in [&oldest, &old] {
            assert!(
                (4_096..5_500).contains(&file.len()) && file.ends_with('\n'),
                "{}",
                file.len()
            );
        }
        let whole = [oldest, old, last].concat();
        let first: u32 = whole
            .lines()
            .next()
            .unwrap()
            .strip_prefix("line ")
            .unwrap()
            .parse()
            .unwrap();
        let wanted: Vec<String> = (first..5_000).map(|number| format!("line {number}")).collect();
        assert_eq!(
            whole.lines().collect::<Vec<_>>(),
            wanted,
            "nothing in between is missing"
        );
        let end = String::from_utf8(last_bytes(&path, 6_000)).unwrap();
        assert!(whole.ends_with(&end) && end.len() == 6_000, "{}", end.len());
    }

    #[test]
    fn a_log_without_old_ones_begins_anew_and_a_long_line_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.log");
        let bounds = LogBounds { bytes: 4_096, old: 0 };
        let mut log = Log::open(&path, bounds).unwrap();
        for _ in 0..10 {
            log.keep(&[b'x'; PIECE]);
        }
        log.keep(b"\nthe last line\n");
        assert_eq!(names(dir.path()), ["worker.log"]);
        assert!(path.metadata().unwrap().len() <= 3 * PIECE as u64);
        assert!(
            String::from_utf8(last_bytes(&path, 99))
                .unwrap()
                .ends_with("the last line\n")
        );
    }

    #[test]
    fn what_cannot_be_written_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.log");
        let (mut output, theirs) = Output::open(&path, LogBounds { bytes: 4_096, old: 1 }).unwrap();
        // A device that is full takes the place of the file.
        output.log.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut theirs = File::from(theirs);
        for _ in 0..10 {
            theirs.write_all(&[b'x'; 60_000]).unwrap();
            output.take();
        }
        assert!(output.log.failing);
        output.log.file = OpenOptions::new().append(true).open(&path).unwrap();
        theirs.write_all(b"again\n").unwrap();
        output.take();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "again\n");
    }

    #[test]
    fn logs_and_those_put_aside_are_known_by_their_names() {
        for (name, wanted) in [
            ("a.log", true),
            ("a.log.1", true),
            ("a.log.12", true),
            ("a.log.", false),
            ("a.log.x", false),
            ("a.log1", false),
            ("a.txt", false),
            ("log", false),
        ] {
            assert_eq!(is_log(Path::new("/x").join(name).as_path()), wanted, "{name}");
        }
    }
}
