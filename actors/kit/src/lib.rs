//! The layer between actix and every Hurtig actor.
//!
//! actix gives mailboxes and arbiters. It does not say what a panic means (an actor dies in
//! silence), lets `do_send` exceed every capacity, and forgets why an actor ended. This crate adds
//! exactly that: a [`Shell`] that runs a [`Component`] and gives its panics and errors a meaning, a
//! bounded [`Mailbox`] that refuses instead of growing, an [`Outbox`] for what must not be lost, a
//! [`KillSwitch`] tree that keeps the first fault, and a [`Spawner`] for threads. It refuses to know
//! what any actor is for.

mod blocking;
mod exit;
mod guard;
mod kill;
mod mailbox;
mod outbox;
mod probe;
mod shell;
mod spawner;

pub use blocking::{BlockingPool, BlockingThreads};
pub use exit::{ActorFault, ExitReason};
pub use guard::{Panicked, guard, guarded};
pub use kill::KillSwitch;
pub use mailbox::{AskError, Deliver, Mailbox, Reply, TellError};
pub use outbox::Outbox;
pub use probe::{ActorState, Probe};
pub use shell::{ActorEnv, Component, Shell, ShellCx, Timer};
pub use spawner::{CurrentThread, HostThread, Spawner, Threads};
