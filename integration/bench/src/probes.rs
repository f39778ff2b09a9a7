//! The ends of the engine's programs: an open-loop source, and sinks that fold or measure.

use crate::measure::now;
use crate::schedule::{Schedule, delays, nanos_since, record};
use hdrhistogram::Histogram;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_core::{Batch, Result};
use hurtig_dataflow::operator::{Budget, CheckpointEvent, Collector, Cx, OpenContext};
use hurtig_dataflow::sink::{Sink, SinkWriter};
use hurtig_dataflow::source::{Source, SourceReader, SourceStatus};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The instant at which a run's schedule begins: when the first reader is opened.
type Start = Arc<OnceLock<Instant>>;

/// A source of indices, each emitted when it is due.
#[derive(Clone, Debug)]
pub(crate) struct OpenLoop {
    schedule: Schedule,
    start: Start,
}

impl OpenLoop {
    /// The source.
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            start: Start::default(),
        }
    }
}

impl Source<u64> for OpenLoop {
    fn bounded(&self) -> bool {
        true
    }

    fn reader(&self) -> Box<dyn SourceReader<u64>> {
        Box::new(OpenLoopReader {
            schedule: self.schedule,
            start: self.start.clone(),
            engine_start: Time::ZERO,
            next: 0,
            step: 1,
        })
    }
}

struct OpenLoopReader {
    schedule: Schedule,
    start: Start,
    /// The engine's time at the start of the schedule.
    engine_start: Time,
    next: u64,
    step: u64,
}

impl OpenLoopReader {
    fn start(&self) -> Instant {
        *self.start.get_or_init(now)
    }
}

impl SourceReader<u64> for OpenLoopReader {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let since_start = nanos_since(self.start());
        self.engine_start = Time::from_nanos(ctx.cx().now().as_nanos().saturating_sub(since_start));
        (self.next, self.step) = (u64::from(ctx.info().index), u64::from(ctx.info().parallelism));
        Ok(())
    }

    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Collector<u64>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        let due = self.schedule.due_after(nanos_since(self.start()));
        while self.next < due {
            if out.full() || !b.spend() {
                return Poll::Ready(Ok(SourceStatus::More));
            }
            out.push(self.next);
            self.next += self.step;
        }
        Poll::Ready(Ok(if self.next >= self.schedule.records {
            SourceStatus::Finished
        } else {
            let wait = Duration::from_nanos(self.schedule.due_at(self.next));
            SourceStatus::WaitUntil(self.engine_start.after(wait))
        }))
    }
}

/// A sink that adds up what `fold` makes of records.
pub(crate) struct Fold<T, F> {
    fold: Arc<F>,
    total: Arc<AtomicU64>,
    checkpoints: Arc<AtomicU64>,
    records: PhantomData<fn(T)>,
}

/// What a [`Fold`] has come to, once its job has ended.
#[derive(Debug)]
pub(crate) struct Total {
    total: Arc<AtomicU64>,
    checkpoints: Arc<AtomicU64>,
}

impl Total {
    /// The sum over all writers.
    pub(crate) fn get(&self) -> u64 {
        self.total.load(Ordering::SeqCst)
    }

    /// The number of the last checkpoint that has completed.
    pub(crate) fn last_checkpoint(&self) -> u64 {
        self.checkpoints.load(Ordering::SeqCst)
    }
}

impl<T, F> fmt::Debug for Fold<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fold")
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl<T, F: Fn(T) -> u64> Fold<T, F> {
    /// Adds up the values of records.
    pub(crate) fn summing(value: F) -> (Self, Total) {
        let (total, checkpoints) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let sink = Self {
            fold: Arc::new(value),
            total: total.clone(),
            checkpoints: checkpoints.clone(),
            records: PhantomData,
        };
        (sink, Total { total, checkpoints })
    }
}

/// A sink that gives every record to `each` and counts them.
pub(crate) fn counting<T>(each: impl Fn(T)) -> (Fold<T, impl Fn(T) -> u64>, Total) {
    Fold::summing(move |record| {
        each(record);
        1
    })
}

