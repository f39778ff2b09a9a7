//! Split requests of readers, and the enumerators that answer them: one question at a time each.
//!
//! A checkpoint needs a moment at which every split is either with its reader or still with the
//! enumerator. So an enumerator whose snapshot was taken answers nobody until the readers were told of
//! the checkpoint: what it deals out then comes behind the barrier.
//!
//! Readers of one source may lie in several regions. When some of them start again, the enumerator goes on and is
//! given back what they were dealt since the checkpoint that they go back to; when all of them do, it is made anew and
//! goes back itself.

use super::assignments::Assignments;
use hurtig_core::ids::{CheckpointId, ExecutionId, NodeId};
use hurtig_dataflow::source::Split;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The coordinators of a job's sources.
#[derive(Clone, Debug, Default)]
pub(super) struct SplitCoordinators {
    sources: BTreeMap<NodeId, Coordinator>,
}

#[derive(Clone, Debug, Default)]
struct Coordinator {
    /// How often the enumerator was made anew.
    generation: u32,
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
    /// What was dealt out; `None` when all readers are one region, which starts again with the enumerator.
    assigned: Option<Assignments>,
    /// What the enumerator is to be given back.
    returned: Vec<Split>,
    /// The enumerator says that what is being read is backlog.
    backlog: bool,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Take these back.
    TakeBack(Vec<Split>),
    /// Answer this reader.
    Answer(ExecutionId),
    /// Say what it remembers.
    Snapshot,
}

/// What a request leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The enumerator has this to do.
    Turn(Turn),
    /// There is no enumerator: answer that there are no splits.
    NoSplits,
    /// Its turn comes later, or it has asked already.
    Wait,
}

impl SplitCoordinators {
    /// The enumerator of a source is to be made (anew). `several`: its readers are not one region. Returns its
    /// generation.
    pub(super) fn make(&mut self, node: NodeId, several: bool) -> u32 {
        let generation = self.sources.get(&node).map_or(0, |before| before.generation + 1);
        let made = Coordinator {
            generation,
            assigned: several.then(Assignments::default),
            ..Coordinator::default()
        };
        self.sources.insert(node, made);
        generation
    }

    /// How often the enumerator of a source was made anew; 0 for a source that is not known.
    pub(super) fn generation(&self, node: NodeId) -> u32 {
        self.sources.get(&node).map_or(0, |source| source.generation)
    }

    /// Whether this is the present enumerator of a source.
    pub(super) fn is_present(&self, node: NodeId, generation: u32) -> bool {
        let source = self.sources.get(&node);
        source.is_some_and(|source| source.generation == generation)
    }

    pub(super) fn started(&mut self, node: NodeId, enumerates: bool) {
        if let Some(source) = self.sources.get_mut(&node) {
            source.enumerates.get_or_insert(enumerates);
        }
    }

    /// The enumerator of a source says whether what is being read is backlog. False when that is nothing new.
    pub(super) fn set_backlog(&mut self, node: NodeId, backlog: bool) -> bool {
        let source = self.sources.get_mut(&node);
        source.is_some_and(|source| std::mem::replace(&mut source.backlog, backlog) != backlog)
    }

    /// Whether what a source reads is backlog.
    pub(super) fn is_backlog(&self, node: NodeId) -> bool {
        self.sources.get(&node).is_some_and(|source| source.backlog)
    }

    /// The sources that read backlog.
    pub(super) fn in_backlog(&self) -> impl Iterator<Item = NodeId> {
        let sources = self.sources.iter();
        sources
            .filter(|(_, source)| source.backlog)
            .map(|(node, _)| *node)
    }

