//! All kinds of keyed state: access, snapshot and restore at the same and at other parallelisms.

mod backends;
mod shapes;
mod ttl;
mod ttl_model;

use super::*;
use crate::{AggregateFunction, StateTtlConfig};
use hurtig_core::key::{KeyGroupRange, StableKey};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;

fn assert_send<T: Send>() {}

/// A value that may be sent but not shared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct NotSync(Cell<u64>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Visit {
    page: String,
    count: u32,
}

/// The mean of integers, as text.
struct Mean;

impl AggregateFunction for Mean {
    type In = u64;
    type Acc = (u64, u64);
    type Out = String;

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, acc: &mut (u64, u64), input: u64) {
        acc.0 += input;
        acc.1 += 1;
    }

    fn result(&self, acc: &(u64, u64)) -> String {
        format!("{}/{}", acc.0, acc.1)
    }

    fn merge(&self, acc: &mut (u64, u64), other: (u64, u64)) {
        acc.0 += other.0;
        acc.1 += other.1;
    }
}

fn scope<'a>(state: &'a KeyedState<String>, key: &'a str) -> CurrentKey<'a, str> {
    CurrentKey::new(state, key, key.stable_hash())
}

fn all_groups() -> KeyedState<String> {
    KeyedState::new(0..128, 128)
}

#[test]
fn states_move_between_threads_and_need_no_sync() {
    assert_send::<KeyedState<String>>();
    assert_send::<ValueState<NotSync>>();
    assert_send::<AggregatingState<Mean>>();
    let mut state = all_groups();
    let handle = state.value::<NotSync>("cell").unwrap();
    handle.update(scope(&state, "a"), |value| value.0.set(7));
    assert_eq!(handle.get_cloned(scope(&state, "a")), Some(NotSync(Cell::new(7))));
}

#[test]
fn values() {
    let mut state = all_groups();
    let count = state.value::<u64>("count").unwrap();
    let (a, b) = (scope(&state, "a"), scope(&state, "b"));
    assert_eq!(count.get_cloned(a), None);
    assert!(count.get_mut(a).is_none());
    *count.get_or(a, || 10) += 1;
    assert_eq!(count.update(a, |value| std::mem::replace(value, 20)), 11);
    count.set(b, 1);
    count.set(b, 2);
    *count.get_mut(b).unwrap() *= 4;
    assert_eq!(
        (count.get(a).map(|v| *v), count.get(b).map(|v| *v)),
        (Some(20), Some(8))
    );
    count.clear(a);
    assert_eq!((count.get_cloned(a), count.get_cloned(b)), (None, Some(8)));
    *count.table(&state).upsert(a.hash(), a.key(), || 0) += 5;
    assert_eq!(count.get_cloned(a), Some(5));
}

#[test]
fn lists() {
    let mut state = all_groups();
    let list = state.list::<u32>("list").unwrap();
    let a = scope(&state, "a");
    assert!(list.get(a).is_empty());
    list.extend(a, []);
    list.add(a, 1);
    list.extend(a, [2, 3]);
    assert_eq!(*list.get(a), [1, 2, 3]);
    list.update(a, vec![9]);
    assert_eq!(list.take(a), [9]);
    list.add(a, 4);
    list.clear(a);
    list.update(a, vec![]);
    let mut snapshot = OperatorSnapshot::default();
    finish(&state, &mut snapshot);
    assert_eq!(snapshot.keyed("list"), []);
}

#[test]
fn maps() {
    let mut state = all_groups();
    let map = state.map::<String, u32>("map").unwrap();
    let (a, b) = (scope(&state, "a"), scope(&state, "b"));
    assert!(map.is_empty(a));
    for (user_key, value) in [("x", 1), ("z", 3), ("", 0), ("y", 2)] {
        assert_eq!(map.put(a, user_key.to_owned(), value), None);
    }
    *map.get_or(a, "x".to_owned(), || 0) += 10;
    *map.get_or(b, "x".to_owned(), || 5) += 1;
    assert_eq!(map.put(a, "y".to_owned(), 22), Some(2));
    assert_eq!(map.keys(a), ["", "x", "y", "z"]);
    assert_eq!(map.remove(a, "z"), Some(3));
    assert_eq!(
        (map.remove(a, "z"), map.contains(a, "z"), map.contains(a, "")),
        (None, false, true)
    );
    assert_eq!(
        map.entries(a),
        [(String::new(), 0), ("x".to_owned(), 11), ("y".to_owned(), 22)]
    );
    let mut sum = 0;
    map.for_each(a, |_, value| sum += value);
    assert_eq!((sum, map.len(a), map.get(b, "x").map(|v| *v)), (33, 3, Some(6)));
    map.clear(a);
    assert_eq!(
        (map.len(a), map.remove(b, "x"), map.is_empty(b)),
        (0, Some(6), true)
    );
}

