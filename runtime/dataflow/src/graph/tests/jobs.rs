use super::{Sketch, line};
use crate::graph::{
    Chaining, DescriptionMode, GraphSettings, JobGraph, OperatorId, PartitionKind, StreamEdge,
};
use hurtig_core::ids::NodeId;
use std::collections::BTreeMap;

const MAP: NodeId = NodeId(1);

fn settings() -> GraphSettings {
    GraphSettings::default()
}

fn widths(job: &JobGraph) -> Vec<u32> {
    job.vertices.iter().map(|vertex| vertex.parallelism).collect()
}

#[test]
fn parallelism_is_taken_from_the_nearest_level() {
    let rows = [
        (None, None, 1, None, 1),
        (None, None, 4, None, 4),
        (None, Some(3), 4, None, 3),
        (Some(2), Some(3), 4, None, 2),
        (Some(2), Some(3), 4, Some(5), 5),
    ];
    for (environment, client, default, operator, expected) in rows {
        let (mut sketch, nodes) = line();
        nodes
            .iter()
            .for_each(|node| sketch.node(*node).parallelism = operator);
        let settings = GraphSettings {
            environment_parallelism: environment,
            client_parallelism: client,
            default_parallelism: default,
            ..settings()
        };
        assert_eq!(widths(&sketch.job_with(&settings)), [expected]);
    }
}

#[test]
fn a_limit_lowers_a_default() {
    let (mut sketch, [source, ..]) = line();
    sketch.node(source).parallelism_limit = Some(1);
    let job = sketch.job_with(&GraphSettings {
        default_parallelism: 4,
        ..settings()
    });
    assert_eq!(widths(&job), [1, 4]);
    assert_eq!(job.edges[0].partition, PartitionKind::Rebalance);
}

/// Flink's documented numbers: 1.5 times, rounded up to a power of two, at least 128.
#[test]
fn key_groups_are_derived_from_parallelism() {
    for (parallelism, expected) in [(1, 128), (85, 128), (86, 256), (200, 512), (30_000, 32_768)] {
        let job = line().0.job_with(&GraphSettings {
            default_parallelism: parallelism,
            ..settings()
        });
        assert_eq!(
            job.vertices[0].max_parallelism, expected,
            "parallelism {parallelism}"
        );
    }
    let (mut sketch, [_, map, _]) = line();
    sketch.node(map).max_parallelism = Some(64);
    let job = sketch.job_with(&GraphSettings {
        max_parallelism: Some(32),
        ..settings()
    });
    let maxima: Vec<u32> = job.vertices.iter().map(|vertex| vertex.max_parallelism).collect();
    assert_eq!(maxima, [32, 64, 32]);
}

#[test]
fn overrides_change_one_vertex_and_its_default_partitioning() {
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    let map = sketch.map("map", &[source]);
    sketch.node(map).chaining = crate::graph::Chaining::Head;
    sketch.sink("sink", &[map]);
    let plain = sketch.job();
    let overrides = BTreeMap::from([(plain.vertices[1].id, 3)]);
    let job = sketch.job_with(&GraphSettings {
        parallelism_overrides: overrides,
        ..settings()
    });
    assert_eq!(widths(&job), [1, 3]);
    assert_eq!(plain.edges[0].partition, PartitionKind::Forward);
    assert_eq!(job.edges[0].partition, PartitionKind::Rebalance);
    assert_eq!(job.vertices[1].name, "map -> sink");
    assert_eq!(job.fingerprint, plain.fingerprint);
}

