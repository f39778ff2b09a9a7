//! What expires when, one case at a time, and states that get a time-to-live or lose it.

use super::backends::stores;
use super::ttl_model::{adopt, declared};
use super::*;
use crate::{StateVisibility, UpdateType};
use hurtig_core::time::ManualClock;
use std::time::Duration;
use tempfile::TempDir;

fn ttl_of(ms: u64) -> StateTtlConfig {
    StateTtlConfig::new(Duration::from_millis(ms))
}

/// One value with a time-to-live, and its clock.
struct One {
    clock: Arc<ManualClock>,
    state: KeyedState<String>,
    value: ValueState<u64>,
}

impl One {
    fn new(ttl: StateTtlConfig) -> Self {
        let clock = ManualClock::new();
        clock.set_wall_ms(1_000);
        let mut state = all_groups().with_clock(clock.clone());
        let value = state.value(StateDescriptor::new("value").enable_time_to_live(ttl));
        let value = value.unwrap();
        Self { clock, state, value }
    }

    fn get(&self) -> Option<u64> {
        self.value.get_cloned(scope(&self.state, "a"))
    }

    fn set(&self, value: u64) {
        self.value.set(scope(&self.state, "a"), value);
    }

    fn get_at(&self, ms: i64) -> Option<u64> {
        self.clock.set_wall_ms(ms);
        self.get()
    }
}

#[test]
fn writes_renew_a_value_and_reads_do_not() {
    let one = One::new(ttl_of(10));
    one.set(1);
    assert_eq!(one.get_at(1_009), Some(1));
    one.set(2);
    assert_eq!(one.get_at(1_018), Some(2));
    assert_eq!(one.get_at(1_019), None);
    *one.value.get_or(scope(&one.state, "a"), || 7) += 1;
    assert_eq!(one.get_at(1_028), Some(8));
    *one.value.get_mut(scope(&one.state, "a")).unwrap() += 1;
    assert_eq!(one.get_at(1_037), Some(9));
    assert!(one.get_at(1_038).is_none() && one.value.get_mut(scope(&one.state, "a")).is_none());
    one.value.update(scope(&one.state, "a"), |value| *value += 3);
    assert_eq!(one.get(), Some(3));
    one.value.clear(scope(&one.state, "a"));
    assert_eq!(one.get(), None);
}

#[test]
fn reads_renew_a_value_when_asked_to() {
    let one = One::new(ttl_of(10).update_type(UpdateType::OnReadAndWrite));
    one.set(1);
    for time in [1_009, 1_018, 1_027] {
        assert_eq!(one.get_at(time), Some(1));
    }
    assert_eq!(one.get_at(1_037), None);
}

#[test]
fn expired_values_are_seen_until_they_are_cleaned_up_when_asked_to() {
    let ttl = ttl_of(10).state_visibility(StateVisibility::ReturnExpiredIfNotCleanedUp);
    let one = One::new(ttl.cleanup_incrementally(1, false));
    one.set(1);
    assert_eq!((one.get_at(1_010), one.get_at(1_020)), (Some(1), Some(1)));
    one.state.clean_up(0);
    assert_eq!(one.get(), None);
}

#[test]
fn a_disabled_time_to_live_is_none() {
    let one = One::new(StateTtlConfig::disabled());
    one.set(1);
    assert_eq!(one.get_at(i64::MAX / 2_000_000), Some(1));
    assert_eq!(one.value.table(&one.state).get("a".stable_hash(), "a"), Some(&1));
}

#[test]
#[should_panic(expected = "a state with a time-to-live has no table")]
fn there_is_no_table_of_values_that_expire() {
    let one = One::new(ttl_of(10));
    let _ = one.value.table(&one.state);
}

