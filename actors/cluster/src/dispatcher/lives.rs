//! The lives of a job's JobMasters: which epoch counts, and whether another one is started.

use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;
use uuid::Uuid;

/// More exits than this within [`WINDOW`] end the job.
const MAX_EXITS: usize = 5;
/// See [`MAX_EXITS`].
const WINDOW: Duration = Duration::from_secs(600);
/// The delay before the second restart within the window; the first is immediate.
const DELAY: Duration = Duration::from_secs(1);
/// Checkpoints that a JobMaster can have begun beyond the last one that was recorded for it, by far.
const IDS_OF_AN_EPOCH: u64 = 1 << 20;

/// What follows from the end of a JobMaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterExit {
    /// It was replaced before, or its job is over.
    Nothing,
    /// Another one, in this epoch.
    StartAgain {
        /// When.
        after: Duration,
        /// In which epoch.
        epoch: NonZeroU64,
    },
    /// It ends too often.
    GiveUp {
        /// So often within ten minutes.
        exits: usize,
    },
}

/// The JobMasters of one job.
#[derive(Clone, Debug)]
pub(super) struct MasterLives {
    epoch: NonZeroU64,
    claimed: Option<Uuid>,
    exits: VecDeque<Time>,
    first_checkpoint: CheckpointId,
    /// The last checkpoint that was recorded, by id and path.
    latest: Option<(CheckpointId, String)>,
    /// Somebody has cancelled the job, which no JobMaster undoes.
    pub(super) cancelled: bool,
}

impl MasterLives {
    pub(super) fn new() -> Self {
        Self {
            epoch: NonZeroU64::MIN,
            claimed: None,
            exits: VecDeque::new(),
            first_checkpoint: CheckpointId(1),
            latest: None,
            cancelled: false,
        }
    }

    pub(super) fn epoch(&self) -> NonZeroU64 {
        self.epoch
    }

    /// A process claims the job: once for each epoch.
    pub(super) fn claim(&mut self, epoch: NonZeroU64, process: Uuid) -> Result<(), String> {
        if epoch != self.epoch {
            return Err(format!(
                "the job is in epoch {}, and not in {epoch} any more",
                self.epoch
            ));
        }
        match self.claimed {
            Some(other) if other != process => Err(format!("process {other} has claimed epoch {epoch}")),
            _ => {
                self.claimed = Some(process);
                Ok(())
            }
        }
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.claimed.is_some()
    }

    /// A checkpoint is durable; false when somebody else has the job.
    pub(super) fn record(&mut self, epoch: u64, checkpoint: CheckpointId, path: String) -> bool {
        let admitted = epoch == self.epoch.get();
        let newer = self
            .latest
            .as_ref()
            .is_none_or(|(latest, _)| *latest < checkpoint);
        if admitted && newer {
            self.latest = Some((checkpoint, path));
        }
        admitted
    }

    /// Where the present JobMaster begins.
    pub(super) fn beginning(&self) -> (Option<String>, CheckpointId) {
        (
            self.latest.as_ref().map(|(_, path)| path.clone()),
            self.first_checkpoint,
        )
    }

    /// The JobMaster of an epoch is gone.
    pub(super) fn ended(&mut self, now: Time, epoch: NonZeroU64) -> AfterExit {
        if epoch != self.epoch {
            return AfterExit::Nothing;
        }
        while self.exits.front().is_some_and(|exit| now.since(*exit) >= WINDOW) {
            self.exits.pop_front();
        }
        self.exits.push_back(now);
        let exits = self.exits.len();
        let Some(next) = self.epoch.checked_add(1).filter(|_| exits <= MAX_EXITS) else {
            return AfterExit::GiveUp { exits };
        };
        self.epoch = next;
        self.claimed = None;
        let used = self.latest.as_ref().map_or(0, |(latest, _)| latest.0);
        self.first_checkpoint = CheckpointId(self.first_checkpoint.0.max(used) + IDS_OF_AN_EPOCH);
        let after = match exits {
            1 => Duration::ZERO,
            exits => DELAY * (1 << (exits - 2)),
        };
        AfterExit::StartAgain { after, epoch: next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::default().after(Duration::from_secs(seconds))
    }

    fn epoch(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).unwrap()
    }

    #[test]
    fn an_epoch_is_claimed_once_and_ended_once() {
        let mut lives = MasterLives::new();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(lives.claim(epoch(2), one).is_err(), "nobody has raised it");
        assert!(lives.claim(epoch(1), one).is_ok() && lives.claim(epoch(1), one).is_ok());
        assert!(lives.claim(epoch(1), other).is_err());
        let again = AfterExit::StartAgain {
            after: Duration::ZERO,
            epoch: epoch(2),
        };
        assert_eq!(lives.ended(at(1), epoch(1)), again);
        assert_eq!(
            lives.ended(at(1), epoch(1)),
            AfterExit::Nothing,
            "a second witness"
        );
        assert!(lives.claim(epoch(1), one).is_err() && lives.claim(epoch(2), other).is_ok());
    }

    #[test]
    fn who_was_replaced_records_nothing_and_ids_are_never_used_again() {
        let mut lives = MasterLives::new();
        assert!(lives.record(1, CheckpointId(7), "/c/chk-7".to_owned()));
        lives.ended(at(1), epoch(1));
        assert!(!lives.record(1, CheckpointId(8), "/c/chk-8".to_owned()));
        let (path, first) = lives.beginning();
        assert_eq!(path.as_deref(), Some("/c/chk-7"));
        assert!(first.0 > 7 + 1_000_000);
        assert!(lives.record(2, first, "/c/later".to_owned()));
        lives.ended(at(2), epoch(2));
        assert!(lives.beginning().1.0 > first.0 + 1_000_000);
    }

    #[test]
    fn six_exits_within_ten_minutes_are_too_many() {
        let mut lives = MasterLives::new();
        let mut delays = Vec::new();
        for number in 1..=5 {
            match lives.ended(at(number), epoch(number)) {
                AfterExit::StartAgain { after, .. } => delays.push(after.as_secs()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(delays, [0, 1, 2, 4, 8]);
        let mut later = lives.clone();
        assert_eq!(lives.ended(at(590), epoch(6)), AfterExit::GiveUp { exits: 6 });
        assert!(matches!(
            later.ended(at(602), epoch(6)),
            AfterExit::StartAgain { .. }
        ));
    }
}
