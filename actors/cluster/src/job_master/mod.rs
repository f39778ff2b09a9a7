//! The JobMaster: runs one job's ExecutionGraph from submission to its one result.

mod accumulators;
mod brain;
mod checkpointing;
pub mod checkpoints;
mod descriptors;
mod events;
mod failures;
mod metadata;
mod restart;
mod savepoints;
mod shared;
mod shell;
mod slots;
mod splits;
mod statistics;
mod storage;
#[cfg(test)]
mod tests;

pub use brain::JobMasterBrain;
pub use events::{FoundCheckpoint, JobEffect, JobEvent, JobSettings, StorageWork};
pub use restart::RestartStrategy;
pub(crate) use shell::{JobMaster, JobMasterEvent, JobMasterLinks, SavepointCall};
pub use statistics::{CheckpointStatistics, CompletedCheckpoint, FailedCheckpoint};
