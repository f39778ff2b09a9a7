//! What a connection holds of its channels.

use super::packed::Packed;
use crate::channel::Announcement;
use crate::queue::{Queue, Queued, Rung};
use hurtig_core::{Barrier, Error, Event};
use std::sync::Arc;

/// The end of a producer's queue: what waits here is to be carried away.
///
/// When it is dropped the producer's batches go nowhere, as when a consumer has gone.
pub struct Outlet {
    queue: Arc<Queue<Packed>>,
    announced: Option<Announcement>,
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outlet")
    }
}

/// What is to be sent next.
pub(super) enum Outgoing {
    /// An element, and whether it stands before a barrier that was announced.
    Element(Queued<Packed>, bool),
    /// A barrier that was announced, whose place was reached.
    Announced(Barrier),
}

impl Outlet {
    pub(crate) fn new(queue: Arc<Queue<Packed>>) -> Self {
        Self {
            queue,
            announced: None,
        }
    }

    /// Has the connection told by `rung`, with this number, that there may be something to send.
    pub(super) fn attach(&self, rung: &Rung, channel: u32) {
        self.queue.attach(rung, channel);
    }

    /// Something may have been put in since it was told.
    pub(super) fn looked(&self) {
        self.queue.looked();
    }

    /// Takes what is to be sent next. Batches only with credit, or before a barrier that was announced.
    pub(super) fn next(&mut self, has_credit: bool) -> Option<Outgoing> {
        let (queued, reached) = self.queue.pop_before(&mut self.announced, has_credit);
        if reached {
            let announced = self.announced.take()?;
            return Some(Outgoing::Announced(announced.barrier));
        }
        queued.map(|queued| Outgoing::Element(queued, self.announced.is_some()))
    }

    /// Bytes that wait.
    pub(super) fn backlog(&self) -> usize {
        self.queue.backlog().1
    }

    /// Whether the producer has gone and nothing waits.
    pub(super) fn is_over(&self) -> bool {
        self.queue.is_left_empty()
    }

    /// The producer's task fails.
    pub(super) fn fail(&self, error: Error) {
        self.queue.producer().fail(error);
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.queue.leave_consumer();
    }
}

/// The beginning of a consumer's queue: what was carried here is put into it.
///
/// When it is dropped the consumer gets nothing more, as when a producer has gone.
pub struct Inlet {
    queue: Arc<Queue<Packed>>,
}

impl std::fmt::Debug for Inlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inlet")
    }
}

impl Inlet {
    pub(crate) fn new(queue: Arc<Queue<Packed>>) -> Self {
        Self { queue }
    }

    /// Puts a batch in, which had credit.
    pub(super) fn push(&self, batch: Packed) {
        let weight = batch.weight();
        self.queue.push_promised(batch, weight);
    }

    pub(super) fn push_event(&self, event: Event) {
        self.queue.push_event(event);
    }

    pub(super) fn announce(&self, barrier: Barrier) {
        self.queue.announce(barrier);
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.queue.backlog().1 as u64
    }

    /// Whether the consumer has gone.
    pub(super) fn is_unread(&self) -> bool {
        self.queue.is_unread()
    }

    /// Has the connection told by `rung`, with this number, when its consumer goes, and of what it asks for.
    pub(super) fn attach(&self, rung: &Rung, channel: u32) {
        self.queue.attach(rung, channel);
    }

    /// Something may have been taken since it was told.
    pub(super) fn looked(&self) {
        self.queue.looked();
    }

    /// Asks to be told when no more than so many bytes wait. False when it is so already.
    pub(super) fn watch(&self, bytes: u64) -> bool {
        self.queue.watch(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// The consumer's task fails.
    pub(super) fn fail(&self, error: Error) {
        self.queue.consumer().fail(error);
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.queue.leave_producer();
    }
}
