//! What every [`BlobStore`] must do, as a test that any store can be put through.
//!
//! ```
//! use hurtig_storage::{MemoryStore, conformance};
//!
//! conformance::check(&|| Box::new(MemoryStore::new()));
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "this is a test for those who write stores: it stops where a store fails"
)]

use super::BlobStore;
use crate::error::StorageError;
use crate::path::{below, join};
use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A promise of [`BlobStore`], in words, and the test of it on an empty store.
pub type Requirement = (&'static str, fn(&dyn BlobStore));

/// Every requirement, the basic ones first.
pub const REQUIREMENTS: &[Requirement] = &[
    ("what is put is read", what_is_put_is_read),
    (
        "a taken path is refused and keeps its bytes",
        a_taken_path_is_refused_and_keeps_its_bytes,
    ),
    (
        "an object is of all pieces, or there is none",
        an_object_is_of_all_pieces_or_there_is_none,
    ),
    (
        "ranges end where the object ends",
        ranges_end_where_the_object_ends,
    ),
    (
        "what is not there is not found, whatever is near it",
        what_is_not_there_is_not_found,
    ),
    (
        "lists are recursive and sorted by bytes",
        lists_are_recursive_and_sorted_by_bytes,
    ),
    ("a list has all objects, however many", lists_are_whole),
    (
        "delete is idempotent and takes one object",
        delete_is_idempotent_and_takes_one_object,
    ),
    (
        "delete_each takes what is named, however many, there or not",
        delete_each_takes_what_is_named,
    ),
    (
        "delete_all takes a folder and nothing beside it",
        delete_all_takes_a_folder_and_nothing_beside_it,
    ),
    (
        "bad paths are refused by every call",
        bad_paths_are_refused_by_every_call,
    ),
    (
        "names may have any characters that paths may have",
        any_characters,
    ),
    ("a reader never sees a part", a_reader_never_sees_a_part),
    (
        "of many writers of one path one wins",
        of_many_writers_of_one_path_one_wins,
    ),
    ("a store is a map by path", a_store_is_a_map_by_path),
];

/// Runs every requirement, each on a store of its own that is empty.
///
/// # Panics
/// At the first that is broken. The test's output names it.
pub fn check(empty: &dyn Fn() -> Box<dyn BlobStore>) {
    for (name, requirement) in REQUIREMENTS {
        let named = Named(name);
        requirement(&*empty());
        drop(named);
    }
}

/// Says which requirement was broken when the stack unwinds.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            #[allow(
                clippy::print_stderr,
                reason = "the author of a store reads it in the test's output"
            )]
            {
                eprintln!("the store breaks this requirement: {}", self.0);
            }
        }
    }
}

fn what_is_put_is_read(store: &dyn BlobStore) {
    let bytes: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    store.put_new("job/chk-1/a", &bytes).unwrap();
    store.put_new("top", b"").unwrap();
    assert_eq!(store.get("job/chk-1/a").unwrap(), bytes);
    assert_eq!(store.get("top").unwrap(), b"");
    assert!(store.exists("job/chk-1/a").unwrap() && store.exists("top").unwrap());
}

fn an_object_is_of_all_pieces_or_there_is_none(store: &dyn BlobStore) {
    // Long enough for a store that sends several parts at a time.
    let piece: Vec<u8> = (0..1_000_003_u32).map(|i| (i % 251) as u8).collect();
    for (path, pieces) in [("filled/empty", 0), ("filled/short", 1), ("filled/long", 30)] {
        let wanted = store.put_filled(path, &mut |take| {
            (0..pieces).try_for_each(|_| take(&piece))?;
            assert!(!store.exists(path).unwrap(), "it is seen before it is whole");
            Ok(true)
        });
        assert!(wanted.unwrap());
        assert!(
            store.get(path).unwrap() == piece.repeat(pieces),
            "'{path}' is not what was put"
        );
        let again = store.put_filled(path, &mut |take| {
            take(b"new")?;
            Ok(true)
        });
        assert!(
            matches!(again, Err(StorageError::AlreadyExists { .. })),
            "{again:?}"
        );
    }
    for pieces in [1, 30] {
        let unwanted = store.put_filled("unwanted", &mut |take| {
            (0..pieces).try_for_each(|_| take(&piece))?;
            Ok(false)
        });
        assert!(!unwanted.unwrap());
        let failed = store.put_filled("unwanted", &mut |take| {
            (0..pieces).try_for_each(|_| take(&piece))?;
            Err(StorageError::Internal("it goes no further".to_owned()))
        });
        assert!(matches!(failed, Err(StorageError::Internal(_))), "{failed:?}");
    }
    assert_eq!(
        store.list("").unwrap(),
        ["filled/empty", "filled/long", "filled/short"]
    );
    assert_eq!(store.sweep("").unwrap(), 0, "something unfinished was left");
}

