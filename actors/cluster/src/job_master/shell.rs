//! The JobMaster's actor: timers, enumerators on threads that may block, and the ways to others.

use super::brain::JobMasterBrain;
use super::enumerators::{BacklogNews, EnumeratorContexts};
use super::events::{EnumeratorStart, JobEffect, JobEvent, JobSettings, StorageWork};
use super::metrics::{self, JobMetrics};
use super::remote::{JobMasterCall, Records, RemoteLinks};
use super::requests::{Askers, CheckpointCall, SavepointCall, TakenCheckpoint};
use super::statistics::CheckpointStatistics;
use super::storage::{JobStorage, StorageQueue, failure_of};
use crate::details::VertexDetail;
use crate::dispatcher::DispatcherInput;
use crate::error::ClusterError;
use crate::messages::{DispatcherMessage, JobMasterMessage, TaskId, TaskManagerMessage};
use crate::resource_manager::ResourceManagerEvent;
use crate::result::{FailureEntry, JobResult, VertexOverview};
use crate::task_manager::TaskManagerInput;
use crate::wire::BeginEnd;
use crate::wire::Inbox;
use futures_util::future::join_all;
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::{CheckpointId, ExecutionId, JobId, NodeId, TaskManagerId, VertexId};
use hurtig_core::metrics::MetricSample;
use hurtig_core::steps::{Step, reached};
use hurtig_core::{Error, Fault};
use hurtig_dataflow::graph::{JobGraph, JobStatus};
use hurtig_dataflow::source::{Assignment, EnumeratorContext, Split, SplitEnumerator};
use hurtig_kit::{Component, ExitReason, Mailbox, Outbox, Panicked, Reply, ShellCx};
use hurtig_task::interface::{TaskFactory, TaskFailure};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Messages that may wait for a JobMaster.
const CAPACITY: usize = 4_096;
/// Messages that may wait for a full mailbox, for each receiver: each task has a few under way.
const OUTBOX: usize = 1 << 18;

/// How long a worker may take to say its metrics.
const METRICS: Duration = Duration::from_secs(3);

type Enumerator = Box<dyn SplitEnumerator>;

/// What reaches a JobMaster's actor.
pub(crate) enum JobMasterEvent {
    /// For the brain.
    Job(JobEvent),
    /// A TaskManager tells its address, before it offers slots.
    Introduced(TaskManagerId, Mailbox<TaskManagerInput>),
    /// Somebody asks for the accumulators.
    Accumulators(Reply<AccumulatorValues>),
    /// Somebody asks what became of checkpoints.
    Checkpoints(Reply<CheckpointStatistics>),
    /// Somebody asks what failed.
    Exceptions(Reply<Vec<FailureEntry>>),
    /// Somebody asks for the vertices.
    Vertices(Reply<Vec<VertexOverview>>),
    /// Somebody asks for the subtasks of a vertex.
    Vertex(VertexId, Reply<Option<VertexDetail>>),
    /// Somebody asks for the metrics of the job and of its tasks.
    Metrics(Reply<Vec<MetricSample>>),
    /// Somebody wants a savepoint. Answered when it is durable, and of a stop when the job has ended.
    Savepoint(SavepointCall, Reply<Result<String, ClusterError>>),
    /// Somebody wants a checkpoint. Answered when it is complete.
    Checkpoint(CheckpointCall, Reply<Result<TakenCheckpoint, ClusterError>>),
    /// An enumerator has started; `None`: the source has none.
    Started(u32, NodeId, Result<Option<Enumerator>, TaskFailure>),
    /// An enumerator comes back with its answer to a reader.
    Answered(
        u32,
        NodeId,
        ExecutionId,
        Result<(Enumerator, Assignment), TaskFailure>,
    ),
    /// An enumerator comes back that was given splits back.
    TookBack(u32, NodeId, Result<Enumerator, TaskFailure>),
    /// An enumerator comes back with what it remembers.
    Remembered(
        u32,
        NodeId,
        CheckpointId,
        Result<(Enumerator, Vec<u8>), TaskFailure>,
    ),
    /// A piece of work in the checkpoint store is done.
    Stored(Option<JobEvent>),
    /// An enumerator has said something on its own account.
    Said,
    /// Something was dropped where dropping may block.
    Dropped,
    /// From another process.
    Remote(JobMasterCall),
}

