//! The all-round job under kill -9 and failing functions, at changing parallelism, with changing state
//! backends, with aligned and unaligned checkpoints, with and without back pressure, with checkpoints in a directory
//! and in an object store: every record, window and timer is in its output once.
//!
//! `CHAOS_KILLS` says how many kills at random moments (default 6), `CHAOS_STEP_KILLS` how many at each named step of
//! the checkpoint and commit protocols (default 1), `CHAOS_SEED` where randomness begins, `CHAOS_BACKEND` the state
//! backend (default: either, by chance), `CHAOS_BARRIERS` after how many milliseconds barriers overtake, or `never`
//! (default: by chance), `CHAOS_STOPS` how many jobs die when they have stopped (default 2).
//!
//! In release, where each example takes minutes to link, with the only one that it needs:
//! `cargo build --release --workspace --example all_round`, and `BUILT_EXAMPLES` names its folder.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]
#![allow(clippy::print_stdout, reason = "a failing run must tell its seed")]

use hurtig_core::steps::{DIE_AT, Step};
use hurtig_end_to_end::all_round::check;
use hurtig_end_to_end::{Random, number, start_example, start_example_with};
use hurtig_s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RATE: u64 = 12_000;
/// How long a life lasts that is to end at a step and does not, in milliseconds.
const LIFE_MS: u64 = 3_000;
const SIGABRT: i32 = 6;

struct Trial {
    random: Random,
    /// Has the checkpoints and savepoints, if they are not in directories.
    server: Option<S3Server>,
    folder: tempfile::TempDir,
    count: u64,
    /// The record before which the source waits for the last life.
    hold: u64,
    /// How many records a second there are while something is to be killed.
    rate: u64,
    /// How long a life may last that is to end at a step, in milliseconds.
    life_ms: u64,
    /// Lives take no checkpoints, and stop with a savepoint at once.
    only_stops: bool,
}

impl Trial {
    /// A life begins; `pause` is how many microseconds the keyed operator rests at every sixteenth record.
    fn args(&mut self, pause: u64) -> Vec<String> {
        let parallelism = 1 + self.random.below(4);
        let by_chance = 20 + self.random.below(80);
        let interval = if self.only_stops { 3_600_000 } else { by_chance };
        let checkpoints = self.place("checkpoints");
        let local = self.folder.path().join("state");
        // So little that all but the newest values are in RocksDB's files.
        let memory = ["2kb", "64mb"][self.random.below(2) as usize];
        let compression = ["none", "lz4"][self.random.below(2) as usize];
        let settings = [
            format!("state.backend.type={}", self.backend()),
            format!("state.backend.rocksdb.localdir={}", local.display()),
            format!("taskmanager.memory.managed.size={memory}"),
            format!(
                "execution.checkpointing.incremental={}",
                self.random.below(2) == 0
            ),
            format!("execution.checkpointing.interval={interval}ms"),
            format!("execution.checkpointing.dir={checkpoints}"),
            format!("execution.checkpointing.snapshot-compression={compression}"),
            "restart-strategy.type=fixed-delay".to_owned(),
            "restart-strategy.fixed-delay.attempts=3".to_owned(),
            "restart-strategy.fixed-delay.delay=10ms".to_owned(),
        ];
        let mut args = vec!["-p".to_owned(), parallelism.to_string()];
        args.extend(
            settings
                .into_iter()
                .chain(self.barriers())
                .chain(self.store_settings())
                .flat_map(|setting| ["-D".to_owned(), setting]),
        );
        args.extend(["--restore", "latest"].map(str::to_owned));
        args.extend([
            self.out(),
            self.count.to_string(),
            self.rate.to_string(),
            pause.to_string(),
            self.hold.to_string(),
        ]);
        args
    }

    /// Where a job keeps something.
    fn place(&self, name: &str) -> String {
        match &self.server {
            Some(_) => format!("s3://jobs/{name}"),
            None => self.folder.path().join(name).display().to_string(),
        }
    }

    /// The directory in which it is: the server keeps objects as files.
    fn directory(&self, name: &str) -> PathBuf {
        let objects = self.server.as_ref().map_or("", |_| "objects/jobs");
        self.folder.path().join(objects).join(name)
    }

    fn store_settings(&self) -> Vec<String> {
        let endpoint = self.server.as_ref().map(S3Server::endpoint);
        endpoint.map_or_else(Vec::new, |endpoint| {
            vec![
                format!("s3.endpoint={endpoint}"),
                format!("s3.access-key={ACCESS_KEY}"),
                format!("s3.secret-key={SECRET_KEY}"),
            ]
        })
    }

    fn backend(&mut self) -> String {
        let either = ["hashmap", "rocksdb"][self.random.below(2) as usize];
        std::env::var("CHAOS_BACKEND").unwrap_or_else(|_| either.to_owned())
    }

