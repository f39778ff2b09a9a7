//! The TaskManager's actor: threads, programs, and the ways to JobMasters.

use super::brain::{TaskManagerBrain, TaskManagerEffect, TaskManagerEvent};
use super::host::{HostEvent, TaskHost};
use super::placement::HostId;
use crate::job_master::JobMasterEvent;
use crate::messages::{JobMasterMessage, TaskId, TaskManagerMessage};
use crate::programs::Programs;
use crate::resource_manager::ResourceManagerEvent;
use crate::wire::{AskTaskMetrics, Delivery, Inbox};
use hurtig_core::ids::{AllocationId, JobId, TaskManagerId};
use hurtig_core::metrics::MetricSample;
use hurtig_kit::{Component, ExitReason, HostThread, Mailbox, Outbox, Reply, Shell, ShellCx, Spawner, guard};
use hurtig_rpc::Call;
use hurtig_task::interface::TaskFactory;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Messages that may wait for the TaskManager.
const CAPACITY: usize = 4_096;
/// Messages that may wait for a full mailbox, for each receiver.
const OUTBOX: usize = 1 << 16;

/// What reaches the TaskManager's actor.
pub(crate) enum TaskManagerInput {
    /// From a task, or a message that needs no address.
    Event(TaskManagerEvent),
    /// From the ResourceManager, with the address of the job's JobMaster.
    RequestSlots {
        /// The job.
        job: JobId,
        /// The slots.
        allocations: Vec<AllocationId>,
        /// Its JobMaster.
        master: Mailbox<JobMasterEvent>,
        /// Where tasks elsewhere reach those here; `None`: all of them are here.
        exchange: Option<String>,
    },
    /// From a JobMaster of another process.
    Delivered(Call<Delivery<TaskManagerMessage>>),
    /// A JobMaster asks for the metrics of the tasks here of its job.
    Metrics(JobId, Reply<Vec<MetricSample>>),
    /// The same from another process.
    MetricsAsked(Call<AskTaskMetrics>),
}

impl From<TaskManagerMessage> for TaskManagerInput {
    fn from(message: TaskManagerMessage) -> Self {
        Self::Event(TaskManagerEvent::Message(message))
    }
}

/// What a TaskManager is made from.
pub(crate) struct TaskManagerSetup {
    pub(crate) id: TaskManagerId,
    /// The TaskManager that has started this worker; `None`: it is one itself.
    pub(crate) of: Option<TaskManagerId>,
    pub(crate) threads: u32,
    pub(crate) slots: Option<u32>,
    pub(crate) spawner: Box<dyn Spawner>,
    pub(crate) programs: Programs,
    /// Who is offered the slots; `None` in a worker, which has the slots of one job and ends with it.
    pub(crate) resource_manager: Option<Mailbox<ResourceManagerEvent>>,
    /// Dropped when the actor ends.
    #[expect(dead_code, reason = "its drop says what is to be said")]
    pub(crate) alive: Option<tokio::sync::oneshot::Sender<()>>,
}

/// A job, as this TaskManager knows it.
struct Job {
    master: Outbox<JobMasterEvent>,
    factory: Option<Arc<dyn TaskFactory>>,
    exchange: Option<String>,
}

/// A thread and the actor on it.
struct Host {
    thread: HostThread,
    outbox: Outbox<HostEvent>,
}

/// The TaskManager.
pub(crate) struct TaskManager {
    setup: TaskManagerSetup,
    brain: TaskManagerBrain,
    jobs: BTreeMap<JobId, Job>,
    hosts: BTreeMap<HostId, Host>,
    inbox: Inbox,
    ended: bool,
}

impl TaskManager {
    pub(crate) fn new(setup: TaskManagerSetup) -> Self {
        let brain = TaskManagerBrain::new(setup.threads);
        Self {
            setup,
            brain,
            jobs: BTreeMap::new(),
            hosts: BTreeMap::new(),
            inbox: Inbox::default(),
            ended: false,
        }
    }

    fn decide(&mut self, event: TaskManagerEvent, cx: &mut ShellCx<'_, Self>) {
        let mut effects = Vec::new();
        self.brain.handle(event, &mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(effect, cx));
    }

    fn carry_out(&mut self, effect: TaskManagerEffect, cx: &mut ShellCx<'_, Self>) {
        match effect {
            TaskManagerEffect::OfferSlots { job, allocations } => self.offer(job, allocations, cx),
            TaskManagerEffect::Start { host, descriptor } => {
                let factory = self.jobs.get(&descriptor.job).and_then(|job| job.factory.clone());
                match factory {
                    Some(factory) => self.host(host, cx).send(HostEvent::Start(descriptor, factory)),
                    None => tracing::error!(job = %descriptor.job, "task of a job whose program is not here"),
                }
            }
            TaskManagerEffect::Cancel { host, task } => self.tell_host(host, HostEvent::Cancel(task)),
            TaskManagerEffect::AddSplit {
                host,
                task,
                node,
                split,
            } => {
                self.tell_host(host, HostEvent::AddSplit(task, node, split));
            }
            TaskManagerEffect::SetBacklog {
                host,
                task,
                node,
                backlog,
            } => self.tell_host(host, HostEvent::SetBacklog(task, node, backlog)),
            TaskManagerEffect::PrepareCheckpoint {
                host,
                task,
                checkpoint,
                order,
            } => self.tell_host(host, HostEvent::PrepareCheckpoint(task, checkpoint, order)),
            TaskManagerEffect::TriggerCheckpoint {
                host,
                task,
                checkpoint,
            } => self.tell_host(host, HostEvent::TriggerCheckpoint(task, checkpoint)),
            TaskManagerEffect::NotifyCheckpoint { host, task, event } => {
                self.tell_host(host, HostEvent::NotifyCheckpoint(task, event));
            }
            TaskManagerEffect::Report { job, message } => self.report(job, message),
            TaskManagerEffect::Forget { host, task } => self.forget(host, task),
            TaskManagerEffect::EndGeneration { job, generation } => self.end_generation(job, generation),
            TaskManagerEffect::CloseJob(job) => {
                self.jobs.remove(&job);
                self.ended = self.setup.resource_manager.is_none();
            }
        }
    }

