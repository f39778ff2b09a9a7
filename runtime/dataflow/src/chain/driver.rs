//! What every operator of a chain has around it: its services, its futures, and the call that is
//! still to be completed.

use super::{NodeStats, Turn};
use crate::operator::{Budget, Collector, Completion, CompletionId, Cx, Progress, Services, TaskFuture};
use hurtig_core::element::WatermarkStatus;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_core::{Barrier, Error, Event, Result};
use hurtig_state::{OperatorSnapshot, ScanBudget};
use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;

/// A call that is repeated until it is done.
#[derive(Debug)]
pub(crate) enum Call {
    Watermark(i64),
    ProcessingTime(i64),
    Completion(Completion),
    Barrier(Barrier),
    Backlog(bool),
    End,
}

/// Calls are repeated with the same arguments, so an operator may be asked to do this much at most
/// in one: adapted to what it costs, so that one call fits a fraction of the quantum.
const MIN_FUEL: u32 = 16;
const MAX_FUEL: u32 = 1 << 16;
const FIRST_FUEL: u32 = 1_024;
/// A call should not take longer than this.
const CALL_BOUND: Duration = Duration::from_micros(500);

pub(crate) struct Driver {
    pub(crate) services: Services,
    futures: Vec<(CompletionId, TaskFuture)>,
    completed: VecDeque<Completion>,
    call: Option<Call>,
    /// Calls that returned `Wait`, repeated from the last once a completion was handed over.
    suspended: Vec<Call>,
    waiting: bool,
    fuel: u32,
    /// The next call is timed, although its task is not slow.
    unmeasured: bool,
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) watermark: i64,
    side_event: Option<Event>,
    /// Snapshots that wait for their barriers to leave the task, the last of them maybe not ended.
    taken: VecDeque<(CheckpointId, OperatorSnapshot)>,
    /// The last of them has begun and not ended.
    scanning: bool,
    /// The checkpoint of the one that has not ended was given up.
    given_up: bool,
    /// The operator may have more to say about event time than found place in one event.
    unsaid: bool,
    /// The end of input was passed on: nothing may follow it.
    ended: bool,
}

impl Driver {
    pub(crate) fn new(services: Services) -> Self {
        Self {
            services,
            futures: Vec::new(),
            completed: VecDeque::new(),
            call: None,
            suspended: Vec::new(),
            waiting: false,
            fuel: FIRST_FUEL,
            unmeasured: true,
            records_in: 0,
            records_out: 0,
            watermark: i64::MIN,
            side_event: None,
            taken: VecDeque::new(),
            scanning: false,
            given_up: false,
            unsaid: false,
            ended: false,
        }
    }

    /// Sends side outputs on; true when none of them holds anything back.
    fn drain_sides(&self, now: Time) -> bool {
        self.services
            .side()
            .sinks()
            .iter_mut()
            .fold(true, |all, sink| sink.drain(now) & all)
    }

    /// Polls the operator's futures and chooses what comes before any input: a call in progress, a
    /// completion, or processing time that is due. `None` when input may be processed.
    pub(crate) fn next_call(&mut self, turn: &mut Turn<'_, '_>) -> Option<Call> {
        if self.ended {
            return None;
        }
        self.poll_futures(turn);
        if self.waiting {
            // Only a completion ends the wait; what waited is called again after it.
            if self.completed.is_empty() {
                return None;
            }
            self.waiting = false;
            self.suspended.extend(self.call.take());
        }
        if let Some(call) = self.call.take() {
            return Some(call);
        }
        if let Some(done) = self.completed.pop_front() {
            return Some(Call::Completion(done));
        }
        if let Some(call) = self.suspended.pop() {
            return Some(call);
        }
        if self.services.wake_at() <= turn.wall_ms {
            self.services.clear_schedule();
            return Some(Call::ProcessingTime(turn.wall_ms));
        }
        None
    }

    /// Wall-clock milliseconds at which the operator wants to be called; `i64::MAX` for never.
    pub(crate) fn wake_at(&self) -> i64 {
        if self.ended {
            i64::MAX
        } else {
            self.services.wake_at()
        }
    }

