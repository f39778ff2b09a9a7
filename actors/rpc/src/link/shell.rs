//! The actor of a link: carries bytes, messages and answers between its brains and the rest.

use super::brain::{LinkBrain, Step};
use super::live::{Live, Moved};
use super::state::{Connectivity, DeathReason, Shared};
use crate::connection::{CloseReason, ConnectionBrain, Outgoing, Terms};
use crate::error::{Delivery, RpcError};
use crate::handshake::{DialError, Established, Hello, introduce};
use crate::rpc::Rpc;
use crate::transport::Stream;
use hurtig_core::time::Time;
use hurtig_kit::{Component, ExitReason, ShellCx, Timer};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Where the answer to an ask of ours goes.
pub(crate) type ReplyTo = oneshot::Sender<Result<Vec<u8>, RpcError>>;

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// The shortest time until a timer, so that clocks that differ a little cost no busy loop.
const MIN_DELAY: Duration = Duration::from_millis(1);

/// What reaches a link.
pub(crate) enum LinkEvent {
    /// A message of ours, and where its answer goes.
    Send(Box<Outgoing>, Option<ReplyTo>),
    /// Nobody waits for the answer to this ask any more.
    Cancel(u64),
    /// End, and say why.
    Close(String),
    /// Write something into the peer's log.
    #[cfg(feature = "protocol_next")]
    Notify(String),
    /// The peer has dialled.
    Attach(Box<Established>),
    /// What came of dialling.
    Dialed(Result<Box<Established>, DialError>),
    /// Something was read from connection so-and-so.
    Read(u64, Moved<ReadHalf<Stream>>),
    /// Something was written to it.
    Written(u64, Moved<WriteHalf<Stream>>),
    /// It cannot be read or written any more.
    Broken(u64, String),
    /// An endpoint has answered an ask that came by it.
    Served(u64, u64, Result<Vec<u8>, RpcError>),
    /// Something may be due.
    Tick,
    /// The goodbye has taken too long.
    CloseNow,
    /// Nothing: it concerns a connection that has ended.
    Stale,
}

/// What a link is made from.
pub(crate) struct LinkSetup {
    /// Its number, chosen by who dials.
    pub(crate) id: Uuid,
    pub(crate) rpc: Rpc,
    pub(crate) shared: Arc<Shared>,
    /// The first connection, if the peer has dialled.
    pub(crate) accepted: Option<Box<Established>>,
}

/// A link.
pub(crate) struct Link {
    pub(super) id: Uuid,
    pub(super) rpc: Rpc,
    pub(super) shared: Arc<Shared>,
    pub(super) accepted: Option<Box<Established>>,
    pub(super) brain: LinkBrain,
    pub(super) live: Option<Live>,
    pub(super) connections: u64,
    /// Messages that wait for a connection.
    pub(super) waiting: VecDeque<Outgoing>,
    pub(super) replies: BTreeMap<u64, ReplyTo>,
    pub(super) timer: Option<(Time, Timer)>,
    pub(super) closing: Option<String>,
}

impl Link {
    pub(crate) fn new(setup: LinkSetup) -> Self {
        let LinkSetup {
            id,
            rpc,
            shared,
            accepted,
        } = setup;
        let (timeout, now) = (rpc.config().heartbeat_timeout, shared.clock.now());
        Self {
            brain: LinkBrain::new(accepted.is_none(), timeout, now),
            id,
            rpc,
            shared,
            accepted,
            live: None,
            connections: 0,
            waiting: VecDeque::new(),
            replies: BTreeMap::new(),
            timer: None,
            closing: None,
        }
    }

    fn dial(&self, cx: &mut ShellCx<'_, Self>) {
        let (config, identity) = (self.rpc.config(), self.rpc.identity());
        let hello = Hello {
            min: config.versions.min,
            max: config.versions.max,
            incarnation: identity.incarnation,
            link: self.id,
            resume: self.brain.is_resuming(),
            name: identity.name.clone(),
            cluster: identity.cluster.map(|cluster| cluster.0),
            max_message: u32::try_from(config.max_message).unwrap_or(u32::MAX),
            #[cfg(feature = "protocol_next")]
            labels: BTreeMap::new(),
        };
        let (dialer, address) = (self.rpc.0.setup.dialer.clone(), self.shared.address.clone());
        let timeout = config.connect_timeout;
        let dialing = async move {
            let connecting = async { introduce(dialer.dial(&address).await?, &hello).await };
            let late = |_| DialError::Failed(format!("no connection within {timeout:?}"));
            tokio::time::timeout(timeout, connecting)
                .await
                .unwrap_or_else(|elapsed| Err(late(elapsed)))
        };
        cx.drive(dialing, |dialed| {
            let failed = |panicked: hurtig_kit::Panicked| Err(DialError::Failed(panicked.message));
            LinkEvent::Dialed(dialed.unwrap_or_else(failed).map(Box::new))
        });
    }

