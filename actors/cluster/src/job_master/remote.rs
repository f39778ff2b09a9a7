//! What a JobMaster has to do with other processes: workers that come and go, questions of the Dispatcher, and the leader's
//! records.

use super::brain::JobMasterBrain;
use super::events::{JobEvent, StorageWork};
use super::requests::{CheckpointCall, SavepointCall};
use super::shell::{JobMaster, JobMasterEvent};
use super::statistics::CheckpointStatistics;
use crate::details::VertexDetail;
use crate::error::ClusterError;
use crate::messages::JobMasterMessage;
use crate::process::security::ExchangeAuthority;
use crate::resource_manager::ResourceManagerEvent;
use crate::result::{FailureEntry, JobResult, VertexOverview};
use crate::wire::{
    AskAccumulators, AskCheckpoints, AskExceptions, AskMetrics, AskVertex, AskVertices, Courier, Delivery,
    DispatcherRpc, OpenWorker, RecordCheckpoint, StopsWith, TakeCheckpoint, TakeSavepoint, WorkerOpened,
    WorkerRpc,
};
use hurtig_core::ids::{CheckpointId, TaskManagerId, VertexId};
use hurtig_dataflow::chain::StopMode;
use hurtig_kit::{Mailbox, Reply, ShellCx};
use hurtig_rpc::{Call, Gateway, Rpc, RpcError, Stamp};
use hurtig_storage::{CheckpointLayout, is_whole};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// How long the leader is waited for before it is asked again to record a checkpoint.
pub(super) const RECORDING: Duration = Duration::from_secs(10);
/// How long a worker's launcher has to say how it has ended: it knows more than who does not reach it any more.
const WITNESS: Duration = Duration::from_millis(300);
/// How long nobody is asked after a refusal.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// The ways of a JobMaster that has a process of its own.
#[derive(Clone)]
pub(crate) struct RemoteLinks {
    pub(crate) rpc: Rpc,
    /// What its commands carry.
    pub(crate) stamp: Stamp,
    /// Who records checkpoints, as long as it leads.
    pub(crate) dispatcher: watch::Receiver<Gateway<DispatcherRpc>>,
    /// By what the job's workers know each other; each JobMaster has another.
    pub(crate) secret: Uuid,
    /// The job was stopped with what it begins with.
    pub(crate) stopped: Option<StopsWith>,
    /// Who signs for its workers, where they need certificates.
    pub(crate) exchange: Option<Arc<ExchangeAuthority>>,
}

/// What the leader is to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Records {
    checkpoint: CheckpointId,
    /// Its whole path.
    path: String,
    /// The job stops with it.
    stop: Option<StopsWith>,
}

/// What other processes say to a JobMaster.
pub(crate) enum JobMasterCall {
    /// Messages of a worker.
    Delivered(Call<Delivery<JobMasterMessage>>),
    /// A worker is there.
    Opened(Call<OpenWorker>),
    /// See the message.
    Accumulators(Call<AskAccumulators>),
    /// See the message.
    Checkpoints(Call<AskCheckpoints>),
    /// See the message.
    Exceptions(Call<AskExceptions>),
    /// See the message.
    Vertices(Call<AskVertices>),
    /// See the message.
    Vertex(Call<AskVertex>),
    /// See the message.
    Metrics(Call<AskMetrics>),
    /// See the message.
    Savepoint(Call<TakeSavepoint>),
    /// See the message.
    Checkpoint(Call<TakeCheckpoint>),
    /// Who leads now wants to know which workers there are.
    Workers(Reply<Vec<TaskManagerId>>),
    /// A worker cannot be reached any more.
    Lost(TaskManagerId, String),
    /// Timer: nobody has said in the meantime how it has ended.
    GiveUp(TaskManagerId, String),
    /// The leader has recorded a checkpoint, or never will.
    Recorded(Option<Box<JobEvent>>, Result<(), RpcError>),
    /// The leader has recorded the end that the job comes to, or never will.
    EndBegun(Box<JobResult>, Result<(), RpcError>),
}

