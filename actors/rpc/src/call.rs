//! A message as its receiver gets it, with the answer that is owed.

use crate::codec;
use crate::error::{RemoteError, RpcError};
use crate::fence::Stamp;
use crate::frame::TraceContext;
use crate::message::RpcMessage;
use crate::peer::Peer;
use hurtig_core::time::Time;
use serde::Serialize;
use std::fmt;
use tokio::sync::oneshot;

/// An answer in bytes, and its way.
pub(crate) type ByteReply = oneshot::Sender<Result<Vec<u8>, RpcError>>;

/// A message that has arrived.
#[derive(Debug)]
pub struct Call<M: RpcMessage> {
    /// What was said.
    pub message: M,
    /// The answer that is owed.
    pub reply: Responder<M::Reply>,
    /// By whom, and until when.
    pub context: CallContext,
}

/// What is known of a message beside itself.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// Who commands; the receiver's fences have admitted it.
    pub stamp: Option<Stamp>,
    /// The trace that it belongs to.
    pub trace: TraceContext,
    /// When the asker gives up, by this process's clock; `None`: it does not wait.
    pub deadline: Option<Time>,
    /// The sender's process: the way back.
    pub peer: Peer,
}

/// The answer that is owed to an ask. Dropping it tells the asker that none will come. For a tell it goes nowhere.
pub struct Responder<R>(Way<R>);

enum Way<R> {
    Nowhere,
    Value(oneshot::Sender<Result<R, RpcError>>),
    Bytes { sender: ByteReply, max_message: usize },
}

impl<R: Serialize> Responder<R> {
    pub(crate) fn nowhere() -> Self {
        Self(Way::Nowhere)
    }

    pub(crate) fn value(sender: oneshot::Sender<Result<R, RpcError>>) -> Self {
        Self(Way::Value(sender))
    }

    pub(crate) fn bytes(sender: ByteReply, max_message: usize) -> Self {
        Self(Way::Bytes { sender, max_message })
    }

    /// Answers. An asker that no longer waits hears nothing.
    pub fn send(self, reply: R) {
        self.settle(Ok(reply));
    }

    /// Says that it failed. What the asker has to tell apart belongs into the reply's type instead.
    pub fn fail(self, error: &hurtig_core::Error) {
        self.settle(Err(RemoteError::new(error).into()));
    }

    /// Answers or refuses.
    pub fn settle(self, result: Result<R, RpcError>) {
        // The asker may have given up: that is its right.
        match self.0 {
            Way::Nowhere => {}
            Way::Value(sender) => drop(sender.send(result)),
            Way::Bytes { sender, max_message } => {
                let bytes = result.and_then(|reply| to_bytes("the reply", &reply, max_message));
                drop(sender.send(bytes));
            }
        }
    }

    /// Whether anyone still waits. Work for nobody can be left undone.
    pub fn is_wanted(&self) -> bool {
        match &self.0 {
            Way::Nowhere => false,
            Way::Value(sender) => !sender.is_closed(),
            Way::Bytes { sender, .. } => !sender.is_closed(),
        }
    }
}

impl<R> fmt::Debug for Responder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Way::Nowhere => "Responder(nowhere)",
            Way::Value(_) => "Responder(here)",
            Way::Bytes { .. } => "Responder(bytes)",
        })
    }
}

/// The body of a message or reply, unless it is too large.
pub(crate) fn to_bytes<T: Serialize>(what: &str, value: &T, limit: usize) -> Result<Vec<u8>, RpcError> {
    let bytes = codec::encode(value).map_err(|error| RpcError::malformed(what, &error))?;
    let [size, bound] = [bytes.len(), limit].map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX));
    if size > bound {
        return Err(RpcError::TooLarge {
            what: what.to_owned(),
            size,
            limit: bound,
        });
    }
    Ok(bytes)
}
