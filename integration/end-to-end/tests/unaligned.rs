//! Unaligned checkpoints at another parallelism: what was on its way reaches the subtask that has its key, once.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

use hurtig::core::config::Configuration;
use hurtig::core::key::OwnedKey;
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::{until, wait};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

const KEYS: u64 = 60;
const COUNT: u64 = 300_000;
/// So slow a reader that the channels before it are full.
const SLOW: Duration = Duration::from_micros(100);

fn env(parallelism: u32, dir: &Path) -> StreamEnv {
    let config = Configuration::builder().definitions([
        "execution.checkpointing.interval=50ms",
        "execution.checkpointing.unaligned.enabled=true",
        "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION",
        "execution.state-recovery.path=latest",
        &format!("execution.checkpointing.dir={}", dir.display()),
    ]);
    let env = StreamEnv::with_config(config.build().unwrap());
    env.set_parallelism(parallelism);
    env
}

/// Records that were made and counted in one life.
#[derive(Clone, Debug, Default)]
struct Seen {
    made: Arc<AtomicU64>,
    counted: Arc<AtomicU64>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a slow function is what the test is about"
)]
fn hold_up() {
    std::thread::sleep(SLOW);
}

/// Counts the records of each key; numbers are hashed anew by whoever reads them, texts travel with their hashes.
fn counts<K>(env: &StreamEnv, seen: &Seen, slow: bool, key_of: fn(u64) -> K) -> hurtig::CollectHandle<String>
where
    K: Data + OwnedKey + std::fmt::Display,
{
    let (made, counted) = (seen.made.clone(), seen.counted.clone());
    let records = GeneratorSource::new(COUNT, move |i| {
        made.fetch_add(1, SeqCst);
        key_of(i % KEYS)
    });
    env.from_source(records, Watermarks::none())
        .uid("records")
        .key_by(|key: &K| key.clone())
        .fold(
            || 0_u64,
            move |key: &K, count: &mut u64, _| {
                if slow {
                    hold_up();
                }
                counted.fetch_add(1, SeqCst);
                *count += 1;
                format!("{key} {count}")
            },
        )
        .uid("counts")
        .filter(|line: &String| line.ends_with(&format!(" {}", COUNT / KEYS)))
        .collect()
}

fn goes_on_at_another_parallelism<K>(from: u32, to: u32, key_of: fn(u64) -> K)
where
    K: Data + OwnedKey + std::fmt::Display,
{
    let dir = tempfile::tempdir().unwrap();
    let seen = Seen::default();
    let first = env(from, dir.path());
    let _ = counts(&first, &seen, true, key_of);
    wait(async {
        let job = first.execute_async("unaligned").await.unwrap();
        until("a checkpoint behind some records", async || {
            let statistics = job.checkpoint_statistics().await.unwrap();
            statistics.last_checkpoint.is_some() && seen.counted.load(SeqCst) > 100
        })
        .await;
        job.cancel().await.unwrap();
        let _ = job.result().await;
    });
    let (made, counted) = (seen.made.load(SeqCst), seen.counted.load(SeqCst));
    assert!(
        counted + 1_000 < made && counted < COUNT / 2,
        "{counted} of {made} were counted: the others were on their way"
    );
    let second = env(to, dir.path());
    let lines = counts(&second, &seen, false, key_of);
    wait(second.execute("unaligned")).unwrap();
    let mut lines = lines.take();
    lines.sort();
    let mut wanted: Vec<String> = (0..KEYS)
        .map(|i| format!("{} {}", key_of(i), COUNT / KEYS))
        .collect();
    wanted.sort();
    assert_eq!(lines, wanted);
    let again = seen.made.load(SeqCst) - made;
    assert!(again < COUNT, "{again} were made again: it began anew");
}

#[test]
fn numbers_on_their_way_reach_the_subtask_of_their_key() {
    goes_on_at_another_parallelism(2, 3, |i| i);
    goes_on_at_another_parallelism(3, 1, |i| i);
    goes_on_at_another_parallelism(1, 2, |i| i);
}

#[test]
fn texts_on_their_way_reach_the_subtask_of_their_key() {
    goes_on_at_another_parallelism(2, 3, |i| i.to_string());
    goes_on_at_another_parallelism(3, 1, |i| i.to_string());
}
