//! Windows over keyed streams, and over whole streams.

use crate::Data;
use crate::stream::{DataStream, KeyedStream};
use hurtig_core::{Error, Result, UserError};
use hurtig_dataflow::key::KeySelector;
use hurtig_dataflow::operator::{Collector, OpenContext, Operator, OutputTag};
use hurtig_dataflow::windows::spec::{AllKeys, NoEvictor, WindowOperatorBox, WithEvictor};
use hurtig_dataflow::windows::{
    AlignedWindows, CumulatingWindows, DefaultTrigger, DynamicSessionWindows, Elements, Evictor,
    GlobalWindows, ProcessFn, ProcessWindowFunction, SessionWindows, SlidingWindows, Trigger,
    TumblingWindows, WindowAssigner, WindowContext, WindowSpec,
};
use hurtig_state::AggregateFunction;
use std::sync::Arc;
use std::time::Duration;

/// Windows of equal size that follow each other, of event time.
#[derive(Clone, Copy, Debug)]
pub struct Tumbling;

impl Tumbling {
    /// Windows of this size.
    ///
    /// # Errors
    /// When the size is zero; reported by `execute` when the result goes straight into `window`.
    pub fn of(size: Duration) -> Result<AlignedWindows> {
        TumblingWindows::event_time(size)
    }
}

/// Windows of equal size that begin at every slide, of event time.
#[derive(Clone, Copy, Debug)]
pub struct Sliding;

impl Sliding {
    /// Windows of this size, one for every slide.
    ///
    /// # Errors
    /// When size or slide is zero.
    pub fn of(size: Duration, slide: Duration) -> Result<AlignedWindows> {
        SlidingWindows::event_time(size, slide)
    }
}

/// Windows that last until a key has been silent for a while, of event time.
#[derive(Clone, Copy, Debug)]
pub struct Session;

impl Session {
    /// Sessions that end after this much silence.
    ///
    /// # Errors
    /// When the gap is zero.
    pub fn with_gap(gap: Duration) -> Result<SessionWindows> {
        SessionWindows::event_time(gap)
    }
}

/// Windows that grow by a step until they have their full size, of event time.
#[derive(Clone, Copy, Debug)]
pub struct Cumulating;

impl Cumulating {
    /// Windows of up to this size, one for every step.
    ///
    /// # Errors
    /// When a size is zero, or the full size is no multiple of the step.
    pub fn of(max_size: Duration, step: Duration) -> Result<AlignedWindows> {
        CumulatingWindows::event_time(max_size, step)
    }
}

/// An assigner, or the error that its construction gave.
pub trait IntoAssigner<T> {
    /// The assigner.
    type Assigner: WindowAssigner<T> + Clone + Sync;
    /// Hands it over.
    ///
    /// # Errors
    /// When it was constructed from nonsense.
    fn into_assigner(self) -> Result<Self::Assigner>;
}

/// The built-in assigners go in as they are; one of your own as `Ok(assigner)`.
macro_rules! is_assigner {
    ($assigner:ty $(, $g:ident: $bound:path)?) => {
        impl<T $(, $g: $bound + Fn(&T) -> i64 + Clone + Send + Sync + 'static)?> IntoAssigner<T> for $assigner {
            type Assigner = Self;

            fn into_assigner(self) -> Result<Self> {
                Ok(self)
            }
        }
    };
}

is_assigner!(AlignedWindows);
is_assigner!(SessionWindows);
is_assigner!(GlobalWindows);
is_assigner!(DynamicSessionWindows<G>, G: Sized);

impl<T, A: WindowAssigner<T> + Clone + Sync> IntoAssigner<T> for Result<A> {
    type Assigner = A;

    fn into_assigner(self) -> Result<A> {
        self
    }
}

/// A keyed stream cut into windows. Ends with a function over each window's elements.
pub struct WindowedStream<T, S, A, Tr = DefaultTrigger, E = NoEvictor> {
    keyed: KeyedStream<T, S>,
    spec: Result<WindowSpec<T, A, Tr, E>>,
    all: bool,
}

impl<T, S, A, Tr, E> std::fmt::Debug for WindowedStream<T, S, A, Tr, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WindowedStream over {:?}", self.keyed)
    }
}

impl<T: Data, S: KeySelector<T>> KeyedStream<T, S> {
    /// Cuts the stream of each key into windows.
    pub fn window<I: IntoAssigner<T>>(&self, assigner: I) -> WindowedStream<T, S, I::Assigner> {
        let spec = assigner.into_assigner().map(WindowSpec::new);
        WindowedStream {
            keyed: self.clone(),
            spec,
            all: false,
        }
    }
}

