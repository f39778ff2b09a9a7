//! Damaged files are refused with path and offset, whatever was changed and whoever reads them.
#![allow(clippy::unwrap_used, reason = "a test stops at what it cannot do")]

use hurtig_core::ids::{CheckpointId, JobId, OperatorId};
use hurtig_core::key::KEY_HASH_VERSION;
use hurtig_state::{KeyedEntry, OperatorSection, OperatorSnapshot, Redistribution};
use hurtig_storage::{
    BlobStore, CheckpointMetadata, Compression, METADATA_FORMAT_VERSION, MemoryStore, OperatorStates,
    SnapshotKind, StateHandle, StorageError, SubtaskState, latest_checkpoint, read_metadata, read_state,
    read_state_groups, verify_file, write_metadata, write_state,
};
use std::ops::Range;

const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

/// Lengths from `docs/formats.md`.
const HEADER: usize = 24;
const BLOCK_HEADER: usize = 20;

/// A state file with two snapshots and all kinds of sections; `values` bytes a value, of which the
/// first are hard to compress.
fn snapshots(entries: u16, values: usize) -> Vec<OperatorSnapshot> {
    let value = |seed: u16| {
        let noisy = (0..values / 4).map(|i| (i.wrapping_mul(i + seed as usize + 1) % 253) as u8);
        noisy.chain(std::iter::repeat_n(7, values - values / 4)).collect()
    };
    let entry = |group: u16| KeyedEntry {
        group,
        key: group.to_be_bytes().to_vec(),
        namespace: b"w".to_vec(),
        value: value(group),
    };
    let mut first = OperatorSnapshot::default();
    first.put_keyed("sums", (0..entries).map(entry).collect());
    let mut second = OperatorSnapshot::default();
    for (name, redistribution) in [
        ("split", Redistribution::Split),
        ("union", Redistribution::Union),
        ("broadcast", Redistribution::Broadcast),
    ] {
        let entries = vec![b"one".to_vec(), b"twelve twelve".to_vec()];
        let section = OperatorSection {
            redistribution,
            entries,
        };
        second.operator.insert(name.to_owned(), section);
    }
    vec![first, second]
}

struct StateFile {
    store: MemoryStore,
    handle: StateHandle,
    bytes: Vec<u8>,
    snapshots: Vec<OperatorSnapshot>,
}

fn state_file(snapshots: Vec<OperatorSnapshot>, compression: Compression) -> StateFile {
    let store = MemoryStore::new();
    let handle = write_state(&store, "job/chk-1/file", &snapshots, compression)
        .unwrap()
        .unwrap();
    let bytes = store.get(&handle.path).unwrap();
    StateFile {
        store,
        handle,
        bytes,
        snapshots,
    }
}

fn replace(store: &MemoryStore, path: &str, bytes: &[u8]) {
    store.delete(path).unwrap();
    store.put_new(path, bytes).unwrap();
}

/// Where the header, each block and what follows begin: the walk that `docs/formats.md` describes.
fn pieces(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut starts) = (HEADER, vec![0]);
    while at < bytes.len() {
        starts.push(at);
        let stored = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        at += BLOCK_HEADER + stored as usize;
    }
    assert_eq!(at, bytes.len());
    starts
}

/// The offset that a change of the byte at `at` is to be reported with.
fn piece_of(starts: &[usize], at: usize) -> u64 {
    // The format version has an error of its own: it may be that of a newer build.
    if at == 7 {
        return 7;
    }
    *starts.iter().rev().find(|start| **start <= at).unwrap() as u64
}

/// The offset of the error, which must name the path and show both.
fn refused<T: std::fmt::Debug>(result: Result<T, StorageError>, path: &str, what: &str) -> u64 {
    match result {
        Err(StorageError::Corrupt {
            path: named,
            offset,
            problem,
        }) if named == path => {
            let text = StorageError::Corrupt {
                path: named,
                offset,
                problem,
            }
            .to_string();
            let shown = text.contains(&format!("'{path}'")) && text.contains(&format!("byte {offset}"));
            assert!(shown, "{what}: {text}");
            offset
        }
        other => panic!("{what}: {other:?}"),
    }
}

impl StateFile {
    /// What each reader says about the file with other bytes: the offsets of their errors.
    fn offsets(&self, bytes: &[u8], what: &str) -> [u64; 3] {
        replace(&self.store, &self.handle.path, bytes);
        let path = &self.handle.path;
        [
            refused(verify_file(&self.store, path), path, what),
            refused(read_state(&self.store, &self.handle), path, what),
            refused(
                read_state_groups(&self.store, &self.handle, 0..u16::MAX),
                path,
                what,
            ),
        ]
    }

    fn flipped(&self, at: usize, bit: u8) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[at] ^= 1 << bit;
        bytes
    }
}

fn codec_of_first_block(bytes: &[u8]) -> u8 {
    bytes[HEADER + 1]
}

