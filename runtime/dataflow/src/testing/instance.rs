//! One running instance of an operator with everything around it, and its replacement after a
//! snapshot.

use super::output::{KeptSide, take_all};
use crate::operator::{
    Budget, CheckpointEvent, Collector, Completion, CompletionId, JobParameters, OpenContext, Operator,
    OutputTag, Progress, Services, SideOutputs, SubtaskInfo, TaskFuture,
};
use hurtig_core::ids::CheckpointId;
use hurtig_core::metrics::{MetricRegistry, MetricScope};
use hurtig_core::time::ManualClock;
use hurtig_core::{Batch, Result};
use hurtig_state::{OperatorSnapshot, ScanBudget};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Metrics that an operator under test may register.
const METRICS_MAX: usize = 10_000;

pub(super) type Factory<In, Out> = Box<dyn Fn() -> Box<dyn Operator<In, Out>>>;

/// A side output of whatever type: added to each new instance, and emptied.
pub(super) trait Side {
    fn add(&self, services: &Services);
    /// Records in it that have not been taken.
    fn len(&self, services: &Services) -> usize;
    /// Takes what it holds as text with times, and sets at how many records it will be full.
    fn take_text(&self, services: &Services, limit: usize) -> Vec<(String, i64)>;
    fn name(&self) -> &str;
}

struct TypedSide<T>(OutputTag<T>);

impl<T: Send + 'static> TypedSide<T> {
    fn with<R: Default>(&self, services: &Services, f: impl FnOnce(&mut Collector<T>) -> R) -> R {
        let mut sinks = services.side().sinks();
        let sink = sinks.iter_mut().find(|sink| sink.name() == self.0.name());
        sink.and_then(|sink| sink.collector().downcast_mut::<Collector<T>>())
            .map(f)
            .unwrap_or_default()
    }
}

impl<T: fmt::Debug + Send + 'static> Side for TypedSide<T> {
    fn add(&self, services: &Services) {
        services
            .side()
            .sinks()
            .push(Box::new(KeptSide::<T>::new(self.0.name())));
    }

    fn len(&self, services: &Services) -> usize {
        self.with(services, |collector| collector.len())
    }

    fn take_text(&self, services: &Services, limit: usize) -> Vec<(String, i64)> {
        self.with(services, |collector| {
            collector.set_limit(limit);
            take_all(collector)
                .into_iter()
                .map(|(record, time)| (format!("{record:?}"), time))
                .collect()
        })
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

/// How instances are made.
pub(super) struct Setup<In, Out> {
    factory: Factory<In, Out>,
    pub(super) info: SubtaskInfo,
    pub(super) clock: Arc<ManualClock>,
    pub(super) sides: Vec<Box<dyn Side>>,
    pub(super) parameters: Arc<JobParameters>,
    pub(super) metrics: MetricRegistry,
}

impl<In, Out> fmt::Debug for Setup<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// What an instance is asked to do.
#[derive(Debug)]
pub(super) enum Call {
    Process,
    Watermark(i64),
    ProcessingTime(i64),
    Backlog(bool),
    End,
}

impl<In, Out> Setup<In, Out> {
    pub(super) fn new(factory: Factory<In, Out>) -> Self {
        Self {
            factory,
            info: SubtaskInfo::single("tested"),
            clock: ManualClock::new(),
            sides: Vec::new(),
            parameters: Arc::default(),
            metrics: MetricRegistry::new(METRICS_MAX),
        }
    }

    pub(super) fn add_side<T: fmt::Debug + Send + 'static>(&mut self, tag: &OutputTag<T>) {
        self.sides.push(Box::new(TypedSide(tag.clone())));
    }

    /// A new instance, opened, at event time `watermark`.
    pub(super) fn open(
        &self,
        restored: Option<&OperatorSnapshot>,
        watermark: i64,
    ) -> Result<Instance<In, Out>> {
        // An instance's metrics begin anew, as those of a restarted task do.
        let metrics = self.metrics.group(MetricScope::root());
        metrics.close();
        let services = Services::new(self.info.clone(), self.clock.clone(), SideOutputs::default());
        let services = services.in_job(self.parameters.clone(), metrics);
        self.sides.iter().for_each(|side| side.add(&services));
        services.set_watermark(watermark);
        let groups = self.info.key_groups.clone();
        let restored = restored.map(|snapshot| snapshot.for_key_groups(groups));
        let mut operator = (self.factory)();
        operator.open(&mut OpenContext::new(&services, restored.as_ref()))?;
        Ok(Instance {
            operator,
            services,
            futures: Vec::new(),
            completed: VecDeque::new(),
        })
    }
}

