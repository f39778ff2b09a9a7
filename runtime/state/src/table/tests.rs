//! The table against maps of the standard library, and its own promises.

mod scan;

use super::*;
use hurtig_core::key::{KeyDecodeError, KeyWriter, hash_int, key_group};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// A key whose hash a test chooses.
#[derive(Clone, Copy, Debug)]
struct Key {
    id: u32,
    hash: u64,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Key {}

impl StableKey for Key {
    fn encode_to<W: KeyWriter>(&self, out: &mut W) {
        self.id.encode_to(out);
        self.hash.encode_to(out);
    }

    fn shape(out: &mut String) {
        out.push_str("key of a test");
    }

    fn stable_hash(&self) -> u64 {
        self.hash
    }
}

impl OwnedKey for Key {
    fn decode(bytes: &mut &[u8]) -> Result<Self, KeyDecodeError> {
        let (id, hash) = (u32::decode(bytes)?, u64::decode(bytes)?);
        Ok(Self { id, hash })
    }
}

impl<K: StableKey, V> GroupedTable<K, V> {
    /// Checks that every entry is where it is looked for, and that segments are in key-group order.
    fn check(&self) {
        let (mut count, mut last) = (self.popped.len(), None);
        for at in self.directory.in_order() {
            let mut offsets: Vec<u64> = Vec::new();
            for slot in &self.segments[at] {
                let hash = slot.key.stable_hash();
                assert_eq!(self.segment_of(hash), at, "an entry cannot be found");
                assert!(self.span.offset(hash) <= self.span.width());
                offsets.push(self.span.offset(hash));
            }
            offsets.sort_unstable();
            let first = offsets.first().copied();
            assert!(first.is_none() || last <= first, "segments out of order");
            last = offsets.last().copied().or(last);
            count += offsets.len();
        }
        assert_eq!(count, self.len(), "entries in no segment of the directory");
        assert!(self.segments[self.used..].iter().all(Slots::is_empty));
    }

    fn largest_segment(&self) -> usize {
        self.segments.iter().map(Slots::len).max().unwrap_or(0)
    }
}

/// How keys become hashes.
#[derive(Clone, Copy, Debug)]
enum Hashing {
    /// As integers do.
    Spread,
    /// As integers do, with some that lie on the first hash of a half, a quarter and so on.
    Edges,
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
    fn table<V>(&self) -> GroupedTable<Key, V> {
        GroupedTable::new(self.groups.clone(), self.max_parallelism)
    }

    /// A key in the layout's groups.
    fn key(&self, id: u32) -> Key {
        Key {
            id,
            hash: self.hash(id),
        }
    }

    fn hash(&self, key: u32) -> u64 {
        let boundary = |group: u16| (u64::from(group) << 32).div_ceil(u64::from(self.max_parallelism));
        let (first, end) = (boundary(self.groups.start), boundary(self.groups.end));
        let spread = hash_int(u64::from(key));
        let (position, rest) = match self.hashing {
            Hashing::Edges if key.is_multiple_of(16) => (first + ((spread >> 58) << 26) % (end - first), 0),
            Hashing::Spread | Hashing::Edges => (first + (spread >> 16) % (end - first), spread),
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
        4 => Just(Hashing::Edges),
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
    ChangeEach(Vec<u32>),
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
        100 => proptest::collection::vec(key.clone(), 0..9).prop_map(Op::ChangeEach),
        200 => key.clone().prop_map(Op::Remove),
        100 => key.prop_map(Op::Get),
        60 => Just(Op::Pop),
        1 => Just(Op::Clear),
    ];
    proptest::collection::vec(op, 0..count)
}

/// Counts from 100 on.
struct Counting;

impl Change<Key, Key, u64> for Counting {
    type Out = (u32, u64);
    type Key<'a> = &'a Key;

    fn key_of<'a>(&self, record: &'a Key) -> &'a Key {
        record
    }

