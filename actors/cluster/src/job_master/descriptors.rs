//! What a TaskManager is told about a task, from the ExecutionGraph.

use super::checkpointing::Latest;
use super::metadata::restore_of;
use super::slots::Slot;
use hurtig_core::ids::{ExecutionId, VertexId};
use hurtig_dataflow::graph::{ExecutionGraph, JobVertex};
use hurtig_task::interface::{InputDescriptor, OutputDescriptor, TaskDescriptor};

/// What tasks begin with.
pub(super) struct Beginning<'a> {
    /// The checkpoint.
    pub(super) latest: Option<&'a Latest>,
    /// Whether a vertex begins in backlog.
    pub(super) in_backlog: &'a dyn Fn(VertexId) -> bool,
}

/// The description of one attempt at a subtask of `vertex`, and of the slot that it occupies.
pub(super) fn describe(
    graph: &ExecutionGraph,
    vertex: &JobVertex,
    (execution, slot): (ExecutionId, Slot),
    begins: &Beginning<'_>,
) -> TaskDescriptor {
    let index = execution.subtask.index;
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
        inputs: inputs(graph, vertex, index, begins),
        outputs: outputs(graph, vertex, index),
        restore: begins.latest.map(|found| restore_of(found, vertex, index)),
        backlog: reads && (begins.in_backlog)(vertex.id),
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
    begins: &Beginning<'_>,
) -> Vec<InputDescriptor> {
    let edges = graph.job_graph().inputs(vertex.id);
    let input = |edge: &hurtig_dataflow::graph::JobEdge| InputDescriptor {
        edge: edge.id,
        input: edge.input,
        partition: edge.partition.clone(),
        producers: graph.producers(edge, index),
        backlog: (begins.in_backlog)(edge.from),
    };
    edges.map(input).collect()
}

fn outputs(graph: &ExecutionGraph, vertex: &JobVertex, index: u32) -> Vec<OutputDescriptor> {
    let job = graph.job_graph();
    let outputs = job.outputs(vertex.id).filter_map(|edge| {
        let consumer = job.vertex(edge.to)?;
        Some(OutputDescriptor {
            edge: edge.id,
            producer: edge.producer,
            side: edge.side.clone(),
            partition: edge.partition.clone(),
            consumers: graph.consumers(edge, index),
            consumer_parallelism: consumer.parallelism,
            consumer_max_parallelism: consumer.max_parallelism,
        })
    });
    outputs.collect()
}
