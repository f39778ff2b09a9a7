use super::{Sketch, line};
use crate::graph::{
    Bounds, Elasticity, ExecutionGraph, GraphSettings, JobGraph, PartitionKind, Requirements, StreamEdge,
    TaskState,
};
use hurtig_core::ids::VertexId;
use hurtig_core::time::Time;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn at(default_parallelism: u32) -> GraphSettings {
    GraphSettings {
        default_parallelism,
        ..GraphSettings::default()
    }
}

/// source -> sink, in two slot sharing groups.
fn two_groups() -> JobGraph {
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    let sink = sketch.sink("sink", &[source]);
    sketch.node(sink).slot_sharing_group = Some("red".to_owned());
    sketch.job_with(&at(4))
}

fn all(graph: &JobGraph, lower: u32, upper: u32) -> BTreeMap<VertexId, Bounds> {
    let vertices = graph.vertices.iter();
    vertices
        .map(|vertex| (vertex.id, Bounds { lower, upper }))
        .collect()
}

fn widths(graph: &JobGraph) -> Vec<u32> {
    graph.vertices.iter().map(|vertex| vertex.parallelism).collect()
}

#[test]
fn edges_that_nobody_asked_for_follow_the_parallelism() {
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    let sink = sketch.add(
        crate::graph::StreamNode::new("sink", "Sink", crate::graph::NodeKind::Sink),
        &[],
    );
    sketch.graph.add_edge(StreamEdge::new(source, sink));
    sketch.node(sink).chaining = crate::graph::Chaining::Never;
    let graph = sketch.job_with(&at(2));
    assert_eq!(graph.edges[0].partition, PartitionKind::Forward);
    let [from, to] = [graph.edges[0].from, graph.edges[0].to];
    let other = graph.at(&BTreeMap::from([(from, 3)]));
    assert_eq!(
        (widths(&other), &other.edges[0].partition),
        (vec![3, 2], &PartitionKind::Rebalance)
    );
    let same = other.at(&BTreeMap::from([(to, 3)]));
    assert_eq!(
        (widths(&same), &same.edges[0].partition),
        (vec![3, 3], &PartitionKind::Forward)
    );
    assert_eq!(same.fingerprint, graph.fingerprint);
}

#[test]
fn what_the_program_says_is_kept_unless_somebody_names_it() {
    let (mut sketch, [source, map, _]) = line();
    sketch.node(source).parallelism_limit = Some(1);
    sketch.node(map).parallelism = Some(3);
    let graph = sketch.job_with(&at(4));
    let bounds = |elasticity| -> Vec<(u32, u32)> {
        let initial = Requirements::initial(&graph, elasticity);
        let known: BTreeMap<VertexId, Bounds> = initial.iter().collect();
        let of = |vertex: &crate::graph::JobVertex| (known[&vertex.id].lower, known[&vertex.id].upper);
        graph.vertices.iter().map(of).collect()
    };
    assert_eq!(bounds(Elasticity::None), [(1, 1), (3, 3), (4, 4)]);
    assert_eq!(bounds(Elasticity::Down), [(1, 1), (3, 3), (1, 4)]);
    assert_eq!(bounds(Elasticity::Reactive), [(1, 1), (3, 3), (1, 128)]);
    let initial = Requirements::initial(&graph, Elasticity::None);
    let wanted = initial.all_at(&graph, Bounds { lower: 2, upper: 6 });
    let wanted: Vec<Bounds> = graph
        .vertices
        .iter()
        .map(|vertex| wanted.iter().find(|(id, _)| *id == vertex.id).unwrap().1)
        .collect();
    let of = |lower, upper| Bounds { lower, upper };
    assert_eq!(wanted, [of(1, 1), of(3, 3), of(2, 6)]);
}

#[test]
fn bounds_that_no_job_can_run_between_are_all_said() {
    let (mut sketch, [source, ..]) = line();
    sketch.node(source).parallelism_limit = Some(1);
    let graph = sketch.job_with(&at(2));
    let refused = |change: &dyn Fn(&mut BTreeMap<VertexId, Bounds>)| {
        let mut bounds = all(&graph, 1, 1);
        change(&mut bounds);
        Requirements::declared(&graph, bounds).unwrap_err()
    };
    let [first, second] = [graph.vertices[0].id, graph.vertices[1].id];
    let of = |lower, upper| Bounds { lower, upper };
    let stranger = VertexId::from_u128(9);
    for (vertex, bounds, wanted) in [
        (stranger, of(1, 1), "no vertex"),
        (second, of(0, 1), "lower bound is 0"),
        (second, of(3, 2), "lower bound 3 is above the upper bound 2"),
        (second, of(1, 129), "above its max parallelism 128"),
        (first, of(1, 2), "above 1, the most"),
    ] {
        let why = refused(&|all| {
            all.insert(vertex, bounds);
        });
        assert!(why.contains(wanted), "{why}");
    }
    let why = refused(&|all| all.retain(|id, _| *id == first));
    assert!(
        why.contains("incomplete") && why.contains(&second.to_string()),
        "{why}"
    );
    let why = refused(&|all| {
        all.insert(second, of(0, 1));
        all.insert(stranger, of(1, 1));
    });
    assert!(
        why.contains("no vertex") && why.contains("lower bound is 0"),
        "{why}"
    );
}

