//! The head of a task that reads two streams.

use super::capture::InFlightPart;
use super::cut::Arrival;
use super::driver::{Call, Driver};
use super::gate::InputGate;
use super::link::{AnyLink, Link, typed};
use super::merged::MergedEvents;
use super::replay::InFlightRestore;
use super::{Head, NodeStats, Turn, Turned};
use crate::operator::{
    Budget, CheckpointEvent, Collector, Cx, InputMask, OpenContext, Progress, Services, TwoInputOperator,
};
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_core::{Barrier, Batch, Event, Result};
use hurtig_state::{OperatorSnapshot, ScanBudget};
use std::marker::PhantomData;

/// Two gates and the operator that reads them.
pub struct TwoInputHead<A, B, Out, O> {
    operator: O,
    driver: Driver,
    first: InputGate<A>,
    second: InputGate<B>,
    first_batch: Batch<A>,
    second_batch: Batch<B>,
    second_next: bool,
    /// What is at hand was captured: barriers go before it.
    captured: bool,
    events: MergedEvents,
    out: PhantomData<fn() -> Out>,
}

impl<A, B, Out, O: TwoInputOperator<A, B, Out>> TwoInputHead<A, B, Out, O> {
    /// The head of `operator` with its inputs.
    pub fn new(operator: O, first: InputGate<A>, second: InputGate<B>, services: Services) -> Self {
        let modes: Vec<_> = first.modes().chain(second.modes()).collect();
        let events = MergedEvents::new(&modes, first.len());
        Self {
            operator,
            driver: Driver::new(services),
            first,
            second,
            first_batch: Batch::new(),
            second_batch: Batch::new(),
            second_next: false,
            captured: false,
            events,
            out: PhantomData,
        }
    }

