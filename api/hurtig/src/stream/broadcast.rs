//! A stream together with one that all of its subtasks read.

use super::{ConnectedStreams, DataStream, KeyedStream};
use crate::Data;
use hurtig_core::UserError;
use hurtig_dataflow::broadcast::{BroadcastProcessFunction, KeyedBroadcastProcessFunction};
use hurtig_dataflow::function::KeyedOpenContext;
use hurtig_dataflow::key::KeySelector;
use hurtig_dataflow::operators::{BroadcastProcess, KeyedBroadcastProcess};
use std::sync::Arc;

/// A stream and one that is broadcast to the subtasks of the operator that will read both.
#[derive(Debug)]
pub struct BroadcastConnectedStreams<A, B> {
    both: ConnectedStreams<A, B>,
}

impl<A: Data, B: Data> BroadcastConnectedStreams<A, B> {
    /// A function over both streams, made once a subtask by `make`. What it keeps of the broadcast stream is in every
    /// checkpoint, and the same in every subtask at any parallelism.
    pub fn process<F, Out>(&self, make: impl Fn() -> F + Send + Sync + 'static) -> DataStream<Out>
    where
        F: BroadcastProcessFunction<A, B, Out> + 'static,
        Out: Data,
    {
        let make = Arc::new(make);
        self.both.transform("Broadcast Process", move || {
            let make = make.clone();
            BroadcastProcess::new(move || make())
        })
    }
}

/// A keyed stream and one that is broadcast to the subtasks of the operator that will read both.
#[derive(Debug)]
pub struct KeyedBroadcastConnectedStreams<A, B, S> {
    keyed: KeyedStream<A, S>,
    broadcast: DataStream<B>,
}

impl<A: Data, B: Data, S: KeySelector<A>> KeyedBroadcastConnectedStreams<A, B, S> {
    /// A function with keyed state and timers over both streams. `make` is called once a subtask and declares the
    /// function's keyed state.
    pub fn process<F, Out>(
        &self,
        make: impl Fn(&mut KeyedOpenContext<'_, S::Key>) -> Result<F, UserError> + Send + Sync + 'static,
    ) -> DataStream<Out>
    where
        F: KeyedBroadcastProcessFunction<S::Borrowed, A, B, Out> + 'static,
        Out: Data,
    {
        let (selector, make) = (self.keyed.selector.clone(), Arc::new(make));
        let both = ConnectedStreams::new(self.keyed.stream.clone(), self.broadcast.clone());
        both.transform("Keyed Broadcast Process", move || {
            let make = make.clone();
            KeyedBroadcastProcess::with_state(selector.clone(), move |ctx| make(ctx))
        })
    }
}

impl<A: Data> DataStream<A> {
    /// This stream and one of which every subtask of the operator that reads both gets every record: for rules and other
    /// things that change seldom and that all must know.
    pub fn connect_broadcast<B: Data>(&self, broadcast: &DataStream<B>) -> BroadcastConnectedStreams<A, B> {
        let both = ConnectedStreams::new(self.clone(), broadcast.broadcast());
        BroadcastConnectedStreams { both }
    }
}

impl<A: Data, S: KeySelector<A>> KeyedStream<A, S> {
    /// As [`DataStream::connect_broadcast`]; functions over both have the state of this stream's keys.
    pub fn connect_broadcast<B: Data>(
        &self,
        broadcast: &DataStream<B>,
    ) -> KeyedBroadcastConnectedStreams<A, B, S> {
        KeyedBroadcastConnectedStreams {
            keyed: self.clone(),
            broadcast: broadcast.broadcast(),
        }
    }
}
