//! What a program says when something is wrong: the message names the place, the exit code is not
//! zero.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig::prelude::*;
#[cfg(unix)]
use hurtig_end_to_end::example_of_os;
use hurtig_end_to_end::waiting::wait;
use hurtig_end_to_end::{example, example_with, sample};

/// The message of a program that must fail.
fn message(env: &StreamEnv) -> String {
    match wait(env.execute("mistaken")) {
        Ok(result) => panic!("the program should have failed: {result:?}"),
        Err(error) => error.to_string(),
    }
}

fn fails(args: &[&str], expected: &[&str]) {
    let output = example("word_count", args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{args:?} should fail");
    assert!(output.stdout.is_empty(), "{args:?} should write nothing");
    expected
        .iter()
        .for_each(|part| assert!(text.contains(part), "{args:?}: no '{part}' in: {text}"));
}

#[test]
fn a_missing_input_is_named_before_the_job_starts() {
    fails(
        &["--input", "/nowhere/to/be/found"],
        &["/nowhere/to/be/found", "does not exist"],
    );
}

#[test]
fn a_misspelt_option_is_answered_with_the_nearest_one() {
    let input = sample("smoke.csv");
    fails(
        &["--input", &input, "-D", "paralelism.default=2"],
        &["paralelism.default", "did you mean `parallelism.default`"],
    );
    fails(
        &["--input", &input, "-D", "parallelism.default=two"],
        &["parallelism.default", "an integer", "`two`"],
    );
}

#[test]
fn a_job_that_can_never_have_its_slots_is_refused_at_once() {
    let input = sample("smoke.csv");
    let slots = ["-D", "taskmanager.numberOfTaskSlots=2"];
    fails(
        &[&["--input", &input, "--parallelism", "3"], &slots[..]].concat(),
        &[
            "'word count' needs 3 slots and there are 2",
            "taskmanager.numberOfTaskSlots",
        ],
    );
}

#[test]
fn the_clients_parallelism_is_a_number() {
    let input = sample("smoke.csv");
    fails(
        &["-p", "many", "--input", &input],
        &["-p is followed by the job's parallelism", "'many'"],
    );
    fails(
        &["-p", "40000", "--input", &input],
        &["parallelism 40000", "32768"],
    );
    assert!(
        example("word_count", &["-p", "2", "--input", &input])
            .status
            .success()
    );
}

#[test]
fn a_log_filter_that_cannot_be_read_stops_the_program() {
    let output = example_with(
        "word_count",
        &["--input", &sample("smoke.csv")],
        &[("HURTIG_LOG", "a=b=c")],
    );
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.starts_with("error: the log filter 'a=b=c' in HURTIG_LOG cannot be read: "),
        "{text}"
    );
}

