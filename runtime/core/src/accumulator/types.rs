//! Merging the states of accumulators whose types are known only by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Accumulator, AccumulatorError, DoubleCounter, DoubleMaximum, DoubleMinimum, Histogram, LongCounter,
    LongMaximum, LongMinimum,
};

/// The states of accumulators, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Snapshot(pub BTreeMap<String, SnapshotEntry>);

/// The state of one accumulator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotEntry {
    /// Its type: [`Accumulator::TYPE`].
    pub type_name: String,
    /// Its state: named MessagePack.
    pub state: Vec<u8>,
}

/// Merges the second state into the first.
type Merge = fn(&str, &[u8], &[u8]) -> Result<Vec<u8>, AccumulatorError>;

/// What can be done with a state whose type is known only by name.
#[derive(Clone, Copy)]
struct Functions {
    merge: Merge,
    value: fn(&str, &[u8]) -> Result<serde_json::Value, AccumulatorError>,
}

/// The types of accumulators that a process can merge.
#[derive(Clone)]
pub struct AccumulatorTypes(BTreeMap<&'static str, Functions>);

impl Default for AccumulatorTypes {
    /// The types of this module.
    fn default() -> Self {
        Self(BTreeMap::new())
            .with::<LongCounter>()
            .with::<DoubleCounter>()
            .with::<LongMinimum>()
            .with::<LongMaximum>()
            .with::<DoubleMinimum>()
            .with::<DoubleMaximum>()
            .with::<Histogram>()
    }
}

impl AccumulatorTypes {
    /// These types and `A`.
    #[must_use]
    pub fn with<A: Accumulator>(mut self) -> Self {
        self.0.insert(
            A::TYPE,
            Functions {
                merge: merge::<A>,
                value: value::<A>,
            },
        );
        self
    }

    /// Merges the states in `other` into `into`, name by name.
    ///
    /// # Errors
    ///
    /// [`AccumulatorError`] when a name has two types, a type is not registered or a state cannot be
    /// read; the names before it (in order) are merged, it and those after it are not.
    pub fn merge(&self, into: &mut Snapshot, other: &Snapshot) -> Result<(), AccumulatorError> {
        for (name, entry) in &other.0 {
            match into.0.get_mut(name) {
                None => {
                    into.0.insert(name.clone(), entry.clone());
                }
                Some(mine) if mine.type_name == entry.type_name => {
                    let functions = self.functions(name, &entry.type_name)?;
                    mine.state = (functions.merge)(name, &mine.state, &entry.state)?;
                }
                Some(mine) => {
                    return Err(AccumulatorError::TypeConflict {
                        name: name.clone(),
                        existing: mine.type_name.clone(),
                        requested: entry.type_name.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// What the accumulator `name` amounts to, as JSON.
    ///
    /// # Errors
    ///
    /// [`AccumulatorError`] when its type is not registered or its state cannot be read.
    pub fn value(&self, name: &str, entry: &SnapshotEntry) -> Result<serde_json::Value, AccumulatorError> {
        (self.functions(name, &entry.type_name)?.value)(name, &entry.state)
    }

    fn functions(&self, name: &str, type_name: &str) -> Result<Functions, AccumulatorError> {
        self.0
            .get(type_name)
            .copied()
            .ok_or_else(|| AccumulatorError::UnknownType {
                name: name.to_owned(),
                found: type_name.to_owned(),
            })
    }
}

impl std::fmt::Debug for AccumulatorTypes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn merge<A: Accumulator>(name: &str, mine: &[u8], other: &[u8]) -> Result<Vec<u8>, AccumulatorError> {
    let mut merged: A = decode(name, mine)?;
    merged.merge(decode(name, other)?);
    encode(name, &merged)
}

fn value<A: Accumulator>(name: &str, state: &[u8]) -> Result<serde_json::Value, AccumulatorError> {
    let value = decode::<A>(name, state)?.value();
    serde_json::to_value(value).map_err(|source| AccumulatorError::Json {
        name: name.to_owned(),
        source,
    })
}

pub(super) fn encode<A: Accumulator>(name: &str, accumulator: &A) -> Result<Vec<u8>, AccumulatorError> {
    rmp_serde::to_vec_named(accumulator).map_err(|source| AccumulatorError::Encode {
        name: name.to_owned(),
        source,
    })
}

fn decode<A: Accumulator>(name: &str, state: &[u8]) -> Result<A, AccumulatorError> {
    rmp_serde::from_slice(state).map_err(|source| AccumulatorError::Decode {
        name: name.to_owned(),
        expected: A::TYPE,
        source,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Accumulators;
    use super::*;

    /// A type of the user's: the different values seen.
    #[derive(Default, Serialize, Deserialize)]
    struct Distinct(std::collections::BTreeSet<String>);

    impl Accumulator for Distinct {
        const TYPE: &'static str = "Distinct";
        type Input = String;
        type Output = usize;

        fn add(&mut self, value: String) {
            self.0.insert(value);
        }

        fn merge(&mut self, other: Self) {
            self.0.extend(other.0);
        }

        fn value(&self) -> usize {
            self.0.len()
        }
    }

    fn subtask(records: i64, words: &[&str]) -> Snapshot {
        let mut accumulators = Accumulators::new();
        accumulators.add::<LongCounter>("records", records).unwrap();
        for word in words {
            accumulators.add::<Distinct>("words", (*word).to_owned()).unwrap();
            accumulators
                .add::<Histogram>("lengths", word.len() as i64)
                .unwrap();
        }
        accumulators.snapshot().unwrap()
    }

    #[test]
    fn subtasks_are_merged_by_name() {
        let types = AccumulatorTypes::default().with::<Distinct>();
        let mut job = Snapshot::default();
        for part in [
            subtask(3, &["a", "bc"]),
            subtask(4, &["bc", "d"]),
            subtask(0, &[]),
        ] {
            let wire = rmp_serde::to_vec_named(&part).unwrap();
            types
                .merge(&mut job, &rmp_serde::from_slice(&wire).unwrap())
                .unwrap();
        }
        let value = |name: &str| types.value(name, &job.0[name]).unwrap();
        assert_eq!(value("records"), json!(7));
        assert_eq!(value("words"), json!(3));
        assert_eq!(value("lengths"), json!({"1": 2, "2": 2}));
    }

    #[test]
    fn conflicts_name_both_types() {
        let mut accumulators = Accumulators::new();
        accumulators.add::<LongCounter>("a", 1).unwrap();
        let error = accumulators.add::<Distinct>("a", "x".into()).unwrap_err();
        let text = "accumulator `a` is a LongCounter and cannot also be a Distinct";
        assert_eq!(error.to_string(), text);
        assert_eq!(
            accumulators.value::<LongCounter>("a").unwrap(),
            Some(1),
            "it is unharmed"
        );
        assert_eq!(accumulators.value::<LongCounter>("b").unwrap(), None);
        let mut other = Accumulators::new();
        other.add::<Distinct>("a", "x".into()).unwrap();
        let mut job = accumulators.snapshot().unwrap();
        let merged = AccumulatorTypes::default().merge(&mut job, &other.snapshot().unwrap());
        assert_eq!(merged.unwrap_err().to_string(), text);
    }

    #[test]
    fn unknown_types_and_damaged_states_are_reported() {
        let types = AccumulatorTypes::default();
        let part = subtask(1, &["a"]);
        let error = types.merge(&mut part.clone(), &part).unwrap_err();
        assert!(
            matches!(error, AccumulatorError::UnknownType { name, found } if name == "words" && found == "Distinct")
        );
        let damaged = SnapshotEntry {
            type_name: "LongCounter".into(),
            state: vec![0xc1],
        };
        assert!(matches!(
            types.value("x", &damaged),
            Err(AccumulatorError::Decode { .. })
        ));
    }
}
