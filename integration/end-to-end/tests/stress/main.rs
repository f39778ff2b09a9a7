//! Thousands of small jobs with tiny buffers and random settings: none may hang, none may lose a word.
//!
//! `HURTIG_STRESS_RUNS` says how many, `HURTIG_STRESS_SEED` where to begin. A run that makes no
//! progress is reported with its settings, with what every operator has seen, and with the stacks of
//! all threads where `gdb` is installed.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "tests: small numbers, and what cannot be prepared has failed"
)]

#[path = "../operators/common.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod common;
mod stand;
mod trouble;

use common::{Random, env_with, multiset, same};
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::wait;
use stand::Stand;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// No small job takes longer, however slow the machine.
const HANGS_AFTER: Duration = Duration::from_secs(60);

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

/// Settings as small and as odd as they may be.
fn settings(random: &mut Random) -> Vec<String> {
    let mut pick = |key: &str, values: &[&str]| format!("{key}={}", random.one_of(values));
    vec![
        pick("exchange.channel.max-batches", &["1", "1", "2", "8"]),
        pick("exchange.channel.max-bytes", &["1kb", "2mb"]),
        pick("pipeline.batch-size", &["1", "2", "3", "16", "1024"]),
        pick("pipeline.batch-bytes", &["1kb", "256kb"]),
        pick("worker.round", &["1us", "300us", "2ms"]),
        pick("execution.buffer-timeout.interval", &["0", "-1", "1ms", "10ms"]),
        pick("taskmanager.worker-threads", &["1", "2", "3", "4"]),
        pick("pipeline.operator-chaining.enabled", &["true", "true", "false"]),
        pick("pipeline.auto-watermark-interval", &["0ms", "1ms", "5ms"]),
    ]
}

fn words(random: &mut Random, lines: u64) -> Vec<String> {
    let line = |random: &mut Random| {
        let words = random.below(12);
        (0..words)
            .map(|_| format!("w{}", random.below(50)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    (0..lines).map(|_| line(random)).collect()
}

fn counted(lines: &[String]) -> BTreeMap<String, u64> {
    let words = lines
        .iter()
        .flat_map(|line| line.split(' '))
        .filter(|word| !word.is_empty());
    multiset(words.map(str::to_owned))
        .into_iter()
        .map(|(word, n)| (word, n as u64))
        .collect()
}

/// What is counted must be counted one after the other, up to the expected number.
fn check(counts: Vec<(String, u64)>, expected: &BTreeMap<String, u64>, what: &str) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for (word, count) in counts {
        let before = last.insert(word.clone(), count).unwrap_or(0);
        assert_eq!(count, before + 1, "{what}: '{word}' was counted out of order");
    }
    same(&last, expected, what);
}

/// A word count; the shape of the job is drawn as well.
fn word_count(
    env: &StreamEnv,
    lines: &[String],
    random: &mut Random,
    stand: &Arc<Stand>,
) -> hurtig::CollectHandle<(String, u64)> {
    let read = stand.counter("lines read");
    let mut lines = env.from_collection(lines.to_vec()).inspect(move |_| read.add());
    lines = match random.below(4) {
        0 => lines.rebalance(),
        1 => lines.shuffle(),
        2 => lines,
        _ => {
            let long = lines.filter(|line| line.len() > 12);
            long.union(&lines.filter(|line| line.len() <= 12))
        }
    };
    let split = stand.counter("words split");
    let words = lines.flat_map(move |line: String, out| {
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            split.add();
            out.emit(word.to_owned());
        }
    });
    let counted = stand.counter("words counted");
    // One consumer for the results, so that their order can be checked.
    let counts = words
        .key_by(|word| word.clone())
        .count()
        .inspect(move |_| counted.add());
    let arrived = stand.counter("counts arrived");
    let counts = counts.global().inspect(move |_| arrived.add()).set_parallelism(1);
    let (sink, handle) = hurtig::CollectSink::new();
    counts.sink_to(sink).set_parallelism(1);
    handle
}

fn one_run(seed: u64) {
    let mut random = Random(seed);
    let definitions = settings(&mut random);
    let parallelism = random.one_of(&[1, 2, 2, 4]);
    let lines = random.below(60);
    let lines = words(&mut random, lines);
    let stand = Stand::new(format!(
        "seed {seed}, parallelism {parallelism}, {definitions:?}, {} lines",
        lines.len()
    ));
    let definitions: Vec<&str> = definitions.iter().map(String::as_str).collect();
    let env = env_with(parallelism, &definitions);
    let counts = word_count(&env, &lines, &mut random, &stand);
    let ended = stand.watched(2 * HANGS_AFTER, || {
        wait(async { tokio::time::timeout(HANGS_AFTER, env.execute("stress")).await })
    });
    let Ok(result) = ended else {
        panic!("no end after {HANGS_AFTER:?}: {}", stand.report());
    };
    if let Err(error) = result {
        panic!("{}: {error}", stand.what());
    }
    check(counts.take(), &counted(&lines), stand.what());
}

#[test]
fn small_jobs_with_odd_settings_always_end_and_count_every_word() {
    let (first, runs) = (
        setting("HURTIG_STRESS_SEED", 1),
        setting("HURTIG_STRESS_RUNS", 300),
    );
    for seed in first..first + runs {
        one_run(seed);
    }
}

#[test]
fn a_job_that_hangs_is_reported_with_what_its_operators_have_seen() {
    let stand = Stand::new("a job".to_owned());
    let (read, _split) = (stand.counter("lines read"), stand.counter("words split"));
    read.add();
    let text = stand.report();
    for part in ["a job", "lines read: 1", "words split: 0", "thread"] {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
}
