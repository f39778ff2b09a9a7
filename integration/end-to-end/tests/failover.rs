//! A job of several regions of which one fails at random moments: the others are left alone, and every record is in
//! the output once.
//!
//! `wide` reads files with two readers that share an enumerator and forward to sinks of their own; `keyed` numbers
//! generated records by key. `FAILOVER_SEED` says where randomness begins.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig::core::config::Configuration;
use hurtig::core::metrics::MetricValue;
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::wait;
use hurtig_end_to_end::{Random, number};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

type Done = std::result::Result<(), UserError>;

const LINES: u64 = 40_000;
const GENERATED: u64 = 30_000;
const RATE: u64 = 25_000;
const KEYS: u64 = 7;
const FAILURES: u32 = 5;

/// What the subtasks of a pipeline have been through.
#[derive(Default)]
struct Fates {
    attempts: [AtomicU32; 2],
    failures: [AtomicU32; 2],
    seen: AtomicU64,
    /// Records until the next failure; never while negative.
    until: AtomicI64,
    left: AtomicU32,
    /// What the other pipeline had seen at the last failure.
    other_at_failure: AtomicU64,
    /// Restarts during which the other pipeline went on.
    went_on: AtomicU32,
}

impl Fates {
    fn opened(&self, ctx: &OpenContext<'_>, other: &Fates) {
        let info = ctx.info();
        let before = self.attempts[info.index as usize].swap(info.attempt, SeqCst);
        if before < info.attempt && other.seen.load(SeqCst) > self.other_at_failure.load(SeqCst) {
            self.went_on.fetch_add(1, SeqCst);
        }
    }

    /// Whether the record that came just now is one too many.
    fn is_fatal(&self, subtask: u32, other: &Fates, pause: u64) -> bool {
        self.seen.fetch_add(1, SeqCst);
        if self.until.fetch_sub(1, SeqCst) != 0 || self.left.load(SeqCst) == 0 {
            return false;
        }
        self.left.fetch_sub(1, SeqCst);
        self.failures[subtask as usize].fetch_add(1, SeqCst);
        self.other_at_failure.store(other.seen.load(SeqCst), SeqCst);
        self.until.store(i64::try_from(pause).unwrap(), SeqCst);
        true
    }

    fn read(numbers: &[AtomicU32; 2]) -> [u32; 2] {
        [numbers[0].load(SeqCst), numbers[1].load(SeqCst)]
    }
}

/// Hands records on, and fails when it is time to.
struct Trips {
    own: Arc<Fates>,
    other: Arc<Fates>,
    random: Random,
}

impl Trips {
    fn new(own: &Arc<Fates>, other: &Arc<Fates>, seed: u64) -> Self {
        Self {
            own: Arc::clone(own),
            other: Arc::clone(other),
            random: Random::new(seed),
        }
    }
}

impl<T: Send> ProcessFunction<T, T> for Trips {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Done {
        self.own.opened(ctx, &self.other);
        Ok(())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the job has to last for a while, whatever it does"
    )]
    fn process(&mut self, record: T, cx: ProcessCx<'_>, out: &mut Emitter<'_, T>) -> Done {
        let pause = 500 + self.random.below(4_000);
        if self.own.is_fatal(cx.info().index, &self.other, pause) {
            return Err("told to fail".into());
        }
        if pause.is_multiple_of(64) {
            std::thread::sleep(Duration::from_micros(500));
        }
        out.emit(record);
        Ok(())
    }
}

struct Number {
    next: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64, String> for Number {
    fn process(&mut self, key: u64, cx: KeyedCx<'_, u64>, out: &mut Emitter<'_, String>) -> Done {
        let seq = self.next.get_cloned(cx).unwrap_or(0);
        self.next.set(cx, seq + 1);
        out.emit(format!("{key} {seq}"));
        Ok(())
    }
}

/// All lines of the visible files of a folder, sorted.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().starts_with('.') {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.sort_unstable();
    lines
}

