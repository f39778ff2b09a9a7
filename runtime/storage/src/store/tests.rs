//! What every store must do. Each test runs on each store of the crate; a store from outside joins
//! by a line in [`cases`].

use super::local_tests::local;
use super::{BlobStore, MemoryStore};
use crate::error::StorageError;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tempfile::TempDir;

/// A store with what keeps it alive.
struct Case {
    name: &'static str,
    store: Box<dyn BlobStore>,
    _dir: Option<TempDir>,
}

fn cases() -> [Case; 2] {
    let (local, dir) = local();
    [
        Case {
            name: "local",
            store: Box::new(local),
            _dir: Some(dir),
        },
        Case {
            name: "memory",
            store: Box::new(MemoryStore::new()),
            _dir: None,
        },
    ]
}

/// Runs a test on an empty store of every kind.
fn on_each_store(test: impl Fn(&dyn BlobStore, &str)) {
    for case in cases() {
        test(&*case.store, case.name);
    }
}

#[test]
fn what_is_put_is_read() {
    on_each_store(|store, name| {
        let bytes: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        store.put_new("job/chk-1/a", &bytes).unwrap();
        store.put_new("top", b"").unwrap();
        assert_eq!(store.get("job/chk-1/a").unwrap(), bytes, "{name}");
        assert_eq!(store.get("top").unwrap(), b"", "{name}");
        assert!(store.exists("job/chk-1/a").unwrap() && store.exists("top").unwrap());
    });
}

#[test]
fn a_taken_path_is_refused_and_keeps_its_bytes() {
    on_each_store(|store, name| {
        store.put_new("a/b", b"old").unwrap();
        for bytes in [&b"new and longer"[..], b"", b"old"] {
            let error = store.put_new("a/b", bytes).unwrap_err();
            assert!(
                matches!(&error, StorageError::AlreadyExists { path } if path == "a/b"),
                "{name}: {error}"
            );
            assert_eq!(store.get("a/b").unwrap(), b"old", "{name}");
        }
        assert_eq!(
            store.sweep("").unwrap(),
            0,
            "{name}: a refused write left something"
        );
        assert_eq!(store.list("").unwrap(), ["a/b"], "{name}");
        store.delete("a/b").unwrap();
        store.put_new("a/b", b"new").unwrap();
        assert_eq!(store.get("a/b").unwrap(), b"new", "{name}");
    });
}

#[test]
fn ranges_end_where_the_object_ends() {
    on_each_store(|store, name| {
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
                .unwrap_or_else(|e| panic!("{name}: {range:?}: {e}"));
            assert_eq!(found, expected, "{name}: {range:?}");
        }
        #[expect(clippy::reversed_empty_ranges, reason = "it is what the store is asked for")]
        let reversed = store.get_range("x", 7..3).unwrap();
        assert_eq!(reversed, b"", "{name}");
    });
}

#[test]
fn what_is_not_there_is_not_found_whatever_is_near_it() {
    on_each_store(|store, name| {
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
                assert!(found, "{name}: '{path}': {error:?}");
            }
            assert!(!store.exists(path).unwrap(), "{name}: '{path}'");
        }
    });
}

#[test]
fn lists_are_recursive_and_sorted_by_bytes() {
    on_each_store(|store, name| {
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
        assert_eq!(store.list("").unwrap(), paths, "{name}");
        assert_eq!(
            store.list("a").unwrap(),
            ["a/x", "a/x.y", "a/x2/deep/er"],
            "{name}"
        );
        assert_eq!(store.list("a/x2").unwrap(), ["a/x2/deep/er"], "{name}");
        for nothing in ["a/x", "a/x/below", "none", "a/x2/deep/er"] {
            assert!(store.list(nothing).unwrap().is_empty(), "{name}: '{nothing}'");
        }
    });
}

#[test]
fn delete_is_idempotent_and_takes_one_object() {
    on_each_store(|store, name| {
        for path in ["a/b", "a/b2", "a/c/d"] {
            store.put_new(path, b"1").unwrap();
        }
        for _ in 0..2 {
            store.delete("a/b").unwrap();
        }
        // Neither a folder nor what would be in a file is an object.
        for path in ["none", "a", "a/c", "a/b2/below"] {
            store
                .delete(path)
                .unwrap_or_else(|e| panic!("{name}: '{path}': {e}"));
        }
        assert_eq!(store.list("").unwrap(), ["a/b2", "a/c/d"], "{name}");
    });
}

#[test]
fn delete_all_takes_a_folder_and_nothing_beside_it() {
    on_each_store(|store, name| {
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
            assert_eq!(store.list("").unwrap(), left, "{name}");
        }
        for nothing in ["none", "top", "top/below"] {
            store
                .delete_all(nothing)
                .unwrap_or_else(|e| panic!("{name}: '{nothing}': {e}"));
        }
        assert!(store.exists("top").unwrap(), "{name}: it is no folder");
        store.put_new("job/chk-1/a", b"again").unwrap();
        store.delete_all("").unwrap();
        assert!(store.list("").unwrap().is_empty(), "{name}");
        store.put_new("job/chk-1/a", b"after").unwrap();
        assert_eq!(store.get("job/chk-1/a").unwrap(), b"after", "{name}");
    });
}

