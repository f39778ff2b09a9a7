use super::{Sketch, line};
use crate::graph::{GraphError, GraphSettings, PartitionKind, StreamEdge};
use hurtig_core::Fault;
use hurtig_core::ids::{JobId, VertexId};
use std::collections::BTreeMap;

fn refusal(sketch: &Sketch, settings: &GraphSettings) -> GraphError {
    sketch.graph.job_graph(JobId::from_u128(1), settings).unwrap_err()
}

/// What the refusal of `change` applied to source -> map -> sink says.
fn message(change: impl FnOnce(&mut Sketch)) -> String {
    let (mut sketch, _) = line();
    change(&mut sketch);
    refusal(&sketch, &GraphSettings::default()).to_string()
}

const SOURCE: hurtig_core::ids::NodeId = hurtig_core::ids::NodeId(0);
const MAP: hurtig_core::ids::NodeId = hurtig_core::ids::NodeId(1);
const SINK: hurtig_core::ids::NodeId = hurtig_core::ids::NodeId(2);

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    parts
        .iter()
        .for_each(|part| assert!(message.contains(part), "'{part}' is missing in: {message}"));
}

#[test]
fn a_program_needs_operators_and_a_sink() {
    assert_eq!(
        refusal(&Sketch::default(), &GraphSettings::default()),
        GraphError::Empty
    );
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    sketch.map("lonely", &[source]);
    says(
        &refusal(&sketch, &GraphSettings::default()).to_string(),
        &["no sink", "'lonely'"],
    );
}

#[test]
fn a_stream_that_nobody_consumes_is_fine_beside_a_sink() {
    let (mut sketch, [source, ..]) = line();
    sketch.map("unused", &[source]);
    assert_eq!(sketch.job().vertices.len(), 3);
}

#[test]
fn identities_are_unique_and_may_be_demanded() {
    let text = message(|s| {
        s.node(SOURCE).uid = Some("twice".into());
        s.node(SINK).uid = Some("twice".into());
    });
    says(&text, &["'twice'", "'source'", "'sink'"]);
    let text = message(|s| s.node(SINK).uid = Some(String::new()));
    says(&text, &["'sink'", "empty uid"]);
    let (mut sketch, [source, ..]) = line();
    sketch.node(source).uid = Some("s".into());
    let strict = GraphSettings {
        auto_generate_uids: false,
        ..GraphSettings::default()
    };
    says(
        &refusal(&sketch, &strict).to_string(),
        &["'map'", "pipeline.auto-generate-uids"],
    );
}

#[test]
fn parallelism_stays_within_its_bounds() {
    says(
        &message(|s| s.node(MAP).parallelism = Some(0)),
        &["'map'", "parallelism 0"],
    );
    says(
        &message(|s| s.node(MAP).parallelism = Some(40_000)),
        &["'map'", "40000", "32768"],
    );
    says(
        &message(|s| s.node(MAP).max_parallelism = Some(0)),
        &["'map'", "max parallelism 0"],
    );
    let text = message(|s| {
        s.node(MAP).parallelism = Some(8);
        s.node(MAP).max_parallelism = Some(4);
    });
    says(&text, &["'map'", "parallelism 8", "max parallelism 4"]);
    let text = message(|s| {
        s.node(SOURCE).parallelism = Some(2);
        s.node(SOURCE).parallelism_limit = Some(1);
    });
    says(&text, &["'source'", "parallelism 2", "at most 1"]);
    let zero = GraphSettings {
        default_parallelism: 0,
        ..GraphSettings::default()
    };
    says(
        &refusal(&line().0, &zero).to_string(),
        &["parallelism.default", "parallelism 0"],
    );
}

#[test]
fn forward_needs_equal_parallelism() {
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    let sink = sketch.sink("sink", &[]);
    sketch.node(sink).parallelism = Some(2);
    sketch
        .graph
        .add_edge(StreamEdge::new(source, sink).partitioned(PartitionKind::Forward));
    let text = refusal(&sketch, &GraphSettings::default()).to_string();
    says(
        &text,
        &[
            "'source' (parallelism 1)",
            "'sink' (parallelism 2)",
            "rebalance()",
        ],
    );
}

#[test]
fn circles_are_named() {
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    let one = sketch.map("one", &[source]);
    let two = sketch.map("two", &[one]);
    sketch.graph.add_edge(StreamEdge::new(two, one));
    sketch.sink("sink", &[two]);
    let text = refusal(&sketch, &GraphSettings::default()).to_string();
    says(&text, &["'one'", "'two'", "cycle"]);
    assert!(!text.contains("'sink'") && !text.contains("'source'"), "{text}");
}

#[test]
fn edges_fit_their_operators() {
    says(
        &message(|s| s.graph.add_edge(StreamEdge::new(SINK, MAP))),
        &["'sink'", "no output"],
    );
    says(
        &message(|s| s.graph.add_edge(StreamEdge::new(MAP, SOURCE))),
        &["'source'", "no input"],
    );
    let third = |s: &mut Sketch| s.graph.add_edge(StreamEdge::new(SOURCE, SINK).into_input(2));
    says(&message(third), &["two inputs"]);
    let far = |s: &mut Sketch| {
        s.graph
            .add_edge(StreamEdge::new(SOURCE, hurtig_core::ids::NodeId(9)));
    };
    says(&message(far), &["number 9"]);
    let deaf = |s: &mut Sketch| {
        s.map("deaf", &[]);
    };
    says(&message(deaf), &["'deaf'", "no input"]);
}

#[test]
fn operators_with_state_and_no_uid_are_known() {
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    let keyed = sketch.map("keyed", &[]);
    let hash = || PartitionKind::Hash {
        key: "u64".to_owned(),
    };
    let by_key = |to| StreamEdge::new(source, to).partitioned(hash());
    sketch.graph.add_edge(by_key(keyed));
    let plain = sketch.map("plain", &[keyed]);
    sketch.sink("sink", &[plain]);
    let named = |sketch: &Sketch| -> Vec<String> {
        let nodes = sketch.graph.stateful_without_uid();
        nodes.map(|node| node.name.clone()).collect()
    };
    assert_eq!(named(&sketch), ["source", "keyed"]);
    sketch.graph.node_mut(source).unwrap().uid = Some("in".to_owned());
    sketch.graph.node_mut(keyed).unwrap().uid_hash = Some(hurtig_core::ids::OperatorId::of_uid("k"));
    assert!(named(&sketch).is_empty());
}

#[test]
fn overrides_name_vertices_of_the_job() {
    let overrides = BTreeMap::from([(VertexId::from_u128(7), 2)]);
    let settings = GraphSettings {
        parallelism_overrides: overrides,
        ..GraphSettings::default()
    };
    let text = refusal(&line().0, &settings).to_string();
    says(&text, &["00000000000000000000000000000007", "'source'"]);
}

#[test]
fn a_graph_error_is_the_programs_fault() {
    assert_eq!(hurtig_core::Error::from(GraphError::Empty).fault(), Fault::User);
}
