//! RocksDB keeps the promises of a byte store.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use hurtig_rocksdb::{RocksFactory, RocksMemory};
use hurtig_state::store::conformance;

#[test]
fn with_plenty_of_memory() {
    let scratch = tempfile::tempdir().unwrap();
    conformance::check(&RocksFactory::new(RocksMemory::new(64 << 20)), scratch.path());
}

/// Memtables are flushed in the middle of everything.
#[test]
fn with_the_least_memory() {
    let scratch = tempfile::tempdir().unwrap();
    conformance::check(&RocksFactory::new(RocksMemory::new(0)), scratch.path());
}
