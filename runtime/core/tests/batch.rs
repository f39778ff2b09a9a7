//! A batch is a queue of records with times and hashes, whatever is done to it and in whatever order:
//! the records are not looked at in between, since that would restore an order that was turned round.

#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

use hurtig_core::Batch;
use hurtig_core::batch::Drained;
use hurtig_core::time::NO_TIMESTAMP;
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Op {
    Push(i64),
    Pop(usize),
    Drain(usize),
    /// Some of the drained records are never looked at.
    DrainAndDrop(usize),
    DrainColumns(usize),
    /// Appends part of another batch from which some were popped first; the rest follows or not.
    Append {
        times: Vec<i64>,
        popped: usize,
        taken: usize,
    },
    AppendPicked {
        times: Vec<i64>,
        popped: usize,
    },
    ExtendAtCommonTime(i64, usize),
    Map {
        times: Vec<i64>,
        popped: usize,
        taken: usize,
    },
    Filter {
        times: Vec<i64>,
        popped: usize,
        taken: usize,
    },
    AssignTimes,
    AssignCommonTime(i64),
    Take,
    Clone,
    Look,
}

/// Few different times, so that batches with a common one are as frequent as others.
fn times() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        prop::collection::vec(0i64..3, 0..7),
        (0i64..3, 0usize..7).prop_map(|(time, count)| vec![time; count])
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let part = || (times(), 0usize..4, 0usize..8);
    prop_oneof![
        8 => (0i64..3).prop_map(Op::Push),
        6 => (1usize..4).prop_map(Op::Pop),
        2 => (0usize..5).prop_map(Op::Drain),
        1 => (0usize..5).prop_map(Op::DrainAndDrop),
        2 => (0usize..5).prop_map(Op::DrainColumns),
        2 => part().prop_map(|(times, popped, taken)| Op::Append { times, popped, taken }),
        2 => (times(), 0usize..4).prop_map(|(times, popped)| Op::AppendPicked { times, popped }),
        1 => (0i64..3, 0usize..20).prop_map(|(time, count)| Op::ExtendAtCommonTime(time, count)),
        2 => part().prop_map(|(times, popped, taken)| Op::Map { times, popped, taken }),
        2 => part().prop_map(|(times, popped, taken)| Op::Filter { times, popped, taken }),
        1 => Just(Op::AssignTimes),
        1 => (0i64..3).prop_map(Op::AssignCommonTime),
        1 => Just(Op::Take),
        1 => Just(Op::Clone),
        2 => Just(Op::Look),
    ]
}

/// A batch beside what it should hold. Record `n` has the hash `n * 10`.
struct Pair {
    batch: Batch<u64>,
    model: VecDeque<(u64, i64)>,
    hashed: bool,
    next: u64,
}

fn push(batch: &mut Batch<u64>, record: u64, time: i64, hashed: bool) {
    if hashed {
        batch.push_hashed(record, time, record * 10);
    } else {
        batch.push(record, time);
    }
}

impl Pair {
    fn push(&mut self, time: i64) {
        push(&mut self.batch, self.next, time, self.hashed);
        self.model.push_back((self.next, time));
        self.next += 1;
    }

    /// Another batch, from which some records were popped already.
    fn other(&mut self, times: &[i64], popped: usize, hashed: bool) -> (Batch<u64>, VecDeque<(u64, i64)>) {
        let (mut batch, mut model) = (Batch::new(), VecDeque::new());
        for &time in times {
            push(&mut batch, self.next, time, hashed);
            model.push_back((self.next, time));
            self.next += 1;
        }
        for _ in 0..popped {
            assert_eq!(batch.pop_front(), model.pop_front());
        }
        (batch, model)
    }

