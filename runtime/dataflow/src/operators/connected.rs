//! Operators over two connected streams.

use super::keyed::{At, Keyed, MakeKeyed, not_open};
use super::process::process_all;
use super::stateless::pop_each;
use super::{granted, when_empty};
use crate::function::{CoProcessFunction, Emitter, KeyedCoProcessFunction, KeyedOpenContext, ProcessCx};
use crate::key::KeySelector;
use crate::operator::{Budget, CheckpointEvent, Collector, Cx, OpenContext, Progress, TwoInputOperator};
use crate::timers::TimeDomain;
use hurtig_core::error::user_failure;
use hurtig_core::time::NO_TIMESTAMP;
use hurtig_core::{Batch, Result, UserError};
use hurtig_state::{OperatorSnapshot, ScanBudget};
use std::sync::Arc;

/// One record out for each record of either stream.
#[derive(Debug)]
pub struct CoMap<F, G> {
    first: Arc<F>,
    second: Arc<G>,
}

impl<F, G> CoMap<F, G> {
    /// The operator that calls `first` and `second` with records of their streams.
    pub fn new(first: Arc<F>, second: Arc<G>) -> Self {
        Self { first, second }
    }
}

impl<A, B, Out, F, G> TwoInputOperator<A, B, Out> for CoMap<F, G>
where
    F: Fn(A) -> Out + Send + Sync + 'static,
    G: Fn(B) -> Out + Send + Sync + 'static,
{
    fn process_first(
        &mut self,
        input: &mut Batch<A>,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let n = granted(input, out, b);
        out.batch().extend_mapped(input, n, &*self.first);
        Ok(when_empty(input))
    }

    fn process_second(
        &mut self,
        input: &mut Batch<B>,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let n = granted(input, out, b);
        out.batch().extend_mapped(input, n, &*self.second);
        Ok(when_empty(input))
    }
}

/// Any number of records for each record of either stream; the closures may fail.
#[derive(Debug)]
pub struct CoFlatMap<F, G> {
    first: Arc<F>,
    second: Arc<G>,
}

impl<F, G> CoFlatMap<F, G> {
    /// The operator that calls `first` and `second` with records of their streams.
    pub fn new(first: Arc<F>, second: Arc<G>) -> Self {
        Self { first, second }
    }
}

impl<A, B, Out, F, G> TwoInputOperator<A, B, Out> for CoFlatMap<F, G>
where
    F: Fn(A, &mut Emitter<'_, Out>) -> Result<(), UserError> + Send + Sync + 'static,
    G: Fn(B, &mut Emitter<'_, Out>) -> Result<(), UserError> + Send + Sync + 'static,
{
    fn process_first(
        &mut self,
        input: &mut Batch<A>,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        pop_each(input, out, b, |record, out| {
            (self.first)(record, &mut Emitter::new(out)).map_err(user_failure)
        })
    }

    fn process_second(
        &mut self,
        input: &mut Batch<B>,
        _: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        pop_each(input, out, b, |record, out| {
            (self.second)(record, &mut Emitter::new(out)).map_err(user_failure)
        })
    }
}

/// Runs a [`CoProcessFunction`].
pub struct CoProcess<F> {
    make: Arc<dyn Fn() -> F + Send + Sync>,
    function: Option<F>,
}

impl<F> std::fmt::Debug for CoProcess<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CoProcess(open: {})", self.function.is_some())
    }
}

impl<F> CoProcess<F> {
    /// The operator that runs what `make` makes, one function a subtask.
    pub fn new(make: impl Fn() -> F + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(make),
            function: None,
        }
    }
}

impl<A, B, Out, F: CoProcessFunction<A, B, Out>> TwoInputOperator<A, B, Out> for CoProcess<F> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.function
            .insert((self.make)())
            .open(ctx)
            .map_err(user_failure)
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        TwoInputOperator::<A, B, Out>::open(self, ctx)
    }

    fn process_first(
        &mut self,
        input: &mut Batch<A>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let function = self.function.as_mut().ok_or_else(not_open)?;
        process_all(input, At { cx, out, budget: b }, |record, cx, out| {
            function.process_first(record, cx, out)
        })
    }

    fn process_second(
        &mut self,
        input: &mut Batch<B>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let function = self.function.as_mut().ok_or_else(not_open)?;
        process_all(input, At { cx, out, budget: b }, |record, cx, out| {
            function.process_second(record, cx, out)
        })
    }

    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        _: &mut Budget,
    ) -> Result<Progress> {
        let function = self.function.as_mut().ok_or_else(not_open)?;
        out.set_time(NO_TIMESTAMP);
        function
            .on_backlog(backlog, ProcessCx::new(cx, NO_TIMESTAMP), &mut Emitter::new(out))
            .map_err(user_failure)?;
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.function
            .as_mut()
            .ok_or_else(not_open)?
            .snapshot(snapshot)
            .map_err(user_failure)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent, _: Cx<'_>) -> Result<()> {
        let function = self.function.as_mut().ok_or_else(not_open)?;
        function.on_checkpoint(event).map_err(user_failure)
    }

    fn close(&mut self) -> Result<()> {
        self.function
            .as_mut()
            .ok_or_else(not_open)?
            .close()
            .map_err(user_failure)
    }
}

