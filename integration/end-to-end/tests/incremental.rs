//! Checkpoints that share files: how much each writes, what may be named again, and what comes back.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig_core::ids::{AttemptNumber, CheckpointId, ExecutionId, SubtaskId, VertexId};
use hurtig_core::key::{StableKey, key_group};
use hurtig_rocksdb::{RocksFactory, RocksMemory};
use hurtig_state::{
    CacheMemory, CurrentKey, KeyedState, MapState, OperatorSnapshot, ScanBudget, ScratchDir, StateBackend,
    StoreBackend, ValueState,
};
use hurtig_storage::{
    BlobStore, Compression, LocalCopies, LocalStore, Reader, Reuse, SharedFolder, StateHandle, StorageError,
    checkpoint_of, forget_files, has_store, read_state_groups, save_store, write_state,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

const GROUPS: u32 = 128;
const KEYS: u64 = 40_000;

/// One subtask with two states in RocksDB, and the folder of its checkpoints.
struct Subtask {
    state: KeyedState<u64>,
    values: ValueState<Vec<u64>>,
    map: MapState<u64, u64>,
    model: BTreeMap<u64, Vec<u64>>,
}

struct Bench {
    dir: tempfile::TempDir,
    blobs: LocalStore,
    stores: StoreBackend,
    copies: LocalCopies,
}

impl Bench {
    fn new() -> Self {
        // A tenth of the values has room.
        Self::with(8 << 20, KEYS as usize * 20)
    }

    /// With so much memory for RocksDB and for the cache before it.
    fn with(rocksdb: usize, cache: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = LocalStore::open(dir.path().join("checkpoints").to_str().unwrap()).unwrap();
        let root = ScratchDir::in_dir(&dir.path().join("state")).unwrap();
        let factory = Arc::new(RocksFactory::new(RocksMemory::new(rocksdb)));
        let stores = StoreBackend::new(factory, root, CacheMemory::new(cache));
        let copies = LocalCopies::in_dir(stores.new_path());
        Self {
            dir,
            blobs,
            stores,
            copies,
        }
    }

    fn subtask(&self, snapshot: Option<OperatorSnapshot>, groups: Range<u16>) -> Subtask {
        let backend = StateBackend::Store(self.stores.clone());
        let mut state = KeyedState::kept_in(backend, groups, GROUPS);
        if let Some(restored) = snapshot.as_ref().and_then(|snapshot| snapshot.restored.clone()) {
            state = state.with_store(restored);
        }
        let (values, map) = (state.value("values").unwrap(), state.map("map").unwrap());
        if let Some(snapshot) = &snapshot {
            state.restore(snapshot).unwrap();
        }
        Subtask {
            state,
            values,
            map,
            model: BTreeMap::new(),
        }
    }

    /// Stores a checkpoint; `completed` is the last one that the task knows of.
    fn checkpoint(&self, subtask: &Subtask, checkpoint: u64, completed: u64) -> StateHandle {
        let shared = SharedFolder {
            folder: "job/shared".into(),
            execution: ExecutionId {
                subtask: SubtaskId {
                    vertex: VertexId::from_u128(7),
                    index: 0,
                },
                attempt: AttemptNumber(0),
            },
            checkpoint: CheckpointId(checkpoint),
            reuse: Reuse::Kept,
            completed,
            given_up: [].into(),
            local: Some(self.copies.clone()),
        };
        let (mut snapshot, mut named) = (subtask.snapshot(), Vec::new());
        save_store(&self.blobs, &mut snapshot, &shared, &mut named).unwrap();
        let path = format!("job/chk-{checkpoint}/state");
        let written = write_state(&self.blobs, &path, &[snapshot], Compression::Lz4);
        let mut handle = written.unwrap().unwrap();
        handle.shared = named;
        handle
    }

    /// Bytes that a checkpoint has written.
    fn written(&self, handle: &StateHandle, checkpoint: u64) -> u64 {
        let own = handle
            .shared
            .iter()
            .filter(|path| checkpoint_of(path) == Some(checkpoint));
        let file = |path: &String| self.dir.path().join("checkpoints").join(path);
        handle.bytes + own.map(|path| file(path).metadata().unwrap().len()).sum::<u64>()
    }

    fn hydrated(&self, handle: &StateHandle, groups: Range<u16>) -> Result<OperatorSnapshot, StorageError> {
        self.hydrated_from(handle, groups, None)
    }

    fn hydrated_from(
        &self,
        handle: &StateHandle,
        groups: Range<u16>,
        local: Option<&LocalCopies>,
    ) -> Result<OperatorSnapshot, StorageError> {
        let mut snapshot = read_state_groups(&self.blobs, handle, groups.clone())?.remove(0);
        assert!(has_store(&snapshot));
        let reader = Reader {
            blobs: &self.blobs,
            folder: "",
            stores: &self.stores,
            local,
        };
        reader.hydrate(&mut snapshot, groups, true)?;
        Ok(snapshot)
    }
}

impl Subtask {
    fn set(&mut self, key: u64, value: Vec<u64>) {
        let cx = CurrentKey::new(&self.state, &key, key.stable_hash());
        self.values.set(cx, value.clone());
        self.map.put(cx, key % 3, value.len() as u64);
        self.model.insert(key, value);
        if key.is_multiple_of(64) {
            self.state.quiet_point().unwrap();
        }
    }

    fn clear(&mut self, key: u64) {
        let cx = CurrentKey::new(&self.state, &key, key.stable_hash());
        self.values.clear(cx);
        self.map.clear(cx);
        self.model.remove(&key);
    }

    fn snapshot(&self) -> OperatorSnapshot {
        let mut snapshot = OperatorSnapshot::default();
        self.state.begin_snapshot().unwrap();
        let done = self
            .state
            .continue_snapshot(&mut snapshot, &mut ScanBudget::unbounded());
        assert!(done.unwrap());
        snapshot
    }

    #[track_caller]
    fn assert_holds(&self, model: &BTreeMap<u64, Vec<u64>>) {
        let groups = self.state.groups();
        for key in 0..KEYS {
            let hash = key.stable_hash();
            if groups.contains(&(key_group(hash, GROUPS).get() as u16)) {
                let cx = CurrentKey::new(&self.state, &key, hash);
                assert_eq!(self.values.get_cloned(cx).as_ref(), model.get(&key), "key {key}");
                let entries: Vec<_> = model
                    .get(&key)
                    .map(|v| (key % 3, v.len() as u64))
                    .into_iter()
                    .collect();
                assert_eq!(self.map.entries(cx), entries, "key {key}");
            }
            self.state.quiet_point().unwrap();
        }
    }
}

/// Bytes of a value that no compression makes less of: which files RocksDB has compressed better by now does not matter.
const VALUE_BYTES: u64 = 96;

/// A value of so many bytes that mean nothing.
fn value(seed: u64) -> Vec<u64> {
    let words = VALUE_BYTES / 8;
    (0..words)
        .map(|n| hurtig_core::key::hash_int(seed * words + n))
        .collect()
}

#[test]
fn a_checkpoint_writes_what_has_changed() {
    let bench = Bench::new();
    let mut subtask = bench.subtask(None, 0..GROUPS as u16);
    (0..KEYS).for_each(|key| subtask.set(key, value(key)));
    bench.checkpoint(&subtask, 1, 0);
    let full = bench.checkpoint(&subtask, 2, 0);
    let full = bench.written(&full, 2);
    let rounds = 20;
    let mut all = 0;
    for round in 0..rounds {
        for n in 0..KEYS / 100 {
            let key = hurtig_core::key::hash_int(round * KEYS + n) % KEYS;
            match key % 10 {
                0 => subtask.clear(key),
                _ => subtask.set(key, value(round * KEYS + key)),
            }
        }
        let checkpoint = 3 + round;
        let handle = bench.checkpoint(&subtask, checkpoint, checkpoint - 1);
        all += bench.written(&handle, checkpoint);
        if round % 5 == 4 {
            let whole = bench.subtask(Some(bench.hydrated(&handle, 0..128).unwrap()), 0..128);
            whole.assert_holds(&subtask.model);
            let half = bench.subtask(Some(bench.hydrated(&handle, 30..70).unwrap()), 30..70);
            half.assert_holds(&subtask.model);
        }
    }
    assert!(
        full > KEYS * VALUE_BYTES,
        "the first checkpoint of all has {full} bytes"
    );
    let share = all as f64 / (full * rounds) as f64;
    // So small a store is rewritten by every compaction; a large one is not. Each checkpoint leaves one new file, and four of
    // them make a compaction: whenever those run, they write no more than a quarter of all for each checkpoint.
    assert!(
        share < 0.4,
        "{rounds} checkpoints of 1 % of the keys wrote {share} of all state each"
    );
}

/// How much 20 checkpoints write of a large state, of which 1 % of the keys change from one to the next, anywhere or in one tenth of the
/// key groups: `INCREMENTAL_KEYS=50000000` keys of 96 bytes, in release.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout, reason = "it says what it has measured")]
fn measure_what_checkpoints_of_a_large_state_write() {
    let keys = hurtig_end_to_end::number("INCREMENTAL_KEYS", 2_000_000);
    for (place, tenth) in [("anywhere", false), ("in a tenth of the groups", true)] {
        let bench = Bench::with(256 << 20, 256 << 20);
        let mut state = KeyedState::kept_in(
            StateBackend::Store(bench.stores.clone()),
            0..GROUPS as u16,
            GROUPS,
        );
        let subtask = Subtask {
            values: state.value("values").unwrap(),
            map: state.map("map").unwrap(),
            state,
            model: BTreeMap::new(),
        };
        let set = |n: u64, key: u64, seed: u64| {
            let cx = CurrentKey::new(&subtask.state, &key, key.stable_hash());
            subtask.values.set(cx, value(seed));
            if n.is_multiple_of(1_024) {
                subtask.state.quiet_point().unwrap();
            }
        };
        (0..keys).for_each(|key| set(key, key, key));
        let mut last = bench.checkpoint(&subtask, 1, 0);
        settled(&bench.dir.path().join("state"));
        let full = bench.checkpoint(&subtask, 2, 0);
        forget_files(&bench.blobs, CheckpointId(1), &last.shared);
        let full_bytes = bench.written(&full, 2);
        last = full;
        let here = |key: u64| !tenth || key_group(key.stable_hash(), GROUPS).get() < GROUPS / 10;
        let mut shares = Vec::new();
        for round in 0..20 {
            let random = (0..).map(|n| hurtig_core::key::hash_int((round + 1) * keys * 16 + n) % keys);
            for (n, key) in random
                .filter(|key| here(*key))
                .take(keys as usize / 100)
                .enumerate()
            {
                set(n as u64, key, (round + 2) * keys + key);
            }
            let checkpoint = 3 + round;
            let handle = bench.checkpoint(&subtask, checkpoint, checkpoint - 1);
            shares.push(bench.written(&handle, checkpoint) as f64 / full_bytes as f64);
            // As the JobMaster does, which keeps one.
            let gone = last.shared.iter().filter(|path| !handle.shared.contains(path));
            gone.for_each(|path| bench.blobs.delete(path).unwrap());
            last = handle;
        }
        let percent: Vec<String> = shares
            .iter()
            .map(|share| format!("{:.1}", share * 100.0))
            .collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64 * 100.0;
        println!(
            "{keys} keys, {:.2} GB; 1 % changed {place}: {mean:.2} % a checkpoint ({})",
            full_bytes as f64 / 1e9,
            percent.join(" ")
        );
    }
}

/// Waits until a store has compacted what there was to compact.
#[allow(clippy::disallowed_methods, reason = "a measurement has nothing else to do")]
fn settled(dir: &std::path::Path) {
    let tables = || {
        let (mut folders, mut found) = (vec![dir.to_path_buf()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.extend(path.metadata().ok().map(|of| (path, of.len()))),
                }
            }
        }
        found.retain(|(path, _)| path.extension().is_some_and(|kind| kind == "sst"));
        found.sort();
        found
    };
    let mut before = Vec::new();
    for now in std::iter::repeat_with(tables) {
        if now == before {
            return;
        }
        before = now;
        std::thread::sleep(std::time::Duration::from_secs(10));
    }
}

