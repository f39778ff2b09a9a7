//! Is connected to: hears who is there, and gives each connection to its link.

use crate::connection::CloseReason;
use crate::frame::{FrameDecoder, Kind};
use crate::handshake::{self, Established, Hello, Reason, Reject, Welcome};
use crate::link::{Link, LinkEvent, LinkSetup, Shared};
use crate::peer::{Peer, Way};
use crate::rpc::Rpc;
use crate::transport::{Accepted, Acceptor};
use hurtig_kit::{Component, ExitReason, Mailbox, Shell, ShellCx};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The pause after a failure to accept: there may be no file descriptors, and accepting at once fails again.
const PAUSE: Duration = Duration::from_millis(100);

/// What reaches the server.
pub(crate) enum ServerEvent {
    /// Somebody has connected, or the listener failed.
    Accepted(Box<dyn Acceptor>, io::Result<Accepted>),
    /// Accept again.
    Accept(Box<dyn Acceptor>),
    /// A handshake is over.
    Greeted(Result<Box<Greeted>, CloseReason>),
    /// Stop listening.
    Stop,
}

/// Somebody who was welcomed.
pub(crate) struct Greeted {
    hello: Hello,
    from: String,
    established: Established,
}

/// A listener at work. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Serving(Mailbox<ServerEvent>);

impl Serving {
    /// Accepts nobody any more. Links that are there stay.
    pub fn stop(&self) {
        // One that has ended is stopped.
        let _ = self.0.tell(ServerEvent::Stop);
    }
}

/// The actor of a listener.
pub(crate) struct Server {
    rpc: Rpc,
    acceptor: Option<Box<dyn Acceptor>>,
    handshakes: usize,
}

impl Server {
    pub(crate) fn start(rpc: Rpc, acceptor: Box<dyn Acceptor>) -> Serving {
        let env = rpc.0.setup.env.clone();
        let server = Self {
            rpc,
            acceptor: Some(acceptor),
            handshakes: 0,
        };
        Serving(Shell::start(server, env).0)
    }

    /// Accepts, unless too many have not introduced themselves yet.
    fn accept(&mut self, cx: &mut ShellCx<'_, Self>) {
        if self.handshakes >= self.rpc.config().max_handshakes {
            return;
        }
        let Some(mut acceptor) = self.acceptor.take() else {
            return;
        };
        let accepting = async move {
            let accepted = acceptor.accept().await;
            (acceptor, accepted)
        };
        cx.drive(accepting, |accepted| match accepted {
            Ok((acceptor, accepted)) => ServerEvent::Accepted(acceptor, accepted),
            Err(_) => ServerEvent::Stop,
        });
    }

    fn accepted(&mut self, accepted: Accepted, cx: &mut ShellCx<'_, Self>) {
        self.handshakes += 1;
        let (rpc, timeout) = (self.rpc.clone(), self.rpc.config().connect_timeout);
        let greeting = async move {
            let greeted = tokio::time::timeout(timeout, greet(rpc, accepted)).await;
            greeted.unwrap_or_else(|_| Err(CloseReason::Silent(timeout)))
        };
        cx.drive(greeting, |greeted| {
            let failed = |panicked: hurtig_kit::Panicked| Err(CloseReason::Io(panicked.message));
            ServerEvent::Greeted(greeted.unwrap_or_else(failed).map(Box::new))
        });
    }

    /// Gives a connection to its link.
    fn attach(&self, greeted: Greeted) {
        let Greeted {
            hello,
            from,
            established,
        } = greeted;
        let established = Box::new(established);
        self.rpc.with_accepted(|links| match links.get(&hello.link) {
            Some(Peer(Way::Remote(link))) => {
                // A link that is just ending, or too busy: the peer will dial again, and learn it.
                let _ = link.mailbox.tell(LinkEvent::Attach(established));
            }
            _ => {
                let (config, env) = (self.rpc.config(), &self.rpc.0.setup.env);
                let shared = Arc::new(Shared::new(from, config, env.clock.clone()));
                let setup = LinkSetup {
                    id: hello.link,
                    rpc: self.rpc.clone(),
                    shared: shared.clone(),
                    accepted: Some(established),
                };
                let (mailbox, _) = Shell::start(Link::new(setup), env.clone());
                links.insert(hello.link, Peer::remote(mailbox, shared));
            }
        });
    }
}

