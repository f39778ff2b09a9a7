//! Checkpoints and savepoints in an object store, as programs use them: on a real server, which goes away in their midst.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig::core::config::Configuration;
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::{until, wait};
use hurtig_s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};
use hurtig_state_processor::Savepoint;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const KEYS: u64 = 12;
const COUNT: u64 = 6_000;

struct Bench {
    server: S3Server,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = S3Server::start(&folder.path().join("objects")).unwrap();
        server.make_bucket("jobs").unwrap();
        Self { server, folder }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn settings(&self, more: &[&str]) -> Vec<String> {
        let mut settings = vec![
            "execution.checkpointing.interval=20ms".to_owned(),
            "execution.checkpointing.dir=s3://jobs/checkpoints".to_owned(),
            format!("s3.endpoint={}", self.server.endpoint()),
            format!("s3.access-key={ACCESS_KEY}"),
            format!("s3.secret-key={SECRET_KEY}"),
            "s3.request.timeout=300ms".to_owned(),
            format!(
                "state.backend.rocksdb.localdir={}",
                self.folder.path().join("state").display()
            ),
        ];
        settings.extend(more.iter().map(|setting| (*setting).to_owned()));
        settings
    }

    fn env(&self, parallelism: u32, more: &[&str]) -> StreamEnv {
        let settings = self.settings(more);
        let config = Configuration::builder().definitions(&settings).build().unwrap();
        let env = StreamEnv::with_config(config);
        env.set_parallelism(parallelism);
        env
    }

    /// All objects of a folder of the bucket: the server keeps them as files.
    fn objects(&self, folder: &str) -> Vec<PathBuf> {
        files(&self.folder.path().join("objects/jobs").join(folder))
    }

