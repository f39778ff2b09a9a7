//! How fast a job is back: it begins with a savepoint of many entries, and the time counts from its submission until every
//! subtask has handed on a record, which needs all of its state.

use crate::baselines::counts::Counts;
use crate::catalog::{Backend, Values};
use crate::engine::{Folder, environment};
use crate::measure::{Contender, Failure, Role, Sample, now};
use hurtig::prelude::*;
use hurtig_core::Batch as Records;
use hurtig_core::key::hash_int;
use hurtig_dataflow::operator::Cx;
use hurtig_dataflow::sink::{Sink, SinkWriter};
use std::cell::OnceCell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Length of a text in state.
const TEXT_BYTES: u64 = 100;
/// Entries of a savepoint of numbers, and of one of texts.
const ENTRIES: (u64, u64) = (10_000_000, 2_000_000);
/// Records a second that go on coming while a job is stopped and started again, each with another key.
const TRICKLE: u64 = 2_000;

/// Entries, or bytes of texts in MiB, of a second.
pub(crate) const fn unit(values: Values) -> &'static str {
    match values {
        Values::Numbers => "entries/s",
        Values::Texts => "MiB/s",
    }
}

/// How many entries there are.
pub(crate) const fn entries(values: Values, divisor: u64) -> u64 {
    match values {
        Values::Numbers => ENTRIES.0 / divisor,
        Values::Texts => ENTRIES.1 / divisor,
    }
}

/// The job, and a thread for each subtask that does no more than to put its share of entries into a map.
pub(crate) fn contenders(parallelism: u32, backend: Backend, values: Values, entries: u64) -> Vec<Contender> {
    let prepared = OnceCell::new();
    let engine = move || {
        if prepared.get().is_none() {
            let made = Prepared::new(parallelism, backend, values, entries)?;
            // Nobody else has set it: this is one thread.
            let _ = prepared.set(made);
        }
        let took = prepared.get().map_or(Ok(Duration::MAX), Prepared::restore)?;
        Ok(figure(values, entries, took))
    };
    let share = entries / u64::from(parallelism);
    let map = move || {
        let start = now();
        fill(values, share);
        Ok(figure(values, share, start.elapsed()))
    };
    vec![
        Contender::new("engine", Role::Engine, engine),
        Contender::new("filling a map", Role::Loop, map),
    ]
}

fn figure(values: Values, entries: u64, took: Duration) -> Sample {
    let amount = match values {
        Values::Numbers => entries as f64,
        Values::Texts => (entries * TEXT_BYTES) as f64 / f64::from(1 << 20),
    };
    Sample {
        value: amount / took.as_secs_f64(),
        ..Sample::default()
    }
}

fn fill(values: Values, entries: u64) {
    match values {
        Values::Numbers => {
            let mut map = Counts::new();
            for n in 0..entries {
                map.add(&n, hash_int(n), 1);
            }
            black_box(map.len());
        }
        Values::Texts => {
            let (text, mut map) = ("x".repeat(TEXT_BYTES as usize), hashbrown::HashTable::new());
            for n in 0..entries {
                map.insert_unique(hash_int(n), (n, text.clone()), |(n, _)| hash_int(*n));
            }
            black_box(map.len());
        }
    }
}

/// A savepoint of counts or texts by number, one for each number below `entries`.
struct Prepared {
    parallelism: u32,
    backend: Backend,
    values: Values,
    entries: u64,
    savepoint: String,
    /// Where it is, until this is gone.
    _folder: Folder,
}

impl Prepared {
    /// Lets a job fill its state and stops it.
    fn new(parallelism: u32, backend: Backend, values: Values, entries: u64) -> Result<Self, Failure> {
        let folder = Folder::new();
        let (env, arrivals) = program(parallelism, backend, values, entries)?;
        let savepoint = wait(async {
            let job = env.execute_async("restore").await?;
            arrivals
                .until(|arrivals| arrivals.first.load(Ordering::SeqCst) >= entries)
                .await;
            Ok(job.stop(folder.0.to_str(), false).await?)
        })?;
        Ok(Self {
            parallelism,
            backend,
            values,
            entries,
            savepoint,
            _folder: folder,
        })
    }

