//! [`RocksSettings`]: what a configuration says of RocksDB.

use hurtig_core::config::{
    ByteSize, ConfigOption, ConfigValue, Configuration, RocksDbCompaction, RocksDbCompression,
    RocksDbLogLevel, RocksDbProfile, options,
};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, DBCompactionStyle, DBCompressionType, LogLevel, Options,
};
use std::path::PathBuf;

/// How stores are tuned; by default as `state.backend.rocksdb.*` is by default.
#[derive(Clone, Debug, PartialEq)]
pub struct RocksSettings {
    threads: u32,
    /// Threads of all stores together that look for many keys at once.
    pub(crate) readers: u32,
    open_files: i32,
    pub(crate) write_buffer: ByteSize,
    write_buffers: u32,
    merged_write_buffers: u32,
    /// Share of memory for memtables.
    pub(crate) write_buffer_ratio: f64,
    partitioned: bool,
    block: ByteSize,
    metadata_block: ByteSize,
    /// Bits for a key of a filter, if there are filters.
    bloom_bits: Option<f64>,
    /// From the first level; empty for the usual.
    compression: Vec<RocksDbCompression>,
    compaction: RocksDbCompaction,
    dynamic_levels: bool,
    file: ByteSize,
    level_base: ByteSize,
    log_level: RocksDbLogLevel,
    log_dir: Option<PathBuf>,
    log_files: u32,
    log_file: ByteSize,
}

impl Default for RocksSettings {
    fn default() -> Self {
        Self::of(&Configuration::default())
    }
}

/// What a profile says where an option is not set.
#[derive(Default)]
struct Profile {
    threads: Option<u32>,
    open_files: Option<i32>,
    write_buffers: Option<u32>,
    merged_write_buffers: Option<u32>,
    block: Option<ByteSize>,
    file: Option<ByteSize>,
    level_base: Option<ByteSize>,
}

impl Profile {
    fn of(profile: RocksDbProfile) -> Self {
        let disk = Self {
            threads: Some(4),
            open_files: Some(-1),
            ..Self::default()
        };
        match profile {
            RocksDbProfile::Default => Self::default(),
            RocksDbProfile::SpinningDisk | RocksDbProfile::Flash => disk,
            RocksDbProfile::SpinningDiskHighMemory => Self {
                write_buffers: Some(4),
                merged_write_buffers: Some(3),
                block: Some(ByteSize::kb(128)),
                file: Some(ByteSize::mb(256)),
                level_base: Some(ByteSize::mb(1_024)),
                ..disk
            },
        }
    }
}

/// What an option says if it is set, else a profile, else the option's default.
fn pick<T: ConfigValue>(config: &Configuration, option: &ConfigOption<T>, profile: Option<T>) -> T {
    match profile {
        Some(value) if !config.is_set(option) => value,
        _ => config.get(option),
    }
}

impl RocksSettings {
    /// What `state.backend.rocksdb.*` says.
    pub fn of(config: &Configuration) -> Self {
        let profile = Profile::of(config.get(&options::ROCKSDB_PROFILE));
        let bloom = config.get(&options::ROCKSDB_BLOOM_FILTER);
        let merged = &options::ROCKSDB_MERGED_WRITE_BUFFERS;
        Self {
            threads: pick(config, &options::ROCKSDB_THREADS, profile.threads),
            readers: config.get(&options::ROCKSDB_READERS),
            open_files: pick(config, &options::ROCKSDB_OPEN_FILES, profile.open_files),
            write_buffer: config.get(&options::ROCKSDB_WRITE_BUFFER_SIZE),
            write_buffers: pick(config, &options::ROCKSDB_WRITE_BUFFERS, profile.write_buffers),
            merged_write_buffers: pick(config, merged, profile.merged_write_buffers),
            write_buffer_ratio: config.get(&options::ROCKSDB_WRITE_BUFFER_RATIO),
            partitioned: config.get(&options::ROCKSDB_PARTITIONED_FILTERS),
            block: pick(config, &options::ROCKSDB_BLOCK_SIZE, profile.block),
            metadata_block: config.get(&options::ROCKSDB_METADATA_BLOCK_SIZE),
            bloom_bits: bloom.then(|| config.get(&options::ROCKSDB_BLOOM_BITS)),
            compression: config.get(&options::ROCKSDB_COMPRESSION),
            compaction: config.get(&options::ROCKSDB_COMPACTION),
            dynamic_levels: config.get(&options::ROCKSDB_DYNAMIC_LEVELS),
            file: pick(config, &options::ROCKSDB_TARGET_FILE_SIZE, profile.file),
            level_base: pick(config, &options::ROCKSDB_LEVEL_BASE_SIZE, profile.level_base),
            log_level: config.get(&options::ROCKSDB_LOG_LEVEL),
            log_dir: config.get(&options::ROCKSDB_LOG_DIR).map(PathBuf::from),
            log_files: config.get(&options::ROCKSDB_LOG_FILES),
            log_file: config.get(&options::ROCKSDB_LOG_FILE_SIZE),
        }
    }

