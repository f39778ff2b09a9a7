//! Accumulators as they travel in reports; the type itself belongs to `hurtig-core`.

pub use hurtig_core::accumulators::{AccumulatorValue, AccumulatorValues, merge_accumulators};
