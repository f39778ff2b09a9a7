//! One connection after its handshake: what is sent, what arrives, who still waits, and whether the peer lives.
//!
//! The brain has no socket, no clock and no runtime. It is handed frames and the time, and writes down effects; what it has to
//! send is asked of it. It refuses to know what messages mean and where they go.

mod brain;
mod inbound;
mod outbound;
#[cfg(test)]
mod tests;

use crate::budget::Reservation;
use crate::error::RpcError;
use crate::fence::Stamp;
use crate::frame::{FrameError, Kind, TraceContext};
use crate::message::Lane;
use hurtig_core::time::Time;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use brain::ConnectionBrain;

/// What two processes have agreed on, with the bounds of this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The protocol version.
    pub(crate) version: u16,
    /// The largest body that is taken.
    pub(crate) max_message: usize,
    /// Asks of the peer that are served at once.
    pub(crate) max_in_flight: usize,
    /// Bytes of answers that may wait.
    pub(crate) max_queued_bytes: usize,
    /// Pings are sent so often.
    pub(crate) heartbeat_interval: Duration,
    /// Silence that means death.
    pub(crate) heartbeat_timeout: Duration,
}

/// A message of ours on its way. What it has reserved goes with it.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Even: an ask; odd: a tell.
    pub(crate) id: u64,
    pub(crate) lane: Lane,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) trace: TraceContext,
    pub(crate) endpoint: Arc<str>,
    pub(crate) message: &'static str,
    /// The version that brought the message.
    pub(crate) since: u16,
    pub(crate) body: Vec<u8>,
    /// When the asker gives up, and how long it was willing to wait; `None`: a tell.
    pub(crate) deadline: Option<(Time, Duration)>,
    /// Of the bytes that may wait.
    #[expect(dead_code, reason = "held until the message is sent or dropped")]
    pub(crate) bytes: Option<Reservation>,
    /// Of the messages that may wait, or of the asks in flight.
    pub(crate) slot: Option<Reservation>,
}

/// A message of the peer's, complete.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub(crate) id: u64,
    pub(crate) lane: Lane,
    /// [`Kind::Ask`] or [`Kind::Tell`].
    pub(crate) kind: Kind,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) trace: TraceContext,
    pub(crate) endpoint: String,
    pub(crate) message: String,
    pub(crate) deadline: Option<Time>,
    pub(crate) body: Vec<u8>,
}

/// What the shell has to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Hand it to its endpoint, and answer if it is an ask, or was refused.
    Deliver(Box<Incoming>),
    /// Nobody waits for the answer to this ask of the peer's any more.
    Withdraw(u64),
    /// An ask of ours has its result.
    Resolve(u64, Result<Vec<u8>, RpcError>),
    /// A tell of ours was refused over there.
    TellRefused(RpcError),
    /// Say what the actors do, with this id.
    Pinged(u64),
    /// What the peer's actors do.
    Progress(Vec<u8>),
    /// Something for the log.
    Notice(Vec<u8>),
    /// The connection must end; nothing else comes of it.
    Close(CloseReason),
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed it, or its process ended.
    #[error("the peer closed the connection")]
    Closed,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(String),
    /// The two do not agree on TLS, or on their certificates.
    #[error("{0}")]
    Tls(String),
    /// Nothing was heard for the heartbeat's timeout.
    #[error("the peer was silent for {0:?}")]
    Silent(Duration),
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Frames that do not go together.
    #[error("the peer broke the protocol: {0}")]
    Violation(&'static str),
    /// The peer said that it leaves, and why.
    #[error("the peer left: {0}")]
    Goodbye(String),
    /// The peer has made a new connection.
    #[error("the peer has connected anew")]
    Replaced,
    /// This process ended it.
    #[error("this process closed the connection")]
    Ours,
}

/// The body of a goodbye.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Goodbye {
    pub(crate) reason: String,
}

/// What the endpoints of a process do: the answer to a ping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Each endpoint.
    pub endpoints: Vec<EndpointProgress>,
}

/// What one endpoint does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointProgress {
    /// Its name.
    pub name: String,
    /// Messages that it has handled. One that is busy and handles nothing more hangs.
    pub handled: u64,
    /// How long it has been in its present handler, in milliseconds; `None`: it waits.
    pub busy_ms: Option<u64>,
    /// Whether its actor has ended.
    pub ended: bool,
}