#[test]
fn elements_and_user_keys_expire_one_by_one() {
    let clock = ManualClock::new();
    let mut state = all_groups().with_clock(clock.clone());
    let of = |name: &str| StateDescriptor::new(name).enable_time_to_live(ttl_of(10));
    let list = state.list::<u32>(of("list")).unwrap();
    let map = state.map::<String, u32>(of("map")).unwrap();
    let a = scope(&state, "a");
    for (time, number) in [(0, 1), (4, 2), (4, 3), (8, 4)] {
        clock.set_wall_ms(time);
        list.add(a, number);
        map.put(a, format!("u{number}"), number);
    }
    clock.set_wall_ms(10);
    assert_eq!((&*list.get(a), map.len(a)), (&[2, 3, 4][..], 3));
    assert_eq!(map.put(a, "u1".to_owned(), 11), None);
    *map.get_or(a, "u2".to_owned(), || 0) += 20;
    clock.set_wall_ms(14);
    assert_eq!(*list.get(a), [4]);
    assert_eq!((map.remove(a, "u3"), map.contains(a, "u3")), (None, false));
    assert_eq!(map.keys(a), ["u1", "u2", "u4"]);
    assert_eq!(map.get(a, "u2").map(|value| *value), Some(22));
    clock.set_wall_ms(18);
    assert!(list.take(a).is_empty() && list.get(a).is_empty() && !map.is_empty(a));
    list.update(a, vec![5, 6]);
    list.extend(a, [7]);
    clock.set_wall_ms(20);
    assert!(map.is_empty(a) && map.entries(a).is_empty());
    assert_eq!(list.take(a), [5, 6, 7]);
}

/// What nobody asks for is found by those who ask for something else, and memory is given back.
#[test]
fn what_has_expired_is_cleaned_up_little_by_little() {
    for (entries, per_record) in [(3, false), (1, true)] {
        let one = One::new(ttl_of(10).cleanup_incrementally(entries, per_record));
        for key in 0..1_000 {
            one.value.set(scope(&one.state, &format!("k{key}")), key);
        }
        one.state.clean_up(1_000);
        let full = one.state.capacity_bytes();
        one.clock.set_wall_ms(1_010);
        let left = || {
            let mut snapshot = OperatorSnapshot::default();
            finish(&one.state, &mut snapshot);
            snapshot.keyed("value").len()
        };
        assert_eq!(left(), 1_000);
        one.set(7);
        one.state.clean_up(20);
        assert!((975..=998).contains(&left()), "{} are left", left());
        for _ in 0..2_000 {
            one.set(7);
            one.state.clean_up(1);
        }
        assert_eq!((left(), one.get()), (1, Some(7)));
        assert!(one.state.capacity_bytes() < full / 4);
    }
}

/// A key that is written all the time never expires as a whole; parts of what it has do.
#[test]
fn what_is_written_again_and_again_does_not_grow_for_ever() {
    let dir = TempDir::new().unwrap();
    for backend in [StateBackend::Heap, stores(&dir, 0), stores(&dir, 1 << 20)] {
        let clock = ManualClock::new();
        let mut state = KeyedState::<String>::kept_in(backend.clone(), 0..128, 128).with_clock(clock.clone());
        let of = |name: &str| StateDescriptor::new(name).enable_time_to_live(ttl_of(10));
        let list = state.list::<i64>(of("list")).unwrap();
        let map = state.map::<i64, i64>(of("map")).unwrap();
        for now in 0..500 {
            clock.set_wall_ms(now);
            state.quiet_point().unwrap();
            list.add(scope(&state, "a"), now);
            map.put(scope(&state, "a"), now, now);
            state.clean_up(1);
        }
        let mut snapshot = OperatorSnapshot::default();
        finish(&state, &mut snapshot);
        snapshot.decode_sections().unwrap();
        let (entries, bytes) = (snapshot.keyed("map").len(), snapshot.keyed("list")[0].value.len());
        assert!((10..40).contains(&entries), "{entries} user keys in {backend:?}");
        assert!((10 * 9..40 * 12).contains(&bytes), "{bytes} bytes in {backend:?}");
    }
}

#[test]
fn without_a_background_nothing_goes_by_itself() {
    let one = One::new(ttl_of(10).disable_cleanup_in_background());
    one.set(1);
    one.value.set(scope(&one.state, "b"), 2);
    one.clock.set_wall_ms(2_000);
    for _ in 0..10 {
        assert_eq!(one.get(), None);
        one.state.clean_up(10);
    }
    let mut snapshot = OperatorSnapshot::default();
    finish(&one.state, &mut snapshot);
    assert_eq!(
        snapshot.keyed("value").len(),
        1,
        "what was asked for is gone, the other one is there"
    );
}

