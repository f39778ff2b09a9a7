//! The history of a job's failures: one that has consequences, with those that came while they were dealt with.

use crate::result::{FailureEntry, JobFailure};
use hurtig_core::ids::ExecutionId;
use hurtig_dataflow::graph::ExecutionGraph;
use hurtig_task::interface::TaskFailure;
use std::collections::VecDeque;
use std::time::Duration;

/// Failures that are kept with the one that they came after.
const CONCURRENT: usize = 16;

/// Names an entry of the history, also when it has been dropped from it.
pub(super) type EntryId = u64;

/// What failed so far, oldest first.
#[derive(Clone, Debug)]
pub(super) struct FailureHistory {
    entries: VecDeque<FailureEntry>,
    /// Of the first entry that is kept.
    first: EntryId,
    capacity: usize,
}

impl FailureHistory {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            capacity: capacity.max(1),
        }
    }

    /// A failure that has consequences of its own.
    pub(super) fn add_root(&mut self, root: JobFailure) -> EntryId {
        if self.entries.len() == self.capacity {
            self.entries.pop_front();
            self.first += 1;
        }
        self.entries.push_back(FailureEntry {
            root,
            concurrent: Vec::new(),
        });
        self.first + self.entries.len() as u64 - 1
    }

    /// A failure that came while that one was dealt with.
    pub(super) fn add_concurrent(&mut self, to: EntryId, failure: JobFailure) {
        let place = to
            .checked_sub(self.first)
            .and_then(|place| usize::try_from(place).ok());
        let entry = place.and_then(|place| self.entries.get_mut(place));
        if let Some(entry) = entry.filter(|entry| entry.concurrent.len() < CONCURRENT) {
            entry.concurrent.push(failure);
        }
    }

    /// The last one that had consequences.
    pub(super) fn last(&self) -> Option<EntryId> {
        (self.first + self.entries.len() as u64).checked_sub(1)
    }

    /// What the last consequences came from.
    pub(super) fn last_root(&self) -> Option<&JobFailure> {
        self.entries.back().map(|entry| &entry.root)
    }

    pub(super) fn entries(&self) -> Vec<FailureEntry> {
        self.entries.iter().cloned().collect()
    }
}

/// A task's failure with its place.
pub(super) fn locate(
    graph: &ExecutionGraph,
    execution: ExecutionId,
    cause: TaskFailure,
    after: Duration,
) -> JobFailure {
    let vertex = graph.job_graph().vertex(execution.subtask.vertex);
    let current = graph.subtask(execution.subtask).map(|subtask| &subtask.current);
    let location = current
        .filter(|current| current.id == execution)
        .and_then(|current| current.location);
    let operators = vertex
        .map(|vertex| vertex.operators.as_slice())
        .unwrap_or_default();
    let blamed = operators
        .iter()
        .find(|operator| Some(operator.node) == cause.operator);
    // A chain of one has nobody else to blame.
    let operator = blamed.or_else(|| operators.first().filter(|_| operators.len() == 1));
    JobFailure {
        cause,
        operator: operator.map(|operator| operator.name.clone()),
        uid: operator.and_then(|operator| operator.uid.clone()),
        vertex: vertex.map(|vertex| vertex.name.clone()),
        subtask: vertex.map(|vertex| (execution.subtask.index, vertex.parallelism)),
        attempt: Some(execution.attempt.0),
        task_manager: location.map(|(task_manager, _)| task_manager),
        after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::Fault;

    fn failure(name: &str) -> JobFailure {
        JobFailure::of_job(Fault::User, name, Duration::ZERO)
    }

    fn shown(history: &FailureHistory) -> Vec<(String, usize)> {
        let entries = history.entries();
        entries
            .iter()
            .map(|entry| (entry.root.cause.message.clone(), entry.concurrent.len()))
            .collect()
    }

    #[test]
    fn the_last_entries_are_kept_each_with_its_own() {
        let mut history = FailureHistory::new(2);
        assert_eq!(history.last(), None);
        let [one, two] = ["one", "two"].map(|name| history.add_root(failure(name)));
        history.add_concurrent(one, failure("with one"));
        let three = history.add_root(failure("three"));
        assert_eq!(history.last(), Some(three));
        history.add_concurrent(one, failure("with one, which is not there any more"));
        (0..100).for_each(|_| history.add_concurrent(two, failure("with two")));
        assert_eq!(
            shown(&history),
            [("two".to_owned(), CONCURRENT), ("three".to_owned(), 0)]
        );
        assert_eq!(history.last_root().unwrap().cause.message, "three");
    }
}
