//! The launcher: one thread that starts processes, waits for them, and ends them all when its TaskManager is gone.
//!
//! Standard input is its socket. It promises that of every process that it has started, and of what those have started, nothing runs on
//! when it has ended. It refuses to know what they do.

use super::launch::Launch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, kill_process_group, pidfd_open, set_child_subreaper,
    waitpid,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The largest message on the socket.
const MAX_FRAME: u32 = 64 << 20;
/// How often what was handed over is looked for when nothing happens, in seconds.
const IDLE_SECONDS: i64 = 1;
/// How often the processes that are to end are looked at.
const TURN_MS: i64 = 5;
/// How many turns they get.
const TURNS: u32 = 400;

/// What a launcher is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Start a process.
    Start(Box<Start>),
    /// End one, with all that is in its group.
    Kill {
        /// Which.
        id: u64,
    },
}

/// A process that is to be started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    /// Its name in reports.
    pub(super) id: u64,
    pub(super) program: PathBuf,
    pub(super) dir: PathBuf,
    /// All of its environment.
    pub(super) environment: BTreeMap<String, String>,
    /// Where its output goes.
    pub(super) log: PathBuf,
    /// What it is told. The launcher writes its own number into it.
    pub(super) launch: Launch,
}

/// What a launcher says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// A process could not be started.
    Refused {
        /// Which.
        id: u64,
        /// Why.
        why: String,
    },
    /// A process has ended.
    Ended {
        /// Which.
        id: u64,
        /// Its exit code.
        code: Option<i32>,
        /// Or the signal that has killed it.
        signal: Option<i32>,
        /// What stands in the file that it was started with.
        answer: Vec<u8>,
    },
}

/// Writes a message.
pub(super) fn write_frame(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("a message to or from the launcher is too large"))?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&bytes)
}

/// Reads a message; `None` at the end.
pub(super) fn read_frame<M: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::other("a message to or from the launcher is too large"));
    }
    let mut bytes = Vec::new();
    from.take(length.into()).read_to_end(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

struct Child {
    id: u64,
    /// Ready when it has ended.
    handle: OwnedFd,
    /// What it was started with, and where it answers.
    file: File,
}

struct Launcher {
    socket: UnixStream,
    children: BTreeMap<i32, Child>,
}

/// Runs a launcher on its standard input. Returns when its TaskManager is gone and nothing that it has started is left.
///
/// # Errors
/// When standard input is no socket, or the system refuses what a launcher needs.
pub fn run_launcher() -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut launcher = Launcher {
        socket,
        children: BTreeMap::new(),
    };
    let served = launcher.serve();
    launcher.end_all();
    served
}

