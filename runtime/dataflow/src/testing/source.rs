//! The readers of a source, and its splits, under a test that holds the clock.

use crate::operator::{Budget, Collector, OpenContext, Services, SideOutputs, SubtaskInfo};
use crate::source::{Assignment, EnumeratorContext, Source, SourceReader, SourceStatus, SplitEnumerator};
use hurtig_core::metrics::{MetricRegistry, MetricSample, MetricScope};
use hurtig_core::time::{Clock, ManualClock, Time};
use hurtig_core::{Error, Result};
use hurtig_state::{OperatorSection, OperatorSnapshot, Redistribution};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Records of a batch unless a test says otherwise: few, so that readers are interrupted often.
const BATCH: usize = 3;
/// Fuel of one call.
const FUEL: u32 = 64;
/// A reader that was called so often in a row and neither waited nor finished is taken for endless.
const CALLS_MAX: usize = 1_000_000;
const METRICS_MAX: usize = 10_000;

/// Runs the readers of a source and deals out its splits, as a job would.
///
/// ```
/// use hurtig_dataflow::testing::SourceHarness;
/// # use hurtig_dataflow::operator::{Budget, Collector};
/// # use hurtig_dataflow::source::{Source, SourceReader, SourceStatus};
/// # use hurtig_state::OperatorSnapshot;
/// # use std::task::{Context, Poll};
/// # struct Countdown;
/// # struct Reader(u32);
/// # impl SourceReader<u32> for Reader {
/// #     fn poll_batch(&mut self, _: &mut Context<'_>, out: &mut Collector<u32>, _: &mut Budget) -> Poll<hurtig_core::Result<SourceStatus>> {
/// #         if self.0 == 0 { return Poll::Ready(Ok(SourceStatus::Finished)); }
/// #         out.push(self.0);
/// #         self.0 -= 1;
/// #         Poll::Ready(Ok(SourceStatus::More))
/// #     }
/// # }
/// # impl Source<u32> for Countdown {
/// #     fn bounded(&self) -> bool { true }
/// #     fn reader(&self) -> Box<dyn SourceReader<u32>> { Box::new(Reader(3)) }
/// # }
///
/// let mut harness = SourceHarness::new(Countdown, 1)?;
/// assert_eq!(harness.read_all()?, [3, 2, 1]);
/// # Ok::<(), hurtig_core::Error>(())
/// ```
pub struct SourceHarness<T> {
    source: Arc<dyn Source<T>>,
    enumerator: Option<Box<dyn SplitEnumerator>>,
    context: EnumeratorContext,
    readers: Vec<Reader<T>>,
    clock: Arc<ManualClock>,
    metrics: MetricRegistry,
    batch: usize,
}

impl<T> std::fmt::Debug for SourceHarness<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SourceHarness({} readers)", self.readers.len())
    }
}

/// What the readers and the enumerator of a source remember.
#[derive(Clone, Debug)]
pub struct SourceSnapshot {
    enumerator: Option<Vec<u8>>,
    readers: Vec<OperatorSnapshot>,
}

/// When a reader is to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    At(Time),
    /// When the outside wakes it; the harness tries again whenever it is asked to read.
    Woken,
    Never,
}

struct Reader<T> {
    reader: Box<dyn SourceReader<T>>,
    out: Collector<T>,
    services: Services,
    due: Due,
    /// When to ask for a split again.
    ask: Time,
}

