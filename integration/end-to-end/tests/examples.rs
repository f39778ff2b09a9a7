//! Every example against its reference, on the shipped data and on random input, at parallelism 1, 2
//! and 4.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig_end_to_end::{example, malformed, reference, sample, sorted_lines};
use std::path::Path;

/// Compares an example with its reference, which take the same input options.
fn same(name: &str, args: &[&str], script: (&str, &[&str]), inputs: &[&str]) {
    let (script, options) = script;
    let expected = reference(script, &[options, &["--plain"], inputs].concat());
    let lines = sorted_lines(&expected);
    for parallelism in ["1", "2", "4"] {
        let found = example(name, &[args, inputs, &["--parallelism", parallelism]].concat());
        let error = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(
            found.status.success(),
            "{name} {inputs:?}, parallelism {parallelism}: {error}"
        );
        assert_eq!(
            sorted_lines(&found),
            lines,
            "{name} {inputs:?}, parallelism {parallelism}"
        );
        assert_eq!(
            malformed(&found),
            malformed(&expected),
            "{name} {inputs:?}, parallelism {parallelism}"
        );
    }
}

/// Random input of a format, made by the reference's generator.
fn random(folder: &Path, kind: &str, seed: &str) -> String {
    let path = folder.join(format!("{kind}-{seed}")).display().to_string();
    let size = [
        "--lines",
        "3000",
        "--seed",
        seed,
        "--crlf",
        "0.1",
        "--malformed",
        "0.02",
    ];
    reference(
        "gen_random_inputs.py",
        &[&[kind, "--output", &path], &size[..]].concat(),
    );
    path
}

#[test]
fn word_count_counts_every_word() {
    let folder = tempfile::tempdir().unwrap();
    for input in [
        sample("access.log.gz"),
        random(folder.path(), "words", "1"),
        random(folder.path(), "words", "2"),
    ] {
        same("word_count", &[], ("wordcount.py", &[]), &["--input", &input]);
    }
}

#[test]
fn access_log_reports_hits_top_paths_and_sessions() {
    let folder = tempfile::tempdir().unwrap();
    // Damaged times may lie as far ahead as 10^18; nothing is late with a bound beyond all of them.
    let all: &[&str] = &["--out-of-orderness-ms", "2000000000000000000"];
    for input in [sample("access.log.gz"), random(folder.path(), "access-log", "3")] {
        let inputs = ["--input", input.as_str()];
        same(
            "access_log",
            &[&["--report", "hits"], all].concat(),
            ("access_log.py", &["hits", "--no-late"]),
            &inputs,
        );
        let top = [&["--report", "top", "--top", "5"], all].concat();
        same(
            "access_log",
            &top,
            ("access_log.py", &["top", "5", "--no-late"]),
            &inputs,
        );
        let sessions = [&["--report", "sessions"], all].concat();
        same(
            "access_log",
            &sessions,
            ("access_log.py", &["sessions", "--no-late"]),
            &inputs,
        );
    }
}

#[test]
fn access_log_hands_out_only_lines_that_are_late() {
    let input = sample("access.log.gz");
    let late = example("access_log", &["--report", "late", "--input", &input]);
    assert!(late.status.success());
    let possible = sorted_lines(&reference(
        "access_log.py",
        &["late", "--plain", "--input", &input],
    ));
    let lines = sorted_lines(&late);
    assert!(!lines.is_empty(), "the sample has lines that are minutes late");
    assert!(
        lines.iter().all(|line| possible.contains(line)),
        "{lines:?} are not all of {possible:?}"
    );
}

#[test]
fn the_sensor_programs_agree_with_their_references() {
    let folder = tempfile::tempdir().unwrap();
    for input in [sample("sensors.csv"), random(folder.path(), "sensors", "4")] {
        let inputs = ["--input", input.as_str()];
        let wide: &[&str] = &["--out-of-orderness-ms", "2000000000000000000"];
        same(
            "average_temperature",
            wide,
            ("average_temperature.py", &[]),
            &inputs,
        );
        same("temp_jump_alert", &[], ("temp_jump_alert.py", &[]), &inputs);
        same("rising_one_second", wide, ("rising_one_second.py", &[]), &inputs);
        for stream in ["alerts", "readings"] {
            same(
                "freezing",
                &["--stream", stream],
                ("freezing.py", &["--stream", stream]),
                &inputs,
            );
        }
    }
}

#[test]
fn programs_over_two_streams_agree_with_their_references() {
    let folder = tempfile::tempdir().unwrap();
    let wide: &[&str] = &["--out-of-orderness-ms", "2000000000000000000"];
    let (switches, smoke) = (sample("filter_switches.csv"), sample("smoke.csv"));
    for (input, switches, smoke) in [
        (sample("sensors.csv"), switches, smoke),
        (
            random(folder.path(), "sensors", "5"),
            random(folder.path(), "switches", "5"),
            random(folder.path(), "smoke", "5"),
        ),
    ] {
        same(
            "filter_switch",
            wide,
            ("filter_switch.py", &[]),
            &["--input", &input, "--switches", &switches],
        );
        same(
            "fire_alert",
            wide,
            ("fire_alert.py", &[]),
            &["--input", &input, "--smoke", &smoke],
        );
    }
}

#[test]
fn files_folders_globs_and_standard_output_mean_the_same() {
    let folder = tempfile::tempdir().unwrap();
    random(folder.path(), "words", "6");
    random(folder.path(), "words", "7");
    let path = folder.path().display().to_string();
    same("word_count", &[], ("wordcount.py", &[]), &["--input", &path]);
    same(
        "word_count",
        &[],
        ("wordcount.py", &[]),
        &["--input", &format!("{path}/words-*")],
    );
    let output = folder.path().join("counts").display().to_string();
    let written = example("word_count", &["--input", &path, "--output", &output]);
    assert!(written.status.success());
    let mut lines: Vec<String> = std::fs::read_to_string(&output)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    std::fs::remove_file(&output).unwrap();
    assert_eq!(
        lines,
        sorted_lines(&reference("wordcount.py", &["--input", &path]))
    );
}

#[test]
fn the_demo_ends_with_a_summary() {
    let demo = example("access_log", &["--demo"]);
    assert!(demo.status.success());
    let text = String::from_utf8_lossy(&demo.stdout).into_owned();
    let summary = text.lines().last().unwrap_or_default();
    assert!(
        summary.starts_with("lines=22406 ") && summary.ends_with("malformed=71"),
        "{summary}"
    );
}