    /// Takes a part of another batch, by `how`, then all that is left of it.
    fn part(
        &mut self,
        (times, popped, taken): (&[i64], usize, usize),
        how: impl Fn(&mut Batch<u64>, &mut Batch<u64>, usize),
        keeps: impl Fn(u64) -> bool,
    ) {
        // Only whole batches carry their hashes on.
        let (mut other, mut model) = self.other(times, popped, self.hashed);
        for part in [taken, usize::MAX] {
            how(&mut self.batch, &mut other, part);
            let moved = model.drain(..part.min(model.len()));
            self.model.extend(moved.filter(|(record, _)| keeps(*record)));
            assert_eq!(other.len(), model.len());
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Push(time) => self.push(*time),
            Op::Pop(count) => {
                for _ in 0..*count {
                    assert_eq!(self.batch.pop_front(), self.model.pop_front());
                }
            }
            Op::Drain(n) => {
                let found: Vec<u64> = self.batch.drain(*n).collect();
                let expected: Vec<u64> = self
                    .model
                    .drain(..(*n).min(self.model.len()))
                    .map(|(r, _)| r)
                    .collect();
                assert_eq!(found, expected);
                self.batch.reset_if_empty();
            }
            Op::DrainAndDrop(n) => {
                drop(self.batch.drain(*n));
                self.model.drain(..(*n).min(self.model.len()));
                self.batch.reset_if_empty();
            }
            Op::DrainColumns(n) => self.drain_columns(*n),
            Op::Append { times, popped, taken } => self.part(
                (times, *popped, *taken),
                |to, from, n| to.append(from, n),
                |_| true,
            ),
            Op::AppendPicked { times, popped } => self.append_picked(times, *popped),
            Op::AssignTimes => {
                let newest = self
                    .batch
                    .assign_times(|record, time| time + i64::try_from(record % 2).unwrap());
                self.model
                    .iter_mut()
                    .for_each(|(r, t)| *t += i64::try_from(*r % 2).unwrap());
                assert_eq!(newest, self.model.iter().map(|m| m.1).max().unwrap_or(i64::MIN));
            }
            Op::AssignCommonTime(time) => {
                self.batch.assign_common_time(*time);
                self.model.iter_mut().for_each(|record| record.1 = *time);
            }
            Op::Take => {
                let mut taken = self.batch.take();
                check(&mut taken, &self.model, self.hashed);
                assert!(self.batch.is_empty() && self.batch.pop_front().is_none());
                self.model.clear();
            }
            Op::Clone => self.batch = self.batch.clone(),
            Op::Look => check(&mut self.batch, &self.model, self.hashed),
            Op::ExtendAtCommonTime(..) | Op::Map { .. } | Op::Filter { .. } => self.run_without_hashes(op),
        }
        assert_eq!(self.batch.len(), self.model.len());
    }

    /// Operations for records that lose their hashes.
    fn run_without_hashes(&mut self, op: &Op) {
        if self.hashed {
            return;
        }
        match op {
            Op::ExtendAtCommonTime(time, count) => {
                let records = self.next..self.next + *count as u64;
                self.batch
                    .extend_at_common_time(*time, *count, |i| records.start + i as u64);
                self.model.extend(records.map(|record| (record, *time)));
                self.next += *count as u64;
            }
            Op::Map { times, popped, taken } => {
                self.part(
                    (times, *popped, *taken),
                    |to, from, n| to.extend_mapped(from, n, |record| record),
                    |_| true,
                );
            }
            Op::Filter { times, popped, taken } => {
                let keep = |record: &u64| !record.is_multiple_of(3);
                self.part(
                    (times, *popped, *taken),
                    |to, from, n| to.append_filtered(from, n, keep),
                    |r| keep(&r),
                );
            }
            _ => {}
        }
    }

    fn drain_columns(&mut self, n: usize) {
        let Drained {
            records,
            times,
            hashes,
        } = self.batch.drain_columns(n);
        for (i, record) in records.enumerate() {
            assert_eq!(Some((record, times.get(i))), self.model.pop_front());
            if self.hashed {
                assert_eq!(hashes[i], record * 10);
            }
        }
        self.batch.reset_if_empty();
    }

    fn append_picked(&mut self, times: &[i64], popped: usize) {
        let (mut other, model) = self.other(times, popped, self.hashed);
        if model.is_empty() {
            return;
        }
        let all: Vec<u32> = (0..other.len() as u32).collect();
        self.batch.append_picked(&other.columns(), &all, 16);
        self.model.extend(model.iter().copied());
        check(&mut other, &model, self.hashed);
    }
}

fn check(batch: &mut Batch<u64>, model: &VecDeque<(u64, i64)>, hashed: bool) {
    let times: Vec<i64> = (0..batch.len()).map(|i| batch.time(i)).collect();
    assert_eq!(times, model.iter().map(|m| m.1).collect::<Vec<_>>());
    assert_eq!(batch.records(), model.iter().map(|m| m.0).collect::<Vec<_>>());
    if hashed && !model.is_empty() {
        assert_eq!(batch.hashes(), model.iter().map(|m| m.0 * 10).collect::<Vec<_>>());
    }
    let range = model
        .iter()
        .map(|m| m.1)
        .min()
        .zip(model.iter().map(|m| m.1).max());
    // Without any time there is no range.
    if range != Some((NO_TIMESTAMP, NO_TIMESTAMP)) && range.is_some() {
        assert_eq!(batch.time_range(), range);
    }
    if let Some(common) = batch.common_time() {
        assert!(model.iter().all(|m| m.1 == common));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]
    #[test]
    fn a_batch_is_a_queue_in_any_state(hashed: bool, ops in prop::collection::vec(op(), 0..40)) {
        let mut pair = Pair { batch: Batch::new(), model: VecDeque::new(), hashed, next: 0 };
        for op in &ops {
            pair.run(op);
        }
        check(&mut pair.batch, &pair.model, hashed);
    }
}

#[test]
fn records_are_drained_in_order_although_one_was_popped() {
    let mut batch = Batch::from_records(vec![1, 2, 3, 4, 5]);
    assert_eq!(batch.pop_front(), Some((1, NO_TIMESTAMP)));
    assert_eq!(batch.drain(2).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(batch.pop_front(), Some((4, NO_TIMESTAMP)));
    assert_eq!(batch.drain_columns(9).records.collect::<Vec<_>>(), [5]);
}
