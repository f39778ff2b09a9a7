//! State that is far larger than memory: random updates of keys in RocksDB, beside a get and a put for each in a
//! RocksDB with the same options and the same memory. Both begin with files that were sorted and written at once, the
//! job by a restore, and of which the system's cache of pages has nothing: RocksDB sees to that for files it takes in.

use crate::engine::{Folder, environment};
use crate::measure::{Contender, Failure, Role, Sample, now};
use crate::memory;
use hurtig::prelude::*;
use hurtig_core::Batch as Records;
use hurtig_core::key::hash_int;
use hurtig_dataflow::operator::Cx;
use hurtig_dataflow::sink::{Sink, SinkWriter};
use hurtig_rocksdb::{RocksFactory, RocksMemory};
use hurtig_state::store::{ByteStore, ByteStoreFactory, RunBuilder, StateId};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Bytes of a value's text; it has a number too.
const TEXT_BYTES: usize = 92;
/// Records a second that keep the job going while it is stopped.
const TRICKLE: u64 = 2_000;
/// The detail that says how much memory the process had at most while the job ran.
const PEAK_MIB: &str = "peak_rss_mib";
/// The state of the loop's store.
const STATE: &str = "texts";
/// Keys of a fill that the loop puts into its store at a time.
const FILL: u64 = 100_000;

/// How much there is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Updates {
    /// Keys, each with a value before the time counts.
    pub keys: u64,
    /// Updates of keys at random.
    pub updates: u64,
    /// Bytes of memory for caches of all kinds.
    pub memory: u64,
}

impl Updates {
    fn share(self, parallelism: u32) -> Self {
        let part = u64::from(parallelism);
        Self {
            keys: self.keys / part,
            updates: self.updates / part,
            memory: self.memory / part,
        }
    }

    /// The key of an update.
    fn key(self, index: u64) -> u64 {
        hash_int(index) % self.keys
    }

    /// The updates of the loop with this number: each has others, at its own places in its files.
    fn of(self, number: u32) -> Range<u64> {
        let first = u64::from(number) * self.updates;
        first..first + self.updates
    }

