//! A TaskManager's way to its launcher.

use super::descendants::{adopt_orphans, end_all, wait_for};
use super::orders::{Order, Report, receive, send};
use rustix::process::Pid;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread::Builder;

/// The launcher of this process. It ends, with all that it has started, when this is dropped.
#[derive(Debug)]
pub(super) struct Starter {
    socket: UnixStream,
}

/// The end of a launcher, for who outlives it.
#[derive(Debug)]
pub(super) struct LauncherEnd {
    socket: UnixStream,
    pid: Option<Pid>,
}

impl Starter {
    /// Starts the launcher: this program, as `arguments` say. To be called before the first thread is there. What the launcher
    /// would leave behind, were it killed, is handed over to this process.
    pub(super) fn spawn(arguments: &[&str]) -> io::Result<(Self, LauncherEnd)> {
        adopt_orphans()?;
        let (ours, theirs) = UnixStream::pair()?;
        // A group of its own: Ctrl-C in a terminal is for the TaskManager.
        let launcher = Command::new("/proc/self/exe")
            .args(arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        let end = LauncherEnd {
            socket: ours.try_clone()?,
            pid: i32::try_from(launcher.id()).ok().and_then(Pid::from_raw),
        };
        Ok((Self { socket: ours }, end))
    }

    /// Calls `heard` with every report, on a thread of its own, and with `None` when the launcher is gone.
    pub(super) fn listen(&self, mut heard: impl FnMut(Option<Report>) + Send + 'static) -> io::Result<()> {
        let socket = self.socket.try_clone()?;
        let listening = move || {
            while let Ok(Some((report, _))) = receive(&socket) {
                heard(Some(report));
            }
            heard(None);
        };
        Builder::new()
            .name("hurtig-launcher".to_owned())
            .spawn(listening)
            .map(drop)
    }

    /// A program that is to be started comes as an open file.
    pub(super) fn order(&self, order: &Order, program: Option<BorrowedFd<'_>>) -> io::Result<()> {
        send(&self.socket, order, program)
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        // The listening thread has the socket too.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl LauncherEnd {
    /// Has the launcher end all that it has started. One that was killed has left orphans, which are ended here.
    pub(super) fn await_it(self) {
        // Its end may be why this is called.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let ended = self.pid.is_none_or(wait_for);
        if !end_all() || !ended {
            tracing::error!("there are processes that the system does not let die");
        }
    }
}
