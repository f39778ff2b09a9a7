//! The stateless chain: `x * 5 + 1`, keep it unless its low two bits are zero, give it to a sink
//! that the compiler cannot look into.

use super::Loop;
use crate::work::BATCH;
use std::hint::black_box;

/// The loops, over `records` numbers.
pub(crate) fn loops(records: u64) -> Vec<Loop> {
    vec![
        Loop::new("fused", move || fused(records)),
        Loop::new("batched", move || batched(records)),
        Loop::new("batched, filter by position", move || compacted(records)),
    ]
}

/// What the chain maps a number to.
#[inline]
pub(crate) const fn map(x: u64) -> u64 {
    x.wrapping_mul(5).wrapping_add(1)
}

/// Whether the chain keeps a mapped number.
#[inline]
pub(crate) const fn keep(x: u64) -> bool {
    x & 3 != 0
}

fn fused(records: u64) -> u64 {
    let mut kept = 0;
    for x in (0..records).map(map) {
        if keep(x) {
            black_box(x);
            kept += 1;
        }
    }
    kept
}

/// A vector for the source, mapped in place, and one for what the filter keeps.
fn batched(records: u64) -> u64 {
    let (mut input, mut output) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let (mut kept, mut from) = (0, 0);
    while from < records {
        let to = (from + BATCH as u64).min(records);
        input.clear();
        input.extend(from..to);
        input.iter_mut().for_each(|x| *x = map(*x));
        output.clear();
        output.extend(input.iter().copied().filter(|x| keep(*x)));
        kept += deliver(&output);
        from = to;
    }
    kept
}

/// The same, with a filter that has no branch to mispredict.
fn compacted(records: u64) -> u64 {
    let mut input = Vec::with_capacity(BATCH);
    let (mut kept, mut from) = (0, 0);
    while from < records {
        let to = (from + BATCH as u64).min(records);
        input.clear();
        input.extend((from..to).map(map));
        let mut length = 0;
        for i in 0..input.len() {
            let x = input[i];
            input[length] = x;
            length += usize::from(keep(x));
        }
        kept += deliver(&input[..length]);
        from = to;
    }
    kept
}

fn deliver(records: &[u64]) -> u64 {
    for x in records {
        black_box(*x);
    }
    records.len() as u64
}
