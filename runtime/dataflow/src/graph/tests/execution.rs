use super::{Sketch, line};
use crate::graph::{
    Distribution, ExecutionGraph, JobStatus, PartitionKind, RegionId, StateChange, StreamEdge, TaskState,
    consumers_of, producers_of,
};
use hurtig_core::ids::{AttemptNumber, ExecutionId, SubtaskId, VertexId};
use hurtig_core::time::Time;
use proptest::prelude::*;
use std::sync::Arc;

const NOW: Time = Time::ZERO;

fn graph() -> (ExecutionGraph, ExecutionId) {
    let graph = ExecutionGraph::new(Arc::new(line().0.job()), NOW);
    let id = graph.executions().next().unwrap().id;
    (graph, id)
}

/// Written out from Flink's documentation of the two state machines, independent of the tables.
#[test]
fn the_states_have_the_ends_that_flink_documents() {
    use JobStatus::*;
    for status in JobStatus::ALL {
        assert_eq!(
            status.is_globally_terminal(),
            matches!(status, Failed | Canceled | Finished)
        );
        assert_eq!(status.next().is_empty(), status.is_terminal(), "{status}");
        assert!(!status.can_become(status));
        assert!(!status.can_become(Initializing) && !status.can_become(Reconciling));
    }
    assert!(!Suspended.is_globally_terminal() && Suspended.is_terminal());
    assert!(!Running.can_become(Failed) && !Running.can_become(Canceled) && !Created.can_become(Finished));
    for state in TaskState::ALL {
        assert_eq!(state.next().is_empty(), state.is_terminal(), "{state}");
        assert_eq!(
            state.can_become(TaskState::Failed),
            !state.is_terminal(),
            "{state}"
        );
        assert_eq!(
            state.can_become(TaskState::Finished),
            matches!(state, TaskState::Running | TaskState::Reconciling)
        );
    }
}

#[test]
fn names_are_the_serialised_form() {
    for status in JobStatus::ALL {
        assert_eq!(serde_json::to_value(status).unwrap(), status.name());
    }
    for state in TaskState::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), state.name());
    }
}

#[test]
fn reports_are_applied_once_and_late_ones_change_nothing() {
    use TaskState::*;
    let (mut graph, id) = graph();
    for state in [Scheduled, Deploying, Initializing, Running] {
        assert!(matches!(
            graph.report(id, state, NOW),
            StateChange::Applied { .. }
        ));
        assert_eq!(graph.report(id, state, NOW), StateChange::Duplicate);
    }
    assert_eq!(
        graph.report(id, Finished, NOW),
        StateChange::Applied {
            from: Running,
            to: Finished
        }
    );
    assert_eq!(graph.report(id, Running, NOW), StateChange::Stale);
    assert_eq!(graph.report(id, Failed, NOW), StateChange::Stale);
    graph.restart(graph.region_of(id.subtask).unwrap(), NOW);
    assert_eq!(graph.report(id, Finished, NOW), StateChange::Stale);
    let future = ExecutionId {
        attempt: AttemptNumber(9),
        ..id
    };
    assert_eq!(graph.report(future, Running, NOW), StateChange::Unknown);
    let subtask = SubtaskId {
        vertex: VertexId::from_u128(5),
        index: 0,
    };
    assert_eq!(
        graph.report(ExecutionId { subtask, ..id }, Running, NOW),
        StateChange::Unknown
    );
}

#[test]
fn a_report_that_crosses_with_a_cancel_counts_as_cancelled() {
    use TaskState::*;
    let (mut graph, id) = graph();
    for state in [Scheduled, Deploying, Canceling] {
        graph.set_state(id, state, NOW);
    }
    assert_eq!(graph.report(id, Initializing, NOW), StateChange::Stale);
    assert_eq!(graph.report(id, Running, NOW), StateChange::Stale);
    assert_eq!(
        graph.report(id, Finished, NOW),
        StateChange::Applied {
            from: Canceling,
            to: Canceled
        }
    );
}

