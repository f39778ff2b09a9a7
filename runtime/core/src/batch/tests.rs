//! A batch against a queue, and its loops against naive ones.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

#[test]
fn equal_times_need_no_column() {
    let mut batch = Batch::new();
    batch.push('a', 7);
    batch.push('b', 7);
    assert_eq!(batch.common_time(), Some(7));
    batch.push('c', 8);
    assert_eq!(batch.common_time(), None);
    assert_eq!(batch.time_range(), Some((7, 8)));
    assert_eq!(batch.each_time(), Some(&[7, 7, 8][..]));
}

proptest! {
    #[test]
    fn what_is_kept_stays_in_order(mut numbers in prop::collection::vec(any::<u64>(), 0..100), modulus in 1_u64..9) {
        let keep = |n: &u64| !n.is_multiple_of(modulus);
        let want: Vec<u64> = numbers.iter().copied().filter(keep).collect();
        let mut texts: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let kept = partition(&mut texts, |text| text.parse::<u64>().is_ok_and(|n| keep(&n)));
        prop_assert!(texts[..kept].iter().eq(&want.iter().map(u64::to_string).collect::<Vec<_>>()));
        let kept = partition(&mut numbers, keep);
        prop_assert_eq!(&numbers[..kept], &want[..]);
    }

    #[test]
    fn the_newest_time_is_the_greatest(times in prop::collection::vec(any::<i64>(), 0..20)) {
        prop_assert_eq!(newest(&times), times.iter().copied().max().unwrap_or(i64::MIN));
    }

    /// Places in a batch that was consumed in part count from what is left.
    #[test]
    fn picked_columns_are_those_of_their_records(times in prop::collection::vec(0_i64..3, 0..20), gone in 0_usize..22, before in 0_usize..3, hashed in any::<bool>(), pick in 1_u32..4) {
        let mut from = Batch::new();
        for (record, &time) in times.iter().enumerate() {
            if hashed { from.push_hashed(record, time, record as u64 * 7) } else { from.push(record, time) }
        }
        from.drain(gone);
        let mut into = Batch::new();
        for _ in 0..before {
            if hashed { into.push_hashed(99, 1, 99 * 7) } else { into.push(99, 1) }
        }
        // Every `pick`-th of what is left, the last first.
        let places: Vec<u32> = (0..from.len() as u32).filter(|place| place.is_multiple_of(pick)).rev().collect();
        into.append_picked(&from.columns(), &places, 50);
        let mut want: VecDeque<(usize, i64)> = std::iter::repeat_n((99, 1), before).collect();
        want.extend(places.iter().map(|&place| gone + place as usize).map(|record| (record, times[record])));
        prop_assert_eq!(into.hashes().len(), if hashed { want.len() } else { 0 });
        if hashed {
            prop_assert!(into.hashes().iter().eq(&want.iter().map(|(record, _)| *record as u64 * 7).collect::<Vec<_>>()));
        }
        while let Some(next) = want.pop_front() {
            prop_assert_eq!(into.pop_front(), Some(next));
        }
        prop_assert!(into.is_empty());
    }
}

proptest! {
    /// A long batch leaves in pieces, in order, with its columns, also when nobody looks at it meanwhile.
    #[test]
    fn a_long_batch_leaves_piece_by_piece(len in 0_u64..300, several_times: bool, pieces in prop::collection::vec((0_u8..5, 0_usize..9), 0..80)) {
        let time = |record: u64| if several_times { record as i64 / 3 } else { 7 };
        let mut batch = Batch::new();
        (0..len).for_each(|record| batch.push_hashed(record, time(record), record * 10));
        let mut left: Vec<(u64, i64, u64)> = Vec::new();
        for (how, n) in pieces {
            match how {
                0 => left.extend(batch.pop_front().map(|(record, at)| (record, at, record * 10))),
                1 => left.extend(batch.drain(n).map(|record| (record, time(record), record * 10))),
                2 => {
                    let Drained { records, times, hashes } = batch.drain_columns(n);
                    left.extend(records.zip(hashes).enumerate().map(|(i, (record, &hash))| (record, times.get(i), hash)));
                }
                3 => {
                    let mut part = Batch::new();
                    part.append(&mut batch, n);
                    let Columns { records, times, hashes } = part.columns();
                    left.extend(records.iter().zip(hashes).enumerate().map(|(i, (&record, &hash))| (record, times.get(i), hash)));
                }
                _ => prop_assert_eq!(batch.records().first().copied(), (left.len() as u64..len).next()),
            }
            batch.reset_if_empty();
            prop_assert_eq!(batch.len(), len as usize - left.len());
        }
        let want: Vec<_> = (0..left.len() as u64).map(|record| (record, time(record), record * 10)).collect();
        prop_assert_eq!(left, want);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(i64),
    Pop,
    Drain(usize),
    DrainColumns(usize),
    Append(Vec<i64>, usize),
    Assign,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0i64..3).prop_map(Op::Push),
        3 => Just(Op::Pop),
        1 => (0usize..5).prop_map(Op::Drain),
        1 => (0usize..5).prop_map(Op::DrainColumns),
        1 => (prop::collection::vec(0i64..3, 0..6), 0usize..7).prop_map(|(t, n)| Op::Append(t, n)),
        1 => Just(Op::Assign),
    ]
}

proptest! {
    /// Whatever is done to it, a batch is a queue of (record, time, hash).
    #[test]
    fn a_batch_is_a_queue(ops in prop::collection::vec(op(), 0..60)) {
        let mut batch = Batch::new();
        let mut model: VecDeque<(u64, i64)> = VecDeque::new();
        let mut next = 0u64;
        for op in ops {
            match op {
                Op::Push(t) => {
                    batch.push_hashed(next, t, next * 10);
                    model.push_back((next, t));
                    next += 1;
                }
                Op::Pop => prop_assert_eq!(batch.pop_front(), model.pop_front()),
                Op::Drain(n) => {
                    let got: Vec<u64> = batch.drain(n).collect();
                    batch.reset_if_empty();
                    let want: Vec<u64> = model.drain(..n.min(model.len())).map(|(r, _)| r).collect();
                    prop_assert_eq!(got, want);
                }
                Op::DrainColumns(n) => {
                    let Drained { records, times, hashes } = batch.drain_columns(n);
                    for (i, r) in records.enumerate() {
                        let want = model.pop_front().unwrap();
                        prop_assert_eq!((r, times.get(i)), want);
                        prop_assert_eq!(hashes[i], r * 10);
                    }
                    batch.reset_if_empty();
                }
                Op::Append(times, n) => {
                    let mut other = Batch::new();
                    for &t in &times {
                        other.push_hashed(next, t, next * 10);
                        if (other.len()) <= n { model.push_back((next, t)); }
                        next += 1;
                    }
                    batch.append(&mut other, n);
                    prop_assert_eq!(other.len(), times.len().saturating_sub(n));
                }
                Op::Assign => {
                    batch.assign_times(|r, t| t + (*r as i64 % 2));
                    for (r, t) in &mut model { *t += *r as i64 % 2; }
                }
            }
            prop_assert_eq!(batch.len(), model.len());
            for (i, (r, t)) in model.iter().enumerate() {
                prop_assert_eq!(batch.time(i), *t);
                prop_assert_eq!(batch.hashes()[i], *r * 10);
                prop_assert_eq!(batch.records()[i], *r);
            }
        }
    }
}
