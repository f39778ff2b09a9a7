//! What cannot be read is an error that says what and where, never a panic and never another value.

use crate::common::{Mean, env, expected, stopped};
use hurtig::core::key::OwnedKey;
use hurtig::state::StateValue;
use hurtig_state_processor::{OperatorBuilder, Savepoint, SavepointWriter, StateProcessorError};
use serde::{Deserialize, Serialize};
use std::path::Path;

fn savepoint(folder: &Path) -> Savepoint {
    Savepoint::open(&stopped(&env(2, "hashmap", folder, None), folder)).unwrap()
}

#[track_caller]
fn says(error: &StateProcessorError, wanted: &[&str]) {
    let text = error.to_string();
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted:?} is not in: {text}");
    }
}

#[test]
fn other_operators_and_states_are_named_with_those_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let savepoint = savepoint(folder.path());
    let path = savepoint.path();
    let error = savepoint.value::<String, u64>("nobody", "count").unwrap_err();
    says(&error, &[&path, "'nobody'", "'remember'", "'lists'", "'records'"]);
    let error = savepoint.value::<String, u64>("remember", "cuont").unwrap_err();
    says(
        &error,
        &[
            &path,
            "'remember'",
            "'cuont'",
            "'count' (keyed state)",
            "'by digit'",
        ],
    );
    let error = savepoint.operator_list::<u64>("remember", "count").unwrap_err();
    says(
        &error,
        &[&path, "'count'", "is keyed state and not an operator list"],
    );
    let error = savepoint.value::<u64, u64>("lists", "subtasks").unwrap_err();
    says(&error, &["'subtasks'", "is a union list and not keyed state"]);
    let error = savepoint.broadcast::<u64, u64>("lists", "passed").unwrap_err();
    says(
        &error,
        &["'passed'", "is an operator list and not broadcast state"],
    );
    let nowhere = folder.path().join("nowhere").display().to_string();
    says(
        &Savepoint::open(&nowhere).unwrap_err(),
        &[&nowhere, "no checkpoint or savepoint"],
    );
}

/// The error of reading a state as these types, which comes first and alone.
#[track_caller]
fn refused<K: OwnedKey, V: StateValue>(savepoint: &Savepoint, state: &str) {
    let mut entries = savepoint.value::<K, V>("remember", state).unwrap().into_iter();
    let error = entries.next().unwrap().err().unwrap();
    says(&error, &[&savepoint.path(), state, "'remember'", "name the type"]);
    assert!(entries.next().is_none(), "nothing follows an error");
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Other {
    total: u64,
}

#[test]
fn other_types_are_refused_before_anything_is_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let savepoint = savepoint(folder.path());
    refused::<u64, u64>(&savepoint, "count");
    refused::<(String, u8), u64>(&savepoint, "count");
    refused::<[u8; 8], u64>(&savepoint, "count");
    refused::<String, String>(&savepoint, "count");
    refused::<String, Vec<u64>>(&savepoint, "count");
    refused::<String, ()>(&savepoint, "count");
    refused::<String, u64>(&savepoint, "all");
    refused::<String, Other>(&savepoint, "mean");
    refused::<String, u64>(&savepoint, "mean");
    let read = |kind: Result<(), StateProcessorError>, wanted: &[&str]| says(&kind.unwrap_err(), wanted);
    let map = savepoint.map::<String, u8, u64>("remember", "count").unwrap();
    read(
        map.into_iter().try_for_each(|entry| entry.map(drop)),
        &["user key", "'count'"],
    );
    let value = savepoint.value::<String, u64>("remember", "by digit").unwrap();
    read(
        value.into_iter().try_for_each(|entry| entry.map(drop)),
        &["`map`", "'by digit'"],
    );
    let list = savepoint.operator_list::<u8>("lists", "passed").map(drop);
    read(list, &["'passed'", "'lists'", "u8"]);
    let rules = savepoint.broadcast::<String, String>("rules", "rules").map(drop);
    read(rules, &["'rules'", "name the type"]);
}

#[test]
fn numbers_of_the_same_width_are_not_taken_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("savepoint").display().to_string();
    let numbers = OperatorBuilder::new("numbers", 128).unwrap();
    let numbers = numbers.value("n", (0..1_000_i64).map(|n| (n, n))).unwrap();
    SavepointWriter::new("job")
        .operator(numbers)
        .unwrap()
        .write(&path)
        .unwrap();
    let savepoint = Savepoint::open(&path).unwrap();
    let mut right = savepoint.value::<i64, i64>("numbers", "n").unwrap().into_iter();
    assert!(right.all(|entry| entry.is_ok_and(|(key, value)| key == value)));
    let mut wrong = savepoint.value::<u64, i64>("numbers", "n").unwrap().into_iter();
    says(
        &wrong.next().unwrap().unwrap_err(),
        &["key group", "u64", "'numbers'"],
    );
    // A filter by keys of another type does not find nothing: it is refused too.
    let numbers = || savepoint.value::<u64, i64>("numbers", "n").unwrap();
    for filtered in [numbers().only_keys([&5]), numbers().only_keys_in(..3)] {
        let first = filtered.into_iter().next();
        says(&first.unwrap().unwrap_err(), &["key group", "u64", "'numbers'"]);
    }
}

#[test]
fn every_damaged_file_is_named_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = savepoint(folder.path()).path();
    let read_all = || {
        let savepoint = Savepoint::open(&path)?;
        for state in ["count", "max"] {
            savepoint
                .value::<String, u64>("remember", state)?
                .into_iter()
                .try_for_each(|e| e.map(drop))?;
        }
        savepoint
            .aggregating::<String, Mean>("remember", "mean")?
            .into_iter()
            .try_for_each(|e| e.map(drop))?;
        savepoint
            .list::<String, u64>("remember", "all")?
            .into_iter()
            .try_for_each(|e| e.map(drop))?;
        savepoint
            .map::<String, u8, u64>("remember", "by digit")?
            .into_iter()
            .try_for_each(|e| e.map(drop))?;
        savepoint
            .operator_list::<(String, u64)>("lists", "passed")
            .map(drop)
    };
    read_all().unwrap();
    for entry in std::fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        let sound = std::fs::read(&file).unwrap();
        for at in [sound.len() / 3, sound.len() / 2, sound.len() - 1] {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            std::fs::write(&file, damaged).unwrap();
            // A part of a file that nobody asked for is not looked at.
            if let Err(error) = read_all() {
                says(&error, &[file.to_str().unwrap(), "damaged at byte"]);
            } else {
                assert!(at < sound.len() - 1, "{file:?}");
            }
        }
        std::fs::write(&file, &sound[..sound.len() - 2]).unwrap();
        says(
            &read_all().unwrap_err(),
            &[file.to_str().unwrap(), "damaged at byte"],
        );
        std::fs::write(&file, sound).unwrap();
    }
    let savepoint = Savepoint::open(&path).unwrap();
    assert_eq!(
        savepoint
            .value::<String, u64>("remember", "count")
            .unwrap()
            .into_iter()
            .count(),
        expected(300).len()
    );
}
