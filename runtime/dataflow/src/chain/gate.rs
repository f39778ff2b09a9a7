//! The consuming side of a task: its channels, read in turn, with watermarks merged.

use super::link::{AnyLink, typed};
use super::{Head, NodeStats, Turn, Turned};
use crate::operators::align::BarrierAligner;
use crate::operators::merge::WatermarkMerger;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_core::{Batch, Element, Event, Result};
use hurtig_exchange::Receiver;
use hurtig_state::OperatorSnapshot;
use std::collections::VecDeque;

/// Channels of one logical input.
#[derive(Debug)]
pub struct InputGate<T> {
    channels: Vec<Receiver<T>>,
    next: usize,
    open: usize,
}

impl<T> InputGate<T> {
    /// A gate over `channels`.
    pub fn new(channels: Vec<Receiver<T>>) -> Self {
        let open = channels.len();
        Self {
            channels,
            next: 0,
            open,
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

    /// Takes the next batch, merging the events that stand before it. Channels have their turns,
    /// one batch each.
    pub(crate) fn next_batch(&mut self, first_input: usize, merge: &mut MergedEvents) -> Option<Batch<T>> {
        for step in 0..self.channels.len() {
            let at = (self.next + step) % self.channels.len();
            if merge.is_blocked(first_input + at) {
                continue;
            }
            while let Some(element) = self.channels[at].try_recv() {
                match element {
                    Element::Batch(batch) => {
                        self.next = (at + 1) % self.channels.len();
                        return Some(batch);
                    }
                    Element::Event(event) => {
                        if event == Event::EndOfInput {
                            self.open -= 1;
                        }
                        merge.take(first_input + at, event);
                        if !merge.is_empty() {
                            self.next = at;
                            return None;
                        }
                        if merge.is_blocked(first_input + at) {
                            break;
                        }
                    }
                }
            }
        }
        None
    }
}

/// Events of all channels on their way to becoming the task's.
#[derive(Debug)]
pub(crate) struct MergedEvents {
    merger: WatermarkMerger,
    aligner: BarrierAligner,
    ready: VecDeque<Event>,
    end_sent: bool,
}

impl MergedEvents {
    pub(crate) fn new(inputs: usize) -> Self {
        Self {
            merger: WatermarkMerger::new(inputs),
            aligner: BarrierAligner::new(inputs),
            ready: VecDeque::new(),
            end_sent: false,
        }
    }

    fn take(&mut self, input: usize, event: Event) {
        let update = match event {
            Event::Watermark(wm) => self.merger.watermark(input, wm),
            Event::Status(status) => self.merger.status(input, status),
            Event::Barrier(checkpoint) => {
                let passed = self.aligner.barrier(input, checkpoint);
                self.ready.extend(passed.map(Event::Barrier));
                return;
            }
            Event::EndOfInput => {
                let passed = self.aligner.end(input);
                self.ready.extend(passed.map(Event::Barrier));
                self.merger.end(input)
            }
        };
        self.ready.extend(update.events());
        if self.merger.all_ended() && !self.end_sent {
            self.end_sent = true;
            self.ready.push_back(Event::EndOfInput);
        }
    }

    /// Whether a channel has delivered a barrier that others still owe.
    #[inline]
    pub(crate) fn is_blocked(&self, input: usize) -> bool {
        self.aligner.is_blocked(input)
    }

    /// Begins a checkpoint at a task whose producers have all finished: its barrier goes before the end of
    /// input. False when that has gone.
    pub(crate) fn trigger(&mut self, checkpoint: CheckpointId) -> bool {
        let passed = self.aligner.expect(checkpoint);
        if !self.end_sent {
            return true;
        }
        let end = self.ready.iter().position(|event| *event == Event::EndOfInput);
        if let (Some(at), Some(passed)) = (end, passed) {
            self.ready.insert(at, Event::Barrier(passed));
        }
        end.is_some()
    }

    /// Gives a checkpoint up.
    pub(crate) fn abort(&mut self, checkpoint: CheckpointId) {
        self.aligner.abort(checkpoint);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }
}

/// The head of a task with one input: a gate and nothing else.
#[derive(Debug)]
pub struct GateHead<T> {
    gate: InputGate<T>,
    events: MergedEvents,
}

impl<T> GateHead<T> {
    /// The head that reads `gate`.
    pub fn new(gate: InputGate<T>) -> Self {
        let events = MergedEvents::new(gate.len());
        Self { gate, events }
    }
}

impl<T: Send + 'static> Head for GateHead<T> {
    fn open(&mut self, _restored: Option<&OperatorSnapshot>) -> Result<()> {
        Ok(())
    }

    fn pull(&mut self, output: &mut dyn AnyLink, _turn: &mut Turn<'_, '_>) -> Result<Turned> {
        if !output.is_empty() {
            return Ok(Turned::Starved);
        }
        let link = typed::<T>(output);
        if self.events.is_empty()
            && let Some(batch) = self.gate.next_batch(0, &mut self.events)
        {
            *link.collector.batch() = batch;
            return Ok(Turned::Worked);
        }
        link.event = self.events.pop();
        Ok(if link.event.is_some() {
            Turned::Worked
        } else {
            Turned::Starved
        })
    }

    fn wake_at(&self) -> (Option<Time>, i64) {
        (None, i64::MAX)
    }

    fn trigger(&mut self, checkpoint: CheckpointId) -> bool {
        self.events.trigger(checkpoint)
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