#[test]
fn slot_groups_are_inherited_and_need_their_widest_vertex() {
    let mut sketch = Sketch::default();
    let (a, b) = (sketch.source("a"), sketch.source("b"));
    sketch.node(a).slot_sharing_group = Some("red".into());
    sketch.node(b).parallelism = Some(3);
    let mapped = sketch.map("mapped", &[a]);
    sketch.node(mapped).parallelism = Some(2);
    let mixed = sketch.map("mixed", &[mapped, b]);
    sketch.sink("sink", &[mixed]);
    let job = sketch.job();
    let groups: Vec<&str> = job
        .vertices
        .iter()
        .map(|vertex| vertex.slot_sharing_group.as_str())
        .collect();
    assert_eq!(groups, ["red", "default", "red", "default"]);
    assert_eq!(job.slot_groups(), BTreeMap::from([("default", 3), ("red", 2)]));
    assert_eq!(job.slots_required(), 5);
}

#[test]
fn ids_stay_when_names_parallelism_and_strangers_change() {
    let (sketch, _) = line();
    let plain = sketch.job();
    let (mut changed, [source, map, _]) = line();
    changed.node(map).name = "renamed".into();
    changed.node(source).parallelism = Some(2);
    let stranger = changed.source("stranger");
    changed.node(stranger).operator_type = "Other".into();
    changed.sink("elsewhere", &[stranger]);
    let changed = changed.job();
    let id = |job: &JobGraph, node: u32| {
        let operators = job.vertices.iter().flat_map(|vertex| &vertex.operators);
        operators
            .clone()
            .find(|operator| operator.node.0 == node)
            .unwrap()
            .id
    };
    for node in 0..3 {
        assert_eq!(id(&plain, node), id(&changed, node), "node {node}");
    }
}

#[test]
fn a_uid_is_the_identity_wherever_the_operator_stands() {
    let (mut sketch, [_, map, _]) = line();
    sketch.node(map).uid = Some("counts".into());
    let mut other = Sketch::default();
    let source = other.source("other source");
    let again = other.map("again", &[source]);
    let counts = other.map("counts", &[again]);
    other.node(counts).uid = Some("counts".into());
    other.sink("sink", &[counts]);
    let id = |job: JobGraph| {
        let mut operators = job.vertices.into_iter().flat_map(|vertex| vertex.operators);
        operators.find(|operator| operator.uid.is_some()).unwrap().id
    };
    assert_eq!(id(sketch.job()), id(other.job()));
    assert_eq!(id(sketch.job()), OperatorId::of_uid("counts"));
}

/// Frozen: these ids name state in snapshots.
#[test]
fn ids_never_change() {
    assert_eq!(
        OperatorId::of_uid("clicks").to_string(),
        "881504f775bbb69cfe379938571989a2"
    );
    let ids: Vec<String> = line().0.job().vertices[0]
        .operators
        .iter()
        .map(|o| o.id.to_string())
        .collect();
    assert_eq!(ids[0], "d0efc381b621d95d7cf998f589632edf");
}

#[test]
fn equal_siblings_have_different_ids() {
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    sketch.sink("one", &[source]);
    sketch.sink("two", &[source]);
    let job = sketch.job();
    assert_ne!(job.vertices[1].id, job.vertices[2].id);
}

