//! Two streams of different types, read by one operator.

use super::{DataStream, KeyedStream, Upstream};
use crate::Data;
use hurtig_core::UserError;
use hurtig_dataflow::function::{CoProcessFunction, Emitter, KeyedCoProcessFunction, KeyedOpenContext};
use hurtig_dataflow::graph::{NodeKind, StreamNode};
use hurtig_dataflow::key::KeySelector;
use hurtig_dataflow::operator::TwoInputOperator;
use hurtig_dataflow::operators::{CoFlatMap, CoMap, CoProcess, KeyedCoProcess};
use hurtig_dataflow::program::{NodeCode, TypedTwoInput};
use std::sync::Arc;

/// Two streams that one operator will read.
#[derive(Debug)]
pub struct ConnectedStreams<A, B> {
    first: DataStream<A>,
    second: DataStream<B>,
}

impl<A: Data, B: Data> ConnectedStreams<A, B> {
    pub(crate) fn new(first: DataStream<A>, second: DataStream<B>) -> Self {
        Self { first, second }
    }

    /// Adds an operator of any kind that reads both streams.
    pub fn transform<Out, O>(
        &self,
        name: &str,
        make: impl Fn() -> O + Send + Sync + 'static,
    ) -> DataStream<Out>
    where
        Out: Data,
        O: TwoInputOperator<A, B, Out> + 'static,
    {
        let env = &self.first.env;
        let node = StreamNode::new(name, std::any::type_name::<O>(), NodeKind::Operator);
        let place = env.add_node(
            node,
            NodeCode::TwoInput(Box::new(TypedTwoInput::<A, B, Out, _>::new(make))),
        );
        for input in &self.first.inputs {
            env.add_edge(input, &place, 0);
        }
        for input in &self.second.inputs {
            env.add_edge(input, &place, 1);
        }
        DataStream::of(env.clone(), Upstream::main(place))
    }

    /// One record for each record of either stream.
    pub fn map<Out: Data>(
        &self,
        first: impl Fn(A) -> Out + Send + Sync + 'static,
        second: impl Fn(B) -> Out + Send + Sync + 'static,
    ) -> DataStream<Out> {
        let (first, second) = (Arc::new(first), Arc::new(second));
        self.transform("Co-Map", move || CoMap::new(first.clone(), second.clone()))
    }

    /// Any number of records for each record of either stream.
    pub fn flat_map<Out: Data>(
        &self,
        first: impl Fn(A, &mut Emitter<'_, Out>) -> Result<(), UserError> + Send + Sync + 'static,
        second: impl Fn(B, &mut Emitter<'_, Out>) -> Result<(), UserError> + Send + Sync + 'static,
    ) -> DataStream<Out> {
        let (first, second) = (Arc::new(first), Arc::new(second));
        self.transform("Co-Flat Map", move || {
            CoFlatMap::new(first.clone(), second.clone())
        })
    }

    /// A function with context over both streams, made once a subtask by `make`.
    pub fn process<F, Out>(&self, make: impl Fn() -> F + Send + Sync + 'static) -> DataStream<Out>
    where
        F: CoProcessFunction<A, B, Out> + 'static,
        Out: Data,
    {
        let make = Arc::new(make);
        self.transform("Co-Process", move || {
            let make = make.clone();
            CoProcess::new(move || make())
        })
    }

    /// Groups both streams by keys of one type.
    pub fn key_by<K, F, G>(
        &self,
        first: F,
        second: G,
    ) -> KeyedConnectedStreams<A, B, hurtig_dataflow::key::ByValue<F, K>, hurtig_dataflow::key::ByValue<G, K>>
    where
        K: hurtig_core::key::OwnedKey,
        F: Fn(&A) -> K + Send + Sync + 'static,
        G: Fn(&B) -> K + Send + Sync + 'static,
    {
        KeyedConnectedStreams::new(self.first.key_by(first), self.second.key_by(second))
    }
}

/// Two streams grouped by keys of one type: functions over them share the state of a key.
#[derive(Debug)]
pub struct KeyedConnectedStreams<A, B, S, R> {
    first: KeyedStream<A, S>,
    second: KeyedStream<B, R>,
}

impl<A, B, S, R> KeyedConnectedStreams<A, B, S, R>
where
    A: Data,
    B: Data,
    S: KeySelector<A>,
    R: KeySelector<B, Key = S::Key, Borrowed = S::Borrowed>,
{
    pub(crate) fn new(first: KeyedStream<A, S>, second: KeyedStream<B, R>) -> Self {
        Self { first, second }
    }

    /// A function with keyed state and timers over both streams. `make` is called once a subtask
    /// and declares the function's state.
    pub fn process<F, Out>(
        &self,
        make: impl Fn(&mut KeyedOpenContext<'_, S::Key>) -> Result<F, UserError> + Send + Sync + 'static,
    ) -> DataStream<Out>
    where
        F: KeyedCoProcessFunction<S::Borrowed, A, B, Out> + 'static,
        Out: Data,
    {
        let (first, second) = (self.first.selector.clone(), self.second.selector.clone());
        let make = Arc::new(make);
        let both = ConnectedStreams::new(self.first.stream.clone(), self.second.stream.clone());
        both.transform("Keyed Co-Process", move || {
            let make = make.clone();
            KeyedCoProcess::with_state(first.clone(), second.clone(), move |ctx| make(ctx))
        })
    }
}
