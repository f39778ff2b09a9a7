//! The REST API of a cluster, as a part of Flink's: its paths, methods and field names.
//!
//! It stores nothing. It promises that what it answers is what the Dispatcher and the ResourceManager say, that a body is bounded, and that only
//! this machine is served: a request names a host of this machine, and comes from no page of another one. It refuses to know
//! how jobs run.

mod applications;
mod artifacts;
mod checkpoints;
mod error;
mod exposition;
mod forward;
mod guard;
mod jobs;
mod machines;
mod metrics;
mod operations;
mod request;
mod routes;
mod savepoints;
mod server;
mod settings;
mod shape;
mod vertices;

pub use artifacts::{RunRequest, Uploaded};
pub use savepoints::{Format, SavepointRequest, StopRequest};
pub use server::{Listening, RestConfig, serve};

pub use hurtig_reporters::Reporting;