#[test]
fn reducing_and_aggregating() {
    let mut state = all_groups();
    let text = state
        .reducing("text", |all: &mut String, more: String| all.push_str(&more))
        .unwrap();
    let mean = state.aggregating("mean", Mean).unwrap();
    let (a, b) = (scope(&state, "a"), scope(&state, "b"));
    assert_eq!((text.get(a).is_none(), mean.get(a)), (true, None));
    for (part, number) in [("x", 4), ("y", 5), ("z", 6)] {
        text.add(a, part.to_owned());
        mean.add(a, number);
    }
    text.add(b, "other".to_owned());
    assert_eq!(
        (text.get(a).unwrap().as_str(), mean.get(a).unwrap().as_str()),
        ("xyz", "15/3")
    );
    assert_eq!((text.get(b).unwrap().as_str(), mean.get(b)), ("other", None));
    text.clear(a);
    mean.clear(a);
    assert_eq!((text.get(a).is_none(), mean.get(a)), (true, None));
}

#[test]
fn several_states_are_held_at_once() {
    let mut state = all_groups();
    let (one, two) = (
        state.value::<u64>("one").unwrap(),
        state.list::<u64>("two").unwrap(),
    );
    let a = scope(&state, "a");
    let mut value = one.get_or(a, || 1);
    two.add(a, *value);
    *value += two.get(a).len() as u64;
    assert_eq!(*value, 2);
}

#[test]
#[should_panic(expected = "state 'one' is changed while a value it returned is still held")]
fn one_state_is_not_changed_while_it_is_read() {
    let mut state = all_groups();
    let one = state.value::<u64>("one").unwrap();
    let a = scope(&state, "a");
    one.set(a, 1);
    let _held = one.get(a);
    one.set(a, 2);
}

#[test]
#[should_panic(expected = "another operator's state: it finds \"list\" at place 0")]
fn handles_belong_to_their_operator() {
    let (mut mine, mut other) = (all_groups(), all_groups());
    let handle = mine.value::<u64>("value").unwrap();
    other.list::<String>("list").unwrap();
    handle.set(scope(&other, "a"), 1);
}

#[test]
fn names_are_unique_and_declared_in_time() {
    let mut state = all_groups();
    state.value::<u64>("count").unwrap();
    let twice = state.list::<u64>("count").unwrap_err();
    assert!(
        twice
            .to_string()
            .contains("keyed state 'count' is declared twice"),
        "{twice}"
    );
    state.restore(&OperatorSnapshot::default()).unwrap();
    let late = state.value::<u64>("late").unwrap_err();
    assert!(
        late.to_string().contains("keyed state 'late' is declared after"),
        "{late}"
    );
}

/// One operator with a state of each kind.
struct Everything {
    state: KeyedState<String>,
    visits: ValueState<Visit>,
    list: ListState<Option<i32>>,
    map: MapState<(u8, String), Visit>,
    most: ReducingState<u64>,
    mean: AggregatingState<Mean>,
}

/// What an [`Everything`] answers for a key.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answers {
    visits: Option<Visit>,
    list: Vec<Option<i32>>,
    map: Vec<((u8, String), Visit)>,
    most: Option<u64>,
    mean: Option<String>,
}

impl Everything {
    fn new(groups: Range<u16>, max_parallelism: u32) -> Self {
        Self::kept_in(StateBackend::Heap, groups, max_parallelism)
    }

    fn kept_in(backend: StateBackend, groups: Range<u16>, max_parallelism: u32) -> Self {
        Self::declared(KeyedState::kept_in(backend, groups, max_parallelism), None)
    }