#[test]
fn a_value_that_is_held_is_not_cleaned_up_under_its_holder() {
    let clock = ManualClock::new();
    let mut state = all_groups().with_clock(clock.clone());
    let ttl = StateDescriptor::new("map").enable_time_to_live(ttl_of(10));
    let map = state.map::<u8, u8>(ttl).unwrap();
    let a = scope(&state, "a");
    map.put(a, 1, 1);
    clock.set_wall_ms(5);
    map.put(a, 2, 2);
    clock.set_wall_ms(10);
    let held = map.get(a, &2).unwrap();
    assert_eq!((map.get(a, &1).is_none(), map.keys(a), *held), (true, vec![2], 2));
}

#[test]
#[should_panic(expected = "state 'value' is changed while a value it returned is still held")]
fn a_read_that_renews_is_a_change() {
    let one = One::new(ttl_of(10).update_type(UpdateType::OnReadAndWrite));
    one.set(1);
    let _held = one.value.get(scope(&one.state, "a"));
    one.get();
}

/// How a snapshot comes into a store: as entries, or as the files of one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Heap,
    Store,
    Files,
}

fn moved(from: From, to_store: bool, (before, after): (bool, bool)) {
    let dir = TempDir::new().unwrap();
    let stores = stores(&dir, 500);
    let ttl = ttl_of(1_000);
    let (clock, at) = (ManualClock::new(), |has: bool| has.then_some(&ttl));
    clock.set_wall_ms(5_000);
    let backend = if from == From::Heap {
        StateBackend::Heap
    } else {
        stores.clone()
    };
    let old = declared(backend, None, (&clock, at(before)));
    for number in 0..300 {
        old.write(&format!("k{}", number % 40), number as u8 % 5, number);
        old.state.quiet_point().unwrap();
    }
    clock.set_wall_ms(5_500);
    let mut snapshot = OperatorSnapshot::default();
    old.state.begin_snapshot().unwrap();
    while !old
        .state
        .continue_snapshot(&mut snapshot, &mut ScanBudget::new(7))
        .unwrap()
    {}
    let new = if from == From::Files {
        let stored = snapshot.stored.take().unwrap();
        let adopted = adopt(&stores, &stored, &dir);
        declared(stores, Some(adopted), (&clock, at(after)))
    } else {
        snapshot.decode_sections().unwrap();
        let backend = if to_store { stores } else { StateBackend::Heap };
        let mut new = declared(backend, None, (&clock, at(after)));
        new.state.restore(&snapshot).unwrap();
        new
    };
    let keys: Vec<String> = (0..40).map(|key| format!("k{key}")).collect();
    for key in &keys {
        assert_eq!(new.read(key), old.read(key), "{key}");
        assert_ne!(new.read(key), Answers::default());
    }
    // Values without times have been accessed when they were restored.
    let until = if before { 6_000 } else { 6_500 };
    clock.set_wall_ms(until - 1);
    assert!(keys.iter().all(|key| new.read(key) != Answers::default()));
    clock.set_wall_ms(until);
    for key in &keys {
        assert_eq!(new.read(key) == Answers::default(), after, "{key}");
    }
}

#[test]
fn a_state_gets_a_time_to_live_or_loses_it_by_a_restore() {
    for (from, to_store) in [
        (From::Heap, false),
        (From::Heap, true),
        (From::Store, false),
        (From::Store, true),
        (From::Files, true),
    ] {
        for change in [(false, true), (true, false), (true, true), (false, false)] {
            moved(from, to_store, change);
        }
    }
}

#[test]
fn another_kind_of_state_is_refused_by_name() {
    let clock = ManualClock::new();
    let ttl = |name: &str| StateDescriptor::new(name).enable_time_to_live(ttl_of(10));
    let mut lists = all_groups().with_clock(clock.clone());
    let list = lists.list::<u64>(ttl("state")).unwrap();
    list.extend(scope(&lists, "a"), [1, 2]);
    let mut snapshot = OperatorSnapshot::default();
    finish(&lists, &mut snapshot);
    let mut values = all_groups().with_clock(clock);
    let _ = values.value::<Vec<u64>>(ttl("state")).unwrap();
    let text = values.restore(&snapshot).unwrap_err().chain();
    assert!(
        text.contains("cannot restore state 'state'") && text.contains("another kind of state"),
        "{text}"
    );
}

#[test]
fn a_time_to_live_without_a_clock_is_a_bug() {
    let ttl = StateDescriptor::new("state").enable_time_to_live(ttl_of(10));
    let text = all_groups().value::<u64>(ttl).unwrap_err().chain();
    assert!(text.contains("no clock"), "{text}");
}
