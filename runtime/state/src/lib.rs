//! State: what operators remember, keyed and not, and what a snapshot of it holds.
//!
//! This crate stores typed values in tables by key hash and hands out `Copy` handles to them. It
//! promises that a snapshot restored into a new instance gives the same answers, at any
//! parallelism. It refuses to know threads, time, windows and what the values mean.

pub mod snapshot;

pub use snapshot::{KeyedEntry, OperatorSection, OperatorSnapshot, Redistribution};