impl<T: 'static> SourceHarness<T> {
    /// Checks the source, finds its splits, and opens a reader for each of `parallelism` subtasks.
    ///
    /// # Errors
    /// What the source says.
    pub fn new(source: impl Source<T>, parallelism: u32) -> Result<Self> {
        Self::begin(Arc::new(source), parallelism, None)
    }

    /// A harness of the same source that begins where `snapshot` was taken, which may be at another
    /// parallelism.
    ///
    /// # Errors
    /// What the source says.
    pub fn restore(&self, snapshot: &SourceSnapshot, parallelism: u32) -> Result<Self> {
        let restored = Self::begin(Arc::clone(&self.source), parallelism, Some(snapshot))?;
        Ok(restored.batches_of(self.batch))
    }

    fn begin(source: Arc<dyn Source<T>>, parallelism: u32, from: Option<&SourceSnapshot>) -> Result<Self> {
        source.validate()?;
        let mut enumerator = source.enumerator();
        let context = EnumeratorContext::new(|| {});
        if let Some(enumerator) = &mut enumerator {
            enumerator.open(context.clone());
            match from.and_then(|snapshot| snapshot.enumerator.as_deref()) {
                Some(bytes) => enumerator.restore(bytes, parallelism)?,
                None => enumerator.start(parallelism)?,
            }
        }
        let mut harness = Self {
            source,
            enumerator,
            context,
            readers: Vec::new(),
            clock: ManualClock::new(),
            metrics: MetricRegistry::new(METRICS_MAX),
            batch: BATCH,
        };
        for index in 0..parallelism {
            let share = from.map(|snapshot| share_of(&snapshot.readers, index, parallelism));
            let reader = harness.open(index, parallelism, share.as_ref())?;
            harness.readers.push(reader);
        }
        Ok(harness)
    }

    fn open(&self, index: u32, parallelism: u32, restored: Option<&OperatorSnapshot>) -> Result<Reader<T>> {
        let info = SubtaskInfo {
            index,
            parallelism,
            ..SubtaskInfo::single("tested")
        };
        let scope = MetricScope::root().child("subtask", &index.to_string());
        let services = Services::new(info, self.clock.clone(), SideOutputs::default())
            .in_job(Arc::default(), self.metrics.group(scope));
        let mut reader = self.source.reader();
        reader.open(&mut OpenContext::new(&services, restored))?;
        Ok(Reader {
            reader,
            out: Collector::with_limit(self.batch),
            services,
            due: Due::At(Time::ZERO),
            ask: Time::ZERO,
        })
    }

    /// The same harness, whose readers have room for `records` in each call.
    #[must_use]
    pub fn batches_of(mut self, records: usize) -> Self {
        self.batch = records;
        for reader in &mut self.readers {
            reader.out.set_limit(records);
        }
        self
    }

    /// Calls one reader once, having given it the splits that it asked for; what it produced. Nothing when it
    /// has finished, or waits for a later time.
    ///
    /// # Errors
    /// What the source says.
    ///
    /// # Panics
    /// When there is no such subtask, or a reader that is pending has produced records.
    pub fn turn(&mut self, subtask: usize) -> Result<Vec<T>> {
        let now = self.clock.now();
        let reader = &mut self.readers[subtask];
        if matches!(reader.due, Due::At(at) if at > now) || reader.due == Due::Never {
            return Ok(Vec::new());
        }
        if let Some(enumerator) = self.enumerator.as_deref_mut() {
            reader.deal(enumerator, now)?;
        }
        reader.call()
    }

    /// What all readers produce until none has anything more to read now.
    ///
    /// # Errors
    /// What the source says, and when a reader does not come to an end.
    pub fn read(&mut self) -> Result<Vec<T>> {
        let mut records = Vec::new();
        for call in 0.. {
            let mut waits = true;
            for subtask in 0..self.readers.len() {
                records.extend(self.turn(subtask)?);
                waits &= !matches!(self.readers[subtask].due, Due::At(at) if at <= self.clock.now());
            }
            if waits {
                break;
            }
            if call == CALLS_MAX {
                return Err(Error::user(format!(
                    "the readers were called {CALLS_MAX} times each and still have more; read an endless source \
                     by turns"
                )));
            }
        }
        Ok(records)
    }

    /// What all readers produce until they have finished. The clock moves to where they want it.
    ///
    /// # Errors
    /// What the source says, and when a reader waits for the outside or does not come to an end.
    pub fn read_all(&mut self) -> Result<Vec<T>> {
        let mut records = self.read()?;
        while !self.is_finished() {
            let Some(next) = self.next_due() else {
                return Err(Error::user(
                    "a reader waits for the outside; bring what it waits for, then read again",
                ));
            };
            self.clock.advance(next.since(self.clock.now()));
            records.extend(self.read()?);
        }
        Ok(records)
    }

    fn next_due(&self) -> Option<Time> {
        let due = self.readers.iter().filter_map(|reader| match reader.due {
            Due::At(at) => Some(at),
            Due::Woken if reader.ask > self.clock.now() => Some(reader.ask),
            Due::Woken | Due::Never => None,
        });
        due.min()
    }

    /// Whether all readers have finished.
    pub fn is_finished(&self) -> bool {
        self.readers.iter().all(|reader| reader.due == Due::Never)
    }

    /// Whether the enumerator says that what is being read is backlog.
    pub fn is_backlog(&self) -> bool {
        self.context.is_backlog()
    }

    /// Lets time pass.
    pub fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    /// Time since the harness began.
    pub fn elapsed(&self) -> Duration {
        self.clock.now().since(Time::ZERO)
    }

    /// What the readers measured.
    pub fn metrics(&self) -> Vec<MetricSample> {
        self.metrics.samples()
    }

    /// What enumerator and readers remember now, in the order in which a checkpoint asks them.
    ///
    /// # Errors
    /// What the source says.
    pub fn snapshot(&mut self) -> Result<SourceSnapshot> {
        let enumerator = self.enumerator.as_mut().map(|e| e.snapshot()).transpose()?;
        let remember = |reader: &mut Reader<T>| {
            let mut snapshot = OperatorSnapshot::default();
            reader.reader.snapshot(&mut snapshot)?;
            Ok(snapshot)
        };
        let readers = self.readers.iter_mut().map(remember).collect::<Result<_>>()?;
        Ok(SourceSnapshot { enumerator, readers })
    }
}

