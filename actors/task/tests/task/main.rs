//! Tasks as their TaskManager sees them.
#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

mod checkpoints;
mod moving;
mod running;
mod world;
