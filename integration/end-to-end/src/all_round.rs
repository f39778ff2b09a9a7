//! What the example `all_round` writes, worked out without it.

#![allow(clippy::unwrap_used, reason = "a test whose output cannot be read has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const KEYS: u64 = 60;
const JITTER: i64 = 40;

/// As the example has it.
fn time_of(i: u64) -> i64 {
    let early = (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as i64 % JITTER;
    (i / 10) as i64 + JITTER - early
}

/// Lines of all visible files of a folder and of those below it.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            lines.extend(self::lines(&entry.path()));
        } else if !entry.file_name().to_string_lossy().starts_with('.') {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert!(text.ends_with('\n'), "a torn file is visible: {:?}", entry.path());
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.sort_unstable();
    lines
}

/// What two sorted lists do not have in common.
fn difference(found: &[String], wanted: &[String]) -> String {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    found
        .iter()
        .for_each(|line| *counts.entry(line).or_default() += 1);
    wanted
        .iter()
        .for_each(|line| *counts.entry(line).or_default() -= 1);
    let (lost, extra): (Vec<_>, Vec<_>) = counts
        .iter()
        .filter(|(_, n)| **n != 0)
        .partition(|(_, n)| **n < 0);
    let show = |lines: &[(&&str, &i64)]| format!("{} {:?}", lines.len(), &lines[..lines.len().min(5)]);
    format!("lost {}, too many {}", show(&lost), show(&extra))
}

#[track_caller]
fn same(what: &str, folder: &Path, mut wanted: Vec<String>) {
    wanted.sort_unstable();
    let found = lines(&folder.join(what));
    assert!(found == wanted, "{what}: {}", difference(&found, &wanted));
}

/// Compares what the job has written for so many records with what it should have.
///
/// # Panics
/// When a line is missing, is there twice or is too much, or a file is torn or cannot be read.
pub fn check(out: &Path, count: u64) {
    let records = (0..count).map(|i| (i % KEYS, i / KEYS));
    same(
        "records",
        out,
        records.map(|(key, seq)| format!("{key} {seq}")).collect(),
    );
    let timers: BTreeSet<(u64, i64)> = (0..count).map(|i| (i % KEYS, time_of(i) + 50)).collect();
    same(
        "timers",
        out,
        timers.iter().map(|(key, time)| format!("{key} {time}")).collect(),
    );
    let mut windows: BTreeMap<(char, u64, i64), u64> = BTreeMap::new();
    for i in 0..count {
        let (key, time) = (i % KEYS, time_of(i));
        *windows
            .entry(('t', key, time - time.rem_euclid(100)))
            .or_default() += 1;
        let last = time - time.rem_euclid(50);
        for start in (0..4).map(|n| last - 50 * n) {
            *windows.entry(('s', key, start)).or_default() += 1;
        }
    }
    let line = |((kind, key, start), n): (&(char, u64, i64), &u64)| format!("{kind} {key} {start} {n}");
    same("windows", out, windows.iter().map(line).collect());
}
