//! Operators that read a stream and one that is broadcast to all subtasks.

use super::keyed::{At, Keyed, MakeKeyed, not_open};
use super::process::process_all;
use crate::broadcast::{
    BroadcastProcessFunction, BroadcastStates, KeyedBroadcastCx, KeyedBroadcastProcessFunction,
};
use crate::function::KeyedOpenContext;
use crate::key::KeySelector;
use crate::operator::{Budget, CheckpointEvent, Collector, Cx, OpenContext, Progress, TwoInputOperator};
use crate::timers::TimeDomain;
use hurtig_core::error::user_failure;
use hurtig_core::{Batch, Result, UserError};
use hurtig_state::{OperatorSnapshot, ScanBudget};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// A function and what it keeps of the broadcast stream.
struct Informed<F, S> {
    function: F,
    state: S,
}

impl<F, S: BroadcastStates> Informed<F, S> {
    fn restored(function: F, mut state: S, ctx: &OpenContext<'_>) -> Result<Self> {
        if let Some(snapshot) = ctx.restored() {
            state.restore(snapshot)?;
        }
        Ok(Self { function, state })
    }
}

/// Runs a [`BroadcastProcessFunction`]; the second input is the broadcast stream.
pub struct BroadcastProcess<F, S> {
    make: Arc<dyn Fn() -> F + Send + Sync>,
    informed: Option<Informed<F, S>>,
}

impl<F, S> fmt::Debug for BroadcastProcess<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BroadcastProcess(open: {})", self.informed.is_some())
    }
}

impl<F, S> BroadcastProcess<F, S> {
    /// The operator that runs what `make` makes, one function a subtask.
    pub fn new(make: impl Fn() -> F + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(make),
            informed: None,
        }
    }
}

impl<In, B, Out, F> TwoInputOperator<In, B, Out> for BroadcastProcess<F, F::State>
where
    F: BroadcastProcessFunction<In, B, Out>,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let mut function = (self.make)();
        function.open(ctx).map_err(user_failure)?;
        let state = function.state();
        self.informed = Some(Informed::restored(function, state, ctx)?);
        Ok(())
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        TwoInputOperator::<In, B, Out>::open(self, ctx)
    }

    fn process_first(
        &mut self,
        input: &mut Batch<In>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let Informed { function, state } = self.informed.as_mut().ok_or_else(not_open)?;
        process_all(input, At { cx, out, budget: b }, |record, cx, out| {
            function.process(record, state, cx, out)
        })
    }

    fn process_second(
        &mut self,
        input: &mut Batch<B>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let Informed { function, state } = self.informed.as_mut().ok_or_else(not_open)?;
        process_all(input, At { cx, out, budget: b }, |record, cx, out| {
            function.process_broadcast(record, state, cx, out)
        })
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.informed
            .as_ref()
            .ok_or_else(not_open)?
            .state
            .snapshot(snapshot)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent, _: Cx<'_>) -> Result<()> {
        let informed = self.informed.as_mut().ok_or_else(not_open)?;
        informed.function.on_checkpoint(event).map_err(user_failure)
    }

    fn close(&mut self) -> Result<()> {
        let informed = self.informed.as_mut().ok_or_else(not_open)?;
        informed.function.close().map_err(user_failure)
    }
}

/// Runs a [`KeyedBroadcastProcessFunction`]; the second input is the broadcast stream.
pub struct KeyedBroadcastProcess<In, S: KeySelector<In>, F, B> {
    selector: Arc<S>,
    make: MakeKeyed<F, S::Key>,
    keyed: Option<Keyed<Informed<F, B>, S::Borrowed>>,
    input: PhantomData<fn(In)>,
}

impl<In, S: KeySelector<In>, F, B> fmt::Debug for KeyedBroadcastProcess<In, S, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyedBroadcastProcess(open: {})", self.keyed.is_some())
    }
}

impl<In, S: KeySelector<In>, F, B> KeyedBroadcastProcess<In, S, F, B> {
    /// The operator that runs what `make` makes, one function a subtask, and puts the handles of its keyed state
    /// into it.
    pub fn with_state(
        selector: Arc<S>,
        make: impl Fn(&mut KeyedOpenContext<'_, S::Key>) -> Result<F, UserError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            selector,
            make: Arc::new(make),
            keyed: None,
            input: PhantomData,
        }
    }
}

impl<In, B, Out, S, F> TwoInputOperator<In, B, Out> for KeyedBroadcastProcess<In, S, F, F::State>
where
    S: KeySelector<In>,
    F: KeyedBroadcastProcessFunction<S::Borrowed, In, B, Out> + 'static,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let make = self.make.clone();
        let make: MakeKeyed<Informed<F, F::State>, S::Key> = Arc::new(move |ctx| {
            let function = make(ctx)?;
            let state = function.state();
            Ok(Informed { function, state })
        });
        let mut keyed = Keyed::open(ctx, &make, |informed: &mut Informed<F, F::State>, ctx| {
            informed.function.open(ctx)
        })?;
        if let Some(snapshot) = ctx.restored() {
            keyed.function.state.restore(snapshot)?;
        }
        self.keyed = Some(keyed);
        Ok(())
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        TwoInputOperator::<In, B, Out>::open(self, ctx)
    }

    fn process_first(
        &mut self,
        input: &mut Batch<In>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        let at = At { cx, out, budget: b };
        keyed.process(&*self.selector, input, at, |informed, record, cx, out| {
            informed.function.process(record, &informed.state, cx, out)
        })
    }

    fn process_second(
        &mut self,
        input: &mut Batch<B>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let (Informed { function, state }, every_key) = self.keyed.as_mut().ok_or_else(not_open)?.parts()?;
        process_all(input, At { cx, out, budget: b }, |record, cx, out| {
            let cx = KeyedBroadcastCx::new(cx, every_key);
            function.process_broadcast(record, state, cx, out)
        })
    }

    fn on_watermark(
        &mut self,
        wm: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.fire(TimeDomain::Event, wm, At { cx, out, budget: b })
    }

    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        self.fire(TimeDomain::Processing, now, At { cx, out, budget: b })
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let keyed = self.keyed.as_ref().ok_or_else(not_open)?;
        keyed.function.state.snapshot(snapshot)?;
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
        keyed.function.function.on_checkpoint(event).map_err(user_failure)
    }

    fn close(&mut self) -> Result<()> {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        keyed.function.function.close().map_err(user_failure)
    }
}

impl<In, S: KeySelector<In>, F, St> KeyedBroadcastProcess<In, S, F, St> {
    fn fire<B, Out>(&mut self, domain: TimeDomain, up_to: i64, at: At<'_, '_, Out>) -> Result<Progress>
    where
        F: KeyedBroadcastProcessFunction<S::Borrowed, In, B, Out, State = St>,
    {
        let keyed = self.keyed.as_mut().ok_or_else(not_open)?;
        keyed.fire(domain, up_to, at, |informed, time, cx, out| {
            let state = &informed.state;
            informed.function.on_timer((time, domain), state, cx, out)
        })
    }
}
