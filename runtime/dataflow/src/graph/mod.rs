//! The three graphs of a job, as plain data and rules.
//!
//! - [`StreamGraph`]: what the program asked for, one node an operator.
//! - [`JobGraph`]: what is submitted: operators chained into vertices, every default decided. It is
//!   serde, holds no code, and can be read by a person ([`JobGraph::plan_json`]).
//! - [`ExecutionGraph`]: what runs: one [`Execution`] a subtask and attempt, with the legal
//!   transitions of jobs and tasks as one table each ([`JobStatus`], [`TaskState`]).
//!
//! This module knows no actor, no clock and no operator code. The same program always yields the
//! same graphs: nothing here depends on hash order, randomness or the machine.

mod chaining;
mod channels;
mod error;
mod execution;
mod identity;
mod job;
mod names;
mod plan;
mod regions;
mod rescale;
mod resolve;
mod settings;
mod states;
mod stream;
#[cfg(test)]
mod tests;
mod validate;

pub use channels::{Distribution, consumers_of, producers_of};
pub use error::GraphError;
pub use execution::{Execution, ExecutionGraph, ExecutionVertex, StateChange};
pub use identity::{Fingerprint, OperatorId};
pub use job::{JobEdge, JobGraph, JobOperator, JobVertex};
pub use regions::{Region, RegionId};
pub use rescale::{Bounds, Elasticity, Parallelisms, Requirements};
pub use settings::{DescriptionMode, GraphSettings};
pub use states::{JobStatus, TaskState};
pub use stream::{
    Chaining, DEFAULT_SLOT_SHARING_GROUP, NodeKind, PartitionKind, StreamEdge, StreamGraph, StreamNode,
};
