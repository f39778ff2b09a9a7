//! The sink contract: where streams leave the engine.

use crate::operator::{CheckpointEvent, Cx, OpenContext};
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Result};
use hurtig_state::OperatorSnapshot;

/// One subtask's writer. Calls may block briefly (a buffered file write); a writer that blocks for
/// longer says so in [`Sink::blocking`] and gets a thread of its own.
pub trait SinkWriter<T>: Send {
    /// Called once, on the thread that will run the writer.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// As [`Operator::declare`](crate::operator::Operator::declare).
    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// Writes the whole batch, leaving it empty.
    fn write(&mut self, batch: &mut Batch<T>, cx: Cx<'_>) -> Result<()>;

    /// Hands buffered records to the outside: called before a barrier, when the task is about to go
    /// idle and at the end of input.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Processing time has reached `now` (wall-clock milliseconds), at or after a time asked for with
    /// [`Cx::schedule`] when the writer was opened, written to or called here.
    fn on_processing_time(&mut self, now: i64, cx: Cx<'_>) -> Result<()> {
        let _ = (now, cx);
        Ok(())
    }

    /// What is written from now on is backlog, or is not any more: a writer may gather more of what nobody waits for.
    fn on_backlog(&mut self, backlog: bool) -> Result<()> {
        let _ = backlog;
        Ok(())
    }

    /// No record follows, but in a job that takes checkpoints a barrier.
    fn end_input(&mut self) -> Result<()> {
        Ok(())
    }

    /// A barrier stands before the writer.
    fn before_barrier(&mut self, id: CheckpointId) -> Result<()> {
        let _ = id;
        self.flush()
    }

    /// Adds what the writer remembers to `snapshot`.
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let _ = snapshot;
        Ok(())
    }

    /// A checkpoint has completed: commit what was written before its barrier, unless that was done.
    /// Or it was given up: its records will be part of a later one.
    ///
    /// # Errors
    /// When a commit fails for good; the job then goes on from the checkpoint, and commits again.
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()> {
        let _ = event;
        Ok(())
    }

    /// Whether something that was written waits for a checkpoint.
    fn uncommitted(&self) -> bool {
        false
    }

    /// Called once at the end of a successful run, after the last flush.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a program knows about a sink before it runs: how to make its writers.
pub trait Sink<T>: Send + Sync + 'static {
    /// Checks what can be checked before the job starts.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// A writer for one subtask.
    fn writer(&self) -> Box<dyn SinkWriter<T>>;

    /// Whether the writer blocks its thread and needs one of its own.
    fn blocking(&self) -> bool {
        false
    }

    /// The largest parallelism that makes sense; a single file has 1.
    fn parallelism_limit(&self) -> Option<u32> {
        None
    }
}
