//! Golden files: bytes that the first build of a format version wrote, with the values that they
//! hold. They never change; a new format version adds others beside them.

use crate::format::header::FileKind;
use crate::format::writer::FileWriter;
use crate::format::{Compression, WriterVersion, verify_file};
use crate::metadata::{
    CheckpointMetadata, METADATA_NAME, OperatorStates, SnapshotKind, SubtaskState, metadata_image,
    read_metadata,
};
use crate::state_file::{StateHandle, image_of, read_state, read_state_groups};
use crate::store::{BlobStore, MemoryStore};
use hurtig_core::ids::{CheckpointId, JobId, OperatorId};
use hurtig_state::shape::{
    EnumShape, FieldShape, Payload, Presence, Scalar, Shape, StateShape, StateShapes, StructShape,
    VariantShape,
};
use hurtig_state::{KeyedEntry, OperatorSection, OperatorSnapshot, Redistribution};
use std::path::Path;

const STATE_NONE: &[u8] = include_bytes!("../tests/golden/state-none.bin");
const STATE_LZ4: &[u8] = include_bytes!("../tests/golden/state-lz4.bin");
const STATE_ZSTD: &[u8] = include_bytes!("../tests/golden/state-zstd.bin");
/// Of metadata 1.
const METADATA_1: &[u8] = include_bytes!("../tests/golden/metadata.bin");
/// Of metadata 2.
const METADATA_2: &[u8] = include_bytes!("../tests/golden/metadata-2.bin");

/// Who the files say they were written by.
const WRITER: WriterVersion = WriterVersion {
    major: 0,
    minor: 1,
    patch: 0,
};

const DIR: &str = "0000000000000000000000000000000a/chk-12";

fn entry(group: u16, key: &[u8], namespace: &[u8], value: &[u8]) -> KeyedEntry {
    KeyedEntry {
        group,
        key: key.to_vec(),
        namespace: namespace.to_vec(),
        value: value.to_vec(),
    }
}

/// What the state files hold.
fn snapshots() -> Vec<OperatorSnapshot> {
    let mut first = OperatorSnapshot::default();
    let sums = vec![
        entry(0, b"apple", b"", &[7]),
        entry(0, b"pear", b"w1", &[0xcd, 0x01, 0x2c]),
        entry(127, b"", b"", b""),
        entry(32_767, b"long", b"", &[0x55; 300]),
    ];
    first.put_keyed("sums", sums);
    first.put_keyed("none yet", Vec::new());
    let mut third = OperatorSnapshot::default();
    for (name, redistribution, entries) in [
        (
            "splits",
            Redistribution::Split,
            vec![b"part-0".to_vec(), b"part-1".to_vec()],
        ),
        ("größe", Redistribution::Union, vec![vec![1, 2, 3]]),
        ("rules", Redistribution::Broadcast, vec![vec![], vec![0xff]]),
    ] {
        let section = OperatorSection {
            redistribution,
            entries,
        };
        third.operator.insert(name.into(), section);
    }
    vec![first, OperatorSnapshot::default(), third]
}

/// The types that the metadata name: all kinds of shapes.
fn shapes() -> StateShapes {
    let text = || Shape::Scalar(Scalar::String);
    let field = |name: &str, shape, presence| FieldShape {
        name: name.into(),
        aliases: vec!["old".into()],
        shape,
        presence,
    };
    let visit = StructShape {
        name: "Visit".into(),
        fields: vec![
            field("page", text(), Presence::Required),
            field(
                "next",
                Shape::Option(Box::new(Shape::Recursive(2))),
                Presence::Optional,
            ),
            field("rest", Shape::Opaque("why".into()), Presence::Unknown),
        ],
        closed: true,
    };
    let variant = |name: &str, payload| VariantShape {
        names: vec![name.into()],
        payload,
    };
    let kind = EnumShape {
        name: "Kind".into(),
        variants: vec![
            variant("None", Payload::Unit),
            variant("One", Payload::Newtype(Shape::Scalar(Scalar::U64))),
            variant("Two", Payload::Tuple(vec![text(), Shape::Scalar(Scalar::Bool)])),
            variant("Named", Payload::Struct(visit.clone())),
            variant("Hidden", Payload::Opaque("why".into())),
        ],
    };
    let sums = StateShape {
        key: Some("str".into()),
        namespace: Some("u64".into()),
        values: vec![
            Shape::Struct(visit),
            Shape::Map(
                Box::new(text()),
                Box::new(Shape::Seq(Box::new(Shape::Enum(kind)))),
            ),
        ],
        aliases: Vec::new(),
    };
    let splits = StateShape {
        values: vec![Shape::Tuple(vec![Shape::Scalar(Scalar::I64)])],
        ..StateShape::default()
    };
    [("sums".into(), sums), ("splits".into(), splits)].into()
}

