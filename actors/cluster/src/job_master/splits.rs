//! Split requests of readers, and the enumerators that answer them: one question at a time each.

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
}

/// What a request leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Ask the enumerator for this reader.
    Ask(ExecutionId),
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
        source.next().map_or(Asked::Wait, Asked::Ask)
    }

    /// A reader that was told to wait has its turn again.
    pub(super) fn again(&mut self, node: NodeId, reader: ExecutionId) -> Option<ExecutionId> {
        let source = self
            .sources
            .get_mut(&node)
            .filter(|source| source.owed.contains(&reader))?;
        source.queue.push_back(reader);
        source.next()
    }

    /// The enumerator has answered; `settled` when the reader need not ask again. Returns who is
    /// next.
    pub(super) fn answered(
        &mut self,
        node: NodeId,
        reader: ExecutionId,
        settled: bool,
    ) -> Option<ExecutionId> {
        let source = self.sources.get_mut(&node)?;
        source.busy = false;
        if settled {
            source.owed.remove(&reader);
        }
        source.next()
    }
}

impl Coordinator {
    fn next(&mut self) -> Option<ExecutionId> {
        if self.busy {
            return None;
        }
        let reader = self.queue.pop_front()?;
        self.busy = true;
        Some(reader)
    }
}
