//! Where a program's keyed state is kept, as its configuration says.

use hurtig_core::Result;
use hurtig_core::config::{Configuration, StateBackendKind, options};
use hurtig_state::StateBackend;
#[cfg(feature = "rocksdb")]
use hurtig_state::StoreBackend;
#[cfg(feature = "rocksdb")]
use hurtig_storage::LocalCopies;
use hurtig_task::CheckpointStorage;
#[cfg(feature = "rocksdb")]
use hurtig_task::StoreFiles;
#[cfg(feature = "rocksdb")]
use std::sync::Arc;

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
    stores(config).map(StateBackend::Store)
}

/// Lets checkpoints consist of RocksDB's files, and be restored from them.
#[cfg(feature = "rocksdb")]
pub(crate) fn with_stores(
    storage: CheckpointStorage,
    config: &Configuration,
    backend: &StateBackend,
) -> CheckpointStorage {
    let own = match backend {
        StateBackend::Heap => None,
        StateBackend::Store(stores) => Some(stores.clone()),
    };
    let adopts = own.is_some();
    let copies = own.as_ref().map(|stores| LocalCopies::in_dir(stores.new_path()));
    let if_set = |option| copies.clone().filter(|_| config.get(option));
    let (backup, from_local) = (if_set(&options::LOCAL_BACKUP), if_set(&options::FROM_LOCAL));
    let of_config = config.clone();
    storage.with_stores(StoreFiles {
        // Of use to a job that keeps its state in memory for a restore alone.
        open: Arc::new(move || own.clone().map_or_else(|| stores(&of_config), Ok)),
        backend: "rocksdb",
        adopts,
        incremental: adopts && config.get(&options::INCREMENTAL_CHECKPOINTS),
        backup,
        from_local,
    })
}

#[cfg(not(feature = "rocksdb"))]
pub(crate) fn with_stores(
    storage: CheckpointStorage,
    _: &Configuration,
    _: &StateBackend,
) -> CheckpointStorage {
    storage
}

#[cfg(feature = "rocksdb")]
fn stores(config: &Configuration) -> Result<StoreBackend> {
    use hurtig_rocksdb::{RocksFactory, RocksMemory, RocksSettings};
    use hurtig_state::{CacheMemory, ScratchDir};
    use std::path::PathBuf;

    let base = config.get(&options::ROCKSDB_LOCAL_DIR);
    let base = base.map_or_else(std::env::temp_dir, PathBuf::from);
    let root = ScratchDir::in_dir(&base).map_err(|error| error.context(options::ROCKSDB_LOCAL_DIR.key()))?;
    // Half of the memory for values, half for what RocksDB keeps of its files and has not written yet.
    let half = config.get(&options::MANAGED_MEMORY).as_usize() / 2;
    let settings = RocksSettings::of(config);
    let memory = RocksMemory::with(half, &settings);
    let factory = Arc::new(RocksFactory::with(memory, settings));
    Ok(StoreBackend::new(factory, root, CacheMemory::new(half)))
}
