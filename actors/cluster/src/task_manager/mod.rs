//! The TaskManager: owns slots and threads, starts tasks and passes on what they say.

mod brain;
mod host;
mod link;
mod placement;
mod shell;

pub use brain::{TaskManagerBrain, TaskManagerEffect, TaskManagerEvent};
pub use placement::HostId;
pub(crate) use shell::{TaskManager, TaskManagerInput, TaskManagerSetup};
