//! The thread of the exchange, and how tasks reach it.

use crate::carrier::{Carrier, Command, Orders};
use crate::hello::{HelloError, Party, answer};
use hurtig_core::ids::{ChannelId, TaskManagerId};
use hurtig_core::time::Clock;
use hurtig_exchange::Signal;
use hurtig_exchange::remote::{Connection, Exchange, Inlet, NetworkConfig, Outlet, PeerWorker};
use hurtig_rpc::{Accepted, Acceptor, Dialer, Stream, TcpAcceptor};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc};

/// Connections that may be in the middle of their greeting at once.
const GREETINGS: usize = 64;
/// Connections of one worker that wait to take the place of an older one.
const ACCEPTED: usize = 4;

/// A listener that is still to be made, on the thread of the exchange.
pub type Bind = Pin<Box<dyn Future<Output = io::Result<(Box<dyn Acceptor>, String)>> + Send>>;

/// Listens at a TCP address in the clear; port 0: any that is free.
pub fn tcp(address: impl Into<String>) -> Bind {
    let address = address.into();
    Box::pin(async move {
        let acceptor = TcpAcceptor::bind(&address).await?;
        let bound = acceptor.local_addr()?.to_string();
        Ok((Box::new(acceptor) as Box<dyn Acceptor>, bound))
    })
}

/// What the exchange of a worker is made of.
pub struct NetworkSetup {
    /// The worker.
    pub own: Party,
    /// Where it listens.
    pub bind: Bind,
    /// How it reaches others.
    pub dialer: Arc<dyn Dialer>,
    /// Its bounds.
    pub config: NetworkConfig,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
}

