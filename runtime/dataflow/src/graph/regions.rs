//! Pipelined regions: the subtasks that depend on each other while they run.
//!
//! Records flow through a channel while both of its ends run, so when one end is lost the other one is too: it
//! has seen records that will come again, or misses some. Subtasks that no path of channels connects have nothing
//! to do with each other. All edges are pipelined, so regions are the connected components of the graph of subtasks.

use super::channels::{Distribution, consumers_of};
use super::job::{JobEdge, JobGraph};
use hurtig_core::ids::{SubtaskId, VertexId};
use std::collections::BTreeMap;
use std::fmt;

/// Names a region of an ExecutionGraph: its place in the list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u32);

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "region {}", self.0)
    }
}

/// Subtasks that start and fail together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Which, by vertex in the order of the JobGraph, and index.
    pub subtasks: Vec<SubtaskId>,
    /// Its present deployment, a number that no other deployment of any region has: channels of different
    /// generations never meet.
    pub generation: u32,
}

/// The subtasks of each pipelined region; regions in the order of their first subtasks.
///
/// *Cost*: linear in subtasks and pointwise channels; those of an all-to-all edge are not looked at one by one.
pub(super) fn pipelined_regions(graph: &JobGraph) -> Vec<Vec<SubtaskId>> {
    let mut places = Places::new(graph);
    for edge in &graph.edges {
        places.connect(graph, edge);
    }
    places.components(graph)
}

/// All subtasks, in the order of vertices and indices.
pub(super) fn subtasks(graph: &JobGraph) -> impl Iterator<Item = SubtaskId> {
    graph.vertices.iter().flat_map(|vertex| {
        (0..vertex.parallelism).map(|index| SubtaskId {
            vertex: vertex.id,
            index,
        })
    })
}

/// Sets of subtasks by their numbers; each set is a tree whose root is its least number.
struct Places {
    first: BTreeMap<VertexId, u32>,
    parent: Vec<u32>,
}

impl Places {
    fn new(graph: &JobGraph) -> Self {
        let mut next = 0;
        let first = graph.vertices.iter().map(|vertex| {
            let first = next;
            next += vertex.parallelism;
            (vertex.id, first)
        });
        let first = first.collect();
        Self {
            first,
            parent: (0..next).collect(),
        }
    }

    fn root(&mut self, mut place: u32) -> u32 {
        while self.parent[place as usize] != place {
            let above = self.parent[self.parent[place as usize] as usize];
            self.parent[place as usize] = above;
            place = above;
        }
        place
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.parent[one.max(other) as usize] = one.min(other);
    }

    fn connect(&mut self, graph: &JobGraph, edge: &JobEdge) {
        let width = |id| graph.vertex(id).map_or(0, |vertex| vertex.parallelism);
        let (producers, consumers) = (width(edge.from), width(edge.to));
        let (from, to) = (self.first[&edge.from], self.first[&edge.to]);
        let how = edge.partition.distribution();
        match how {
            Distribution::AllToAll => {
                (0..producers).for_each(|producer| self.join(from + producer, to));
                (0..consumers).for_each(|consumer| self.join(from, to + consumer));
            }
            Distribution::Pointwise => {
                for producer in 0..producers {
                    consumers_of(how, producer, producers, consumers)
                        .for_each(|consumer| self.join(from + producer, to + consumer));
                }
            }
        }
    }

    fn components(mut self, graph: &JobGraph) -> Vec<Vec<SubtaskId>> {
        let mut components: BTreeMap<u32, Vec<SubtaskId>> = BTreeMap::new();
        for (place, subtask) in (0..).zip(subtasks(graph)) {
            components.entry(self.root(place)).or_default().push(subtask);
        }
        components.into_values().collect()
    }
}
