//! The table against maps of the standard library, and its own promises.

use super::*;
use hurtig_core::key::hash_int;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

impl<K, V> Array<K, V> {
    /// Checks the invariants that the type states; entries have homes in `homes`.
    fn check(&self, span: &Span, from: usize) -> usize {
        let (mut count, mut last, mut first_free) = (0, None, 0);
        for index in 0..self.end() {
            let Some(slot) = self.slot(index) else {
                first_free = index + 1;
                continue;
            };
            let home = self.home(span, slot.tag);
            assert!(
                home >= from,
                "entry at {index} has home {home}, swept up to {from}"
            );
            assert!(
                (first_free..=index).contains(&home),
                "entry at {index} cannot be found from {home}"
            );
            assert!(last <= Some(slot.tag), "entry at {index} is out of order");
            last = Some(slot.tag);
            count += 1;
        }
        assert_eq!(self.iter().count(), count, "entries behind the end");
        count
    }
}

impl<K, V> GroupedTable<K, V> {
    fn check(&self) {
        let old = self.growth.as_ref().map_or(0, |growth| {
            let swept = (0..growth.cursor).find(|&index| growth.old.slot(index).is_some());
            assert_eq!(swept, None, "an entry was left behind");
            growth.old.check(&self.span, growth.cursor)
        });
        assert_eq!(self.array.check(&self.span, 0) + old, self.len());
        if let Some(growth) = &self.growth {
            for slot in self.array.iter() {
                assert!(
                    growth.old.home(&self.span, slot.tag) < growth.cursor,
                    "an entry moved too early"
                );
            }
        }
        let groups: Vec<_> = self.iter().map(|(hash, ..)| self.group_of(hash)).collect();
        assert!(groups.is_sorted(), "groups out of order: {groups:?}");
        assert!(groups.iter().all(|group| self.groups().contains(group)));
    }
}

/// How keys become hashes.
#[derive(Clone, Copy, Debug)]
enum Hashing {
    /// As integers do.
    Spread,
    /// All keys share few hashes.
    Colliding,
    /// All hashes are close to the end of the last group.
    Last,
    /// All hashes are close to the start of the first group, zero included.
    First,
}

/// A table under test with the way its keys hash.
#[derive(Clone, Debug)]
struct Layout {
    groups: Range<u16>,
    max_parallelism: u32,
    hashing: Hashing,
}

impl Layout {
    fn table<V>(&self) -> GroupedTable<u32, V> {
        GroupedTable::new(self.groups.clone(), self.max_parallelism)
    }

    /// A hash in the layout's groups.
    fn hash(&self, key: u32) -> u64 {
        let boundary = |group: u16| (u64::from(group) << 32).div_ceil(u64::from(self.max_parallelism));
        let (first, end) = (boundary(self.groups.start), boundary(self.groups.end));
        let spread = hash_int(u64::from(key));
        let (position, rest) = match self.hashing {
            Hashing::Spread => (first + (spread >> 16) % (end - first), spread),
            Hashing::Colliding => (first + u64::from(key % 3) * (end - first) / 3, 0),
            Hashing::Last => (
                end - 1 - u64::from(key % 2),
                if key.is_multiple_of(5) { u64::MAX } else { spread },
            ),
            Hashing::First => (
                first + u64::from(key % 2),
                if key.is_multiple_of(5) { 0 } else { spread },
            ),
        };
        let hash = (rest & 0xffff_0000_0000_ffff) | (position << 16);
        assert!(
            self.groups
                .contains(&(key_group(hash, self.max_parallelism).get() as u16))
        );
        hash
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    let ranges = prop_oneof![
        Just((0..1, 1)),
        Just((0..128, 128)),
        Just((43..86, 128)),
        Just((127..128, 128)),
        Just((0..32_767, 32_768)),
        Just((16_384..32_767, 32_768)),
        Just((9..10, 32_768)),
        Just((2..3, 3)),
    ];
    let hashing = prop_oneof![
        4 => Just(Hashing::Spread),
        1 => Just(Hashing::Colliding),
        1 => Just(Hashing::Last),
        1 => Just(Hashing::First),
    ];
    (ranges, hashing).prop_map(|((groups, max_parallelism), hashing)| Layout {
        groups,
        max_parallelism,
        hashing,
    })
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u32, u64),
    Upsert(u32, u64),
    Remove(u32),
    Get(u32),
    Pop,
    Clear,
}

fn ops(keys: u32, count: usize) -> impl Strategy<Value = Vec<Op>> {
    let key = 0..keys;
    let op = prop_oneof![
        300 => (key.clone(), any::<u64>()).prop_map(|(key, value)| Op::Insert(key, value)),
        300 => (key.clone(), any::<u64>()).prop_map(|(key, value)| Op::Upsert(key, value)),
        200 => key.clone().prop_map(Op::Remove),
        100 => key.prop_map(Op::Get),
        60 => Just(Op::Pop),
        1 => Just(Op::Clear),
    ];
    proptest::collection::vec(op, 0..count)
}

