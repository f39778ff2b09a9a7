//! Changes of the parallelism: with which slots a job begins, when it goes over, and what it has then.

use super::*;
use crate::config::ScalingConfig;
use crate::job_master::ScalingTimer;
use crate::job_master::checkpoints::CheckpointTimer;
use hurtig_dataflow::graph::{Bounds, Elasticity, Requirements};
use hurtig_storage::StateHandle;
use hurtig_task::interface::CheckpointPart;

const NEXT: TaskManagerId = TaskManagerId::from_u128(8);

/// source -> hash -> sink, at the parallelism of the settings.
fn wide(parallelism: u32) -> Arc<JobGraph> {
    let mut graph = StreamGraph::new();
    let source = graph.add_node(StreamNode::new("numbers", "Source", NodeKind::Source));
    let sink = graph.add_node(StreamNode::new("count", "Sink", NodeKind::Sink));
    let hash = PartitionKind::Hash {
        key: "u64".to_owned(),
    };
    graph.add_edge(StreamEdge::new(source, sink).partitioned(hash));
    let settings = GraphSettings {
        default_parallelism: parallelism,
        ..GraphSettings::default()
    };
    Arc::new(graph.job_graph(JobId::from_u128(1), &settings).unwrap())
}

fn scaled(elasticity: Elasticity) -> JobSettings {
    JobSettings {
        scaling: ScalingConfig {
            elasticity,
            ..ScalingConfig::default()
        },
        ..super::checkpoints::checkpointed()
    }
}

fn bounds(graph: &JobGraph, lower: u32, upper: u32) -> Requirements {
    let vertices = graph.vertices.iter();
    vertices
        .map(|vertex| (vertex.id, Bounds { lower, upper }))
        .collect()
}

fn offer(bench: &mut Bench, task_manager: TaskManagerId, slots: std::ops::Range<u128>) {
    bench.message(JobMasterMessage::SlotsOffered {
        task_manager,
        allocations: slots.map(AllocationId::from_u128).collect(),
        exchange: None,
        of: None,
    });
}

/// A job that runs with these slots of HOST.
fn running(parallelism: u32, slots: u128, elasticity: Elasticity) -> Bench {
    let mut bench = Bench::of_job(wide(parallelism), scaled(elasticity));
    offer(&mut bench, HOST, 0..slots);
    bench.started(true);
    bench.run_all();
    bench
}

/// A job that wants four slots, and runs with two after it has waited for more.
fn running_with_two_of_four() -> Bench {
    let mut bench = Bench::of_job(wide(4), scaled(Elasticity::Down));
    offer(&mut bench, HOST, 0..2);
    due(&mut bench, is_settled);
    bench.started(true);
    bench.run_all();
    bench
}

/// A job that runs with two slots, is to have one, and waits 7 s for its checkpoint.
fn changing_within_seven_seconds() -> Bench {
    let mut settings = scaled(Elasticity::None);
    settings.scaling.max_delay = Some(Duration::from_secs(7));
    let mut bench = Bench::of_job(wide(2), settings);
    offer(&mut bench, HOST, 0..2);
    bench.started(true);
    bench.run_all();
    declare(&mut bench, 1, 1);
    bench
}

fn declare(bench: &mut Bench, lower: u32, upper: u32) {
    let declared = bounds(bench.brain.graph().job_graph(), lower, upper);
    bench.message(JobMasterMessage::RequirementsDeclared(declared));
}

fn parallelisms(bench: &Bench) -> Vec<u32> {
    let vertices = bench.brain.graph().job_graph().vertices.iter();
    vertices.map(|vertex| vertex.parallelism).collect()
}

/// Lets the latest timer of this kind go off.
#[track_caller]
fn due(bench: &mut Bench, is_it: impl Fn(&JobEvent) -> bool) -> Duration {
    let mut timers = bench.timers().into_iter();
    let (delay, event) = timers.rfind(|(_, event)| is_it(event)).unwrap();
    bench.now = bench.now.after(delay);
    bench.event(event);
    delay
}

fn is_change(event: &JobEvent) -> bool {
    matches!(event, JobEvent::Scaling(ScalingTimer::Change { .. }))
}

