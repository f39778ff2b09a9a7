//! Leading: who does, under which term, until when.
//!
//! [`LeaderSession`] is the brain. [`Leadership`] is what others hold: it says at every effect whether it may still be carried
//! out.

mod leadership;
mod session;

pub use leadership::{Leadership, Standing, Term};
pub use session::{Effect, Input, LeaderSession, Signal, Timing};
