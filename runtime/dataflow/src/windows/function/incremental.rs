//! Windows that keep an accumulator.

use super::super::Window;
use super::{Elements, IncrementalLogic, ProcessWindowFunction, WindowContext, WindowLogic};
use crate::operator::{Collector, Cx};

use hurtig_core::Result;
use hurtig_core::error::user_failure;
use hurtig_state::{AggregateFunction, StateValue};
use std::marker::PhantomData;

/// A closure `Fn(&mut T, T)` that folds an element into the one kept, as an aggregate.
///
/// *Panics*: asking for the result of nothing does; windows never do, because one without elements
/// does not fire.
pub struct Reduce<F, T> {
    fold: F,
    element: PhantomData<fn() -> T>,
}

impl<F, T> Reduce<F, T> {
    /// The aggregate that folds with `fold`.
    pub const fn new(fold: F) -> Self {
        Self {
            fold,
            element: PhantomData,
        }
    }
}

impl<F, T> std::fmt::Debug for Reduce<F, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reduce<{}>", std::any::type_name::<T>())
    }
}

impl<T: StateValue, F: Fn(&mut T, T) + Send + Sync + 'static> AggregateFunction for Reduce<F, T> {
    type In = T;
    type Acc = Option<T>;
    type Out = T;

    fn create(&self) -> Option<T> {
        None
    }

    #[inline]
    fn add(&self, acc: &mut Option<T>, input: T) {
        match acc {
            Some(kept) => (self.fold)(kept, input),
            None => *acc = Some(input),
        }
    }

    fn result(&self, acc: &Option<T>) -> T {
        match acc {
            Some(kept) => kept.clone(),
            None => unreachable!("a window without elements does not fire"),
        }
    }

    fn merge(&self, acc: &mut Option<T>, other: Option<T>) {
        if let Some(other) = other {
            self.add(acc, other);
        }
    }
}

/// An incremental function whose results are emitted as they are.
#[derive(Debug)]
pub struct Incremental<A> {
    aggregate: A,
}

impl<A> Incremental<A> {
    /// Emits each result.
    pub const fn new(aggregate: A) -> Self {
        Self { aggregate }
    }
}

impl<In, Q, W, A> IncrementalLogic<In, Q, W, A::Out> for Incremental<A>
where
    Q: ?Sized,
    W: Window,
    A: AggregateFunction<In = In>,
{
    type Aggregate = A;

    #[inline]
    fn aggregate(&self) -> &A {
        &self.aggregate
    }

    #[inline]
    fn emit_result(
        &mut self,
        _: &Q,
        window: &W,
        acc: &A::Acc,
        (_, out): (Cx<'_>, &mut Collector<A::Out>),
    ) -> Result<()> {
        out.push_at(self.aggregate.result(acc), window.max_timestamp());
        Ok(())
    }
}

impl<In, Q, W, A> WindowLogic<In, Q, W, A::Out> for Incremental<A>
where
    Q: ?Sized,
    W: Window,
    A: AggregateFunction<In = In>,
{
    type Contents = A::Acc;
    type WindowState = ();
    type GlobalState = ();

    fn add(&self, contents: &mut Option<A::Acc>, element: In, _: i64) {
        self.aggregate
            .add(contents.get_or_insert_with(|| self.aggregate.create()), element);
    }

    fn merge(&self, into: &mut A::Acc, from: A::Acc) {
        self.aggregate.merge(into, from);
    }

    fn emit(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W>,
        contents: &mut Option<A::Acc>,
        out: &mut Collector<A::Out>,
    ) -> Result<()> {
        match contents {
            Some(acc) => {
                IncrementalLogic::<In, Q, W, A::Out>::emit_result(self, key, cx.window, acc, (cx.cx, out))
            }
            None => Ok(()),
        }
    }

    fn clear(&mut self, _: &Q, _: &mut WindowContext<'_, W>) -> Result<()> {
        Ok(())
    }
}

/// An incremental function whose result goes through a window function.
#[derive(Debug)]
pub struct IncrementalThen<A, P> {
    aggregate: A,
    function: P,
}

impl<A, P> IncrementalThen<A, P> {
    /// Hands results of `aggregate` to `function`.
    pub const fn new(aggregate: A, function: P) -> Self {
        Self { aggregate, function }
    }
}

impl<In, Q, W, Out, A, P> IncrementalLogic<In, Q, W, Out> for IncrementalThen<A, P>
where
    Q: ?Sized,
    W: Window,
    A: AggregateFunction<In = In>,
    P: ProcessWindowFunction<A::Out, Q, W, Out>,
{
    type Aggregate = A;

    #[inline]
    fn aggregate(&self) -> &A {
        &self.aggregate
    }

    fn emit_result(
        &mut self,
        key: &Q,
        window: &W,
        acc: &A::Acc,
        (cx, out): (Cx<'_>, &mut Collector<Out>),
    ) -> Result<()> {
        let (mut window_state, mut global_state) = Default::default();
        let mut context = WindowContext {
            window,
            window_state: &mut window_state,
            global_state: &mut global_state,
            cx,
        };
        let result = [(window.max_timestamp(), self.aggregate.result(acc))];
        out.set_time(window.max_timestamp());
        self.function
            .process(key, &mut context, Elements::new(&result), out)
            .map_err(user_failure)
    }
}

impl<In, Q, W, Out, A, P> WindowLogic<In, Q, W, Out> for IncrementalThen<A, P>
where
    Q: ?Sized,
    W: Window,
    A: AggregateFunction<In = In>,
    P: ProcessWindowFunction<A::Out, Q, W, Out>,
{
    type Contents = A::Acc;
    type WindowState = P::WindowState;
    type GlobalState = P::GlobalState;

    fn add(&self, contents: &mut Option<A::Acc>, element: In, _: i64) {
        self.aggregate
            .add(contents.get_or_insert_with(|| self.aggregate.create()), element);
    }

    fn merge(&self, into: &mut A::Acc, from: A::Acc) {
        self.aggregate.merge(into, from);
    }

    fn emit(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W, P::WindowState, P::GlobalState>,
        contents: &mut Option<A::Acc>,
        out: &mut Collector<Out>,
    ) -> Result<()> {
        let Some(acc) = contents else { return Ok(()) };
        let result = [(cx.window.max_timestamp(), self.aggregate.result(acc))];
        out.set_time(cx.window.max_timestamp());
        self.function
            .process(key, cx, Elements::new(&result), out)
            .map_err(user_failure)
    }

    fn clear(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W, P::WindowState, P::GlobalState>,
    ) -> Result<()> {
        self.function.clear(key, cx).map_err(user_failure)
    }
}
