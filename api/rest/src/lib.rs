//! The REST API of a cluster, as a part of Flink's: its paths, methods and field names.
//!
//! It stores nothing. It promises that what it answers is what the Dispatcher and the ResourceManager say, that whoever may not ask is
//! refused from the head of the request, that a body is bounded in length and time, and that no secret is shown. It refuses to know
//! how jobs run.

mod access;
mod applications;
mod artifacts;
mod body;
mod checkpoints;
mod config;
mod document;
mod error;
mod exposition;
mod forward;
mod guard;
mod jobs;
mod machines;
mod metrics;
mod missing;
mod operations;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod reference;
mod request;
mod rescaling;
mod routes;
mod savepoints;
mod server;
mod settings;
mod shape;
mod tls;
mod tokens;
mod vertices;

pub use artifacts::{RunRequest, Uploaded};
pub use config::{Listening, RestConfig, RestConfigError};
pub use rescaling::{JobRequirements, ParallelismBounds, VertexRequirements};
pub use savepoints::{Format, SavepointRequest, StopRequest};
pub use server::serve;

pub use hurtig_reporters::Reporting;
