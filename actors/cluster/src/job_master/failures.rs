//! The history of a job's failures: the first one wins, those that follow from it are grouped.

use crate::result::{FailureEntry, JobFailure};
use hurtig_core::ids::ExecutionId;
use hurtig_dataflow::graph::JobGraph;
use hurtig_task::interface::TaskFailure;
use std::collections::VecDeque;
use std::time::Duration;

/// Failures that are kept with the one that they came after.
const CONCURRENT: usize = 16;

/// What failed so far, oldest first.
#[derive(Clone, Debug)]
pub(super) struct FailureHistory {
    entries: VecDeque<FailureEntry>,
    capacity: usize,
}

impl FailureHistory {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            capacity: capacity.max(1),
        }
    }

    /// A failure that has consequences.
    pub(super) fn add_root(&mut self, root: JobFailure) {
        if self.entries.len() == self.capacity {
            self.entries.pop_front();
        }
        self.entries.push_back(FailureEntry {
            root,
            concurrent: Vec::new(),
        });
    }

    /// A failure that came while the last one is dealt with.
    pub(super) fn add_concurrent(&mut self, failure: JobFailure) {
        let Some(entry) = self.entries.back_mut() else {
            return self.add_root(failure);
        };
        if entry.concurrent.len() < CONCURRENT {
            entry.concurrent.push(failure);
        }
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
    graph: &JobGraph,
    execution: ExecutionId,
    cause: TaskFailure,
    after: Duration,
) -> JobFailure {
    let vertex = graph.vertex(execution.subtask.vertex);
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
        after,
    }
}
