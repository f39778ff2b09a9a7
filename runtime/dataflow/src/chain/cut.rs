//! What a task remembered at a checkpoint's barrier, and when that came, was let through and left: whoever looks for what
//! holds checkpoints up asks for these times.

use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_exchange::InFlight;
use hurtig_state::OperatorSnapshot;
use std::time::Duration;

/// A consistent cut through a task: what each operator remembered when a barrier passed it.
#[derive(Clone, Debug)]
pub struct TaskCut {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The head first; empty for one that only reads channels.
    pub operators: Vec<OperatorSnapshot>,
    /// What the barrier has overtaken, if it has.
    pub in_flight: Option<InFlight>,
    /// When the barrier was where.
    pub times: CutTimes,
}

/// When a checkpoint's barrier was where in a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutTimes {
    /// The first of its barriers came in, was announced, or was made here.
    pub came: Time,
    /// No other one was waited for any more.
    pub aligned: Time,
    /// Every operator had said what it remembers.
    pub left: Time,
}

impl CutTimes {
    /// How long barriers of other channels were waited for.
    pub fn alignment(&self) -> Duration {
        self.aligned.since(self.came)
    }

    /// How long the barrier took from the first operator to the last.
    pub fn through(&self) -> Duration {
        self.left.since(self.aligned)
    }
}

/// The last checkpoint whose barrier came to a head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival {
    checkpoint: Option<CheckpointId>,
    came: Time,
    aligned: Time,
}

impl Arrival {
    /// A barrier came; only the first of a checkpoint counts, and none of an older one.
    pub(crate) fn came(&mut self, checkpoint: CheckpointId, now: Time) {
        if self.checkpoint < Some(checkpoint) {
            *self = Self {
                checkpoint: Some(checkpoint),
                came: now,
                aligned: now,
            };
        }
    }

    /// It was let through.
    pub(crate) fn aligned(&mut self, checkpoint: CheckpointId, now: Time) {
        if self.checkpoint == Some(checkpoint) {
            self.aligned = now.max(self.came);
        }
    }

    /// Those of both, of which each may know nothing of the checkpoint: a head that was asked to begin one learns nothing of the time.
    pub(crate) fn of(heads: [Self; 2], checkpoint: CheckpointId, left: Time) -> CutTimes {
        let known = heads.iter().filter(|one| one.checkpoint == Some(checkpoint));
        let came = known.clone().map(|one| one.came).max();
        let aligned = known.map(|one| one.aligned).max();
        CutTimes {
            came: came.unwrap_or(left),
            aligned: aligned.unwrap_or(left),
            left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: CheckpointId = CheckpointId(1);
    const TWO: CheckpointId = CheckpointId(2);

    #[test]
    fn a_checkpoint_begins_with_its_first_barrier_and_is_aligned_by_the_last() {
        let at = |millis| Time::ZERO.after(Duration::from_millis(millis));
        let mut head = Arrival::default();
        head.came(ONE, at(5));
        head.came(ONE, at(9));
        head.aligned(ONE, at(12));
        let times = Arrival::of([head, Arrival::default()], ONE, at(20));
        assert_eq!(times.came, at(5));
        assert_eq!(times.alignment(), Duration::from_millis(7));
        assert_eq!(times.through(), Duration::from_millis(8));
        // Another one, and what comes late of the first.
        head.came(TWO, at(30));
        head.came(ONE, at(31));
        head.aligned(ONE, at(32));
        let times = Arrival::of([head, Arrival::default()], TWO, at(40));
        assert_eq!((times.came, times.alignment()), (at(30), Duration::ZERO));
        // Nothing is known of one that nobody has told of.
        let times = Arrival::of([head, Arrival::default()], CheckpointId(3), at(50));
        assert_eq!((times.came, times.through()), (at(50), Duration::ZERO));
        // One that was begun here, at a head that had last looked at the clock long before.
        let mut begun = Arrival::default();
        begun.came(TWO, at(35));
        assert_eq!(Arrival::of([head, begun], TWO, at(40)).came, at(35));
    }
}
