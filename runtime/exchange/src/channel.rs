//! A bounded queue of elements between one producing and one consuming subtask of a process.
//!
//! A batch moves; nothing is copied or encoded. Events need no room: consecutive watermarks are
//! merged, so is consecutive news of backlog, and everything else is emitted at most once a batch, so the queue
//! stays bounded.

use crate::in_flight::{Captured, RecordCodec};
use crate::signal::Signal;
use hurtig_core::{Barrier, Batch, Element, Error, Event, Result};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bounds of a channel.
#[derive(Clone, Copy, Debug)]
pub struct ChannelOptions {
    /// Batches that may wait (`exchange.channel.max-batches`).
    pub max_batches: usize,
    /// Bytes that may wait (`exchange.channel.max-bytes`); one batch may exceed it.
    pub max_bytes: usize,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            max_batches: 4,
            max_bytes: 2 << 20,
        }
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

/// How many times its bounds a channel takes of a task that may overdraw.
const OVERDRAFT: usize = 4;

/// A barrier beside the queue, which needs no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The barrier.
    pub barrier: Barrier,
    /// Elements below this position came before it.
    pub boundary: u64,
}

struct Queued<T> {
    element: Element<T>,
    bytes: usize,
}

struct Queue<T> {
    elements: VecDeque<Queued<T>>,
    batches: usize,
    bytes: usize,
    /// Position of the next element to be published: how many were before it.
    published: u64,
    /// Elements below this position stay as they are: a barrier was announced behind them, or they were captured.
    settled: u64,
    announcement: Option<Announcement>,
    producer_waits: bool,
    producer_gone: bool,
    consumer_gone: bool,
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    kind: ChannelKind,
    consumer: Signal,
    producer: Signal,
}

impl<T> Shared<T> {
    fn has_room(&self, queue: &Queue<T>) -> bool {
        let ChannelOptions {
            max_batches,
            max_bytes,
        } = self.kind.options;
        let within = |times: usize| {
            queue.batches < max_batches.saturating_mul(times) && queue.bytes < max_bytes.saturating_mul(times)
        };
        within(1) || (self.producer.may_overdraw() && within(OVERDRAFT))
    }

    /// A panic elsewhere cannot leave the queue half changed: no call in here runs foreign code.
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// The producing end.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The consuming end.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
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
    let kind = kind.into();
    let queue = Queue {
        elements: VecDeque::with_capacity(kind.options.max_batches + 2),
        batches: 0,
        bytes: 0,
        published: 0,
        settled: 0,
        announcement: None,
        producer_waits: false,
        producer_gone: false,
        consumer_gone: false,
    };
    let shared = Arc::new(Shared {
        queue: Mutex::new(queue),
        kind,
        consumer,
        producer,
    });
    (
        Sender {
            shared: shared.clone(),
        },
        Receiver { shared, codec: None },
    )
}

impl<T> Sender<T> {
    /// Appends a batch that holds about `bytes` if there is room.
    pub fn try_send(&self, batch: Batch<T>, bytes: usize) -> SendOutcome<T> {
        debug_assert!(!batch.is_empty(), "an empty batch says nothing");
        let mut queue = self.shared.lock();
        if queue.consumer_gone {
            return SendOutcome::Gone;
        }
        if !self.shared.has_room(&queue) {
            queue.producer_waits = true;
            return SendOutcome::Full(batch);
        }
        let was_empty = queue.elements.is_empty();
        queue.batches += 1;
        queue.bytes += bytes;
        queue.published += 1;
        queue.elements.push_back(Queued {
            element: Element::Batch(batch),
            bytes,
        });
        drop(queue);
        if was_empty {
            self.shared.consumer.ring();
        }
        SendOutcome::Sent
    }

    /// Whether a batch would be taken. When not, the producer's signal rings once it would.
    pub fn has_room(&self) -> bool {
        let mut queue = self.shared.lock();
        let room = queue.consumer_gone || self.shared.has_room(&queue);
        queue.producer_waits |= !room;
        room
    }

    /// Appends an event behind everything sent so far. A barrier that may overtake is announced where it can.
    pub fn send_event(&self, event: Event) {
        if let Event::Barrier(barrier) = event
            && barrier.overtakes.is_some()
            && self.shared.kind.barriers == BarrierMode::Overtakes
        {
            return self.announce(barrier);
        }
        let mut queue = self.shared.lock();
        if queue.consumer_gone {
            return;
        }
        if queue.published > queue.settled
            && let Some(Queued {
                element: Element::Event(last),
                ..
            }) = queue.elements.back_mut()
            && supersedes(event, *last)
        {
            *last = event;
            return;
        }
        let was_empty = queue.elements.is_empty();
        queue.published += 1;
        queue.elements.push_back(Queued {
            element: Element::Event(event),
            bytes: 0,
        });
        drop(queue);
        if was_empty {
            self.shared.consumer.ring();
        }
    }