fn is_look(event: &JobEvent) -> bool {
    matches!(event, JobEvent::Scaling(ScalingTimer::Look))
}

fn is_settled(event: &JobEvent) -> bool {
    matches!(event, JobEvent::Scaling(ScalingTimer::Settled { .. }))
}

/// Completes the checkpoint that was asked for.
#[track_caller]
fn complete(bench: &mut Bench) -> CheckpointId {
    due(bench, |event| {
        matches!(event, JobEvent::CheckpointTimer(CheckpointTimer::Trigger))
    });
    acknowledge(bench)
}

/// Completes the checkpoint that has begun.
#[track_caller]
fn acknowledge(bench: &mut Bench) -> CheckpointId {
    let generation = bench.brain.splits.generation(SOURCE);
    let checkpoint = bench.effects.iter().rev().find_map(|effect| match effect {
        JobEffect::SnapshotEnumerator { checkpoint, .. } => Some(*checkpoint),
        _ => None,
    });
    let checkpoint = checkpoint.expect("no checkpoint has begun");
    bench.event(JobEvent::EnumeratorSnapshot {
        generation,
        node: SOURCE,
        checkpoint,
        snapshot: vec![7],
    });
    for execution in bench.executions() {
        let handle = StateHandle {
            path: format!("{execution}"),
            bytes: 1,
            checksum: 2,
            shared: Vec::new(),
        };
        let part = CheckpointPart {
            handle: Some(handle),
            shapes: vec![],
            stored_in: Duration::ZERO,
            overtook: false,
            figures: None,
        };
        bench.message(JobMasterMessage::CheckpointAcknowledged {
            execution,
            checkpoint,
            part,
        });
    }
    bench.event(JobEvent::CheckpointPublished(checkpoint, Ok(())));
    checkpoint
}

/// Everything that was told to stop has stopped, and starts again.
fn start_again(bench: &mut Bench) {
    for execution in bench.cancels() {
        bench.state(execution, TaskState::Canceled);
    }
    bench.restart();
    bench.started(true);
}

fn needs(bench: &Bench) -> Option<SlotNeed> {
    let needs = bench.effects.iter().rev();
    needs.clone().find_map(|effect| match effect {
        JobEffect::RequireSlots(need) => Some(need.clone()),
        _ => None,
    })
}

#[test]
fn a_declared_parallelism_comes_with_a_checkpoint_and_its_state() {
    let mut bench = running(2, 2, Elasticity::None);
    bench.take();
    declare(&mut bench, 1, 4);
    assert_eq!(
        needs(&bench),
        Some(SlotNeed {
            slots: 4,
            least: 1,
            returned: vec![]
        })
    );
    bench.is(JobStatus::Running);
    offer(&mut bench, NEXT, 2..4);
    let checkpoint = complete(&mut bench);
    bench.is(JobStatus::Running);
    due(&mut bench, is_change);
    bench.is(JobStatus::Restarting);
    assert_eq!(bench.cancels().len(), 4);
    assert_eq!(parallelisms(&bench), [2, 2], "its tasks have not stopped");
    start_again(&mut bench);
    bench.is(JobStatus::Running);
    assert_eq!(parallelisms(&bench), [4, 4]);
    let tasks = bench.deployments();
    assert_eq!(tasks.len(), 8);
    for task in &tasks {
        let restore = task.restore.as_ref().expect("it begins afresh");
        assert_eq!((restore.checkpoint, task.parallelism), (checkpoint, 4));
        assert_eq!(restore.operators[0].as_ref().unwrap().parallelism, 2);
        let first = task.execution.subtask.index < 2;
        assert_eq!(task.execution.attempt.0, u32::from(first), "{}", task.execution);
    }
    assert!(bench.brain.exceptions().is_empty(), "nothing has failed");
    assert_eq!(bench.brain.restarts.all, 0);
}