/// Applies an operation to both and compares the answers.
fn apply(op: &Op, layout: &Layout, table: &mut GroupedTable<u32, u64>, model: &mut BTreeMap<u32, u64>) {
    match *op {
        Op::Insert(key, value) => {
            assert_eq!(
                table.insert(layout.hash(key), key, value),
                model.insert(key, value)
            );
        }
        Op::Upsert(key, value) => {
            let stored = table.upsert(layout.hash(key), &key, || value);
            assert_eq!(stored, model.entry(key).or_insert(value));
            *stored = stored.wrapping_add(1);
            let kept = *stored;
            let seen = table.update(
                layout.hash(key),
                &key,
                || value,
                |stored| {
                    *stored = stored.wrapping_add(1);
                    stored.wrapping_sub(1)
                },
            );
            assert_eq!(seen, kept);
            model.insert(key, kept.wrapping_add(1));
        }
        Op::Remove(key) => {
            let removed = table.remove(layout.hash(key), &key);
            assert_eq!(removed, model.remove(&key).map(|value| (key, value)));
        }
        Op::Get(key) => {
            assert_eq!(table.get(layout.hash(key), &key), model.get(&key));
            assert_eq!(table.get_mut(layout.hash(key), &key), model.get_mut(&key));
        }
        Op::Pop => match table.pop_any() {
            None => assert!(model.is_empty()),
            Some((hash, key, value)) => {
                assert_eq!(Tag::of(hash), Tag::of(layout.hash(key)));
                assert_eq!(model.remove(&key), Some(value));
            }
        },
        Op::Clear => {
            table.clear();
            model.clear();
        }
    }
    assert_eq!((table.len(), table.is_empty()), (model.len(), model.is_empty()));
}

fn contents(table: &GroupedTable<u32, u64>) -> BTreeMap<u32, u64> {
    let entries: Vec<_> = table.iter().map(|(_, &key, &value)| (key, value)).collect();
    assert_eq!(entries.len(), table.len());
    entries.into_iter().collect()
}

