//! Windows that keep their elements: for process functions and evictors.

use super::super::Window;
use super::super::evictor::{Evictor, Timestamped};
use super::{Elements, ProcessWindowFunction, WindowContext, WindowLogic};
use crate::operator::Collector;

use hurtig_core::Result;
use hurtig_core::error::user_failure;
use hurtig_state::{AggregateFunction, StateValue};

fn append<T>(contents: &mut Option<Vec<Timestamped<T>>>, element: T, time: i64) {
    contents.get_or_insert_default().push((time, element));
}

/// All elements go through a window function.
#[derive(Debug)]
pub struct Buffered<P> {
    function: P,
}

impl<P> Buffered<P> {
    /// Hands all elements to `function`.
    pub const fn new(function: P) -> Self {
        Self { function }
    }
}

impl<In, Q, W, Out, P> WindowLogic<In, Q, W, Out> for Buffered<P>
where
    In: StateValue,
    Q: ?Sized,
    W: Window,
    P: ProcessWindowFunction<In, Q, W, Out>,
{
    type Contents = Vec<Timestamped<In>>;
    type WindowState = P::WindowState;
    type GlobalState = P::GlobalState;

    fn add(&self, contents: &mut Option<Self::Contents>, element: In, time: i64) {
        append(contents, element, time);
    }

    fn merge(&self, into: &mut Self::Contents, mut from: Self::Contents) {
        into.append(&mut from);
    }

    fn emit(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W, P::WindowState, P::GlobalState>,
        contents: &mut Option<Self::Contents>,
        out: &mut Collector<Out>,
    ) -> Result<()> {
        let Some(elements) = contents else { return Ok(()) };
        out.set_time(cx.window.max_timestamp());
        self.function
            .process(key, cx, Elements::new(elements), out)
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

/// Elements that an evictor leaves go through a window function.
#[derive(Debug)]
pub struct Evicting<E, P> {
    evictor: E,
    function: P,
}

impl<E, P> Evicting<E, P> {
    /// Evicts with `evictor` around `function`.
    pub const fn new(evictor: E, function: P) -> Self {
        Self { evictor, function }
    }
}

impl<In, Q, W, Out, E, P> WindowLogic<In, Q, W, Out> for Evicting<E, P>
where
    In: StateValue,
    Q: ?Sized,
    W: Window,
    E: Evictor<In, W>,
    P: ProcessWindowFunction<In, Q, W, Out>,
{
    type Contents = Vec<Timestamped<In>>;
    type WindowState = P::WindowState;
    type GlobalState = P::GlobalState;

    fn add(&self, contents: &mut Option<Self::Contents>, element: In, time: i64) {
        append(contents, element, time);
    }

    fn merge(&self, into: &mut Self::Contents, mut from: Self::Contents) {
        into.append(&mut from);
    }

    fn emit(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W, P::WindowState, P::GlobalState>,
        contents: &mut Option<Self::Contents>,
        out: &mut Collector<Out>,
    ) -> Result<()> {
        let Some(elements) = contents else { return Ok(()) };
        self.evictor.evict_before(elements, cx.window);
        out.set_time(cx.window.max_timestamp());
        self.function
            .process(key, cx, Elements::new(elements), out)
            .map_err(user_failure)?;
        self.evictor.evict_after(elements, cx.window);
        // A window whose elements are all gone has no contents, and does not fire.
        if elements.is_empty() {
            *contents = None;
        }
        Ok(())
    }

    fn clear(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W, P::WindowState, P::GlobalState>,
    ) -> Result<()> {
        self.function.clear(key, cx).map_err(user_failure)
    }
}

/// Elements that an evictor leaves are aggregated when the window fires; the result goes through a
/// window function. An incremental function with an evictor cannot be incremental.
#[derive(Debug)]
pub struct EvictingAggregate<E, A, P> {
    evictor: E,
    aggregate: A,
    function: P,
    needs_elements: bool,
}

impl<E, A, P> EvictingAggregate<E, A, P> {
    /// Evicts with `evictor`, aggregates the rest, hands the result to `function`. When all are
    /// evicted that is the result of nothing.
    pub const fn new(evictor: E, aggregate: A, function: P) -> Self {
        Self {
            evictor,
            aggregate,
            function,
            needs_elements: false,
        }
    }

    /// The same for an aggregate that has no result of nothing: `function` is not called then.
    pub const fn reducing(evictor: E, aggregate: A, function: P) -> Self {
        Self {
            evictor,
            aggregate,
            function,
            needs_elements: true,
        }
    }
}

impl<In, Q, W, Out, E, A, P> WindowLogic<In, Q, W, Out> for EvictingAggregate<E, A, P>
where
    In: StateValue,
    Q: ?Sized,
    W: Window,
    E: Evictor<In, W>,
    A: AggregateFunction<In = In>,
    P: ProcessWindowFunction<A::Out, Q, W, Out>,
{
    type Contents = Vec<Timestamped<In>>;
    type WindowState = P::WindowState;
    type GlobalState = P::GlobalState;

    fn add(&self, contents: &mut Option<Self::Contents>, element: In, time: i64) {
        append(contents, element, time);
    }

    fn merge(&self, into: &mut Self::Contents, mut from: Self::Contents) {
        into.append(&mut from);
    }

    fn emit(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W, P::WindowState, P::GlobalState>,
        contents: &mut Option<Self::Contents>,
        out: &mut Collector<Out>,
    ) -> Result<()> {
        let Some(elements) = contents else { return Ok(()) };
        self.evictor.evict_before(elements, cx.window);
        if !(self.needs_elements && elements.is_empty()) {
            let mut acc = self.aggregate.create();
            for (_, element) in elements.iter() {
                self.aggregate.add(&mut acc, element.clone());
            }
            let end = cx.window.max_timestamp();
            let result = [(end, self.aggregate.result(&acc))];
            out.set_time(end);
            self.function
                .process(key, cx, Elements::new(&result), out)
                .map_err(user_failure)?;
        }
        self.evictor.evict_after(elements, cx.window);
        if elements.is_empty() {
            *contents = None;
        }
        Ok(())
    }

    fn clear(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W, P::WindowState, P::GlobalState>,
    ) -> Result<()> {
        self.function.clear(key, cx).map_err(user_failure)
    }
}
