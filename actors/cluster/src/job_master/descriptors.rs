//! What a TaskManager is told about a task, from the ExecutionGraph.

use super::checkpointing::Latest;
use super::metadata::restore_of;
use super::slots::Slot;
use hurtig_core::ids::{ExecutionId, SubtaskId, TaskManagerId, VertexId};
use hurtig_dataflow::graph::{ExecutionGraph, JobVertex};
use hurtig_exchange::remote::PeerWorker;
use hurtig_task::interface::{InputDescriptor, OutputDescriptor, TaskDescriptor};
use std::collections::BTreeMap;
use std::ops::Range;

/// What tasks begin with.
pub(super) struct Beginning<'a> {
    /// The checkpoint.
    pub(super) latest: Option<&'a Latest>,
    /// Whether a vertex begins in backlog.
    pub(super) in_backlog: &'a dyn Fn(VertexId) -> bool,
    /// Where a subtask will be.
    pub(super) worker_of: &'a dyn Fn(SubtaskId) -> TaskManagerId,
    /// How tasks elsewhere reach those of a worker.
    pub(super) peer: &'a dyn Fn(TaskManagerId) -> PeerWorker,
}

/// The other workers of a task's channels, in the order in which they were met.
struct Peers<'a> {
    own: TaskManagerId,
    begins: &'a Beginning<'a>,
    met: Vec<TaskManagerId>,
}

impl Peers<'_> {
    /// Those of these subtasks that are elsewhere.
    fn elsewhere(&mut self, vertex: VertexId, subtasks: Range<u32>) -> BTreeMap<u32, u32> {
        let mut elsewhere = BTreeMap::new();
        for index in subtasks {
            let worker = (self.begins.worker_of)(SubtaskId { vertex, index });
            if worker == self.own {
                continue;
            }
            let met = self.met.iter().position(|met| *met == worker);
            let place = met.unwrap_or_else(|| {
                self.met.push(worker);
                self.met.len() - 1
            });
            elsewhere.insert(index, u32::try_from(place).unwrap_or(u32::MAX));
        }
        elsewhere
    }
}

/// The description of one attempt at a subtask of `vertex`, and of the slot that it occupies.
pub(super) fn describe(
    graph: &ExecutionGraph,
    vertex: &JobVertex,
    (execution, slot): (ExecutionId, Slot),
    begins: &Beginning<'_>,
) -> TaskDescriptor {
    let index = execution.subtask.index;
    let mut peers = Peers {
        own: slot.0,
        begins,
        met: Vec::new(),
    };
    let (inputs, outputs) = (
        inputs(graph, vertex, index, &mut peers),
        outputs(graph, vertex, index, &mut peers),
    );
    let reads = graph.job_graph().inputs(vertex.id).next().is_none();
    TaskDescriptor {
        job: graph.job_graph().id,
        execution,
        name: vertex.name.clone(),
        operators: vertex.operators.iter().map(|operator| operator.node).collect(),
        parallelism: vertex.parallelism,
        max_parallelism: vertex.max_parallelism,
        key_groups: ExecutionGraph::key_groups(vertex, index),
        slot: slot.1,
        blocking: vertex.blocking,
        generation: generation_of(graph, execution),
        inputs,
        outputs,
        restore: begins.latest.map(|found| restore_of(found, vertex, index)),
        backlog: reads && (begins.in_backlog)(vertex.id),
        peers: peers.met.into_iter().map(begins.peer).collect(),
    }
}

fn generation_of(graph: &ExecutionGraph, execution: ExecutionId) -> u32 {
    let region = graph.region_of(execution.subtask);
    let region = region.and_then(|region| graph.region(region));
    region.map_or(0, |region| region.generation)
}

fn inputs(
    graph: &ExecutionGraph,
    vertex: &JobVertex,
    index: u32,
    peers: &mut Peers<'_>,
) -> Vec<InputDescriptor> {
    let edges = graph.job_graph().inputs(vertex.id);
    let input = |edge: &hurtig_dataflow::graph::JobEdge| {
        let producers = graph.producers(edge, index);
        InputDescriptor {
            edge: edge.id,
            input: edge.input,
            partition: edge.partition.clone(),
            backlog: (peers.begins.in_backlog)(edge.from),
            elsewhere: peers.elsewhere(edge.from, producers.clone()),
            producers,
        }
    };
    edges.map(input).collect()
}

fn outputs(
    graph: &ExecutionGraph,
    vertex: &JobVertex,
    index: u32,
    peers: &mut Peers<'_>,
) -> Vec<OutputDescriptor> {
    let job = graph.job_graph();
    let outputs = job.outputs(vertex.id).filter_map(|edge| {
        let consumer = job.vertex(edge.to)?;
        let consumers = graph.consumers(edge, index);
        Some(OutputDescriptor {
            edge: edge.id,
            producer: edge.producer,
            side: edge.side.clone(),
            partition: edge.partition.clone(),
            elsewhere: peers.elsewhere(edge.to, consumers.clone()),
            consumers,
            consumer_parallelism: consumer.parallelism,
            consumer_max_parallelism: consumer.max_parallelism,
        })
    });
    outputs.collect()
}
