//! A network in memory, whose connections can be cut, silenced and refused.

use crate::support::{Process, TokioClock, env};
use hurtig_rpc::{
    Accepted, Acceptor, Dialer, Fences, Identity, Peer, RpcConfig, RpcSetup, Stream, StreamFuture,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::{mpsc, watch};

/// Bytes that a connection holds on their way.
const ON_THE_WAY: usize = 32 << 10;

/// What the connections of a network do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fine,
    /// Everything that is there ends, and new connections are made.
    Cut(u64),
    /// Nothing arrives, and nothing says so.
    Silent,
}

struct State {
    listeners: Mutex<BTreeMap<String, mpsc::Sender<Stream>>>,
    weather: watch::Sender<Weather>,
    dialled: Mutex<usize>,
}

/// A network; clones are the same.
#[derive(Clone)]
pub(crate) struct Network(Arc<State>);

impl Network {
    pub(crate) fn new() -> Self {
        Self(Arc::new(State {
            listeners: Mutex::default(),
            weather: watch::Sender::new(Weather::Fine),
            dialled: Mutex::default(),
        }))
    }

    pub(crate) fn listener(&self, address: &str) -> MemoryAcceptor {
        let (sender, incoming) = mpsc::channel(64);
        self.0
            .listeners
            .lock()
            .unwrap()
            .insert(address.to_owned(), sender);
        MemoryAcceptor(incoming)
    }

    /// Nobody listens there any more.
    pub(crate) fn refuse(&self, address: &str) {
        self.0.listeners.lock().unwrap().remove(address);
    }

    /// Ends every connection.
    pub(crate) fn cut(&self) {
        self.0.weather.send_modify(|weather| {
            *weather = match weather {
                Weather::Cut(count) => Weather::Cut(*count + 1),
                _ => Weather::Cut(1),
            };
        });
    }

    pub(crate) fn silence(&self) {
        self.0.weather.send_replace(Weather::Silent);
    }

    /// Connections that were tried.
    pub(crate) fn dialled(&self) -> usize {
        *self.0.dialled.lock().unwrap()
    }

    /// A process on this network.
    pub(crate) fn process(&self, name: &str, change: impl FnOnce(&mut RpcConfig)) -> Process {
        let clock = CLOCK.with(|clock| {
            clock
                .borrow_mut()
                .get_or_insert_with(|| Arc::new(TokioClock(tokio::time::Instant::now())))
                .clone()
        });
        let mut setup = RpcSetup {
            dialer: Arc::new(self.clone()),
            ..RpcSetup::tcp(Identity::new(name, None), env(clock))
        };
        change(&mut setup.config);
        Process::new(setup, Fences::open(), 1_000)
    }

    /// Two processes, of which the second has dialled the first.
    pub(crate) fn pair(&self) -> (Process, Process, Peer) {
        let (manager, worker) = (self.process("manager", |_| {}), self.process("worker", |_| {}));
        manager.rpc.serve(self.listener("manager"));
        let peer = worker.rpc.connect("manager");
        (manager, worker, peer)
    }
}

thread_local! {
    static CLOCK: RefCell<Option<Arc<TokioClock>>> = const { RefCell::new(None) };
}

impl Dialer for Network {
    fn dial<'a>(&'a self, address: &'a str) -> StreamFuture<'a> {
        *self.0.dialled.lock().unwrap() += 1;
        let listener = self.0.listeners.lock().unwrap().get(address).cloned();
        let weather = self.0.weather.subscribe();
        Box::pin(async move {
            if *weather.borrow() == Weather::Silent {
                std::future::pending::<()>().await;
            }
            let (ours, theirs) = duplex(ON_THE_WAY);
            let [ours, theirs] =
                [ours, theirs].map(|stream| Box::new(Wire::new(stream, weather.clone())) as Stream);
            let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
            listener
                .send(theirs)
                .await
                .map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(ours)
        })
    }
}

/// A listener of a [`Network`].
pub(crate) struct MemoryAcceptor(mpsc::Receiver<Stream>);

impl Acceptor for MemoryAcceptor {
    fn accept(&mut self) -> Pin<Box<dyn Future<Output = io::Result<Accepted>> + Send + '_>> {
        Box::pin(async move {
            let Some(stream) = self.0.recv().await else {
                return std::future::pending().await;
            };
            Ok(Accepted {
                from: "memory".to_owned(),
                stream: Box::pin(async move { Ok(stream) }),
            })
        })
    }
}

/// One end of a connection under the weather.
struct Wire {
    stream: DuplexStream,
    weather: watch::Receiver<Weather>,
    born: Weather,
    changed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Wire {
    fn new(stream: DuplexStream, weather: watch::Receiver<Weather>) -> Self {
        let (born, mut watch) = (*weather.borrow(), weather.clone());
        watch.mark_unchanged();
        Self {
            stream,
            weather,
            born,
            changed: Box::pin(async move {
                let _ = watch.changed().await;
            }),
        }
    }

    /// What the weather makes of reading and writing.
    fn weather(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Error>> {
        let now = *self.weather.borrow();
        if now == self.born {
            // Woken when it changes.
            let _ = self.changed.as_mut().poll(cx);
            return None;
        }
        Some(match now {
            Weather::Silent => Poll::Pending,
            _ => Poll::Ready(io::ErrorKind::ConnectionReset.into()),
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.weather(cx) {
            None => Pin::new(&mut self.stream).poll_read(cx, buffer),
            Some(poll) => poll.map(Err),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.weather(cx) {
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
            Some(poll) => poll.map(Err),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
