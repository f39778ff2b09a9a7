//! Metrics: numbers that a task writes and anyone may read while it runs.
//!
//! A metric has **one writer**, the task that holds the [`Counter`], [`Gauge`], [`Meter`] or
//! [`Histogram`], and any number of readers through the [`MetricRegistry`]. So a write is a relaxed
//! load and a relaxed store, without a locked instruction, and costs about a nanosecond. A reader sees
//! each number a moment late, and two numbers of one metric may be a write apart.
//!
//! The writers are neither `Clone` nor usable through a shared reference from two threads at once
//! (they are `!Sync`), which keeps the rule of one writer true:
//!
//! ```compile_fail,E0277
//! let counter = hurtig_core::metrics::Counter::new();
//! std::thread::scope(|scope| {
//!     scope.spawn(|| counter.inc());
//! });
//! ```
//!
//! Names and scopes are Flink's where Flink has the metric (`numRecordsIn`, `currentInputWatermark`).
//! This module refuses to know a clock (rates are told the time) and reporters, which read
//! [`MetricRegistry::samples`].

mod histogram;
mod place;
mod primitives;
mod registry;

pub use histogram::{Histogram, HistogramSnapshot};
pub use place::MetricPlace;
pub use primitives::{Counter, Gauge, Meter};
pub use registry::{MetricGroup, MetricRegistry, MetricSample, MetricScope, MetricValue};
