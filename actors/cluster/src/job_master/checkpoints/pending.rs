//! A checkpoint that is under way.

use super::{CheckpointTask, CompleteCut, RequestKind, SnapshotRequest, SubtaskCut, TaskStage};
use hurtig_core::ids::{CheckpointId, ExecutionId};
use hurtig_core::time::Time;
use std::collections::BTreeMap;

/// What has come in of a checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Pending<H> {
    id: CheckpointId,
    triggered: Time,
    /// Every task at the trigger; `None`: it owes its part.
    parts: BTreeMap<ExecutionId, Option<SubtaskCut<H>>>,
    publishing: bool,
    /// What it was asked for by, if it was.
    request: Option<SnapshotRequest>,
}

impl<H: Clone> Pending<H> {
    pub(super) fn new(id: CheckpointId, triggered: Time, tasks: &[CheckpointTask]) -> Self {
        let part = |task: &CheckpointTask| {
            let finished = task.stage == TaskStage::Finished;
            (task.execution, finished.then_some(SubtaskCut::Finished))
        };
        Self {
            id,
            triggered,
            parts: tasks.iter().map(part).collect(),
            publishing: false,
            request: None,
        }
    }

    pub(super) fn asked_for_by(self, request: Option<SnapshotRequest>) -> Self {
        Self { request, ..self }
    }

    /// What it was asked for by, if it was.
    pub(super) fn request(&self) -> Option<SnapshotRequest> {
        self.request
    }

    pub(super) fn is_savepoint(&self) -> bool {
        let request = self.request;
        request.is_some_and(|request| request.kind != RequestKind::Checkpoint)
    }

    pub(super) fn id(&self) -> CheckpointId {
        self.id
    }

    /// Whether everything is there and being made durable.
    pub(super) fn is_publishing(&self) -> bool {
        self.publishing
    }

    /// Whether a task still owes its part.
    pub(super) fn expects(&self, execution: ExecutionId) -> bool {
        self.parts.get(&execution).is_some_and(Option::is_none)
    }

    pub(super) fn acknowledge(&mut self, execution: ExecutionId, state: H) {
        self.parts.insert(execution, Some(SubtaskCut::State(state)));
    }

    pub(super) fn finished(&mut self, execution: ExecutionId) {
        self.parts.insert(execution, Some(SubtaskCut::Finished));
    }

    pub(super) fn missing(&self) -> Vec<ExecutionId> {
        let missing = self.parts.iter().filter(|(_, part)| part.is_none());
        missing.map(|(execution, _)| *execution).collect()
    }

    /// The whole checkpoint, once, when nothing is missing.
    pub(super) fn publish(&mut self) -> Option<CompleteCut<H>> {
        if self.publishing {
            return None;
        }
        let whole: Option<BTreeMap<_, _>> = self
            .parts
            .iter()
            .map(|(execution, part)| Some((execution.subtask, part.clone()?)))
            .collect();
        let subtasks = whole?;
        self.publishing = true;
        Some(CompleteCut {
            checkpoint: self.id,
            triggered: self.triggered,
            subtasks,
        })
    }
}
