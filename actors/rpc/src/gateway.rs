//! The way to one endpoint, in this process or another: the call site cannot tell.

use crate::call::{Call, CallContext, Responder, to_bytes};
use crate::codec;
use crate::config::LocalCodec;
use crate::connection::Outgoing;
use crate::error::{Delivery, RpcError};
use crate::error_wire;
use crate::faults::LocalFault;
use crate::fence::Stamp;
use crate::frame::TraceContext;
use crate::link::LinkEvent;
use crate::message::{Accepts, Endpoint, RpcMessage, is_name};
use crate::peer::{Peer, Remote, Way};
use crate::rpc::Rpc;
use hurtig_kit::TellError;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The way to an endpoint of kind `E`. Clones are the same; order is kept for each lane of each peer.
pub struct Gateway<E: Endpoint> {
    peer: Peer,
    endpoint: Arc<str>,
    stamp: Option<Stamp>,
    trace: TraceContext,
    kind: PhantomData<fn() -> E>,
}

type Bytes = oneshot::Receiver<Result<Vec<u8>, RpcError>>;

/// An ask on its way.
enum Pending<R> {
    Value(oneshot::Receiver<Result<R, RpcError>>),
    Bytes {
        answer: Bytes,
        /// Takes the ask back when nobody waits any more.
        withdraw: Option<Withdraw>,
        /// The answer to a duplicate, which nobody looks at.
        second: Option<Bytes>,
    },
    /// Nothing will come.
    Lost(Option<Bytes>),
}

/// Withdraws an ask when it is dropped, unless it was settled.
struct Withdraw {
    link: Remote,
    id: u64,
    settled: bool,
}

impl Drop for Withdraw {
    fn drop(&mut self) {
        if !self.settled {
            // A link that is too busy to hear it finds out at the deadline.
            let _ = self.link.mailbox.tell(LinkEvent::Cancel(self.id));
        }
    }
}

impl<E: Endpoint> Gateway<E> {
    pub(crate) fn new(peer: Peer, endpoint: &str) -> Self {
        Self {
            peer,
            endpoint: endpoint.into(),
            stamp: None,
            trace: TraceContext::default(),
            kind: PhantomData,
        }
    }

    /// The same way for commands under this token.
    #[must_use]
    pub fn stamped(mut self, stamp: Stamp) -> Self {
        self.stamp = Some(stamp);
        self
    }

    /// The same way for messages of this trace.
    #[must_use]
    pub fn traced(mut self, trace: TraceContext) -> Self {
        self.trace = trace;
        self
    }

    /// The process that it leads to.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Asks, and waits at most `timeout` for the reply. The message is on its way when this returns, whether or not the
    /// future is polled; dropping the future withdraws the question. Needs the runtime's timers.
    ///
    /// # Errors
    /// The future's: see [`RpcError`], and [`RpcError::is_outcome_unknown`] for what a caller may conclude.
    pub fn ask<M: RpcMessage>(
        &self,
        message: M,
        timeout: Duration,
    ) -> impl Future<Output = Result<M::Reply, RpcError>> + Send + use<E, M>
    where
        E: Accepts<M>,
    {
        let (pending, endpoint) = (self.begin(message, timeout), self.endpoint.clone());
        async move { wait::<M>(pending?, timeout, &endpoint).await }
    }

    /// Says something without waiting. `Ok`: it was accepted here. What is refused over there is counted
    /// ([`Peer::refused_tells`]) and logged; who must know asks.
    ///
    /// # Errors
    /// When it cannot be sent: no way, no room, too large.
    pub fn tell<M: RpcMessage>(&self, message: M) -> Result<(), RpcError>
    where
        E: Accepts<M>,
    {
        self.check_name()?;
        match &self.peer.0 {
            Way::Local(rpc) => self.tell_here(rpc, message),
            Way::Remote(remote) => {
                let body = to_bytes(M::NAME, &message, remote.shared.max_message)?;
                self.post::<M>(remote, body, None).map(drop)
            }
        }
    }

    fn begin<M: RpcMessage>(&self, message: M, timeout: Duration) -> Result<Pending<M::Reply>, RpcError> {
        self.check_name()?;
        match &self.peer.0 {
            Way::Local(rpc) => self.ask_here(rpc, message, timeout),
            Way::Remote(remote) => {
                let (sender, answer) = oneshot::channel();
                let body = to_bytes(M::NAME, &message, remote.shared.max_message)?;
                let id = self.post::<M>(remote, body, Some((sender, timeout)))?;
                let withdraw = Withdraw {
                    link: remote.clone(),
                    id,
                    settled: false,
                };
                Ok(Pending::Bytes {
                    answer,
                    withdraw: Some(withdraw),
                    second: None,
                })
            }
        }
    }

    /// A name that cannot be registered cannot be known.
    fn check_name(&self) -> Result<(), RpcError> {
        if is_name(&self.endpoint) {
            return Ok(());
        }
        Err(RpcError::UnknownEndpoint {
            endpoint: self.endpoint.as_ref().to_owned(),
        })
    }

