//! Savepoints of real jobs, read; savepoints written and changed here, restored by jobs at another parallelism and with
//! either backend.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "tests: small numbers, and what cannot be prepared has failed"
)]

mod common;
mod damage;
mod model;
mod reading;
mod sources;
mod writing;
