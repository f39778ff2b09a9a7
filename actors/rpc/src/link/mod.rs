//! What this process has of another one: a link, which outlives its connections until the peer is dead.

mod brain;
mod live;
mod shell;
mod state;
mod traffic;

pub use state::{Connectivity, DeathReason, PeerState};

pub(crate) use shell::{Link, LinkEvent, LinkSetup};
pub(crate) use state::Shared;
