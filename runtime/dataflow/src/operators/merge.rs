//! Event time of many inputs: the watermark of what reads them all.
//!
//! The brain behind every place where channels meet. It follows Flink's `StatusWatermarkValve`:
//! the result is the least watermark of the *aligned* inputs. An input is aligned while it is active
//! and not behind the result; one that comes back from idleness with an older watermark is waited for
//! only once it has caught up, and the result never moves back.
//!
//! In one point it is more careful than Flink: an input that has ended counts as
//! [`MAX_WATERMARK`], but the result reaches [`MAX_WATERMARK`] only when *every* input has ended. With
//! one input ended and the others merely idle, Flink ends event time there and drops as late whatever
//! the idle inputs deliver afterwards.

use hurtig_core::element::{Event, WatermarkStatus};
use hurtig_core::time::{MAX_WATERMARK, MIN_WATERMARK};
use std::ops::Range;

/// What to send on after something has happened to event time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct WatermarkUpdate {
    /// A watermark greater than any before.
    pub watermark: Option<i64>,
    /// A change of status.
    pub status: Option<WatermarkStatus>,
}

impl WatermarkUpdate {
    /// Nothing to send.
    pub const NONE: Self = Self {
        watermark: None,
        status: None,
    };

    /// Whether there is nothing to send.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The events in the order in which they must be sent: a turn to active stands before the
    /// watermark, a turn to idle behind it.
    pub fn events(self) -> impl Iterator<Item = Event> {
        let status = |wanted| self.status.filter(|&status| status == wanted).map(Event::Status);
        let before = status(WatermarkStatus::Active);
        let behind = status(WatermarkStatus::Idle);
        before
            .into_iter()
            .chain(self.watermark.map(Event::Watermark))
            .chain(behind)
    }
}

#[derive(Clone, Copy, Debug)]
struct Input {
    watermark: i64,
    idle: bool,
    ended: bool,
    aligned: bool,
}

impl Input {
    fn counts(self) -> bool {
        !self.idle && !self.ended
    }
}

/// Merges the watermarks and statuses of a fixed number of inputs.
///
/// # Invariants
/// An aligned input is active, has not ended, and its watermark is not below the result.
#[derive(Clone, Debug)]
pub struct WatermarkMerger {
    inputs: Vec<Input>,
    result: i64,
    idle: bool,
    /// The least aligned watermark may differ from the result though no watermark has arrived.
    stale: bool,
}

impl WatermarkMerger {
    /// A merger of `inputs` inputs, all active and without watermark.
    ///
    /// # Panics
    /// When there are no inputs.
    pub fn new(inputs: usize) -> Self {
        assert!(inputs > 0, "event time is merged from at least one input");
        let fresh = Input {
            watermark: MIN_WATERMARK,
            idle: false,
            ended: false,
            aligned: true,
        };
        Self {
            inputs: vec![fresh; inputs],
            result: MIN_WATERMARK,
            idle: false,
            stale: false,
        }
    }

    /// A merger that goes on where another one stood: at `result`, with inputs of which the watermark and
    /// whether they are idle are known.
    ///
    /// # Panics
    /// When there are no inputs.
    pub fn going_on(result: i64, inputs: impl Iterator<Item = (i64, bool)>) -> Self {
        let input = |(watermark, idle)| Input {
            watermark,
            idle,
            ended: false,
            aligned: !idle && watermark >= result,
        };
        let inputs: Vec<Input> = inputs.map(input).collect();
        assert!(!inputs.is_empty(), "event time is merged from at least one input");
        Self {
            idle: inputs.iter().all(|input| input.idle),
            inputs,
            result,
            stale: false,
        }
    }

    /// Puts other inputs, all active and with known watermarks, in the place of some.
    pub fn replace(&mut self, inputs: Range<usize>, by: &[i64]) -> WatermarkUpdate {
        let result = self.result;
        let input = |&watermark: &i64| Input {
            watermark,
            idle: false,
            ended: false,
            aligned: watermark >= result,
        };
        self.inputs.splice(inputs, by.iter().map(input));
        self.stale = true;
        let status = std::mem::take(&mut self.idle).then_some(WatermarkStatus::Active);
        WatermarkUpdate {
            status,
            watermark: None,
        }
    }

    /// How many inputs there are.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The watermark of an input, and whether it is idle.
    pub fn input(&self, input: usize) -> (i64, bool) {
        (self.inputs[input].watermark, self.inputs[input].idle)
    }

