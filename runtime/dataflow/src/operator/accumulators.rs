//! Accumulators of one operator's subtask: small results that are merged over all subtasks.

use hurtig_core::accumulators::{Accumulator, AccumulatorValue, AccumulatorValues, kind_of};
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Largest accumulator of one subtask, encoded. Each report carries it whole, and the JobMaster keeps
/// it: what grows with the input belongs into a sink.
pub const MAX_ACCUMULATOR_BYTES: usize = 16 * 1024 * 1024;
/// Most values that a histogram of one subtask tells apart.
pub const MAX_HISTOGRAM_VALUES: usize = 1_000_000;

/// Named accumulators. One name is one accumulator of the whole job, and of one kind everywhere.
#[derive(Debug, Default)]
pub struct Accumulators {
    values: RefCell<BTreeMap<String, Local>>,
}

/// An accumulator where it is added to.
enum Local {
    Value(AccumulatorValue),
    Custom {
        kind: &'static str,
        value: Box<dyn Any + Send>,
        encode: fn(&dyn Any) -> AccumulatorValue,
    },
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

impl Local {
    fn kind(&self) -> &str {
        match self {
            Local::Value(value) => value.kind(),
            Local::Custom { kind, .. } => kind,
        }
    }

    fn encoded(&self) -> AccumulatorValue {
        match self {
            Local::Value(AccumulatorValue::Histogram(counts)) if counts.len() > MAX_HISTOGRAM_VALUES => {
                too_large(format!("{MAX_HISTOGRAM_VALUES} different values of a histogram"))
            }
            Local::Value(value) => value.clone(),
            Local::Custom { value, encode, .. } => encode(&**value),
        }
    }

    fn custom<A: Accumulator>() -> Self {
        Local::Custom {
            kind: kind_of::<A>(),
            value: Box::new(A::default()),
            encode: encode::<A>,
        }
    }
}

fn encode<A: Accumulator>(value: &dyn Any) -> AccumulatorValue {
    let kind = kind_of::<A>();
    let Some(value) = value.downcast_ref::<A>() else {
        return AccumulatorValue::Failed(format!("it is no {kind}"));
    };
    match rmp_serde::to_vec_named(value) {
        Ok(part) if part.len() > MAX_ACCUMULATOR_BYTES => {
            too_large(format!("{MAX_ACCUMULATOR_BYTES} bytes of a {kind}"))
        }
        Ok(part) => AccumulatorValue::Custom {
            kind: kind.to_owned(),
            parts: vec![part],
        },
        Err(error) => AccumulatorValue::Failed(format!("a {kind} cannot be encoded: {error}")),
    }
}

#[cold]
fn too_large(bound: String) -> AccumulatorValue {
    AccumulatorValue::Failed(format!(
        "a subtask has more than {bound}; write what grows with the input to a sink"
    ))
}

#[cold]
fn another_kind(name: &str, present: &str, wanted: &str) -> ! {
    panic!("accumulator '{name}' is used as {wanted} and as {present}");
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

    /// Adds a value to a mean.
    pub fn add_to_average(&self, name: &str, x: f64) {
        self.update(name, &AccumulatorValue::Average { count: 1, sum: x });
    }

    /// Counts a value in a histogram.
    pub fn add_to_histogram(&self, name: &str, value: i64) {
        self.update(name, &AccumulatorValue::Histogram([(value, 1)].into()));
    }

    /// Adds to an accumulator of the program: `accumulators.add_to::<Users>("users", 7)`.
    ///
    /// # Panics
    /// When the accumulator of that name is of another kind: a mistake of the program.
    pub fn add_to<A: Accumulator>(&self, name: &str, input: A::Input) {
        let mut values = self.values.borrow_mut();
        if !values.contains_key(name) {
            values.insert(name.to_owned(), Local::custom::<A>());
        }
        match values.get_mut(name) {
            Some(Local::Custom { value, kind, .. }) => match value.downcast_mut::<A>() {
                Some(accumulator) => accumulator.add(input),
                None => another_kind(name, kind, kind_of::<A>()),
            },
            Some(other) => another_kind(name, other.kind(), kind_of::<A>()),
            None => {}
        }
    }

    /// Merges `value` in.
    ///
    /// # Panics
    /// When the accumulator of that name is of another kind: a mistake of the program.
    pub fn update(&self, name: &str, value: &AccumulatorValue) {
        let mut values = self.values.borrow_mut();
        match values.get_mut(name) {
            None => {
                values.insert(name.to_owned(), Local::Value(value.clone()));
            }
            Some(Local::Value(present)) => {
                if !present.merge(value) {
                    another_kind(name, present.kind(), value.kind());
                }
            }
            Some(custom) => another_kind(name, custom.kind(), value.kind()),
        }
    }

    /// The values so far.
    pub fn values(&self) -> AccumulatorValues {
        let values = self.values.borrow();
        values
            .iter()
            .map(|(name, value)| (name.clone(), value.encoded()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeSet;

    #[derive(Default, Serialize, Deserialize)]
    struct Seen {
        numbers: BTreeSet<u64>,
    }

    impl Accumulator for Seen {
        type Input = u64;
        fn add(&mut self, number: u64) {
            self.numbers.insert(number);
        }
        fn merge(&mut self, other: Self) {
            self.numbers.extend(other.numbers);
        }
    }

    #[test]
    fn an_accumulator_of_the_program_is_added_to_and_encoded() {
        let accumulators = Accumulators::default();
        for n in [3, 1, 3] {
            accumulators.add_to::<Seen>("seen", n);
            accumulators.add_to_average("mean", n as f64);
        }
        let values = accumulators.values();
        let seen = values["seen"].custom::<Seen>().unwrap();
        assert!(seen.numbers.into_iter().eq([1, 3]));
        assert_eq!(values["mean"], AccumulatorValue::Average { count: 3, sum: 7.0 });
    }

    #[test]
    fn what_grows_without_end_fails_with_its_bound() {
        let failure = |accumulators: &Accumulators, name: &str| match &accumulators.values()[name] {
            AccumulatorValue::Failed(reason) => Some(reason.clone()),
            _ => None,
        };
        let accumulators = Accumulators::default();
        for n in 0..MAX_HISTOGRAM_VALUES as i64 {
            accumulators.add_to_histogram("each", n);
        }
        assert_eq!(failure(&accumulators, "each"), None);
        accumulators.add_to_histogram("each", -1);
        let said = failure(&accumulators, "each").unwrap();
        assert!(said.contains("1000000 different values"), "{said}");
        // Nine bytes each, encoded.
        let accumulators = Accumulators::default();
        let add = |numbers: std::ops::Range<u64>| {
            numbers.for_each(|n| accumulators.add_to::<Seen>("seen", u64::MAX - n));
            failure(&accumulators, "seen")
        };
        let fitting = MAX_ACCUMULATOR_BYTES as u64 / 9 - 100;
        assert_eq!(add(0..fitting), None);
        let said = add(fitting..fitting + 200).unwrap();
        assert!(
            said.contains("16777216 bytes of a ") && said.contains("Seen"),
            "{said}"
        );
    }

    #[test]
    #[should_panic(expected = "accumulator 'seen' is used as Long and as ")]
    fn one_name_is_one_kind() {
        let accumulators = Accumulators::default();
        accumulators.add_to::<Seen>("seen", 1);
        accumulators.add_long("seen", 1);
    }

    #[test]
    #[should_panic(expected = "Seen and as Long")]
    fn one_name_is_one_kind_the_other_way() {
        let accumulators = Accumulators::default();
        accumulators.add_long("seen", 1);
        accumulators.add_to::<Seen>("seen", 1);
    }
}
