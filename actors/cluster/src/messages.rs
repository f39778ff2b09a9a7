//! What the components say to each other: serde types without code, mailboxes or clocks.
//!
//! Order is kept between one sender and one receiver. Each variant says in which stage it is legal,
//! which reply it is owed, and what a late or repeated copy means. A receiver refuses what is not
//! legal by doing nothing, and logs it.

use crate::result::JobResult;
use hurtig_core::ids::{AllocationId, CheckpointId, ExecutionId, JobId, NodeId, TaskManagerId};
use hurtig_dataflow::graph::{JobStatus, Requirements, TaskState};
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_dataflow::source::Split;
use hurtig_task::interface::{CheckpointOrder, CheckpointPart, TaskDescriptor, TaskFailure, TaskReport};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A task of any job. Two jobs of one program have the same vertices, so an [`ExecutionId`] alone
/// says nothing to a TaskManager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    /// The job.
    pub job: JobId,
    /// Its subtask, and which try.
    pub execution: ExecutionId,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of job {}", self.execution, self.job)
    }
}

/// To the Dispatcher, from JobMasters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DispatcherMessage {
    /// The job is in another state.
    /// *Legal* between submission and [`Self::JobEnded`]. *Reply*: none. *Late*: ignored once the
    /// job has ended. *Repeated*: changes nothing. A state that ends the job changes nothing either:
    /// clients see the end when [`Self::JobEnded`] brings the result.
    JobStatusChanged {
        /// The job.
        job: JobId,
        /// Its state now.
        status: JobStatus,
    },
    /// The job is over; the last message of its JobMaster.
    /// *Reply*: none; everyone who waits for the result is answered. *Repeated*: the first one
    /// counts.
    JobEnded(Box<JobResult>),
}

/// To the ResourceManager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResourceManagerMessage {
    /// From a TaskManager: it offers slots.
    /// *Legal* at any time, first of all its messages. *Reply*: slot requests, when jobs need them.
    /// *Repeated*: replaces the number of slots; what was granted stays.
    Register {
        /// Who.
        task_manager: TaskManagerId,
        /// How many; `None`: as many as are wanted.
        slots: Option<u32>,
    },
    /// From a JobMaster: it needs so many slots in all.
    /// *Reply*: TaskManagers offer slots to the JobMaster as soon as those are free that it needs at least, and more as they
    /// become free. *Repeated*: replaces what it declared before.
    Require {
        /// The job.
        job: JobId,
        /// How many it can use.
        slots: u32,
        /// How many it needs at least; `None`: all of them.
        #[serde(default)]
        least: Option<u32>,
        /// Those that it was granted and does not use any more.
        #[serde(default)]
        returned: Vec<AllocationId>,
    },
    /// From a JobMaster: it needs none any more. *Late, repeated*: nothing is held for it.
    Release {
        /// The job.
        job: JobId,
    },
    /// From a TaskManager: what held these slots of a job there has ended. *Reply*: none; the job is served anew as
    /// long as it requires slots. *Late, repeated*: nothing is held there.
    Freed {
        /// Where.
        task_manager: TaskManagerId,
        /// The job.
        job: JobId,
        /// The slots.
        allocations: Vec<AllocationId>,
    },
    /// From a JobMaster: it does not hear of this worker any more, and does not wait for it. *Reply*: none; its process is ended, and
    /// the job is served anew. *Late, repeated*: it has ended.
    GiveUp {
        /// The job.
        job: JobId,
        /// Which.
        worker: TaskManagerId,
    },
    /// From who watches it: a TaskManager is gone, and its slots with it. *Reply*: none; jobs that held some are
    /// served anew. *Repeated*: it is not known.
    Lost {
        /// Who.
        task_manager: TaskManagerId,
    },
}

/// How many slots a job needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotNeed {
    /// As many can it use.
    pub slots: u32,
    /// Without as many it cannot run.
    pub least: u32,
    /// Those that it was granted and does not use any more.
    pub returned: Vec<AllocationId>,
}

impl SlotNeed {
    /// All of these, or none.
    pub fn exactly(slots: u32) -> Self {
        Self {
            slots,
            least: slots,
            returned: Vec::new(),
        }
    }

