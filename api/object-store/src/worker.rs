//! [`Worker`]: the threads that requests run on, so that callers may block wherever they are.

use std::future::Future;
use std::io;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How many threads carry requests: they encrypt and copy, and wait without a thread.
const THREADS: usize = 2;

/// Threads that carry requests. Callers block until theirs is done, on any thread: also on one that belongs to
/// another runtime.
pub struct Worker {
    /// Taken when the worker is dropped, and never before.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Worker")
    }
}

impl Worker {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("hurtig-objects")
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
        })
    }

    /// Runs a future to its end, for at most `limit`. Blocks.
    ///
    /// # Errors
    /// `TimedOut`, and a panic of the future.
    pub fn run<T, F>(&self, limit: Duration, future: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let (answer, answered) = sync_channel(1);
        runtime.spawn(async move {
            // A caller that is gone wants no answer.
            let _ = answer.send(tokio::time::timeout(limit, future).await);
        });
        let answer = answered
            .recv()
            .map_err(|_| io::Error::other("the request panicked"))?;
        answer.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}")))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Waiting for it is forbidden where futures run, and nobody waits for what is on its way.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
