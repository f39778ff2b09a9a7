//! One operator under a test that holds both clocks.

use super::instance::{Call, Factory, Instance, Setup};
use super::output::{Emitted, take_all};
use super::two_input::{Either, Joined};
use crate::operator::{
    Budget, CheckpointEvent, Collector, JobParameters, Operator, OutputTag, Progress, SubtaskInfo,
    TwoInputOperator,
};
use crate::operators::{BacklogMerger, WatermarkMerger};
use hurtig_core::element::WatermarkStatus;
use hurtig_core::ids::CheckpointId;
use hurtig_core::metrics::MetricSample;
use hurtig_core::time::{MAX_WATERMARK, MIN_WATERMARK, NO_TIMESTAMP};
use hurtig_core::{Batch, Error, Result};
use hurtig_state::OperatorSnapshot;
use std::fmt::Debug;
use std::sync::Arc;

/// Fuel of one call: more than a test needs, yet an endless operator is found out.
const FUEL: u32 = 1 << 20;
/// A step that takes more calls than this is taken for endless.
const CALLS_MAX: usize = 10_000;

/// Runs an operator with one input.
///
/// Keyed operators are run in the same way: they compute the key of each record themselves.
///
/// ```
/// use hurtig_dataflow::operators::Filter;
/// use hurtig_dataflow::testing::Harness;
/// use std::sync::Arc;
///
/// let mut harness: Harness<i64, i64> = Harness::new(|| Filter::new(Arc::new(|n: &i64| n % 2 == 0)))?;
/// harness.push_all([(1, 10), (2, 20), (3, 30)])?;
/// harness.watermark(15)?;
/// assert_eq!(harness.records(), [(2, 20)]);
///
/// let snapshot = harness.snapshot()?;
/// let mut restored = harness.restore(&snapshot)?;
/// restored.push(4, 40)?;
/// assert_eq!(restored.records(), [(4, 40)]);
/// # Ok::<(), hurtig_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Harness<In, Out> {
    setup: Setup<In, Out>,
    instance: Instance<In, Out>,
    out: Collector<Out>,
    emitted: Vec<Emitted<Out>>,
    watermark: i64,
    checkpoints: u64,
}

