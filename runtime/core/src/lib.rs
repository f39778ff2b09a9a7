//! What every other crate speaks: ids, time, keys, batches, errors, options and metrics.
//!
//! This crate promises stable encodings (key hashes and key groups never change within a version)
//! and typed vocabulary. It refuses to know threads, sockets, files of records, actors and clocks
//! other than the one it is handed.

pub mod accumulators;
pub mod batch;
pub mod config;
pub mod element;
pub mod error;
mod flat;
pub mod ids;
pub mod key;
pub mod metrics;
pub mod steps;
pub mod str;
pub mod time;
pub mod types;
pub mod varint;
pub mod vector;

pub use batch::Batch;
pub use element::{Barrier, Element, Event, WatermarkStatus};
pub use error::{Error, Fault, Result, UserError};
