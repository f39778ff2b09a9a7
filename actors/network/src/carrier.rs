//! One connection to another worker, and what happens when it ends.

use crate::hello::{HelloError, Party, greet};
use hurtig_core::Error;
use hurtig_core::ids::ChannelId;
use hurtig_core::time::{Clock, Time};
use hurtig_exchange::Signal;
use hurtig_exchange::remote::{Connection, FrameError, Inlet, NetworkConfig, Outlet, PeerWorker};
use hurtig_rpc::{Dialer, Stream};
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// How often silence is looked for.
const TICK: Duration = Duration::from_millis(500);
/// How long a worker that is not connected and has no channels is remembered.
const IDLE: Duration = Duration::from_secs(60);

/// What tasks ask of a connection.
#[derive(Debug)]
pub(crate) enum Command {
    Produce(ChannelId, Outlet),
    Consume(ChannelId, Inlet),
    Forget(u32),
}

/// What a connection was asked and has not done yet: no more than tasks have channels.
#[derive(Debug)]
pub(crate) struct Orders {
    waiting: Mutex<Waiting>,
    /// Rings when a channel's end has changed, too.
    pub(crate) signal: Signal,
}

#[derive(Debug)]
struct Waiting {
    /// `None`: nobody carries anything any more.
    commands: Option<Vec<Command>>,
    /// Since when there has been no connection, and no channel that needs one.
    idle_since: Option<Time>,
}

