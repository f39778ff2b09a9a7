//! Counts of words: the keyed count with a key of 4 to 14 letters.

use super::Loop;
use super::counts::Counts;
use crate::work::{BATCH, Work, words};
use hurtig_core::key::StableKey;
use hurtig_core::str::Str;
use std::sync::Arc;

/// The loops; `work.keys` is the number of words.
pub(crate) fn loops(work: Work) -> Vec<Loop> {
    let words = words(work.keys);
    let (a, b, c) = (Arc::clone(&words), Arc::clone(&words), words);
    vec![
        Loop::new("fused", move || fused(work, &a)),
        Loop::new("batched", move || batched::<false>(work, &b)),
        Loop::new("batched+prefetch", move || batched::<true>(work, &c)),
    ]
}

/// Counts borrowed words; a word is cloned when the map first stores it.
fn fused(work: Work, words: &[Str]) -> u64 {
    let mut counts = Counts::new();
    let mut sum = 0u64;
    for index in 0..work.records {
        let word = &words[work.key(index) as usize];
        sum = sum.wrapping_add(counts.add(word, word.stable_hash(), 1));
    }
    sum
}

/// Counts batches of owned words, which is what a source hands out.
fn batched<const TOUCH: bool>(work: Work, words: &[Str]) -> u64 {
    let mut counts = Counts::new();
    let (mut batch, mut hashes) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let (mut sum, mut from) = (0u64, 0);
    while from < work.records {
        let to = (from + BATCH as u64).min(work.records);
        batch.clear();
        batch.extend((from..to).map(|index| words[work.key(index) as usize].clone()));
        hashes.clear();
        hashes.extend(batch.iter().map(StableKey::stable_hash));
        if TOUCH {
            counts.touch_batch(&batch, &hashes);
        }
        sum = sum.wrapping_add(counts.add_batch(&batch, &hashes));
        from = to;
    }
    sum
}
