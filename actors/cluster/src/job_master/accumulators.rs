//! Which kind each accumulator of the job is: one name is one kind in all subtasks.

use hurtig_core::Error;
use hurtig_core::accumulators::{AccumulatorValue, AccumulatorValues, mismatch};
use std::collections::BTreeMap;

/// The kinds that tasks have reported since the last start.
#[derive(Clone, Debug, Default)]
pub(super) struct AccumulatorKinds {
    kinds: BTreeMap<String, String>,
}

impl AccumulatorKinds {
    /// Notes what a task reports; the mistake in it, if there is one.
    pub(super) fn check(&mut self, reported: &AccumulatorValues) -> Option<Error> {
        let mut mistakes = reported.iter().filter_map(|(name, value)| {
            let reason = self.mistake(name, value)?;
            Some(Error::user(format!(
                "accumulator '{name}' cannot be merged: {reason}"
            )))
        });
        mistakes.next()
    }

    fn mistake(&mut self, name: &str, value: &AccumulatorValue) -> Option<String> {
        if let AccumulatorValue::Failed(reason) = value {
            return Some(reason.clone());
        }
        match self.kinds.get(name) {
            None => {
                self.kinds.insert(name.to_owned(), value.kind().to_owned());
                None
            }
            Some(kind) => (kind != value.kind()).then(|| mismatch(kind, value.kind())),
        }
    }
}
