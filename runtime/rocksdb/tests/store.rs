//! What is RocksDB's own: links, memory, failures, and a process that is killed.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use hurtig_core::error::{Error, Fault};
use hurtig_core::key::StableKey;
use hurtig_rocksdb::{RocksFactory, RocksMemory};
use hurtig_state::store::{ByteStore, ByteStoreFactory, RunBuilder, StateId};
use hurtig_state::{CacheMemory, CacheOptions, CachedTable, Codec, ScanBudget};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const MIB: usize = 1 << 20;

fn factory() -> RocksFactory {
    RocksFactory::new(RocksMemory::new(16 * MIB))
}

/// Entries whose values do not compress.
fn fill(store: &dyn ByteStore, state: StateId, keys: std::ops::Range<u32>, bytes: usize) {
    let mut noise = u64::from(keys.start) + 1;
    let mut run = RunBuilder::new();
    for key in keys {
        let value: Vec<u8> = (0..bytes).map(|_| next(&mut noise)).collect();
        run.put(&key.to_be_bytes(), &value);
    }
    store.write(state, &run.sort()).unwrap();
}

/// Xorshift, by Marsaglia.
fn next(noise: &mut u64) -> u8 {
    *noise ^= *noise << 13;
    *noise ^= *noise >> 7;
    *noise ^= *noise << 17;
    (*noise >> 32) as u8
}

#[test]
fn a_checkpoint_links_what_an_earlier_one_has() {
    let dir = tempfile::tempdir().unwrap();
    let store = factory().create(&dir.path().join("store")).unwrap();
    let state = store.open_state("s").unwrap();
    fill(&*store, state, 0..2_000, 100);
    let first = store.checkpoint(&dir.path().join("chk-1")).unwrap();
    fill(&*store, state, 5_000..5_010, 100);
    let second = store.checkpoint(&dir.path().join("chk-2")).unwrap();
    let old: Vec<_> = first.iter().filter(|file| file.shared).collect();
    assert!(!old.is_empty());
    for file in old {
        assert!(second.contains(file), "{file:?} is not in the second checkpoint");
        let inode = |chk: &str| fs::metadata(dir.path().join(chk).join(&file.name)).unwrap().ino();
        assert_eq!(inode("chk-1"), inode("chk-2"), "copied, not linked");
    }
    let new: u64 = second
        .iter()
        .filter(|file| !first.contains(file))
        .map(|file| file.bytes)
        .sum();
    assert!(new < 20_000, "{new} new bytes for ten small entries");
}

#[test]
fn stores_stay_near_the_budget_they_share() {
    let dir = tempfile::tempdir().unwrap();
    let memory = RocksMemory::new(8 * MIB);
    let factory = RocksFactory::new(memory.clone());
    let stores = ["a", "b"].map(|name| factory.create(&dir.path().join(name)).unwrap());
    let states: Vec<_> = stores
        .iter()
        .map(|store| store.open_state("s").unwrap())
        .collect();
    for round in 0..20 {
        for (store, state) in stores.iter().zip(&states) {
            fill(&**store, *state, round * 1_000..(round + 1) * 1_000, 1_000);
            assert!(memory.used() < 12 * MIB, "{} MiB", memory.used() / MIB);
        }
    }
    let mut value = Vec::new();
    for key in 0..20_000_u32 {
        assert!(stores[0].get(states[0], &key.to_be_bytes(), &mut value).unwrap() && value.len() == 1_000);
        assert!(memory.used() < 12 * MIB, "{} MiB", memory.used() / MIB);
    }
    assert!(memory.used() > MIB, "nothing is cached");
    assert!(stores[0].memory_used() < 8 * MIB, "{}", stores[0].memory_used());
}

fn says(error: &Error, fault: Fault, parts: &[&str]) {
    let text = error.chain();
    assert_eq!(error.fault(), fault, "{text}");
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

#[test]
fn failures_say_where_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = factory().create(&dir.path().join("store")).unwrap();
    let state = store.open_state("s").unwrap();
    fill(&*store, state, 0..100, 10);
    let no_parent = store.checkpoint(&dir.path().join("absent/chk")).unwrap_err();
    says(
        &no_parent,
        Fault::External,
        &["make a checkpoint", "absent/chk", "check that the disk"],
    );
    assert!(!dir.path().join("absent").exists());
    // A failed checkpoint leaves the store as it was.
    store.checkpoint(&dir.path().join("chk")).unwrap();
    let foreign = store.get(StateId::new(7), b"k", &mut Vec::new()).unwrap_err();
    says(&foreign, Fault::Internal, &["no state number 7", "store"]);
    fs::remove_dir_all(dir.path().join("store/runs")).unwrap();
    let mut run = RunBuilder::new();
    run.put(b"k", b"v");
    let ingest = store.ingest(state, &run.sort()).unwrap_err();
    says(
        &ingest,
        Fault::External,
        &["ingest a run", "store", "restart from the last checkpoint"],
    );
    store.check().unwrap();
}

