//! The engine's side: one program a bench, written as a user would write it.

use crate::baselines::stateless::{keep, map};
use crate::baselines::union::INPUTS;
use crate::baselines::{session, windows};
use crate::catalog::Backend;
use crate::measure::Failure;
use crate::probes::{Delays, Fold, OpenLoop, counting};
use crate::schedule::Schedule;
use crate::work::{Event, Work, words};
use hdrhistogram::Histogram;
use hurtig::prelude::*;
use hurtig_core::config::Configuration;
use hurtig_core::ids::random_number;
use hurtig_core::key::hash_int;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

/// Event time of the records: they come in order.
fn in_order() -> WatermarkStrategy<Event> {
    Watermarks::monotonous(|event: &Event| event.at)
}

/// An environment with as many threads as subtasks, so that a figure per core is one.
pub(crate) fn environment(parallelism: u32) -> Result<StreamEnv, Failure> {
    let threads = format!("taskmanager.worker-threads={parallelism}");
    let config = Configuration::builder().definitions([threads]).build()?;
    let env = StreamEnv::with_config(config);
    env.set_parallelism(parallelism);
    Ok(env)
}

fn execute(env: &StreamEnv, name: &str) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(env.execute(name))?;
    Ok(())
}

/// `map`, `filter` and a black box; how many records reached it.
pub(crate) fn stateless_chain(parallelism: u32, records: u64) -> Result<u64, Failure> {
    let env = environment(parallelism)?;
    let (sink, delivered) = counting(|x: u64| {
        black_box(x);
    });
    env.from_source(GeneratorSource::new(records, |index| index), Watermarks::none())
        .map(map)
        .filter(|x| keep(*x))
        .sink_to(sink);
    execute(&env, "stateless_chain")?;
    Ok(delivered.get())
}

/// Running counts of numbers; their sum.
pub(crate) fn keyed_count(parallelism: u32, work: Work) -> Result<u64, Failure> {
    let env = environment(parallelism)?;
    let (sink, sum) = Fold::summing(|(_, count): (u64, u64)| count);
    env.from_source(
        GeneratorSource::new(work.records, move |index| work.key(index)),
        Watermarks::none(),
    )
    .key_by(|key| *key)
    .count()
    .sink_to(sink);
    execute(&env, "keyed_count")?;
    Ok(sum.get())
}

