//! What options of RocksDB may be.

use super::value::config_enum;

config_enum! {
    /// Settings of RocksDB that fit a kind of machine together.
    pub enum RocksDbProfile {
        /// What each option says.
        Default = "DEFAULT" | "default",
        /// Disks that turn.
        SpinningDisk = "SPINNING_DISK_OPTIMIZED" | "spinning_disk_optimized",
        /// Disks that turn, and much memory.
        SpinningDiskHighMemory = "SPINNING_DISK_OPTIMIZED_HIGH_MEM" | "spinning_disk_optimized_high_mem",
        /// Flash.
        Flash = "FLASH_SSD_OPTIMIZED" | "flash_ssd_optimized",
    }
}

config_enum! {
    /// How files of RocksDB are merged.
    pub enum RocksDbCompaction {
        /// In levels, each ten times as large as the one before.
        Level = "LEVEL" | "level",
        /// In sorted runs: less is written, more space is taken.
        Universal = "UNIVERSAL" | "universal",
    }
}

config_enum! {
    /// How a level of RocksDB's files is compressed.
    pub enum RocksDbCompression {
        /// Not at all.
        None = "NO_COMPRESSION" | "no_compression",
        /// LZ4.
        Lz4 = "LZ4_COMPRESSION" | "lz4_compression",
        /// Zstandard.
        Zstd = "ZSTD_COMPRESSION" | "zstd_compression" | "zstd",
    }
}

config_enum! {
    /// What RocksDB's own log says.
    pub enum RocksDbLogLevel {
        /// Everything.
        Debug = "DEBUG_LEVEL" | "debug_level",
        /// What it does.
        Info = "INFO_LEVEL" | "info_level",
        /// What is out of the ordinary.
        Warn = "WARN_LEVEL" | "warn_level",
        /// What has failed.
        Error = "ERROR_LEVEL" | "error_level",
        /// What it cannot go on from.
        Fatal = "FATAL_LEVEL" | "fatal_level",
        /// How it was opened, and nothing else.
        Header = "HEADER_LEVEL" | "header_level",
    }
}
