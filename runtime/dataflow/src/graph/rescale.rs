//! A JobGraph at another parallelism: between which bounds each vertex may run, what fits into so many slots, and the graph
//! that comes of it. Chains, vertices and key groups stay as they were planned.

use super::job::{JobGraph, JobVertex};
use super::stream::PartitionKind;
use hurtig_core::ids::VertexId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Between which parallelisms a vertex may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The least.
    pub lower: u32,
    /// The most, which is wanted.
    pub upper: u32,
}

impl Bounds {
    /// This parallelism and no other.
    pub fn exactly(parallelism: u32) -> Self {
        Self {
            lower: parallelism,
            upper: parallelism,
        }
    }

    fn both(self, other: Self) -> Self {
        Self {
            lower: self.lower.max(other.lower),
            upper: self.upper.min(other.upper),
        }
    }
}

/// The parallelism of each vertex.
pub type Parallelisms = BTreeMap<VertexId, u32>;

/// The bounds of every vertex of a job: its resource requirements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Requirements(BTreeMap<VertexId, Bounds>);

/// What a job's requirements are before anybody has declared any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Elasticity {
    /// Every vertex has the parallelism of the plan.
    #[default]
    None,
    /// That, or less where slots are missing.
    Down,
    /// As many as there are slots for.
    Reactive,
}

impl Elasticity {
    fn of(self, vertex: &JobVertex) -> Bounds {
        let planned = vertex.parallelism;
        match self {
            Self::None => Bounds::exactly(planned),
            _ if vertex.fixed => Bounds::exactly(planned),
            Self::Down => Bounds {
                lower: 1,
                upper: planned,
            },
            Self::Reactive => Bounds {
                lower: 1,
                upper: vertex.most(),
            },
        }
    }
}

impl JobVertex {
    /// The largest parallelism that it can have.
    pub fn most(&self) -> u32 {
        self.parallelism_limit
            .map_or(self.max_parallelism, |limit| limit.min(self.max_parallelism))
    }
}

impl FromIterator<(VertexId, Bounds)> for Requirements {
    fn from_iter<I: IntoIterator<Item = (VertexId, Bounds)>>(bounds: I) -> Self {
        Self(bounds.into_iter().collect())
    }
}

impl Requirements {
    /// Those of a job of which nobody has declared any.
    pub fn initial(graph: &JobGraph, elasticity: Elasticity) -> Self {
        let bounds = graph
            .vertices
            .iter()
            .map(|vertex| (vertex.id, elasticity.of(vertex)));
        Self(bounds.collect())
    }

    /// What somebody has declared, if the job can run so.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn declared(graph: &JobGraph, bounds: BTreeMap<VertexId, Bounds>) -> Result<Self, String> {
        let known = |id: &VertexId| graph.vertex(*id).is_some();
        let mut problems: Vec<String> = bounds
            .keys()
            .filter(|id| !known(id))
            .map(|id| format!("the job has no vertex {id}"))
            .collect();
        for vertex in &graph.vertices {
            problems.extend(match bounds.get(&vertex.id) {
                None => Some(format!(
                    "the request is incomplete: the bounds of vertex {} ('{}') are missing",
                    vertex.id, vertex.name
                )),
                Some(bounds) => problem(vertex, *bounds),
            });
        }
        let declared = Self(bounds);
        if problems.is_empty() {
            problems.extend(declared.contradictions(graph));
        }
        match problems.is_empty() {
            true => Ok(declared),
            false => Err(problems.join("; ")),
        }
    }

    /// These, with other bounds for all vertices but those whose parallelism the program sets. A vertex whose source or sink
    /// cannot have as many subtasks has as many as it can.
    #[must_use]
    pub fn all_at(&self, graph: &JobGraph, wanted: Bounds) -> Self {
        let mut bounds = self.0.clone();
        for vertex in graph.vertices.iter().filter(|vertex| !vertex.fixed) {
            let upper = vertex
                .parallelism_limit
                .map_or(wanted.upper, |limit| limit.min(wanted.upper));
            let lower = wanted.lower.min(upper);
            bounds.insert(vertex.id, Bounds { lower, upper });
        }
        Self(bounds)
    }

    /// Vertices that need the same parallelism, and cannot have it.
    fn contradictions(&self, graph: &JobGraph) -> Vec<String> {
        let alike = alike(graph);
        let shared = alike.iter().filter_map(|set| {
            let both = self.of_all(set)?;
            let names = set.iter().filter_map(|id| graph.vertex(*id));
            let names: Vec<_> = names.map(|vertex| format!("'{}'", vertex.name)).collect();
            (both.lower > both.upper).then(|| {
                format!(
                    "{} have the same parallelism, since the program connects them by `forward`: their bounds have none in \
                     common",
                    names.join(", ")
                )
            })
        });
        shared.collect()
    }

    fn of_all(&self, vertices: &BTreeSet<VertexId>) -> Option<Bounds> {
        let bounds = vertices.iter().filter_map(|id| self.0.get(id).copied());
        bounds.reduce(Bounds::both)
    }

    /// The bounds of the vertices.
    pub fn iter(&self) -> impl Iterator<Item = (VertexId, Bounds)> {
        self.0.iter().map(|(id, bounds)| (*id, *bounds))
    }

    /// Whether the job can run at more than one parallelism.
    pub fn is_elastic(&self) -> bool {
        self.0.values().any(|bounds| bounds.lower < bounds.upper)
    }

    /// The slots that the job needs to run at all, and those that it can use.
    pub fn slots(&self, graph: &JobGraph) -> (u32, u32) {
        let groups = self.groups(graph);
        groups.values().fold((0, 0), |(least, most), group| {
            (least + group.lower, most + group.upper)
        })
    }

    /// What each slot sharing group needs: what its widest vertex does.
    fn groups<'a>(&self, graph: &'a JobGraph) -> BTreeMap<&'a str, Bounds> {
        let bounds = self.aligned(graph);
        let mut groups: BTreeMap<&str, Bounds> = BTreeMap::new();
        for vertex in &graph.vertices {
            let of_vertex = bounds
                .get(&vertex.id)
                .copied()
                .unwrap_or(Bounds::exactly(vertex.parallelism));
            let group = groups
                .entry(vertex.slot_sharing_group.as_str())
                .or_insert(of_vertex);
            group.lower = group.lower.max(of_vertex.lower);
            group.upper = group.upper.max(of_vertex.upper);
        }
        groups
    }

    /// The bounds, the same ones for vertices that need the same parallelism.
    fn aligned(&self, graph: &JobGraph) -> BTreeMap<VertexId, Bounds> {
        let mut bounds = self.0.clone();
        for set in alike(graph) {
            if let Some(both) = self.of_all(&set) {
                bounds.extend(set.iter().map(|id| (*id, both)));
            }
        }
        bounds
    }

    /// The best parallelism that fits into so many slots; `None`: the job cannot run in them. Every group has what it needs
    /// at least; of what is left, the group that has least gets the next slot.
    pub fn fit(&self, graph: &JobGraph, slots: u32) -> Option<Parallelisms> {
        let groups = self.groups(graph);
        let mut given: BTreeMap<&str, u32> =
            groups.iter().map(|(name, group)| (*name, group.lower)).collect();
        let mut left = slots.checked_sub(given.values().sum())?;
        while left > 0 {
            let open = given
                .iter_mut()
                .filter(|(name, given)| **given < groups[**name].upper);
            let Some((_, next)) = open.min_by_key(|(_, given)| **given) else {
                break;
            };
            *next += 1;
            left -= 1;
        }
        let bounds = self.aligned(graph);
        let mut fitting: Parallelisms = BTreeMap::new();
        for vertex in &graph.vertices {
            let upper = bounds
                .get(&vertex.id)
                .map_or(vertex.parallelism, |bounds| bounds.upper);
            fitting.insert(vertex.id, upper.min(given[vertex.slot_sharing_group.as_str()]));
        }
        // Those of different groups may have been given different numbers.
        for set in alike(graph) {
            let least = set.iter().filter_map(|id| fitting.get(id).copied()).min();
            let least = least.unwrap_or(1);
            fitting.extend(set.into_iter().map(|id| (id, least)));
        }
        Some(fitting)
    }
}

