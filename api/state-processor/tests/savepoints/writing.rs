//! What jobs begin with that was written here.

use crate::common::{
    BACKENDS, Done, Mean, OfKey, Outputs, env, expected, goes_on, key_of, rules, stopped, wait,
};
use crate::reading::{all, records, remembered};
use hurtig::prelude::*;
use hurtig_state_processor::{OperatorBuilder, Savepoint, SavepointWriter};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The records with which the program goes on, each of another key: so their order does not matter.
const NEW: [u64; 5] = [10_000, 10_001, 10_002, 10_003, 10_007];

/// What a program remembers, in all keyed states of an operator.
fn keyed(builder: OperatorBuilder, of_keys: &BTreeMap<String, OfKey>) -> OperatorBuilder {
    fn each<V>(of_keys: &BTreeMap<String, OfKey>, get: impl Fn(&OfKey) -> V) -> Vec<(&str, V)> {
        of_keys
            .iter()
            .map(|(key, of_key)| (key.as_str(), get(of_key)))
            .collect()
    }
    let builder = builder
        .value("count", each(of_keys, |of_key| of_key.count))
        .unwrap();
    let builder = builder
        .list("all", each(of_keys, |of_key| of_key.all.clone()))
        .unwrap();
    let builder = builder
        .map("by digit", each(of_keys, |of_key| of_key.by_digit.clone()))
        .unwrap();
    let builder = builder
        .reducing("max", each(of_keys, |of_key| of_key.max))
        .unwrap();
    builder
        .aggregating("mean", each(of_keys, |of_key| of_key.mean.clone()))
        .unwrap()
}

/// What comes out of the program for [`NEW`] behind what it has remembered.
fn check(outputs: &Outputs, before: &BTreeMap<String, OfKey>, rules: &BTreeMap<String, u64>) {
    let mut after = before.clone();
    let mut wanted = Vec::new();
    for record in NEW {
        let of_key = after.entry(key_of(record)).or_default();
        of_key.add(record);
        let mut all = of_key.all.clone();
        all.push(of_key.max);
        let mean = of_key.mean.sum as f64 / f64::from(of_key.mean.count);
        wanted.push((key_of(record), of_key.count, all, mean));
    }
    let mut found = outputs.keyed.take();
    let last_max = |of: &(String, u64, Vec<u64>, f64)| of.2.last().copied();
    found.sort_by_key(last_max);
    assert_eq!(found, wanted);
    // The broadcast side may come first or last, but never takes a rule away.
    let of_savepoint: BTreeSet<_> = rules.iter().map(|(name, n)| (name.clone(), *n)).collect();
    let seen = outputs.rules.take();
    assert_eq!(seen.len(), NEW.len());
    for rules in seen {
        let rules: BTreeSet<_> = rules.into_iter().collect();
        assert!(of_savepoint.is_subset(&rules), "{rules:?}");
    }
}

fn restored_everywhere(
    path: &str,
    local: &Path,
    before: &BTreeMap<String, OfKey>,
    rules: &BTreeMap<String, u64>,
) {
    for (parallelism, backend) in [
        (1, BACKENDS[0]),
        (3, BACKENDS[0]),
        (1, BACKENDS[1]),
        (3, BACKENDS[1]),
    ] {
        let env = env(parallelism, backend, local, Some(path));
        check(&goes_on(&env, NEW.to_vec()), before, rules);
    }
}