    fn is_key(&self, stored: &Key, key: &&Key) -> bool {
        stored == *key
    }

    fn change(&self, key: &Key, value: &mut u64, record: Key) -> (u32, u64) {
        assert_eq!(*key, record);
        *value = value.wrapping_add(1);
        (record.id, *value)
    }

    fn owned_key(&self, record: &Key) -> Key {
        *record
    }

    fn first(&self, record: Key) -> (Key, u64, (u32, u64)) {
        (record, 100, (record.id, 100))
    }
}

/// Applies an operation to both and compares the answers.
fn apply(op: &Op, layout: &Layout, table: &mut GroupedTable<Key, u64>, model: &mut BTreeMap<u32, u64>) {
    match *op {
        Op::Insert(id, value) => {
            let key = layout.key(id);
            assert_eq!(table.insert(key.hash, key, value), model.insert(id, value));
        }
        Op::Upsert(id, value) => {
            let key = layout.key(id);
            let stored = table.upsert(key.hash, &key, || value);
            assert_eq!(stored, model.entry(id).or_insert(value));
            *stored = stored.wrapping_add(1);
            let kept = *stored;
            model.insert(id, kept);
        }
        Op::ChangeEach(ref ids) => {
            let keys: Vec<Key> = ids.iter().map(|&id| layout.key(id)).collect();
            let hashes: Vec<u64> = keys.iter().map(|key| key.hash).collect();
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            table.change_each(&hashes, keys.into_iter(), &Counting, &mut out);
            for &id in ids {
                let count = model
                    .entry(id)
                    .and_modify(|n| *n = n.wrapping_add(1))
                    .or_insert(100);
                expected.push((id, *count));
            }
            assert_eq!(out, expected);
        }
        Op::Remove(id) => {
            let key = layout.key(id);
            let removed = table.remove(key.hash, &key).map(|(key, value)| (key.id, value));
            assert_eq!(removed, model.remove(&id).map(|value| (id, value)));
        }
        Op::Get(id) => {
            let key = layout.key(id);
            assert_eq!(table.get(key.hash, &key), model.get(&id));
            assert_eq!(table.get_mut(key.hash, &key), model.get_mut(&id));
        }
        Op::Pop => match table.pop_any() {
            None => assert!(model.is_empty()),
            Some((hash, key, value)) => {
                assert_eq!(hash, layout.hash(key.id));
                assert_eq!(model.remove(&key.id), Some(value));
            }
        },
        Op::Clear => {
            table.clear();
            model.clear();
        }
    }
    assert_eq!((table.len(), table.is_empty()), (model.len(), model.is_empty()));
}

fn contents(table: &GroupedTable<Key, u64>) -> BTreeMap<u32, u64> {
    let entries: Vec<_> = table.iter().map(|(_, key, &value)| (key.id, value)).collect();
    assert_eq!(entries.len(), table.len());
    let sorted: Vec<_> = table
        .sorted()
        .map(|(hash, key, &value)| (table.span.offset(hash), key.id, value))
        .collect();
    assert!(sorted.is_sorted_by_key(|entry| entry.0));
    assert!(
        sorted
            .iter()
            .map(|&(_, id, value)| (id, value))
            .collect::<BTreeMap<_, _>>()
            == entries.iter().copied().collect()
    );
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
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Starts at every fill around the first splits, so that operations meet them in every state.
    #[test]
    fn it_is_a_map_while_it_grows(layout in layout(), fill in 3_000_u32..9_000, ops in ops(12_000, 60)) {
        let (mut table, mut model) = (layout.table(), BTreeMap::new());
        for id in 0..fill {
            apply(&Op::Insert(id, u64::from(id)), &layout, &mut table, &mut model);
        }
        table.check();
        for op in &ops {
            apply(op, &layout, &mut table, &mut model);
        }
        table.check();
        prop_assert_eq!(contents(&table), model.clone());
        table.iter_mut().for_each(|(_, _, value)| *value = value.wrapping_mul(3));
        model.values_mut().for_each(|value| *value = value.wrapping_mul(3));
        for id in 0..12_000 {
            let key = layout.key(id);
            prop_assert_eq!(table.get(key.hash, &key), model.get(&id));
        }
        while !model.is_empty() {
            apply(&Op::Pop, &layout, &mut table, &mut model);
        }
        prop_assert!(table.pop_any().is_none());
        table.check();
    }
}

