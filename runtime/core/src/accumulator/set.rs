//! The accumulators of one task.

use std::any::Any;
use std::collections::BTreeMap;

use super::types::encode;
use super::{Accumulator, Snapshot, SnapshotEntry};
use crate::error::Error;

/// A use of accumulators that cannot be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccumulatorError {
    /// One name for two types: the fault of the user's code.
    #[error("accumulator `{name}` is a {existing} and cannot also be a {requested}")]
    TypeConflict {
        /// The accumulator's name.
        name: String,
        /// The type it has.
        existing: String,
        /// The type that was asked for.
        requested: String,
    },
    /// A type that this process does not know: its program did not register it.
    #[error("accumulator `{name}` has the type {found}, which is not registered in this process")]
    UnknownType {
        /// The accumulator's name.
        name: String,
        /// Its type.
        found: String,
    },
    /// A state that could not be written.
    #[error("accumulator `{name}` cannot be serialized")]
    Encode {
        /// The accumulator's name.
        name: String,
        /// Why not.
        #[source]
        source: rmp_serde::encode::Error,
    },
    /// A state that could not be read.
    #[error("the state of accumulator `{name}` cannot be read as a {expected}")]
    Decode {
        /// The accumulator's name.
        name: String,
        /// The type it should be.
        expected: &'static str,
        /// Why not.
        #[source]
        source: rmp_serde::decode::Error,
    },
    /// A value that could not be shown.
    #[error("the value of accumulator `{name}` cannot be written as JSON")]
    Json {
        /// The accumulator's name.
        name: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

impl From<AccumulatorError> for Error {
    fn from(error: AccumulatorError) -> Self {
        Self::user("an accumulator failed").because(error)
    }
}

/// An accumulator of any type.
trait AnyAccumulator: Any + Send {
    fn type_name(&self) -> &'static str;
    fn encode(&self, name: &str) -> Result<Vec<u8>, AccumulatorError>;
}

impl<A: Accumulator> AnyAccumulator for A {
    fn type_name(&self) -> &'static str {
        A::TYPE
    }

    fn encode(&self, name: &str) -> Result<Vec<u8>, AccumulatorError> {
        encode(name, self)
    }
}

/// The accumulators of one task, by name. An accumulator begins when it is first used.
#[derive(Default)]
pub struct Accumulators(BTreeMap<String, Box<dyn AnyAccumulator>>);

impl Accumulators {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The accumulator `name`, made empty if this is its first use.
    ///
    /// # Errors
    ///
    /// [`AccumulatorError::TypeConflict`] when the name belongs to another type.
    pub fn get<A: Accumulator>(&mut self, name: &str) -> Result<&mut A, AccumulatorError> {
        // Looked up first so that only the first use copies the name.
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), Box::new(A::default()));
        }
        let accumulator = self.0.get_mut(name).map(|accumulator| &mut **accumulator);
        let Some(accumulator) = accumulator else {
            unreachable!("the name was just inserted");
        };
        let existing = accumulator.type_name();
        let any: &mut dyn Any = accumulator;
        any.downcast_mut().ok_or_else(|| AccumulatorError::TypeConflict {
            name: name.to_owned(),
            existing: existing.to_owned(),
            requested: A::TYPE.to_owned(),
        })
    }

    /// Adds `value` to the accumulator `name`.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub fn add<A: Accumulator>(&mut self, name: &str, value: A::Input) -> Result<(), AccumulatorError> {
        self.get::<A>(name)?.add(value);
        Ok(())
    }

    /// What the accumulator `name` amounts to in this task; `None` before its first use.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub fn value<A: Accumulator>(&mut self, name: &str) -> Result<Option<A::Output>, AccumulatorError> {
        if self.0.contains_key(name) {
            self.get::<A>(name).map(|found| Some(found.value()))
        } else {
            Ok(None)
        }
    }

    /// The states of all of them, to be merged with those of other subtasks.
    ///
    /// # Errors
    ///
    /// [`AccumulatorError::Encode`] when a state cannot be serialized.
    pub fn snapshot(&self) -> Result<Snapshot, AccumulatorError> {
        let mut states = BTreeMap::new();
        for (name, accumulator) in &self.0 {
            let state = accumulator.encode(name)?;
            let type_name = accumulator.type_name().to_owned();
            states.insert(name.clone(), SnapshotEntry { type_name, state });
        }
        Ok(Snapshot(states))
    }
}

impl std::fmt::Debug for Accumulators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let types = self
            .0
            .iter()
            .map(|(name, accumulator)| (name, accumulator.type_name()));
        f.debug_map().entries(types).finish()
    }
}
