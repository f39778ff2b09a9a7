//! Configuration: every option of Hurtig, where its value comes from, and what is wrong with it.
//!
//! An option is declared once, as a typed constant in [`options`]; parsing, validation, the reference
//! page and the commented default file all follow from that declaration. Values come from layers, a
//! later one winning over an earlier one:
//!
//! 1. in a job that a cluster runs, what the cluster's configuration says of jobs ([`JobDefaults`]);
//! 2. the YAML file (`configs/hurtig.yaml`), with flat keys or nested maps;
//! 3. environment variables: `HURTIG_PARALLELISM_DEFAULT` sets `parallelism.default`;
//! 4. the command line: `-D key=value`;
//! 5. program code, which may set the options of programs but not those of the cluster.
//!
//! A key that no option has and a value that its option does not accept are errors that stop start-up;
//! all of them are collected and reported together ([`ConfigErrors`]).
//!
//! This module refuses to know files and the process's environment: it is handed their contents, so
//! that two differently configured clusters fit in one process.
//!
//! ```
//! use hurtig_core::config::{Configuration, options};
//!
//! let config = Configuration::builder()
//!     .yaml("hurtig.yaml", "pipeline:\n  batch-size: 512\n  name: clicks")
//!     .environment([("HURTIG_PARALLELISM_DEFAULT".into(), "4".into())])
//!     .definitions(["pipeline.name=visits"])
//!     .build()?;
//! assert_eq!(config.get(&options::PARALLELISM_DEFAULT), 4);
//! assert_eq!(config.get(&options::BATCH_SIZE), 512);
//! assert_eq!(config.get(&options::PIPELINE_NAME).as_deref(), Some("visits"));
//! # Ok::<(), hurtig_core::config::ConfigErrors>(())
//! ```

mod builder;
mod configuration;
mod docs;
mod error;
mod kinds;
mod option;
pub mod options;
mod redaction;
mod registry;
mod rocksdb;
mod source;
mod structured;
#[cfg(test)]
mod tests;
mod units;
mod value;
mod watermarks;
mod yaml;

pub use builder::ConfigurationBuilder;
pub use configuration::{Configuration, Entry, JobDefaults};
pub use docs::{default_yaml, reference_markdown};
pub use error::{ConfigError, ConfigErrors};
pub use kinds::{
    BufferTimeout, CheckpointRetention, CheckpointingMode, ClaimMode, ExchangeCompression, FailoverStrategy,
    HighAvailability, Limit, MaxParallelism, RecordForm, RestAuthentication, RestartStrategy,
    SavepointFormat, Scheduler, SchedulerMode, SignalAction, SnapshotCompression, StateBackendKind,
    VertexDescriptionMode,
};
pub use option::{AnyOption, ConfigOption, Scope};
pub use redaction::{HIDDEN, Redaction};
pub use registry::{all, find};
pub use rocksdb::{RocksDbCompaction, RocksDbCompression, RocksDbLogLevel, RocksDbProfile};
pub use source::Source;
pub use units::ByteSize;
pub use value::{ConfigValue, Shape};
pub use watermarks::{WatermarkEmitStrategy, WatermarkOptions};
