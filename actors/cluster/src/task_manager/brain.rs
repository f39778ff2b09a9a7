//! The TaskManager's brain: which tasks run where, and who has to hear of them.

use super::placement::{HostId, Placement};
use crate::messages::{JobMasterMessage, TaskId, TaskManagerMessage};
use hurtig_core::Fault;
use hurtig_core::ids::{AllocationId, CheckpointId, JobId, NodeId, SubtaskId};
use hurtig_dataflow::graph::TaskState;
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_dataflow::source::Split;
use hurtig_task::interface::{CheckpointOrder, CheckpointPart, TaskDescriptor, TaskFailure, TaskReport};
use std::collections::BTreeMap;

/// What reaches a TaskManager.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskManagerEvent {
    /// From another component.
    Message(TaskManagerMessage),
    /// A task of ours is in another state.
    TaskState {
        /// Which.
        task: TaskId,
        /// Its state.
        state: TaskState,
        /// Why, when FAILED.
        failure: Option<TaskFailure>,
    },
    /// A task of ours reports totals.
    TaskReport {
        /// Which.
        task: TaskId,
        /// The totals.
        report: TaskReport,
    },
    /// A reader of ours wants a split.
    SplitRequest {
        /// Which.
        task: TaskId,
        /// The source.
        node: NodeId,
    },
    /// A task of ours needs a checkpoint to finish.
    CheckpointRequest {
        /// Which.
        task: TaskId,
    },
    /// A task of ours knows of a savepoint.
    CheckpointPrepared {
        /// Which.
        task: TaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// A task of ours has stored its part of a checkpoint.
    CheckpointStored {
        /// Which.
        task: TaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Where its state is.
        part: CheckpointPart,
    },
    /// A task of ours cannot store its part of a checkpoint.
    CheckpointDeclined {
        /// Which.
        task: TaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        reason: String,
    },
}

/// What a TaskManager wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskManagerEffect {
    /// Offer slots to a job's JobMaster.
    OfferSlots {
        /// The job.
        job: JobId,
        /// Their names.
        allocations: Vec<AllocationId>,
    },
    /// Start a task on a thread, which is made if it is not there.
    Start {
        /// Where.
        host: HostId,
        /// What.
        descriptor: Box<TaskDescriptor>,
    },
    /// Stop a task.
    Cancel {
        /// Where it is.
        host: HostId,
        /// Which.
        task: TaskId,
    },
    /// Give a reader its answer.
    AddSplit {
        /// Where it is.
        host: HostId,
        /// Which.
        task: TaskId,
        /// The source.
        node: NodeId,
        /// The split.
        split: Option<Split>,
    },
    /// Tell a reader whether what it reads is backlog.
    SetBacklog {
        /// Where it is.
        host: HostId,
        /// Which.
        task: TaskId,
        /// The source.
        node: NodeId,
        /// Whether it is.
        backlog: bool,
    },
    /// Tell a task that a checkpoint will be a savepoint.
    PrepareCheckpoint {
        /// Where it runs.
        host: HostId,
        /// Which.
        task: TaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What the task has to know.
        order: CheckpointOrder,
    },
    /// Begin a checkpoint at a task.
    TriggerCheckpoint {
        /// Where it is.
        host: HostId,
        /// Which.
        task: TaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Tell a task what became of a checkpoint.
    NotifyCheckpoint {
        /// Where it is.
        host: HostId,
        /// Which.
        task: TaskId,
        /// What.
        event: CheckpointEvent,
    },
    /// Tell a job's JobMaster.
    Report {
        /// The job.
        job: JobId,
        /// What.
        message: JobMasterMessage,
    },
    /// A task is over: let go of its handle, and of its thread if that was its own.
    Forget {
        /// Where it was.
        host: HostId,
        /// Which.
        task: TaskId,
    },
    /// Tell a job's program that a generation is over.
    EndGeneration {
        /// The job.
        job: JobId,
        /// Which.
        generation: u32,
    },
    /// Let go of everything of a job.
    CloseJob(JobId),
}

/// What effects are collected in.
type Effects = Vec<TaskManagerEffect>;

/// A task that runs here.
#[derive(Clone, Debug)]
struct Task {
    slot: AllocationId,
    host: HostId,
}

/// A TaskManager's tasks and slots.
#[derive(Clone, Debug)]
pub struct TaskManagerBrain {
    placement: Placement,
    tasks: BTreeMap<TaskId, Task>,
    /// The newest attempt that was ever started here, by subtask: a late copy starts nothing.
    newest: BTreeMap<(JobId, SubtaskId), u32>,
}

