//! Split requests of readers, and the enumerators that answer them: one question at a time each.
//!
//! A checkpoint needs a moment at which every split is either with its reader or still with the
//! enumerator. So an enumerator whose snapshot was taken answers nobody until the readers were told of
//! the checkpoint: what it deals out then comes behind the barrier.

use hurtig_core::ids::{ExecutionId, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The coordinators of a generation's sources.
#[derive(Clone, Debug, Default)]
pub(super) struct SplitCoordinators {
    sources: BTreeMap<NodeId, Coordinator>,
}

#[derive(Clone, Debug, Default)]
struct Coordinator {
    /// Whether there is an enumerator; `None` until it has started.
    enumerates: Option<bool>,
    /// Who waits for its turn.
    queue: VecDeque<ExecutionId>,
    /// Who asked and was not answered.
    owed: BTreeSet<ExecutionId>,
    /// Whether the enumerator is answering.
    busy: bool,
    /// What a checkpoint wants of it.
    wanted: Wanted,
}

/// What a checkpoint wants of an enumerator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    /// Nothing.
    #[default]
    Nothing,
    /// Its snapshot, before it answers anybody else.
    Snapshot,
    /// That it answers nobody.
    Silence,
}

/// What an enumerator has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Answer this reader.
    Answer(ExecutionId),
    /// Say what it remembers.
    Snapshot,
}

/// What a request leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The enumerator has this to do.
    Turn(Turn),
    /// There is no enumerator: answer that there are no splits.
    NoSplits,
    /// Its turn comes later, or it has asked already.
    Wait,
}

impl SplitCoordinators {
    /// Coordinators of these sources, none started.
    pub(super) fn starting(sources: impl Iterator<Item = NodeId>) -> Self {
        Self {
            sources: sources.map(|node| (node, Coordinator::default())).collect(),
        }
    }

    pub(super) fn started(&mut self, node: NodeId, enumerates: bool) {
        if let Some(source) = self.sources.get_mut(&node) {
            source.enumerates.get_or_insert(enumerates);
        }
    }

    pub(super) fn all_started(&self) -> bool {
        self.sources.values().all(|source| source.enumerates.is_some())
    }

    /// A reader wants a split.
    pub(super) fn request(&mut self, node: NodeId, reader: ExecutionId) -> Asked {
        let Some(source) = self.sources.get_mut(&node) else {
            return Asked::NoSplits;
        };
        if source.enumerates != Some(true) {
            return Asked::NoSplits;
        }
        if !source.owed.insert(reader) {
            return Asked::Wait;
        }
        source.queue.push_back(reader);
        source.next().map_or(Asked::Wait, Asked::Turn)
    }

    /// A reader that was told to wait has its turn again.
    pub(super) fn again(&mut self, node: NodeId, reader: ExecutionId) -> Option<Turn> {
        let source = self
            .sources
            .get_mut(&node)
            .filter(|source| source.owed.contains(&reader))?;
        source.queue.push_back(reader);
        source.next()
    }

    /// The enumerator has answered; `settled` when the reader need not ask again. Returns what is
    /// next.
    pub(super) fn answered(&mut self, node: NodeId, reader: ExecutionId, settled: bool) -> Option<Turn> {
        let source = self.sources.get_mut(&node)?;
        source.busy = false;
        if settled {
            source.owed.remove(&reader);
        }
        source.next()
    }

    /// The sources that have an enumerator.
    pub(super) fn enumerating(&self) -> impl Iterator<Item = NodeId> {
        let sources = self.sources.iter();
        sources
            .filter(|(_, source)| source.enumerates == Some(true))
            .map(|(node, _)| *node)
    }

    /// A checkpoint begins: the enumerator's snapshot is wanted before anybody is answered.
    pub(super) fn want_snapshot(&mut self, node: NodeId) -> Option<Turn> {
        let source = self.sources.get_mut(&node)?;
        source.wanted = Wanted::Snapshot;
        source.next()
    }

    /// The enumerator has said what it remembers, for a checkpoint that still wants it or not.
    pub(super) fn snapshot_taken(&mut self, node: NodeId) -> Option<Turn> {
        let source = self.sources.get_mut(&node)?;
        source.busy = false;
        source.next()
    }

    /// The readers know of the checkpoint, or it was given up: readers are answered again.
    pub(super) fn resume(&mut self, node: NodeId) -> Option<Turn> {
        let source = self.sources.get_mut(&node)?;
        source.wanted = Wanted::Nothing;
        source.next()
    }
}

impl Coordinator {
    fn next(&mut self) -> Option<Turn> {
        if self.busy {
            return None;
        }
        let turn = match self.wanted {
            Wanted::Nothing => Turn::Answer(self.queue.pop_front()?),
            Wanted::Snapshot => {
                self.wanted = Wanted::Silence;
                Turn::Snapshot
            }
            Wanted::Silence => return None,
        };
        self.busy = true;
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::{AttemptNumber, SubtaskId, VertexId};

    const NODE: NodeId = NodeId(3);

    fn reader(index: u32) -> ExecutionId {
        let vertex = VertexId::from_u128(1);
        ExecutionId {
            subtask: SubtaskId { vertex, index },
            attempt: AttemptNumber(0),
        }
    }

    fn started() -> SplitCoordinators {
        let mut splits = SplitCoordinators::starting([NODE].into_iter());
        splits.started(NODE, true);
        splits
    }

    #[test]
    fn nobody_is_answered_between_the_snapshot_and_the_barrier() {
        let mut splits = started();
        let answer = |index| Some(Turn::Answer(reader(index)));
        assert_eq!(
            splits.request(NODE, reader(0)),
            Asked::Turn(Turn::Answer(reader(0)))
        );
        assert_eq!(splits.request(NODE, reader(1)), Asked::Wait);
        assert_eq!(splits.want_snapshot(NODE), None, "it is answering");
        assert_eq!(
            splits.answered(NODE, reader(0), true),
            Some(Turn::Snapshot),
            "before those who wait"
        );
        assert_eq!(splits.request(NODE, reader(2)), Asked::Wait);
        assert_eq!(
            splits.snapshot_taken(NODE),
            None,
            "until the readers know of the checkpoint"
        );
        assert_eq!(splits.request(NODE, reader(0)), Asked::Wait);
        assert_eq!(splits.resume(NODE), answer(1));
        assert_eq!(splits.answered(NODE, reader(1), true), answer(2));
    }

    #[test]
    fn a_checkpoint_that_is_given_up_holds_nobody_up() {
        let mut splits = started();
        assert_eq!(splits.want_snapshot(NODE), Some(Turn::Snapshot));
        assert_eq!(splits.request(NODE, reader(0)), Asked::Wait);
        assert_eq!(splits.resume(NODE), None, "it is still being asked");
        assert_eq!(splits.snapshot_taken(NODE), Some(Turn::Answer(reader(0))));
    }

    #[test]
    fn the_next_checkpoint_asks_again() {
        let mut splits = started();
        for _ in 0..2 {
            assert_eq!(splits.want_snapshot(NODE), Some(Turn::Snapshot));
            assert_eq!(splits.snapshot_taken(NODE), None);
            assert_eq!(splits.resume(NODE), None);
        }
        assert_eq!(splits.want_snapshot(NODE), Some(Turn::Snapshot));
        assert_eq!(splits.want_snapshot(NODE), None, "one question at a time");
        assert_eq!(
            splits.snapshot_taken(NODE),
            Some(Turn::Snapshot),
            "for the newer one"
        );
    }
}
