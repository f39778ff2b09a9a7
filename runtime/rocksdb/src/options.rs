//! How stores are tuned, and what bounds their memory.

use crate::error::{Result, RocksError};
use crate::files;
use crate::store::RocksStore;
use hurtig_state::store::{ByteStore, ByteStoreFactory};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DataBlockIndexType, Env, LogLevel,
    Options, ReadOptions, WriteBufferManager, WriteOptions,
};
use std::path::Path;
use std::sync::Arc;

/// The least that a budget may be.
pub const MIN_MEMORY_BYTES: usize = 1 << 20;
/// A memtable is flushed when it has this size, or its share of a small budget.
const MEMTABLE_BYTES: usize = 64 << 20;
/// Blocks of a table file before compression. Small, since most reads are for one key.
const BLOCK_BYTES: usize = 4 << 10;
/// 10 bits for a key make about one filter in a hundred wrong.
const BLOOM_BITS: f64 = 10.0;
/// Share of a memtable that its own filter may take.
const MEMTABLE_BLOOM_SHARE: f64 = 0.02;
/// Files that one store keeps open.
const MAX_OPEN_FILES: i32 = 1_024;
/// Flushes and compactions of one store at a time.
const BACKGROUND_JOBS: i32 = 2;
/// RocksDB's own log: two files of this size.
const LOG_BYTES: usize = 1 << 20;

/// The memory that stores share: one cache of blocks, and one bound on what is not written yet.
///
/// As in Flink, of a budget *M* the cache has 5/6 *M* and memtables, which are charged to it, *M*/3: half
/// of them may be full and waiting to be written while the others fill, so that together they stay near *M*.
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
        let budget = bytes.max(MIN_MEMORY_BYTES);
        let cache = Cache::new_lru_cache(budget / 6 * 5);
        let memtables =
            WriteBufferManager::new_write_buffer_manager_with_cache(budget / 3, false, cache.clone());
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
    fn memtable_bytes(&self) -> usize {
        (self.budget / 6).min(MEMTABLE_BYTES)
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
}

impl RocksFactory {
    /// Stores within `memory`.
    pub fn new(memory: RocksMemory) -> Self {
        Self { memory }
    }

    fn open(&self, dir: &Path) -> Result<Arc<dyn ByteStore>> {
        Ok(Arc::new(RocksStore::open(dir, Tuning::new(&self.memory, dir)?)?))
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
    /// For scans, which would push out of the cache what is read again.
    pub(crate) scan: fn() -> ReadOptions,
    pub(crate) write: WriteOptions,
}

impl Tuning {
    pub(crate) fn new(memory: &RocksMemory, dir: &Path) -> Result<Self> {
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        let taken_in = options(memory).map_err(RocksError::rocks("set up a store", dir))?;
        let mut options = taken_in.clone();
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        Ok(Self {
            options,
            taken_in,
            read: ReadOptions::default(),
            scan: || {
                let mut read = ReadOptions::default();
                read.fill_cache(false);
                read
            },
            write,
        })
    }
}

fn options(memory: &RocksMemory) -> std::result::Result<Options, rocksdb::Error> {
    // A store that ends without a checkpoint is lost, so nothing is written when it is closed.
    let mut options = Options::default().get_options_from_string("avoid_flush_during_shutdown=true")?;
    let mut env = Env::new()?;
    env.lower_thread_pool_cpu_priority();
    env.lower_high_priority_thread_pool_cpu_priority();
    options.set_env(&env);
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_max_open_files(MAX_OPEN_FILES);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(LOG_BYTES);
    options.set_stats_dump_period_sec(0);
    options.set_write_buffer_manager(&memory.memtables);
    tune_memtables(&mut options, memory.memtable_bytes());
    options.set_block_based_table_factory(&tables(memory));
    options.set_compression_type(DBCompressionType::Lz4);
    Ok(options)
}

fn tune_memtables(options: &mut Options, bytes: usize) {
    options.set_write_buffer_size(bytes);
    // An arena block near the size of the memtable would flush it for ever.
    options.set_arena_block_size((bytes / 8).min(1 << 20));
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_SHARE);
    options.set_memtable_whole_key_filtering(true);
}

fn tables(memory: &RocksMemory) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&memory.cache);
    tables.set_block_size(BLOCK_BYTES);
    tables.set_bloom_filter(BLOOM_BITS, false);
    tables.set_whole_key_filtering(true);
    tables.set_optimize_filters_for_memory(true);
    // Indexes and filters are read in parts and live in the cache, so that the budget holds for them too.
    tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    tables.set_partition_filters(true);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_cache_index_and_filter_blocks_with_high_priority(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    tables.set_pin_top_level_index_and_filter(true);
    tables.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    tables
}