    /// Hands a message to the link.
    fn post<M: RpcMessage>(
        &self,
        remote: &Remote,
        body: Vec<u8>,
        ask: Option<(oneshot::Sender<Result<Vec<u8>, RpcError>>, Duration)>,
    ) -> Result<u64, RpcError> {
        let (place, bytes) = remote.shared.reserve(ask.is_some(), body.len())?;
        let id = remote.shared.id(ask.is_some());
        let (reply, timeout) = ask.unzip();
        let outgoing = Outgoing {
            id,
            lane: M::LANE,
            since: M::SINCE,
            stamp: self.stamp,
            trace: self.trace,
            endpoint: self.endpoint.clone(),
            message: M::NAME,
            body,
            deadline: timeout.map(|timeout| (remote.shared.clock.now().after(timeout), timeout)),
            bytes: Some(bytes),
            slot: Some(place),
        };
        match remote.mailbox.tell(LinkEvent::Send(Box::new(outgoing), reply)) {
            Ok(()) => Ok(id),
            Err(TellError::Overloaded) => Err(RpcError::overloaded("the mailbox of the link")),
            Err(TellError::Closed) => Err(remote.shared.unreachable(Delivery::NotSent)),
        }
    }

    fn context(&self, rpc: &Rpc, timeout: Option<Duration>) -> CallContext {
        CallContext {
            stamp: self.stamp,
            trace: self.trace,
            deadline: timeout.map(|timeout| rpc.0.setup.env.clock.now().after(timeout)),
            peer: rpc.local(),
        }
    }

    fn fault<M: RpcMessage>(&self, rpc: &Rpc) -> LocalFault {
        let faults = rpc.0.setup.faults.as_ref();
        faults.map_or(LocalFault::None, |faults| faults.next(&self.endpoint, M::NAME))
    }

    fn unreachable_here(&self, rpc: &Rpc) -> RpcError {
        error_wire::unreachable(&rpc.identity().name, "injected", Delivery::NotSent)
    }

    fn tell_here<M: RpcMessage>(&self, rpc: &Rpc, message: M) -> Result<(), RpcError> {
        let config = rpc.config();
        let fault = self.fault::<M>(rpc);
        match fault {
            LocalFault::Unreachable => return Err(self.unreachable_here(rpc)),
            LocalFault::RequestLost => return Ok(()),
            _ => {}
        }
        let route = rpc
            .0
            .registry
            .find(&self.endpoint, M::NAME, self.stamp, config.versions.max)?;
        if config.local_codec == LocalCodec::Never && fault != LocalFault::Duplicate {
            return route.value(Box::new(Call {
                message,
                reply: Responder::nowhere(),
                context: self.context(rpc, None),
            }));
        }
        let body = to_bytes(M::NAME, &message, config.max_message)?;
        if fault == LocalFault::Duplicate {
            route.bytes(&body, self.context(rpc, None), None)?;
        }
        route.bytes(&body, self.context(rpc, None), None)
    }

    fn ask_here<M: RpcMessage>(
        &self,
        rpc: &Rpc,
        message: M,
        timeout: Duration,
    ) -> Result<Pending<M::Reply>, RpcError> {
        let config = rpc.config();
        let fault = self.fault::<M>(rpc);
        match fault {
            LocalFault::Unreachable => return Err(self.unreachable_here(rpc)),
            LocalFault::RequestLost => return Ok(Pending::Lost(None)),
            _ => {}
        }
        let route = rpc
            .0
            .registry
            .find(&self.endpoint, M::NAME, self.stamp, config.versions.max)?;
        let context = || self.context(rpc, Some(timeout));
        if config.local_codec == LocalCodec::Never && fault == LocalFault::None {
            let (sender, answer) = oneshot::channel();
            route.value(Box::new(Call {
                message,
                reply: Responder::value(sender),
                context: context(),
            }))?;
            return Ok(Pending::Value(answer));
        }
        let body = to_bytes(M::NAME, &message, config.max_message)?;
        let deliver = || {
            let (sender, answer) = oneshot::channel();
            route.bytes(&body, context(), Some((sender, config.max_message)))?;
            Ok::<_, RpcError>(answer)
        };
        let answer = deliver()?;
        Ok(match fault {
            LocalFault::ReplyLost => Pending::Lost(Some(answer)),
            _ => Pending::Bytes {
                answer,
                withdraw: None,
                second: (fault == LocalFault::Duplicate).then(deliver).transpose()?,
            },
        })
    }
}

/// Waits for what comes of an ask.
async fn wait<M: RpcMessage>(
    pending: Pending<M::Reply>,
    timeout: Duration,
    endpoint: &str,
) -> Result<M::Reply, RpcError> {
    let no_reply = |_| RpcError::NoReply {
        endpoint: endpoint.to_owned(),
    };
    let answer = async move {
        match pending {
            Pending::Value(answer) => answer.await.map_err(no_reply)?,
            Pending::Bytes {
                answer,
                withdraw,
                second,
            } => {
                let bytes = answer.await;
                drop(second);
                let bytes = match (bytes, withdraw) {
                    (Ok(bytes), None) => bytes?,
                    (Err(dropped), None) => return Err(no_reply(dropped)),
                    (bytes, Some(mut withdraw)) => {
                        withdraw.settled = true;
                        // A link that has ended drops what it had not begun.
                        bytes.map_err(|_| withdraw.link.shared.unreachable(Delivery::Unknown))??
                    }
                };
                codec::decode(&bytes).map_err(|error| RpcError::malformed(M::NAME, &error))
            }
            Pending::Lost(answer) => {
                std::future::pending::<()>().await;
                drop(answer);
                Err(RpcError::Timeout(timeout))
            }
        }
    };
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(RpcError::Timeout(timeout)),
    }
}

impl<E: Endpoint> Clone for Gateway<E> {
    fn clone(&self) -> Self {
        Self {
            peer: self.peer.clone(),
            endpoint: self.endpoint.clone(),
            stamp: self.stamp,
            trace: self.trace,
            kind: PhantomData,
        }
    }
}

impl<E: Endpoint> fmt::Debug for Gateway<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("kind", &E::KIND)
            .field("endpoint", &self.endpoint)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
