//! Data that needs no outside: sequences, collections, iterators and rate-limited generators.
//!
//! All of them are replayable: a snapshot holds positions, and a restore goes on exactly there, for
//! [`SequenceSource`] and [`GeneratorSource`] also at another parallelism. This crate knows no clock;
//! a rate is kept by telling the engine until when nothing is due.

mod collection;
mod generator;
mod iterator;
mod lanes;
mod rate;
mod sequence;

#[cfg(test)]
mod testing;

pub use collection::CollectionSource;
pub use generator::GeneratorSource;
pub use iterator::IteratorSource;
pub use sequence::SequenceSource;
