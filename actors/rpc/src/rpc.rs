//! The messaging of one process: its endpoints, its links, and who it is.

use crate::config::{ConfigError, RpcConfig};
use crate::faults::LocalFaults;
use crate::fence::ClusterId;
use crate::link::{Link, LinkSetup, Shared};
use crate::message::Endpoint;
use crate::peer::Peer;
use crate::registry::{RegisterError, Registration, Registry};
use crate::server::{Server, Serving};
use crate::transport::{Acceptor, Dialer, TcpDialer};
use hurtig_kit::{ActorEnv, Shell};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name, for people.
    pub name: String,
    /// A random number of the process: another one at the same address is another process.
    pub incarnation: Uuid,
    /// The cluster that it belongs to; `None`: any.
    pub cluster: Option<ClusterId>,
}

impl Identity {
    /// A process that was just started.
    pub fn new(name: impl Into<String>, cluster: Option<ClusterId>) -> Self {
        Self {
            name: name.into(),
            incarnation: Uuid::new_v4(),
            cluster,
        }
    }
}

/// What the messaging of a process is made from.
pub struct RpcSetup {
    /// Bounds and times.
    pub config: RpcConfig,
    /// Who the process is.
    pub identity: Identity,
    /// What its links are born into: the clock, and what a bug in them ends.
    pub env: ActorEnv,
    /// How it reaches others.
    pub dialer: Arc<dyn Dialer>,
    /// Faults for messages that stay in the process.
    pub faults: Option<Arc<dyn LocalFaults>>,
}

impl RpcSetup {
    /// Over TCP, with the defaults.
    pub fn tcp(identity: Identity, env: ActorEnv) -> Self {
        Self {
            config: RpcConfig::default(),
            identity,
            env,
            dialer: Arc::new(TcpDialer),
            faults: None,
        }
    }
}

pub(crate) struct Inner {
    pub(crate) setup: RpcSetup,
    pub(crate) registry: Registry,
    /// Links that were dialled by their peers.
    pub(crate) accepted: Mutex<BTreeMap<Uuid, Peer>>,
    #[cfg(feature = "protocol_next")]
    pub(crate) draining: std::sync::atomic::AtomicBool,
}

/// The messaging of one process. Clones are the same, and may be used on any thread.
#[derive(Clone)]
pub struct Rpc(pub(crate) Arc<Inner>);

impl Rpc {
    /// Without endpoints and links.
    ///
    /// # Errors
    /// When settings contradict each other.
    pub fn new(setup: RpcSetup) -> Result<Self, ConfigError> {
        setup.config.check()?;
        Ok(Self(Arc::new(Inner {
            setup,
            registry: Registry::default(),
            accepted: Mutex::default(),
            #[cfg(feature = "protocol_next")]
            draining: Default::default(),
        })))
    }

    /// Gives an actor a name under which it can be spoken to.
    ///
    /// # Errors
    /// When the name is taken or cannot be one, or a message of the endpoint leads nowhere.
    pub fn register<E: Endpoint, Ev: Send + 'static>(
        &self,
        registration: Registration<E, Ev>,
    ) -> Result<(), RegisterError> {
        self.0.registry.register(registration)
    }

    /// Takes a name away. Messages to it are answered *unknown endpoint* from now on.
    pub fn deregister(&self, name: &str) -> bool {
        self.0.registry.deregister(name)
    }

    /// Lets processes of jobs, whose certificates are good for one job, ask an endpoint also what is of no job.
    pub fn open_to_jobs(&self, name: &str) {
        self.0.registry.open_to_jobs(name);
    }

    /// This process, as a peer of itself: its gateways lead to its own endpoints, without a socket.
    pub fn local(&self) -> Peer {
        Peer::local(self.clone())
    }

    /// Makes a link to the process at `address`, and dials. Must be called inside a local set, on which the link lives.
    /// Each call is a link of its own, with a connection of its own.
    pub fn connect(&self, address: impl Into<String>) -> Peer {
        let shared = Arc::new(Shared::new(
            address.into(),
            &self.0.setup.config,
            self.0.setup.env.clock.clone(),
        ));
        let setup = LinkSetup {
            id: Uuid::new_v4(),
            rpc: self.clone(),
            shared: shared.clone(),
            accepted: None,
        };
        let (mailbox, _) = Shell::start(Link::new(setup), self.0.setup.env.clone());
        Peer::remote(mailbox, shared)
    }

    /// Lets others connect. Must be called inside a local set, on which their links will live.
    pub fn serve(&self, acceptor: impl Acceptor) -> Serving {
        Server::start(self.clone(), Box::new(acceptor))
    }

    /// The peers that have dialled this process and are not dead.
    pub fn accepted(&self) -> Vec<Peer> {
        self.with_accepted(|links| links.values().cloned().collect())
    }

    /// Takes no new links from now on: the process is about to leave.
    #[cfg(feature = "protocol_next")]
    pub fn drain(&self) {
        self.0.draining.store(true, std::sync::atomic::Ordering::Release);
    }

    /// Who this process is.
    pub fn identity(&self) -> &Identity {
        &self.0.setup.identity
    }

    /// Its bounds and times.
    pub fn config(&self) -> &RpcConfig {
        &self.0.setup.config
    }

    pub(crate) fn with_accepted<T>(&self, act: impl FnOnce(&mut BTreeMap<Uuid, Peer>) -> T) -> T {
        act(&mut self.0.accepted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rpc").field(&self.0.setup.identity).finish()
    }
}
