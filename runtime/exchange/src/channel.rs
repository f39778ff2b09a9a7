//! A bounded queue of elements between one producing and one consuming subtask.
//!
//! Within a process a batch moves; nothing is copied or encoded. To another process it leaves encoded, and a
//! connection carries it from a queue here to a queue there. Events need no room: consecutive watermarks are
//! merged, so is consecutive news of backlog, and everything else is emitted at most once a batch, so the queue
//! stays bounded.

use crate::in_flight::{Captured, RecordCodec};
use crate::queue::{Item, Queue, Refused, Side};
use crate::remote::{Form, Inlet, Outlet, Packed};
use crate::signal::Signal;
use crate::watched::Watched;
use hurtig_core::config::ExchangeCompression;
use hurtig_core::types::{Travel, TypeInfo};
use hurtig_core::{Barrier, Batch, Element, Error, Event, Result};
use std::cell::Cell;
use std::sync::Arc;

/// Bounds of a channel.
#[derive(Clone, Copy, Debug)]
pub struct ChannelOptions {
    /// Batches that may wait (`exchange.channel.max-batches`).
    pub max_batches: usize,
    /// Bytes that may wait (`exchange.channel.max-bytes`); one batch may exceed it.
    pub max_bytes: usize,
    /// How records travel to other processes (`exchange.records.form`).
    pub travel: Travel,
    /// How their batches are compressed (`taskmanager.network.compression.codec`).
    pub compression: ExchangeCompression,
}

impl ChannelOptions {
    /// These bounds, and everything else as it is without settings.
    pub const fn bounded(max_batches: usize, max_bytes: usize) -> Self {
        Self {
            max_batches,
            max_bytes,
            travel: Travel::Flat,
            compression: ExchangeCompression::None,
        }
    }
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self::bounded(4, 2 << 20)
    }
}

/// How a channel takes part in checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BarrierMode {
    /// Its consumer reads nothing behind a barrier before it has the barriers of all channels.
    #[default]
    Blocks,
    /// It is read on behind a barrier: records between may be seen again after a restore.
    Passes,
    /// A barrier that may overtake is announced, and what it overtakes is part of the checkpoint.
    Overtakes,
}

/// What a channel is like.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChannelKind {
    /// Its bounds.
    pub options: ChannelOptions,
    /// Its part in checkpoints.
    pub barriers: BarrierMode,
}

impl From<ChannelOptions> for ChannelKind {
    fn from(options: ChannelOptions) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }
}

/// A barrier beside the queue, which needs no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The barrier.
    pub barrier: Barrier,
    /// Elements below this position came before it.
    pub boundary: u64,
}

/// What became of a batch that was sent.
#[derive(Debug)]
pub enum SendOutcome<T> {
    /// It is in the queue.
    Sent,
    /// No room; the producer's signal rings when there is.
    Full(Batch<T>),
    /// The consumer has gone; the batch is dropped.
    Gone,
}

impl<T> From<Result<(), Refused<Batch<T>>>> for SendOutcome<T> {
    fn from(pushed: Result<(), Refused<Batch<T>>>) -> Self {
        match pushed {
            Ok(()) => Self::Sent,
            Err(Refused::Full(batch)) => Self::Full(batch),
            Err(Refused::Gone) => Self::Gone,
        }
    }
}

/// The queue at one end of a channel.
enum Way<T> {
    /// The other end is in this process.
    Here(Arc<Queue<Batch<T>>>),
    /// It is in another one.
    There(Arc<Queue<Packed>>),
}

impl<T: Send + 'static> Way<T> {
    fn watched(&self) -> Watched {
        match self {
            Self::Here(queue) => Watched::new(queue, false),
            Self::There(queue) => Watched::new(queue, true),
        }
    }
}

/// Does the same with either queue.
macro_rules! with_queue {
    ($way:expr, $queue:ident => $does:expr) => {
        match $way {
            Way::Here($queue) => $does,
            Way::There($queue) => $does,
        }
    };
}

/// The producing end.
pub struct Sender<T> {
    way: Way<T>,
    codec: Option<RecordCodec<T>>,
    /// How records travel, once the first was looked at.
    travel: Cell<Option<Travel>>,
}

/// The consuming end.
pub struct Receiver<T> {
    way: Way<T>,
    codec: Option<RecordCodec<T>>,
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}

