//! Rich functions: map, filter and flat map as structs with a life: one a subtask, opened before the
//! first record and closed after the last.
//!
//! They are process functions under their own names, and run as such; a closure is enough for what
//! needs no life. A function that remembers something is a [`ProcessFunction`].

use crate::function::{Emitter, ProcessCx, ProcessFunction};
use crate::operator::{CheckpointEvent, OpenContext};
use hurtig_core::UserError;

/// One record for each record: Flink's `RichMapFunction`.
pub trait MapFunction<In, Out>: Send {
    /// Called once before any record.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// The record that `record` becomes.
    fn map(&mut self, record: In, cx: ProcessCx<'_>) -> Result<Out, UserError>;

    /// As [`ProcessFunction::on_checkpoint`].
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        let _ = event;
        Ok(())
    }

    /// Called once at the end of a successful run.
    fn close(&mut self) -> Result<(), UserError> {
        Ok(())
    }
}

/// Records that satisfy a predicate: Flink's `RichFilterFunction`.
pub trait FilterFunction<T>: Send {
    /// Called once before any record.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Whether `record` is kept.
    fn filter(&mut self, record: &T, cx: ProcessCx<'_>) -> Result<bool, UserError>;

    /// As [`ProcessFunction::on_checkpoint`].
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        let _ = event;
        Ok(())
    }

    /// Called once at the end of a successful run.
    fn close(&mut self) -> Result<(), UserError> {
        Ok(())
    }
}

/// Any number of records for each record: Flink's `RichFlatMapFunction`.
pub trait FlatMapFunction<In, Out>: Send {
    /// Called once before any record.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Emits what `record` becomes.
    fn flat_map(
        &mut self,
        record: In,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError>;

    /// As [`ProcessFunction::on_checkpoint`].
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        let _ = event;
        Ok(())
    }

    /// Called once at the end of a successful run.
    fn close(&mut self) -> Result<(), UserError> {
        Ok(())
    }
}

/// A [`MapFunction`] as a process function.
#[derive(Debug)]
pub struct RichMap<F>(pub F);

impl<In, Out, F: MapFunction<In, Out>> ProcessFunction<In, Out> for RichMap<F> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.0.open(ctx)
    }

    fn process(
        &mut self,
        record: In,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError> {
        out.emit(self.0.map(record, cx)?);
        Ok(())
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        self.0.on_checkpoint(event)
    }

    fn close(&mut self) -> Result<(), UserError> {
        self.0.close()
    }
}

/// A [`FilterFunction`] as a process function.
#[derive(Debug)]
pub struct RichFilter<F>(pub F);

impl<T, F: FilterFunction<T>> ProcessFunction<T, T> for RichFilter<F> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.0.open(ctx)
    }

    fn process(&mut self, record: T, cx: ProcessCx<'_>, out: &mut Emitter<'_, T>) -> Result<(), UserError> {
        if self.0.filter(&record, cx)? {
            out.emit(record);
        }
        Ok(())
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        self.0.on_checkpoint(event)
    }

    fn close(&mut self) -> Result<(), UserError> {
        self.0.close()
    }
}

/// A [`FlatMapFunction`] as a process function.
#[derive(Debug)]
pub struct RichFlatMap<F>(pub F);

impl<In, Out, F: FlatMapFunction<In, Out>> ProcessFunction<In, Out> for RichFlatMap<F> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.0.open(ctx)
    }

    fn process(
        &mut self,
        record: In,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError> {
        self.0.flat_map(record, cx, out)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        self.0.on_checkpoint(event)
    }

    fn close(&mut self) -> Result<(), UserError> {
        self.0.close()
    }
}
