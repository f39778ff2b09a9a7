//! One operator in a chain.

use super::driver::{Call, Driver};
use super::link::{AnyLink, Link, typed};
use super::{NodeStats, Turn, Turned};
use crate::operator::{Budget, CheckpointEvent, Collector, Cx, OpenContext, Operator, Progress, Services};
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_core::{Event, Result};
use hurtig_state::{OperatorSnapshot, ScanBudget};
use std::marker::PhantomData;

/// An operator whose types its neighbours know.
pub trait Node: Send {
    /// Opens the operator.
    fn open(&mut self, restored: Option<&OperatorSnapshot>) -> Result<()>;
    /// Makes one step if there is anything to do and room for its output.
    fn turn(
        &mut self,
        input: &mut dyn AnyLink,
        output: &mut dyn AnyLink,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Turned>;
    /// Wall-clock milliseconds at which the operator wants to be called; `i64::MAX` for never.
    fn wake_at(&self) -> i64;
    /// Hands over side output buffers that have waited for the buffer timeout.
    fn flush_due(&mut self, now: Time);
    /// The task goes idle: hands over side outputs; returns when to call again.
    fn flush_idle(&mut self, now: Time) -> Option<Time>;
    /// The task goes idle: the operator hands over what it buffers for the outside.
    fn on_idle(&mut self) -> Result<()>;
    /// Whether side outputs hold nothing back.
    fn is_flushed(&self) -> bool;
    /// Goes on with the snapshot that began when a barrier passed, until the budget is spent. True when it has
    /// ended.
    fn continue_snapshot(&mut self, budget: &mut ScanBudget) -> Result<bool>;
    /// What the operator remembered when a barrier passed, once its snapshot has ended; once.
    fn take_snapshot(&mut self, checkpoint: CheckpointId) -> Option<OperatorSnapshot>;
    /// A checkpoint has completed or was given up.
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()>;
    /// Whether the operator waits for a checkpoint to commit what it has written.
    fn uncommitted(&self) -> bool;
    /// Sends on what side outputs hold back; true when nothing is left.
    fn settle(&mut self, now: Time) -> bool;
    /// A barrier behind the end of input: keeps what the operator remembers.
    fn cut_at_end(&mut self, checkpoint: CheckpointId) -> Result<()>;
    /// The operator had finished before: it is neither opened nor called, and its side outputs end.
    fn finish_at_once(&mut self, now: Time);
    /// Ends a successful run.
    fn close(&mut self) -> Result<()>;
    /// The operator's accumulators.
    fn accumulators(&self) -> AccumulatorValues;
    /// Counts for metrics.
    fn stats(&self) -> NodeStats;
}

/// A [`Node`] around an operator.
pub struct OperatorNode<In, Out, O> {
    operator: O,
    driver: Driver,
    types: PhantomData<fn(In) -> Out>,
}

impl<In, Out, O: Operator<In, Out>> OperatorNode<In, Out, O> {
    /// The node of `operator`, which runs with `services`.
    pub fn new(operator: O, services: Services) -> Self {
        Self {
            operator,
            driver: Driver::new(services),
            types: PhantomData,
        }
    }
}

fn dispatch<In, Out, O: Operator<In, Out>>(
    operator: &mut O,
    call: &mut Call,
    cx: Cx<'_>,
    out: &mut Collector<Out>,
    budget: &mut Budget,
) -> Result<Progress> {
    match call {
        Call::Watermark(wm) => operator.on_watermark(*wm, cx, out, budget),
        Call::ProcessingTime(now) => operator.on_processing_time(*now, cx, out, budget),
        Call::Completion(done) => operator.on_completion(done, cx, out, budget),
        Call::Barrier(barrier) => operator.before_barrier(barrier.checkpoint, cx, out, budget),
        Call::Backlog(backlog) => operator.on_backlog(*backlog, cx, out, budget),
        Call::End => operator.end_input(cx, out, budget),
    }
}

impl<In, Out, O> OperatorNode<In, Out, O>
where
    In: Send + 'static,
    Out: Send + 'static,
    O: Operator<In, Out>,
{
    fn process(
        &mut self,
        input: &mut Link<In>,
        output: &mut Link<Out>,
        turn: &Turn<'_, '_>,
    ) -> Result<Turned> {
        let batch = input.collector.batch();
        let before = batch.len();
        let operator = &mut self.operator;
        let progress = self.driver.run(turn, &mut output.collector, |cx, out, budget| {
            operator.process(batch, cx, out, budget)
        })?;
        let left = input.collector.len();
        debug_assert!(
            progress != Progress::Done || left == 0,
            "an operator left input behind"
        );
        self.driver.records_in += (before - left) as u64;
        if let Some(event) = self.driver.own_event(&mut output.collector) {
            self.pass(event, output, turn);
        }
        Ok(if self.driver.is_waiting() {
            Turned::Starved
        } else {
            Turned::Worked
        })
    }

    fn call(&mut self, call: Call, output: &mut Link<Out>, turn: &Turn<'_, '_>) -> Result<Turned> {
        let operator = &mut self.operator;
        let event = self
            .driver
            .run_call(call, turn, &mut output.collector, |call, cx, out, budget| {
                dispatch(operator, call, cx, out, budget)
            })?;
        if let Some(Event::Barrier(barrier)) = event {
            self.begin_snapshot(barrier.checkpoint)?;
        }
        if let Some(event) = event {
            self.pass(event, output, turn);
        }
        Ok(if self.driver.is_waiting() {
            Turned::Starved
        } else {
            Turned::Worked
        })
    }

    /// Begins a snapshot, behind the end of the one before.
    fn begin_snapshot(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.scan(&mut ScanBudget::unbounded())?;
        let mut snapshot = self.driver.services.begin_snapshot();
        self.operator.snapshot(&mut snapshot)?;
        self.driver.keep_snapshot(checkpoint, snapshot);
        Ok(())
    }

    fn scan(&mut self, budget: &mut ScanBudget) -> Result<bool> {
        let operator = &mut self.operator;
        self.driver.continue_snapshot(budget, |snapshot, budget| {
            operator.continue_snapshot(snapshot, budget)
        })
    }

    fn pass(&mut self, event: Event, output: &mut Link<Out>, turn: &Turn<'_, '_>) {
        debug_assert!(
            output.event.is_none(),
            "the event slot was free when the turn began"
        );
        output.event = Some(event);
        self.driver.pass_to_sides(event, turn.now);
    }
}

impl<In, Out, O> Node for OperatorNode<In, Out, O>
where
    In: Send + 'static,
    Out: Send + 'static,
    O: Operator<In, Out>,
{
    fn open(&mut self, restored: Option<&OperatorSnapshot>) -> Result<()> {
        self.operator
            .open(&mut OpenContext::new(&self.driver.services, restored))
    }

    fn turn(
        &mut self,
        input: &mut dyn AnyLink,
        output: &mut dyn AnyLink,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Turned> {
        if !self.driver.settle_sides(turn.now) || !output.is_open() {
            return Ok(Turned::Blocked);
        }
        if self.driver.has_unsaid() {
            let output = typed::<Out>(output);
            if let Some(event) = self.driver.own_event(&mut output.collector) {
                self.pass(event, output, turn);
                return Ok(Turned::Worked);
            }
        }
        if let Some(call) = self.driver.next_call(turn) {
            return self.call(call, typed::<Out>(output), turn);
        }
        if self.driver.is_waiting() || self.driver.is_ended() || input.is_empty() {
            return Ok(Turned::Starved);
        }
        let (input, output) = (typed::<In>(input), typed::<Out>(output));
        if !input.collector.is_empty() {
            return self.process(input, output, turn);
        }
        match input.event.take() {
            Some(Event::Watermark(wm)) => {
                self.driver.services.set_watermark(wm);
                self.call(Call::Watermark(wm), output, turn)
            }
            Some(Event::EndOfInput) if self.driver.has_futures() => {
                input.event = Some(Event::EndOfInput);
                Ok(Turned::Starved)
            }
            Some(Event::EndOfInput) => self.call(Call::End, output, turn),
            Some(Event::Barrier(barrier)) => self.call(Call::Barrier(barrier), output, turn),
            Some(Event::Backlog(backlog)) => {
                self.driver.services.set_backlog(backlog);
                self.call(Call::Backlog(backlog), output, turn)
            }
            Some(event) => {
                if !self.driver.keeps_back(event) {
                    self.pass(event, output, turn);
                }
                Ok(Turned::Worked)
            }
            None => Ok(Turned::Starved),
        }
    }

    fn wake_at(&self) -> i64 {
        self.driver.wake_at()
    }

    fn flush_due(&mut self, now: Time) {
        self.driver.flush_sides_due(now);
    }

    fn flush_idle(&mut self, now: Time) -> Option<Time> {
        self.driver.flush_sides_idle(now)
    }

    fn on_idle(&mut self) -> Result<()> {
        self.operator.on_idle(self.driver.services.cx())
    }

    fn is_flushed(&self) -> bool {
        self.driver.sides_flushed()
    }

    fn continue_snapshot(&mut self, budget: &mut ScanBudget) -> Result<bool> {
        self.scan(budget)
    }

    fn take_snapshot(&mut self, checkpoint: CheckpointId) -> Option<OperatorSnapshot> {
        self.driver.take_snapshot(checkpoint)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()> {
        if let CheckpointEvent::Aborted(checkpoint) = event {
            self.driver.forget_snapshots(checkpoint);
        }
        self.operator.on_checkpoint(event, self.driver.services.cx())
    }

    fn uncommitted(&self) -> bool {
        self.operator.uncommitted()
    }

    fn cut_at_end(&mut self, checkpoint: CheckpointId) -> Result<()> {
        let operator = &mut self.operator;
        self.driver
            .prepare_at_end(|cx, out: &mut Collector<Out>, budget| {
                operator.before_barrier(checkpoint, cx, out, budget)
            })?;
        self.begin_snapshot(checkpoint)
    }

    fn settle(&mut self, now: Time) -> bool {
        self.driver.settle_sides(now)
    }

    fn finish_at_once(&mut self, now: Time) {
        self.driver.finish_at_once(now);
    }

    fn close(&mut self) -> Result<()> {
        self.operator.close()
    }

    fn accumulators(&self) -> AccumulatorValues {
        self.driver.services.accumulators().values()
    }

    fn stats(&self) -> NodeStats {
        self.driver.stats()
    }
}