fn a_taken_path_is_refused_and_keeps_its_bytes(store: &dyn BlobStore) {
    store.put_new("a/b", b"old").unwrap();
    for bytes in [&b"new and longer"[..], b"", b"old"] {
        let error = store.put_new("a/b", bytes).unwrap_err();
        assert!(
            matches!(&error, StorageError::AlreadyExists { path } if path == "a/b"),
            "{error}"
        );
        assert_eq!(store.get("a/b").unwrap(), b"old");
    }
    assert_eq!(store.sweep("").unwrap(), 0, "a refused write left something");
    assert_eq!(store.list("").unwrap(), ["a/b"]);
    store.delete("a/b").unwrap();
    store.put_new("a/b", b"new").unwrap();
    assert_eq!(store.get("a/b").unwrap(), b"new");
}

fn ranges_end_where_the_object_ends(store: &dyn BlobStore) {
    let bytes: Vec<u8> = (0..10).collect();
    store.put_new("x", &bytes).unwrap();
    for (range, expected) in [
        (0..10, &bytes[..]),
        (0..0, &[]),
        (3..7, &[3, 4, 5, 6]),
        (9..10, &[9]),
        (9..11, &[9]),
        (0..u64::MAX, &bytes),
        (10..11, &[]),
        (11..20, &[]),
        (4_u64 << 40..5 << 40, &[]),
        (u64::MAX - 1..u64::MAX, &[]),
        (u64::MAX..u64::MAX, &[]),
        (i64::MAX as u64..u64::MAX, &[]),
    ] {
        let found = store
            .get_range("x", range.clone())
            .unwrap_or_else(|e| panic!("{range:?}: {e}"));
        assert_eq!(found, expected, "{range:?}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "it is what the store is asked for")]
    let reversed = store.get_range("x", 7..3).unwrap();
    assert_eq!(reversed, b"");
}

fn what_is_not_there_is_not_found(store: &dyn BlobStore) {
    store.put_new("folder/file", b"1").unwrap();
    for path in [
        "x",
        "a/b/c",
        "folder",
        "folder/file/below",
        "folder/fil",
        "folder/file2",
    ] {
        for error in [
            store.get(path).unwrap_err(),
            store.get_range(path, 0..1).unwrap_err(),
            store.get_range(path, u64::MAX..u64::MAX).unwrap_err(),
        ] {
            let found = matches!(&error, StorageError::NotFound { path: named } if named == path);
            assert!(found, "'{path}': {error:?}");
        }
        assert!(!store.exists(path).unwrap(), "'{path}'");
    }
}

fn lists_are_recursive_and_sorted_by_bytes(store: &dyn BlobStore) {
    // In a walk by folders "a/x" comes before "a-b"; by bytes it does not.
    let mut paths = [
        "a/x",
        "a-b",
        "a0",
        "a/x2/deep/er",
        "a/x.y",
        "b",
        "ä/ö",
        "B/_metadata",
    ];
    for path in paths {
        store.put_new(path, path.as_bytes()).unwrap();
    }
    paths.sort_unstable();
    assert_eq!(store.list("").unwrap(), paths);
    assert_eq!(store.list("a").unwrap(), ["a/x", "a/x.y", "a/x2/deep/er"]);
    assert_eq!(store.list("a/x2").unwrap(), ["a/x2/deep/er"]);
    for nothing in ["a/x", "a/x/below", "none", "a/x2/deep/er"] {
        assert!(store.list(nothing).unwrap().is_empty(), "'{nothing}'");
    }
}

fn delete_is_idempotent_and_takes_one_object(store: &dyn BlobStore) {
    for path in ["a/b", "a/b2", "a/c/d"] {
        store.put_new(path, b"1").unwrap();
    }
    for _ in 0..2 {
        store.delete("a/b").unwrap();
    }
    // Neither a folder nor what would be in a file is an object.
    for path in ["none", "a", "a/c", "a/b2/below"] {
        store.delete(path).unwrap_or_else(|e| panic!("'{path}': {e}"));
    }
    assert_eq!(store.list("").unwrap(), ["a/b2", "a/c/d"]);
}

fn delete_each_takes_what_is_named(store: &dyn BlobStore) {
    let mut paths: Vec<String> = (0..1_200).map(|n| format!("a/{n:04}")).collect();
    for path in &paths {
        store.put_new(path, b"1").unwrap();
    }
    let kept = paths.split_off(1_100);
    paths.extend(["none".to_owned(), "a".to_owned()]);
    store.delete_each(&[]).unwrap();
    for _ in 0..2 {
        store.delete_each(&paths).unwrap();
        assert_eq!(store.list("").unwrap(), kept);
    }
}

fn delete_all_takes_a_folder_and_nothing_beside_it(store: &dyn BlobStore) {
    for path in [
        "job/chk-1/a",
        "job/chk-1/b/c",
        "job/chk-10/a",
        "job/chk-1-",
        "top",
    ] {
        store.put_new(path, b"1").unwrap();
    }
    for _ in 0..2 {
        store.delete_all("job/chk-1").unwrap();
        let left = ["job/chk-1-", "job/chk-10/a", "top"];
        assert_eq!(store.list("").unwrap(), left);
    }
    for nothing in ["none", "top", "top/below"] {
        store
            .delete_all(nothing)
            .unwrap_or_else(|e| panic!("'{nothing}': {e}"));
    }
    assert!(store.exists("top").unwrap(), "it is no folder");
    store.put_new("job/chk-1/a", b"again").unwrap();
    store.delete_all("").unwrap();
    assert!(store.list("").unwrap().is_empty());
    store.put_new("job/chk-1/a", b"after").unwrap();
    assert_eq!(store.get("job/chk-1/a").unwrap(), b"after");
}

fn bad_paths_are_refused_by_every_call(store: &dyn BlobStore) {
    store.put_new("a/b", b"1").unwrap();
    let long = "x".repeat(256);
    for bad in [
        "", "/a/b", "../b", "a/../a/b", "a//b", "a/b/", "./a", "a/.tmp-1", "a\\b", "a\0", &long,
    ] {
        let refused = |what: &str, result: crate::error::Result<()>| {
            let error = result.expect_err(what);
            assert!(
                matches!(&error, StorageError::BadPath { path, .. } if path == bad),
                "{what} of {bad:?}: {error}"
            );
        };
        refused("put_new", store.put_new(bad, b"1"));
        refused("get", store.get(bad).map(drop));
        refused("get_range", store.get_range(bad, 0..1).map(drop));
        refused("exists", store.exists(bad).map(drop));
        refused("delete", store.delete(bad));
        refused("delete each", store.delete_each(&[bad.to_owned()]));
        if !bad.is_empty() {
            refused("list", store.list(bad).map(drop));
            refused("delete_all", store.delete_all(bad));
            refused("sweep", store.sweep(bad).map(drop));
        }
    }
    assert_eq!(store.list("").unwrap(), ["a/b"]);
}

fn a_reader_never_sees_a_part(store: &dyn BlobStore) {
    const LENGTH: usize = 2_000_000;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for object in 0..10_u8 {
                store
                    .put_new(&format!("d/{object}"), &vec![object; LENGTH])
                    .unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        loop {
            let last = done.load(Ordering::SeqCst);
            for path in store.list("d").unwrap() {
                let bytes = store.get(&path).unwrap();
                let object = path[2..].parse::<u8>().unwrap();
                let whole = bytes.len() == LENGTH && bytes.iter().all(|byte| *byte == object);
                assert!(whole, "{} bytes of '{path}' were seen", bytes.len());
            }
            if last {
                break;
            }
        }
    });
    assert_eq!(store.list("d").unwrap().len(), 10);
}

fn of_many_writers_of_one_path_one_wins(store: &dyn BlobStore) {
    const WRITERS: u8 = 4;
    for round in 0..20 {
        let (path, start) = (format!("r{round}/x"), Barrier::new(WRITERS.into()));
        let write = |writer: u8| {
            start.wait();
            store.put_new(&path, &vec![writer; 100_000])
        };
        let results: Vec<_> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| scope.spawn(move || write(writer)))
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let winners: Vec<usize> = (0..results.len()).filter(|i| results[*i].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(matches!(error, StorageError::AlreadyExists { .. }), "{error}");
        }
        assert_eq!(store.get(&path).unwrap(), vec![winners[0] as u8; 100_000]);
    }
    assert_eq!(store.sweep("").unwrap(), 0);
}

