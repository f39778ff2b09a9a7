//! A process that can be spoken to: another one, or this one.

use crate::connection::Progress;
use crate::gateway::Gateway;
use crate::link::{Connectivity, LinkEvent, PeerState, Shared};
use crate::message::Endpoint;
use crate::rpc::Rpc;
use hurtig_core::time::Time;
use hurtig_kit::Mailbox;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// A process that can be spoken to. Clones are the same, and may be used on any thread.
#[derive(Clone)]
pub struct Peer(pub(crate) Way);

#[derive(Clone)]
pub(crate) enum Way {
    Local(Rpc),
    Remote(Remote),
}

/// A link, seen from outside.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) mailbox: Mailbox<LinkEvent>,
    pub(crate) shared: Arc<Shared>,
}

impl Peer {
    pub(crate) fn local(rpc: Rpc) -> Self {
        Self(Way::Local(rpc))
    }

    pub(crate) fn remote(mailbox: Mailbox<LinkEvent>, shared: Arc<Shared>) -> Self {
        Self(Way::Remote(Remote { mailbox, shared }))
    }

    /// The way to one of its endpoints. Whether there is one of that name is found out when it is spoken to.
    pub fn gateway<E: Endpoint>(&self, endpoint: &str) -> Gateway<E> {
        Gateway::new(self.clone(), endpoint)
    }

    /// What is known of it.
    pub fn state(&self) -> PeerState {
        match &self.0 {
            Way::Remote(remote) => remote.shared.state.borrow().clone(),
            Way::Local(rpc) => PeerState {
                connectivity: Connectivity::Connected,
                connections: 1,
                incarnation: Some(rpc.identity().incarnation),
                name: rpc.identity().name.clone(),
                version: rpc.config().versions.max,
            },
        }
    }

    /// Every change of what is known of it; `None` for this process itself, of which everything is known.
    pub fn watch(&self) -> Option<watch::Receiver<PeerState>> {
        match &self.0 {
            Way::Remote(remote) => Some(remote.shared.state.subscribe()),
            Way::Local(_) => None,
        }
    }

    /// What its endpoints did at the last heartbeat, and when that came.
    pub fn progress(&self) -> Option<(Time, Progress)> {
        match &self.0 {
            Way::Remote(remote) => remote.shared.progress(),
            Way::Local(rpc) => {
                let clock = &rpc.0.setup.env.clock;
                Some((clock.now(), rpc.0.registry.progress(clock.as_ref())))
            }
        }
    }

    /// Tells that it has refused, or that could not be sent.
    pub fn refused_tells(&self) -> u64 {
        match &self.0 {
            Way::Remote(remote) => remote.shared.refused.load(Ordering::Relaxed),
            Way::Local(_) => 0,
        }
    }

    /// Writes something into its log, if it speaks a version that has notices.
    #[cfg(feature = "protocol_next")]
    pub fn notify(&self, text: impl Into<String>) {
        if let Way::Remote(remote) = &self.0 {
            // Nobody relies on a notice.
            let _ = remote.mailbox.tell(LinkEvent::Notify(text.into()));
        }
    }

    /// Ends the link, and says why. Asks in flight fail. Of this process itself there is no end.
    pub fn close(&self, reason: impl Into<String>) {
        if let Way::Remote(remote) = &self.0 {
            // One that has ended is closed.
            let _ = remote.mailbox.tell(LinkEvent::Close(reason.into()));
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Local(_) => f.write_str("Peer(this process)"),
            Way::Remote(remote) => f
                .debug_tuple("Peer")
                .field(&remote.shared.state.borrow().name)
                .finish(),
        }
    }
}
