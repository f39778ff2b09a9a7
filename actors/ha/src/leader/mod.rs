//! Leading: who does, under which term, until when.
//!
//! [`LeaderSession`] is the brain, [`LeaderElection`] its shell. [`Leadership`] is what others hold: it says at every effect whether it may still be carried
//! out.

mod compaction;
mod election;
mod leadership;
mod session;

pub use election::{Candidate, ElectionEvent, LeaderElection, current_leader};
#[doc(hidden)]
pub use election::{campaign, confirm, grant, renew};
pub use leadership::{Leadership, Standing, Term};
pub use session::{Effect, Input, LeaderSession, Signal, Timing};
