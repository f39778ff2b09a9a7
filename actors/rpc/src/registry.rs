//! Which endpoints this process has, which messages they take, and whom they obey.

use crate::call::{ByteReply, Call, CallContext, Responder};
use crate::codec;
use crate::connection::{EndpointProgress, Progress};
use crate::error::{RemoteError, RpcError};
use crate::fence::{Fences, Scope, Stamp};
use crate::message::{Accepts, Endpoint, MessageFacts, RpcMessage, is_name};
use hurtig_core::Fault;
use hurtig_core::ids::JobId;
use hurtig_core::time::Clock;
use hurtig_kit::{ActorState, Mailbox, Probe};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// Endpoints that a process may have; what they do has to fit into one frame.
pub const MAX_ENDPOINTS: usize = 256;

/// Takes one type of message to one mailbox.
pub(crate) trait Deliver: Send + Sync {
    /// Decodes a body and hands it over. Without `reply` it is a tell.
    fn bytes(
        &self,
        body: &[u8],
        context: CallContext,
        reply: Option<(ByteReply, usize)>,
    ) -> Result<(), RpcError>;

    /// Hands over a `Call` of its message.
    fn value(&self, call: Box<dyn Any>) -> Result<(), RpcError>;
}

struct Delivery<M: RpcMessage, Ev: Send + 'static> {
    endpoint: Arc<str>,
    mailbox: Mailbox<Ev>,
    event: EventOf<M, Ev>,
}

type EventOf<M, Ev> = Box<dyn Fn(Call<M>) -> Ev + Send + Sync>;

impl<M: RpcMessage, Ev: Send + 'static> Delivery<M, Ev> {
    fn deliver(&self, call: Call<M>) -> Result<(), RpcError> {
        let told = self.mailbox.tell((self.event)(call));
        told.map_err(|error| RpcError::refused(error, &self.endpoint))
    }
}

impl<M: RpcMessage, Ev: Send + 'static> Deliver for Delivery<M, Ev> {
    fn bytes(
        &self,
        body: &[u8],
        context: CallContext,
        reply: Option<(ByteReply, usize)>,
    ) -> Result<(), RpcError> {
        let message = codec::decode(body).map_err(|error| RpcError::malformed(M::NAME, &error))?;
        let reply = reply.map_or_else(Responder::nowhere, |(sender, max)| Responder::bytes(sender, max));
        self.deliver(Call {
            message,
            reply,
            context,
        })
    }

    fn value(&self, call: Box<dyn Any>) -> Result<(), RpcError> {
        match call.downcast::<Call<M>>() {
            Ok(call) => self.deliver(*call),
            // Two types of one name: what would decode from bytes cannot be handed over as it is.
            Err(_) => Err(RpcError::Unsupported {
                endpoint: self.endpoint.as_ref().to_owned(),
                message: M::NAME.to_owned(),
            }),
        }
    }
}

type Make<Ev> = Box<dyn FnOnce(&Arc<str>, &Mailbox<Ev>) -> Arc<dyn Deliver>>;

/// How the messages of an endpoint become the events of its actor.
pub struct Routes<E: Endpoint, Ev: Send + 'static> {
    routes: BTreeMap<&'static str, Make<Ev>>,
    endpoint: PhantomData<fn() -> E>,
}

impl<E: Endpoint, Ev: Send + 'static> Routes<E, Ev> {
    /// None yet.
    pub fn new() -> Self {
        Self {
            routes: BTreeMap::new(),
            endpoint: PhantomData,
        }
    }

    /// A call of `M` becomes what `event` makes of it.
    #[must_use]
    pub fn on<M: RpcMessage>(mut self, event: impl Fn(Call<M>) -> Ev + Send + Sync + 'static) -> Self
    where
        E: Accepts<M>,
    {
        let make = |endpoint: &Arc<str>, mailbox: &Mailbox<Ev>| {
            let delivery = Delivery {
                endpoint: endpoint.clone(),
                mailbox: mailbox.clone(),
                event: Box::new(event) as EventOf<M, Ev>,
            };
            Arc::new(delivery) as Arc<dyn Deliver>
        };
        self.routes.insert(M::NAME, Box::new(make));
        self
    }
}

impl<E: Endpoint, Ev: Send + 'static> Default for Routes<E, Ev> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Endpoint, Ev: Send + 'static> fmt::Debug for Routes<E, Ev> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.routes.keys()).finish()
    }
}

/// An actor under its name.
#[derive(Debug)]
pub struct Registration<E: Endpoint, Ev: Send + 'static> {
    /// The name: of the kind if there is one in a process, else with what tells it apart (`job-master/<id>`).
    pub name: String,
    /// Its mailbox.
    pub mailbox: Mailbox<Ev>,
    /// What becomes of its messages.
    pub routes: Routes<E, Ev>,
    /// Whom it obeys.
    pub fences: Fences,
    /// What says that it makes progress.
    pub probe: Option<Arc<Probe>>,
}

