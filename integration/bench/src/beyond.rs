//! State that is far larger than memory: random updates of keys in RocksDB, beside a get and a put for each in a
//! RocksDB with the same options and the same memory. Both begin with files that were sorted and written at once, the
//! job by a restore.

use crate::engine::{Folder, environment};
use crate::measure::{Contender, Failure, Role, Sample, now};
use hurtig::prelude::*;
use hurtig_core::Batch as Records;
use hurtig_core::key::hash_int;
use hurtig_dataflow::operator::Cx;
use hurtig_dataflow::sink::{Sink, SinkWriter};
use hurtig_rocksdb::{RocksFactory, RocksMemory};
use hurtig_state::store::{ByteStore, ByteStoreFactory, RunBuilder, StateId};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Bytes of a value.
const VALUE_BYTES: usize = 100;
/// What a value and its key take.
const ENTRY_BYTES: u64 = VALUE_BYTES as u64 + 10;
/// Records a second that keep the job going while it is stopped.
const TRICKLE: u64 = 2_000;
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

    /// The key of an update.
    fn key(self, index: u64) -> u64 {
        hash_int(index) % self.keys
    }

    /// The sum of the counts that updates lead to, as an array has them: every key begins with one.
    fn checksum(self) -> u64 {
        let mut counts = vec![1_u32; self.keys as usize];
        let mut sum = 0;
        for index in 0..self.updates {
            let count = &mut counts[self.key(index) as usize];
            *count += 1;
            sum += u64::from(*count);
        }
        sum
    }
}

/// The job, and a loop that does one subtask's share with its share of memory, alone and as often as there are subtasks.
pub(crate) fn contenders(parallelism: u32, work: Updates) -> Vec<Contender> {
    let share = work.share(parallelism);
    let prepared = OnceCell::new();
    let job = move || {
        if prepared.get().is_none() {
            // Nobody else has set it: this is one thread.
            let _ = prepared.set(Prepared::new(parallelism, work)?);
        }
        let prepared = prepared.get().ok_or("nothing was prepared")?;
        prepared.update()
    };
    let mut contenders = vec![
        Contender::new("engine", Role::Engine, job),
        Contender::new("get and put", Role::Loop, move || alone(share)),
    ];
    if parallelism > 1 {
        let several = move || at_once(parallelism, share);
        contenders.push(Contender::new("get and put", Role::LoopAtOnce, several));
    }
    contenders
}

/// A record: a key, and what becomes of it.
type Access = (u64, Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// It gets its value.
    Fill,
    /// Nothing: it keeps the job going.
    Rest,
    /// It is counted.
    Update,
}

/// A savepoint of all keys.
struct Prepared {
    parallelism: u32,
    work: Updates,
    savepoint: String,
    /// Where it is, until this is gone.
    _folder: Folder,
}

impl Prepared {
    /// Lets a job fill its state and stops it.
    fn new(parallelism: u32, work: Updates) -> Result<Self, Failure> {
        let folder = Folder::new();
        let progress = Arc::new(Progress::default());
        let rest = GeneratorSource::unbounded(|_| (0, Kind::Rest)).rate(TRICKLE);
        let env = program(parallelism, work, rest, "rest", &progress)?;
        let savepoint = wait(async {
            let job = env.execute_async("rocksdb_beyond_cache").await?;
            progress.until_filled(work.keys).await;
            Ok(job.stop(folder.0.to_str(), false).await?)
        })?;
        Ok(Self {
            parallelism,
            work,
            savepoint,
            _folder: folder,
        })
    }

    /// Lets a job that begins with it do the updates.
    fn update(&self) -> Result<Sample, Failure> {
        let (work, progress) = (self.work, Arc::new(Progress::default()));
        let updates = GeneratorSource::new(work.updates, move |index| (work.key(index), Kind::Update));
        let env = program(self.parallelism, work, updates, "updates", &progress)?;
        env.set("execution.state-recovery.path", &self.savepoint)?;
        env.set("execution.state-recovery.claim-mode", "NO_CLAIM")?;
        env.set("execution.state-recovery.ignore-unclaimed-state", "true")?;
        wait(async { Ok(env.execute("rocksdb_beyond_cache").await?) })?;
        let begun = *progress.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = begun.ok_or("no update arrived")?;
        sampled(work, begun.elapsed(), progress.sum.load(Ordering::SeqCst))
    }
}

fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

fn program(
    parallelism: u32,
    work: Updates,
    more: GeneratorSource<impl Fn(u64) -> Access + Clone + Send + Sync + 'static>,
    uid: &str,
    progress: &Arc<Progress>,
) -> Result<StreamEnv, Failure> {
    let env = environment(parallelism)?;
    env.set("state.backend.type", "rocksdb")?;
    env.set("taskmanager.memory.managed.size", &work.memory().to_string())?;
    let fill = GeneratorSource::new(work.keys, |index| (index, Kind::Fill));
    let fill = env.from_source(fill, Watermarks::none()).uid("fill");
    let more = env.from_source(more, Watermarks::none()).uid(uid);
    fill.union(&more)
        .key_by(|access: &Access| access.0)
        .fold(|| (0_u64, String::new()), change)
        .uid("texts")
        .sink_to(ProgressSink(progress.clone()));
    Ok(env)
}

