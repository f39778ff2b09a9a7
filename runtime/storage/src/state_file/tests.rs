//! State files come back as they were written, whole or by key groups.

use super::index::Index;
use super::write::{state_image, state_pieces};
use super::{StateHandle, open_state_groups, read_state, read_state_groups, write_state};
use crate::error::{Result, StorageError};
use crate::format::header::FileKind;
use crate::format::writer::FileWriter;
use crate::format::{Compression, verify_file};
use crate::store::{BlobStore, MemoryStore};
use hurtig_state::{KeyedEntry, OperatorSection, OperatorSnapshot, Redistribution};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];
const EVERY_GROUP: Range<u16> = 0..u16::MAX;

/// What is read for some key groups, its sections decoded.
fn read_groups(
    store: &dyn BlobStore,
    handle: &StateHandle,
    groups: Range<u16>,
) -> Result<Vec<OperatorSnapshot>> {
    let mut snapshots = read_state_groups(store, handle, groups)?;
    snapshots
        .iter_mut()
        .for_each(|snapshot| snapshot.decode_sections().unwrap());
    Ok(snapshots)
}

/// Bytes that no codec makes shorter, the same for one seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn entry(group: u16, key: &[u8], value: Vec<u8>) -> KeyedEntry {
    KeyedEntry {
        group,
        key: key.to_vec(),
        namespace: Vec::new(),
        value,
    }
}

/// What a file gives back: the entries of a section in key-group order.
fn ordered(snapshots: &[OperatorSnapshot]) -> Vec<OperatorSnapshot> {
    let mut snapshots = snapshots.to_vec();
    for section in snapshots
        .iter_mut()
        .flat_map(|snapshot| snapshot.keyed.values_mut())
    {
        section.sort_by_key(|entry| entry.group);
    }
    snapshots
}

/// The naive way to some key groups: read everything and throw away.
fn filtered(snapshots: &[OperatorSnapshot], groups: &Range<u16>) -> Vec<OperatorSnapshot> {
    let mut snapshots = ordered(snapshots);
    for section in snapshots
        .iter_mut()
        .flat_map(|snapshot| snapshot.keyed.values_mut())
    {
        section.retain(|entry| groups.start <= entry.group && entry.group < groups.end);
    }
    snapshots
}

fn is_empty(snapshots: &[OperatorSnapshot]) -> bool {
    let keyed = snapshots.iter().flat_map(|s| s.keyed.values()).flatten().count();
    let operator = snapshots
        .iter()
        .flat_map(|s| s.operator.values())
        .flat_map(|s| &s.entries);
    keyed + operator.count() == 0
}

fn written(store: &dyn BlobStore, snapshots: &[OperatorSnapshot], compression: Compression) -> StateHandle {
    write_state(store, "job/chk-1/s", snapshots, compression)
        .unwrap()
        .unwrap()
}

fn names() -> impl Strategy<Value = String> {
    select(vec!["", "sum", "timers", "größe", "a/b", "x".repeat(300).leak()]).prop_map(str::to_owned)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..20),
        2 => (any::<u8>(), 0..400_usize).prop_map(|(byte, length)| vec![byte; length]),
        1 => (any::<u64>(), 100..90_000_usize).prop_map(|(seed, length)| noise(seed, length)),
    ]
}

fn groups() -> impl Strategy<Value = u16> {
    prop_oneof![0..6_u16, 120..130_u16, Just(32_767_u16), 0..32_768_u16]
}

fn keyed() -> impl Strategy<Value = Vec<KeyedEntry>> {
    let entry = (groups(), bytes(), vec(any::<u8>(), 0..4), bytes());
    let entry = entry.prop_map(|(group, key, namespace, value)| KeyedEntry {
        group,
        key,
        namespace,
        value,
    });
    vec(entry, 0..12)
}

fn section() -> impl Strategy<Value = OperatorSection> {
    let how = select(vec![
        Redistribution::Split,
        Redistribution::Union,
        Redistribution::Broadcast,
    ]);
    (how, vec(bytes(), 0..6)).prop_map(|(redistribution, entries)| OperatorSection {
        redistribution,
        entries,
    })
}