#[test]
fn a_damaged_table_is_refused_or_found_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = factory().create(&dir.path().join("store")).unwrap();
    let state = store.open_state("s").unwrap();
    fill(&*store, state, 0..1_000, 100);
    let files = store.checkpoint(&dir.path().join("chk")).unwrap();
    drop(store);
    let table = &files.iter().find(|file| file.shared).unwrap().name;
    let path = dir.path().join("chk").join(table);
    let mut bytes = fs::read(&path).unwrap();
    bytes[1_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let store = factory()
        .restore(&dir.path().join("chk"), &dir.path().join("again"))
        .unwrap();
    let state = store.open_state("s").unwrap();
    let read = store.scan(state, b"", &mut |_, _| std::ops::ControlFlow::Continue(()));
    says(
        &read.unwrap_err(),
        Fault::External,
        &["damaged", "again", "restore another checkpoint"],
    );
    bytes.truncate(bytes.len() / 2);
    fs::write(&path, &bytes).unwrap();
    let refused = factory()
        .restore(&dir.path().join("chk"), &dir.path().join("short"))
        .map(drop);
    says(
        &refused.unwrap_err(),
        Fault::External,
        &["short", "restore another checkpoint"],
    );
    assert!(!dir.path().join("short").exists(), "half a store is left");
}

const ROUNDS: u64 = 3;
const KEYS: u64 = 3_000;
/// The directory of the process that is killed.
const DIR: &str = "HURTIG_ROCKSDB_TEST_DIR";

fn counts(store: Arc<dyn ByteStore>) -> CachedTable<u64, u64> {
    // Far less than the keys need, so that most of them are in the store.
    let options = CacheOptions {
        groups: 0..128,
        max_parallelism: 128,
        memory: CacheMemory::new(20_000),
    };
    CachedTable::open(store, ("counts", Codec::value()), options).unwrap()
}

fn count(table: &mut CachedTable<u64, u64>) {
    for key in 0..KEYS {
        *table.upsert(key.stable_hash(), &key, || key) += 1;
        if key % 100 == 0 {
            table.quiet_point().unwrap();
        }
    }
}

#[test]
#[ignore = "run by what_a_killed_process_had_saved_is_there in a process of its own"]
fn counts_until_it_is_killed() {
    let dir = std::env::var(DIR).unwrap();
    let mut table = counts(factory().create(&Path::new(&dir).join("store")).unwrap());
    for _ in 0..ROUNDS {
        count(&mut table);
    }
    table.checkpoint(&Path::new(&dir).join("chk")).unwrap();
    println!("\nsaved");
    loop {
        count(&mut table);
    }
}

#[test]
fn what_a_killed_process_had_saved_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "counts_until_it_is_killed", "--ignored", "--nocapture"])
        .env(DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let saved = lines.map_while(Result::ok).any(|line| line == "saved");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(saved, "the process ended before its checkpoint");
    let restored = factory()
        .restore(&dir.path().join("chk"), &dir.path().join("again"))
        .unwrap();
    let mut table = counts(restored);
    for key in 0..KEYS {
        assert_eq!(table.get(key.stable_hash(), &key), Some(&(key + ROUNDS)));
    }
    table.quiet_point().unwrap();
    count(&mut table);
    let mut seen = 0;
    table
        .scan(|entry| {
            let key: u64 = hurtig_core::key::decode_exact(entry.key).unwrap();
            assert_eq!(
                hurtig_state::snapshot::decode::<u64>(entry.value)?,
                key + ROUNDS + 1
            );
            seen += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, KEYS);
}

/// Counting goes on while one thread makes the store's checkpoint and the task encodes the delta.
#[test]
fn a_checkpoint_with_a_delta_is_the_state_of_the_barrier() {
    let dir = tempfile::tempdir().unwrap();
    let store = factory().create(&dir.path().join("store")).unwrap();
    let mut table = counts(Arc::clone(&store));
    for round in 0..ROUNDS {
        count(&mut table);
        let chk = dir.path().join(format!("chk-{round}"));
        table.begin_delta().unwrap();
        let mut delta = None;
        std::thread::scope(|scope| {
            let linked = scope.spawn(|| store.checkpoint(&chk));
            for key in 0..KEYS {
                *table.upsert(key.stable_hash(), &key, || 0) += 1_000;
                table.remove(key.stable_hash(), &key);
                table.quiet_point().unwrap();
                let made = table.continue_delta(&mut ScanBudget::new(2)).unwrap();
                delta = delta.take().or(made);
            }
            linked.join().unwrap().unwrap();
        });
        let delta = delta
            .or(table.continue_delta(&mut ScanBudget::unbounded()).unwrap())
            .unwrap();
        assert!(!delta.fresh().is_empty() && delta.fresh().len() < KEYS);
        table.end_delta(false).unwrap();
        table.quiet_point().unwrap();
        let restored = factory()
            .restore(&chk, &dir.path().join(format!("restored-{round}")))
            .unwrap();
        let state = restored.open_state("counts").unwrap();
        restored
            .ingest(state, &delta.fresh_run().unwrap().sort())
            .unwrap();
        let restored = counts(restored);
        for key in 0..KEYS {
            assert_eq!(
                restored.get(key.stable_hash(), &key),
                Some(&(key + 1)),
                "round {round}"
            );
        }
    }
    let mut left = 0;
    table
        .scan(|_| {
            left += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(left, 0, "every count was removed after its barrier");
}
