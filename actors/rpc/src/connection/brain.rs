//! The decisions of one connection.

use super::inbound::{Assembled, Assembler};
use super::outbound::Outbound;
use super::{CloseReason, Effect, Goodbye, Incoming, Outgoing, Terms};
use crate::budget::Reservation;
use crate::codec;
use crate::error::{Delivery, RpcError};
use crate::error_wire;
use crate::frame::{Frame, FrameError, Header, Kind};
use crate::message::Lane;
use hurtig_core::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Bytes that are written at once.
const WRITE: usize = 128 << 10;

/// An ask of ours.
struct Asked {
    deadline: Time,
    timeout: Duration,
    sent: bool,
    slot: Option<Reservation>,
}

/// An ask of the peer's that is being answered.
struct Serving {
    lane: Lane,
    deadline: Time,
}

/// Whose ask a deadline ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Ours,
    Theirs,
}

/// One connection after its handshake.
pub(crate) struct ConnectionBrain {
    terms: Terms,
    peer: String,
    outbound: Outbound,
    assembler: Assembler,
    asked: BTreeMap<u64, Asked>,
    serving: BTreeMap<u64, Serving>,
    deadlines: BTreeSet<(Time, Whose, u64)>,
    /// The number of the next frame that arrives.
    expected: u64,
    last_heard: Time,
    next_ping: Time,
    pings: u64,
    closed: bool,
}

impl ConnectionBrain {
    /// A connection whose handshake has used one frame in each direction.
    pub(crate) fn new(terms: Terms, peer: String, now: Time) -> Self {
        Self {
            outbound: Outbound::new(terms.version, 1),
            assembler: Assembler::new(terms.max_message),
            asked: BTreeMap::new(),
            serving: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            expected: 1,
            last_heard: now,
            next_ping: now.after(terms.heartbeat_interval),
            pings: 0,
            closed: false,
            terms,
            peer,
        }
    }

    /// Queues a message of ours.
    pub(crate) fn send(&mut self, mut message: Outgoing) {
        if let Some((deadline, timeout)) = message.deadline {
            let slot = message.slot.take();
            let asked = Asked {
                deadline,
                timeout,
                sent: false,
                slot,
            };
            let before = self.asked.insert(message.id, asked);
            assert!(before.is_none(), "two asks have the id {}", message.id);
            self.deadlines.insert((deadline, Whose::Ours, message.id));
        }
        self.outbound.message(message);
    }

    /// Withdraws an ask of ours: nobody waits for it any more.
    pub(crate) fn cancel(&mut self, id: u64) {
        if let Some(asked) = self.asked.remove(&id) {
            self.deadlines.remove(&(asked.deadline, Whose::Ours, id));
            if self.outbound.take_back(id) {
                self.outbound.urgent(Kind::Cancel, id, Vec::new());
            }
        }
    }

    /// Answers an ask of the peer's, or says why a tell was refused. Late answers are dropped.
    pub(crate) fn answer(&mut self, id: u64, answer: Result<Vec<u8>, RpcError>) {
        let Some(serving) = self.serving.remove(&id) else {
            return;
        };
        self.deadlines.remove(&(serving.deadline, Whose::Theirs, id));
        match answer {
            Ok(body) if self.outbound.answer_bytes() + body.len() > self.terms.max_queued_bytes => {
                let full = "bytes of replies waiting to be sent (`rpc.max-queued-size`)";
                self.refuse(serving.lane, id, &RpcError::overloaded(full));
            }
            Ok(body) => self.outbound.answer(serving.lane, Kind::Reply, id, body),
            Err(error) => self.refuse(serving.lane, id, &error),
        }
    }

    /// Says that a tell, or an ask that is not being served, was refused.
    pub(crate) fn refuse(&mut self, lane: Lane, id: u64, error: &RpcError) {
        self.outbound
            .answer(lane, Kind::Error, id, error_wire::to_bytes(error));
    }

    /// Answers a ping.
    pub(crate) fn pong(&mut self, id: u64, progress: Vec<u8>) {
        self.outbound.urgent(Kind::Pong, id, progress);
    }

    /// Says that we leave.
    pub(crate) fn goodbye(&mut self, reason: &str) {
        let reason = reason.to_owned();
        // A struct of one text encodes; and a goodbye without a reason is one too.
        let body = codec::encode(&Goodbye { reason }).unwrap_or_default();
        self.outbound.urgent(Kind::Goodbye, 0, body);
    }