#[test]
fn a_job_that_shrinks_gives_back_slots_and_the_workers_that_have_none_left() {
    let mut bench = Bench::of_job(wide(4), scaled(Elasticity::None));
    offer(&mut bench, HOST, 0..3);
    bench.started(true);
    offer(&mut bench, NEXT, 3..4);
    bench.run_all();
    bench.take();
    declare(&mut bench, 1, 2);
    complete(&mut bench);
    due(&mut bench, is_change);
    start_again(&mut bench);
    assert_eq!(parallelisms(&bench), [2, 2]);
    assert!(bench.effects.contains(&JobEffect::Dismiss(NEXT)));
    let need = needs(&bench).unwrap();
    let returned = [2, 3].map(AllocationId::from_u128).to_vec();
    assert_eq!((need.slots, need.returned), (2, returned));
    // The worker that has none left ends, which is no failure.
    bench.message(JobMasterMessage::WorkerEnded {
        task_manager: NEXT,
        cause: "it was ended".to_owned(),
    });
    bench.is(JobStatus::Running);
    assert_eq!(bench.brain.slot_need().returned, [AllocationId::from_u128(2)]);
}

#[test]
fn attempts_of_subtasks_that_come_back_are_new() {
    let mut bench = running(2, 2, Elasticity::None);
    let mut seen = std::collections::BTreeSet::from_iter(bench.executions());
    for upper in [1, 2, 1, 2] {
        bench.take();
        declare(&mut bench, 1, upper);
        offer(
            &mut bench,
            HOST,
            u128::from(seen.len() as u32) + 100..u128::from(seen.len() as u32) + 101,
        );
        complete(&mut bench);
        due(&mut bench, is_change);
        start_again(&mut bench);
        assert_eq!(parallelisms(&bench), [upper, upper]);
        bench.run_all();
        for execution in bench.executions() {
            assert!(seen.insert(execution), "{execution} was there before");
        }
    }
}

#[test]
fn a_job_takes_what_there_is_when_nothing_more_comes() {
    let mut bench = Bench::of_job(wide(4), scaled(Elasticity::Down));
    offer(&mut bench, HOST, 0..3);
    bench.started(true);
    assert!(bench.deployments().is_empty(), "a slot may come");
    let mut bench = Bench::of_job(wide(4), scaled(Elasticity::Down));
    offer(&mut bench, HOST, 0..3);
    assert_eq!(due(&mut bench, is_settled), Duration::from_secs(10));
    bench.started(true);
    assert_eq!(parallelisms(&bench), [3, 3]);
    bench.is(JobStatus::Running);
    // And all at once when all are there.
    let mut bench = Bench::of_job(wide(4), scaled(Elasticity::Down));
    offer(&mut bench, HOST, 0..4);
    bench.started(true);
    bench.is(JobStatus::Running);
    assert_eq!(parallelisms(&bench), [4, 4]);
}

#[test]
fn a_job_grows_when_slots_come_after_it_has_rested() {
    let mut bench = running_with_two_of_four();
    bench.take();
    offer(&mut bench, NEXT, 2..3);
    assert_eq!(
        due(&mut bench, is_look),
        Duration::from_secs(60),
        "one more may come: the stabilization is longer than the cooldown"
    );
    complete(&mut bench);
    due(&mut bench, is_change);
    start_again(&mut bench);
    assert_eq!(parallelisms(&bench), [3, 3]);
    bench.run_all();
    bench.take();
    offer(&mut bench, NEXT, 3..4);
    assert_eq!(
        due(&mut bench, is_look),
        Duration::from_secs(30),
        "it has all: only its rest is missing"
    );
    complete(&mut bench);
    due(&mut bench, is_change);
    start_again(&mut bench);
    assert_eq!(parallelisms(&bench), [4, 4]);
}

#[test]
fn a_job_that_loses_slots_for_good_goes_on_with_the_rest() {
    let mut bench = Bench::of_job(wide(4), scaled(Elasticity::Down));
    offer(&mut bench, HOST, 0..2);
    offer(&mut bench, NEXT, 2..4);
    bench.started(true);
    bench.run_all();
    let checkpoint = complete(&mut bench);
    bench.take();
    bench.message(JobMasterMessage::TaskManagerLost {
        task_manager: NEXT,
        cause: "killed".to_owned(),
    });
    bench.is(JobStatus::Restarting);
    for execution in bench.cancels() {
        bench.state(execution, TaskState::Canceled);
    }
    bench.restart();
    assert_eq!(parallelisms(&bench), [4, 4], "its slots may be replaced");
    due(&mut bench, is_settled);
    bench.started(true);
    bench.is(JobStatus::Running);
    assert_eq!(parallelisms(&bench), [2, 2]);
    let tasks = bench.deployments();
    assert_eq!(tasks.len(), 4);
    assert!(
        tasks
            .iter()
            .all(|task| task.restore.as_ref().unwrap().checkpoint == checkpoint)
    );
    assert_eq!((bench.brain.exceptions().len(), bench.brain.restarts.all), (1, 1));
}

