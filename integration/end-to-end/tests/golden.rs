//! Every example against one reference: straight through, with checkpoints, and killed and restored at another
//! parallelism, with either state backend; and stopped twice with a savepoint, to go on at another parallelism with the
//! other backend, or with the same one from native savepoints.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig_end_to_end::{example, reference, signal, sorted_lines, start_example};
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

/// What a signal did to a program that it was to stop.
enum Stopped {
    /// It goes on from this savepoint.
    With(String),
    /// No job ran yet.
    TooEarly,
    /// It had ended.
    TooLate,
}

impl Golden {
    /// Stops the program twice and lets it go on with other parallelism and state backends.
    fn moved(&mut self) {
        self.goes_on(
            &[("1", "hashmap"), ("3", "rocksdb")],
            ("2", "hashmap"),
            "canonical",
        );
        self.goes_on(&[("1", "rocksdb"), ("3", "rocksdb")], ("2", "rocksdb"), "native");
    }

    fn goes_on(&mut self, stages: &[(&str, &str)], last: (&str, &str), format: &str) {
        let mut pause = Duration::from_millis(20);
        for _ in 0..TRIALS {
            let place = self.fresh();
            let Some(savepoint) = self.stops((stages, format), &mut pause, &place) else {
                continue;
            };
            let mut args = self.args(last, &place);
            args.extend(["--restore".to_owned(), savepoint]);
            return self.ends_as_expected(&args, &place);
        }
        panic!(
            "{} ended before it was stopped twice, {TRIALS} times",
            self.program.name
        );
    }

    /// Stops the program once at each scale, `pause` behind its start, which is adapted. The last savepoint; none when
    /// the program ended before.
    fn stops(
        &self,
        (scales, format): (&[(&str, &str)], &str),
        pause: &mut Duration,
        place: &Path,
    ) -> Option<String> {
        let mut from: Option<String> = None;
        for scale in scales {
            let mut stopped = Stopped::TooEarly;
            while matches!(stopped, Stopped::TooEarly) {
                let mut args = self.args(*scale, place);
                let format = format!("execution.checkpointing.savepoint-format={format}");
                args.extend(["-D".to_owned(), format]);
                args.extend(
                    from.iter()
                        .flat_map(|path| ["--restore".to_owned(), path.clone()]),
                );
                stopped = self.stop(args, *pause, place);
                match stopped {
                    Stopped::TooEarly => *pause += *pause / 8,
                    Stopped::TooLate => *pause -= *pause / 4,
                    Stopped::With(_) => {}
                }
            }
            let Stopped::With(path) = stopped else { return None };
            from = Some(path);
        }
        from
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a signal is to meet another process in the midst of its work"
    )]
    fn stop(&self, mut args: Vec<String>, pause: Duration, place: &Path) -> Stopped {
        let dir = format!(
            "execution.checkpointing.savepoint-dir={}-savepoints",
            place.display()
        );
        args.extend(["-D", "execution.on-signal=suspend", "-D", &dir].map(str::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let child = start_example(self.program.name, &args);
        std::thread::sleep(pause);
        // It may have ended.
        signal(&child, "TERM");
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let savepoint = said.split_once(" has stopped with savepoint ");
        match (savepoint, ended.status.code()) {
            (Some((_, path)), Some(0)) => Stopped::With(path.lines().next().unwrap().to_owned()),
            (None, Some(0)) => Stopped::TooLate,
            (None, None | Some(143)) => Stopped::TooEarly,
            _ => panic!("{} {args:?}: {}: {said}", self.program.name, ended.status),
        }
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
        golden.moved();
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
