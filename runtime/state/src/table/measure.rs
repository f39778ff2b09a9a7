//! Measurements that are run by hand: `cargo test --release -p hurtig-state measure -- --ignored --nocapture`.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use super::GroupedTable;
use hurtig_core::key::hash_int;
use std::time::Instant;

const UPDATES: usize = 8_000_000;
const BATCH: usize = 1_024;

fn filled(keys: u64) -> GroupedTable<u64, u64> {
    let mut table = GroupedTable::new(0..128, 128);
    for key in 0..keys {
        table.insert(hash_int(key), key, 0);
    }
    table
}

/// Nanoseconds for an update of a random existing key.
fn update(table: &mut GroupedTable<u64, u64>, keys: u64, prefetch: bool) -> f64 {
    let input: Vec<u64> = (0..UPDATES as u64)
        .map(|i| hash_int(i ^ 0x5555_0000_0000) % keys)
        .collect();
    let mut hashes = Vec::with_capacity(BATCH);
    let start = Instant::now();
    for batch in input.chunks(BATCH) {
        hashes.clear();
        hashes.extend(batch.iter().map(|&key| hash_int(key)));
        if prefetch {
            table.prefetch(&hashes);
        }
        for (key, &hash) in batch.iter().zip(&hashes) {
            *table.upsert(hash, key, || 0) += 1;
        }
    }
    start.elapsed().as_nanos() as f64 / UPDATES as f64
}

#[test]
#[ignore = "a measurement"]
fn measure_updates_with_and_without_prefetch() {
    for keys in [1_000, 30_000, 400_000, 1_000_000, 1_400_000, 8_000_000] {
        let mut table = filled(keys);
        let mut runs = [Vec::new(), Vec::new()];
        for round in 0..10 {
            runs[round % 2].push(update(&mut table, keys, round % 2 == 1));
        }
        let median = |runs: &mut Vec<f64>| {
            runs.sort_by(f64::total_cmp);
            runs[runs.len() / 2]
        };
        let [one, two] = &mut runs;
        println!(
            "{keys} keys: one pass {:.1} ns, prefetch and update {:.1} ns",
            median(one),
            median(two)
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_the_slowest_insert() {
    const KEYS: u64 = 10_000_000;
    let mut table = GroupedTable::new(0..128, 128);
    let mut slowest: Vec<u128> = Vec::with_capacity(KEYS as usize);
    let start = Instant::now();
    for key in 0..KEYS {
        let before = Instant::now();
        table.insert(hash_int(key), key, key);
        slowest.push(before.elapsed().as_nanos());
    }
    let total = start.elapsed();
    slowest.sort_unstable();
    let at = |share: f64| slowest[((KEYS - 1) as f64 * share) as usize];
    println!(
        "{KEYS} inserts in {total:?}: p50 {} ns, p99 {} ns, p99.99 {} ns, most {} ns",
        at(0.5),
        at(0.99),
        at(0.9999),
        at(1.0)
    );
}
