//! The messages of a link: ours on their way out, the peer's on their way to their endpoints.

use super::shell::Link;
use crate::call::CallContext;
use crate::codec;
use crate::connection::{Effect, Incoming, Outgoing, Progress};
use crate::error::RpcError;
use crate::frame::Kind;
use crate::peer::Peer;
use hurtig_kit::{ExitReason, ShellCx};
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

impl Link {
    /// A message of ours will not be sent.
    pub(super) fn give_up(&mut self, message: &Outgoing, error: RpcError) {
        match self.replies.remove(&message.id) {
            Some(reply) => drop(reply.send(Err(error))),
            None => self.refused(&error),
        }
    }

    pub(super) fn refused(&self, error: &RpcError) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(peer = ?self.shared.state.borrow().name, %error, "a message was refused");
    }

    /// Sends a message, or keeps it until there is a connection.
    pub(super) fn send(&mut self, message: Outgoing) {
        let Some(live) = &mut self.live else {
            return self.waiting.push_back(message);
        };
        let error = if message.since > live.version {
            RpcError::Unsupported {
                endpoint: message.endpoint.as_ref().to_owned(),
                message: message.message.to_owned(),
            }
        } else if message.body.len() > live.peer_max {
            RpcError::TooLarge {
                what: format!("the body of {} for this peer", message.message),
                size: u64::try_from(message.body.len()).unwrap_or(u64::MAX),
                limit: u64::try_from(live.peer_max).unwrap_or(u64::MAX),
            }
        } else {
            return live.brain.send(message);
        };
        self.give_up(&message, error);
    }

    pub(super) fn cancel(&mut self, id: u64) {
        self.replies.remove(&id);
        match &mut self.live {
            Some(live) => live.brain.cancel(id),
            None => self.waiting.retain(|message| message.id != id),
        }
    }

    pub(super) fn carry_out(
        &mut self,
        effects: Vec<Effect>,
        cx: &mut ShellCx<'_, Self>,
    ) -> Result<(), ExitReason> {
        for effect in effects {
            match effect {
                Effect::Deliver(incoming) => self.deliver(*incoming, cx),
                Effect::Withdraw(id) => {
                    if let Some(live) = &mut self.live {
                        live.withdraw(id);
                    }
                }
                Effect::Resolve(id, result) => {
                    if let Some(reply) = self.replies.remove(&id) {
                        // Who has given up hears nothing.
                        let _ = reply.send(result);
                    }
                }
                Effect::TellRefused(error) => self.refused(&error),
                Effect::Pinged(id) => self.pong(id),
                Effect::Progress(body) => {
                    if let Ok(progress) = codec::decode::<Progress>(&body) {
                        self.shared.set_progress(cx.now(), progress);
                    }
                }
                Effect::Notice(body) => {
                    let text = codec::decode::<String>(&body).unwrap_or_default();
                    tracing::info!(peer = ?self.shared.state.borrow().name, text, "the peer says");
                }
                Effect::Close(reason) => self.lost(&reason, cx)?,
            }
        }
        Ok(())
    }

    pub(super) fn pong(&mut self, id: u64) {
        let progress = self.rpc.0.registry.progress(self.shared.clock.as_ref());
        if let Some(live) = &mut self.live {
            // A list of names and numbers encodes.
            live.brain.pong(id, codec::encode(&progress).unwrap_or_default());
        }
    }

    /// Takes a message of the peer's to its endpoint.
    pub(super) fn deliver(&mut self, incoming: Incoming, cx: &mut ShellCx<'_, Self>) {
        let Some(live) = &mut self.live else {
            return;
        };
        let Incoming {
            id,
            lane,
            kind,
            stamp,
            trace,
            endpoint,
            message,
            deadline,
            body,
        } = incoming;
        let peer = Peer::remote(cx.mailbox(), self.shared.clone());
        let context = CallContext {
            stamp,
            trace,
            deadline,
            peer,
        };
        let registry = &self.rpc.0.registry;
        let found = registry
            .admit(live.speaks_for, &endpoint, stamp)
            .and_then(|()| registry.find(&endpoint, &message, stamp, live.version));
        if kind == Kind::Tell {
            if let Err(error) = found.and_then(|route| route.bytes(&body, context, None)) {
                live.brain.refuse(lane, id, &error);
            }
            return;
        }
        let (sender, answer) = oneshot::channel();
        let max_reply = self.rpc.config().max_message.min(live.peer_max);
        match found.and_then(|route| route.bytes(&body, context, Some((sender, max_reply)))) {
            Ok(()) => live.serve(id, answer, endpoint, cx),
            Err(error) => live.brain.answer(id, Err(error)),
        }
    }
}