/// Why there is no exchange.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen.
    #[error("the exchange cannot listen for other workers")]
    Bind(#[source] io::Error),
    /// It has no thread.
    #[error("the thread of the exchange cannot be started")]
    Thread(#[source] io::Error),
}

/// One connection, from outside.
#[derive(Clone)]
struct Line {
    orders: Arc<Orders>,
    accepted: mpsc::Sender<Stream>,
}

/// Carriers that are to run: no more than there are workers.
struct Begun {
    /// `None`: the network was dropped.
    carriers: Mutex<Option<Vec<Carrier>>>,
    changed: Notify,
}

impl Begun {
    fn new() -> Self {
        Self {
            carriers: Mutex::new(Some(Vec::new())),
            changed: Notify::new(),
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Option<Vec<Carrier>>) -> R) -> R {
        act(&mut self.carriers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, carrier: Carrier) {
        self.with(|carriers| carriers.as_mut().map(|carriers| carriers.push(carrier)));
        self.changed.notify_one();
    }

    fn close(&self) {
        drop(self.with(Option::take));
        self.changed.notify_one();
    }

    /// Those that are new; `None`: there will be no more.
    fn take(&self) -> Option<Vec<Carrier>> {
        self.with(|carriers| carriers.as_mut().map(std::mem::take))
    }
}

/// The connections to other workers, each begun by whoever needs it first: a task here, or that worker.
struct Lines {
    own: Party,
    config: NetworkConfig,
    dialer: Arc<dyn Dialer>,
    clock: Arc<dyn Clock>,
    begun: Arc<Begun>,
    known: Mutex<HashMap<TaskManagerId, Line>>,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskManagerId, Line>> {
        // Nothing in here runs foreign code, so a panic cannot have left it half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the line to a worker before anybody may take it for one that nobody needs.
    fn with<R>(&self, peer: &PeerWorker, act: impl FnOnce(&Line) -> R) -> R {
        let mut known = self.lock();
        if !known.contains_key(&peer.worker) {
            // A job may lose many workers in its life.
            let now = self.clock.now();
            known.retain(|_, line| !line.orders.close_if_idle(now));
        }
        let line = known.entry(peer.worker).or_insert_with(|| self.begin(peer));
        act(line)
    }

    /// Of two workers the one with the smaller id dials.
    fn begin(&self, peer: &PeerWorker) -> Line {
        let orders = Arc::new(Orders::new());
        let (accepted, from_listener) = mpsc::channel(ACCEPTED);
        let carrier = Carrier {
            own: self.own,
            peer: peer.clone(),
            config: self.config,
            clock: self.clock.clone(),
            dialer: (self.own.worker < peer.worker.0).then(|| self.dialer.clone()),
            orders: orders.clone(),
            accepted: from_listener,
            replacing: None,
            connection: Connection::new(self.config.connection),
            failed: false,
        };
        self.begun.add(carrier);
        Line { orders, accepted }
    }
}

/// The exchange of a worker. Clones are the same; it ends with the last.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    address: String,
    lines: Arc<Lines>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Network({} at {})", self.0.lines.own.worker, self.0.address)
    }
}

impl Network {
    /// Listens, on a thread of its own.
    ///
    /// # Errors
    /// When it cannot listen, or there is no thread.
    pub fn start(setup: NetworkSetup) -> Result<Self, StartError> {
        let begun = Arc::new(Begun::new());
        let lines = Arc::new(Lines {
            own: setup.own,
            config: setup.config,
            dialer: setup.dialer,
            clock: setup.clock,
            begun: begun.clone(),
            known: Mutex::default(),
        });
        let listener = Listener {
            own: setup.own,
            lines: Arc::downgrade(&lines),
        };
        let bind = setup.bind;
        let (tell, told) = sync_channel(1);
        // All that waits is on the thread, so that this can be called wherever a runtime runs already.
        let thread = std::thread::Builder::new()
            .name("hurtig-exchange".to_owned())
            .spawn(move || run(bind, listener, begun, &tell))
            .map_err(StartError::Thread)?;
        let gone = || StartError::Thread(io::Error::other("it has ended at once"));
        let address = told.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(Self(Arc::new(Inner {
            address,
            lines,
            thread: Some(thread),
        })))
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    fn tell(&self, peer: &PeerWorker, command: Command) {
        self.0.lines.with(peer, |line| line.orders.give(command));
    }
}

impl Exchange for Network {
    fn signal(&self, peer: &PeerWorker) -> Signal {
        self.0.lines.with(peer, |line| {
            line.orders.expect();
            line.orders.signal.clone()
        })
    }

    fn produce(&self, peer: &PeerWorker, id: ChannelId, outlet: Outlet) {
        self.tell(peer, Command::Produce(id, outlet));
    }

    fn consume(&self, peer: &PeerWorker, id: ChannelId, inlet: Inlet) {
        self.tell(peer, Command::Consume(id, inlet));
    }

    fn forget(&self, generation: u32) {
        for line in self.0.lines.lock().values() {
            line.orders.give(Command::Forget(generation));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for line in std::mem::take(&mut *self.lines.lock()).into_values() {
            line.orders.close();
        }
        self.lines.begun.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the exchange has panicked");
        }
    }
}

/// Lets other workers in.
#[derive(Clone)]
struct Listener {
    own: Party,
    lines: Weak<Lines>,
}

/// The thread of the exchange; tells where it listens.
fn run(bind: Bind, listener: Listener, begun: Arc<Begun>, tell: &SyncSender<Result<String, StartError>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let bound = runtime.map_err(StartError::Thread).and_then(|runtime| {
        let bound = runtime.block_on(bind).map_err(StartError::Bind);
        bound.map(|(acceptor, address)| (runtime, acceptor, address))
    });
    // Whoever starts it waits for this.
    match bound {
        Err(error) => drop(tell.send(Err(error))),
        Ok((runtime, acceptor, address)) => {
            drop(tell.send(Ok(address)));
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, serve(acceptor, listener, begun));
        }
    }
}

/// Runs carriers and greetings until the network is dropped.
async fn serve(mut acceptor: Box<dyn Acceptor>, listener: Listener, begun: Arc<Begun>) {
    let greetings = Arc::new(Semaphore::new(GREETINGS));
    loop {
        tokio::select! {
            () = begun.changed.notified() => match begun.take() {
                Some(carriers) => {
                    for carrier in carriers {
                        drop(tokio::task::spawn_local(carrier.run()));
                    }
                }
                None => return,
            },
            accepted = acceptor.accept() => match accepted {
                Ok(accepted) => listener.clone().welcome(accepted, &greetings),
                Err(error) => {
                    // Most likely there are too many open files: others will be closed.
                    tracing::warn!(%error, "a connection of the exchange cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}

impl Listener {
    fn welcome(self, accepted: Accepted, greetings: &Arc<Semaphore>) {
        let Ok(permit) = greetings.clone().try_acquire_owned() else {
            tracing::warn!(
                from = accepted.from,
                "too many connections of the exchange begin at once; this one is closed"
            );
            return;
        };
        drop(tokio::task::spawn_local(async move {
            let from = accepted.from.clone();
            if let Err(error) = self.greet(accepted).await {
                tracing::warn!(from, %error, "a connection of the exchange is refused");
            }
            drop(permit);
        }));
    }

    async fn greet(self, accepted: Accepted) -> Result<(), HelloError> {
        let late = tokio::time::timeout(Duration::from_secs(3), accepted.stream).await;
        let mut stream = late.map_err(|_| HelloError::Late)??;
        let worker = answer(&mut stream, self.own).await?;
        let Some(lines) = self.lines.upgrade() else {
            return Ok(());
        };
        // Its tasks may be there sooner than those here that they speak to.
        let peer = PeerWorker {
            worker: TaskManagerId(worker),
            address: accepted.from,
        };
        // Where several wait already, this one is closed, and made again.
        let _ = lines.with(&peer, |line| line.accepted.try_send(stream));
        Ok(())
    }
}
