//! What a failure reaches, what goes on, and how failures are counted and kept, in a job of three regions.

use super::region_model::two_pipelines;
use super::*;
use crate::job_master::checkpoints::CheckpointTimer;

/// A job of the three regions whose tasks run.
fn running(restart: RestartStrategyConfig) -> Bench {
    let mut settings = settings(restart);
    settings.checkpoints.interval = Some(Duration::from_secs(1));
    let mut bench = Bench::of_job(two_pipelines(), settings);
    bench.offer(2);
    for node in [NodeId(0), NodeId(2)] {
        bench.event(JobEvent::EnumeratorStarted {
            generation: 0,
            node,
            enumerates: true,
        });
    }
    bench.run_all();
    bench.take();
    bench
}

/// The tasks of a region, sources first.
fn tasks(bench: &Bench, region: usize) -> Vec<ExecutionId> {
    let graph = bench.brain.graph();
    let subtasks = graph.regions()[region].subtasks.iter();
    subtasks
        .map(|subtask| graph.subtask(*subtask).unwrap().current.id)
        .collect()
}

/// Everything of a region is told to have stopped, and starts again.
fn come_back(bench: &mut Bench, region: usize) {
    for task in tasks(bench, region) {
        bench.state(task, TaskState::Canceled);
    }
    bench.restart();
    for task in tasks(bench, region) {
        bench.state(task, TaskState::Initializing);
        bench.state(task, TaskState::Running);
    }
}

fn forever() -> RestartStrategyConfig {
    RestartStrategyConfig::FixedDelay {
        attempts: None,
        delay: Duration::from_secs(1),
    }
}

#[test]
fn what_a_failure_does_not_reach_goes_on() {
    let mut bench = running(forever());
    let [one, two, shuffled] = [0, 1, 2].map(|region| tasks(&bench, region));
    assert_eq!([one.len(), two.len(), shuffled.len()], [2, 2, 4]);
    bench.state(one[1], TaskState::Failed);
    bench.is(JobStatus::Restarting);
    assert_eq!(bench.cancels(), [one[0]]);
    // The reader of the other region is answered as ever.
    let execution = two[0];
    bench.message(JobMasterMessage::SplitRequested {
        execution,
        node: NodeId(0),
    });
    let asks = |effect: &JobEffect| matches!(effect, JobEffect::AskEnumerator { reader, .. } if *reader == execution);
    assert!(bench.effects.iter().any(asks));
    bench.take();
    bench.state(one[0], TaskState::Canceled);
    let due = JobEvent::RestartDue { restart: 1 };
    bench.event(due);
    bench.is(JobStatus::Running);
    let again = bench.deployments();
    let attempts: Vec<_> = again
        .iter()
        .map(|task| (task.execution.subtask, task.execution.attempt.0))
        .collect();
    assert_eq!(attempts, [(one[0].subtask, 1), (one[1].subtask, 1)]);
    assert!(again.iter().all(|task| task.generation == 3));
    assert_eq!(tasks(&bench, 1), two);
    assert_eq!(tasks(&bench, 2), shuffled);
}

#[test]
fn no_checkpoint_is_taken_while_a_region_is_away_and_who_needs_one_gets_it_then() {
    let mut bench = running(forever());
    let other = tasks(&bench, 2)[3];
    bench.message(JobMasterMessage::CheckpointRequested { execution: other });
    let failed = tasks(&bench, 0)[0];
    bench.state(failed, TaskState::Failed);
    bench.take();
    bench.now = bench.now.after(Duration::from_secs(60));
    bench.event(JobEvent::CheckpointTimer(CheckpointTimer::Trigger));
    let snapshots = |bench: &Bench| {
        let asked = |effect: &&JobEffect| matches!(effect, JobEffect::SnapshotEnumerator { .. });
        bench.effects.iter().filter(asked).count()
    };
    assert_eq!(snapshots(&bench), 0);
    bench.event(JobEvent::RestartDue { restart: 1 });
    for task in tasks(&bench, 0) {
        bench.state(task, TaskState::Canceled);
    }
    for task in tasks(&bench, 0) {
        bench.state(task, TaskState::Initializing);
        bench.state(task, TaskState::Running);
    }
    let due = (
        Duration::ZERO,
        JobEvent::CheckpointTimer(CheckpointTimer::Trigger),
    );
    assert!(
        bench.timers().contains(&due),
        "at once, since a task waits for it"
    );
    bench.event(due.1);
    assert_eq!(snapshots(&bench), 2);
}