/// Why an endpoint was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// A name that cannot stand in a header.
    #[error("'{0}' cannot be the name of an endpoint: 1 to 64 of a-z, 0-9, '-', '.', '/', '_'")]
    Name(String),
    /// Somebody has the name.
    #[error("an endpoint is called '{0}' already")]
    Taken(String),
    /// A message of the endpoint's list has no event.
    #[error("endpoint '{endpoint}' takes '{message}', but nothing says what becomes of it")]
    Missing {
        /// The endpoint.
        endpoint: String,
        /// The message.
        message: &'static str,
    },
    /// There are too many.
    #[error("a process has at most {MAX_ENDPOINTS} endpoints")]
    Full,
}

struct Entry {
    routes: BTreeMap<&'static str, Arc<dyn Deliver>>,
    messages: &'static [MessageFacts],
    fences: Fences,
    probe: Option<Arc<Probe>>,
    open_to_jobs: bool,
}

/// The endpoints of a process.
#[derive(Default)]
pub(crate) struct Registry(Mutex<BTreeMap<Arc<str>, Entry>>);

impl Registry {
    pub(crate) fn register<E: Endpoint, Ev: Send + 'static>(
        &self,
        registration: Registration<E, Ev>,
    ) -> Result<(), RegisterError> {
        let Registration {
            name,
            mailbox,
            routes,
            fences,
            probe,
        } = registration;
        if !is_name(&name) {
            return Err(RegisterError::Name(name));
        }
        let missing = E::MESSAGES
            .iter()
            .find(|facts| !routes.routes.contains_key(facts.name));
        if let Some(facts) = missing {
            let (endpoint, message) = (name, facts.name);
            return Err(RegisterError::Missing { endpoint, message });
        }
        let name: Arc<str> = name.into();
        let make = |(message, make): (_, Make<Ev>)| (message, make(&name, &mailbox));
        let entry = Entry {
            routes: routes.routes.into_iter().map(make).collect(),
            messages: E::MESSAGES,
            fences,
            probe,
            open_to_jobs: false,
        };
        self.with(|entries| match entries.len() {
            _ if entries.contains_key(&name) => Err(RegisterError::Taken(name.as_ref().to_owned())),
            MAX_ENDPOINTS.. => Err(RegisterError::Full),
            _ => {
                entries.insert(name, entry);
                Ok(())
            }
        })
    }

    pub(crate) fn deregister(&self, name: &str) -> bool {
        self.with(|entries| entries.remove(name)).is_some()
    }

    /// Lets everybody ask an endpoint without a stamp who may connect: it tells nothing of any job.
    pub(crate) fn open_to_jobs(&self, name: &str) {
        self.with(|entries| {
            if let Some(entry) = entries.get_mut(name) {
                entry.open_to_jobs = true;
            }
        });
    }

    /// Whether a peer that may speak of one job only may send this.
    pub(crate) fn admit(
        &self,
        speaks_for: Option<JobId>,
        endpoint: &str,
        stamp: Option<Stamp>,
    ) -> Result<(), RpcError> {
        let Some(job) = speaks_for else { return Ok(()) };
        let is_its_own = match stamp.map(|stamp| stamp.scope) {
            Some(Scope::Job(of)) => of == job,
            Some(Scope::Cluster(_)) => false,
            None => self.with(|entries| entries.get(endpoint).is_some_and(|entry| entry.open_to_jobs)),
        };
        match is_its_own {
            true => Ok(()),
            false => Err(RpcError::Remote(RemoteError {
                fault: Fault::User,
                chain: vec![format!(
                    "the certificate of job {job} is good for messages of that job, and not for this one to '{endpoint}'"
                )],
            })),
        }
    }

    /// The way of a message, if its endpoint is here, takes it from a peer of this `version`, and obeys its stamp.
    pub(crate) fn find(
        &self,
        endpoint: &str,
        message: &str,
        stamp: Option<Stamp>,
        version: u16,
    ) -> Result<Arc<dyn Deliver>, RpcError> {
        self.with(|entries| {
            let entry = entries.get(endpoint).ok_or_else(|| RpcError::UnknownEndpoint {
                endpoint: endpoint.to_owned(),
            })?;
            let facts = entry.messages.iter().find(|facts| facts.name == message);
            let known = facts.filter(|facts| facts.since <= version);
            let route = known.and_then(|facts| entry.routes.get(facts.name));
            let route = route.ok_or_else(|| RpcError::Unsupported {
                endpoint: endpoint.to_owned(),
                message: message.to_owned(),
            })?;
            entry.fences.admit(stamp)?;
            Ok(route.clone())
        })
    }

    /// What the endpoints do.
    pub(crate) fn progress(&self, clock: &dyn Clock) -> Progress {
        let of = |(name, entry): (&Arc<str>, &Entry)| {
            let state = entry.probe.as_ref().map(|probe| probe.state(clock));
            let busy = match &state {
                Some(ActorState::Busy(time)) => Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
                _ => None,
            };
            EndpointProgress {
                name: name.as_ref().to_owned(),
                handled: entry.probe.as_ref().map_or(0, |probe| probe.handled()),
                busy_ms: busy,
                ended: matches!(state, Some(ActorState::Ended(_))),
            }
        };
        let endpoints = self.with(|entries| entries.iter().map(of).collect());
        Progress { endpoints }
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Arc<str>, Entry>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