    /// The states in `state`, with a time-to-live or without.
    fn declared(mut state: KeyedState<String>, ttl: Option<&StateTtlConfig>) -> Self {
        let of = |name: &str| match ttl {
            Some(ttl) => StateDescriptor::new(name).enable_time_to_live(ttl.clone()),
            None => name.into(),
        };
        Self {
            visits: state.value(of("visits")).unwrap(),
            list: state.list(of("list")).unwrap(),
            map: state.map(of("map")).unwrap(),
            most: state
                .reducing(of("most"), |most: &mut u64, new| *most = new.max(*most))
                .unwrap(),
            mean: state.aggregating(of("mean"), Mean).unwrap(),
            state,
        }
    }

    fn write(&self, key: &str, what: u8, number: u64) {
        let cx = scope(&self.state, key);
        let visit = Visit {
            page: format!("/{number}"),
            count: number as u32,
        };
        match what {
            0 => self.visits.set(cx, visit),
            1 => self.list.extend(cx, [Some(number as i32), None]),
            2 => drop(
                self.map
                    .put(cx, (number as u8 % 5, format!("u{}", number % 3)), visit),
            ),
            3 => self.most.add(cx, number),
            4 => self.mean.add(cx, number % 1_000),
            5 => self.visits.clear(cx),
            _ => drop(self.map.remove(cx, &(number as u8 % 5, "u1".to_owned()))),
        }
    }

    fn read(&self, key: &str) -> Answers {
        let cx = scope(&self.state, key);
        Answers {
            visits: self.visits.get_cloned(cx),
            list: self.list.get(cx).to_vec(),
            map: self.map.entries(cx),
            most: self.most.get(cx).map(|most| *most),
            mean: self.mean.get(cx),
        }
    }

    fn snapshot(&self) -> OperatorSnapshot {
        let mut snapshot = OperatorSnapshot::default();
        finish(&self.state, &mut snapshot);
        snapshot
    }
}

/// The subtasks' groups at a parallelism.
fn subtasks(parallelism: u32, max_parallelism: u32) -> Vec<Range<u16>> {
    let of = |subtask| KeyGroupRange::of_subtask(subtask, parallelism, max_parallelism);
    let range = |groups: KeyGroupRange| groups.first().get() as u16..groups.last().get() as u16 + 1;
    (0..parallelism).map(|subtask| range(of(subtask))).collect()
}

/// The subtask that has a key.
fn owner<'a>(all: &'a [Everything], key: &str) -> &'a Everything {
    let group = hurtig_core::key::key_group(key.stable_hash(), all[0].state.max_parallelism()).get() as u16;
    let mut owners = all.iter().filter(|one| one.state.groups().contains(&group));
    let owner = owners.next().unwrap();
    assert!(owners.next().is_none());
    owner
}

proptest! {
    /// Written at one parallelism, restored at another from all subtasks' snapshots (cut by key
    /// group, as a restore does it, or whole), the answers are those of one subtask that was never
    /// restored.
    #[test]
    fn a_restore_gives_the_same_answers(
        writes in proptest::collection::vec((0_u32..40, 0_u8..7, any::<u64>()), 0..200),
        max_parallelism in prop_oneof![Just(7_u32), Just(128), Just(32_767)],
        before in 1_u32..=3,
        after in 1_u32..=3,
        cut: bool,
    ) {
        let model = Everything::new(0..max_parallelism as u16, max_parallelism);
        let open = |groups| Everything::new(groups, max_parallelism);
        let old: Vec<_> = subtasks(before, max_parallelism).into_iter().map(open).collect();
        for (key, what, number) in writes {
            let key = format!("k{key}");
            model.write(&key, what, number);
            owner(&old, &key).write(&key, what, number);
        }
        let snapshots: Vec<_> = old.iter().map(Everything::snapshot).collect();
        let mut new: Vec<_> = subtasks(after, max_parallelism).into_iter().map(open).collect();
        for one in &mut new {
            for snapshot in &snapshots {
                let part = if cut { snapshot.for_key_groups(one.state.groups()) } else { snapshot.clone() };
                one.state.restore(&part).unwrap();
            }
        }
        for key in (0..40).map(|key| format!("k{key}")) {
            prop_assert_eq!(owner(&new, &key).read(&key), model.read(&key));
        }
        let whole = model.snapshot();
        for (name, mut expected) in whole.keyed {
            let mut parts: Vec<_> = new.iter().flat_map(|one| one.snapshot().keyed(&name).to_vec()).collect();
            prop_assert!(parts.is_sorted_by_key(|entry| entry.group), "{} is not in group order", name);
            parts.sort();
            expected.sort();
            prop_assert_eq!(parts, expected);
        }
    }
}

