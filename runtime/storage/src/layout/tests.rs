//! Names, and which checkpoint is the latest.

use super::*;
use crate::metadata::CheckpointMetadata;
use crate::metadata::{METADATA_FORMAT_VERSION, SnapshotKind, write_metadata};
use crate::store::MemoryStore;
use hurtig_core::ids::{AttemptNumber, SubtaskId, VertexId};
use hurtig_core::key::KEY_HASH_VERSION;

const A: JobId = JobId::from_u128(0xa0);
const B: JobId = JobId::from_u128(0xb0);

fn metadata(job: JobId, id: u64, name: &str, triggered_ms: u64) -> CheckpointMetadata {
    CheckpointMetadata {
        format_version: METADATA_FORMAT_VERSION,
        checkpoint_id: CheckpointId(id),
        kind: SnapshotKind::Checkpoint,
        job_id: job,
        job_name: name.to_owned(),
        triggered_ms,
        key_hash_version: KEY_HASH_VERSION,
        supersedes: Vec::new(),
        native: None,
        operators: Vec::new(),
    }
}

fn dir(job: JobId, id: u64) -> String {
    CheckpointLayout::new(job).checkpoint(CheckpointId(id))
}

fn complete(store: &MemoryStore, job: JobId, id: u64, name: &str, triggered_ms: u64) {
    write_metadata(store, &dir(job, id), &metadata(job, id, name, triggered_ms)).unwrap();
}

fn found(job: JobId, id: u64) -> Option<(CheckpointId, String)> {
    Some((CheckpointId(id), dir(job, id)))
}

#[test]
fn names_are_those_of_the_book() {
    let layout = CheckpointLayout::new(JobId::from_u128(0x0123_4567_89ab_cdef_0000_0000_0000_00ff));
    let root = "0123456789abcdef00000000000000ff";
    assert_eq!(layout.root(), root);
    assert_eq!(layout.shared(), format!("{root}/shared"));
    assert_eq!(layout.task_owned(), format!("{root}/taskowned"));
    assert_eq!(layout.checkpoint(CheckpointId(42)), format!("{root}/chk-42"));
    assert_eq!(layout.savepoint(0xabc), "savepoint-012345-0000000000000abc");
    let execution = ExecutionId {
        subtask: SubtaskId {
            vertex: VertexId::from_u128(7),
            index: 3,
        },
        attempt: AttemptNumber(2),
    };
    let file = CheckpointLayout::state_file("d", execution, 0xff);
    assert_eq!(file, "d/00000000000000000000000000000007-3-2-00000000000000ff");
    for path in [
        file,
        layout.savepoint(u64::MAX),
        layout.checkpoint(CheckpointId(u64::MAX)),
    ] {
        crate::path::check_path(&path).unwrap();
    }
}

#[test]
fn within_a_job_the_highest_number_is_the_latest() {
    let store = MemoryStore::new();
    assert_eq!(latest_checkpoint(&store, None, None).unwrap(), None);
    assert_eq!(latest_checkpoint(&store, Some(A), None).unwrap(), None);
    // By number, not by name; and whatever the clocks said.
    for (id, ms) in [(9, 900), (10, 100), (2, 800)] {
        complete(&store, A, id, "words", ms);
    }
    complete(&store, B, 99, "words", 1_000);
    assert_eq!(latest_checkpoint(&store, Some(A), None).unwrap(), found(A, 10));
    assert_eq!(latest_checkpoint(&store, Some(B), None).unwrap(), found(B, 99));
    assert_eq!(
        latest_checkpoint(&store, Some(JobId::from_u128(1)), None).unwrap(),
        None
    );
}

#[test]
fn between_jobs_the_last_triggered_is_the_latest() {
    let store = MemoryStore::new();
    complete(&store, A, 50, "words", 100);
    complete(&store, B, 3, "words", 200);
    assert_eq!(latest_checkpoint(&store, None, None).unwrap(), found(B, 3));
    let store = MemoryStore::new();
    complete(&store, A, 50, "words", 300);
    complete(&store, B, 3, "words", 200);
    assert_eq!(latest_checkpoint(&store, None, None).unwrap(), found(A, 50));
}