/// What is wrong with the bounds of a vertex.
fn problem(vertex: &JobVertex, bounds: Bounds) -> Option<String> {
    let Bounds { lower, upper } = bounds;
    let shown = || format!("vertex {} ('{}')", vertex.id, vertex.name);
    if lower == 0 {
        return Some(format!(
            "{}: the lower bound is 0, and at least 1 subtask runs",
            shown()
        ));
    }
    if lower > upper {
        return Some(format!(
            "{}: the lower bound {lower} is above the upper bound {upper}",
            shown()
        ));
    }
    if upper > vertex.max_parallelism {
        return Some(format!(
            "{}: the parallelism {upper} is above its max parallelism {}, which cannot change while there is state",
            shown(),
            vertex.max_parallelism
        ));
    }
    let limit = vertex.parallelism_limit.filter(|limit| upper > *limit)?;
    Some(format!(
        "{}: the parallelism {upper} is above {limit}, the most that its source or sink can have",
        shown()
    ))
}

/// Sets of vertices that need the same parallelism: the program connects them by `forward`.
fn alike(graph: &JobGraph) -> Vec<BTreeSet<VertexId>> {
    let mut sets: Vec<BTreeSet<VertexId>> = Vec::new();
    let forward = graph
        .edges
        .iter()
        .filter(|edge| edge.requested && edge.partition == PartitionKind::Forward);
    for edge in forward {
        let mut joined = BTreeSet::from([edge.from, edge.to]);
        sets.retain_mut(|set| {
            let touched = !set.is_disjoint(&joined);
            if touched {
                joined.append(set);
            }
            !touched
        });
        sets.push(joined);
    }
    sets
}

impl JobGraph {
    /// The parallelism of every vertex.
    pub fn parallelisms(&self) -> Parallelisms {
        let vertices = self.vertices.iter();
        vertices.map(|vertex| (vertex.id, vertex.parallelism)).collect()
    }

    /// The same job at another parallelism. Where the program asked for no partitioning, records go straight on between as
    /// many subtasks, and in turn otherwise.
    #[must_use]
    pub fn at(&self, parallelisms: &Parallelisms) -> Self {
        let mut graph = self.clone();
        for vertex in &mut graph.vertices {
            if let Some(parallelism) = parallelisms.get(&vertex.id) {
                vertex.parallelism = *parallelism;
            }
        }
        let widths = graph.parallelisms();
        for edge in graph.edges.iter_mut().filter(|edge| !edge.requested) {
            edge.partition = match widths.get(&edge.from) == widths.get(&edge.to) {
                true => PartitionKind::Forward,
                false => PartitionKind::Rebalance,
            };
        }
        graph
    }
}
