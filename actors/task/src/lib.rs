//! The task actor: dataflow behind a mailbox.
//!
//! Holds the actor that runs one subtask, the assembly of its dataflow from a program's code, and
//! the seam to TaskManager and JobMaster. Promises that records and control messages never run at
//! the same time, that a busy task starves neither its neighbours nor its own mailbox, and that
//! nothing here blocks an arbiter. Refuses to know who schedules tasks and why.

mod actor;
mod alarm;
mod assemble;
mod channel_metrics;
mod channels;
mod checkpoint;
mod cuts;
mod metrics;
mod orders;
mod program;
mod states;

pub mod accumulators;
mod in_flight;
pub mod interface;

pub use assemble::{BarrierSettings, TaskSettings};
pub use checkpoint::{CheckpointStorage, StoreFiles};
pub use program::LinkedProgram;
