//! Scans against copies of the table.

use super::*;
use crate::encoded::{EncodedEntries, put_entry};
use crate::snapshot::decode;
use hurtig_core::Error;
use hurtig_core::key::decode_exact;

/// Each second scan copies what is about to change.
fn begin(table: &mut GroupedTable<Key, u64>) {
    let encode: EncodeEntries<Key, u64> = Box::new(|key, value, out| {
        put_entry(out, key, &[], value)?;
        Ok(1)
    });
    if table.len().is_multiple_of(2) {
        table.begin_scan_copying(encode);
    } else {
        table.begin_scan(encode);
    }
}

/// What a scan holds; checks that it is in order and each key in its group.
fn scanned(layout: &Layout, encoded: &EncodedEntries) -> BTreeMap<u32, u64> {
    let entries = encoded.to_entries().unwrap();
    assert!(entries.is_sorted_by_key(|entry| entry.group));
    let count = entries.len();
    let read = entries.into_iter().map(|entry| {
        let key: Key = decode_exact(&entry.key).unwrap();
        let group = key_group(key.hash, layout.max_parallelism).get();
        assert_eq!(group, u32::from(entry.group));
        (key.id, decode(&entry.value).unwrap())
    });
    let read: BTreeMap<u32, u64> = read.collect();
    assert_eq!(read.len(), count, "an entry was encoded twice");
    read
}

#[derive(Clone, Debug)]
enum Step {
    Change(Op),
    /// Every value is changed at once.
    ChangeAll,
    /// Begins a scan unless one is going on.
    Begin,
    Continue(usize),
}

fn steps(keys: u32, count: usize, budget: usize) -> impl Strategy<Value = Vec<Step>> {
    let change = ops(keys, 2).prop_map(|ops| ops.into_iter().next().map_or(Step::Begin, Step::Change));
    let step = prop_oneof![
        80 => change,
        1 => Just(Step::ChangeAll),
        5 => Just(Step::Begin),
        20 => (0..budget).prop_map(Step::Continue),
    ];
    proptest::collection::vec(step, 0..count)
}

/// Runs the steps; each scan that ends, the last one forced to, holds what the model was when it began.
fn run(layout: &Layout, table: &mut GroupedTable<Key, u64>, model: &mut BTreeMap<u32, u64>, steps: &[Step]) {
    let mut expected = None;
    let finish = |table: &mut GroupedTable<Key, u64>, expected: &mut Option<_>, budget| {
        let ended = table.continue_scan(&mut { budget }).unwrap();
        if let Some(encoded) = ended {
            assert_eq!(Some(scanned(layout, &encoded)), expected.take());
            assert!(!table.is_scanning());
        }
    };
    for step in steps {
        match step {
            Step::Change(op) => apply(op, layout, table, model),
            Step::ChangeAll => {
                table.iter_mut().for_each(|(_, _, value)| *value ^= 5);
                model.values_mut().for_each(|value| *value ^= 5);
            }
            Step::Begin if !table.is_scanning() => {
                begin(table);
                expected = Some(model.clone());
            }
            Step::Begin => {}
            Step::Continue(entries) => finish(table, &mut expected, ScanBudget::new(*entries)),
        }
    }
    table.check();
    finish(table, &mut expected, ScanBudget::unbounded());
    assert!(expected.is_none(), "an unbounded budget ends a scan");
    assert_eq!(contents(table), *model);
}