fn snapshots() -> impl Strategy<Value = Vec<OperatorSnapshot>> {
    let snapshot = (
        btree_map(names(), keyed(), 0..4),
        btree_map(names(), section(), 0..3),
    );
    vec(
        snapshot.prop_map(|(keyed, operator)| OperatorSnapshot {
            keyed,
            operator,
            ..OperatorSnapshot::default()
        }),
        0..4,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_snapshots_come_back_whole_and_by_groups(
        snapshots in snapshots(),
        compression in select(ALL.to_vec()),
        ranges in vec((groups(), groups()), 1..4),
    ) {
        let store = MemoryStore::new();
        let handle = write_state(&store, "s", &snapshots, compression).unwrap();
        prop_assert_eq!(handle.is_none(), is_empty(&snapshots));
        prop_assert_eq!(store.list("").unwrap().len(), usize::from(handle.is_some()));
        if let Some(handle) = handle {
            let info = verify_file(&store, "s").unwrap();
            prop_assert_eq!((info.bytes, info.checksum), (handle.bytes, handle.checksum));
            prop_assert_eq!(read_state(&store, &handle).unwrap(), ordered(&snapshots));
            prop_assert_eq!(read_groups(&store, &handle, EVERY_GROUP).unwrap(), ordered(&snapshots));
            for (start, end) in ranges {
                let found = read_groups(&store, &handle, start..end).unwrap();
                prop_assert_eq!(found, filtered(&snapshots, &(start..end)));
            }
        }
    }

    /// A file whose checksums are right and whose index is not: refused or read, never a panic.
    #[test]
    fn a_forged_index_never_panics(
        snapshots in snapshots(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        data in vec(any::<u8>(), 0..64),
    ) {
        let mut index = index_of(&snapshots);
        for (at, byte) in edits {
            let at = at.index(index.len());
            index[at] = byte;
        }
        for index in [&index[..], &index[..cut.index(index.len())], &data] {
            let mut file = FileWriter::new(FileKind::State, Compression::None);
            file.write(&data);
            file.begin_index();
            file.write(index);
            forged_is_read_or_refused(file);
            let mut file = FileWriter::new(FileKind::State, Compression::Lz4);
            file.write(&stream_of(&snapshots));
            file.begin_index();
            file.write(index);
            forged_is_read_or_refused(file);
        }
    }

    #[test]
    fn any_bytes_are_an_index_or_none(bytes in vec(any::<u8>(), 0..40)) {
        if let Some(index) = Index::from_bytes(&bytes) {
            prop_assert_eq!(Index::from_bytes(&index.to_bytes()), Some(index));
        }
    }
}

/// The bytes of the entries as `docs/formats.md` says: lengths and parts, one after the other.
fn stream_of(snapshots: &[OperatorSnapshot]) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut part = |bytes: &[u8]| {
        hurtig_core::varint::put(&mut stream, bytes.len() as u64);
        stream.extend_from_slice(bytes);
    };
    for snapshot in ordered(snapshots) {
        for entry in snapshot.keyed.values().flatten() {
            part(&entry.key);
            part(&entry.namespace);
            part(&entry.value);
        }
        for section in snapshot.operator.values() {
            section.entries.iter().for_each(|bytes| part(bytes));
        }
    }
    stream
}

/// The index of a file of these snapshots, taken from between its data and its end.
fn index_of(snapshots: &[OperatorSnapshot]) -> Vec<u8> {
    let image = state_image(snapshots, FileWriter::new(FileKind::State, Compression::None)).unwrap();
    let end = image.bytes.len() - 44;
    let field: [u8; 8] = image.bytes[end + 28..end + 36].try_into().unwrap();
    let start = u64::from_le_bytes(field) as usize;
    image.bytes[start + 20..end].to_vec()
}

fn forged_is_read_or_refused(file: FileWriter) {
    let store = MemoryStore::new();
    let image = file.finish();
    store.put_new("forged", &image.bytes).unwrap();
    let handle = StateHandle {
        path: "forged".into(),
        bytes: image.bytes.len() as u64,
        checksum: image.checksum,
        shared: Vec::new(),
    };
    for result in [
        read_state(&store, &handle),
        read_groups(&store, &handle, EVERY_GROUP),
        read_groups(&store, &handle, 3..9),
    ] {
        if let Err(error) = result {
            let named = matches!(&error, StorageError::Corrupt { path, offset, .. }
                if path == "forged" && *offset < handle.bytes);
            assert!(named, "{error:?}");
        }
    }
}

/// Thousands of entries over many blocks, one of them longer than several blocks.
fn many() -> Vec<OperatorSnapshot> {
    let mut keyed = OperatorSnapshot::default();
    let small = |i: u32| entry((i * 7 % 128) as u16, &i.to_be_bytes(), noise(u64::from(i), 60));
    keyed.put_keyed("small", (0..9_000).map(small).collect());
    let large = |group: u16| entry(group, b"k", noise(u64::from(group) + 99, 200_000));
    keyed.put_keyed("large", vec![large(127), large(3), large(3)]);
    let mut operator = OperatorSnapshot::default();
    let section = OperatorSection {
        redistribution: Redistribution::Union,
        entries: (0..5_000_u32).map(|i| i.to_string().into_bytes()).collect(),
    };
    operator.operator.insert("offsets".into(), section);
    vec![keyed, OperatorSnapshot::default(), operator]
}

#[test]
fn thousands_of_entries_lie_in_several_blocks() {
    let snapshots = many();
    for compression in ALL {
        let store = MemoryStore::new();
        let handle = written(&store, &snapshots, compression);
        assert!(verify_file(&store, &handle.path).unwrap().blocks > 15);
        assert_eq!(read_state(&store, &handle).unwrap(), ordered(&snapshots));
        for groups in [
            0..128,
            0..1,
            3..4,
            127..128,
            60..61,
            10..100,
            128..500,
            5..5,
            0..u16::MAX,
        ] {
            let found = read_groups(&store, &handle, groups.clone()).unwrap();
            assert_eq!(found, filtered(&snapshots, &groups), "{compression:?} {groups:?}");
        }
    }
}

#[test]
fn compression_makes_files_shorter() {
    let mut snapshot = OperatorSnapshot::default();
    let repeated = |i: u16| entry(i % 128, b"some key", b"the same value ".repeat(3));
    snapshot.put_keyed("s", (0..5_000).map(repeated).collect());
    let length = |compression| written(&MemoryStore::new(), &[snapshot.clone()], compression).bytes;
    let [none, lz4, zstd] = ALL.map(length);
    assert!(lz4 < none / 4 && zstd < none / 4, "{none} {lz4} {zstd}");
    // What cannot be made shorter is stored as it is, so a file is never longer than without.
    let mut noisy = OperatorSnapshot::default();
    noisy.put_keyed("s", vec![entry(0, b"", noise(1, 300_000))]);
    let [none, lz4, zstd] = ALL.map(|how| written(&MemoryStore::new(), &[noisy.clone()], how).bytes);
    assert!(lz4 <= none && zstd <= none, "{none} {lz4} {zstd}");
}

#[test]
fn entries_of_one_group_stay_in_their_order() {
    let mut snapshot = OperatorSnapshot::default();
    let entries = [(5, b"c"), (1, b"z"), (5, b"a"), (1, b"y"), (5, b"b")];
    snapshot.put_keyed(
        "s",
        entries.map(|(group, key)| entry(group, key, Vec::new())).to_vec(),
    );
    let store = MemoryStore::new();
    let handle = written(&store, &[snapshot], Compression::Lz4);
    let found = read_state(&store, &handle).unwrap();
    let keys: Vec<_> = found[0]
        .keyed("s")
        .iter()
        .map(|entry| entry.key[0] as char)
        .collect();
    assert_eq!(keys, ['z', 'y', 'c', 'a', 'b']);
}

#[test]
fn snapshots_without_entries_give_no_file() {
    let store = MemoryStore::new();
    let mut sections = OperatorSnapshot::default();
    sections.put_keyed("s", Vec::new());
    sections
        .put_operator::<u8>("o", Redistribution::Split, &[])
        .unwrap();
    for snapshots in [
        vec![],
        vec![OperatorSnapshot::default()],
        vec![sections.clone(), sections.clone()],
    ] {
        let handle = write_state(&store, "s", &snapshots, Compression::Lz4).unwrap();
        assert_eq!((handle, store.list("").unwrap().len()), (None, 0));
    }
    // Empty sections beside one entry come back.
    let mut one = sections.clone();
    one.put_keyed("t", vec![entry(0, b"", Vec::new())]);
    let snapshots = vec![sections, one];
    let handle = written(&store, &snapshots, Compression::Lz4);
    assert_eq!(read_state(&store, &handle).unwrap(), untyped(snapshots));
}

#[test]
fn a_key_group_that_no_job_has_is_refused() {
    let store = MemoryStore::new();
    let mut snapshot = OperatorSnapshot::default();
    snapshot.put_keyed("sums", vec![entry(32_768, b"", Vec::new())]);
    let error = write_state(&store, "s", &[snapshot], Compression::None).unwrap_err();
    assert!(matches!(error, StorageError::Internal(_)) && error.to_string().contains("'sums'"));
    assert!(store.list("").unwrap().is_empty());
}

#[test]
fn a_taken_path_is_refused() {
    let store = MemoryStore::new();
    let mut snapshot = OperatorSnapshot::default();
    snapshot.put_keyed("s", vec![entry(0, b"", Vec::new())]);
    let handle = written(&store, &[snapshot.clone()], Compression::None);
    let error = write_state(&store, &handle.path, &[snapshot], Compression::Zstd).unwrap_err();
    assert!(matches!(error, StorageError::AlreadyExists { .. }));
}

#[test]
fn the_wrong_handle_or_file_is_refused() {
    let store = MemoryStore::new();
    let mut snapshot = OperatorSnapshot::default();
    snapshot.put_keyed("s", vec![entry(0, b"k", b"v".to_vec())]);
    let good = written(&store, &[snapshot], Compression::None);
    let with = |change: fn(&mut StateHandle)| {
        let mut handle = good.clone();
        change(&mut handle);
        handle
    };
    for handle in [
        with(|handle| handle.checksum ^= 1),
        with(|handle| handle.bytes += 1),
        with(|handle| handle.bytes -= 1),
        with(|handle| handle.bytes = 0),
        with(|handle| handle.bytes = u64::MAX),
    ] {
        for result in [
            read_state(&store, &handle),
            read_groups(&store, &handle, EVERY_GROUP),
        ] {
            let error = result.unwrap_err();
            assert!(
                matches!(&error, StorageError::Corrupt { path, .. } if *path == good.path),
                "{error:?}"
            );
        }
    }
    let gone = with(|handle| handle.path = "job/chk-1/gone".into());
    for result in [read_state(&store, &gone), read_groups(&store, &gone, EVERY_GROUP)] {
        let error = result.unwrap_err();
        assert!(
            matches!(&error, StorageError::NotFound { path } if *path == gone.path),
            "{error:?}"
        );
    }
    let image = FileWriter::new(FileKind::Metadata, Compression::None).finish();
    store.put_new("other", &image.bytes).unwrap();
    let other = StateHandle {
        path: "other".into(),
        bytes: image.bytes.len() as u64,
        checksum: image.checksum,
        shared: Vec::new(),
    };
    for result in [
        read_state(&store, &other),
        read_groups(&store, &other, EVERY_GROUP),
    ] {
        let text = result.unwrap_err().to_string();
        assert!(
            text.contains("'other'") && text.contains("expected a state file"),
            "{text}"
        );
    }
}

/// A store that counts the bytes that are read from it.
#[derive(Default)]
struct Counting {
    inner: MemoryStore,
    read: AtomicU64,
    most: AtomicU64,
}

impl Counting {
    fn count(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.most.fetch_max(bytes.len() as u64, Ordering::Relaxed);
        bytes
    }
}

impl BlobStore for Counting {
    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.inner.put_new(path, bytes)
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        self.inner.get(path).map(|bytes| self.count(bytes))
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.inner.get_range(path, range).map(|bytes| self.count(bytes))
    }

    fn exists(&self, path: &str) -> Result<bool> {
        self.inner.exists(path)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.inner.list(folder)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.inner.delete(path)
    }

    fn delete_all(&self, folder: &str) -> Result<()> {
        self.inner.delete_all(folder)
    }

    fn sweep(&self, folder: &str) -> Result<usize> {
        self.inner.sweep(folder)
    }
}

