//! TaskManagers that are gone, with all that ran there.

use super::*;
use hurtig_dataflow::graph::{JobStatus, TaskState};

const NEXT: TaskManagerId = TaskManagerId::from_u128(8);

fn lose(bench: &mut Bench, task_manager: TaskManagerId) {
    let cause = "killed by signal 9".to_owned();
    bench.message(JobMasterMessage::TaskManagerLost { task_manager, cause });
}

fn offer_anew(bench: &mut Bench) {
    let allocations = (10..13).map(AllocationId::from_u128).collect();
    bench.message(JobMasterMessage::SlotsOffered {
        task_manager: NEXT,
        allocations,
    });
}

#[test]
fn what_ran_on_a_lost_task_manager_starts_again_on_another_as_one_failure() {
    let mut bench = Bench::running(fixed(1));
    lose(&mut bench, HOST);
    bench.is(JobStatus::Restarting);
    assert!(bench.effects.contains(&JobEffect::RequireSlots(3)));
    let failures = bench.brain.exceptions();
    assert!(
        failures.len() == 1 && failures[0].root.cause.message.contains("signal 9"),
        "{failures:?}"
    );
    assert!(bench.cancels().is_empty(), "nobody is there to be told");
    bench.restart();
    bench.take();
    bench.started(true);
    assert!(bench.deployments().is_empty(), "there are no slots");
    lose(&mut bench, HOST);
    offer_anew(&mut bench);
    let deployed: Vec<_> = bench
        .take()
        .into_iter()
        .filter_map(|effect| match effect {
            JobEffect::Deploy { to, .. } => Some(to),
            _ => None,
        })
        .collect();
    assert_eq!(deployed, [NEXT; 5]);
    bench.is(JobStatus::Running);
    assert_eq!(bench.brain.exceptions().len(), 1, "it is lost once");
}

#[test]
fn a_job_that_is_cancelled_ends_when_the_rest_of_it_is_lost() {
    let mut bench = Bench::running(fixed(1));
    bench.message(JobMasterMessage::Cancel);
    bench.is(JobStatus::Cancelling);
    lose(&mut bench, HOST);
    bench.is(JobStatus::Canceled);
    assert!(!bench.effects.contains(&JobEffect::RequireSlots(3)));
}

#[test]
fn a_stranger_that_is_lost_changes_nothing() {
    let mut bench = Bench::running(fixed(1));
    lose(&mut bench, NEXT);
    bench.is(JobStatus::Running);
    assert!(bench.effects.is_empty() && bench.executions().len() == 5);
    bench.all(TaskState::Finished);
    bench.is(JobStatus::Finished);
}
