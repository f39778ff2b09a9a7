//! The ResourceManager: knows who offers slots and which job needs how many.

mod brain;
mod shell;

pub use brain::{ResourceBrain, ResourceEffect};
pub(crate) use shell::{ResourceManager, ResourceManagerEvent};
