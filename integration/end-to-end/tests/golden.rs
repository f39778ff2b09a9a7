//! Every example three times against one reference: straight through, with checkpoints, and killed and restored at
//! another parallelism; with either state backend.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig_end_to_end::{example, reference, sorted_lines, start_example};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

const LINES: &str = "30000";
/// The program asks all switches of a sensor for each reading.
const SWITCHES: &str = "400";
/// How often a program is started to be killed.
const TRIALS: u32 = 20;
const BACKENDS: [&str; 2] = ["hashmap", "rocksdb"];
/// Nothing is late.
const WIDE: [&str; 2] = ["--out-of-orderness-ms", "2000000000000000000"];

/// An example and the reference of what it computes.
struct Program {
    name: &'static str,
    args: Vec<&'static str>,
    script: &'static str,
    options: Vec<&'static str>,
    /// Options that name inputs, and the kind of each.
    inputs: Vec<(&'static str, &'static str)>,
}

fn program(name: &'static str, args: &[&'static str], kind: &'static str) -> Program {
    Program {
        name,
        args: args.to_vec(),
        script: "",
        options: Vec::new(),
        inputs: vec![("--input", kind)],
    }
}

impl Program {
    fn script(mut self, script: &'static str, options: &[&'static str]) -> Self {
        (self.script, self.options) = (script, options.to_vec());
        self
    }

    fn beside(mut self, option: &'static str, kind: &'static str) -> Self {
        self.inputs.push((option, kind));
        self
    }
}

/// Random input of a kind, one file for all programs.
fn input(folder: &Path, kind: &str) -> String {
    let path = folder.join(kind).display().to_string();
    if !Path::new(&path).exists() {
        let lines = if kind == "switches" { SWITCHES } else { LINES };
        let args = [
            kind,
            "--output",
            &path,
            "--lines",
            lines,
            "--seed",
            "11",
            "--malformed",
            "0.01",
        ];
        reference("gen_random_inputs.py", &args);
    }
    path
}

/// A program on its inputs, and what it must write.
struct Golden {
    program: Program,
    inputs: Vec<String>,
    expected: Vec<String>,
    folder: PathBuf,
    runs: u32,
}

impl Golden {
    fn new(program: Program, folder: &Path) -> Self {
        let inputs = program.inputs.iter();
        let inputs: Vec<String> = inputs
            .flat_map(|(option, kind)| [(*option).to_owned(), input(folder, kind)])
            .collect();
        let mut args = program.options.clone();
        args.push("--plain");
        args.extend(inputs.iter().map(String::as_str));
        let expected = sorted_lines(&reference(program.script, &args));
        assert!(!expected.is_empty(), "{} has nothing to show", program.name);
        let runs = 0;
        let folder = folder.to_owned();
        Self {
            program,
            inputs,
            expected,
            folder,
            runs,
        }
    }

    /// A place that no run has written to.
    fn fresh(&mut self) -> PathBuf {
        self.runs += 1;
        self.folder.join(format!("{}-{}", self.program.name, self.runs))
    }

    fn args(&self, (parallelism, backend): (&str, &str), place: &Path) -> Vec<String> {
        let place = place.display();
        let mut args: Vec<String> = self.program.args.iter().map(ToString::to_string).collect();
        args.extend(self.inputs.iter().cloned());
        args.extend(["--parallelism".to_owned(), parallelism.to_owned()]);
        args.extend(["--output".to_owned(), format!("{place}-out")]);
        for setting in [
            format!("state.backend.type={backend}"),
            format!("state.backend.rocksdb.localdir={place}-state"),
            "taskmanager.memory.managed.size=4mb".to_owned(),
        ] {
            args.extend(["-D".to_owned(), setting]);
        }
        args
    }

    fn checkpointed(&self, scale: (&str, &str), place: &Path) -> Vec<String> {
        let mut args = self.args(scale, place);
        for setting in [
            "execution.checkpointing.interval=10ms".to_owned(),
            format!("execution.checkpointing.dir={}-checkpoints", place.display()),
            "execution.checkpointing.incremental=true".to_owned(),
        ] {
            args.extend(["-D".to_owned(), setting]);
        }
        args
    }