#[test]
fn what_forward_connects_has_one_parallelism() {
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    let sink = sketch.add(
        crate::graph::StreamNode::new("sink", "Sink", crate::graph::NodeKind::Sink),
        &[],
    );
    sketch
        .graph
        .add_edge(StreamEdge::new(source, sink).partitioned(PartitionKind::Forward));
    sketch.node(sink).chaining = crate::graph::Chaining::Never;
    sketch.node(sink).slot_sharing_group = Some("red".to_owned());
    let graph = sketch.job_with(&at(2));
    let [from, to] = [graph.vertices[0].id, graph.vertices[1].id];
    let of = |lower, upper| Bounds { lower, upper };
    let declared = |one, two| Requirements::declared(&graph, BTreeMap::from([(from, one), (to, two)]));
    let why = declared(of(1, 2), of(3, 4)).unwrap_err();
    assert!(why.contains("forward") && why.contains("'source'"), "{why}");
    let both = declared(of(1, 4), of(2, 8)).unwrap();
    assert_eq!(both.slots(&graph), (4, 8));
    assert_eq!(both.fit(&graph, 3), None);
    let fit = |slots| both.fit(&graph, slots).unwrap().into_values().collect::<Vec<_>>();
    assert_eq!(
        [fit(4), fit(5), fit(7), fit(100)],
        [[2, 2], [2, 2], [3, 3], [4, 4]]
    );
}

/// The best by trying all: the most slots in use, shared as evenly as can be.
fn best(lower: [u32; 2], upper: [u32; 2], slots: u32) -> Option<[u32; 2]> {
    let pairs = (lower[0]..=upper[0]).flat_map(|one| (lower[1]..=upper[1]).map(move |two| [one, two]));
    pairs
        .filter(|[one, two]| one + two <= slots)
        .max_by_key(|[one, two]| (one + two, one.min(two).to_owned()))
}

proptest! {
    #[test]
    fn what_fits_uses_all_slots_that_it_can(
        lower in [1..5_u32, 1..5],
        more in [0..5_u32, 0..5],
        slots in 0..20_u32,
    ) {
        let graph = two_groups();
        let upper = [lower[0] + more[0], lower[1] + more[1]];
        let bounds = graph.vertices.iter().zip(0..).map(|(vertex, at): (_, usize)| {
            (vertex.id, Bounds { lower: lower[at], upper: upper[at] })
        });
        let requirements = Requirements::declared(&graph, bounds.collect()).unwrap();
        let fit = requirements.fit(&graph, slots);
        let fit = fit.map(|fit| [0, 1].map(|at: usize| fit[&graph.vertices[at].id]));
        prop_assert_eq!(fit.is_some(), lower[0] + lower[1] <= slots);
        if let (Some(fit), Some(best)) = (fit, best(lower, upper, slots)) {
            prop_assert_eq!((fit[0] + fit[1], fit[0].min(fit[1])), (best[0] + best[1], best[0].min(best[1])));
            for at in 0..2 {
                prop_assert!((lower[at]..=upper[at]).contains(&fit[at]));
            }
        }
    }
}

#[test]
fn another_parallelism_has_new_attempts_and_channels() {
    let graph = line().0.job_with(&at(2));
    let mut running = ExecutionGraph::new(Arc::new(graph.clone()), Time::ZERO);
    let wide = |width: u32| {
        let widths = graph.vertices.iter().map(|vertex| (vertex.id, width));
        Arc::new(graph.at(&widths.collect()))
    };
    let mut generations = std::collections::BTreeSet::new();
    let mut attempts = std::collections::BTreeSet::new();
    for width in [1, 3, 1, 2] {
        for region in running.regions() {
            assert!(generations.insert(region.generation), "channels would meet");
        }
        let present: Vec<_> = running.executions().map(|execution| execution.id).collect();
        for id in present {
            assert!(attempts.insert(id), "{id} was there before");
            for state in [
                TaskState::Scheduled,
                TaskState::Deploying,
                TaskState::Canceling,
                TaskState::Canceled,
            ] {
                running.set_state(id, state, Time::ZERO);
            }
        }
        running.rescale(wide(width), false, Time::ZERO);
        assert_eq!(
            running.executions().count(),
            width as usize * graph.vertices.len()
        );
        assert!(running.all(|state| state == TaskState::Created));
    }
    let first = running.subtasks().next().unwrap();
    assert_eq!(first.previous.len(), 4, "it was there every time");
    // What was never begun needs no other number.
    let before: Vec<_> = running.executions().map(|execution| execution.id).collect();
    running.rescale(wide(2), true, Time::ZERO);
    let after: Vec<_> = running.executions().map(|execution| execution.id).collect();
    assert_eq!((before, running.regions().len()), (after, 1));
}

#[test]
#[should_panic(expected = "only after it is over")]
fn what_runs_is_not_replaced() {
    let graph = Arc::new(line().0.job());
    let mut running = ExecutionGraph::new(graph.clone(), Time::ZERO);
    let id = running.executions().next().unwrap().id;
    running.set_state(id, TaskState::Scheduled, Time::ZERO);
    running.rescale(graph, false, Time::ZERO);
}
