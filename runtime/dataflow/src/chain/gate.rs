//! The consuming side of a task: its channels, read in turn, with watermarks merged.

use super::capture::InFlightPart;
use super::cut::Arrival;
use super::link::{AnyLink, Link, typed};
use super::merged::{Input, MergedEvents};
use super::replay::{InFlightRestore, ReplayGate};
use super::{Head, NodeStats, Turn, Turned};
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_core::{Barrier, Batch, Element, Event, Result};
use hurtig_exchange::{Announcement, BarrierMode, KeptBatch, Receiver};
use hurtig_state::OperatorSnapshot;

/// A channel and how far it was read.
#[derive(Debug)]
struct Channel<T> {
    receiver: Receiver<T>,
    /// Elements that were taken.
    taken: u64,
    /// The position of a barrier that was announced and not reached; else more than any position.
    boundary: u64,
    /// That barrier.
    announced: Option<Barrier>,
}

impl<T> Channel<T> {
    fn expect(&mut self, announcement: Announcement) {
        self.boundary = announcement.boundary;
        self.announced = Some(announcement.barrier);
    }

    /// The barrier at the place that was reached, if one was announced there.
    #[inline]
    fn reached(&mut self) -> Option<Barrier> {
        if self.taken != self.boundary {
            return None;
        }
        self.boundary = u64::MAX;
        self.announced.take()
    }

    /// Where the barrier of a checkpoint stands, if that is known; it is not waited for any more.
    fn overtaken_by(&mut self, checkpoint: CheckpointId) -> Option<u64> {
        self.announced
            .take_if(|barrier| barrier.checkpoint == checkpoint)?;
        Some(std::mem::replace(&mut self.boundary, u64::MAX))
    }
}

/// Channels of one logical input.
#[derive(Debug)]
pub struct InputGate<T> {
    channels: Vec<Channel<T>>,
    next: usize,
    open: usize,
    /// The channel that the last batch came from; none for one of a replay.
    last: Option<usize>,
    /// What is read before the channels.
    replay: Option<ReplayGate<T>>,
}

impl<T> InputGate<T> {
    /// A gate over `channels`.
    pub fn new(channels: Vec<Receiver<T>>) -> Self {
        let open = channels.len();
        let channel = |receiver| Channel {
            receiver,
            taken: 0,
            boundary: u64::MAX,
            announced: None,
        };
        Self {
            channels: channels.into_iter().map(channel).collect(),
            next: 0,
            open,
            last: None,
            replay: None,
        }
    }

    /// Number of channels.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether there are no channels.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Whether every channel has delivered its end of input.
    pub(crate) fn all_ended(&self) -> bool {
        self.open == 0
    }

    /// How its channels take part in checkpoints.
    pub(crate) fn modes(&self) -> impl Iterator<Item = BarrierMode> {
        self.channels.iter().map(|channel| channel.receiver.barriers())
    }