    /// The sum of the counts that updates lead to, as a map has them: every key begins with one.
    fn checksum(self, updates: Range<u64>) -> u64 {
        let mut counts = HashMap::new();
        let count = |index| {
            let count = counts.entry(self.key(index)).or_insert(1_u64);
            *count += 1;
            *count
        };
        updates.map(count).sum()
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
    let filled = Rc::new(OnceCell::new());
    let loops = move |many| {
        let filled = filled.clone();
        move || {
            if filled.get().is_none() {
                let _ = filled.set(Filled::new(share, parallelism)?);
            }
            at_once(many, filled.get().ok_or("nothing was filled")?)
        }
    };
    let mut contenders = vec![
        Contender::new("engine", Role::Engine, job),
        Contender::new("get and put", Role::Loop, loops(1)),
    ];
    if parallelism > 1 {
        let several = loops(parallelism);
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
        memory::forget_peak();
        wait(async { Ok(env.execute("rocksdb_beyond_cache").await?) })?;
        let peak = memory::peak();
        let begun = *progress.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = begun.ok_or("no update arrived")?;
        let took = begun.elapsed();
        let mut sample = sampled(work, 0, took, progress.sum.load(Ordering::SeqCst))?;
        sample
            .details
            .extend(peak.map(|bytes| (PEAK_MIB, bytes as f64 / f64::from(1 << 20))));
        Ok(sample)
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
    env.set("taskmanager.memory.managed.size", &work.memory.to_string())?;
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

fn change(key: &u64, (count, text): &mut (u64, String), (_, kind): &Access) -> (u64, Kind) {
    if *kind != Kind::Rest {
        *count += 1;
        text.clear();
        text.push_str(text_of(*key, *count, &mut [0; TEXT_BYTES]));
    }
    (*count, *kind)
}

/// The text that a key has after so many records: letters at random, and the same again, so that it can be written as about
/// half as many bytes.
fn text_of(key: u64, count: u64, text: &mut [u8; TEXT_BYTES]) -> &str {
    const LETTERS: [u8; 32] = *b"abcdefghijklmnopqrstuvwxyz234567";
    const OF_HASH: usize = 12;
    let (first, second) = text.split_at_mut(TEXT_BYTES / 2);
    let mut hash = key.wrapping_mul(1 << 16).wrapping_add(count);
    for letters in first.chunks_mut(OF_HASH) {
        hash = hash_int(hash);
        for (at, letter) in letters.iter_mut().enumerate() {
            *letter = LETTERS[(hash >> (at * 5)) as usize % LETTERS.len()];
        }
    }
    second.copy_from_slice(first);
    std::str::from_utf8(text).unwrap_or_default()
}

/// One subtask's share, with its share of memory, as a store that was filled and put aside.
struct Filled {
    work: Updates,
    /// One for each loop: two that had the same files would read each page of them once.
    checkpoints: Vec<PathBuf>,
    /// Where they are, until this is gone.
    folder: Folder,
}

impl Filled {
    fn new(work: Updates, loops: u32) -> Result<Self, Failure> {
        let folder = Folder::new();
        std::fs::create_dir_all(&folder.0)?;
        let checkpoint = folder.0.join("filled-0");
        fill(work, &folder.0.join("filling"), &checkpoint)?;
        let mut checkpoints = vec![checkpoint];
        for number in 1..loops {
            let copy = folder.0.join(format!("filled-{number}"));
            copy_files(&checkpoints[0], &copy)?;
            checkpoints.push(copy);
        }
        Ok(Self {
            work,
            checkpoints,
            folder,
        })
    }

    /// A store of its own that begins with every key.
    fn share(&self, number: u32) -> Result<Share, Failure> {
        let folder = Folder(self.folder.0.join(number.to_string()));
        let checkpoint = &self.checkpoints[number as usize];
        forget_pages(checkpoint)?;
        let store = factory(self.work).restore(checkpoint, &folder.0)?;
        let state = store.open_state(STATE)?;
        Ok(Share {
            work: self.work,
            number,
            store,
            state,
            _folder: folder,
        })
    }
}

/// Makes a checkpoint of a store with every key, which is filled in another directory.
fn fill(work: Updates, dir: &Path, checkpoint: &Path) -> Result<(), Failure> {
    let store = factory(work).create(dir)?;
    let state = store.open_state(STATE)?;
    let mut run = RunBuilder::new();
    let mut value = Vec::new();
    for first in (0..work.keys).step_by(FILL as usize) {
        run.clear();
        for key in first..work.keys.min(first + FILL) {
            set(&mut value, key, 1);
            run.put(&key.to_be_bytes(), &value);
        }
        store.ingest(state, &run.sort())?;
    }
    store.checkpoint(checkpoint)?;
    drop(store);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        std::fs::copy(entry.path(), &copy)?;
        // What is not on the disk yet could not be forgotten.
        File::open(copy)?.sync_all()?;
    }
    Ok(())
}

/// Drops the files of a directory from the system's cache, where it can be asked to.
fn forget_pages(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let file = File::open(entry?.path())?;
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        #[cfg(not(target_os = "linux"))]
        drop(file);
    }
    Ok(())
}

/// A factory with a share's memory; the least that a budget may be is less than any that is asked for here.
fn factory(work: Updates) -> RocksFactory {
    RocksFactory::new(RocksMemory::new(work.memory as usize))
}

/// A store that one thread works on.
struct Share {
    work: Updates,
    number: u32,
    store: Arc<dyn ByteStore>,
    state: StateId,
    /// Where it is, until this is gone.
    _folder: Folder,
}

impl Share {
    /// Gets and puts a value for each update; the sum of the counts.
    fn update(&self) -> Result<u64, Failure> {
        let mut run = RunBuilder::new();
        let mut value = Vec::new();
        let mut sum = 0;
        for index in self.work.of(self.number) {
            let number = self.work.key(index);
            let key = number.to_be_bytes();
            if !self.store.get(self.state, &key, &mut value)? {
                return Err(format!("key {key:?} is not there").into());
            }
            let count = value.first_chunk().map_or(0, |count| u64::from_le_bytes(*count)) + 1;
            set(&mut value, number, count);
            sum += count;
            run.clear();
            run.put(&key, &value);
            self.store.write(self.state, &run.sort())?;
        }
        Ok(sum)
    }
}

/// The loop on so many threads at once, each with a store of its own.
fn at_once(many: u32, filled: &Filled) -> Result<Sample, Failure> {
    let shares = (0..many)
        .map(|number| filled.share(number))
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
    for (number, sum) in (0..).zip(sums) {
        let sum = sum.map_err(|_| "a thread of the loop panicked")??;
        sample = sampled(filled.work, number, took, sum)?;
    }
    sample.value *= f64::from(many);
    Ok(sample)
}

fn set(value: &mut Vec<u8>, key: u64, count: u64) {
    value.clear();
    value.extend_from_slice(&count.to_le_bytes());
    value.extend_from_slice(text_of(key, count, &mut [0; TEXT_BYTES]).as_bytes());
}

/// The rate of the updates with this number, when their counts add up to what they should.
fn sampled(work: Updates, number: u32, took: Duration, sum: u64) -> Result<Sample, Failure> {
    let expected = work.checksum(work.of(number));
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
            memory: 1 << 20,
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
