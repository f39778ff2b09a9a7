//! The built-in operators, and the brains of event time.
//!
//! Operators here know nothing of graphs and names; a program's graph makes them, one instance a
//! subtask, and a chain runs them. Each obeys the contract of [`crate::operator`]: it stops when its
//! budget or its output ends, and can be snapshotted whenever it has returned.

pub mod align;
pub mod backlog;
pub mod merge;
mod split_metrics;
pub mod splits;
pub mod watermark;

mod assign_watermarks;
mod broadcast;
mod connected;
mod flat_map_iter;
mod keyed;
mod prefetch;
mod process;
pub mod rolling;
mod sink;
mod stateless;

pub use align::BarrierAligner;
pub use assign_watermarks::AssignWatermarks;
pub use backlog::BacklogMerger;
pub use broadcast::{BroadcastProcess, KeyedBroadcastProcess};
pub use connected::{CoFlatMap, CoMap, CoProcess, KeyedCoProcess};
pub use flat_map_iter::FlatMapIter;
pub use merge::{WatermarkMerger, WatermarkUpdate};
pub use process::{KeyedProcess, Process};
pub use rolling::{KeyedFold, Reduce, TryReduce};
pub use sink::SinkOperator;
pub use splits::SplitWatermarks;
pub use stateless::{Filter, FilterMap, FlatMap, Inspect, Map, TryFilter, TryFilterMap, TryFlatMap, TryMap};
pub use watermark::{WatermarkGenerator, WatermarkOutput, WatermarkStrategy, Watermarks};

use crate::operator::{Budget, Collector, Progress};
use hurtig_core::Batch;

/// How many records of `input` fit into the output and the budget; takes the fuel for them.
#[inline]
fn granted<In, Out>(input: &Batch<In>, out: &Collector<Out>, b: &mut Budget) -> usize {
    b.take(input.len().min(out.room()))
}

/// `Done` only with empty input.
#[inline]
fn when_empty<T>(input: &Batch<T>) -> Progress {
    if input.is_empty() {
        Progress::Done
    } else {
        Progress::More
    }
}
