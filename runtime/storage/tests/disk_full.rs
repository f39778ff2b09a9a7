//! What a full disk leaves behind. The test runs itself again in a process whose files cannot grow
//! beyond a limit: writes past it fail in the middle of a file, as they do on a full disk.
#![allow(clippy::unwrap_used, reason = "a test stops at what it cannot do")]

use hurtig_core::ids::{CheckpointId, JobId};
use hurtig_core::key::KEY_HASH_VERSION;
use hurtig_state::{KeyedEntry, OperatorSnapshot};
use hurtig_storage::{
    BlobStore, CheckpointMetadata, Compression, LocalStore, METADATA_FORMAT_VERSION, SnapshotKind,
    StorageError, latest_checkpoint, read_metadata, read_state, write_metadata, write_state,
};
use std::path::Path;
use std::process::Command;
use std::{env, fs, io};
use tempfile::TempDir;

/// Names the directory to the process with the limit.
const DIR: &str = "HURTIG_TEST_DISK_FULL";

/// In blocks of 512 bytes or, by some shells, 1024.
const LIMIT_BLOCKS: u32 = 200;

fn snapshot(bytes: usize) -> OperatorSnapshot {
    let mut snapshot = OperatorSnapshot::default();
    let entry = |group: u16| KeyedEntry {
        group,
        key: group.to_be_bytes().to_vec(),
        namespace: Vec::new(),
        value: vec![7; bytes / 100],
    };
    snapshot.put_keyed("sums", (0..100).map(entry).collect());
    snapshot
}

fn metadata(id: u64, name_bytes: usize) -> CheckpointMetadata {
    CheckpointMetadata {
        format_version: METADATA_FORMAT_VERSION,
        checkpoint_id: CheckpointId(id),
        kind: SnapshotKind::Checkpoint,
        job_id: JobId::from_u128(1),
        job_name: "n".repeat(name_bytes),
        triggered_ms: id,
        key_hash_version: KEY_HASH_VERSION,
        supersedes: Vec::new(),
        native: None,
        operators: Vec::new(),
    }
}

fn files_below(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                files_below(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

/// The error of a write that the limit stopped, with the path.
fn assert_full(error: &StorageError, path: &str) {
    let StorageError::Io {
        path: named, source, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(named, path);
    let kinds = [io::ErrorKind::FileTooLarge, io::ErrorKind::StorageFull];
    assert!(kinds.contains(&source.kind()), "{source:?}");
    assert!(error.to_string().contains(path) && error.can_retry());
}

/// Runs where no file can have a megabyte.
fn with_the_limit(dir: &str) {
    let store = LocalStore::open(dir).unwrap();
    let job = JobId::from_u128(1).to_string();
    let path = |id: u64, name: &str| format!("{job}/chk-{id}/{name}");
    let small = [snapshot(1_000)];
    let handle = write_state(&store, &path(1, "small"), &small, Compression::None)
        .unwrap()
        .unwrap();
    write_metadata(&store, &format!("{job}/chk-1"), &metadata(1, 10)).unwrap();
    let before = store.list("").unwrap();

    let big = write_state(&store, &path(2, "big"), &[snapshot(1_000_000)], Compression::None);
    assert_full(&big.unwrap_err(), &path(2, "big"));
    let metadata = write_metadata(&store, &format!("{job}/chk-2"), &metadata(2, 1_000_000));
    assert_full(&metadata.unwrap_err(), &path(2, "_metadata"));

    assert!(!store.exists(&path(2, "big")).unwrap());
    assert_eq!(
        store.list("").unwrap(),
        before,
        "something half-written is visible"
    );
    assert_eq!(
        files_below(Path::new(dir)),
        before.len(),
        "something half-written is left"
    );
    let latest = latest_checkpoint(&store, None, None).unwrap().unwrap();
    assert_eq!(latest.0, CheckpointId(1));
    assert_eq!(
        read_metadata(&store, &latest.1).unwrap().checkpoint_id,
        CheckpointId(1)
    );
    assert_eq!(read_state(&store, &handle).unwrap(), small);
    // Once there is room, the same names can be written.
    write_state(&store, &path(2, "big"), &small, Compression::None)
        .unwrap()
        .unwrap();
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    if let Ok(dir) = env::var(DIR) {
        with_the_limit(&dir);
        return;
    }
    let dir = TempDir::new().unwrap();
    // The signal that comes with the limit would end the process; a disk that is full sends none.
    let script = format!("trap '' XFSZ && ulimit -f {LIMIT_BLOCKS} && exec \"$@\"");
    let arguments = [
        "--exact",
        "--nocapture",
        "a_full_disk_leaves_nothing_half_written",
    ];
    let output = Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(env::current_exe().unwrap())
        .args(arguments)
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(files_below(dir.path()), 3, "the child wrote elsewhere");
}