impl TaskManagerBrain {
    /// A TaskManager with so many worker threads.
    pub fn new(threads: u32) -> Self {
        Self {
            placement: Placement::new(threads),
            tasks: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    /// Tasks that run here.
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Decides what an event leads to.
    pub fn handle(&mut self, event: TaskManagerEvent, out: &mut Effects) {
        match event {
            TaskManagerEvent::Message(message) => self.on_message(message, out),
            TaskManagerEvent::TaskState { task, state, failure } => {
                let execution = task.execution;
                self.report(
                    task,
                    JobMasterMessage::TaskStateChanged {
                        execution,
                        state,
                        failure,
                    },
                    out,
                );
                if state.is_terminal() {
                    self.forget(task, out);
                }
            }
            TaskManagerEvent::TaskReport { task, report } => {
                let execution = task.execution;
                self.report(task, JobMasterMessage::TaskReported { execution, report }, out);
            }
            TaskManagerEvent::SplitRequest { task, node } => {
                let execution = task.execution;
                self.report(task, JobMasterMessage::SplitRequested { execution, node }, out);
            }
            TaskManagerEvent::CheckpointRequest { task } => {
                let execution = task.execution;
                self.report(task, JobMasterMessage::CheckpointRequested { execution }, out);
            }
            TaskManagerEvent::CheckpointPrepared { task, checkpoint } => {
                let execution = task.execution;
                let message = JobMasterMessage::CheckpointPrepared {
                    execution,
                    checkpoint,
                };
                self.report(task, message, out);
            }
            TaskManagerEvent::CheckpointStored {
                task,
                checkpoint,
                part,
            } => {
                let execution = task.execution;
                let message = JobMasterMessage::CheckpointAcknowledged {
                    execution,
                    checkpoint,
                    part,
                };
                self.report(task, message, out);
            }
            TaskManagerEvent::CheckpointDeclined {
                task,
                checkpoint,
                reason,
            } => {
                let execution = task.execution;
                let message = JobMasterMessage::CheckpointDeclined {
                    execution,
                    checkpoint,
                    reason,
                };
                self.report(task, message, out);
            }
        }
    }

    fn host_of(&self, task: TaskId) -> Option<HostId> {
        self.tasks.get(&task).map(|task| task.host)
    }

    fn on_message(&mut self, message: TaskManagerMessage, out: &mut Effects) {
        match message {
            TaskManagerMessage::RequestSlots { job, allocations } => {
                self.placement.add_slots(job, &allocations);
                out.push(TaskManagerEffect::OfferSlots { job, allocations });
            }
            TaskManagerMessage::Deploy(descriptor) => self.deploy(descriptor, out),
            TaskManagerMessage::CancelTask(task) => self.cancel(task, out),
            TaskManagerMessage::AddSplit { task, node, split } => {
                out.extend(self.host_of(task).map(|host| TaskManagerEffect::AddSplit {
                    host,
                    task,
                    node,
                    split,
                }));
            }
            TaskManagerMessage::SetBacklog { task, node, backlog } => {
                let set = |host| TaskManagerEffect::SetBacklog {
                    host,
                    task,
                    node,
                    backlog,
                };
                out.extend(self.host_of(task).map(set));
            }
            TaskManagerMessage::PrepareCheckpoint {
                task,
                checkpoint,
                order,
            } => {
                let prepare = |host| TaskManagerEffect::PrepareCheckpoint {
                    host,
                    task,
                    checkpoint,
                    order,
                };
                out.extend(self.host_of(task).map(prepare));
            }
            TaskManagerMessage::TriggerCheckpoint { task, checkpoint } => {
                let trigger = |host| TaskManagerEffect::TriggerCheckpoint {
                    host,
                    task,
                    checkpoint,
                };
                out.extend(self.host_of(task).map(trigger));
            }
            TaskManagerMessage::NotifyCheckpoint { task, event } => {
                let notify = |host| TaskManagerEffect::NotifyCheckpoint { host, task, event };
                out.extend(self.host_of(task).map(notify));
            }
            TaskManagerMessage::EndGeneration { job, generation } => {
                out.push(TaskManagerEffect::EndGeneration { job, generation });
            }
            TaskManagerMessage::ReleaseJob { job } => self.release(job, out),
        }
    }

    fn deploy(&mut self, descriptor: Box<TaskDescriptor>, out: &mut Effects) {
        let (job, slot, execution) = (descriptor.job, descriptor.slot, descriptor.execution);
        let task = TaskId { job, execution };
        let attempt = execution.attempt.0;
        let newest = self.newest.get(&(job, execution.subtask));
        if newest.is_some_and(|newest| attempt <= *newest) {
            tracing::warn!(%task, "task was deployed before; ignored");
            return;
        }
        let Some(host) = self.host(&descriptor) else {
            let failure = refused(&descriptor);
            let message = JobMasterMessage::TaskStateChanged {
                execution,
                state: TaskState::Failed,
                failure: Some(failure),
            };
            out.push(TaskManagerEffect::Report { job, message });
            return;
        };
        self.newest.insert((job, execution.subtask), attempt);
        self.tasks.insert(task, Task { slot, host });
        out.push(TaskManagerEffect::Start { host, descriptor });
    }

    fn host(&mut self, descriptor: &TaskDescriptor) -> Option<HostId> {
        if descriptor.blocking {
            let own = HostId::Own(TaskId {
                job: descriptor.job,
                execution: descriptor.execution,
            });
            return self.placement.has(descriptor.job, descriptor.slot).then_some(own);
        }
        self.placement.place(descriptor.job, descriptor.slot)
    }

    /// A task that is not known is over, or never came: either way it is not running.
    fn cancel(&mut self, task: TaskId, out: &mut Effects) {
        if let Some(Task { host, .. }) = self.tasks.get(&task).cloned() {
            out.push(TaskManagerEffect::Cancel { host, task });
            return;
        }
        let TaskId { job, execution } = task;
        // A copy of its deployment that is still on the way must not start it.
        let newest = self
            .newest
            .entry((job, execution.subtask))
            .or_insert(execution.attempt.0);
        *newest = execution.attempt.0.max(*newest);
        let state = TaskState::Canceled;
        let message = JobMasterMessage::TaskStateChanged {
            execution,
            state,
            failure: None,
        };
        out.push(TaskManagerEffect::Report { job, message });
    }

    fn report(&self, task: TaskId, message: JobMasterMessage, out: &mut Effects) {
        if self.tasks.contains_key(&task) {
            out.push(TaskManagerEffect::Report {
                job: task.job,
                message,
            });
        } else {
            tracing::warn!(%task, "a task spoke after its end; ignored");
        }
    }

    fn forget(&mut self, task: TaskId, out: &mut Effects) {
        let Some(Task { slot, host }) = self.tasks.remove(&task) else {
            return;
        };
        self.placement.remove(task.job, slot, host);
        out.push(TaskManagerEffect::Forget { host, task });
    }

    fn release(&mut self, job: JobId, out: &mut Effects) {
        let left = self.tasks.iter().filter(|(task, _)| task.job == job);
        let left: Vec<(TaskId, HostId)> = left.map(|(task, Task { host, .. })| (*task, *host)).collect();
        debug_assert!(left.is_empty(), "a job is released after its tasks are over");
        for (task, host) in left {
            tracing::error!(%task, "job released while a task runs; the task is stopped");
            out.push(TaskManagerEffect::Cancel { host, task });
        }
        self.placement.remove_job(job);
        self.newest.retain(|(owner, _), _| *owner != job);
        out.push(TaskManagerEffect::CloseJob(job));
    }
}

fn refused(descriptor: &TaskDescriptor) -> TaskFailure {
    let message = format!(
        "slot {} was not offered to job {}",
        descriptor.slot, descriptor.job
    );
    TaskFailure {
        fault: Fault::Internal.into(),
        message,
        operator: None,
        panicked: false,
        permanent: false,
        worker: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::{AttemptNumber, ExecutionId, VertexId};
    use hurtig_core::key::KeyGroupRange;

    const JOB: JobId = JobId::from_u128(1);
    const SLOT: AllocationId = AllocationId::from_u128(1);

    fn execution(attempt: u32) -> ExecutionId {
        let subtask = SubtaskId {
            vertex: VertexId::from_u128(1),
            index: 0,
        };
        ExecutionId {
            subtask,
            attempt: AttemptNumber(attempt),
        }
    }

    fn task(attempt: u32) -> TaskId {
        TaskId {
            job: JOB,
            execution: execution(attempt),
        }
    }

    fn descriptor(attempt: u32, blocking: bool) -> TaskManagerMessage {
        descriptor_of(JOB, attempt, blocking)
    }

    fn descriptor_of(job: JobId, attempt: u32, blocking: bool) -> TaskManagerMessage {
        TaskManagerMessage::Deploy(Box::new(TaskDescriptor {
            job,
            execution: execution(attempt),
            name: "a".to_owned(),
            operators: vec![NodeId(0)],
            parallelism: 1,
            max_parallelism: 128,
            key_groups: KeyGroupRange::all(128),
            slot: SLOT,
            blocking,
            generation: attempt,
            inputs: Vec::new(),
            outputs: Vec::new(),
            restore: None,
            backlog: false,
            peers: Vec::new(),
        }))
    }

    fn told(brain: &mut TaskManagerBrain, message: TaskManagerMessage) -> Vec<TaskManagerEffect> {
        let mut out = Vec::new();
        brain.handle(TaskManagerEvent::Message(message), &mut out);
        out
    }

    fn ready() -> TaskManagerBrain {
        let mut brain = TaskManagerBrain::new(2);
        let request = TaskManagerMessage::RequestSlots {
            job: JOB,
            allocations: vec![SLOT],
        };
        assert!(matches!(
            told(&mut brain, request)[..],
            [TaskManagerEffect::OfferSlots { .. }]
        ));
        brain
    }

    fn end(brain: &mut TaskManagerBrain, attempt: u32) -> Vec<TaskManagerEffect> {
        let mut out = Vec::new();
        let (task, state) = (task(attempt), TaskState::Finished);
        brain.handle(
            TaskManagerEvent::TaskState {
                task,
                state,
                failure: None,
            },
            &mut out,
        );
        out
    }

    #[test]
    fn an_attempt_is_started_once_whatever_is_repeated() {
        let mut brain = ready();
        assert!(matches!(
            told(&mut brain, descriptor(0, false))[..],
            [TaskManagerEffect::Start { .. }]
        ));
        assert!(told(&mut brain, descriptor(0, false)).is_empty());
        assert_eq!(end(&mut brain, 0).len(), 2);
        assert!(
            told(&mut brain, descriptor(0, false)).is_empty(),
            "a late copy after the end"
        );
        assert!(end(&mut brain, 0).is_empty(), "a repeated end");
        assert!(matches!(
            told(&mut brain, descriptor(1, false))[..],
            [TaskManagerEffect::Start { .. }]
        ));
        assert_eq!(brain.task_count(), 1);
    }

    #[test]
    fn two_jobs_of_one_program_are_kept_apart() {
        let mut brain = ready();
        let other = JobId::from_u128(2);
        let slot = AllocationId::from_u128(2);
        told(
            &mut brain,
            TaskManagerMessage::RequestSlots {
                job: other,
                allocations: vec![slot, SLOT],
            },
        );
        told(&mut brain, descriptor(0, false));
        let effects = told(&mut brain, descriptor_of(other, 0, false));
        assert!(matches!(effects[..], [TaskManagerEffect::Start { .. }]));
        end(&mut brain, 0);
        assert_eq!(brain.task_count(), 1);
        let cancel = TaskManagerMessage::CancelTask(TaskId {
            job: other,
            execution: execution(0),
        });
        assert!(matches!(
            told(&mut brain, cancel)[..],
            [TaskManagerEffect::Cancel { .. }]
        ));
    }

    #[test]
    fn a_task_without_slot_fails() {
        let mut brain = TaskManagerBrain::new(1);
        let effects = told(&mut brain, descriptor(0, true));
        let [TaskManagerEffect::Report { message, .. }] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert!(matches!(
            message,
            JobMasterMessage::TaskStateChanged {
                state: TaskState::Failed,
                ..
            }
        ));
    }

    #[test]
    fn blocking_tasks_have_their_own_thread() {
        let mut brain = ready();
        let effects = told(&mut brain, descriptor(0, true));
        let own = HostId::Own(task(0));
        assert!(matches!(&effects[..], [TaskManagerEffect::Start { host, .. }] if *host == own));
        let effects = end(&mut brain, 0);
        assert!(matches!(&effects[1], TaskManagerEffect::Forget { host, .. } if *host == own));
    }

    #[test]
    fn a_cancel_is_always_answered() {
        let mut brain = ready();
        let cancel = || TaskManagerMessage::CancelTask(task(0));
        told(&mut brain, descriptor(0, false));
        assert!(matches!(
            told(&mut brain, cancel())[..],
            [TaskManagerEffect::Cancel { .. }]
        ));
        assert!(matches!(
            told(&mut brain, cancel())[..],
            [TaskManagerEffect::Cancel { .. }]
        ));
        end(&mut brain, 0);
        assert!(matches!(
            told(&mut brain, cancel())[..],
            [TaskManagerEffect::Report { .. }]
        ));
    }

    #[test]
    fn a_deployment_that_a_cancel_overtook_starts_nothing() {
        let mut brain = ready();
        let cancel = TaskManagerMessage::CancelTask(task(0));
        assert!(matches!(
            told(&mut brain, cancel)[..],
            [TaskManagerEffect::Report { .. }]
        ));
        assert!(told(&mut brain, descriptor(0, false)).is_empty());
    }

    #[test]
    fn splits_for_ended_tasks_are_dropped() {
        let mut brain = ready();
        let split = || TaskManagerMessage::AddSplit {
            task: task(0),
            node: NodeId(0),
            split: None,
        };
        assert!(told(&mut brain, split()).is_empty());
        told(&mut brain, descriptor(0, false));
        assert!(matches!(
            told(&mut brain, split())[..],
            [TaskManagerEffect::AddSplit { .. }]
        ));
    }
}
