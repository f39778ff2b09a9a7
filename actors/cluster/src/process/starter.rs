//! A TaskManager's way to its launcher.

use super::launcher::{Order, Report, read_frame, write_frame};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread::Builder;

/// The launcher of this process. It ends, with all that it has started, when this is dropped.
#[derive(Debug)]
pub(super) struct Starter {
    socket: UnixStream,
}

impl Starter {
    /// Starts the launcher: this program, as `arguments` say. To be called before the first thread is there.
    pub(super) fn spawn(arguments: &[&str]) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        Command::new("/proc/self/exe")
            .args(arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { socket: ours })
    }

    /// Calls `heard` with every report, on a thread of its own, and with `None` when the launcher is gone.
    pub(super) fn listen(&self, mut heard: impl FnMut(Option<Report>) + Send + 'static) -> io::Result<()> {
        let mut socket = self.socket.try_clone()?;
        let listening = move || {
            while let Ok(Some(report)) = read_frame(&mut socket) {
                heard(Some(report));
            }
            heard(None);
        };
        Builder::new()
            .name("hurtig-launcher".to_owned())
            .spawn(listening)
            .map(drop)
    }

    pub(super) fn order(&mut self, order: &Order) -> io::Result<()> {
        write_frame(&mut self.socket, order)
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        // The listening thread has the socket too.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}