    /// The greatest watermark that was returned so far.
    pub fn current(&self) -> i64 {
        self.result
    }

    /// Whether every input that has not ended is idle.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// Whether every input has ended.
    pub fn all_ended(&self) -> bool {
        self.inputs.iter().all(|input| input.ended)
    }

    /// A watermark has arrived from `input`. [`MAX_WATERMARK`] means the same as [`Self::end`]. One
    /// from an idle input, and one that does not advance, is ignored.
    ///
    /// *Cost*: constant unless `input` held the result back; then one pass over the inputs.
    pub fn watermark(&mut self, input: usize, watermark: i64) -> WatermarkUpdate {
        if watermark == MAX_WATERMARK {
            return self.end(input);
        }
        let state = &mut self.inputs[input];
        if !state.counts() || watermark <= state.watermark {
            return WatermarkUpdate::NONE;
        }
        let held_back = state.aligned && state.watermark == self.result;
        state.watermark = watermark;
        if !state.aligned && watermark >= self.result {
            self.align(input);
        }
        if held_back || self.stale {
            self.advance()
        } else {
            WatermarkUpdate::NONE
        }
    }

    /// `input` has announced a status.
    pub fn status(&mut self, input: usize, status: WatermarkStatus) -> WatermarkUpdate {
        let state = self.inputs[input];
        match status {
            WatermarkStatus::Idle if state.counts() => {
                self.inputs[input].idle = true;
                self.leave(input)
            }
            WatermarkStatus::Active if state.idle && !state.ended => self.wake(input),
            _ => WatermarkUpdate::NONE,
        }
    }

    /// `input` has ended: it holds nothing back any more.
    pub fn end(&mut self, input: usize) -> WatermarkUpdate {
        if self.inputs[input].ended {
            return WatermarkUpdate::NONE;
        }
        let counted = self.inputs[input].counts();
        self.inputs[input].ended = true;
        if self.all_ended() {
            self.finish()
        } else if counted {
            self.leave(input)
        } else {
            WatermarkUpdate::NONE
        }
    }

    fn finish(&mut self) -> WatermarkUpdate {
        let status = std::mem::take(&mut self.idle).then_some(WatermarkStatus::Active);
        self.inputs.iter_mut().for_each(|input| input.aligned = false);
        WatermarkUpdate {
            status,
            ..self.raise(MAX_WATERMARK)
        }
    }

    /// `input` has just stopped to count. When it was the last, what the others knew before they
    /// turned idle is given out at once: nothing will hold it back.
    fn leave(&mut self, input: usize) -> WatermarkUpdate {
        self.inputs[input].aligned = false;
        let held_back = self.inputs[input].watermark == self.result;
        let all_idle = !self.inputs.iter().any(|input| input.counts());
        let update = match (held_back, all_idle) {
            (false, _) => WatermarkUpdate::NONE,
            (true, false) => self.advance(),
            (true, true) => self.raise(
                self.inputs
                    .iter()
                    .map(|input| input.watermark)
                    .max()
                    .unwrap_or(self.result),
            ),
        };
        let status =
            (all_idle && !std::mem::replace(&mut self.idle, all_idle)).then_some(WatermarkStatus::Idle);
        WatermarkUpdate { status, ..update }
    }

    fn wake(&mut self, input: usize) -> WatermarkUpdate {
        self.inputs[input].idle = false;
        if self.inputs[input].watermark >= self.result {
            self.align(input);
        }
        let status = std::mem::take(&mut self.idle).then_some(WatermarkStatus::Active);
        WatermarkUpdate {
            status,
            watermark: None,
        }
    }

    fn align(&mut self, input: usize) {
        self.stale |= !self.inputs.iter().any(|input| input.aligned);
        self.inputs[input].aligned = true;
    }

    fn advance(&mut self) -> WatermarkUpdate {
        self.stale = false;
        let aligned = self.inputs.iter().filter(|input| input.aligned);
        match aligned.map(|input| input.watermark).min() {
            Some(least) => self.raise(least),
            None => WatermarkUpdate::NONE,
        }
    }

    fn raise(&mut self, to: i64) -> WatermarkUpdate {
        if to <= self.result {
            return WatermarkUpdate::NONE;
        }
        self.result = to;
        WatermarkUpdate {
            watermark: Some(to),
            status: None,
        }
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