/// A channel from the task behind `producer` to the task behind `consumer`.
pub fn channel<T>(
    kind: impl Into<ChannelKind>,
    producer: Signal,
    consumer: Signal,
) -> (Sender<T>, Receiver<T>) {
    let queue = Queue::new(kind.into(), producer, consumer);
    let sender = Sender {
        way: Way::Here(queue.clone()),
        codec: None,
        travel: Cell::new(None),
    };
    let way = Way::Here(queue);
    (sender, Receiver { way, codec: None })
}

/// The producing half of a channel to another process: from the task behind `producer` to the connection behind
/// `connection`.
pub fn channel_out<T>(
    kind: impl Into<ChannelKind>,
    codec: RecordCodec<T>,
    producer: Signal,
    connection: Signal,
) -> (Sender<T>, Outlet) {
    let queue = Queue::connected(kind.into(), (producer, connection), Some(Side::Consumer));
    let sender = Sender {
        way: Way::There(queue.clone()),
        codec: Some(codec),
        travel: Cell::new(None),
    };
    (sender, Outlet::new(queue))
}

/// The consuming half of a channel from another process: from the connection behind `connection` to the task behind
/// `consumer`.
pub fn channel_in<T>(
    kind: impl Into<ChannelKind>,
    codec: RecordCodec<T>,
    connection: Signal,
    consumer: Signal,
) -> (Inlet, Receiver<T>) {
    let queue = Queue::connected(kind.into(), (connection, consumer), Some(Side::Producer));
    let receiver = Receiver {
        way: Way::There(queue.clone()),
        codec: Some(codec),
    };
    (Inlet::new(queue), receiver)
}

fn known<T>(codec: Option<&RecordCodec<T>>) -> Result<&RecordCodec<T>> {
    codec.ok_or_else(|| Error::internal("a channel does not know how to encode its records"))
}

impl<T> Sender<T> {
    /// Appends a batch that holds about `bytes` if there is room.
    ///
    /// A batch that is to go to another process and cannot be encoded stays; its task fails, see [`Signal::take_failure`].
    pub fn try_send(&self, batch: Batch<T>, bytes: usize) -> SendOutcome<T> {
        debug_assert!(!batch.is_empty(), "an empty batch says nothing");
        match &self.way {
            Way::Here(queue) => queue.push(batch, bytes).into(),
            Way::There(queue) => self.send_packed(queue, batch),
        }
    }

    fn send_packed(&self, queue: &Queue<Packed>, mut batch: Batch<T>) -> SendOutcome<T> {
        if !queue.has_room() {
            return SendOutcome::Full(batch);
        }
        let codec = known(self.codec.as_ref());
        let packed = match codec.and_then(|codec| self.pack(&mut batch, &codec.types(), queue.kind().options))
        {
            Ok(packed) => packed,
            Err(error) => {
                queue.producer().fail(error);
                return SendOutcome::Full(batch);
            }
        };
        let weight = packed.weight();
        match queue.push(packed, weight) {
            Ok(()) => SendOutcome::Sent,
            Err(Refused::Gone) => SendOutcome::Gone,
            Err(Refused::Full(_)) => SendOutcome::Full(batch),
        }
    }

    /// Encodes a batch in the form that suits the records, for which the first is looked at; once one had to be named, all are.
    fn pack(&self, batch: &mut Batch<T>, types: &TypeInfo<T>, options: ChannelOptions) -> Result<Packed> {
        let travel = self
            .travel
            .get()
            .unwrap_or_else(|| match (options.travel, batch.records()) {
                (Travel::Flat, [first, ..]) => types.travel(first),
                (asked, _) => asked,
            });
        let form = Form {
            travel,
            compression: options.compression,
        };
        let (packed, travel) = Packed::encode(batch, types, form)?;
        self.travel.set(Some(travel));
        Ok(packed)
    }

    /// Whether a batch would be taken. When not, the producer's signal rings once it would.
    pub fn has_room(&self) -> bool {
        with_queue!(&self.way, queue => queue.has_room())
    }

    /// Appends an event behind everything sent so far. A barrier that may overtake is announced where it can.
    pub fn send_event(&self, event: Event) {
        with_queue!(&self.way, queue => {
            match event {
                Event::Barrier(barrier)
                    if barrier.overtakes.is_some()
                        && queue.kind().barriers == BarrierMode::Overtakes =>
                {
                    queue.announce(barrier);
                }
                event => queue.push_event(event),
            }
        });
    }

