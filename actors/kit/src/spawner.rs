//! Where actors get their threads from.

use actix::{Arbiter, ArbiterHandle};
use std::fmt;

/// A thread with a local set on which actors can be started.
pub struct HostThread {
    handle: ArbiterHandle,
    owned: bool,
}

impl HostThread {
    /// For `Actor::start_in_arbiter`.
    pub fn handle(&self) -> &ArbiterHandle {
        &self.handle
    }

    /// Ends the thread once what runs has returned; nothing happens when it is not our own.
    pub fn stop(&self) {
        if self.owned {
            self.handle.stop();
        }
    }
}

impl fmt::Debug for HostThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostThread")
            .field("owned", &self.owned)
            .finish_non_exhaustive()
    }
}

/// Gives out threads: real ones in a worker, the current one in tests.
pub trait Spawner: 'static {
    /// A thread on which actors can be started.
    fn thread(&self) -> HostThread;
}

/// Every thread is a new arbiter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Threads;

impl Spawner for Threads {
    fn thread(&self) -> HostThread {
        HostThread {
            handle: Arbiter::new().handle(),
            owned: true,
        }
    }
}

/// Every thread is the one that asks: one thread runs everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct CurrentThread;

impl Spawner for CurrentThread {
    fn thread(&self) -> HostThread {
        HostThread {
            handle: Arbiter::current(),
            owned: false,
        }
    }
}
