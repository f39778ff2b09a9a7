//! A cluster of processes, as a user runs it: `hurtig cluster start`, `hurtig run`, and kill -9 of whatever there is.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]
#![allow(clippy::print_stdout, reason = "figures are for people")]

mod attached;
mod commands;
mod contract;
mod document;
#[path = "../../../../actors/ha/tests/conformance/etcd_process.rs"]
#[allow(
    dead_code,
    reason = "not every test that needs an etcd does everything with it"
)]
mod etcd_process;
mod ha;
mod intents;
mod isolation;
mod jobs;
mod kills;
mod kit;
mod metrics;
mod mistakes;
mod refusals;
mod savepoints;
mod security;
mod several;
mod tls;
