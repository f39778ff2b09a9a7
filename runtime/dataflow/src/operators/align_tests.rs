//! What an aligner passes on, and when.

use super::*;
use proptest::prelude::*;

const A: Barrier = aligned(1);
const B: Barrier = aligned(2);

const fn aligned(id: u64) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(id),
        overtakes: None,
    }
}

const fn overtaking(id: u64, from: u64) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(id),
        overtakes: Some(Time::from_nanos(from)),
    }
}

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
    aligner.abort(A.checkpoint);
    assert!(!aligner.is_blocked(0));
    assert_eq!(aligner.barrier(1, A), None, "late");
    assert!(!aligner.is_blocked(1));
    assert_eq!(aligner.barrier(0, B), None);
    assert_eq!(aligner.barrier(1, B), Some(B));
}

#[test]
fn at_least_once_blocks_nothing_and_waits_for_all() {
    let mut aligner = BarrierAligner::new(2).at_least_once(true);
    assert_eq!(aligner.barrier(0, A), None);
    assert!(!aligner.is_blocked(0));
    assert_eq!(aligner.barrier(1, A), Some(A));
}

#[test]
fn a_barrier_overtakes_from_its_time_on() {
    let mut aligner = BarrierAligner::of([true, true, true].into_iter());
    let barrier = overtaking(1, 10);
    assert_eq!(aligner.barrier(0, barrier), None);
    assert!(aligner.announced(barrier));
    aligner.end(2);
    assert_eq!(aligner.overtake(Time::from_nanos(9)), None);
    let overtaken = aligner.overtake(Time::from_nanos(10));
    assert_eq!(overtaken, Some((barrier, vec![false, true, false])));
    assert!(!aligner.is_blocked(0));
    assert_eq!(aligner.barrier(1, barrier), None, "it has passed");
    assert!(!aligner.announced(barrier));
}

#[test]
fn who_cannot_be_overtaken_is_waited_for() {
    let mut aligner = BarrierAligner::of([true, false].into_iter());
    let barrier = overtaking(1, 0);
    aligner.announced(barrier);
    assert_eq!(aligner.overtake(Time::ZERO), None);
    assert_eq!(aligner.barrier(1, barrier), None);
    assert_eq!(aligner.overtake(Time::ZERO), Some((barrier, vec![true, false])));
}

#[test]
fn an_aligned_barrier_overtakes_never() {
    let mut aligner = BarrierAligner::of([true, true].into_iter());
    assert_eq!(aligner.barrier(0, A), None);
    assert_eq!(aligner.overtake(Time::from_nanos(u64::MAX)), None);
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
                    aligner.barrier(input, aligned(id))
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
            if let Some(Barrier { checkpoint: CheckpointId(id), .. }) = passed {
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