/// A loop over many new keys sees its table split under it.
#[test]
fn changes_go_on_across_splits() {
    for hashing in [Hashing::Spread, Hashing::Edges, Hashing::Colliding] {
        let layout = Layout {
            groups: 0..128,
            max_parallelism: 128,
            hashing,
        };
        let mut table = layout.table();
        let keys = (0..20_000).chain(5_000..25_000).map(|id| layout.key(id));
        let hashes: Vec<u64> = keys.clone().map(|key| key.hash).collect();
        let mut out = Vec::new();
        table.change_each(&hashes, keys, &Counting, &mut out);
        table.check();
        assert_eq!(table.len(), 25_000);
        assert!(out.iter().enumerate().all(|(i, &(id, count))| {
            let again = i >= 20_000 && id < 20_000;
            count == 100 + u64::from(again)
        }));
    }
}

/// What was counted before a function panics is still there.
#[test]
fn a_panic_loses_nothing() {
    struct Failing;
    impl Change<u64, u64, u64> for Failing {
        type Out = ();
        type Key<'a> = u64;
        fn key_of(&self, record: &u64) -> u64 {
            *record
        }
        fn is_key(&self, stored: &u64, key: &u64) -> bool {
            stored == key
        }
        fn change(&self, _: &u64, _: &mut u64, _: u64) {
            panic!("as planned");
        }
        fn owned_key(&self, record: &u64) -> u64 {
            *record
        }
        fn first(&self, record: u64) -> (u64, u64, ()) {
            assert!(record < 50, "as planned");
            (record, 1, ())
        }
    }
    for failing in [7, 60] {
        let mut table = GroupedTable::new(0..128, 128);
        let keys: Vec<u64> = (0..20).chain([failing]).collect();
        let hashes: Vec<u64> = keys.iter().map(StableKey::stable_hash).collect();
        let run = std::panic::AssertUnwindSafe(|| {
            table.change_each(&hashes, keys.iter().copied(), &Failing, &mut ());
        });
        assert!(std::panic::catch_unwind(run).is_err());
        assert_eq!(table.iter().count(), 20);
        assert!((0..20_u64).all(|key| table.get(key.stable_hash(), &key) == Some(&1)));
    }
}

/// However large the table, a split moves one segment; each group's entries are in few segments.
#[test]
fn no_segment_outgrows_a_split() {
    for (groups, max_parallelism) in [(0..128, 128), (43..86, 128), (9..10, 32_768), (2..3, 3)] {
        let layout = Layout {
            groups: groups.clone(),
            max_parallelism,
            hashing: Hashing::Spread,
        };
        let mut table = layout.table();
        for id in 0..200_000 {
            let key = layout.key(id);
            table.insert(key.hash, key, id);
        }
        table.check();
        assert!(table.largest_segment() <= split_at::<Key, u32>(), "{layout:?}");
        assert!(
            table.segments.len() <= 200_000 / split_at::<Key, u32>() * 5,
            "{layout:?}"
        );
        assert!(table.directory.bytes() < 200_000);
        assert!((0..200_000).all(|id| table.get(layout.hash(id), &layout.key(id)) == Some(&id)));
    }
}

