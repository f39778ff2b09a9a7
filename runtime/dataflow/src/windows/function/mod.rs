//! What happens to the elements of a window: how they are kept, and what comes out when it fires.
//!
//! Users write a [`ProcessWindowFunction`] (or a closure), an
//! [`AggregateFunction`](hurtig_state::AggregateFunction) or a reducing closure. A [`WindowLogic`]
//! joins the parts that were given: aggregating windows keep an accumulator, never the elements.

mod buffered;
mod incremental;

pub use buffered::{Buffered, Evicting, EvictingAggregate};
pub use incremental::{Incremental, IncrementalThen, Reduce};

use super::evictor::Timestamped;
use super::{WindowValue, trigger};
use crate::operator::{Collector, Cx, OutputTag};

use hurtig_core::{Result, UserError};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

#[allow(unused_imports, reason = "named in documentation")]
use trigger::Trigger;

/// The elements that a fired window hands to its function, in the order in which they came.
///
/// Behind an incremental function it is that function's result alone.
#[derive(Debug)]
pub struct Elements<'a, T> {
    elements: &'a [Timestamped<T>],
}

impl<T> Clone for Elements<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Elements<'_, T> {}

impl<'a, T> Elements<'a, T> {
    pub(super) fn new(elements: &'a [Timestamped<T>]) -> Self {
        Self { elements }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.elements.len()
    }

    /// Whether an evictor has removed all.
    pub fn is_empty(self) -> bool {
        self.elements.is_empty()
    }

    /// The first one; behind an incremental function the result.
    pub fn first(self) -> Option<&'a T> {
        self.elements.first().map(|(_, element)| element)
    }

    /// One after the other.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = &'a T> + ExactSizeIterator {
        self.elements.iter().map(|(_, element)| element)
    }

    /// With their event times; [`hurtig_core::time::NO_TIMESTAMP`] for those that have none.
    pub fn with_times(self) -> impl DoubleEndedIterator<Item = (i64, &'a T)> + ExactSizeIterator {
        self.elements.iter().map(|(time, element)| (*time, element))
    }
}

impl<'a, T> IntoIterator for Elements<'a, T> {
    type Item = &'a T;
    type IntoIter = std::iter::Map<std::slice::Iter<'a, Timestamped<T>>, fn(&'a Timestamped<T>) -> &'a T>;

    fn into_iter(self) -> Self::IntoIter {
        self.elements.iter().map(|(_, element)| element)
    }
}

/// What a window function sees beside the elements.
pub struct WindowContext<'a, W, L = (), G = ()> {
    /// The window.
    pub window: &'a W,
    /// State of this key and window; gone when the window is.
    pub window_state: &'a mut L,
    /// State of this key, shared by all its windows.
    pub global_state: &'a mut G,
    pub(super) cx: Cx<'a>,
}

impl<W: fmt::Debug, L, G> fmt::Debug for WindowContext<'_, W, L, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowContext")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl<W, L, G> WindowContext<'_, W, L, G> {
    /// The operator's event time.
    pub fn current_watermark(&self) -> i64 {
        self.cx.watermark()
    }

    /// Processing time in wall-clock milliseconds.
    pub fn current_processing_time(&self) -> i64 {
        self.cx.processing_time()
    }

    /// Emits into a side output.
    pub fn side_output<T: 'static>(&self, tag: &OutputTag<T>, record: T, time: i64) {
        self.cx.side_output(tag, record, time);
    }
}

/// Turns the elements of a fired window into records.
///
/// `Q` is the key as the key selector borrows it. Records pushed with [`Collector::push`] carry the
/// window's [`max_timestamp`](super::Window::max_timestamp).
pub trait ProcessWindowFunction<In, Q: ?Sized, W, Out>: Send + 'static {
    /// State of each key and window. Must be `()` for windows that merge.
    type WindowState: WindowValue;
    /// State of each key.
    type GlobalState: WindowValue;

    /// The window has fired.
    ///
    /// # Errors
    /// Fail the job.
    fn process(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W, Self::WindowState, Self::GlobalState>,
        elements: Elements<'_, In>,
        out: &mut Collector<Out>,
    ) -> Result<(), UserError>;

    /// The window of this key is gone. Called only for functions that have state.
    ///
    /// # Errors
    /// Fail the job.
    fn clear(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W, Self::WindowState, Self::GlobalState>,
    ) -> Result<(), UserError> {
        let _ = (key, cx);
        Ok(())
    }
}

/// A closure `Fn(&key, &mut context, elements, &mut collector)` as a [`ProcessWindowFunction`].
#[derive(Clone, Copy, Debug)]
pub struct ProcessFn<F>(pub F);

impl<In, Q, W, Out, F> ProcessWindowFunction<In, Q, W, Out> for ProcessFn<F>
where
    Q: ?Sized,
    F: Fn(&Q, &mut WindowContext<'_, W>, Elements<'_, In>, &mut Collector<Out>) -> Result<(), UserError>
        + Send
        + Sync
        + 'static,
{
    type WindowState = ();
    type GlobalState = ();

    fn process(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W>,
        elements: Elements<'_, In>,
        out: &mut Collector<Out>,
    ) -> Result<(), UserError> {
        (self.0)(key, cx, elements, out)
    }
}

/// How a window keeps its elements and what it emits: evictor, incremental function and window
/// function in one.
pub trait WindowLogic<In, Q: ?Sized, W, Out>: Send + 'static {
    /// What is kept for each key and window.
    type Contents: Serialize + DeserializeOwned + Send + 'static;
    /// State of each key and window, beside the contents.
    type WindowState: WindowValue;
    /// State of each key.
    type GlobalState: WindowValue;

    /// Adds an element. `None` is a window without contents.
    fn add(&self, contents: &mut Option<Self::Contents>, element: In, time: i64);

    /// Adds the contents of a window that was merged.
    fn merge(&self, into: &mut Self::Contents, from: Self::Contents);

    /// The window has fired; an evictor may remove contents.
    ///
    /// # Errors
    /// When a user function fails.
    fn emit(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W, Self::WindowState, Self::GlobalState>,
        contents: &mut Option<Self::Contents>,
        out: &mut Collector<Out>,
    ) -> Result<()>;

    /// The window is gone.
    ///
    /// # Errors
    /// When a user function fails.
    fn clear(
        &mut self,
        key: &Q,
        cx: &mut WindowContext<'_, W, Self::WindowState, Self::GlobalState>,
    ) -> Result<()>;
}

/// Logic that keeps one accumulator and no other state, so that the fast paths can run it.
pub trait IncrementalLogic<In, Q: ?Sized, W, Out>: Send + 'static {
    /// The incremental function.
    type Aggregate: hurtig_state::AggregateFunction<In = In>;

    /// The incremental function.
    fn aggregate(&self) -> &Self::Aggregate;

    /// The window has fired with this accumulator.
    ///
    /// # Errors
    /// When a user function fails.
    fn emit_result(
        &mut self,
        key: &Q,
        window: &W,
        acc: &<Self::Aggregate as hurtig_state::AggregateFunction>::Acc,
        port: (Cx<'_>, &mut Collector<Out>),
    ) -> Result<()>;
}

/// Whether a value type is `()` or another type without content.
pub(super) const fn is_stateless<V>() -> bool {
    size_of::<V>() == 0
}
