//! What a TaskManager and its launcher say to each other: messages over a socket, with which open files can travel.

use super::confine::{Confinement, KilledFor};
use super::launch::Launch;
use super::output::LogBounds;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// The largest message on the socket.
const MAX_FRAME: u32 = 64 << 20;
/// Bytes of its length, which come first.
const LENGTH: usize = 4;

/// What a launcher is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Start a process. The open file of its program comes with it.
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
    /// Its name for people, and for itself.
    pub(super) name: String,
    pub(super) dir: PathBuf,
    /// Its environment; the launcher adds to it whose the process is.
    pub(super) environment: BTreeMap<String, String>,
    /// Where its output goes.
    pub(super) log: PathBuf,
    /// How much of it is kept.
    pub(super) log_bounds: LogBounds,
    /// What it may use up.
    pub(super) confinement: Confinement,
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
        /// By whom, if that was for memory.
        killed_for: Option<KilledFor>,
        /// What stands in the file that it was started with.
        answer: Vec<u8>,
    },
}

/// Sends a message, and an open file with it.
pub(super) fn send(
    mut socket: &UnixStream,
    message: &impl Serialize,
    file: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("a message to or from the launcher is too large"))?;
    let length = length.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(file.as_slice())) {
        return Err(io::Error::other("there is no room for an open file"));
    }
    let sent = retry_on_intr(|| {
        sendmsg(
            socket,
            &[IoSlice::new(&length)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    // The file has gone with the first byte.
    socket.write_all(&length[sent..])?;
    socket.write_all(&bytes)
}

/// Receives a message and the open file that came with it; `None` at the end.
pub(super) fn receive<M: DeserializeOwned>(socket: &UnixStream) -> io::Result<Option<(M, Option<OwnedFd>)>> {
    let (mut length, mut file, mut got) = ([0; LENGTH], None, 0);
    while got < LENGTH {
        match receive_some(socket, &mut length[got..], &mut file)? {
            0 if got == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            some => got += some,
        }
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::other("a message to or from the launcher is too large"));
    }
    let mut bytes = Vec::new();
    socket.take(length.into()).read_to_end(&mut bytes)?;
    Ok(Some((serde_json::from_slice(&bytes)?, file)))
}

fn receive_some(socket: &UnixStream, into: &mut [u8], file: &mut Option<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(into)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            *file = files.last();
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_file_arrives_open_whatever_becomes_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "what was checked").unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = File::open(&path).unwrap();
        send(&ours, &Order::Kill { id: 7 }, Some(file.as_fd())).unwrap();
        send(&ours, &Order::Kill { id: 8 }, None).unwrap();
        drop((file, ours));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "something else").unwrap();
        let (order, file) = receive::<Order>(&theirs).unwrap().unwrap();
        assert!(matches!(order, Order::Kill { id: 7 }));
        let mut text = String::new();
        File::from(file.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "what was checked");
        let (order, file) = receive::<Order>(&theirs).unwrap().unwrap();
        assert!(matches!(order, Order::Kill { id: 8 }) && file.is_none());
        assert!(receive::<Order>(&theirs).unwrap().is_none());
    }

    #[test]
    fn what_is_torn_or_too_large_is_an_error() {
        for bytes in [&[1, 0][..], &[9, 0, 0, 0, b'{'], &[255; 4]] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(bytes).unwrap();
            drop(ours);
            assert!(receive::<Order>(&theirs).is_err(), "{bytes:?}");
        }
    }
}