/// A long file is handed over as it grows, and is the one that would have been made at once.
#[test]
fn a_long_file_is_handed_over_in_pieces() {
    let store = MemoryStore::new();
    let mut snapshot = OperatorSnapshot::default();
    let large = |group: u16| entry(group, b"k", noise(u64::from(group), 200_000));
    snapshot.put_keyed("s", (0..100).map(large).collect());
    let snapshots = [snapshot];
    let mut longest = 0;
    let mut pieces = Vec::new();
    let mut take = |piece: &[u8]| {
        longest = longest.max(piece.len());
        pieces.extend_from_slice(piece);
        Ok(())
    };
    let image = state_pieces(
        &snapshots,
        FileWriter::new(FileKind::State, Compression::None),
        &mut take,
    )
    .unwrap();
    assert!(
        longest < 5 << 20,
        "a piece of {longest} bytes of {}",
        pieces.len()
    );
    let handle = written(&store, &snapshots, Compression::None);
    assert!(store.get(&handle.path).unwrap() == pieces, "it is another file");
    assert_eq!((image.length, image.checksum), (handle.bytes, handle.checksum));
    assert_eq!(
        verify_file(&store, &handle.path).unwrap().checksum,
        handle.checksum
    );
    assert_eq!(read_state(&store, &handle).unwrap(), snapshots);
}