#[test]
fn a_log_that_nobody_watches_has_no_colours() {
    let input = sample("smoke.csv");
    let variables = [("HURTIG_LOG", "debug"), ("RUST_LOG", "off")];
    let output = example_with("word_count", &["--input", &input], &variables);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "HURTIG_LOG is no option: {text}");
    assert!(text.contains("INFO") || text.contains("DEBUG"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_failing_function_is_named_with_uid_subtask_and_cause() {
    let env = StreamEnv::new();
    let checked = env.from_sequence(1, 100).try_map(|n: i64| {
        if n == 57 {
            Err("57 is not allowed".into())
        } else {
            Ok(n)
        }
    });
    checked.name("Check").uid("check").collect();
    let text = message(&env);
    for part in [
        "FAILED",
        "'Check'",
        "uid 'check'",
        "subtask 1 of 1",
        "57 is not allowed",
    ] {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
}

#[test]
fn a_panic_in_a_key_selector_is_told_from_one_in_the_operator_before_it() {
    let env = StreamEnv::new();
    let numbers = env.from_sequence(1, 100).map(|n: i64| n).name("Before");
    let keyed = numbers.key_by(|n| if *n == 57 { panic!("no key") } else { *n });
    keyed.count().collect();
    let text = message(&env);
    for part in [
        "'Before'",
        "a key selector or partitioner of its output panicked: no key",
    ] {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
}

#[test]
fn operators_with_state_and_no_uid_are_named_when_a_job_takes_checkpoints() {
    let input = sample("sensors.csv");
    let said = |more: &[&str]| {
        let args = [&["--input", input.as_str()][..], more].concat();
        let output = example("word_count", &args);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = said(&["-D", "execution.checkpointing.interval=10s"]);
    assert!(
        text.contains("operators with state have no uid: 'Input Files', 'Count Words'.")
            && text.contains("give each one by .uid("),
        "{text}"
    );
    assert!(!said(&[]).contains("uid"));
}

#[test]
fn two_inputs_do_not_share_standard_input() {
    for (name, option) in [("filter_switch", "--switches"), ("fire_alert", "--smoke")] {
        let output = example(name, &["--input", "-", option, "-"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(option) && said.contains("standard input"), "{said}");
    }
}

#[test]
fn a_side_output_has_one_type() {
    let env = StreamEnv::new();
    let numbers = env.from_sequence(1, 10).map(|n: i64| n).name("Numbers");
    numbers.side_output(&OutputTag::<i64>::new("odd")).collect();
    numbers.side_output(&OutputTag::<i64>::new("odd")).collect();
    numbers.side_output(&OutputTag::<String>::new("odd")).collect();
    let text = message(&env);
    for part in ["'Numbers'", "'odd'", "i64", "String", "a tag of its own name"] {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
}

/// Fails when it is closed.
struct Unclosable;

impl MapFunction<i64, i64> for Unclosable {
    fn map(&mut self, n: i64, _: ProcessCx<'_>) -> std::result::Result<i64, UserError> {
        Ok(n)
    }

    fn close(&mut self) -> std::result::Result<(), UserError> {
        Err("it does not close".into())
    }
}

#[test]
fn an_error_at_the_end_names_its_operator() {
    let env = StreamEnv::new();
    let before = env.from_sequence(1, 10).map(|n: i64| n).name("Before");
    let closing = before.map_with(|| Unclosable).name("Closing").uid("closing");
    closing.map(|n| n).name("Behind").collect();
    let text = message(&env);
    assert!(
        text.contains("'Closing'") && text.contains("it does not close"),
        "{text}"
    );
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_not_text_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::OsStr::from_bytes(b"in/\xff.txt");
    let output = example_of_os("word_count", &["--input".as_ref(), path]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is not UTF-8") && said.contains("in/"), "{said}");
}

#[test]
fn a_panic_in_a_function_fails_the_job_and_not_the_process() {
    let env = StreamEnv::new();
    env.set_parallelism(2);
    let panics = env.from_sequence(1, 10_000).key_by(|n| n % 7).fold(
        || 0i64,
        |_, sum: &mut i64, n| {
            assert!(*n < 5_000, "too much");
            *sum += n;
            *sum
        },
    );
    panics.name("Fold").collect();
    let text = message(&env);
    assert!(
        text.contains("'Fold'") && text.contains("panicked: too much"),
        "{text}"
    );
}

#[test]
fn mistakes_in_the_graph_name_the_operators() {
    let env = StreamEnv::new();
    let _unused = env.from_sequence(1, 2).map(|n: i64| n).name("Idle Map");
    assert!(message(&env).contains("no sink"));

    let env = StreamEnv::new();
    env.from_sequence(1, 2)
        .uid("twice")
        .map(|n: i64| n)
        .name("Second")
        .uid("twice")
        .collect();
    let text = message(&env);
    assert!(text.contains("'twice'") && text.contains("'Second'"), "{text}");

    let env = StreamEnv::new();
    env.from_sequence(1, 2)
        .map(|n: i64| n)
        .name("None")
        .set_parallelism(0)
        .collect();
    let text = message(&env);
    assert!(
        text.contains("'None'") && text.contains("parallelism 0"),
        "{text}"
    );

    let env = StreamEnv::new();
    env.from_sequence(1, 2)
        .map(|n: i64| n)
        .name("Wide")
        .set_max_parallelism(2)
        .set_parallelism(3)
        .collect();
    let text = message(&env);
    assert!(
        text.contains("'Wide'") && text.contains('3') && text.contains('2'),
        "{text}"
    );

    let env = StreamEnv::new();
    env.from_sequence(1, 2)
        .set_parallelism(2)
        .forward()
        .map(|n: i64| n)
        .name("Odd")
        .set_parallelism(3)
        .collect();
    let text = message(&env);
    assert!(text.contains("'Odd'") && text.contains("forward"), "{text}");

    let env = StreamEnv::new();
    env.from_sequence(1, 2)
        .key_by(|n| *n)
        .window(Tumbling::of(0.seconds()))
        .aggregate(Count::new())
        .name("No Time")
        .collect();
    let text = message(&env);
    assert!(text.contains("'No Time'") && text.contains("size"), "{text}");
}

#[test]
fn a_stream_belongs_to_one_program() {
    let (env, other) = (StreamEnv::new(), StreamEnv::new());
    let foreign = other.from_sequence(10, 12);
    let both = env.from_sequence(1, 2).union(&foreign).map(|n: i64| n);
    both.name("Both").collect();
    let text = message(&env);
    assert!(
        text.contains("'Both'") && text.contains("another program"),
        "{text}"
    );

    let env = StreamEnv::new();
    env.from_sequence(1, 2)
        .connect(&foreign)
        .map(|n: i64| n, |n: i64| n)
        .name("Two")
        .collect();
    let text = message(&env);
    assert!(
        text.contains("'Two'") && text.contains("another program"),
        "{text}"
    );

    let env = StreamEnv::new();
    let executed = env.from_sequence(1, 2);
    executed.collect();
    wait(env.execute("first")).unwrap();
    env.from_sequence(3, 4).collect();
    executed.map(|n: i64| n).name("Again").collect();
    let text = message(&env);
    assert!(
        text.contains("'Again'") && text.contains("until that environment executes it"),
        "{text}"
    );
}
