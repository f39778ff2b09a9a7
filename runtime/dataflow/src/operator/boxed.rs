//! A boxed operator is an operator: one more virtual call a batch.

use super::{Budget, CheckpointEvent, Collector, Completion, Cx, OpenContext, Operator, Progress};
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Result};
use hurtig_state::{OperatorSnapshot, ScanBudget};

impl<In, Out> Operator<In, Out> for Box<dyn Operator<In, Out>> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        (**self).open(ctx)
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        (**self).declare(ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<In>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        (**self).process(input, cx, out, b)
    }

    fn on_watermark(
        &mut self,
        wm: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        (**self).on_watermark(wm, cx, out, b)
    }

    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        (**self).on_processing_time(now, cx, out, b)
    }

    fn on_completion(
        &mut self,
        done: &mut Completion,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        (**self).on_completion(done, cx, out, b)
    }

    fn before_barrier(
        &mut self,
        id: CheckpointId,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        (**self).before_barrier(id, cx, out, b)
    }

    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        (**self).on_backlog(backlog, cx, out, b)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        (**self).snapshot(snapshot)
    }

    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        (**self).continue_snapshot(snapshot, budget)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent, cx: Cx<'_>) -> Result<()> {
        (**self).on_checkpoint(event, cx)
    }

    fn uncommitted(&self) -> bool {
        (**self).uncommitted()
    }

    fn on_idle(&mut self, cx: Cx<'_>) -> Result<()> {
        (**self).on_idle(cx)
    }

    fn end_input(&mut self, cx: Cx<'_>, out: &mut Collector<Out>, b: &mut Budget) -> Result<Progress> {
        (**self).end_input(cx, out, b)
    }

    fn close(&mut self) -> Result<()> {
        (**self).close()
    }
}
