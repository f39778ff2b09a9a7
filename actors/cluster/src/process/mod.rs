//! A cluster of processes: what each of them is, how it is started, and how it ends.
//!
//! The actors are those of the embedded cluster. Here is what lies around them: the launch contract, the launcher, the parsing of
//! artifacts, and for each kind of process what it does from its first to its last moment.

mod artifact;
mod asking;
pub(crate) mod blobs;
mod cgroup;
mod confine;
mod descendants;
mod directory;
mod ends;
mod giving_back;
mod job_manager;
mod job_master;
pub mod launch;
pub mod launcher;
mod leader;
mod machine;
mod orders;
mod output;
mod overview;
pub(crate) mod placement;
mod planning;
mod plans;
mod registering;
pub mod role;
mod runtime;
pub(crate) mod security;
mod starter;
mod task_manager;
#[cfg(test)]
mod tests;
mod worker;

pub use artifact::{ArtifactError, NOTE_NAME, NOTE_TYPE, Note, note_bytes, read_note};
pub use asking::Family;
pub use confine::ProcessLimits;
pub use job_manager::{JobManager, JobManagerConfig, JobManagerHandle, SubmitError};
pub use job_master::{JobCodeHere, Obeys, run_job_master};
pub use machine::{LOG_PART, LogFile, Logs, MachineFacts, ThreadFacts};
pub use output::LogBounds;
pub use overview::{TaskManagerOverview, TaskManagers, WorkerOverview};
pub use registering::{TaskManagerConfig, run_task_manager};
pub use security::Security;
pub use worker::run_worker;
