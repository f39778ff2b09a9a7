//! What a barrier overtakes, on its way into the checkpoint.

use hurtig_core::ids::CheckpointId;
use hurtig_core::{Element, Event, Result};
use hurtig_exchange::{Captured, ChannelState, InFlight, KeptBatch, Receiver};

/// What a task has of the records that a barrier has overtaken.
#[derive(Debug)]
pub enum InFlightPart {
    /// It overtook nothing.
    Nothing,
    /// Some of them are still to come.
    Coming,
    /// All of them.
    Here(InFlight),
}

/// What is captured for one checkpoint.
#[derive(Debug)]
pub(crate) struct Capture {
    checkpoint: CheckpointId,
    watermark: i64,
    inputs: Vec<CapturedInput>,
}

#[derive(Debug)]
struct CapturedInput {
    state: ChannelState,
    /// The position up to which it was captured, while more may come before its barrier.
    open: Option<u64>,
}

impl Capture {
    /// A capture that begins at the task's watermark, given for each input what is known of it, and whether it is
    /// overtaken.
    pub(crate) fn new(
        checkpoint: CheckpointId,
        watermark: i64,
        inputs: impl Iterator<Item = (ChannelState, bool)>,
    ) -> Self {
        let input = |(state, overtaken): (ChannelState, bool)| CapturedInput {
            state,
            open: overtaken.then_some(0),
        };
        Self {
            checkpoint,
            watermark,
            inputs: inputs.map(input).collect(),
        }
    }

    pub(crate) fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// Whether nothing more may come of an input.
    pub(crate) fn is_closed(&self, input: usize) -> bool {
        self.inputs[input].open.is_none()
    }

    /// Captures what waits in a channel from the position `taken` on: up to its barrier, if that is known, and
    /// else all.
    pub(crate) fn queued<T>(
        &mut self,
        input: usize,
        receiver: &Receiver<T>,
        taken: u64,
        boundary: Option<u64>,
    ) -> Result<()> {
        let input = &mut self.inputs[input];
        let Some(upto) = input.open else { return Ok(()) };
        let until = boundary.unwrap_or(u64::MAX);
        let (upto, ended) = receiver.capture(upto.max(taken), until, &mut input.state.elements)?;
        input.open = (boundary.is_none() && !ended).then_some(upto);
        Ok(())
    }

    /// Captures what was read of an input and is not processed: it comes before all else.
    pub(crate) fn at_hand(&mut self, input: usize, batch: KeptBatch) {
        self.inputs[input]
            .state
            .elements
            .insert(0, Captured::Batch(batch));
    }

    /// Captures an element that is taken from a position, if it was not captured when it waited.
    pub(crate) fn taken<T>(
        &mut self,
        input: usize,
        receiver: &Receiver<T>,
        position: u64,
        element: &mut Element<T>,
    ) -> Result<()> {
        let input = &mut self.inputs[input];
        if input.open.is_some_and(|upto| upto <= position) {
            input.state.elements.extend(receiver.encode(element)?);
            if matches!(element, Element::Event(Event::EndOfInput)) {
                input.open = None;
            }
        }
        Ok(())
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.inputs.iter().all(|input| input.open.is_none())
    }

    pub(crate) fn into_in_flight(self) -> InFlight {
        InFlight {
            watermark: self.watermark,
            channels: self.inputs.into_iter().map(|input| input.state).collect(),
        }
    }
}