#[track_caller]
fn same(folder: &Path, wanted: impl Iterator<Item = String>) {
    let mut wanted: Vec<String> = wanted.collect();
    wanted.sort_unstable();
    let found = lines(folder);
    let first = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
    let (found, wanted) = (found.len(), wanted.len());
    assert!(
        found == wanted && first.is_none(),
        "{folder:?}: {found} lines, not {wanted}: {first:?}"
    );
}

struct Trial {
    seed: u64,
    strategy: &'static str,
    settings: &'static [&'static str],
    folder: tempfile::TempDir,
    wide: Arc<Fates>,
    keyed: Arc<Fates>,
}

impl Trial {
    fn new(seed: u64, strategy: &'static str, settings: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in");
        std::fs::create_dir(&input).unwrap();
        for file in 0..4 {
            let own = (0..LINES).filter(|line| line % 4 == file);
            let text: String = own.map(|line| format!("line {line}\n")).collect();
            std::fs::write(input.join(format!("{file}.txt")), text).unwrap();
        }
        Self {
            seed,
            strategy,
            settings,
            folder,
            wide: Arc::default(),
            keyed: Arc::default(),
        }
    }

    /// Lets a pipeline fail.
    fn trip(&self, fates: &Fates) {
        fates.left.store(FAILURES, SeqCst);
        fates.until.store(1_000 + (self.seed % 7) as i64 * 100, SeqCst);
    }

    fn program(&self) -> StreamEnv {
        let path = |name: &str| self.folder.path().join(name);
        let own = [
            format!("execution.checkpointing.dir={}", path("checkpoints").display()),
            format!("state.backend.rocksdb.localdir={}", path("state").display()),
            format!("jobmanager.execution.failover-strategy={}", self.strategy),
            "execution.checkpointing.interval=20ms".to_owned(),
            "restart-strategy.type=fixed-delay".to_owned(),
            "restart-strategy.fixed-delay.attempts=infinite".to_owned(),
            "restart-strategy.fixed-delay.delay=25ms".to_owned(),
        ];
        let all = own
            .into_iter()
            .chain(self.settings.iter().map(ToString::to_string));
        let config = Configuration::builder()
            .definitions(all.collect::<Vec<_>>())
            .build();
        let env = StreamEnv::with_config(config.unwrap());
        env.set_parallelism(2);
        let (wide, keyed, seed) = (Arc::clone(&self.wide), Arc::clone(&self.keyed), self.seed);
        let files = FileSource::lines(path("in")).split_bytes(5_000);
        env.from_source(files, Watermarks::none())
            .process(move || Trips::new(&wide, &keyed, seed))
            .disable_chaining()
            .sink_to(FileSink::lines(path("wide")).rolling(RollingPolicy::on_checkpoint()));
        let (wide, keyed) = (Arc::clone(&self.wide), Arc::clone(&self.keyed));
        let generated = GeneratorSource::new(GENERATED, |i| i % KEYS).rate(RATE);
        env.from_source(generated, Watermarks::none())
            .process(move || Trips::new(&keyed, &wide, seed + 1))
            .key_by(|key: &u64| *key)
            .process(|ctx| {
                Ok(Number {
                    next: ctx.value("next")?,
                })
            })
            .sink_to(FileSink::lines(path("keyed")).rolling(RollingPolicy::on_checkpoint()));
        env
    }

