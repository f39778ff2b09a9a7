//! Tests of the graph rules, against tables and naive models.

mod chains;
mod execution;
mod jobs;
mod mistakes;
mod regions;
mod rescale;

use super::{GraphSettings, JobGraph, NodeKind, StreamEdge, StreamGraph, StreamNode};
use hurtig_core::ids::{JobId, NodeId};

/// A graph under construction: `add("map", &[source])` is an operator that reads `source`.
#[derive(Debug, Default)]
pub(crate) struct Sketch {
    pub(crate) graph: StreamGraph,
}

impl Sketch {
    pub(crate) fn source(&mut self, name: &str) -> NodeId {
        self.graph
            .add_node(StreamNode::new(name, "Source", NodeKind::Source))
    }

    pub(crate) fn map(&mut self, name: &str, inputs: &[NodeId]) -> NodeId {
        self.add(StreamNode::new(name, "Map", NodeKind::Operator), inputs)
    }

    pub(crate) fn sink(&mut self, name: &str, inputs: &[NodeId]) -> NodeId {
        self.add(StreamNode::new(name, "Sink", NodeKind::Sink), inputs)
    }

    pub(crate) fn add(&mut self, node: StreamNode, inputs: &[NodeId]) -> NodeId {
        let id = self.graph.add_node(node);
        inputs
            .iter()
            .for_each(|input| self.graph.add_edge(StreamEdge::new(*input, id)));
        id
    }

    pub(crate) fn node(&mut self, id: NodeId) -> &mut StreamNode {
        self.graph.node_mut(id).unwrap()
    }

    pub(crate) fn job(&self) -> JobGraph {
        self.job_with(&GraphSettings::default())
    }

    pub(crate) fn job_with(&self, settings: &GraphSettings) -> JobGraph {
        self.graph.job_graph(JobId::from_u128(1), settings).unwrap()
    }

    /// The names of the vertices.
    pub(crate) fn vertices(&self) -> Vec<String> {
        self.job()
            .vertices
            .into_iter()
            .map(|vertex| vertex.name)
            .collect()
    }
}

/// source -> map -> sink, not yet touched by any setting.
pub(crate) fn line() -> (Sketch, [NodeId; 3]) {
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    let map = sketch.map("map", &[source]);
    let sink = sketch.sink("sink", &[map]);
    (sketch, [source, map, sink])
}