impl<In: 'static, Out: 'static> Harness<In, Out> {
    /// A harness around the operators that `factory` makes; the first is opened at once.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn new<O: Operator<In, Out> + 'static>(factory: impl Fn() -> O + 'static) -> Result<Self> {
        Self::start(Setup::new(boxed(factory)), None)
    }

    /// As [`Self::new`], for an instance that believes to run as `info`, started from `restored`, of
    /// which it receives its key groups.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn as_subtask<O: Operator<In, Out> + 'static>(
        factory: impl Fn() -> O + 'static,
        info: SubtaskInfo,
        restored: Option<&OperatorSnapshot>,
    ) -> Result<Self> {
        let mut setup = Setup::new(boxed(factory));
        setup.info = info;
        Self::start(setup, restored)
    }

    /// As [`Self::new`], in a job with parameters.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn with_parameters<O: Operator<In, Out> + 'static>(
        factory: impl Fn() -> O + 'static,
        parameters: JobParameters,
    ) -> Result<Self> {
        let mut setup = Setup::new(boxed(factory));
        setup.parameters = Arc::new(parameters);
        Self::start(setup, None)
    }

    fn start(setup: Setup<In, Out>, restored: Option<&OperatorSnapshot>) -> Result<Self> {
        let instance = setup.open(restored, MIN_WATERMARK)?;
        Ok(Self {
            setup,
            instance,
            out: Collector::with_limit(usize::MAX),
            emitted: Vec::new(),
            watermark: MIN_WATERMARK,
            checkpoints: 0,
        })
    }

    /// Keeps what is emitted into a side output from now on.
    #[must_use]
    pub fn with_side<T: Debug + Send + 'static>(mut self, tag: &OutputTag<T>) -> Self {
        self.setup.add_side(tag);
        if let Some(side) = self.setup.sides.last() {
            side.add(&self.instance.services);
        }
        self
    }

    /// Processes one record with its event time in milliseconds.
    ///
    /// # Errors
    /// When the operator fails, as in all calls below.
    pub fn push(&mut self, record: In, time: i64) -> Result<()> {
        self.push_all([(record, time)])
    }

    /// Processes one record without event time.
    pub fn push_untimed(&mut self, record: In) -> Result<()> {
        self.push(record, NO_TIMESTAMP)
    }

    /// Processes records with their event times as one batch.
    pub fn push_all(&mut self, records: impl IntoIterator<Item = (In, i64)>) -> Result<()> {
        let mut batch = Batch::new();
        records
            .into_iter()
            .for_each(|(record, time)| batch.push(record, time));
        self.perform(&Call::Process, &mut batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        Err(Error::internal(format!(
            "the operator returned Done with {} records left in its input",
            batch.len()
        )))
    }

    /// Event time advances; a watermark that does not advance is ignored.
    pub fn watermark(&mut self, watermark: i64) -> Result<()> {
        if watermark <= self.watermark {
            return Ok(());
        }
        self.watermark = watermark;
        self.instance.services.set_watermark(watermark);
        self.perform(&Call::Watermark(watermark), &mut Batch::new())?;
        if !self.instance.services.take_held() {
            self.emitted.push(Emitted::Watermark(watermark));
        }
        Ok(())
    }

    /// Processing time moves to `wall_ms`; timers that are due fire.
    pub fn processing_time(&mut self, wall_ms: i64) -> Result<()> {
        self.setup.clock.set_wall_ms(wall_ms);
        for _ in 0..CALLS_MAX {
            if self.instance.services.wake_at() > wall_ms {
                return Ok(());
            }
            self.instance.services.clear_schedule();
            self.perform(&Call::ProcessingTime(wall_ms), &mut Batch::new())?;
        }
        Err(Error::internal(format!(
            "the operator asked {CALLS_MAX} times to be called at processing time {wall_ms}"
        )))
    }

    /// What follows is backlog, or is not any more; nothing happens where it does not turn.
    pub fn backlog(&mut self, backlog: bool) -> Result<()> {
        if self.instance.services.cx().is_backlog() == backlog {
            return Ok(());
        }
        self.instance.services.set_backlog(backlog);
        self.perform(&Call::Backlog(backlog), &mut Batch::new())
    }

    /// The end of backlog, the last watermark, the end of input, and the operator's end.
    pub fn finish(&mut self) -> Result<()> {
        self.backlog(false)?;
        self.watermark(MAX_WATERMARK)?;
        self.perform(&Call::End, &mut Batch::new())?;
        self.instance.close()
    }

    fn perform(&mut self, call: &Call, input: &mut Batch<In>) -> Result<()> {
        for _ in 0..CALLS_MAX {
            let progress = self
                .instance
                .call(call, input, &mut self.out, &mut Budget::new(FUEL))?;
            self.collect();
            match progress {
                Progress::Done => return self.settle(),
                Progress::More => {}
                Progress::Wait => self.complete_one()?,
            }
        }
        Err(Error::internal(format!(
            "the operator still asked for more after {CALLS_MAX} calls of {call:?}"
        )))
    }

    fn complete_one(&mut self) -> Result<()> {
        match self.instance.complete(&mut self.out, &mut Budget::new(FUEL)) {
            Some(result) => result.map(drop),
            None => Err(Error::internal(
                "the operator waits for a future, but none of its futures is ready",
            )),
        }
    }

    fn settle(&mut self) -> Result<()> {
        while let Some(result) = self.instance.complete(&mut self.out, &mut Budget::new(FUEL)) {
            result?;
        }
        self.collect();
        Ok(())
    }

    fn collect(&mut self) {
        let records = take_all(&mut self.out).into_iter();
        self.emitted
            .extend(records.map(|(record, time)| Emitted::Record(record, time)));
        self.emitted
            .extend(self.out.take_watermark().map(Emitted::Watermark));
    }

    /// The operator's metrics as they are now, sorted by scope and name.
    pub fn metrics(&self) -> Vec<MetricSample> {
        self.setup.metrics.samples()
    }

    /// Whether the operator has said that its output is idle.
    pub fn is_idle(&self) -> bool {
        self.instance.services.turned_status() == Some(WatermarkStatus::Idle)
    }

    /// Takes everything that was emitted, in order.
    pub fn output(&mut self) -> Vec<Emitted<Out>> {
        std::mem::take(&mut self.emitted)
    }

    /// Takes everything that was emitted and keeps the records with their event times.
    pub fn records(&mut self) -> Vec<(Out, i64)> {
        let record = |emitted| match emitted {
            Emitted::Record(record, time) => Some((record, time)),
            Emitted::Watermark(_) => None,
        };
        self.output().into_iter().filter_map(record).collect()
    }

    /// Takes everything that was emitted and keeps the records.
    pub fn values(&mut self) -> Vec<Out> {
        self.records().into_iter().map(|(record, _)| record).collect()
    }

    /// Takes what a side output has received, with event times.
    ///
    /// # Panics
    /// When the output was not declared with [`Self::with_side`].
    pub fn side<T: 'static>(&mut self, tag: &OutputTag<T>) -> Vec<(T, i64)> {
        match self.instance.take_side(tag.name()) {
            Some(records) => records,
            None => panic!(
                "declare side output '{}' with Harness::with_side before reading it",
                tag.name()
            ),
        }
    }

    /// When the operator wants to be called by processing time, in wall-clock milliseconds.
    pub fn scheduled(&self) -> Option<i64> {
        Some(self.instance.services.wake_at()).filter(|&at| at != i64::MAX)
    }

    /// What the operator remembers, taken as a checkpoint takes it.
    pub fn snapshot(&mut self) -> Result<OperatorSnapshot> {
        self.checkpoints += 1;
        for _ in 0..CALLS_MAX {
            let mut budget = Budget::new(FUEL);
            let progress = self
                .instance
                .before_barrier(self.checkpoints, &mut self.out, &mut budget)?;
            self.collect();
            match progress {
                Progress::Done => return self.instance.snapshot(),
                Progress::More => {}
                Progress::Wait => self.complete_one()?,
            }
        }
        Err(Error::internal(format!(
            "the operator was not ready for a barrier after {CALLS_MAX} calls"
        )))
    }

    /// Tells the operator that the last snapshot's checkpoint has completed, or was given up.
    pub fn end_checkpoint(&mut self, completed: bool) -> Result<()> {
        let id = CheckpointId(self.checkpoints);
        let event = if completed {
            CheckpointEvent::Completed(id)
        } else {
            CheckpointEvent::Aborted(id)
        };
        self.instance.on_checkpoint(event)
    }

    /// Ends this harness and goes on with a new instance that is restored from `snapshot`. Event time
    /// starts anew, as it does after a restart; processing time goes on.
    pub fn restore(self, snapshot: &OperatorSnapshot) -> Result<Self> {
        Self::start(self.setup, Some(snapshot))
    }
}

