//! Barriers that overtake.
#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

mod backlog;
mod cuts;
mod random;
mod rig;