#[test]
fn restarting_keeps_a_bounded_history_and_new_channels() {
    let (mut graph, id) = graph();
    for attempt in 0..20 {
        let id = ExecutionId {
            attempt: AttemptNumber(attempt),
            ..id
        };
        assert!(matches!(
            graph.set_state(id, TaskState::Canceled, NOW),
            StateChange::Applied { .. }
        ));
        let region = graph.region_of(id.subtask).unwrap();
        graph.restart(region, NOW);
        assert_eq!(graph.region(region).unwrap().generation, attempt + 1);
    }
    let subtask = graph.subtask(id.subtask).unwrap();
    assert_eq!(subtask.current.id.attempt, AttemptNumber(20));
    assert_eq!(subtask.previous.len(), 16);
    assert_eq!(subtask.previous[0].id.attempt, AttemptNumber(4));
}

#[test]
#[should_panic(expected = "only after it is over")]
fn two_attempts_never_run_at_once() {
    graph().0.restart(RegionId(0), NOW);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "cannot go from INITIALIZING to RUNNING")]
fn an_illegal_job_transition_is_loud() {
    graph().0.set_status(JobStatus::Running, NOW);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "cannot go from CREATED to RUNNING")]
fn an_illegal_task_transition_is_loud() {
    let (mut graph, id) = graph();
    graph.report(id, TaskState::Running, NOW);
}

#[test]
fn key_groups_and_channels_of_a_shuffle() {
    let mut sketch = Sketch::default();
    let source = sketch.source("source");
    let sink = sketch.sink("sink", &[]);
    sketch.node(source).parallelism = Some(3);
    sketch.node(sink).parallelism = Some(2);
    let hash = PartitionKind::Hash { key: "u64".into() };
    sketch
        .graph
        .add_edge(StreamEdge::new(source, sink).partitioned(hash));
    let job = Arc::new(sketch.job());
    let graph = ExecutionGraph::new(job.clone(), NOW);
    assert_eq!(graph.executions().count(), 5);
    assert_eq!(graph.consumers(&job.edges[0], 2), 0..2);
    assert_eq!(graph.producers(&job.edges[0], 1), 0..3);
    let groups: Vec<String> = (0..2)
        .map(|index| ExecutionGraph::key_groups(&job.vertices[1], index).to_string())
        .collect();
    assert_eq!(groups, ["0..=63", "64..=127"]);
}

proptest! {
    /// Both directions describe the same channels; nobody is left out; shares are even.
    #[test]
    fn channels_are_the_same_from_both_ends(producers in 1..40u32, consumers in 1..40u32, pointwise: bool) {
        let how = if pointwise { Distribution::Pointwise } else { Distribution::AllToAll };
        let mut count = 0;
        for producer in 0..producers {
            let reached = consumers_of(how, producer, producers, consumers);
            prop_assert!(!reached.is_empty() && reached.end <= consumers);
            for consumer in 0..consumers {
                let back = producers_of(how, consumer, producers, consumers);
                prop_assert_eq!(reached.contains(&consumer), back.contains(&producer));
                prop_assert!(!back.is_empty());
            }
            count += reached.len() as u32;
        }
        let expected = if pointwise { producers.max(consumers) } else { producers * consumers };
        prop_assert_eq!(count, expected);
    }

    /// Whatever is reported in whatever order, an execution only ever moves along the table.
    #[test]
    fn executions_only_move_along_the_table(
        reports in prop::collection::vec(prop::sample::select(TaskState::ALL.to_vec()), 0..40)
    ) {
        let (mut graph, id) = graph();
        for to in reports {
            let before = graph.subtask(id.subtask).unwrap().current.state();
            if before.is_terminal() || before == to || before.can_become(to) {
                let change = graph.report(id, to, NOW);
                let after = graph.subtask(id.subtask).unwrap().current.state();
                match change {
                    StateChange::Applied { .. } => prop_assert!(before.can_become(after)),
                    _ => prop_assert_eq!(before, after),
                }
            }
        }
    }
}