impl From<JobMasterMessage> for JobMasterEvent {
    fn from(message: JobMasterMessage) -> Self {
        Self::Job(JobEvent::Message(message))
    }
}

/// Whom a JobMaster talks to.
#[derive(Clone)]
pub(crate) struct JobMasterLinks {
    pub(crate) dispatcher: Mailbox<DispatcherInput>,
    pub(crate) resource_manager: Mailbox<ResourceManagerEvent>,
    /// For those who watch the job's state without asking.
    pub(crate) status: watch::Sender<JobStatus>,
    /// In a process of its own: the ways to workers, and to the leader's records.
    pub(crate) remote: Option<RemoteLinks>,
}

/// The ways to others, once the actor runs.
struct Outboxes {
    dispatcher: Outbox<DispatcherInput>,
    resource_manager: Outbox<ResourceManagerEvent>,
}

/// A job's JobMaster.
pub(crate) struct JobMaster {
    graph: Arc<JobGraph>,
    pub(super) settings: JobSettings,
    pub(super) factory: Arc<dyn TaskFactory>,
    pub(super) links: JobMasterLinks,
    pub(super) brain: Option<JobMasterBrain>,
    out: Option<Outboxes>,
    enumerators: BTreeMap<NodeId, Enumerator>,
    contexts: EnumeratorContexts,
    /// Which enumerator is each source's.
    generations: BTreeMap<NodeId, u32>,
    pub(super) task_managers: BTreeMap<TaskManagerId, Outbox<TaskManagerInput>>,
    pub(super) inbox: Inbox,
    metrics: Option<JobMetrics>,
    pub(super) queue: StorageQueue,
    /// What the leader is to record when the piece of work in the store that is under way is done.
    records: Option<Records>,
    /// Dropped when the actor ends.
    _alive: Option<oneshot::Sender<()>>,
    /// Those who wait for what they have asked for.
    pub(super) askers: Askers,
    fatal: Option<String>,
    /// The job's result, told when the checkpoint store is left as it should be.
    pub(super) result: Option<Box<JobResult>>,
    /// A predecessor has brought the job to this end.
    begun: Option<BeginEnd>,
    ended: bool,
}

impl JobMaster {
    pub(crate) fn new(
        graph: Arc<JobGraph>,
        settings: JobSettings,
        factory: Arc<dyn TaskFactory>,
        links: JobMasterLinks,
    ) -> Self {
        Self {
            graph,
            settings,
            factory,
            links,
            brain: None,
            out: None,
            enumerators: BTreeMap::new(),
            contexts: EnumeratorContexts::default(),
            generations: BTreeMap::new(),
            task_managers: BTreeMap::new(),
            inbox: Inbox::default(),
            metrics: None,
            queue: StorageQueue::default(),
            records: None,
            _alive: None,
            askers: Askers::default(),
            fatal: None,
            result: None,
            begun: None,
            ended: false,
        }
    }

    /// As it is, of a job that has come to its end already.
    pub(crate) fn ending(self, begun: Option<BeginEnd>) -> Self {
        Self { begun, ..self }
    }

    /// As it is, with somebody who waits for its end.
    pub(crate) fn watched(self, alive: oneshot::Sender<()>) -> Self {
        Self {
            _alive: Some(alive),
            ..self
        }
    }

    pub(super) fn job(&self) -> JobId {
        self.graph.id
    }