    /// What a job's JobMaster says of it.
    pub(crate) fn of(self, job: JobId) -> ResourceManagerMessage {
        ResourceManagerMessage::Require {
            job,
            slots: self.slots,
            least: Some(self.least),
            returned: self.returned,
        }
    }
}

/// To a TaskManager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskManagerMessage {
    /// From the ResourceManager: offer these slots to the job's JobMaster.
    /// *Reply*: [`JobMasterMessage::SlotsOffered`], to the JobMaster. *Repeated*: offered again.
    RequestSlots {
        /// The job.
        job: JobId,
        /// The slots' names.
        allocations: Vec<AllocationId>,
    },
    /// From a JobMaster: start this task.
    /// *Legal* after its slot was offered. *Reply*: task states, the last one terminal; a task that
    /// cannot be started is FAILED. *Repeated*: ignored, an attempt is started once.
    Deploy(Box<TaskDescriptor>),
    /// From a JobMaster: stop this task.
    /// *Reply*: a terminal state; CANCELED for a task that is not known. *Repeated*: the same.
    CancelTask(TaskId),
    /// From a JobMaster: the answer to a split request. *Reply*: none. *Late*: the task has ended,
    /// nothing happens. *Repeated*: never sent twice for one request.
    AddSplit {
        /// Who asked.
        task: TaskId,
        /// The source.
        node: NodeId,
        /// The split; `None`: there are no more.
        split: Option<Split>,
    },
    /// From a JobMaster: what the task's source reads from now on is backlog, or is not any more. *Legal* after the
    /// task was deployed. *Reply*: none. *Late*: the task has ended, nothing happens. *Repeated*: changes nothing.
    SetBacklog {
        /// Which.
        task: TaskId,
        /// The source.
        node: NodeId,
        /// Whether it is.
        backlog: bool,
    },
    /// From a JobMaster: the checkpoint of this id will be a special one. *Legal* while the task is RUNNING,
    /// before anybody is told to begin it. *Reply*: [`JobMasterMessage::CheckpointPrepared`], or the task's
    /// end. *Late*: ignored. *Repeated*: answered again.
    PrepareCheckpoint {
        /// Which.
        task: TaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What the task has to know.
        order: CheckpointOrder,
    },
    /// From a JobMaster: begin a checkpoint at this task. *Legal* while it is RUNNING; splits that were
    /// sent before are part of the checkpoint. *Reply*: [`JobMasterMessage::CheckpointAcknowledged`] or
    /// [`JobMasterMessage::CheckpointDeclined`], or the task's end. *Late, repeated*: ignored.
    TriggerCheckpoint {
        /// Which.
        task: TaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// From a JobMaster: a checkpoint has completed or was given up. *Reply*: none. *Late*: the task has
    /// ended, nothing happens. *Repeated*: the same.
    NotifyCheckpoint {
        /// Which.
        task: TaskId,
        /// What became of it.
        event: CheckpointEvent,
    },
    /// From a JobMaster: all tasks of a generation are over. *Repeated*: nothing is left.
    EndGeneration {
        /// The job.
        job: JobId,
        /// Which one.
        generation: u32,
    },
    /// From a JobMaster: the job needs nothing here any more; the last message about it.
    /// *Legal* when none of its tasks run. *Repeated*: nothing is left.
    ReleaseJob {
        /// The job.
        job: JobId,
    },
}

