//! Jobs that go as they should.

use crate::world::*;
use hurtig_cluster::{ClusterConfig, ClusterError, EmbeddedCluster, RestartStrategyConfig};
use hurtig_core::accumulators::AccumulatorValue;
use hurtig_dataflow::graph::JobStatus;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_job_finishes_when_its_tasks_do() {
    let cluster = cluster();
    let program = Arc::new(Program::new(graph(1, 3), |_| Does::Finish));
    let job = submit(&cluster, &program);
    let result = wait(job.result()).unwrap();
    assert_eq!((result.status, result.restarts), (JobStatus::Finished, 0));
    assert_eq!(result.accumulators["rows"], AccumulatorValue::Long(6));
    assert_eq!(wait(job.status()).unwrap(), JobStatus::Finished);
    assert_eq!(*job.status_updates().borrow(), JobStatus::Finished);
    assert_eq!(
        wait(job.accumulators()).unwrap()["rows"],
        AccumulatorValue::Long(6)
    );
    assert_eq!(wait(cluster.jobs()).unwrap().len(), 1);
    program.until(|log| log.generations == [0]);
    assert_eq!(program.read(|log| log.started.len()), 6);
    wait(cluster.shutdown()).unwrap();
    assert_eq!(
        wait(job.result()).unwrap(),
        result,
        "a result that is known stays known"
    );
    assert_eq!(wait(job.status()).unwrap(), JobStatus::Finished);
}

#[test]
fn several_jobs_run_at_once() {
    let cluster = cluster();
    let programs: Vec<_> = (1..=8)
        .map(|job| Arc::new(Program::new(graph(job, 2), |_| Does::Run)))
        .collect();
    let jobs: Vec<_> = programs.iter().map(|program| submit(&cluster, program)).collect();
    programs
        .iter()
        .for_each(|program| program.until(|log| log.started.len() == 4));
    for job in &jobs {
        wait(job.cancel()).unwrap();
        assert_eq!(wait(job.result()).unwrap().status, JobStatus::Canceled);
    }
    assert!(
        programs
            .iter()
            .all(|program| program.read(|log| log.cancelled) == 4)
    );
    wait(cluster.shutdown()).unwrap();
}

#[test]
fn a_cancelled_job_is_over_and_cannot_be_cancelled_again() {
    let cluster = cluster();
    let program = Arc::new(Program::new(graph(1, 2), |_| Does::Run));
    let job = submit(&cluster, &program);
    let mut updates = job.status_updates();
    wait(updates.wait_for(|status| *status == JobStatus::Running)).unwrap();
    wait(job.cancel()).unwrap();
    let result = wait(job.result()).unwrap();
    assert_eq!((result.status, &result.failure), (JobStatus::Canceled, &None));
    assert!(matches!(wait(job.cancel()), Err(ClusterError::Ended { .. })));
    wait(cluster.shutdown()).unwrap();
}

#[test]
fn every_split_is_read_exactly_once() {
    let cluster = cluster();
    let does = |task: &_| if is_sink(task) { Does::Finish } else { Does::Read };
    let program = Arc::new(Program::new(graph(1, 3), does).enumerated(|| numbers(40)));
    let job = submit(&cluster, &program);
    assert_eq!(wait(job.result()).unwrap().status, JobStatus::Finished);
    let mut splits: Vec<u32> =
        program.read(|log| log.splits.iter().map(|split| split.1.parse().unwrap()).collect());
    splits.sort();
    assert_eq!(splits, (0..40).collect::<Vec<_>>());
    wait(cluster.shutdown()).unwrap();
}

#[test]
fn a_source_without_enumerator_is_told_that_there_are_no_splits() {
    let cluster = cluster();
    let program = Arc::new(Program::new(graph(1, 2), |task| {
        if is_sink(task) { Does::Finish } else { Does::Read }
    }));
    assert_eq!(
        wait(submit(&cluster, &program).result()).unwrap().status,
        JobStatus::Finished
    );
    wait(cluster.shutdown()).unwrap();
}