    pub(super) fn decide(&mut self, event: JobEvent, cx: &mut ShellCx<'_, Self>) {
        let mut effects = Vec::new();
        if let Some(brain) = &mut self.brain {
            brain.handle(cx.now(), event, &mut effects);
        }
        effects.into_iter().for_each(|effect| self.carry_out(effect, cx));
        self.go_on_in_store(cx);
    }

    fn carry_out(&mut self, effect: JobEffect, cx: &mut ShellCx<'_, Self>) {
        let job = self.job();
        match effect {
            JobEffect::RequireSlots(need) => {
                self.to_resource_manager(ResourceManagerEvent::Require(job, need, cx.mailbox()));
            }
            JobEffect::Dismiss(worker) => drop(self.task_managers.remove(&worker)),
            JobEffect::Release(task_managers) => self.release(&task_managers),
            JobEffect::StartEnumerators(sources) => {
                sources
                    .into_iter()
                    .for_each(|source| self.start_enumerator(source, cx));
            }
            JobEffect::ReturnSplits {
                generation,
                node,
                splits,
            } => self.give_back((generation, node), splits, cx),
            JobEffect::AskEnumerator {
                generation,
                node,
                reader,
            } => self.ask(generation, node, reader, cx),
            JobEffect::SnapshotEnumerator {
                generation,
                node,
                checkpoint,
            } => self.remember(generation, node, checkpoint, cx),
            JobEffect::PrepareCheckpoint {
                to,
                execution,
                checkpoint,
                order,
            } => {
                let task = TaskId { job, execution };
                let message = TaskManagerMessage::PrepareCheckpoint {
                    task,
                    checkpoint,
                    order,
                };
                self.tell(to, message);
            }
            JobEffect::AnswerSavepoint(id, result) => self.answer_savepoint(id, result),
            JobEffect::AnswerCheckpoint(id, result) => self.answer_checkpoint(id, result),
            JobEffect::TriggerCheckpoint {
                to,
                execution,
                checkpoint,
            } => {
                reached(Step::Triggering);
                let task = TaskId { job, execution };
                self.tell(to, TaskManagerMessage::TriggerCheckpoint { task, checkpoint });
            }
            JobEffect::NotifyCheckpoint { to, execution, event } => {
                let task = TaskId { job, execution };
                self.tell(to, TaskManagerMessage::NotifyCheckpoint { task, event });
            }
            JobEffect::Store(work) => self.queue.push(work),
            JobEffect::Deploy { to, descriptor } => self.tell(to, TaskManagerMessage::Deploy(descriptor)),
            JobEffect::CancelTask { to, execution } => {
                self.tell(to, TaskManagerMessage::CancelTask(TaskId { job, execution }));
            }
            JobEffect::SendSplit {
                to,
                execution,
                node,
                split,
            } => {
                let task = TaskId { job, execution };
                self.tell(to, TaskManagerMessage::AddSplit { task, node, split });
            }
            JobEffect::SetBacklog {
                to,
                execution,
                node,
                backlog,
            } => {
                let task = TaskId { job, execution };
                self.tell(to, TaskManagerMessage::SetBacklog { task, node, backlog });
            }
            JobEffect::EndGeneration { at, generation } => {
                at.iter()
                    .for_each(|to| self.tell(*to, TaskManagerMessage::EndGeneration { job, generation }));
            }
            JobEffect::After(delay, event) => {
                cx.after(delay, JobMasterEvent::Job(event));
            }
            JobEffect::StatusChanged(status) => self.publish(status),
            JobEffect::Restarted(restarts) => {
                self.metrics
                    .iter()
                    .for_each(|metrics| metrics.set_restarts(restarts));
            }
            JobEffect::SourcesInBacklog(sources) => {
                self.metrics
                    .iter()
                    .for_each(|metrics| metrics.set_backlog(sources));
            }
            JobEffect::Ended(mut result) => {
                result.vertices = self.vertices(cx);
                result.details = self.details(cx);
                result.checkpoints = Some(Box::new(self.statistics(cx)));
                self.end(result, cx);
            }
            JobEffect::Fatal(message) => self.fatal = Some(message),
        }
    }