    fn offer(&self, job: JobId, allocations: Vec<AllocationId>, cx: &ShellCx<'_, Self>) {
        let Some(known) = self.jobs.get(&job) else { return };
        let offer = JobMasterMessage::SlotsOffered {
            task_manager: self.setup.id,
            allocations,
            exchange: known.exchange.clone(),
            of: self.setup.of,
        };
        known
            .master
            .send(JobMasterEvent::Introduced(self.setup.id, cx.mailbox()));
        known.master.send(offer.into());
    }

    /// A thread's actor; made when it is needed for the first time.
    fn host(&mut self, id: HostId, cx: &ShellCx<'_, Self>) -> &Outbox<HostEvent> {
        let host = self.hosts.entry(id).or_insert_with(|| {
            let thread = self.setup.spawner.thread();
            let manager = cx.mailbox();
            let mailbox = Shell::start_on(thread.handle(), cx.env().clone(), move || TaskHost::new(manager));
            Host {
                thread,
                outbox: cx.outbox("task manager to task host", mailbox, OUTBOX),
            }
        });
        &host.outbox
    }

    fn tell_host(&self, id: HostId, event: HostEvent) {
        if let Some(host) = self.hosts.get(&id) {
            host.outbox.send(event);
        }
    }

    fn report(&self, job: JobId, message: JobMasterMessage) {
        match self.jobs.get(&job) {
            Some(known) => known.master.send(message.into()),
            None => tracing::warn!(%job, ?message, "nobody to report to"),
        }
    }

    fn forget(&mut self, id: HostId, task: TaskId) {
        self.tell_host(id, HostEvent::Forget(task));
        if matches!(id, HostId::Own(_))
            && let Some(host) = self.hosts.remove(&id)
        {
            host.outbox.send(HostEvent::Close);
            host.thread.stop();
        }
    }

    /// Those of tasks that have ended are there as long as the job is.
    fn metrics(&self, job: JobId) -> Vec<MetricSample> {
        let factory = self.jobs.get(&job).and_then(|job| job.factory.as_ref());
        factory.map(|factory| factory.metrics()).unwrap_or_default()
    }

    fn end_generation(&self, job: JobId, generation: u32) {
        let Some(factory) = self.jobs.get(&job).and_then(|job| job.factory.as_ref()) else {
            return;
        };
        if let Err(panicked) = guard(|| factory.generation_ended(generation)) {
            tracing::error!(%job, generation, %panicked, "the program panicked at the end of a generation");
        }
    }
}

impl Component for TaskManager {
    type Event = TaskManagerInput;

    fn name(&self) -> String {
        format!("task manager {}", self.setup.id)
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn started(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let Some(resource_manager) = self.setup.resource_manager.clone() else {
            return Ok(());
        };
        let to = cx.outbox("task manager to resource manager", resource_manager, OUTBOX);
        to.send(ResourceManagerEvent::Register(
            self.setup.id,
            self.setup.slots,
            cx.mailbox(),
        ));
        Ok(())
    }

    fn handle(&mut self, event: TaskManagerInput, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match event {
            TaskManagerInput::Event(event) => self.decide(event, cx),
            TaskManagerInput::RequestSlots {
                job,
                allocations,
                master,
                exchange,
            } => {
                let outbox = || cx.outbox("task manager to job master", master, OUTBOX);
                let programs = &self.setup.programs;
                self.jobs.entry(job).or_insert_with(|| Job {
                    master: outbox(),
                    factory: programs.get(job),
                    exchange,
                });
                let request = TaskManagerMessage::RequestSlots { job, allocations };
                self.decide(TaskManagerEvent::Message(request), cx);
            }
            TaskManagerInput::Metrics(job, reply) => reply.send(self.metrics(job)),
            TaskManagerInput::MetricsAsked(call) => call.reply.send(self.metrics(call.message.job)),
            TaskManagerInput::Delivered(call) => match self.inbox.accept(call.message) {
                Ok(messages) => {
                    for message in messages {
                        self.decide(TaskManagerEvent::Message(message), cx);
                    }
                    call.reply.send(());
                }
                Err(missing) => call.reply.fail(&missing.into()),
            },
        }
        if self.ended {
            return Err(ExitReason::Done);
        }
        Ok(())
    }
}
