//! The accumulators that need no code of the user's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Accumulator;

/// A sum of whole numbers; it stays at the greatest or least `i64` when it would pass it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LongCounter(i64);

impl Accumulator for LongCounter {
    const TYPE: &'static str = "LongCounter";
    type Input = i64;
    type Output = i64;

    fn add(&mut self, value: i64) {
        self.0 = self.0.saturating_add(value);
    }

    fn merge(&mut self, other: Self) {
        self.add(other.0);
    }

    fn value(&self) -> i64 {
        self.0
    }
}

/// A sum of floating-point numbers. Its last digits depend on the order of additions.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DoubleCounter(f64);

impl Accumulator for DoubleCounter {
    const TYPE: &'static str = "DoubleCounter";
    type Input = f64;
    type Output = f64;

    fn add(&mut self, value: f64) {
        self.0 += value;
    }

    fn merge(&mut self, other: Self) {
        self.add(other.0);
    }

    fn value(&self) -> f64 {
        self.0
    }
}

macro_rules! extremes {
    ($($(#[$about:meta])* $name:ident($number:ty, $better:ident);)*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
        pub struct $name(Option<$number>);

        impl Accumulator for $name {
            const TYPE: &'static str = stringify!($name);
            type Input = $number;
            type Output = Option<$number>;

            fn add(&mut self, value: $number) {
                self.0 = Some(self.0.map_or(value, |best| best.$better(value)));
            }

            fn merge(&mut self, other: Self) {
                if let Some(value) = other.0 {
                    self.add(value);
                }
            }

            fn value(&self) -> Option<$number> {
                self.0
            }
        }
    )*};
}

extremes! {
    /// The least of whole numbers; `None` before the first.
    LongMinimum(i64, min);
    /// The greatest of whole numbers; `None` before the first.
    LongMaximum(i64, max);
    /// The least of floating-point numbers, NaN ignored; `None` before the first.
    DoubleMinimum(f64, min);
    /// The greatest of floating-point numbers, NaN ignored; `None` before the first.
    DoubleMaximum(f64, max);
}

/// How often each whole number was added. It grows with the number of different ones: for
/// distributions of many values use the [histogram of metrics](crate::metrics::Histogram).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Histogram(BTreeMap<i64, u64>);

impl Accumulator for Histogram {
    const TYPE: &'static str = "Histogram";
    type Input = i64;
    type Output = BTreeMap<i64, u64>;

    fn add(&mut self, value: i64) {
        *self.0.entry(value).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        for (value, count) in other.0 {
            *self.0.entry(value).or_default() += count;
        }
    }

    fn value(&self) -> BTreeMap<i64, u64> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of<A: Accumulator>(values: impl IntoIterator<Item = A::Input>) -> A {
        let mut accumulator = A::default();
        values.into_iter().for_each(|value| accumulator.add(value));
        accumulator
    }

    #[test]
    fn values() {
        assert_eq!(of::<LongCounter>([1, 2, -4]).value(), -1);
        assert_eq!(of::<LongCounter>([i64::MAX, 1]).value(), i64::MAX);
        assert_eq!(of::<DoubleCounter>([0.5, 0.25]).value(), 0.75);
        assert_eq!(of::<LongMinimum>([3, -1, 2]).value(), Some(-1));
        assert_eq!(of::<LongMaximum>([]).value(), None);
        assert_eq!(of::<DoubleMaximum>([1.5, f64::NAN]).value(), Some(1.5));
        assert_eq!(of::<DoubleMinimum>([f64::NAN, 1.5]).value(), Some(1.5));
        assert_eq!(
            of::<Histogram>([7, 8, 7]).value(),
            BTreeMap::from([(7, 2), (8, 1)])
        );
    }

    fn merges_in_any_order<A: Accumulator<Input = i64> + PartialEq + Clone + std::fmt::Debug>(
        left: &[i64],
        right: &[i64],
    ) {
        let whole: A = of(left.iter().chain(right).copied());
        let (a, b): (A, A) = (of(left.iter().copied()), of(right.iter().copied()));
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.merge(b);
        ba.merge(a);
        ab.merge(A::default());
        assert_eq!(ab, whole);
        assert_eq!(ba, whole);
    }

    proptest! {
        #[test]
        fn merging_equals_adding(
            left in proptest::collection::vec(-50..50_i64, 0..20),
            right in proptest::collection::vec(-50..50_i64, 0..20),
        ) {
            merges_in_any_order::<LongCounter>(&left, &right);
            merges_in_any_order::<LongMinimum>(&left, &right);
            merges_in_any_order::<LongMaximum>(&left, &right);
            merges_in_any_order::<Histogram>(&left, &right);
        }
    }
}
