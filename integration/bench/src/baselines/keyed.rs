//! Keyed counts: every record adds one to its key's count and hands the new count on.

use super::Loop;
use super::columns::hash_all;
use super::counts::Counts;
use crate::work::{BATCH, Work};
use hurtig_core::key::hash_int;

/// The loops.
pub(crate) fn loops(work: Work) -> Vec<Loop> {
    vec![
        Loop::new("fused", move || fused(work)),
        Loop::new("batched", move || batched::<false>(work)),
        Loop::new("batched+prefetch", move || batched::<true>(work)),
    ]
}

/// One record at a time, from its index to its count.
pub(crate) fn fused(work: Work) -> u64 {
    let mut counts = Counts::new();
    let mut sum = 0u64;
    for index in 0..work.records {
        let key = work.key(index);
        sum = sum.wrapping_add(counts.add(&key, hash_int(key), 1));
    }
    sum
}

/// A batch at a time: keys, then hashes, then counts.
fn batched<const TOUCH: bool>(work: Work) -> u64 {
    let mut counts = Counts::new();
    let (mut keys, mut hashes) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let (mut sum, mut from) = (0u64, 0);
    while from < work.records {
        let to = (from + BATCH as u64).min(work.records);
        keys.clear();
        keys.extend((from..to).map(|index| work.key(index)));
        hashes.clear();
        hash_all(&keys, &mut hashes);
        if TOUCH {
            counts.touch_batch(&keys, &hashes);
        }
        sum = sum.wrapping_add(counts.add_batch(&keys, &hashes));
        from = to;
    }
    sum
}
