//! [`OperatorBuilder`]: the states of one operator as they will be in a savepoint.

use crate::entry::key_bytes;
use crate::error::{Result, StateProcessorError};
use crate::savepoint::{Kinds, Savepoint, StateKind};
use hurtig_core::Result as CoreResult;
use hurtig_core::ids::OperatorId;
use hurtig_core::key::{
    KeyGroup, MAX_KEY_GROUPS, StableKey, decode_exact, key_group, shape_of, subtask_of_group,
};
use hurtig_dataflow::timers::{EVENT_SECTION, PROCESSING_SECTION, TimeDomain};
use hurtig_state::snapshot::encode;
use hurtig_state::{
    KeyedEntry, OperatorSection, OperatorSnapshot, Redistribution, Shape, StateShape, StateShapes,
};
use hurtig_storage::{OperatorStates, SubtaskState};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the names of the engine's own sections begin with.
const RESERVED: [&str; 3] = ["hurtig:", "store/", "timers/"];

/// What a keyed state is written from: keys with what they have, also as results, such as reading gives.
pub trait IntoEntry {
    /// The key.
    type Key;
    /// What it has.
    type Value;

    /// The key and what it has.
    ///
    /// # Errors
    /// What reading failed with.
    fn into_entry(self) -> Result<(Self::Key, Self::Value)>;
}

impl<K, V> IntoEntry for (K, V) {
    type Key = K;
    type Value = V;

    fn into_entry(self) -> Result<(K, V)> {
        Ok(self)
    }
}

impl<K, V> IntoEntry for Result<(K, V)> {
    type Key = K;
    type Value = V;

    fn into_entry(self) -> Result<(K, V)> {
        self
    }
}

/// The states of an operator, to be written.
///
/// Of the types of values nothing is written down: whether a job can read them is seen when it does.
///
/// A key is of a type that has the same bytes as the one that the program keys by, such as `&str` for `String`. A value is what
/// the program declares. Entries are kept in memory, encoded, until they are written.
#[derive(Debug)]
pub struct OperatorBuilder {
    pub(crate) states: OperatorStates,
    pub(crate) base: Option<Savepoint>,
    /// The states that it has in the savepoint before.
    had: Kinds,
    /// Those of them that are dropped or replaced.
    removed: Kinds,
    keyed: BTreeMap<String, Vec<KeyedEntry>>,
    operator: BTreeMap<String, OperatorSection>,
}

impl OperatorBuilder {
    /// An operator without states. `max_parallelism` is the one that the job will have: 128 for a job of a parallelism up to
    /// 85 that sets none.
    ///
    /// # Errors
    /// When the max parallelism is not from 1 to 32,768, or the uid is empty.
    pub fn new(uid: &str, max_parallelism: u32) -> Result<Self> {
        check_uid(uid)?;
        if max_parallelism == 0 || max_parallelism > MAX_KEY_GROUPS {
            return Err(StateProcessorError::unwritable(format!(
                "operator '{uid}' cannot have max parallelism {max_parallelism}; it is from 1 to {MAX_KEY_GROUPS}"
            )));
        }
        let states = OperatorStates {
            operator: OperatorId::of_uid(uid),
            uid: Some(uid.to_owned()),
            name: uid.to_owned(),
            parallelism: 1,
            max_parallelism,
            subtasks: BTreeMap::new(),
            coordinator: None,
            states: StateShapes::default(),
        };
        Ok(Self::of(states, Kinds::new(), None))
    }

    pub(crate) fn of(states: OperatorStates, had: Kinds, base: Option<Savepoint>) -> Self {
        Self {
            states,
            base,
            had,
            removed: Kinds::new(),
            keyed: BTreeMap::new(),
            operator: BTreeMap::new(),
        }
    }

    /// In how many files its states are written: one, or as many as it had. Of no meaning to a job that restores it.
    ///
    /// # Errors
    /// When it is not from 1 to the max parallelism, or the operator is of another savepoint.
    pub fn files(mut self, files: u32) -> Result<Self> {
        let max = self.states.max_parallelism;
        if self.base.is_some() || files == 0 || files > max {
            return Err(self.unwritable(format!(
                "it cannot be written in {files} files; say so for a new operator, and from 1 to its max parallelism {max}"
            )));
        }
        self.states.parallelism = files;
        Ok(self)
    }