fn lists_are_whole(store: &dyn BlobStore) {
    // More than object stores answer with at once.
    const OBJECTS: u32 = 1100;
    let path = |object: u32| format!("many/{object:05}");
    let next = std::sync::atomic::AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let object = next.fetch_add(1, Ordering::Relaxed);
                    if object >= OBJECTS {
                        break;
                    }
                    store.put_new(&path(object), b"").unwrap();
                }
            });
        }
    });
    let expected: Vec<String> = (0..OBJECTS).map(path).collect();
    assert_eq!(store.list("many").unwrap(), expected);
    store.delete_all("many").unwrap();
    assert!(store.list("").unwrap().is_empty());
}

fn any_characters(store: &dyn BlobStore) {
    let paths = [
        "a b/c d",
        "a%20b/c",
        "a+b/c",
        "q?x=1/&y",
        "h#1/x",
        "s*/[1]{2}",
        "t~/x|y",
        "k=v/'q'\"d\"",
        "<x>/^`",
        "ä/€",
        "c:d/@;,!$()",
    ];
    for path in paths {
        store.put_new(path, path.as_bytes()).unwrap();
    }
    for path in paths {
        assert_eq!(store.get(path).unwrap(), path.as_bytes(), "'{path}'");
        let (folder, _) = path.split_once('/').unwrap();
        assert_eq!(store.list(folder).unwrap(), [path]);
    }
    let mut sorted = paths;
    sorted.sort_unstable();
    assert_eq!(store.list("").unwrap(), sorted);
    for path in paths {
        store.delete(path).unwrap();
    }
    assert!(store.list("").unwrap().is_empty());
}