/// Runs a [`KeyedCoProcessFunction`]: both streams reach the same state and timers.
pub struct KeyedCoProcess<A, S: KeySelector<A>, R, F> {
    first: Arc<S>,
    second: Arc<R>,
    make: MakeKeyed<F, S::Key>,
    keyed: Option<Keyed<F, S::Borrowed>>,
}

impl<A, S: KeySelector<A>, R, F> std::fmt::Debug for KeyedCoProcess<A, S, R, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyedCoProcess(open: {})", self.keyed.is_some())
    }
}

impl<A, S: KeySelector<A>, R, F> KeyedCoProcess<A, S, R, F> {
    /// The operator that runs what `make` makes, one function a subtask; `first` and `second` find
    /// the keys of their streams.
    pub fn new(first: Arc<S>, second: Arc<R>, make: impl Fn() -> F + Send + Sync + 'static) -> Self {
        Self::with_state(first, second, move |_| Ok(make()))
    }

    /// As [`Self::new`], with a factory that declares the function's state and puts the handles into
    /// it.
    pub fn with_state(
        first: Arc<S>,
        second: Arc<R>,
        make: impl Fn(&mut KeyedOpenContext<'_, S::Key>) -> Result<F, UserError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            first,
            second,
            make: Arc::new(make),
            keyed: None,
        }
    }
}

impl<A, B, Out, S, R, F> TwoInputOperator<A, B, Out> for KeyedCoProcess<A, S, R, F>
where
    S: KeySelector<A>,
    R: KeySelector<B, Key = S::Key, Borrowed = S::Borrowed>,
    F: KeyedCoProcessFunction<S::Borrowed, A, B, Out>,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.keyed = Some(Keyed::open(ctx, &self.make, |function, ctx| function.open(ctx))?);
        Ok(())
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        TwoInputOperator::<A, B, Out>::open(self, ctx)
    }

    fn process_first(
        &mut self,
        input: &mut Batch<A>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        let at = At { cx, out, budget: b };
        keyed.process(&*self.first, input, at, |f, record, cx, out| {
            f.process_first(record, cx, out)
        })
    }

    fn process_second(
        &mut self,
        input: &mut Batch<B>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        let at = At { cx, out, budget: b };
        keyed.process(&*self.second, input, at, |f, record, cx, out| {
            f.process_second(record, cx, out)
        })
    }

    fn on_watermark(
        &mut self,
        wm: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        keyed.fire(
            TimeDomain::Event,
            wm,
            At { cx, out, budget: b },
            |f, time, cx, out| f.on_timer(time, TimeDomain::Event, cx, out),
        )
    }

    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        keyed.fire(
            TimeDomain::Processing,
            now,
            At { cx, out, budget: b },
            |f, time, cx, out| f.on_timer(time, TimeDomain::Processing, cx, out),
        )
    }

    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        _: &mut Budget,
    ) -> Result<Progress> {
        let (function, cx, mut out) = self.keyed.as_mut().ok_or_else(not_open)?.without_key(cx, out)?;
        function.on_backlog(backlog, cx, &mut out).map_err(user_failure)?;
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        keyed.function.snapshot(snapshot).map_err(user_failure)?;
        keyed.snapshot(snapshot)
    }

    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        let keyed = self.keyed.as_ref().ok_or_else(not_open)?;
        keyed.continue_snapshot(snapshot, budget)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent, _: Cx<'_>) -> Result<()> {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        keyed.function.on_checkpoint(event).map_err(user_failure)
    }

    fn close(&mut self) -> Result<()> {
        self.keyed
            .as_mut()
            .ok_or_else(not_open)?
            .function
            .close()
            .map_err(user_failure)
    }
}
