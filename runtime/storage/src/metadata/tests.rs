//! Metadata come back with every field, wherever their directory lies, or are refused with a remedy.

use super::*;
use crate::store::MemoryStore;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::Serialize;

const DIR: &str = "job/chk-7";

fn handle(path: &str) -> StateHandle {
    StateHandle {
        path: path.to_owned(),
        bytes: u64::MAX,
        checksum: 0xfedc_ba98_7654_3210,
        shared: Vec::new(),
    }
}

fn subtask(path: Option<&str>) -> SubtaskState {
    SubtaskState {
        handle: path.map(handle),
        index_in_file: 3,
        finished: path.is_none(),
    }
}

/// Metadata in which every field has a value that it does not have by default.
fn full() -> CheckpointMetadata {
    let keyed = OperatorStates {
        operator: OperatorId::from_u128(0x0123_4567_89ab_cdef),
        uid: Some("größe".into()),
        name: "Sum -> Map".into(),
        parallelism: 3,
        max_parallelism: 32_768,
        subtasks: [
            (0, subtask(Some("job/chk-7/a"))),
            (1, subtask(None)),
            (2, subtask(Some("job/shared/b"))),
        ]
        .into(),
        coordinator: Some(vec![0, 127, 128, 255]),
        states: [].into(),
    };
    let source = OperatorStates {
        operator: OperatorId::from_u128(u128::MAX),
        uid: None,
        name: String::new(),
        parallelism: 1,
        max_parallelism: 1,
        subtasks: BTreeMap::new(),
        coordinator: None,
        states: [].into(),
    };
    CheckpointMetadata {
        format_version: METADATA_FORMAT_VERSION,
        checkpoint_id: CheckpointId(u64::MAX),
        kind: SnapshotKind::Checkpoint,
        job_id: JobId::from_u128(u128::MAX - 1),
        job_name: "words \"and\" more\n".into(),
        triggered_ms: 1_700_000_000_123,
        key_hash_version: KEY_HASH_VERSION,
        supersedes: vec!["older/chk-9".into(), "oldest/chk-2".into()],
        native: None,
        operators: vec![keyed, source],
    }
}

#[test]
fn every_field_comes_back() {
    let store = MemoryStore::new();
    write_metadata(&store, DIR, &full()).unwrap();
    assert_eq!(store.list("").unwrap(), ["job/chk-7/_metadata"]);
    assert_eq!(read_metadata(&store, DIR).unwrap(), full());
    let mut savepoint = full();
    savepoint.kind = SnapshotKind::Savepoint;
    savepoint.operators[0].subtasks.remove(&2);
    savepoint.operators[1].coordinator = Some(Vec::new());
    savepoint.operators[0].subtasks.insert(0, subtask(Some("sp/a")));
    write_metadata(&store, "sp", &savepoint).unwrap();
    assert_eq!(read_metadata(&store, "sp").unwrap(), savepoint);
}

#[test]
fn a_checkpoint_has_metadata_once() {
    let store = MemoryStore::new();
    write_metadata(&store, DIR, &full()).unwrap();
    let mut other = full();
    other.operators.clear();
    let error = write_metadata(&store, DIR, &other).unwrap_err();
    assert!(matches!(error, StorageError::AlreadyExists { .. }));
    assert_eq!(read_metadata(&store, DIR).unwrap(), full());
    let error = read_metadata(&store, "job/chk-8").unwrap_err();
    assert!(matches!(&error, StorageError::NotFound { path } if path == "job/chk-8/_metadata"));
}