impl Launcher {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            if self.wait()? {
                match read_frame(&mut self.socket)? {
                    Some(order) => self.obey(order)?,
                    None => return Ok(()),
                }
            }
            self.reap()?;
        }
    }

    /// Waits for an order or an end; true if there is an order, or there will be none.
    fn wait(&self) -> io::Result<bool> {
        let mut handles = vec![PollFd::new(&self.socket, PollFlags::IN)];
        handles.extend(
            self.children
                .values()
                .map(|child| PollFd::new(&child.handle, PollFlags::IN)),
        );
        let timeout = Timespec {
            tv_sec: IDLE_SECONDS,
            tv_nsec: 0,
        };
        match poll(&mut handles, Some(&timeout)) {
            Ok(_) => Ok(!handles[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Kill { id } => {
                let found = self.children.iter().find(|(_, child)| child.id == id);
                if let Some(pid) = found.and_then(|(pid, _)| Pid::from_raw(*pid)) {
                    end_group(pid);
                }
                Ok(())
            }
            Order::Start(start) => {
                let (id, program) = (start.id, start.program.clone());
                match launch(*start) {
                    Ok((pid, child)) => {
                        self.children.insert(pid, child);
                        Ok(())
                    }
                    Err(error) => {
                        let why = explain(&error, &program.display().to_string());
                        write_frame(&mut self.socket, &Report::Refused { id, why })
                    }
                }
            }
        }
    }

    /// Hears of all that have ended: of our own, and of those that were handed over.
    fn reap(&mut self) -> io::Result<()> {
        let mut ended = false;
        while let Ok(Some((pid, status))) = waitpid(None, WaitOptions::NOHANG) {
            let Some(mut child) = self.children.remove(&pid.as_raw_nonzero().get()) else {
                continue;
            };
            ended = true;
            // What it has left behind in its group.
            end_group(pid);
            let mut answer = Vec::new();
            child.file.seek(SeekFrom::Start(0))?;
            child.file.read_to_end(&mut answer)?;
            let report = Report::Ended {
                id: child.id,
                code: status.exit_status(),
                signal: status.terminating_signal(),
                answer,
            };
            write_frame(&mut self.socket, &report)?;
        }
        if ended {
            self.end_strangers();
        }
        Ok(())
    }

    /// Ends what was handed over: its parent, one of ours, has ended.
    fn end_strangers(&self) {
        for pid in handed_over() {
            if !self.children.contains_key(&pid)
                && let Some(pid) = Pid::from_raw(pid)
            {
                // It may have ended by now.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Ends everything. What a process has started is handed over when that process has ended, so it takes several turns.
    fn end_all(&mut self) {
        self.children
            .keys()
            .filter_map(|pid| Pid::from_raw(*pid))
            .for_each(end_group);
        for _ in 0..TURNS {
            loop {
                match waitpid(None, WaitOptions::NOHANG) {
                    Ok(Some((pid, _))) => _ = self.children.remove(&pid.as_raw_nonzero().get()),
                    Ok(None) => break,
                    // There is nobody left.
                    Err(_) => return,
                }
            }
            for pid in handed_over().into_iter().filter_map(Pid::from_raw) {
                // It may have ended by now.
                let _ = kill_process(pid, Signal::KILL);
            }
            let turn = Timespec {
                tv_sec: 0,
                tv_nsec: TURN_MS * 1_000_000,
            };
            // An interrupted turn is a shorter one.
            let _ = poll(&mut [], Some(&turn));
        }
    }
}

fn end_group(pid: Pid) {
    // It may have ended by now.
    let _ = kill_process_group(pid, Signal::KILL);
}

fn launch(mut start: Start) -> io::Result<(i32, Child)> {
    start.launch.launcher = std::process::id();
    let mut file = File::from(memfd_create("hurtig-launch", MemfdFlags::CLOEXEC)?);
    serde_json::to_writer(&mut file, &start.launch)?;
    let log = OpenOptions::new().create(true).append(true).open(&start.log)?;
    let mut command = Command::new(&start.program);
    command
        .arg(format!("--hurtig-role={}", start.launch.role.name()))
        .arg(format!("--hurtig-fd={}", file.as_raw_fd()))
        .args(&start.launch.job.args)
        .env_clear()
        .envs(&start.environment)
        .current_dir(&start.dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    // Inherited by this one only.
    fcntl_setfd(&file, FdFlags::empty())?;
    let spawned = command.spawn();
    fcntl_setfd(&file, FdFlags::CLOEXEC)?;
    let pid = i32::try_from(spawned?.id()).map_err(io::Error::other)?;
    let known = Pid::from_raw(pid).ok_or_else(|| io::Error::other("a process without a number"))?;
    let handle = pidfd_open(known, PidfdFlags::empty())?;
    let child = Child {
        id: start.id,
        handle,
        file,
    };
    Ok((pid, child))
}

/// The processes whose parent is this one.
fn handed_over() -> Vec<i32> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(own)).collect()
}

/// The fourth field; the second one is in parentheses and may hold anything.
fn parent_of(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// What a failed start means.
fn explain(error: &io::Error, program: &str) -> String {
    use rustix::io::Errno;
    let known = error.raw_os_error().map(Errno::from_raw_os_error);
    let meaning = match known {
        Some(Errno::NOEXEC) => "the file is no executable of this machine",
        Some(Errno::ACCESS) => {
            "the file may not be executed: look at its permissions, and whether its file system is mounted with noexec"
        }
        Some(Errno::NOENT) => {
            "the file, or the loader that it names, is not there: was it built for another system?"
        }
        Some(Errno::TXTBSY) => "somebody is writing to the file",
        Some(Errno::NOMEM | Errno::AGAIN) => "the machine has no memory or processes left",
        _ => return format!("{program} cannot be started: {error}"),
    };
    format!("{program} cannot be started: {meaning} ({error})")
}
