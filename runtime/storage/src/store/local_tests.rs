//! Tests of what only a store of files can do or suffer.

use super::{BlobStore, LocalStore};
use crate::error::StorageError;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A store in a directory that does not exist yet, and what removes it.
pub(super) fn local() -> (LocalStore, TempDir) {
    let dir = TempDir::new().unwrap();
    let store = LocalStore::open(dir.path().join("not/yet").to_str().unwrap()).unwrap();
    (store, dir)
}

/// All names below a directory, unfinished files and folders too.
fn names_below(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        names.push(name.clone());
        if entry.file_type().unwrap().is_dir() {
            names.extend(
                names_below(&entry.path())
                    .iter()
                    .map(|below| format!("{name}/{below}")),
            );
        }
    }
    names.sort();
    names
}

#[test]
fn unfinished_files_are_no_objects_and_are_swept() {
    let (store, _dir) = local();
    for path in ["job/chk-1/a", "job/chk-2/a"] {
        store.put_new(path, b"whole").unwrap();
    }
    for left in ["job/chk-1/.tmp-77-0", "job/chk-2/.tmp-77-1", "job/.tmp-77-2"] {
        fs::write(store.root().join(left), b"ha").unwrap();
    }
    assert_eq!(store.list("").unwrap(), ["job/chk-1/a", "job/chk-2/a"]);
    assert_eq!(store.sweep("job/chk-1").unwrap(), 1);
    assert!(
        store.root().join("job/chk-2/.tmp-77-1").exists(),
        "not in the folder"
    );
    assert_eq!(store.sweep("").unwrap(), 2);
    assert_eq!(store.sweep("").unwrap(), 0);
    assert_eq!(store.list("").unwrap(), ["job/chk-1/a", "job/chk-2/a"]);
    assert_eq!(store.get("job/chk-1/a").unwrap(), b"whole");
}

#[test]
fn delete_all_removes_unfinished_files_and_the_folders() {
    let (store, _dir) = local();
    for path in ["job/chk-1/a", "job/chk-1/sub/b", "job/chk-2/a"] {
        store.put_new(path, b"1").unwrap();
    }
    for left in [
        "job/chk-1/.tmp-1-0",
        "job/chk-1/sub/.tmp-1-1",
        "job/chk-2/.tmp-1-2",
    ] {
        fs::write(store.root().join(left), b"ha").unwrap();
    }
    fs::create_dir_all(store.root().join("job/chk-1/empty/er")).unwrap();
    store.delete_all("job/chk-1").unwrap();
    let left = ["job", "job/chk-2", "job/chk-2/.tmp-1-2", "job/chk-2/a"];
    assert_eq!(names_below(store.root()), left);
    store.delete_all("").unwrap();
    assert!(names_below(store.root()).is_empty() && store.root().is_dir());
}

#[test]
fn a_write_leaves_nothing_but_its_object() {
    let (store, _dir) = local();
    store.put_new("a/x", b"1").unwrap();
    store.put_new("a/x", b"2").unwrap_err();
    assert_eq!(names_below(store.root()), ["a", "a/x"]);
    // A dead process of the same number may have left what we would name ours.
    for number in 0..2_000 {
        fs::write(
            store
                .root()
                .join(format!("a/.tmp-{}-{number}", std::process::id())),
            b"",
        )
        .unwrap();
    }
    store.put_new("a/y", b"3").unwrap();
    assert_eq!(store.get("a/y").unwrap(), b"3");
    assert_eq!(store.sweep("a").unwrap(), 2_000);
}

#[test]
fn a_link_to_a_directory_is_not_followed() {
    let (store, dir) = local();
    store.put_new("job/a", b"1").unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), b"1").unwrap();
    std::os::unix::fs::symlink(&outside, store.root().join("job/link")).unwrap();
    assert!(
        !store
            .list("")
            .unwrap()
            .iter()
            .any(|path| path.contains("precious"))
    );
    store.delete_all("job").unwrap();
    assert!(outside.join("precious").exists());
    assert!(names_below(store.root()).is_empty());
}

#[test]
fn a_root_that_is_a_file_is_an_error_with_the_path() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("file");
    fs::write(&root, b"precious").unwrap();
    let store = LocalStore::open(root.to_str().unwrap()).unwrap();
    let error = store.put_new("job/a", b"1").unwrap_err();
    assert!(error.to_string().contains("'job/a'"), "{error}");
    assert!(matches!(error, StorageError::Io { .. }) && error.can_retry());
    assert_eq!(fs::read(&root).unwrap(), b"precious");
}

#[test]
fn a_folder_that_vanishes_during_a_write_is_an_error_of_the_disk() {
    let (store, dir) = local();
    store.put_new("job/a", b"1").unwrap();
    // The name is taken, and there is no directory to write to: as when another process deletes it
    // between two steps of a write.
    std::os::unix::fs::symlink(dir.path().join("nowhere"), store.root().join("gone")).unwrap();
    let error = store.put_new("gone/a", b"1").unwrap_err();
    assert!(
        matches!(&error, StorageError::Io { path, .. } if path == "gone/a"),
        "{error:?}"
    );
    assert!(error.can_retry());
}
