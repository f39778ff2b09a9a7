//! Checkpoints that programs ask for: they commit what they hold, take each other's place, share files as they were to,
//! and are what a job goes on from; and native savepoints, which share nothing with them.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig::cluster::{CheckpointStatistics, SnapshotType};
use hurtig::core::config::Configuration;
use hurtig::core::key::hash_int;
use hurtig::prelude::*;
use hurtig::{CheckpointKind, SavepointFormat, TakenCheckpoint};
use hurtig_end_to_end::waiting::{until, wait};
use hurtig_storage::{BlobStores, CheckpointMetadata, SnapshotFolder, checkpoint_of};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const KEYS: u64 = 500;
const COUNT: u64 = 12_000;
/// Numbers beside each count.
const PADDING: u64 = 50;
const ROCKSDB: &str = "state.backend.type=rocksdb";
const SMALL: &str = "taskmanager.memory.managed.size=2kb";

fn env(parallelism: u32, settings: &[&str]) -> StreamEnv {
    let definitions: Vec<String> = settings.iter().map(ToString::to_string).collect();
    let config = Configuration::builder()
        .definitions(&definitions)
        .build()
        .unwrap();
    let env = StreamEnv::with_config(config);
    env.set_parallelism(parallelism);
    env
}

/// Counts the records of each key.
fn counting(env: &StreamEnv, rate: u64) -> (hurtig::CollectHandle<(u64, u64)>, Arc<AtomicU64>) {
    let made = Arc::new(AtomicU64::new(0));
    let count = made.clone();
    let source = GeneratorSource::new(COUNT, move |i| {
        count.fetch_add(1, Ordering::Relaxed);
        i % KEYS
    });
    let counts = env
        .from_source(source.rate(rate), Watermarks::none())
        .uid("records")
        .key_by(|key: &u64| *key)
        .process(|ctx| {
            Ok(Counts {
                counts: ctx.value("counts")?,
            })
        })
        .uid("counts");
    (counts.collect(), made)
}

/// Counts a key's records, with so much beside each count that not all of them stay in memory.
struct Counts {
    counts: ValueState<(u64, Vec<u64>)>,
}

impl KeyedProcessFunction<u64, u64, (u64, u64)> for Counts {
    fn process(
        &mut self,
        key: u64,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, (u64, u64)>,
    ) -> std::result::Result<(), UserError> {
        let n = self.counts.get_cloned(cx).map_or(0, |(n, _)| n) + 1;
        let beside = (0..PADDING).map(|at| hash_int(key * COUNT + n * PADDING + at));
        self.counts.set(cx, (n, beside.collect()));
        out.emit((key, n));
        Ok(())
    }
}

async fn at_least(made: &AtomicU64, records: u64) {
    assert!(records < COUNT, "the job ends before");
    until("records", async || made.load(Ordering::Relaxed) >= records).await;
}

/// A job that begins with this checkpoint counts the rest, and everything once.
#[track_caller]
fn goes_on_from(path: &str, settings: &[&str]) {
    let restore = format!("execution.state-recovery.path={path}");
    let mut settings = settings.to_vec();
    settings.push(&restore);
    let env = env(2, &settings);
    let (counts, made) = counting(&env, 1_000_000);
    wait(env.execute("counting")).unwrap();
    let made = made.load(Ordering::Relaxed);
    assert!(made < COUNT, "it began with the checkpoint: {made}");
    let mut last = BTreeMap::new();
    for (key, n) in counts.take() {
        let last = last.entry(key).or_insert(0);
        *last = n.max(*last);
    }
    assert_eq!(last.len() as u64, KEYS);
    assert!(last.values().all(|n| *n == COUNT / KEYS), "{last:?}");
}

fn path_of(checkpoint: &TakenCheckpoint) -> &str {
    checkpoint.path.as_deref().unwrap()
}

fn metadata(path: &str) -> CheckpointMetadata {
    let folder = SnapshotFolder::of_path(path).unwrap();
    folder.read(&BlobStores::local()).unwrap()
}

/// For which checkpoints the shared files were written that this one names.
fn shares(checkpoint: &TakenCheckpoint) -> BTreeSet<u64> {
    let metadata = metadata(path_of(checkpoint));
    let shared = metadata.shared_files().map(|path| checkpoint_of(path).unwrap());
    shared.collect()
}

fn last(statistics: &CheckpointStatistics) -> (u64, SnapshotType) {
    let last = statistics.last_checkpoint.as_ref().unwrap();
    (last.checkpoint.0, last.kind)
}