fn at(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn a_job_begins_with_a_new_savepoint_at_any_parallelism_and_with_any_backend() {
    let folder = tempfile::tempdir().unwrap();
    let before = expected(500);
    let other_rules = BTreeMap::from([("of the savepoint".to_owned(), 77)]);
    for files in [1, 4] {
        let path = at(folder.path(), &format!("savepoint-{files}"));
        let remember = OperatorBuilder::new("remember", 128)
            .unwrap()
            .files(files)
            .unwrap();
        let rules = OperatorBuilder::new("rules", 128).unwrap();
        let lists = OperatorBuilder::new("lists", 128).unwrap().files(files).unwrap();
        let lists = lists
            .operator_list("passed", (0..10).map(|n| (key_of(n), n)))
            .unwrap();
        let written = SavepointWriter::new("remembering")
            .operator(keyed(remember, &before))
            .unwrap()
            .operator(rules.broadcast("rules", other_rules.clone()).unwrap())
            .unwrap()
            .operator(lists.union("subtasks", [41_u64, 42]).unwrap())
            .unwrap()
            .write(&path)
            .unwrap();
        assert_eq!(written, path);
        let savepoint = Savepoint::open(&path).unwrap();
        assert_eq!(savepoint.operator("remember").unwrap().parallelism, files);
        assert_eq!(remembered(&savepoint, "remember"), before);
        restored_everywhere(&path, folder.path(), &before, &other_rules);
    }
}

#[test]
fn lists_of_a_new_savepoint_reach_the_subtasks_of_a_job() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(folder.path(), "savepoint");
    let lists = OperatorBuilder::new("lists", 128).unwrap().files(2).unwrap();
    let passed: Vec<(String, u64)> = (0..11).map(|n| (key_of(n), n)).collect();
    let lists = lists.operator_list("passed", passed.clone()).unwrap();
    SavepointWriter::new("remembering")
        .operator(lists.union("subtasks", [41_u64, 42]).unwrap())
        .unwrap()
        .write(&path)
        .unwrap();
    for parallelism in [1, 3] {
        let again = stopped(
            &env(parallelism, "hashmap", folder.path(), Some(&path)),
            folder.path(),
        );
        let savepoint = Savepoint::open(&again).unwrap();
        let mut found = savepoint
            .operator_list::<(String, u64)>("lists", "passed")
            .unwrap();
        found.sort_by_key(|(_, n)| *n);
        let made = records(&savepoint);
        let mut wanted: Vec<(String, u64)> = (0..made).map(|n| (key_of(n), n)).collect();
        wanted.extend(passed.clone());
        wanted.sort_by_key(|(_, n)| *n);
        assert_eq!(found, wanted);
        let subtasks = savepoint.union::<u64>("lists", "subtasks").unwrap();
        assert_eq!(subtasks, [41, 42].repeat(parallelism as usize));
    }
}

fn bytes_of_files(path: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    let files = entries.map(|entry| {
        (
            entry.file_name().into_string().unwrap(),
            std::fs::read(entry.path()).unwrap(),
        )
    });
    files.filter(|(name, _)| name != "_metadata").collect()
}

#[test]
fn a_changed_savepoint_of_a_job_is_restored_and_the_rest_is_as_it_was() {
    for (parallelism, backend) in [2, 3].into_iter().zip(BACKENDS) {
        let folder = tempfile::tempdir().unwrap();
        let old = stopped(&env(parallelism, backend, folder.path(), None), folder.path());
        let untouched = bytes_of_files(&old);
        let savepoint = Savepoint::open(&old).unwrap();
        let seen = records(&savepoint);
        let path = at(folder.path(), "changed");
        let counts = savepoint
            .value::<String, u64>("remember", "count")
            .unwrap()
            .into_iter();
        let counts = counts.map(|entry| entry.map(|(key, count)| (key, count + 100)));
        let maps = savepoint
            .map::<String, u8, u64>("remember", "by digit")
            .unwrap()
            .into_iter();
        let maps = maps.map(|entry| {
            entry.map(|(key, mut map)| {
                *map.entry(99).or_default() += 100;
                (key, map)
            })
        });
        savepoint
            .modify()
            .unwrap()
            .remove_operator("records")
            .unwrap()
            .change_operator("remember", |states| {
                states.value("count", counts)?.map("by digit", maps)
            })
            .unwrap()
            .write(&path)
            .unwrap();
        assert_eq!(
            bytes_of_files(&old),
            untouched,
            "the savepoint before is as it was"
        );
        let mut before = expected(seen);
        for of_key in before.values_mut() {
            of_key.count += 100;
            of_key.by_digit.insert(99, 100);
        }
        let changed = Savepoint::open(&path).unwrap();
        assert_eq!(remembered(&changed, "remember"), before);
        assert!(changed.operator("records").is_err());
        let timers =
            |savepoint: &Savepoint| all(savepoint.timers::<String>("remember", TimeDomain::Event).unwrap());
        assert_eq!(timers(&changed), timers(&savepoint), "what was not named is kept");
        restored_everywhere(&path, folder.path(), &before, &rules());
    }
}

