//! State that expires, as programs use it: it goes through savepoints, from one backend to the other, to another
//! parallelism and to another time-to-live.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig::core::config::Configuration;
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::{until, wait};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const KEYS: u64 = 12;
const COUNT: u64 = 6_000;

/// One start of the program.
struct Life<'a> {
    name: &'static str,
    parallelism: u32,
    backend: &'static str,
    ttl: Duration,
    rate: u64,
    out: &'a Path,
    restore: Option<String>,
}

impl Life<'_> {
    fn env(&self) -> StreamEnv {
        let mut definitions = vec![format!("state.backend.type={}", self.backend)];
        let path = self.restore.as_ref();
        definitions.extend(path.map(|path| format!("execution.state-recovery.path={path}")));
        let config = Configuration::builder().definitions(&definitions).build();
        let env = StreamEnv::with_config(config.unwrap());
        env.set_parallelism(self.parallelism);
        env
    }

    /// Numbers the records of each key, in state that expires. Returns how many records were made.
    fn program(&self, env: &StreamEnv) -> Arc<AtomicU64> {
        let made = Arc::new(AtomicU64::new(0));
        let (count, name, lives) = (Arc::clone(&made), self.name, self.ttl > Duration::from_secs(1));
        let ttl = StateTtlConfig::new(self.ttl).update_type(UpdateType::OnReadAndWrite);
        let source = GeneratorSource::new(COUNT, move |i| {
            count.fetch_add(1, Ordering::Relaxed);
            i % KEYS
        });
        env.from_source(source.rate(self.rate), Watermarks::none())
            .uid("keys")
            .key_by(|key| *key)
            .process(move |ctx| {
                let next = StateDescriptor::new("next").enable_time_to_live(ttl.clone());
                let all = StateDescriptor::new("all").enable_time_to_live(ttl.clone());
                Ok(Number {
                    next: ctx.value(next)?,
                    all: ctx.map(all)?,
                    lives,
                })
            })
            .uid("number")
            .map(move |(key, seq): (u64, u64)| format!("{name} {key} {seq}"))
            .sink_to(FileSink::lines(self.out).rolling(RollingPolicy::on_checkpoint()))
            .uid("out");
        made
    }

    /// Runs until there are some records, and stops with a savepoint.
    fn stop(&self, savepoints: &Path) -> String {
        let env = self.env();
        let made = self.program(&env);
        wait(async {
            let job = env.execute_async(self.name).await.unwrap();
            until("some records", async || made.load(Ordering::Relaxed) >= 300).await;
            let path = job.stop(savepoints.to_str(), false).await.unwrap();
            job.result().await.unwrap();
            path
        })
    }
}

struct Number {
    next: ValueState<u64>,
    all: MapState<u64, u64>,
    /// Nothing expires between two accesses.
    lives: bool,
}

impl KeyedProcessFunction<u64, u64, (u64, u64)> for Number {
    fn process(
        &mut self,
        key: u64,
        cx: KeyedCx<'_, u64>,
        out: &mut Emitter<'_, (u64, u64)>,
    ) -> std::result::Result<(), UserError> {
        let seq = self.next.get_cloned(cx).unwrap_or(0);
        let before = seq
            .checked_sub(1)
            .map(|before| self.all.get(cx, &before).map(|key| *key));
        if self.lives && before.is_some_and(|before| before != Some(key)) {
            return Err(format!("key {key} has number {seq} and nothing before it").into());
        }
        self.next.set(cx, seq + 1);
        self.all.put(cx, seq, key);
        out.emit((key, seq));
        Ok(())
    }
}

/// The numbers that keys had in a life, sorted.
fn numbers(out: &Path, names: &[&str]) -> BTreeMap<u64, Vec<u64>> {
    let mut numbers = BTreeMap::<u64, Vec<u64>>::new();
    for entry in std::fs::read_dir(out).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines() {
            let parts: Vec<_> = line.split(' ').collect();
            if names.contains(&parts[0]) {
                let of_key = numbers.entry(parts[1].parse().unwrap()).or_default();
                of_key.push(parts[2].parse().unwrap());
            }
        }
    }
    numbers.values_mut().for_each(|numbers| numbers.sort_unstable());
    numbers
}

#[test]
fn a_time_to_live_goes_through_savepoints_backends_and_parallelisms() {
    let folder = tempfile::tempdir().unwrap();
    let (out, savepoints) = (folder.path().join("out"), folder.path().join("savepoints"));
    let hour = Duration::from_secs(3_600);
    let mut life = Life {
        name: "one",
        parallelism: 1,
        backend: "hashmap",
        ttl: hour,
        rate: 3_000,
        out: &out,
        restore: None,
    };
    life.restore = Some(life.stop(&savepoints));
    (life.name, life.parallelism, life.backend) = ("two", 3, "rocksdb");
    life.restore = Some(life.stop(&savepoints));
    let lived = numbers(&out, &["one", "two"]);
    for (key, numbers) in &lived {
        assert!(
            numbers.iter().copied().eq(0..numbers.len() as u64),
            "key {key} in two lives: {numbers:?}"
        );
    }
    assert!(lived.len() as u64 == KEYS && numbers(&out, &["two"]).values().all(|numbers| numbers[0] > 0));

    // Until the job has started again all of it is older than a millisecond. What keys have afterwards depends on
    // how fast they are.
    life = Life {
        name: "three",
        parallelism: 2,
        ttl: Duration::from_millis(1),
        rate: 1_000_000,
        ..life
    };
    let env = life.env();
    life.program(&env);
    let ended = wait(env.execute("three"));
    ended.unwrap();
    let begun = numbers(&out, &["three"]);
    assert!(begun.len() as u64 == KEYS && begun.values().all(|numbers| numbers[0] == 0));
}
