//! The embedded cluster with real actors, threads and timers, and tasks that do as they are told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod gateways;
mod jobs;
mod trouble;
mod world;
