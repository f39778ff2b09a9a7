//! Redistribution against the definitions, done the slow way.

use super::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn scale(parallelism: u32, max_parallelism: u32) -> Scale {
    Scale {
        parallelism,
        max_parallelism,
    }
}

/// An entry that names where it came from, so that no two are alike.
fn keyed_entry(group: u16, subtask: u32, number: usize) -> KeyedEntry {
    KeyedEntry {
        group,
        key: format!("{subtask}/{number}").into_bytes(),
        namespace: Vec::new(),
        value: vec![1],
    }
}

fn section(how: Redistribution, subtask: u32, entries: usize) -> OperatorSection {
    let entry = |number: usize| format!("{subtask}/{number}").into_bytes();
    OperatorSection {
        redistribution: how,
        entries: (0..entries).map(entry).collect(),
    }
}

/// The owner of a key group, found by looking at the bounds of each subtask as Flink defines them:
/// the first group of subtask `i` is `ceil(i * max / parallelism)`.
fn owner(group: u16, to: Scale) -> u32 {
    let first = |subtask: u32| (subtask * to.max_parallelism).div_ceil(to.parallelism);
    let owns = |subtask: &u32| (first(*subtask)..first(subtask + 1)).contains(&u32::from(group));
    (0..to.parallelism).find(owns).unwrap()
}

/// What a subtask has: groups of keyed entries, and how many entries of each kind of operator state.
#[derive(Clone, Debug)]
struct Old {
    groups: Vec<u16>,
    split: Option<usize>,
    union: Option<usize>,
    broadcast: Option<usize>,
}

impl Old {
    fn snapshot(&self, subtask: u32) -> OperatorSnapshot {
        let mut snapshot = OperatorSnapshot::default();
        let numbered = self.groups.iter().enumerate();
        let entries = numbered
            .map(|(number, group)| keyed_entry(*group, subtask, number))
            .collect();
        snapshot.put_keyed("keyed", entries);
        for (name, how, entries) in [
            ("split", Redistribution::Split, self.split),
            ("union", Redistribution::Union, self.union),
            ("broadcast", Redistribution::Broadcast, self.broadcast),
        ] {
            if let Some(entries) = entries {
                snapshot
                    .operator
                    .insert(name.into(), section(how, subtask, entries));
            }
        }
        snapshot
    }
}

fn case() -> impl Strategy<Value = (Scale, Scale, BTreeMap<u32, Old>)> {
    let scales = (1..40_u32).prop_flat_map(|max| (1..=max, 1..=max, Just(max)));
    scales.prop_flat_map(|(old, new, max)| {
        let count = || proptest::option::of(0..9_usize);
        let state = (vec(0..max as u16, 0..12), count(), count(), count());
        let state = state.prop_map(|(groups, split, union, broadcast)| Old {
            groups,
            split,
            union,
            broadcast,
        });
        let states = btree_map(0..old, state, 0..=old as usize);
        (Just(scale(old, max)), Just(scale(new, max)), states)
    })
}

fn entries_of(snapshot: &OperatorSnapshot, name: &str) -> Vec<Vec<u8>> {
    snapshot
        .operator
        .get(name)
        .map_or(Vec::new(), |section| section.entries.clone())
}

/// Entries of all old subtasks, in their order.
fn all(old: &[(u32, OperatorSnapshot)], name: &str) -> Vec<Vec<u8>> {
    old.iter()
        .flat_map(|(_, snapshot)| entries_of(snapshot, name))
        .collect()
}

proptest! {
    #[test]
    fn it_does_what_the_definitions_say((from, to, states) in case(), swap in any::<bool>()) {
        let old: Vec<_> = states.iter().map(|(index, old)| (*index, old.snapshot(*index))).collect();
        let mut given = old.clone();
        if swap {
            given.reverse();
        }
        let new = redistribute(given, from, to).unwrap();
        prop_assert_eq!(new.len(), to.parallelism as usize);
        check_keyed(&old, &new, to);
        check_split(&old, &new, from == to);
        for snapshot in &new {
            prop_assert_eq!(entries_of(snapshot, "union"), all(&old, "union"));
        }
        check_broadcast(&old, &new);
        check_sections(&old, &new);
    }

    #[test]
    fn the_same_parallelism_changes_nothing((from, _, states) in case()) {
        let old: Vec<_> = states.iter().map(|(index, old)| (*index, old.snapshot(*index))).collect();
        let new = redistribute(old.clone(), from, from).unwrap();
        for (index, snapshot) in &old {
            for name in ["split", "broadcast"] {
                if snapshot.operator.contains_key(name) {
                    prop_assert_eq!(entries_of(snapshot, name), entries_of(&new[*index as usize], name));
                }
            }
        }
    }
}

/// Each entry is where its group belongs, in the order of old subtasks; so each is there once.
fn check_keyed(old: &[(u32, OperatorSnapshot)], new: &[OperatorSnapshot], to: Scale) {
    for (index, snapshot) in new.iter().enumerate() {
        let entries = old.iter().flat_map(|(_, snapshot)| snapshot.keyed("keyed"));
        let expected: Vec<_> = entries
            .filter(|e| owner(e.group, to) as usize == index)
            .cloned()
            .collect();
        assert_eq!(snapshot.keyed("keyed"), expected);
    }
}

