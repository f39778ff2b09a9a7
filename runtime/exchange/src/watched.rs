//! How full a channel is, for metrics: without its record type, and without keeping it alive.

use crate::queue::Queue;
use std::fmt;
use std::sync::{Arc, Weak};

/// What waits in a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Batches.
    pub batches: usize,
    /// Their bytes: estimated within a process, encoded between processes.
    pub bytes: usize,
    /// Whether its producer would find no room.
    pub is_full: bool,
    /// Batches and bytes that have left it so far.
    pub taken: (u64, u64),
}

trait Stands: Send + Sync {
    fn stands(&self) -> Waiting;
}

impl<B: Send> Stands for Queue<B> {
    fn stands(&self) -> Waiting {
        Queue::stands(self)
    }
}

/// One end of a channel that is watched.
#[derive(Clone)]
pub struct Watched {
    queue: Weak<dyn Stands>,
    is_remote: bool,
    max_bytes: usize,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("is_remote", &self.is_remote)
            .finish_non_exhaustive()
    }
}

impl Watched {
    pub(crate) fn new<B: Send + 'static>(queue: &Arc<Queue<B>>, is_remote: bool) -> Self {
        let weak = Arc::downgrade(queue);
        Self {
            queue: weak,
            is_remote,
            max_bytes: queue.kind().options.max_bytes,
        }
    }

    /// What waits; `None` when the channel is over.
    pub fn look(&self) -> Option<Waiting> {
        self.queue.upgrade().map(|queue| queue.stands())
    }

    /// Whether the other end is in another process.
    pub fn is_remote(&self) -> bool {
        self.is_remote
    }

    /// Bytes that may wait.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}
