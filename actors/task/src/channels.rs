//! The channels of a job within one process, made by whichever side comes first.

use hurtig_core::ids::{ChannelId, SubtaskId};
use hurtig_dataflow::program::{Erased, StreamCode};
use hurtig_exchange::{ChannelKind, Signal};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The producer's.
    Sender,
    /// The consumer's.
    Receiver,
}

/// The subtasks at both ends of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) producer: SubtaskId,
    pub(crate) consumer: SubtaskId,
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

    /// One end of a channel of `stream`; makes the channel when the other side has not.
    pub(crate) fn take(
        &self,
        id: ChannelId,
        end: End,
        ends: Ends,
        make: (&dyn StreamCode, ChannelKind),
    ) -> Erased {
        let mut inner = self.lock();
        match inner.waiting.remove(&id) {
            Some((kept, value)) if kept == end => value,
            Some((kept, _)) => unreachable!("channel {id:?} was taken twice: the {kept:?} lay here"),
            None => {
                let generation = id.generation;
                let producer = inner
                    .signals
                    .entry((generation, ends.producer))
                    .or_default()
                    .clone();
                let consumer = inner
                    .signals
                    .entry((generation, ends.consumer))
                    .or_default()
                    .clone();
                let (sender, receiver) = make.0.channel(make.1, producer, consumer);
                let (mine, other) = match end {
                    End::Sender => (sender, (End::Receiver, receiver)),
                    End::Receiver => (receiver, (End::Sender, sender)),
                };
                inner.waiting.insert(id, other);
                mine
            }
        }
    }

    /// Drops what nobody took of a generation.
    pub(crate) fn forget(&self, generation: u32) {
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
