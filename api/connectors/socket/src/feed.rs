//! The thread behind a source: it blocks so that the reader need not.
//!
//! One thread a reader, owned by it. It sends through a bounded channel and wakes the reader's task;
//! when the [`Feed`] is dropped, the thread is told to stop and, unless it reads from something that
//! cannot be interrupted, waited for.

use hurtig_core::{Error, Result};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

/// Chunks that wait for the reader; a chunk holds up to 64 KiB or one line.
const QUEUE_CHUNKS: usize = 8;

/// What the thread tells the reader.
#[derive(Debug)]
pub(crate) enum Message {
    /// Whole lines.
    Lines(Vec<u8>),
    /// A line was longer than any line may be, and dropped.
    TooLong,
    /// Nothing follows.
    End,
    /// The source cannot go on.
    Failed(Error),
}

/// What reader and thread share beside the channel.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stop: Condvar,
}

#[derive(Default)]
struct State {
    stopped: bool,
    waker: Option<Waker>,
    /// What the thread may be reading from.
    socket: Option<TcpStream>,
}

impl Shared {
    /// A thread that panicked leaves the state as usable as any other.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let waker = self.state().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The thread's end.
pub(crate) struct Feeder {
    /// There until the feeder is dropped.
    sender: Option<SyncSender<Message>>,
    shared: Arc<Shared>,
}

impl Feeder {
    /// Hands a message over, waiting while the queue is full. False: nobody wants more.
    pub(crate) fn send(&self, message: Message) -> bool {
        let sent = self
            .sender
            .as_ref()
            .is_some_and(|sender| sender.send(message).is_ok());
        self.shared.wake();
        sent
    }

    /// Waits; false when the reader has gone meanwhile.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let waited = self
            .shared
            .stop
            .wait_timeout_while(self.shared.state(), time, |state| !state.stopped);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.stopped
    }

    /// Lets the reader interrupt what is read from `socket`. False when it has gone.
    pub(crate) fn reads_from(&self, socket: Option<TcpStream>) -> bool {
        let mut state = self.shared.state();
        state.socket = socket;
        !state.stopped
    }
}

impl Drop for Feeder {
    /// Also when the thread panics: the reader must not wait for ever. First the channel is closed, so
    /// that the reader which is woken sees it.
    fn drop(&mut self) {
        self.sender = None;
        self.shared.wake();
    }
}

/// The reader's end.
pub(crate) struct Feed {
    receiver: Option<Receiver<Message>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    joins: bool,
}

impl Feed {
    /// Runs `body` on a thread. `joins`: whether a drop may wait for its end.
    pub(crate) fn start(
        name: &str,
        joins: bool,
        body: impl FnOnce(&Feeder) + Send + 'static,
    ) -> Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE_CHUNKS);
        let shared = Arc::new(Shared::default());
        let feeder = Feeder {
            sender: Some(sender),
            shared: shared.clone(),
        };
        let spawned = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || body(&feeder));
        let thread = spawned.map_err(|e| Error::external(format!("cannot start the thread of {name}"), e))?;
        Ok(Self {
            receiver: Some(receiver),
            shared,
            thread: Some(thread),
            joins,
        })
    }

    /// The next message, or `Pending` with the waker registered.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Message> {
        match self.try_next() {
            Poll::Pending => {
                self.shared.state().waker = Some(cx.waker().clone());
                // A message that came before the waker was there woke nobody.
                self.try_next()
            }
            ready => ready,
        }
    }

    fn try_next(&self) -> Poll<Message> {
        let Some(receiver) = &self.receiver else {
            return Poll::Ready(Message::End);
        };
        match receiver.try_recv() {
            Ok(message) => Poll::Ready(message),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => Poll::Ready(Message::Failed(Error::internal(
                "the reading thread ended without a word",
            ))),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // A thread that waits for room in the queue sees that the channel is closed.
        self.receiver = None;
        let mut state = self.shared.state();
        state.stopped = true;
        if let Some(socket) = state.socket.take() {
            // It may have been closed by the other side already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.stop.notify_all();
        if let Some(thread) = self.thread.take().filter(|_| self.joins) {
            // Its panic was reported as a failure when the reader asked for more.
            let _ = thread.join();
        }
    }
}