/// A file with a large section, which stays in it, and a small one.
fn large_and_small(store: &Arc<dyn BlobStore>) -> ([OperatorSnapshot; 1], StateHandle) {
    let mut snapshot = OperatorSnapshot::default();
    let large = |n: u16| entry(n / 2, &n.to_be_bytes(), noise(u64::from(n), 50_000));
    snapshot.put_keyed("large", (0..200).map(large).collect());
    snapshot.put_keyed("small", vec![entry(3, b"k", vec![1])]);
    let snapshots = [snapshot];
    let handle = written(&**store, &snapshots, Compression::Lz4);
    (snapshots, handle)
}

#[test]
fn large_sections_stay_in_their_file_until_they_are_read() {
    let counting = Arc::new(Counting::default());
    let store: Arc<dyn BlobStore> = counting.clone();
    let (snapshots, handle) = large_and_small(&store);
    for groups in [0..u16::MAX, 7..98, 40..41] {
        counting.read.store(0, Ordering::Relaxed);
        let mut opened = open_state_groups((&store, None), &handle, groups.clone()).unwrap();
        let read = counting.read.load(Ordering::Relaxed);
        let is_large = groups.len() > 50;
        assert_eq!(opened[0].away.contains_key("large"), is_large, "{groups:?}");
        assert!(opened[0].encoded.contains_key("small"));
        if is_large {
            assert!(read < 500_000, "{read} bytes were read to open the file");
            let entries = &opened[0].away["large"][0];
            assert_eq!(entries.len() as usize, 2 * groups.len().min(100));
            let mut seen = Vec::new();
            let part = entries.within(50..60);
            let read = part.read(|group| {
                seen.extend(group.runs().iter().map(|run| run.group));
                match seen.len() {
                    5 => Err(hurtig_core::Error::internal("enough")),
                    _ => Ok(()),
                }
            });
            assert!(read.is_err_and(|e| e.to_string().contains("enough")));
            assert_eq!(seen, (50..55).collect::<Vec<u16>>());
        }
        opened[0].decode_sections().unwrap();
        assert_eq!(ordered(&opened), ordered(&filtered(&snapshots, &groups)));
    }
}