impl JobMaster {
    pub(super) fn on_call(&mut self, call: JobMasterCall, cx: &mut ShellCx<'_, Self>) {
        match call {
            JobMasterCall::Delivered(call) => {
                let messages = match self.inbox.accept(call.message) {
                    Ok(messages) => messages,
                    Err(missing) => return call.reply.fail(&missing.into()),
                };
                for message in messages {
                    self.decide(JobEvent::Message(message), cx);
                }
                call.reply.send(());
            }
            JobMasterCall::Opened(call) => {
                if let Some(opened) = self.open(&call.message, cx) {
                    call.reply.send(opened);
                }
            }
            JobMasterCall::Accumulators(call) => call.reply.send(self.accumulators()),
            JobMasterCall::Checkpoints(call) => call.reply.send(self.statistics(cx)),
            JobMasterCall::Exceptions(call) => call.reply.send(self.exceptions()),
            JobMasterCall::Vertices(call) => call.reply.send(self.vertices(cx)),
            JobMasterCall::Vertex(call) => call.reply.send(self.vertex(call.message.vertex, cx)),
            JobMasterCall::Metrics(call) => {
                let (reply, samples) = Reply::new();
                self.ask_metrics(reply, cx);
                cx.detach(async move {
                    if let Ok(samples) = samples.await {
                        call.reply.send(samples);
                    }
                });
            }
            JobMasterCall::Savepoint(call) => self.on_savepoint(call, cx),
            JobMasterCall::Checkpoint(call) => self.on_checkpoint(call, cx),
            JobMasterCall::Workers(reply) => reply.send(self.workers()),
            JobMasterCall::Lost(worker, cause) => {
                cx.after(
                    WITNESS,
                    JobMasterEvent::Remote(JobMasterCall::GiveUp(worker, cause)),
                );
            }
            JobMasterCall::GiveUp(worker, cause) => self.give_up_worker(worker, cause, cx),
            JobMasterCall::Recorded(event, recorded) => self.on_recorded(event, recorded, cx),
            JobMasterCall::EndBegun(result, begun) => self.on_end_begun(result, begun, cx),
        }
    }

    /// Those that it counts on: the leader ends all others, and has their slots free.
    fn workers(&self) -> Vec<TaskManagerId> {
        let given_up = |worker| {
            let brain = self.brain.as_ref();
            brain.is_some_and(|brain| brain.has_given_up(worker))
        };
        let known = self.task_managers.keys().copied();
        known.filter(|worker| !given_up(*worker)).collect()
    }

    /// Dials the worker: a refused connection tells of its end sooner than silence.
    fn open(&mut self, worker: &OpenWorker, cx: &ShellCx<'_, Self>) -> Option<WorkerOpened> {
        let links = self.links.remote.as_ref()?;
        let secret = links.secret;
        let id = worker.worker;
        let certificate = links
            .exchange
            .as_ref()
            .map(|authority| authority.certificate_of(id));
        let exchange = certificate
            .transpose()
            .inspect_err(|why| tracing::error!(why, "a worker is not taken"))
            .ok()?;
        let gateway = links.rpc.connect(&*worker.address).gateway::<WorkerRpc>("worker");
        let own: Mailbox<JobMasterEvent> = cx.mailbox();
        let on_lost = Box::new(move |why| {
            // A JobMaster that has ended needs to know nothing.
            let _ = own.tell(JobMasterEvent::Remote(JobMasterCall::Lost(id, why)));
        });
        let way = Courier::start(gateway.stamped(links.stamp), cx.env(), on_lost);
        self.introduce(id, way.mailbox, cx);
        Some(WorkerOpened { secret, exchange })
    }

    /// A worker that is silent may still run, with slots that the job needs.
    fn give_up_worker(&mut self, task_manager: TaskManagerId, cause: String, cx: &mut ShellCx<'_, Self>) {
        self.to_resource_manager(ResourceManagerEvent::GiveUp(self.job(), task_manager));
        let message = JobMasterMessage::TaskManagerLost { task_manager, cause };
        self.decide(JobEvent::Message(message), cx);
        self.task_managers.remove(&task_manager);
    }

    fn on_savepoint(&mut self, call: Call<TakeSavepoint>, cx: &mut ShellCx<'_, Self>) {
        let TakeSavepoint {
            dir,
            stop,
            format,
            trigger,
        } = call.message;
        let (reply, answer) = Reply::new();
        let job = self.job();
        let call_of = SavepointCall {
            job,
            dir,
            stop,
            format,
            trigger,
        };
        self.savepoint(call_of, reply, cx);
        // Beside the actor, which may end with the savepoint that is answered here.
        actix::spawn(async move {
            match answer.await {
                Ok(Err(ClusterError::Savepoint { cause, .. })) => call.reply.send(Err(cause)),
                Ok(taken) => call.reply.send(taken.map_err(|error| error.to_string())),
                Err(_) => drop(call.reply),
            }
        });
    }

    fn on_checkpoint(&mut self, call: Call<TakeCheckpoint>, cx: &mut ShellCx<'_, Self>) {
        let TakeCheckpoint { kind, trigger } = call.message;
        let (reply, answer) = Reply::new();
        let job = self.job();
        self.checkpoint(CheckpointCall { job, kind, trigger }, reply, cx);
        actix::spawn(async move {
            match answer.await {
                Ok(Err(ClusterError::Checkpoint { cause, .. })) => call.reply.send(Err(cause)),
                Ok(taken) => call.reply.send(taken.map_err(|error| error.to_string())),
                Err(_) => drop(call.reply),
            }
        });
    }

