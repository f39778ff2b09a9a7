//! Records come back, and any damage is noticed.

use super::*;
use crate::store::MemoryStore;

fn record() -> StopRecord {
    StopRecord {
        format_version: VERSION,
        job_id: JobId::from_u128(7),
        job_name: "wörds".to_owned(),
        checkpoint_id: CheckpointId(9),
        triggered_ms: 1_700_000_000_123,
        savepoint: SnapshotFolder {
            store: "/savepoints".to_owned(),
            folder: "savepoint-1".to_owned(),
        },
        supersedes: vec!["other/chk-3".to_owned()],
    }
}

#[test]
fn a_record_comes_back_and_is_written_once() {
    let store = MemoryStore::new();
    assert_eq!(StopRecord::read(&store, "job/chk-9").unwrap(), None);
    record().write(&store, "job/chk-9").unwrap();
    assert_eq!(store.list("").unwrap(), ["job/chk-9/_savepoint"]);
    assert_eq!(StopRecord::read(&store, "job/chk-9").unwrap(), Some(record()));
    assert!(matches!(
        record().write(&store, "job/chk-9"),
        Err(StorageError::AlreadyExists { .. })
    ));
}

#[test]
fn a_damaged_record_and_one_of_another_version_are_refused() {
    let store = MemoryStore::new();
    record().write(&store, "a").unwrap();
    let sound = store.get("a/_savepoint").unwrap();
    // Bytes 9 to 15 of the header are under its checksum; readers only do not use them.
    for at in 0..sound.len() {
        let store = MemoryStore::new();
        let mut bytes = sound.clone();
        bytes[at] ^= 4;
        store.put_new("a/_savepoint", &bytes).unwrap();
        let error = StopRecord::read(&store, "a").unwrap_err();
        assert!(error.to_string().contains("a/_savepoint"), "{at}: {error}");
    }
    let store = MemoryStore::new();
    let all = record().superseding(vec![String::new()]);
    all.write(&store, "a").unwrap();
    let text = StopRecord::read(&store, "a").unwrap_err().to_string();
    assert!(text.contains("it supersedes a checkpoint"), "{text}");
    let store = MemoryStore::new();
    let later = StopRecord {
        format_version: 2,
        ..record()
    };
    later.write(&store, "a").unwrap();
    let text = StopRecord::read(&store, "a").unwrap_err().to_string();
    assert!(
        text.contains("version 2") && text.contains("a/_savepoint"),
        "{text}"
    );
}
