//! Where a stream comes from, and how its records will reach the next operator.

use crate::Data;
use crate::place::Place;
use hurtig_core::ids::NodeId;
use hurtig_core::types::TypeInfo;
use hurtig_dataflow::graph::{PartitionKind, StreamEdge};
use hurtig_dataflow::program::{EdgeCode, EdgeShape, TypedEdge};
use hurtig_exchange::{HashRecords, Partitioner};
use std::sync::Arc;

type MakePartitioner<T> = Arc<dyn Fn(EdgeShape) -> Partitioner<T> + Send + Sync>;

/// A partitioning that the program asked for.
pub(crate) struct Routing<T> {
    pub(crate) kind: PartitionKind,
    pub(crate) make: MakePartitioner<T>,
    /// Hashes the records' keys, if they decide.
    pub(crate) hasher: Option<Arc<dyn HashRecords<T>>>,
}

impl<T> Clone for Routing<T> {
    fn clone(&self) -> Self {
        Self {
            kind: self.kind.clone(),
            make: self.make.clone(),
            hasher: self.hasher.clone(),
        }
    }
}

impl<T> Routing<T> {
    pub(crate) fn new(
        kind: PartitionKind,
        make: impl Fn(EdgeShape) -> Partitioner<T> + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            make: Arc::new(make),
            hasher: None,
        }
    }

    /// By the hashes of keys, written as `key`.
    pub(crate) fn by_hash(key: String, hasher: Arc<dyn HashRecords<T>>) -> Self
    where
        T: 'static,
    {
        let hash = hasher.clone();
        let make =
            move |shape: EdgeShape| Partitioner::hash(hash.clone(), shape.max_parallelism, shape.consumers);
        Self {
            hasher: Some(hasher),
            ..Self::new(PartitionKind::Hash { key }, make)
        }
    }
}

/// One output of one operator, on its way to a consumer.
pub(crate) struct Upstream<T> {
    pub(crate) place: Place,
    pub(crate) side: Option<String>,
    pub(crate) routing: Option<Routing<T>>,
}

impl<T> Clone for Upstream<T> {
    fn clone(&self) -> Self {
        Self {
            place: self.place.clone(),
            side: self.side.clone(),
            routing: self.routing.clone(),
        }
    }
}

/// Without a choice of the program: to the one consumer, or to all in turn.
fn by_default<T>(shape: EdgeShape) -> Partitioner<T> {
    if shape.consumers == 1 {
        return Partitioner::Forward;
    }
    Partitioner::Rebalance {
        next: shape.producer as usize % shape.consumers as usize,
    }
}

impl<T: Data> Upstream<T> {
    pub(crate) fn main(place: Place) -> Self {
        Self {
            place,
            side: None,
            routing: None,
        }
    }

    /// The edge of the graph that leads to `input` of `to`.
    pub(crate) fn edge(&self, to: NodeId, input: u8) -> StreamEdge {
        let mut edge = StreamEdge::new(self.place.node, to).into_input(input);
        edge.partition = self.routing.as_ref().map(|routing| routing.kind.clone());
        edge.side.clone_from(&self.side);
        edge
    }

    /// The code of that edge.
    pub(crate) fn code(&self) -> Box<dyn EdgeCode> {
        let make: MakePartitioner<T> = match &self.routing {
            Some(routing) => routing.make.clone(),
            None => Arc::new(by_default),
        };
        let hasher = self.routing.as_ref().and_then(|routing| routing.hasher.clone());
        Box::new(TypedEdge::new(TypeInfo::<T>::of(), move |shape| make(shape)).hashed_by(hasher))
    }
}
