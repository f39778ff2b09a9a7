//! Savepoints as programs use them: taken of a running job, stopped with, moved, and restored at another
//! parallelism, compared with a run that nobody interrupted.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig::core::config::Configuration;
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::{until, wait};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const KEYS: u64 = 12;
const COUNT: u64 = 6_000;

fn env(parallelism: u32, definitions: &[String]) -> StreamEnv {
    let config = Configuration::builder().definitions(definitions).build().unwrap();
    let env = StreamEnv::with_config(config);
    env.set_parallelism(parallelism);
    env
}

/// What a savepoint holds is visible when the job has stopped with it.
fn sink<T: Data + std::fmt::Display>(out: &Path, name: &str) -> impl Sink<T> + use<T> {
    FileSink::lines(out.join(name)).rolling(RollingPolicy::on_checkpoint())
}

/// Numbers each key's records, fires a timer 30 ms of event time after each, and counts windows of 100 ms:
/// everything is written once by a transactional sink.
fn program(env: &StreamEnv, out: &Path, rate: u64) -> Made {
    let made = Made::default();
    let count = made.clone();
    let records = env
        .from_source(
            GeneratorSource::new(COUNT, move |i| (count.one_of(i), i)).rate(rate),
            Watermarks::monotonous(|record: &(u64, u64)| record.1 as i64),
        )
        .uid("records");
    let timers = OutputTag::new("timers");
    let tag = timers.clone();
    let numbered = records
        .key_by(|record: &(u64, u64)| record.0)
        .process(move |ctx| {
            Ok(Number {
                next: ctx.value("next")?,
                timers: tag.clone(),
            })
        })
        .uid("number");
    numbered
        .side_output(&timers)
        .sink_to(sink(out, "timers"))
        .uid("timers-out");
    numbered
        .map(|(key, seq): (u64, u64)| format!("{key} {seq}"))
        .sink_to(sink(out, "records"))
        .uid("records-out");
    numbered
        .key_by(|record: &(u64, u64)| record.0)
        .window(Tumbling::of(100.millis()))
        .aggregate_then(
            Count::new(),
            |key: &u64, window: &TimeWindow, n: &u64, out: &mut Collector<String>| {
                out.push(format!("{key} {} {n}", window.start));
            },
        )
        .uid("windows")
        .sink_to(sink(out, "windows"))
        .uid("windows-out");
    made
}

/// How many records a source has made in this life.
#[derive(Clone, Default)]
struct Made(Arc<AtomicU64>);

impl Made {
    /// The key of record `i`, which is made now.
    fn one_of(&self, i: u64) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed);
        i % KEYS
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until there are so many.
    async fn at_least(&self, records: u64) {
        until("records", async || self.now() >= records).await;
    }
}

struct Number {
    next: ValueState<u64>,
    timers: OutputTag<String>,
}

impl KeyedProcessFunction<u64, (u64, u64), (u64, u64)> for Number {
    fn process(
        &mut self,
        (key, _): (u64, u64),
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, (u64, u64)>,
    ) -> std::result::Result<(), UserError> {
        let seq = self.next.get_cloned(cx).unwrap_or(0);
        self.next.set(cx, seq + 1);
        cx.register_event_timer(cx.timestamp().ok_or("a record without time")? + 30);
        out.emit((key, seq));
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, u64>,
        _: &mut Emitter<'_, (u64, u64)>,
    ) -> std::result::Result<(), UserError> {
        cx.side_output(&self.timers, format!("{} {time}", cx.key()));
        Ok(())
    }
}

type Output = BTreeMap<&'static str, Vec<String>>;

/// What is visible.
fn output(out: &Path) -> Output {
    let lines = |what: &str| {
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(out.join(what)).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_name().to_string_lossy().starts_with('.') {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                lines.extend(text.lines().map(str::to_owned));
            }
        }
        lines.sort_unstable();
        lines
    };
    ["records", "timers", "windows"]
        .map(|what| (what, lines(what)))
        .into()
}

#[track_caller]
fn same(found: &Output, wanted: &Output) {
    for (what, wanted) in wanted {
        let found = &found[what];
        let first = found.iter().zip(wanted).find(|(found, wanted)| found != wanted);
        assert!(
            found == wanted,
            "{what}: {} lines, not {}; the first that differ: {first:?}",
            found.len(),
            wanted.len()
        );
    }
}

/// The run that nobody interrupts.
fn reference(folder: &Path) -> Output {
    let out = folder.join("reference");
    let env = env(2, &[]);
    program(&env, &out, 1_000_000);
    wait(env.execute("savepoints")).unwrap();
    output(&out)
}