    /// Sets one value for each key. A state of this name that the operator had before is replaced; so for all kinds.
    ///
    /// # Errors
    /// When a key comes twice, a value cannot be encoded, the name was set already, or reading fails.
    pub fn value<E>(self, state: &str, entries: impl IntoIterator<Item = E>) -> Result<Self>
    where
        E: IntoEntry<Key: StableKey, Value: Serialize>,
    {
        self.keyed_state(state, entries, |value, put| put(Vec::new(), encode(value)?))
    }

    /// Sets a list for each key; an empty one is none.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn list<E, V>(self, state: &str, entries: impl IntoIterator<Item = E>) -> Result<Self>
    where
        E: IntoEntry<Key: StableKey, Value = Vec<V>>,
        V: Serialize,
    {
        self.keyed_state(state, entries, |list, put| match list.is_empty() {
            true => Ok(()),
            false => put(Vec::new(), encode(list)?),
        })
    }

    /// Sets a map for each key; an empty one is none.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn map<E, UK, UV>(self, state: &str, entries: impl IntoIterator<Item = E>) -> Result<Self>
    where
        E: IntoEntry<Key: StableKey, Value = BTreeMap<UK, UV>>,
        UK: StableKey,
        UV: Serialize,
    {
        let mut changed = self.keyed_state(state, entries, |map, put| {
            map.iter()
                .try_for_each(|(user_key, value)| put(key_bytes(user_key), encode(value)?))
        })?;
        if let Some(shape) = changed.states.states.keyed.get_mut(state) {
            shape.namespace = Some(shape_of::<UK>());
        }
        Ok(changed)
    }

    /// Sets the value of a state that folds what is added to a key.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn reducing<E>(self, state: &str, entries: impl IntoIterator<Item = E>) -> Result<Self>
    where
        E: IntoEntry<Key: StableKey, Value: Serialize>,
    {
        self.value(state, entries)
    }

    /// Sets the accumulator of a state that aggregates what is added to a key.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn aggregating<E>(self, state: &str, entries: impl IntoIterator<Item = E>) -> Result<Self>
    where
        E: IntoEntry<Key: StableKey, Value: Serialize>,
    {
        self.value(state, entries)
    }

    /// Sets timers of a keyed function: the times of each key.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn timers<E>(self, domain: TimeDomain, entries: impl IntoIterator<Item = E>) -> Result<Self>
    where
        E: IntoEntry<Key: StableKey, Value = Vec<i64>>,
    {
        let section = match domain {
            TimeDomain::Event => EVENT_SECTION,
            TimeDomain::Processing => PROCESSING_SECTION,
        };
        let mut changed = self.write_keyed(section, entries, |times, put| {
            times.iter().try_for_each(|time| put(key_bytes(time), Vec::new()))
        })?;
        let shape = StateShape::timers::<E::Key>().by::<()>();
        changed.states.states.insert(section, shape);
        Ok(changed)
    }

    /// Sets a list whose elements are split between subtasks.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn operator_list<V: Serialize>(
        self,
        state: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<Self> {
        self.section(state, Redistribution::Split, values)
    }