    /// Position of the next element: how many were published before it.
    pub fn position(&self) -> u64 {
        with_queue!(&self.way, queue => queue.position())
    }
}

impl<T: Send + 'static> Sender<T> {
    /// For metrics.
    pub fn watched(&self) -> Watched {
        self.way.watched()
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        with_queue!(&self.way, queue => queue.leave_producer());
    }
}

impl<T> Receiver<T> {
    /// The same channel, which can encode what is in it.
    #[must_use]
    pub fn keeping_by(mut self, codec: RecordCodec<T>) -> Self {
        self.codec = Some(codec);
        self
    }

    /// How its records are kept.
    ///
    /// # Errors
    /// When nobody said.
    pub fn codec(&self) -> Result<&RecordCodec<T>> {
        known(self.codec.as_ref())
    }

    /// Its part in checkpoints.
    pub fn barriers(&self) -> BarrierMode {
        with_queue!(&self.way, queue => queue.kind().barriers)
    }

    /// Takes the next element; none while an announcement waits, as it may be behind that.
    ///
    /// None either when it came from another process and cannot be decoded; the task fails, see
    /// [`Signal::take_failure`].
    pub fn try_recv(&self) -> Option<Element<T>> {
        match &self.way {
            Way::Here(queue) => Some(match queue.pop()?.item {
                Item::Batch(batch) => Element::Batch(batch),
                Item::Event(event) => Element::Event(event),
            }),
            Way::There(queue) => match queue.pop()?.item {
                Item::Batch(packed) => self.unpack(queue, packed),
                Item::Event(event) => Some(Element::Event(event)),
            },
        }
    }

    fn unpack(&self, queue: &Queue<Packed>, packed: Packed) -> Option<Element<T>> {
        let codec = self.codec();
        match codec.and_then(|codec| packed.decode(&codec.types())) {
            Ok(batch) => Some(Element::Batch(batch)),
            Err(error) => {
                queue.consumer().fail(error);
                None
            }
        }
    }

    /// Takes an announced barrier.
    pub fn take_announcement(&self) -> Option<Announcement> {
        with_queue!(&self.way, queue => queue.take_announcement())
    }

    /// Encodes what waits at the positions from `from` to `until`, and leaves it there. Returns the position
    /// behind, and whether the end of input is among it.
    ///
    /// # Errors
    /// When a record cannot be encoded; what waited is lost then.
    pub fn capture(&self, from: u64, until: u64, captured: &mut Vec<Captured>) -> Result<(u64, bool)> {
        let codec = self.codec()?;
        let mut ended = false;
        let mut keep = |kept: Result<Option<Captured>>| {
            captured.extend(kept?);
            Ok::<_, Error>(())
        };
        let event = |event: Event, ended: &mut bool| {
            *ended |= event == Event::EndOfInput;
            Captured::event(event)
        };
        let position = match &self.way {
            Way::Here(queue) => queue.visit(from, until, |item| {
                keep(match item {
                    Item::Batch(batch) => Captured::batch(batch, codec),
                    Item::Event(of) => Ok(event(*of, &mut ended)),
                })
            }),
            Way::There(queue) => queue.visit(from, until, |item| {
                keep(match item {
                    Item::Batch(packed) => Captured::batch(&mut packed.decode(&codec.types())?, codec),
                    Item::Event(of) => Ok(event(*of, &mut ended)),
                })
            }),
        };
        Ok((position?, ended))
    }

    /// Encodes an element that was taken.
    ///
    /// # Errors
    /// When a record cannot be encoded.
    pub fn encode(&self, element: &mut Element<T>) -> Result<Option<Captured>> {
        match element {
            Element::Batch(batch) => Captured::batch(batch, self.codec()?),
            Element::Event(event) => Ok(Captured::event(*event)),
        }
    }

    /// Whether nothing waits and the producer has gone without an end of input: it has failed.
    pub fn is_abandoned(&self) -> bool {
        with_queue!(&self.way, queue => queue.is_left_empty())
    }

    /// Batches and bytes that wait.
    pub fn backlog(&self) -> (usize, usize) {
        with_queue!(&self.way, queue => queue.backlog())
    }
}

impl<T: Send + 'static> Receiver<T> {
    /// For metrics.
    pub fn watched(&self) -> Watched {
        self.way.watched()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        with_queue!(&self.way, queue => queue.leave_consumer());
    }
}

#[cfg(test)]
mod tests;