    /// Uses a connection.
    fn connected(&mut self, established: Established, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        if self.live.is_some() {
            self.lost(&CloseReason::Replaced, cx)?;
        }
        let now = cx.now();
        let Established {
            stream,
            decoder,
            version,
            incarnation,
            name,
            max_message,
        } = established;
        match self.brain.connected(now, incarnation) {
            Step::Up => {}
            other => return self.step(other, cx),
        }
        self.connections += 1;
        let config = self.rpc.config();
        let terms = Terms {
            version,
            max_message: config.max_message,
            max_in_flight: config.max_in_flight,
            max_queued_bytes: config.max_queued_bytes,
            heartbeat_interval: config.heartbeat_interval,
            heartbeat_timeout: config.heartbeat_timeout,
        };
        let brain = ConnectionBrain::new(terms, name.clone(), now);
        #[cfg(feature = "tls")]
        let speaks_for = crate::tls::job_of(&stream);
        #[cfg(not(feature = "tls"))]
        let speaks_for = None;
        let mut live = Live::new(self.connections, brain, stream, decoder);
        live.speaks_for = speaks_for;
        (live.version, live.peer_max) = (version, usize::try_from(max_message).unwrap_or(usize::MAX));
        self.live = Some(live);
        tracing::debug!(peer = %name, address = self.shared.address, version, connections = self.connections, "connected");
        self.shared.state.send_modify(|state| {
            (state.connectivity, state.connections) = (Connectivity::Connected, self.connections);
            (state.incarnation, state.name, state.version) = (Some(incarnation), name, version);
        });
        std::mem::take(&mut self.waiting)
            .into_iter()
            .for_each(|message| self.send(message));
        self.decode(cx)
    }

    /// The connection has ended.
    pub(super) fn lost(
        &mut self,
        reason: &CloseReason,
        cx: &mut ShellCx<'_, Self>,
    ) -> Result<(), ExitReason> {
        let Some(live) = self.live.take() else {
            return Ok(());
        };
        tracing::info!(peer = ?self.shared.state.borrow().name, %reason, "connection lost");
        let mut effects = Vec::new();
        // Who dials again lives.
        let last_heard = match reason {
            CloseReason::Replaced => cx.now(),
            _ => live.brain.last_heard(),
        };
        self.waiting = live.brain.close(reason, &mut effects).into();
        self.shared
            .state
            .send_modify(|state| state.connectivity = Connectivity::Connecting);
        self.carry_out(effects, cx)?;
        let step = self.brain.lost(cx.now(), reason, last_heard);
        self.step(step, cx)
    }

    fn step(&mut self, step: Step, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match step {
            Step::Keep | Step::Up => Ok(()),
            Step::Dial => {
                self.dial(cx);
                Ok(())
            }
            Step::Dead(reason) => {
                self.die(reason);
                Err(ExitReason::Done)
            }
        }
    }

    /// Nothing more will come: everybody who waits is told.
    fn die(&mut self, reason: DeathReason) {
        tracing::info!(peer = ?self.shared.state.borrow().name, %reason, "peer is dead to us");
        self.rpc.with_accepted(|links| links.remove(&self.id));
        self.shared
            .state
            .send_modify(|state| state.connectivity = Connectivity::Dead(reason));
        for message in std::mem::take(&mut self.waiting) {
            self.give_up(&message, self.shared.unreachable(Delivery::NotSent));
        }
        for (_, reply) in std::mem::take(&mut self.replies) {
            // Who has given up hears nothing.
            let _ = reply.send(Err(self.shared.unreachable(Delivery::Unknown)));
        }
    }

    fn decode(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let mut effects = Vec::new();
        if let Some(live) = &mut self.live {
            live.decode(cx.now(), &mut effects);
        }
        self.carry_out(effects, cx)
    }

    fn tick(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        let now = cx.now();
        let mut effects = Vec::new();
        if let Some(live) = &mut self.live {
            live.brain.tick(now, &mut effects);
        }
        let expired = |message: &Outgoing| message.deadline.filter(|(deadline, _)| *deadline <= now);
        let ids = self
            .waiting
            .iter()
            .filter_map(|message| Some((message.id, expired(message)?.1)));
        for (id, timeout) in ids.collect::<Vec<_>>() {
            if let Some(reply) = self.replies.remove(&id) {
                // Who has given up hears nothing.
                let _ = reply.send(Err(RpcError::Timeout(timeout)));
            }
        }
        self.waiting.retain(|message| expired(message).is_none());
        self.carry_out(effects, cx)?;
        let step = self.brain.tick(now);
        self.step(step, cx)
    }

    /// Says goodbye, or ends at once when there is nobody to say it to.
    fn close(&mut self, reason: String, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match &mut self.live {
            Some(live) => live.brain.goodbye(&reason),
            None => return self.end(reason, cx),
        }
        self.closing = Some(reason);
        cx.after(GOODBYE, LinkEvent::CloseNow);
        Ok(())
    }

