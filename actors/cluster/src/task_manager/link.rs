//! A task's way to its TaskManager.

use super::brain::TaskManagerEvent;
use super::shell::TaskManagerInput;
use crate::messages::TaskId;
use hurtig_core::ids::{CheckpointId, NodeId};
use hurtig_dataflow::graph::TaskState;
use hurtig_kit::Outbox;
use hurtig_task::interface::{CheckpointPart, TaskFailure, TaskLink, TaskReport};
use std::cell::Cell;
use std::rc::Rc;

/// The link of one task. Clones are the same link; it is silent after a terminal state.
#[derive(Clone)]
pub(super) struct Link {
    task: TaskId,
    manager: Outbox<TaskManagerInput>,
    ended: Rc<Cell<bool>>,
}

impl Link {
    pub(super) fn new(task: TaskId, manager: Outbox<TaskManagerInput>) -> Self {
        Self {
            task,
            manager,
            ended: Rc::new(Cell::new(false)),
        }
    }

    fn send(&self, event: TaskManagerEvent) {
        if self.ended.get() {
            tracing::warn!(task = %self.task, "a task spoke after its end; ignored");
            return;
        }
        self.manager.send(TaskManagerInput::Event(event));
    }
}

impl TaskLink for Link {
    fn state_changed(&self, state: TaskState, failure: Option<TaskFailure>) {
        self.send(TaskManagerEvent::TaskState {
            task: self.task,
            state,
            failure,
        });
        self.ended.set(self.ended.get() || state.is_terminal());
    }

    fn request_split(&self, node: NodeId) {
        self.send(TaskManagerEvent::SplitRequest {
            task: self.task,
            node,
        });
    }

    fn request_checkpoint(&self) {
        self.send(TaskManagerEvent::CheckpointRequest { task: self.task });
    }

    fn checkpoint_prepared(&self, checkpoint: CheckpointId) {
        self.send(TaskManagerEvent::CheckpointPrepared {
            task: self.task,
            checkpoint,
        });
    }

    fn acknowledge(&self, checkpoint: CheckpointId, part: CheckpointPart) {
        self.send(TaskManagerEvent::CheckpointStored {
            task: self.task,
            checkpoint,
            part,
        });
    }

    fn decline(&self, checkpoint: CheckpointId, reason: String) {
        self.send(TaskManagerEvent::CheckpointDeclined {
            task: self.task,
            checkpoint,
            reason,
        });
    }

    fn report(&self, report: TaskReport) {
        self.send(TaskManagerEvent::TaskReport {
            task: self.task,
            report,
        });
    }
}
