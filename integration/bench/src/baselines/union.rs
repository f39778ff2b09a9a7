//! The union of 16 inputs, given to a sink that the compiler cannot look into.

use super::Loop;
use crate::work::BATCH;
use hurtig_core::key::hash_int;
use std::hint::black_box;

/// How many inputs there are.
pub(crate) const INPUTS: u64 = 16;

/// The loops, over `records` numbers in all inputs together.
pub(crate) fn loops(records: u64) -> Vec<Loop> {
    vec![
        Loop::new("fused", move || fused(records)),
        Loop::new("batched", move || batched(records)),
    ]
}

/// Takes one record of each input in turn.
fn fused(records: u64) -> u64 {
    let mut delivered = 0;
    for index in 0..records / INPUTS {
        for input in 0..INPUTS {
            black_box(hash_int(index * INPUTS + input));
            delivered += 1;
        }
    }
    delivered
}

/// Takes one batch of each input in turn.
fn batched(records: u64) -> u64 {
    let mut batch = Vec::with_capacity(BATCH);
    let (mut delivered, mut from) = (0, 0);
    let each = records / INPUTS;
    while from < each {
        let to = (from + BATCH as u64).min(each);
        for input in 0..INPUTS {
            batch.clear();
            batch.extend((from..to).map(|index| hash_int(index * INPUTS + input)));
            for record in &batch {
                black_box(*record);
            }
            delivered += batch.len() as u64;
        }
        from = to;
    }
    delivered
}