fn refused(snapshot: &OperatorSnapshot, declare: impl FnOnce(&mut KeyedState<String>)) -> String {
    let mut state = all_groups();
    declare(&mut state);
    // What a checkpoint of before shapes were stored says.
    let mut untyped = snapshot.clone();
    untyped.shapes = Default::default();
    state.restore(&untyped).unwrap_err().chain()
}

#[test]
fn damaged_snapshots_are_refused_by_name() {
    let mut state = all_groups();
    let visits = state.value::<Visit>("visits").unwrap();
    visits.set(
        scope(&state, "a"),
        Visit {
            page: "/".to_owned(),
            count: 1,
        },
    );
    let mut good = OperatorSnapshot::default();
    finish(&state, &mut good);

    let text = refused(&good, |state| drop(state.value::<Vec<u64>>("visits")));
    assert!(
        text.contains(
            "cannot restore state 'visits': the value of key 'a' cannot be read: cannot decode a state value of type"
        ),
        "{text}"
    );

    let edit = |change: fn(&mut crate::KeyedEntry)| {
        let mut bad = good.clone();
        bad.keyed.get_mut("visits").unwrap().iter_mut().for_each(change);
        refused(&bad, |state| drop(state.value::<Visit>("visits")))
    };
    let text = edit(|entry| entry.key.truncate(1));
    assert!(
        text.contains("cannot restore state 'visits': cannot read a key of type"),
        "{text}"
    );
    let text = edit(|entry| entry.group ^= 1);
    assert!(
        text.contains("belongs to another max parallelism than 128"),
        "{text}"
    );
    let text = edit(|entry| entry.value.truncate(2));
    assert!(text.contains("cannot decode a state value"), "{text}");

    let twice = state.restore(&good).unwrap_err().chain();
    assert!(
        twice.contains("cannot restore state 'visits'") && twice.contains("restored twice"),
        "{twice}"
    );
}

#[test]
fn a_damaged_user_key_is_refused_by_name() {
    let mut state = all_groups();
    let map = state.map::<String, u8>("map").unwrap();
    map.put(scope(&state, "a"), "x".to_owned(), 1);
    let mut snapshot = OperatorSnapshot::default();
    finish(&state, &mut snapshot);
    let text = refused(&snapshot, |state| drop(state.map::<u64, u8>("map")));
    assert!(
        text.contains("cannot restore state 'map': cannot read a user key of type u64"),
        "{text}"
    );
}

#[test]
fn a_value_gets_an_added_field_with_its_default() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Wider {
        count: u32,
        #[serde(default)]
        seen: BTreeMap<String, u64>,
    }
    let mut state = all_groups();
    let visits = state.value::<Visit>("visits").unwrap();
    visits.set(
        scope(&state, "a"),
        Visit {
            page: "/".to_owned(),
            count: 3,
        },
    );
    let mut snapshot = OperatorSnapshot::default();
    finish(&state, &mut snapshot);

    let mut next = all_groups();
    let wider = next.value::<Wider>("visits").unwrap();
    next.restore(&snapshot).unwrap();
    assert_eq!(
        wider.get_cloned(scope(&next, "a")),
        Some(Wider {
            count: 3,
            seen: BTreeMap::new()
        })
    );
}

/// Takes a snapshot in many small steps.
fn finish<K: OwnedKey>(state: &KeyedState<K>, snapshot: &mut OperatorSnapshot) {
    state.begin_snapshot().unwrap();
    while !state
        .continue_snapshot(snapshot, &mut ScanBudget::new(3))
        .unwrap()
    {}
    snapshot.decode_sections().unwrap();
}
