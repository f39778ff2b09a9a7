//! The operator contract.
//!
//! An operator is a brain: synchronous, without I/O, called with a batch or an event and a
//! [`Budget`], and done within it. One call may stop early and return [`Progress::More`]; it then
//! has spent fuel or filled its output, leaves the rest of its input in the batch, and is called
//! again with the same arguments. **Every return is a point at which [`Operator::snapshot`] is
//! legal**, also between two timers of one watermark.

mod accumulators;
mod boxed;
mod collector;
mod context;
mod side;

pub use accumulators::{Accumulators, MAX_ACCUMULATOR_BYTES, MAX_HISTOGRAM_VALUES};
pub use collector::{Collector, DEFAULT_BATCH_SIZE};
pub use context::{
    Completion, CompletionId, Cx, JobParameters, OpenContext, Services, SubtaskInfo, TaskFuture,
};
pub use side::{OutputTag, SideOutputs, SideSink};

use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Result};
use hurtig_state::{OperatorSnapshot, ScanBudget};
use serde::{Deserialize, Serialize};

/// What a call achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The call is complete.
    Done,
    /// Call again with the same arguments: fuel or room ran out.
    More,
    /// Call again after one of this operator's futures has completed.
    Wait,
}

/// How much a call may do, in records and timers; never a clock, so that a simulation repeats it.
#[derive(Debug)]
pub struct Budget {
    fuel: u32,
}

impl Budget {
    /// A budget of `fuel` records or timers.
    pub const fn new(fuel: u32) -> Self {
        Self { fuel }
    }

    /// Spends one; false when nothing is left, and then nothing may be done.
    #[inline]
    pub fn spend(&mut self) -> bool {
        if self.fuel == 0 {
            return false;
        }
        self.fuel -= 1;
        true
    }

    /// Spends up to `wanted` and returns how much was granted.
    #[inline]
    pub fn take(&mut self, wanted: usize) -> usize {
        let granted = u32::try_from(wanted).unwrap_or(u32::MAX).min(self.fuel);
        self.fuel -= granted;
        granted as usize
    }

    /// What is left.
    pub fn left(&self) -> u32 {
        self.fuel
    }
}

/// News about a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointEvent {
    /// It is durable; side effects up to it may be committed.
    Completed(CheckpointId),
    /// It will never complete.
    Aborted(CheckpointId),
}

/// An operator with one input.
///
/// All methods but `process` have defaults that fit a stateless operator.
pub trait Operator<In, Out>: Send {
    /// Called once before anything else, on the thread that will run the operator. Declares state
    /// and reads what a restore brought ([`OpenContext::restored`]).
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// Says in `ctx` which states the operator will have, and does nothing else: called before a job is restored, on
    /// an operator that is dropped afterwards, so that types that have changed are found before anything runs.
    /// Where opening has no effect on the outside, it may be that; nothing is restored then. States that are not
    /// declared here are compared when the operator opens.
    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// Consumes `input` from the front. `Done` only when it is empty.
    fn process(
        &mut self,
        input: &mut Batch<In>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress>;

    /// Event time has reached `wm`. The chain forwards the watermark after `Done`, unless the
    /// operator called [`Cx::hold_watermark`].
    fn on_watermark(
        &mut self,
        wm: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let _ = (wm, cx, out, b);
        Ok(Progress::Done)
    }

    /// Processing time has reached `now` (wall-clock milliseconds), at or after a time asked for
    /// with [`Cx::schedule`].
    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let _ = (now, cx, out, b);
        Ok(Progress::Done)
    }

    /// A future handed to [`Cx::spawn`] has completed.
    fn on_completion(
        &mut self,
        done: &mut Completion,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let _ = (done, cx, out, b);
        Ok(Progress::Done)
    }

    /// A barrier stands before the operator: emit or flush what must not be in the snapshot.
    fn before_barrier(
        &mut self,
        id: CheckpointId,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let _ = (id, cx, out, b);
        Ok(Progress::Done)
    }