    /// Whether barriers are aligned, overtake, or overtake after a while.
    fn barriers(&mut self) -> Vec<String> {
        let by_chance = match self.random.below(4) {
            0 => "never".to_owned(),
            1 => "0".to_owned(),
            _ => self.random.below(20).to_string(),
        };
        match std::env::var("CHAOS_BARRIERS").unwrap_or(by_chance).as_str() {
            "never" => Vec::new(),
            after => vec![
                "execution.checkpointing.unaligned.enabled=true".to_owned(),
                format!("execution.checkpointing.aligned-checkpoint-timeout={after}ms"),
            ],
        }
    }

    fn out(&self) -> String {
        self.folder.path().join("out").display().to_string()
    }

    /// One life of the program, killed after a while. It may be taking a savepoint, stopping with one, or
    /// have stopped by then.
    #[expect(
        clippy::disallowed_methods,
        reason = "a life is as long as chance has it, whatever happens in it"
    )]
    fn kill(&mut self) -> String {
        let pause = [0, 1_000, 5_000][self.random.below(3) as usize];
        let args = self.args(pause);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut child = start_example("all_round", &args);
        let life = 100 + self.random.below(900);
        let savepoints = self.place("savepoints");
        let (what, text) = match self.random.below(6) {
            0 | 1 => ("fail", String::new()),
            2 => ("savepoint", savepoints),
            3 | 4 => ("stop", savepoints),
            _ => ("", String::new()),
        };
        std::thread::sleep(Duration::from_millis(life / 2));
        if !what.is_empty() {
            // The folder may not be there yet.
            let _ = std::fs::write(Path::new(&self.out()).join(what), text);
        }
        // A stop takes some ten milliseconds: half of the kills come in its midst.
        let rest = if what == "stop" && self.random.below(2) == 0 {
            self.random.below(40)
        } else {
            life / 2
        };
        std::thread::sleep(Duration::from_millis(rest));
        // It may have ended already.
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("FAILED") && !said.contains("error:"), "{said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// One life of the program, which dies when it reaches a step for the some-th time.
    #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
    fn die_at(&mut self, step: Step, life_ms: u64) -> Life {
        let args = self.args(0);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // Each of these is reached once by a task, a job or a file.
        let times = match step {
            Step::Found | Step::SavepointComplete => 1,
            _ if self.only_stops => 1,
            Step::Discarding | Step::HalfDiscarded => 1 + self.random.below(2),
            Step::Loaded | Step::Restored => 1 + self.random.below(4),
            _ => 1 + self.random.below(30),
        };
        let stop = Path::new(&self.out()).join("stop");
        if self.only_stops || step == Step::SavepointComplete {
            std::fs::write(&stop, self.place("savepoints")).unwrap();
        }
        let death = format!("{}:{times}", step.name());
        let mut child = start_example_with("all_round", &args, &[(DIE_AT, &death)]);
        let until = Instant::now() + Duration::from_millis(life_ms);
        while child.try_wait().unwrap().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        // It may be dead already.
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !said.contains("FAILED") && !said.contains("error:"),
            "{death}: {said}"
        );
        let _ = std::fs::remove_file(stop);
        let said_out = String::from_utf8_lossy(&output.stdout);
        match output.status.signal() == Some(SIGABRT) {
            true => Life::Died,
            false if is_held(&said_out) => Life::Held,
            false => Life::Ended,
        }
    }

    /// The last life, to the end.
    fn finish(&mut self) -> String {
        (self.rate, self.hold) = (RATE, self.count);
        let args = self.args(0);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = start_example("all_round", &args).wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// How a life ended that was to end at a step.
enum Life {
    /// There.
    Died,
    /// Elsewhere: the step was not reached, or a savepoint ended it.
    Ended,
    /// The job had nothing more to do until its last life: machines that are busy with something else let it live longer.
    Held,
}

impl Trial {
    /// A job of which some is left when the last of so many lives has ended.
    fn new(lives: u64, seed: u64) -> Self {
        println!("CHAOS_SEED={seed}");
        Self {
            random: Random::new(seed),
            server: None,
            folder: tempfile::tempdir().unwrap(),
            count: RATE * (lives + 4) / 2,
            hold: RATE * (lives + 3) / 2,
            rate: RATE,
            life_ms: LIFE_MS,
            only_stops: false,
        }
    }

    /// The same with checkpoints and savepoints in an object store.
    fn in_objects(self) -> Self {
        let server = S3Server::start(&self.folder.path().join("objects")).unwrap();
        server.make_bucket("jobs").unwrap();
        Self {
            server: Some(server),
            // Steps take longer to come.
            rate: RATE / 4,
            life_ms: 3 * LIFE_MS,
            ..self
        }
    }

    /// Lets the job come to its end, and checks that all output is there once and that nothing else is left.
    fn ends_well(&mut self) {
        for control in ["fail", "savepoint", "stop"] {
            // The last life is to come to its end.
            let _ = std::fs::remove_file(Path::new(&self.out()).join(control));
        }
        let end = self.finish();
        println!("{end}");
        check(Path::new(&self.out()), self.count);
        assert!(
            end.contains(&format!("counted={}", self.count)),
            "operator state lost or repeated records: {end}"
        );
        assert!(
            end.contains("same=true"),
            "a union list differs from the list that was split: {end}"
        );
        let left = unaligned(&self.directory("savepoints"));
        assert!(left.is_empty(), "savepoints with records in flight: {left:?}");
        // The last life may have kept all state in memory; then the one before has left it.
        let left: Vec<_> = std::fs::read_dir(self.folder.path().join("state"))
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default();
        assert!(left.len() <= 1, "local state of killed processes: {left:?}");
        let left = metadata(&self.directory("checkpoints"));
        assert!(
            left.is_empty(),
            "checkpoints of a job that has finished: {left:?}"
        );
    }
}

#[test]
fn nothing_is_lost_or_repeated_whatever_is_killed() {
    is_killed_at_random(1, Trial::new);
}

#[test]
fn nothing_is_lost_or_repeated_when_checkpoints_are_objects() {
    is_killed_at_random(2, |lives, seed| Trial::new(lives, seed).in_objects());
}

fn is_killed_at_random(seed: u64, new_trial: impl Fn(u64, u64) -> Trial) {
    let (kills, seed) = (number("CHAOS_KILLS", 6), number("CHAOS_SEED", seed));
    let mut trial = new_trial(kills, seed);
    for life in 0..kills {
        let said = trial.kill();
        println!("{life}: {}", said.trim());
        if is_held(&said) {
            trial.ends_well();
            trial = new_trial(kills, seed + life + 1);
        }
    }
    trial.ends_well();
}

/// Whether the job had come so far that nothing more can be learned of it.
fn is_held(said: &str) -> bool {
    said.lines().any(|line| line == "held")
}

#[test]
fn nothing_is_lost_or_repeated_whichever_step_is_the_last() {
    dies_at_each_step(Trial::new);
}

#[test]
fn nothing_is_lost_or_repeated_whichever_step_is_the_last_in_an_object_store() {
    dies_at_each_step(|lives, seed| Trial::new(lives, seed).in_objects());
}

fn dies_at_each_step(new_trial: impl Fn(u64, u64) -> Trial) {
    let deaths = number("CHAOS_STEP_KILLS", 1);
    let (lives, seed) = (deaths * Step::ALL.len() as u64, number("CHAOS_SEED", 1));
    // With something to go on from.
    let begun = |seed| {
        let mut trial = new_trial(lives, seed);
        let begun = trial.die_at(Step::HalfDiscarded, 20 * LIFE_MS);
        assert!(matches!(begun, Life::Died), "nothing was discarded");
        trial
    };
    let mut trials = 1;
    let mut trial = begun(seed);
    // The others are those of a job that ends.
    let of_a_life = |step: &Step| !matches!(step, Step::EndBegun | Step::Cleared);
    for step in Step::ALL.iter().copied().filter(of_a_life) {
        let (mut lives, mut died, mut life_ms) = (0, 0, trial.life_ms);
        while died < deaths {
            lives += 1;
            match trial.die_at(step, life_ms) {
                Life::Died => died += 1,
                // It may have been too short.
                Life::Ended => life_ms *= 2,
                Life::Held => {
                    trial.ends_well();
                    trial = begun(seed + trials);
                    trials += 1;
                }
            }
            assert!(
                lives < deaths * 2 + 5,
                "{step:?} is hardly reached: {died} of {lives} times"
            );
        }
        println!("{}: {died} of {lives} lives", step.name());
    }
    trial.ends_well();
}

/// A job that stops before it has taken a checkpoint has not yet deleted that which it went on from. If it dies when its
/// savepoint is recorded, its successor does.
#[test]
fn what_a_stopped_job_had_still_to_delete_is_deleted_by_its_successor() {
    for seed in 1..=number("CHAOS_STOPS", 2) {
        let mut trial = Trial::new(4, seed);
        let begun = trial.die_at(Step::HalfDiscarded, 20 * LIFE_MS);
        assert!(matches!(begun, Life::Died), "nothing was discarded");
        trial.only_stops = true;
        let stopped = trial.die_at(Step::Published, 20 * LIFE_MS);
        assert!(matches!(stopped, Life::Died), "it has not stopped");
        trial.only_stops = false;
        trial.ends_well();
    }
}

/// Files of savepoints that say that records were on their way: savepoints are always aligned. Names are legible
/// where nothing is compressed.
fn unaligned(savepoints: &Path) -> Vec<PathBuf> {
    let name = b"hurtig:in-flight";
    let files = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let all = files(savepoints)
        .into_iter()
        .flat_map(|savepoint| files(&savepoint));
    all.filter(|file| {
        std::fs::read(file)
            .unwrap()
            .windows(name.len())
            .any(|bytes| bytes == name)
    })
    .collect()
}

/// Complete checkpoints in a folder, and records of savepoints with which jobs have stopped.
fn metadata(checkpoints: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    let jobs = folders(checkpoints).into_iter();
    let all = jobs
        .flat_map(|job| folders(&job))
        .flat_map(|folder| ["_metadata", "_savepoint"].map(|file| folder.join(file)));
    all.filter(|path| path.exists()).collect()
}
