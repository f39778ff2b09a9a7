//! Streams grouped by key.

use super::{DataStream, KeyedConnectedStreams, Routing};
use crate::Data;
use crate::window::{NoTrigger, WindowedStream};
use hurtig_core::key::StableKey;
use hurtig_dataflow::function::KeyedProcessFunction;
use hurtig_dataflow::graph::PartitionKind;
use hurtig_dataflow::key::KeySelector;
use hurtig_dataflow::operator::Operator;
use hurtig_exchange::{HashRecords, Partitioner};
use std::sync::Arc;

/// A stream whose records are grouped by the key that `S` selects: all records of one key are
/// processed by one subtask, in order.
pub struct KeyedStream<T, S> {
    pub(crate) stream: DataStream<T>,
    pub(crate) selector: Arc<S>,
}

impl<T, S> Clone for KeyedStream<T, S> {
    fn clone(&self) -> Self {
        Self { stream: self.stream.clone(), selector: self.selector.clone() }
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
}

impl<T: Data, S: KeySelector<T>> KeyedStream<T, S> {
    pub(crate) fn new(stream: DataStream<T>, selector: S) -> Self {
        let selector = Arc::new(selector);
        let mut key = String::new();
        S::Key::shape(&mut key);
        let hasher: Arc<dyn HashRecords<T>> = Arc::new(SelectedHash(selector.clone()));
        let routing = Routing::new(PartitionKind::Hash { key }, move |shape| {
            Partitioner::hash(hasher.clone(), shape.max_parallelism, shape.consumers)
        });
        Self { stream: stream.routed(&routing), selector }
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

    /// A function with keyed state and timers. `make` is called once a subtask.
    pub fn process<F, Out>(&self, make: impl Fn() -> F + Send + Sync + 'static) -> DataStream<Out>
    where
        F: KeyedProcessFunction<S::Borrowed, T, Out> + 'static,
        Out: Data,
    {
        use hurtig_dataflow::operators::keyed_process::KeyedProcess;
        self.transform("KeyedProcess", move |selector| KeyedProcess::new(selector, make()))
    }
}
