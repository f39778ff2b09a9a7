//! The rules of the house, as checks.
//!
//! Each module holds one rule as a pure function from a [`Tree`] (paths and texts, in memory) to a
//! list of findings, with unit tests that show the rule failing on a small sample. `tests/house.rs`
//! applies all of them to the workspace. This crate knows no other crate of the workspace: it reads
//! them as text.

pub mod book;
pub mod functions;
pub mod generated;
pub mod layers;
pub mod links;
pub mod planted;
pub mod proofs;
pub mod sources;
pub mod status;
mod tree;

pub use tree::Tree;

/// What a check found, one sentence each, naming file and line; empty if the rule holds.
pub type Findings = Vec<String>;
