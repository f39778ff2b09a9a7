//! The builder of windowed streams, and the choice of the operator.

use super::evictor::Evictor;
use super::fast::{
    AggregatingWindowOperator, GridParts, PaneWindowOperator, SessionParts, SessionWindowOperator,
};
use super::function::{
    Buffered, Evicting, EvictingAggregate, Incremental, IncrementalLogic, IncrementalThen, ProcessFn,
    ProcessWindowFunction, Reduce, WindowLogic, is_stateless,
};
use super::general::{WindowOperator, WindowParts};
use super::late::Lateness;
use super::{DefaultTrigger, Pattern, Trigger, WindowAssigner};
use crate::key::KeySelector;
use crate::operator::{Operator, OutputTag};

use hurtig_core::time::to_event_millis;
use hurtig_core::{Error, Result};
use hurtig_state::{AggregateFunction, StateValue};
use std::time::Duration;

/// More panes a window than this are merged more slowly than windows are kept apart.
const MAX_PANES_PER_WINDOW: i64 = 64;

/// The key selector of windows over a whole stream (`window_all`): every record has the key `()`.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllKeys;

impl<T> KeySelector<T> for AllKeys {
    type Key = ();
    type Borrowed = ();
    type Ref<'a>
        = ()
    where
        T: 'a;

    #[inline]
    fn key_of(&self, _: &T) {}
}

/// No evictor was given.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvictor;

/// An evictor was given.
#[derive(Clone, Copy, Debug)]
pub struct WithEvictor<E>(E);

/// An operator of windows over `In`, not yet in a chain.
pub type WindowOperatorBox<In, Out> = Box<dyn Operator<In, Out>>;

/// A windowed stream: assigner, trigger, evictor, lateness. Ends with a function, which makes the
/// operator for one subtask; clone it for more.
pub struct WindowSpec<In, A, T = DefaultTrigger, E = NoEvictor> {
    assigner: A,
    trigger: T,
    evictor: E,
    lateness: i64,
    side: Option<OutputTag<In>>,
}

impl<In, A: Clone, T: Clone, E: Clone> Clone for WindowSpec<In, A, T, E> {
    fn clone(&self) -> Self {
        Self {
            assigner: self.assigner.clone(),
            trigger: self.trigger.clone(),
            evictor: self.evictor.clone(),
            lateness: self.lateness,
            side: self.side.clone(),
        }
    }
}

impl<In, A, T, E> std::fmt::Debug for WindowSpec<In, A, T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WindowSpec<{}>", std::any::type_name::<(A, T, E)>())
    }
}

impl<In: StateValue, A: WindowAssigner<In>> WindowSpec<In, A> {
    /// Windows of this assigner, with its default trigger.
    pub fn new(assigner: A) -> Self {
        let trigger = assigner.default_trigger();
        Self {
            assigner,
            trigger,
            evictor: NoEvictor,
            lateness: 0,
            side: None,
        }
    }
}

impl<In: StateValue, A: WindowAssigner<In>, T, E> WindowSpec<In, A, T, E> {
    /// Fires by another trigger than the assigner's.
    pub fn trigger<T2: Trigger<In, A::Window>>(self, trigger: T2) -> WindowSpec<In, A, T2, E> {
        let Self {
            assigner,
            evictor,
            lateness,
            side,
            ..
        } = self;
        WindowSpec {
            assigner,
            trigger,
            evictor,
            lateness,
            side,
        }
    }

    /// Removes elements when a window fires; windows then keep all their elements.
    pub fn evictor<E2: Evictor<In, A::Window>>(self, evictor: E2) -> WindowSpec<In, A, T, WithEvictor<E2>> {
        let Self {
            assigner,
            trigger,
            lateness,
            side,
            ..
        } = self;
        WindowSpec {
            assigner,
            trigger,
            evictor: WithEvictor(evictor),
            lateness,
            side,
        }
    }

    /// Keeps windows of event time for so long after their end, for late elements.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        Self {
            lateness: to_event_millis(lateness),
            ..self
        }
    }

    /// Where elements go that are later still; without it they are dropped and counted.
    #[must_use]
    pub fn side_output_late(self, tag: OutputTag<In>) -> Self {
        Self {
            side: Some(tag),
            ..self
        }
    }
}

impl<In, A, T, E> WindowSpec<In, A, T, E>
where
    In: StateValue,
    A: WindowAssigner<In>,
    T: Trigger<In, A::Window>,
{
    fn check<L>(&self) -> Result<()> {
        if self.assigner.is_merging() && !self.trigger.can_merge() {
            return Err(Error::user(format!(
                "windows that merge need a trigger that can merge, which {} cannot: use another trigger, or \
                 windows that do not merge",
                std::any::type_name::<T>()
            )));
        }
        if self.assigner.is_merging() && !is_stateless::<L>() {
            return Err(Error::user(
                "a window function may not have per-window state when windows merge: use its global state",
            ));
        }
        Ok(())
    }

    fn general<S, L, Out>(self, selector: S, logic: L) -> Result<WindowOperatorBox<In, Out>>
    where
        Out: 'static,
        S: KeySelector<In>,
        L: WindowLogic<In, S::Borrowed, A::Window, Out>,
    {
        self.check::<L::WindowState>()?;
        let late = Lateness::new(self.lateness, self.side);
        let parts = WindowParts {
            assigner: self.assigner,
            trigger: self.trigger,
            logic,
            late,
        };
        Ok(Box::new(WindowOperator::new(selector, parts)))
    }
}

