//! What a cluster measures, under Flink's names: as one text for Prometheus, and for reporters that are told every so often.
//!
//! [`Collector`] asks the jobmanager, the TaskManagers and the JobMasters; [`Metric`] is one number with Flink's scope and
//! variables; [`exposition`] writes all of them as Prometheus reads them. This crate refuses to know HTTP.

mod collect;
mod filter;
mod job;
mod lines;
mod machine;
mod metric;
mod names;
mod prometheus;
mod report;
mod settings;

pub use collect::{Collector, Snapshot};
pub use job::{of_availability, of_checkpoints};
pub use machine::of_machine;
pub use metric::{Level, Metric};
pub use prometheus::{Limits, exposition};
pub use settings::Reporting;