    fn ends_as_expected(&self, args: &[String], place: &Path) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ended = example(self.program.name, &args);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{} {args:?}: {said}", self.program.name);
        let written = std::fs::read_to_string(format!("{}-out", place.display())).unwrap();
        let mut lines: Vec<String> = written.lines().map(str::to_owned).collect();
        lines.sort();
        assert!(
            lines == self.expected,
            "{} {args:?}: {} lines, expected {}",
            self.program.name,
            lines.len(),
            self.expected.len()
        );
    }

    fn run(&mut self, backend: &str) {
        let place = self.fresh();
        self.ends_as_expected(&self.args(("1", backend), &place), &place);
        let place = self.fresh();
        self.ends_as_expected(&self.checkpointed(("2", backend), &place), &place);
        let place = self.killed(backend);
        let mut args = self.checkpointed(("3", backend), &place);
        args.extend(["--restore", "latest"].map(str::to_owned));
        self.ends_as_expected(&args, &place);
    }

    /// Where a program was killed that had a checkpoint. It may end before, on an idle machine.
    fn killed(&mut self, backend: &str) -> PathBuf {
        for _ in 0..TRIALS {
            let place = self.fresh();
            if self.kill(&self.checkpointed(("2", backend), &place), &place) {
                return place;
            }
        }
        panic!(
            "{} ended before it had a checkpoint, {TRIALS} times",
            self.program.name
        );
    }

    /// Starts the program and kills it when it has a checkpoint; false when it has ended by then.
    fn kill(&self, args: &[String], place: &Path) -> bool {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut child = start_example(self.program.name, &args);
        let found = wait_for_checkpoint(&mut child, Path::new(&format!("{}-checkpoints", place.display())));
        // SIGKILL. It may have ended.
        let _ = child.kill();
        let ended = child.wait_with_output().unwrap();
        found && !ended.status.success()
    }
}

/// Whether there is a complete checkpoint before the program ends.
#[expect(clippy::disallowed_methods, reason = "another process is waited for")]
fn wait_for_checkpoint(child: &mut Child, dir: &Path) -> bool {
    while child.try_wait().unwrap().is_none() {
        let jobs = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let folders = jobs.flat_map(|job| std::fs::read_dir(job.path()).into_iter().flatten().flatten());
        if folders
            .into_iter()
            .any(|folder| folder.path().join("_metadata").exists())
        {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

fn three_times(programs: Vec<Program>) {
    let folder = tempfile::tempdir().unwrap();
    for program in programs {
        let mut golden = Golden::new(program, folder.path());
        for backend in BACKENDS {
            golden.run(backend);
        }
    }
}

#[test]
fn word_count_three_times() {
    three_times(vec![
        program("word_count", &[], "words").script("wordcount.py", &[]),
    ]);
}

#[test]
fn access_log_three_times() {
    let report = |report, options: &[&'static str]| {
        let args = [&["--report", report], &WIDE[..]].concat();
        program("access_log", &args, "access-log").script("access_log.py", options)
    };
    three_times(vec![
        report("hits", &["hits", "--no-late"]),
        report("sessions", &["sessions", "--no-late"]),
    ]);
}

#[test]
fn sensor_programs_three_times() {
    three_times(vec![
        program("average_temperature", &WIDE, "sensors").script("average_temperature.py", &[]),
        program("temp_jump_alert", &[], "sensors").script("temp_jump_alert.py", &[]),
        program("rising_one_second", &WIDE, "sensors").script("rising_one_second.py", &[]),
        program("freezing", &["--stream", "alerts"], "sensors")
            .script("freezing.py", &["--stream", "alerts"]),
    ]);
}

#[test]
fn programs_over_two_streams_three_times() {
    three_times(vec![
        program("filter_switch", &WIDE, "sensors")
            .script("filter_switch.py", &[])
            .beside("--switches", "switches"),
        program("fire_alert", &WIDE, "sensors")
            .script("fire_alert.py", &[])
            .beside("--smoke", "smoke"),
    ]);
}
