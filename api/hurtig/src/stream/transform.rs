//! Operators on streams without key, and partitioning.

use super::{ConnectedStreams, DataStream, KeyedStream, Routing, Upstream};
use crate::Data;
use hurtig_core::UserError;
use hurtig_core::key::{OwnedKey, StableKey};
use hurtig_dataflow::function::{Emitter, ProcessFunction};
use hurtig_dataflow::graph::{NodeKind, PartitionKind, StreamNode};
use hurtig_dataflow::key::{ByRef, ByValue};
use hurtig_dataflow::operator::{Operator, OutputTag};
use hurtig_dataflow::operators::{
    AssignWatermarks, Filter, FilterMap, FlatMap, FlatMapIter, Inspect, Map, Process, TryFilter, TryFlatMap,
    TryMap, WatermarkStrategy,
};
use hurtig_dataflow::program::{NodeCode, TypedOperator};
use hurtig_exchange::Partitioner;
use std::sync::Arc;

impl<T: Data> DataStream<T> {
    /// Adds an operator of any kind, made once a subtask by `make`. The methods below are this with
    /// a ready-made operator.
    pub fn transform<Out, O>(
        &self,
        name: &str,
        make: impl Fn() -> O + Send + Sync + 'static,
    ) -> DataStream<Out>
    where
        Out: Data,
        O: Operator<T, Out> + 'static,
    {
        let node = StreamNode::new(name, std::any::type_name::<O>(), NodeKind::Operator);
        let place = self.env.add_node(
            node,
            NodeCode::OneInput(Box::new(TypedOperator::<T, Out, _>::new(make))),
        );
        for input in &self.inputs {
            self.env.add_edge(input, &place, 0);
        }
        DataStream::of(self.env.clone(), Upstream::main(place))
    }

    /// One record for each record.
    pub fn map<Out: Data>(&self, map: impl Fn(T) -> Out + Send + Sync + 'static) -> DataStream<Out> {
        let map = Arc::new(map);
        self.transform("Map", move || Map::new(map.clone()))
    }

    /// As [`DataStream::map`], with a function that may fail; an error fails the job.
    pub fn try_map<Out: Data>(
        &self,
        map: impl Fn(T) -> Result<Out, UserError> + Send + Sync + 'static,
    ) -> DataStream<Out> {
        let map = Arc::new(map);
        self.transform("Map", move || TryMap::new(map.clone()))
    }

    /// The records for which `keep` is true.
    pub fn filter(&self, keep: impl Fn(&T) -> bool + Send + Sync + 'static) -> DataStream<T> {
        let keep = Arc::new(keep);
        self.transform("Filter", move || Filter::new(keep.clone()))
    }

    /// As [`DataStream::filter`], with a function that may fail; an error fails the job.
    pub fn try_filter(
        &self,
        keep: impl Fn(&T) -> Result<bool, UserError> + Send + Sync + 'static,
    ) -> DataStream<T> {
        let keep = Arc::new(keep);
        self.transform("Filter", move || TryFilter::new(keep.clone()))
    }

    /// One record or none for each record.
    pub fn filter_map<Out: Data>(
        &self,
        map: impl Fn(T) -> Option<Out> + Send + Sync + 'static,
    ) -> DataStream<Out> {
        let map = Arc::new(map);
        self.transform("FilterMap", move || FilterMap::new(map.clone()))
    }

