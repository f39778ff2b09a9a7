//! States of other types, other names and other max parallelism than those of a checkpoint.

use super::checkpoints::checkpointed;
use super::*;
use crate::config::{RestoreFrom, RestoreTarget};
use crate::job_master::FoundCheckpoint;
use crate::job_master::metadata::check_restore;
use crate::job_master::states::check_states;
use hurtig_core::ids::CheckpointId;
use hurtig_state::{Shape, StateShape, StateShapes};
use hurtig_storage::{CheckpointMetadata, StateHandle, SubtaskState};
use std::collections::BTreeMap;

const COUNT: NodeId = NodeId(1);

/// A checkpoint whose operator `count` has these states.
fn checkpoint(states: StateShapes) -> CheckpointMetadata {
    let mut found = Bench::checkpointed().collect(CheckpointId(1)).unwrap();
    let counts = found.operators.iter_mut().find(|states| states.name == "count");
    counts.unwrap().states = states;
    found
}

fn named<const N: usize>(states: [(&str, StateShape); N]) -> StateShapes {
    states.map(|(name, shape)| (name.to_owned(), shape)).into()
}

fn of_count(states: StateShapes) -> BTreeMap<NodeId, StateShapes> {
    [(COUNT, states)].into()
}

fn began_with(metadata: CheckpointMetadata, declared: BTreeMap<NodeId, StateShapes>) -> Bench {
    let mut settings = checkpointed();
    settings.restore = Some(RestoreFrom {
        checkpoint: RestoreTarget::Latest,
        allow_non_restored_state: true,
        claim: true,
    });
    let mut bench = Bench::with(settings);
    bench.take();
    bench.event(JobEvent::CheckpointLoaded(Ok(Some(Box::new(FoundCheckpoint {
        store: None,
        folder: "old/chk-1".to_owned(),
        metadata,
        record: None,
        declared,
    })))));
    bench
}

#[test]
fn states_of_other_types_are_refused_before_anything_is_deployed() {
    let stored = named([
        ("total", StateShape::keyed::<u64, u64>()),
        ("names", StateShape::keyed::<u64, String>()),
        ("seen", StateShape::operator::<u8>()),
    ]);
    let narrow = named([
        ("total", StateShape::keyed::<u64, u32>()),
        ("names", StateShape::keyed::<u32, Option<String>>()),
        ("seen", StateShape::operator::<String>()),
    ]);
    let mut bench = began_with(checkpoint(stored.clone()), of_count(narrow));
    bench.is(JobStatus::Failed);
    let failure = bench.result().unwrap().failure.clone().unwrap().to_string();
    assert!(bench.deployments().is_empty());
    for part in [
        "cannot restore the job from 'old/chk-1': operator 'count' (id ",
        "state 'total' holds values of a type that has changed so that they cannot be read: the value is u32 and was u64",
        "state 'names' holds values of a type that has changed so that they cannot be read: {key} is u32 and was u64",
        "state 'seen' holds values of a type that has changed so that they cannot be read: the value is String and was u8",
    ] {
        assert!(failure.contains(part), "{part}: {failure}");
    }
    let wide = named([
        ("total", StateShape::keyed::<u64, Option<u128>>()),
        ("names", StateShape::keyed::<u64, String>()),
        ("new", StateShape::keyed::<u64, String>()),
    ]);
    let metadata = checkpoint(stored);
    let graph = job();
    let warnings = check_states(&graph, &metadata, &of_count(wide.clone()));
    assert_eq!(warnings, Ok(vec![]), "state without keys need not be declared");
    let mut bench = began_with(metadata, of_count(wide));
    bench.offer(3);
    bench.started(true);
    assert_eq!(bench.deployments().len(), 5);
}