    /// Sets what concerns all states of a store, and its log.
    pub(crate) fn apply(&self, options: &mut Options) {
        options.set_max_background_jobs(as_int(self.threads));
        options.set_max_open_files(self.open_files);
        options.set_max_write_buffer_number(as_int(self.write_buffers));
        let merged = self.merged_write_buffers.min(self.write_buffers - 1);
        options.set_min_write_buffer_number_to_merge(as_int(merged));
        options.set_compaction_style(match self.compaction {
            RocksDbCompaction::Level => DBCompactionStyle::Level,
            RocksDbCompaction::Universal => DBCompactionStyle::Universal,
        });
        options.set_level_compaction_dynamic_level_bytes(self.dynamic_levels);
        options.set_target_file_size_base(self.file.as_usize() as u64);
        options.set_max_bytes_for_level_base(self.level_base.as_usize() as u64);
        options.set_log_level(self.rocks_log_level());
        if let Some(dir) = &self.log_dir {
            options.set_db_log_dir(dir);
        }
        options.set_keep_log_file_num(self.log_files as usize);
        options.set_max_log_file_size(self.log_file.as_usize());
    }

    /// Says how levels are compressed; what is taken in is of the first.
    pub(crate) fn compress(&self, options: &mut Options) {
        options.set_compression_type(self.compression.first().map_or(DBCompressionType::Lz4, of_level));
    }

    /// Says how the levels behind the first are compressed.
    pub(crate) fn compress_levels(&self, options: &mut Options) {
        if self.compression.is_empty() {
            options.set_bottommost_compression_type(DBCompressionType::Zstd);
        } else {
            let levels: Vec<DBCompressionType> = self.compression.iter().map(of_level).collect();
            options.set_compression_per_level(&levels);
        }
    }

    /// Sets what concerns blocks of files.
    pub(crate) fn lay_out(&self, tables: &mut BlockBasedOptions) {
        tables.set_block_size(self.block.as_usize());
        tables.set_metadata_block_size(self.metadata_block.as_usize());
        if let Some(bits) = self.bloom_bits {
            tables.set_bloom_filter(bits, false);
        }
        if self.partitioned {
            tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        }
        tables.set_partition_filters(self.partitioned && self.bloom_bits.is_some());
    }

    fn rocks_log_level(&self) -> LogLevel {
        match self.log_level {
            RocksDbLogLevel::Debug => LogLevel::Debug,
            RocksDbLogLevel::Info => LogLevel::Info,
            RocksDbLogLevel::Warn => LogLevel::Warn,
            RocksDbLogLevel::Error => LogLevel::Error,
            RocksDbLogLevel::Fatal => LogLevel::Fatal,
            RocksDbLogLevel::Header => LogLevel::Header,
        }
    }
}

fn of_level(compression: &RocksDbCompression) -> DBCompressionType {
    match compression {
        RocksDbCompression::None => DBCompressionType::None,
        RocksDbCompression::Lz4 => DBCompressionType::Lz4,
        RocksDbCompression::Zstd => DBCompressionType::Zstd,
    }
}

/// A number that an option keeps small.
fn as_int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