    fn end_when_stored(&mut self) {
        if self.queue.is_idle()
            && let Some(result) = self.result.take()
        {
            let status = result.status;
            self.to_dispatcher(DispatcherMessage::JobEnded(result));
            self.links.status.send_replace(status);
            self.ended = true;
        }
    }

    /// Begins what is next in the store; the job's end is told when that was all.
    pub(super) fn go_on_in_store(&mut self, cx: &mut ShellCx<'_, Self>) {
        self.work_in_store(cx);
        self.end_when_stored();
    }

    fn work_in_store(&mut self, cx: &mut ShellCx<'_, Self>) {
        let Some(work) = self.queue.begin_next() else {
            return;
        };
        let storage = JobStorage {
            job: self.job(),
            name: self.graph.name.clone(),
            storage: self.factory.checkpoints().cloned(),
            clock: cx.env().clock.clone(),
            factory: Arc::clone(&self.factory),
            postponed: self.queue.postponed.clone(),
        };
        let lost = lost(&work);
        self.records = self.records_of(&work);
        cx.blocking(
            move || storage.carry_out(work),
            |done| JobMasterEvent::Stored(done.unwrap_or_else(lost)),
        );
    }

    fn on_stored(&mut self, done: Option<JobEvent>, cx: &mut ShellCx<'_, Self>) {
        let published = matches!(done, Some(JobEvent::CheckpointPublished(_, Ok(()))));
        match self.records.take().filter(|_| published) {
            Some(records) => self.record(records, done, cx),
            None => self.stored(done, cx),
        }
    }

    pub(super) fn stored(&mut self, done: Option<JobEvent>, cx: &mut ShellCx<'_, Self>) {
        self.queue.done();
        match done {
            Some(event) => self.decide(event, cx),
            None => self.go_on_in_store(cx),
        }
    }

    /// Says what state the job is in. Its end is seen with its result.
    fn publish(&self, status: JobStatus) {
        tracing::info!(job = %self.job(), name = self.graph.name, %status, "job");
        if !status.is_globally_terminal() {
            self.links.status.send_replace(status);
        }
        self.to_dispatcher(DispatcherMessage::JobStatusChanged {
            job: self.job(),
            status,
        });
    }

    fn tell(&self, to: TaskManagerId, message: TaskManagerMessage) {
        match self.task_managers.get(&to) {
            Some(outbox) => outbox.send(message.into()),
            None => tracing::error!(task_manager = %to, "message for a task manager that never came"),
        }
    }

    fn to_dispatcher(&self, message: DispatcherMessage) {
        self.out
            .iter()
            .for_each(|out| out.dispatcher.send(DispatcherInput::Message(message.clone())));
    }

    pub(super) fn to_resource_manager(&self, event: ResourceManagerEvent) {
        if let Some(out) = &self.out {
            out.resource_manager.send(event);
        }
    }

    fn release(&self, task_managers: &[TaskManagerId]) {
        let job = self.job();
        task_managers
            .iter()
            .for_each(|to| self.tell(*to, TaskManagerMessage::ReleaseJob { job }));
        self.to_resource_manager(ResourceManagerEvent::Release(job));
    }

    // Enumerators are user code that may block: made, started, asked and dropped on the blocking
    // pool, one call at a time each.

