//! States that expire, in RocksDB behind caches that most of them do not fit into.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use hurtig_core::key::StableKey;
use hurtig_core::time::ManualClock;
use hurtig_rocksdb::{RocksFactory, RocksMemory};
use hurtig_state::{
    CacheMemory, CurrentKey, KeyedState, ListState, MapState, OperatorSnapshot, RestoredStore, ScanBudget,
    ScratchDir, StateBackend, StateDescriptor, StateTtlConfig, StoreBackend, UpdateType, ValueState,
};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const KEYS: u64 = 5_000;
const TTL_MS: i64 = 1_000;

/// One subtask with states of three kinds.
struct Subtask {
    state: KeyedState<u64>,
    value: ValueState<String>,
    list: ListState<u64>,
    map: MapState<u64, u64>,
}

/// What a key has.
#[derive(Debug, Default, PartialEq)]
struct Parts {
    value: Option<String>,
    list: Vec<u64>,
    map: Vec<(u64, u64)>,
}

struct Bench {
    dir: tempfile::TempDir,
    stores: StoreBackend,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = ScratchDir::in_dir(dir.path()).unwrap();
        let factory = Arc::new(RocksFactory::new(RocksMemory::new(1 << 20)));
        let stores = StoreBackend::new(factory, root, CacheMemory::new(KEYS as usize * 20));
        let clock = ManualClock::new();
        clock.set_wall_ms(10_000);
        Self { dir, stores, clock }
    }

    fn subtask(&self, restored: Option<RestoredStore>, ttl: Option<StateTtlConfig>) -> Subtask {
        let backend = StateBackend::Store(self.stores.clone());
        let mut state = KeyedState::kept_in(backend, 0..128, 128).with_clock(self.clock.clone());
        if let Some(restored) = restored {
            state = state.with_store(restored);
        }
        let of = |name: &str| match &ttl {
            Some(ttl) => StateDescriptor::new(name).enable_time_to_live(ttl.clone()),
            None => name.into(),
        };
        Subtask {
            value: state.value(of("value")).unwrap(),
            list: state.list(of("list")).unwrap(),
            map: state.map(of("map")).unwrap(),
            state,
        }
    }

    /// Restores the files of a checkpoint as they are.
    fn adopt(&self, subtask: &Subtask) -> RestoredStore {
        let mut snapshot = subtask.snapshot();
        let stored = snapshot.stored.take().unwrap();
        let settled = stored.settle_files().unwrap();
        let files = tempfile::tempdir_in(self.dir.path()).unwrap();
        for (file, path) in settled.files() {
            std::fs::copy(path, files.path().join(&file.name)).unwrap();
        }
        let restored = self.stores.restore(files.path()).unwrap();
        for (name, _, fresh) in settled.states() {
            restored.bring_in(name, fresh).unwrap();
        }
        restored
    }
}

impl Subtask {
    fn write(&self, keys: Range<u64>) {
        for key in keys {
            let cx = CurrentKey::new(&self.state, &key, key.stable_hash());
            self.value.set(cx, format!("{key:0100}"));
            self.list.extend(cx, [key, key + 1]);
            self.map.put(cx, key % 3, key);
            if key % 100 == 0 {
                self.state.quiet_point().unwrap();
            }
        }
    }

    fn read(&self, key: u64) -> Parts {
        let cx = CurrentKey::new(&self.state, &key, key.stable_hash());
        Parts {
            value: self.value.get_cloned(cx),
            list: self.list.get(cx).to_vec(),
            map: self.map.entries(cx),
        }
    }

    /// Looks at all keys, of which those of `live` are there.
    fn check(&self, live: Range<u64>) {
        for key in 0..KEYS {
            let expected = match live.contains(&key) {
                true => Parts {
                    value: Some(format!("{key:0100}")),
                    list: vec![key, key + 1],
                    map: vec![(key % 3, key)],
                },
                false => Parts::default(),
            };
            assert_eq!(self.read(key), expected, "key {key}");
            if key % 100 == 0 {
                self.state.quiet_point().unwrap();
            }
        }
    }

    fn snapshot(&self) -> OperatorSnapshot {
        let mut snapshot = OperatorSnapshot::default();
        self.state.begin_snapshot().unwrap();
        let mut budget = ScanBudget::unbounded();
        assert!(self.state.continue_snapshot(&mut snapshot, &mut budget).unwrap());
        snapshot
    }

    /// How many entries a full snapshot has.
    fn entries(&self) -> usize {
        let mut snapshot = self.snapshot();
        snapshot.decode_sections().unwrap();
        self.state.quiet_point().unwrap();
        ["value", "list", "map"]
            .map(|name| snapshot.keyed(name).len())
            .iter()
            .sum()
    }
}

fn ttl() -> StateTtlConfig {
    StateTtlConfig::new(Duration::from_millis(TTL_MS as u64))
}

#[test]
fn what_is_behind_the_cache_expires_too() {
    let bench = Bench::new();
    let subtask = bench.subtask(None, Some(ttl().cleanup_full_snapshot()));
    subtask.write(0..KEYS);
    bench.clock.set_wall_ms(10_500);
    let half = KEYS / 2;
    subtask.write(half..KEYS);
    bench.clock.set_wall_ms(10_999);
    assert_eq!(subtask.entries(), 3 * KEYS as usize);
    bench.clock.set_wall_ms(11_000);
    assert_eq!(subtask.entries(), 3 * half as usize);
    let restored = bench.subtask(Some(bench.adopt(&subtask)), Some(ttl()));
    assert_eq!(restored.read(half - 1), Parts::default());
    assert_eq!(restored.read(half).list, [half, half + 1]);
    bench.clock.set_wall_ms(11_500);
    restored.check(0..0);
}

/// Compactions run as RocksDB sees fit, while a cache before them reads, renews and writes back.
#[test]
fn compactions_take_nothing_that_lives() {
    let bench = Bench::new();
    let ttl = ttl()
        .update_type(UpdateType::OnReadAndWrite)
        .cleanup_in_rocksdb_compact_filter(1);
    let subtask = bench.subtask(None, Some(ttl));
    subtask.write(0..KEYS);
    for round in 1..6 {
        bench.clock.set_wall_ms(10_000 + round * 600);
        // The first half is renewed, the other expires.
        for key in 0..KEYS / 2 {
            assert_eq!(
                subtask.read(key).list,
                [key, key + 1],
                "key {key} in round {round}"
            );
            if key % 100 == 0 {
                subtask.state.quiet_point().unwrap();
            }
        }
        // A checkpoint flushes, so that there is something to compact.
        drop(bench.adopt(&subtask));
        subtask.state.quiet_point().unwrap();
    }
    subtask.check(0..KEYS / 2);
}

#[test]
fn files_of_a_state_that_gets_a_time_to_live_or_loses_it_are_converted() {
    let bench = Bench::new();
    let plain = bench.subtask(None, None);
    plain.write(0..KEYS);
    bench.clock.set_wall_ms(20_000);
    let expiring = bench.subtask(Some(bench.adopt(&plain)), Some(ttl()));
    bench.clock.set_wall_ms(20_999);
    expiring.check(0..KEYS);
    let lost = bench.subtask(Some(bench.adopt(&expiring)), None);
    bench.clock.set_wall_ms(30_000);
    lost.check(0..KEYS);
    expiring.check(0..0);
    let again = bench.subtask(Some(bench.adopt(&lost)), Some(ttl()));
    bench.clock.set_wall_ms(30_999);
    again.check(0..KEYS);
    bench.clock.set_wall_ms(31_000);
    again.check(0..0);
}
