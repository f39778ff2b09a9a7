//! What travels in a channel, in order: batches, and events between them.

use crate::batch::Batch;
use crate::ids::CheckpointId;
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// Whether an input may hold back event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatermarkStatus {
    /// It counts when watermarks are merged.
    Active,
    /// It has had nothing to say for a while and does not count.
    Idle,
}

/// The barrier of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// When it may begin to overtake what is before it, which then is part of the checkpoint; `None`: never.
    pub overtakes: Option<Time>,
}

impl Barrier {
    /// Whether it may overtake at this time.
    pub fn may_overtake(self, now: Time) -> bool {
        self.overtakes.is_some_and(|from| from <= now)
    }
}

/// One that never overtakes.
impl From<CheckpointId> for Barrier {
    fn from(checkpoint: CheckpointId) -> Self {
        let overtakes = None;
        Self {
            checkpoint,
            overtakes,
        }
    }
}

/// A non-batch element. None may be reordered against batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// No later on-time record has an event time up to and including this one, in milliseconds.
    Watermark(i64),
    /// The channel turned idle or active.
    Status(WatermarkStatus),
    /// What came before belongs to this checkpoint, what follows does not.
    Barrier(Barrier),
    /// The records that follow are backlog, or are not any more; at first they are not.
    Backlog(bool),
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
