//! Ctrl-C and SIGTERM on a running program.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig_end_to_end::start_example;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, ExitStatus};

struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut child = start_example("endless", args);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Reads standard output up to a line that begins so.
    fn wait_for(&mut self, beginning: &str) {
        let mut line = String::new();
        while !line.starts_with(beginning) {
            line.clear();
            let read = self.stdout.read_line(&mut line).unwrap();
            assert!(read > 0, "the program ended before it said '{beginning}'");
        }
    }

    fn signal(&self, name: &str) {
        assert!(hurtig_end_to_end::signal(&self.child, name));
    }

    /// The first line of standard error.
    fn complaint(&mut self) -> String {
        let mut line = String::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        BufReader::with_capacity(1, stderr).read_line(&mut line).unwrap();
        line
    }

    /// How it ended, and what else it said on standard error.
    fn end(mut self) -> (ExitStatus, String) {
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (
            output.status,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }
}

/// Names in the folder, and all lines of its visible files.
fn output(folder: &Path) -> (Vec<String>, Vec<u64>) {
    let (mut names, mut numbers) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        assert!(text.ends_with('\n'), "a partial file is visible");
        numbers.extend(text.lines().map(|line| line.parse::<u64>().unwrap()));
        names.push(entry.file_name().into_string().unwrap());
    }
    numbers.sort_unstable();
    (names, numbers)
}

#[test]
fn a_signal_cancels_the_job_and_is_the_exit_code() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Running::start(&["write", folder.path().to_str().unwrap()]);
        program.wait_for("5000");
        program.signal(name);
        let (status, stderr) = program.end();
        assert_eq!(status.code(), Some(code), "{stderr}");
        assert!(stderr.contains("error: job 'write' was CANCELED"), "{stderr}");
        let (names, numbers) = output(folder.path());
        assert!(names.iter().all(|name| name.starts_with("part-0-")), "{names:?}");
        assert!(!numbers.is_empty(), "no part was complete");
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
    }
}

/// The path in `job 'write' has stopped with savepoint PATH`.
fn savepoint(stderr: &str) -> String {
    let said = stderr
        .lines()
        .find_map(|line| line.split_once(" has stopped with savepoint "));
    said.unwrap_or_else(|| panic!("it did not stop: {stderr}"))
        .1
        .to_owned()
}

#[test]
fn a_job_that_a_signal_suspends_goes_on_from_its_savepoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let dir = format!("execution.checkpointing.savepoint-dir={}", path("savepoints"));
    let mut restore: Vec<String> = Vec::new();
    for (round, name) in ["TERM", "INT"].into_iter().enumerate() {
        let out = path("out");
        let mut args = vec!["write", &out, "-D", "execution.on-signal=suspend", "-D", &dir];
        args.extend(restore.iter().map(String::as_str));
        let mut program = Running::start(&args);
        program.wait_for(if round == 0 { "5000" } else { "20000" });
        program.signal(name);
        let (status, stderr) = program.end();
        assert!(status.success(), "{status}: {stderr}");
        let savepoint = savepoint(&stderr);
        assert!(Path::new(&savepoint).join("_metadata").exists());
        restore = vec!["--restore".to_owned(), savepoint];
    }
    let (_, numbers) = output(&folder.path().join("out"));
    assert!(numbers.len() > 20_000 && numbers.iter().copied().eq(0..numbers.len() as u64));
}

#[test]
fn a_job_that_cannot_be_suspended_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("file"), folder.path().join("out"));
    std::fs::write(&file, "not a folder").unwrap();
    let dir = format!("execution.checkpointing.savepoint-dir={}", file.display());
    let out = out.display().to_string();
    let mut program = Running::start(&["write", &out, "-D", "execution.on-signal=suspend", "-D", &dir]);
    program.wait_for("5000");
    program.signal("TERM");
    let (status, stderr) = program.end();
    assert_eq!(status.code(), Some(143), "{stderr}");
    let said = ["job 'write' cannot stop with a savepoint", "was CANCELED"];
    assert!(said.iter().all(|part| stderr.contains(part)), "{stderr}");
}

#[test]
fn a_program_that_would_not_know_where_to_stop_does_not_start() {
    let program = Running::start(&["write", "/nowhere", "-D", "execution.on-signal=suspend"]);
    let (status, stderr) = program.end();
    assert_eq!(status.code(), Some(1));
    let named = ["execution.on-signal", "execution.checkpointing.savepoint-dir"];
    assert!(named.iter().all(|part| stderr.contains(part)), "{stderr}");
}

#[test]
fn a_second_signal_ends_a_program_that_does_not() {
    let mut program = Running::start(&["stuck"]);
    program.wait_for("stuck at 1");
    program.signal("TERM");
    let complaint = program.complaint();
    assert!(
        complaint.starts_with("told to terminate: cancelling the job"),
        "{complaint}"
    );
    program.signal("INT");
    assert_eq!(program.end().0.code(), Some(130));
}

/// As `program 2>&1 | head -1` does.
#[test]
fn a_program_that_nobody_reads_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start_example("endless", &["write", folder.path().to_str().unwrap()]);
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn without_a_job_the_program_ends_at_once() {
    let mut program = Running::start(&["waiting"]);
    program.wait_for("waiting");
    program.signal("TERM");
    let (status, stderr) = program.end();
    assert_eq!((status.code(), stderr.as_str()), (Some(143), ""));
}