impl<T: Data> DataStream<T> {
    /// Cuts the whole stream into windows, in a single subtask.
    pub fn window_all<I: IntoAssigner<T>>(&self, assigner: I) -> WindowedStream<T, AllKeys, I::Assigner> {
        let spec = assigner.into_assigner().map(WindowSpec::new);
        WindowedStream {
            keyed: KeyedStream::new(self.clone(), AllKeys),
            spec,
            all: true,
        }
    }
}

impl<T, S, A, Tr, E> WindowedStream<T, S, A, Tr, E>
where
    T: Data,
    S: KeySelector<T>,
    A: WindowAssigner<T> + Clone + Sync,
{
    fn with_spec<Tr2, E2>(
        self,
        change: impl FnOnce(WindowSpec<T, A, Tr, E>) -> WindowSpec<T, A, Tr2, E2>,
    ) -> WindowedStream<T, S, A, Tr2, E2> {
        WindowedStream {
            keyed: self.keyed,
            spec: self.spec.map(change),
            all: self.all,
        }
    }

    /// Fires by another trigger than the assigner's own.
    pub fn trigger<Tr2: Trigger<T, A::Window>>(self, trigger: Tr2) -> WindowedStream<T, S, A, Tr2, E> {
        self.with_spec(|spec| spec.trigger(trigger))
    }

    /// Removes elements when a window fires. Windows then keep all their elements.
    pub fn evictor<E2: Evictor<T, A::Window>>(
        self,
        evictor: E2,
    ) -> WindowedStream<T, S, A, Tr, WithEvictor<E2>> {
        self.with_spec(|spec| spec.evictor(evictor))
    }

    /// Keeps windows of event time for so long after their end: late elements fire them again.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        self.with_spec(|spec| spec.allowed_lateness(lateness))
    }

    /// Where elements go that are later still; without it they are dropped and counted.
    #[must_use]
    pub fn side_output_late_data(self, tag: &OutputTag<T>) -> Self {
        let tag = tag.clone();
        self.with_spec(|spec| spec.side_output_late(tag))
    }

    /// Adds the operator that `make` makes, once to see whether its parts fit, then once a subtask.
    fn operator<Out: Data>(
        self,
        name: &str,
        make: impl Fn(WindowSpec<T, A, Tr, E>, Arc<S>) -> Result<WindowOperatorBox<T, Out>>
        + Send
        + Sync
        + 'static,
    ) -> DataStream<Out>
    where
        Tr: Clone + Send + Sync + 'static,
        E: Clone + Send + Sync + 'static,
    {
        let spec = match self.spec {
            Ok(spec) => spec,
            Err(error) => {
                let unfit = self.keyed.transform(name, |_| Unfit);
                unfit.mistake(error.chain());
                return unfit;
            }
        };
        let fit = make(spec.clone(), self.keyed.selector.clone());
        let windows = self
            .keyed
            .transform(name, move |selector| match make(spec.clone(), selector) {
                Ok(operator) => operator,
                Err(_) => Box::new(Unfit),
            });
        if let Err(error) = fit {
            windows.mistake(error.chain());
        }
        if self.all {
            windows.set_parallelism(1)
        } else {
            windows
        }
    }
}

/// Stands for an operator whose parts do not fit together; `execute` reports why and never runs it.
struct Unfit;

impl<T: Send, Out> Operator<T, Out> for Unfit {
    fn open(&mut self, _: &mut OpenContext<'_>) -> Result<()> {
        Err(Error::internal(
            "a window operator whose parts do not fit was started",
        ))
    }

    fn process(
        &mut self,
        _: &mut hurtig_core::Batch<T>,
        _: hurtig_dataflow::operator::Cx<'_>,
        _: &mut Collector<Out>,
        _: &mut hurtig_dataflow::operator::Budget,
    ) -> Result<hurtig_dataflow::operator::Progress> {
        Err(Error::internal(
            "a window operator whose parts do not fit was started",
        ))
    }
}

