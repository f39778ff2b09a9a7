//! Tables by namespace: one for each open window.

use crate::encoded::EncodedEntries;
use crate::entries::{begin_values, key_bytes, read_part, read_value};
use crate::snapshot::OperatorSnapshot;
use crate::table::{GroupedTable, ScanBudget};
use hurtig_core::error::Result;
use hurtig_core::key::OwnedKey;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::ops::Range;

/// A [`GroupedTable`] of `V` by `K` for each namespace `N`, in the order of namespaces.
///
/// Made for namespaces that many keys share, such as the windows of a tumbling assigner: a batch
/// looks its namespace up once, and a fired window is one table taken out. A table without entries
/// is kept until [`Self::remove_namespace`], but is not in snapshots.
#[derive(Debug)]
pub struct NamespacedTable<K, N, V> {
    groups: Range<u16>,
    max_parallelism: u32,
    tables: BTreeMap<N, GroupedTable<K, V>>,
    /// Namespaces whose snapshot has not ended, the next one last; some may have been removed since.
    scanning: Vec<N>,
    /// Tables that were removed before their snapshot ended.
    removed: Vec<GroupedTable<K, V>>,
}

impl<K: OwnedKey, N: OwnedKey + Ord, V> NamespacedTable<K, N, V> {
    /// Without namespaces yet, for the keys of `groups` out of `max_parallelism`.
    pub fn new(groups: Range<u16>, max_parallelism: u32) -> Self {
        Self {
            groups,
            max_parallelism,
            tables: BTreeMap::new(),
            scanning: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// The table of a namespace.
    pub fn get_namespace(&self, namespace: &N) -> Option<&GroupedTable<K, V>> {
        self.tables.get(namespace)
    }

    /// The table of a namespace, to change it, if there is one.
    pub fn get_namespace_mut(&mut self, namespace: &N) -> Option<&mut GroupedTable<K, V>> {
        self.tables.get_mut(namespace)
    }

    /// The table of a namespace, to change it; an empty one when there was none.
    pub fn namespace_mut(&mut self, namespace: &N) -> &mut GroupedTable<K, V> {
        let (groups, max_parallelism) = (&self.groups, self.max_parallelism);
        // The clone is a window or a time, copied rather than allocated.
        let entry = self.tables.entry(namespace.clone());
        entry.or_insert_with(|| GroupedTable::new(groups.clone(), max_parallelism))
    }

    /// Removes a namespace with everything in it. False when there was none.
    ///
    /// *Cost*: frees the memory, later when a snapshot of it is being taken.
    pub fn remove_namespace(&mut self, namespace: &N) -> bool {
        let removed = self.tables.remove(namespace);
        let found = removed.is_some();
        self.removed.extend(removed.filter(GroupedTable::is_scanning));
        found
    }

    /// The smallest namespace and its table.
    pub fn first(&self) -> Option<(&N, &GroupedTable<K, V>)> {
        self.tables.first_key_value()
    }

    /// All namespaces in order, with their tables.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&N, &GroupedTable<K, V>)> {
        self.tables.iter()
    }

    /// All namespaces in order, with their tables to change.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&N, &mut GroupedTable<K, V>)> {
        self.tables.iter_mut()
    }

    /// How many namespaces there are.
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether there is no namespace.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Bytes of the tables, without what keys and values own elsewhere.
    pub fn capacity_bytes(&self) -> usize {
        self.tables.values().map(GroupedTable::capacity_bytes).sum()
    }
}

impl<K: OwnedKey, N: OwnedKey + Ord, V: Clone + Serialize + DeserializeOwned> NamespacedTable<K, N, V> {
    /// Begins a snapshot of what all namespaces hold now; [`Self::continue_snapshot`] writes it.
    ///
    /// # Panics
    /// When the snapshot before has not ended.
    pub fn begin_snapshot(&mut self) {
        assert!(!self.is_scanning(), "one snapshot at a time");
        for (namespace, table) in &mut self.tables {
            if !table.is_empty() {
                begin_values(table, key_bytes(namespace));
                self.scanning.push(namespace.clone());
            }
        }
        self.scanning.reverse();
    }

    /// Whether a snapshot has begun and not ended.
    pub fn is_scanning(&self) -> bool {
        !self.scanning.is_empty() || !self.removed.is_empty()
    }

    /// Goes on with a snapshot until the budget is spent, and adds what is through to the section `name`. True
    /// when everything is.
    ///
    /// # Errors
    /// When a value cannot be encoded; the text names the state.
    pub fn continue_snapshot(
        &mut self,
        name: &str,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        while let Some(part) = self.next_part(budget) {
            let part = part.map_err(|e| e.context(format!("cannot snapshot state '{name}'")))?;
            snapshot.put_encoded(name, part);
        }
        Ok(!self.is_scanning())
    }

    /// The entries of a namespace that is through; `None` when the budget is spent or all are.
    fn next_part(&mut self, budget: &mut ScanBudget) -> Option<Result<EncodedEntries>> {
        while let Some(namespace) = self.scanning.last() {
            if let Some(table) = self.tables.get_mut(namespace)
                && table.is_scanning()
            {
                let part = table.continue_scan(budget).transpose()?;
                self.scanning.pop();
                return Some(part);
            }
            // It was removed, and maybe made again since.
            self.scanning.pop();
        }
        let part = self.removed.last_mut()?.continue_scan(budget).transpose()?;
        self.removed.pop();
        Some(part)
    }

