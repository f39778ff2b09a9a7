//! The artifacts of the leader: kept under their digests, and read by TaskManagers part by part.

use crate::wire::{BlobPart, BlobRpc, ReadBlob};
use hurtig_core::Error;
use hurtig_ha::blob::{BlobDir, BlobError};
use hurtig_ha::records::Digest;
use hurtig_kit::{BlockingThreads, Component, ExitReason, ShellCx};
use hurtig_rpc::{Call, Gateway};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Questions that may wait.
const CAPACITY: usize = 256;
/// Bytes of a part.
const PART: u64 = 4 << 20;
/// Parts that may wait to be written.
const PARTS: usize = 4;
/// How long a part may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often an artifact is read that changes while it is read.
const CHECKS: u32 = 3;
/// The largest artifact.
pub(crate) const MAX_ARTIFACT: u64 = 4 << 30;

/// Answers who reads artifacts.
pub(super) struct Blobs(pub(super) BlobDir);

/// What reaches [`Blobs`].
pub(super) enum BlobEvent {
    Read(Call<ReadBlob>),
    Done(Call<ReadBlob>, Result<Vec<u8>, Error>),
}

impl Component for Blobs {
    type Event = BlobEvent;

    fn name(&self) -> String {
        "blobs".to_owned()
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn handle(&mut self, event: BlobEvent, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match event {
            BlobEvent::Read(call) => {
                let (dir, ReadBlob { digest, offset }) = (self.0.clone(), call.message.clone());
                let read = move || {
                    let digest = digest
                        .parse::<Digest>()
                        .map_err(|error| Error::user(error.to_string()))?;
                    let part = dir.part(digest, offset, PART);
                    part.map_err(|error| Error::external("an artifact cannot be read", error))
                };
                cx.blocking(read, |read| {
                    let read = read.unwrap_or_else(|panicked| Err(Error::internal(panicked.to_string())));
                    BlobEvent::Done(call, read)
                });
            }
            BlobEvent::Done(call, Ok(bytes)) => call.reply.send(BlobPart { bytes }),
            BlobEvent::Done(call, Err(error)) => call.reply.fail(&error),
        }
        Ok(())
    }
}

/// An artifact whose bytes were checked, and which has not been written to since as long as [`Self::is_unchanged`] says so.
#[derive(Clone, Debug)]
pub(super) struct Program {
    file: Arc<File>,
    state: FileState,
}

/// What changes with the bytes of a file, and cannot be set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    length: u64,
    changed: (i64, i64),
}

impl FileState {
    fn of(file: &File) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = file.metadata()?;
        Ok(Self {
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Program {
    /// Reads all of the artifact. Blocks.
    fn check(dir: &BlobDir, wanted: Digest) -> Result<Self, BlobError> {
        for _ in 0..CHECKS {
            if let Some(program) = Self::check_once(dir, wanted)? {
                return Ok(program);
            }
        }
        let source = io::Error::other("somebody writes to it while it is read");
        let path = dir.read(wanted)?.path().to_owned();
        Err(BlobError::Io { path, source })
    }

    /// `None`: it has changed while it was read. Two who check it for the first time both set its permissions.
    fn check_once(dir: &BlobDir, wanted: Digest) -> Result<Option<Self>, BlobError> {
        let reader = dir.read(wanted)?;
        let path = reader.path().to_owned();
        let io = |source| {
            let path = path.clone();
            BlobError::Io { path, source }
        };
        executable(reader.file()).map_err(io)?;
        let state = FileState::of(reader.file()).map_err(io)?;
        let file = Arc::new(reader.verified()?);
        let program = Self { file, state };
        Ok(Some(program).filter(Self::is_unchanged))
    }

    /// Whether it still is what was checked.
    pub(super) fn is_unchanged(&self) -> bool {
        FileState::of(&self.file).is_ok_and(|state| state == self.state)
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// An artifact that can be executed: from `dir`, or from the leader when it is not there, or not whole.
pub(super) async fn fetch(
    dir: BlobDir,
    digest: String,
    leader: Gateway<BlobRpc>,
    threads: BlockingThreads,
) -> Result<Program, String> {
    let wanted: Digest = digest
        .parse()
        .map_err(|error: hurtig_ha::records::NotADigest| error.to_string())?;
    let look = {
        let dir = dir.clone();
        threads.run(move || Program::check(&dir, wanted))
    };
    match look.await.map_err(|error| error.to_string())? {
        Ok(program) => return Ok(program),
        Err(error @ BlobError::Damaged { .. }) => tracing::warn!(%error, "it is fetched again"),
        Err(BlobError::Missing { .. }) => {}
        Err(error) => return Err(error.to_string()),
    }
    let (sender, receiver) = mpsc::channel(PARTS);
    let stored = threads.run(move || store(&dir, wanted, receiver));
    let mut offset = 0;
    loop {
        let digest = digest.clone();
        let part = leader.ask(ReadBlob { digest, offset }, PATIENCE).await;
        let BlobPart { bytes } = part.map_err(|error| format!("the artifact cannot be fetched: {error}"))?;
        let (length, end) = (bytes.len() as u64, bytes.is_empty());
        if sender.send(bytes).await.is_err() {
            // Why it cannot be stored is what the thread says.
            break;
        }
        if end {
            break;
        }
        offset += length;
    }
    drop(sender);
    stored.await.map_err(|error| error.to_string())?
}

fn store(dir: &BlobDir, wanted: Digest, parts: mpsc::Receiver<Vec<u8>>) -> Result<Program, String> {
    let mut parts = Parts {
        parts,
        current: io::Cursor::default(),
        ended: false,
    };
    let found = dir
        .store(&mut parts, MAX_ARTIFACT)
        .map_err(|error: BlobError| error.to_string())?;
    if found != wanted {
        return Err(format!(
            "the artifact {wanted} has arrived with the digest {found}"
        ));
    }
    Program::check(dir, wanted).map_err(|error| error.to_string())
}

/// Its owner may read and run it.
fn executable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    const MODE: u32 = 0o500;
    if file.metadata()?.permissions().mode() & 0o777 == MODE {
        return Ok(());
    }
    file.set_permissions(std::fs::Permissions::from_mode(MODE))
}

/// The parts as one stream. What ends without its empty part is torn.
struct Parts {
    parts: mpsc::Receiver<Vec<u8>>,
    current: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            if read > 0 || self.ended {
                return Ok(read);
            }
            let part = self.parts.blocking_recv();
            let part = part.ok_or_else(|| io::Error::other("the leader has not sent all of the artifact"))?;
            self.ended = part.is_empty();
            self.current = io::Cursor::new(part);
        }
    }
}
