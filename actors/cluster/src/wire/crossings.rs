//! What of each actor's events travels.

use super::courier::{Crosses, Crossing, Question, Stands};
use super::delivery::Delivery;
use super::messages::*;
use crate::dispatcher::DispatcherInput;
use crate::error::ClusterError;
use crate::job_master::{CheckpointCall, JobMasterEvent, SavepointCall, TakenCheckpoint};
use crate::messages::{DispatcherMessage, JobMasterMessage, ResourceManagerMessage, TaskManagerMessage};
use crate::resource_manager::ResourceManagerEvent;
use crate::task_manager::{TaskManagerEvent, TaskManagerInput};
use hurtig_kit::Reply;
use hurtig_rpc::{Accepts, Endpoint, RpcMessage};
use std::time::Duration;

/// How long an answer of a JobMaster may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a checkpoint or savepoint that was asked for may take; `execution.checkpointing.timeout` ends it long before.
const SAVEPOINT: Duration = Duration::from_secs(24 * 3_600);

/// A question whose answer goes to `reply`. Without one, the asker hears that none will come.
fn ask<E: Endpoint + Accepts<M>, M: RpcMessage>(
    message: M,
    timeout: Duration,
    reply: Reply<M::Reply>,
) -> Question<E> {
    Box::new(move |gateway| {
        let answer = gateway.ask(message, timeout);
        Box::pin(async move {
            match answer.await {
                Ok(answer) => reply.send(answer),
                Err(error) => tracing::warn!(%error, "a question was not answered"),
            }
        })
    })
}

impl Crosses for DispatcherInput {
    type Endpoint = DispatcherRpc;
    type Message = DispatcherMessage;
    type Delivery = Delivery<DispatcherMessage>;

    fn crossing(self) -> Crossing<Self> {
        match self {
            Self::Message(message) => Crossing::Message(message),
            _ => Crossing::Nothing("a question of a client"),
        }
    }

    fn pack(delivery: Delivery<DispatcherMessage>) -> Self::Delivery {
        delivery
    }

    fn stands(message: &DispatcherMessage) -> Stands {
        match message {
            DispatcherMessage::JobStatusChanged { .. } => Stands::Yes,
            DispatcherMessage::JobEnded(_) => Stands::No,
        }
    }
}

impl Crosses for ResourceManagerEvent {
    type Endpoint = ResourceManagerRpc;
    type Message = ResourceManagerMessage;
    type Delivery = Delivery<ResourceManagerMessage>;

    fn crossing(self) -> Crossing<Self> {
        match self {
            Self::Require(job, need, _) => Crossing::Message(need.of(job)),
            Self::Release(job) => Crossing::Message(ResourceManagerMessage::Release { job }),
            Self::GiveUp(job, worker) => Crossing::Message(ResourceManagerMessage::GiveUp { job, worker }),
            Self::Register(..) => Crossing::Nothing("a TaskManager registers by a question"),
            Self::Processes(_) => Crossing::Nothing("an event of the ResourceManager's own process"),
        }
    }

    fn pack(delivery: Delivery<ResourceManagerMessage>) -> Self::Delivery {
        delivery
    }

    fn stands(message: &ResourceManagerMessage) -> Stands {
        match message {
            ResourceManagerMessage::Require { .. } => Stands::Yes,
            ResourceManagerMessage::Release { .. } => Stands::NotAnyMore,
            _ => Stands::No,
        }
    }
}

impl Crosses for TaskManagerInput {
    type Endpoint = WorkerRpc;
    type Message = TaskManagerMessage;
    type Delivery = Delivery<TaskManagerMessage>;

    fn crossing(self) -> Crossing<Self> {
        match self {
            Self::Event(TaskManagerEvent::Message(message)) => Crossing::Message(message),
            Self::Event(_) => Crossing::Nothing("an event of a task"),
            Self::RequestSlots { .. } => Crossing::Nothing("a worker is started with its slots"),
            Self::Metrics(job, reply) => Crossing::Ask(ask(AskTaskMetrics { job }, ANSWER, reply)),
            Self::Delivered(_) => Crossing::Nothing("a delivery that has arrived"),
            Self::MetricsAsked(_) => Crossing::Nothing("a question that has arrived"),
        }
    }

    fn pack(delivery: Delivery<TaskManagerMessage>) -> Self::Delivery {
        delivery
    }
}

impl Crosses for JobMasterEvent {
    type Endpoint = JobMasterRpc;
    type Message = JobMasterMessage;
    type Delivery = Delivery<JobMasterMessage>;

    fn crossing(self) -> Crossing<Self> {
        match self {
            Self::Job(crate::job_master::JobEvent::Message(message)) => Crossing::Message(message),
            Self::Accumulators(reply) => Crossing::Ask(ask(AskAccumulators {}, ANSWER, reply)),
            Self::Checkpoints(reply) => Crossing::Ask(ask(AskCheckpoints {}, ANSWER, reply)),
            Self::Exceptions(reply) => Crossing::Ask(ask(AskExceptions {}, ANSWER, reply)),
            Self::Vertices(reply) => Crossing::Ask(ask(AskVertices {}, ANSWER, reply)),
            Self::Vertex(vertex, reply) => Crossing::Ask(ask(AskVertex { vertex }, ANSWER, reply)),
            Self::Metrics(reply) => Crossing::Ask(ask(AskMetrics {}, ANSWER, reply)),
            Self::Savepoint(call, reply) => Crossing::Ask(savepoint(call, reply)),
            Self::Checkpoint(call, reply) => Crossing::Ask(checkpoint(call, reply)),
            Self::Introduced(..) => Crossing::Nothing("a worker opens its way by a question"),
            _ => Crossing::Nothing("an event of the JobMaster's own process"),
        }
    }

    fn pack(delivery: Delivery<JobMasterMessage>) -> Self::Delivery {
        delivery
    }
}

/// The errors of another process arrive as their text.
fn savepoint(call: SavepointCall, reply: Reply<Result<String, ClusterError>>) -> Question<JobMasterRpc> {
    Box::new(move |gateway| {
        let SavepointCall {
            job,
            dir,
            stop,
            format,
            trigger,
        } = call;
        let may_ask_again = trigger.is_some();
        let take = TakeSavepoint {
            dir,
            stop,
            format,
            trigger,
        };
        let answer = gateway.ask(take, SAVEPOINT);
        let failed = move |cause: String| ClusterError::Savepoint { job, cause };
        Box::pin(async move {
            match answer.await {
                Ok(taken) => reply.send(taken.map_err(failed)),
                // Nobody has answered: that says nothing about the savepoint.
                Err(_) if may_ask_again => drop(reply),
                Err(error) => reply.send(Err(failed(error.to_string()))),
            }
        })
    })
}

fn checkpoint(
    call: CheckpointCall,
    reply: Reply<Result<TakenCheckpoint, ClusterError>>,
) -> Question<JobMasterRpc> {
    Box::new(move |gateway| {
        let CheckpointCall { job, kind, trigger } = call;
        let may_ask_again = trigger.is_some();
        let answer = gateway.ask(TakeCheckpoint { kind, trigger }, SAVEPOINT);
        let failed = move |cause: String| ClusterError::Checkpoint { job, cause };
        Box::pin(async move {
            match answer.await {
                Ok(taken) => reply.send(taken.map_err(failed)),
                Err(_) if may_ask_again => drop(reply),
                Err(error) => reply.send(Err(failed(error.to_string()))),
            }
        })
    })
}
