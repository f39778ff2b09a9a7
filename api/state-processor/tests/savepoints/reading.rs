//! What a job has left is read back, and is what its records come to.

use crate::common::{
    BACKENDS, KEYS, OfKey, env, env_with, expected, program, rules, stopped, stopped_of, until, wait,
};
use hurtig::core::key::OwnedKey;
use hurtig::prelude::*;
use hurtig::state::StateValue;
use hurtig_state_processor::{KeyedStates, OperatorBuilder, Savepoint, SavepointWriter, StateKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

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
fn states_with_a_time_to_live_are_read_without_their_times_and_get_new_ones() {
    let timed = |name: &str| {
        StateDescriptor::new(name).enable_time_to_live(StateTtlConfig::new(Duration::from_secs(3_600)))
    };
    for (parallelism, backend) in [1, 3].into_iter().zip(BACKENDS) {
        let folder = tempfile::tempdir().unwrap();
        let path = stopped_of(
            &env(parallelism, backend, folder.path(), None),
            folder.path(),
            timed,
        );
        let savepoint = Savepoint::open(&path).unwrap();
        let seen = records(&savepoint);
        assert_eq!(remembered(&savepoint, "remember"), expected(seen), "{backend}");
        // Values without times are restored by the job that has them.
        let copy = folder.path().join("copy").display().to_string();
        let counts = savepoint.value::<String, u64>("remember", "count").unwrap();
        let lists = savepoint.list::<String, u64>("remember", "all").unwrap();
        let copied = savepoint.modify().unwrap();
        let copied = copied.change_operator("remember", |states| {
            states.value("count", counts)?.list("all", lists)
        });
        copied.unwrap().write(&copy).unwrap();
        let again = stopped_of(&env(2, backend, folder.path(), Some(&copy)), folder.path(), timed);
        let again = Savepoint::open(&again).unwrap();
        assert_eq!(
            remembered(&again, "remember"),
            expected(records(&again)),
            "{backend}"
        );
        assert!(records(&again) > seen);
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
        assert!(remember.kinds(state).eq([StateKind::Keyed]), "{state}");
    }
    let lists = savepoint.operator("lists").unwrap();
    assert!(lists.kinds("passed").eq([StateKind::List]));
    assert!(lists.kinds("subtasks").eq([StateKind::Union]));
    let rules = savepoint.operator("rules").unwrap();
    assert!(rules.kinds("rules").eq([StateKind::Broadcast]));
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

#[test]
fn all_states_of_an_operator_that_left_none_are_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("savepoint").display().to_string();
    let nothing = OperatorBuilder::new("nothing", 128)
        .unwrap()
        .value("n", [(0_u64, 0_u64); 0])
        .unwrap();
    SavepointWriter::new("job")
        .operator(nothing)
        .unwrap()
        .write(&path)
        .unwrap();
    let savepoint = Savepoint::open(&path).unwrap();
    assert!(all(savepoint.value::<u64, u64>("nothing", "n").unwrap()).is_empty());
    assert!(savepoint.union::<u64>("nothing", "union").unwrap().is_empty());
    assert!(
        savepoint
            .broadcast::<u64, u64>("nothing", "rules")
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_range_of_keys_is_the_range_of_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("savepoint").display().to_string();
    let numbers = OperatorBuilder::new("numbers", 128).unwrap().files(3).unwrap();
    let numbers = numbers.value("n", (-300..300_i64).map(|n| (n, n))).unwrap();
    SavepointWriter::new("job")
        .operator(numbers)
        .unwrap()
        .write(&path)
        .unwrap();
    let numbers = || {
        Savepoint::open(&path)
            .unwrap()
            .value::<i64, i64>("numbers", "n")
            .unwrap()
    };
    let keys = |states| all(states).into_keys().collect::<Vec<i64>>();
    assert_eq!(keys(numbers().only_keys_in(-7..4)), (-7..4).collect::<Vec<_>>());
    assert_eq!(
        keys(numbers().only_keys_in(256..)),
        (256..300).collect::<Vec<_>>()
    );
    assert_eq!(
        keys(numbers().only_keys_in(..=-256)),
        (-300..=-256).collect::<Vec<_>>()
    );
    assert_eq!(keys(numbers().only_keys_in(..)).len(), 600);
    assert_eq!(keys(numbers().only_keys([&1, &5, &900]).only_keys_in(2..)), [5]);
}

/// Runs the program with checkpoints until some are complete, cancels it, and returns the last one.
fn checkpointed(folder: &Path, backend: &str, more: &[&str]) -> String {
    let dir = folder.join("checkpoints");
    let mut settings = vec![
        format!("execution.checkpointing.dir={}", dir.display()),
        "execution.checkpointing.interval=10ms".to_owned(),
        "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION".to_owned(),
    ];
    settings.extend(more.iter().map(|more| (*more).to_owned()));
    let env = env_with(2, backend, folder, &settings);
    let records = env.from_source(GeneratorSource::unbounded(|i| i).rate(2_000), Watermarks::none());
    let _outputs = program(&env, records.set_parallelism(1).uid("records"));
    wait(async {
        let job = env.execute_async("remembering").await.unwrap();
        let completed = async || job.checkpoint_statistics().await.unwrap().completed;
        until("three checkpoints", async || completed().await >= 3).await;
        job.cancel().await.unwrap();
    });
    let job = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
    let folders = std::fs::read_dir(job).unwrap().map(|entry| entry.unwrap().path());
    let mut complete = folders.filter(|folder| folder.join("_metadata").is_file());
    complete.next().unwrap().display().to_string()
}

#[test]
fn a_retained_checkpoint_is_read_and_changed_like_a_savepoint() {
    for backend in BACKENDS {
        let folder = tempfile::tempdir().unwrap();
        let path = checkpointed(
            folder.path(),
            backend,
            &["execution.checkpointing.incremental=false"],
        );
        let checkpoint = Savepoint::open(&path).unwrap();
        let wanted = expected(records(&checkpoint));
        assert_eq!(remembered(&checkpoint, "remember"), wanted, "{backend}");
        let copy = folder.path().join("copy").display().to_string();
        checkpoint.modify().unwrap().write(&copy).unwrap();
        assert_eq!(remembered(&Savepoint::open(&copy).unwrap(), "remember"), wanted);
    }
}

#[test]
fn a_native_savepoint_of_state_in_memory_is_read_and_changed() {
    let folder = tempfile::tempdir().unwrap();
    let native = ["execution.checkpointing.savepoint-format=native".to_owned()];
    let env = env_with(2, "hashmap", folder.path(), &native);
    let path = stopped(&env, &folder.path().join("savepoints"));
    let savepoint = Savepoint::open(&path).unwrap();
    let wanted = expected(records(&savepoint));
    assert_eq!(remembered(&savepoint, "remember"), wanted);
    let copy = folder.path().join("copy").display().to_string();
    savepoint.modify().unwrap().write(&copy).unwrap();
    assert_eq!(remembered(&Savepoint::open(&copy).unwrap(), "remember"), wanted);
}

#[test]
fn files_of_rocksdb_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpointed(
        folder.path(),
        "rocksdb",
        &["execution.checkpointing.incremental=true"],
    );
    refused(&path);
    let native = ["execution.checkpointing.savepoint-format=native".to_owned()];
    let env = env_with(2, "rocksdb", folder.path(), &native);
    refused(&stopped(&env, &folder.path().join("savepoints")));
}

#[track_caller]
fn refused(path: &str) {
    let checkpoint = Savepoint::open(path).unwrap();
    assert!(records(&checkpoint) > 0, "operator state can be read");
    let texts = [
        checkpoint
            .value::<String, u64>("remember", "count")
            .unwrap_err()
            .to_string(),
        checkpoint
            .value::<String, u64>("remember", "store/fresh/count")
            .unwrap_err()
            .to_string(),
        checkpoint.modify().unwrap_err().to_string(),
    ];
    for text in texts {
        assert!(
            text.contains(path) && text.contains("RocksDB") && text.contains("take a canonical"),
            "{text}"
        );
    }
}