/// A folder that is gone when this is.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// One that is not there yet.
    pub(crate) fn new() -> Self {
        let name = format!("hurtig-bench-{}-{:x}", std::process::id(), random_number());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the folder of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Takes checkpoints into `folder`.
fn with_checkpoints(env: &StreamEnv, folder: &Folder, every: Duration) -> Result<(), Failure> {
    env.checkpoint_every(every);
    env.set("execution.checkpointing.dir", &folder.0.display().to_string())?;
    Ok(())
}

/// Running counts of numbers, maybe with checkpoints; their sum.
pub(crate) fn checkpointed_count(
    parallelism: u32,
    work: Work,
    backend: Backend,
    every: Option<Duration>,
) -> Result<u64, Failure> {
    let env = environment(parallelism)?;
    let folder = Folder::new();
    if backend == Backend::RocksDb {
        env.set("state.backend.type", "rocksdb")?;
    }
    if let Some(every) = every {
        with_checkpoints(&env, &folder, every)?;
    }
    let (sink, sum) = Fold::summing(|(_, count): (u64, u64)| count);
    env.from_source(
        GeneratorSource::new(work.records, move |index| work.key(index)),
        Watermarks::none(),
    )
    .key_by(|key| *key)
    .count()
    .sink_to(sink);
    execute(&env, "checkpointed_count")?;
    if every.is_some() && work.records > 100_000_000 && sum.last_checkpoint() < 3 {
        return Err(format!("only {} checkpoints were taken", sum.last_checkpoint()).into());
    }
    Ok(sum.get())
}

/// Running counts of numbers with checkpoints; each record's delay.
pub(crate) fn checkpoint_delay(
    parallelism: u32,
    schedule: Schedule,
    keys: u64,
    every: Duration,
) -> Result<Histogram<u64>, Failure> {
    let env = environment(parallelism)?;
    let folder = Folder::new();
    with_checkpoints(&env, &folder, every)?;
    let source = OpenLoop::new(schedule);
    let (sink, delays) = Delays::new(&source, |index: &u64| *index);
    let counting = move |_: &u64, seen: &mut u64, index: &u64| {
        *seen += 1;
        *index
    };
    env.from_source(source, Watermarks::none())
        .key_by(move |index| hash_int(*index) % keys)
        .fold(|| 0_u64, counting)
        .sink_to(sink);
    execute(&env, "checkpoint_delay")?;
    Ok(delays.take())
}

/// Counts in windows; the sum of their squares.
pub(crate) fn window_count(parallelism: u32, work: Work, shape: windows::Shape) -> Result<u64, Failure> {
    let env = environment(parallelism)?;
    let (sink, squares) = Fold::summing(|count: u64| count.wrapping_mul(count));
    let millis = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    let keyed = env
        .from_source(GeneratorSource::new(work.records, work.event_of()), in_order())
        .key_by(|event| event.key);
    let size = millis(shape.size_ms);
    if shape.size_ms == shape.slide_ms {
        keyed
            .window(Tumbling::of(size))
            .aggregate(Count::new())
            .sink_to(sink);
    } else {
        keyed
            .window(Sliding::of(size, millis(shape.slide_ms)))
            .aggregate(Count::new())
            .sink_to(sink);
    }
    execute(&env, "window_count")?;
    Ok(squares.get())
}

/// Counts by session; the sum of their squares.
pub(crate) fn session_count(parallelism: u32, work: Work) -> Result<u64, Failure> {
    let env = environment(parallelism)?;
    let (sink, squares) = Fold::summing(|count: u64| count.wrapping_mul(count));
    env.from_source(GeneratorSource::new(work.records, work.event_of()), in_order())
        .key_by(|event| event.key)
        .window(Session::with_gap(Duration::from_millis(
            session::GAP_MS.unsigned_abs(),
        )))
        .aggregate(Count::new())
        .sink_to(sink);
    execute(&env, "session_count")?;
    Ok(squares.get())
}

/// 16 sources, one stream, a black box; how many records reached it.
pub(crate) fn union(parallelism: u32, records: u64) -> Result<u64, Failure> {
    let env = environment(parallelism)?;
    let (sink, delivered) = counting(|x: u64| {
        black_box(x);
    });
    let source = |input: u64| {
        let numbers = GeneratorSource::new(records / INPUTS, move |index| hash_int(index * INPUTS + input));
        env.from_source(numbers, Watermarks::none())
    };
    let first = source(0);
    (1..INPUTS)
        .fold(first, |all, input| all.union(&source(input)))
        .sink_to(sink);
    execute(&env, "union_16")?;
    Ok(delivered.get())
}

/// Running counts of words; their sum.
pub(crate) fn string_count(parallelism: u32, work: Work) -> Result<u64, Failure> {
    let env = environment(parallelism)?;
    let (sink, sum) = Fold::summing(|(_, count): (Str, u64)| count);
    let words = words(work.keys);
    let word = move |index| words[work.key(index) as usize].clone();
    env.from_source(GeneratorSource::new(work.records, word), Watermarks::none())
        .key_by(Str::clone)
        .count()
        .sink_to(sink);
    execute(&env, "string_count")?;
    Ok(sum.get())
}

/// Ten million keys enter a table; each record's delay.
pub(crate) fn table_growth(parallelism: u32, schedule: Schedule) -> Result<Histogram<u64>, Failure> {
    let env = environment(parallelism)?;
    let source = OpenLoop::new(schedule);
    let (sink, delays) = Delays::new(&source, |(index, _): &(u64, u64)| *index);
    env.from_source(source, Watermarks::none())
        .key_by(|index| *index)
        .count()
        .sink_to(sink);
    execute(&env, "table_growth")?;
    Ok(delays.take())
}

/// One exchange; each record's delay.
pub(crate) fn latency(parallelism: u32, schedule: Schedule) -> Result<Histogram<u64>, Failure> {
    let env = environment(parallelism)?;
    let source = OpenLoop::new(schedule);
    let (sink, delays) = Delays::new(&source, |index: &u64| *index);
    env.from_source(source, Watermarks::none())
        .rebalance()
        .sink_to(sink);
    execute(&env, "latency")?;
    Ok(delays.take())
}
