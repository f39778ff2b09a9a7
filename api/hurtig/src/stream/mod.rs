//! Streams: the fluent face of the graph.

mod broadcast;
mod collect;
mod connected;
mod discard;
mod edge;
mod keyed;
mod options;
mod rich;
mod sinks;
mod transform;

pub use broadcast::{BroadcastConnectedStreams, KeyedBroadcastConnectedStreams};
pub use collect::{CollectHandle, CollectSink};
pub use connected::{ConnectedStreams, KeyedConnectedStreams};
pub use discard::DiscardingSink;
pub(crate) use edge::{Routing, Upstream};
pub use keyed::KeyedStream;
pub use sinks::StreamSink;

use crate::place::Place;
use crate::{Data, StreamEnv};

/// A stream of records, not yet keyed.
///
/// Every method describes the program; nothing runs before `StreamEnv::execute`.
pub struct DataStream<T> {
    env: StreamEnv,
    /// One output, or several for a union.
    inputs: Vec<Upstream<T>>,
}

impl<T> Clone for DataStream<T> {
    fn clone(&self) -> Self {
        Self {
            env: self.env.clone(),
            inputs: self.inputs.clone(),
        }
    }
}

impl<T> std::fmt::Debug for DataStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "DataStream<{}>({} inputs)",
            std::any::type_name::<T>(),
            self.inputs.len()
        )
    }
}

impl<T: Data> DataStream<T> {
    pub(crate) fn of(env: StreamEnv, input: Upstream<T>) -> Self {
        Self {
            env,
            inputs: vec![input],
        }
    }

    /// The operator whose main output this stream is.
    fn own_place(&self) -> Option<&Place> {
        match &self.inputs[..] {
            [only] if only.side.is_none() => Some(&only.place),
            _ => None,
        }
    }

    /// Notes a mistake in the operator that the stream comes from, to be reported by `execute`.
    pub(crate) fn mistake(&self, mistake: String) {
        self.env.mistake(self.own_place(), mistake);
    }
}
