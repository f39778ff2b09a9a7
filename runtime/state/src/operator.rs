//! State that belongs to an operator's subtask and not to a key: lists and broadcast maps.

use crate::function::StateValue;
use crate::snapshot::{OperatorSnapshot, Redistribution};
use hurtig_core::error::{Error, Result};
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// A list that is dealt out again when the parallelism changes.
///
/// With [`Redistribution::Split`] each subtask of the new parallelism receives a share of all
/// subtasks' elements, with [`Redistribution::Union`] all of them. What an element is should
/// therefore make sense alone: one source split, one open transaction.
#[derive(Clone, Debug)]
pub struct OperatorListState<V> {
    name: Box<str>,
    redistribution: Redistribution,
    values: Vec<V>,
}

impl<V: StateValue> OperatorListState<V> {
    /// An empty list whose elements are split between subtasks at a restore.
    pub fn split(name: &str) -> Self {
        Self {
            name: name.into(),
            redistribution: Redistribution::Split,
            values: Vec::new(),
        }
    }

    /// An empty list of which every subtask receives everything at a restore.
    pub fn union(name: &str) -> Self {
        Self {
            name: name.into(),
            redistribution: Redistribution::Union,
            values: Vec::new(),
        }
    }

    /// Appends an element.
    pub fn add(&mut self, value: V) {
        self.values.push(value);
    }

    /// Appends several elements.
    pub fn extend(&mut self, values: impl IntoIterator<Item = V>) {
        self.values.extend(values);
    }

    /// The elements in the order of adding.
    pub fn get(&self) -> &[V] {
        &self.values
    }

    /// The elements, to change them in place.
    pub fn get_mut(&mut self) -> &mut Vec<V> {
        &mut self.values
    }

    /// Replaces all elements.
    pub fn update(&mut self, values: Vec<V>) {
        self.values = values;
    }

    /// Removes all elements.
    pub fn clear(&mut self) {
        self.values.clear();
    }

    /// Writes the list as a section of its name.
    ///
    /// # Errors
    /// When an element cannot be encoded; the text names the state.
    ///
    /// # Panics
    /// When the snapshot has a section of that name.
    pub fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot
            .put_operator(&self.name, self.redistribution, &self.values)
            .map_err(|e| e.context(format!("cannot snapshot operator state '{}'", self.name)))
    }

    /// Appends what the section of its name holds; whoever cut the snapshot chose the elements.
    ///
    /// # Errors
    /// When an element cannot be decoded or the section was not a list of the same redistribution;
    /// the text names the state.
    pub fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.values
            .extend(read_section(snapshot, &self.name, self.redistribution)?);
        Ok(())
    }
}

/// A map that is the same in every subtask, because all subtasks change it by the same elements.
///
/// Iteration is in the order of keys, so that subtasks which compute from it agree.
#[derive(Clone, Debug)]
pub struct BroadcastState<K, V> {
    name: Box<str>,
    map: BTreeMap<K, V>,
}

impl<K: StateValue + Ord, V: StateValue> BroadcastState<K, V> {
    /// An empty map.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            map: BTreeMap::new(),
        }
    }

    /// The value of a key.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.map.get(key)
    }

    /// Whether there is a value for a key.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.map.contains_key(key)
    }

    /// Sets the value of a key and returns the one it had.
    pub fn put(&mut self, key: K, value: V) -> Option<V> {
        self.map.insert(key, value)
    }

    /// Removes a key and returns its value.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.map.remove(key)
    }

    /// All keys and values, in the order of keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.map.iter()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.map.clear();
    }

    /// Writes the map as a section of its name.
    ///
    /// # Errors
    /// When a key or value cannot be encoded; the text names the state.
    ///
    /// # Panics
    /// When the snapshot has a section of that name.
    pub fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let entries: Vec<_> = self.map.iter().collect();
        snapshot
            .put_operator_as::<(K, V)>(&self.name, Redistribution::Broadcast, &entries)
            .map_err(|e| e.context(format!("cannot snapshot broadcast state '{}'", self.name)))
    }

    /// Adds what the section of its name holds: one subtask's copy.
    ///
    /// # Errors
    /// When an entry cannot be decoded or the section was not a broadcast state; the text names the
    /// state.
    pub fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        let entries: Vec<(K, V)> = read_section(snapshot, &self.name, Redistribution::Broadcast)?;
        self.map.extend(entries);
        Ok(())
    }
}

