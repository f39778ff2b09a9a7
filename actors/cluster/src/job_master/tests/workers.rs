//! Jobs with several workers: which tasks reach each other through the exchange, and who keeps its slot.

use super::region_model::two_pipelines;
use super::*;
use hurtig_exchange::remote::PeerWorker;

fn workers() -> [TaskManagerId; 3] {
    [1, 2, 3].map(TaskManagerId::from_u128)
}

fn offer(bench: &mut Bench, worker: TaskManagerId, slots: std::ops::Range<u128>) {
    bench.message(JobMasterMessage::SlotsOffered {
        task_manager: worker,
        allocations: slots.map(AllocationId::from_u128).collect(),
        exchange: Some(format!("at-{worker}")),
        of: None,
    });
}

fn lose(bench: &mut Bench, task_manager: TaskManagerId) {
    let cause = "killed by signal 9".to_owned();
    bench.message(JobMasterMessage::WorkerEnded { task_manager, cause });
}

/// What was deployed since anybody looked, and where.
fn deployed(bench: &mut Bench) -> Vec<(TaskManagerId, TaskDescriptor)> {
    let deployed = |effect| match effect {
        JobEffect::Deploy { to, descriptor } => Some((to, *descriptor)),
        _ => None,
    };
    bench.take().into_iter().filter_map(deployed).collect()
}

fn peer(worker: TaskManagerId) -> PeerWorker {
    PeerWorker {
        worker,
        address: format!("at-{worker}"),
    }
}

/// Of each task of a vertex: where it is, which of the tasks beside it are elsewhere, and where.
fn neighbours(
    tasks: &[(TaskManagerId, TaskDescriptor)],
    name: &str,
) -> Vec<(TaskManagerId, Vec<(u32, PeerWorker)>)> {
    let tasks = tasks.iter().filter(|(_, task)| task.name == name);
    let neighbours = |(worker, task): &(TaskManagerId, TaskDescriptor)| {
        let inputs = task.inputs.iter().map(|input| &input.elsewhere);
        let outputs = task.outputs.iter().map(|output| &output.elsewhere);
        let elsewhere = inputs.chain(outputs).flatten();
        let named = elsewhere.map(|(index, place)| (*index, task.peers[*place as usize].clone()));
        (*worker, named.collect())
    };
    tasks.map(neighbours).collect()
}

#[test]
fn tasks_are_told_which_of_their_neighbours_are_elsewhere_and_where() {
    let [one, two, three] = workers();
    let mut bench = Bench::new(fixed(1));
    offer(&mut bench, one, 0..2);
    bench.started(true);
    assert!(deployed(&mut bench).is_empty(), "a slot is missing");
    offer(&mut bench, two, 2..3);
    let tasks = deployed(&mut bench);
    let beyond = |worker| (one, vec![(2, peer(worker))]);
    assert_eq!(neighbours(&tasks, "numbers"), [beyond(two), beyond(two)]);
    let alone = |worker| (worker, vec![(0, peer(one)), (1, peer(one))]);
    assert_eq!(
        neighbours(&tasks, "count"),
        [(one, vec![]), (one, vec![]), alone(two)]
    );
    bench.run_all();
    bench.take();

    lose(&mut bench, two);
    for execution in bench.executions() {
        bench.state(execution, TaskState::Canceled);
    }
    bench.restart();
    assert!(deployed(&mut bench).is_empty(), "one slot is lost");
    offer(&mut bench, three, 3..4);
    bench.started(true);
    let tasks = deployed(&mut bench);
    assert_eq!(neighbours(&tasks, "numbers"), [beyond(three), beyond(three)]);
    assert_eq!(neighbours(&tasks, "count")[2], alone(three));
}

fn enumerators_start(bench: &mut Bench, generation: u32) {
    for node in [NodeId(0), NodeId(2)] {
        bench.event(JobEvent::EnumeratorStarted {
            generation,
            node,
            enumerates: true,
        });
    }
}

/// A job of three regions that was deployed on two workers.
fn regions_on(one: TaskManagerId, two: TaskManagerId) -> Bench {
    let mut bench = Bench::of_job(two_pipelines(), settings(fixed(1)));
    offer(&mut bench, one, 0..1);
    offer(&mut bench, two, 1..2);
    enumerators_start(&mut bench, 0);
    bench
}