/// Hears who is there, and welcomes or rejects it.
async fn greet(rpc: Rpc, accepted: Accepted) -> Result<Greeted, CloseReason> {
    let failed = |error: io::Error| CloseReason::Tls(error.to_string());
    let mut decoder = FrameDecoder::new();
    let greeting = async {
        let mut stream = accepted.stream.await.map_err(failed)?;
        let hello = handshake::greet(&mut stream, &mut decoder).await?;
        Ok((stream, hello))
    };
    let (mut stream, hello) = match greeting.await {
        Err(CloseReason::Tls(why)) => {
            tracing::warn!(from = accepted.from, why, "a connection was refused");
            return Err(CloseReason::Tls(why));
        }
        greeted => greeted?,
    };
    let (us, versions) = (rpc.identity(), rpc.config().versions);
    let judged =
        handshake::judge(&hello, us, versions).and_then(|version| admit(&rpc, &hello).map(|()| version));
    let version = match judged {
        Ok(version) => version,
        Err(reject) => {
            handshake::write(&mut stream, Kind::Reject, &reject).await?;
            tracing::warn!(
                from = accepted.from,
                peer = hello.name,
                reason = reject.text,
                "a connection was rejected"
            );
            return Err(CloseReason::Ours);
        }
    };
    let welcome = Welcome {
        version,
        incarnation: us.incarnation,
        name: us.name.clone(),
        max_message: u32::try_from(rpc.config().max_message).unwrap_or(u32::MAX),
    };
    handshake::write(&mut stream, Kind::Welcome, &welcome).await?;
    Ok(Greeted {
        established: Established {
            stream,
            decoder,
            version,
            incarnation: hello.incarnation,
            name: hello.name.clone(),
            max_message: hello.max_message,
        },
        from: accepted.from,
        hello,
    })
}

/// Whether there is room for a link, or it is here already.
fn admit(rpc: &Rpc, hello: &Hello) -> Result<(), Reject> {
    let reject = |reason, text: String| {
        let versions = rpc.config().versions;
        let (min, max) = (versions.min, versions.max);
        Err(Reject {
            reason,
            min,
            max,
            text,
        })
    };
    let name = &rpc.identity().name;
    #[cfg(feature = "protocol_next")]
    if !hello.resume && rpc.0.draining.load(std::sync::atomic::Ordering::Acquire) {
        // Version 1 has no word for it.
        let knows = hello.max >= crate::version::NEXT;
        let reason = if knows { Reason::Draining } else { Reason::Busy };
        return reject(reason, format!("{name} is about to leave"));
    }
    rpc.with_accepted(|links| match links.get(&hello.link).map(Peer::state) {
        Some(state) if state.incarnation.is_none_or(|known| known == hello.incarnation) => Ok(()),
        Some(_) => reject(
            Reason::Forgotten,
            format!("{name}: the link belongs to another process"),
        ),
        None if hello.resume => reject(Reason::Forgotten, format!("{name} does not know this link")),
        None if links.len() >= rpc.config().max_connections => reject(
            Reason::Busy,
            format!("{name} has no room (`rpc.max-connections`)"),
        ),
        None => Ok(()),
    })
}

impl Component for Server {
    type Event = ServerEvent;

    fn name(&self) -> String {
        format!("rpc server of {}", self.rpc.identity().name)
    }

    fn capacity(&self) -> usize {
        16
    }

    fn started(&mut self, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        self.accept(cx);
        Ok(())
    }

    fn handle(&mut self, event: ServerEvent, cx: &mut ShellCx<'_, Self>) -> Result<(), ExitReason> {
        match event {
            ServerEvent::Accepted(acceptor, Ok(accepted)) => {
                self.acceptor = Some(acceptor);
                self.accepted(accepted, cx);
            }
            ServerEvent::Accepted(acceptor, Err(error)) => {
                tracing::warn!(%error, "cannot accept connections at the moment");
                cx.after(PAUSE, ServerEvent::Accept(acceptor));
            }
            ServerEvent::Accept(acceptor) => self.acceptor = Some(acceptor),
            ServerEvent::Greeted(greeted) => {
                self.handshakes -= 1;
                match greeted {
                    Ok(greeted) => self.attach(*greeted),
                    Err(reason) => tracing::debug!(%reason, "a connection has not become one"),
                }
            }
            ServerEvent::Stop => return Err(ExitReason::Done),
        }
        self.accept(cx);
        Ok(())
    }
}