    /// Announces a barrier; its boundary is what was published. One that was not looked at leads to nothing.
    fn announce(&self, barrier: Barrier) {
        let mut queue = self.shared.lock();
        let boundary = queue.published;
        queue.settled = boundary;
        queue.announcement = Some(Announcement { barrier, boundary });
        drop(queue);
        self.shared.consumer.announce();
    }

    /// Position of the next element: how many were published before it.
    pub fn position(&self) -> u64 {
        self.shared.lock().published
    }
}

/// Whether an event says all that the one right before it does.
fn supersedes(event: Event, last: Event) -> bool {
    match (event, last) {
        (Event::Watermark(new), Event::Watermark(last)) => {
            debug_assert!(new >= last, "event time of a channel moved backwards");
            true
        }
        (Event::Backlog(_), Event::Backlog(_)) => true,
        _ => false,
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.lock().producer_gone = true;
        self.shared.consumer.ring();
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
        let unknown = || Error::internal("a channel does not know how to encode its records");
        self.codec.as_ref().ok_or_else(unknown)
    }

    /// Its part in checkpoints.
    pub fn barriers(&self) -> BarrierMode {
        self.shared.kind.barriers
    }

    /// Takes the next element; none while an announcement waits, as it may be behind that.
    pub fn try_recv(&self) -> Option<Element<T>> {
        let mut queue = self.shared.lock();
        if queue.announcement.is_some() {
            return None;
        }
        let Queued { element, bytes } = queue.elements.pop_front()?;
        let mut ring = false;
        if matches!(element, Element::Batch(_)) {
            queue.batches -= 1;
            queue.bytes -= bytes;
            ring = std::mem::take(&mut queue.producer_waits);
        }
        drop(queue);
        if ring {
            self.shared.producer.ring();
        }
        Some(element)
    }

    /// Takes an announced barrier.
    pub fn take_announcement(&self) -> Option<Announcement> {
        self.shared.lock().announcement.take()
    }

    /// Encodes what waits at the positions from `from` to `until`, and leaves it there. Returns the position
    /// behind, and whether the end of input is among it.
    ///
    /// # Errors
    /// When a record cannot be encoded; what waited is lost then.
    pub fn capture(&self, from: u64, until: u64, captured: &mut Vec<Captured>) -> Result<(u64, bool)> {
        let codec = self.codec()?;
        // Encoding is foreign code: not under the lock. Nobody else takes elements, and what comes in meanwhile
        // goes behind them.
        let (mut elements, published) = {
            let mut queue = self.shared.lock();
            // What is captured must not change any more: nothing newer may be merged into it.
            queue.settled = queue.published;
            (std::mem::take(&mut queue.elements), queue.published)
        };
        let (first, mut ended) = (published - elements.len() as u64, false);
        for (position, queued) in (first..until).zip(&mut elements) {
            if position >= from {
                ended |= matches!(queued.element, Element::Event(Event::EndOfInput));
                captured.extend(Captured::of(&mut queued.element, codec)?);
            }
        }
        let mut queue = self.shared.lock();
        let newer = std::mem::replace(&mut queue.elements, elements);
        queue.elements.extend(newer);
        Ok((published.min(until), ended))
    }

    /// Encodes an element that was taken.
    ///
    /// # Errors
    /// When a record cannot be encoded.
    pub fn encode(&self, element: &mut Element<T>) -> Result<Option<Captured>> {
        Captured::of(element, self.codec()?)
    }

    /// Whether nothing waits and the producer has gone without an end of input: it has failed.
    pub fn is_abandoned(&self) -> bool {
        let queue = self.shared.lock();
        queue.producer_gone && queue.elements.is_empty()
    }

    /// Batches and bytes that wait.
    pub fn backlog(&self) -> (usize, usize) {
        let queue = self.shared.lock();
        (queue.batches, queue.bytes)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut queue = self.shared.lock();
            queue.consumer_gone = true;
            queue.batches = 0;
            queue.bytes = 0;
            std::mem::take(&mut queue.elements)
        };
        // Records may run foreign drop code: not under the lock.
        drop(waiting);
        self.shared.producer.ring();
    }
}

#[cfg(test)]
mod tests;