    /// How long a job that begins with it takes until all of its subtasks run.
    fn restore(&self) -> Result<Duration, Failure> {
        let (env, arrivals) = program(self.parallelism, self.backend, self.values, self.entries)?;
        env.set("execution.state-recovery.path", &self.savepoint)?;
        env.set("execution.state-recovery.claim-mode", "NO_CLAIM")?;
        let subtasks = u64::from(self.parallelism);
        wait(async {
            let start = now();
            let job = env.execute_async("restore").await?;
            arrivals
                .until(|arrivals| arrivals.subtasks.load(Ordering::SeqCst) == subtasks)
                .await;
            let took = start.elapsed();
            if arrivals.first.load(Ordering::SeqCst) > 0 || arrivals.fresh.load(Ordering::SeqCst) > 0 {
                return Err("the state was not restored".into());
            }
            job.cancel().await?;
            // It was cancelled.
            let _ = job.result().await;
            Ok(took)
        })
    }
}

fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// A record: which number, and whether it is of those that fill the state.
type Number = (u64, bool);

/// The program: every number once, then some of them again and again.
fn program(
    parallelism: u32,
    backend: Backend,
    values: Values,
    entries: u64,
) -> Result<(StreamEnv, Arc<Arrivals>), Failure> {
    let env = environment(parallelism)?;
    if backend == Backend::RocksDb {
        env.set("state.backend.type", "rocksdb")?;
    }
    let arrivals = Arc::new(Arrivals::default());
    let sink = ArrivalSink(arrivals.clone());
    let first = env
        .from_source(GeneratorSource::new(entries, |n| (n, true)), Watermarks::none())
        .uid("first");
    let again = GeneratorSource::unbounded(move |n| (n % entries, false)).rate(TRICKLE);
    let again = env.from_source(again, Watermarks::none()).uid("again");
    let numbers = first.union(&again).key_by(|number: &Number| number.0);
    match values {
        Values::Numbers => numbers
            .fold(
                || 0_u64,
                |_: &u64, seen: &mut u64, number: &Number| {
                    *seen += 1;
                    (number.1, *seen > 1)
                },
            )
            .uid("state")
            .sink_to(sink),
        Values::Texts => numbers
            .fold(String::new, |_: &u64, text: &mut String, number: &Number| {
                let known = !text.is_empty();
                if !known {
                    *text = format!("{:0width$}", number.0, width = TEXT_BYTES as usize);
                }
                (number.1, known)
            })
            .uid("state")
            .sink_to(sink),
    };
    Ok((env, arrivals))
}

/// What has reached the sinks of a job.
#[derive(Debug, Default)]
struct Arrivals {
    /// Records that fill the state.
    first: AtomicU64,
    /// Others whose key was not there.
    fresh: AtomicU64,
    /// Subtasks that have seen a record.
    subtasks: AtomicU64,
    changed: Notify,
}

impl Arrivals {
    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }
}

/// Whether a record was of those that fill the state, and whether its key was there already.
type Seen = (bool, bool);

#[derive(Debug)]
struct ArrivalSink(Arc<Arrivals>);

impl Sink<Seen> for ArrivalSink {
    fn writer(&self) -> Box<dyn SinkWriter<Seen>> {
        Box::new(ArrivalWriter {
            arrivals: self.0.clone(),
            begun: false,
        })
    }
}

struct ArrivalWriter {
    arrivals: Arc<Arrivals>,
    begun: bool,
}

impl SinkWriter<Seen> for ArrivalWriter {
    fn write(&mut self, batch: &mut Records<Seen>, _: Cx<'_>) -> hurtig_core::Result<()> {
        let (mut first, mut fresh) = (0, 0);
        for (fills, known) in batch.drain(usize::MAX) {
            first += u64::from(fills);
            fresh += u64::from(!fills && !known);
        }
        batch.reset_if_empty();
        let arrivals = &self.arrivals;
        arrivals.first.fetch_add(first, Ordering::SeqCst);
        arrivals.fresh.fetch_add(fresh, Ordering::SeqCst);
        if !std::mem::replace(&mut self.begun, true) {
            arrivals.subtasks.fetch_add(1, Ordering::SeqCst);
        }
        arrivals.changed.notify_one();
        Ok(())
    }
}
