//! What a checkpoint's metadata say about a job, in both directions.

use super::checkpointing::Latest;
use super::checkpoints::{CompleteCut, SubtaskCut};
use super::states::shown;
use hurtig_core::ids::{NodeId, SubtaskId, VertexId};
use hurtig_core::key::KEY_HASH_VERSION;
use hurtig_dataflow::graph::{JobGraph, JobOperator, JobVertex};
use hurtig_state::StateShapes;
use hurtig_storage::{
    CheckpointMetadata, METADATA_FORMAT_VERSION, OperatorStates, SnapshotKind, SubtaskState,
};
use hurtig_task::interface::{CheckpointPart, OperatorRestore, TaskRestore};
use std::collections::BTreeMap;

/// The metadata of a complete checkpoint. Who publishes it adds the time.
pub(super) fn describe(
    graph: &JobGraph,
    cut: CompleteCut<CheckpointPart>,
    mut enumerators: BTreeMap<NodeId, Vec<u8>>,
) -> CheckpointMetadata {
    let mut operators = Vec::new();
    for vertex in &graph.vertices {
        for (place, operator) in (0..).zip(&vertex.operators) {
            let subtask = |index| {
                let id = SubtaskId {
                    vertex: vertex.id,
                    index,
                };
                Some((index, state_of(cut.subtasks.get(&id)?, place)))
            };
            operators.push(OperatorStates {
                operator: operator.id,
                uid: operator.uid.clone(),
                name: operator.name.clone(),
                parallelism: vertex.parallelism,
                max_parallelism: vertex.max_parallelism,
                subtasks: (0..vertex.parallelism).filter_map(subtask).collect(),
                coordinator: enumerators.remove(&operator.node),
                states: shapes_of(&cut, vertex.id, place as usize),
            });
        }
    }
    CheckpointMetadata {
        format_version: METADATA_FORMAT_VERSION,
        checkpoint_id: cut.checkpoint,
        kind: SnapshotKind::Checkpoint,
        job_id: graph.id,
        job_name: graph.name.clone(),
        triggered_ms: 0,
        key_hash_version: KEY_HASH_VERSION,
        supersedes: Vec::new(),
        native: None,
        operators,
    }
}

/// The types of an operator's states: its subtasks have the same, but for values from before.
fn shapes_of(cut: &CompleteCut<CheckpointPart>, vertex: VertexId, place: usize) -> StateShapes {
    let mut shapes = StateShapes::default();
    let own = cut
        .subtasks
        .iter()
        .filter(|(subtask, _)| subtask.vertex == vertex);
    let parts = own.filter_map(|(_, cut)| match cut {
        SubtaskCut::State(part) => part.shapes.get(place),
        SubtaskCut::Finished => None,
    });
    for (name, shape) in parts.flat_map(StateShapes::iter) {
        match shapes.like_mut(shape).get_mut(name) {
            Some(known) => known.written_before(&shape.values),
            None => shapes.insert(name, shape.clone()),
        }
    }
    shapes
}

fn state_of(cut: &SubtaskCut<CheckpointPart>, place: u32) -> SubtaskState {
    match cut {
        SubtaskCut::State(part) => SubtaskState {
            handle: part.handle.clone(),
            index_in_file: place,
            finished: false,
        },
        SubtaskCut::Finished => SubtaskState {
            finished: true,
            ..SubtaskState::default()
        },
    }
}

/// Whether a job can begin with a checkpoint.
pub(super) fn check_restore(
    graph: &JobGraph,
    found: &CheckpointMetadata,
    allow_non_restored: bool,
) -> Result<(), String> {
    for states in &found.operators {
        let vertex = graph.vertices.iter().find(|vertex| {
            vertex
                .operators
                .iter()
                .any(|operator| operator.id == states.operator)
        });
        let shown = || shown(states);
        match vertex {
            None if has_state(states) && !allow_non_restored => {
                return Err(format!(
                    "there is state of {}, which the program does not have: give the operator that should have it this \
                     uid, or drop the state with execution.state-recovery.ignore-unclaimed-state (--allow-non-restored-state)",
                    shown()
                ));
            }
            Some(vertex) if vertex.max_parallelism != states.max_parallelism && has_state(states) => {
                return Err(format!(
                    "{} had max parallelism {} and has {}: set it to {}, it cannot change once there is state",
                    shown(),
                    states.max_parallelism,
                    vertex.max_parallelism,
                    states.max_parallelism
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn has_state(states: &OperatorStates) -> bool {
    states.coordinator.is_some() || states.subtasks.values().any(|subtask| subtask.handle.is_some())
}

fn states_of<'a>(found: &'a CheckpointMetadata, operator: &JobOperator) -> Option<&'a OperatorStates> {
    found
        .operators
        .iter()
        .find(|states| states.operator == operator.id)
}

/// What the enumerator of a source begins with.
pub(super) fn enumerator_state(found: &CheckpointMetadata, operator: &JobOperator) -> Option<Vec<u8>> {
    states_of(found, operator)?.coordinator.clone()
}

/// What a subtask begins with.
pub(super) fn restore_of(latest: &Latest, vertex: &JobVertex, index: u32) -> TaskRestore {
    let found = &latest.metadata;
    let chain = vertex.operators.iter().map(|operator| states_of(found, operator));
    let finished = |states: Option<&OperatorStates>| {
        states.is_some_and(|states| had_finished(states, vertex.parallelism, index))
    };
    TaskRestore {
        checkpoint: found.checkpoint_id,
        store: latest.store.clone(),
        stopped: latest.stopped,
        finished: chain.clone().all(finished),
        operators: chain.map(|states| states.map(operator_restore)).collect(),
    }
}

/// Whether what is now subtask `index` of an operator had finished: as the same subtask, or as a whole.
fn had_finished(states: &OperatorStates, parallelism: u32, index: u32) -> bool {
    let finished = |index| {
        states
            .subtasks
            .get(&index)
            .is_some_and(|subtask| subtask.finished)
    };
    if states.parallelism == parallelism {
        finished(index)
    } else {
        (0..states.parallelism).all(finished)
    }
}

fn operator_restore(states: &OperatorStates) -> OperatorRestore {
    OperatorRestore {
        parallelism: states.parallelism,
        max_parallelism: states.max_parallelism,
        shapes: states.states.clone(),
        subtasks: states
            .subtasks
            .iter()
            .filter(|(_, subtask)| subtask.handle.is_some())
            .map(|(index, subtask)| (*index, subtask.clone()))
            .collect(),
    }
}
