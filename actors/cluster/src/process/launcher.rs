//! The launcher: one thread that starts processes, waits for them, and ends them all when its TaskManager is gone.
//!
//! Standard input is its socket. It promises that of every process that it has started, and of what those have started, nothing runs on
//! when it has ended, and that it ends nothing else. It refuses to know what they do.

use super::cgroup::Group;
use super::confine::{KilledFor, kills_for_memory};
use super::descendants::{TURN, adopt_orphans, children, end, end_all, mark, owner_of};
use super::orders::{Order, Report, Start, receive, send};
use super::output::Output;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, kill_process_group,
    pidfd_open, waitid, waitpid,
};
use rustix::thread::set_no_new_privs;
use std::collections::BTreeMap;
use std::fs::File;
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

/// How often it is tried to remove a group: the kernel may take a while to empty it.
const REMOVALS: u32 = 1_000;

struct Child {
    id: u64,
    pid: Pid,
    /// Ready when it has ended.
    handle: OwnedFd,
    /// What it was started with, and where it answers.
    file: File,
    output: Output,
    group: Option<Group>,
    /// Whether it was to be ended.
    condemned: bool,
    /// What the system had killed for want of memory when it began.
    kills: u64,
}

struct Launcher {
    socket: UnixStream,
    children: BTreeMap<u64, Child>,
    /// Some have ended, and what they had started may not have.
    hunting: bool,
    /// Groups of those that have ended, and how often they are still to be removed.
    groups: Vec<(Group, u32)>,
}

/// Runs a launcher on its standard input. Returns when its TaskManager is gone and nothing that it has started is left.
///
/// # Errors
/// When standard input is no socket, or the system refuses what a launcher needs.
pub fn run_launcher() -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    adopt_orphans()?;
    // Inherited by all that it starts: no program of another user's rights, as `sudo`, gives them any.
    set_no_new_privs(true)?;
    let mut launcher = Launcher {
        socket,
        children: BTreeMap::new(),
        hunting: false,
        groups: Vec::new(),
    };
    let served = launcher.serve();
    launcher.children.values().for_each(end_group);
    let ended = end_all();
    launcher
        .children
        .values_mut()
        .for_each(|child| child.output.take());
    let left = launcher.children.into_values().filter_map(|child| child.group);
    left.chain(launcher.groups.into_iter().map(|(group, _)| group))
        .for_each(|group| _ = group.remove());
    match ended {
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
            self.children.values_mut().for_each(|child| child.output.take());
            self.reap()?;
        }
    }

    /// Waits for an order or an end; true if there is an order, or there will be none.
    fn wait(&self) -> io::Result<bool> {
        let mut handles = vec![PollFd::new(&self.socket, PollFlags::IN)];
        let ends = self.children.values();
        handles.extend(ends.map(|child| PollFd::new(&child.handle, PollFlags::IN)));
        let outputs = self.children.values().filter_map(|child| child.output.pipe());
        handles.extend(outputs.map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)));
        let busy = self.hunting || !self.groups.is_empty();
        let patience = if busy { TURN } else { IDLE };
        match poll(&mut handles, Some(&patience)) {
            Ok(_) => Ok(!handles[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn obey(&mut self, order: Order, file: Option<OwnedFd>) -> io::Result<()> {
        match order {
            Order::Kill { id } => {
                if let Some(child) = self.children.get_mut(&id) {
                    child.condemned = true;
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
        self.groups.retain_mut(|(group, times)| {
            *times -= 1;
            *times > 0 && !group.remove()
        });
        Ok(())
    }

    /// Until it is waited for, its number, which is that of its group, is nobody else's.
    fn bury(&mut self, mut child: Child, status: &WaitIdStatus) -> io::Result<()> {
        end_group(&child);
        waitpid(Some(child.pid), WaitOptions::NOHANG)?;
        child.output.take();
        self.hunting = true;
        let killed_for = killed_for(&child, status);
        self.groups
            .extend(child.group.take().map(|group| (group, REMOVALS)));
        let mut answer = Vec::new();
        child.file.seek(SeekFrom::Start(0))?;
        child.file.read_to_end(&mut answer)?;
        let report = Report::Ended {
            id: child.id,
            code: status.exit_status(),
            signal: status.terminating_signal(),
            killed_for,
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
    if let Some(group) = &child.group {
        group.kill();
    }
    // It may have ended by now.
    let _ = kill_process_group(child.pid, Signal::KILL);
}

/// Whether the system has killed it for want of memory.
fn killed_for(child: &Child, status: &WaitIdStatus) -> Option<KilledFor> {
    if child.condemned || status.terminating_signal() != Some(Signal::KILL.as_raw()) {
        return None;
    }
    match &child.group {
        Some(group) if group.was_out_of_memory() => Some(KilledFor::ItsMemory),
        _ => (kills_for_memory() > child.kills).then_some(KilledFor::MaybeMemory),
    }
}

/// Starts the program that `program` is the open file of, whatever lies under its name by now.
fn launch(mut start: Start, program: &OwnedFd) -> io::Result<Child> {
    start.launch.launcher = std::process::id();
    let mut file = File::from(memfd_create("hurtig-launch", MemfdFlags::CLOEXEC)?);
    serde_json::to_writer(&mut file, &start.launch)?;
    let (output, log) = Output::open(&start.log, start.log_bounds)?;
    let group = start.confinement.group.as_ref().map(Group::make).transpose()?;
    let kills = kills_for_memory();
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
    let child = Child {
        id: start.id,
        pid,
        handle: pidfd_open(pid, PidfdFlags::empty())?,
        file,
        output,
        group,
        condemned: false,
        kills,
    };
    if let Err(error) = start.confinement.apply(pid, child.group.as_ref()) {
        end_group(&child);
        waitpid(Some(pid), WaitOptions::empty())?;
        child.group.map(|group| group.remove());
        return Err(error);
    }
    Ok(child)
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