fn restore(path: &str) -> String {
    format!("execution.state-recovery.path={path}")
}

fn checkpoints(dir: &Path) -> Vec<String> {
    vec![
        "execution.checkpointing.interval=20ms".to_owned(),
        format!("execution.checkpointing.dir={}", dir.display()),
    ]
}

/// Moves a savepoint to where nobody expects it.
fn moved(path: &str, to: &Path) -> String {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::rename(path, to).unwrap();
    to.to_str().unwrap().to_owned()
}

fn stops_at_1_3_2(settings: impl Fn(&Path) -> Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (out, dir) = (folder.path().join("out"), folder.path().join("savepoints"));
    let mut path: Option<String> = None;
    for (life, parallelism) in [1, 3].into_iter().enumerate() {
        let mut settings = settings(folder.path());
        settings.extend(path.as_deref().map(restore));
        let env = env(parallelism, &settings);
        let made = program(&env, &out, 3_000);
        path = Some(wait(async {
            let job = env.execute_async("savepoints").await.unwrap();
            made.at_least(300).await;
            let path = job.stop(dir.to_str(), false).await.unwrap();
            job.result().await.unwrap();
            path
        }));
        let moved_to = folder.path().join(format!("moved/{life}/by hand"));
        path = path.map(|path| moved(&path, &moved_to));
    }
    let before: usize = output(&out).values().map(Vec::len).sum();
    let mut settings = settings(folder.path());
    settings.extend(path.as_deref().map(restore));
    let env = env(2, &settings);
    program(&env, &out, 1_000_000);
    wait(env.execute("savepoints")).unwrap();
    let found = output(&out);
    same(&found, &reference(folder.path()));
    let all: usize = found.values().map(Vec::len).sum();
    assert!(
        0 < before && before < all,
        "it was stopped in the middle: {before} of {all}"
    );
    assert!(
        Path::new(&path.unwrap()).join("_metadata").is_file(),
        "a savepoint is the user's"
    );
}

#[test]
fn a_stopped_job_goes_on_at_another_parallelism_without_a_gap() {
    stops_at_1_3_2(|folder| checkpoints(&folder.join("checkpoints")));
}

#[test]
fn a_native_savepoint_goes_on_at_another_parallelism_too() {
    for backend in ["hashmap", "rocksdb"] {
        stops_at_1_3_2(|_| {
            let settings = [
                "execution.checkpointing.savepoint-format=native",
                "taskmanager.memory.managed.size=2kb",
            ];
            let mut settings = settings.map(str::to_owned).to_vec();
            settings.push(format!("state.backend.type={backend}"));
            settings
        });
    }
}

#[test]
fn a_job_without_checkpoints_stops_and_goes_on_too() {
    stops_at_1_3_2(|_| Vec::new());
}

