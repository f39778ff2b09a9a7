//! What a job has left is read back, and is what its records come to.

use crate::common::{BACKENDS, KEYS, OfKey, env, expected, rules, stopped};
use hurtig::core::key::OwnedKey;
use hurtig::prelude::*;
use hurtig::state::StateValue;
use hurtig_state_processor::{KeyedStates, Savepoint, StateKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the source stands, as it writes that.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Lane {
    next: u64,
}

/// How many records the program had seen.
pub(crate) fn records(savepoint: &Savepoint) -> u64 {
    let lanes = savepoint.operator_list::<Lane>("records", "index-lanes").unwrap();
    assert_eq!(lanes.len(), 1);
    lanes[0].next
}

pub(crate) fn all<K: OwnedKey + Ord, V: StateValue>(states: KeyedStates<K, V>) -> BTreeMap<K, V> {
    let entries: Vec<(K, V)> = states.into_iter().map(Result::unwrap).collect();
    let count = entries.len();
    let map: BTreeMap<K, V> = entries.into_iter().collect();
    assert_eq!(map.len(), count, "each key comes once");
    map
}

/// All keyed states of the operator, put together.
pub(crate) fn remembered(savepoint: &Savepoint, uid: &str) -> BTreeMap<String, OfKey> {
    let count = all(savepoint.value::<String, u64>(uid, "count").unwrap());
    let mut lists = all(savepoint.list::<String, u64>(uid, "all").unwrap());
    let mut maps = all(savepoint.map::<String, u8, u64>(uid, "by digit").unwrap());
    let mut max = all(savepoint.reducing::<String, u64>(uid, "max").unwrap());
    let mut mean = all(savepoint.aggregating::<String, _>(uid, "mean").unwrap());
    let of_key = |(key, count): (String, u64)| {
        let of_key = OfKey {
            count,
            all: lists.remove(&key).unwrap(),
            by_digit: maps.remove(&key).unwrap(),
            max: max.remove(&key).unwrap(),
            mean: mean.remove(&key).unwrap(),
        };
        (key, of_key)
    };
    let found = count.into_iter().map(of_key).collect();
    assert!(lists.is_empty() && maps.is_empty() && max.is_empty() && mean.is_empty());
    found
}

#[test]
fn all_states_of_a_stopped_job_are_what_its_records_come_to() {
    for (parallelism, backend) in [1, 3].into_iter().zip(BACKENDS) {
        let folder = tempfile::tempdir().unwrap();
        let env = env(parallelism, backend, folder.path(), None);
        let path = stopped(&env, folder.path());
        let savepoint = Savepoint::open(&path).unwrap();
        let records = records(&savepoint);
        assert!(records >= 300, "{records}");
        let wanted = expected(records);
        assert_eq!(remembered(&savepoint, "remember"), wanted, "{backend}");

        let timers = all(savepoint.timers::<String>("remember", TimeDomain::Event).unwrap());
        let times = |of_key: &OfKey| {
            of_key
                .all
                .iter()
                .map(|record| 1_000_000 + *record as i64)
                .collect()
        };
        let wanted: BTreeMap<String, Vec<i64>> = wanted
            .iter()
            .map(|(key, of_key)| (key.clone(), times(of_key)))
            .collect();
        assert_eq!(timers, wanted);

        let mut passed = savepoint
            .operator_list::<(String, u64)>("lists", "passed")
            .unwrap();
        passed.sort_by_key(|(_, record)| *record);
        let wanted: Vec<(String, u64)> = (0..records).map(|n| (crate::common::key_of(n), n)).collect();
        assert_eq!(passed, wanted);
        let subtasks = savepoint.union::<u64>("lists", "subtasks").unwrap();
        assert_eq!(subtasks, (0..u64::from(parallelism)).collect::<Vec<_>>());
        assert_eq!(
            savepoint.broadcast::<String, u64>("rules", "rules").unwrap(),
            rules()
        );
    }
}

#[test]
fn operators_and_the_kinds_of_their_states_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = stopped(&env(3, "hashmap", folder.path(), None), folder.path());
    let savepoint = Savepoint::open(&path).unwrap();
    assert_eq!((savepoint.path(), savepoint.job_name()), (path, "remembering"));
    let remember = savepoint.operator("remember").unwrap();
    assert_eq!((remember.parallelism, remember.max_parallelism), (3, 128));
    for state in ["count", "all", "by digit", "max", "mean", "timers/event"] {
        assert_eq!(remember.states.get(state), Some(&StateKind::Keyed), "{state}");
    }
    let lists = savepoint.operator("lists").unwrap();
    assert_eq!(lists.states["passed"], StateKind::List);
    assert_eq!(lists.states["subtasks"], StateKind::Union);
    let rules = savepoint.operator("rules").unwrap();
    assert_eq!(rules.states["rules"], StateKind::Broadcast);
    assert!(savepoint.operators().len() >= 4);
}

#[test]
fn a_filter_reads_its_keys_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = stopped(&env(3, "rocksdb", folder.path(), None), folder.path());
    let savepoint = Savepoint::open(&path).unwrap();
    let wanted = expected(records(&savepoint));
    for keys in [
        vec!["key 7"],
        vec!["key 1", "key 11", "key 1"],
        vec!["nobody"],
        vec![],
    ] {
        let counts = savepoint.value::<String, u64>("remember", "count").unwrap();
        let found = all(counts.only_keys(keys.iter().copied()));
        let wanted: BTreeMap<String, u64> = wanted
            .iter()
            .filter(|(key, _)| keys.contains(&key.as_str()))
            .map(|(key, of_key)| (key.clone(), of_key.count))
            .collect();
        assert_eq!(found, wanted, "{keys:?}");
    }
    assert_eq!(wanted.len() as u64, KEYS);
}
