use super::{Sketch, line};
use crate::graph::{Chaining, GraphSettings, PartitionKind, StreamEdge};
use hurtig_core::ids::NodeId;
use proptest::prelude::*;

#[test]
fn a_line_of_equals_is_one_chain() {
    assert_eq!(line().0.vertices(), ["source -> map -> sink"]);
}

/// Each row changes one thing at `map` and says where the line is cut.
#[test]
fn each_rule_cuts_the_chain_where_flink_does() {
    type Change = fn(&mut Sketch, NodeId);
    let rows: [(&str, Change, &[&str]); 8] = [
        (
            "disable",
            |s, n| s.node(n).chaining = Chaining::Never,
            &["source", "map", "sink"],
        ),
        (
            "head",
            |s, n| s.node(n).chaining = Chaining::Head,
            &["source", "map -> sink"],
        ),
        (
            "parallelism",
            |s, n| s.node(n).parallelism = Some(3),
            &["source", "map", "sink"],
        ),
        (
            "key groups",
            |s, n| s.node(n).max_parallelism = Some(7),
            &["source", "map", "sink"],
        ),
        (
            "slot group",
            |s, n| s.node(n).slot_sharing_group = Some("x".into()),
            &["source", "map -> sink"],
        ),
        (
            "blocking",
            |s, n| s.node(n).blocking = true,
            &["source", "map", "sink"],
        ),
        (
            "fan-out",
            |s, n| {
                s.sink("other", &[n]);
            },
            &["source -> map", "sink", "other"],
        ),
        (
            "side output",
            |s, n| {
                let other = s.sink("late", &[]);
                s.graph.add_edge(StreamEdge::new(n, other).from_side("late"));
            },
            &["source -> map", "sink", "late"],
        ),
    ];
    for (rule, change, expected) in rows {
        let (mut sketch, [_, map, _]) = line();
        change(&mut sketch, map);
        assert_eq!(sketch.vertices(), expected, "{rule}");
    }
}

#[test]
fn only_forward_edges_chain() {
    use PartitionKind::*;
    let hash = Hash { key: "u64".into() };
    for kind in [hash, Rebalance, Rescale, Shuffle, Broadcast, Global, Custom] {
        let mut sketch = Sketch::default();
        let source = sketch.source("source");
        let sink = sketch.sink("sink", &[]);
        sketch
            .graph
            .add_edge(StreamEdge::new(source, sink).partitioned(kind.clone()));
        let job = sketch.job();
        assert_eq!(job.vertices.len(), 2, "{kind:?}");
        assert_eq!(job.edges[0].partition, kind);
    }
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    let sink = sketch.sink("sink", &[]);
    sketch
        .graph
        .add_edge(StreamEdge::new(source, sink).partitioned(Forward));
    assert_eq!(sketch.vertices(), ["source -> sink"]);
}

#[test]
fn unions_and_two_inputs_begin_chains() {
    let mut sketch = Sketch::default();
    let (left, right) = (sketch.source("left"), sketch.source("right"));
    let union = sketch.map("union", &[left, right]);
    let both = sketch.map("both", &[union]);
    sketch.graph.add_edge(StreamEdge::new(left, both).into_input(1));
    sketch.sink("sink", &[both]);
    assert_eq!(sketch.vertices(), ["left", "right", "union", "both -> sink"]);
    let job = sketch.job();
    let inputs: Vec<u8> = job.inputs(job.vertices[3].id).map(|edge| edge.input).collect();
    assert_eq!(inputs, [0, 1]);
}

#[test]
fn chaining_can_be_turned_off_for_the_job() {
    let settings = GraphSettings {
        chaining: false,
        ..GraphSettings::default()
    };
    let job = line().0.job_with(&settings);
    assert_eq!(job.vertices.len(), 3);
    assert!(
        job.edges
            .iter()
            .all(|edge| edge.partition == PartitionKind::Forward)
    );
}

#[test]
fn blocking_operators_chain_with_each_other() {
    let (mut sketch, nodes) = line();
    nodes.iter().for_each(|node| sketch.node(*node).blocking = true);
    let job = sketch.job();
    assert_eq!(job.vertices.len(), 1);
    assert!(job.vertices[0].blocking);
}

fn random_graph() -> impl Strategy<Value = Sketch> {
    let node = (
        prop::collection::vec(any::<prop::sample::Index>(), 1..3),
        1..3u32,
        0..3u8,
        any::<bool>(),
    );
    prop::collection::vec(node, 1..14).prop_map(|nodes| {
        let mut sketch = Sketch::default();
        let mut ids = vec![sketch.source("s0")];
        for (number, (inputs, parallelism, chaining, blocking)) in nodes.into_iter().enumerate() {
            let inputs: Vec<NodeId> = inputs.iter().map(|index| ids[index.index(ids.len())]).collect();
            let id = sketch.map(&format!("n{number}"), &inputs);
            let node = sketch.node(id);
            node.parallelism = Some(parallelism);
            node.chaining = [Chaining::Always, Chaining::Head, Chaining::Never][usize::from(chaining)];
            node.blocking = blocking;
            ids.push(id);
        }
        let last = *ids.last().unwrap();
        sketch.sink("sink", &[last]);
        sketch
    })
}

proptest! {
    /// Chains partition the operators, are lines of the graph, and no two neighbours that could
    /// be chained by the words of the rule are left apart.
    #[test]
    fn chains_follow_the_rule_as_it_is_said(sketch in random_graph()) {
        let job = sketch.job();
        let graph = &sketch.graph;
        let mut seen: Vec<NodeId> =
            job.vertices.iter().flat_map(|vertex| vertex.operators.iter().map(|o| o.node)).collect();
        seen.sort();
        prop_assert_eq!(seen, graph.nodes().iter().map(|node| node.id).collect::<Vec<_>>());
        prop_assert_eq!(
            job.edges.len() + job.vertices.iter().map(|v| v.operators.len() - 1).sum::<usize>(),
            graph.edges().len()
        );
        for edge in graph.edges() {
            let (from, to) = (graph.node(edge.from).unwrap(), graph.node(edge.to).unwrap());
            let same = job.vertex_of(from.id).unwrap().id == job.vertex_of(to.id).unwrap().id;
            let alone = graph.edges().iter().filter(|other| other.to == to.id || other.from == from.id).count() == 1;
            let width = |node: &crate::graph::StreamNode| node.parallelism.unwrap_or(1);
            let may = alone
                && width(from) == width(to)
                && from.blocking == to.blocking
                && from.chaining != Chaining::Never
                && to.chaining == Chaining::Always;
            prop_assert_eq!(same, may, "{} -> {}", &from.name, &to.name);
        }
    }

    /// Vertices come producers first, and edges know both ends.
    #[test]
    fn vertices_are_in_topological_order(sketch in random_graph()) {
        let job = sketch.job();
        let place = |id| job.vertices.iter().position(|vertex| vertex.id == id).unwrap();
        for edge in &job.edges {
            prop_assert!(place(edge.from) < place(edge.to));
            prop_assert_eq!(job.vertex(edge.to).unwrap().operators[0].node, edge.consumer);
        }
    }
}