#[test]
fn only_files_of_complete_checkpoints_are_named_again() {
    let bench = Bench::new();
    let mut subtask = bench.subtask(None, 0..128);
    (0..KEYS).for_each(|key| subtask.set(key, value(key)));
    let first = bench.checkpoint(&subtask, 1, 0);
    // Nobody has said that it is complete: whoever gives it up deletes its files.
    let second = bench.checkpoint(&subtask, 2, 0);
    assert!(second.shared.iter().all(|path| !first.shared.contains(path)));
    forget_files(&bench.blobs, CheckpointId(1), &first.shared);
    assert!(first.shared.iter().all(|path| !bench.blobs.exists(path).unwrap()));
    let third = bench.checkpoint(&subtask, 3, 2);
    assert!(third.shared.iter().any(|path| second.shared.contains(path)));
    forget_files(&bench.blobs, CheckpointId(3), &third.shared);
    let again = bench.subtask(Some(bench.hydrated(&second, 0..128).unwrap()), 0..128);
    again.assert_holds(&subtask.model);
}

#[test]
fn a_damaged_file_of_a_store_is_refused_by_path_and_offset() {
    let bench = Bench::new();
    let mut subtask = bench.subtask(None, 0..128);
    (0..KEYS).for_each(|key| subtask.set(key, value(key)));
    let handle = bench.checkpoint(&subtask, 1, 0);
    let damaged = &handle.shared[0];
    let file = bench.dir.path().join("checkpoints").join(damaged);
    let good = std::fs::read(&file).unwrap();
    for at in [0, good.len() / 2, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let text = hurtig_core::Error::from(bench.hydrated(&handle, 0..128).unwrap_err()).chain();
        assert!(
            text.contains(damaged) && text.contains("is damaged at byte"),
            "{at}: {text}"
        );
    }
    std::fs::write(&file, &good[..good.len() - 1]).unwrap();
    assert!(bench.hydrated(&handle, 0..128).is_err());
    std::fs::remove_file(&file).unwrap();
    let text = hurtig_core::Error::from(bench.hydrated(&handle, 0..128).unwrap_err()).chain();
    assert!(
        text.contains(damaged) && text.contains("does not exist"),
        "{text}"
    );
    std::fs::write(&file, &good).unwrap();
    let again = bench.subtask(Some(bench.hydrated(&handle, 0..128).unwrap()), 0..128);
    again.assert_holds(&subtask.model);
}

