//! How stores are tuned, and what bounds their memory.

use crate::error::{Result, RocksError};
use crate::files;
use crate::reads::Readers;
use crate::settings::RocksSettings;
use crate::store::RocksStore;
use hurtig_state::store::{ByteStore, ByteStoreFactory};
use rocksdb::{
    BlockBasedOptions, Cache, DataBlockIndexType, Env, Options, ReadOptions, WriteBufferManager, WriteOptions,
};
use std::path::Path;
use std::sync::Arc;

/// The least that a budget may be.
pub const MIN_MEMORY_BYTES: usize = 1 << 20;
/// Share of a memtable that its own filter may take.
const MEMTABLE_BLOOM_SHARE: f64 = 0.02;

/// The memory that stores share: one cache of blocks, and one bound on what is not written yet.
///
/// As in Flink, of a budget *M* and a share *r* of memtables the cache has (1 - *r*/3) *M* and memtables, which are
/// charged to it, 2*rM*/3: half of them may be full and waiting to be written while the others fill, so that
/// together they stay near *M*. With the usual half these are 5/6 and 1/3 of *M*.
/// Not counted are blocks that a running scan holds and what opened files keep in mind (see
/// [`ByteStore::memory_used`]).
#[derive(Clone)]
pub struct RocksMemory {
    cache: Cache,
    memtables: WriteBufferManager,
    budget: usize,
}

impl RocksMemory {
    /// A budget of `bytes`; at least [`MIN_MEMORY_BYTES`].
    pub fn new(bytes: usize) -> Self {
        Self::with(bytes, &RocksSettings::default())
    }

    /// A budget of `bytes` that is divided as `settings` say.
    pub fn with(bytes: usize, settings: &RocksSettings) -> Self {
        let budget = bytes.max(MIN_MEMORY_BYTES);
        let third = budget as f64 * settings.write_buffer_ratio / 3.0;
        let cache = Cache::new_lru_cache(budget - third as usize);
        let memtables =
            WriteBufferManager::new_write_buffer_manager_with_cache(third as usize * 2, false, cache.clone());
        Self {
            cache,
            memtables,
            budget,
        }
    }

    /// The budget in bytes.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Bytes in use by all stores that share it: blocks and memtables.
    pub fn used(&self) -> usize {
        self.cache.get_usage()
    }

    /// When a memtable of one state is flushed.
    fn memtable_bytes(&self, settings: &RocksSettings) -> usize {
        (self.budget / 6).min(settings.write_buffer.as_usize())
    }
}

impl std::fmt::Debug for RocksMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksMemory")
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// Opens RocksDB stores that share one budget of memory.
#[derive(Clone, Debug)]
pub struct RocksFactory {
    memory: RocksMemory,
    settings: RocksSettings,
    readers: Arc<Readers>,
}

impl RocksFactory {
    /// Stores within `memory`.
    pub fn new(memory: RocksMemory) -> Self {
        Self::with(memory, RocksSettings::default())
    }

    /// Stores within `memory`, tuned as `settings` say.
    pub fn with(memory: RocksMemory, settings: RocksSettings) -> Self {
        let readers = Arc::new(Readers::new(settings.readers as usize));
        Self {
            memory,
            settings,
            readers,
        }
    }

    fn open(&self, dir: &Path) -> Result<Arc<dyn ByteStore>> {
        Ok(Arc::new(RocksStore::open(dir, Tuning::new(self, dir)?)?))
    }
}

impl ByteStoreFactory for RocksFactory {
    fn create(&self, dir: &Path) -> hurtig_core::error::Result<Arc<dyn ByteStore>> {
        files::new_directory("create a store", dir)?;
        let opened = self.open(dir);
        Ok(files::or_remove(opened, dir)?)
    }

    fn restore(&self, checkpoint: &Path, dir: &Path) -> hurtig_core::error::Result<Arc<dyn ByteStore>> {
        files::check_checkpoint(checkpoint)?;
        files::new_directory("restore a checkpoint", dir)?;
        let opened = files::link_checkpoint(checkpoint, dir).and_then(|()| self.open(dir));
        Ok(files::or_remove(opened, dir)?)
    }
}

/// The options of one store.
pub(crate) struct Tuning {
    /// Of the store, and of each state.
    pub(crate) options: Options,
    /// Of files that are written beside the store and taken in. Their writer would compress them as the last level
    /// is, which takes longer than everything else. They stay as they are until a compaction rewrites them.
    pub(crate) taken_in: Options,
    pub(crate) read: ReadOptions,
    /// For most of many keys: whoever looks for them keeps what is found, and blocks with one such key each would push out
    /// of the cache what every key needs (1,024 keys among 10 M: 8.5 us a key, past the cache 5.7).
    pub(crate) read_past_cache: ReadOptions,
    /// For scans, which would push out of the cache what is read again.
    pub(crate) scan: fn() -> ReadOptions,
    pub(crate) write: WriteOptions,
    pub(crate) readers: Arc<Readers>,
}

impl Tuning {
    pub(crate) fn new(factory: &RocksFactory, dir: &Path) -> Result<Self> {
        let (memory, settings) = (&factory.memory, &factory.settings);
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        let taken_in = options(memory, settings).map_err(RocksError::rocks("set up a store", dir))?;
        let mut options = taken_in.clone();
        settings.compress_levels(&mut options);
        Ok(Self {
            options,
            taken_in,
            read: ReadOptions::default(),
            read_past_cache: past_the_cache(),
            scan: past_the_cache,
            write,
            readers: factory.readers.clone(),
        })
    }
}

/// Reads that leave the cache of blocks as it is.
fn past_the_cache() -> ReadOptions {
    let mut read = ReadOptions::default();
    read.fill_cache(false);
    read
}

fn options(memory: &RocksMemory, settings: &RocksSettings) -> std::result::Result<Options, rocksdb::Error> {
    // A store that ends without a checkpoint is lost, so nothing is written when it is closed.
    let mut options = Options::default().get_options_from_string("avoid_flush_during_shutdown=true")?;
    let mut env = Env::new()?;
    env.lower_thread_pool_cpu_priority();
    env.lower_high_priority_thread_pool_cpu_priority();
    options.set_env(&env);
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    settings.apply(&mut options);
    options.set_stats_dump_period_sec(0);
    options.set_write_buffer_manager(&memory.memtables);
    tune_memtables(&mut options, memory.memtable_bytes(settings));
    options.set_block_based_table_factory(&tables(memory, settings));
    settings.compress(&mut options);
    Ok(options)
}

fn tune_memtables(options: &mut Options, bytes: usize) {
    options.set_write_buffer_size(bytes);
    // An arena block near the size of the memtable would flush it for ever.
    options.set_arena_block_size((bytes / 8).min(1 << 20));
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_SHARE);
    options.set_memtable_whole_key_filtering(true);
}

fn tables(memory: &RocksMemory, settings: &RocksSettings) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&memory.cache);
    settings.lay_out(&mut tables);
    tables.set_whole_key_filtering(true);
    tables.set_optimize_filters_for_memory(true);
    // Indexes and filters live in the cache, so that the budget holds for them too.
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_cache_index_and_filter_blocks_with_high_priority(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    tables.set_pin_top_level_index_and_filter(true);
    tables.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    tables
}