#[test]
fn keys_of_one_hash_are_kept_apart() {
    let mut table = GroupedTable::new(0..128, 128);
    let key = |id| Key { id, hash: u64::MAX };
    for id in 0..9_000_u32 {
        assert_eq!(table.insert(u64::MAX, key(id), id), None);
    }
    table.check();
    assert!(table.segments.len() < 64, "splits that separate nothing end");
    for id in (0..9_000).step_by(2) {
        assert_eq!(table.remove(u64::MAX, &key(id)), Some((key(id), id)));
    }
    table.check();
    assert!((0..9_000).all(|id| table.get(u64::MAX, &key(id)).is_some() == (id % 2 == 1)));
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
    let left = table.capacity_bytes();
    assert!(left < full / 4, "{left} of {full} bytes left");
    for key in 200_000..300_000_u64 {
        table.insert(hash_int(key), key, ());
    }
    table.check();
    assert_eq!(std::iter::from_fn(|| table.pop_any()).count(), 110_000);
}

#[test]
fn removals_free_memory() {
    let mut table = GroupedTable::new(0..128, 128);
    for key in 0..100_000_u64 {
        table.insert(hash_int(key), key, key);
    }
    let full = table.capacity_bytes();
    for key in 0..99_000_u64 {
        table.remove(hash_int(key), &key);
    }
    table.check();
    let left = table.capacity_bytes();
    assert!(left < full / 10, "{left} of {full} bytes left");
    assert!((99_000..100_000_u64).all(|key| table.get(hash_int(key), &key) == Some(&key)));
}

/// What is being popped is still there for everybody else.
#[test]
fn a_table_that_is_being_popped_is_whole() {
    let filled = || {
        let mut table = GroupedTable::new(0..128, 128);
        for key in 0..100_u64 {
            table.insert(hash_int(key), key, key);
        }
        let (_, gone, _) = table.pop_any().unwrap();
        (table, gone)
    };
    let (table, gone) = filled();
    assert_eq!((table.iter().count(), table.sorted().count()), (99, 99));
    assert!((0..100).all(|key| table.get(hash_int(key), &key).is_some() == (key != gone)));
    let (mut table, gone) = filled();
    assert!((0..100).all(|key| table.get_mut(hash_int(key), &key).is_some() == (key != gone)));
    let (mut table, gone) = filled();
    assert!(
        (0..100)
            .all(|key| *table.upsert(hash_int(key), &key, || 1_000) == if key == gone { 1_000 } else { key })
    );
    assert_eq!(table.len(), 100);
    let (mut table, gone) = filled();
    assert!((0..100).all(|key| table.insert(hash_int(key), key, 5).is_some() == (key != gone)));
    let (mut table, gone) = filled();
    assert!((0..100).all(|key| table.remove(hash_int(key), &key).is_some() == (key != gone)));
    assert!(table.is_empty());
}

#[test]
fn an_empty_table_has_no_slots() {
    let mut table: GroupedTable<String, u64> = GroupedTable::new(0..128, 128);
    assert_eq!((table.iter().count(), table.pop_any()), (0, None));
    assert!(table.capacity_bytes() <= 128);
    assert_eq!(table.get(5, "five"), None);
    *table.upsert("five".stable_hash(), "five", || 4) += 1;
    assert_eq!(table.get("five".stable_hash(), "five"), Some(&5));
    assert!(table.capacity_bytes() <= 2_048);
}

/// Large values make small segments, values without size large ones.
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
    assert!(large.largest_segment() <= 64);
    assert_eq!(none.segments.len(), 1);
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
    GroupedTable::<u64, u64>::new(0..64, 128).upsert(u64::MAX, &1, || 1);
}

#[test]
#[should_panic(expected = "a key of group 127 reached state of groups 0..64 (max parallelism 128)")]
fn entries_of_other_subtasks_are_refused() {
    GroupedTable::<u64, u64>::new(0..64, 128).insert(u64::MAX, 1, 1);
}

#[test]
#[should_panic(expected = "key groups 5..5 are empty")]
fn no_groups_are_refused() {
    let _ = GroupedTable::<u64, u64>::new(5..5, 128);
}
