//! Measurements that are run by hand: `cargo test --release -p hurtig-state measure -- --ignored --nocapture`.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use super::GroupedTable;
use hashbrown::HashTable;
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

/// Nanoseconds that `update` takes for the hash and the key of each of many random records.
fn time_updates(keys: u64, mut update: impl FnMut(u64, u64)) -> f64 {
    let input: Vec<u64> = (0..UPDATES as u64)
        .map(|i| hash_int(i ^ 0x5555_0000_0000) % keys)
        .collect();
    let mut hashes = Vec::with_capacity(BATCH);
    let start = Instant::now();
    for batch in input.chunks(BATCH) {
        hashes.clear();
        hashes.extend(batch.iter().map(|&key| hash_int(key)));
        for (&key, &hash) in batch.iter().zip(&hashes) {
            update(hash, key);
        }
    }
    start.elapsed().as_nanos() as f64 / UPDATES as f64
}

#[test]
#[ignore = "a measurement"]
fn measure_updates_beside_one_bare_table() {
    for keys in [1_000, 30_000, 400_000, 1_000_000, 1_400_000, 8_000_000] {
        let mut table = filled(keys);
        let mut bare: HashTable<(u64, u64)> = HashTable::new();
        for key in 0..keys {
            bare.insert_unique(hash_int(key), (key, 0), |(key, _)| hash_int(*key));
        }
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..5 {
            runs[0].push(time_updates(keys, |hash, key| {
                *table.upsert(hash, &key, || 0) += 1;
            }));
            runs[1].push(time_updates(keys, |hash, key| {
                if let Some((_, count)) = bare.find_mut(hash, |slot| slot.0 == key) {
                    *count += 1;
                }
            }));
        }
        let [ours, its] = runs.map(|mut run| {
            run.sort_by(f64::total_cmp);
            run[run.len() / 2]
        });
        println!("{keys} keys: {ours:.1} ns, a bare hashbrown table {its:.1} ns");
    }
}

struct Counting;

impl super::Change<u64, u64, u64> for Counting {
    type Out = u64;
    type Key<'a> = u64;

    fn key_of(&self, record: &u64) -> u64 {
        *record
    }

    fn is_key(&self, stored: &u64, key: &u64) -> bool {
        stored == key
    }

    fn change(&self, _: &u64, value: &mut u64, _: u64) -> u64 {
        *value += 1;
        *value
    }

    fn owned_key(&self, record: &u64) -> u64 {
        *record
    }

    fn first(&self, record: u64) -> (u64, u64, u64) {
        (record, 1, 1)
    }
}

/// Nanoseconds that `update` takes for each record of batches of them.
fn time_batches(input: &[u64], mut update: impl FnMut(&[u64], &[u64])) -> f64 {
    let mut hashes = Vec::with_capacity(BATCH);
    let start = Instant::now();
    for batch in input.chunks(BATCH) {
        hashes.clear();
        hashes.extend(batch.iter().map(|&key| hash_int(key)));
        update(&hashes, batch);
    }
    start.elapsed().as_nanos() as f64 / input.len() as f64
}

#[test]
#[ignore = "a measurement"]
fn measure_changes_beside_one_bare_table() {
    for keys in [30_000, 200_000, 524_288, 1_048_576, 4_000_000] {
        let mut table = filled(keys);
        let mut bare: HashTable<(u64, u64)> = HashTable::new();
        for key in 0..keys {
            bare.insert_unique(hash_int(key), (key, 0), |(key, _)| hash_int(*key));
        }
        let input: Vec<u64> = (0..UPDATES as u64)
            .map(|i| hash_int(i ^ 0x5555_0000_0000) % keys)
            .collect();
        let mut out: Vec<u64> = Vec::with_capacity(BATCH);
        let mut runs = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..7 {
            runs[0].push(time_batches(&input, |hashes, batch| {
                out.clear();
                table.change_each_far(hashes, batch.iter().copied(), &Counting, &mut out);
            }));
            runs[1].push(time_batches(&input, |hashes, batch| {
                out.clear();
                table.change_each_near(hashes, batch.iter().copied(), &Counting, &mut out);
            }));
            runs[2].push(time_batches(&input, |hashes, batch| {
                out.clear();
                out.extend(hashes.iter().zip(batch).map(|(&hash, &key)| {
                    match bare.find_mut(hash, |slot| slot.0 == key) {
                        Some((_, count)) => {
                            *count += 1;
                            *count
                        }
                        None => 0,
                    }
                }));
            }));
        }
        let [far, near, its] = runs.map(|mut run| {
            run.sort_by(f64::total_cmp);
            run[run.len() / 2]
        });
        println!("{keys} keys: read ahead {far:.1} ns, not {near:.1} ns, a bare hashbrown table {its:.1} ns");
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_the_slowest_inserts() {
    const KEYS: u64 = 10_000_000;
    /// What arrives within a millisecond at 2 M/s: what is slower than that falls behind.
    const TOGETHER: u64 = 2_000;
    let mut table = GroupedTable::new(0..128, 128);
    let mut slowest: Vec<u128> = Vec::with_capacity((KEYS / TOGETHER) as usize);
    let mut most_splits = 0;
    let start = Instant::now();
    for first in (0..KEYS).step_by(TOGETHER as usize) {
        let (before, segments) = (Instant::now(), table.segments.len());
        for key in first..first + TOGETHER {
            table.insert(hash_int(key), key, key);
        }
        slowest.push(before.elapsed().as_micros());
        most_splits = most_splits.max(table.segments.len() - segments);
    }
    let total = start.elapsed();
    slowest.sort_unstable();
    let at = |share: f64| slowest[((slowest.len() - 1) as f64 * share) as usize];
    println!(
        "{KEYS} inserts in {total:?}, {} segments of {} KB in all; {TOGETHER} take p50 {} µs, p99 {} µs, p99.9 {} µs, \
         at most {} µs and {most_splits} splits",
        table.segments.len(),
        table.capacity_bytes() / 1_024,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}
