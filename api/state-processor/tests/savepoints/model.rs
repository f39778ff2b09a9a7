//! Whatever is written is read again, compared with maps: any keys, kinds, numbers of files and of key groups.

use crate::reading::all;
use hurtig_state_processor::{OperatorBuilder, Savepoint, SavepointWriter};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Text with zero bytes, which keys escape.
fn key() -> impl Strategy<Value = (String, i32)> {
    ("[a\\x00ä]{0,3}", any::<i32>())
}

#[derive(Clone, Debug)]
struct States {
    values: BTreeMap<(String, i32), Option<f64>>,
    lists: BTreeMap<(String, i32), Vec<String>>,
    maps: BTreeMap<(String, i32), BTreeMap<i16, String>>,
    split: Vec<u8>,
    broadcast: BTreeMap<String, u8>,
}

/// With one entry at least: an operator without any has no file, and nobody knows its states.
fn states() -> impl Strategy<Value = States> {
    let text = || "[ab]{0,200}";
    let values = btree_map(key(), proptest::option::of(-1e9..1e9), 0..40);
    let lists = btree_map(key(), vec(text(), 0..4), 0..20);
    let maps = btree_map(key(), btree_map(any::<i16>(), text(), 0..4), 0..20);
    let parts = (
        values,
        lists,
        maps,
        vec(any::<u8>(), 1..9),
        btree_map(text(), any::<u8>(), 0..5),
    );
    parts.prop_map(|(values, lists, maps, split, broadcast)| States {
        values,
        lists,
        maps,
        split,
        broadcast,
    })
}

fn written(states: &States, max_parallelism: u32, files: u32, path: &str) {
    let builder = OperatorBuilder::new("all", max_parallelism)
        .unwrap()
        .files(files)
        .unwrap();
    let builder = builder.value("values", states.values.clone()).unwrap();
    let builder = builder.list("lists", states.lists.clone()).unwrap();
    let builder = builder.map("maps", states.maps.clone()).unwrap();
    let builder = builder.operator_list("split", states.split.clone()).unwrap();
    let builder = builder.broadcast("broadcast", states.broadcast.clone()).unwrap();
    SavepointWriter::new("model")
        .operator(builder)
        .unwrap()
        .write(path)
        .unwrap();
}

/// Compares a savepoint with the model: empty lists and maps are none.
fn check(path: &str, wanted: &States) {
    let savepoint = Savepoint::open(path).unwrap();
    assert_eq!(all(savepoint.value("all", "values").unwrap()), wanted.values);
    let mut lists = wanted.lists.clone();
    lists.retain(|_, list| !list.is_empty());
    assert_eq!(all(savepoint.list("all", "lists").unwrap()), lists);
    let mut maps = wanted.maps.clone();
    maps.retain(|_, map| !map.is_empty());
    assert_eq!(all(savepoint.map("all", "maps").unwrap()), maps);
    assert_eq!(
        savepoint.operator_list::<u8>("all", "split").unwrap(),
        wanted.split
    );
    assert_eq!(
        savepoint.broadcast::<String, u8>("all", "broadcast").unwrap(),
        wanted.broadcast
    );
    let some = wanted.values.keys().step_by(3);
    let found = all(savepoint
        .value::<(String, i32), Option<f64>>("all", "values")
        .unwrap()
        .only_keys(some.clone()));
    assert!(found.keys().eq(some));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        first in states(),
        second in states(),
        max_parallelism in 1_u32..300,
        files in 1_u32..9,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        written(&first, max_parallelism, files.min(max_parallelism), &path("first"));
        check(&path("first"), &first);
        // Some states are replaced, the others kept.
        let changed = Savepoint::open(&path("first")).unwrap().modify().unwrap();
        let changed = changed.change_operator("all", |states| {
            states.value("values", second.values.clone())?.operator_list("split", second.split.clone())
        });
        changed.unwrap().write(&path("second")).unwrap();
        let wanted = States { values: second.values, split: second.split, ..first };
        check(&path("second"), &wanted);
    }
}
