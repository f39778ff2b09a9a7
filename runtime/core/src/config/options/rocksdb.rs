//! How RocksDB is tuned.

use crate::config::{
    AnyOption, ByteSize, ConfigOption, RocksDbCompaction, RocksDbCompression, RocksDbLogLevel,
    RocksDbProfile, Scope,
};

/// Settings for a kind of machine.
pub static ROCKSDB_PROFILE: ConfigOption<RocksDbProfile> = ConfigOption::new(
    "state.backend.rocksdb.predefined-options",
    Scope::Program,
    || RocksDbProfile::Default,
    "Settings that fit a kind of machine together; an option of RocksDB that is set itself counts more. \
     `SPINNING_DISK_OPTIMIZED`: 4 background threads, all files stay open. `SPINNING_DISK_OPTIMIZED_HIGH_MEM`: also blocks of 128 KiB, \
     files of 256 MiB, a first level of 1 GiB, four memtables of which three are merged. `FLASH_SSD_OPTIMIZED`: 4 background threads, all files stay open.",
)
.flink("DEFAULT");

/// Background threads.
pub static ROCKSDB_THREADS: ConfigOption<u32> = ConfigOption::new(
    "state.backend.rocksdb.thread.num",
    Scope::Program,
    || 2,
    "Threads of one store that flush and compact.",
)
.flink("2")
.accepting(|threads| (1..=256).contains(threads), "an integer from 1 to 256");

/// Threads that read.
pub static ROCKSDB_READERS: ConfigOption<u32> = ConfigOption::new(
    "state.backend.rocksdb.read.thread.num",
    Scope::Program,
    || 4,
    "Threads of a process that help its tasks when they look for many keys at once: more of them keep a disk busier. With 0 each \
     task reads alone.",
)
.accepting(|threads| *threads <= 256, "an integer from 0 to 256");

/// Open files.
pub static ROCKSDB_OPEN_FILES: ConfigOption<i32> = ConfigOption::new(
    "state.backend.rocksdb.files.open",
    Scope::Program,
    || 1_024,
    "Files that one store keeps open; with -1 all. What RocksDB remembers of open files is not part of its memory.",
)
.flink("-1")
.accepting(|files| *files == -1 || *files >= 20, "-1 or an integer of at least 20");

/// Size of a memtable.
pub static ROCKSDB_WRITE_BUFFER_SIZE: ConfigOption<ByteSize> = ConfigOption::new(
    "state.backend.rocksdb.writebuffer.size",
    Scope::Program,
    || ByteSize::mb(64),
    "A memtable, of which each state has one that is being filled, is written to a file when it has this size, or a sixth of \
     RocksDB's memory if that is less.",
)
.flink("64 mb")
.accepting(|size| *size >= ByteSize::kb(1), "at least `1 kb`");

/// Memtables of a state.
pub static ROCKSDB_WRITE_BUFFERS: ConfigOption<u32> = ConfigOption::new(
    "state.backend.rocksdb.writebuffer.count",
    Scope::Program,
    || 2,
    "Memtables of a state, full ones that wait to be written among them; when all are full writing waits.",
)
.flink("2")
.accepting(|count| (2..=64).contains(count), "an integer from 2 to 64");

/// Memtables in a file.
pub static ROCKSDB_MERGED_WRITE_BUFFERS: ConfigOption<u32> = ConfigOption::new(
    "state.backend.rocksdb.writebuffer.number-to-merge",
    Scope::Program,
    || 1,
    "Memtables that are merged into one file. Less than `state.backend.rocksdb.writebuffer.count`, or writing would wait for ever: more \
     are taken for one less than that.",
)
.flink("1")
.accepting(|count| (1..=64).contains(count), "an integer from 1 to 64");

/// Share of memtables.
pub static ROCKSDB_WRITE_BUFFER_RATIO: ConfigOption<f64> = ConfigOption::new(
    "state.backend.rocksdb.memory.write-buffer-ratio",
    Scope::Program,
    || 0.5,
    "Share of RocksDB's memory for what is not written yet; the rest is for blocks.",
)
.flink("0.5")
.accepting(|ratio| *ratio > 0.0 && *ratio < 1.0, "a number between 0 and 1");

/// Indexes in parts.
pub static ROCKSDB_PARTITIONED_FILTERS: ConfigOption<bool> = ConfigOption::new(
    "state.backend.rocksdb.memory.partitioned-index-filters",
    Scope::Program,
    || true,
    "Whether indexes and filters of files are read in parts, so that those in use fit a small memory. When they are not, each is \
     read as a whole.",
)
.flink("false");

/// Size of blocks.
pub static ROCKSDB_BLOCK_SIZE: ConfigOption<ByteSize> = ConfigOption::new(
    "state.backend.rocksdb.block.blocksize",
    Scope::Program,
    || ByteSize::kb(4),
    "What is read of a file at once, before compression.",
)
.flink("4 kb")
.accepting(
    |size| (ByteSize::kb(1)..=ByteSize::mb(64)).contains(size),
    "a size from `1 kb` to `64 mb`",
);

/// Size of parts of indexes.
pub static ROCKSDB_METADATA_BLOCK_SIZE: ConfigOption<ByteSize> = ConfigOption::new(
    "state.backend.rocksdb.block.metadata-blocksize",
    Scope::Program,
    || ByteSize::kb(4),
    "What is read of a partitioned index or filter at once.",
)
.flink("4 kb")
.accepting(
    |size| (ByteSize::kb(1)..=ByteSize::mb(64)).contains(size),
    "a size from `1 kb` to `64 mb`",
);