#[test]
fn own_files_move_with_their_directory() {
    let store = MemoryStore::new();
    write_metadata(&store, DIR, &full()).unwrap();
    let bytes = store.get("job/chk-7/_metadata").unwrap();
    for dir in ["elsewhere", "a/b/c", ""] {
        store.put_new(&join(dir, METADATA_NAME), &bytes).unwrap();
        let mut expected = full();
        for (subtask, path) in [(0, join(dir, "a")), (2, "job/shared/b".into())] {
            let subtask = expected.operators[0].subtasks.get_mut(&subtask).unwrap();
            subtask.handle.as_mut().unwrap().path = path;
        }
        assert_eq!(read_metadata(&store, dir).unwrap(), expected, "'{dir}'");
    }
    // A place that makes a path too long names the metadata, not only the path.
    let mut long = full();
    long.operators[0].subtasks = [(0, subtask(Some("job/chk-7/longer-than-the-metadata")))].into();
    let file = FileWriter::new(FileKind::Metadata, Compression::None);
    let image = metadata_image(DIR, &long, file).unwrap();
    let dir = ["deep"; 202].join("/");
    store.put_new(&join(&dir, METADATA_NAME), &image.bytes).unwrap();
    let error = read_metadata(&store, &dir).unwrap_err();
    assert!(
        matches!(&error, StorageError::Incompatible { path, .. } if path.ends_with(METADATA_NAME)),
        "{error}"
    );
}

#[test]
fn a_savepoint_is_complete_in_its_directory() {
    let store = MemoryStore::new();
    let mut savepoint = full();
    savepoint.kind = SnapshotKind::Savepoint;
    let error = write_metadata(&store, DIR, &savepoint).unwrap_err();
    assert!(error.to_string().contains("'job/shared/b'"), "{error}");
    assert!(store.list("").unwrap().is_empty());
}

#[test]
fn a_native_savepoint_names_its_files_wherever_it_lies() {
    let store = MemoryStore::new();
    let mut savepoint = full();
    (savepoint.kind, savepoint.native) = (SnapshotKind::Savepoint, Some("rocksdb".into()));
    let path = |dir: &str, name: &str| format!("{dir}/{name}");
    for subtask in savepoint.operators[0].subtasks.values_mut() {
        let Some(handle) = &mut subtask.handle else {
            continue;
        };
        handle.path = path(DIR, "state");
        handle.shared = vec![path(DIR, "7-a"), path(DIR, "7-b")];
    }
    write_metadata(&store, DIR, &savepoint).unwrap();
    assert_eq!(read_metadata(&store, DIR).unwrap(), savepoint);
    // Somebody moves it.
    let bytes = store.get(&path(DIR, METADATA_NAME)).unwrap();
    store.put_new(&path("elsewhere", METADATA_NAME), &bytes).unwrap();
    let moved = read_metadata(&store, "elsewhere").unwrap();
    let shared: Vec<&str> = moved.shared_files().take(2).collect();
    assert_eq!(shared, ["elsewhere/7-a", "elsewhere/7-b"]);
    // It names nothing of others.
    let handle = savepoint.operators[0]
        .subtasks
        .values_mut()
        .find_map(|s| s.handle.as_mut());
    handle.unwrap().shared[1] = "job/shared/7-b".into();
    let error = write_metadata(&MemoryStore::new(), DIR, &savepoint).unwrap_err();
    assert!(error.to_string().contains("'job/shared/7-b'"), "{error}");
}

/// Why metadata with a change are not written.
fn not_written(change: impl Fn(&mut CheckpointMetadata)) -> String {
    let store = MemoryStore::new();
    let mut metadata = full();
    change(&mut metadata);
    let text = write_metadata(&store, DIR, &metadata).unwrap_err().to_string();
    assert!(store.list("").unwrap().is_empty());
    text
}

#[test]
fn metadata_that_make_no_sense_are_not_written() {
    for (parallelism, max, why) in [
        (0, 128, "parallelism 0"),
        (3, 2, "parallelism 3 of at most 2"),
        (3, 32_769, "at most 32769"),
        (2, 128, "a subtask 2 and parallelism 2"),
    ] {
        let text = not_written(|m| {
            m.operators[0].parallelism = parallelism;
            m.operators[0].max_parallelism = max;
        });
        assert!(
            text.contains(why) && text.contains("'Sum -> Map'"),
            "{why}: {text}"
        );
    }
}

