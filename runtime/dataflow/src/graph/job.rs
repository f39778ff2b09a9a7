//! The JobGraph: what is submitted. Operators are chained, every default is decided.

use super::chaining::chains;
use super::error::GraphError;
use super::identity::{Fingerprint, OperatorId, operator_ids};
use super::names::{vertex_description, vertex_name};
use super::resolve::{Resolved, check_maximum, check_parallelism, partition, resolve};
use super::settings::GraphSettings;
use super::stream::{NodeKind, PartitionKind, StreamEdge, StreamGraph, StreamNode};
use super::validate;
use hurtig_core::ids::{EdgeId, JobId, NodeId, PartHasher, VertexId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// An operator within its vertex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOperator {
    /// The node of the StreamGraph, by which the program finds its code.
    pub node: NodeId,
    /// To whom its state belongs.
    pub id: OperatorId,
    /// Its name.
    pub name: String,
    /// The uid that the user gave.
    pub uid: Option<String>,
    /// What it is.
    pub operator_type: String,
    /// Its place.
    pub kind: NodeKind,
}

/// A chain of operators, run by as many tasks as its parallelism says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobVertex {
    /// The id of its first operator.
    pub id: VertexId,
    /// `a -> b -> c`.
    pub name: String,
    /// For people; has line breaks.
    pub description: String,
    /// The chain, first operator first; never empty.
    pub operators: Vec<JobOperator>,
    /// How many subtasks.
    pub parallelism: u32,
    /// How many key groups.
    pub max_parallelism: u32,
    /// Whether the program says how many subtasks, and not the settings.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fixed: bool,
    /// The most subtasks that its operators can have, if there is such a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism_limit: Option<u32>,
    /// Whose subtasks may share a slot.
    pub slot_sharing_group: String,
    /// Whether its tasks need threads of their own.
    pub blocking: bool,
    /// How long the outputs may hold records back; `None`: as configured.
    pub buffer_timeout: Option<Duration>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A stream between two vertices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEdge {
    /// Its number within the job.
    pub id: EdgeId,
    /// The producing vertex.
    pub from: VertexId,
    /// The consuming vertex.
    pub to: VertexId,
    /// The operator whose output it is: any of the producing chain for side outputs, else its last.
    pub producer: NodeId,
    /// The operator that reads it: the head of the consuming chain.
    pub consumer: NodeId,
    /// Which of the consumer's inputs.
    pub input: u8,
    /// How records find their subtask.
    pub partition: PartitionKind,
    /// Whether the program asked for it; otherwise it follows from the parallelism at both ends.
    pub requested: bool,
    /// The side output; `None`: the main output.
    pub side: Option<String>,
}

impl JobEdge {
    /// Whether a barrier may overtake records on this edge: where each record on its way belongs is known at
    /// any parallelism, and the edge is there at any.
    pub fn can_be_overtaken(&self) -> bool {
        match self.partition {
            PartitionKind::Hash { .. } | PartitionKind::Shuffle | PartitionKind::Global => true,
            PartitionKind::Rebalance => self.requested,
            PartitionKind::Forward
            | PartitionKind::Rescale
            | PartitionKind::Broadcast
            | PartitionKind::Custom => false,
        }
    }

    /// Whether both carry the same output to the same input: parts of one union.
    pub fn is_parallel_to(&self, other: &Self) -> bool {
        (self.producer, self.consumer, self.input) == (other.producer, other.consumer, other.input)
            && self.side == other.side
    }
}

/// A job as it is submitted, stored and imposed on rebuilt programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobGraph {
    /// The job.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// The vertices, producers before consumers.
    pub vertices: Vec<JobVertex>,
    /// The edges; an edge's id is its index.
    pub edges: Vec<JobEdge>,
    /// The program's own parameters, which every function can read.
    pub parameters: BTreeMap<String, String>,
    /// The effective configuration.
    pub config: BTreeMap<String, String>,
    /// What a rebuilt program must agree on.
    pub fingerprint: Fingerprint,
}

impl JobGraph {
    /// A vertex by id.
    pub fn vertex(&self, id: VertexId) -> Option<&JobVertex> {
        self.vertices.iter().find(|vertex| vertex.id == id)
    }

