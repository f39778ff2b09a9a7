//! What a configuration says of RocksDB is what RocksDB is opened with, and a store keeps its promises whatever that is.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it stands"
)]

use hurtig_core::config::Configuration;
use hurtig_rocksdb::{RocksFactory, RocksMemory, RocksSettings};
use hurtig_state::store::{ByteStoreFactory, RunBuilder, conformance};

const MEMORY: usize = 96 << 20;

fn factory(settings: &[&str]) -> RocksFactory {
    let keys = settings
        .iter()
        .map(|setting| format!("state.backend.rocksdb.{setting}"));
    let config = Configuration::builder().definitions(keys).build().unwrap();
    let settings = RocksSettings::of(&config);
    RocksFactory::with(RocksMemory::with(MEMORY, &settings), settings)
}

/// What RocksDB has written down of the options that it was opened with.
fn opened_with(settings: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let store = factory(settings).create(&dir).unwrap();
    let files = std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path());
    let options = files
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("OPTIONS-")
        })
        .max()
        .unwrap();
    let text = std::fs::read_to_string(options).unwrap();
    drop(store);
    text.lines().map(|line| format!("{}\n", line.trim())).collect()
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(&format!("\n{line}\n")), "no line {line} in\n{text}");
    }
}

#[test]
fn without_settings_stores_are_tuned_for_state() {
    has(
        &opened_with(&[]),
        &[
            "max_background_jobs=2",
            "max_open_files=1024",
            "max_write_buffer_number=2",
            "min_write_buffer_number_to_merge=1",
            // A sixth of the memory.
            "write_buffer_size=16777216",
            "compaction_style=kCompactionStyleLevel",
            "level_compaction_dynamic_level_bytes=true",
            "target_file_size_base=67108864",
            "max_bytes_for_level_base=268435456",
            "compression=kLZ4Compression",
            "bottommost_compression=kZSTD",
            "block_size=4096",
            "metadata_block_size=4096",
            "partition_filters=true",
            "index_type=kTwoLevelIndexSearch",
            "filter_policy=bloomfilter",
            "info_log_level=WARN_LEVEL",
            "keep_log_file_num=2",
            "max_log_file_size=1048576",
        ],
    );
}

#[test]
fn every_setting_reaches_the_store() {
    let logs = tempfile::tempdir().unwrap();
    let log_dir = format!("log.dir={}", logs.path().display());
    let text = opened_with(&[
        "thread.num=3",
        "files.open=-1",
        "writebuffer.size=8mb",
        "writebuffer.count=5",
        "writebuffer.number-to-merge=2",
        "memory.partitioned-index-filters=false",
        "block.blocksize=16kb",
        "block.metadata-blocksize=8kb",
        "bloom-filter.bits-per-key=12",
        "compression.per.level=NO_COMPRESSION;LZ4_COMPRESSION;ZSTD_COMPRESSION",
        "compaction.style=UNIVERSAL",
        "compaction.level.use-dynamic-size=false",
        "compaction.level.target-file-size-base=32mb",
        "compaction.level.max-size-level-base=128mb",
        "log.level=INFO_LEVEL",
        "log.file-num=7",
        "log.max-file-size=2mb",
        &log_dir,
    ]);
    has(
        &text,
        &[
            "max_background_jobs=3",
            "max_open_files=-1",
            "write_buffer_size=8388608",
            "max_write_buffer_number=5",
            "min_write_buffer_number_to_merge=2",
            "compaction_style=kCompactionStyleUniversal",
            "level_compaction_dynamic_level_bytes=false",
            "target_file_size_base=33554432",
            "max_bytes_for_level_base=134217728",
            "compression_per_level=kNoCompression:kLZ4Compression:kZSTD",
            "bottommost_compression=kDisableCompressionOption",
            "block_size=16384",
            "metadata_block_size=8192",
            "partition_filters=false",
            "index_type=kBinarySearch",
            "info_log_level=INFO_LEVEL",
            "keep_log_file_num=7",
            "max_log_file_size=2097152",
        ],
    );
    assert!(std::fs::read_dir(logs.path()).unwrap().count() > 0, "a log");
    has(
        &opened_with(&["use-bloom-filter=false"]),
        &["filter_policy=nullptr", "partition_filters=false"],
    );
}

