//! Barrier alignment: what reads many inputs and takes one consistent cut through them.
//!
//! An input that has delivered the barrier of a checkpoint is blocked until every other input has
//! delivered it or has ended: what follows the barrier belongs to the next checkpoint. Ids only grow; a
//! barrier of a newer checkpoint ends the alignment of an older one, which then never completes.

use hurtig_core::ids::CheckpointId;

/// Aligns the barriers of a fixed number of inputs.
///
/// # Invariants
/// An input is blocked only while `current` is some checkpoint, and some input that has not ended is not.
#[derive(Clone, Debug)]
pub struct BarrierAligner {
    inputs: Vec<Input>,
    current: Option<CheckpointId>,
    /// Barriers up to this one lead to nothing any more.
    done: Option<CheckpointId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Input {
    blocked: bool,
    ended: bool,
}

impl BarrierAligner {
    /// An aligner of `inputs` inputs.
    pub fn new(inputs: usize) -> Self {
        Self {
            inputs: vec![Input::default(); inputs],
            current: None,
            done: None,
        }
    }

    /// Whether an input must not be read.
    #[inline]
    pub fn is_blocked(&self, input: usize) -> bool {
        self.current.is_some() && self.inputs[input].blocked
    }

    /// The checkpoint that is being aligned.
    pub fn aligning(&self) -> Option<CheckpointId> {
        self.current
    }

    /// An input has delivered a barrier. Returns the checkpoint whose barrier is to be passed on.
    pub fn barrier(&mut self, input: usize, checkpoint: CheckpointId) -> Option<CheckpointId> {
        if self.done.is_some_and(|done| checkpoint <= done) || self.current.is_some_and(|c| checkpoint < c) {
            return None;
        }
        if self.current != Some(checkpoint) {
            self.unblock();
            self.current = Some(checkpoint);
        }
        self.inputs[input].blocked = true;
        self.completed()
    }

    /// An input has ended, which counts as every barrier. Returns the checkpoint whose barrier is to be
    /// passed on, before the news of the end.
    pub fn end(&mut self, input: usize) -> Option<CheckpointId> {
        self.inputs[input].ended = true;
        self.completed()
    }

    /// A checkpoint whose barrier no producer will send, because all of them have ended or are about to:
    /// it waits for the ends that are still on the way. Returns it when there is none.
    pub fn expect(&mut self, checkpoint: CheckpointId) -> Option<CheckpointId> {
        let known = self.done.max(self.current);
        if known.is_none_or(|known| known < checkpoint) {
            self.unblock();
            self.current = Some(checkpoint);
        }
        self.completed()
    }

    /// A checkpoint will never complete: its inputs are read again, its late barriers ignored.
    pub fn abort(&mut self, checkpoint: CheckpointId) {
        self.done = self.done.max(Some(checkpoint));
        if self.current.is_some_and(|current| current <= checkpoint) {
            self.current = None;
            self.unblock();
        }
    }

    fn completed(&mut self) -> Option<CheckpointId> {
        let checkpoint = self.current?;
        if !self.inputs.iter().all(|input| input.blocked || input.ended) {
            return None;
        }
        self.current = None;
        self.done = Some(checkpoint);
        self.unblock();
        Some(checkpoint)
    }

