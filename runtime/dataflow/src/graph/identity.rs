//! Identities that survive a rebuild of the graph: operator ids and the fingerprint.
//!
//! Both are hashes of parts of the graph. State belongs to an [`OperatorId`]; a program rebuilt in
//! another process must have the [`Fingerprint`] of the plan.

use super::stream::{StreamGraph, StreamNode};
use hurtig_core::ids::{NodeId, PartHasher};
use std::collections::BTreeMap;

pub use hurtig_core::ids::{Fingerprint, OperatorId};

/// The ids of all operators, by node. `order` is topological.
///
/// An operator without uid gets its id from its type and the ids of its inputs; equal ones are
/// told apart by the order of creation. So renaming, another parallelism and an unrelated new
/// operator leave it alone.
pub(super) fn operator_ids(graph: &StreamGraph, order: &[NodeId]) -> Vec<OperatorId> {
    let mut ids = vec![OperatorId::from_u128(0); graph.nodes().len()];
    let mut twins: BTreeMap<u128, u64> = BTreeMap::new();
    for node in order.iter().filter_map(|id| graph.node(*id)) {
        ids[node.id.0 as usize] = given_id(node).unwrap_or_else(|| {
            let shape = topology_hash(graph, node, &ids);
            let ordinal = twins.entry(shape).or_insert(0);
            let mut hasher = PartHasher::new("twin");
            hasher.part(&shape.to_le_bytes());
            hasher.number(*ordinal);
            *ordinal += 1;
            OperatorId::from_u128(hasher.finish())
        });
    }
    ids
}

fn given_id(node: &StreamNode) -> Option<OperatorId> {
    node.uid_hash
        .or_else(|| node.uid.as_deref().map(OperatorId::of_uid))
}

fn topology_hash(graph: &StreamGraph, node: &StreamNode, ids: &[OperatorId]) -> u128 {
    let mut hasher = PartHasher::new("topology");
    hasher.part(node.operator_type.as_bytes());
    for edge in graph.inputs(node.id) {
        hasher.number(u64::from(edge.input));
        hasher.optional(edge.side.as_deref());
        hasher.part(&ids[edge.from.0 as usize].as_u128().to_le_bytes());
    }
    hasher.finish()
}