#[test]
fn any_flipped_bit_of_a_state_file_is_refused_at_its_block() {
    for (code, compression) in ALL.into_iter().enumerate() {
        let file = state_file(snapshots(5, 200), compression);
        assert_eq!(
            codec_of_first_block(&file.bytes),
            code as u8,
            "the sample must be compressed"
        );
        let starts = pieces(&file.bytes);
        for at in 0..file.bytes.len() {
            for bit in 0..8 {
                let what = format!("{compression:?}: bit {bit} of byte {at}");
                let expected = piece_of(&starts, at);
                assert_eq!(
                    file.offsets(&file.flipped(at, bit), &what),
                    [expected; 3],
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn any_flipped_byte_of_a_long_file_is_refused_at_its_block() {
    for compression in ALL {
        let file = state_file(snapshots(100, 4_000), compression);
        let starts = pieces(&file.bytes);
        assert!(starts.len() > 4, "{compression:?}: {starts:?}");
        let near = |at: &usize| starts.iter().any(|start| at.abs_diff(*start) < 30);
        let every = (0..file.bytes.len()).filter(|at| near(at) || at % 1_009 == 0);
        for at in every {
            let what = format!("{compression:?}: byte {at}");
            let changed = file.flipped(at, (at % 8) as u8);
            assert_eq!(
                file.offsets(&changed, &what),
                [piece_of(&starts, at); 3],
                "{what}"
            );
        }
    }
}

#[test]
fn a_state_file_of_any_other_length_is_refused() {
    for compression in ALL {
        let file = state_file(snapshots(5, 200), compression);
        for length in 0..file.bytes.len() {
            let what = format!("{compression:?}: cut to {length}");
            let [by_blocks, whole, groups] = file.offsets(&file.bytes[..length], &what);
            assert_eq!([whole, groups], [length as u64; 2], "{what}");
            assert!(by_blocks <= length as u64, "{what}: {by_blocks}");
        }
        for extra in [&[0][..], &[0; 44], &file.bytes[HEADER..], &file.bytes] {
            let what = format!("{compression:?}: {} bytes more", extra.len());
            let longer = [&file.bytes[..], extra].concat();
            assert_eq!(
                file.offsets(&longer, &what),
                [file.bytes.len() as u64; 3],
                "{what}"
            );
        }
    }
}

#[test]
fn any_missing_byte_within_a_state_file_is_refused() {
    let file = state_file(snapshots(5, 200), Compression::Lz4);
    for at in 0..file.bytes.len() {
        let mut bytes = file.bytes.clone();
        bytes.remove(at);
        for offset in file.offsets(&bytes, &format!("without byte {at}")) {
            assert!(offset < file.bytes.len() as u64);
        }
        bytes.insert(at, file.bytes[at].wrapping_add(1));
        file.offsets(&bytes, &format!("byte {at} another"));
    }
}

#[test]
fn blocks_that_change_places_are_refused() {
    let file = state_file(snapshots(100, 4_000), Compression::None);
    let starts = pieces(&file.bytes);
    let block = |i: usize| &file.bytes[starts[i]..starts[i + 1]];
    assert_eq!(block(1).len(), block(2).len(), "both are full");
    let swapped = [
        &file.bytes[..starts[1]],
        block(2),
        block(1),
        &file.bytes[starts[3]..],
    ]
    .concat();
    assert_eq!(file.offsets(&swapped, "swapped"), [HEADER as u64; 3]);
    let doubled = [&file.bytes[..starts[2]], block(1), &file.bytes[starts[3]..]].concat();
    assert_eq!(file.offsets(&doubled, "doubled"), [starts[2] as u64; 3]);
    let shorter = [&file.bytes[..starts[1]], &file.bytes[starts[2]..]].concat();
    file.offsets(&shorter, "without the first block");
}

#[test]
fn blocks_of_another_file_are_refused() {
    let file = state_file(snapshots(100, 4_000), Compression::None);
    let mut others = file.snapshots.clone();
    let entries = others[0].keyed.get_mut("sums").unwrap();
    entries.iter_mut().for_each(|entry| entry.value.reverse());
    let other = state_file(others, Compression::None);
    let starts = pieces(&file.bytes);
    assert_eq!(starts, pieces(&other.bytes));
    // The same place, the same length, and its checksum is right: only the whole file's is not.
    for piece in 1..starts.len() - 2 {
        let mut mixed = file.bytes.clone();
        let range = starts[piece]..starts[piece + 1];
        mixed[range.clone()].copy_from_slice(&other.bytes[range]);
        assert_ne!(mixed, file.bytes);
        replace(&file.store, &file.handle.path, &mixed);
        let end = starts[starts.len() - 1] as u64;
        let path = &file.handle.path;
        assert_eq!(refused(verify_file(&file.store, path), path, "mixed"), end);
        assert_eq!(refused(read_state(&file.store, &file.handle), path, "mixed"), end);
    }
    // All of the other file is not the one that the handle names.
    replace(&file.store, &file.handle.path, &other.bytes);
    assert!(verify_file(&file.store, &file.handle.path).is_ok());
    for result in [
        read_state(&file.store, &file.handle),
        read_state_groups(&file.store, &file.handle, 0..u16::MAX),
    ] {
        refused(result, &file.handle.path, "another file");
    }
}

#[test]
fn a_read_of_some_groups_is_right_or_refused() {
    let file = state_file(snapshots(100, 4_000), Compression::Lz4);
    let starts = pieces(&file.bytes);
    let some: Range<u16> = 40..44;
    let expected: Vec<_> = file
        .snapshots
        .iter()
        .map(|s| s.for_key_groups(some.clone()))
        .collect();
    let mut sound = 0;
    for piece in &starts {
        replace(&file.store, &file.handle.path, &file.flipped(piece + 15, 3));
        match read_state_groups(&file.store, &file.handle, some.clone()) {
            Ok(mut found) => {
                found.iter_mut().for_each(|one| one.decode_sections().unwrap());
                assert_eq!(found, expected);
                sound += 1;
            }
            result => assert_eq!(refused(result, &file.handle.path, "some groups"), *piece as u64),
        }
    }
    assert!(
        (1..starts.len() - 3).contains(&sound),
        "{sound} of {}",
        starts.len()
    );
}

fn metadata() -> CheckpointMetadata {
    let handle = StateHandle {
        path: "job/chk-3/state".into(),
        bytes: 1_234,
        checksum: 0x0123_4567_89ab_cdef,
        shared: Vec::new(),
    };
    let subtask = SubtaskState {
        handle: Some(handle),
        index_in_file: 2,
        finished: false,
    };
    let operator = OperatorStates {
        operator: OperatorId::from_u128(77),
        uid: Some("counter".into()),
        name: "Count words".into(),
        parallelism: 4,
        max_parallelism: 128,
        subtasks: [(3, subtask)].into(),
        coordinator: Some(vec![0, 255, 1]),
        states: [].into(),
    };
    CheckpointMetadata {
        format_version: METADATA_FORMAT_VERSION,
        checkpoint_id: CheckpointId(3),
        kind: SnapshotKind::Checkpoint,
        job_id: JobId::from_u128(5),
        job_name: "words".into(),
        triggered_ms: 1_700_000_000_000,
        key_hash_version: KEY_HASH_VERSION,
        supersedes: vec!["old/chk-9".into()],
        native: None,
        operators: vec![operator],
    }
}

struct MetadataFile {
    store: MemoryStore,
    dir: String,
    path: String,
    bytes: Vec<u8>,
}

fn metadata_file() -> MetadataFile {
    let store = MemoryStore::new();
    let dir = format!("{}/chk-3", JobId::from_u128(5));
    write_metadata(&store, &dir, &metadata()).unwrap();
    let path = format!("{dir}/_metadata");
    let bytes = store.get(&path).unwrap();
    MetadataFile {
        store,
        dir,
        path,
        bytes,
    }
}

impl MetadataFile {
    fn offsets(&self, bytes: &[u8], what: &str) -> [u64; 3] {
        replace(&self.store, &self.path, bytes);
        [
            refused(verify_file(&self.store, &self.path), &self.path, what),
            refused(read_metadata(&self.store, &self.dir), &self.path, what),
            refused(latest_checkpoint(&self.store, None, None), &self.path, what),
        ]
    }
}

#[test]
fn any_flipped_bit_of_metadata_is_refused_at_its_block() {
    let file = metadata_file();
    let starts = pieces(&file.bytes);
    for at in 0..file.bytes.len() {
        for bit in 0..8 {
            let mut bytes = file.bytes.clone();
            bytes[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at}");
            assert_eq!(file.offsets(&bytes, &what), [piece_of(&starts, at); 3], "{what}");
        }
    }
}

#[test]
fn metadata_of_any_other_length_are_refused() {
    let file = metadata_file();
    for length in 0..file.bytes.len() {
        let what = format!("cut to {length}");
        for offset in file.offsets(&file.bytes[..length], &what) {
            assert!(offset <= length as u64, "{what}: {offset}");
        }
        let mut missing = file.bytes.clone();
        missing.remove(length);
        file.offsets(&missing, &format!("without byte {length}"));
    }
    for extra in [&[0][..], &[0; 44], &file.bytes] {
        let longer = [&file.bytes[..], extra].concat();
        assert_eq!(file.offsets(&longer, "longer"), [file.bytes.len() as u64; 3]);
    }
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let state = state_file(snapshots(5, 200), Compression::Lz4);
    let file = metadata_file();
    replace(&file.store, &file.path, &state.bytes);
    let text = read_metadata(&file.store, &file.dir).unwrap_err().to_string();
    assert!(
        text.contains(&file.path) && text.contains("it is a state file, expected a metadata file"),
        "{text}"
    );
    for bytes in [
        &b"\x89PNG\r\n\x1a\n and what follows it"[..],
        b"",
        b"{}",
        &[0; 100],
    ] {
        assert_eq!(file.offsets(bytes, "no file of ours"), [0; 3]);
    }
}
