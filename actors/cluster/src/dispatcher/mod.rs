//! The Dispatcher: accepts jobs, starts their JobMasters, and remembers how they ended.

mod brain;
mod clients;
mod durable;
#[cfg(test)]
mod durable_tests;
mod intents;
mod keeping;
mod lives;
mod processes;
mod queries;
mod requirements;
mod shell;
mod writes;

pub use brain::{DispatcherBrain, DispatcherEffect, DispatcherEvent, Submission};
pub(crate) use durable::{Durable, Inheritance, NotWritten};
pub use lives::{AfterExit, MasterLives};
pub(crate) use processes::{DispatcherCall, MasterProcesses};
pub(crate) use queries::JobQuery;
pub(crate) use shell::{Dispatcher, DispatcherInput, DispatcherSetup, JobCode, SubmitJob, Submitted};
