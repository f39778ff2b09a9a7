//! Operator state: lists, union lists and broadcast maps of a savepoint.

use crate::entry;
use crate::error::{Result, StatePlace, StateProcessorError};
use crate::savepoint::{Savepoint, StateKind};
use hurtig_state::{OperatorSection, StateValue};
use std::collections::BTreeMap;

impl Savepoint {
    /// The elements of an operator's list, those of its first subtask first.
    ///
    /// # Errors
    /// When there is no such operator or list, an element is of another type, or a file is damaged.
    pub fn operator_list<V: StateValue>(&self, uid: &str, state: &str) -> Result<Vec<V>> {
        self.elements(&self.place(uid, state, StateKind::List)?)
    }

    /// The elements of an operator's union list, those of its first subtask first.
    ///
    /// # Errors
    /// As [`Self::operator_list`].
    pub fn union<V: StateValue>(&self, uid: &str, state: &str) -> Result<Vec<V>> {
        self.elements(&self.place(uid, state, StateKind::Union)?)
    }

    /// An operator's broadcast map; its subtasks have the same, and the first one's is read.
    ///
    /// # Errors
    /// As [`Self::operator_list`].
    pub fn broadcast<K: StateValue + Ord, V: StateValue>(
        &self,
        uid: &str,
        state: &str,
    ) -> Result<BTreeMap<K, V>> {
        let place = self.place(uid, state, StateKind::Broadcast)?;
        let entries: Vec<(K, V)> = match self.sections(&place).next() {
            Some(section) => decode(&place, &section?)?,
            None => Vec::new(),
        };
        Ok(entries.into_iter().collect())
    }

    fn elements<V: StateValue>(&self, place: &StatePlace) -> Result<Vec<V>> {
        let mut elements = Vec::new();
        for section in self.sections(place) {
            elements.extend(decode(place, &section?)?);
        }
        Ok(elements)
    }
}

fn decode<V: StateValue>(place: &StatePlace, section: &OperatorSection) -> Result<Vec<V>> {
    let values = section.entries.iter().map(|bytes| entry::value(bytes));
    values
        .collect::<Result<_, _>>()
        .map_err(|problem| StateProcessorError::OtherType {
            place: place.clone(),
            problem,
        })
}
