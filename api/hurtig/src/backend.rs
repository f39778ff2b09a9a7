//! Where a program's keyed state is kept, as its configuration says.

use hurtig_core::Result;
use hurtig_core::config::{Configuration, StateBackendKind, options};
use hurtig_state::StateBackend;

/// The backend of one job.
pub(crate) fn state_backend(config: &Configuration) -> Result<StateBackend> {
    match config.get(&options::STATE_BACKEND) {
        StateBackendKind::HashMap => Ok(StateBackend::Heap),
        StateBackendKind::RocksDb => rocksdb(config),
    }
}

#[cfg(not(feature = "rocksdb"))]
fn rocksdb(_: &Configuration) -> Result<StateBackend> {
    Err(hurtig_core::Error::user(format!(
        "{} is 'rocksdb', and this program was built without that: build it with the feature 'rocksdb' of the crate \
         'hurtig', or set it to 'hashmap'",
        options::STATE_BACKEND.key()
    )))
}

#[cfg(feature = "rocksdb")]
fn rocksdb(config: &Configuration) -> Result<StateBackend> {
    use hurtig_rocksdb::{RocksFactory, RocksMemory};
    use hurtig_state::{CacheMemory, ScratchDir, StoreBackend};
    use std::path::PathBuf;
    use std::sync::Arc;

    let base = config.get(&options::ROCKSDB_LOCAL_DIR);
    let base = base.map_or_else(std::env::temp_dir, PathBuf::from);
    let root = ScratchDir::in_dir(&base).map_err(|error| error.context(options::ROCKSDB_LOCAL_DIR.key()))?;
    // Half of the memory for values, half for what RocksDB keeps of its files and has not written yet.
    let half = config.get(&options::MANAGED_MEMORY).as_usize() / 2;
    let factory = Arc::new(RocksFactory::new(RocksMemory::new(half)));
    let backend = StoreBackend::new(factory, root, CacheMemory::new(half));
    Ok(StateBackend::Store(backend))
}
