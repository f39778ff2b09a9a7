//! Ready-made aggregate functions.

use hurtig_state::{AggregateFunction, StateValue};
use std::marker::PhantomData;
use std::ops::AddAssign;

/// How many elements there are.
pub struct Count<T>(PhantomData<fn(T)>);

impl<T> Count<T> {
    /// Counts elements.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Count<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> std::fmt::Debug for Count<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Count")
    }
}

impl<T: 'static> AggregateFunction for Count<T> {
    type In = T;
    type Acc = u64;
    type Out = u64;

    const SHAREABLE: bool = true;

    fn create(&self) -> u64 {
        0
    }

    fn add(&self, count: &mut u64, _: T) {
        *count += 1;
    }

    fn result(&self, count: &u64) -> u64 {
        *count
    }

    fn merge(&self, count: &mut u64, other: u64) {
        *count += other;
    }
}

/// The sum of a field. Not shared between overlapping windows, since sums of floating-point numbers
/// depend on their order.
pub struct Sum<T, N, F> {
    field: F,
    types: PhantomData<fn(T) -> N>,
}

impl<T, N, F: Fn(&T) -> N> Sum<T, N, F> {
    /// Sums what `field` returns.
    pub fn of(field: F) -> Self {
        Self {
            field,
            types: PhantomData,
        }
    }
}

impl<T, N, F> std::fmt::Debug for Sum<T, N, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sum")
    }
}

impl<T, N, F> AggregateFunction for Sum<T, N, F>
where
    T: 'static,
    N: StateValue + Default + AddAssign,
    F: Fn(&T) -> N + Send + Sync + 'static,
{
    type In = T;
    type Acc = N;
    type Out = N;

    fn create(&self) -> N {
        N::default()
    }

    fn add(&self, sum: &mut N, element: T) {
        *sum += (self.field)(&element);
    }

    fn result(&self, sum: &N) -> N {
        sum.clone()
    }

    fn merge(&self, sum: &mut N, other: N) {
        *sum += other;
    }
}

/// The mean of a field, as `f64`.
pub struct Average<T, F> {
    field: F,
    types: PhantomData<fn(T)>,
}

impl<T, F: Fn(&T) -> f64> Average<T, F> {
    /// Averages what `field` returns.
    pub fn of(field: F) -> Self {
        Self {
            field,
            types: PhantomData,
        }
    }
}

impl<T, F> std::fmt::Debug for Average<T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Average")
    }
}

impl<T, F> AggregateFunction for Average<T, F>
where
    T: 'static,
    F: Fn(&T) -> f64 + Send + Sync + 'static,
{
    type In = T;
    type Acc = (f64, u64);
    type Out = f64;

    fn create(&self) -> (f64, u64) {
        (0.0, 0)
    }

    fn add(&self, (sum, count): &mut (f64, u64), element: T) {
        *sum += (self.field)(&element);
        *count += 1;
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a mean over 2^53 elements may lose its last bit"
    )]
    fn result(&self, (sum, count): &(f64, u64)) -> f64 {
        sum / *count as f64
    }

    fn merge(&self, (sum, count): &mut (f64, u64), (other_sum, other_count): (f64, u64)) {
        *sum += other_sum;
        *count += other_count;
    }
}