fn read_section<V: StateValue>(
    snapshot: &OperatorSnapshot,
    name: &str,
    wanted: Redistribution,
) -> Result<Vec<V>> {
    if let Some(section) = snapshot.operator.get(name)
        && section.redistribution != wanted
    {
        return Err(Error::user(format!(
            "operator state '{name}' is declared as {wanted:?} but was stored as {:?}; declare it as it was, \
             or under a new name",
            section.redistribution
        )));
    }
    snapshot
        .operator(name)
        .map_err(|e| e.context(format!("cannot restore operator state '{name}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_in_order() {
        let mut open = OperatorListState::<(String, u64)>::split("splits");
        open.add(("b".to_owned(), 2));
        open.extend([("a".to_owned(), 1), ("c".to_owned(), 3)]);
        open.get_mut().swap(0, 1);
        let mut all = OperatorListState::<u8>::union("ids");
        all.update(vec![1, 2]);
        let mut snapshot = OperatorSnapshot::default();
        open.snapshot(&mut snapshot).unwrap();
        all.snapshot(&mut snapshot).unwrap();
        let stored = &snapshot.operator;
        assert_eq!(stored["splits"].redistribution, Redistribution::Split);
        assert_eq!(
            (stored["splits"].entries.len(), stored["ids"].redistribution),
            (3, Redistribution::Union)
        );

        let mut again = OperatorListState::<(String, u64)>::split("splits");
        again.restore(&snapshot).unwrap();
        assert_eq!(again.get(), open.get());
        again.restore(&snapshot).unwrap();
        assert_eq!(
            again.get().len(),
            6,
            "a subtask may be handed several former subtasks' parts"
        );
        again.clear();
        again.restore(&OperatorSnapshot::default()).unwrap();
        assert_eq!(again.get(), []);
    }

    #[test]
    fn broadcast_state_is_sorted_and_comes_back() {
        let mut rules = BroadcastState::<String, Vec<u32>>::new("rules");
        rules.put("b".to_owned(), vec![2]);
        rules.put("a".to_owned(), vec![1]);
        assert_eq!(rules.put("a".to_owned(), vec![1, 1]), Some(vec![1]));
        rules.put("gone".to_owned(), vec![]);
        assert_eq!(rules.remove("gone"), Some(vec![]));
        let mut snapshot = OperatorSnapshot::default();
        rules.snapshot(&mut snapshot).unwrap();
        let mut again = BroadcastState::<String, Vec<u32>>::new("rules");
        again.restore(&snapshot).unwrap();
        assert_eq!(
            again.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(
            (again.get("a"), again.contains("gone"), again.len()),
            (Some(&vec![1, 1]), false, 2)
        );
        again.clear();
        assert!(again.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let mut list = OperatorListState::<u64>::split("offsets");
        list.add(1);
        let mut snapshot = OperatorSnapshot::default();
        list.snapshot(&mut snapshot).unwrap();
        let union = OperatorListState::<u64>::union("offsets")
            .restore(&snapshot)
            .unwrap_err();
        assert!(
            union
                .to_string()
                .contains("'offsets' is declared as Union but was stored as Split"),
            "{union}"
        );
        let text = OperatorListState::<String>::split("offsets")
            .restore(&snapshot)
            .unwrap_err()
            .chain();
        assert!(
            text.contains("cannot restore operator state 'offsets': state 'offsets' holds values")
                && text.contains("the value is String and was u64"),
            "{text}"
        );
        snapshot.shapes = Default::default();
        let untyped = OperatorListState::<String>::split("offsets").restore(&snapshot);
        let text = untyped.unwrap_err().chain();
        assert!(
            text.contains("cannot restore operator state 'offsets': cannot decode"),
            "{text}"
        );
        let mut broadcast = BroadcastState::<u64, u64>::new("offsets");
        assert!(broadcast.restore(&snapshot).is_err());
    }
}