    /// What follows is backlog, or is not any more; [`Cx::is_backlog`] says so already. What is emitted here goes before
    /// the news.
    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let _ = (backlog, cx, out, b);
        Ok(Progress::Done)
    }

    /// Begins a snapshot of everything that the operator remembers: adds what is small to `snapshot`, and marks
    /// what is large as it is now. Never waits, and does not take longer when there is more state.
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let _ = snapshot;
        Ok(())
    }

    /// Goes on with the snapshot that has begun, until the budget is spent, while records are processed between
    /// the calls. What it adds is what was there when the snapshot began. True when everything is added.
    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        let _ = (snapshot, budget);
        Ok(true)
    }

    /// A checkpoint has completed or was given up.
    fn on_checkpoint(&mut self, event: CheckpointEvent, cx: Cx<'_>) -> Result<()> {
        let _ = (event, cx);
        Ok(())
    }

    /// Whether something is to be committed when a checkpoint completes. At the end of its input, a task
    /// with such an operator waits for that checkpoint before it finishes.
    fn uncommitted(&self) -> bool {
        false
    }

    /// The task is about to go idle: hand over what is buffered for the outside. Emits nothing.
    fn on_idle(&mut self, cx: Cx<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// No input follows; emit what is left. Pending event-time timers have fired by then (the last
    /// watermark is [`hurtig_core::time::MAX_WATERMARK`]).
    fn end_input(&mut self, cx: Cx<'_>, out: &mut Collector<Out>, b: &mut Budget) -> Result<Progress> {
        let _ = (cx, out, b);
        Ok(Progress::Done)
    }

    /// Called once at the end of a successful run; not after a failure.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Which inputs a two-input operator is willing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputMask {
    /// Either, as they come.
    Both,
    /// Only the first.
    First,
    /// Only the second.
    Second,
}

/// An operator with two inputs of different types. Watermarks are merged over both.
pub trait TwoInputOperator<A, B, Out>: Send {
    /// As [`Operator::open`].
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// As [`Operator::declare`].
    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// Consumes records of the first input.
    fn process_first(
        &mut self,
        input: &mut Batch<A>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress>;

    /// Consumes records of the second input.
    fn process_second(
        &mut self,
        input: &mut Batch<B>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress>;

    /// Which inputs may be read next.
    fn wants(&self) -> InputMask {
        InputMask::Both
    }

    /// As [`Operator::on_watermark`], with the watermark of both inputs together.
    fn on_watermark(
        &mut self,
        wm: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let _ = (wm, cx, out, b);
        Ok(Progress::Done)
    }

    /// As [`Operator::on_processing_time`].
    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let _ = (now, cx, out, b);
        Ok(Progress::Done)
    }

    /// As [`Operator::on_completion`].
    fn on_completion(
        &mut self,
        done: &mut Completion,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let _ = (done, cx, out, b);
        Ok(Progress::Done)
    }

    /// As [`Operator::before_barrier`].
    fn before_barrier(
        &mut self,
        id: CheckpointId,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let _ = (id, cx, out, b);
        Ok(Progress::Done)
    }

    /// As [`Operator::on_backlog`], of both inputs together.
    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let _ = (backlog, cx, out, b);
        Ok(Progress::Done)
    }

    /// As [`Operator::snapshot`].
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let _ = snapshot;
        Ok(())
    }

    /// As [`Operator::continue_snapshot`].
    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        let _ = (snapshot, budget);
        Ok(true)
    }

    /// As [`Operator::on_checkpoint`].
    fn on_checkpoint(&mut self, event: CheckpointEvent, cx: Cx<'_>) -> Result<()> {
        let _ = (event, cx);
        Ok(())
    }

    /// As [`Operator::uncommitted`].
    fn uncommitted(&self) -> bool {
        false
    }

    /// Both inputs have ended.
    fn end_input(&mut self, cx: Cx<'_>, out: &mut Collector<Out>, b: &mut Budget) -> Result<Progress> {
        let _ = (cx, out, b);
        Ok(Progress::Done)
    }

    /// As [`Operator::close`].
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
