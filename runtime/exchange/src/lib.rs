//! The exchange: what stands between two subtasks.
//!
//! Holds the bounded channels that batches cross, and the writers that spread a producer's output
//! over them. Promises order within a channel, bounded memory, and that the absence of room is the
//! only back pressure. Refuses to know operators, time semantics and who runs a task.

mod channel;
mod in_flight;
mod partition;
mod queue;
pub mod remote;
mod signal;
mod spread;
mod watched;
mod writer;

pub use channel::{
    Announcement, BarrierMode, ChannelKind, ChannelOptions, Receiver, SendOutcome, Sender, channel,
    channel_in, channel_out,
};
pub use in_flight::{Captured, ChannelState, InFlight, KeptBatch, RecordCodec};
pub use partition::{HashRecords, Partitioner, Route};
pub use signal::Signal;
pub use watched::{Waiting, Watched};
pub use writer::{EdgeWriter, FlushPolicy};
