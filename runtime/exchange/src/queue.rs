//! The queue of a channel: bounds, order, announcements and wake-ups, whatever a batch is.

use crate::channel::{Announcement, ChannelKind};
use crate::signal::Signal;
use crate::watched::Waiting;
use hurtig_core::{Barrier, Event};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many times its bounds a queue takes of a task that may overdraw.
pub(crate) const OVERDRAFT: usize = 4;

/// What waits.
#[derive(Debug)]
pub(crate) enum Item<B> {
    Batch(B),
    Event(Event),
}

/// What waits, and what it weighs.
#[derive(Debug)]
pub(crate) struct Queued<B> {
    pub(crate) item: Item<B>,
    pub(crate) bytes: usize,
}

/// Why a batch is not in the queue.
#[derive(Debug)]
pub(crate) enum Refused<B> {
    /// No room; the producer's signal rings when there is.
    Full(B),
    /// The consumer has gone.
    Gone,
}

/// The channels of a connection at whose ends something has changed since it looked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rung(Arc<Mutex<Vec<u32>>>);

impl Rung {
    fn add(&self, channel: u32) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(channel);
    }

    /// Appends those channels; there are none afterwards.
    pub(crate) fn take(&self, into: &mut Vec<u32>) {
        into.append(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The connection's end of a channel: where it says that something has changed.
struct Mark {
    rung: Rung,
    channel: u32,
    /// It has said so, and the connection has not looked yet.
    said: bool,
}

impl Mark {
    fn ring(mark: &mut Option<Self>) {
        if let Some(mark) = mark.as_mut().filter(|mark| !mark.said) {
            mark.said = true;
            mark.rung.add(mark.channel);
        }
    }
}

/// Which end of a queue a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Producer,
    Consumer,
}

struct State<B> {
    elements: VecDeque<Queued<B>>,
    batches: usize,
    bytes: usize,
    /// Batches and bytes that were taken so far.
    taken: (u64, u64),
    /// Position of the next element to be published: how many were before it.
    published: u64,
    /// Elements below this position stay as they are: a barrier was announced behind them, or they were captured.
    settled: u64,
    announcement: Option<Announcement>,
    /// The producer is rung for when a batch is taken that leaves no more than so many bytes.
    producer_waits: Option<usize>,
    producer_gone: bool,
    consumer_gone: bool,
    mark: Option<Mark>,
}

/// A bounded queue from the task behind one signal to the task behind another.
pub(crate) struct Queue<B> {
    state: Mutex<State<B>>,
    kind: ChannelKind,
    consumer: Signal,
    producer: Signal,
    /// The end that is at a connection to another process, if one is.
    connected: Option<Side>,
}

impl<B> Queue<B> {
    pub(crate) fn new(kind: ChannelKind, producer: Signal, consumer: Signal) -> Arc<Self> {
        Self::connected(kind, (producer, consumer), None)
    }

    /// One of whose ends is at a connection to another process.
    pub(crate) fn connected(
        kind: ChannelKind,
        (producer, consumer): (Signal, Signal),
        connected: Option<Side>,
    ) -> Arc<Self> {
        let state = State {
            elements: VecDeque::with_capacity(kind.options.max_batches + 2),
            batches: 0,
            bytes: 0,
            taken: (0, 0),
            published: 0,
            settled: 0,
            announcement: None,
            producer_waits: None,
            producer_gone: false,
            consumer_gone: false,
            mark: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            kind,
            consumer,
            producer,
            connected,
        })
    }

    /// From now on the connection at its end is told by `rung`, with this number, that something has changed.
    pub(crate) fn attach(&self, rung: &Rung, channel: u32) {
        let mark = Mark {
            rung: rung.clone(),
            channel,
            said: false,
        };
        self.lock().mark = Some(mark);
    }

    /// The connection looks, and wants to be told of what changes from now on.
    pub(crate) fn looked(&self) {
        if let Some(mark) = &mut self.lock().mark {
            mark.said = false;
        }
    }

    fn mark(&self, state: &mut State<B>, side: Side) {
        if self.connected == Some(side) {
            Mark::ring(&mut state.mark);
        }
    }

    pub(crate) fn kind(&self) -> ChannelKind {
        self.kind
    }

    /// The signal of whoever fills it.
    pub(crate) fn producer(&self) -> &Signal {
        &self.producer
    }

    /// The signal of whoever empties it.
    pub(crate) fn consumer(&self) -> &Signal {
        &self.consumer
    }

    fn takes_more(&self, state: &State<B>) -> bool {
        let options = self.kind.options;
        let within = |times: usize| {
            state.batches < options.max_batches.saturating_mul(times)
                && state.bytes < options.max_bytes.saturating_mul(times)
        };
        within(1) || (self.producer.may_overdraw() && within(OVERDRAFT))
    }

    /// A panic elsewhere cannot leave the queue half changed: no call in here runs foreign code.
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a batch that weighs `bytes` if there is room.
    pub(crate) fn push(&self, batch: B, bytes: usize) -> Result<(), Refused<B>> {
        let mut state = self.lock();
        if state.consumer_gone {
            return Err(Refused::Gone);
        }
        if !self.takes_more(&state) {
            state.producer_waits = Some(usize::MAX);
            return Err(Refused::Full(batch));
        }
        self.append(state, batch, bytes);
        Ok(())
    }

    /// Appends a batch for which the producer was promised room. False when the consumer has gone.
    pub(crate) fn push_promised(&self, batch: B, bytes: usize) -> bool {
        let state = self.lock();
        let there = !state.consumer_gone;
        if there {
            self.append(state, batch, bytes);
        }
        there
    }

    fn append(&self, mut state: MutexGuard<'_, State<B>>, batch: B, bytes: usize) {
        let was_empty = state.elements.is_empty();
        state.batches += 1;
        state.bytes += bytes;
        state.published += 1;
        let item = Item::Batch(batch);
        state.elements.push_back(Queued { item, bytes });
        if was_empty {
            self.mark(&mut state, Side::Consumer);
        }
        drop(state);
        if was_empty {
            self.consumer.ring();
        }
    }

    /// Whether a batch would be taken. When not, the producer's signal rings once it would.
    pub(crate) fn has_room(&self) -> bool {
        let mut state = self.lock();
        let room = state.consumer_gone || self.takes_more(&state);
        if !room {
            state.producer_waits = Some(usize::MAX);
        }
        room
    }

    /// Appends an event behind everything sent so far. It needs no room.
    pub(crate) fn push_event(&self, event: Event) {
        let mut state = self.lock();
        if state.consumer_gone {
            return;
        }
        if state.published > state.settled
            && let Some(Queued {
                item: Item::Event(last),
                ..
            }) = state.elements.back_mut()
            && supersedes(event, *last)
        {
            *last = event;
            return;
        }
        let was_empty = state.elements.is_empty();
        state.published += 1;
        let item = Item::Event(event);
        state.elements.push_back(Queued { item, bytes: 0 });
        if was_empty {
            self.mark(&mut state, Side::Consumer);
        }
        drop(state);
        if was_empty {
            self.consumer.ring();
        }
    }

    /// Announces a barrier; its boundary is what was published. One that was not looked at leads to nothing.
    pub(crate) fn announce(&self, barrier: Barrier) {
        let mut state = self.lock();
        let boundary = state.published;
        state.settled = boundary;
        state.announcement = Some(Announcement { barrier, boundary });
        self.mark(&mut state, Side::Consumer);
        drop(state);
        self.consumer.announce();
    }

    /// Position of the next element: how many were published before it.
    pub(crate) fn position(&self) -> u64 {
        self.lock().published
    }

    /// The producer has gone.
    pub(crate) fn leave_producer(&self) {
        let mut state = self.lock();
        state.producer_gone = true;
        self.mark(&mut state, Side::Consumer);
        drop(state);
        self.consumer.ring();
    }

    /// Takes the next element; none while an announcement waits, as it may be behind that.
    pub(crate) fn pop(&self) -> Option<Queued<B>> {
        let state = self.lock();
        if state.announcement.is_some() {
            return None;
        }
        self.take_first(state)
    }

    /// Takes the next element for a barrier's carrier, and moves an announcement to `announced`. Batches only when
    /// `may_batch`, or before an announced barrier; says whether the place of that was reached.
    pub(crate) fn pop_before(
        &self,
        announced: &mut Option<Announcement>,
        may_batch: bool,
    ) -> (Option<Queued<B>>, bool) {
        let mut state = self.lock();
        if let Some(newer) = state.announcement.take() {
            *announced = Some(newer);
        }
        let position = state.published - state.elements.len() as u64;
        if announced.is_some_and(|announced| announced.boundary <= position) {
            return (None, true);
        }
        let is_batch = matches!(
            state.elements.front(),
            Some(Queued {
                item: Item::Batch(_),
                ..
            })
        );
        if is_batch && !may_batch && announced.is_none() {
            return (None, false);
        }
        (self.take_first(state), false)
    }

    /// Has the producer woken by the batch that is taken and leaves no more than so many bytes. False when no more are there
    /// already: nobody is woken then.
    pub(crate) fn watch(&self, bytes: usize) -> bool {
        let mut state = self.lock();
        let more = state.bytes > bytes;
        state.producer_waits = more.then_some(bytes);
        more
    }

    fn take_first(&self, mut state: MutexGuard<'_, State<B>>) -> Option<Queued<B>> {
        let queued = state.elements.pop_front()?;
        let mut ring = false;
        if matches!(queued.item, Item::Batch(_)) {
            state.batches -= 1;
            state.bytes -= queued.bytes;
            state.taken.0 += 1;
            state.taken.1 += queued.bytes as u64;
            ring = state.producer_waits.is_some_and(|enough| state.bytes <= enough);
            if ring {
                state.producer_waits = None;
                self.mark(&mut state, Side::Producer);
            }
        }
        drop(state);
        if ring {
            self.producer.ring();
        }
        Some(queued)
    }

    /// Takes an announced barrier.
    pub(crate) fn take_announcement(&self) -> Option<Announcement> {
        self.lock().announcement.take()
    }

    /// Calls `visit` for what waits at the positions from `from` to `until`, and leaves it there. Returns the
    /// position behind the last that there is.
    ///
    /// What came behind a barrier that nobody has looked at yet is not visited: it may have been announced since the
    /// caller looked, and what follows it does not belong to what it overtakes.
    ///
    /// # Errors
    /// Those of `visit`; what waited is lost then.
    pub(crate) fn visit<E>(
        &self,
        from: u64,
        until: u64,
        mut visit: impl FnMut(&mut Item<B>) -> Result<(), E>,
    ) -> Result<u64, E> {
        // The visit is foreign code: not under the lock. Nobody else takes elements, and what comes in meanwhile
        // goes behind them.
        let (mut elements, published, until) = {
            let mut state = self.lock();
            // What is captured must not change any more: nothing newer may be merged into it.
            state.settled = state.published;
            let boundary = state.announcement.map_or(until, |announced| announced.boundary);
            (
                std::mem::take(&mut state.elements),
                state.published,
                until.min(boundary),
            )
        };
        let first = published - elements.len() as u64;
        for (position, queued) in (first..until).zip(&mut elements) {
            if position >= from {
                visit(&mut queued.item)?;
            }
        }
        let mut state = self.lock();
        let newer = std::mem::replace(&mut state.elements, elements);
        state.elements.extend(newer);
        Ok(published.min(until))
    }

    /// Whether nothing waits and the producer has gone.
    pub(crate) fn is_left_empty(&self) -> bool {
        let state = self.lock();
        state.producer_gone && state.elements.is_empty()
    }

    /// Whether nobody takes anything any more.
    pub(crate) fn is_unread(&self) -> bool {
        self.lock().consumer_gone
    }

    /// What stands in it, for who watches.
    pub(crate) fn stands(&self) -> Waiting {
        let state = self.lock();
        Waiting {
            batches: state.batches,
            bytes: state.bytes,
            is_full: !self.takes_more(&state),
            taken: state.taken,
        }
    }

    /// Batches and bytes that wait.
    pub(crate) fn backlog(&self) -> (usize, usize) {
        let state = self.lock();
        (state.batches, state.bytes)
    }

    /// The consumer has gone; what waits is dropped.
    pub(crate) fn leave_consumer(&self) {
        let waiting = {
            let mut state = self.lock();
            state.consumer_gone = true;
            state.batches = 0;
            state.bytes = 0;
            self.mark(&mut state, Side::Producer);
            std::mem::take(&mut state.elements)
        };
        // Records may run foreign drop code: not under the lock.
        drop(waiting);
        self.producer.ring();
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
