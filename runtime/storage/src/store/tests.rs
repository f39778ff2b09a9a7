//! The stores of this crate do what every store must.

use super::{BlobStore, LocalStore, MemoryStore, conformance};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

#[test]
fn a_directory_is_a_store() {
    let dir = TempDir::new().unwrap();
    let stores = AtomicU32::new(0);
    let empty = || -> Box<dyn BlobStore> {
        let number = stores.fetch_add(1, Ordering::Relaxed);
        let root = dir.path().join(format!("not/yet/{number}"));
        Box::new(LocalStore::open(root.to_str().unwrap()).unwrap())
    };
    conformance::check(&empty);
}

#[test]
fn memory_is_a_store() {
    conformance::check(&|| Box::new(MemoryStore::new()));
}
