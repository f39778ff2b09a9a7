//! The channels of a job's tasks in this process: those within it are made by whichever side comes first, those to
//! other processes have one side here.

use hurtig_core::ids::{ChannelId, SubtaskId};
use hurtig_core::{Error, Result};
use hurtig_dataflow::program::{Erased, StreamCode};
use hurtig_exchange::remote::{Exchange, PeerWorker};
use hurtig_exchange::{ChannelKind, Signal};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Which end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The producer's.
    Sender,
    /// The consumer's.
    Receiver,
}

/// A channel of which one end is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) id: ChannelId,
    pub(crate) end: End,
    pub(crate) producer: SubtaskId,
    pub(crate) consumer: SubtaskId,
    /// Makes it.
    pub(crate) stream: &'a dyn StreamCode,
    pub(crate) kind: ChannelKind,
}

#[derive(Default)]
struct Inner {
    /// The end that nobody has taken yet.
    waiting: HashMap<ChannelId, (End, Erased)>,
    signals: HashMap<(u32, SubtaskId), Signal>,
}

/// Where the tasks of a job find the ends of their channels.
#[derive(Default)]
pub(crate) struct Channels {
    inner: Mutex<Inner>,
    /// The way to other processes.
    exchange: OnceLock<Arc<dyn Exchange>>,
}

impl Channels {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here runs foreign code, so a panic cannot have left it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bell of a subtask in a generation.
    pub(crate) fn signal(&self, generation: u32, subtask: SubtaskId) -> Signal {
        self.lock()
            .signals
            .entry((generation, subtask))
            .or_default()
            .clone()
    }

    /// One end of a channel whose other end is in this process too; makes the channel when the other side has not.
    pub(crate) fn take(&self, wanted: Wanted<'_>) -> Erased {
        let Wanted { id, end, .. } = wanted;
        let mut inner = self.lock();
        match inner.waiting.remove(&id) {
            Some((kept, value)) if kept == end => value,
            Some((kept, _)) => unreachable!("channel {id:?} was taken twice: the {kept:?} lay here"),
            None => {
                let generation = id.generation;
                let producer = inner
                    .signals
                    .entry((generation, wanted.producer))
                    .or_default()
                    .clone();
                let consumer = inner
                    .signals
                    .entry((generation, wanted.consumer))
                    .or_default()
                    .clone();
                let (sender, receiver) = wanted.stream.channel(wanted.kind, producer, consumer);
                let (mine, other) = match end {
                    End::Sender => (sender, (End::Receiver, receiver)),
                    End::Receiver => (receiver, (End::Sender, sender)),
                };
                inner.waiting.insert(id, other);
                mine
            }
        }
    }

    /// Says how other processes are reached.
    pub(crate) fn connect(&self, exchange: Arc<dyn Exchange>) {
        if self.exchange.set(exchange).is_err() {
            tracing::error!("a job's channels were connected twice; the first way stays");
        }
    }

    /// One end of a channel whose other end is in another process.
    pub(crate) fn take_remote(&self, wanted: Wanted<'_>, peer: &PeerWorker) -> Result<Erased> {
        let Wanted { id, stream, kind, .. } = wanted;
        let exchange = self.exchange.get().ok_or_else(|| {
            Error::internal(format!(
                "channel {id:?} leads to worker {}, and this process has no exchange",
                peer.worker
            ))
        })?;
        let connection = exchange.signal(peer);
        match wanted.end {
            End::Sender => {
                let producer = self.signal(id.generation, wanted.producer);
                let (sender, outlet) = stream.channel_out(kind, producer, connection)?;
                exchange.produce(peer, id, outlet);
                Ok(sender)
            }
            End::Receiver => {
                let consumer = self.signal(id.generation, wanted.consumer);
                let (inlet, receiver) = stream.channel_in(kind, connection, consumer)?;
                exchange.consume(peer, id, inlet);
                Ok(receiver)
            }
        }
    }

    /// Drops what nobody took of a generation, and ends what is left of its channels to other processes.
    pub(crate) fn forget(&self, generation: u32) {
        if let Some(exchange) = self.exchange.get() {
            exchange.forget(generation);
        }
        let dropped: Vec<Erased> = {
            let mut inner = self.lock();
            inner.signals.retain(|(of, _), _| *of != generation);
            let ids: Vec<ChannelId> = inner
                .waiting
                .keys()
                .filter(|id| id.generation == generation)
                .copied()
                .collect();
            ids.iter()
                .filter_map(|id| inner.waiting.remove(id))
                .map(|(_, value)| value)
                .collect()
        };
        // Channel ends may drop records: not under the lock.
        drop(dropped);
    }
}
