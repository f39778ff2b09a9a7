//! Barriers that overtake: room for what is before them in the chain, and what they have overtaken.
//!
//! A barrier goes through the chain in order, so that all that is in the chain leaves before it. When it may
//! overtake and finds no room, the task's channels take more than their bounds until it has left.

use super::merged::NEVER;
use super::replay::InFlightRestore;
use super::{TaskCore, Turned};
use hurtig_core::Result;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;

/// What a task knows of barriers that may overtake.
#[derive(Debug)]
pub(super) struct Overtaking {
    /// When the head has to look at barriers.
    pub(super) look_at: Time,
    /// The last barrier that has left.
    pub(super) left: Option<CheckpointId>,
    /// Channels take more than their bounds.
    pub(super) overdraws: bool,
}

impl Default for Overtaking {
    fn default() -> Self {
        Self {
            look_at: NEVER,
            left: None,
            overdraws: false,
        }
    }
}

impl TaskCore {
    /// Reads what was in flight to the task before anything new. Between [`Self::open`] and the first round.
    ///
    /// # Errors
    /// When the task reads no channels.
    pub fn replay(&mut self, restored: InFlightRestore) -> Result<()> {
        self.guarded(|core| {
            core.at = 0;
            core.signal.ring();
            core.head.replay(restored)
        })
    }

    /// The task has nothing to do, maybe for want of room. A barrier in it that may overtake gets room. Whether
    /// it just did, and else when it will.
    pub(super) fn overdraw(&mut self, now: Time, blocked: bool) -> (bool, Option<Time>) {
        let passed = self
            .head
            .passed()
            .filter(|_| blocked && !self.overtaking.overdraws);
        let inside = passed.filter(|barrier| Some(barrier.checkpoint) > self.overtaking.left);
        match inside.and_then(|barrier| barrier.overtakes) {
            Some(from) if from <= now => {
                self.overtaking.overdraws = true;
                self.signal.overdraw(true);
                (true, None)
            }
            from => (false, from),
        }
    }

    /// Ends the overdraft once the barrier has left and found room.
    pub(super) fn end_overdraft(&mut self, outlet: Turned) {
        let passed = self.head.passed().map(|barrier| barrier.checkpoint);
        if outlet != Turned::Blocked && self.overtaking.left >= passed {
            self.stop_overdraft();
        }
    }

    /// A checkpoint was given up.
    pub(super) fn forget_overdraft(&mut self, checkpoint: CheckpointId) {
        let passed = self.head.passed().map(|barrier| barrier.checkpoint);
        if passed.is_none_or(|passed| passed <= checkpoint) {
            self.stop_overdraft();
        }
    }

    fn stop_overdraft(&mut self) {
        if std::mem::take(&mut self.overtaking.overdraws) {
            self.signal.overdraw(false);
        }
    }
}
