//! Messages between real actors: in one process, over real sockets, and over a network in memory under paused time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod calls;
#[cfg(feature = "tls")]
mod certificates;
mod hostile;
mod links;
mod network;
mod processes;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod versions;