    /// Adds what the section `name` holds for this subtask's key groups.
    ///
    /// # Errors
    /// When keys, namespaces or values cannot be decoded, when the max parallelism was another, or
    /// when an entry comes twice; the text names the state.
    pub fn restore(&mut self, name: &str, snapshot: &OperatorSnapshot) -> Result<()> {
        let restored = snapshot.section(name).visit(|entry| {
            let namespace = read_part::<N>("namespace", entry.namespace)?;
            read_value(self.namespace_mut(&namespace), entry)
        });
        restored.map_err(|e| e.context(format!("cannot restore state '{name}'")))?;
        self.tables.retain(|_, table| !table.is_empty());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::key::StableKey;
    use proptest::prelude::*;

    type Windows = NamespacedTable<u64, (i64, i64), u32>;

    fn contents(windows: &Windows) -> Vec<((i64, i64), u64, u32)> {
        let entries = windows
            .iter()
            .flat_map(|(window, table)| table.iter().map(|(_, &key, &count)| (*window, key, count)));
        let mut all: Vec<_> = entries.collect();
        assert!(all.is_sorted_by_key(|entry| entry.0));
        all.sort();
        all
    }

    fn count(windows: &mut Windows, window: (i64, i64), key: u64) {
        *windows
            .namespace_mut(&window)
            .upsert(key.stable_hash(), &key, || 0) += 1;
    }

    fn snapshot(windows: &mut Windows) -> OperatorSnapshot {
        windows.begin_snapshot();
        finish(windows)
    }

    fn finish(windows: &mut Windows) -> OperatorSnapshot {
        let mut snapshot = OperatorSnapshot::default();
        let mut calls = 0;
        while !windows
            .continue_snapshot("windows", &mut snapshot, &mut ScanBudget::new(7))
            .unwrap()
        {
            calls += 1;
            assert!(calls < 1_000, "the snapshot does not end");
        }
        snapshot.decode_sections().unwrap();
        snapshot
    }

    /// Windows that fire, are dropped and made again while a snapshot of them is taken.
    #[test]
    fn a_snapshot_has_the_namespaces_that_were_there() {
        let mut windows = Windows::new(0..128, 128);
        for key in 0..30 {
            for start in 0..4 {
                count(&mut windows, (start, start + 1), key);
            }
        }
        let expected = contents(&windows);
        windows.begin_snapshot();
        windows
            .continue_snapshot(
                "windows",
                &mut OperatorSnapshot::default(),
                &mut ScanBudget::new(0),
            )
            .unwrap();
        assert!(windows.remove_namespace(&(0, 1)) && windows.remove_namespace(&(1, 2)));
        count(&mut windows, (1, 2), 99);
        count(&mut windows, (7, 8), 99);
        count(&mut windows, (2, 3), 5);
        let fired = windows.get_namespace_mut(&(3, 4)).unwrap();
        while fired.pop_any().is_some() {}
        assert!(windows.remove_namespace(&(3, 4)));
        let snapshot = finish(&mut windows);
        assert!(!windows.is_scanning());
        let mut again = Windows::new(0..128, 128);
        again.restore("windows", &snapshot).unwrap();
        assert_eq!(contents(&again), expected);
        assert_eq!(contents(&windows).len(), 30 + 2);
    }

    #[test]
    fn namespaces_are_ordered_and_leave_as_a_whole() {
        let mut windows = Windows::new(0..128, 128);
        for window in [(10, 20), (-10, 0), (0, 10)] {
            count(&mut windows, window, 1);
        }
        count(&mut windows, (0, 10), 2);
        assert_eq!(windows.first().map(|(window, _)| *window), Some((-10, 0)));
        assert_eq!(
            windows.iter().map(|(window, _)| window.0).collect::<Vec<_>>(),
            [-10, 0, 10]
        );
        assert!(windows.remove_namespace(&(0, 10)) && windows.len() == 2);
        assert!(windows.get_namespace(&(0, 10)).is_none() && !windows.remove_namespace(&(0, 10)));
        assert_eq!(
            windows.get_namespace_mut(&(10, 20)).map(|table| table.len()),
            Some(1)
        );
    }

    proptest! {
        /// Cut into the key groups of other subtasks, the parts together are the whole.
        #[test]
        fn a_restore_brings_back_every_namespace(
            events in proptest::collection::vec((-3_i64..3, any::<u64>()), 0..100),
            parallelism in 1_u16..=3,
        ) {
            let mut windows = Windows::new(0..128, 128);
            for (start, key) in events {
                count(&mut windows, (start, start + 1), key % 50);
            }
            windows.namespace_mut(&(99, 100));
            let snapshot = snapshot(&mut windows);
            let mut union = Vec::new();
            for subtask in 0..parallelism {
                let groups = 128 * subtask / parallelism..128 * (subtask + 1) / parallelism;
                let mut part = Windows::new(groups.clone(), 128);
                part.restore("windows", &snapshot.for_key_groups(groups.clone())).unwrap();
                let mut again = Windows::new(groups, 128);
                again.restore("windows", &snapshot).unwrap();
                prop_assert_eq!(contents(&part), contents(&again));
                prop_assert!(part.iter().all(|(_, table)| !table.is_empty()));
                union.extend(contents(&part));
            }
            union.sort();
            prop_assert_eq!(union, contents(&windows));
        }
    }

    #[test]
    fn a_damaged_namespace_is_refused_by_name() {
        let mut windows = Windows::new(0..128, 128);
        count(&mut windows, (0, 1), 7);
        let snapshot = snapshot(&mut windows);
        let mut other = NamespacedTable::<u64, i64, u32>::new(0..128, 128);
        let text = other.restore("windows", &snapshot).unwrap_err().chain();
        assert!(
            text.contains("cannot restore state 'windows': cannot read a namespace of type i64"),
            "{text}"
        );
        let twice = windows.restore("windows", &snapshot).unwrap_err().chain();
        assert!(twice.contains("restored twice"), "{twice}");
    }
}