#[test]
fn latest_is_the_savepoint_that_a_job_has_stopped_with() {
    let folder = tempfile::tempdir().unwrap();
    let (out, dir) = (folder.path().join("out"), folder.path().join("savepoints"));
    let checkpoint_dir = folder.path().join("checkpoints");
    let mut settings = checkpoints(&checkpoint_dir);
    settings.push(restore("latest"));
    settings.push(format!("execution.checkpointing.savepoint-dir={}", dir.display()));
    let mut paths = Vec::new();
    for _ in 0..2 {
        let env = env(2, &settings);
        let made = program(&env, &out, 3_000);
        paths.push(wait(async {
            let job = env.execute_async("savepoints").await.unwrap();
            made.at_least(300).await;
            job.stop(None, false).await.unwrap()
        }));
    }
    let last = env(3, &settings);
    let made = program(&last, &out, 1_000_000);
    wait(last.execute("savepoints")).unwrap();
    let made = made.now();
    assert!(
        made < COUNT - 500,
        "it goes on from the last of the savepoints: {made}"
    );
    same(&output(&out), &reference(folder.path()));
    for path in paths {
        assert!(Path::new(&path).join("_metadata").is_file(), "{path}");
    }
    assert!(files(&checkpoint_dir).is_empty(), "nothing is left");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// The counts of all keys at the end of input.
fn counting(env: &StreamEnv, rate: u64) -> (hurtig::CollectHandle<String>, Made) {
    let made = Made::default();
    let count = made.clone();
    let counts = env
        .from_source(
            GeneratorSource::new(COUNT, move |i| count.one_of(i)).rate(rate),
            Watermarks::none(),
        )
        .uid("records")
        .key_by(|key: &u64| *key)
        .window(GlobalWindows::with_end_of_stream_trigger())
        .aggregate_then(
            Count::new(),
            |key: &u64, _: &GlobalWindow, n: &u64, out: &mut Collector<String>| {
                out.push(format!("{key} {n}"));
            },
        )
        .uid("counts")
        .collect();
    (counts, made)
}

fn all_counts() -> Vec<String> {
    let mut counts: Vec<String> = (0..KEYS).map(|key| format!("{key} {}", COUNT / KEYS)).collect();
    counts.sort();
    counts
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn a_savepoint_of_a_job_that_goes_on_is_a_beginning_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("savepoints");
    let first = env(2, &checkpoints(&folder.path().join("checkpoints")));
    let (counts, made) = counting(&first, 6_000);
    let paths = wait(async {
        let job = first.execute_async("counting").await.unwrap();
        made.at_least(500).await;
        let (one, two) = (job.savepoint(dir.to_str()), job.savepoint(dir.to_str()));
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        let statistics = job.checkpoint_statistics().await.unwrap();
        assert!(statistics.completed >= 2 && statistics.last_savepoint.is_some());
        job.result().await.unwrap();
        [one, two]
    });
    assert_eq!(sorted(counts.take()), all_counts());
    assert_ne!(paths[0], paths[1]);
    for (path, parallelism) in paths.iter().zip([1, 3]) {
        let again = env(parallelism, &[restore(path)]);
        let (counts, made) = counting(&again, 1_000_000);
        wait(again.execute("counting")).unwrap();
        assert_eq!(sorted(counts.take()), all_counts());
        let made = made.now();
        assert!(made < COUNT - 400, "it began with the savepoint: {made}");
    }
    // Claimed, it belongs to the job that begins with it, and goes with its checkpoints.
    let claim = "execution.state-recovery.claim-mode=CLAIM".to_owned();
    let again = env(2, &[restore(&paths[0]), claim]);
    let (counts, _) = counting(&again, 1_000_000);
    wait(again.execute("counting")).unwrap();
    assert_eq!(sorted(counts.take()), all_counts());
    assert!(!Path::new(&paths[0]).exists());
    assert!(Path::new(&paths[1]).exists());
}

#[test]
fn a_drain_fires_everything_and_a_suspension_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stopped = |drain: bool| {
        let out = folder.path().join(format!("out-{drain}"));
        let env = env(2, &checkpoints(&folder.path().join("checkpoints")));
        let made = program(&env, &out, 3_000);
        wait(async {
            let job = env.execute_async("savepoints").await.unwrap();
            made.at_least(500).await;
            let path = job.stop(folder.path().to_str(), drain).await.unwrap();
            assert_eq!(job.status().await.unwrap().to_string(), "FINISHED");
            assert!(Path::new(&path).join("_metadata").is_file());
            job.result().await.unwrap();
        });
        let output = output(&out);
        let counted = |line: &String| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
        let in_windows: usize = output["windows"].iter().map(counted).sum();
        (output["records"].len(), output["timers"].len(), in_windows)
    };
    let (records, timers, in_windows) = stopped(true);
    assert!(records >= 500);
    assert_eq!((records, records), (timers, in_windows));
    let (records, timers, in_windows) = stopped(false);
    assert!(
        timers < records && in_windows < records,
        "{timers} timers and {in_windows} in windows of {records}"
    );
}

#[test]
fn a_savepoint_that_fails_says_why_and_the_job_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    std::fs::write(&file, "").unwrap();
    let out = folder.path().join("out");
    let env = env(2, &checkpoints(&folder.path().join("checkpoints")));
    let made = program(&env, &out, 6_000);
    wait(async {
        let job = env.execute_async("savepoints").await.unwrap();
        made.at_least(100).await;
        for stop in [false, true] {
            let dir = file.join("below");
            let failed = match stop {
                false => job.savepoint(dir.to_str()).await,
                true => job.stop(dir.to_str(), false).await,
            };
            let text = failed.unwrap_err().to_string();
            assert!(
                text.contains("declined") && text.contains("savepoint-") && text.contains("folder"),
                "{text}"
            );
        }
        let text = job.savepoint(None).await.unwrap_err().to_string();
        assert!(text.contains("execution.checkpointing.savepoint-dir"), "{text}");
        let text = job.savepoint(Some("gs://x")).await.unwrap_err().to_string();
        assert!(text.contains("no scheme 'gs'"), "{text}");
        let among = folder
            .path()
            .join("checkpoints")
            .join(job.id().to_string())
            .join("x");
        let text = job.savepoint(among.to_str()).await.unwrap_err().to_string();
        assert!(text.contains("which are deleted"), "{text}");
        job.result().await.unwrap();
        let text = job.savepoint(folder.path().to_str()).await.unwrap_err();
        assert!(text.to_string().contains("has been shut down"), "{text}");
    });
    same(&output(&out), &reference(folder.path()));
}

