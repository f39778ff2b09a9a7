//! Every operator through the public interface, at parallelism 1, 2 and 4, against models that were
//! written without looking at the engine.

#![allow(
    clippy::unwrap_used,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "tests: small numbers, and what cannot be prepared has failed"
)]

mod broadcast;
mod common;
mod connect;
mod keys;
mod partitioning;
mod running;
mod sides;
mod unions;
mod windows;
