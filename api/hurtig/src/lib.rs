//! Hurtig: stateful computation over data streams.
//!
//! This crate is what programs depend on: [`StreamEnv`] describes and runs them, [`prelude`] holds
//! what most of them need, [`testing`] tests operators without a cluster. It promises that a program
//! means the same embedded and on a cluster. It refuses to know how the engine works inside.
//!
//! ```
//! use hurtig::prelude::*;
//!
//! # fn main() -> Result<()> {
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let env = StreamEnv::new();
//! let mut counts = env
//!     .from_collection(["to be", "or not", "to be"].map(String::from))
//!     .flat_map(|line: String, out| line.split(' ').for_each(|word| out.emit(word.to_owned())))
//!     .key_by(|word| word.clone())
//!     .count()
//!     .execute_and_collect("word count")
//!     .await?;
//! counts.sort();
//! assert_eq!(counts.last(), Some(&("to".to_owned(), 2)));
//! # Ok(())
//! # })
//! # }
//! ```

// The allocator must be chosen where the program is linked; programs with another say
// `default-features = false`.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod aggregates;
mod backend;
mod client;
mod data;
pub mod entry;
mod env;
mod error;
mod inspect;
mod interrupt;
mod listener;
mod logging;
mod mini_cluster;
mod note;
mod parameters;
mod place;
mod role;
mod settings;
mod stores;
mod stream;
mod submission;
mod window;

pub use aggregates::{Average, Count, Sum};
pub use client::{JobClient, JobResult};
pub use data::Data;
pub use env::StreamEnv;
pub use error::{Error, Result};
pub use hurtig_cluster::{CheckpointKind, TakenCheckpoint};
pub use hurtig_macros::{StableKey, main};
pub use hurtig_storage::SavepointFormat;
pub use inspect::{dispose_savepoint, inspect_snapshot};
pub use listener::JobListener;
pub use parameters::Parameters;
pub use stores::blob_stores;
pub use stream::{
    BroadcastConnectedStreams, CollectHandle, CollectSink, ConnectedStreams, DataStream, DiscardingSink,
    KeyedBroadcastConnectedStreams, KeyedConnectedStreams, KeyedStream, StreamSink,
};
pub use window::{Cumulating, IntoAssigner, Session, Sliding, Tumbling, WindowedStream};

pub use hurtig_core as core;
pub use hurtig_dataflow as dataflow;
pub use hurtig_state as state;

/// Sources and sinks.
pub mod connectors {
    pub use crate::stream::DiscardingSink;
    pub use hurtig_connector_datagen::{CollectionSource, GeneratorSource, IteratorSource, SequenceSource};
    pub use hurtig_connector_files::{
        BucketAssigner, DateTimeBuckets, FileSink, FileSource, Malformed, PartFormat, RollingPolicy,
        SingleFileSink,
    };
    pub use hurtig_connector_socket::{SocketSink, SocketSource, StdinSource, StdoutSink};
    pub use hurtig_dataflow::write_ahead::{CommitId, WriteAheadSink, WriteAheadTarget};
}

/// The embedded cluster, as actors.
pub mod cluster {
    pub use hurtig_cluster::*;
}

/// Tests of functions, operators and sources without a cluster (the harnesses, the torture kit), and of programs
/// that share one.
pub mod testing {
    pub use crate::mini_cluster::MiniCluster;
    pub use hurtig_core::time::ManualClock;
    pub use hurtig_dataflow::testing::*;
}

/// What most programs need.
pub mod prelude {
    pub use crate::connectors::*;
    pub use crate::{
        Average, Count, Cumulating, Data, DataStream, JobClient, JobResult, KeyedStream, Parameters, Result,
        Session, Sliding, StableKey, StreamEnv, Sum, Tumbling, WindowedStream,
    };
    pub use hurtig_core::accumulators::Accumulator;
    pub use hurtig_core::str::Str;
    pub use hurtig_core::time::DurationExt;
    pub use hurtig_core::{Batch, UserError};
    pub use hurtig_dataflow::broadcast::{
        BroadcastProcessFunction, KeyedBroadcastCx, KeyedBroadcastProcessFunction,
    };
    pub use hurtig_dataflow::function::{
        CoProcessFunction, Emitter, KeyedCoProcessFunction, KeyedCx, KeyedOpenContext, KeyedProcessFunction,
        ProcessCx, ProcessFunction,
    };
    pub use hurtig_dataflow::operator::{Collector, OpenContext, OutputTag};
    pub use hurtig_dataflow::operators::{WatermarkStrategy, Watermarks};
    pub use hurtig_dataflow::rich::{FilterFunction, FlatMapFunction, MapFunction};
    pub use hurtig_dataflow::sink::{Sink, SinkWriter};
    pub use hurtig_dataflow::source::{Source, SourceReader, SourceStatus};
    pub use hurtig_dataflow::timers::TimeDomain;
    pub use hurtig_dataflow::windows::*;
    pub use hurtig_state::{
        AggregateFunction, AggregatingState, BroadcastState, ListState, MapState, ReducingState,
        StateDescriptor, StateTtlConfig, StateVisibility, UpdateType, ValueState,
    };
}

/// The README and the pages of the book, so that `cargo test --doc` compiles and runs their programs.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../../README.md")]
    mod readme {}
    #[doc = include_str!("../../../actors/README.md")]
    mod actors {}
    #[doc = include_str!("../../../docs/getting-started.md")]
    mod getting_started {}
    #[doc = include_str!("../../../docs/programs/README.md")]
    mod first_steps {}
    #[doc = include_str!("../../../docs/programs/sources.md")]
    mod sources {}
    #[doc = include_str!("../../../docs/programs/backlog.md")]
    mod backlog {}
    #[doc = include_str!("../../../docs/programs/transformations.md")]
    mod transformations {}
    #[doc = include_str!("../../../docs/programs/keys-and-state.md")]
    mod keys_and_state {}
    #[doc = include_str!("../../../docs/programs/time-to-live.md")]
    mod time_to_live {}
    #[doc = include_str!("../../../docs/programs/state-types.md")]
    mod state_types {}
    #[doc = include_str!("../../../docs/programs/time.md")]
    mod time {}
    #[doc = include_str!("../../../docs/programs/windows.md")]
    mod windows {}
    #[doc = include_str!("../../../docs/programs/side-outputs.md")]
    mod side_outputs {}
    #[doc = include_str!("../../../docs/programs/sinks.md")]
    mod sinks {}
    #[doc = include_str!("../../../docs/programs/configuration.md")]
    mod configuration {}
    #[doc = include_str!("../../../docs/programs/metrics.md")]
    mod metrics {}
    #[doc = include_str!("../../../docs/how-to/test.md")]
    mod test {}
    #[doc = include_str!("../../../docs/operations/checkpoints.md")]
    mod checkpoints {}
    #[doc = include_str!("../../../docs/operations/savepoints.md")]
    mod savepoints {}
}