/// The functions that end a windowed stream, for specs without and with an evictor.
macro_rules! window_functions {
    ($evictor:ty $(, $e:ident)?) => {
        impl<T, S, A, Tr $(, $e)?> WindowedStream<T, S, A, Tr, $evictor>
        where
            T: Data,
            S: KeySelector<T>,
            A: WindowAssigner<T> + Clone + Sync,
            Tr: Trigger<T, A::Window> + Clone + Sync,
            $($e: Evictor<T, A::Window> + Clone + Sync + 'static,)?
        {
            /// Folds the elements of a window into its first.
            pub fn reduce(self, fold: impl Fn(&mut T, T) + Send + Sync + 'static) -> DataStream<T> {
                let fold = Arc::new(fold);
                self.operator("Window Reduce", move |spec, selector| {
                    let fold = fold.clone();
                    spec.reduce(selector, move |kept: &mut T, next| fold(kept, next))
                })
            }

            /// Emits the result of an aggregate function for each window.
            pub fn aggregate<G>(self, aggregate: G) -> DataStream<G::Out>
            where
                G: AggregateFunction<In = T, Out: Data>,
            {
                let aggregate = Arc::new(aggregate);
                self.operator("Window Aggregate", move |spec, selector| spec.aggregate(selector, aggregate.clone()))
            }

            /// Aggregates each window, then hands the one result to a closure that knows the key and
            /// the window.
            pub fn aggregate_then<G, Out>(
                self,
                aggregate: G,
                then: impl Fn(&S::Borrowed, &A::Window, &G::Out, &mut Collector<Out>) + Send + Sync + 'static,
            ) -> DataStream<Out>
            where
                G: AggregateFunction<In = T, Out: Data>,
                Out: Data,
            {
                let (aggregate, then) = (Arc::new(aggregate), Arc::new(then));
                self.operator("Window Aggregate", move |spec, selector| {
                    let then = then.clone();
                    let function = move |key: &S::Borrowed,
                                         cx: &mut WindowContext<'_, A::Window>,
                                         results: Elements<'_, G::Out>,
                                         out: &mut Collector<Out>|
                          -> Result<(), UserError> {
                        results.iter().for_each(|result| then(key, cx.window, result, out));
                        Ok(())
                    };
                    spec.aggregate_then(selector, aggregate.clone(), ProcessFn(function))
                })
            }

            /// Aggregates each window, then hands the result to a window function that `make` makes.
            pub fn aggregate_process<G, P, Out>(
                self,
                aggregate: G,
                make: impl Fn() -> P + Send + Sync + 'static,
            ) -> DataStream<Out>
            where
                G: AggregateFunction<In = T>,
                P: ProcessWindowFunction<G::Out, S::Borrowed, A::Window, Out>,
                Out: Data,
            {
                let aggregate = Arc::new(aggregate);
                self.operator("Window Aggregate", move |spec, selector| {
                    spec.aggregate_then(selector, aggregate.clone(), make())
                })
            }

            /// Folds the elements of a window, then hands the result to a window function that `make`
            /// makes.
            pub fn reduce_process<P, Out>(
                self,
                fold: impl Fn(&mut T, T) + Send + Sync + 'static,
                make: impl Fn() -> P + Send + Sync + 'static,
            ) -> DataStream<Out>
            where
                P: ProcessWindowFunction<T, S::Borrowed, A::Window, Out>,
                Out: Data,
            {
                let fold = Arc::new(fold);
                self.operator("Window Reduce", move |spec, selector| {
                    let fold = fold.clone();
                    spec.reduce_then(selector, move |kept: &mut T, next| fold(kept, next), make())
                })
            }

            /// Hands all elements of a window to a function that `make` makes once a subtask.
            pub fn process<P, Out>(self, make: impl Fn() -> P + Send + Sync + 'static) -> DataStream<Out>
            where
                P: ProcessWindowFunction<T, S::Borrowed, A::Window, Out>,
                Out: Data,
            {
                self.operator("Window Process", move |spec, selector| spec.process(selector, make()))
            }

            /// Hands all elements of a window to a closure that knows the key and the window.
            pub fn apply<Out: Data>(
                self,
                apply: impl Fn(&S::Borrowed, &A::Window, Elements<'_, T>, &mut Collector<Out>) + Send + Sync + 'static,
            ) -> DataStream<Out> {
                let apply = Arc::new(apply);
                self.operator("Window Apply", move |spec, selector| {
                    let apply = apply.clone();
                    let function = move |key: &S::Borrowed,
                                         cx: &mut WindowContext<'_, A::Window>,
                                         elements: Elements<'_, T>,
                                         out: &mut Collector<Out>|
                          -> Result<(), UserError> {
                        apply(key, cx.window, elements, out);
                        Ok(())
                    };
                    spec.process(selector, ProcessFn(function))
                })
            }
        }
    };
}

window_functions!(NoEvictor);
window_functions!(WithEvictor<E>, E);