fn change(_: &u64, (count, text): &mut (u64, String), (_, kind): &Access) -> (u64, Kind) {
    if *kind != Kind::Rest {
        *count += 1;
        text.clear();
        text.push_str(text_of(*count));
    }
    (*count, *kind)
}

/// The text that a key has after so many records.
fn text_of(count: u64) -> &'static str {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\
        abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    let from = (count % 26) as usize;
    &LETTERS[from..from + VALUE_BYTES - size_of::<u64>()]
}

/// One subtask's share, with its share of memory.
struct Share {
    work: Updates,
    store: Arc<dyn ByteStore>,
    state: StateId,
    /// Where it is, until this is gone.
    _folder: Folder,
}

impl Share {
    /// A store with every key.
    fn new(work: Updates) -> Result<Self, Failure> {
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
        Ok(Self {
            work,
            store,
            state,
            _folder: folder,
        })
    }

    /// Gets and puts a value for each update; the sum of the counts.
    fn update(&self) -> Result<u64, Failure> {
        let mut run = RunBuilder::new();
        let mut value = Vec::new();
        let mut sum = 0;
        for index in 0..self.work.updates {
            let key = self.work.key(index).to_be_bytes();
            if !self.store.get(self.state, &key, &mut value)? {
                return Err(format!("key {key:?} is not there").into());
            }
            let count = value.first_chunk().map_or(0, |count| u64::from_le_bytes(*count)) + 1;
            set(&mut value, count);
            sum += count;
            run.clear();
            run.put(&key, &value);
            self.store.write(self.state, &run.sort())?;
        }
        Ok(sum)
    }
}

/// The loop on one thread.
fn alone(share: Updates) -> Result<Sample, Failure> {
    let share_of_one = Share::new(share)?;
    let start = now();
    let sum = share_of_one.update()?;
    sampled(share, start.elapsed(), sum)
}

/// The loop on as many threads at once as there are subtasks, each with a store of its own.
fn at_once(parallelism: u32, share: Updates) -> Result<Sample, Failure> {
    let shares = (0..parallelism)
        .map(|_| Share::new(share))
        .collect::<Result<Vec<_>, _>>()?;
    let start = now();
    let sums: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = shares
            .iter()
            .map(|share| scope.spawn(|| share.update().map_err(|e| e.to_string())))
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let took = start.elapsed();
    let mut sample = Sample::default();
    for sum in sums {
        let sum = sum.map_err(|_| "a thread of the loop panicked")??;
        sample = sampled(share, took, sum)?;
    }
    sample.value *= f64::from(parallelism);
    Ok(sample)
}

fn set(value: &mut Vec<u8>, count: u64) {
    value.clear();
    value.extend_from_slice(&count.to_le_bytes());
    value.extend_from_slice(text_of(count).as_bytes());
}

/// The rate of these updates, when their counts add up to what they should.
fn sampled(work: Updates, took: Duration, sum: u64) -> Result<Sample, Failure> {
    let expected = work.checksum();
    if sum != expected {
        return Err(format!("the counts add up to {sum} instead of {expected}").into());
    }
    Ok(Sample {
        value: work.updates as f64 / took.as_secs_f64(),
        checksum: sum,
        ..Sample::default()
    })
}

/// What has reached the sinks.
#[derive(Debug, Default)]
struct Progress {
    filled: AtomicU64,
    /// Of the counts that updates led to.
    sum: AtomicU64,
    /// When the first update was through.
    begun: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Progress {
    async fn until_filled(&self, keys: u64) {
        loop {
            let changed = self.changed.notified();
            if self.filled.load(Ordering::SeqCst) >= keys {
                return;
            }
            changed.await;
        }
    }

    fn begin(&self) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.get_or_insert_with(now);
    }
}

#[derive(Debug)]
struct ProgressSink(Arc<Progress>);

impl Sink<(u64, Kind)> for ProgressSink {
    fn writer(&self) -> Box<dyn SinkWriter<(u64, Kind)>> {
        Box::new(ProgressWriter {
            progress: self.0.clone(),
            begun: false,
        })
    }
}

struct ProgressWriter {
    progress: Arc<Progress>,
    begun: bool,
}

impl SinkWriter<(u64, Kind)> for ProgressWriter {
    fn write(&mut self, batch: &mut Records<(u64, Kind)>, _: Cx<'_>) -> hurtig_core::Result<()> {
        let (mut filled, mut updates, mut sum) = (0, 0, 0);
        for (count, kind) in batch.drain(usize::MAX) {
            filled += u64::from(kind == Kind::Fill);
            if kind == Kind::Update {
                updates += 1;
                sum += count;
            }
        }
        batch.reset_if_empty();
        self.progress.filled.fetch_add(filled, Ordering::SeqCst);
        self.progress.sum.fetch_add(sum, Ordering::SeqCst);
        if updates > 0 && !std::mem::replace(&mut self.begun, true) {
            self.progress.begin();
        }
        self.progress.changed.notify_one();
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
                sample.value > 0.0 && sample.checksum > work.updates / 2,
                "{contender:?}"
            );
        }
        Ok(())
    }
}
