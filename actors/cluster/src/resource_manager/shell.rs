//! The ResourceManager's actor.

use super::brain::{ResourceBrain, ResourceEffect};
use crate::job_master::JobMasterEvent;
use crate::messages::ResourceManagerMessage;
use crate::task_manager::TaskManagerInput;
use hurtig_core::ids::{JobId, TaskManagerId};
use hurtig_kit::{Component, ExitReason, Mailbox, Outbox, ShellCx};
use std::collections::BTreeMap;

/// Messages that may wait for the ResourceManager.
const CAPACITY: usize = 1_024;

/// What reaches the ResourceManager's actor. Addresses travel beside the messages that introduce
/// their senders.
#[derive(Debug)]
pub(crate) enum ResourceManagerEvent {
    /// A TaskManager introduces itself.
    Register(TaskManagerId, Option<u32>, Mailbox<TaskManagerInput>),
    /// A JobMaster declares what it needs.
    Require(JobId, u32, Mailbox<JobMasterEvent>),
    /// A JobMaster needs nothing any more.
    Release(JobId),
}

/// The ResourceManager.
pub(crate) struct ResourceManager {
    brain: ResourceBrain,
    task_managers: BTreeMap<TaskManagerId, Outbox<TaskManagerInput>>,
    masters: BTreeMap<JobId, Mailbox<JobMasterEvent>>,
}

impl ResourceManager {
    pub(crate) fn new() -> Self {
        Self {
            brain: ResourceBrain::new(),
            task_managers: BTreeMap::new(),
            masters: BTreeMap::new(),
        }
    }

    fn carry_out(&self, effect: ResourceEffect) {
        let ResourceEffect::Allocate {
            task_manager,
            job,
            allocations,
        } = effect;
        let (Some(to), Some(master)) = (self.task_managers.get(&task_manager), self.masters.get(&job)) else {
            tracing::error!(%job, %task_manager, "slots granted to or by someone who is not known");
            return;
        };
        to.send(TaskManagerInput::RequestSlots {
            job,
            allocations,
            master: master.clone(),
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
            ResourceManagerEvent::Require(job, slots, master) => {
                self.masters.insert(job, master);
                ResourceManagerMessage::Require { job, slots }
            }
            ResourceManagerEvent::Release(job) => {
                self.masters.remove(&job);
                ResourceManagerMessage::Release { job }
            }
        };
        let mut effects = Vec::new();
        self.brain.handle(message, &mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
        Ok(())
    }
}