    fn start_enumerator(&mut self, start: EnumeratorStart, cx: &mut ShellCx<'_, Self>) {
        let EnumeratorStart {
            node,
            generation,
            parallelism,
            state,
        } = start;
        self.generations.insert(node, generation);
        if let Some(old) = self.enumerators.remove(&node) {
            cx.blocking(move || drop(old), |_| JobMasterEvent::Dropped);
        }
        let mailbox = cx.mailbox();
        let context = EnumeratorContext::new(move || {
            // Where it is full, something else will come to be handled.
            let _ = mailbox.tell(JobMasterEvent::Said);
        });
        self.contexts.add(node, generation, context.clone());
        let factory = self.factory.clone();
        let work = move || {
            let mut enumerator = factory.enumerator(node);
            let started = enumerator.as_mut().map_or(Ok(()), |one| {
                one.open(context);
                match &state {
                    Some(state) => one.restore(state, parallelism),
                    None => one.start(parallelism),
                }
            });
            started.map(|()| enumerator)
        };
        cx.blocking(work, move |result| {
            JobMasterEvent::Started(generation, node, flatten(result, node))
        });
    }

    /// Hears what enumerators have said before what happens now.
    fn hear_enumerators(&mut self, cx: &mut ShellCx<'_, Self>) {
        for news in self.contexts.news() {
            let BacklogNews {
                generation,
                node,
                backlog,
            } = news;
            let event = JobEvent::BacklogChanged {
                generation,
                node,
                backlog,
            };
            self.decide(event, cx);
        }
    }

    fn drop_enumerators(&mut self, cx: &mut ShellCx<'_, Self>) {
        let old = std::mem::take(&mut self.enumerators);
        if !old.is_empty() {
            cx.blocking(move || drop(old), |_| JobMasterEvent::Dropped);
        }
    }

    fn ask(&mut self, generation: u32, node: NodeId, reader: ExecutionId, cx: &mut ShellCx<'_, Self>) {
        let Some(mut enumerator) = self.enumerators.remove(&node) else {
            return self.on_missing(generation, node, cx);
        };
        let index = reader.subtask.index;
        let work = move || {
            enumerator
                .next_split(index)
                .map(|assignment| (enumerator, assignment))
        };
        cx.blocking(work, move |result| {
            JobMasterEvent::Answered(generation, node, reader, flatten(result, node))
        });
    }

    fn remember(
        &mut self,
        generation: u32,
        node: NodeId,
        checkpoint: CheckpointId,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let Some(mut enumerator) = self.enumerators.remove(&node) else {
            return self.on_missing(generation, node, cx);
        };
        let work = move || enumerator.snapshot().map(|snapshot| (enumerator, snapshot));
        cx.blocking(work, move |result| {
            JobMasterEvent::Remembered(generation, node, checkpoint, flatten(result, node))
        });
    }

    fn give_back(
        &mut self,
        (generation, node): (u32, NodeId),
        splits: Vec<Split>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let Some(mut enumerator) = self.enumerators.remove(&node) else {
            return self.on_missing(generation, node, cx);
        };
        let work = move || {
            enumerator.add_back(splits);
            Ok(enumerator)
        };
        cx.blocking(work, move |result| {
            JobMasterEvent::TookBack(generation, node, flatten(result, node))
        });
    }

    fn on_taken_back(
        &mut self,
        (generation, node): (u32, NodeId),
        answer: Result<Enumerator, TaskFailure>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let event = match answer {
            Err(failure) => JobEvent::EnumeratorFailed {
                generation,
                node,
                failure,
            },
            Ok(enumerator) => {
                self.keep(generation, node, enumerator, cx);
                JobEvent::SplitsTakenBack { generation, node }
            }
        };
        self.decide(event, cx);
    }

    fn on_missing(&mut self, generation: u32, node: NodeId, cx: &mut ShellCx<'_, Self>) {
        let error = Error::internal("an enumerator was asked while it was not there");
        let event = JobEvent::EnumeratorFailed {
            generation,
            node,
            failure: TaskFailure::new(&error, Some(node)),
        };
        self.decide(event, cx);
    }

    fn on_remembered(
        &mut self,
        (generation, node, checkpoint): (u32, NodeId, CheckpointId),
        answer: Result<(Enumerator, Vec<u8>), TaskFailure>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let event = match answer {
            Err(failure) => JobEvent::EnumeratorFailed {
                generation,
                node,
                failure,
            },
            Ok((enumerator, snapshot)) => {
                self.keep(generation, node, enumerator, cx);
                JobEvent::EnumeratorSnapshot {
                    generation,
                    node,
                    checkpoint,
                    snapshot,
                }
            }
        };
        self.decide(event, cx);
    }