#[test]
fn what_cannot_be_restored_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("savepoints");
    let first = env(2, &[]);
    let (_, made) = counting(&first, 3_000);
    let path = wait(async {
        let job = first.execute_async("counting").await.unwrap();
        made.at_least(300).await;
        job.stop(dir.to_str(), false).await.unwrap()
    });
    let refused = |path: &Path, build: fn(&StreamEnv)| {
        let env = env(2, &[restore(path.to_str().unwrap())]);
        build(&env);
        wait(env.execute("again")).unwrap_err().to_string()
    };
    let count = |env: &StreamEnv| drop(counting(env, 1_000));
    let text = refused(&folder.path().join("nothing"), count);
    assert!(
        text.contains("nothing'") && text.contains("no checkpoint or savepoint"),
        "{text}"
    );
    let text = refused(Path::new(&path), |env| {
        env.from_sequence(0, 9).uid("others").discard();
    });
    assert!(
        text.contains(&path) && text.contains("(uid records)") && text.contains("--allow-non-restored-state"),
        "{text}"
    );
    let text = hurtig::inspect_snapshot(&path).unwrap();
    for wanted in ["\"savepoint\"", "\"counting\"", "\"counts\"", path.as_str()] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    for entry in std::fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        let sound = std::fs::read(&file).unwrap();
        let mut damaged = sound.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        std::fs::write(&file, damaged).unwrap();
        let text = refused(Path::new(&path), count);
        assert!(
            text.contains(file.to_str().unwrap()) && text.contains("damaged at byte"),
            "{text}"
        );
        std::fs::write(&file, sound).unwrap();
    }
    let again = env(1, &[restore(&path)]);
    let (counts, _) = counting(&again, 1_000_000);
    wait(again.execute("again")).unwrap();
    assert_eq!(sorted(counts.take()), all_counts());
}

#[test]
fn a_savepoint_is_disposed_of_and_a_checkpoint_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("savepoints");
    let kept = folder.path().join("checkpoints");
    let env = env(2, &checkpoints(&kept));
    let (_, made) = counting(&env, 3_000);
    let savepoint = wait(async {
        let job = env.execute_async("counting").await.unwrap();
        made.at_least(300).await;
        let savepoint = job.savepoint(dir.to_str()).await.unwrap();
        let completed = async || job.checkpoint_statistics().await.unwrap().completed;
        until("two checkpoints", async || completed().await >= 2).await;
        job.cancel().await.unwrap();
        savepoint
    });
    let beside = Path::new(&savepoint).join("notes.txt");
    std::fs::write(&beside, "mine").unwrap();
    hurtig::dispose_savepoint(&savepoint).unwrap();
    assert_eq!(files(&dir), [beside], "what is not the savepoint's stays");
    let again = hurtig::dispose_savepoint(&savepoint).unwrap_err().to_string();
    assert!(
        again.contains(&savepoint) && again.contains("no checkpoint or savepoint"),
        "{again}"
    );
    let metadata = files(&kept)
        .into_iter()
        .find(|file| file.ends_with("_metadata"))
        .unwrap();
    let checkpoint = metadata.parent().unwrap().to_str().unwrap();
    let refused = hurtig::dispose_savepoint(checkpoint).unwrap_err().to_string();
    assert!(
        refused.contains(checkpoint) && refused.contains("is a checkpoint"),
        "{refused}"
    );
    assert!(metadata.exists());
}

/// `latest` finds nothing: the job begins at the beginning, and what another one has written is not its own,
/// whatever its restart strategy says.
#[test]
fn output_of_an_earlier_job_is_kept_when_latest_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    wait(async {
        let first = env(2, &[]);
        program(&first, &out, 1_000_000);
        first.execute("savepoints").await.unwrap();
        let written = output(&out);
        let settings = [
            format!(
                "execution.checkpointing.dir={}",
                folder.path().join("checkpoints").display()
            ),
            "execution.checkpointing.interval=50ms".to_owned(),
            "execution.state-recovery.path=latest".to_owned(),
            "restart-strategy.type=fixed-delay".to_owned(),
            "restart-strategy.fixed-delay.delay=10ms".to_owned(),
        ];
        let second = env(2, &settings);
        program(&second, &out, 1_000_000);
        let refused = second.execute("savepoints").await.unwrap_err().to_string();
        assert!(refused.contains("is not empty"), "{refused}");
        same(&output(&out), &written);
    });
}