#[test]
fn a_checkpoint_that_was_asked_for_needs_no_interval_and_commits() {
    let folder = tempfile::tempdir().unwrap();
    let dir = format!(
        "execution.checkpointing.dir={}",
        folder.path().join("dir").display()
    );
    let out = folder.path().join("out");
    let env = env(2, &[&dir]);
    let (_, made) = counting(&env, 1_500);
    env.from_source(
        GeneratorSource::unbounded(|i| i.to_string()).rate(1_000),
        Watermarks::none(),
    )
    .uid("numbers")
    .sink_to(FileSink::lines(&out).rolling(RollingPolicy::on_checkpoint()))
    .uid("out");
    let (one, two) = wait(async {
        let job = env.execute_async("counting").await.unwrap();
        at_least(&made, 500).await;
        assert_eq!(job.checkpoint_statistics().await.unwrap().triggered, 0);
        let one = job.checkpoint(CheckpointKind::Configured).await.unwrap();
        at_least(&made, 800).await;
        let asked = [CheckpointKind::Configured, CheckpointKind::Full].map(|kind| job.checkpoint(kind));
        let [two, three] = asked;
        let (two, three) = (two.await.unwrap(), three.await.unwrap());
        assert_eq!(three.id.0, two.id.0 + 1);
        let statistics = job.checkpoint_statistics().await.unwrap();
        let full = SnapshotType::Checkpoint(CheckpointKind::Full);
        assert_eq!(last(&statistics), (three.id.0, full));
        let refused = job.checkpoint(CheckpointKind::Incremental).await.unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("'hashmap'") && refused.contains("state.backend.type"),
            "{refused}"
        );
        job.cancel().await.unwrap();
        assert!(job.result().await.is_err());
        (one, three)
    });
    let visible = std::fs::read_dir(&out).unwrap().count();
    assert!(visible > 0, "sinks have committed");
    assert!(
        !Path::new(one.path.as_ref().unwrap()).exists(),
        "a newer one took its place"
    );
    let dropped = "execution.state-recovery.ignore-unclaimed-state=true";
    goes_on_from(path_of(&two), &[&dir, dropped]);
}

#[test]
fn a_job_without_a_place_for_checkpoints_takes_none() {
    let plain = env(1, &[]);
    let (_, made) = counting(&plain, 1_500);
    wait(async {
        let job = plain.execute_async("counting").await.unwrap();
        at_least(&made, 10).await;
        let refused = job
            .checkpoint(CheckpointKind::Configured)
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("execution.checkpointing.dir"), "{refused}");
        job.cancel().await.unwrap();
    });
    // In memory it has no path.
    let memory = env(1, &["execution.checkpointing.interval=1h"]);
    let (_, made) = counting(&memory, 1_500);
    wait(async {
        let job = memory.execute_async("counting").await.unwrap();
        at_least(&made, 10).await;
        let taken = job.checkpoint(CheckpointKind::Full).await.unwrap();
        assert_eq!((taken.id.0, taken.path), (1, None));
        job.cancel().await.unwrap();
    });
}

#[test]
fn a_full_checkpoint_shares_nothing_with_those_before_it_and_all_with_those_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = format!("execution.checkpointing.dir={}", folder.path().display());
    let settings = [
        dir.as_str(),
        ROCKSDB,
        SMALL,
        "execution.checkpointing.incremental=true",
        "execution.checkpointing.num-retained=10",
    ];
    let env = env(2, &settings);
    let (_, made) = counting(&env, 1_500);
    let taken = wait(async {
        let job = env.execute_async("counting").await.unwrap();
        let mut taken = Vec::new();
        for kind in [
            CheckpointKind::Configured,
            CheckpointKind::Full,
            CheckpointKind::Incremental,
            CheckpointKind::Incremental,
            CheckpointKind::Configured,
            CheckpointKind::Configured,
        ] {
            // All keys before the first one, and few between two.
            let so_far = made.load(Ordering::Relaxed);
            at_least(&made, (so_far + 20).max(2 * KEYS)).await;
            taken.push(job.checkpoint(kind).await.unwrap());
        }
        job.cancel().await.unwrap();
        assert!(job.result().await.is_err());
        taken
    });
    let named: Vec<BTreeSet<u64>> = taken.iter().map(shares).collect();
    assert_eq!(named[0], [1].into());
    assert_eq!(named[1], [2].into(), "a full one names nothing of others");
    assert!(named[2..].iter().all(|named| !named.contains(&1)), "{named:?}");
    // A compaction may write all files anew at any of them, but not at each.
    let shares = (3..)
        .zip(&named[2..])
        .filter(|(id, named)| named.iter().any(|of| of < id));
    assert!(shares.count() > 0, "{named:?}");
    for checkpoint in [&taken[1], &taken[5]] {
        goes_on_from(path_of(checkpoint), &[&dir, ROCKSDB]);
    }
}