    /// Reads a batch or events from the inputs that the operator wants, which take turns.
    fn receive(&mut self) -> Result<()> {
        // An input that has ended cannot be waited for.
        let wants = match self.operator.wants() {
            InputMask::First if self.first.all_ended() => InputMask::Both,
            InputMask::Second if self.second.all_ended() => InputMask::Both,
            wants => wants,
        };
        for _ in 0..2 {
            let second = self.second_next;
            self.second_next = !second;
            if second && wants != InputMask::First {
                if let Some(batch) = self.second.next_batch(self.first.len(), &mut self.events)? {
                    self.second_batch = batch;
                    return Ok(());
                }
            } else if !second
                && wants != InputMask::Second
                && let Some(batch) = self.first.next_batch(0, &mut self.events)?
            {
                self.first_batch = batch;
                return Ok(());
            }
            if !self.events.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Captures what is at hand. Whether barriers may go before it.
    fn capture_rest(&mut self) -> Result<bool> {
        let (first, second) = (&mut self.first_batch, &mut self.second_batch);
        let of_first = first.is_empty() || self.first.capture_rest(0, first, &mut self.events)?;
        let begins = self.first.len();
        let of_second = second.is_empty() || self.second.capture_rest(begins, second, &mut self.events)?;
        Ok(of_first && of_second)
    }

    fn is_replaying(&self) -> (bool, bool) {
        (self.first.is_replaying(), self.second.is_replaying())
    }
}

fn dispatch<A, B, Out, O: TwoInputOperator<A, B, Out>>(
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

impl<A, B, Out, O> TwoInputHead<A, B, Out, O>
where
    Out: Send + 'static,
    O: TwoInputOperator<A, B, Out>,
{
    fn process(&mut self, output: &mut Link<Out>, turn: &Turn<'_, '_>) -> Result<Turned> {
        let before = self.first_batch.len() + self.second_batch.len();
        let (operator, first, second) = (&mut self.operator, &mut self.first_batch, &mut self.second_batch);
        self.driver.run(turn, &mut output.collector, |cx, out, budget| {
            if first.is_empty() {
                operator.process_second(second, cx, out, budget)
            } else {
                operator.process_first(first, cx, out, budget)
            }
        })?;
        self.driver.records_in += (before - self.first_batch.len() - self.second_batch.len()) as u64;
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
        output.event = Some(event);
        self.driver.pass_to_sides(event, turn.now);
    }
}

impl<A, B, Out, O> Head for TwoInputHead<A, B, Out, O>
where
    A: Send + 'static,
    B: Send + 'static,
    Out: Send + 'static,
    O: TwoInputOperator<A, B, Out>,
{
    fn open(&mut self, restored: Option<&OperatorSnapshot>) -> Result<()> {
        self.operator
            .open(&mut OpenContext::new(&self.driver.services, restored))
    }

    fn pull(&mut self, output: &mut dyn AnyLink, turn: &mut Turn<'_, '_>) -> Result<Turned> {
        self.events.is_now(turn.now);
        if !self.driver.settle_sides(turn.now) {
            return Ok(Turned::Blocked);
        }
        // Whoever keeps the link full says why: it is blocked itself, or waits for a future.
        if !output.is_open() {
            return Ok(Turned::Starved);
        }
        let output = typed::<Out>(output);
        if self.driver.has_unsaid()
            && let Some(event) = self.driver.own_event(&mut output.collector)
        {
            self.pass(event, output, turn);
            return Ok(Turned::Worked);
        }
        if let Some(call) = self.driver.next_call(turn) {
            return self.call(call, output, turn);
        }
        if self.driver.is_waiting() || self.driver.is_ended() {
            return Ok(Turned::Starved);
        }
        if self.first_batch.is_empty() && self.second_batch.is_empty() && self.events.is_empty() {
            let was_replaying = self.is_replaying();
            self.receive()?;
            // A gate that has just come to its own channels has not looked at them.
            let received =
                !self.first_batch.is_empty() || !self.second_batch.is_empty() || !self.events.is_empty();
            if was_replaying != self.is_replaying() && !received {
                self.receive()?;
            }
        }
        let behind = self.captured && !self.events.is_empty();
        if !behind && (!self.first_batch.is_empty() || !self.second_batch.is_empty()) {
            self.captured = false;
            return self.process(output, turn);
        }
        if self.driver.has_futures() && self.first.all_ended() && self.second.all_ended() {
            return Ok(Turned::Starved);
        }
        match self.events.pop() {
            Some(Event::Watermark(wm)) => {
                self.driver.services.set_watermark(wm);
                self.call(Call::Watermark(wm), output, turn)
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

    fn wake_at(&self) -> (Option<Time>, i64) {
        (None, self.driver.wake_at())
    }

    fn flush_due(&mut self, now: Time) {
        self.driver.flush_sides_due(now);
    }

    fn flush_idle(&mut self, now: Time) -> Option<Time> {
        self.driver.flush_sides_idle(now)
    }

    fn is_flushed(&self) -> bool {
        self.driver.sides_flushed()
    }

    fn continue_snapshot(&mut self, budget: &mut ScanBudget) -> Result<bool> {
        self.scan(budget)
    }

    fn begin_in_backlog(&mut self, inputs: &[bool]) {
        self.events.begin_in_backlog(inputs);
    }

    fn trigger(&mut self, barrier: Barrier) -> bool {
        self.events.trigger(barrier)
    }

    fn look(&mut self, now: Time, _output: &mut dyn AnyLink) -> Result<Time> {
        let second = self.first.len();
        self.events.is_now(now);
        self.first.hear(0, &mut self.events)?;
        self.second.hear(second, &mut self.events)?;
        if self.events.overtake(now) {
            self.captured = self.capture_rest()?;
            self.first.capture(0, &mut self.events)?;
            self.second.capture(second, &mut self.events)?;
        }
        Ok(self.events.look_again(now))
    }

    fn passed(&self) -> Option<Barrier> {
        self.events.passed()
    }

    fn arrival(&self) -> Arrival {
        self.events.arrival()
    }

    fn take_in_flight(&mut self, checkpoint: CheckpointId) -> InFlightPart {
        self.events.take_in_flight(checkpoint)
    }

    fn replay(&mut self, mut restored: InFlightRestore) -> Result<()> {
        if self.first.replay(0, &mut restored)? | self.second.replay(1, &mut restored)? {
            self.events.replay(&restored);
        }
        Ok(())
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

    fn abort(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.events.abort(checkpoint);
        Ok(())
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

    fn close(&mut self) -> Result<()> {
        self.operator.close()
    }

    fn accumulators(&self) -> AccumulatorValues {
        self.driver.services.accumulators().values()
    }

    fn stats(&self) -> Option<NodeStats> {
        Some(self.driver.stats())
    }
}