#[test]
fn a_name_leaves_jobs_of_other_names_out() {
    let store = MemoryStore::new();
    complete(&store, A, 1, "words", 100);
    complete(&store, B, 2, "sums", 200);
    assert_eq!(
        latest_checkpoint(&store, None, Some("words")).unwrap(),
        found(A, 1)
    );
    assert_eq!(
        latest_checkpoint(&store, None, Some("sums")).unwrap(),
        found(B, 2)
    );
    assert_eq!(latest_checkpoint(&store, None, Some("word")).unwrap(), None);
    assert_eq!(latest_checkpoint(&store, Some(A), Some("sums")).unwrap(), None);
}

#[test]
fn only_what_was_completed_counts() {
    let store = MemoryStore::new();
    complete(&store, A, 4, "words", 100);
    let root = A.to_string();
    let others = [
        dir(A, 5) + "/state",
        dir(A, 6) + "/_metadata.bak",
        dir(A, 7) + "/below/_metadata",
        format!("{root}/chk-07/_metadata"),
        format!("{root}/chk-+8/_metadata"),
        format!("{root}/chk-/_metadata"),
        format!("{root}/chk-99999999999999999999999/_metadata"),
        format!("{root}/shared/_metadata"),
        format!("{}/chk-9/_metadata", root.to_uppercase()),
        format!("below/{root}/chk-9/_metadata"),
        "_metadata".into(),
        "savepoint-000000-0000000000000001/_metadata".into(),
    ];
    for path in &others {
        store.put_new(path, b"not ours").unwrap();
    }
    for job in [None, Some(A)] {
        assert_eq!(latest_checkpoint(&store, job, None).unwrap(), found(A, 4));
    }
}

#[test]
fn a_damaged_latest_is_an_error_not_a_reason_to_go_back() {
    let store = MemoryStore::new();
    complete(&store, A, 1, "words", 100);
    store.put_new(&(dir(A, 2) + "/_metadata"), b"").unwrap();
    for job in [None, Some(A)] {
        let error = latest_checkpoint(&store, job, None).unwrap_err();
        let named = matches!(&error, StorageError::Corrupt { path, offset: 0, .. } if path.contains("chk-2"));
        assert!(named, "{error:?}");
    }
    // What lies before the latest is not read.
    complete(&store, A, 3, "words", 50);
    assert_eq!(latest_checkpoint(&store, Some(A), None).unwrap(), found(A, 3));
}

#[test]
fn a_checkpoint_under_the_name_of_another_is_an_error() {
    for moved in [metadata(A, 8, "words", 1), metadata(B, 9, "words", 1)] {
        let store = MemoryStore::new();
        write_metadata(&store, &dir(A, 9), &moved).unwrap();
        let text = latest_checkpoint(&store, None, None).unwrap_err().to_string();
        let (id, job) = (moved.checkpoint_id, moved.job_id);
        assert!(text.contains(&format!("checkpoint {id} of job {job}")), "{text}");
        assert!(text.contains(&dir(A, 9)), "{text}");
    }
}

#[test]
fn a_job_that_stopped_with_a_savepoint_has_it_as_its_latest() {
    let store = MemoryStore::new();
    complete(&store, A, 4, "words", 100);
    let savepoint = crate::folder::SnapshotFolder {
        store: "/elsewhere".to_owned(),
        folder: "savepoint-1".to_owned(),
    };
    let stop = |job, id, name: &str| StopRecord::of(&metadata(job, id, name, 200), savepoint.clone());
    stop(A, 5, "words").write(&store, &dir(A, 5)).unwrap();
    stop(B, 1, "sums").write(&store, &dir(B, 1)).unwrap();
    assert_eq!(
        latest_checkpoint(&store, None, Some("words")).unwrap(),
        found(A, 5)
    );
    assert_eq!(
        latest_checkpoint(&store, None, Some("sums")).unwrap(),
        found(B, 1)
    );
    stop(B, 1, "sums").write(&store, &dir(B, 2)).unwrap();
    let text = latest_checkpoint(&store, None, None).unwrap_err().to_string();
    assert!(
        text.contains("checkpoint 1 of job") && text.contains("_savepoint"),
        "{text}"
    );
}
