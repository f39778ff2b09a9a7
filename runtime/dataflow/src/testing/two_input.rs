//! Two inputs as one, so that one set of instruments serves operators of either kind.

use crate::operator::{
    Budget, CheckpointEvent, Collector, Completion, Cx, OpenContext, Operator, Progress, TwoInputOperator,
};
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Result};
use hurtig_state::{OperatorSnapshot, ScanBudget};

/// A record of the first or of the second input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Either<A, B> {
    /// Of the first.
    First(A),
    /// Of the second.
    Second(B),
}

/// A two-input operator that reads both inputs from one batch, in order. It takes no notice of
/// [`TwoInputOperator::wants`].
#[derive(Debug)]
pub struct Joined<O>(O);

impl<O> Joined<O> {
    /// Wraps `operator`.
    pub fn new(operator: O) -> Self {
        Self(operator)
    }
}

/// The records that stand before the first one of the other side, and everything behind them.
fn split<A, B, T>(
    input: &mut Batch<Either<A, B>>,
    matching: impl Fn(Either<A, B>) -> Result<T, Either<A, B>>,
) -> (Batch<T>, Batch<Either<A, B>>) {
    let (mut run, mut rest) = (Batch::new(), Batch::new());
    while let Some((record, time)) = input.pop_front() {
        match matching(record) {
            Ok(record) => run.push(record, time),
            Err(other) => {
                rest.push(other, time);
                break;
            }
        }
    }
    while let Some((record, time)) = input.pop_front() {
        rest.push(record, time);
    }
    (run, rest)
}

/// Puts what was not consumed back in front.
fn join<A, B, T>(
    input: &mut Batch<Either<A, B>>,
    mut run: Batch<T>,
    mut rest: Batch<Either<A, B>>,
    wrap: impl Fn(T) -> Either<A, B>,
) {
    while let Some((record, time)) = run.pop_front() {
        input.push(wrap(record), time);
    }
    while let Some((record, time)) = rest.pop_front() {
        input.push(record, time);
    }
}

impl<O> Joined<O> {
    /// Processes the run of equal sides at the front. `None` when it was consumed to its end.
    fn run<A, B, Out>(
        &mut self,
        input: &mut Batch<Either<A, B>>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Option<Progress>>
    where
        O: TwoInputOperator<A, B, Out>,
    {
        let first = matches!(input.records().first(), Some(Either::First(_)));
        let (progress, consumed);
        if first {
            let (mut run, rest) = split(input, |e| match e {
                Either::First(a) => Ok(a),
                other => Err(other),
            });
            progress = self.0.process_first(&mut run, cx, out, b)?;
            consumed = run.is_empty();
            join(input, run, rest, Either::First);
        } else {
            let (mut run, rest) = split(input, |e| match e {
                Either::Second(b) => Ok(b),
                other => Err(other),
            });
            progress = self.0.process_second(&mut run, cx, out, b)?;
            consumed = run.is_empty();
            join(input, run, rest, Either::Second);
        }
        Ok((progress != Progress::Done || !consumed).then_some(progress))
    }
}

impl<A, B, Out, O> Operator<Either<A, B>, Out> for Joined<O>
where
    O: TwoInputOperator<A, B, Out>,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.0.open(ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<Either<A, B>>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        while !input.is_empty() {
            if let Some(progress) = self.run(input, cx, out, b)? {
                return Ok(progress);
            }
        }
        Ok(Progress::Done)
    }

    fn on_watermark(
        &mut self,
        wm: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.0.on_watermark(wm, cx, out, b)
    }

    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.0.on_processing_time(now, cx, out, b)
    }

    fn on_completion(
        &mut self,
        done: &mut Completion,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.0.on_completion(done, cx, out, b)
    }

    fn before_barrier(
        &mut self,
        id: CheckpointId,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.0.before_barrier(id, cx, out, b)
    }

    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.0.on_backlog(backlog, cx, out, b)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.0.snapshot(snapshot)
    }

    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        self.0.continue_snapshot(snapshot, budget)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent, cx: Cx<'_>) -> Result<()> {
        self.0.on_checkpoint(event, cx)
    }

    fn end_input(&mut self, cx: Cx<'_>, out: &mut Collector<Out>, b: &mut Budget) -> Result<Progress> {
        self.0.end_input(cx, out, b)
    }

    fn close(&mut self) -> Result<()> {
        self.0.close()
    }
}
