//! How a channel wakes the task on its other side.

use atomic_waker::AtomicWaker;
use hurtig_core::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

#[derive(Debug, Default)]
struct Shared {
    waker: AtomicWaker,
    announced: AtomicBool,
    overdrawing: AtomicBool,
    has_failed: AtomicBool,
    failure: Mutex<Option<Error>>,
}

/// One task's bell. All channels of a task share it.
///
/// The task registers its waker only when it is about to sleep, and then looks once more at its
/// channels; a running task is never rung for, so a busy exchange makes no system call a batch.
#[derive(Clone, Debug, Default)]
pub struct Signal {
    shared: Arc<Shared>,
}

impl Signal {
    /// A bell that nobody listens to yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to be woken by the next [`Signal::ring`]. Look for work again afterwards.
    pub fn listen(&self, waker: &Waker) {
        self.shared.waker.register(waker);
    }

    /// Wakes the task if it listens.
    pub fn ring(&self) {
        self.shared.waker.wake();
    }

    /// Says that a barrier was announced to the task, and wakes it.
    pub(crate) fn announce(&self) {
        self.shared.announced.store(true, Ordering::Release);
        self.ring();
    }

    /// Whether a barrier was announced to the task since the last call.
    #[inline]
    pub fn take_announced(&self) -> bool {
        // Almost always nothing was: a plain read then.
        self.shared.announced.load(Ordering::Relaxed) && self.shared.announced.swap(false, Ordering::Acquire)
    }

    /// Says that a channel of the task has failed, and wakes it. The first failure counts.
    pub fn fail(&self, error: Error) {
        let mut failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        drop(failure);
        self.shared.has_failed.store(true, Ordering::Release);
        self.ring();
    }

    /// Why a channel of the task has failed, since the last call.
    #[inline]
    pub fn take_failure(&self) -> Option<Error> {
        // Almost always none has: a plain read then.
        if !self.shared.has_failed.load(Ordering::Relaxed)
            || !self.shared.has_failed.swap(false, Ordering::Acquire)
        {
            return None;
        }
        let mut failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }

    /// Whether the channels that the task fills may take more than their bounds: a barrier that may overtake
    /// is on its way out of the task.
    pub fn overdraw(&self, may: bool) {
        self.shared.overdrawing.store(may, Ordering::Relaxed);
    }

    pub(crate) fn may_overdraw(&self) -> bool {
        self.shared.overdrawing.load(Ordering::Relaxed)
    }
}