#[test]
fn what_no_reader_would_take_is_not_written() {
    let text = not_written(|m| m.format_version += 1);
    assert!(text.contains("metadata format version 3"), "{text}");
    let text = not_written(|m| m.key_hash_version += 1);
    assert!(text.contains("key hash version 2"), "{text}");
    // Whoever looks for an operator's state would find one of two.
    let twice = |m: &mut CheckpointMetadata| {
        let mut again = m.operators[0].clone();
        again.name = "Other".to_owned();
        m.operators.push(again);
    };
    let text = not_written(twice);
    assert!(text.contains("twice, as 'Sum -> Map' and as 'Other'"), "{text}");
    let mut doubled = full();
    twice(&mut doubled);
    assert!(refusal(&rmp_serde::to_vec_named(&doubled).unwrap()).contains("twice"));
}

#[test]
fn paths_that_lead_elsewhere_are_not_written() {
    // Another store's folder is named by its whole path.
    for path in ["", "../other", "/", "/../etc", "/a/./b", "./a", "a/../b"] {
        let text = not_written(|m| m.supersedes.push(path.to_owned()));
        let shown = path.strip_prefix('/').unwrap_or(path);
        assert!(text.contains(&format!("'{shown}'")), "{text}");
    }
    for path in ["", "../other", "/etc", "./a", "a/../b"] {
        let text = not_written(|m| {
            m.operators[0].subtasks.insert(0, subtask(Some(path)));
        });
        assert!(text.contains(&format!("'{path}'")), "{text}");
    }
}

/// Puts a document into a sound file, as another build may have written it.
fn put_document(store: &MemoryStore, document: &[u8]) {
    let mut file = FileWriter::new(FileKind::Metadata, Compression::None);
    file.write(document);
    store
        .put_new("job/chk-7/_metadata", &file.finish().bytes)
        .unwrap();
}

fn refusal(document: &[u8]) -> String {
    let store = MemoryStore::new();
    put_document(&store, document);
    let error = read_metadata(&store, DIR).unwrap_err();
    assert!(matches!(&error, StorageError::Incompatible { path, .. } if path == "job/chk-7/_metadata"));
    error.to_string()
}

/// What a version to come may write: another shape, and the versions.
#[derive(Serialize)]
struct ToCome {
    format_version: u32,
    key_hash_version: u32,
    everything: Vec<String>,
}

#[test]
fn other_versions_are_refused_with_a_remedy() {
    for (format_version, key_hash_version, what) in [
        (3, KEY_HASH_VERSION, "metadata format version 3"),
        (0, KEY_HASH_VERSION, "metadata format version 0"),
        (
            METADATA_FORMAT_VERSION,
            KEY_HASH_VERSION + 1,
            "key hash version 2",
        ),
    ] {
        let document = ToCome {
            format_version,
            key_hash_version,
            everything: vec!["is different".into()],
        };
        let text = refusal(&rmp_serde::to_vec_named(&document).unwrap());
        let known = if what.starts_with("key") {
            "knows 1 only"
        } else {
            "knows 1 to 2"
        };
        assert!(text.contains(what) && text.contains(known), "{text}");
        assert!(
            text.contains("restore it with the version of Hurtig that wrote it"),
            "{text}"
        );
    }
}

#[test]
fn sound_files_with_another_document_are_refused() {
    let good = rmp_serde::to_vec_named(&full()).unwrap();
    for document in [
        &b""[..],
        b"{}",
        &[0xc1],
        &good[..good.len() - 1],
        &good[..40],
        &[0xdf, 255, 255, 255, 255],
    ] {
        refusal(document);
    }
    let mut wild = full();
    wild.operators[0].parallelism = 40_000;
    assert!(refusal(&rmp_serde::to_vec_named(&wild).unwrap()).contains("'Sum -> Map'"));
    let mut greedy = full();
    greedy.supersedes.push(String::new());
    assert!(refusal(&rmp_serde::to_vec_named(&greedy).unwrap()).contains("supersedes"));
    let mut outside = full();
    outside.operators[0]
        .subtasks
        .insert(0, subtask(Some("./../../etc/passwd")));
    assert!(refusal(&rmp_serde::to_vec_named(&outside).unwrap()).contains(".."));
}

