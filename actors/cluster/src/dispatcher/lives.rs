//! The lives of a job's JobMasters: which epoch counts, and whether another one is started.

use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_ha::records::EpochToken;
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

/// What follows from the end of a JobMaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterExit {
    /// It was replaced before, or its job is over.
    Nothing,
    /// Another one, in the next epoch.
    StartAgain {
        /// When.
        after: Duration,
    },
    /// It ends too often.
    GiveUp {
        /// So often within ten minutes.
        exits: usize,
    },
}

/// The JobMasters of one job.
#[derive(Clone, Debug, Default)]
pub struct MasterLives {
    /// The epoch that counts; none while the next one is being raised.
    epoch: Option<NonZeroU64>,
    /// The last one that counted.
    last: Option<NonZeroU64>,
    claimed: Option<(Uuid, EpochToken)>,
    exits: VecDeque<Time>,
    /// The last checkpoint that was recorded, by id and path.
    latest: Option<(CheckpointId, String)>,
    /// Somebody has cancelled the job, which no JobMaster undoes.
    pub cancelled: bool,
}

impl MasterLives {
    /// Of a job of an earlier term, whose JobMasters have ended so long ago.
    pub fn inherited(exits: impl IntoIterator<Item = Time>, cancelled: bool) -> Self {
        Self {
            exits: exits.into_iter().collect(),
            cancelled,
            ..Self::default()
        }
    }

    /// An epoch was raised: it counts from now on.
    pub fn raised(&mut self, epoch: NonZeroU64) {
        (self.epoch, self.last) = (Some(epoch), Some(epoch));
        self.claimed = None;
    }

    /// The last epoch that counted, over or not.
    pub fn last_epoch(&self) -> Option<NonZeroU64> {
        self.last
    }

    /// Nothing was heard of the JobMaster of an epoch since another jobmanager leads, which is not its fault. Whether that epoch counted.
    pub fn silent(&mut self, epoch: NonZeroU64) -> bool {
        let counted = self.epoch == Some(epoch);
        if counted {
            (self.epoch, self.claimed) = (None, None);
        }
        counted
    }

    /// The epoch that counts.
    pub fn epoch(&self) -> Option<NonZeroU64> {
        self.epoch
    }

    /// Why a claim is refused without asking the store.
    pub fn refuses(&self, epoch: NonZeroU64, process: Uuid) -> Option<String> {
        match (self.epoch, &self.claimed) {
            (None, _) => Some(format!("epoch {epoch} is over")),
            (Some(current), _) if current != epoch => Some(format!(
                "the job is in epoch {current}, and not in {epoch} any more"
            )),
            (_, Some((other, _))) if *other != process => {
                Some(format!("process {other} has claimed epoch {epoch}"))
            }
            _ => None,
        }
    }

    /// A claim is in the store. False when it is not the first time that this is heard of.
    pub fn claimed(
        &mut self,
        process: Uuid,
        token: EpochToken,
        latest: Option<(CheckpointId, String)>,
    ) -> bool {
        let first_time = self.claimed.is_none();
        self.claimed = Some((process, token));
        self.latest = latest.or(self.latest.take());
        first_time
    }

    /// Whether a process has claimed it.
    pub fn is_claimed(&self) -> bool {
        self.claimed.is_some()
    }

    /// The right of the process that has claimed the present epoch.
    pub fn token(&self) -> Option<EpochToken> {
        self.claimed.as_ref().map(|(_, token)| *token)
    }

    /// The checkpoint that the job goes on from.
    pub fn latest(&self) -> Option<&(CheckpointId, String)> {
        self.latest.as_ref()
    }

    /// A checkpoint is in the store.
    pub fn recorded(&mut self, checkpoint: CheckpointId, path: String) {
        self.latest = Some((checkpoint, path));
    }

    /// The JobMaster of an epoch is gone.
    pub fn ended(&mut self, now: Time, epoch: NonZeroU64) -> AfterExit {
        if self.epoch != Some(epoch) {
            return AfterExit::Nothing;
        }
        while self.exits.front().is_some_and(|exit| now.since(*exit) >= WINDOW) {
            self.exits.pop_front();
        }
        self.exits.push_back(now);
        (self.epoch, self.claimed) = (None, None);
        match self.exits.len() {
            exits if exits > MAX_EXITS => AfterExit::GiveUp { exits },
            1 => AfterExit::StartAgain {
                after: Duration::ZERO,
            },
            exits => AfterExit::StartAgain {
                after: DELAY * (1 << (exits - 2)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::JobId;
    use hurtig_ha::kv::Revision;
    use hurtig_ha::records::Epoch;

    fn at(seconds: u64) -> Time {
        Time::default().after(Duration::from_secs(seconds))
    }

    fn epoch(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).unwrap()
    }

    fn token(number: u64) -> EpochToken {
        EpochToken {
            job: JobId::from_u128(1),
            epoch: Epoch(number),
            revision: Revision(number),
        }
    }

    #[test]
    fn an_epoch_is_claimed_once_and_ended_once() {
        let mut lives = MasterLives::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(lives.refuses(epoch(1), one).is_some(), "nobody has raised it");
        lives.raised(epoch(1));
        assert!(lives.refuses(epoch(2), one).is_some() && lives.refuses(epoch(1), one).is_none());
        assert!(lives.claimed(one, token(1), None) && !lives.claimed(one, token(1), None));
        assert!(lives.refuses(epoch(1), one).is_none() && lives.refuses(epoch(1), other).is_some());
        let again = AfterExit::StartAgain {
            after: Duration::ZERO,
        };
        assert_eq!(lives.ended(at(1), epoch(1)), again);
        assert_eq!(
            lives.ended(at(1), epoch(1)),
            AfterExit::Nothing,
            "a second witness"
        );
        assert!(lives.refuses(epoch(1), one).is_some() && lives.token().is_none());
        lives.raised(epoch(2));
        assert!(lives.refuses(epoch(1), one).is_some() && lives.refuses(epoch(2), other).is_none());
    }

    #[test]
    fn what_was_recorded_is_what_the_next_one_begins_with() {
        let mut lives = MasterLives::default();
        lives.raised(epoch(1));
        lives.claimed(Uuid::from_u128(1), token(1), None);
        lives.recorded(CheckpointId(7), "/c/chk-7".to_owned());
        lives.ended(at(1), epoch(1));
        lives.raised(epoch(2));
        lives.claimed(Uuid::from_u128(2), token(2), None);
        assert_eq!(lives.latest(), Some(&(CheckpointId(7), "/c/chk-7".to_owned())));
        // What the store says comes before what is remembered.
        let newer = (CheckpointId(8), "/c/chk-8".to_owned());
        lives.claimed(Uuid::from_u128(2), token(2), Some(newer.clone()));
        assert_eq!(lives.latest(), Some(&newer));
    }

    #[test]
    fn six_exits_within_ten_minutes_are_too_many() {
        let mut lives = MasterLives::inherited([at(0), at(1)], false);
        let mut delays = Vec::new();
        for number in 3..=5 {
            lives.raised(epoch(number));
            match lives.ended(at(number), epoch(number)) {
                AfterExit::StartAgain { after } => delays.push(after.as_secs()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(delays, [2, 4, 8]);
        lives.raised(epoch(6));
        let mut later = lives.clone();
        assert_eq!(lives.ended(at(590), epoch(6)), AfterExit::GiveUp { exits: 6 });
        assert!(matches!(
            later.ended(at(602), epoch(6)),
            AfterExit::StartAgain { .. }
        ));
    }
}
