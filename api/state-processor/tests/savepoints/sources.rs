//! Savepoints as sources of jobs.

use crate::common::{env, expected, stopped, until, wait};
use crate::reading::records;
use hurtig::prelude::*;
use hurtig_state_processor::{OperatorBuilder, Savepoint, SavepointWriter};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn collected(env: &StreamEnv, savepoint: &Savepoint) -> Vec<(String, u64)> {
    let counts = savepoint.value::<String, u64>("remember", "count").unwrap();
    let out = env
        .from_source(counts, Watermarks::none())
        .uid("savepoint")
        .collect();
    wait(env.execute("reading")).unwrap();
    let mut out = out.take();
    out.sort();
    out
}

#[test]
fn a_job_reads_each_key_of_a_savepoint_once_at_any_parallelism() {
    let folder = tempfile::tempdir().unwrap();
    let path = stopped(&env(3, "hashmap", folder.path(), None), folder.path());
    let savepoint = Savepoint::open(&path).unwrap();
    let wanted = expected(records(&savepoint));
    let mut wanted: Vec<_> = wanted
        .into_iter()
        .map(|(key, of_key)| (key, of_key.count))
        .collect();
    wanted.sort();
    for parallelism in [1, 2, 3] {
        let env = env(parallelism, "hashmap", folder.path(), None);
        assert_eq!(collected(&env, &savepoint), wanted, "parallelism {parallelism}");
    }
}

const MANY: u64 = 20_000;

/// A job that reads many keys slowly, and counts each one.
fn counting(env: &StreamEnv, of: &str, out: &Path) -> Arc<AtomicU64> {
    let numbers = Savepoint::open(of)
        .unwrap()
        .value::<u64, u64>("numbers", "n")
        .unwrap();
    let read = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&read);
    env.from_source(numbers, Watermarks::none())
        .uid("savepoint")
        .map(move |(key, value): (u64, u64)| {
            seen.fetch_add(1, Ordering::Relaxed);
            format!("{key} {value}")
        })
        .uid("text")
        .sink_to(FileSink::lines(out).rolling(RollingPolicy::on_checkpoint()))
        .uid("out");
    read
}

#[test]
fn a_job_that_was_stopped_goes_on_where_it_was_in_the_savepoint() {
    let folder = tempfile::tempdir().unwrap();
    let of = folder.path().join("numbers").display().to_string();
    let numbers = OperatorBuilder::new("numbers", 128).unwrap().files(5).unwrap();
    let numbers = numbers.value("n", (0..MANY).map(|n| (n, n * n))).unwrap();
    SavepointWriter::new("numbers")
        .operator(numbers)
        .unwrap()
        .write(&of)
        .unwrap();
    let out = folder.path().join("out");
    let first = env(3, "hashmap", folder.path(), None);
    let read = counting(&first, &of, &out);
    let path = wait(async {
        let job = first.execute_async("numbers").await.unwrap();
        until("a record is read", async || read.load(Ordering::Relaxed) > 0).await;
        job.stop(folder.path().to_str(), false).await
    });
    match path {
        Ok(path) => {
            let second = env(2, "hashmap", folder.path(), Some(&path));
            counting(&second, &of, &out);
            wait(second.execute("numbers")).unwrap();
        }
        Err(_) => assert_eq!(
            read.load(Ordering::Relaxed),
            MANY,
            "it was through before it could stop"
        ),
    }
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(&out).unwrap().map(Result::unwrap) {
        if !entry.file_name().to_string_lossy().starts_with('.') {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    let mut wanted: Vec<String> = (0..MANY).map(|n| format!("{n} {}", n * n)).collect();
    lines.sort();
    wanted.sort();
    assert!(lines == wanted, "{} lines of {}", lines.len(), wanted.len());
}