#[test]
fn fields_that_are_added_later_are_ignored() {
    let store = MemoryStore::new();
    let mut document = rmp_serde::to_vec_named(&full()).unwrap();
    // A map of nine fields becomes one of ten.
    assert_eq!(document[0], 0x89);
    document[0] = 0x8a;
    document.extend_from_slice(&rmp_serde::to_vec_named("later").unwrap());
    document.extend_from_slice(&rmp_serde::to_vec_named(&[1, 2]).unwrap());
    put_document(&store, &document);
    assert_eq!(read_metadata(&store, DIR).unwrap().job_name, full().job_name);
}

#[test]
fn long_metadata_lie_in_several_blocks() {
    let store = MemoryStore::new();
    let mut metadata = full();
    metadata.operators[0].coordinator = Some((0..300_000_u32).map(|i| (i % 251) as u8).collect());
    write_metadata(&store, DIR, &metadata).unwrap();
    assert!(
        crate::format::verify_file(&store, "job/chk-7/_metadata")
            .unwrap()
            .blocks
            > 4
    );
    assert_eq!(read_metadata(&store, DIR).unwrap(), metadata);
}

fn subtasks() -> impl Strategy<Value = BTreeMap<u32, SubtaskState>> {
    let file = prop_oneof![
        "job/chk-7/[a-z]{1,9}(/[a-z_]{1,9})?",
        "job/shared/[a-z]{1,9}",
        "job/chk-77/[a-z]{1,9}",
    ];
    let handle = (file, any::<u64>(), any::<u64>()).prop_map(|(path, bytes, checksum)| StateHandle {
        path,
        bytes,
        checksum,
        shared: Vec::new(),
    });
    let state = (proptest::option::of(handle), any::<u32>(), any::<bool>());
    let state = state.prop_map(|(handle, index_in_file, finished)| SubtaskState {
        handle,
        index_in_file,
        finished,
    });
    btree_map(0..5_u32, state, 0..5)
}

fn operators() -> impl Strategy<Value = Vec<OperatorStates>> {
    let operator = (
        any::<u128>(),
        proptest::option::of(".*"),
        ".*",
        subtasks(),
        proptest::option::of(vec(any::<u8>(), 0..300)),
    );
    let operator = operator.prop_map(|(operator, uid, name, subtasks, coordinator)| OperatorStates {
        operator: OperatorId::from_u128(operator),
        uid,
        name,
        parallelism: 5,
        max_parallelism: 128,
        subtasks,
        coordinator,
        states: [].into(),
    });
    vec(operator, 0..4)
}

proptest! {
    #[test]
    fn any_metadata_come_back(
        operators in operators(),
        (id, job, name, ms) in (any::<u64>(), any::<u128>(), ".*", any::<u64>()),
        supersedes in vec("[a-z]{1,9}/chk-[0-9]{1,4}", 0..3),
    ) {
        let metadata = CheckpointMetadata {
            checkpoint_id: CheckpointId(id),
            job_id: JobId::from_u128(job),
            job_name: name,
            triggered_ms: ms,
            supersedes,
            operators,
            ..full()
        };
        let store = MemoryStore::new();
        write_metadata(&store, DIR, &metadata).unwrap();
        prop_assert_eq!(read_metadata(&store, DIR).unwrap(), metadata);
    }

    #[test]
    fn documents_of_noise_are_refused(document in vec(any::<u8>(), 0..200)) {
        let store = MemoryStore::new();
        put_document(&store, &document);
        prop_assert!(read_metadata(&store, DIR).is_err());
    }
}