    pub(super) fn statistics(&self, cx: &ShellCx<'_, Self>) -> CheckpointStatistics {
        let (now, wall_ms) = (cx.now(), cx.env().clock.wall_ms());
        let brain = self.brain.as_ref();
        let statistics = brain.map(|brain| brain.checkpoint_statistics(now, wall_ms));
        let mut statistics = statistics.unwrap_or_default();
        let store = self.factory.checkpoints();
        let store = store.and_then(|storage| storage.store().location());
        statistics.complete_paths(|path| match is_whole(path) {
            true => Some(path.to_owned()),
            false => Some(format!("{}/{path}", store.as_ref()?.trim_end_matches('/'))),
        });
        statistics
    }

    pub(super) fn vertices(&self, cx: &ShellCx<'_, Self>) -> Vec<VertexOverview> {
        let (now, wall_ms) = (cx.now(), cx.env().clock.wall_ms());
        let brain = self.brain.as_ref();
        brain
            .map(|brain| brain.vertices(now, wall_ms))
            .unwrap_or_default()
    }

    pub(super) fn vertex(&self, vertex: VertexId, cx: &ShellCx<'_, Self>) -> Option<VertexDetail> {
        let (now, wall_ms) = (cx.now(), cx.env().clock.wall_ms());
        self.brain.as_ref()?.vertex(vertex, now, wall_ms)
    }

    /// What is left of the subtasks when the job has ended.
    pub(super) fn details(&self, cx: &ShellCx<'_, Self>) -> Vec<VertexDetail> {
        let (now, wall_ms) = (cx.now(), cx.env().clock.wall_ms());
        let brain = self.brain.as_ref();
        brain.map(|brain| brain.details(now, wall_ms)).unwrap_or_default()
    }

    pub(super) fn exceptions(&self) -> Vec<FailureEntry> {
        let brain = self.brain.as_ref();
        brain.map(JobMasterBrain::exceptions).unwrap_or_default()
    }

    /// What a successor would have to begin with once this work is done.
    pub(super) fn records_of(&self, work: &StorageWork) -> Option<Records> {
        self.links.remote.as_ref()?;
        let StorageWork::Publish {
            metadata, savepoint, ..
        } = work
        else {
            return None;
        };
        let checkpoint = metadata.checkpoint_id;
        let (store, folder) = match savepoint {
            Some(order) if order.stop.is_some() => (order.folder.store.clone(), order.folder.folder.clone()),
            Some(_) => return None,
            None => {
                let folder = CheckpointLayout::new(self.job()).checkpoint(checkpoint);
                (self.factory.checkpoints()?.store().location()?, folder)
            }
        };
        let path = format!("{}/{folder}", store.trim_end_matches('/'));
        let stop = savepoint.as_ref().and_then(|order| {
            Some(StopsWith {
                trigger: self.askers.name_of(&order.folder),
                drain: order.stop? == StopMode::Drain,
            })
        });
        Some(Records {
            checkpoint,
            path,
            stop,
        })
    }

    /// Has the leader record a checkpoint before anybody is told that it is complete. Until the leader has answered, nothing
    /// else is done in the store: the job is parked, and records flow on.
    pub(super) fn record(&mut self, records: Records, event: Option<JobEvent>, cx: &mut ShellCx<'_, Self>) {
        let Some(links) = self.links.remote.clone() else {
            return self.stored(event, cx);
        };
        let job = self.job();
        let recorded = async move {
            loop {
                let Records {
                    checkpoint,
                    path,
                    stop,
                } = records.clone();
                let dispatcher = links.dispatcher.borrow().clone();
                let asked = dispatcher.ask(
                    RecordCheckpoint {
                        job,
                        checkpoint,
                        path,
                        stop,
                    },
                    RECORDING,
                );
                match asked.await {
                    Err(error) if error.may_retry() || matches!(error, RpcError::UnknownEndpoint { .. }) => {
                        tracing::warn!(%job, %checkpoint, %error, "the leader does not answer; the checkpoint waits");
                        tokio::time::sleep(PAUSE).await;
                    }
                    settled => return settled,
                }
            }
        };
        let event = event.map(Box::new);
        cx.drive(recorded, |recorded| {
            let recorded = recorded.unwrap_or_else(|panicked| {
                Err(hurtig_rpc::RemoteError::new(&hurtig_core::Error::internal(panicked.to_string())).into())
            });
            JobMasterEvent::Remote(JobMasterCall::Recorded(event, recorded))
        });
    }

    fn on_recorded(
        &mut self,
        event: Option<Box<JobEvent>>,
        recorded: Result<(), RpcError>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        match recorded {
            Ok(()) => self.stored(event.map(|event| *event), cx),
            // Somebody else has the job: nothing is told, and nothing deleted.
            Err(error) => self.fail_for_good(format!(
                "the leader does not record the job's checkpoints: {error}"
            )),
        }
    }
}