/// Filters of files.
pub static ROCKSDB_BLOOM_FILTER: ConfigOption<bool> = ConfigOption::new(
    "state.backend.rocksdb.use-bloom-filter",
    Scope::Program,
    || true,
    "Whether files have a filter that tells most keys that are not in them.",
)
.flink("false");

/// Size of filters.
pub static ROCKSDB_BLOOM_BITS: ConfigOption<f64> = ConfigOption::new(
    "state.backend.rocksdb.bloom-filter.bits-per-key",
    Scope::Program,
    || 10.0,
    "Bits of a filter for a key: with 10 one look-up in a hundred reads in vain.",
)
.flink("10.0")
.accepting(|bits| (1.0..=100.0).contains(bits), "a number from 1 to 100");

/// Compression of levels.
pub static ROCKSDB_COMPRESSION: ConfigOption<Vec<RocksDbCompression>> = ConfigOption::new(
    "state.backend.rocksdb.compression.per.level",
    Scope::Program,
    Vec::new,
    "How each level is compressed, from the first; the last one named counts for all that follow. When none is named, all by LZ4 \
     but the last by Zstandard.",
)
.flink("SNAPPY_COMPRESSION")
.accepting(|levels| levels.len() <= 7, "at most seven of `NO_COMPRESSION`, `LZ4_COMPRESSION`, `ZSTD_COMPRESSION`");

/// How files are merged.
pub static ROCKSDB_COMPACTION: ConfigOption<RocksDbCompaction> = ConfigOption::new(
    "state.backend.rocksdb.compaction.style",
    Scope::Program,
    || RocksDbCompaction::Level,
    "How files are merged. RocksDB's `FIFO` would lose state, and so would never merging.",
)
.flink("LEVEL");

/// Sizes of levels.
pub static ROCKSDB_DYNAMIC_LEVELS: ConfigOption<bool> = ConfigOption::new(
    "state.backend.rocksdb.compaction.level.use-dynamic-size",
    Scope::Program,
    || true,
    "Whether the sizes of levels follow what the last one holds.",
)
.flink("false");

/// Size of files.
pub static ROCKSDB_TARGET_FILE_SIZE: ConfigOption<ByteSize> = ConfigOption::new(
    "state.backend.rocksdb.compaction.level.target-file-size-base",
    Scope::Program,
    || ByteSize::mb(64),
    "Size of the files of the first level.",
)
.flink("64 mb")
.accepting(|size| *size >= ByteSize::kb(64), "at least `64 kb`");

/// Size of the first level.
pub static ROCKSDB_LEVEL_BASE_SIZE: ConfigOption<ByteSize> = ConfigOption::new(
    "state.backend.rocksdb.compaction.level.max-size-level-base",
    Scope::Program,
    || ByteSize::mb(256),
    "All files of the first level together.",
)
.flink("256 mb")
.accepting(|size| *size >= ByteSize::mb(1), "at least `1 mb`");

/// RocksDB's log.
pub static ROCKSDB_LOG_LEVEL: ConfigOption<RocksDbLogLevel> = ConfigOption::new(
    "state.backend.rocksdb.log.level",
    Scope::Program,
    || RocksDbLogLevel::Warn,
    "What RocksDB writes into its own log.",
)
.flink("INFO_LEVEL");

/// Place of RocksDB's log.
pub static ROCKSDB_LOG_DIR: ConfigOption<Option<String>> = ConfigOption::new(
    "state.backend.rocksdb.log.dir",
    Scope::Program,
    || None,
    "Directory of RocksDB's own logs, named after each store's directory. When it is not set, a log is beside its store's files and removed with them.",
)
.flink("(none)");

/// Files of RocksDB's log.
pub static ROCKSDB_LOG_FILES: ConfigOption<u32> = ConfigOption::new(
    "state.backend.rocksdb.log.file-num",
    Scope::Program,
    || 2,
    "How many files of a log are kept.",
)
.flink("4")
.accepting(|files| (1..=1_000).contains(files), "an integer from 1 to 1000");

/// Size of RocksDB's log.
pub static ROCKSDB_LOG_FILE_SIZE: ConfigOption<ByteSize> = ConfigOption::new(
    "state.backend.rocksdb.log.max-file-size",
    Scope::Program,
    || ByteSize::mb(1),
    "Size at which another file of a log is begun.",
)
.flink("25 mb")
.accepting(|size| *size >= ByteSize::kb(4), "at least `4 kb`");

pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &ROCKSDB_PROFILE,
    &ROCKSDB_THREADS,
    &ROCKSDB_READERS,
    &ROCKSDB_OPEN_FILES,
    &ROCKSDB_WRITE_BUFFER_SIZE,
    &ROCKSDB_WRITE_BUFFERS,
    &ROCKSDB_MERGED_WRITE_BUFFERS,
    &ROCKSDB_WRITE_BUFFER_RATIO,
    &ROCKSDB_PARTITIONED_FILTERS,
    &ROCKSDB_BLOCK_SIZE,
    &ROCKSDB_METADATA_BLOCK_SIZE,
    &ROCKSDB_BLOOM_FILTER,
    &ROCKSDB_BLOOM_BITS,
    &ROCKSDB_COMPRESSION,
    &ROCKSDB_COMPACTION,
    &ROCKSDB_DYNAMIC_LEVELS,
    &ROCKSDB_TARGET_FILE_SIZE,
    &ROCKSDB_LEVEL_BASE_SIZE,
    &ROCKSDB_LOG_LEVEL,
    &ROCKSDB_LOG_DIR,
    &ROCKSDB_LOG_FILES,
    &ROCKSDB_LOG_FILE_SIZE,
];