    /// Runs it to the end. Returns the result, and the metrics `numRestarts` and `fullRestarts`.
    fn run(&self) -> (JobResult, [MetricValue; 2]) {
        let env = self.program();
        let (result, metrics) = wait(async {
            let job = env.execute_async("failover").await.unwrap();
            let result = job.result().await.unwrap();
            (result, job.metrics())
        });
        let metric = |name: &str| {
            let mut found = metrics.iter().filter(|sample| sample.name == name);
            found.next().unwrap().value.clone()
        };
        let (all, full) = (metric("numRestarts"), metric("fullRestarts"));
        same(
            &self.folder.path().join("wide"),
            (0..LINES).map(|line| format!("line {line}")),
        );
        let generated = (0..GENERATED).map(|i| format!("{} {}", i % KEYS, i / KEYS));
        same(&self.folder.path().join("keyed"), generated);
        (result, [all, full])
    }
}

fn seed() -> u64 {
    number("FAILOVER_SEED", 1)
}

const SETTINGS: [&[&str]; 4] = [
    &["state.backend.type=hashmap"],
    &[
        "state.backend.type=rocksdb",
        "execution.checkpointing.incremental=true",
    ],
    &["execution.checkpointing.unaligned.enabled=true"],
    &[
        "state.backend.type=rocksdb",
        "execution.checkpointing.incremental=true",
        "execution.checkpointing.local-backup.enabled=true",
        "execution.state-recovery.from-local=true",
        // So little that values are in RocksDB's files.
        "taskmanager.memory.managed.size=2kb",
    ],
];

#[test]
fn a_region_fails_and_the_others_go_on() {
    for (at, settings) in (0..).zip(SETTINGS) {
        let trial = Trial::new(seed() + at, "region", settings);
        trial.trip(&trial.wide);
        let (result, metrics) = trial.run();
        assert_eq!(trial.wide.left.load(SeqCst), 0, "it failed as often as it should");
        assert_eq!(Fates::read(&trial.keyed.attempts), [0, 0], "nothing failed there");
        let failures = Fates::read(&trial.wide.failures);
        assert_eq!(
            Fates::read(&trial.wide.attempts),
            failures,
            "each subtask is a region of its own"
        );
        assert_eq!(result.restarts, FAILURES);
        let told = result
            .exceptions
            .iter()
            .map(|entry| entry.root.cause.message.as_str());
        assert!(told.eq(["told to fail"; FAILURES as usize]));
        assert!(result.exceptions[0].root.task_manager.is_some());
        assert_eq!(metrics, [MetricValue::Gauge(5), MetricValue::Gauge(0)]);
        assert!(trial.wide.went_on.load(SeqCst) > 0, "records flowed meanwhile");
    }
}

#[test]
fn a_shuffled_region_fails_and_the_readers_of_another_go_on() {
    let trial = Trial::new(seed() + 10, "region", SETTINGS[3]);
    trial.trip(&trial.keyed);
    let (result, _) = trial.run();
    assert_eq!(Fates::read(&trial.wide.attempts), [0, 0], "nothing failed there");
    // One subtask may fail while it is stopped because of the other.
    let exceptions = result.exceptions.iter();
    let told: usize = exceptions.map(|entry| 1 + entry.concurrent.len()).sum();
    assert_eq!(
        (told, result.exceptions.len()),
        (FAILURES as usize, result.restarts as usize)
    );
    assert_eq!(
        Fates::read(&trial.keyed.attempts),
        [result.restarts; 2],
        "all that are connected start again"
    );
}

#[test]
fn everything_fails_at_once_and_alone() {
    let trial = Trial::new(seed() + 20, "region", SETTINGS[0]);
    trial.trip(&trial.keyed);
    trial.trip(&trial.wide);
    trial.run();
}

#[test]
fn with_the_full_strategy_everything_starts_again() {
    let trial = Trial::new(seed() + 30, "full", SETTINGS[0]);
    trial.trip(&trial.wide);
    let (_, metrics) = trial.run();
    let all = trial.keyed.attempts[0].load(SeqCst);
    assert!(all > 0, "it was started again");
    assert_eq!(Fates::read(&trial.wide.attempts), [all; 2]);
    assert_eq!(
        metrics,
        [MetricValue::Gauge(all.into()), MetricValue::Gauge(all.into())]
    );
}
