//! What every byte store must do, as a test that any factory can be put through.
//!
//! ```
//! use hurtig_state::store::{ModelFactory, conformance};
//!
//! let scratch = std::env::temp_dir().join(format!("conformance-{}", std::process::id()));
//! std::fs::create_dir(&scratch)?;
//! conformance::check(&ModelFactory, &scratch);
//! std::fs::remove_dir_all(&scratch)?;
//! # Ok::<(), std::io::Error>(())
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this is a test for those who write stores: it stops where a store fails"
)]

mod checkpoints;
mod contents;
mod random;

use super::{ByteStore, ByteStoreFactory, RunBuilder, StateId, StoreView};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A promise of [`ByteStore`], in words, and the test of it.
pub type Requirement = (&'static str, fn(&Bench<'_>));

/// Every requirement, the basic ones first.
pub const REQUIREMENTS: &[Requirement] = &[
    ("a key has the value written last", contents::last_write_wins),
    ("keys and values may be any bytes", contents::any_bytes),
    ("states do not see each other", contents::states_are_apart),
    ("many keys are answered like one", contents::multi_get),
    ("a scan visits a prefix in order", contents::scans),
    ("a range is deleted exactly", contents::delete_range),
    ("an ingested run is a written one", contents::ingest),
    ("a view stays as it was", contents::views),
    ("only what has expired is dropped", checkpoints::expiring),
    (
        "a store of another kind of directory is refused",
        checkpoints::directories,
    ),
    (
        "a restored checkpoint is the store of its time",
        checkpoints::restore,
    ),
    ("a checkpoint outlives its store", checkpoints::outlives),
    ("a checkpoint lists its files", checkpoints::files),
    (
        "a checkpoint that is not whole is refused",
        checkpoints::not_whole,
    ),
    ("shared files keep their bytes", checkpoints::shared_files),
    ("a checkpoint is a cut", checkpoints::cut),
    ("any history ends like a map's", random::histories),
];

/// Runs every requirement, each in a directory of its own below `scratch`, which exists.
///
/// # Panics
/// At the first that is broken. The test's output names it.
pub fn check(factory: &dyn ByteStoreFactory, scratch: &Path) {
    for (number, requirement) in REQUIREMENTS.iter().enumerate() {
        let dir = scratch.join(format!("requirement-{number}"));
        std::fs::create_dir(&dir).unwrap();
        let named = Named(requirement.0);
        requirement.1(&Bench { factory, dir });
        drop(named);
    }
}

/// Says which requirement was broken when the stack unwinds.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
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

/// Where a requirement makes its stores.
pub struct Bench<'a> {
    factory: &'a dyn ByteStoreFactory,
    dir: PathBuf,
}

impl Bench<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn create(&self, name: &str) -> Arc<dyn ByteStore> {
        self.factory.create(&self.path(name)).unwrap()
    }

    fn restore(&self, checkpoint: &str, name: &str) -> Arc<dyn ByteStore> {
        self.factory
            .restore(&self.path(checkpoint), &self.path(name))
            .unwrap()
    }
}

/// A state's entries as a scan gives them.
type Contents = Vec<(Vec<u8>, Vec<u8>)>;

fn scan(store: &dyn ByteStore, state: StateId, prefix: &[u8]) -> Contents {
    let mut all = Vec::new();
    let visited = store.scan(state, prefix, &mut |key, value| {
        all.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    });
    visited.unwrap();
    all
}

fn scan_view(view: &dyn StoreView, state: StateId, prefix: &[u8]) -> Contents {
    let mut all = Vec::new();
    let visited = view.scan(state, prefix, &mut |key, value| {
        all.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    });
    visited.unwrap();
    all
}

fn get(store: &dyn ByteStore, state: StateId, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = b"left over".to_vec();
    let unwritten = store.is_unwritten(state);
    let found = store.get(state, key, &mut value).unwrap();
    assert!(
        !found || !unwritten,
        "a state that was not written to has a value"
    );
    assert!(found || value.is_empty(), "bytes of no value");
    found.then_some(value)
}

/// A run of puts (`Some`) and deletions (`None`).
fn run(changes: &[(&[u8], Option<&[u8]>)]) -> RunBuilder {
    let mut builder = RunBuilder::new();
    for (key, value) in changes {
        match value {
            Some(value) => builder.put(key, value),
            None => builder.delete(key),
        }
    }
    builder
}

fn write(store: &dyn ByteStore, state: StateId, changes: &[(&[u8], Option<&[u8]>)]) {
    store.write(state, &run(changes).sort()).unwrap();
}

fn entry(key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (key.to_vec(), value.to_vec())
}