#[test]
fn what_is_not_changed_is_copied_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let old = stopped(&env(2, "hashmap", folder.path(), None), folder.path());
    let savepoint = Savepoint::open(&old).unwrap();
    let path = at(folder.path(), "copy");
    let added = OperatorBuilder::new("more", 128)
        .unwrap()
        .value("v", [(1_u8, 2_u8)])
        .unwrap();
    savepoint
        .modify()
        .unwrap()
        .operator(added)
        .unwrap()
        .write(&path)
        .unwrap();
    let (before, mut after) = (bytes_of_files(&old), bytes_of_files(&path));
    after.retain(|name, _| before.contains_key(name));
    assert_eq!(before, after);
    let changed = Savepoint::open(&path).unwrap();
    assert_eq!(remembered(&changed, "remember"), expected(records(&savepoint)));
    assert_eq!(
        all(changed.value::<u8, u8>("more", "v").unwrap()),
        BTreeMap::from([(1, 2)])
    );
}

#[test]
fn operators_get_other_uids_and_states_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| at(folder.path(), name));
    let remember = keyed(OperatorBuilder::new("before", 128).unwrap(), &expected(100));
    let remember = remember.value("useless", [("key 1", 1)]).unwrap();
    SavepointWriter::new("remembering")
        .operator(remember)
        .unwrap()
        .write(&first)
        .unwrap();
    Savepoint::open(&first)
        .unwrap()
        .modify()
        .unwrap()
        .rename_operator("before", "remember")
        .unwrap()
        .change_operator("remember", |states| states.remove("useless"))
        .unwrap()
        .write(&second)
        .unwrap();
    let savepoint = Savepoint::open(&second).unwrap();
    assert_eq!(savepoint.operators().len(), 1);
    assert!(!savepoint.operators()[0].has("useless"));
    let mean = all(savepoint.aggregating::<String, Mean>("remember", "mean").unwrap());
    assert_eq!(mean["key 3"], expected(100)["key 3"].mean);
    restored_everywhere(&second, folder.path(), &expected(100), &BTreeMap::new());
}

#[test]
fn what_makes_no_savepoint_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let new = |uid: &str| OperatorBuilder::new(uid, 128).unwrap();
    let writer = || SavepointWriter::new("job");
    let counts = || new("counts").value("n", [(1_u64, 1_u64)]).unwrap();
    let refused = [
        OperatorBuilder::new("", 128).map(drop),
        OperatorBuilder::new("counts", 0).map(drop),
        OperatorBuilder::new("counts", 40_000).map(drop),
        new("counts").files(129).map(drop),
        counts().value("n", [(2_u64, 1_u64)]).map(drop),
        new("counts").value("twice", [(2_u64, 1_u64), (2, 2)]).map(drop),
        new("counts")
            .map("twice", [(2_u64, [(1_u8, 1_u8)].into()), (2, [(2, 2)].into())])
            .map(drop),
        counts().remove("m").map(drop),
        counts().value("hurtig:in-flight", [(2_u64, 1_u64)]).map(drop),
        writer().operator(counts()).unwrap().operator(counts()).map(drop),
        writer().remove_operator("counts").map(drop),
        writer().rename_operator("a", "b").map(drop),
        writer()
            .operator(counts())
            .unwrap()
            .change_operator("counts", |_| OperatorBuilder::new("other", 128))
            .map(drop),
        writer()
            .operator(counts())
            .unwrap()
            .rename_operator("counts", "other")
            .map(drop),
    ];
    for refused in refused {
        let text = refused.unwrap_err().to_string();
        assert!(text.starts_with("cannot write a savepoint: "), "{text}");
    }
    let twice = new("counts").timers(TimeDomain::Event, [("ada", vec![5, 7, 5])]);
    let text = twice.unwrap_err().to_string();
    assert!(text.contains("the time 5 of the key with bytes"), "{text}");
    let path = at(folder.path(), "savepoint");
    writer().operator(counts()).unwrap().write(&path).unwrap();
    let renamed = Savepoint::open(&path).unwrap().modify().unwrap();
    let text = renamed.rename_operator("counts", "").unwrap_err().to_string();
    assert!(text.contains("uid is empty"), "{text}");
    let files = bytes_of_files(&path);
    let text = writer()
        .operator(counts())
        .unwrap()
        .write(&path)
        .unwrap_err()
        .to_string();
    assert!(text.contains("already") && text.contains(&path), "{text}");
    assert_eq!(bytes_of_files(&path), files);

    let file = Path::new(&path).join(files.keys().next().unwrap());
    let savepoint = Savepoint::open(&path).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let other = at(folder.path(), "other");
    let text = savepoint.modify().unwrap().write(&other).unwrap_err().to_string();
    assert!(
        text.contains("damaged at byte") && text.contains(file.to_str().unwrap()),
        "{text}"
    );
    let left = std::fs::read_dir(&other).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