fn boxed<In, Out, O: Operator<In, Out> + 'static>(factory: impl Fn() -> O + 'static) -> Factory<In, Out> {
    Box::new(move || Box::new(factory()))
}

/// Runs an operator with two inputs, whose watermarks are merged.
#[derive(Debug)]
pub struct TwoInputHarness<A, B, Out> {
    harness: Harness<Either<A, B>, Out>,
    merger: WatermarkMerger,
    backlog: BacklogMerger,
}

const FIRST: usize = 0;
const SECOND: usize = 1;

impl<A: 'static, B: 'static, Out: 'static> TwoInputHarness<A, B, Out> {
    /// A harness around the operators that `factory` makes; the first is opened at once.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn new<O: TwoInputOperator<A, B, Out> + 'static>(factory: impl Fn() -> O + 'static) -> Result<Self> {
        let harness = Harness::new(move || Joined::new(factory()))?;
        Ok(Self {
            harness,
            merger: WatermarkMerger::new(2),
            backlog: BacklogMerger::new(vec![false; 2]),
        })
    }

    /// Keeps what is emitted into a side output from now on.
    #[must_use]
    pub fn with_side<T: Debug + Send + 'static>(self, tag: &OutputTag<T>) -> Self {
        Self {
            harness: self.harness.with_side(tag),
            ..self
        }
    }

    /// Processes a record of the first input.
    ///
    /// # Errors
    /// When the operator fails, as in all calls below.
    pub fn push_first(&mut self, record: A, time: i64) -> Result<()> {
        self.harness.push(Either::First(record), time)
    }

    /// Processes a record of the second input.
    pub fn push_second(&mut self, record: B, time: i64) -> Result<()> {
        self.harness.push(Either::Second(record), time)
    }

    /// A watermark arrives at the first input.
    pub fn watermark_first(&mut self, watermark: i64) -> Result<()> {
        let merged = self.merger.watermark(FIRST, watermark);
        merged.watermark.map_or(Ok(()), |wm| self.harness.watermark(wm))
    }

    /// A watermark arrives at the second input.
    pub fn watermark_second(&mut self, watermark: i64) -> Result<()> {
        let merged = self.merger.watermark(SECOND, watermark);
        merged.watermark.map_or(Ok(()), |wm| self.harness.watermark(wm))
    }

    /// The same watermark arrives at both inputs.
    pub fn watermark(&mut self, watermark: i64) -> Result<()> {
        self.watermark_first(watermark)?;
        self.watermark_second(watermark)
    }

    /// What follows at the first input is backlog, or is not any more.
    pub fn backlog_first(&mut self, backlog: bool) -> Result<()> {
        let turned = self.backlog.set(FIRST, backlog);
        turned.map_or(Ok(()), |backlog| self.harness.backlog(backlog))
    }

    /// What follows at the second input is backlog, or is not any more.
    pub fn backlog_second(&mut self, backlog: bool) -> Result<()> {
        let turned = self.backlog.set(SECOND, backlog);
        turned.map_or(Ok(()), |backlog| self.harness.backlog(backlog))
    }

    /// The first input turns idle or active.
    pub fn status_first(&mut self, status: WatermarkStatus) -> Result<()> {
        let merged = self.merger.status(FIRST, status);
        merged.watermark.map_or(Ok(()), |wm| self.harness.watermark(wm))
    }

    /// The second input turns idle or active.
    pub fn status_second(&mut self, status: WatermarkStatus) -> Result<()> {
        let merged = self.merger.status(SECOND, status);
        merged.watermark.map_or(Ok(()), |wm| self.harness.watermark(wm))
    }

    /// Processing time moves to `wall_ms`; timers that are due fire.
    pub fn processing_time(&mut self, wall_ms: i64) -> Result<()> {
        self.harness.processing_time(wall_ms)
    }

    /// The last watermark, the end of both inputs, and the operator's end.
    pub fn finish(&mut self) -> Result<()> {
        self.harness.finish()
    }

    /// Takes everything that was emitted, in order.
    pub fn output(&mut self) -> Vec<Emitted<Out>> {
        self.harness.output()
    }

    /// Takes everything that was emitted and keeps the records with their event times.
    pub fn records(&mut self) -> Vec<(Out, i64)> {
        self.harness.records()
    }

    /// Takes everything that was emitted and keeps the records.
    pub fn values(&mut self) -> Vec<Out> {
        self.harness.values()
    }

    /// Takes what a side output has received, with event times.
    ///
    /// # Panics
    /// When the output was not declared with [`Self::with_side`].
    pub fn side<T: 'static>(&mut self, tag: &OutputTag<T>) -> Vec<(T, i64)> {
        self.harness.side(tag)
    }

    /// Tells the operator that the last snapshot's checkpoint has completed, or was given up.
    pub fn end_checkpoint(&mut self, completed: bool) -> Result<()> {
        self.harness.end_checkpoint(completed)
    }

    /// What the operator remembers, taken as a checkpoint takes it.
    pub fn snapshot(&mut self) -> Result<OperatorSnapshot> {
        self.harness.snapshot()
    }

    /// Ends this harness and goes on with a new instance that is restored from `snapshot`.
    pub fn restore(self, snapshot: &OperatorSnapshot) -> Result<Self> {
        Ok(Self {
            harness: self.harness.restore(snapshot)?,
            merger: WatermarkMerger::new(2),
            backlog: BacklogMerger::new(vec![false; 2]),
        })
    }
}
