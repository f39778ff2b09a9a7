//! What others may see of an actor, also after it has died.

use crate::exit::ExitReason;
use hurtig_core::time::{Clock, Time};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What an actor is doing.
#[derive(Clone, Debug)]
pub enum ActorState {
    /// Waits for messages.
    Waiting,
    /// Has been in one handler for so long.
    Busy(Duration),
    /// Has ended.
    Ended(ExitReason),
}

/// Counts an actor's progress. Progress, not existence, is what a heartbeat reports: an actor that
/// handles nothing although it is busy hangs.
#[derive(Debug)]
pub struct Probe {
    name: String,
    handled: AtomicU64,
    /// When the handler that runs was entered, in nanoseconds plus one; zero: none runs.
    entered: AtomicU64,
    exit: Mutex<Option<ExitReason>>,
}

impl Probe {
    pub(crate) fn new(name: String) -> Self {
        let (handled, entered) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            name,
            handled,
            entered,
            exit: Mutex::default(),
        }
    }

    /// The actor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Messages handled since it started.
    pub fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// What it is doing.
    pub fn state(&self, clock: &dyn Clock) -> ActorState {
        if let Some(reason) = self.exit.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return ActorState::Ended(reason);
        }
        match self.entered.load(Ordering::Relaxed).checked_sub(1) {
            None => ActorState::Waiting,
            Some(nanos) => ActorState::Busy(clock.now().since(Time::from_nanos(nanos))),
        }
    }

    pub(crate) fn enter(&self, now: Time) {
        self.entered
            .store(now.as_nanos().saturating_add(1), Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.handled.fetch_add(1, Ordering::Relaxed);
        self.entered.store(0, Ordering::Relaxed);
    }

    /// Keeps the first reason, and says whether this was it.
    pub(crate) fn end(&self, reason: ExitReason) -> bool {
        let mut exit = self.exit.lock().unwrap_or_else(PoisonError::into_inner);
        let first = exit.is_none();
        exit.get_or_insert(reason);
        first
    }
}