    fn unblock(&mut self) {
        self.inputs.iter_mut().for_each(|input| input.blocked = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: CheckpointId = CheckpointId(1);
    const B: CheckpointId = CheckpointId(2);

    #[test]
    fn an_input_waits_for_the_others() {
        let mut aligner = BarrierAligner::new(3);
        assert_eq!(aligner.barrier(0, A), None);
        assert!(aligner.is_blocked(0) && !aligner.is_blocked(1));
        assert_eq!(aligner.end(2), None);
        assert_eq!(aligner.barrier(1, A), Some(A));
        assert!((0..3).all(|input| !aligner.is_blocked(input)));
    }

    #[test]
    fn an_end_completes_what_only_it_was_missing() {
        let mut aligner = BarrierAligner::new(2);
        assert_eq!(aligner.barrier(0, A), None);
        assert_eq!(aligner.end(1), Some(A));
        assert_eq!(aligner.barrier(0, B), Some(B));
    }

    #[test]
    fn a_barrier_that_nobody_sends_comes_with_the_last_end() {
        let mut aligner = BarrierAligner::new(2);
        assert_eq!(aligner.end(0), None);
        assert_eq!(aligner.expect(A), None);
        assert!(!aligner.is_blocked(1));
        assert_eq!(aligner.expect(A), None, "a second time");
        assert_eq!(aligner.end(1), Some(A));
        assert_eq!(aligner.expect(A), None, "it has passed");
        assert_eq!(aligner.expect(B), Some(B), "all have ended");
    }

    #[test]
    fn a_newer_barrier_ends_an_older_alignment() {
        let mut aligner = BarrierAligner::new(2);
        assert_eq!(aligner.barrier(0, A), None);
        assert_eq!(aligner.barrier(1, B), None);
        assert!(!aligner.is_blocked(0) && aligner.is_blocked(1));
        assert_eq!(aligner.barrier(0, B), Some(B));
        assert_eq!(aligner.barrier(0, A), None, "late");
    }

    #[test]
    fn an_abort_unblocks_and_is_remembered() {
        let mut aligner = BarrierAligner::new(2);
        aligner.barrier(0, A);
        aligner.abort(A);
        assert!(!aligner.is_blocked(0));
        assert_eq!(aligner.barrier(1, A), None, "late");
        assert!(!aligner.is_blocked(1));
        assert_eq!(aligner.barrier(0, B), None);
        assert_eq!(aligner.barrier(1, B), Some(B));
    }

    proptest! {
        /// Whatever order inputs are read in, each delivers its records between two barriers before
        /// any record behind the second is read.
        #[test]
        fn a_cut_never_mixes_epochs(
            counts in prop::collection::vec(prop::collection::vec(0_usize..4, 1..5), 1..5),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            // Each input: records of epoch 0, barrier 1, records of epoch 1, barrier 2, ..., its end.
            let inputs = counts.len();
            let mut queues: Vec<std::collections::VecDeque<Option<u64>>> = counts
                .iter()
                .map(|epochs| {
                    let epoch = |(i, &n): (usize, &usize)| {
                        let barrier = (i > 0).then_some(Some(i as u64));
                        barrier.into_iter().chain(std::iter::repeat_n(None, n))
                    };
                    epochs.iter().enumerate().flat_map(epoch).collect()
                })
                .collect();
            let (mut aligner, mut ended) = (BarrierAligner::new(inputs), vec![false; inputs]);
            let (mut cut, mut of_input) = (0_u64, vec![0_u64; inputs]);
            let mut turn = |input: usize| {
                if ended[input] || aligner.is_blocked(input) {
                    return;
                }
                let passed = match queues[input].pop_front() {
                    Some(Some(id)) => {
                        of_input[input] = id;
                        aligner.barrier(input, CheckpointId(id))
                    }
                    Some(None) => {
                        assert_eq!(of_input[input], cut, "a record of another epoch was read");
                        None
                    }
                    None => {
                        ended[input] = true;
                        aligner.end(input)
                    }
                };
                if let Some(CheckpointId(id)) = passed {
                    assert_eq!(id, cut + 1, "each checkpoint once");
                    cut = id;
                }
            };
            order.iter().for_each(|at| turn(at.index(inputs)));
            for _ in 0..40 {
                (0..inputs).for_each(&mut turn);
            }
            prop_assert!(ended.iter().all(|ended| *ended), "all inputs are read to their ends");
            let longest = counts.iter().map(Vec::len).max().unwrap_or(1) as u64;
            prop_assert_eq!(cut, longest - 1);
        }
    }
}
