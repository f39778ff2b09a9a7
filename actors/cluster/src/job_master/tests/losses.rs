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
        exchange: None,
        of: None,
    });
}

#[test]
fn what_ran_on_a_lost_task_manager_starts_again_on_another_as_one_failure() {
    let mut bench = Bench::running(fixed(1));
    lose(&mut bench, HOST);
    bench.is(JobStatus::Restarting);
    let returned = (0..3).map(AllocationId::from_u128).collect();
    let need = SlotNeed {
        returned,
        ..SlotNeed::exactly(3)
    };
    assert!(bench.effects.contains(&JobEffect::RequireSlots(need)));
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
    assert!(
        !bench
            .effects
            .contains(&JobEffect::RequireSlots(SlotNeed::exactly(3)))
    );
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

fn end_worker(bench: &mut Bench, worker: TaskManagerId) {
    let cause = "it ended with exit code 1; the last line of its log: no such file".to_owned();
    bench.message(JobMasterMessage::WorkerEnded {
        task_manager: worker,
        cause,
    });
}

#[test]
fn a_worker_that_ends_is_lost_once_whoever_says_so_first() {
    let mut bench = Bench::running(fixed(1));
    end_worker(&mut bench, HOST);
    bench.is(JobStatus::Restarting);
    lose(&mut bench, HOST);
    end_worker(&mut bench, HOST);
    bench.restart();
    bench.started(true);
    lose(&mut bench, HOST);
    end_worker(&mut bench, HOST);
    bench.is(JobStatus::Restarting);
    let failures = bench.brain.exceptions();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].concurrent.is_empty(), "{failures:?}");
}

#[test]
fn a_job_whose_worker_cannot_begin_fails_with_its_last_words() {
    let mut bench = Bench::new(fixed(1));
    bench.is(JobStatus::Created);
    end_worker(&mut bench, NEXT);
    bench.is(JobStatus::Failed);
    let text = bench.brain.exceptions()[0].root.to_string();
    assert!(
        text.contains("exit code 1") && text.contains("no such file"),
        "{text}"
    );
}

#[test]
fn workers_that_cannot_begin_use_up_the_restarts_of_a_job_that_ran() {
    let mut bench = Bench::running(fixed(2));
    end_worker(&mut bench, HOST);
    bench.is(JobStatus::Restarting);
    for worker in [20, 21] {
        bench.is(JobStatus::Restarting);
        bench.restart();
        bench.started(true);
        end_worker(&mut bench, TaskManagerId::from_u128(worker));
    }
    bench.is(JobStatus::Failed);
}

#[test]
fn a_later_job_master_does_not_take_the_job_for_one_that_never_ran() {
    let mut settings = settings(fixed(1));
    settings.first_checkpoint = CheckpointId(1_000);
    let mut bench = Bench::with(settings);
    end_worker(&mut bench, NEXT);
    bench.is(JobStatus::Restarting);
}

/// The leader asks which workers there are: one that runs on, behind a TaskManager that was taken for lost, holds slots that nobody uses.
#[test]
fn who_was_taken_for_lost_is_counted_on_no_more() {
    let mut bench = Bench::running(fixed(1));
    assert!(!bench.brain.has_given_up(HOST));
    bench.message(JobMasterMessage::TaskManagerLost {
        task_manager: HOST,
        cause: "silent".to_owned(),
    });
    assert!(bench.brain.has_given_up(HOST));
}

/// A leader that is none any more may say so, of a worker that the present one counts as the job's.
#[test]
fn slots_of_a_worker_that_was_taken_for_lost_are_returned_until_it_has_ended() {
    let mut bench = Bench::running(fixed(1));
    lose(&mut bench, HOST);
    let slots: Vec<_> = (0..3).map(AllocationId::from_u128).collect();
    assert_eq!(bench.brain.slot_need().returned, slots);
    end_worker(&mut bench, HOST);
    assert_eq!(bench.brain.slot_need(), SlotNeed::exactly(3));
}

#[test]
fn slots_that_a_worker_offers_after_it_was_given_up_are_returned_once() {
    let mut bench = Bench::running(fixed(1));
    lose(&mut bench, NEXT);
    bench.take();
    offer_anew(&mut bench);
    let returned = (10..13).map(AllocationId::from_u128).collect();
    let need = SlotNeed {
        returned,
        ..SlotNeed::exactly(3)
    };
    assert_eq!(bench.take(), [JobEffect::RequireSlots(need)]);
    offer_anew(&mut bench);
    assert!(bench.take().is_empty());
}

/// What is said of workers long gone does not grow with the job.
#[test]
fn workers_that_are_forgotten_return_nothing() {
    let mut bench = Bench::running(fixed(1));
    lose(&mut bench, NEXT);
    offer_anew(&mut bench);
    for worker in 100..163 {
        lose(&mut bench, TaskManagerId::from_u128(worker));
    }
    assert_eq!(bench.brain.slot_need().returned.len(), 3);
    lose(&mut bench, TaskManagerId::from_u128(163));
    assert_eq!(bench.brain.slot_need(), SlotNeed::exactly(3));
}
