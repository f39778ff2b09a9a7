use super::Sketch;
use crate::graph::{ExecutionGraph, JobGraph, PartitionKind, StreamEdge, TaskState};
use hurtig_core::ids::{SubtaskId, VertexId};
use hurtig_core::time::Time;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

const NOW: Time = Time::ZERO;

/// The names and indices of each region's subtasks.
fn regions(graph: JobGraph) -> Vec<Vec<String>> {
    let graph = ExecutionGraph::new(Arc::new(graph), NOW);
    let name = |subtask: &SubtaskId| {
        let vertex = graph.job_graph().vertex(subtask.vertex).unwrap();
        format!("{}{}", vertex.name, subtask.index)
    };
    let regions = graph.regions().iter();
    regions
        .map(|region| region.subtasks.iter().map(name).collect())
        .collect()
}

#[test]
fn a_chain_that_only_forwards_has_a_region_for_each_subtask_and_a_shuffle_makes_them_one() {
    let sketch = |partition: PartitionKind| {
        let mut sketch = Sketch::default();
        let (source, sink) = (sketch.source("in"), sketch.sink("out", &[]));
        for node in [source, sink] {
            sketch.node(node).parallelism = Some(2);
            sketch.node(node).max_parallelism = Some(128);
        }
        sketch.node(sink).chaining = crate::graph::Chaining::Never;
        let edge = StreamEdge::new(source, sink).partitioned(partition);
        sketch.graph.add_edge(edge);
        regions(sketch.job())
    };
    assert_eq!(sketch(PartitionKind::Forward), [["in0", "out0"], ["in1", "out1"]]);
    assert_eq!(sketch(PartitionKind::Rebalance), [["in0", "in1", "out0", "out1"]]);
}

#[test]
fn pipelines_that_share_nothing_are_regions_of_their_own() {
    let mut sketch = Sketch::default();
    for name in ["a", "b"] {
        let source = sketch.source(name);
        let sink = sketch.sink(&format!("{name}-out"), &[]);
        let hash = PartitionKind::Hash {
            key: "u64".to_owned(),
        };
        sketch.node(sink).parallelism = Some(2);
        let edge = StreamEdge::new(source, sink).partitioned(hash);
        sketch.graph.add_edge(edge);
    }
    let found = regions(sketch.job());
    assert_eq!(found.len(), 2, "{found:?}");
    for region in found {
        let first = region[0].chars().next().unwrap();
        assert!(region.iter().all(|task| task.starts_with(first)), "{region:?}");
    }
}

#[test]
fn a_restart_of_a_region_leaves_the_others_as_they_are() {
    let mut sketch = Sketch::default();
    for name in ["a", "b", "c"] {
        let source = sketch.source(name);
        sketch.sink("out", &[source]);
    }
    let mut graph = ExecutionGraph::new(Arc::new(sketch.job()), NOW);
    let before: Vec<_> = graph.regions().to_vec();
    assert_eq!(before.len(), 3);
    let id = before[1].subtasks[0];
    let region = graph.region_of(id).unwrap();
    let execution = graph.subtask(id).unwrap().current.id;
    graph.set_state(execution, TaskState::Canceled, NOW);
    graph.restart(region, NOW);
    let attempts: Vec<u32> = before
        .iter()
        .map(|region| graph.subtask(region.subtasks[0]).unwrap().current.id.attempt.0)
        .collect();
    assert_eq!(attempts, [0, 1, 0]);
    let generations: Vec<u32> = graph.regions().iter().map(|region| region.generation).collect();
    assert_eq!(generations, [0, 3, 2], "a number that nobody had");
}

#[test]
fn one_region_has_everything() {
    let mut sketch = Sketch::default();
    for name in ["a", "b"] {
        let source = sketch.source(name);
        sketch.sink("out", &[source]);
    }
    let graph = ExecutionGraph::as_one_region(Arc::new(sketch.job()), NOW);
    assert_eq!(graph.regions().len(), 1);
    assert_eq!(graph.regions()[0].subtasks.len(), graph.subtasks().count());
}

fn kind() -> impl Strategy<Value = PartitionKind> {
    prop_oneof![
        Just(PartitionKind::Forward),
        Just(PartitionKind::Rescale),
        Just(PartitionKind::Rebalance),
        Just(PartitionKind::Broadcast),
    ]
}

/// A graph of these parallelisms, with an edge from an earlier operator to a later one for each entry.
fn random_graph(widths: &[u32], edges: &[(usize, usize, PartitionKind)]) -> JobGraph {
    let mut sketch = Sketch::default();
    let mut wanted: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut links = Vec::new();
    for (from, to, kind) in edges {
        let (from, to) = (from % widths.len(), to % widths.len());
        if from < to && wanted.insert((from, to)) {
            links.push((from, to, kind.clone()));
        }
    }
    let nodes: Vec<_> = (0..widths.len())
        .map(|at| {
            let name = format!("v{at}-");
            let fed = links.iter().any(|(_, to, _)| *to == at);
            let node = if fed {
                sketch.map(&name, &[])
            } else {
                sketch.source(&name)
            };
            sketch.node(node).parallelism = Some(widths[at]);
            node
        })
        .collect();
    for at in (0..widths.len()).filter(|at| links.iter().all(|(from, ..)| from != at)) {
        let sink = sketch.sink("out", &[nodes[at]]);
        sketch.node(sink).parallelism = Some(widths[at]);
    }
    for (from, to, kind) in links {
        // Only equal numbers of subtasks can be forwarded.
        let kind = match kind {
            PartitionKind::Forward if widths[from] != widths[to] => PartitionKind::Rescale,
            kind => kind,
        };
        let edge = StreamEdge::new(nodes[from], nodes[to]).partitioned(kind);
        sketch.graph.add_edge(edge);
    }
    sketch.job()
}

/// By the definition: whom a subtask reaches over channels, in either direction.
fn reachable(graph: &ExecutionGraph, start: SubtaskId) -> BTreeSet<SubtaskId> {
    let mut found = BTreeSet::from([start]);
    let mut next = vec![start];
    let tasks =
        |vertex: VertexId, range: std::ops::Range<u32>| range.map(move |index| SubtaskId { vertex, index });
    while let Some(task) = next.pop() {
        let job = graph.job_graph();
        let ahead = job
            .outputs(task.vertex)
            .flat_map(|edge| tasks(edge.to, graph.consumers(edge, task.index)));
        let behind = job
            .inputs(task.vertex)
            .flat_map(|edge| tasks(edge.from, graph.producers(edge, task.index)));
        for neighbour in ahead.chain(behind) {
            if found.insert(neighbour) {
                next.push(neighbour);
            }
        }
    }
    found
}

proptest! {
    #[test]
    fn regions_are_what_channels_connect(
        widths in prop::collection::vec(1..5u32, 1..7),
        edges in prop::collection::vec((0..7usize, 0..7usize, kind()), 0..8),
    ) {
        let graph = ExecutionGraph::new(Arc::new(random_graph(&widths, &edges)), NOW);
        let mut seen = BTreeSet::new();
        for (id, region) in (0..).zip(graph.regions()) {
            let own: BTreeSet<SubtaskId> = region.subtasks.iter().copied().collect();
            prop_assert_eq!(&own, &reachable(&graph, region.subtasks[0]));
            for subtask in &region.subtasks {
                prop_assert!(seen.insert(*subtask), "in two regions");
                prop_assert_eq!(graph.region_of(*subtask).unwrap().0, id);
            }
        }
        prop_assert_eq!(seen.len(), graph.subtasks().count(), "in none");
    }
}
