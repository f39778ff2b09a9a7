//! Who was dealt which splits since when, so that a reader that starts again has none twice and loses none.
//!
//! A split that was dealt out before an enumerator's snapshot is in the reader's part of the same checkpoint; one that
//! was dealt out later is in neither. A reader that goes back to a checkpoint therefore has what its part says, and
//! all that it was given since belongs to the enumerator again.

use hurtig_core::ids::CheckpointId;
use hurtig_dataflow::source::Split;
use std::collections::BTreeMap;

/// Splits by the index of their reader, in the order in which they were dealt out.
type ByReader = BTreeMap<u32, Vec<Split>>;

/// What an enumerator has dealt out that no complete checkpoint has in a reader's part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Assignments {
    /// Before the enumerator's snapshot for a checkpoint, and after the one before it.
    before: BTreeMap<CheckpointId, ByReader>,
    /// Since the last snapshot.
    since: ByReader,
}

impl Assignments {
    /// A split was dealt out.
    pub(super) fn record(&mut self, reader: u32, split: Split) {
        self.since.entry(reader).or_default().push(split);
    }

    /// The enumerator has said what it remembers.
    pub(super) fn snapshot(&mut self, checkpoint: CheckpointId) {
        let since = std::mem::take(&mut self.since);
        if !since.is_empty() {
            self.before.insert(checkpoint, since);
        }
    }

    /// Readers begin with this checkpoint from now on.
    pub(super) fn completed(&mut self, checkpoint: CheckpointId) {
        self.before = self.before.split_off(&CheckpointId(checkpoint.0 + 1));
    }

    /// What a reader was given since the checkpoint that it goes back to, in order; it does not have it any more.
    pub(super) fn take(&mut self, reader: u32) -> Vec<Split> {
        let mut taken = Vec::new();
        self.before.retain(|_, dealt| {
            taken.extend(dealt.remove(&reader).into_iter().flatten());
            !dealt.is_empty()
        });
        taken.extend(self.since.remove(&reader).into_iter().flatten());
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(number: usize) -> Split {
        Split {
            id: number.to_string(),
            bytes: Vec::new(),
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Deal(u32),
        Snapshot,
        Complete,
        Reset(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3u32).prop_map(Step::Deal),
            2 => Just(Step::Snapshot),
            2 => Just(Step::Complete),
            1 => (0..3u32).prop_map(Step::Reset),
        ]
    }

    proptest! {
        /// Against the definition: each split with who has it and how many snapshots there were before it was dealt.
        #[test]
        fn a_reader_gives_back_what_it_was_given_since_its_checkpoint(steps in prop::collection::vec(step(), 0..60)) {
            let mut assignments = Assignments::default();
            let mut dealt: Vec<(u32, u64, usize)> = Vec::new();
            let (mut snapshots, mut complete, mut next) = (0, 0, 0);
            for step in steps {
                match step {
                    Step::Deal(reader) => {
                        assignments.record(reader, split(next));
                        dealt.push((reader, snapshots, next));
                        next += 1;
                    }
                    // Some checkpoints are never completed: the next one that is counts for them too.
                    Step::Snapshot => {
                        snapshots += 1;
                        assignments.snapshot(CheckpointId(snapshots));
                    }
                    Step::Complete => {
                        complete = snapshots;
                        assignments.completed(CheckpointId(complete));
                    }
                    Step::Reset(reader) => {
                        let wanted: Vec<Split> = dealt
                            .iter()
                            .filter(|(of, at, _)| *of == reader && *at >= complete)
                            .map(|(.., number)| split(*number))
                            .collect();
                        prop_assert_eq!(assignments.take(reader), wanted);
                        dealt.retain(|(of, at, _)| *of != reader || *at < complete);
                    }
                }
            }
        }
    }
}
