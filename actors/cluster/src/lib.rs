//! Dispatcher, ResourceManager, JobMaster and TaskManager.
//!
//! Each is a *brain* (a plain struct: events in, effects out, no actor, no clock, no thread) and a
//! *shell* (the actor that owns the brain and carries its effects out). They exchange the messages
//! of [`messages`]: in one process as an [`EmbeddedCluster`], or in several, of which [`process`] has the beginnings and ends.
//! This crate promises that a job ends in exactly one terminal state with one result, that a task
//! is never started twice in one attempt, and that nothing waits without a deadline. It refuses to
//! know records, operators and user code: those are behind a
//! [`TaskFactory`](hurtig_task::interface::TaskFactory).

mod config;
mod details;
mod dispatcher;
mod embedded;
mod error;
pub mod gateway;
mod job_master;
pub mod messages;
pub mod process;
mod programs;
mod resource_manager;
mod result;
#[doc(hidden)]
pub mod simulation;
mod task_manager;
mod wire;

pub use config::{
    CheckpointKind, CheckpointRetention, ClusterConfig, FailoverStrategy, JobOptions, LoadBalance,
    RestartStrategyConfig, RestoreFrom, RestoreTarget, ScalingConfig,
};
pub use details::{AttemptDetail, SubtaskDetail, TaskPlace, TaskTotals, VertexDetail};
pub use dispatcher::{DispatcherBrain, DispatcherEffect, DispatcherEvent, Submission};
pub use embedded::{ClusterHandle, EmbeddedCluster, JobHandle};
pub use error::ClusterError;
pub use hurtig_task::interface::PartFigures;
pub use job_master::checkpoints;
pub use job_master::{
    CheckpointRecord, CheckpointStatistics, CheckpointStatus, RestoredCheckpoint, SnapshotType, Spread,
    StoreBytes, SubtaskCheckpoint, TakenCheckpoint, VertexCheckpoint,
};
pub use job_master::{
    EnumeratorStart, FoundCheckpoint, FoundRecord, JobEffect, JobEvent, JobMasterBrain, JobSettings,
    RestartStrategy, Restarts, ScalingTimer, StorageWork, WantedCheckpoint,
};
pub use resource_manager::{ResourceBrain, ResourceEffect};
pub use result::{FailureEntry, JobDetail, JobFailure, JobOverview, JobResult, VertexOverview};
pub use task_manager::{HostId, TaskManagerBrain, TaskManagerEffect, TaskManagerEvent};
