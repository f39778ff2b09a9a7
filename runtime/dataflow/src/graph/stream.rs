//! The logical graph: one node an operator, as the program described it.

use hurtig_core::ids::NodeId;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The slot sharing group of operators that name none and whose inputs do not agree on one.
pub const DEFAULT_SLOT_SHARING_GROUP: &str = "default";

/// What place an operator has in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeKind {
    /// Has no input.
    Source,
    /// Has inputs and outputs.
    Operator,
    /// Has no output that anyone could consume.
    Sink,
}

/// With whom an operator may share a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chaining {
    /// With its input and its output.
    #[default]
    Always,
    /// Only with its output: it begins a new chain.
    Head,
    /// With nobody.
    Never,
}

/// How records find the subtask that consumes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PartitionKind {
    /// Subtask `i` to subtask `i`; both sides have the same parallelism.
    Forward,
    /// By the key group of the record's key.
    Hash {
        /// The shape of the key type, as `StableKey::shape` writes it; part of the fingerprint.
        key: String,
    },
    /// Round robin over all consumers.
    Rebalance,
    /// Round robin over a fixed few consumers near the producer.
    Rescale,
    /// A random consumer.
    Shuffle,
    /// Every consumer.
    Broadcast,
    /// Always the first consumer.
    Global,
    /// As the program's partitioner says.
    Custom,
}

impl PartitionKind {
    /// The name in plans, as Flink spells it.
    pub fn ship_strategy(&self) -> &'static str {
        match self {
            Self::Forward => "FORWARD",
            Self::Hash { .. } => "HASH",
            Self::Rebalance => "REBALANCE",
            Self::Rescale => "RESCALE",
            Self::Shuffle => "SHUFFLE",
            Self::Broadcast => "BROADCAST",
            Self::Global => "GLOBAL",
            Self::Custom => "CUSTOM",
        }
    }

    /// Whether a producer reaches only some consumers, by its position.
    pub fn is_pointwise(&self) -> bool {
        matches!(self, Self::Forward | Self::Rescale)
    }
}

/// One operator of the program. What is `None` was not asked for and is decided when the JobGraph
/// is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamNode {
    /// Assigned by [`StreamGraph::add_node`].
    pub id: NodeId,
    /// The name in plans, logs and metrics.
    pub name: String,
    /// A longer text for people; the name when absent.
    pub description: Option<String>,
    /// What the operator is (`Map`, `Window`); part of the fingerprint, so it survives renaming.
    pub operator_type: String,
    /// The identity that the user gave, to which state belongs.
    pub uid: Option<String>,
    /// An identity given as 32 hexadecimal digits, for state of a job that had none.
    pub uid_hash: Option<super::OperatorId>,
    /// Its place.
    pub kind: NodeKind,
    /// Whether it blocks its thread and so needs one of its own.
    pub blocking: bool,
    /// The parallelism asked for at the operator.
    pub parallelism: Option<u32>,
    /// The number of key groups asked for at the operator.
    pub max_parallelism: Option<u32>,
    /// The largest parallelism that makes sense; a default is lowered to it, a request beyond it
    /// is an error.
    pub parallelism_limit: Option<u32>,
    /// The group whose subtasks may share a slot with this operator's.
    pub slot_sharing_group: Option<String>,
    /// With whom it may be chained.
    pub chaining: Chaining,
    /// How long its outputs may hold records back.
    pub buffer_timeout: Option<Duration>,
}

impl StreamNode {
    /// An operator for which nothing else was asked.
    pub fn new(name: impl Into<String>, operator_type: impl Into<String>, kind: NodeKind) -> Self {
        Self {
            id: NodeId(0),
            name: name.into(),
            description: None,
            operator_type: operator_type.into(),
            uid: None,
            uid_hash: None,
            kind,
            blocking: false,
            parallelism: None,
            max_parallelism: None,
            parallelism_limit: None,
            slot_sharing_group: None,
            chaining: Chaining::default(),
            buffer_timeout: None,
        }
    }
}

/// A stream from one operator to another. Several edges to the same input are their union.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEdge {
    /// The producing operator.
    pub from: NodeId,
    /// The consuming operator.
    pub to: NodeId,
    /// Which of its inputs: 0 or 1.
    pub input: u8,
    /// The partitioning asked for; `None`: forward between equal parallelism, else rebalance.
    pub partition: Option<PartitionKind>,
    /// The side output that is consumed; `None`: the main output.
    pub side: Option<String>,
}

impl StreamEdge {
    /// The main output of `from` into the first input of `to`, partitioned by default.
    pub fn new(from: NodeId, to: NodeId) -> Self {
        Self {
            from,
            to,
            input: 0,
            partition: None,
            side: None,
        }
    }

    /// With a partitioning.
    #[must_use]
    pub fn partitioned(mut self, partition: PartitionKind) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Into another input.
    #[must_use]
    pub fn into_input(mut self, input: u8) -> Self {
        self.input = input;
        self
    }

    /// From a side output.
    #[must_use]
    pub fn from_side(mut self, tag: impl Into<String>) -> Self {
        self.side = Some(tag.into());
        self
    }
}

/// The program's graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamGraph {
    nodes: Vec<StreamNode>,
    edges: Vec<StreamEdge>,
}

impl StreamGraph {
    /// A graph without operators.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operator and returns its id: its place in the order of creation.
    pub fn add_node(&mut self, mut node: StreamNode) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        node.id = id;
        self.nodes.push(node);
        id
    }

    /// Adds a stream between two operators.
    pub fn add_edge(&mut self, edge: StreamEdge) {
        self.edges.push(edge);
    }

    /// The operators in order of creation; a node's id is its index.
    pub fn nodes(&self) -> &[StreamNode] {
        &self.nodes
    }

    /// The streams in order of creation.
    pub fn edges(&self) -> &[StreamEdge] {
        &self.edges
    }

    /// An operator; `None` when the id is not of this graph.
    pub fn node(&self, id: NodeId) -> Option<&StreamNode> {
        self.nodes.get(id.0 as usize)
    }

    /// An operator, to set what the program asks for after it was added.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut StreamNode> {
        self.nodes.get_mut(id.0 as usize)
    }

    /// Operators that have state for sure (sources, and what stands behind a hash partitioning) and no identity of their
    /// own: when the program changes they may not find their state again.
    pub fn stateful_without_uid(&self) -> impl Iterator<Item = &StreamNode> {
        self.nodes.iter().filter(|node| {
            let keyed = |edge: &StreamEdge| matches!(edge.partition, Some(PartitionKind::Hash { .. }));
            let stateful = node.kind == NodeKind::Source || self.inputs(node.id).any(keyed);
            stateful && node.uid.is_none() && node.uid_hash.is_none()
        })
    }

    /// The edges into an operator, in order of creation.
    pub fn inputs(&self, id: NodeId) -> impl Iterator<Item = &StreamEdge> {
        self.edges.iter().filter(move |edge| edge.to == id)
    }

    /// The edges out of an operator, side outputs included.
    pub fn outputs(&self, id: NodeId) -> impl Iterator<Item = &StreamEdge> {
        self.edges.iter().filter(move |edge| edge.from == id)
    }
}
