//! State that is far larger than memory: random updates of keys in RocksDB, beside a get and a put for each in a
//! RocksDB with the same options and the same memory.

use crate::engine::{Folder, environment};
use crate::measure::{Contender, Failure, Role, Sample, now};
use hurtig::prelude::*;
use hurtig_core::Batch as Records;
use hurtig_core::key::hash_int;
use hurtig_dataflow::operator::Cx;
use hurtig_dataflow::sink::{Sink, SinkWriter};
use hurtig_rocksdb::{RocksFactory, RocksMemory};
use hurtig_state::store::{ByteStoreFactory, RunBuilder};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Bytes of a value.
const VALUE_BYTES: usize = 100;
/// What a value and its key take.
const ENTRY_BYTES: u64 = VALUE_BYTES as u64 + 10;
/// Keys of a fill that the loop puts into its store at a time.
const FILL: u64 = 100_000;

/// How much there is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Updates {
    /// Keys, each with a value before the time counts.
    pub keys: u64,
    /// Updates of keys at random.
    pub updates: u64,
}

impl Updates {
    fn share(self, parallelism: u32) -> Self {
        let part = u64::from(parallelism);
        Self {
            keys: self.keys / part,
            updates: self.updates / part,
        }
    }

    /// Memory for caches of all kinds: a tenth of the data.
    pub(crate) fn memory(self) -> u64 {
        self.keys * ENTRY_BYTES / 10
    }

    /// The key of a record: each once, then any.
    fn key(self, index: u64) -> u64 {
        match index < self.keys {
            true => index,
            false => hash_int(index) % self.keys,
        }
    }

    /// The sum of all running counts, as an array has them.
    fn checksum(self) -> u64 {
        let mut counts = vec![0_u32; self.keys as usize];
        let mut sum = 0;
        for index in 0..self.keys + self.updates {
            let count = &mut counts[self.key(index) as usize];
            *count += 1;
            sum += u64::from(*count);
        }
        sum
    }
}

/// The job, and a loop that does one subtask's share with its share of memory.
pub(crate) fn contenders(parallelism: u32, work: Updates) -> Vec<Contender> {
    let share = work.share(parallelism);
    vec![
        Contender::new("engine", Role::Engine, move || job(parallelism, work)),
        Contender::new("get and put", Role::Loop, move || get_and_put(share)),
    ]
}

fn job(parallelism: u32, work: Updates) -> Result<Sample, Failure> {
    let env = environment(parallelism)?;
    env.set("state.backend.type", "rocksdb")?;
    env.set("taskmanager.memory.managed.size", &work.memory().to_string())?;
    let progress = Arc::new(Progress::new(work));
    let source = GeneratorSource::new(work.keys + work.updates, move |index| work.key(index));
    env.from_source(source, Watermarks::none())
        .key_by(|key| *key)
        .fold(
            || (0_u64, String::new()),
            |_: &u64, (count, text): &mut (u64, String), _: &u64| {
                *count += 1;
                text.clear();
                text.push_str(text_of(*count));
                *count
            },
        )
        .sink_to(ProgressSink(progress.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(env.execute("rocksdb_beyond_cache"))?;
    progress.sample()
}

/// The text that a key has after so many records.
fn text_of(count: u64) -> &'static str {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\
        abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    let from = (count % 26) as usize;
    &LETTERS[from..from + VALUE_BYTES - size_of::<u64>()]
}

fn get_and_put(work: Updates) -> Result<Sample, Failure> {
    let folder = Folder::new();
    // The least that a budget may be is less than any that is asked for here.
    let factory = RocksFactory::new(RocksMemory::new(work.memory() as usize));
    let store = factory.create(&folder.0)?;
    let state = store.open_state("texts")?;
    let mut run = RunBuilder::new();
    let mut value = Vec::new();
    for first in (0..work.keys).step_by(FILL as usize) {
        run.clear();
        for key in first..work.keys.min(first + FILL) {
            set(&mut value, 1);
            run.put(&key.to_be_bytes(), &value);
        }
        store.ingest(state, &run.sort())?;
    }
    let mut sum = work.keys;
    let start = now();
    for index in work.keys..work.keys + work.updates {
        let key = work.key(index).to_be_bytes();
        if !store.get(state, &key, &mut value)? {
            return Err(format!("key {key:?} is not there").into());
        }
        let count = value.first_chunk().map_or(0, |count| u64::from_le_bytes(*count)) + 1;
        set(&mut value, count);
        sum += count;
        run.clear();
        run.put(&key, &value);
        store.write(state, &run.sort())?;
    }
    sampled(work, start, sum)
}

fn set(value: &mut Vec<u8>, count: u64) {
    value.clear();
    value.extend_from_slice(&count.to_le_bytes());
    value.extend_from_slice(text_of(count).as_bytes());
}

fn sampled(work: Updates, since: Instant, sum: u64) -> Result<Sample, Failure> {
    let seconds = since.elapsed().as_secs_f64();
    let expected = work.checksum();
    if sum != expected {
        return Err(format!("the counts add up to {sum} instead of {expected}").into());
    }
    Ok(Sample {
        value: work.updates as f64 / seconds,
        checksum: sum,
        ..Sample::default()
    })
}

/// What has reached the sinks.
#[derive(Debug)]
struct Progress {
    work: Updates,
    records: AtomicU64,
    sum: AtomicU64,
    /// When every key had a value, which is before the first of their updates arrives or shortly after.
    filled: Mutex<Option<Instant>>,
}

impl Progress {
    fn new(work: Updates) -> Self {
        Self {
            work,
            records: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            filled: Mutex::new(None),
        }
    }

    fn add(&self, records: u64, sum: u64) {
        self.sum.fetch_add(sum, Ordering::SeqCst);
        let before = self.records.fetch_add(records, Ordering::SeqCst);
        if before < self.work.keys && before + records >= self.work.keys {
            *self.filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(now());
        }
    }

    fn sample(&self) -> Result<Sample, Failure> {
        let filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = filled.ok_or("the state was never filled")?;
        sampled(self.work, filled, self.sum.load(Ordering::SeqCst))
    }
}

#[derive(Debug)]
struct ProgressSink(Arc<Progress>);

impl Sink<u64> for ProgressSink {
    fn writer(&self) -> Box<dyn SinkWriter<u64>> {
        Box::new(ProgressWriter(self.0.clone()))
    }
}

struct ProgressWriter(Arc<Progress>);

impl SinkWriter<u64> for ProgressWriter {
    fn write(&mut self, batch: &mut Records<u64>, _: Cx<'_>) -> hurtig_core::Result<()> {
        let (mut records, mut sum) = (0, 0);
        for count in batch.drain(usize::MAX) {
            records += 1;
            sum += count;
        }
        batch.reset_if_empty();
        self.0.add(records, sum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_do_the_same() -> Result<(), Failure> {
        let work = Updates {
            keys: 30_000,
            updates: 20_000,
        };
        for contender in contenders(1, work).iter().chain(&contenders(2, work)) {
            let sample = contender.sample()?;
            assert!(
                sample.value > 0.0 && sample.checksum > work.keys / 2,
                "{contender:?}"
            );
        }
        Ok(())
    }
}
