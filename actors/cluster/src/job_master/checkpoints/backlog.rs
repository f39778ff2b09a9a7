//! The interval of checkpoints, which may be another one while a source reads backlog.

use super::{CheckpointCoordinator, Effects};
use hurtig_core::time::Time;
use std::time::Duration;

impl<H: Clone> CheckpointCoordinator<H> {
    /// The interval that counts now; `None`: no checkpoint is taken by itself.
    fn interval(&self) -> Option<Duration> {
        let interval = self.settings.interval?;
        let during = self.settings.interval_during_backlog.filter(|_| self.backlog);
        Some(during.unwrap_or(interval)).filter(|interval| *interval > Duration::ZERO)
    }

    /// The interval counts from now on.
    pub(super) fn count_from(&mut self, now: Time) {
        self.counted_from = now;
        self.due = self.interval().map(|interval| now.after(interval));
    }

    /// Sources read backlog, or none does any more. The interval that counts from now on counts from the last trigger:
    /// behind a long backlog a checkpoint is due at once. What a task or somebody else has asked for is not put off.
    pub fn set_backlog(&mut self, now: Time, backlog: bool, out: &mut Effects<H>) {
        if std::mem::replace(&mut self.backlog, backlog) == backlog || !self.started || self.requested {
            return;
        }
        self.due = self.interval().map(|interval| self.counted_from.after(interval));
        self.arm(now, self.due, out);
    }
}