    /// Whether the operator waits for one of its futures.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    fn poll_futures(&mut self, turn: &mut Turn<'_, '_>) {
        if self.services.has_spawned() {
            self.futures.extend(self.services.take_spawned());
        }
        let mut i = 0;
        while i < self.futures.len() {
            match self.futures[i].1.as_mut().poll(turn.task) {
                Poll::Ready(value) => {
                    let (id, _) = self.futures.swap_remove(i);
                    self.completed.push_back(Completion { id, value });
                }
                Poll::Pending => i += 1,
            }
        }
    }

    /// Whether futures are still running or their results have not been handed over.
    pub(crate) fn has_futures(&self) -> bool {
        !self.futures.is_empty() || !self.completed.is_empty() || self.services.has_spawned()
    }

    /// Runs one call within the operator's fuel, adapts the fuel to its cost, and checks that
    /// `More` has achieved something.
    pub(crate) fn run<Out>(
        &mut self,
        turn: &Turn<'_, '_>,
        out: &mut Collector<Out>,
        call: impl FnOnce(Cx<'_>, &mut Collector<Out>, &mut Budget) -> Result<Progress>,
    ) -> Result<Progress> {
        let mut budget = Budget::new(self.fuel);
        let before = out.len();
        let started = (turn.measure || self.unmeasured).then(|| turn.clock.now());
        let progress = call(self.services.cx(), out, &mut budget);
        let took = started.map(|started| turn.clock.now().since(started));
        let progress = progress?;
        self.records_out += out.len().saturating_sub(before) as u64;
        let spent = self.fuel - budget.left();
        if progress == Progress::More && spent == 0 && !out.full() && !self.services.side().full() {
            return Err(Error::internal(
                "asked to be called again without having used fuel or filled its output",
            ));
        }
        if let Some(took) = took {
            self.adapt_fuel(spent, took);
        }
        // Whether more fuel would be used is known only now, and what it may cost has to be measured.
        self.unmeasured = spent == self.fuel;
        self.waiting = progress == Progress::Wait;
        if self.waiting && !self.has_futures() {
            return Err(Error::internal("waits for a future but has spawned none"));
        }
        Ok(progress)
    }

    fn adapt_fuel(&mut self, spent: u32, took: Duration) {
        if took > CALL_BOUND && spent > MIN_FUEL {
            self.fuel = (self.fuel / 2).max(MIN_FUEL);
        } else if spent == self.fuel && took < CALL_BOUND / 4 {
            self.fuel = (self.fuel * 2).min(MAX_FUEL);
        }
    }

    /// Runs a call other than `process`; keeps it when it is not done. Returns the event that is
    /// to be passed on when it is.
    pub(crate) fn run_call<Out>(
        &mut self,
        mut call: Call,
        turn: &Turn<'_, '_>,
        out: &mut Collector<Out>,
        dispatch: impl FnOnce(&mut Call, Cx<'_>, &mut Collector<Out>, &mut Budget) -> Result<Progress>,
    ) -> Result<Option<Event>> {
        let progress = self.run(turn, out, |cx, out, budget| dispatch(&mut call, cx, out, budget))?;
        if progress != Progress::Done {
            self.call = Some(call);
            return Ok(None);
        }
        let held = self.services.take_held();
        match call {
            // What the operator has to say about event time comes behind the barrier.
            Call::Barrier(barrier) => {
                self.unsaid = true;
                return Ok(Some(Event::Barrier(barrier)));
            }
            // So is what it has to say at the turn of backlog.
            Call::Backlog(backlog) => {
                self.unsaid = true;
                return Ok(Some(Event::Backlog(backlog)));
            }
            Call::End => {
                (self.ended, self.unsaid) = (true, false);
                return Ok(Some(Event::EndOfInput));
            }
            Call::Watermark(wm) if !held => {
                out.take_watermark();
                out.watermark(wm);
            }
            _ => {}
        }
        Ok(self.own_event(out))
    }

    /// What the operator says about event time: a turn to active, a watermark, a turn to idle, one at
    /// a time in this order.
    pub(crate) fn own_event<Out>(&mut self, out: &mut Collector<Out>) -> Option<Event> {
        let turned = self.services.turned_status();
        self.unsaid = turned.is_some();
        if turned == Some(WatermarkStatus::Active) {
            self.services.status_told();
            return turned.map(Event::Status);
        }
        if let Some(wm) = out.take_watermark().filter(|&wm| wm > self.watermark) {
            self.watermark = wm;
            return Some(Event::Watermark(wm));
        }
        self.unsaid = false;
        self.services.status_told();
        turned.map(Event::Status)
    }

    /// Whether [`Driver::own_event`] is to be asked before the operator is called again.
    pub(crate) fn has_unsaid(&self) -> bool {
        self.unsaid
    }

    /// Whether an event from above ends here, because the operator decides itself.
    pub(crate) fn keeps_back(&self, event: Event) -> bool {
        matches!(event, Event::Status(_)) && self.services.owns_status()
    }

    /// Sends an event to all side outputs, behind what they hold. One that finds no room is kept;
    /// no record can overtake it, because the operator is not called before
    /// [`Driver::settle_sides`] has sent it.
    pub(crate) fn pass_to_sides(&mut self, event: Event, now: Time) {
        debug_assert!(self.side_event.is_none(), "one event at a time");
        self.side_event = Some(event);
        self.settle_sides(now);
    }

    /// Sends side outputs on, and the event that waits behind them. True when nothing is left.
    pub(crate) fn settle_sides(&mut self, now: Time) -> bool {
        if !self.drain_sides(now) {
            return false;
        }
        match self.side_event.take() {
            Some(event) => {
                self.services
                    .side()
                    .sinks()
                    .iter_mut()
                    .for_each(|sink| sink.send_event(event));
                self.drain_sides(now)
            }
            None => true,
        }
    }

    /// Prepares the operator for a barrier behind the end of its input, which nothing can follow.
    pub(crate) fn prepare_at_end<Out>(
        &mut self,
        before_barrier: impl FnOnce(Cx<'_>, &mut Collector<Out>, &mut Budget) -> Result<Progress>,
    ) -> Result<()> {
        let (mut out, mut budget) = (Collector::default(), Budget::new(MAX_FUEL));
        let progress = before_barrier(self.services.cx(), &mut out, &mut budget)?;
        if progress != Progress::Done || !out.is_empty() {
            let problem = "has something to emit or to wait for at a barrier behind the end of its input";
            return Err(Error::internal(problem));
        }
        Ok(())
    }

    /// Whether the end of input was passed on.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The operator had finished before: nothing but the end of its side outputs follows.
    pub(crate) fn finish_at_once(&mut self, now: Time) {
        self.ended = true;
        self.pass_to_sides(Event::EndOfInput, now);
    }

    /// Keeps a snapshot that has begun at a barrier until [`Self::take_snapshot`]. The one before must have
    /// ended.
    pub(crate) fn keep_snapshot(&mut self, checkpoint: CheckpointId, snapshot: OperatorSnapshot) {
        debug_assert!(!self.scanning, "one snapshot at a time");
        self.taken.push_back((checkpoint, snapshot));
        self.scanning = true;
    }

    /// Goes on with the last snapshot, as `go_on` does; true when it has ended.
    pub(crate) fn continue_snapshot(
        &mut self,
        budget: &mut ScanBudget,
        go_on: impl FnOnce(&mut OperatorSnapshot, &mut ScanBudget) -> Result<bool>,
    ) -> Result<bool> {
        if self.scanning {
            // Whose checkpoint was given up goes nowhere.
            let mut nowhere = OperatorSnapshot::default();
            let snapshot = match self.taken.back_mut().filter(|_| !self.given_up) {
                Some((_, snapshot)) => snapshot,
                None => &mut nowhere,
            };
            self.scanning = !go_on(snapshot, budget)?;
            self.given_up &= self.scanning;
        }
        Ok(!self.scanning)
    }

    /// What the operator remembered at a barrier. Snapshots of earlier ones are dropped.
    pub(crate) fn take_snapshot(&mut self, checkpoint: CheckpointId) -> Option<OperatorSnapshot> {
        while let Some((id, snapshot)) = self.taken.pop_front() {
            if id == checkpoint {
                return Some(snapshot);
            }
        }
        None
    }

    /// Tells the operator about a checkpoint.
    pub(crate) fn forget_snapshots(&mut self, checkpoint: CheckpointId) {
        let last = self.taken.back().is_some_and(|(id, _)| *id == checkpoint);
        self.given_up |= self.scanning && last;
        self.taken.retain(|(id, _)| *id != checkpoint);
    }

    pub(crate) fn stats(&self) -> NodeStats {
        NodeStats {
            operator: self.services.info().operator.clone(),
            records_in: self.records_in,
            records_out: self.records_out,
            watermark: self.watermark,
            input_watermark: self.services.cx().watermark(),
            backlog: self.services.cx().is_backlog(),
        }
    }

    pub(crate) fn sides_flushed(&self) -> bool {
        self.side_event.is_none() && self.services.side().sinks().iter().all(|sink| sink.is_flushed())
    }

    pub(crate) fn flush_sides_due(&self, now: Time) {
        self.services
            .side()
            .sinks()
            .iter_mut()
            .for_each(|sink| sink.flush_due(now));
    }

    pub(crate) fn flush_sides_idle(&self, now: Time) -> Option<Time> {
        self.services
            .side()
            .sinks()
            .iter_mut()
            .filter_map(|sink| sink.flush_idle(now))
            .min()
    }
}
