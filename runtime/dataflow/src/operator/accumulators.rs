//! Accumulators of one operator's subtask: small results that are merged over all subtasks.

use hurtig_core::accumulators::{AccumulatorValue, AccumulatorValues};
use std::cell::RefCell;

/// Named accumulators. One name is one accumulator of the whole job.
#[derive(Debug, Default)]
pub struct Accumulators {
    values: RefCell<AccumulatorValues>,
}

impl Accumulators {
    /// Adds to a sum of integers.
    pub fn add_long(&self, name: &str, n: i64) {
        self.update(name, &AccumulatorValue::Long(n));
    }

    /// Adds to a sum of floating-point numbers.
    pub fn add_double(&self, name: &str, x: f64) {
        self.update(name, &AccumulatorValue::Double(x));
    }

    /// Counts a value in a histogram.
    pub fn add_to_histogram(&self, name: &str, value: i64) {
        self.update(name, &AccumulatorValue::Histogram([(value, 1)].into()));
    }

    /// Merges `value` in.
    ///
    /// # Panics
    /// When the accumulator of that name is of another kind: a mistake of the program.
    pub fn update(&self, name: &str, value: &AccumulatorValue) {
        let mut values = self.values.borrow_mut();
        match values.get_mut(name) {
            None => {
                values.insert(name.to_owned(), value.clone());
            }
            Some(present) => assert!(
                present.merge(value),
                "accumulator '{name}' is of another kind than {value:?}"
            ),
        }
    }

    /// The values so far.
    pub fn values(&self) -> AccumulatorValues {
        self.values.borrow().clone()
    }
}
