//! The Dispatcher: accepts jobs, starts their JobMasters, and remembers how they ended.

mod brain;
mod shell;

pub use brain::{DispatcherBrain, DispatcherEffect, DispatcherEvent, Submission};
pub(crate) use shell::{Dispatcher, DispatcherInput, DispatcherSetup, SubmitJob};