    /// The vertex that runs an operator.
    pub fn vertex_of(&self, node: NodeId) -> Option<&JobVertex> {
        self.vertices
            .iter()
            .find(|vertex| vertex.operators.iter().any(|operator| operator.node == node))
    }

    /// The edges into a vertex.
    pub fn inputs(&self, vertex: VertexId) -> impl Iterator<Item = &JobEdge> {
        self.edges.iter().filter(move |edge| edge.to == vertex)
    }

    /// The edges out of a vertex.
    pub fn outputs(&self, vertex: VertexId) -> impl Iterator<Item = &JobEdge> {
        self.edges.iter().filter(move |edge| edge.from == vertex)
    }

    /// The slots that each slot sharing group needs: the largest parallelism within it.
    pub fn slot_groups(&self) -> BTreeMap<&str, u32> {
        let mut groups = BTreeMap::new();
        for vertex in &self.vertices {
            let slots = groups.entry(vertex.slot_sharing_group.as_str()).or_insert(0);
            *slots = vertex.parallelism.max(*slots);
        }
        groups
    }

    /// The slots that the job needs.
    pub fn slots_required(&self) -> u32 {
        self.slot_groups().values().sum()
    }

    /// The subtasks that the job has.
    pub fn subtask_count(&self) -> u32 {
        self.vertices.iter().map(|vertex| vertex.parallelism).sum()
    }
}

impl StreamGraph {
    /// Decides every default, chains operators, and makes the graph that is submitted.
    ///
    /// # Errors
    /// The first mistake found in the program, naming the operators.
    pub fn job_graph(&self, id: JobId, settings: &GraphSettings) -> Result<JobGraph, GraphError> {
        let order = validate::check(self, settings)?;
        let ids = operator_ids(self, &order);
        let resolved = resolve(self, &order, settings)?;
        let chains = chains(self, &order, &resolved, settings);
        let builder = Builder {
            graph: self,
            settings,
            ids,
            resolved,
            chains,
        };
        builder.build(id)
    }
}

/// The facts from which vertices and edges are made.
struct Builder<'a> {
    graph: &'a StreamGraph,
    settings: &'a GraphSettings,
    ids: Vec<OperatorId>,
    resolved: Vec<Resolved>,
    chains: Vec<Vec<NodeId>>,
}

