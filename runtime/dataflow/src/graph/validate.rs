//! Mistakes that can be seen in the logical graph alone.

use super::error::GraphError;
use super::identity::OperatorId;
use super::settings::GraphSettings;
use super::stream::{NodeKind, StreamEdge, StreamGraph, StreamNode};
use hurtig_core::ids::NodeId;
use std::collections::BTreeMap;

/// Checks everything that needs no decision about parallelism, and returns a topological order:
/// by creation wherever the edges leave a choice.
pub(super) fn check(graph: &StreamGraph, settings: &GraphSettings) -> Result<Vec<NodeId>, GraphError> {
    if graph.nodes().is_empty() {
        return Err(GraphError::Empty);
    }
    graph
        .edges()
        .iter()
        .try_for_each(|edge| check_edge(graph, edge))?;
    graph
        .nodes()
        .iter()
        .try_for_each(|node| check_node(graph, node, settings))?;
    check_identities(graph)?;
    check_sinks(graph)?;
    topological_order(graph)
}

fn check_edge(graph: &StreamGraph, edge: &StreamEdge) -> Result<(), GraphError> {
    let bad = |reason| GraphError::BadEdge {
        from: describe(graph, edge.from),
        to: describe(graph, edge.to),
        reason,
    };
    let from = graph
        .node(edge.from)
        .ok_or_else(|| bad("the producer is not part of this graph"))?;
    let to = graph
        .node(edge.to)
        .ok_or_else(|| bad("the consumer is not part of this graph"))?;
    match () {
        () if from.kind == NodeKind::Sink && edge.side.is_none() => Err(bad("a sink has no output")),
        () if to.kind == NodeKind::Source => Err(bad("a source has no input")),
        () if edge.input > 1 => Err(bad("an operator has at most two inputs")),
        () => Ok(()),
    }
}

fn check_node(graph: &StreamGraph, node: &StreamNode, settings: &GraphSettings) -> Result<(), GraphError> {
    let operator = || node.name.clone();
    if node.uid.is_none() && node.uid_hash.is_none() && !settings.auto_generate_uids {
        return Err(GraphError::MissingUid { operator: operator() });
    }
    if node.uid.as_deref() == Some("") {
        return Err(GraphError::EmptyUid { operator: operator() });
    }
    if node.kind != NodeKind::Source && graph.inputs(node.id).next().is_none() {
        return Err(GraphError::NoInput { operator: operator() });
    }
    Ok(())
}

fn check_identities(graph: &StreamGraph) -> Result<(), GraphError> {
    let mut seen: BTreeMap<OperatorId, &StreamNode> = BTreeMap::new();
    for node in graph.nodes() {
        let from_uid = node.uid.as_deref().map(OperatorId::of_uid);
        let Some(id) = node.uid_hash.or(from_uid) else {
            continue;
        };
        if let Some(first) = seen.insert(id, node) {
            return Err(GraphError::DuplicateUid {
                uid: node.uid.clone().unwrap_or_else(|| id.to_string()),
                first: first.name.clone(),
                second: node.name.clone(),
            });
        }
    }
    Ok(())
}

fn check_sinks(graph: &StreamGraph) -> Result<(), GraphError> {
    if graph.nodes().iter().any(|node| node.kind == NodeKind::Sink) {
        return Ok(());
    }
    let loose = graph
        .nodes()
        .iter()
        .filter(|node| graph.outputs(node.id).next().is_none());
    Err(GraphError::NoSink {
        operators: quoted(loose),
    })
}

/// Kahn's algorithm, always taking the oldest node that is ready.
fn topological_order(graph: &StreamGraph) -> Result<Vec<NodeId>, GraphError> {
    let mut open_inputs: Vec<usize> = graph
        .nodes()
        .iter()
        .map(|node| graph.inputs(node.id).count())
        .collect();
    let mut done = vec![false; graph.nodes().len()];
    let mut order = Vec::with_capacity(done.len());
    while let Some(next) = (0..done.len()).find(|node| !done[*node] && open_inputs[*node] == 0) {
        done[next] = true;
        let id = graph.nodes()[next].id;
        order.push(id);
        graph
            .outputs(id)
            .for_each(|edge| open_inputs[edge.to.0 as usize] -= 1);
    }
    if order.len() == done.len() {
        return Ok(order);
    }
    Err(GraphError::Cycle {
        operators: quoted(circle(graph, &done)),
    })
}

/// The nodes of a circle among those that could not be ordered.
fn circle<'a>(graph: &'a StreamGraph, done: &[bool]) -> impl Iterator<Item = &'a StreamNode> {
    let mut path: Vec<usize> = Vec::new();
    let mut at = done.iter().position(|done| !done).unwrap_or_default();
    // Every node left has an input that is left too, so walking backwards must meet itself.
    while !path.contains(&at) {
        path.push(at);
        let back = graph
            .inputs(graph.nodes()[at].id)
            .find(|edge| !done[edge.from.0 as usize]);
        at = back.map_or(at, |edge| edge.from.0 as usize);
    }
    let start = path.iter().position(|node| *node == at).unwrap_or_default();
    path.drain(..start);
    path.reverse();
    path.into_iter().map(|node| &graph.nodes()[node])
}

fn describe(graph: &StreamGraph, id: NodeId) -> String {
    graph.node(id).map_or_else(
        || format!("operator number {id}"),
        |node| format!("'{}'", node.name),
    )
}

fn quoted<'a>(nodes: impl Iterator<Item = &'a StreamNode>) -> String {
    let names: Vec<String> = nodes.map(|node| format!("'{}'", node.name)).collect();
    names.join(", ")
}