#[test]
fn slots_that_are_replaced_in_time_change_nothing() {
    let mut bench = Bench::of_job(wide(4), scaled(Elasticity::Down));
    offer(&mut bench, HOST, 0..2);
    offer(&mut bench, NEXT, 2..4);
    bench.started(true);
    bench.run_all();
    bench.take();
    bench.message(JobMasterMessage::TaskManagerLost {
        task_manager: NEXT,
        cause: "killed".to_owned(),
    });
    for execution in bench.cancels() {
        bench.state(execution, TaskState::Canceled);
    }
    bench.restart();
    offer(&mut bench, TaskManagerId::from_u128(9), 4..6);
    bench.started(true);
    bench.is(JobStatus::Running);
    assert_eq!(parallelisms(&bench), [4, 4]);
}

#[test]
fn a_worker_that_dies_while_the_job_changes_is_part_of_the_change() {
    let mut bench = running(2, 2, Elasticity::None);
    declare(&mut bench, 1, 3);
    offer(&mut bench, NEXT, 2..3);
    complete(&mut bench);
    bench.take();
    due_after(&mut bench);
    bench.is(JobStatus::Restarting);
    bench.message(JobMasterMessage::WorkerEnded {
        task_manager: HOST,
        cause: "killed by signal 9".to_owned(),
    });
    bench.is(JobStatus::Restarting);
    bench.restart();
    due(&mut bench, is_settled);
    bench.started(true);
    bench.is(JobStatus::Running);
    assert_eq!(parallelisms(&bench), [1, 1], "that is what is left");
    assert_eq!(bench.brain.exceptions().len(), 1);
}

/// The change begins though nobody looked at its timer.
fn due_after(bench: &mut Bench) {
    let round = 1;
    bench.event(JobEvent::Scaling(ScalingTimer::Change { round }));
}

#[test]
fn a_change_whose_checkpoints_fail_goes_back_to_the_last_one() {
    let mut bench = running(2, 2, Elasticity::None);
    bench.take();
    declare(&mut bench, 1, 1);
    for _ in 0..2 {
        bench.is(JobStatus::Running);
        due(&mut bench, |event| {
            matches!(event, JobEvent::CheckpointTimer(CheckpointTimer::Trigger))
        });
        let checkpoint = bench.effects.iter().rev().find_map(|effect| match effect {
            JobEffect::SnapshotEnumerator { checkpoint, .. } => Some(*checkpoint),
            _ => None,
        });
        let checkpoint = checkpoint.unwrap();
        let generation = bench.brain.splits.generation(SOURCE);
        bench.event(JobEvent::EnumeratorSnapshot {
            generation,
            node: SOURCE,
            checkpoint,
            snapshot: vec![7],
        });
        let execution = bench.executions()[0];
        bench.message(JobMasterMessage::CheckpointDeclined {
            execution,
            checkpoint,
            reason: "the disk is full".to_owned(),
        });
    }
    due(&mut bench, is_change);
    bench.is(JobStatus::Restarting);
    start_again(&mut bench);
    assert_eq!(parallelisms(&bench), [1, 1]);
}

#[test]
fn what_cannot_be_had_yet_leaves_the_job_alone() {
    let mut bench = running(2, 2, Elasticity::None);
    bench.take();
    declare(&mut bench, 5, 6);
    bench.is(JobStatus::Running);
    let deadline = bench
        .timers()
        .into_iter()
        .rfind(|(_, event)| matches!(event, JobEvent::SlotDeadline { .. }));
    bench.event(deadline.unwrap().1);
    bench.is(JobStatus::Running);
    // A failure does not make it worse.
    let first = bench.executions()[0];
    bench.state(first, TaskState::Failed);
    start_again(&mut bench);
    bench.is(JobStatus::Running);
    assert_eq!(parallelisms(&bench), [2, 2]);
}