    /// Whether a source has its enumerator, or is known to need none.
    pub(super) fn has_started(&self, node: NodeId) -> bool {
        let source = self.sources.get(&node);
        source.is_none_or(|source| source.enumerates.is_some())
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

    /// A split was dealt to a reader. Said before [`Self::answered`].
    pub(super) fn assigned(&mut self, node: NodeId, reader: ExecutionId, split: &Split) {
        let source = self.sources.get_mut(&node);
        if let Some(assigned) = source.and_then(|source| source.assigned.as_mut()) {
            assigned.record(reader.subtask.index, split.clone());
        }
    }

    /// A split was dealt to a reader that has been replaced meanwhile: nobody has it. Said before
    /// [`Self::answered`].
    pub(super) fn unclaimed(&mut self, node: NodeId, split: Split) {
        if let Some(source) = self.sources.get_mut(&node) {
            source.returned.push(split);
        }
    }

    /// A reader starts again, and goes back to the latest complete checkpoint; the enumerator goes on.
    pub(super) fn reset(&mut self, node: NodeId, reader: u32) {
        let Some(source) = self.sources.get_mut(&node) else {
            return;
        };
        source.queue.retain(|asked| asked.subtask.index != reader);
        source.owed.retain(|asked| asked.subtask.index != reader);
        let dealt = source.assigned.as_mut().map(|assigned| assigned.take(reader));
        source.returned.extend(dealt.into_iter().flatten());
    }

    /// What is next for an enumerator.
    pub(super) fn next(&mut self, node: NodeId) -> Option<Turn> {
        self.sources.get_mut(&node)?.next()
    }

    /// The enumerator has taken back what it was given. Returns what is next.
    pub(super) fn taken_back(&mut self, node: NodeId) -> Option<Turn> {
        let source = self.sources.get_mut(&node)?;
        source.busy = false;
        source.next()
    }

    /// Readers begin with this checkpoint from now on.
    pub(super) fn completed(&mut self, checkpoint: CheckpointId) {
        let sources = self.sources.values_mut();
        sources
            .filter_map(|source| source.assigned.as_mut())
            .for_each(|assigned| assigned.completed(checkpoint));
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
    pub(super) fn snapshot_taken(&mut self, node: NodeId, checkpoint: CheckpointId) -> Option<Turn> {
        let source = self.sources.get_mut(&node)?;
        source.busy = false;
        if let Some(assigned) = &mut source.assigned {
            assigned.snapshot(checkpoint);
        }
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
        if !self.returned.is_empty() && self.enumerates == Some(true) {
            self.busy = true;
            // First of all: a snapshot must have them, and who asks may get them.
            return Some(Turn::TakeBack(std::mem::take(&mut self.returned)));
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

    const ONE: CheckpointId = CheckpointId(1);

    fn started() -> SplitCoordinators {
        let mut splits = SplitCoordinators::default();
        splits.make(NODE, true);
        splits.started(NODE, true);
        splits
    }

    fn split(id: &str) -> Split {
        Split {
            id: id.to_owned(),
            bytes: Vec::new(),
        }
    }

    /// A reader asks, and is dealt a split.
    fn deal(splits: &mut SplitCoordinators, index: u32, id: &str) {
        let asked = splits.request(NODE, reader(index));
        assert_eq!(asked, Asked::Turn(Turn::Answer(reader(index))));
        splits.assigned(NODE, reader(index), &split(id));
        splits.answered(NODE, reader(index), true);
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
            splits.snapshot_taken(NODE, ONE),
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
        assert_eq!(splits.snapshot_taken(NODE, ONE), Some(Turn::Answer(reader(0))));
    }

    #[test]
    fn the_next_checkpoint_asks_again() {
        let mut splits = started();
        for _ in 0..2 {
            assert_eq!(splits.want_snapshot(NODE), Some(Turn::Snapshot));
            assert_eq!(splits.snapshot_taken(NODE, ONE), None);
            assert_eq!(splits.resume(NODE), None);
        }
        assert_eq!(splits.want_snapshot(NODE), Some(Turn::Snapshot));
        assert_eq!(splits.want_snapshot(NODE), None, "one question at a time");
        assert_eq!(
            splits.snapshot_taken(NODE, ONE),
            Some(Turn::Snapshot),
            "for the newer one"
        );
    }

    #[test]
    fn a_reader_that_starts_again_gives_back_what_it_was_dealt_since_its_checkpoint() {
        let mut splits = started();
        deal(&mut splits, 0, "a");
        assert_eq!(splits.want_snapshot(NODE), Some(Turn::Snapshot));
        assert_eq!(splits.snapshot_taken(NODE, ONE), None);
        assert_eq!(splits.resume(NODE), None);
        deal(&mut splits, 0, "b");
        deal(&mut splits, 1, "c");
        splits.completed(ONE);
        splits.reset(NODE, 0);
        assert_eq!(
            splits.next(NODE),
            Some(Turn::TakeBack(vec![split("b")])),
            "a is in its part"
        );
        // Whoever asks meanwhile may get it, so they wait.
        assert_eq!(splits.request(NODE, reader(1)), Asked::Wait);
        assert_eq!(splits.want_snapshot(NODE), None);
        assert_eq!(splits.taken_back(NODE), Some(Turn::Snapshot), "which has it");
        splits.reset(NODE, 0);
        assert_eq!(
            splits.snapshot_taken(NODE, CheckpointId(2)),
            None,
            "nothing was dealt since"
        );
    }

    #[test]
    fn an_answer_for_a_reader_that_was_replaced_is_given_back_before_a_snapshot() {
        let mut splits = started();
        assert_eq!(
            splits.request(NODE, reader(0)),
            Asked::Turn(Turn::Answer(reader(0)))
        );
        splits.reset(NODE, 0);
        assert_eq!(splits.next(NODE), None, "it is answering");
        assert_eq!(splits.want_snapshot(NODE), None);
        splits.unclaimed(NODE, split("a"));
        assert_eq!(
            splits.answered(NODE, reader(0), true),
            Some(Turn::TakeBack(vec![split("a")]))
        );
        assert_eq!(splits.taken_back(NODE), Some(Turn::Snapshot));
        assert_eq!(splits.again(NODE, reader(0)), None, "it does not wait any more");
    }

    #[test]
    fn an_enumerator_that_is_made_anew_knows_nothing_of_the_one_before() {
        let mut splits = started();
        deal(&mut splits, 0, "a");
        assert_eq!(splits.make(NODE, true), 1);
        assert!(splits.is_present(NODE, 1) && !splits.is_present(NODE, 0));
        assert!(!splits.has_started(NODE));
        splits.started(NODE, true);
        splits.reset(NODE, 0);
        assert_eq!(splits.next(NODE), None);
    }
}
