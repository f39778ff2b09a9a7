//! What travels in a channel, in order: batches, and events between them.

use crate::batch::Batch;
use crate::ids::CheckpointId;
use serde::{Deserialize, Serialize};

/// Whether an input may hold back event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatermarkStatus {
    /// It counts when watermarks are merged.
    Active,
    /// It has had nothing to say for a while and does not count.
    Idle,
}

/// A non-batch element. None may be reordered against batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// No later on-time record has an event time up to and including this one, in milliseconds.
    Watermark(i64),
    /// The channel turned idle or active.
    Status(WatermarkStatus),
    /// What came before belongs to this checkpoint, what follows does not.
    Barrier(CheckpointId),
    /// Nothing follows.
    EndOfInput,
}

/// One element of a channel.
#[derive(Clone, Debug)]
pub enum Element<T> {
    /// Records.
    Batch(Batch<T>),
    /// Anything else.
    Event(Event),
}