/// Says when a timer has fired.
struct Alarms;

impl KeyedProcessFunction<String, u64, (String, i64)> for Alarms {
    fn process(&mut self, _: u64, _: KeyedCx<'_, String>, _: &mut Emitter<'_, (String, i64)>) -> Done {
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, String>,
        out: &mut Emitter<'_, (String, i64)>,
    ) -> Done {
        out.emit((cx.key().clone(), time));
        Ok(())
    }
}

#[test]
fn timers_of_a_new_savepoint_fire() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(folder.path(), "savepoint");
    let timers = [("a", vec![5, -3]), ("b", vec![7]), ("nobody", vec![])];
    let alarms = OperatorBuilder::new("alarms", 128).unwrap();
    let alarms = alarms.timers(TimeDomain::Event, timers).unwrap();
    SavepointWriter::new("alarms")
        .operator(alarms)
        .unwrap()
        .write(&path)
        .unwrap();
    let savepoint = Savepoint::open(&path).unwrap();
    let read = all(savepoint.timers::<String>("alarms", TimeDomain::Event).unwrap());
    assert_eq!(
        read,
        BTreeMap::from([("a".to_owned(), vec![-3, 5]), ("b".to_owned(), vec![7])])
    );
    for (parallelism, backend) in [1, 3].into_iter().zip(BACKENDS) {
        let env = env(parallelism, backend, folder.path(), Some(&path));
        let records = env
            .from_collection(vec![0])
            .uid("others")
            .key_by(|n: &u64| key_of(*n));
        let fired = records.process(|_| Ok(Alarms)).uid("alarms").collect();
        wait(env.execute("alarms")).unwrap();
        let mut fired = fired.take();
        fired.sort();
        let wanted = [("a", -3), ("a", 5), ("b", 7)].map(|(key, time)| (key.to_owned(), time));
        assert_eq!(fired, wanted);
    }
}

/// Keyed and operator state of one name are two states, of programs too: a keyed function with broadcast state has both.
#[test]
fn a_keyed_state_may_have_the_name_of_an_operator_state() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, third] = ["first", "second", "third"].map(|name| at(folder.path(), name));
    let both = OperatorBuilder::new("both", 128).unwrap();
    let both = both.value("rules", [(1_u64, 10_u64), (2, 20)]).unwrap();
    let both = both.broadcast("rules", rules()).unwrap();
    SavepointWriter::new("job")
        .operator(both)
        .unwrap()
        .write(&first)
        .unwrap();
    let keyed = |path: &str| {
        let savepoint = Savepoint::open(path).unwrap();
        all(savepoint.value::<u64, u64>("both", "rules").unwrap())
    };
    let broadcast = |path: &str| {
        let savepoint = Savepoint::open(path).unwrap();
        savepoint.broadcast::<String, u64>("both", "rules").unwrap()
    };
    assert_eq!(keyed(&first), BTreeMap::from([(1, 10), (2, 20)]));
    assert_eq!(broadcast(&first), rules());
    let modify = |path: &str| Savepoint::open(path).unwrap().modify().unwrap();
    modify(&first)
        .change_operator("both", |states| states.value("rules", [(3_u64, 30_u64)]))
        .unwrap()
        .write(&second)
        .unwrap();
    assert_eq!(
        (keyed(&second), broadcast(&second)),
        (BTreeMap::from([(3, 30)]), rules())
    );
    modify(&second)
        .change_operator("both", |states| {
            states.broadcast("rules", [("new".to_owned(), 1_u64)])
        })
        .unwrap()
        .write(&third)
        .unwrap();
    assert_eq!(keyed(&third), BTreeMap::from([(3, 30)]));
    assert_eq!(broadcast(&third), BTreeMap::from([("new".to_owned(), 1)]));
}
