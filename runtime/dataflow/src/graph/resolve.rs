//! Defaults decided: parallelism, key groups, slot sharing groups and partitioning of every node.

use super::error::GraphError;
use super::settings::GraphSettings;
use super::stream::{DEFAULT_SLOT_SHARING_GROUP, PartitionKind, StreamEdge, StreamGraph, StreamNode};
use hurtig_core::ids::NodeId;
use hurtig_core::key::{MAX_KEY_GROUPS, default_max_parallelism};

/// What was decided for one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) parallelism: u32,
    /// As set; `None`: derived from the parallelism that the vertex ends up with.
    pub(super) set_max: Option<u32>,
    pub(super) group: String,
}

impl Resolved {
    pub(super) fn max_parallelism(&self) -> u32 {
        self.set_max
            .unwrap_or_else(|| default_max_parallelism(self.parallelism))
    }
}

/// Decides for every operator, in topological order, so that groups can be inherited.
pub(super) fn resolve(
    graph: &StreamGraph,
    order: &[NodeId],
    settings: &GraphSettings,
) -> Result<Vec<Resolved>, GraphError> {
    check_settings(settings)?;
    let unknown = Resolved {
        parallelism: 0,
        set_max: None,
        group: String::new(),
    };
    let mut all = vec![unknown; graph.nodes().len()];
    for node in order.iter().filter_map(|id| graph.node(*id)) {
        let resolved = Resolved {
            parallelism: parallelism(node, settings)?,
            set_max: max_parallelism(node, settings)?,
            group: slot_sharing_group(graph, node, &all),
        };
        check_maximum(&node.name, &resolved)?;
        all[node.id.0 as usize] = resolved;
    }
    Ok(all)
}

/// Refuses more subtasks than key groups.
pub(super) fn check_maximum(operator: &str, resolved: &Resolved) -> Result<(), GraphError> {
    let (parallelism, max_parallelism) = (resolved.parallelism, resolved.max_parallelism());
    if parallelism <= max_parallelism {
        return Ok(());
    }
    Err(GraphError::AboveMaxParallelism {
        operator: operator.to_owned(),
        parallelism,
        max_parallelism,
    })
}

/// Refuses a parallelism that no operator can have.
pub(super) fn check_parallelism(place: impl FnOnce() -> String, parallelism: u32) -> Result<(), GraphError> {
    if (1..=MAX_KEY_GROUPS).contains(&parallelism) {
        return Ok(());
    }
    Err(GraphError::ParallelismOutOfRange {
        place: place(),
        parallelism,
        limit: MAX_KEY_GROUPS,
    })
}

fn check_settings(settings: &GraphSettings) -> Result<(), GraphError> {
    let levels = [
        ("the environment", settings.environment_parallelism),
        ("the client (-p)", settings.client_parallelism),
        ("parallelism.default", Some(settings.default_parallelism)),
    ];
    for (place, parallelism) in levels {
        parallelism.map_or(Ok(()), |parallelism| {
            check_parallelism(|| place.to_owned(), parallelism)
        })?;
    }
    let place = || "pipeline.max-parallelism".to_owned();
    settings
        .max_parallelism
        .map_or(Ok(()), |max| check_max_range(place, max))
}

fn check_max_range(place: impl FnOnce() -> String, max_parallelism: u32) -> Result<(), GraphError> {
    if (1..=MAX_KEY_GROUPS).contains(&max_parallelism) {
        return Ok(());
    }
    Err(GraphError::MaxParallelismOutOfRange {
        place: place(),
        max_parallelism,
        limit: MAX_KEY_GROUPS,
    })
}

/// Operator > environment > client > default; a default is lowered to the operator's limit.
fn parallelism(node: &StreamNode, settings: &GraphSettings) -> Result<u32, GraphError> {
    let Some(asked) = node.parallelism else {
        let job = settings.job_parallelism();
        return Ok(node.parallelism_limit.map_or(job, |limit| job.min(limit.max(1))));
    };
    check_parallelism(|| format!("operator '{}'", node.name), asked)?;
    match node.parallelism_limit {
        Some(limit) if asked > limit => Err(GraphError::AboveParallelismLimit {
            operator: node.name.clone(),
            parallelism: asked,
            limit,
        }),
        _ => Ok(asked),
    }
}

fn max_parallelism(node: &StreamNode, settings: &GraphSettings) -> Result<Option<u32>, GraphError> {
    if let Some(max) = node.max_parallelism {
        check_max_range(|| format!("operator '{}'", node.name), max)?;
    }
    Ok(node.max_parallelism.or(settings.max_parallelism))
}

/// The group asked for; else that of all inputs, when they agree; else the default one.
fn slot_sharing_group(graph: &StreamGraph, node: &StreamNode, resolved: &[Resolved]) -> String {
    if let Some(group) = &node.slot_sharing_group {
        return group.clone();
    }
    let mut groups = graph
        .inputs(node.id)
        .map(|edge| &resolved[edge.from.0 as usize].group);
    let first = groups.next();
    let agreed = first.filter(|first| groups.all(|group| group == *first));
    agreed.map_or_else(|| DEFAULT_SLOT_SHARING_GROUP.to_owned(), Clone::clone)
}

/// The partitioning of an edge between subtasks of these numbers.
pub(super) fn partition(
    graph: &StreamGraph,
    edge: &StreamEdge,
    from_parallelism: u32,
    to_parallelism: u32,
) -> Result<PartitionKind, GraphError> {
    let equal = from_parallelism == to_parallelism;
    match &edge.partition {
        None if equal => Ok(PartitionKind::Forward),
        None => Ok(PartitionKind::Rebalance),
        Some(PartitionKind::Forward) if !equal => {
            let name = |id| graph.node(id).map(|node| node.name.clone()).unwrap_or_default();
            let (from, to) = (name(edge.from), name(edge.to));
            Err(GraphError::ForwardParallelism {
                from,
                from_parallelism,
                to,
                to_parallelism,
            })
        }
        Some(asked) => Ok(asked.clone()),
    }
}
