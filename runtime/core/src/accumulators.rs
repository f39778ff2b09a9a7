//! Accumulators as they travel: named values that merge over subtasks.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The accumulators of a task or of a job, by name.
pub type AccumulatorValues = BTreeMap<String, AccumulatorValue>;

/// One accumulator's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AccumulatorValue {
    /// A sum of integers.
    Long(i64),
    /// A sum of floating-point numbers.
    Double(f64),
    /// The least integer.
    LongMin(i64),
    /// The greatest integer.
    LongMax(i64),
    /// The least floating-point number.
    DoubleMin(f64),
    /// The greatest floating-point number.
    DoubleMax(f64),
    /// How often each value was seen.
    Histogram(BTreeMap<i64, u64>),
    /// A mean: the sum of values and how many there were.
    Average {
        /// How many.
        count: u64,
        /// Their sum.
        sum: f64,
    },
    /// An [`Accumulator`] of the program, encoded; only the program can merge it.
    Custom {
        /// The accumulator's type.
        kind: String,
        /// What each operator's subtask has accumulated, in MessagePack with named fields.
        parts: Vec<Vec<u8>>,
    },
    /// There is no value: a mistake of the program, which fails the job.
    Failed(String),
}

/// An accumulator that a program defines: what its subtasks add up, and how that is merged.
///
/// Each operator's subtask begins with `Default`. The order of merging is not defined, so merging
/// must not depend on it. Values travel encoded, and the client merges them.
///
/// ```
/// use hurtig_core::accumulators::Accumulator;
/// use serde::{Deserialize, Serialize};
/// use std::collections::BTreeSet;
///
/// /// Which users there were.
/// #[derive(Default, Serialize, Deserialize)]
/// struct Users(BTreeSet<u64>);
///
/// impl Accumulator for Users {
///     type Input = u64;
///     fn add(&mut self, user: u64) {
///         self.0.insert(user);
///     }
///     fn merge(&mut self, other: Self) {
///         self.0.extend(other.0);
///     }
/// }
/// ```
pub trait Accumulator: Default + Serialize + DeserializeOwned + Send + 'static {
    /// What is added.
    type Input;
    /// Adds one value.
    fn add(&mut self, value: Self::Input);
    /// Adds what another subtask has accumulated.
    fn merge(&mut self, other: Self);
}

/// What tells accumulators of a program apart: the type's name, the same in every process of a job.
pub fn kind_of<A: Accumulator>() -> &'static str {
    std::any::type_name::<A>()
}

impl AccumulatorValue {
    /// Adds what another subtask has accumulated. False, with nothing changed, when the two are of
    /// different kinds.
    pub fn merge(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Long(mine), Self::Long(theirs)) => *mine = mine.wrapping_add(*theirs),
            (Self::Double(mine), Self::Double(theirs)) => *mine += theirs,
            (Self::LongMin(mine), Self::LongMin(theirs)) => *mine = (*mine).min(*theirs),
            (Self::LongMax(mine), Self::LongMax(theirs)) => *mine = (*mine).max(*theirs),
            (Self::DoubleMin(mine), Self::DoubleMin(theirs)) => *mine = mine.min(*theirs),
            (Self::DoubleMax(mine), Self::DoubleMax(theirs)) => *mine = mine.max(*theirs),
            (Self::Histogram(mine), Self::Histogram(theirs)) => {
                theirs
                    .iter()
                    .for_each(|(value, count)| *mine.entry(*value).or_insert(0) += count);
            }
            (Self::Average { count, sum }, Self::Average { count: n, sum: s }) => {
                *count += n;
                *sum += s;
            }
            (
                Self::Custom { kind, parts },
                Self::Custom {
                    kind: other,
                    parts: more,
                },
            ) if kind == other => {
                parts.extend_from_slice(more);
            }
            (Self::Failed(_), _) => {}
            (mine, Self::Failed(reason)) => *mine = Self::Failed(reason.clone()),
            _ => return false,
        }
        true
    }

    /// What kind it is, as messages say it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Long(_) => "Long",
            Self::Double(_) => "Double",
            Self::LongMin(_) => "LongMin",
            Self::LongMax(_) => "LongMax",
            Self::DoubleMin(_) => "DoubleMin",
            Self::DoubleMax(_) => "DoubleMax",
            Self::Histogram(_) => "Histogram",
            Self::Average { .. } => "Average",
            Self::Custom { kind, .. } => kind,
            Self::Failed(_) => "Failed",
        }
    }

    /// What the subtasks have accumulated in an accumulator of the program, merged.
    ///
    /// # Errors
    /// When it is of another kind, or was encoded by another version of the type.
    pub fn custom<A: Accumulator>(&self) -> Result<A> {
        let wanted = kind_of::<A>();
        let Self::Custom { kind, parts } = self else {
            return Err(other_kind(wanted, self.kind()));
        };
        if kind != wanted {
            return Err(other_kind(wanted, kind));
        }
        let mut merged = A::default();
        for part in parts {
            let part = rmp_serde::from_slice(part)
                .map_err(|error| Error::user(format!("cannot decode a {wanted}")).because(error))?;
            merged.merge(part);
        }
        Ok(merged)
    }
}