/// To a JobMaster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobMasterMessage {
    /// From a TaskManager: these slots are the job's until it releases them.
    /// *Legal* after the job declared its requirement. *Reply*: deployments. *Repeated*: slots that
    /// it has already are ignored. *Late*: after the job has ended, ignored.
    SlotsOffered {
        /// Who.
        task_manager: TaskManagerId,
        /// Their names.
        allocations: Vec<AllocationId>,
        /// Where its tasks receive records of tasks elsewhere; `None`: all tasks of the job are there.
        #[serde(default)]
        exchange: Option<String>,
        /// The TaskManager that has started it; `None`: it is one itself.
        #[serde(default)]
        of: Option<TaskManagerId>,
    },
    /// From who watches it: a TaskManager of the job is gone, with its slots and all that ran there. *Legal* at any
    /// time. *Reply*: none; what ran there has failed. *Repeated, late*: it has no slots, ignored.
    TaskManagerLost {
        /// Who.
        task_manager: TaskManagerId,
        /// How, for people.
        cause: String,
    },
    /// From the ResourceManager: the process of a worker has ended, and not with its machine. *Legal* at any time. *Reply*: none;
    /// what ran there has failed. If it had offered no slots yet, it could not begin, which is a failure of the job.
    /// *Repeated, late*: it is known to be lost, ignored.
    WorkerEnded {
        /// Which.
        task_manager: TaskManagerId,
        /// How, for people.
        cause: String,
    },
    /// From a TaskManager: a task is in another state. *Reply*: none. *Repeated*: ignored. *Late*:
    /// about an attempt that was replaced or is over, ignored.
    TaskStateChanged {
        /// Which attempt.
        execution: ExecutionId,
        /// Its state now.
        state: TaskState,
        /// Why, when FAILED.
        failure: Option<TaskFailure>,
    },
    /// From a TaskManager: totals of a task. *Reply*: none. *Repeated*: the last one counts. *Late*:
    /// ignored when the attempt was replaced.
    TaskReported {
        /// Which attempt.
        execution: ExecutionId,
        /// The totals.
        report: TaskReport,
    },
    /// From a TaskManager: a reader wants a split. *Legal* while the task is INITIALIZING or
    /// RUNNING. *Reply*: one [`TaskManagerMessage::AddSplit`], unless the task ends first. *Late*:
    /// ignored. *Repeated*: a reader asks again only after it was answered; the copy is ignored.
    SplitRequested {
        /// Which attempt.
        execution: ExecutionId,
        /// The source.
        node: NodeId,
    },
    /// From a TaskManager: the input of a task has ended, and a checkpoint must complete before the task
    /// can finish. *Legal* while it is RUNNING. *Reply*: a checkpoint, soon. *Repeated*: one more.
    /// *Late*: ignored.
    CheckpointRequested {
        /// Which attempt.
        execution: ExecutionId,
    },
    /// From a TaskManager: a task knows what a checkpoint will be. *Reply*: none; sources are told to begin it when all
    /// tasks have said so or ended. *Late, repeated*: ignored.
    CheckpointPrepared {
        /// Which attempt.
        execution: ExecutionId,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// From a TaskManager: a task has stored its part of a checkpoint. Comes before the FINISHED of a task
    /// whose end is behind the barrier. *Reply*: none. *Late*: the checkpoint is over; what was stored is
    /// deleted. *Repeated*: never.
    CheckpointAcknowledged {
        /// Which attempt.
        execution: ExecutionId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Where its state is.
        part: CheckpointPart,
    },
    /// From a TaskManager: a task cannot store its part of a checkpoint, which is given up. *Reply*:
    /// none. *Late, repeated*: ignored.
    CheckpointDeclined {
        /// Which attempt.
        execution: ExecutionId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        reason: String,
    },
    /// From the Dispatcher: between which bounds each vertex is to run from now on. *Legal* at any time. *Reply*: none; the job
    /// changes its parallelism when it can. *Repeated*: changes nothing. *Late*: the job is over, ignored.
    RequirementsDeclared(Requirements),
    /// From the Dispatcher: end the job. *Reply*: none; the job's result says CANCELED. *Repeated,
    /// late*: ignored.
    Cancel,
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::{AttemptNumber, SubtaskId, VertexId};
    use hurtig_dataflow::chain::StopMode;
    use hurtig_storage::{SavepointFormat, SnapshotFolder};
    use hurtig_task::interface::{PartFigures, SavepointOrder};
    use serde::de::DeserializeOwned;
    use std::fmt::Debug;

    /// What will cross processes survives it, with named fields.
    fn survives<M: Serialize + DeserializeOwned + PartialEq + Debug>(messages: Vec<M>) {
        for message in messages {
            let text = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<M>(&text).unwrap(), message, "{text}");
        }
    }

    #[test]
    fn messages_survive_encoding() {
        let job = JobId::from_u128(1);
        let subtask = SubtaskId {
            vertex: VertexId::from_u128(2),
            index: 3,
        };
        let execution = ExecutionId {
            subtask,
            attempt: AttemptNumber(4),
        };
        let task = TaskId { job, execution };
        let allocations = vec![AllocationId::from_u128(u128::MAX)];
        let checkpoint = CheckpointId(u64::MAX);
        let (task_manager, node) = (TaskManagerId::from_u128(5), NodeId(6));
        let split = Some(Split {
            id: "a".to_owned(),
            bytes: vec![0, 255],
        });
        survives(vec![
            ResourceManagerMessage::Register {
                task_manager,
                slots: None,
            },
            ResourceManagerMessage::Require {
                job,
                slots: 7,
                least: Some(2),
                returned: allocations.clone(),
            },
            ResourceManagerMessage::Release { job },
            ResourceManagerMessage::Freed {
                task_manager,
                job,
                allocations: allocations.clone(),
            },
            ResourceManagerMessage::GiveUp {
                job,
                worker: task_manager,
            },
            ResourceManagerMessage::Lost { task_manager },
        ]);
        survives(vec![
            TaskManagerMessage::RequestSlots {
                job,
                allocations: allocations.clone(),
            },
            TaskManagerMessage::CancelTask(task),
            TaskManagerMessage::AddSplit { task, node, split },
            TaskManagerMessage::SetBacklog {
                task,
                node,
                backlog: true,
            },
            TaskManagerMessage::PrepareCheckpoint {
                task,
                checkpoint,
                order: CheckpointOrder::Savepoint(SavepointOrder {
                    folder: SnapshotFolder {
                        store: "/savepoints".to_owned(),
                        folder: "savepoint-1".to_owned(),
                    },
                    stop: Some(StopMode::Drain),
                    format: SavepointFormat::Native,
                }),
            },
            TaskManagerMessage::PrepareCheckpoint {
                task,
                checkpoint,
                order: CheckpointOrder::Full,
            },
            TaskManagerMessage::TriggerCheckpoint { task, checkpoint },
            TaskManagerMessage::NotifyCheckpoint {
                task,
                event: CheckpointEvent::Aborted(checkpoint),
            },
            TaskManagerMessage::EndGeneration { job, generation: 8 },
            TaskManagerMessage::ReleaseJob { job },
        ]);
        let failure = TaskFailure::panic(hurtig_core::Fault::External, "boom", Some(node));
        survives(vec![
            JobMasterMessage::SlotsOffered {
                task_manager,
                allocations,
                exchange: Some("127.0.0.1:1".to_owned()),
                of: Some(task_manager),
            },
            JobMasterMessage::TaskManagerLost {
                task_manager,
                cause: "killed by signal 9".to_owned(),
            },
            JobMasterMessage::WorkerEnded {
                task_manager,
                cause: "it ended with exit code 1".to_owned(),
            },
            JobMasterMessage::TaskStateChanged {
                execution,
                state: TaskState::Failed,
                failure: Some(failure),
            },
            JobMasterMessage::TaskReported {
                execution,
                report: TaskReport::default(),
            },
            JobMasterMessage::SplitRequested { execution, node },
            JobMasterMessage::CheckpointRequested { execution },
            JobMasterMessage::CheckpointPrepared {
                execution,
                checkpoint,
            },
            JobMasterMessage::CheckpointAcknowledged {
                execution,
                checkpoint,
                part: CheckpointPart {
                    handle: None,
                    shapes: vec![],
                    stored_in: std::time::Duration::from_millis(3),
                    overtook: true,
                    figures: Some(PartFigures::default()),
                },
            },
            JobMasterMessage::CheckpointDeclined {
                execution,
                checkpoint,
                reason: "the disk is full".to_owned(),
            },
            JobMasterMessage::RequirementsDeclared(Requirements::default()),
            JobMasterMessage::Cancel,
        ]);
        survives(vec![DispatcherMessage::JobStatusChanged {
            job,
            status: JobStatus::Cancelling,
        }]);
    }
}