    /// Keeps the present enumerator of a source; one that was replaced is dropped.
    fn keep(&mut self, generation: u32, node: NodeId, enumerator: Enumerator, cx: &mut ShellCx<'_, Self>) {
        if self.generations.get(&node) == Some(&generation) {
            self.enumerators.insert(node, enumerator);
        } else {
            cx.blocking(move || drop(enumerator), |_| JobMasterEvent::Dropped);
        }
    }

    fn on_started(
        &mut self,
        (generation, node): (u32, NodeId),
        started: Result<Option<Enumerator>, TaskFailure>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let event = match started {
            Err(failure) => JobEvent::EnumeratorFailed {
                generation,
                node,
                failure,
            },
            Ok(enumerator) => {
                let enumerates = enumerator.is_some();
                if let Some(enumerator) = enumerator {
                    self.keep(generation, node, enumerator, cx);
                }
                JobEvent::EnumeratorStarted {
                    generation,
                    node,
                    enumerates,
                }
            }
        };
        self.decide(event, cx);
    }

    fn on_answered(
        &mut self,
        (generation, node, reader): (u32, NodeId, ExecutionId),
        answer: Result<(Enumerator, Assignment), TaskFailure>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let event = match answer {
            Err(failure) => JobEvent::EnumeratorFailed {
                generation,
                node,
                failure,
            },
            Ok((enumerator, assignment)) => {
                self.keep(generation, node, enumerator, cx);
                JobEvent::SplitAssigned {
                    generation,
                    node,
                    reader,
                    assignment,
                }
            }
        };
        self.decide(event, cx);
    }

    pub(super) fn introduce(
        &mut self,
        id: TaskManagerId,
        mailbox: Mailbox<TaskManagerInput>,
        cx: &ShellCx<'_, Self>,
    ) {
        let outbox = cx.outbox("job master to task manager", mailbox, OUTBOX);
        self.task_managers.entry(id).or_insert(outbox);
    }

    pub(super) fn fail_for_good(&mut self, why: String) {
        self.fatal = Some(why);
    }

    /// Asks all workers; who does not answer is missing.
    pub(super) fn ask_metrics(&self, reply: Reply<Vec<MetricSample>>, cx: &mut ShellCx<'_, Self>) {
        let (job, own) = (self.job(), metrics::of_the_job(self.factory.metrics()));
        let presence = self
            .brain
            .as_ref()
            .map(JobMasterBrain::presence)
            .unwrap_or_default();
        let name = self.graph.name.clone();
        let workers: Vec<_> = self
            .task_managers
            .iter()
            .map(|(id, outbox)| (*id, outbox.mailbox().clone()))
            .collect();
        cx.detach(async move {
            let asked = workers.into_iter().map(|(id, worker)| async move {
                let answer = worker.ask(|reply| TaskManagerInput::Metrics(job, reply), METRICS);
                (id, answer.await)
            });
            let (mut all, mut silent) = (own, 0);
            for (worker, answer) in join_all(asked).await {
                match answer {
                    Ok(samples) => all.extend(presence.told(worker, samples)),
                    Err(_) => silent += 1,
                }
            }
            all.push(metrics::of_silence(&name, silent));
            reply.send(all);
        });
    }

    pub(super) fn accumulators(&self) -> AccumulatorValues {
        self.brain
            .as_ref()
            .map(JobMasterBrain::accumulators)
            .unwrap_or_default()
    }
}

/// Errors and panics of a coordinator are the job's, blamed on the source.
fn flatten<T>(result: Result<Result<T, Error>, Panicked>, node: NodeId) -> Result<T, TaskFailure> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(TaskFailure::new(&error, Some(node))),
        Err(panicked) => Err(TaskFailure::panic(Fault::User, panicked, Some(node))),
    }
}

