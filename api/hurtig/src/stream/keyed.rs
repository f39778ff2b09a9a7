//! Streams grouped by key.

use super::{DataStream, KeyedConnectedStreams, Routing};
use crate::Data;
use hurtig_core::UserError;
use hurtig_core::key::StableKey;
use hurtig_dataflow::function::{KeyedOpenContext, KeyedProcessFunction};
use hurtig_dataflow::key::KeySelector;
use hurtig_dataflow::operator::Operator;
use hurtig_dataflow::operators::{KeyedFold, KeyedProcess, Reduce, TryReduce, rolling};
use hurtig_exchange::HashRecords;
use std::ops::Add;
use std::sync::Arc;

/// A stream whose records are grouped by the key that `S` selects: all records of one key are
/// processed by one subtask, in order.
pub struct KeyedStream<T, S> {
    pub(crate) stream: DataStream<T>,
    pub(crate) selector: Arc<S>,
}

impl<T, S> Clone for KeyedStream<T, S> {
    fn clone(&self) -> Self {
        Self {
            stream: self.stream.clone(),
            selector: self.selector.clone(),
        }
    }
}

impl<T, S> std::fmt::Debug for KeyedStream<T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyedStream over {:?}", self.stream)
    }
}

/// Hashes records by their selected key, a batch at a time.
struct SelectedHash<S>(Arc<S>);

impl<T, S: KeySelector<T>> HashRecords<T> for SelectedHash<S> {
    fn hash_all(&self, records: &[T], hashes: &mut Vec<u64>) {
        self.0.hash_all(records, hashes);
    }

    fn cheap(&self) -> bool {
        S::hashes_cheaply()
    }

    fn split(&self, records: &[T], bound: u32, lists: (&mut [u32], &mut [u32])) -> Option<usize> {
        self.0.split_places(records, bound, lists)
    }
}

impl<T: Data, S: KeySelector<T>> KeyedStream<T, S> {
    pub(crate) fn new(stream: DataStream<T>, selector: S) -> Self {
        let selector = Arc::new(selector);
        let mut key = String::new();
        S::Key::shape(&mut key);
        let hasher: Arc<dyn HashRecords<T>> = Arc::new(SelectedHash(selector.clone()));
        let routing = Routing::by_hash(key, hasher);
        Self {
            stream: stream.routed(&routing),
            selector,
        }
    }

    /// Adds a keyed operator of any kind; it receives the selector that finds its keys.
    pub fn transform<Out, O>(
        &self,
        name: &str,
        make: impl Fn(Arc<S>) -> O + Send + Sync + 'static,
    ) -> DataStream<Out>
    where
        Out: Data,
        O: Operator<T, Out> + 'static,
    {
        let selector = self.selector.clone();
        self.stream.transform(name, move || make(selector.clone()))
    }

    /// A function with keyed state and timers. `make` is called once a subtask, on the thread that
    /// runs it, and declares the function's state: `|ctx| Ok(Alert { last: ctx.value("last")? })`.
    pub fn process<F, Out>(
        &self,
        make: impl Fn(&mut KeyedOpenContext<'_, S::Key>) -> Result<F, UserError> + Send + Sync + 'static,
    ) -> DataStream<Out>
    where
        F: KeyedProcessFunction<S::Borrowed, T, Out> + 'static,
        Out: Data,
    {
        let make = Arc::new(make);
        self.transform("KeyedProcess", move |selector| {
            let make = make.clone();
            KeyedProcess::with_state(selector, move |ctx| make(ctx))
        })
    }

    /// Folds each record into its key's and emits the result; the first record of a key as it is.
    pub fn reduce(&self, reduce: impl Fn(&mut T, T) + Send + Sync + 'static) -> DataStream<T> {
        self.rolling("Keyed Reduce", reduce)
    }

    /// As [`KeyedStream::reduce`], with a function that may fail; an error fails the job.
    pub fn try_reduce(
        &self,
        reduce: impl Fn(&mut T, T) -> Result<(), UserError> + Send + Sync + 'static,
    ) -> DataStream<T> {
        let reduce = Arc::new(reduce);
        self.transform("Keyed Reduce", move |selector| {
            TryReduce::new(selector, reduce.clone())
        })
    }

    fn rolling(&self, name: &str, reduce: impl Fn(&mut T, T) + Send + Sync + 'static) -> DataStream<T> {
        let reduce = Arc::new(reduce);
        self.transform(name, move |selector| Reduce::new(selector, reduce.clone()))
    }

    /// The first record of each key with a field that holds the sum so far: Flink's `sum(field)`.
    pub fn sum<N: Add<Output = N>>(
        &self,
        get: impl Fn(&T) -> N + Send + Sync + 'static,
        set: impl Fn(&mut T, N) + Send + Sync + 'static,
    ) -> DataStream<T> {
        self.rolling("Keyed Sum", rolling::sum(get, set))
    }

    /// The first record of each key with a field that holds the least value so far.
    pub fn min<N: PartialOrd>(
        &self,
        get: impl Fn(&T) -> N + Send + Sync + 'static,
        set: impl Fn(&mut T, N) + Send + Sync + 'static,
    ) -> DataStream<T> {
        self.rolling("Keyed Min", rolling::min(get, set))
    }

    /// The first record of each key with a field that holds the greatest value so far.
    pub fn max<N: PartialOrd>(
        &self,
        get: impl Fn(&T) -> N + Send + Sync + 'static,
        set: impl Fn(&mut T, N) + Send + Sync + 'static,
    ) -> DataStream<T> {
        self.rolling("Keyed Max", rolling::max(get, set))
    }

    /// The record of each key whose field was least so far.
    pub fn min_by<N: PartialOrd>(&self, get: impl Fn(&T) -> N + Send + Sync + 'static) -> DataStream<T> {
        self.rolling("Keyed MinBy", rolling::min_by(get))
    }

    /// The record of each key whose field was greatest so far.
    pub fn max_by<N: PartialOrd>(&self, get: impl Fn(&T) -> N + Send + Sync + 'static) -> DataStream<T> {
        self.rolling("Keyed MaxBy", rolling::max_by(get))
    }

    /// A value of any type for each key, changed by each record; `fold` says what to emit.
    pub fn fold<Acc: Data, Out: Data>(
        &self,
        init: impl Fn() -> Acc + Send + Sync + 'static,
        fold: impl Fn(&S::Borrowed, &mut Acc, &T) -> Out + Send + Sync + 'static,
    ) -> DataStream<Out> {
        let (init, fold) = (Arc::new(init), Arc::new(fold));
        self.transform("Keyed Fold", move |selector| {
            KeyedFold::new(selector, init.clone(), fold.clone())
        })
    }

    /// How many records each key has had, with the key, at each record.
    pub fn count(&self) -> DataStream<(S::Key, u64)>
    where
        S::Key: Data,
    {
        self.fold(
            || 0u64,
            |key, count, _| {
                *count += 1;
                (key.to_owned(), *count)
            },
        )
        .name("Keyed Count")
    }

    /// Two keyed streams whose functions share the state of a key.
    pub fn connect<B, R>(&self, other: &KeyedStream<B, R>) -> KeyedConnectedStreams<T, B, S, R>
    where
        B: Data,
        R: KeySelector<B, Key = S::Key, Borrowed = S::Borrowed>,
    {
        KeyedConnectedStreams::new(self.clone(), other.clone())
    }
}
