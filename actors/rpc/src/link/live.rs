//! A connection that is in use: its brain, its bytes, and the asks of the peer that are being answered.

use super::shell::{Link, LinkEvent};
use crate::connection::{ConnectionBrain, Effect};
use crate::error::RpcError;
use crate::frame::FrameDecoder;
use crate::handshake::READ;
use crate::transport::Stream;
use futures_util::future::{Either, select};
use hurtig_core::ids::JobId;
use hurtig_core::time::Time;
use hurtig_kit::{Panicked, ShellCx};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{oneshot, watch};

/// The half of a stream with its buffer, when something was read or written.
pub(crate) type Moved<H> = (H, Vec<u8>, io::Result<usize>);

/// A connection in use.
pub(super) struct Live {
    /// Its number: what comes of an older one is ignored.
    pub(super) serial: u64,
    pub(super) brain: ConnectionBrain,
    pub(super) version: u16,
    /// The largest body that the peer takes.
    pub(super) peer_max: usize,
    /// The only job of which the peer may speak.
    pub(super) speaks_for: Option<JobId>,
    decoder: FrameDecoder,
    /// Here while nothing is being read.
    reader: Option<(ReadHalf<Stream>, Vec<u8>)>,
    /// Here while nothing is being written.
    writer: Option<(WriteHalf<Stream>, Vec<u8>)>,
    /// Dropped with the connection, which ends what is being read and written.
    stop: watch::Sender<()>,
    /// Dropped when nobody waits for the answer any more.
    serving: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Live {
    pub(super) fn new(serial: u64, brain: ConnectionBrain, stream: Stream, decoder: FrameDecoder) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            serial,
            brain,
            version: 0,
            peer_max: 0,
            speaks_for: None,
            decoder,
            reader: Some((reader, vec![0; READ])),
            writer: Some((writer, Vec::new())),
            stop: watch::Sender::new(()),
            serving: BTreeMap::new(),
        }
    }

    /// Hands the brain the frames that are there.
    pub(super) fn decode(&mut self, now: Time, effects: &mut Vec<Effect>) {
        loop {
            match self.decoder.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => self.brain.received(now, Ok(frame), effects),
                Err(error) => return self.brain.received(now, Err(error), effects),
            }
        }
    }

    /// Takes up what was read. `None`: the peer has closed.
    pub(super) fn read(&mut self, (reader, buffer, result): Moved<ReadHalf<Stream>>) -> io::Result<bool> {
        let count = result?;
        self.decoder.push(&buffer[..count]);
        self.reader = Some((reader, buffer));
        Ok(count > 0)
    }

    /// Takes up what was written.
    pub(super) fn written(
        &mut self,
        (writer, mut buffer, result): Moved<WriteHalf<Stream>>,
    ) -> io::Result<()> {
        result?;
        buffer.clear();
        self.writer = Some((writer, buffer));
        Ok(())
    }

    /// Whether everything has left.
    pub(super) fn is_flushed(&self) -> bool {
        self.writer.is_some() && self.brain.is_flushed()
    }

    /// Reads and writes on, where nothing is being read or written.
    pub(super) fn go_on(&mut self, cx: &mut ShellCx<'_, Link>) {
        let serial = self.serial;
        if let Some((mut writer, mut bytes)) = self.writer.take() {
            self.brain.output(cx.now(), &mut bytes);
            if bytes.is_empty() {
                self.writer = Some((writer, bytes));
            } else {
                let write = async move {
                    let all = write_all(&mut writer, &bytes).await;
                    (writer, bytes, all)
                };
                cx.drive(unless_stopped(self.stop.subscribe(), write), move |moved| {
                    event(moved, |moved| LinkEvent::Written(serial, moved), serial)
                });
            }
        }
        if !self.brain.wants_input() {
            return;
        }
        if let Some((mut reader, mut buffer)) = self.reader.take() {
            let read = async move {
                let count = reader.read(&mut buffer).await;
                (reader, buffer, count)
            };
            cx.drive(unless_stopped(self.stop.subscribe(), read), move |moved| {
                event(moved, |moved| LinkEvent::Read(serial, moved), serial)
            });
        }
    }

    /// Waits for the answer to an ask of the peer's, as long as it is wanted.
    pub(super) fn serve(
        &mut self,
        id: u64,
        answer: oneshot::Receiver<Result<Vec<u8>, RpcError>>,
        endpoint: String,
        cx: &mut ShellCx<'_, Link>,
    ) {
        let (wanted, withdrawn) = oneshot::channel::<()>();
        self.serving.insert(id, wanted);
        let serial = self.serial;
        let answered = async move {
            match select(answer, withdrawn).await {
                Either::Left((Ok(answer), _)) => Some(answer),
                Either::Left((Err(_), _)) => Some(Err(RpcError::NoReply { endpoint })),
                Either::Right(_) => None,
            }
        };
        cx.drive(answered, move |answer| match answer {
            Ok(Some(answer)) => LinkEvent::Served(serial, id, answer),
            Ok(None) | Err(_) => LinkEvent::Stale,
        });
    }

    /// An ask was answered.
    pub(super) fn served(&mut self, id: u64, answer: Result<Vec<u8>, RpcError>) {
        self.serving.remove(&id);
        self.brain.answer(id, answer);
    }

    /// Nobody waits for the answer any more.
    pub(super) fn withdraw(&mut self, id: u64) {
        self.serving.remove(&id);
    }
}

async fn write_all(writer: &mut WriteHalf<Stream>, bytes: &[u8]) -> io::Result<usize> {
    writer.write_all(bytes).await?;
    writer.flush().await?;
    Ok(bytes.len())
}

/// What comes of `work`, unless its connection ends before.
async fn unless_stopped<T>(mut stop: watch::Receiver<()>, work: impl Future<Output = T>) -> Option<T> {
    let (work, stopped) = (pin!(work), pin!(stop.changed()));
    match select(work, stopped).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

fn event<T>(moved: Result<Option<T>, Panicked>, make: impl FnOnce(T) -> LinkEvent, serial: u64) -> LinkEvent {
    match moved {
        Ok(Some(moved)) => make(moved),
        Ok(None) => LinkEvent::Stale,
        Err(Panicked { message }) => LinkEvent::Broken(serial, message),
    }
}