/// Each entry is somewhere once, in order; and nobody has two more than another.
fn check_split(old: &[(u32, OperatorSnapshot)], new: &[OperatorSnapshot], same: bool) {
    let dealt: Vec<Vec<Vec<u8>>> = new.iter().map(|snapshot| entries_of(snapshot, "split")).collect();
    assert_eq!(dealt.concat(), all(old, "split"));
    let lengths: Vec<usize> = dealt.iter().map(Vec::len).collect();
    let spread = lengths.iter().max().unwrap() - lengths.iter().min().unwrap();
    assert!(same || spread <= 1, "{lengths:?}");
}

/// Each has what one old subtask had: its own, if it had any.
fn check_broadcast(old: &[(u32, OperatorSnapshot)], new: &[OperatorSnapshot]) {
    let copies: BTreeMap<u32, _> = old
        .iter()
        .filter_map(|(index, snapshot)| Some((*index, &snapshot.operator.get("broadcast")?.entries)))
        .collect();
    for (index, snapshot) in new.iter().enumerate() {
        let found = entries_of(snapshot, "broadcast");
        match copies.get(&(index as u32)) {
            Some(own) => assert_eq!(&found, *own),
            None if copies.is_empty() => assert!(found.is_empty()),
            None => assert!(copies.values().any(|copy| **copy == found)),
        }
    }
}

/// Every new subtask has every section that an old one had, of the same kind, and no other.
fn check_sections(old: &[(u32, OperatorSnapshot)], new: &[OperatorSnapshot]) {
    let kinds = |snapshot: &OperatorSnapshot| -> BTreeMap<String, Redistribution> {
        let sections = snapshot.operator.iter();
        sections
            .map(|(name, section)| (name.clone(), section.redistribution))
            .collect()
    };
    let expected: BTreeMap<_, _> = old.iter().flat_map(|(_, snapshot)| kinds(snapshot)).collect();
    for snapshot in new {
        assert_eq!(kinds(snapshot), expected);
        assert_eq!(snapshot.keyed.contains_key("keyed"), !old.is_empty());
    }
}

#[test]
fn split_entries_are_dealt_in_runs() {
    let old = vec![(0, Redistribution::Split, 3), (2, Redistribution::Split, 4)];
    let snapshot = |(index, how, entries): (u32, Redistribution, usize)| {
        let mut snapshot = OperatorSnapshot::default();
        snapshot.operator.insert("s".into(), section(how, index, entries));
        (index, snapshot)
    };
    let new = redistribute(old.into_iter().map(snapshot).collect(), scale(3, 8), scale(4, 8)).unwrap();
    let dealt: Vec<String> = new
        .iter()
        .map(|snapshot| String::from_utf8(entries_of(snapshot, "s").join(&b' ')).unwrap())
        .collect();
    assert_eq!(dealt, ["0/0 0/1", "0/2 2/0", "2/1 2/2", "2/3"]);
}

#[test]
fn broadcast_copies_go_round() {
    let old = [1_u32, 3].map(|index| {
        let mut snapshot = OperatorSnapshot::default();
        let section = section(Redistribution::Broadcast, index, 1);
        snapshot.operator.insert("b".into(), section);
        (index, snapshot)
    });
    let new = redistribute(old.to_vec(), scale(4, 8), scale(6, 8)).unwrap();
    let from: Vec<u8> = new
        .iter()
        .map(|snapshot| entries_of(snapshot, "b")[0][0])
        .collect();
    assert_eq!(
        from, b"111313",
        "2 and 4 are even, 5 is odd, 1 and 3 keep their own"
    );
}

#[test]
fn what_does_not_fit_is_refused_with_a_remedy() {
    let empty = |index| (index, OperatorSnapshot::default());
    let keyed = |group| {
        let mut snapshot = OperatorSnapshot::default();
        snapshot.put_keyed("sums", vec![keyed_entry(group, 0, 0)]);
        (0, snapshot)
    };
    let operator = |index, how| {
        let mut snapshot = OperatorSnapshot::default();
        snapshot.operator.insert("offsets".into(), section(how, index, 1));
        (index, snapshot)
    };
    let (two, three) = (scale(2, 128), scale(3, 128));
    for (states, from, to, why) in [
        (vec![], two, scale(2, 256), "set the max parallelism to 128"),
        (vec![], scale(0, 128), two, "parallelism 0"),
        (vec![], two, scale(129, 128), "parallelism 129"),
        (vec![], scale(1, 32_769), scale(1, 32_769), "at most 32768"),
        (
            vec![empty(1), empty(0), empty(1)],
            two,
            three,
            "subtask 1 was given twice",
        ),
        (vec![empty(2)], two, three, "state of subtask 2"),
        (vec![keyed(128)], two, three, "key group 128"),
        (
            vec![
                operator(0, Redistribution::Split),
                operator(1, Redistribution::Union),
            ],
            two,
            three,
            "Split in subtask 0 and Union in subtask 1",
        ),
    ] {
        let error = redistribute(states, from, to).unwrap_err();
        assert!(matches!(error, StorageError::Rescale { .. }));
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
}
