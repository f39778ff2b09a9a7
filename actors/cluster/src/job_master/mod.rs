//! The JobMaster: runs one job's ExecutionGraph from submission to its one result.

mod accumulators;
mod assignments;
mod backlog;
mod brain;
mod checkpointing;
pub mod checkpoints;
mod descriptors;
mod ending;
mod enumerators;
mod events;
mod failover;
mod failures;
mod losses;
mod metadata;
mod metrics;
mod overview;
mod recovery;
mod remote;
mod requests;
mod rescaling;
mod restart;
mod savepoints;
mod shared;
mod shell;
mod slots;
mod splits;
mod states;
mod statistics;
mod storage;
#[cfg(test)]
mod tests;

pub use brain::JobMasterBrain;
pub use events::{
    EnumeratorStart, FoundCheckpoint, FoundRecord, JobEffect, JobEvent, JobSettings, Restarts, StorageWork,
    WantedCheckpoint,
};
pub(crate) use remote::{JobMasterCall, RemoteLinks};
pub use requests::TakenCheckpoint;
pub(crate) use requests::{CheckpointCall, SavepointCall};
pub use rescaling::ScalingTimer;
pub use restart::RestartStrategy;
pub(crate) use shell::{JobMaster, JobMasterEvent, JobMasterLinks};
pub use statistics::{
    CheckpointRecord, CheckpointStatistics, CheckpointStatus, RestoredCheckpoint, SnapshotType, Spread,
    StoreBytes, SubtaskCheckpoint, VertexCheckpoint,
};
pub use storage::{JobStorage, Postponed, StorageQueue};