#[test]
fn the_fingerprint_sees_structure_and_nothing_else() {
    let print = |change: fn(&mut Sketch)| {
        let (mut sketch, _) = line();
        change(&mut sketch);
        sketch.job().fingerprint
    };
    let plain = print(|_| {});
    assert_eq!(plain, print(|s| s.node(MAP).name = "other".into()));
    let job = line().0.job_with(&GraphSettings {
        default_parallelism: 7,
        ..settings()
    });
    assert_eq!(plain, job.fingerprint);
    type Change = fn(&mut Sketch);
    let changes: [Change; 4] = [
        |s| s.node(MAP).uid = Some("u".into()),
        |s| s.node(MAP).operator_type = "FlatMap".into(),
        |s| s.node(MAP).chaining = crate::graph::Chaining::Never,
        |s| {
            s.sink("more", &[MAP]);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert_ne!(plain, print(change), "change {number}");
    }
    let keyed = |key: &str| {
        let mut sketch = Sketch::default();
        let source = sketch.source("source");
        let sink = sketch.sink("sink", &[]);
        let hash = PartitionKind::Hash { key: key.into() };
        sketch
            .graph
            .add_edge(StreamEdge::new(source, sink).partitioned(hash));
        sketch.job().fingerprint
    };
    assert_ne!(keyed("u64"), keyed("str"));
}

#[test]
fn descriptions_are_trees_or_cascades() {
    let (sketch, _) = line();
    assert_eq!(
        sketch.job().vertices[0].description,
        "source\n+- map\n   +- sink\n"
    );
    let settings = GraphSettings {
        description_mode: DescriptionMode::Cascading,
        index_prefix: true,
        ..settings()
    };
    let job = sketch.job_with(&settings);
    assert_eq!(job.vertices[0].description, "[vertex-0]source -> map -> sink");
    assert_eq!(job.vertices[0].name, "[vertex-0]source -> map -> sink");
}

/// The shape of a recorded answer of Flink: same fields, sources without `inputs`.
#[test]
fn the_plan_has_the_shape_that_dashboards_read() {
    let mut sketch = Sketch::default();
    let source = sketch.source("Source: <numbers>");
    let sink = sketch.sink("sum", &[]);
    let hash = PartitionKind::Hash { key: "u64".into() };
    sketch
        .graph
        .add_edge(StreamEdge::new(source, sink).partitioned(hash));
    let job = sketch.job_with(&GraphSettings {
        job_name: "window-count".into(),
        ..settings()
    });
    let (first, second) = (job.vertices[0].id.to_string(), job.vertices[1].id.to_string());
    let expected = serde_json::json!({
        "jid": "00000000000000000000000000000001", "name": "window-count", "type": "STREAMING",
        "nodes": [
            {"id": first, "operator": "", "parallelism": 1, "operator_strategy": "",
             "description": "Source: &lt;numbers&gt;<br/>", "optimizer_properties": {}},
            {"id": second, "operator": "", "parallelism": 1, "operator_strategy": "",
             "description": "sum<br/>", "optimizer_properties": {},
             "inputs": [{"id": first, "num": 0, "exchange": "pipelined_bounded", "ship_strategy": "HASH"}]}
        ]
    });
    assert_eq!(job.plan_json(), expected);
}

#[test]
fn barriers_overtake_where_records_belong_somewhere_at_any_parallelism() {
    let key = "u64".to_owned();
    let cases = [
        (Some(PartitionKind::Hash { key }), true),
        (Some(PartitionKind::Shuffle), true),
        (Some(PartitionKind::Global), true),
        (Some(PartitionKind::Rebalance), true),
        (Some(PartitionKind::Rescale), false),
        (Some(PartitionKind::Broadcast), false),
        (Some(PartitionKind::Custom), false),
        // Round robin, because parallelisms differ.
        (None, false),
    ];
    for (partition, overtakes) in cases {
        let (mut sketch, [_, map, sink]) = line();
        let shown = format!("{partition:?}");
        sketch.graph.add_edge(StreamEdge {
            partition,
            ..StreamEdge::new(map, sink)
        });
        sketch.node(map).parallelism = Some(2);
        sketch.node(sink).parallelism = Some(3);
        let edge = sketch.job().edges.pop().unwrap();
        assert_eq!(edge.can_be_overtaken(), overtakes, "{shown}");
    }
    let (mut sketch, [_, map, _]) = line();
    sketch.node(map).chaining = Chaining::Never;
    let edges = sketch.job().edges;
    assert_eq!(edges[0].partition, PartitionKind::Forward);
    assert!(edges.iter().all(|edge| !edge.can_be_overtaken()));
}

#[test]
fn a_job_graph_survives_json() {
    let (mut sketch, [_, map, _]) = line();
    sketch.node(map).buffer_timeout = Some(std::time::Duration::from_millis(3));
    sketch.node(map).uid = Some("map".into());
    let job = sketch.job();
    let text = serde_json::to_string(&job).unwrap();
    assert_eq!(serde_json::from_str::<JobGraph>(&text).unwrap(), job);
}