fn other_kind(wanted: &str, found: &str) -> Error {
    Error::user(format!("the accumulator is a {found}, not a {wanted}"))
}

/// Merges `from` into `into`. Accumulators of one name and different kinds become
/// [`AccumulatorValue::Failed`].
pub fn merge_accumulators(into: &mut AccumulatorValues, from: &AccumulatorValues) {
    for (name, value) in from {
        match into.get_mut(name) {
            None => {
                into.insert(name.clone(), value.clone());
            }
            Some(present) => {
                if !present.merge(value) {
                    *present = AccumulatorValue::Failed(mismatch(present.kind(), value.kind()));
                }
            }
        }
    }
}

/// What is said of an accumulator of two kinds.
pub fn mismatch(one: &str, other: &str) -> String {
    format!("one operator or subtask uses it as {one}, another as {other}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(values: &[AccumulatorValue]) -> AccumulatorValue {
        let mut into = values[0].clone();
        assert!(values[1..].iter().all(|value| into.merge(value)));
        into
    }

    #[test]
    fn each_kind_merges_by_its_own_rule() {
        use AccumulatorValue as V;
        assert_eq!(merged(&[V::Long(2), V::Long(-5)]), V::Long(-3));
        assert_eq!(merged(&[V::Double(0.5), V::Double(1.0)]), V::Double(1.5));
        assert_eq!(
            merged(&[V::LongMin(2), V::LongMin(-5), V::LongMin(7)]),
            V::LongMin(-5)
        );
        assert_eq!(
            merged(&[V::LongMax(2), V::LongMax(-5), V::LongMax(7)]),
            V::LongMax(7)
        );
        assert_eq!(
            merged(&[V::DoubleMin(2.0), V::DoubleMin(-5.0)]),
            V::DoubleMin(-5.0)
        );
        assert_eq!(
            merged(&[V::DoubleMax(2.0), V::DoubleMax(-5.0)]),
            V::DoubleMax(2.0)
        );
        let histogram = merged(&[
            V::Histogram([(1, 2)].into()),
            V::Histogram([(1, 1), (3, 4)].into()),
        ]);
        assert_eq!(histogram, V::Histogram([(1, 3), (3, 4)].into()));
        let average = merged(&[
            V::Average { count: 2, sum: 3.0 },
            V::Average { count: 1, sum: -1.0 },
        ]);
        assert_eq!(average, V::Average { count: 3, sum: 2.0 });
    }

    #[test]
    fn kinds_that_differ_are_named() {
        let mut into: AccumulatorValues = [("a".to_owned(), AccumulatorValue::Long(1))].into();
        let from = [
            ("a".to_owned(), AccumulatorValue::Double(1.0)),
            ("b".to_owned(), AccumulatorValue::Long(2)),
        ]
        .into();
        merge_accumulators(&mut into, &from);
        let failed = AccumulatorValue::Failed(mismatch("Long", "Double"));
        assert_eq!(into["a"], failed);
        assert_eq!(into["b"], AccumulatorValue::Long(2));
        merge_accumulators(&mut into, &from);
        assert_eq!(into["a"], failed, "a failure stays");
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Longest {
        text: String,
    }

    impl Accumulator for Longest {
        type Input = &'static str;
        fn add(&mut self, text: &'static str) {
            self.merge(Longest {
                text: text.to_owned(),
            });
        }
        fn merge(&mut self, other: Self) {
            if other.text.len() > self.text.len() {
                *self = other;
            }
        }
    }

    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Other;

    impl Accumulator for Other {
        type Input = ();
        fn add(&mut self, (): ()) {}
        fn merge(&mut self, _: Self) {}
    }

    fn longest(text: &'static str) -> AccumulatorValue {
        let mut longest = Longest::default();
        longest.add(text);
        AccumulatorValue::Custom {
            kind: kind_of::<Longest>().to_owned(),
            parts: vec![rmp_serde::to_vec_named(&longest).unwrap()],
        }
    }

    #[test]
    fn accumulators_of_a_program_are_merged_where_their_type_is_known() {
        let value = merged(&[longest("ab"), longest("abcd"), longest("abc")]);
        assert_eq!(value.custom::<Longest>().unwrap().text, "abcd");
        let error = value.custom::<Other>().unwrap_err().to_string();
        assert!(
            error.contains("Longest, not a ") && error.ends_with("Other"),
            "{error}"
        );
        let mut long = AccumulatorValue::Long(1);
        assert!(!long.merge(&value) && long.custom::<Longest>().is_err());
    }

    #[test]
    fn accumulators_survive_their_encoding() {
        let values: AccumulatorValues = [
            ("custom".to_owned(), longest("text")),
            (
                "mean".to_owned(),
                AccumulatorValue::Average { count: 3, sum: 1.5 },
            ),
        ]
        .into();
        let bytes = rmp_serde::to_vec_named(&values).unwrap();
        assert_eq!(
            rmp_serde::from_slice::<AccumulatorValues>(&bytes).unwrap(),
            values
        );
    }
}
