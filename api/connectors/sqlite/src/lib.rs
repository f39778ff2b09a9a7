//! Tables of SQLite databases as sinks.
//!
//! [`SqliteSink`] writes each record as a row, exactly once in a job that takes checkpoints. SQLite has no prepared
//! transactions, so rows are staged in a table of the same database, and moved into their table when the checkpoint has
//! completed: in one transaction with the note that they were, so that a repeated commit changes nothing. This crate
//! promises that rows of a checkpoint appear together for each subtask, at whatever parallelism the job goes on.
//! It does not read tables.

mod cell;
mod database;
mod sink;
mod writer;

#[cfg(test)]
mod tests;

pub use cell::Cell;
pub use sink::{OnConflict, SqliteSink};