    /// Every record of every key is visible once.
    fn all_is_there(&self) {
        let mut found = Vec::new();
        for file in files(&self.out()) {
            if !file.file_name().unwrap().to_string_lossy().starts_with('.') {
                let text = std::fs::read_to_string(file).unwrap();
                found.extend(text.lines().map(str::to_owned));
            }
        }
        found.sort_unstable();
        let mut wanted: Vec<String> = (0..COUNT).map(|i| format!("{} {}", i % KEYS, i / KEYS)).collect();
        wanted.sort_unstable();
        let differ = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
        assert!(
            found == wanted,
            "{} of {} lines; {differ:?}",
            found.len(),
            wanted.len()
        );
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Numbers each key's records, and writes them once. Says how many were made in this life.
fn program(env: &StreamEnv, out: &Path, rate: u64) -> Arc<AtomicU64> {
    let made = Arc::new(AtomicU64::new(0));
    let count = made.clone();
    let key = move |i| {
        count.fetch_add(1, Ordering::Relaxed);
        i % KEYS
    };
    env.from_source(GeneratorSource::new(COUNT, key).rate(rate), Watermarks::none())
        .uid("records")
        .key_by(|key: &u64| *key)
        .process(|ctx| {
            Ok(Number {
                next: ctx.value("next")?,
            })
        })
        .uid("number")
        .sink_to(FileSink::lines(out).rolling(RollingPolicy::on_checkpoint()))
        .uid("out");
    made
}

struct Number {
    next: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64, String> for Number {
    fn process(
        &mut self,
        key: u64,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, String>,
    ) -> std::result::Result<(), UserError> {
        let seq = self.next.get_cloned(cx).unwrap_or(0);
        self.next.set(cx, seq + 1);
        out.emit(format!("{key} {seq}"));
        Ok(())
    }
}

const ROCKSDB: [&str; 2] = [
    "state.backend.type=rocksdb",
    "execution.checkpointing.incremental=true",
];

#[test]
fn a_store_that_goes_away_costs_checkpoints_and_nothing_else() {
    for backend in [&[][..], &ROCKSDB] {
        let mut bench = Bench::new();
        let env = bench.env(2, backend);
        let made = program(&env, &bench.out(), 1_500);
        wait(async {
            let job = env.execute_async("outage").await.unwrap();
            let statistics = async || job.checkpoint_statistics().await.unwrap();
            until("two checkpoints", async || statistics().await.completed >= 2).await;
            bench.server.stop();
            let (before, records) = (statistics().await, made.load(Ordering::Relaxed));
            until("a checkpoint fails", async || {
                statistics().await.failed > before.failed
            })
            .await;
            let down = statistics().await;
            assert!(
                down.completed <= before.completed + 1,
                "it cannot complete: {down:?}"
            );
            // A checkpoint fails at once; the next records of a loaded machine may take longer than that.
            until("records flow on", async || made.load(Ordering::Relaxed) > records).await;
            bench.server.start_again().unwrap();
            until("checkpoints again", async || {
                statistics().await.completed > down.completed + 1
            })
            .await;
            let result = job.result().await.unwrap();
            assert_eq!(result.restarts, 0, "the job is unharmed");
        });
        bench.all_is_there();
        assert_eq!(
            bench.objects("checkpoints"),
            Vec::<PathBuf>::new(),
            "nothing is left"
        );
    }
}

#[test]
fn a_savepoint_in_an_object_store_goes_on_at_another_parallelism_and_backend() {
    let bench = Bench::new();
    let mut restore: Option<String> = None;
    for (parallelism, backend) in [(1, &[][..]), (3, &ROCKSDB[..])] {
        let more: Vec<&str> = backend.iter().copied().chain(restore.as_deref()).collect();
        let env = bench.env(parallelism, &more);
        let made = program(&env, &bench.out(), 3_000);
        let path = wait(async {
            let job = env.execute_async("stops").await.unwrap();
            until("records", async || made.load(Ordering::Relaxed) > 300).await;
            let path = job.stop(Some("s3://jobs/savepoints/"), false).await.unwrap();
            job.result().await.unwrap();
            path
        });
        assert!(path.starts_with("s3://jobs/savepoints/savepoint-"), "{path}");
        restore = Some(format!("execution.state-recovery.path={path}"));
    }
    let path = restore.unwrap().split_once('=').unwrap().1.to_owned();
    looks_into(&bench, &path);
    let last = bench.env(2, &["execution.state-recovery.path=latest"]);
    let made = program(&last, &bench.out(), 1_000_000);
    wait(last.execute("stops")).unwrap();
    assert!(made.load(Ordering::Relaxed) < COUNT - 500, "it goes on");
    bench.all_is_there();
    assert!(bench.objects("checkpoints").is_empty());
    assert!(
        !bench.objects("savepoints").is_empty(),
        "a savepoint is the user's"
    );
}

/// Tools read savepoints where they lie.
fn looks_into(bench: &Bench, path: &str) {
    let settings = bench.settings(&[]);
    let config = Configuration::builder().definitions(&settings).build().unwrap();
    let stores = hurtig::blob_stores(&config);
    let savepoint = Savepoint::open_in(path, &stores).unwrap();
    assert_eq!(savepoint.path(), path);
    assert_eq!(savepoint.job_name(), "stops");
    assert!(savepoint.operator("number").is_ok());
}

#[test]
fn a_wrong_setup_stops_the_program_before_it_begins() {
    let bench = Bench::new();
    for (settings, says) in [
        (&["s3.secret-key=wrong-secret"][..], "s3.secret-key"),
        (&["execution.checkpointing.dir=s3://other/x"], "no bucket 'other'"),
        (&["execution.checkpointing.dir=gs://other/x"], "no scheme 'gs'"),
        (&["execution.checkpointing.dir=s3:///x"], "bucket"),
        (&["s3.endpoint=http://127.0.0.1:1"], "cannot be reached"),
        (
            &["execution.state-recovery.path=s3://jobs/none"],
            "no checkpoint or savepoint in 's3://jobs/none'",
        ),
    ] {
        let env = bench.env(1, settings);
        program(&env, &bench.out(), 1_000_000);
        let error = wait(env.execute("wrong")).unwrap_err().to_string();
        assert!(error.contains(says), "{settings:?}: {error}");
        assert!(
            !error.contains("wrong-secret") && !error.contains(SECRET_KEY),
            "{error}"
        );
    }
}
