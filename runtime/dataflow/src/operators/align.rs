//! Barrier alignment: what reads many inputs and takes one consistent cut through them.
//!
//! An input that has delivered the barrier of a checkpoint is blocked until every other input has
//! delivered it or has ended: what follows the barrier belongs to the next checkpoint. Ids only grow; a
//! barrier of a newer checkpoint ends the alignment of an older one, which then never completes.
//!
//! A barrier that may overtake does not wait so long: from its time on it passes at once, and what the inputs
//! hold before it becomes part of the checkpoint. Inputs that cannot be overtaken are waited for.

use hurtig_core::Barrier;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;

/// Aligns the barriers of a fixed number of inputs.
///
/// # Invariants
/// An input is blocked only while `current` is some checkpoint, and some input that has not ended is not.
#[derive(Clone, Debug)]
pub struct BarrierAligner {
    inputs: Vec<Input>,
    current: Option<Barrier>,
    /// Barriers up to this one lead to nothing any more.
    done: Option<CheckpointId>,
    /// Inputs are read on behind their barriers.
    at_least_once: bool,
}

/// An input's part in checkpoints.
#[derive(Clone, Copy, Debug, Default)]
struct Input {
    /// It has delivered the barrier.
    delivered: bool,
    ended: bool,
    /// Barriers may overtake what it holds.
    overtakable: bool,
}

impl Input {
    fn owes_nothing(self) -> bool {
        self.delivered || self.ended
    }
}

impl BarrierAligner {
    /// An aligner of `inputs` inputs, none of which can be overtaken.
    pub fn new(inputs: usize) -> Self {
        Self::of(std::iter::repeat_n(false, inputs))
    }

    /// An aligner of inputs that can be overtaken or not.
    pub fn of(overtakable: impl Iterator<Item = bool>) -> Self {
        let input = |overtakable| Input {
            overtakable,
            ..Input::default()
        };
        Self {
            inputs: overtakable.map(input).collect(),
            current: None,
            done: None,
            at_least_once: false,
        }
    }

    /// The same that blocks no input.
    #[must_use]
    pub fn at_least_once(self, at_least_once: bool) -> Self {
        Self {
            at_least_once,
            ..self
        }
    }

    /// Whether an input must not be read.
    #[inline]
    pub fn is_blocked(&self, input: usize) -> bool {
        self.current.is_some() && self.inputs[input].delivered && !self.at_least_once
    }

    /// The checkpoint that is being aligned.
    pub fn aligning(&self) -> Option<Barrier> {
        self.current
    }

    /// An input has delivered a barrier. Returns the one that is to be passed on.
    pub fn barrier(&mut self, input: usize, barrier: Barrier) -> Option<Barrier> {
        if !self.announced(barrier) {
            return None;
        }
        self.inputs[input].delivered = true;
        self.completed()
    }

    /// A barrier is known to come. False when it leads to nothing any more.
    pub fn announced(&mut self, barrier: Barrier) -> bool {
        let checkpoint = barrier.checkpoint;
        let known = self.current.map(|current| current.checkpoint);
        if self.done.is_some_and(|done| checkpoint <= done) || known.is_some_and(|known| checkpoint < known) {
            return false;
        }
        match &mut self.current {
            Some(current) if current.checkpoint == checkpoint => {
                current.overtakes = current.overtakes.or(barrier.overtakes);
            }
            _ => {
                self.unblock();
                self.current = Some(barrier);
            }
        }
        true
    }

    /// An input has ended, which counts as every barrier. Returns the barrier that is to be passed on, before
    /// the news of the end.
    pub fn end(&mut self, input: usize) -> Option<Barrier> {
        self.inputs[input].ended = true;
        self.completed()
    }

    /// Whether every input has ended.
    pub fn all_ended(&self) -> bool {
        self.inputs.iter().all(|input| input.ended)
    }

    /// A checkpoint whose barrier no producer will send, because all of them have ended or are about to:
    /// it waits for the ends that are still on the way. Returns it when there is none.
    pub fn expect(&mut self, barrier: Barrier) -> Option<Barrier> {
        self.announced(barrier);
        self.completed()
    }

    /// Lets the barrier overtake if it may, and no input that cannot be overtaken owes it. Returns the barrier,
    /// and for each input whether it is overtaken: it has neither delivered the barrier nor ended.
    pub fn overtake(&mut self, now: Time) -> Option<(Barrier, Vec<bool>)> {
        let barrier = self.current.filter(|barrier| barrier.may_overtake(now))?;
        if !self
            .inputs
            .iter()
            .all(|input| input.overtakable || input.owes_nothing())
        {
            return None;
        }
        let overtaken = self.inputs.iter().map(|input| !input.owes_nothing()).collect();
        self.pass(barrier);
        Some((barrier, overtaken))
    }

    /// A checkpoint will never complete: its inputs are read again, its late barriers ignored.
    pub fn abort(&mut self, checkpoint: CheckpointId) {
        self.done = self.done.max(Some(checkpoint));
        if self
            .current
            .is_some_and(|current| current.checkpoint <= checkpoint)
        {
            self.current = None;
            self.unblock();
        }
    }

    fn completed(&mut self) -> Option<Barrier> {
        let barrier = self.current?;
        if !self.inputs.iter().all(|input| input.owes_nothing()) {
            return None;
        }
        self.pass(barrier);
        Some(barrier)
    }

    fn pass(&mut self, barrier: Barrier) {
        self.current = None;
        self.done = Some(barrier.checkpoint);
        self.unblock();
    }

    fn unblock(&mut self) {
        self.inputs.iter_mut().for_each(|input| input.delivered = false);
    }
}

#[cfg(test)]
#[path = "align_tests.rs"]
mod tests;