impl<T, F> Sink<T> for Fold<T, F>
where
    T: Send + 'static,
    F: Fn(T) -> u64 + Send + Sync + 'static,
{
    fn writer(&self) -> Box<dyn SinkWriter<T>> {
        Box::new(FoldWriter {
            fold: self.fold.clone(),
            total: self.total.clone(),
            checkpoints: self.checkpoints.clone(),
            sum: 0,
            records: PhantomData,
        })
    }
}

struct FoldWriter<T, F> {
    fold: Arc<F>,
    total: Arc<AtomicU64>,
    checkpoints: Arc<AtomicU64>,
    sum: u64,
    records: PhantomData<fn(T)>,
}

impl<T, F> SinkWriter<T> for FoldWriter<T, F>
where
    T: Send,
    F: Fn(T) -> u64 + Send + Sync,
{
    fn write(&mut self, batch: &mut Batch<T>, _: Cx<'_>) -> Result<()> {
        let fold = &*self.fold;
        self.sum = batch
            .drain(usize::MAX)
            .fold(self.sum, |sum, record| sum.wrapping_add(fold(record)));
        batch.reset_if_empty();
        Ok(())
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()> {
        if let CheckpointEvent::Completed(CheckpointId(number)) = event {
            self.checkpoints.fetch_max(number, Ordering::SeqCst);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.total.fetch_add(self.sum, Ordering::SeqCst);
        Ok(())
    }
}

/// A sink that measures how late records of an [`OpenLoop`] are.
pub(crate) struct Delays<T, F> {
    schedule: Schedule,
    start: Start,
    index_of: Arc<F>,
    all: Arc<Mutex<Histogram<u64>>>,
    records: PhantomData<fn(T)>,
}

/// The delays of a run, once its job has ended.
#[derive(Debug)]
pub(crate) struct Measured(Arc<Mutex<Histogram<u64>>>);

impl Measured {
    /// The delays of all writers' records.
    pub(crate) fn take(self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T, F> fmt::Debug for Delays<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delays")
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}

impl<T, F: Fn(&T) -> u64> Delays<T, F> {
    /// The sink for records that came from `source`; `index_of` tells which of its indices.
    pub(crate) fn new(source: &OpenLoop, index_of: F) -> (Self, Measured) {
        let all = Arc::new(Mutex::new(delays()));
        let sink = Self {
            schedule: source.schedule,
            start: source.start.clone(),
            index_of: Arc::new(index_of),
            all: all.clone(),
            records: PhantomData,
        };
        (sink, Measured(all))
    }
}

impl<T, F> Sink<T> for Delays<T, F>
where
    T: Send + 'static,
    F: Fn(&T) -> u64 + Send + Sync + 'static,
{
    fn writer(&self) -> Box<dyn SinkWriter<T>> {
        Box::new(DelaysWriter {
            schedule: self.schedule,
            start: self.start.clone(),
            index_of: self.index_of.clone(),
            all: self.all.clone(),
            own: delays(),
            records: PhantomData,
        })
    }
}

struct DelaysWriter<T, F> {
    schedule: Schedule,
    start: Start,
    index_of: Arc<F>,
    all: Arc<Mutex<Histogram<u64>>>,
    own: Histogram<u64>,
    records: PhantomData<fn(T)>,
}

impl<T, F> SinkWriter<T> for DelaysWriter<T, F>
where
    T: Send,
    F: Fn(&T) -> u64 + Send + Sync,
{
    fn write(&mut self, batch: &mut Batch<T>, _: Cx<'_>) -> Result<()> {
        let arrived = nanos_since(*self.start.get_or_init(now));
        for index in batch.drain(usize::MAX).map(|record| (self.index_of)(&record)) {
            record(&mut self.own, self.schedule.due_at(index), arrived);
        }
        batch.reset_if_empty();
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(&self.own)
            .map_err(|e| hurtig_core::Error::internal(format!("histograms differ: {e}")))
    }
}
