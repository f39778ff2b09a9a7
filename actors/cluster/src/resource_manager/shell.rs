//! The ResourceManager's actor.

use super::brain::{ResourceBrain, ResourceEffect};
use crate::config::LoadBalance;
use crate::job_master::JobMasterEvent;
use crate::messages::{ResourceManagerMessage, SlotNeed};
use crate::process::placement::{Placement, ProcessEvent};
use crate::task_manager::TaskManagerInput;
use hurtig_core::ids::{AllocationId, JobId, TaskManagerId};
use hurtig_kit::{Component, ExitReason, Mailbox, Outbox, ShellCx};
use std::collections::BTreeMap;

/// Messages that may wait for the ResourceManager.
const CAPACITY: usize = 1_024;

/// What reaches the ResourceManager's actor. Addresses travel beside the messages that introduce
/// their senders.
pub(crate) enum ResourceManagerEvent {
    /// A TaskManager introduces itself.
    Register(TaskManagerId, Option<u32>, Mailbox<TaskManagerInput>),
    /// A JobMaster declares what it needs.
    Require(JobId, SlotNeed, Mailbox<JobMasterEvent>),
    /// A JobMaster needs nothing any more.
    Release(JobId),
    /// A JobMaster does not hear of a worker any more.
    GiveUp(JobId, TaskManagerId),
    /// What only a cluster of processes has.
    Processes(Box<ProcessEvent>),
}

/// The ResourceManager.
pub(crate) struct ResourceManager {
    pub(crate) brain: ResourceBrain,
    task_managers: BTreeMap<TaskManagerId, Outbox<TaskManagerInput>>,
    masters: BTreeMap<JobId, Mailbox<JobMasterEvent>>,
    /// In a cluster of processes: who starts them, and which there are.
    pub(crate) placement: Option<Placement>,
}

impl ResourceManager {
    pub(crate) fn new(balance: LoadBalance) -> Self {
        Self {
            brain: ResourceBrain::new(balance),
            task_managers: BTreeMap::new(),
            masters: BTreeMap::new(),
            placement: None,
        }
    }

    /// That of a cluster of processes.
    pub(crate) fn of_processes(placement: Placement, balance: LoadBalance, term: u64) -> Self {
        Self {
            placement: Some(placement),
            brain: ResourceBrain::of_term(balance, term),
            ..Self::new(balance)
        }
    }

    pub(crate) fn decide(&mut self, message: ResourceManagerMessage, cx: &mut ShellCx<'_, Self>) {
        let mut effects = Vec::new();
        self.brain.handle(message, &mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(effect, cx));
    }

    fn carry_out(&mut self, effect: ResourceEffect, cx: &mut ShellCx<'_, Self>) {
        let ResourceEffect::Allocate {
            task_manager,
            job,
            allocations,
        } = effect;
        match &mut self.placement {
            Some(placement) => placement.start_worker(task_manager, job, allocations, cx),
            None => self.request_slots(task_manager, job, allocations),
        }
    }

    fn request_slots(&self, task_manager: TaskManagerId, job: JobId, allocations: Vec<AllocationId>) {
        let (Some(to), Some(master)) = (self.task_managers.get(&task_manager), self.masters.get(&job)) else {
            tracing::error!(%job, %task_manager, "slots granted to or by someone who is not known");
            return;
        };
        to.send(TaskManagerInput::RequestSlots {
            job,
            allocations,
            master: master.clone(),
            exchange: None,
        });
    }
}

impl Component for ResourceManager {
    type Event = ResourceManagerEvent;

    fn name(&self) -> String {
        "resource manager".to_owned()
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn handle(&mut self, event: Self::Event, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let message = match event {
            ResourceManagerEvent::Register(task_manager, slots, mailbox) => {
                let outbox = cx.outbox("resource manager to task manager", mailbox, CAPACITY);
                self.task_managers.insert(task_manager, outbox);
                ResourceManagerMessage::Register { task_manager, slots }
            }
            ResourceManagerEvent::Require(job, need, master) => {
                self.masters.insert(job, master);
                self.brain.give_back(job, &need.returned);
                need.of(job)
            }
            ResourceManagerEvent::Release(job) => {
                self.masters.remove(&job);
                ResourceManagerMessage::Release { job }
            }
            ResourceManagerEvent::GiveUp(job, worker) => ResourceManagerMessage::GiveUp { job, worker },
            ResourceManagerEvent::Processes(event) => {
                self.on_process_event(*event, cx);
                return Ok(());
            }
        };
        self.decide(message, cx);
        Ok(())
    }
}