    /// Any number of records for each record, pushed into the emitter.
    pub fn flat_map<Out: Data>(
        &self,
        map: impl Fn(T, &mut Emitter<'_, Out>) + Send + Sync + 'static,
    ) -> DataStream<Out> {
        let map = Arc::new(map);
        self.transform("FlatMap", move || FlatMap::new(map.clone()))
    }

    /// As [`DataStream::flat_map`], with a function that may fail; an error fails the job.
    pub fn try_flat_map<Out: Data>(
        &self,
        map: impl Fn(T, &mut Emitter<'_, Out>) -> Result<(), UserError> + Send + Sync + 'static,
    ) -> DataStream<Out> {
        let map = Arc::new(map);
        self.transform("FlatMap", move || TryFlatMap::new(map.clone()))
    }

    /// Any number of records for each record, as an iterator that is read only as fast as the
    /// consumers are: for records that turn into very many.
    pub fn flat_map_iter<I>(&self, map: impl Fn(T) -> I + Send + Sync + 'static) -> DataStream<I::Item>
    where
        I: IntoIterator + 'static,
        I::IntoIter: Send,
        I::Item: Data,
    {
        let map = Arc::new(map);
        self.transform("FlatMap", move || FlatMapIter::new(map.clone()))
    }

    /// Looks at each record and passes it on.
    pub fn inspect(&self, look: impl Fn(&T) + Send + Sync + 'static) -> DataStream<T> {
        let look = Arc::new(move |record: &T, _time: i64| look(record));
        self.transform("Inspect", move || Inspect::new(look.clone()))
    }

    /// A function with context: event time, side outputs, accumulators. `make` is called once a
    /// subtask, on the thread that runs it.
    pub fn process<F, Out>(&self, make: impl Fn() -> F + Send + Sync + 'static) -> DataStream<Out>
    where
        F: ProcessFunction<T, Out> + 'static,
        Out: Data,
    {
        let make = Arc::new(make);
        self.transform("Process", move || {
            let make = make.clone();
            Process::new(move || make())
        })
    }

    /// Gives records new event times and watermarks in the middle of a program.
    pub fn assign_timestamps_and_watermarks(&self, strategy: WatermarkStrategy<T>) -> DataStream<T> {
        let interval = self
            .env
            .config()
            .get(&hurtig_core::config::options::AUTO_WATERMARK_INTERVAL);
        self.transform("Timestamps/Watermarks", move || {
            AssignWatermarks::new(strategy.clone(), interval)
        })
    }

    /// Groups records by a key that `select` computes.
    pub fn key_by<K, F>(&self, select: F) -> KeyedStream<T, ByValue<F, K>>
    where
        K: OwnedKey,
        F: Fn(&T) -> K + Send + Sync + 'static,
    {
        KeyedStream::new(self.clone(), ByValue::new(select))
    }

    /// Groups records by a key that `select` borrows from the record: no copy a record.
    pub fn key_by_ref<Q, F>(&self, select: F) -> KeyedStream<T, ByRef<F, Q>>
    where
        Q: StableKey + ToOwned + ?Sized + 'static,
        Q::Owned: OwnedKey,
        F: Fn(&T) -> &Q + Send + Sync + 'static,
    {
        KeyedStream::new(self.clone(), ByRef::new(select))
    }

    /// The records of both streams.
    #[must_use]
    pub fn union(&self, other: &DataStream<T>) -> DataStream<T> {
        let inputs = self.inputs.iter().chain(&other.inputs).cloned().collect();
        DataStream {
            env: self.env.clone(),
            inputs,
        }
    }

    /// This stream and one of another type, to be read by one operator.
    pub fn connect<B: Data>(&self, other: &DataStream<B>) -> ConnectedStreams<T, B> {
        ConnectedStreams::new(self.clone(), other.clone())
    }

    /// What the operator emitted into a side output.
    pub fn side_output<S: Data>(&self, tag: &OutputTag<S>) -> DataStream<S> {
        let inputs = self.inputs.iter();
        let side = |input: &Upstream<T>| Upstream {
            place: input.place.clone(),
            side: Some(tag.name().to_owned()),
            routing: None,
        };
        DataStream {
            env: self.env.clone(),
            inputs: inputs.map(side).collect(),
        }
    }

    pub(super) fn routed(&self, routing: &Routing<T>) -> DataStream<T> {
        let route = |input: &Upstream<T>| Upstream {
            routing: Some(routing.clone()),
            ..input.clone()
        };
        DataStream {
            env: self.env.clone(),
            inputs: self.inputs.iter().map(route).collect(),
        }
    }

    /// Sends records to the consumer's subtasks in turn.
    #[must_use]
    pub fn rebalance(&self) -> DataStream<T> {
        let start = |producer: u32, consumers: u32| (producer % consumers.max(1)) as usize;
        self.routed(&Routing::new(PartitionKind::Rebalance, move |shape| {
            Partitioner::Rebalance {
                next: start(shape.producer, shape.consumers),
            }
        }))
    }

    /// Sends records in turn to the few of the consumer's subtasks that stand near.
    #[must_use]
    pub fn rescale(&self) -> DataStream<T> {
        self.routed(&Routing::new(PartitionKind::Rescale, |_| {
            Partitioner::Rebalance { next: 0 }
        }))
    }

    /// Sends each record to a random subtask of the consumer.
    #[must_use]
    pub fn shuffle(&self) -> DataStream<T> {
        self.routed(&Routing::new(PartitionKind::Shuffle, |shape| {
            Partitioner::Shuffle {
                state: 0x9E37_79B9_7F4A_7C15 ^ u64::from(shape.producer),
            }
        }))
    }

    /// Sends each record to every subtask of the consumer.
    #[must_use]
    pub fn broadcast(&self) -> DataStream<T> {
        self.routed(&Routing::new(PartitionKind::Broadcast, |_| {
            Partitioner::Broadcast
        }))
    }

    /// Sends all records to the consumer's first subtask.
    #[must_use]
    pub fn global(&self) -> DataStream<T> {
        self.routed(&Routing::new(PartitionKind::Global, |_| Partitioner::Global))
    }

    /// Sends records from subtask to subtask of the same number; parallelism must be equal.
    #[must_use]
    pub fn forward(&self) -> DataStream<T> {
        self.routed(&Routing::new(PartitionKind::Forward, |_| Partitioner::Forward))
    }

    /// Sends each record where `route` says: record and number of subtasks to subtask. What it returns
    /// is taken modulo that number.
    #[must_use]
    pub fn partition_custom(
        &self,
        route: impl Fn(&T, usize) -> usize + Send + Sync + 'static,
    ) -> DataStream<T> {
        let route: hurtig_exchange::Route<T> = Arc::new(route);
        self.routed(&Routing::new(PartitionKind::Custom, move |_| {
            Partitioner::Custom(route.clone())
        }))
    }
}
