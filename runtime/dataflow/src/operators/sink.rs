//! The end of a stream: an operator around a [`SinkWriter`].

use super::when_empty;
use crate::operator::{Budget, CheckpointEvent, Collector, Cx, OpenContext, Operator, Progress};
use crate::sink::SinkWriter;
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Error, Result};
use hurtig_state::OperatorSnapshot;

/// Hands batches to a writer, and flushes it before barriers, at the end, and when the task goes
/// idle.
pub struct SinkOperator<T> {
    writer: Box<dyn SinkWriter<T>>,
    scratch: Batch<T>,
    /// Something was written since the last flush.
    dirty: bool,
}

impl<T> std::fmt::Debug for SinkOperator<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SinkOperator(dirty: {})", self.dirty)
    }
}

impl<T> SinkOperator<T> {
    /// The operator around `writer`.
    pub fn new(writer: Box<dyn SinkWriter<T>>) -> Self {
        Self {
            writer,
            scratch: Batch::new(),
            dirty: false,
        }
    }

    fn flush(&mut self) -> Result<()> {
        if std::mem::take(&mut self.dirty) {
            self.writer.flush()
        } else {
            Ok(())
        }
    }

    fn check_written(left: usize, cx: Cx<'_>) -> Result<()> {
        if left == 0 {
            return Ok(());
        }
        let sink = &cx.info().operator;
        Err(Error::user(format!(
            "the writer of sink '{sink}' returned with {left} records not taken: SinkWriter::write must leave the batch empty"
        )))
    }
}

impl<T: Send> Operator<T, ()> for SinkOperator<T> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.writer.open(ctx)
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.writer.declare(ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<T>,
        cx: Cx<'_>,
        _: &mut Collector<()>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let n = b.take(input.len());
        if n == 0 {
            return Ok(when_empty(input));
        }
        self.dirty = true;
        if n == input.len() {
            self.writer.write(input, cx)?;
            Self::check_written(input.len(), cx)?;
        } else {
            self.scratch.append(input, n);
            self.writer.write(&mut self.scratch, cx)?;
            Self::check_written(self.scratch.len(), cx)?;
        }
        Ok(when_empty(input))
    }

    fn before_barrier(
        &mut self,
        id: CheckpointId,
        _: Cx<'_>,
        _: &mut Collector<()>,
        _: &mut Budget,
    ) -> Result<Progress> {
        self.writer.before_barrier(id)?;
        self.dirty = false;
        Ok(Progress::Done)
    }

    fn on_backlog(
        &mut self,
        backlog: bool,
        _: Cx<'_>,
        _: &mut Collector<()>,
        _: &mut Budget,
    ) -> Result<Progress> {
        self.writer.on_backlog(backlog)?;
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.writer.snapshot(snapshot)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent, _: Cx<'_>) -> Result<()> {
        self.writer.on_checkpoint(event)
    }

    fn uncommitted(&self) -> bool {
        self.writer.uncommitted()
    }

    fn end_input(&mut self, _: Cx<'_>, _: &mut Collector<()>, _: &mut Budget) -> Result<Progress> {
        self.flush()?;
        self.writer.end_input()?;
        Ok(Progress::Done)
    }

    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        _: &mut Collector<()>,
        _: &mut Budget,
    ) -> Result<Progress> {
        self.writer.on_processing_time(now, cx)?;
        Ok(Progress::Done)
    }

    fn on_idle(&mut self, _: Cx<'_>) -> Result<()> {
        self.flush()
    }

    fn close(&mut self) -> Result<()> {
        self.flush()?;
        self.writer.close()
    }
}