/// It says where it is, and that no restart helps.
#[test]
fn damage_in_what_stayed_in_the_file_is_found_when_it_is_read() {
    let intact: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
    let (_, handle) = large_and_small(&intact);
    let mut bytes = intact.get(&handle.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
    store.put_new(&handle.path, &bytes).unwrap();
    let mut opened = open_state_groups((&store, Some("/savepoints/")), &handle, 0..128).unwrap();
    let error = opened[0].decode_sections().unwrap_err();
    let text = error.chain();
    assert!(
        text.contains("'/savepoints/") && text.contains("is damaged at byte"),
        "{text}"
    );
    assert!(error.is_permanent());
    store.delete(&handle.path).unwrap();
    let mut opened = open_state_groups((&intact, None), &handle, 0..128).unwrap();
    intact.delete(&handle.path).unwrap();
    let error = opened[0].decode_sections().unwrap_err();
    assert!(error.chain().contains("does not exist"), "{}", error.chain());
}

#[test]
fn some_groups_cost_some_blocks() {
    let store = Counting::default();
    let mut snapshot = OperatorSnapshot::default();
    let large = |group: u16| entry(group, b"k", noise(u64::from(group), 100_000));
    snapshot.put_keyed("s", (0..100).map(large).collect());
    let snapshots = [snapshot];
    let handle = written(&store, &snapshots, Compression::Lz4);
    let cost = |groups: Range<u16>| {
        store.read.store(0, Ordering::Relaxed);
        let found = read_groups(&store, &handle, groups.clone()).unwrap();
        assert_eq!(found, filtered(&snapshots, &groups));
        store.read.load(Ordering::Relaxed)
    };
    assert!(cost(40..41) < 300_000, "one group costs {}", cost(40..41));
    assert!(cost(40..50) < 1_300_000, "ten groups cost {}", cost(40..50));
    assert!(cost(5..5) < 10_000, "no group costs {}", cost(5..5));
    let all = cost(EVERY_GROUP);
    assert!(
        (handle.bytes..handle.bytes + 100_000).contains(&all),
        "all cost {all}"
    );
    let most = store.most.load(Ordering::Relaxed);
    assert!(most <= 4 * 1024 * 1024, "{most} bytes were fetched at once");
}

/// Sections whose entries were encoded while state changed, in several parts, are the file that their entries
/// make one by one.
#[test]
fn encoded_sections_are_stored_like_entries() {
    let mut encoded = OperatorSnapshot::default();
    for step in 0..3_u64 {
        let mut state = hurtig_state::KeyedState::<u64>::new(0..128, 128);
        let counts = state.value::<Vec<u64>>("counts").unwrap();
        for key in (0..500 * step).map(|i| i * 3 + step) {
            use hurtig_core::key::StableKey;
            let cx = hurtig_state::CurrentKey::new(&state, &key, key.stable_hash());
            counts.set(cx, vec![key; key as usize % 40]);
        }
        state.begin_snapshot().unwrap();
        while !state
            .continue_snapshot(&mut encoded, &mut hurtig_state::ScanBudget::new(100))
            .unwrap()
        {}
    }
    encoded.put_keyed("a", Vec::new());
    encoded.put_keyed("z", Vec::new());
    assert_eq!(encoded.encoded["counts"].len(), 3);
    let mut decoded = encoded.clone();
    decoded.decode_sections().unwrap();
    assert_eq!(decoded.keyed("counts").len(), 1_500);
    let store = MemoryStore::new();
    for compression in ALL {
        let paths = [
            format!("{compression:?}-encoded"),
            format!("{compression:?}-entries"),
        ];
        let handles = [(&paths[0], &encoded), (&paths[1], &decoded)].map(|(path, snapshot)| {
            write_state(&store, path, std::slice::from_ref(snapshot), compression)
                .unwrap()
                .unwrap()
        });
        assert_eq!(handles[0].checksum, handles[1].checksum);
        let decoded = untyped(vec![decoded.clone()]);
        assert_eq!(read_state(&store, &handles[0]).unwrap(), decoded);
    }
}

/// Files do not say what types states have.
fn untyped(mut snapshots: Vec<OperatorSnapshot>) -> Vec<OperatorSnapshot> {
    snapshots
        .iter_mut()
        .for_each(|snapshot| snapshot.shapes = Default::default());
    snapshots
}
