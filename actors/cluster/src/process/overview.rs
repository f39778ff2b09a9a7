//! What clients see of TaskManagers, and ask of them.

use super::machine::MachineFacts;
use crate::error::ClusterError;
use crate::resource_manager::ResourceManager;
use crate::wire::{AskMachine, ReadLog};
use hurtig_core::ids::{AllocationId, JobId, TaskManagerId};
use hurtig_kit::{Reply, ShellCx};
use hurtig_rpc::RpcError;
use std::time::Duration;

/// How long a TaskManager may take to say something of itself.
const LOOKING: Duration = Duration::from_secs(3);

/// What clients ask of a TaskManager.
pub(crate) enum MachineQuestion {
    /// What it is, and where.
    Facts(Reply<Result<MachineFacts, ClusterError>>),
    /// A part of a log of this name; `None`: there is none.
    Log(String, u64, Reply<Result<Option<Vec<u8>>, ClusterError>>),
}

/// A TaskManager, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskManagerOverview {
    /// Who.
    pub id: TaskManagerId,
    /// Where it listens.
    pub address: String,
    /// How many slots it has.
    pub slots: u32,
    /// How many of them no job has.
    pub free: u32,
    /// The processes there that run tasks.
    pub workers: Vec<WorkerOverview>,
}

/// A worker, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerOverview {
    /// Whose tasks it runs.
    pub job: JobId,
    /// In which slots.
    pub slots: Vec<AllocationId>,
}

/// The TaskManagers of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskManagers {
    /// Each of them.
    pub all: Vec<TaskManagerOverview>,
    /// Slots in all.
    pub slots: u32,
    /// Slots that no job has.
    pub free: u32,
}

impl ResourceManager {
    pub(super) fn ask(
        &self,
        task_manager: TaskManagerId,
        question: MachineQuestion,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let placement = self.placement.as_ref();
        let starter = placement.and_then(|placement| placement.starters.get(&task_manager));
        let machine = starter.map(|starter| starter.machine.clone());
        let machine = machine.ok_or(ClusterError::UnknownTaskManager(task_manager));
        let silent = move |error: RpcError| ClusterError::SilentTaskManager(task_manager, error.to_string());
        match (question, machine) {
            (MachineQuestion::Facts(reply), Err(unknown)) => reply.send(Err(unknown)),
            (MachineQuestion::Log(_, _, reply), Err(unknown)) => reply.send(Err(unknown)),
            (MachineQuestion::Facts(reply), Ok(machine)) => {
                let asked = machine.ask(AskMachine {}, LOOKING);
                cx.detach(async move { reply.send(asked.await.map_err(silent)) });
            }
            (MachineQuestion::Log(name, offset, reply), Ok(machine)) => {
                let asked = machine.ask(ReadLog { name, offset }, LOOKING);
                cx.detach(async move {
                    let part = asked.await.map_err(silent);
                    reply.send(part.map(|part| part.map(|part| part.bytes)));
                });
            }
        }
    }

    fn workers_at(&self, task_manager: TaskManagerId) -> Vec<WorkerOverview> {
        let jobs = self.placement.iter().flat_map(|placement| &placement.jobs);
        let workers = jobs.flat_map(|(job, known)| known.workers.values().map(move |worker| (*job, worker)));
        let here = workers.filter(|(_, worker)| worker.at == task_manager);
        here.map(|(job, worker)| WorkerOverview {
            job,
            slots: worker.allocations.clone(),
        })
        .collect()
    }

    pub(super) fn task_managers(&self) -> TaskManagers {
        let (slots, free) = self.brain.totals();
        let starters = self.placement.iter().flat_map(|placement| &placement.starters);
        let all = starters.map(|(id, starter)| TaskManagerOverview {
            id: *id,
            address: starter.address.clone(),
            slots: starter.slots,
            free: self.brain.free_of(*id),
            workers: self.workers_at(*id),
        });
        TaskManagers {
            all: all.collect(),
            slots,
            free,
        }
    }
}
