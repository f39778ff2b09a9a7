//! Measurements that are run by hand: `cargo test --release -p hurtig-state measure -- --ignored --nocapture`.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use super::{CacheMemory, CacheOptions, CachedTable, Codec};
use crate::store::{ByteStoreFactory, ModelFactory};
use crate::table::{Change, GroupedTable};
use hurtig_core::key::hash_int;
use std::time::Instant;

const UPDATES: usize = 8_000_000;
const BATCH: usize = 1_024;

struct Count;

impl Change<u64, u64, u64> for Count {
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

/// Nanoseconds for each of many random records that are worked in batches.
fn time(keys: u64, mut batch: impl FnMut(&[u64], &[u64], &mut Vec<u64>)) -> f64 {
    let records: Vec<u64> = (0..UPDATES as u64)
        .map(|i| hash_int(i ^ 0x5555_0000_0000) % keys)
        .collect();
    let hashes: Vec<u64> = records.iter().map(|&key| hash_int(key)).collect();
    let mut out = Vec::with_capacity(BATCH);
    let start = Instant::now();
    for (records, hashes) in records.chunks(BATCH).zip(hashes.chunks(BATCH)) {
        out.clear();
        batch(records, hashes, &mut out);
    }
    start.elapsed().as_nanos() as f64 / UPDATES as f64
}

fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

#[test]
#[ignore = "a measurement"]
fn measure_the_cache_beside_the_heap() {
    let dir = tempfile::tempdir().unwrap();
    for keys in [1_000, 30_000, 1_000_000] {
        let store = ModelFactory.create(&dir.path().join(keys.to_string())).unwrap();
        let options = CacheOptions {
            groups: 0..128,
            max_parallelism: 128,
            memory: CacheMemory::new(1 << 30),
        };
        let mut cache = CachedTable::<u64, u64>::open(store, ("counts", Codec::value()), options).unwrap();
        let mut heap = GroupedTable::<u64, u64>::new(0..128, 128);
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..5 {
            runs[0].push(time(keys, |records, hashes, out| {
                heap.change_each(hashes, records.iter().copied(), &Count, out);
            }));
            runs[1].push(time(keys, |records, hashes, out| {
                cache.change_each(hashes, records.iter().copied(), &Count, out);
                cache.quiet_point().unwrap();
            }));
        }
        let [heap, cached] = runs.map(median);
        let start = Instant::now();
        cache.flush().unwrap();
        let flushed = start.elapsed();
        println!("{keys} keys: heap {heap:.1} ns, cached {cached:.1} ns a change; flush {flushed:?}");
    }
}
