//! The launcher: one thread that starts processes, waits for them, and ends them all when its TaskManager is gone.
//!
//! Standard input is its socket. It promises that of every process that it has started, and of what those have started, nothing runs on
//! when it has ended, and that it ends nothing else. It refuses to know what they do.

use super::descendants::{TURN, adopt_orphans, children, end, end_all, mark, owner_of};
use super::orders::{Order, Report, Start, receive, send};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, kill_process_group,
    pidfd_open, waitid, waitpid,
};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// How often those that were handed over and have ended are waited for when nothing else happens.
const IDLE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

struct Child {
    id: u64,
    pid: Pid,
    /// Ready when it has ended.
    handle: OwnedFd,
    /// What it was started with, and where it answers.
    file: File,
}

struct Launcher {
    socket: UnixStream,
    children: BTreeMap<u64, Child>,
    /// Some have ended, and what they had started may not have.
    hunting: bool,
}

/// Runs a launcher on its standard input. Returns when its TaskManager is gone and nothing that it has started is left.
///
/// # Errors
/// When standard input is no socket, or the system refuses what a launcher needs.
pub fn run_launcher() -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    adopt_orphans()?;
    let mut launcher = Launcher {
        socket,
        children: BTreeMap::new(),
        hunting: false,
    };
    let served = launcher.serve();
    launcher.children.values().for_each(end_group);
    match end_all() {
        true => served,
        false => Err(io::Error::other(
            "there are processes that the system does not let die",
        )),
    }
}

impl Launcher {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            if self.wait()? {
                match receive(&self.socket)? {
                    Some((order, file)) => self.obey(order, file)?,
                    None => return Ok(()),
                }
            }
            self.reap()?;
        }
    }

    /// Waits for an order or an end; true if there is an order, or there will be none.
    fn wait(&self) -> io::Result<bool> {
        let mut handles = vec![PollFd::new(&self.socket, PollFlags::IN)];
        let ends = self.children.values();
        handles.extend(ends.map(|child| PollFd::new(&child.handle, PollFlags::IN)));
        let patience = if self.hunting { TURN } else { IDLE };
        match poll(&mut handles, Some(&patience)) {
            Ok(_) => Ok(!handles[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn obey(&mut self, order: Order, file: Option<OwnedFd>) -> io::Result<()> {
        match order {
            Order::Kill { id } => {
                if let Some(child) = self.children.get(&id) {
                    end_group(child);
                }
                Ok(())
            }
            Order::Start(start) => {
                let (id, name) = (start.id, start.name.clone());
                let no_program = || io::Error::other("the order came without its program");
                let launched = file.ok_or_else(no_program).and_then(|file| launch(*start, &file));
                match launched {
                    Ok(child) => {
                        self.children.insert(id, child);
                        Ok(())
                    }
                    Err(error) => {
                        let why = explain(&error, &name);
                        send(&self.socket, &Report::Refused { id, why }, None)
                    }
                }
            }
        }
    }

    /// Hears of all that have ended: of our own, and of those that were handed over.
    fn reap(&mut self) -> io::Result<()> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let ended = |child: &Child| {
            waitid(WaitId::PidFd(child.handle.as_fd()), options)
                .ok()
                .flatten()
        };
        let all: Vec<_> = self
            .children
            .values()
            .filter_map(|child| Some((child.id, ended(child)?)))
            .collect();
        for (id, status) in all {
            if let Some(child) = self.children.remove(&id) {
                self.bury(child, &status)?;
            }
        }
        // Whoever is left was handed over, and is no child of our own.
        let strangers = matches!(waitid(WaitId::All, options), Ok(Some(_)));
        if self.hunting || strangers {
            self.hunting = self.end_strangers();
        }
        Ok(())
    }

    /// Until it is waited for, its number, which is that of its group, is nobody else's.
    fn bury(&mut self, mut child: Child, status: &WaitIdStatus) -> io::Result<()> {
        end_group(&child);
        waitpid(Some(child.pid), WaitOptions::NOHANG)?;
        self.hunting = true;
        let mut answer = Vec::new();
        child.file.seek(SeekFrom::Start(0))?;
        child.file.read_to_end(&mut answer)?;
        let report = Report::Ended {
            id: child.id,
            code: status.exit_status(),
            signal: status.terminating_signal(),
            answer,
        };
        send(&self.socket, &report, None)
    }

    /// Ends what was handed over by those that have ended; who has another environment counts as theirs. True if there was any:
    /// what that has started is handed over next.
    fn end_strangers(&self) -> bool {
        let own: Vec<Pid> = self.children.values().map(|child| child.pid).collect();
        let of_living = |pid: &Pid| owner_of(*pid).is_some_and(|owner| self.children.contains_key(&owner));
        let strangers = children().into_iter().filter(|pid| !own.contains(pid));
        let orphans: Vec<Pid> = strangers.filter(|pid| !of_living(pid)).collect();
        orphans.iter().copied().for_each(end);
        !orphans.is_empty()
    }
}

fn end_group(child: &Child) {
    // It may have ended by now.
    let _ = kill_process_group(child.pid, Signal::KILL);
}

/// Starts the program that `program` is the open file of, whatever lies under its name by now.
fn launch(mut start: Start, program: &OwnedFd) -> io::Result<Child> {
    start.launch.launcher = std::process::id();
    let mut file = File::from(memfd_create("hurtig-launch", MemfdFlags::CLOEXEC)?);
    serde_json::to_writer(&mut file, &start.launch)?;
    let log = OpenOptions::new().create(true).append(true).open(&start.log)?;
    let (owner, id) = mark(start.id);
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command
        .arg0(&start.name)
        .arg(format!("--hurtig-role={}", start.launch.role.name()))
        .arg(format!("--hurtig-fd={}", file.as_raw_fd()))
        .args(&start.launch.job.args)
        .env_clear()
        .envs(&start.environment)
        .env(owner, id)
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
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("a process without a number"))?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let id = start.id;
    Ok(Child {
        id,
        pid,
        handle,
        file,
    })
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