/// What the metadata hold.
fn metadata() -> CheckpointMetadata {
    let handle = |path: &str, bytes, checksum| StateHandle {
        path: path.to_owned(),
        bytes,
        checksum,
        shared: Vec::new(),
    };
    let own = SubtaskState {
        handle: Some(handle(&format!("{DIR}/state"), 640, 0x0123_4567_89ab_cdef)),
        index_in_file: 1,
        finished: false,
    };
    let shared = SubtaskState {
        handle: Some(handle("0000000000000000000000000000000a/shared/s", u64::MAX, 1)),
        index_in_file: 0,
        finished: false,
    };
    let finished = SubtaskState {
        handle: None,
        index_in_file: 0,
        finished: true,
    };
    let sums = OperatorStates {
        operator: OperatorId::from_u128(0x00ff_0000_0000_0000_0000_0000_0000_0001),
        uid: Some("sums".into()),
        name: "Sum".into(),
        parallelism: 3,
        max_parallelism: 128,
        subtasks: [(0, own), (1, shared), (2, finished)].into(),
        coordinator: None,
        states: shapes(),
    };
    let source = OperatorStates {
        operator: OperatorId::from_u128(2),
        uid: None,
        name: "Source: größe".into(),
        parallelism: 1,
        max_parallelism: 128,
        subtasks: [].into(),
        coordinator: Some(vec![0, 1, 254, 255]),
        states: [].into(),
    };
    CheckpointMetadata {
        format_version: 2,
        checkpoint_id: CheckpointId(12),
        kind: SnapshotKind::Checkpoint,
        job_id: JobId::from_u128(10),
        job_name: "words".into(),
        triggered_ms: 1_700_000_000_123,
        key_hash_version: 1,
        supersedes: vec!["0000000000000000000000000000000b/chk-3".into()],
        native: None,
        operators: vec![sums, source],
    }
}

/// The checksums were computed with another implementation of XXH3.
#[test]
fn golden_state_files_are_restored() {
    for (bytes, codec, checksum) in [
        (STATE_NONE, 0, 0x816b_b0a9_7ab0_c67c),
        (STATE_LZ4, 1, 0xaa10_e8c3_f899_7e61),
        (STATE_ZSTD, 2, 0x25ba_c3e4_3c5d_b5ac),
    ] {
        assert_eq!(bytes[25], codec, "the first block's compression");
        let store = MemoryStore::new();
        store.put_new("golden", bytes).unwrap();
        let handle = StateHandle {
            path: "golden".into(),
            bytes: bytes.len() as u64,
            checksum,
            shared: Vec::new(),
        };
        assert_eq!(read_state(&store, &handle).unwrap(), snapshots());
        let mut some = read_state_groups(&store, &handle, 100..200).unwrap();
        some[0].decode_sections().unwrap();
        assert_eq!(some[0].keyed("sums"), [entry(127, b"", b"", b"")]);
        let info = verify_file(&store, "golden").unwrap();
        assert_eq!(
            (info.kind, info.writer, info.checksum),
            (FileKind::State, WRITER, checksum)
        );
        assert_eq!(info.blocks, 2, "one of data, one of index");
    }
}

#[test]
fn golden_metadata_are_restored() {
    let mut untyped = metadata();
    untyped.operators[0].states = StateShapes::default();
    for (bytes, held, checksum) in [
        (METADATA_1, untyped, 0x55ff_10c6_83be_1d30),
        (METADATA_2, metadata(), 0xc831_0e13_a656_fc65),
    ] {
        let store = MemoryStore::new();
        let path = format!("{DIR}/{METADATA_NAME}");
        store.put_new(&path, bytes).unwrap();
        assert_eq!(read_metadata(&store, DIR).unwrap(), held);
        let info = verify_file(&store, &path).unwrap();
        assert_eq!((info.kind, info.writer), (FileKind::Metadata, WRITER));
        assert_eq!((info.checksum, info.blocks), (checksum, 1));
    }
}

/// Compressed bytes may change with the codecs; uncompressed ones may not.
#[test]
fn today_s_writer_writes_the_golden_bytes() {
    assert_eq!(state_file(Compression::None), STATE_NONE);
    assert_eq!(state_file(Compression::None), state_file(Compression::None));
    assert_eq!(metadata_file(), METADATA_2);
}

fn state_file(compression: Compression) -> Vec<u8> {
    let file = FileWriter::by(FileKind::State, compression, WRITER);
    image_of(&snapshots(), file).unwrap().bytes
}

fn metadata_file() -> Vec<u8> {
    let file = FileWriter::by(FileKind::Metadata, Compression::None, WRITER);
    metadata_image(DIR, &metadata(), file).unwrap().bytes
}

#[test]
#[ignore = "writes the golden files, which is done once for a format version"]
fn write_the_golden_files() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, bytes) in [
        ("state-none.bin", state_file(Compression::None)),
        ("state-lz4.bin", state_file(Compression::Lz4)),
        ("state-zstd.bin", state_file(Compression::Zstd)),
        ("metadata-2.bin", metadata_file()),
    ] {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}
