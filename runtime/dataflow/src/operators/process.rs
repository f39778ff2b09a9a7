//! Operators around process functions, with and without keys.

use super::keyed::{At, Keyed, MakeKeyed, not_open};
use crate::function::{Emitter, KeyedOpenContext, KeyedProcessFunction, ProcessCx, ProcessFunction};
use crate::key::KeySelector;
use crate::operator::{Budget, CheckpointEvent, Collector, Cx, OpenContext, Operator, Progress};
use crate::timers::TimeDomain;
use hurtig_core::error::user_failure;
use hurtig_core::time::NO_TIMESTAMP;
use hurtig_core::{Batch, Result, UserError};
use hurtig_state::{OperatorSnapshot, ScanBudget};
use std::sync::Arc;

/// Runs a [`ProcessFunction`].
pub struct Process<F> {
    make: Arc<dyn Fn() -> F + Send + Sync>,
    function: Option<F>,
}

impl<F> std::fmt::Debug for Process<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process(open: {})", self.function.is_some())
    }
}

impl<F> Process<F> {
    /// The operator that runs what `make` makes, one function a subtask.
    pub fn new(make: impl Fn() -> F + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(make),
            function: None,
        }
    }
}

impl<In, Out, F: ProcessFunction<In, Out>> Operator<In, Out> for Process<F> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.function
            .insert((self.make)())
            .open(ctx)
            .map_err(user_failure)
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        Operator::<In, Out>::open(self, ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<In>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let function = self.function.as_mut().ok_or_else(not_open)?;
        process_all(input, At { cx, out, budget: b }, |record, cx, out| {
            function.process(record, cx, out)
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

/// Hands records to a process function until fuel or room ends.
#[inline]
pub(super) fn process_all<T, Out>(
    input: &mut Batch<T>,
    at: At<'_, '_, Out>,
    mut each: impl FnMut(T, ProcessCx<'_>, &mut Emitter<'_, Out>) -> Result<(), UserError>,
) -> Result<Progress> {
    let At { cx, out, budget } = at;
    while !input.is_empty() {
        if out.full() || cx.side_full() || !budget.spend() {
            return Ok(Progress::More);
        }
        if let Some((record, time)) = input.pop_front() {
            out.set_time(time);
            each(record, ProcessCx::new(cx, time), &mut Emitter::new(out)).map_err(user_failure)?;
        }
    }
    Ok(Progress::Done)
}

/// Runs a [`KeyedProcessFunction`] with its state and timers.
pub struct KeyedProcess<T, S: KeySelector<T>, F> {
    selector: Arc<S>,
    make: MakeKeyed<F, S::Key>,
    keyed: Option<Keyed<F, S::Borrowed>>,
}

impl<T, S: KeySelector<T>, F> std::fmt::Debug for KeyedProcess<T, S, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyedProcess(open: {})", self.keyed.is_some())
    }
}

impl<T, S: KeySelector<T>, F> KeyedProcess<T, S, F> {
    /// The operator that runs what `make` makes, one function a subtask, by the keys of `selector`.
    pub fn new(selector: Arc<S>, make: impl Fn() -> F + Send + Sync + 'static) -> Self {
        Self::with_state(selector, move |_| Ok(make()))
    }

    /// As [`Self::new`], with a factory that declares the function's state and puts the handles into
    /// it.
    pub fn with_state(
        selector: Arc<S>,
        make: impl Fn(&mut KeyedOpenContext<'_, S::Key>) -> Result<F, UserError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            selector,
            make: Arc::new(make),
            keyed: None,
        }
    }
}

impl<In, Out, S, F> Operator<In, Out> for KeyedProcess<In, S, F>
where
    S: KeySelector<In>,
    F: KeyedProcessFunction<S::Borrowed, In, Out>,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        self.keyed = Some(Keyed::open(ctx, &self.make, |function, ctx| function.open(ctx))?);
        Ok(())
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        Operator::<In, Out>::open(self, ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<In>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        keyed.process(
            &*self.selector,
            input,
            At { cx, out, budget: b },
            |f, record, cx, out| f.process(record, cx, out),
        )
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
