//! Threads for what may block.
//!
//! They are no part of the threads that run actors: user code that never returns holds up nobody
//! but itself, and not the end of its process either.

use std::fmt;
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// A pool of threads that grows as needed; it ends with [`BlockingPool::close`].
#[derive(Debug)]
pub struct BlockingPool {
    runtime: Runtime,
}

impl BlockingPool {
    /// A pool without threads.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn new() -> io::Result<Self> {
        // Nobody turns this runtime; only its blocking threads are used.
        let runtime = Builder::new_current_thread()
            .thread_name("hurtig-blocking")
            .build()?;
        Ok(Self { runtime })
    }

    /// The way to its threads.
    pub fn threads(&self) -> BlockingThreads {
        BlockingThreads(self.runtime.handle().clone())
    }

    /// Waits at most `patience` for work that is being done. What takes longer goes on, and nobody
    /// waits for it.
    ///
    /// # Panics
    /// When it is called from asynchronous code, which must not wait.
    pub fn close(self, patience: Duration) {
        self.runtime.shutdown_timeout(patience);
    }
}

/// The way to the threads of a [`BlockingPool`]. Work that comes after its end is not done.
#[derive(Clone)]
pub struct BlockingThreads(Handle);

impl BlockingThreads {
    /// Does work on one of the threads. Joining it fails only when the work panics or the pool is closing.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        self.0.spawn_blocking(work)
    }
}

impl fmt::Debug for BlockingThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockingThreads")
    }
}
