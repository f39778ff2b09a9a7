//! Measurements that are run by hand: `cargo test --release -p hurtig-rocksdb --test measure -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, reason = "a measurement stops where it fails")]
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use hurtig_core::key::{hash_int, key_group};
use hurtig_rocksdb::{RocksFactory, RocksMemory};
use hurtig_state::store::{ByteStore, ByteStoreFactory, RunBuilder, key::write_key};
use hurtig_state::{CacheMemory, CacheOptions, CachedTable, Codec, ScanBudget, snapshot};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BATCH: usize = 1_024;

fn store(memory: usize, dir: &std::path::Path) -> Arc<dyn ByteStore> {
    RocksFactory::new(RocksMemory::new(memory))
        .create(&dir.join("store"))
        .unwrap()
}

fn cached<V: hurtig_state::StateValue>(store: &Arc<dyn ByteStore>, budget: usize) -> CachedTable<u64, V> {
    let options = CacheOptions {
        groups: 0..128,
        max_parallelism: 128,
        memory: CacheMemory::new(budget),
    };
    CachedTable::open(Arc::clone(store), ("s", Codec::value()), options).unwrap()
}

#[test]
#[ignore = "a measurement"]
fn measure_a_checkpoint_of_a_million_dirty_keys() {
    const KEYS: u64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let store = store(256 << 20, dir.path());
    let mut table = cached::<u64>(&store, 1 << 30);
    for round in 0..5 {
        for key in 0..KEYS {
            *table.upsert(hash_int(key), &key, || 0) += 1;
        }
        let start = Instant::now();
        table.begin_delta().unwrap();
        let (begun, mut slowest) = (start.elapsed(), Duration::ZERO);
        store
            .checkpoint(&dir.path().join(format!("chk-{round}")))
            .unwrap();
        let linked = start.elapsed();
        let delta = loop {
            let slice = Instant::now();
            let made = table.continue_delta(&mut ScanBudget::new(500)).unwrap();
            slowest = slowest.max(slice.elapsed());
            if let Some(delta) = made {
                break delta;
            }
        };
        let encoded = start.elapsed();
        delta.settle(&*store, store.open_state("s").unwrap()).unwrap();
        let ingested = start.elapsed();
        table.end_delta(true).unwrap();
        println!(
            "begin {begun:?}, links {:?}, encode {:?} (slice at most {slowest:?}), ingest {:?}, end {:?}",
            linked - begun,
            encoded - linked,
            ingested - encoded,
            start.elapsed() - ingested
        );
    }
}

/// Keys in random order, each changed in place: a get and a put a record where there is no cache.
#[test]
#[ignore = "a measurement"]
fn measure_beyond_the_cache() {
    const KEYS: u64 = 1_000_000;
    const RECORDS: u64 = 1_000_000;
    const MEMORY: usize = 32 << 20;
    let dir = tempfile::tempdir().unwrap();
    let store = store(MEMORY, dir.path());
    let state = store.open_state("s").unwrap();
    let value = "x".repeat(100);
    let group = |key: u64| key_group(hash_int(key), 128).get() as u16;
    let mut all = RunBuilder::new();
    let (mut bytes, mut old) = (Vec::new(), Vec::new());
    for key in 0..KEYS {
        write_key(&mut bytes, group(key), &key, &[], &[]);
        all.put(&bytes, &snapshot::encode(&value).unwrap());
    }
    store.ingest(state, &all.sort()).unwrap();
    let records: Vec<u64> = (0..RECORDS).map(|i| hash_int(i ^ 0x5555) % KEYS).collect();
    let start = Instant::now();
    for key in &records {
        write_key(&mut bytes, group(*key), key, &[], &[]);
        assert!(store.get(state, &bytes, &mut old).unwrap());
        let changed: String = snapshot::decode(&old).unwrap();
        let mut run = RunBuilder::new();
        run.put(&bytes, &snapshot::encode(&changed).unwrap());
        store.write(state, &run.sort()).unwrap();
    }
    let bare = start.elapsed();
    let mut table = cached::<String>(&store, 16 << 20);
    let start = Instant::now();
    for batch in records.chunks(BATCH) {
        let hashes: Vec<u64> = batch.iter().map(|&key| hash_int(key)).collect();
        table.prefetch(&hashes, &|at| batch[at]);
        for (&hash, key) in hashes.iter().zip(batch) {
            table
                .get_mut(hash, key)
                .unwrap()
                .as_mut_str()
                .make_ascii_lowercase();
        }
        table.quiet_point().unwrap();
    }
    let through = start.elapsed();
    let rate = |time: Duration| RECORDS as f64 / time.as_secs_f64() / 1e3;
    println!(
        "bare get and put {:.0} k/s, cache of a tenth {:.0} k/s",
        rate(bare),
        rate(through)
    );
}

/// Keys in random order, read one by one and in sorted batches, from a store whose memory holds a tenth of the data and
/// that has been written to.
#[test]
#[ignore = "a measurement"]
fn measure_reads_beyond_the_cache() {
    const KEYS: u64 = 10_000_000;
    const READS: u64 = 400_000;
    let dir = tempfile::tempdir().unwrap();
    let store = store(110_000_000, dir.path());
    let state = store.open_state("s").unwrap();
    let value = "x".repeat(100);
    let mut run = RunBuilder::new();
    for first in (0..KEYS).step_by(100_000) {
        run.clear();
        (first..first + 100_000).for_each(|key| run.put(&key.to_be_bytes(), value.as_bytes()));
        store.ingest(state, &run.sort()).unwrap();
    }
    let key_of = |index: u64| hash_int(index) % KEYS;
    for first in (0..1_000_000).step_by(40_000) {
        run.clear();
        let mut keys: Vec<u64> = (first..first + 40_000).map(key_of).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.iter()
            .for_each(|key| run.put(&key.to_be_bytes(), value.as_bytes()));
        store.write(state, &run.sort()).unwrap();
    }
    std::thread::sleep(Duration::from_secs(5));
    let mut index = 1 << 32;
    let mut old = Vec::new();
    for round in 0..3 {
        let start = Instant::now();
        for _ in 0..READS {
            index += 1;
            assert!(store.get(state, &key_of(index).to_be_bytes(), &mut old).unwrap());
        }
        let each = |start: Instant| start.elapsed().as_secs_f64() * 1e6 / READS as f64;
        println!("round {round}: get {:.2} us", each(start));
        for batch in [1_024, 4_096] {
            let start = Instant::now();
            let mut left = READS;
            while left > 0 {
                let count = batch.min(left);
                left -= count;
                let mut keys: Vec<[u8; 8]> =
                    (index..index + count).map(|i| key_of(i).to_be_bytes()).collect();
                index += count;
                keys.sort_unstable();
                keys.dedup();
                let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                store
                    .multi_get(state, &keys, &mut |_, found| assert!(found.is_some()))
                    .unwrap();
            }
            println!("round {round}: multi_get of {batch} {:.2} us", each(start));
        }
    }
}
