//! A bounded queue of elements between one producing and one consuming subtask of a process.
//!
//! A batch moves; nothing is copied or encoded. Events need no room: consecutive watermarks are
//! merged, and everything else is emitted at most once a batch, so the queue stays bounded.

use crate::signal::Signal;
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Element, Event};
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
            max_batches: 8,
            max_bytes: 2 << 20,
        }
    }
}

/// A barrier that overtakes queued data: announced beside the queue, without needing room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Batches below this position belong to the checkpoint.
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
    /// Position of the next batch to be published: how many were before it.
    published: u64,
    announcement: Option<Announcement>,
    producer_waits: bool,
    producer_gone: bool,
    consumer_gone: bool,
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    options: ChannelOptions,
    consumer: Signal,
    producer: Signal,
}

impl<T> Shared<T> {
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
pub fn channel<T>(options: ChannelOptions, producer: Signal, consumer: Signal) -> (Sender<T>, Receiver<T>) {
    let queue = Queue {
        elements: VecDeque::with_capacity(options.max_batches + 2),
        batches: 0,
        bytes: 0,
        published: 0,
        announcement: None,
        producer_waits: false,
        producer_gone: false,
        consumer_gone: false,
    };
    let shared = Arc::new(Shared {
        queue: Mutex::new(queue),
        options,
        consumer,
        producer,
    });
    (
        Sender {
            shared: shared.clone(),
        },
        Receiver { shared },
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
        let full =
            queue.batches >= self.shared.options.max_batches || queue.bytes >= self.shared.options.max_bytes;
        if full {
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
        let options = &self.shared.options;
        let room =
            queue.consumer_gone || (queue.batches < options.max_batches && queue.bytes < options.max_bytes);
        queue.producer_waits |= !room;
        room
    }

    /// Appends an event behind everything sent so far.
    pub fn send_event(&self, event: Event) {
        let mut queue = self.shared.lock();
        if queue.consumer_gone {
            return;
        }
        if let (
            Event::Watermark(new),
            Some(Queued {
                element: Element::Event(Event::Watermark(last)),
                ..
            }),
        ) = (event, queue.elements.back_mut())
        {
            debug_assert!(new >= *last, "event time of a channel moved backwards");
            *last = new;
            return;
        }
        let was_empty = queue.elements.is_empty();
        queue.elements.push_back(Queued {
            element: Element::Event(event),
            bytes: 0,
        });
        drop(queue);
        if was_empty {
            self.shared.consumer.ring();
        }
    }

    /// Announces a barrier that overtakes what is queued; its boundary is what was published.
    pub fn announce(&self, checkpoint: CheckpointId) {
        let mut queue = self.shared.lock();
        let boundary = queue.published;
        queue.announcement = Some(Announcement { checkpoint, boundary });
        drop(queue);
        self.shared.consumer.ring();
    }

    /// Position of the next batch: how many were published before it.
    pub fn position(&self) -> u64 {
        self.shared.lock().published
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.lock().producer_gone = true;
        self.shared.consumer.ring();
    }
}

impl<T> Receiver<T> {
    /// Takes the next element.
    pub fn try_recv(&self) -> Option<Element<T>> {
        let mut queue = self.shared.lock();
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
mod tests {
    use super::*;

    fn pair(max_batches: usize, max_bytes: usize) -> (Sender<u32>, Receiver<u32>) {
        channel(
            ChannelOptions {
                max_batches,
                max_bytes,
            },
            Signal::new(),
            Signal::new(),
        )
    }

    fn batch(records: &[u32]) -> Batch<u32> {
        Batch::from_records(records.to_vec())
    }

    #[test]
    fn elements_arrive_in_order_and_watermarks_merge_only_when_adjacent() {
        let (tx, rx) = pair(8, 1 << 20);
        tx.send_event(Event::Watermark(1));
        tx.send_event(Event::Watermark(2));
        assert!(matches!(tx.try_send(batch(&[7]), 4), SendOutcome::Sent));
        tx.send_event(Event::Watermark(3));
        assert!(matches!(rx.try_recv(), Some(Element::Event(Event::Watermark(2)))));
        assert!(matches!(rx.try_recv(), Some(Element::Batch(_))));
        assert!(matches!(rx.try_recv(), Some(Element::Event(Event::Watermark(3)))));
        assert!(rx.try_recv().is_none());
    }

    #[test]
    fn a_full_channel_refuses_batches_by_number_and_by_bytes_and_takes_events() {
        let (tx, rx) = pair(2, 100);
        assert!(matches!(tx.try_send(batch(&[1]), 60), SendOutcome::Sent));
        assert!(matches!(tx.try_send(batch(&[2]), 60), SendOutcome::Sent));
        assert!(matches!(tx.try_send(batch(&[3]), 1), SendOutcome::Full(_)));
        tx.send_event(Event::EndOfInput);
        rx.try_recv();
        assert!(tx.has_room());
        assert_eq!(rx.backlog(), (1, 60));
        assert_eq!(tx.position(), 2);
    }

    #[test]
    fn an_announcement_overtakes_and_names_the_boundary() {
        let (tx, rx) = pair(4, 100);
        tx.try_send(batch(&[1]), 1);
        tx.announce(CheckpointId(9));
        tx.try_send(batch(&[2]), 1);
        let announced = rx.take_announcement().unwrap();
        assert_eq!(
            announced,
            Announcement {
                checkpoint: CheckpointId(9),
                boundary: 1
            }
        );
        assert!(rx.take_announcement().is_none());
    }

    #[test]
    fn either_end_notices_that_the_other_has_gone() {
        let (tx, rx) = pair(1, 1);
        tx.try_send(batch(&[1]), 1);
        drop(tx);
        assert!(!rx.is_abandoned());
        rx.try_recv();
        assert!(rx.is_abandoned());
        let (tx, rx) = pair(1, 1);
        drop(rx);
        assert!(matches!(tx.try_send(batch(&[1]), 1), SendOutcome::Gone));
        assert!(tx.has_room());
    }
}