    /// Sends something for the peer's log, if it knows such a thing.
    #[cfg(feature = "protocol_next")]
    pub(crate) fn notice(&mut self, text: &str) {
        if self.terms.version >= crate::version::NEXT {
            let body = codec::encode(&text).unwrap_or_default();
            self.outbound.urgent(Kind::Notice, 0, body);
        }
    }

    /// Whether more should be read. While the peer reads none of our answers, it gets no new ones.
    pub(crate) fn wants_input(&self) -> bool {
        !self.closed && self.outbound.answers() < 2 * self.terms.max_in_flight
    }

    /// Whether nothing waits to be sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbound.is_empty()
    }

    /// Appends what is to be written next; nothing when all is written.
    pub(crate) fn output(&mut self, now: Time, out: &mut Vec<u8>) {
        let asked = &mut self.asked;
        self.outbound.frames(now, WRITE, out, |id| {
            if let Some(asked) = asked.get_mut(&id) {
                asked.sent = true;
            }
        });
    }

    /// Takes up what the decoder made of bytes.
    pub(crate) fn received(
        &mut self,
        now: Time,
        frame: Result<Frame, FrameError>,
        effects: &mut Vec<Effect>,
    ) {
        if self.closed {
            return;
        }
        let handled = match frame {
            Ok(frame) => self.frame(now, frame, effects),
            Err(error) => Err(error.into()),
        };
        if let Err(reason) = handled {
            self.closed = true;
            effects.push(Effect::Close(reason));
        }
    }

    fn frame(&mut self, now: Time, frame: Frame, effects: &mut Vec<Effect>) -> Result<(), CloseReason> {
        if frame.header.version != self.terms.version {
            return Err(CloseReason::Violation("a frame of another version than agreed"));
        }
        if frame.header.sequence != self.expected {
            return Err(CloseReason::Violation(
                "a frame that is lost, repeated or out of order",
            ));
        }
        self.expected += 1;
        self.last_heard = now;
        let id = frame.header.id;
        match frame.header.kind {
            Kind::Ask | Kind::Tell | Kind::Reply => {
                let assembled = self.assembler.begin(frame)?;
                self.assembled(now, assembled, effects)?;
            }
            Kind::Chunk => {
                let assembled = self.assembler.chunk(&frame)?;
                self.assembled(now, assembled, effects)?;
            }
            Kind::Error => self.resolve(id, Err(error_wire::from_bytes(&frame.body)), effects),
            Kind::Cancel => {
                self.assembler.cancel(id);
                if self.forget(id) {
                    effects.push(Effect::Withdraw(id));
                }
            }
            Kind::Ping => effects.push(Effect::Pinged(id)),
            Kind::Pong => effects.push(Effect::Progress(frame.body)),
            Kind::Goodbye => return Err(goodbye(&frame.body)),
            Kind::Notice if knows_notices(self.terms.version) => effects.push(Effect::Notice(frame.body)),
            Kind::Notice | Kind::Hello | Kind::Welcome | Kind::Reject => {
                return Err(CloseReason::Violation("a kind of frame that has no place here"));
            }
        }
        Ok(())
    }

    fn assembled(
        &mut self,
        now: Time,
        assembled: Assembled,
        effects: &mut Vec<Effect>,
    ) -> Result<(), CloseReason> {
        match assembled {
            Assembled::Nothing => {}
            Assembled::Whole(header, body) if header.kind == Kind::Reply => {
                self.resolve(header.id, Ok(body), effects);
            }
            Assembled::Whole(header, body) => self.deliver(now, header, body, effects)?,
            Assembled::TooLarge(header) => {
                let error = RpcError::TooLarge {
                    what: format!("the body of {:?} {}", header.kind, header.message),
                    size: header.total.into(),
                    limit: u64::try_from(self.terms.max_message).unwrap_or(u64::MAX),
                };
                if header.kind == Kind::Reply {
                    self.resolve(header.id, Err(error), effects);
                } else {
                    self.refuse(header.lane, header.id, &error);
                }
            }
        }
        Ok(())
    }

    /// An ask or tell is complete.
    fn deliver(
        &mut self,
        now: Time,
        header: Header,
        body: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), CloseReason> {
        let (id, lane) = (header.id, header.lane);
        let mut deadline = None;
        if header.kind == Kind::Ask {
            if self.serving.contains_key(&id) {
                return Err(CloseReason::Violation("two asks with one id"));
            }
            if self.serving.len() >= self.terms.max_in_flight {
                let error = RpcError::overloaded("the number of asks in flight (`rpc.max-in-flight`)");
                self.refuse(lane, id, &error);
                return Ok(());
            }
            let ends = now.after(Duration::from_millis(header.timeout_ms.into()));
            self.serving.insert(id, Serving { lane, deadline: ends });
            self.deadlines.insert((ends, Whose::Theirs, id));
            deadline = Some(ends);
        }
        effects.push(Effect::Deliver(Box::new(Incoming {
            id,
            lane,
            kind: header.kind,
            stamp: header.stamp,
            trace: header.trace,
            endpoint: header.endpoint,
            message: header.message,
            deadline,
            body,
        })));
        Ok(())
    }

    /// A reply or error has come. What nobody waits for is late.
    fn resolve(&mut self, id: u64, result: Result<Vec<u8>, RpcError>, effects: &mut Vec<Effect>) {
        if let Some(asked) = self.asked.remove(&id) {
            self.deadlines.remove(&(asked.deadline, Whose::Ours, id));
            if !asked.sent {
                // Answered before it was all sent: refused by its first frame.
                self.outbound.take_back(id);
                self.outbound.urgent(Kind::Cancel, id, Vec::new());
            }
            effects.push(Effect::Resolve(id, result));
        } else if let (true, Err(error)) = (is_tell(id), result) {
            effects.push(Effect::TellRefused(error));
        }
    }

    fn forget(&mut self, id: u64) -> bool {
        let forgotten = self.serving.remove(&id);
        if let Some(serving) = &forgotten {
            self.deadlines.remove(&(serving.deadline, Whose::Theirs, id));
        }
        forgotten.is_some()
    }

    /// When [`Self::tick`] is due.
    pub(crate) fn wakeup(&self) -> Time {
        let silent = self.last_heard.after(self.terms.heartbeat_timeout);
        let deadline = self
            .deadlines
            .first()
            .map_or(silent, |(deadline, _, _)| *deadline);
        silent.min(deadline).min(self.next_ping)
    }

    /// Lets time pass: deadlines, pings, and the end of patience.
    pub(crate) fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.closed {
            return;
        }
        let silence = now.since(self.last_heard);
        if silence >= self.terms.heartbeat_timeout {
            self.closed = true;
            effects.push(Effect::Close(CloseReason::Silent(silence)));
            return;
        }
        if now >= self.next_ping {
            self.pings += 1;
            self.outbound.urgent(Kind::Ping, self.pings, Vec::new());
            self.next_ping = now.after(self.terms.heartbeat_interval);
        }
        while let Some((deadline, whose, id)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            match whose {
                Whose::Theirs => {
                    self.serving.remove(&id);
                    effects.push(Effect::Withdraw(id));
                }
                Whose::Ours => {
                    let timeout = self.asked.get(&id).map_or(Duration::ZERO, |asked| asked.timeout);
                    self.cancel(id);
                    effects.push(Effect::Resolve(id, Err(RpcError::Timeout(timeout))));
                }
            }
        }
    }

    /// When something was last heard of the peer.
    pub(crate) fn last_heard(&self) -> Time {
        self.last_heard
    }

    /// Ends it: asks that were sent fail with an unknown outcome, those of the peer are withdrawn, and messages that were not
    /// all sent are given back in order.
    pub(crate) fn close(self, reason: &CloseReason, effects: &mut Vec<Effect>) -> Vec<Outgoing> {
        let mut asked = self.asked;
        let lost = asked.extract_if(.., |_, asked| asked.sent);
        effects.extend(lost.map(|(id, _)| {
            let error = error_wire::unreachable(&self.peer, reason, Delivery::Unknown);
            Effect::Resolve(id, Err(error))
        }));
        effects.extend(self.serving.into_keys().map(Effect::Withdraw));
        let with_slot = |mut message: Outgoing| match (message.deadline, asked.remove(&message.id)) {
            (Some(_), None) => None,
            (None, _) => Some(message),
            (Some(_), Some(asked)) => {
                message.slot = asked.slot;
                Some(message)
            }
        };
        self.outbound.into_unsent().filter_map(with_slot).collect()
    }
}

/// Ids of asks are even, those of tells odd.
pub(crate) fn is_tell(id: u64) -> bool {
    !id.is_multiple_of(2)
}

fn goodbye(body: &[u8]) -> CloseReason {
    let reason = codec::decode::<Goodbye>(body).map(|goodbye| goodbye.reason);
    CloseReason::Goodbye(reason.unwrap_or_else(|_| "for reasons that cannot be read".to_owned()))
}

fn knows_notices(version: u16) -> bool {
    #[cfg(feature = "protocol_next")]
    return version >= crate::version::NEXT;
    #[cfg(not(feature = "protocol_next"))]
    {
        let _ = version;
        false
    }
}