#[test]
fn a_successor_begins_with_what_was_declared() {
    let graph = wide(4);
    let mut settings = scaled(Elasticity::None);
    settings.requirements = Some(bounds(&graph, 3, 3));
    settings.first_checkpoint = CheckpointId(1_000);
    let mut bench = Bench::of_job(graph, settings);
    assert_eq!(needs(&bench), Some(SlotNeed::exactly(3)));
    offer(&mut bench, HOST, 0..3);
    bench.started(true);
    bench.is(JobStatus::Running);
    assert_eq!(parallelisms(&bench), [3, 3]);
}

#[test]
fn an_elastic_job_that_finds_no_slots_says_so() {
    let mut bench = Bench::of_job(wide(4), scaled(Elasticity::Down));
    let (delay, deadline) = bench
        .timers()
        .into_iter()
        .find(|(_, event)| matches!(event, JobEvent::SlotDeadline { .. }))
        .unwrap();
    assert_eq!(delay, Duration::from_secs(300));
    bench.event(deadline);
    bench.is(JobStatus::Failed);
}

#[test]
fn a_change_waits_for_the_next_checkpoint_where_none_is_taken_for_it() {
    let mut settings = scaled(Elasticity::None);
    settings.scaling.active_checkpoint = false;
    let mut bench = Bench::of_job(wide(2), settings);
    offer(&mut bench, HOST, 0..2);
    bench.started(true);
    bench.run_all();
    declare(&mut bench, 1, 1);
    bench.is(JobStatus::Running);
    assert!(
        !bench.timers().iter().any(|(_, event)| is_change(event)),
        "no checkpoint is complete"
    );
    complete(&mut bench);
    due(&mut bench, is_change);
    start_again(&mut bench);
    assert_eq!(parallelisms(&bench), [1, 1]);
}

#[test]
fn a_change_waits_no_longer_than_it_may() {
    let mut bench = changing_within_seven_seconds();
    assert_eq!(due(&mut bench, is_change), Duration::from_secs(7));
    bench.is(JobStatus::Restarting);
}

#[test]
fn a_reactive_job_uses_all_there_is() {
    let mut bench = Bench::of_job(wide(1), scaled(Elasticity::Reactive));
    assert_eq!(needs(&bench).map(|need| (need.least, need.slots)), Some((1, 128)));
    offer(&mut bench, HOST, 0..5);
    due(&mut bench, is_settled);
    bench.started(true);
    bench.is(JobStatus::Running);
    assert_eq!(parallelisms(&bench), [5, 5]);
}

#[test]
fn a_failure_within_the_slots_that_there_are_waits_for_no_others() {
    let mut bench = running_with_two_of_four();
    bench.take();
    let first = bench.executions()[0];
    bench.state(first, TaskState::Failed);
    start_again(&mut bench);
    bench.is(JobStatus::Running);
    assert_eq!((parallelisms(&bench), bench.brain.restarts.all), (vec![2, 2], 1));
}

#[test]
fn a_checkpoint_that_comes_after_its_change_holds_up_no_other() {
    let mut bench = changing_within_seven_seconds();
    // It goes over before its checkpoint has begun, and once more before the next one has.
    due(&mut bench, is_change);
    start_again(&mut bench);
    bench.run_all();
    bench.take();
    offer(&mut bench, NEXT, 2..3);
    declare(&mut bench, 1, 2);
    complete(&mut bench);
    due(&mut bench, |event| {
        event == &JobEvent::Scaling(ScalingTimer::Change { round: 2 })
    });
    start_again(&mut bench);
    assert_eq!(parallelisms(&bench), [2, 2]);
    bench.run_all();
    let ids = [(); 3].map(|()| {
        bench
            .effects
            .retain(|effect| !matches!(effect, JobEffect::SnapshotEnumerator { .. }));
        bench.now = bench.now.after(Duration::from_secs(5));
        bench.event(JobEvent::CheckpointTimer(CheckpointTimer::Trigger));
        acknowledge(&mut bench).0
    });
    assert!(ids[0] < ids[1] && ids[1] < ids[2], "{ids:?}");
}