#[test]
fn incremental_checkpoints_among_full_ones_name_no_file_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = format!("execution.checkpointing.dir={}", folder.path().display());
    let settings = [dir.as_str(), ROCKSDB, SMALL];
    let env = env(2, &settings);
    let (_, made) = counting(&env, 1_500);
    let (named, latest) = wait(async {
        let job = env.execute_async("counting").await.unwrap();
        let (mut named, mut latest) = (Vec::new(), None);
        // The third names no files, and with the second go the files that it named.
        for kind in [
            CheckpointKind::Incremental,
            CheckpointKind::Incremental,
            CheckpointKind::Configured,
            CheckpointKind::Incremental,
        ] {
            // All keys before the first one, and few between two.
            let so_far = made.load(Ordering::Relaxed);
            at_least(&made, (so_far + 20).max(2 * KEYS)).await;
            let taken = job.checkpoint(kind).await.unwrap();
            named.push(shares(&taken));
            latest = Some(taken);
        }
        job.cancel().await.unwrap();
        assert!(job.result().await.is_err());
        (named, latest)
    });
    assert_eq!(named[2], [].into(), "as the configuration says");
    assert_eq!(named[3], [4].into(), "{named:?}");
    goes_on_from(path_of(&latest.unwrap()), &[&dir, ROCKSDB]);
}

/// Takes a native savepoint of a job that takes incremental checkpoints before it and behind it, and moves it away from all
/// of them.
fn native_savepoint(folder: &Path, backend: &str) -> String {
    let dir = format!(
        "execution.checkpointing.dir={}",
        folder.join("checkpoints").display()
    );
    let settings = [&dir, backend, SMALL, "execution.checkpointing.incremental=true"];
    let env = env(2, &settings);
    let (_, made) = counting(&env, 1_500);
    let savepoints = folder.join("savepoints");
    let path = wait(async {
        let job = env.execute_async("counting").await.unwrap();
        at_least(&made, 2 * KEYS).await;
        job.checkpoint(CheckpointKind::Configured).await.unwrap();
        let taken = job.savepoint_as(SavepointFormat::Native, savepoints.to_str());
        let path = taken.await.unwrap();
        let statistics = job.checkpoint_statistics().await.unwrap();
        let last = statistics.last_savepoint.unwrap();
        assert_eq!(last.kind, SnapshotType::Savepoint(SavepointFormat::Native));
        job.checkpoint(CheckpointKind::Configured).await.unwrap();
        job.cancel().await.unwrap();
        assert!(job.result().await.is_err());
        path
    });
    std::fs::remove_dir_all(folder.join("checkpoints")).unwrap();
    let moved = folder.join("moved");
    std::fs::rename(path, &moved).unwrap();
    moved.to_str().unwrap().to_owned()
}

#[test]
fn a_native_savepoint_is_whole_in_its_folder_and_of_its_backend() {
    let folder = tempfile::tempdir().unwrap();
    let path = native_savepoint(folder.path(), ROCKSDB);
    let found = metadata(&path);
    assert_eq!(found.native.as_deref(), Some("rocksdb"));
    let shared: Vec<&str> = found.shared_files().collect();
    assert!(!shared.is_empty(), "it consists of files of RocksDB");
    let inspected = hurtig::inspect_snapshot(&path).unwrap();
    assert!(
        inspected.contains("\"native\"") && inspected.contains("\"rocksdb\""),
        "{inspected}"
    );
    let other = env(1, &[&format!("execution.state-recovery.path={path}")]);
    counting(&other, 1_000_000);
    let refused = wait(other.execute("counting")).unwrap_err().to_string();
    for wanted in [
        &*path,
        "'rocksdb'",
        "state.backend.type",
        "'hashmap'",
        "canonical",
    ] {
        assert!(refused.contains(wanted), "{wanted}: {refused}");
    }
    goes_on_from(&path, &[ROCKSDB]);
    assert!(
        Path::new(&path).join("_metadata").is_file(),
        "it is not the job's"
    );
    goes_on_from(&path, &[ROCKSDB, "execution.state-recovery.claim-mode=CLAIM"]);
    assert!(!Path::new(&path).exists(), "it was the job's");
}

#[test]
fn a_native_savepoint_of_state_in_memory_is_that_of_its_backend_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = native_savepoint(folder.path(), "state.backend.type=hashmap");
    assert_eq!(metadata(&path).native.as_deref(), Some("hashmap"));
    let restore = format!("execution.state-recovery.path={path}");
    let other = env(1, &[&restore, ROCKSDB]);
    counting(&other, 1_000_000);
    let refused = wait(other.execute("counting")).unwrap_err().to_string();
    assert!(
        refused.contains("'hashmap'") && refused.contains("canonical"),
        "{refused}"
    );
    goes_on_from(&path, &[]);
    hurtig::dispose_savepoint(&path).unwrap();
    assert!(!Path::new(&path).exists());
}
