//! Parts of the shells that decide nothing about threads, sockets and clocks: for the simulator, which has shells of its own.
//! No promise is made about them.

pub use crate::dispatcher::{AfterExit, MasterLives};
pub use crate::job_master::{JobStorage, Postponed, StorageQueue};
pub use crate::wire::{Delivery, Inbox, MissingMessages};
