//! The task actor: dataflow behind a mailbox.

pub mod accumulators;
pub mod interface;
