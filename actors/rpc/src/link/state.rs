//! What is known of a peer, for everyone who has a handle of it.

use crate::budget::{Budget, Reservation};
use crate::config::RpcConfig;
use crate::connection::Progress;
use crate::error::{Delivery, RpcError};
use crate::error_wire;
use crate::version::{Side, VersionRange};
use hurtig_core::time::{Clock, Time};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// Why a peer is dead. Dead is for ever: who wants to speak to whatever is at its address makes a new link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeathReason {
    /// Nobody listens at its address, said twice in 300 ms.
    #[error("connections to it were refused twice in a row: its process is gone")]
    Refused,
    /// Another process is at its address.
    #[error("another process has taken its address")]
    OtherIncarnation,
    /// It does not know this link: it was started anew, or had given us up.
    #[error("the process at its address does not know us any more: it was restarted, or took us for dead")]
    Forgotten,
    /// Nothing was heard of it for so long.
    #[error("nothing was heard of it for {0:?}")]
    Silent(Duration),
    /// There never was a connection, and this is why the last attempt had failed.
    #[error("it could not be connected to for {0:?}: {1}")]
    Failed(Duration, String),
    /// It said that it leaves, and why.
    #[error("it left: {0}")]
    Left(String),
    /// It will not speak to us.
    #[error("it refuses us: {0}")]
    Rejected(String),
    /// There is no common protocol version.
    #[error(
        "no common protocol version: this process speaks {ours}, the peer {theirs}; {older} is older and has to be upgraded"
    )]
    Incompatible {
        /// What this process speaks.
        ours: VersionRange,
        /// What the peer speaks.
        theirs: VersionRange,
        /// Which one is behind.
        older: Side,
    },
    /// This process has closed the link.
    #[error("this process has closed the link: {0}")]
    Closed(String),
}

/// Whether a peer can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connectivity {
    /// There is no connection at the moment; messages wait.
    Connecting,
    /// There is one.
    Connected,
    /// There will be none any more.
    Dead(DeathReason),
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Whether it can be reached.
    pub connectivity: Connectivity,
    /// Connections so far. Who sees it grow knows that tells may have been lost, and asks have failed.
    pub connections: u64,
    /// The peer's process.
    pub incarnation: Option<Uuid>,
    /// What it calls itself.
    pub name: String,
    /// The protocol version of the last connection; 0: there was none.
    pub version: u16,
}

/// What a link shares with the handles of its peer.
pub(crate) struct Shared {
    /// The address that is dialled, or was dialled from.
    pub(crate) address: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: watch::Sender<PeerState>,
    pub(crate) max_message: usize,
    pub(crate) asks: Budget,
    pub(crate) tells: Budget,
    bytes: Budget,
    ids: AtomicU64,
    /// Tells that were refused over there, or could not be sent.
    pub(crate) refused: AtomicU64,
    progress: Mutex<Option<(Time, Progress)>>,
}

impl Shared {
    pub(crate) fn new(address: String, config: &RpcConfig, clock: Arc<dyn Clock>) -> Self {
        let state = PeerState {
            connectivity: Connectivity::Connecting,
            connections: 0,
            incarnation: None,
            name: address.clone(),
            version: 0,
        };
        Self {
            address,
            clock,
            state: watch::Sender::new(state),
            max_message: config.max_message,
            asks: Budget::new(config.max_in_flight),
            tells: Budget::new(config.max_queued),
            bytes: Budget::new(config.max_queued_bytes),
            ids: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            progress: Mutex::default(),
        }
    }

    /// Room for a message: its place, and its bytes.
    pub(crate) fn reserve(&self, is_ask: bool, bytes: usize) -> Result<(Reservation, Reservation), RpcError> {
        let (places, setting) = if is_ask {
            (&self.asks, "asks in flight (`rpc.max-in-flight`)")
        } else {
            (
                &self.tells,
                "messages waiting to be sent (`rpc.max-queued-messages`)",
            )
        };
        let full = |what: &str| RpcError::overloaded(format!("{what} to {}", self.address));
        let place = places.reserve(1).ok_or_else(|| full(setting))?;
        let size = self.bytes.reserve(bytes);
        Ok((
            place,
            size.ok_or_else(|| full("bytes waiting to be sent (`rpc.max-queued-size`)"))?,
        ))
    }

    /// A fresh id: even for asks, odd for tells.
    pub(crate) fn id(&self, is_ask: bool) -> u64 {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        number * 2 + u64::from(!is_ask)
    }

    /// The error of a message for which there is no way.
    pub(crate) fn unreachable(&self, delivery: Delivery) -> RpcError {
        let state = self.state.borrow();
        match &state.connectivity {
            Connectivity::Dead(DeathReason::Incompatible { ours, theirs, older }) => RpcError::Incompatible {
                ours: *ours,
                theirs: *theirs,
                older: *older,
            },
            Connectivity::Dead(reason) => error_wire::unreachable(&state.name, reason, delivery),
            _ => error_wire::unreachable(&state.name, "its link has ended", delivery),
        }
    }

    pub(crate) fn set_progress(&self, now: Time, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, progress));
    }

    pub(crate) fn progress(&self) -> Option<(Time, Progress)> {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