#[test]
fn regions_that_a_lost_worker_had_nothing_of_keep_their_slots() {
    let [one, two, three] = workers();
    let mut bench = regions_on(one, two);
    let slot_of = |tasks: &[(TaskManagerId, TaskDescriptor)]| -> Vec<_> {
        let slot =
            |(worker, task): &(TaskManagerId, TaskDescriptor)| (task.execution.subtask, *worker, task.slot);
        tasks.iter().map(slot).collect()
    };
    let first = slot_of(&deployed(&mut bench));
    bench.run_all();
    bench.take();
    lose(&mut bench, one);
    let running = |bench: &Bench| -> Vec<_> {
        let executions = bench.brain.graph().executions();
        let running = executions.filter(|execution| execution.state() == TaskState::Running);
        running.map(|execution| execution.id.subtask).collect()
    };
    let left = running(&bench);
    assert!(!left.is_empty(), "the region of the other worker runs on");
    for execution in bench.executions() {
        if !left.contains(&execution.subtask) {
            bench.state(execution, TaskState::Canceled);
        }
    }
    bench.restart();
    offer(&mut bench, three, 2..3);
    enumerators_start(&mut bench, 0);
    enumerators_start(&mut bench, 1);
    let again = slot_of(&deployed(&mut bench));
    assert_eq!(running(&bench), left);
    assert!(!again.is_empty());
    for (subtask, worker, slot) in again {
        let before = first.iter().find(|task| task.0 == subtask).unwrap();
        if before.1 == one {
            assert_eq!((worker, slot), (three, AllocationId::from_u128(2)));
        } else {
            assert_eq!((worker, slot), (before.1, before.2));
        }
    }
}

/// What a task says that has lost its connection to a worker.
fn unreached(worker: TaskManagerId) -> TaskFailure {
    TaskFailure {
        worker: Some(worker),
        ..failure("the connection to a worker has failed")
    }
}

#[test]
fn a_worker_that_others_miss_first_is_one_failure_and_its_end_is_told() {
    let [one, two, _] = workers();
    let mut bench = regions_on(one, two);
    bench.run_all();
    bench.take();
    let at = |bench: &Bench, worker| -> Vec<ExecutionId> {
        let executions = bench.brain.graph().executions();
        let there = executions.filter(|execution| execution.location.map(|at| at.0) == Some(worker));
        there.map(|execution| execution.id).collect()
    };
    let at_one = at(&bench, one);
    let region = |id: &ExecutionId| bench.brain.graph().region_of(id.subtask);
    let both = |id: &ExecutionId| at_one.iter().any(|other| region(other) == region(id));
    let missing = at(&bench, two).into_iter().find(both).unwrap();
    bench.message(JobMasterMessage::TaskStateChanged {
        execution: missing,
        state: TaskState::Failed,
        failure: Some(unreached(one)),
    });
    bench.is(JobStatus::Restarting);
    let cancelled = bench.cancels();
    assert!(
        at_one.iter().all(|execution| cancelled.contains(execution)),
        "{at_one:?} {cancelled:?}"
    );
    lose(&mut bench, one);
    bench.is(JobStatus::Restarting);
    let failures = bench.brain.exceptions();
    assert_eq!(failures.len(), 1, "{failures:?}");
    let mut told = failures[0].concurrent.iter().map(ToString::to_string);
    assert!(told.any(|text| text.contains("signal 9")), "{failures:?}");
}

#[test]
fn a_worker_that_was_given_up_offers_nothing_any_more() {
    let [one, two, _] = workers();
    let mut bench = Bench::running(fixed(3));
    lose(&mut bench, HOST);
    bench.restart();
    bench.started(true);
    lose(&mut bench, two);
    bench.restart();
    bench.started(true);
    offer(&mut bench, two, 0..3);
    assert!(deployed(&mut bench).is_empty());
    offer(&mut bench, one, 3..6);
    let workers: Vec<_> = deployed(&mut bench).into_iter().map(|task| task.0).collect();
    assert_eq!(workers, [one; 5]);
}

#[test]
fn slots_beyond_those_that_are_needed_stand_in_for_lost_ones() {
    let [one, two, _] = workers();
    let mut bench = Bench::new(fixed(1));
    offer(&mut bench, one, 0..2);
    offer(&mut bench, two, 2..5);
    bench.started(true);
    bench.run_all();
    bench.take();
    lose(&mut bench, one);
    for execution in bench.executions() {
        bench.state(execution, TaskState::Canceled);
    }
    bench.restart();
    bench.take();
    bench.started(true);
    let workers: Vec<_> = deployed(&mut bench).into_iter().map(|task| task.0).collect();
    assert_eq!(workers, [two; 5], "all that is needed is there");
}

#[test]
fn slots_have_their_time_anew_when_others_are_lost() {
    let [one, ..] = workers();
    let mut bench = Bench::new(fixed(1));
    offer(&mut bench, one, 0..3);
    bench.started(true);
    bench.run_all();
    lose(&mut bench, one);
    bench.restart();
    bench.started(true);
    bench.event(JobEvent::SlotDeadline { request: 1 });
    bench.is(JobStatus::Restarting);
    bench.event(JobEvent::SlotDeadline { request: 2 });
    bench.is(JobStatus::Failed);
}
