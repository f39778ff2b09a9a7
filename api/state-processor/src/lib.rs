//! Savepoints as data: read, written and changed without a job.
//!
//! [`Savepoint`] opens a savepoint or a retained checkpoint and reads its states with their types; [`SavepointWriter`] makes
//! savepoints that jobs begin with, new ones or of others. Everything blocks its caller. What is written is restored at any
//! parallelism and with any state backend; what is read is exactly of the type that was named, or an error. This crate
//! refuses to know jobs and backends.
//!
//! | Room | Holds |
//! |---|---|
//! | `savepoint` | [`Savepoint`], its [operators](OperatorInfo) and the [kinds](StateKind) of their states |
//! | `keyed` | [`KeyedStates`]: a keyed state, iterated over |
//! | `source` | [`KeyedStates`] as a bounded source |
//! | `operator` | lists, union lists and broadcast maps |
//! | `builder` | [`OperatorBuilder`]: the states of an operator, to be written |
//! | `writer` | [`SavepointWriter`]: a new savepoint |

mod builder;
mod entry;
mod error;
mod keyed;
mod operator;
mod savepoint;
mod source;
mod writer;

pub use builder::{IntoEntry, OperatorBuilder};
pub use error::{Result, StatePlace, StateProcessorError};
pub use hurtig_storage::BlobStores;
pub use keyed::{KeyedStates, KeyedStatesIter};
pub use savepoint::{OperatorInfo, Savepoint, StateKind};
pub use writer::SavepointWriter;

/// The page of the book, so that `cargo test --doc` compiles and runs its programs.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../../docs/how-to/savepoint-data.md")]
    mod savepoint_data {}
}
