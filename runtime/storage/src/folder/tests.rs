//! Folders are found by whole paths wherever they lie, and deleted without what is not theirs.

use super::*;
use crate::metadata::{METADATA_FORMAT_VERSION, OperatorStates, SubtaskState, write_metadata};
use crate::state_file::StateHandle;
use hurtig_core::ids::{CheckpointId, JobId, OperatorId};
use hurtig_core::key::KEY_HASH_VERSION;

const JOB: &str = "0123456789abcdef0123456789abcdef";

fn folder(store: &str, folder: &str) -> SnapshotFolder {
    SnapshotFolder {
        store: store.to_owned(),
        folder: folder.to_owned(),
    }
}

fn metadata(kind: SnapshotKind, files: &[&str]) -> CheckpointMetadata {
    let subtask = |path: &&str| SubtaskState {
        handle: Some(StateHandle {
            path: (*path).to_owned(),
            bytes: 1,
            checksum: 2,
            shared: Vec::new(),
        }),
        ..SubtaskState::default()
    };
    let operator = OperatorStates {
        operator: OperatorId::from_u128(1),
        uid: None,
        name: "op".to_owned(),
        parallelism: 9,
        max_parallelism: 128,
        subtasks: (0..).zip(files.iter().map(subtask)).collect(),
        coordinator: None,
        states: [].into(),
    };
    CheckpointMetadata {
        format_version: METADATA_FORMAT_VERSION,
        checkpoint_id: CheckpointId(7),
        kind,
        job_id: JOB.parse::<JobId>().unwrap(),
        job_name: "job".to_owned(),
        triggered_ms: 1,
        key_hash_version: KEY_HASH_VERSION,
        supersedes: Vec::new(),
        native: None,
        operators: vec![operator],
    }
}

#[test]
fn a_path_is_divided_where_the_store_begins() {
    let chk = format!("{JOB}/chk-7");
    for (path, want) in [
        ("/s/savepoint-1", folder("/s", "savepoint-1")),
        ("/s/savepoint-1/", folder("/s", "savepoint-1")),
        ("/s/savepoint-1/_metadata", folder("/s", "savepoint-1")),
        ("file:///s/a%20b/save", folder("/s/a b", "save")),
        ("/save", folder("/", "save")),
        (&format!("/s/{chk}"), folder("/s", &chk)),
        (&format!("/{chk}"), folder("/", &chk)),
        ("/s/x/chk-7", folder("/s/x", "chk-7")),
        ("s3://bucket/save", folder("s3://bucket", "save")),
        (
            "s3://bucket/a/b/save/_metadata",
            folder("s3://bucket/a/b", "save"),
        ),
        (&format!("s3://bucket/{chk}"), folder("s3://bucket", &chk)),
        (&format!("s3://bucket/a/{chk}/"), folder("s3://bucket/a", &chk)),
    ] {
        assert_eq!(SnapshotFolder::of_path(path).unwrap(), want, "{path}");
    }
    assert_eq!(folder("/", "save").path(), "/save");
    for bad in [
        "/",
        "",
        "s3://bucket",
        "s3://bucket/_metadata",
        "s3://",
        "/_metadata",
    ] {
        assert!(
            matches!(
                SnapshotFolder::of_path(bad),
                Err(StorageError::BadLocation { .. })
            ),
            "{bad}"
        );
    }
}

#[test]
fn what_is_missing_or_damaged_is_told_with_its_whole_path() {
    let dir = tempfile::tempdir().unwrap();
    let place = folder(dir.path().to_str().unwrap(), "savepoint-1");
    let error = place.read(&BlobStores::local()).unwrap_err().to_string();
    assert!(
        error.contains(&place.path()) && error.contains("no checkpoint or savepoint"),
        "{error}"
    );
    write_metadata(
        &*place.open(&BlobStores::local()).unwrap(),
        &place.folder,
        &metadata(SnapshotKind::Savepoint, &["savepoint-1/a"]),
    )
    .unwrap();
    assert_eq!(
        place.read(&BlobStores::local()).unwrap().checkpoint_id,
        CheckpointId(7)
    );
    let file = dir.path().join("savepoint-1/_metadata");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = place.read(&BlobStores::local()).unwrap_err().to_string();
    assert!(
        error.contains(file.to_str().unwrap()) && error.contains("damaged at byte"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_that_was_moved_away_from_its_files_is_refused_and_one_beside_them_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let names = metadata(SnapshotKind::Checkpoint, &[&format!("{JOB}/shared/a")]);
    let beside = folder(root, &format!("{JOB}/chk-7"));
    let moved = folder(root, "moved");
    for place in [&beside, &moved] {
        write_metadata(&*place.open(&BlobStores::local()).unwrap(), &place.folder, &names).unwrap();
    }
    beside.read(&BlobStores::local()).unwrap();
    let error = moved.read(&BlobStores::local()).unwrap_err().to_string();
    assert!(
        error.contains("shared/a") && error.contains("was moved"),
        "{error}"
    );
}

#[test]
fn only_what_the_metadata_name_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let place = folder(dir.path().to_str().unwrap(), "save");
    let store = place.open(&BlobStores::local()).unwrap();
    for file in ["save/a", "save/mine.txt", "beside"] {
        store.put_new(file, b"x").unwrap();
    }
    place.delete(&BlobStores::local()).unwrap();
    assert_eq!(
        store.list("").unwrap().len(),
        3,
        "without metadata it is no snapshot"
    );
    let names = metadata(SnapshotKind::Checkpoint, &["save/a", "beside"]);
    write_metadata(&*store, "save", &names).unwrap();
    place.delete(&BlobStores::local()).unwrap();
    assert_eq!(store.list("").unwrap(), ["beside", "save/mine.txt"]);
    store.delete("save/mine.txt").unwrap();
    write_metadata(&*store, "save", &metadata(SnapshotKind::Savepoint, &["save/b"])).unwrap();
    place.delete(&BlobStores::local()).unwrap();
    assert!(!dir.path().join("save").exists());
}