proptest! {
    #[test]
    fn a_scan_is_the_table_as_it_was(layout in layout(), steps in steps(60, 300, 20)) {
        run(&layout, &mut layout.table(), &mut BTreeMap::new(), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Around splits, with segments that are scanned in part.
    #[test]
    fn a_scan_of_a_growing_table_is_the_table_as_it_was(
        layout in layout(),
        fill in 3_000_u32..9_000,
        more in 0_u32..9_000,
        first in 0_usize..6_000,
        steps in steps(12_000, 200, 3_000),
    ) {
        let (mut table, mut model) = (layout.table(), BTreeMap::new());
        for id in 0..fill {
            apply(&Op::Insert(id, u64::from(id)), &layout, &mut table, &mut model);
        }
        begin(&mut table);
        let expected = model.clone();
        let mut ended = table.continue_scan(&mut ScanBudget::new(first)).unwrap();
        for id in fill..fill + more {
            apply(&Op::Insert(id, u64::from(id)), &layout, &mut table, &mut model);
        }
        if ended.is_none() {
            ended = table.continue_scan(&mut ScanBudget::unbounded()).unwrap();
        }
        prop_assert_eq!(scanned(&layout, &ended.unwrap()), expected);
        run(&layout, &mut table, &mut model, &steps);
        begin(&mut table);
        let expected = model.clone();
        while !model.is_empty() {
            apply(&Op::Pop, &layout, &mut table, &mut model);
        }
        let ended = table.continue_scan(&mut ScanBudget::unbounded()).unwrap();
        prop_assert_eq!(scanned(&layout, &ended.unwrap()), expected);
    }
}

/// Batches that change many keys find the scan at every place.
#[test]
fn batches_are_worked_while_a_scan_goes_on() {
    let layout = Layout {
        groups: 0..128,
        max_parallelism: 128,
        hashing: Hashing::Spread,
    };
    let (mut table, mut model) = (layout.table(), BTreeMap::new());
    let all: Vec<u32> = (0..20_000).collect();
    apply(&Op::ChangeEach(all.clone()), &layout, &mut table, &mut model);
    begin(&mut table);
    let expected = model.clone();
    let mut calls = 0;
    for batch in all.chunks(300).cycle() {
        apply(&Op::ChangeEach(batch.to_vec()), &layout, &mut table, &mut model);
        calls += 1;
        if let Some(encoded) = table.continue_scan(&mut ScanBudget::new(400)).unwrap() {
            assert_eq!(scanned(&layout, &encoded), expected);
            break;
        }
    }
    assert!((30..=51).contains(&calls), "{calls} calls of 400 entries");
    assert_eq!(contents(&table), model);
}

#[test]
fn an_entry_that_cannot_be_encoded_ends_the_scan() {
    let layout = Layout {
        groups: 0..1,
        max_parallelism: 1,
        hashing: Hashing::Spread,
    };
    let (mut table, mut model) = (layout.table(), BTreeMap::new());
    apply(
        &Op::ChangeEach((0..10).collect()),
        &layout,
        &mut table,
        &mut model,
    );
    table.begin_scan(Box::new(|key: &Key, value, out| {
        if key.id == 7 {
            return Err(Error::user("seven"));
        }
        put_entry(out, key, &[], value)?;
        Ok(1)
    }));
    apply(&Op::ChangeEach(vec![7, 3]), &layout, &mut table, &mut model);
    let error = table.continue_scan(&mut ScanBudget::unbounded()).unwrap_err();
    assert!(error.to_string().contains("seven"));
    assert!(!table.is_scanning());
    assert_eq!(contents(&table), model);
}

/// A segment gives memory back in the middle of its scan.
#[test]
fn a_scan_of_a_shrinking_table_is_the_table_as_it_was() {
    let layout = Layout {
        groups: 0..1,
        max_parallelism: 1,
        hashing: Hashing::Spread,
    };
    let (mut table, mut model) = (layout.table(), BTreeMap::new());
    apply(
        &Op::ChangeEach((0..3_000).collect()),
        &layout,
        &mut table,
        &mut model,
    );
    begin(&mut table);
    let expected = model.clone();
    assert!(
        table
            .continue_scan(&mut ScanBudget::new(1_000))
            .unwrap()
            .is_none()
    );
    for id in 0..2_950 {
        apply(&Op::Remove(id), &layout, &mut table, &mut model);
    }
    let ended = table.continue_scan(&mut ScanBudget::unbounded()).unwrap();
    assert_eq!(scanned(&layout, &ended.unwrap()), expected);
}