#[test]
fn a_profile_counts_where_nothing_else_is_set() {
    let profile = "predefined-options=SPINNING_DISK_OPTIMIZED_HIGH_MEM";
    let of_the_profile = [
        "max_background_jobs=4",
        "max_open_files=-1",
        "max_write_buffer_number=4",
        "min_write_buffer_number_to_merge=3",
        "block_size=131072",
        "target_file_size_base=268435456",
        "max_bytes_for_level_base=1073741824",
    ];
    has(&opened_with(&[profile]), &of_the_profile);
    // Also one that is set to what it is without a profile.
    let text = opened_with(&[profile, "thread.num=2", "writebuffer.count=3", "files.open=99"]);
    has(
        &text,
        &[
            "max_background_jobs=2",
            "max_write_buffer_number=3",
            // Three of three would never be merged.
            "min_write_buffer_number_to_merge=2",
            "max_open_files=99",
            "block_size=131072",
        ],
    );
    for profile in ["SPINNING_DISK_OPTIMIZED", "FLASH_SSD_OPTIMIZED"] {
        let text = opened_with(&[&format!("predefined-options={profile}")]);
        has(
            &text,
            &["max_background_jobs=4", "max_open_files=-1", "block_size=4096"],
        );
    }
}

#[test]
fn what_would_lose_state_or_stand_still_is_refused() {
    for setting in [
        "compaction.style=FIFO",
        "writebuffer.count=1",
        "files.open=0",
        "memory.write-buffer-ratio=1",
        "memory.write-buffer-ratio=NaN",
        "bloom-filter.bits-per-key=-1",
        "compression.per.level=SNAPPY_COMPRESSION",
        "block.blocksize=1b",
        "predefined-options=FAST",
    ] {
        let key = format!("state.backend.rocksdb.{setting}");
        let error = Configuration::builder().definitions([&key]).build().unwrap_err();
        assert!(error.to_string().contains("expects"), "{error}");
    }
}

#[test]
fn a_store_keeps_its_promises_however_it_is_tuned() {
    for settings in [
        &["predefined-options=SPINNING_DISK_OPTIMIZED_HIGH_MEM"][..],
        &[
            "compaction.style=UNIVERSAL",
            "use-bloom-filter=false",
            "memory.partitioned-index-filters=false",
            "compression.per.level=NO_COMPRESSION",
            "writebuffer.size=1kb",
            "memory.write-buffer-ratio=0.05",
        ],
    ] {
        let scratch = tempfile::tempdir().unwrap();
        conformance::check(&factory(settings), scratch.path());
    }
}

#[test]
fn many_keys_are_answered_in_their_order_however_many_threads_read() {
    for threads in ["0", "1", "4"] {
        let folder = tempfile::tempdir().unwrap();
        let store = factory(&[&format!("read.thread.num={threads}")])
            .create(&folder.path().join("store"))
            .unwrap();
        let state = store.open_state("s").unwrap();
        let mut run = RunBuilder::new();
        // Of every third key there is nothing, and some values are empty.
        let value_of = |key: u32| (!key.is_multiple_of(3)).then(|| vec![7; key as usize % 5]);
        for key in 0..5_000 {
            if let Some(value) = value_of(key) {
                run.put(&key.to_be_bytes(), &value);
            }
        }
        store.ingest(state, &run.sort()).unwrap();
        for count in [0, 1, 256, 257, 3_000, 5_000] {
            let keys: Vec<_> = (0..count).map(u32::to_be_bytes).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            let mut answered = 0;
            let read = store.multi_get(state, &keys, &mut |at, found| {
                assert_eq!(at, answered as usize);
                assert_eq!(found, value_of(answered).as_deref(), "{answered} with {threads}");
                answered += 1;
            });
            read.unwrap();
            assert_eq!(answered, count);
        }
    }
}
