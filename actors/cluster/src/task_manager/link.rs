//! A task's way to its TaskManager.

use super::brain::TaskManagerEvent;
use super::shell::TaskManagerInput;
use hurtig_core::ids::{ExecutionId, NodeId};
use hurtig_dataflow::graph::TaskState;
use hurtig_kit::Outbox;
use hurtig_task::interface::{TaskFailure, TaskLink, TaskReport};
use std::cell::Cell;
use std::rc::Rc;

/// The link of one task. Clones are the same link; it is silent after a terminal state.
#[derive(Clone)]
pub(super) struct Link {
    execution: ExecutionId,
    manager: Outbox<TaskManagerInput>,
    ended: Rc<Cell<bool>>,
}

impl Link {
    pub(super) fn new(execution: ExecutionId, manager: Outbox<TaskManagerInput>) -> Self {
        Self { execution, manager, ended: Rc::new(Cell::new(false)) }
    }

    fn send(&self, event: TaskManagerEvent) {
        if self.ended.get() {
            tracing::warn!(execution = %self.execution, "a task spoke after its end; ignored");
            return;
        }
        self.manager.send(TaskManagerInput::Event(event));
    }
}

impl TaskLink for Link {
    fn state_changed(&self, state: TaskState, failure: Option<TaskFailure>) {
        self.send(TaskManagerEvent::TaskState { execution: self.execution, state, failure });
        self.ended.set(self.ended.get() || state.is_terminal());
    }

    fn request_split(&self, node: NodeId) {
        self.send(TaskManagerEvent::SplitRequest { execution: self.execution, node });
    }

    fn report(&self, report: TaskReport) {
        self.send(TaskManagerEvent::TaskReport { execution: self.execution, report });
    }
}