#[test]
fn tasks_share_worker_threads_and_blocking_ones_have_their_own() {
    let cluster = cluster();
    let shared = Arc::new(Program::new(graph(1, 4), |_| Does::Finish));
    wait(submit(&cluster, &shared).result()).unwrap();
    let threads = |program: &Program| {
        program.read(|log| {
            log.started
                .iter()
                .map(|one| format!("{:?}", one.1))
                .collect::<BTreeSet<_>>()
        })
    };
    assert_eq!(threads(&shared).len(), 2);
    let mut blocking = graph(2, 2);
    blocking.vertices[1].blocking = true;
    let blocking = Arc::new(Program::new(blocking, |_| Does::Run));
    let job = submit(&cluster, &blocking);
    blocking.until(|log| log.started.len() == 4);
    assert_eq!(threads(&blocking).len(), 4);
    wait(job.cancel()).unwrap();
    assert_eq!(wait(job.result()).unwrap().status, JobStatus::Canceled);
    wait(cluster.shutdown()).unwrap();
}

#[test]
fn submitting_again_is_the_same_job_and_another_graph_a_conflict() {
    let cluster = cluster();
    let program = Arc::new(Program::new(graph(1, 1), |_| Does::Finish));
    let (one, two) = (submit(&cluster, &program), submit(&cluster, &program));
    assert_eq!(wait(one.result()).unwrap(), wait(two.result()).unwrap());
    assert_eq!(program.read(|log| log.started.len()), 2);
    let other = Arc::new(Program::new(graph(1, 2), |_| Does::Finish));
    let refused = submit_with(&cluster, &other, RestartStrategyConfig::None);
    assert!(matches!(refused, Err(ClusterError::Conflict(_))));
    wait(cluster.shutdown()).unwrap();
}

#[test]
fn jobs_wait_for_each_others_slots() {
    let config = ClusterConfig {
        worker_threads: 1,
        task_slots: Some(2),
        ..ClusterConfig::default()
    };
    let cluster = EmbeddedCluster::start(config).unwrap();
    let first = Arc::new(Program::new(graph(1, 2), |_| Does::Run));
    let second = Arc::new(Program::new(graph(2, 2), |_| Does::Finish));
    let job = submit(&cluster, &first);
    first.until(|log| log.started.len() == 4);
    let waiting = submit(&cluster, &second);
    assert_eq!(wait(waiting.status()).unwrap(), JobStatus::Created);
    wait(job.cancel()).unwrap();
    assert_eq!(wait(waiting.result()).unwrap().status, JobStatus::Finished);
    wait(cluster.shutdown()).unwrap();
}

#[test]
fn shutting_down_cancels_what_runs_and_refuses_what_comes() {
    let cluster = cluster();
    let program = Arc::new(Program::new(graph(1, 2), |_| Does::Run));
    let job = submit(&cluster, &program);
    program.until(|log| log.started.len() == 4);
    wait(cluster.shutdown()).unwrap();
    assert_eq!(program.read(|log| log.cancelled), 4);
    assert!(matches!(wait(job.result()), Err(ClusterError::ShutDown)));
    let refused = submit_with(&cluster, &program, RestartStrategyConfig::None);
    assert!(matches!(refused, Err(ClusterError::ShutDown)));
    wait(cluster.shutdown()).unwrap();
}

#[test]
fn dropping_the_last_handle_ends_the_cluster() {
    let program = Arc::new(Program::new(graph(1, 1), |_| Does::Run));
    let job = submit(&cluster(), &program);
    program.until(|log| log.started.len() == 2);
    let mut updates = job.status_updates();
    drop(job);
    // The JobMaster, and with it the sender of its states, is gone.
    wait(async { while updates.changed().await.is_ok() {} });
}

#[test]
fn a_restarted_job_finishes() {
    let cluster = cluster();
    let does = |task: &hurtig_task::interface::TaskDescriptor| match task.execution.attempt.0 {
        0 if is_sink(task) && task.execution.subtask.index == 1 => Does::Fail,
        0 => Does::Run,
        _ if is_sink(task) => Does::Finish,
        _ => Does::Read,
    };
    let program = Arc::new(Program::new(graph(1, 2), does).enumerated(|| numbers(5)));
    let restart = RestartStrategyConfig::FixedDelay {
        attempts: Some(1),
        delay: Duration::from_millis(5),
    };
    let job = submit_with(&cluster, &program, restart).unwrap();
    let result = wait(job.result()).unwrap();
    assert_eq!(
        (result.status, result.restarts, result.failures.len()),
        (JobStatus::Finished, 1, 1)
    );
    assert_eq!(result.accumulators["rows"], AccumulatorValue::Long(4));
    program.until(|log| log.generations == [0, 1]);
    assert_eq!(program.read(|log| log.splits.len()), 5);
    wait(cluster.shutdown()).unwrap();
}
