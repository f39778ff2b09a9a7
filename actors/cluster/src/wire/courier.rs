//! The way to an actor of another process, for those who have its mailbox.
//!
//! A courier takes the events of the actor that it leads to, and sends on what can travel: messages in numbered deliveries, of
//! which one is under way at a time, and questions with their answers. It promises that messages arrive once and in order while
//! both processes live, and says when that has ended.

use super::delivery::Delivery;
use actix::fut::wrap_future;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler};
use hurtig_kit::{ActorEnv, ActorFault, Deliver, ExitReason, KillSwitch, Mailbox};
use hurtig_rpc::{Accepts, Connectivity, Endpoint, Gateway, RpcError, RpcMessage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// Events that may wait in a courier's mailbox.
const CAPACITY: usize = 4_096;
/// Messages that may wait for a peer: each task has a few under way.
const WAITING: usize = 1 << 18;
/// Messages of one delivery.
const LENGTH: usize = 256;
/// How long a delivery is waited for before it is sent again.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing is sent after a refusal.
const PAUSE: Duration = Duration::from_millis(20);

/// A question on its way; answers by itself.
pub(crate) type Question<E> = Box<dyn FnOnce(&Gateway<E>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// An event of an actor, of which a part may travel.
pub(crate) trait Crosses: Send + Sized + 'static {
    /// The actor's kind.
    type Endpoint: Endpoint + Accepts<Self::Delivery>;
    /// What travels in deliveries.
    type Message: Clone + Serialize + DeserializeOwned + Send + 'static;
    /// Several of them.
    type Delivery: RpcMessage<Reply = ()>;

    /// What of it travels.
    fn crossing(self) -> Crossing<Self>;

    /// Several messages as one.
    fn pack(delivery: Delivery<Self::Message>) -> Self::Delivery;
}

/// What of an event travels.
pub(crate) enum Crossing<E: Crosses> {
    /// A message that is owed no answer.
    Message(E::Message),
    /// A question.
    Ask(Question<E::Endpoint>),
    /// Nothing: it is for actors of one process, and this one has no business with it.
    Nothing(&'static str),
}

/// The beginning of a way.
pub(crate) struct Way<E: Send + 'static> {
    pub(crate) mailbox: Mailbox<E>,
    /// Messages that have not arrived.
    pub(crate) waiting: watch::Receiver<usize>,
}

/// Told once, with the reason, when the peer hears nothing any more.
pub(crate) type OnLost = Box<dyn FnOnce(String) + Send>;

/// See the module.
pub(crate) struct Courier<E: Crosses> {
    gateway: Gateway<E::Endpoint>,
    sender: Uuid,
    queue: VecDeque<E::Message>,
    /// The number of the first one in the queue.
    first: u64,
    /// Whether a delivery is under way, or a pause.
    busy: bool,
    length: usize,
    waiting: watch::Sender<usize>,
    on_lost: Option<OnLost>,
    kill: KillSwitch,
}

impl<E: Crosses> Courier<E> {
    /// A way to the actor behind `gateway`. Must be called inside a local set.
    pub(crate) fn start(gateway: Gateway<E::Endpoint>, env: &ActorEnv, on_lost: OnLost) -> Way<E> {
        let (waiting, receiver) = watch::channel(0);
        let courier = Self {
            gateway,
            sender: Uuid::new_v4(),
            queue: VecDeque::new(),
            first: 0,
            busy: false,
            length: LENGTH,
            waiting,
            on_lost: Some(on_lost),
            kill: env.kill.clone(),
        };
        let started = Self::create(|ctx| {
            ctx.set_mailbox_capacity(CAPACITY);
            courier
        });
        Way {
            mailbox: Mailbox::new(started.recipient()),
            waiting: receiver,
        }
    }

    fn keep(&mut self, message: E::Message, ctx: &mut Context<Self>) {
        if self.queue.len() >= WAITING {
            let text = format!("{WAITING} messages wait for a peer, which the protocol does not allow");
            let reason = ExitReason::failed(hurtig_core::Error::internal(text));
            let actor = format!("courier to {:?}", self.gateway);
            return self.kill.kill(ActorFault { actor, reason });
        }
        self.queue.push_back(message);
        self.waiting.send_replace(self.queue.len());
        self.send(ctx);
    }

    fn send(&mut self, ctx: &mut Context<Self>) {
        if self.busy || self.queue.is_empty() {
            return;
        }
        self.busy = true;
        let messages: Vec<E::Message> = self.queue.iter().take(self.length).cloned().collect();
        let sent = messages.len();
        let (sender, first) = (self.sender, self.first);
        let delivery = Delivery {
            sender,
            first,
            messages,
        };
        let answer = self.gateway.ask(E::pack(delivery), PATIENCE);
        let answered = move |answer, courier: &mut Self, ctx: &mut Context<Self>| match answer {
            Ok(()) => courier.arrived(sent, ctx),
            Err(error) => courier.refused(sent, &error, ctx),
        };
        ctx.spawn(wrap_future(answer).map(answered));
    }

    fn arrived(&mut self, sent: usize, ctx: &mut Context<Self>) {
        self.busy = false;
        self.queue.drain(..sent);
        self.first += sent as u64;
        self.length = LENGTH;
        self.waiting.send_replace(self.queue.len());
        self.send(ctx);
    }

    fn refused(&mut self, sent: usize, error: &RpcError, ctx: &mut Context<Self>) {
        match error {
            RpcError::TooLarge { .. } if sent > 1 => self.length = sent.div_ceil(2),
            error if error.may_retry() || matches!(error, RpcError::UnknownEndpoint { .. }) => {
                tracing::debug!(%error, "not delivered; it is sent again");
            }
            error => return self.lost(error.to_string(), ctx),
        }
        ctx.run_later(PAUSE, |courier, ctx| {
            courier.busy = false;
            courier.send(ctx);
        });
    }

    fn lost(&mut self, why: String, ctx: &mut Context<Self>) {
        if let Some(on_lost) = self.on_lost.take() {
            on_lost(why);
        }
        ctx.stop();
    }
}

impl<E: Crosses> Unpin for Courier<E> {}

impl<E: Crosses> Actor for Courier<E> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let kill = self.kill.clone();
        let killed = wrap_future(async move { kill.killed().await });
        ctx.spawn(killed.map(|_, _, ctx: &mut Context<Self>| ctx.stop()));
        let Some(mut peer) = self.gateway.peer().watch() else {
            return;
        };
        let dead = async move {
            let dead = peer.wait_for(|state| matches!(state.connectivity, Connectivity::Dead(_)));
            match dead.await.map(|state| state.connectivity.clone()) {
                Ok(Connectivity::Dead(reason)) => reason.to_string(),
                _ => "its link has ended".to_owned(),
            }
        };
        ctx.spawn(wrap_future(dead).map(|why, courier: &mut Self, ctx| courier.lost(why, ctx)));
    }
}

impl<E: Crosses> Handler<Deliver<E>> for Courier<E> {
    type Result = ();

    fn handle(&mut self, Deliver(event): Deliver<E>, ctx: &mut Self::Context) {
        match event.crossing() {
            Crossing::Message(message) => self.keep(message, ctx),
            Crossing::Ask(question) => {
                let answered = question(&self.gateway);
                ctx.spawn(wrap_future(answered));
            }
            Crossing::Nothing(what) => tracing::debug!(what, "it stays in its process"),
        }
    }
}