/// The copies on local disk.
fn copies(bench: &Bench) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![bench.dir.path().join("state")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.retain(|path| path.to_string_lossy().contains("/chk-"));
    found.sort();
    found
}

#[test]
fn copies_on_local_disk_stand_in_for_files_that_are_whole_and_for_no_others() {
    let bench = Bench::new();
    let mut subtask = bench.subtask(None, 0..GROUPS as u16);
    (0..KEYS).for_each(|key| subtask.set(key, value(key)));
    bench.checkpoint(&subtask, 1, 0);
    (0..KEYS / 10).for_each(|key| subtask.set(key, value(KEYS + key)));
    let handle = bench.checkpoint(&subtask, 2, 1);
    assert!(
        copies(&bench).len() > handle.shared.len(),
        "those of two checkpoints"
    );
    // Everything is read here, nothing from the checkpoint.
    let away = bench.dir.path().join("away");
    let shared = bench.dir.path().join("checkpoints/job/shared");
    std::fs::rename(&shared, &away).unwrap();
    let local = Some(&bench.copies);
    let restored = bench.hydrated_from(&handle, 0..128, local).unwrap();
    bench.subtask(Some(restored), 0..128).assert_holds(&subtask.model);
    let fetched = bench.hydrated_from(&handle, 0..128, None);
    assert!(fetched.is_err(), "the checkpoint has none");
    drop(fetched);
    std::fs::rename(&away, &shared).unwrap();
    // One copy is damaged, one is gone.
    let all = copies(&bench);
    let of_two: Vec<_> = all
        .iter()
        .filter(|path| path.to_string_lossy().contains("/chk-2/"))
        .collect();
    let mut bytes = std::fs::read(of_two[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(of_two[0]).unwrap();
    std::fs::write(of_two[0], bytes).unwrap();
    all.iter()
        .filter(|path| path.file_name() == of_two[1].file_name())
        .for_each(|path| {
            std::fs::remove_file(path).unwrap();
        });
    let restored = bench.hydrated_from(&handle, 0..128, local).unwrap();
    bench.subtask(Some(restored), 0..128).assert_holds(&subtask.model);
    // What nobody goes back to is removed when the next one is stored.
    bench.checkpoint(&subtask, 3, 2);
    assert!(
        copies(&bench)
            .iter()
            .all(|path| !path.to_string_lossy().contains("/chk-1/"))
    );
}