    fn end(&mut self, reason: String, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        if let Some(live) = self.live.take() {
            let mut effects = Vec::new();
            self.waiting = live.brain.close(&CloseReason::Ours, &mut effects).into();
            self.carry_out(effects, cx)?;
        }
        let step = self.brain.die(DeathReason::Closed(reason));
        self.step(step, cx)
    }

    /// The connection that an event is about, unless it has ended.
    fn current(&mut self, serial: u64) -> Option<&mut Live> {
        self.live.as_mut().filter(|live| live.serial == serial)
    }

    fn react(&mut self, event: LinkEvent, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match event {
            LinkEvent::Send(message, reply) => {
                if let Some(reply) = reply {
                    self.replies.insert(message.id, reply);
                }
                self.send(*message);
            }
            LinkEvent::Cancel(id) => self.cancel(id),
            LinkEvent::Close(reason) => return self.close(reason, cx),
            #[cfg(feature = "protocol_next")]
            LinkEvent::Notify(text) => {
                if let Some(live) = &mut self.live {
                    live.brain.notice(&text);
                }
            }
            LinkEvent::Attach(established) | LinkEvent::Dialed(Ok(established)) => {
                return self.connected(*established, cx);
            }
            LinkEvent::Dialed(Err(error)) => {
                let address = &self.shared.address;
                match &error {
                    // Who waits for an answer may give up before the link does.
                    DialError::Failed(why) if self.brain.has_not_failed() => {
                        tracing::warn!(address, why, "no connection; it is tried again");
                    }
                    _ => tracing::debug!(address, ?error, "no connection"),
                }
                let step = self.brain.failed(cx.now(), error);
                return self.step(step, cx);
            }
            LinkEvent::Read(serial, moved) => match self.current(serial).map(|live| live.read(moved)) {
                Some(Ok(true)) => return self.decode(cx),
                Some(Ok(false)) => return self.lost(&CloseReason::Closed, cx),
                Some(Err(error)) => return self.lost(&CloseReason::Io(error.to_string()), cx),
                None => {}
            },
            LinkEvent::Written(serial, moved) => {
                if let Some(Err(error)) = self.current(serial).map(|live| live.written(moved)) {
                    return self.lost(&CloseReason::Io(error.to_string()), cx);
                }
            }
            LinkEvent::Broken(serial, problem) => {
                if self.current(serial).is_some() {
                    return self.lost(&CloseReason::Io(problem), cx);
                }
            }
            LinkEvent::Served(serial, id, answer) => {
                if let Some(live) = self.current(serial) {
                    live.served(id, answer);
                }
            }
            LinkEvent::Tick => {
                self.timer = None;
                return self.tick(cx);
            }
            LinkEvent::CloseNow => {
                if let Some(reason) = self.closing.take() {
                    return self.end(reason, cx);
                }
            }
            LinkEvent::Stale => {}
        }
        Ok(())
    }

    /// Reads, writes and waits on.
    fn go_on(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        if let Some(live) = &mut self.live {
            live.go_on(cx);
        }
        if self.live.as_ref().is_none_or(Live::is_flushed)
            && let Some(reason) = self.closing.take()
        {
            return self.end(reason, cx);
        }
        self.set_timer(cx);
        Ok(())
    }

    fn set_timer(&mut self, cx: &mut ShellCx<'_, Self>) {
        let deadlines = self
            .waiting
            .iter()
            .filter_map(|message| message.deadline)
            .map(|(at, _)| at);
        let live = self.live.as_ref().map(|live| live.brain.wakeup());
        let Some(due) = deadlines.chain(live).chain(self.brain.wakeup()).min() else {
            return;
        };
        match self.timer {
            Some((at, _)) if at <= due => return,
            Some((_, timer)) => cx.cancel(timer),
            None => {}
        }
        let delay = due.since(cx.now()).max(MIN_DELAY);
        self.timer = Some((due, cx.after(delay, LinkEvent::Tick)));
    }
}

impl Drop for Link {
    /// A link that was killed tells its handles too.
    fn drop(&mut self) {
        let is_dead = matches!(self.shared.state.borrow().connectivity, Connectivity::Dead(_));
        if !is_dead {
            self.die(DeathReason::Closed("its actors were ended".to_owned()));
        }
    }
}

impl Component for Link {
    type Event = LinkEvent;

    fn name(&self) -> String {
        format!("link with {}", self.shared.address)
    }

    fn capacity(&self) -> usize {
        let config = self.rpc.config();
        // Messages and cancels; what is refused by it was reserved before.
        config
            .max_queued
            .saturating_add(config.max_in_flight.saturating_mul(2))
            .min(1 << 20)
    }

    fn started(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match self.accepted.take() {
            Some(established) => self.connected(*established, cx)?,
            None => self.dial(cx),
        }
        self.go_on(cx)
    }

    fn handle(&mut self, event: LinkEvent, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        self.react(event, cx)?;
        self.go_on(cx)
    }
}