impl Orders {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                commands: Some(Vec::new()),
                idle_since: None,
            }),
            signal: Signal::new(),
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Waiting) -> R) -> R {
        // Nothing in here runs foreign code, so a panic cannot have left it half changed.
        act(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A channel will follow.
    pub(crate) fn expect(&self) {
        self.with(|waiting| waiting.idle_since = None);
    }

    pub(crate) fn give(&self, command: Command) {
        let refused = self.with(|waiting| {
            if !matches!(command, Command::Forget(_)) {
                waiting.idle_since = None;
            }
            match &mut waiting.commands {
                Some(commands) => {
                    commands.push(command);
                    None
                }
                None => Some(command),
            }
        });
        // An end that is dropped counts as gone; that runs foreign code.
        drop(refused);
        self.signal.ring();
    }

    /// There will be no more.
    pub(crate) fn close(&self) {
        drop(self.with(|waiting| waiting.commands.take()));
        self.signal.ring();
    }

    /// Closes it if nobody has needed it for a while; whether that is so.
    pub(crate) fn close_if_idle(&self, now: Time) -> bool {
        let since = self.with(|waiting| waiting.idle_since);
        let idle = since.is_some_and(|since| now.since(since) >= IDLE);
        if idle {
            self.close();
        }
        idle
    }

    /// There is no connection, and until a channel comes nobody needs one.
    fn disconnected(&self, connection: &Connection, now: Time) {
        self.with(|waiting| {
            let unneeded = waiting.commands.as_ref().is_some_and(Vec::is_empty);
            let idle = connection.channels() == 0 && unneeded;
            waiting.idle_since = waiting.idle_since.or(Some(now)).filter(|_| idle);
        });
    }

    fn carry_out(&self, connection: &mut Connection) -> Result<(), Over> {
        let commands = self
            .with(|waiting| waiting.commands.as_mut().map(std::mem::take))
            .ok_or(Over)?;
        for command in commands {
            match command {
                Command::Produce(id, outlet) => connection.produce(id, outlet),
                Command::Consume(id, inlet) => connection.consume(id, inlet),
                Command::Forget(generation) => connection.forget(generation),
            }
        }
        Ok(())
    }
}

/// Why the channels to a worker have failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It cannot be reached.
    #[error("it cannot be reached")]
    Unreachable(#[source] io::Error),
    /// One of the two refused the other.
    #[error("it was not agreed upon")]
    Hello(#[source] HelloError),
    /// The socket failed.
    #[error("it broke")]
    Broken(#[source] io::Error),
    /// The other worker has closed it.
    #[error("the other worker has closed it")]
    Closed,
    /// What came is wrong.
    #[error("what came is wrong")]
    Frame(#[from] FrameError),
    /// Nothing came for too long.
    #[error("nothing has come for {0:?}")]
    Silent(Duration),
    /// The other worker has connected once more.
    #[error("the other worker has made a new one")]
    Replaced,
    /// The other worker was to connect, and did not.
    #[error("the other worker has not made one for {0:?}")]
    Awaited(Duration),
}

impl LinkError {
    /// Whether another connection may do better.
    fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Broken(_) | Self::Closed | Self::Silent(_) | Self::Replaced
        )
    }
}

/// Carries the channels to one worker.
pub(crate) struct Carrier {
    pub(crate) own: Party,
    pub(crate) peer: PeerWorker,
    pub(crate) config: NetworkConfig,
    pub(crate) clock: Arc<dyn Clock>,
    /// `None`: the other worker dials.
    pub(crate) dialer: Option<Arc<dyn Dialer>>,
    pub(crate) orders: Arc<Orders>,
    /// Connections that the other worker has made.
    pub(crate) accepted: mpsc::Receiver<Stream>,
    /// The one of them that has taken the place of the last.
    pub(crate) replacing: Option<Stream>,
    pub(crate) connection: Connection,
    /// The last connection has failed, or could not be made.
    pub(crate) failed: bool,
}

/// The network was dropped.
struct Over;

impl Carrier {
    /// Runs until the network is dropped.
    pub(crate) async fn run(mut self) {
        while let Ok(connected) = self.connect().await {
            let outcome = match connected {
                Ok(stream) => {
                    self.orders.expect();
                    self.carry(stream).await
                }
                Err(why) => Some(why),
            };
            let Some(why) = outcome else { return };
            self.fail(why);
        }
    }

    fn fail(&mut self, why: LinkError) {
        self.failed = true;
        let peer = &self.peer;
        if matches!(why, LinkError::Closed) && self.connection.channels() == 0 {
            tracing::debug!(worker = %peer.worker, "a connection of the exchange has ended, with no channel on it");
            return self.connection = Connection::new(self.config.connection);
        }
        tracing::warn!(worker = %peer.worker, address = peer.address, error = %chain(&why), "a connection of the exchange has ended");
        let text = format!("the connection to worker {} at {}", peer.worker, peer.address);
        let why = Arc::new(why);
        let worker = peer.worker;
        let failed = Connection::new(self.config.connection);
        let mut failed = std::mem::replace(&mut self.connection, failed);
        if why.may_pass() {
            // Nothing of these was sent: they need not know.
            self.connection = failed.take_unsent();
        }
        failed.fail(|| {
            Error::external(format!("{text} has failed"), SharedError(why.clone())).at_worker(worker)
        });
    }

    /// Waits until there is somebody to talk to, and something to talk about.
    async fn connect(&mut self) -> Result<Result<Stream, LinkError>, Over> {
        if let Some(stream) = self.replacing.take() {
            return Ok(Ok(stream));
        }
        self.orders.disconnected(&self.connection, self.clock.now());
        let Some(dialer) = self.dialer.clone() else {
            return self.await_connection().await;
        };
        let (orders, connection) = (&self.orders, &mut self.connection);
        obey(orders, connection, |connection| connection.channels() > 0).await?;
        if std::mem::take(&mut self.failed) {
            // A worker that lets in and closes at once is not dialled as fast as that.
            tokio::select! {
                () = sleep(self.config.redial) => {}
                over = obey(orders, connection, |_| false) => return Err(over.err().unwrap_or(Over)),
            }
        }
        tokio::select! {
            dialled = dial(&*dialer, self.own, &self.peer, self.config) => Ok(dialled),
            over = obey(orders, connection, |_| false) => Err(over.err().unwrap_or(Over)),
        }
    }

    /// Waits for the other worker to connect: for any time while there is no channel, else for as long as it may take to
    /// be told of its tasks.
    async fn await_connection(&mut self) -> Result<Result<Stream, LinkError>, Over> {
        let Self {
            orders,
            connection,
            accepted,
            ..
        } = self;
        loop {
            tokio::select! {
                stream = accepted.recv() => return stream.ok_or(Over).map(Ok),
                obeyed = obey(orders, connection, |connection| connection.channels() > 0) => obeyed?,
            }
            tokio::select! {
                stream = accepted.recv() => return stream.ok_or(Over).map(Ok),
                obeyed = obey(orders, connection, |connection| connection.channels() == 0) => obeyed?,
                () = sleep(self.config.patience) => return Ok(Err(LinkError::Awaited(self.config.patience))),
            }
            orders.disconnected(connection, self.clock.now());
        }
    }

    /// Reads and writes until the connection ends. `None`: the network was dropped.
    async fn carry(&mut self, stream: Stream) -> Option<LinkError> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut read = Vec::with_capacity(PIECE);
        let enough = self.config.write_bytes;
        let [mut out, mut next] = [(); 2].map(|()| Vec::with_capacity(2 * enough));
        let mut written = 0;
        let mut heard = self.clock.now();
        let mut tick = tokio::time::interval(TICK);
        loop {
            if self.orders.carry_out(&mut self.connection).is_err() {
                return None;
            }
            if written == out.len() {
                out.clear();
                written = 0;
                self.connection.fill(&mut out, enough, self.clock.now());
            }
            let idle = out.is_empty();
            let (orders, clock, connection) = (&self.orders, &self.clock, &mut self.connection);
            let rung = poll_fn(|cx| {
                // First asked to be woken, then looked: no ring goes unheard.
                orders.signal.listen(cx.waker());
                let over = orders.carry_out(connection).is_err();
                connection.fill(&mut next, enough, clock.now());
                if next.is_empty() && !over {
                    return Poll::Pending;
                }
                Poll::Ready(())
            });
            tokio::select! {
                got = reader.read_buf(&mut read) => {
                    match got {
                        Ok(0) => return Some(LinkError::Closed),
                        Ok(_) => heard = self.clock.now(),
                        Err(error) => return Some(LinkError::Broken(error)),
                    }
                    if let Err(error) = self.connection.receive(&read, heard) {
                        return Some(error.into());
                    }
                    read.clear();
                }
                put = writer.write(&out[written..]), if !idle => match put {
                    Ok(0) => return Some(LinkError::Closed),
                    Ok(count) => written += count,
                    Err(error) => return Some(LinkError::Broken(error)),
                },
                () = rung, if idle => std::mem::swap(&mut out, &mut next),
                replacing = self.accepted.recv() => {
                    // Whoever made it knows that this one is dead.
                    self.replacing = Some(replacing?);
                    return Some(LinkError::Replaced);
                }
                _ = tick.tick() => {
                    let silence = self.clock.now().since(heard);
                    if silence >= self.config.silence {
                        return Some(LinkError::Silent(silence));
                    }
                }
            }
        }
    }
}

/// Carries out orders until the connection is as `enough` wants it.
async fn obey(
    orders: &Orders,
    connection: &mut Connection,
    enough: impl Fn(&Connection) -> bool,
) -> Result<(), Over> {
    poll_fn(|cx| {
        orders.signal.listen(cx.waker());
        match orders.carry_out(connection) {
            Err(over) => Poll::Ready(Err(over)),
            Ok(()) if enough(connection) => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
        }
    })
    .await
}

/// Dials until there is a connection, or the time is up.
async fn dial(
    dialer: &dyn Dialer,
    own: Party,
    peer: &PeerWorker,
    config: NetworkConfig,
) -> Result<Stream, LinkError> {
    let until = Instant::now() + config.connect_timeout;
    let mut pause = config.redial;
    loop {
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        let left = until.saturating_duration_since(Instant::now());
        let dialled = timeout(left, dialer.dial(&peer.address)).await;
        match dialled.unwrap_or_else(|_| Err(late())) {
            Ok(mut stream) => {
                match greet(&mut stream, own, peer.worker.0).await {
                    Ok(()) => return Ok(stream),
                    // It may be busy, or have too many who come at once.
                    Err(HelloError::Io(_) | HelloError::Late) if Instant::now() + pause < until => {}
                    Err(error) => return Err(LinkError::Hello(error)),
                }
            }
            Err(error) if Instant::now() + pause >= until => return Err(LinkError::Unreachable(error)),
            Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(config.redial_max);
    }
}

/// One cause of several failures.
#[derive(Debug)]
struct SharedError(Arc<LinkError>);

impl std::fmt::Display for SharedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SharedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_exchange::remote::ConnectionConfig;

    #[test]
    fn a_worker_is_forgotten_when_nobody_has_needed_it_for_a_while() {
        let (orders, connection) = (Orders::new(), Connection::new(ConnectionConfig::default()));
        let at = |seconds| Time::ZERO.after(Duration::from_secs(seconds));
        assert!(!orders.close_if_idle(at(100)), "it has never been without one");
        orders.disconnected(&connection, at(100));
        assert!(!orders.close_if_idle(at(159)));
        orders.expect();
        assert!(!orders.close_if_idle(at(200)), "a channel is about to come");
        orders.disconnected(&connection, at(200));
        orders.give(Command::Forget(1));
        assert!(orders.close_if_idle(at(260)));
        assert!(
            orders
                .carry_out(&mut Connection::new(ConnectionConfig::default()))
                .is_err()
        );
    }
}