impl<In, A, T> WindowSpec<In, A, T, NoEvictor>
where
    In: StateValue,
    A: WindowAssigner<In>,
    T: Trigger<In, A::Window>,
{
    /// Folds elements into the first one of each window.
    ///
    /// # Errors
    /// When assigner, trigger and function do not fit together; so for all of these.
    pub fn reduce<S, F>(self, selector: S, fold: F) -> Result<WindowOperatorBox<In, In>>
    where
        S: KeySelector<In>,
        F: Fn(&mut In, In) + Send + Sync + 'static,
    {
        self.incremental(selector, Incremental::new(Reduce::new(fold)))
    }

    /// Folds elements, then hands the result to a window function.
    ///
    /// # Errors
    /// As [`Self::reduce`].
    pub fn reduce_then<S, F, P, Out>(
        self,
        selector: S,
        fold: F,
        function: P,
    ) -> Result<WindowOperatorBox<In, Out>>
    where
        Out: 'static,
        S: KeySelector<In>,
        F: Fn(&mut In, In) + Send + Sync + 'static,
        P: ProcessWindowFunction<In, S::Borrowed, A::Window, Out>,
    {
        self.incremental(selector, IncrementalThen::new(Reduce::new(fold), function))
    }

    /// Emits the result of an aggregate for each window.
    ///
    /// # Errors
    /// As [`Self::reduce`].
    pub fn aggregate<S, G>(self, selector: S, aggregate: G) -> Result<WindowOperatorBox<In, G::Out>>
    where
        S: KeySelector<In>,
        G: AggregateFunction<In = In, Out: 'static>,
    {
        self.incremental(selector, Incremental::new(aggregate))
    }

    /// Hands the result of an aggregate to a window function.
    ///
    /// # Errors
    /// As [`Self::reduce`].
    pub fn aggregate_then<S, G, P, Out>(
        self,
        selector: S,
        aggregate: G,
        function: P,
    ) -> Result<WindowOperatorBox<In, Out>>
    where
        Out: 'static,
        S: KeySelector<In>,
        G: AggregateFunction<In = In>,
        P: ProcessWindowFunction<G::Out, S::Borrowed, A::Window, Out>,
    {
        self.incremental(selector, IncrementalThen::new(aggregate, function))
    }

    /// Hands all elements of a window to a function.
    ///
    /// # Errors
    /// As [`Self::reduce`].
    pub fn process<S, P, Out>(self, selector: S, function: P) -> Result<WindowOperatorBox<In, Out>>
    where
        Out: 'static,
        S: KeySelector<In>,
        P: ProcessWindowFunction<In, S::Borrowed, A::Window, Out>,
    {
        self.general(selector, Buffered::new(function))
    }

    /// Runs incremental logic, on a fast path if assigner and trigger allow it.
    ///
    /// # Errors
    /// As [`Self::reduce`].
    pub fn incremental<S, L, Out>(self, selector: S, logic: L) -> Result<WindowOperatorBox<In, Out>>
    where
        Out: 'static,
        S: KeySelector<In>,
        L: WindowLogic<In, S::Borrowed, A::Window, Out> + IncrementalLogic<In, S::Borrowed, A::Window, Out>,
    {
        let domain = self.assigner.domain();
        let stateless = is_stateless::<L::WindowState>() && is_stateless::<L::GlobalState>();
        if !stateless || self.trigger.as_default() != Some(domain) {
            return self.general(selector, logic);
        }
        let late = Lateness::new(self.lateness, self.side.clone());
        match self.assigner.pattern() {
            Pattern::Grid(grid, name) => {
                let shareable = <L::Aggregate as AggregateFunction>::SHAREABLE;
                let shared =
                    shareable && !grid.is_tumbling() && grid.panes_per_window() <= MAX_PANES_PER_WINDOW;
                let parts = GridParts {
                    grid,
                    domain,
                    name,
                    logic,
                    late,
                };
                if shared {
                    return Ok(Box::new(PaneWindowOperator::new(selector, parts)));
                }
                Ok(Box::new(AggregatingWindowOperator::new(selector, parts)))
            }
            Pattern::Session(name) => {
                let parts = SessionParts {
                    assigner: self.assigner,
                    name,
                    logic,
                    late,
                };
                Ok(Box::new(SessionWindowOperator::new(selector, parts)))
            }
            Pattern::Other => self.general(selector, logic),
        }
    }

    /// The same windows by the general operator, whatever they are: for comparing both.
    ///
    /// # Errors
    /// As [`Self::reduce`].
    pub fn aggregate_generally<S, G>(self, selector: S, aggregate: G) -> Result<WindowOperatorBox<In, G::Out>>
    where
        S: KeySelector<In>,
        G: AggregateFunction<In = In, Out: 'static>,
    {
        self.general(selector, Incremental::new(aggregate))
    }
}

