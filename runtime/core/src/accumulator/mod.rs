//! Accumulators: results that a job's tasks gather beside their streams.
//!
//! Every subtask adds to accumulators of its own. Their states travel as a [`Snapshot`], with
//! heartbeats while the job runs and once more when it ends, and are merged by name into the job's
//! result. Unlike metrics they are exact at the end of a job, and any type with an [`Accumulator`]
//! implementation can be one.
//!
//! After a restart tasks begin with empty accumulators, so values count what was processed since
//! then, records that were replayed included.

mod builtin;
mod set;
mod types;

pub use builtin::{
    DoubleCounter, DoubleMaximum, DoubleMinimum, Histogram, LongCounter, LongMaximum, LongMinimum,
};
pub use set::{AccumulatorError, Accumulators};
pub use types::{AccumulatorTypes, Snapshot, SnapshotEntry};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that tasks add to and that is merged across subtasks.
///
/// Merging must not depend on order: `a` merged with `b` equals `b` merged with `a`, and the default
/// value changes nothing when it is merged.
///
/// ```
/// use hurtig_core::accumulator::{Accumulator, Accumulators};
/// use serde::{Deserialize, Serialize};
///
/// /// The longest word seen.
/// #[derive(Default, Serialize, Deserialize)]
/// struct Longest(String);
///
/// impl Accumulator for Longest {
///     const TYPE: &'static str = "Longest";
///     type Input = String;
///     type Output = String;
///
///     fn add(&mut self, word: String) {
///         self.merge(Self(word));
///     }
///
///     fn merge(&mut self, other: Self) {
///         if (other.0.len(), &other.0) > (self.0.len(), &self.0) {
///             *self = other;
///         }
///     }
///
///     fn value(&self) -> String {
///         self.0.clone()
///     }
/// }
///
/// let mut accumulators = Accumulators::new();
/// accumulators.add::<Longest>("longest", "stream".to_owned())?;
/// accumulators.add::<Longest>("longest", "word".to_owned())?;
/// assert_eq!(accumulators.value::<Longest>("longest")?.as_deref(), Some("stream"));
/// # Ok::<(), hurtig_core::accumulator::AccumulatorError>(())
/// ```
pub trait Accumulator: Default + Serialize + DeserializeOwned + Send + 'static {
    /// The type's name, by which its states are recognised in another process. It is shown to users
    /// and must be unique within a job.
    const TYPE: &'static str;
    /// What is added.
    type Input;
    /// What it amounts to.
    type Output: Serialize;

    /// Adds one value.
    fn add(&mut self, value: Self::Input);

    /// Adds everything that was added to `other`.
    fn merge(&mut self, other: Self);

    /// What it amounts to now.
    fn value(&self) -> Self::Output;
}