    /// Sets a list of which every subtask gets everything.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn union<V: Serialize>(self, state: &str, values: impl IntoIterator<Item = V>) -> Result<Self> {
        self.section(state, Redistribution::Union, values)
    }

    /// Sets a map that is the same in every subtask.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn broadcast<K: Serialize + Ord, V: Serialize>(
        self,
        state: &str,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let map: BTreeMap<K, V> = entries.into_iter().collect();
        self.section(state, Redistribution::Broadcast, map)
    }

    /// Drops a state that the operator had before, and another one of that name if there is.
    ///
    /// # Errors
    /// When it had none of that name.
    pub fn remove(mut self, state: &str) -> Result<Self> {
        let named = self.had.iter().filter(|(name, _)| name == state);
        let before = self.removed.len();
        self.removed.extend(named.cloned());
        if self.removed.len() > before {
            self.states.states.keyed.remove(state);
            self.states.states.operator.remove(state);
            return Ok(self);
        }
        let names: BTreeSet<&String> = self.had.iter().map(|(name, _)| name).collect();
        Err(self.unwritable(format!("it has no state '{state}' to remove; it has {names:?}")))
    }

    fn keyed_state<E>(
        self,
        state: &str,
        entries: impl IntoIterator<Item = E>,
        write: impl Fn(&E::Value, &mut dyn FnMut(Vec<u8>, Vec<u8>) -> CoreResult<()>) -> CoreResult<()>,
    ) -> Result<Self>
    where
        E: IntoEntry<Key: StableKey>,
    {
        self.check_name(state)?;
        self.write_keyed(state, entries, write)
    }

    /// Encodes what `write` puts of each entry: namespaces and values.
    fn write_keyed<E>(
        mut self,
        state: &str,
        entries: impl IntoIterator<Item = E>,
        write: impl Fn(&E::Value, &mut dyn FnMut(Vec<u8>, Vec<u8>) -> CoreResult<()>) -> CoreResult<()>,
    ) -> Result<Self>
    where
        E: IntoEntry<Key: StableKey>,
    {
        self.begin(state, |kind| kind == StateKind::Keyed)?;
        let mut written = Vec::new();
        for (number, entry) in entries.into_iter().enumerate() {
            let (key, value) = entry.into_entry()?;
            // Key groups are below 32,768.
            let group = key_group(key.stable_hash(), self.states.max_parallelism).get() as u16;
            let key = key_bytes(&key);
            let mut put = |namespace, value| {
                let key = key.clone();
                let entry = KeyedEntry {
                    group,
                    key,
                    namespace,
                    value,
                };
                written.push((number, entry));
                Ok(())
            };
            write(&value, &mut put).map_err(|error| self.unwritable(error.chain()))?;
        }
        written
            .sort_by(|(_, a), (_, b)| (a.group, &a.key, &a.namespace).cmp(&(b.group, &b.key, &b.namespace)));
        let twice = written.windows(2).find(|pair| {
            let [(number, entry), (other, next)] = pair else {
                return false;
            };
            entry.key == next.key && (number != other || entry.namespace == next.namespace)
        });
        if let Some([(number, entry), (other, _)]) = twice {
            return Err(self.given_twice(state, entry, number == other));
        }
        let written = written.into_iter().map(|(_, entry)| entry).collect();
        self.keyed.insert(state.to_owned(), written);
        let shape = StateShape {
            values: vec![Shape::unknown()],
            ..StateShape::timers::<E::Key>()
        };
        self.states.states.insert(state, shape);
        Ok(self)
    }

    fn section<V: Serialize>(
        mut self,
        state: &str,
        redistribution: Redistribution,
        values: impl IntoIterator<Item = V>,
    ) -> Result<Self> {
        self.check_name(state)?;
        self.begin(state, |kind| kind != StateKind::Keyed)?;
        let entries = values.into_iter().map(|value| encode(&value));
        let entries = entries.collect::<CoreResult<_>>();
        let section = OperatorSection {
            redistribution,
            entries: entries.map_err(|error| self.unwritable(error.chain()))?,
        };
        self.operator.insert(state.to_owned(), section);
        let shape = StateShape {
            values: vec![Shape::unknown()],
            ..StateShape::default()
        };
        self.states.states.insert(state, shape);
        Ok(self)
    }

    fn check_name(&self, state: &str) -> Result<()> {
        if RESERVED.iter().any(|reserved| state.starts_with(reserved)) {
            return Err(self.unwritable(format!(
                "names of states do not begin as '{state}' does, which is for the engine's own; choose another one"
            )));
        }
        Ok(())
    }

    /// Takes a name for a state in place of those that had it before.
    fn begin(&mut self, state: &str, replaces: fn(StateKind) -> bool) -> Result<()> {
        let given = match replaces(StateKind::Keyed) {
            true => self.keyed.contains_key(state),
            false => self.operator.contains_key(state),
        };
        if given {
            return Err(self.unwritable(format!("state '{state}' is given twice; give each state once")));
        }
        let before = self.had.iter();
        let replaced = before.filter(|(name, kind)| name == state && replaces(*kind));
        self.removed.extend(replaced.cloned());
        Ok(())
    }

    /// What has finished has no part in the job any more that begins with the savepoint.
    ///
    /// # Errors
    /// When a state is set of an operator of which a subtask had finished.
    pub(crate) fn check_finished(&self) -> Result<()> {
        let finished = self.states.subtasks.values().any(|subtask| subtask.finished);
        if finished && !(self.keyed.is_empty() && self.operator.is_empty()) {
            return Err(self.unwritable(
                "it had finished, all of it or a part, and a job does not restore what has finished; take the operator out \
                 with `remove_operator` and add a new one"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// `of_one` is whether a part of one entry, which has been a time of timers, is there twice.
    fn given_twice(&self, state: &str, entry: &KeyedEntry, of_one: bool) -> StateProcessorError {
        let key = format!("the key with bytes {:02x?}", entry.key);
        let what = match decode_exact::<i64>(&entry.namespace) {
            Ok(time) if of_one => format!("the time {time} of {key}"),
            _ => key,
        };
        self.unwritable(format!("state '{state}' is given {what} twice; give it once"))
    }

    fn unwritable(&self, problem: String) -> StateProcessorError {
        let uid = self.states.uid.as_deref().unwrap_or_default();
        StateProcessorError::unwritable(format!("operator '{uid}': {problem}"))
    }

    /// What a subtask will have: what it has in the savepoint before, if there is one, without what is removed or
    /// replaced, and its part of what is set.
    pub(crate) fn subtask(&self, index: u32) -> Result<OperatorSnapshot> {
        let mut snapshot = self.before(index)?;
        let kept = |name: &String, kind| !self.removed.contains(&(name.clone(), kind));
        snapshot.keyed.retain(|name, _| kept(name, StateKind::Keyed));
        snapshot
            .operator
            .retain(|name, section| kept(name, section.redistribution.into()));
        let (parallelism, max) = (self.states.parallelism, self.states.max_parallelism);
        for (name, entries) in &self.keyed {
            let own = |entry: &&KeyedEntry| {
                subtask_of_group(KeyGroup::new(entry.group.into()), parallelism, max) == index
            };
            snapshot.put_keyed(name, entries.iter().filter(own).cloned().collect());
        }
        for (name, section) in &self.operator {
            if let Some(entries) = own_elements(section, index, parallelism) {
                let section = OperatorSection {
                    redistribution: section.redistribution,
                    entries,
                };
                snapshot.operator.insert(name.clone(), section);
            }
        }
        Ok(snapshot)
    }

    fn before(&self, index: u32) -> Result<OperatorSnapshot> {
        let before = self.states.subtasks.get(&index);
        match (&self.base, before) {
            (
                Some(base),
                Some(SubtaskState {
                    handle: Some(handle),
                    index_in_file,
                    ..
                }),
            ) => base.part(handle, *index_in_file, 0..u16::MAX),
            _ => Ok(OperatorSnapshot::default()),
        }
    }
}

/// Whether a uid is one.
pub(crate) fn check_uid(uid: &str) -> Result<()> {
    match uid.is_empty() {
        false => Ok(()),
        true => Err(StateProcessorError::unwritable(
            "an operator's uid is empty; name the uid that the program gives to it",
        )),
    }
}

/// Lists are dealt out in runs whose lengths differ by at most one; the first subtask alone has what all will get. That
/// there is nothing is known to every subtask: one without any entry has no file.
fn own_elements(section: &OperatorSection, index: u32, parallelism: u32) -> Option<Vec<Vec<u8>>> {
    let all = section.entries.len();
    match section.redistribution {
        Redistribution::Split => {
            let at = |index: u32| all * index as usize / parallelism as usize;
            Some(section.entries[at(index)..at(index + 1)].to_vec())
        }
        Redistribution::Union | Redistribution::Broadcast => {
            (index == 0 || all == 0).then(|| section.entries.clone())
        }
    }
}