#[test]
fn what_is_not_known_or_dropped_is_said_and_a_new_name_found() {
    let mut doubtful = StateShape::keyed::<u64, u64>();
    doubtful.written_before(&[Shape::unknown()]);
    let stored = named([("total", doubtful), ("old", StateShape::keyed::<u64, u8>())]);
    let metadata = checkpoint(stored);
    let total = || StateShape::keyed::<u64, u64>();
    let warnings = |declared| check_states(&job(), &metadata, &declared);
    let found = warnings(of_count(named([("total", total())]))).unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("declares no state 'old' any more"), "{found:?}");
    assert!(
        found[1].contains("whether state 'total' can be read is seen only when its values are"),
        "{found:?}"
    );
    let new = |shape: StateShape| StateShape {
        aliases: vec!["old".to_owned()],
        ..shape
    };
    let renamed = named([("total", total()), ("new", new(StateShape::keyed::<u64, u16>()))]);
    assert_eq!(warnings(of_count(renamed)).unwrap().len(), 1);
    let refused = named([("total", total()), ("new", new(StateShape::keyed::<u64, bool>()))]);
    let problem = warnings(of_count(refused)).unwrap_err();
    assert!(
        problem.contains("state 'new'") && problem.contains("is bool and was u8"),
        "{problem}"
    );
    // An operator that could not be asked is compared where it runs.
    assert_eq!(warnings(BTreeMap::new()), Ok(vec![]));
}

/// What a task says of its states with each part of a checkpoint becomes part of the metadata, once for all subtasks.
#[test]
fn metadata_say_what_tasks_said_of_their_states() {
    let mut bench = Bench::checkpointed();
    bench.trigger();
    bench.remembered(CheckpointId(1), b"");
    for execution in bench.executions() {
        let mut part = super::checkpoints::part(execution);
        let mut shape = StateShape::keyed::<u64, u64>();
        if execution.subtask.index == 1 {
            shape.written_before(&[Shape::of::<u8>()]);
        }
        part.shapes = vec![named([("total", shape)])];
        bench.message(JobMasterMessage::CheckpointAcknowledged {
            execution,
            checkpoint: CheckpointId(1),
            part,
        });
    }
    let counts = bench.published().unwrap().operators.swap_remove(1);
    assert_eq!(counts.name, "count");
    assert_eq!(
        counts.states.keyed["total"].values,
        [Shape::of::<u8>(), Shape::of::<u64>()]
    );
}

#[test]
fn every_operator_of_a_chain_keeps_the_max_parallelism_of_its_state() {
    let mut graph = StreamGraph::new();
    let mut node = |name: &str, kind| {
        let mut node = StreamNode::new(name, name, kind);
        node.uid = Some(name.to_owned());
        graph.add_node(node)
    };
    let source = node("in", NodeKind::Source);
    let first = node("first", NodeKind::Operator);
    let second = node("second", NodeKind::Sink);
    let hash = PartitionKind::Hash {
        key: "u64".to_owned(),
    };
    graph.add_edge(StreamEdge::new(source, first).partitioned(hash));
    graph.add_edge(StreamEdge::new(first, second));
    let graph = graph
        .job_graph(JobId::from_u128(1), &GraphSettings::default())
        .unwrap();
    let chain = &graph.vertices[1];
    assert_eq!(chain.operators.len(), 2, "they are chained");
    let mut metadata = checkpoint(StateShapes::default());
    let like = metadata.operators.swap_remove(1);
    let handle = StateHandle {
        path: "state".to_owned(),
        bytes: 1,
        checksum: 1,
        shared: Vec::new(),
    };
    metadata.operators = chain
        .operators
        .iter()
        .map(|operator| {
            let mut states = like.clone();
            (states.operator, states.name) = (operator.id, operator.name.clone());
            states.uid.clone_from(&operator.uid);
            (states.parallelism, states.max_parallelism) = (1, chain.max_parallelism);
            let subtask = SubtaskState {
                handle: Some(handle.clone()),
                ..SubtaskState::default()
            };
            states.subtasks = [(0, subtask)].into();
            states
        })
        .collect();
    assert_eq!(check_restore(&graph, &metadata, false), Ok(()));
    for (at, name) in ["first", "second"].into_iter().enumerate() {
        let mut other = metadata.clone();
        other.operators[at].max_parallelism = 64;
        let refused = check_restore(&graph, &other, true).unwrap_err();
        assert!(
            refused.contains(&format!("operator '{name}' (uid {name}) had max parallelism 64")),
            "{refused}"
        );
    }
}
