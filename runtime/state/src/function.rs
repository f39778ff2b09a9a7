//! The functions that reducing and aggregating states, and windows over them, are made of.

use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// What a state can hold: cloned when handed out, encoded into snapshots, never shared.
///
/// Implemented for every type that meets the bounds. `Sync` is not asked for, because no other
/// thread reads live state.
pub trait StateValue: Clone + Send + Serialize + DeserializeOwned + 'static {}

impl<V: Clone + Send + Serialize + DeserializeOwned + 'static> StateValue for V {}

/// Folds a value into the one that a state holds: Flink's `ReduceFunction`, in place.
pub type ReduceFunction<V> = Arc<dyn Fn(&mut V, V) + Send + Sync>;

/// Folds inputs into an accumulator and makes a result of it.
///
/// One function serves all keys of a process's subtasks, so it is shared and never changes; what
/// changes is the accumulator.
pub trait AggregateFunction: Send + Sync + 'static {
    /// What is added.
    type In;
    /// What is kept in state.
    type Acc: StateValue;
    /// What comes out.
    type Out;

    /// Whether accumulators may be shared between overlapping windows: [`Self::merge`] is
    /// associative and commutative, bit for bit (counts, integer sums, minima, sketches; not sums
    /// of floating-point numbers).
    const SHAREABLE: bool = false;

    /// The accumulator of nothing.
    fn create(&self) -> Self::Acc;

    /// Adds an input.
    fn add(&self, acc: &mut Self::Acc, input: Self::In);

    /// The result of what was added so far.
    fn result(&self, acc: &Self::Acc) -> Self::Out;

    /// Adds everything that `other` holds.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc);
}

impl<A: AggregateFunction> AggregateFunction for Arc<A> {
    type In = A::In;
    type Acc = A::Acc;
    type Out = A::Out;

    const SHAREABLE: bool = A::SHAREABLE;

    fn create(&self) -> A::Acc {
        (**self).create()
    }

    fn add(&self, acc: &mut A::Acc, input: A::In) {
        (**self).add(acc, input);
    }

    fn result(&self, acc: &A::Acc) -> A::Out {
        (**self).result(acc)
    }

    fn merge(&self, acc: &mut A::Acc, other: A::Acc) {
        (**self).merge(acc, other);
    }
}