proptest! {
    #[test]
    fn it_is_a_map(layout in layout(), ops in ops(60, 200)) {
        let (mut table, mut model) = (layout.table(), BTreeMap::new());
        for op in &ops {
            apply(op, &layout, &mut table, &mut model);
            table.check();
        }
        prop_assert_eq!(contents(&table), model);
    }

    #[test]
    fn tags_sort_by_group_and_return_the_hash(a: u64, b: u64, max_parallelism in 1_u32..=MAX) {
        let (low, high) = if Tag::of(a) <= Tag::of(b) { (a, b) } else { (b, a) };
        prop_assert!(key_group(low, max_parallelism) <= key_group(high, max_parallelism));
        prop_assert_eq!(Tag::of(a).hash(), if a == 0 { 1 << 48 } else { a });
        prop_assert_eq!(key_group(Tag::of(0).hash(), max_parallelism), key_group(0, max_parallelism));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Starts at every fill around a growth, so that operations meet the sweep at every place.
    #[test]
    fn it_is_a_map_while_it_grows(layout in layout(), fill in 80_u32..1_200, ops in ops(2_000, 60)) {
        let (mut table, mut model) = (layout.table(), BTreeMap::new());
        for key in 0..fill {
            apply(&Op::Insert(key, u64::from(key)), &layout, &mut table, &mut model);
        }
        for op in &ops {
            apply(op, &layout, &mut table, &mut model);
        }
        table.check();
        prop_assert_eq!(contents(&table), model.clone());
        table.iter_mut().for_each(|(_, _, value)| *value = value.wrapping_mul(3));
        model.values_mut().for_each(|value| *value = value.wrapping_mul(3));
        for key in 0..2_000 {
            prop_assert_eq!(table.get(layout.hash(key), &key), model.get(&key));
        }
        while !model.is_empty() {
            apply(&Op::Pop, &layout, &mut table, &mut model);
        }
        prop_assert_eq!(table.pop_any(), None);
        table.check();
    }
}

const MAX: u32 = hurtig_core::key::MAX_KEY_GROUPS;

/// Every group has its own stretch of every array: homes are monotone, and all are used.
#[test]
fn homes_spread_over_all_buckets() {
    for (groups, max_parallelism) in [
        (0..1, 1),
        (0..128, 128),
        (43..86, 128),
        (9..10, 32_768),
        (2..3, 3),
    ] {
        let layout = Layout {
            groups: groups.clone(),
            max_parallelism,
            hashing: Hashing::Spread,
        };
        let span = Span::new(groups, max_parallelism);
        let (buckets, mut used) = (1_024, [false; 1_024]);
        for key in 0..20_000 {
            used[span.home(span.tag(layout.hash(key)), span.scale(buckets))] = true;
        }
        assert!(used.iter().all(|&used| used), "{layout:?}");
        let last = Layout {
            hashing: Hashing::Last,
            ..layout.clone()
        };
        assert_eq!(
            span.home(span.tag(last.hash(0)), span.scale(buckets)),
            buckets - 1
        );
        let first = Layout {
            hashing: Hashing::First,
            ..layout
        };
        assert_eq!(span.home(span.tag(first.hash(0)), span.scale(buckets)), 0);
    }
}

/// No insert moves more than the sweep's stretch and two clusters (the one that the sweep finishes
/// and the one that the insert joins), at every size up to several segments.
#[test]
fn no_insert_moves_much() {
    let mut table = GroupedTable::new(0..128, 128);
    let (mut most, mut growths) = (0, 0);
    for key in 0..300_000_u64 {
        let growing = table.growth.is_some();
        table.insert(hash_int(key), key, key);
        growths += usize::from(table.growth.is_some() && !growing);
        most = most.max(table.moved);
        if key % 9_973 == 0 {
            table.check();
        }
    }
    table.check();
    assert!(growths >= 10, "{growths} growths were seen");
    assert!(
        (MIGRATED_PER_INSERT / 2..MIGRATED_PER_INSERT + 100).contains(&most),
        "moved {most} slots at once"
    );
    assert!((0..300_000_u64).all(|key| table.get(hash_int(key), &key) == Some(&key)));
}

#[test]
fn keys_of_one_hash_are_kept_apart() {
    let mut table = GroupedTable::new(0..128, 128);
    for key in 0..5_000_u32 {
        assert_eq!(table.insert(u64::MAX, key, key), None);
    }
    table.check();
    for key in (0..5_000).step_by(2) {
        assert_eq!(table.remove(u64::MAX, &key), Some((key, key)));
    }
    table.check();
    assert!((0..5_000).all(|key| table.get(u64::MAX, &key).is_some() == (key % 2 == 1)));
    // Equal hashes stay in the order of insertion, so that a restore repeats it.
    assert!(table.iter().map(|(_, &key, _)| key).eq((1..5_000).step_by(2)));
}

#[test]
fn draining_frees_memory_on_the_way() {
    let mut table = GroupedTable::new(0..128, 128);
    for key in 0..100_000_u64 {
        table.insert(hash_int(key), key, ());
    }
    let full = table.capacity_bytes();
    for _ in 0..90_000 {
        table.pop_any().unwrap();
    }
    table.check();
    assert!(
        table.capacity_bytes() < full / 4,
        "{} of {full} bytes left",
        table.capacity_bytes()
    );
    for key in 200_000..300_000_u64 {
        table.insert(hash_int(key), key, ());
    }
    table.check();
    assert_eq!(std::iter::from_fn(|| table.pop_any()).count(), 110_000);
}

#[test]
fn an_empty_table_has_no_memory() {
    let mut table: GroupedTable<String, u64> = GroupedTable::new(0..128, 128);
    assert_eq!(
        (table.capacity_bytes(), table.iter().count(), table.pop_any()),
        (0, 0, None)
    );
    table.prefetch(&[1, 2, u64::MAX]);
    assert_eq!(table.get(5, "five"), None);
    *table.upsert("five".stable_hash(), "five", || 4) += 1;
    assert_eq!(table.get("five".stable_hash(), "five"), Some(&5));
    assert!(table.capacity_bytes() <= 2_048);
}

/// Large values make short segments, values without size long ones.
#[test]
fn segments_fit_their_values() {
    let mut large = GroupedTable::new(0..128, 128);
    let mut none = GroupedTable::new(0..128, 128);
    let mut model = HashMap::new();
    for key in 0..3_000_u64 {
        large.insert(hash_int(key), key, [key; 1_024]);
        none.insert(hash_int(key), key, ());
        model.insert(key, key);
    }
    large.check();
    none.check();
    assert!(
        model
            .keys()
            .all(|key| large.get(hash_int(*key), key) == Some(&[*key; 1_024]))
    );
    assert_eq!(none.len(), 3_000);
}

#[test]
#[should_panic(expected = "a key of group 127 reached state of groups 0..64 (max parallelism 128)")]
fn keys_of_other_subtasks_are_refused() {
    GroupedTable::<u64, u64>::new(0..64, 128).get(u64::MAX, &1);
}

#[test]
#[should_panic(expected = "key groups 5..5 are empty")]
fn no_groups_are_refused() {
    let _ = GroupedTable::<u64, u64>::new(5..5, 128);
}
