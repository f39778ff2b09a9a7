//! Whether the states of a checkpoint can be read as the types that a program declares.

use hurtig_core::ids::NodeId;
use hurtig_dataflow::graph::JobGraph;
use hurtig_state::StateShapes;
use hurtig_storage::{CheckpointMetadata, OperatorStates};
use std::collections::BTreeMap;

/// Compares what operators declare to what a checkpoint says of their states. Returns what can only be seen when values
/// are read, and which states nobody takes over.
///
/// # Errors
/// What cannot be read: operator, state and every difference.
pub(super) fn check_states(
    graph: &JobGraph,
    found: &CheckpointMetadata,
    declared: &BTreeMap<NodeId, StateShapes>,
) -> Result<Vec<String>, String> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let vertices = graph.vertices.iter();
    for operator in vertices.flat_map(|vertex| &vertex.operators) {
        let states = found
            .operators
            .iter()
            .find(|states| states.operator == operator.id);
        let (Some(states), Some(declared)) = (states, declared.get(&operator.node)) else {
            continue;
        };
        let operator = shown(states);
        for (name, former) in states.states.iter() {
            let taken_over = declared
                .iter()
                .find(|(own, shape)| states.states.continued(own, shape) == Some((name, former)));
            let Some((own, shape)) = taken_over else {
                // Of state without keys an operator need not declare anything.
                warnings.extend(former.key.is_some().then(|| {
                    format!(
                        "{operator} declares no state '{name}' any more, and what it held is dropped; a state that was \
                         renamed finds it with StateDescriptor::alias"
                    )
                }));
                continue;
            };
            let compared = former.compare(shape);
            let text = |text: String| format!("{operator}: {text}");
            problems.extend(compared.problem(own).map(text));
            warnings.extend(compared.doubts(own).map(text));
        }
    }
    match problems.is_empty() {
        true => Ok(warnings),
        false => Err(problems.join("; ")),
    }
}

/// An operator of a checkpoint, for people.
pub(super) fn shown(states: &OperatorStates) -> String {
    match &states.uid {
        Some(uid) => format!("operator '{}' (uid {uid})", states.name),
        None => format!(
            "operator '{}' (id {}, without a uid)",
            states.name, states.operator
        ),
    }
}