#[test]
fn bad_paths_are_refused_by_every_call() {
    on_each_store(|store, name| {
        store.put_new("a/b", b"1").unwrap();
        let long = "x".repeat(256);
        for bad in [
            "", "/a/b", "../b", "a/../a/b", "a//b", "a/b/", "./a", "a/.tmp-1", "a\\b", "a\0", &long,
        ] {
            let refused = |what: &str, result: crate::error::Result<()>| {
                let error = result.expect_err(what);
                assert!(
                    matches!(&error, StorageError::BadPath { path, .. } if path == bad),
                    "{name}: {what} of {bad:?}: {error}"
                );
            };
            refused("put_new", store.put_new(bad, b"1"));
            refused("get", store.get(bad).map(drop));
            refused("get_range", store.get_range(bad, 0..1).map(drop));
            refused("exists", store.exists(bad).map(drop));
            refused("delete", store.delete(bad));
            if !bad.is_empty() {
                refused("list", store.list(bad).map(drop));
                refused("delete_all", store.delete_all(bad));
                refused("sweep", store.sweep(bad).map(drop));
            }
        }
        assert_eq!(store.list("").unwrap(), ["a/b"], "{name}");
    });
}

#[test]
fn a_reader_never_sees_a_part() {
    const LENGTH: usize = 2_000_000;
    on_each_store(|store, name| {
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
                    assert!(whole, "{name}: {} bytes of '{path}' were seen", bytes.len());
                }
                if last {
                    break;
                }
            }
        });
        assert_eq!(store.list("d").unwrap().len(), 10, "{name}");
    });
}

#[test]
fn of_many_writers_of_one_path_one_wins() {
    const WRITERS: u8 = 4;
    on_each_store(|store, name| {
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
            assert_eq!(winners.len(), 1, "{name}: {results:?}");
            for error in results.iter().filter_map(|result| result.as_ref().err()) {
                assert!(
                    matches!(error, StorageError::AlreadyExists { .. }),
                    "{name}: {error}"
                );
            }
            assert_eq!(
                store.get(&path).unwrap(),
                vec![winners[0] as u8; 100_000],
                "{name}"
            );
        }
        assert_eq!(store.sweep("").unwrap(), 0, "{name}");
    });
}

#[derive(Clone, Debug)]
enum Call {
    Put(String, Vec<u8>),
    Delete(String),
    DeleteAll(String),
    List(String),
}

/// Folders and objects have different names, so that no object's path is also a folder's.
fn calls() -> impl Strategy<Value = Vec<Call>> {
    let folder = proptest::sample::select(vec!["", "p", "p/q", "p/r", "pq"]);
    let path =
        (folder.clone(), 0..3).prop_map(|(folder, file)| crate::path::join(folder, &format!("f{file}")));
    let call = prop_oneof![
        4 => (path.clone(), proptest::collection::vec(any::<u8>(), 0..5)).prop_map(|(p, b)| Call::Put(p, b)),
        2 => path.prop_map(Call::Delete),
        1 => folder.clone().prop_map(|folder| Call::DeleteAll(folder.to_owned())),
        1 => folder.prop_map(|folder| Call::List(folder.to_owned())),
    ];
    proptest::collection::vec(call, 0..30)
}

fn inside(folder: &str, path: &str) -> bool {
    folder.is_empty() || path.starts_with(&format!("{folder}/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn a_store_is_a_map_by_path(calls in calls()) {
        on_each_store(|store, name| {
            let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            for call in &calls {
                match call {
                    Call::Put(path, bytes) => {
                        let fresh = !model.contains_key(path);
                        assert_eq!(store.put_new(path, bytes).is_ok(), fresh, "{name}");
                        model.entry(path.clone()).or_insert_with(|| bytes.clone());
                    }
                    Call::Delete(path) => {
                        store.delete(path).unwrap();
                        model.remove(path);
                    }
                    Call::DeleteAll(folder) => {
                        store.delete_all(folder).unwrap();
                        model.retain(|path, _| !inside(folder, path));
                    }
                    Call::List(folder) => {
                        let expected: Vec<_> = model.keys().filter(|path| inside(folder, path)).cloned().collect();
                        assert_eq!(store.list(folder).unwrap(), expected, "{name}");
                    }
                }
            }
            for (path, bytes) in &model {
                assert_eq!(&store.get(path).unwrap(), bytes, "{name}");
            }
            assert_eq!(store.list("").unwrap(), model.into_keys().collect::<Vec<_>>(), "{name}");
        });
    }
}