pub(super) struct Instance<In, Out> {
    operator: Box<dyn Operator<In, Out>>,
    pub(super) services: Services,
    futures: Vec<(CompletionId, TaskFuture)>,
    completed: VecDeque<Completion>,
}

impl<In, Out> fmt::Debug for Instance<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

impl<In, Out> Instance<In, Out> {
    /// Makes one call.
    pub(super) fn call(
        &mut self,
        call: &Call,
        input: &mut Batch<In>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let cx = self.services.cx();
        match call {
            Call::Process => self.operator.process(input, cx, out, b),
            Call::Watermark(wm) => self.operator.on_watermark(*wm, cx, out, b),
            Call::ProcessingTime(now) => self.operator.on_processing_time(*now, cx, out, b),
            Call::Backlog(backlog) => self.operator.on_backlog(*backlog, cx, out, b),
            Call::End => self.operator.end_input(cx, out, b),
        }
    }

    /// Hands over the result of a future that is ready. `None` when there is none.
    pub(super) fn complete(&mut self, out: &mut Collector<Out>, b: &mut Budget) -> Option<Result<Progress>> {
        self.futures.extend(self.services.take_spawned());
        let mut context = Context::from_waker(Waker::noop());
        let mut i = 0;
        while i < self.futures.len() {
            match self.futures[i].1.as_mut().poll(&mut context) {
                Poll::Ready(value) => {
                    let (id, _) = self.futures.remove(i);
                    self.completed.push_back(Completion { id, value });
                }
                Poll::Pending => i += 1,
            }
        }
        let done = self.completed.front_mut()?;
        let result = self.operator.on_completion(done, self.services.cx(), out, b);
        if matches!(result, Ok(Progress::Done)) {
            self.completed.pop_front();
        }
        Some(result)
    }

    /// Prepares for a barrier.
    pub(super) fn before_barrier(
        &mut self,
        id: u64,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.operator
            .before_barrier(CheckpointId(id), self.services.cx(), out, b)
    }

    /// What the operator remembers, as it will be read from a store.
    pub(super) fn snapshot(&mut self) -> Result<OperatorSnapshot> {
        let mut snapshot = OperatorSnapshot::default();
        self.operator.snapshot(&mut snapshot)?;
        while !self
            .operator
            .continue_snapshot(&mut snapshot, &mut ScanBudget::unbounded())?
        {}
        snapshot.decode_sections()?;
        let bytes = hurtig_state::snapshot::encode(&snapshot)?;
        hurtig_state::snapshot::decode(&bytes)
    }

    /// Tells the operator what became of a checkpoint.
    pub(super) fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()> {
        self.operator.on_checkpoint(event, self.services.cx())
    }

    pub(super) fn close(&mut self) -> Result<()> {
        self.operator.close()
    }

    /// Takes what a side output has received.
    pub(super) fn take_side<T: 'static>(&self, name: &str) -> Option<Vec<(T, i64)>> {
        let mut sinks = self.services.side().sinks();
        let sink = sinks.iter_mut().find(|sink| sink.name() == name)?;
        sink.collector().downcast_mut::<Collector<T>>().map(take_all)
    }
}