impl<In, A, T, E> WindowSpec<In, A, T, WithEvictor<E>>
where
    In: StateValue,
    A: WindowAssigner<In>,
    T: Trigger<In, A::Window>,
    E: Evictor<In, A::Window>,
{
    fn split(self) -> (WindowSpec<In, A, T, NoEvictor>, E) {
        let Self {
            assigner,
            trigger,
            evictor: WithEvictor(evictor),
            lateness,
            side,
        } = self;
        (
            WindowSpec {
                assigner,
                trigger,
                evictor: NoEvictor,
                lateness,
                side,
            },
            evictor,
        )
    }

    /// Folds the elements that the evictor leaves.
    ///
    /// # Errors
    /// When assigner, trigger and function do not fit together; so for all of these.
    pub fn reduce<S, F>(self, selector: S, fold: F) -> Result<WindowOperatorBox<In, In>>
    where
        S: KeySelector<In>,
        F: Fn(&mut In, In) + Send + Sync + 'static,
    {
        let (spec, evictor) = self.split();
        spec.general(
            selector,
            EvictingAggregate::reducing(evictor, Reduce::new(fold), Forward),
        )
    }

    /// Folds the elements that the evictor leaves, then hands the result to a window function.
    ///
    /// # Errors
    /// As [`Self::reduce`].
    pub fn reduce_then<S, F, P, Out>(
        self,
        selector: S,
        fold: F,
        function: P,
    ) -> Result<WindowOperatorBox<In, Out>>
    where
        Out: 'static,
        S: KeySelector<In>,
        F: Fn(&mut In, In) + Send + Sync + 'static,
        P: ProcessWindowFunction<In, S::Borrowed, A::Window, Out>,
    {
        let (spec, evictor) = self.split();
        spec.general(
            selector,
            EvictingAggregate::reducing(evictor, Reduce::new(fold), function),
        )
    }

    /// Aggregates the elements that the evictor leaves.
    ///
    /// # Errors
    /// As [`Self::reduce`].
    pub fn aggregate<S, G>(self, selector: S, aggregate: G) -> Result<WindowOperatorBox<In, G::Out>>
    where
        S: KeySelector<In>,
        G: AggregateFunction<In = In, Out: Clone + 'static>,
    {
        let (spec, evictor) = self.split();
        spec.general(selector, EvictingAggregate::new(evictor, aggregate, Forward))
    }

    /// Aggregates the elements that the evictor leaves, then hands the result to a window function.
    ///
    /// # Errors
    /// As [`Self::reduce`].
    pub fn aggregate_then<S, G, P, Out>(
        self,
        selector: S,
        aggregate: G,
        function: P,
    ) -> Result<WindowOperatorBox<In, Out>>
    where
        Out: 'static,
        S: KeySelector<In>,
        G: AggregateFunction<In = In>,
        P: ProcessWindowFunction<G::Out, S::Borrowed, A::Window, Out>,
    {
        let (spec, evictor) = self.split();
        spec.general(selector, EvictingAggregate::new(evictor, aggregate, function))
    }

    /// Hands the elements that the evictor leaves to a function.
    ///
    /// # Errors
    /// As [`Self::reduce`].
    pub fn process<S, P, Out>(self, selector: S, function: P) -> Result<WindowOperatorBox<In, Out>>
    where
        Out: 'static,
        S: KeySelector<In>,
        P: ProcessWindowFunction<In, S::Borrowed, A::Window, Out>,
    {
        let (spec, evictor) = self.split();
        spec.general(selector, Evicting::new(evictor, function))
    }
}

/// Emits the elements it is given.
#[derive(Clone, Copy, Debug)]
struct Forward;

impl<In: Clone, Q: ?Sized, W> ProcessWindowFunction<In, Q, W, In> for Forward {
    type WindowState = ();
    type GlobalState = ();

    fn process(
        &mut self,
        _: &Q,
        _: &mut super::WindowContext<'_, W>,
        elements: super::Elements<'_, In>,
        out: &mut crate::operator::Collector<In>,
    ) -> Result<(), hurtig_core::UserError> {
        elements.iter().cloned().for_each(|element| out.push(element));
        Ok(())
    }
}

#[allow(dead_code, reason = "compile-time assertion: operators move between threads")]
fn operators_are_send(spec: WindowSpec<u64, super::AlignedWindows>) -> Result<impl Send> {
    spec.process::<_, _, u64>(
        AllKeys,
        ProcessFn(|_: &(), _: &mut super::WindowContext<'_, _>, _: super::Elements<'_, _>, _: &mut _| Ok(())),
    )
}
