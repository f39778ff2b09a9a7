//! The way to an actor of another process, for those who have its mailbox.
//!
//! A courier takes the events of the actor that it leads to, and sends on what can travel: messages in numbered deliveries, of
//! which one is under way at a time, and questions with their answers. It promises that messages arrive once and in order while
//! both processes live, and says when that has ended. One that follows its peer from process to process begins anew with each: with what
//! the last one has not taken, and before that with how things stand.

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

    /// Whether whoever takes the peer's place must hear of it too.
    fn stands(message: &Self::Message) -> Stands {
        let _ = message;
        Stands::No
    }
}

/// What becomes of a message for a peer that comes to be known later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    /// It matters once.
    No,
    /// It says how things stand, until the next one does.
    Yes,
    /// Nothing stands any more.
    NotAnyMore,
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
    /// Where the peer is from now on; `None`: its first place is its only one.
    places: Option<watch::Receiver<Gateway<E::Endpoint>>>,
    /// How many places it has had.
    place: u64,
    /// How things stand.
    standing: Option<E::Message>,
}

impl<E: Crosses> Courier<E> {
    /// A way to the actor behind `gateway`. Must be called inside a local set.
    pub(crate) fn start(gateway: Gateway<E::Endpoint>, env: &ActorEnv, on_lost: OnLost) -> Way<E> {
        Self::start_at(gateway, None, env, on_lost)
    }

    /// A way to an actor that may come to be in other processes. It is lost when one of them says so.
    pub(crate) fn follow(
        places: watch::Receiver<Gateway<E::Endpoint>>,
        env: &ActorEnv,
        on_lost: OnLost,
    ) -> Way<E> {
        let first = places.borrow().clone();
        Self::start_at(first, Some(places), env, on_lost)
    }

    fn start_at(
        gateway: Gateway<E::Endpoint>,
        places: Option<watch::Receiver<Gateway<E::Endpoint>>>,
        env: &ActorEnv,
        on_lost: OnLost,
    ) -> Way<E> {
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
            places,
            place: 0,
            standing: None,
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
        match E::stands(&message) {
            Stands::No => {}
            Stands::Yes => self.standing = Some(message.clone()),
            Stands::NotAnyMore => self.standing = None,
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
        let place = self.place;
        let answered = move |answer, courier: &mut Self, ctx: &mut Context<Self>| match answer {
            // It was sent again since, to somebody else.
            _ if courier.place != place => {}
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
        let place = self.place;
        ctx.run_later(PAUSE, move |courier, ctx| {
            if courier.place == place {
                courier.busy = false;
                courier.send(ctx);
            }
        });
    }

    /// The peer is another process from now on, which knows nothing yet.
    fn go_on_at(&mut self, gateway: Gateway<E::Endpoint>, ctx: &mut Context<Self>) {
        self.gateway = gateway;
        self.place += 1;
        (self.sender, self.first, self.busy) = (Uuid::new_v4(), 0, false);
        if let Some(standing) = self.standing.clone() {
            self.queue.push_front(standing);
        }
        self.waiting.send_replace(self.queue.len());
        self.send(ctx);
    }

    fn watch_places(mut places: watch::Receiver<Gateway<E::Endpoint>>, ctx: &mut Context<Self>) {
        let moved = async move {
            let moved = places.changed().await.is_ok();
            let gateway = places.borrow_and_update().clone();
            moved.then_some((gateway, places))
        };
        ctx.spawn(wrap_future(moved).map(|moved, courier: &mut Self, ctx| {
            if let Some((gateway, places)) = moved {
                courier.go_on_at(gateway, ctx);
                Self::watch_places(places, ctx);
            }
        }));
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
        if let Some(places) = self.places.take() {
            return Self::watch_places(places, ctx);
        }
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