impl<T> Reader<T> {
    fn deal(&mut self, enumerator: &mut dyn SplitEnumerator, now: Time) -> Result<()> {
        while self.ask <= now && self.reader.wants_split() {
            match enumerator.next_split(self.services.info().index)? {
                Assignment::Split(split) => self.reader.add_split(Some(split))?,
                Assignment::NoMore => self.reader.add_split(None)?,
                Assignment::Later(millis) => self.ask = now.after(Duration::from_millis(millis)),
            }
        }
        Ok(())
    }

    fn call(&mut self) -> Result<Vec<T>> {
        let mut task = Context::from_waker(Waker::noop());
        let polled = self
            .reader
            .poll_batch(&mut task, &mut self.out, &mut Budget::new(FUEL));
        self.reader.publish(self.services.accumulators());
        self.due = match polled {
            Poll::Pending => {
                assert!(
                    self.out.is_empty(),
                    "a reader that is pending has produced records"
                );
                Due::Woken
            }
            Poll::Ready(status) => match status? {
                SourceStatus::WaitUntil(at) => Due::At(at),
                SourceStatus::Finished => Due::Never,
                SourceStatus::More | SourceStatus::SplitFinished => Due::At(Time::ZERO),
            },
        };
        let batch = self.out.batch();
        let records = batch.drain(batch.len()).collect();
        batch.reset_if_empty();
        Ok(records)
    }
}

/// The share of subtask `index` of what the old subtasks remembered: `Split` entries dealt out in turn, `Union`
/// entries whole, `Broadcast` entries as one of them had them.
fn share_of(snapshots: &[OperatorSnapshot], index: u32, parallelism: u32) -> OperatorSnapshot {
    let mut share = OperatorSnapshot::default();
    let mut dealt = 0;
    for (name, section) in snapshots.iter().flat_map(|snapshot| &snapshot.operator) {
        let empty = || OperatorSection {
            redistribution: section.redistribution,
            entries: Vec::new(),
        };
        let mine = share.operator.entry(name.clone()).or_insert_with(empty);
        if section.redistribution == Redistribution::Broadcast && !mine.entries.is_empty() {
            continue;
        }
        for entry in &section.entries {
            if section.redistribution != Redistribution::Split || dealt % parallelism == index {
                mine.entries.push(entry.clone());
            }
            dealt += 1;
        }
    }
    share
}