    /// Takes the next batch, merging the events that stand before it. Channels have their turns,
    /// one batch each.
    pub(crate) fn next_batch(
        &mut self,
        first_input: usize,
        merge: &mut MergedEvents,
    ) -> Result<Option<Batch<T>>> {
        if self.replay.is_some() {
            let batch = self.next_replayed(first_input, merge)?;
            if self.replay.is_some() || !merge.is_empty() {
                return Ok(batch);
            }
        }
        for step in 0..self.channels.len() {
            let at = (self.next + step) % self.channels.len();
            if merge.is_blocked(first_input + at) {
                continue;
            }
            while let Some(element) = self.channels[at].next(first_input + at, merge)? {
                match element {
                    Element::Batch(batch) => {
                        self.next = (at + 1) % self.channels.len();
                        self.last = Some(at);
                        return Ok(Some(batch));
                    }
                    Element::Event(event) => {
                        if event == Event::EndOfInput {
                            self.open -= 1;
                        }
                        let first = first_input;
                        merge.take(Input { first, at }, event);
                        if !merge.is_empty() {
                            self.next = at;
                            return Ok(None);
                        }
                        if merge.is_blocked(first_input + at) {
                            break;
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Learns of barriers that were announced.
    pub(crate) fn hear(&mut self, first_input: usize, merge: &mut MergedEvents) -> Result<()> {
        for (input, channel) in (first_input..).zip(&mut self.channels) {
            let Some(announcement) = channel.receiver.take_announcement() else {
                continue;
            };
            let checkpoint = announcement.barrier.checkpoint;
            let capture = merge.capture();
            if let Some(capture) = capture.filter(|capture| capture.checkpoint() == checkpoint) {
                let boundary = Some(announcement.boundary);
                capture.queued(input, &channel.receiver, channel.taken, boundary)?;
            } else if merge.announced(announcement.barrier) {
                channel.expect(announcement);
            }
        }
        Ok(())
    }

    /// Captures what a barrier has overtaken that waits.
    pub(crate) fn capture(&mut self, first_input: usize, merge: &mut MergedEvents) -> Result<()> {
        let Some(capture) = merge.capture() else {
            return Ok(());
        };
        for (input, channel) in (first_input..).zip(&mut self.channels) {
            let boundary = channel.overtaken_by(capture.checkpoint());
            if !capture.is_closed(input) {
                capture.queued(input, &channel.receiver, channel.taken, boundary)?;
            }
        }
        Ok(())
    }

    /// Captures what is left of the last batch. False when it belongs to no channel, and has to be processed
    /// before the barrier.
    pub(crate) fn capture_rest(
        &self,
        first_input: usize,
        batch: &mut Batch<T>,
        merge: &mut MergedEvents,
    ) -> Result<bool> {
        let (Some(at), Some(capture)) = (self.last, merge.capture()) else {
            return Ok(false);
        };
        let kept = KeptBatch::encode(batch, self.channels[at].receiver.codec()?)?;
        capture.at_hand(first_input + at, kept);
        Ok(true)
    }

    /// What was in flight to input number `input` of the task is read first. Whether there is anything.
    pub(crate) fn replay(&mut self, input: u8, restored: &mut InFlightRestore) -> Result<bool> {
        let codec = self.channels.first().map(|channel| channel.receiver.codec());
        if let Some(codec) = codec.transpose()? {
            self.replay = ReplayGate::new(restored, input, codec.types());
        }
        Ok(self.replay.is_some())
    }

    /// Whether what was captured is still being read.
    pub(crate) fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    fn next_replayed(&mut self, first: usize, merge: &mut MergedEvents) -> Result<Option<Batch<T>>> {
        let Some(replay) = &mut self.replay else {
            return Ok(None);
        };
        let batch = replay.next_batch(first, merge)?;
        if batch.is_none() && merge.is_empty() && replay.is_over() {
            self.replay = None;
            merge.replayed(usize::from(first > 0));
        }
        Ok(batch)
    }
}

impl<T> Channel<T> {
    /// The next element, or the barrier that was announced to stand here.
    #[inline]
    fn next(&mut self, input: usize, merge: &mut MergedEvents) -> Result<Option<Element<T>>> {
        if let Some(barrier) = self.reached() {
            return Ok(Some(Element::Event(Event::Barrier(barrier))));
        }
        let Some(mut element) = self.receiver.try_recv() else {
            return Ok(None);
        };
        if let Some(capture) = merge.capture() {
            capture.taken(input, &self.receiver, self.taken, &mut element)?;
        }
        self.taken += 1;
        Ok(Some(element))
    }
}

/// The head of a task with one input: a gate and nothing else.
#[derive(Debug)]
pub struct GateHead<T> {
    gate: InputGate<T>,
    events: MergedEvents,
    /// What is left of a batch that a barrier has overtaken, until that is on its way.
    rest: Option<Batch<T>>,
}

impl<T> GateHead<T> {
    /// The head that reads `gate`.
    pub fn new(gate: InputGate<T>) -> Self {
        let modes: Vec<BarrierMode> = gate.modes().collect();
        let events = MergedEvents::new(&modes, modes.len());
        let rest = None;
        Self { gate, events, rest }
    }
}

impl<T: Send + 'static> GateHead<T> {
    /// Lets the barrier go before what the first operator has not read yet.
    fn capture(&mut self, output: &mut Link<T>) -> Result<()> {
        let mut rest = self.rest.take().or_else(|| {
            let left = output.collector.batch();
            (!left.is_empty()).then(|| std::mem::take(left))
        });
        if let Some(batch) = &mut rest
            && !self.gate.capture_rest(0, batch, &mut self.events)?
        {
            *output.collector.batch() = std::mem::take(batch);
            rest = None;
        }
        self.rest = rest;
        self.gate.capture(0, &mut self.events)
    }

    fn next_batch(&mut self) -> Result<Option<Batch<T>>> {
        match self.rest.take() {
            None => self.gate.next_batch(0, &mut self.events),
            rest => Ok(rest),
        }
    }
}

impl<T: Send + 'static> Head for GateHead<T> {
    fn open(&mut self, _restored: Option<&OperatorSnapshot>) -> Result<()> {
        Ok(())
    }

    fn pull(&mut self, output: &mut dyn AnyLink, turn: &mut Turn<'_, '_>) -> Result<Turned> {
        if !output.is_empty() {
            return Ok(Turned::Starved);
        }
        self.events.is_now(turn.now);
        let link = typed::<T>(output);
        let was_replaying = self.gate.is_replaying();
        if self.events.is_empty()
            && let Some(batch) = self.next_batch()?
        {
            *link.collector.batch() = batch;
            return Ok(Turned::Worked);
        }
        link.event = self.events.pop();
        Ok(
            if link.event.is_some() || was_replaying != self.gate.is_replaying() {
                Turned::Worked
            } else {
                Turned::Starved
            },
        )
    }

    fn wake_at(&self) -> (Option<Time>, i64) {
        (None, i64::MAX)
    }

    fn begin_in_backlog(&mut self, inputs: &[bool]) {
        self.events.begin_in_backlog(inputs);
    }

    fn trigger(&mut self, barrier: Barrier) -> bool {
        self.events.trigger(barrier)
    }

    fn look(&mut self, now: Time, output: &mut dyn AnyLink) -> Result<Time> {
        self.events.is_now(now);
        self.gate.hear(0, &mut self.events)?;
        if self.events.overtake(now) {
            self.capture(typed(output))?;
        }
        Ok(self.events.look_again(now))
    }

    fn passed(&self) -> Option<Barrier> {
        self.events.passed()
    }

    fn arrival(&self) -> Arrival {
        self.events.arrival()
    }

    fn take_in_flight(&mut self, checkpoint: CheckpointId) -> InFlightPart {
        self.events.take_in_flight(checkpoint)
    }

    fn replay(&mut self, mut restored: InFlightRestore) -> Result<()> {
        if self.gate.replay(0, &mut restored)? {
            self.events.replay(&restored);
        }
        Ok(())
    }

    fn abort(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.events.abort(checkpoint);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> Option<NodeStats> {
        None
    }
}
