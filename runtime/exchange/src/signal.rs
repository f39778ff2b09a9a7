//! How a channel wakes the task on its other side.

use atomic_waker::AtomicWaker;
use std::sync::Arc;
use std::task::Waker;

/// One task's bell. All channels of a task share it.
///
/// The task registers its waker only when it is about to sleep, and then looks once more at its
/// channels; a running task is never rung for, so a busy exchange makes no system call a batch.
#[derive(Clone, Debug, Default)]
pub struct Signal {
    waker: Arc<AtomicWaker>,
}

impl Signal {
    /// A bell that nobody listens to yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to be woken by the next [`Signal::ring`]. Look for work again afterwards.
    pub fn listen(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Wakes the task if it listens.
    pub fn ring(&self) {
        self.waker.wake();
    }
}
