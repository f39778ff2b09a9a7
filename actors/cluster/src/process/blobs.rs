//! The artifacts of the leader: kept under their digests, and read by TaskManagers part by part.

use crate::wire::{BlobPart, BlobRpc, ReadBlob};
use hurtig_core::Error;
use hurtig_ha::blob::{BlobDir, BlobError};
use hurtig_ha::records::Digest;
use hurtig_kit::{BlockingThreads, Component, ExitReason, ShellCx};
use hurtig_rpc::{Call, Gateway};
use std::io::{self, Read};
use std::path::PathBuf;
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

/// Fetches an artifact that is not in `dir`. Its file, which can be executed.
pub(super) async fn fetch(
    dir: BlobDir,
    digest: String,
    leader: Gateway<BlobRpc>,
    threads: BlockingThreads,
) -> Result<PathBuf, String> {
    let wanted: Digest = digest
        .parse()
        .map_err(|error: hurtig_ha::records::NotADigest| error.to_string())?;
    if let Some(file) = dir.file(wanted) {
        // Who has stored it may not have come so far.
        executable(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        return Ok(file);
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

fn store(dir: &BlobDir, wanted: Digest, parts: mpsc::Receiver<Vec<u8>>) -> Result<PathBuf, String> {
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
    let file = dir
        .file(wanted)
        .ok_or("the artifact was deleted while it was fetched")?;
    executable(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

/// Its owner may read and run it.
fn executable(file: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o500))
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
