//! The actor on each thread that runs tasks: holds their handles, starts them where they will run.

use super::link::Link;
use super::shell::TaskManagerInput;
use crate::messages::TaskId;
use hurtig_core::Fault;
use hurtig_core::ids::{CheckpointId, NodeId};
use hurtig_dataflow::graph::TaskState;
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_dataflow::source::Split;
use hurtig_kit::{Component, ExitReason, Mailbox, Outbox, ShellCx, guard};
use hurtig_task::interface::{
    CheckpointOrder, TaskDescriptor, TaskFactory, TaskFailure, TaskHandle, TaskLink,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Messages that may wait for a host; more wait in the TaskManager's outbox.
const CAPACITY: usize = 1_024;
/// Messages of a host's tasks that may wait for the TaskManager.
const OUTBOX: usize = 1 << 16;

/// What reaches a host, always from its TaskManager.
pub(super) enum HostEvent {
    /// Start a task.
    Start(Box<TaskDescriptor>, Arc<dyn TaskFactory>),
    /// Stop it.
    Cancel(TaskId),
    /// Give it a split.
    AddSplit(TaskId, NodeId, Option<Split>),
    /// Tell it whether what it reads is backlog.
    SetBacklog(TaskId, NodeId, bool),
    /// Tell it that a checkpoint will be a savepoint.
    PrepareCheckpoint(TaskId, CheckpointId, CheckpointOrder),
    /// Begin a checkpoint there.
    TriggerCheckpoint(TaskId, CheckpointId),
    /// Tell it what became of a checkpoint.
    NotifyCheckpoint(TaskId, CheckpointEvent),
    /// It is over.
    Forget(TaskId),
    /// Nothing will follow.
    Close,
}

/// The tasks of one thread.
pub(super) struct TaskHost {
    manager: Mailbox<TaskManagerInput>,
    outbox: Option<Outbox<TaskManagerInput>>,
    tasks: BTreeMap<TaskId, TaskHandle>,
}

impl TaskHost {
    pub(super) fn new(manager: Mailbox<TaskManagerInput>) -> Self {
        Self {
            manager,
            outbox: None,
            tasks: BTreeMap::new(),
        }
    }

    /// User code runs in here for the first time: its errors and panics are the task's.
    fn start(&mut self, descriptor: TaskDescriptor, factory: &dyn TaskFactory) {
        let Some(outbox) = &self.outbox else { return };
        let task = TaskId {
            job: descriptor.job,
            execution: descriptor.execution,
        };
        let link = Link::new(task, outbox.clone());
        let name = descriptor.name.clone();
        let failure = match guard(|| factory.start_task(descriptor, Box::new(link.clone()))) {
            Ok(Ok(handle)) => {
                self.tasks.insert(task, handle);
                return;
            }
            Ok(Err(error)) => TaskFailure::new(&error, None),
            Err(panicked) => TaskFailure::panic(Fault::User, panicked, None),
        };
        tracing::warn!(%task, name, %failure, "task could not be started");
        link.state_changed(TaskState::Failed, Some(failure));
    }
}

impl Component for TaskHost {
    type Event = HostEvent;

    fn name(&self) -> String {
        "task host".to_owned()
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn started(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        self.outbox = Some(cx.outbox("task host to task manager", self.manager.clone(), OUTBOX));
        Ok(())
    }

    fn handle(&mut self, event: HostEvent, _: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match event {
            HostEvent::Start(descriptor, factory) => self.start(*descriptor, &*factory),
            HostEvent::Cancel(task) => {
                self.tasks.get(&task).into_iter().for_each(TaskHandle::cancel);
            }
            HostEvent::AddSplit(task, node, split) => {
                if let Some(handle) = self.tasks.get(&task) {
                    handle.add_split(node, split);
                }
            }
            HostEvent::SetBacklog(task, node, backlog) => {
                if let Some(handle) = self.tasks.get(&task) {
                    handle.set_backlog(node, backlog);
                }
            }
            HostEvent::PrepareCheckpoint(task, checkpoint, order) => {
                if let Some(handle) = self.tasks.get(&task) {
                    handle.prepare_checkpoint(checkpoint, order);
                }
            }
            HostEvent::TriggerCheckpoint(task, checkpoint) => {
                if let Some(handle) = self.tasks.get(&task) {
                    handle.trigger_checkpoint(checkpoint);
                }
            }
            HostEvent::NotifyCheckpoint(task, event) => {
                if let Some(handle) = self.tasks.get(&task) {
                    handle.notify_checkpoint(event);
                }
            }
            HostEvent::Forget(task) => {
                self.tasks.remove(&task);
            }
            HostEvent::Close => return Err(ExitReason::Done),
        }
        Ok(())
    }
}
