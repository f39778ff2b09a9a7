//! What a task is told of backlog.

use super::TaskCore;

impl TaskCore {
    /// Says of each channel that leads to the task, or of its source, whether it begins in backlog. Before the first
    /// round and [`Self::replay`].
    pub fn begin_in_backlog(&mut self, inputs: &[bool]) {
        self.head.begin_in_backlog(inputs);
        self.signal.ring();
    }

    /// What the source reads from now on is backlog, or is not any more.
    pub fn set_backlog(&mut self, backlog: bool) {
        self.head.set_backlog(backlog);
        self.signal.ring();
    }
}