impl Builder<'_> {
    fn build(mut self, id: JobId) -> Result<JobGraph, GraphError> {
        self.apply_overrides()?;
        let vertices = (0..self.chains.len()).map(|index| self.vertex(index)).collect();
        let edges = self.edges()?;
        Ok(JobGraph {
            id,
            name: self.settings.job_name.clone(),
            vertices,
            fingerprint: self.fingerprint(),
            edges,
            parameters: self.settings.parameters.clone(),
            config: self.settings.config.clone(),
        })
    }

    fn node(&self, id: NodeId) -> &StreamNode {
        &self.graph.nodes()[id.0 as usize]
    }

    fn vertex_id(&self, chain: &[NodeId]) -> VertexId {
        self.ids[chain[0].0 as usize].vertex()
    }

    /// Gives the vertices named in the settings another parallelism. Chains stay as they are.
    fn apply_overrides(&mut self) -> Result<(), GraphError> {
        for (&vertex, &parallelism) in &self.settings.parallelism_overrides {
            let place = || format!("pipeline.jobvertex-parallelism-overrides, vertex {vertex}");
            check_parallelism(place, parallelism)?;
            let chain = self.chains.iter().find(|chain| self.vertex_id(chain) == vertex);
            let chain = chain.ok_or_else(|| self.unknown_override(vertex))?.clone();
            for node in chain {
                let name = &self.graph.nodes()[node.0 as usize].name;
                let resolved = &mut self.resolved[node.0 as usize];
                resolved.parallelism = parallelism;
                check_maximum(name, resolved)?;
            }
        }
        Ok(())
    }

    fn unknown_override(&self, vertex: VertexId) -> GraphError {
        let known = self.chains.iter().map(|chain| {
            let name = &self.node(chain[0]).name;
            format!("{} ('{name}')", self.vertex_id(chain))
        });
        let known: Vec<String> = known.collect();
        GraphError::UnknownOverride {
            vertex: vertex.to_string(),
            known: known.join(", "),
        }
    }

    fn vertex(&self, index: usize) -> JobVertex {
        let chain = &self.chains[index];
        let nodes: Vec<&StreamNode> = chain.iter().map(|id| self.node(*id)).collect();
        let resolved = &self.resolved[chain[0].0 as usize];
        JobVertex {
            id: self.vertex_id(chain),
            name: vertex_name(&nodes, index, self.settings),
            description: vertex_description(&nodes, index, self.settings),
            operators: nodes.iter().map(|node| self.operator(node)).collect(),
            parallelism: resolved.parallelism,
            max_parallelism: resolved.max_parallelism(),
            fixed: nodes.iter().any(|node| node.parallelism.is_some()),
            parallelism_limit: nodes.iter().filter_map(|node| node.parallelism_limit).min(),
            slot_sharing_group: resolved.group.clone(),
            blocking: nodes[0].blocking,
            buffer_timeout: nodes.iter().rev().find_map(|node| node.buffer_timeout),
        }
    }

    fn operator(&self, node: &StreamNode) -> JobOperator {
        JobOperator {
            node: node.id,
            id: self.ids[node.id.0 as usize],
            name: node.name.clone(),
            uid: node.uid.clone(),
            operator_type: node.operator_type.clone(),
            kind: node.kind,
        }
    }

    /// The edges that leave their chain, in order of creation.
    fn edges(&self) -> Result<Vec<JobEdge>, GraphError> {
        let crossing = self.graph.edges().iter().filter(|edge| !self.is_chained(edge));
        crossing
            .enumerate()
            .map(|(index, edge)| self.edge(index, edge))
            .collect()
    }

    fn edge(&self, index: usize, edge: &StreamEdge) -> Result<JobEdge, GraphError> {
        let parallelism = |node: NodeId| self.resolved[node.0 as usize].parallelism;
        Ok(JobEdge {
            id: EdgeId(u32::try_from(index).unwrap_or(u32::MAX)),
            from: self.vertex_id(self.chain_of(edge.from)),
            to: self.vertex_id(self.chain_of(edge.to)),
            producer: edge.from,
            consumer: edge.to,
            input: edge.input,
            partition: partition(self.graph, edge, parallelism(edge.from), parallelism(edge.to))?,
            requested: edge.partition.is_some(),
            side: edge.side.clone(),
        })
    }

    fn chain_of(&self, node: NodeId) -> &[NodeId] {
        let chain = self.chains.iter().find(|chain| chain.contains(&node));
        // Chains partition the nodes, and edges were checked to name nodes of the graph.
        chain.map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether an edge is the link between two neighbours of a chain. An operator that is not a
    /// head has one input only, so being in the same chain is enough.
    fn is_chained(&self, edge: &StreamEdge) -> bool {
        self.chain_of(edge.to).iter().skip(1).any(|node| *node == edge.to)
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut hasher = PartHasher::new("fingerprint 1");
        for chain in &self.chains {
            hasher.number(chain.len() as u64);
            for id in chain {
                let node = self.node(*id);
                hasher.optional(node.uid.as_deref());
                hasher.part(&self.ids[id.0 as usize].as_u128().to_le_bytes());
                hasher.part(node.operator_type.as_bytes());
            }
        }
        self.graph
            .edges()
            .iter()
            .for_each(|edge| self.hash_edge(&mut hasher, edge));
        Fingerprint::from_u128(hasher.finish())
    }

    /// The partitioning counts as it was asked for: a default depends on parallelism.
    fn hash_edge(&self, hasher: &mut PartHasher, edge: &StreamEdge) {
        hasher.part(&self.ids[edge.from.0 as usize].as_u128().to_le_bytes());
        hasher.part(&self.ids[edge.to.0 as usize].as_u128().to_le_bytes());
        hasher.number(u64::from(edge.input));
        hasher.optional(edge.side.as_deref());
        hasher.optional(edge.partition.as_ref().map(PartitionKind::ship_strategy));
        let key = match &edge.partition {
            Some(PartitionKind::Hash { key }) => Some(key.as_str()),
            _ => None,
        };
        hasher.optional(key);
    }
}