/// What follows from work in the store that panicked.
fn lost(work: &StorageWork) -> impl FnOnce(Panicked) -> Option<JobEvent> + use<> {
    let publishing = match work {
        StorageWork::Publish { metadata, .. } => Some(metadata.checkpoint_id),
        _ => None,
    };
    let loading = matches!(work, StorageWork::Load(_));
    move |panicked| {
        let published = publishing.map(|id| JobEvent::CheckpointPublished(id, Err(panicked.to_string())));
        published.or_else(|| loading.then(|| JobEvent::CheckpointLoaded(Err(failure_of(panicked)))))
    }
}

impl Component for JobMaster {
    type Event = JobMasterEvent;

    fn name(&self) -> String {
        format!("job master {}", self.graph.id)
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn started(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let brain = JobMasterBrain::new(self.graph.clone(), self.settings.clone(), cx.now());
        self.brain = Some(brain);
        let remote = self.links.remote.as_ref();
        if let Some(stopped) = remote.and_then(|remote| remote.stopped.clone()) {
            self.askers.stopped_before(stopped.trigger);
        }
        self.metrics = self.factory.job_metrics().map(|group| JobMetrics::new(&group));
        self.out = Some(Outboxes {
            dispatcher: cx.outbox("job master to dispatcher", self.links.dispatcher.clone(), OUTBOX),
            resource_manager: cx.outbox(
                "job master to resource manager",
                self.links.resource_manager.clone(),
                OUTBOX,
            ),
        });
        match self.begun.take() {
            Some(begun) => self.end_as_begun(begun, cx),
            None => self.decide(JobEvent::Start, cx),
        }
        self.settled(cx)
    }

    fn handle(&mut self, event: JobMasterEvent, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        self.hear_enumerators(cx);
        match event {
            JobMasterEvent::Job(event) => self.decide(event, cx),
            JobMasterEvent::Introduced(id, mailbox) => self.introduce(id, mailbox, cx),
            JobMasterEvent::Accumulators(reply) => reply.send(self.accumulators()),
            JobMasterEvent::Checkpoints(reply) => reply.send(self.statistics(cx)),
            JobMasterEvent::Vertices(reply) => reply.send(self.vertices(cx)),
            JobMasterEvent::Exceptions(reply) => reply.send(self.exceptions()),
            JobMasterEvent::Vertex(vertex, reply) => reply.send(self.vertex(vertex, cx)),
            JobMasterEvent::Metrics(reply) => self.ask_metrics(reply, cx),
            JobMasterEvent::Savepoint(call, reply) => self.savepoint(call, reply, cx),
            JobMasterEvent::Checkpoint(call, reply) => self.checkpoint(call, reply, cx),
            JobMasterEvent::Started(generation, node, started) => {
                self.on_started((generation, node), started, cx);
            }
            JobMasterEvent::Answered(generation, node, reader, answer) => {
                self.on_answered((generation, node, reader), answer, cx);
            }
            JobMasterEvent::TookBack(generation, node, answer) => {
                self.on_taken_back((generation, node), answer, cx);
            }
            JobMasterEvent::Remembered(generation, node, checkpoint, answer) => {
                self.on_remembered((generation, node, checkpoint), answer, cx);
            }
            JobMasterEvent::Stored(done) => self.on_stored(done, cx),
            JobMasterEvent::Said | JobMasterEvent::Dropped => {}
            JobMasterEvent::Remote(call) => self.on_call(call, cx),
        }
        self.settled(cx)
    }
}

impl JobMaster {
    fn settled(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match self.fatal.take() {
            Some(message) => Err(ExitReason::failed(Error::user(message))),
            None if self.ended => {
                self.drop_enumerators(cx);
                Err(ExitReason::Done)
            }
            None => Ok(()),
        }
    }
}