#[test]
fn failures_of_one_restart_belong_together_and_others_do_not() {
    let mut bench = running(forever());
    let [one, _, shuffled] = [0, 1, 2].map(|region| tasks(&bench, region));
    bench.state(one[0], TaskState::Failed);
    bench.state(shuffled[0], TaskState::Failed);
    bench.state(one[1], TaskState::Failed);
    bench.state(shuffled[1], TaskState::Failed);
    bench.message(JobMasterMessage::Cancel);
    bench.all(TaskState::Canceled);
    let failures = &bench.result().unwrap().failures;
    let shown: Vec<_> = failures
        .iter()
        .map(|entry| {
            let concurrent = entry.concurrent.iter();
            let concurrent: Vec<_> = concurrent
                .map(|failure| failure.vertex.clone().unwrap())
                .collect();
            (entry.root.vertex.clone().unwrap(), concurrent)
        })
        .collect();
    let name = |text: &str| text.to_owned();
    assert_eq!(
        shown,
        [
            (name("wide"), vec![name("wide-out")]),
            (name("shuffled"), vec![name("shuffled")])
        ]
    );
}

#[test]
fn under_exponential_delay_what_fails_before_a_restart_belongs_to_it_wherever_it_is() {
    let mut bench = running(RestartStrategyConfig::ExponentialDelay {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(60),
        multiplier: 2.0,
        reset_after: Duration::from_secs(3_600),
        jitter: 0.0,
        attempts: Some(1),
    });
    let [one, _, shuffled] = [0, 1, 2].map(|region| tasks(&bench, region));
    bench.state(one[0], TaskState::Failed);
    bench.now = bench.now.after(Duration::from_millis(400));
    bench.state(shuffled[0], TaskState::Failed);
    assert_eq!(
        bench.restart_timer().0,
        Duration::from_millis(600),
        "both at once"
    );
    bench.is(JobStatus::Restarting);
    for (restart, region) in [(1, 0), (2, 2)] {
        for task in tasks(&bench, region) {
            bench.state(task, TaskState::Canceled);
        }
        bench.now = bench.now.after(Duration::from_millis(300));
        bench.event(JobEvent::RestartDue { restart });
    }
    bench.take();
    // One attempt is used up.
    bench.now = bench.now.after(Duration::from_secs(10));
    let failed = tasks(&bench, 1)[0];
    bench.state(failed, TaskState::Failed);
    bench.is(JobStatus::Failing);
    bench.all(TaskState::Canceled);
    let result = bench.result().unwrap();
    let concurrent: Vec<_> = result
        .failures
        .iter()
        .map(|entry| entry.concurrent.len())
        .collect();
    assert_eq!(concurrent, [1, 0]);
}

#[test]
fn restarts_are_counted_and_those_of_everything_apart() {
    let mut bench = running(forever());
    let told = |bench: &mut Bench| {
        let told = bench.take().into_iter().find_map(|effect| match effect {
            JobEffect::Restarted(restarts) => Some((restarts.all, restarts.full)),
            _ => None,
        });
        told.unwrap()
    };
    let failed = tasks(&bench, 0)[0];
    bench.state(failed, TaskState::Failed);
    come_back(&mut bench, 0);
    assert_eq!(told(&mut bench), (1, 0));
    bench.event(JobEvent::CheckpointTimer(CheckpointTimer::Trigger));
    bench.take();
    let mut whole = Bench::running(forever());
    let failed = whole.executions()[0];
    whole.state(failed, TaskState::Failed);
    whole.all(TaskState::Canceled);
    whole.restart();
    assert_eq!(told(&mut whole), (1, 1));
}

#[test]
fn the_enumerator_of_readers_in_two_regions_is_made_anew_when_it_fails() {
    let mut bench = running(forever());
    bench.event(JobEvent::EnumeratorFailed {
        generation: 0,
        node: NodeId(0),
        failure: failure("listing failed"),
    });
    let [one, two, shuffled] = [0, 1, 2].map(|region| tasks(&bench, region));
    assert_eq!(bench.cancels(), [one.clone(), two.clone()].concat());
    for task in one.into_iter().chain(two) {
        bench.state(task, TaskState::Canceled);
    }
    bench.restart();
    let started: Vec<_> = bench
        .take()
        .into_iter()
        .filter_map(|effect| match effect {
            JobEffect::StartEnumerators(starts) => Some(starts),
            _ => None,
        })
        .flatten()
        .map(|start| (start.node, start.generation))
        .collect();
    assert_eq!(started, [(NodeId(0), 1)]);
    bench.is(JobStatus::Restarting);
    bench.event(JobEvent::EnumeratorStarted {
        generation: 1,
        node: NodeId(0),
        enumerates: true,
    });
    bench.is(JobStatus::Running);
    assert_eq!(bench.deployments().len(), 4);
    assert_eq!(tasks(&bench, 2), shuffled);
}
