//! Which operators share a task. A chain is a line: operator after operator, without a fork.

use super::resolve::{Resolved, partition};
use super::settings::GraphSettings;
use super::stream::{Chaining, PartitionKind, StreamEdge, StreamGraph, StreamNode};
use hurtig_core::ids::NodeId;

/// The chains in topological order of their heads; every operator is in exactly one.
pub(super) fn chains(
    graph: &StreamGraph,
    order: &[NodeId],
    resolved: &[Resolved],
    settings: &GraphSettings,
) -> Vec<Vec<NodeId>> {
    let chained = |edge: &StreamEdge| settings.chaining && is_chainable(graph, edge, resolved);
    let mut chains = Vec::new();
    for &head in order {
        if graph.inputs(head).any(chained) {
            continue;
        }
        let mut chain = vec![head];
        let mut last = head;
        while let Some(edge) = graph.outputs(last).find(|edge| chained(edge)) {
            last = edge.to;
            chain.push(last);
        }
        chains.push(chain);
    }
    chains
}

/// Whether the two operators of an edge run in one task.
fn is_chainable(graph: &StreamGraph, edge: &StreamEdge, resolved: &[Resolved]) -> bool {
    let (Some(from), Some(to)) = (graph.node(edge.from), graph.node(edge.to)) else {
        return false;
    };
    let (up, down) = (&resolved[from.id.0 as usize], &resolved[to.id.0 as usize]);
    is_forward(graph, edge, up, down)
        && edge.side.is_none()
        && edge.input == 0
        && graph.inputs(to.id).count() == 1
        && graph.outputs(from.id).count() == 1
        && is_placed_alike(up, down)
        && is_allowed(from, to)
}

fn is_forward(graph: &StreamGraph, edge: &StreamEdge, up: &Resolved, down: &Resolved) -> bool {
    matches!(
        partition(graph, edge, up.parallelism, down.parallelism),
        Ok(PartitionKind::Forward)
    )
}

fn is_placed_alike(up: &Resolved, down: &Resolved) -> bool {
    up.parallelism == down.parallelism
        && up.max_parallelism() == down.max_parallelism()
        && up.group == down.group
}

/// A blocking operator shares its thread only with others that block.
fn is_allowed(from: &StreamNode, to: &StreamNode) -> bool {
    from.chaining != Chaining::Never && to.chaining == Chaining::Always && from.blocking == to.blocking
}
