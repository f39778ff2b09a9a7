//! The JobMaster: runs one job's ExecutionGraph from submission to its one result.

mod accumulators;
mod brain;
pub mod checkpoints;
mod descriptors;
mod events;
mod failures;
mod restart;
mod shell;
mod slots;
mod splits;
#[cfg(test)]
mod tests;

pub use brain::JobMasterBrain;
pub use events::{JobEffect, JobEvent, JobSettings};
pub use restart::RestartStrategy;
pub(crate) use shell::{JobMaster, JobMasterEvent, JobMasterLinks};