/// SplitMix64: the same history everywhere and without a dependency.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn folder(&mut self) -> &'static str {
        ["", "p", "p/q", "p/r", "pq"][self.roll(5)]
    }

    /// Folders and objects have different names, so that no object's path is also a folder's.
    fn path(&mut self) -> String {
        let folder = self.folder();
        join(folder, &format!("f{}", self.roll(3)))
    }
}

fn a_store_is_a_map_by_path(store: &dyn BlobStore) {
    for seed in 0..20 {
        history(store, Dice(seed));
        store.delete_all("").unwrap();
    }
}

/// A random history beside a map.
fn history(store: &dyn BlobStore, mut dice: Dice) {
    let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for _ in 0..dice.roll(30) {
        match dice.roll(8) {
            0..4 => {
                let (path, bytes) = (dice.path(), vec![dice.roll(256) as u8; dice.roll(5)]);
                let fresh = !model.contains_key(&path);
                assert_eq!(store.put_new(&path, &bytes).is_ok(), fresh, "'{path}'");
                model.entry(path).or_insert(bytes);
            }
            4..6 => {
                let path = dice.path();
                store.delete(&path).unwrap();
                model.remove(&path);
            }
            6 => {
                let folder = dice.folder();
                store.delete_all(folder).unwrap();
                model.retain(|path, _| below(folder, path).is_none());
            }
            _ => {
                let folder = dice.folder();
                let inside = model.keys().filter(|path| below(folder, path).is_some());
                assert_eq!(store.list(folder).unwrap(), inside.cloned().collect::<Vec<_>>());
            }
        }
    }
    for (path, bytes) in &model {
        assert_eq!(&store.get(path).unwrap(), bytes);
    }
    assert_eq!(store.list("").unwrap(), model.into_keys().collect::<Vec<_>>());
}
