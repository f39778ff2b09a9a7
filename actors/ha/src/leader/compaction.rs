//! How far the history of the store may be forgotten: etcd keeps every old value until it is told.

use crate::kv::Revision;
use hurtig_core::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// How often the leader has history forgotten.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// How much of it is kept: a watch that was away for less goes on where it was.
const KEEP: Duration = Duration::from_secs(10 * 60);

/// What the leader knows of revisions and times.
#[derive(Clone, Debug, Default)]
pub(super) struct Compaction {
    /// At which time the store had which revision, oldest first. Few, since old ones are dropped.
    known: VecDeque<(Time, Revision)>,
    next: Time,
}

impl Compaction {
    /// Whether it is time to look; then not again for a while.
    pub(super) fn is_due(&mut self, now: Time) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.after(EVERY);
        }
        due
    }

    /// Takes in what revision the store has now; up to which one it may forget.
    pub(super) fn sample(&mut self, now: Time, revision: Revision) -> Option<Revision> {
        self.known.push_back((now, revision));
        let mut old_enough = None;
        while let Some((at, revision)) = self.known.front().copied() {
            if now.since(at) < KEEP {
                break;
            }
            old_enough = Some(revision);
            self.known.pop_front();
        }
        old_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_ten_minutes_is_forgotten_every_five() {
        let mut compaction = Compaction::default();
        let minute = |minutes: u64| Time::ZERO.after(Duration::from_secs(60 * minutes));
        let mut forgotten = vec![];
        for minutes in 0..=30 {
            if compaction.is_due(minute(minutes)) {
                let up_to = compaction.sample(minute(minutes), Revision(minutes * 100));
                forgotten.push(up_to.map(|revision| revision.0));
            }
        }
        assert_eq!(
            forgotten,
            [None, None, Some(0), Some(500), Some(1000), Some(1500), Some(2000)]
        );
    }
}
