//! Jobs whose tasks fail, panic, hang or lie.

use crate::world::*;
use hurtig_cluster::{ClusterConfig, ClusterError, EmbeddedCluster, JobResult, RestartStrategyConfig};
use hurtig_core::Fault;
use hurtig_dataflow::graph::JobStatus;
use hurtig_dataflow::source::SplitEnumerator;
use std::sync::Arc;
use std::time::Duration;

/// How a job ends whose sink's second subtask does this while all others run.
fn ending(does: Does) -> (Arc<Program>, Arc<JobResult>) {
    let cluster = cluster();
    let choose = move |task: &hurtig_task::interface::TaskDescriptor| {
        if is_sink(task) && task.execution.subtask.index == 1 {
            does
        } else {
            Does::Run
        }
    };
    let program = Arc::new(Program::new(graph(1, 2), choose));
    let result = wait(submit(&cluster, &program).result()).unwrap();
    wait(cluster.shutdown()).unwrap();
    (program, result)
}

#[test]
fn one_failure_fails_the_job_and_says_where() {
    for (does, message) in [
        (Does::Fail, "it fails"),
        (Does::Refuse, "it cannot be built"),
        (Does::Panic, "panicked: it panics"),
    ] {
        let (program, result) = ending(does);
        assert_eq!(result.status, JobStatus::Failed, "{does:?}");
        let failure = result.failure.as_ref().unwrap();
        assert_eq!(
            failure.to_string(),
            format!("operator 'out', subtask 2 of 2: {message}")
        );
        assert_eq!(failure.fault(), Fault::User);
        assert_eq!(failure.cause.panicked, does == Does::Panic);
        assert_eq!(
            program.read(|log| log.cancelled),
            3,
            "{does:?}: the others were stopped"
        );
    }
}

#[test]
fn missing_input_fails_the_job_before_any_task_starts() {
    for panics in [false, true] {
        let cluster = cluster();
        let program =
            Program::new(graph(1, 2), |_| Does::Run).enumerated(move || Box::new(Broken { panics }));
        let program = Arc::new(program);
        let result = wait(submit(&cluster, &program).result()).unwrap();
        let text = if panics {
            "panicked: the enumerator panics"
        } else {
            "/data does not exist"
        };
        let failure = result.failure.as_ref().unwrap().to_string();
        assert_eq!(failure, format!("operator 'in' (uid 'in-uid'): {text}"));
        assert_eq!(program.read(|log| log.started.len()), 0);
        // The environment is unharmed.
        let next = Arc::new(Program::new(graph(2, 1), |_| Does::Finish));
        assert_eq!(
            wait(submit(&cluster, &next).result()).unwrap().status,
            JobStatus::Finished
        );
        wait(cluster.shutdown()).unwrap();
    }
}

#[test]
fn an_enumerator_that_blocks_holds_up_neither_a_cancel_nor_the_end() {
    for at_start in [true, false] {
        let cluster = cluster();
        let (stuck, is_stuck) = std::sync::mpsc::sync_channel(1);
        let enumerator = move || {
            let stuck = stuck.clone();
            Box::new(Stuck { at_start, stuck }) as Box<dyn SplitEnumerator>
        };
        let reads = |task: &hurtig_task::interface::TaskDescriptor| {
            if is_sink(task) { Does::Run } else { Does::Read }
        };
        let program = Arc::new(Program::new(graph(1, 1), reads).enumerated(enumerator));
        let job = submit(&cluster, &program);
        is_stuck.recv_timeout(Duration::from_secs(20)).unwrap();
        if at_start {
            wait(job.cancel()).unwrap();
            assert_eq!(wait(job.result()).unwrap().status, JobStatus::Canceled);
        }
        wait(cluster.shutdown()).unwrap();
        assert_eq!(wait(job.status()).unwrap(), JobStatus::Canceled);
    }
}

#[test]
fn a_task_that_does_not_stop_fails_the_environment() {
    let config = ClusterConfig {
        worker_threads: 1,
        cancellation_timeout: Duration::from_millis(50),
        ..ClusterConfig::default()
    };
    let cluster = EmbeddedCluster::start(config).unwrap();
    let program = Arc::new(Program::new(graph(1, 1), |task| {
        if is_sink(task) { Does::Hang } else { Does::Run }
    }));
    let job = submit(&cluster, &program);
    program.until(|log| log.started.len() == 2);
    wait(job.cancel()).unwrap();
    let error = wait(job.result()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("task 'out' (1 of 1) did not stop within task.cancellation.timeout"),
        "{text}"
    );
    assert!(matches!(error, ClusterError::Fatal(_)));
    assert_eq!(error.fault(), Fault::User);
    assert!(cluster.fault().is_some());
    assert!(matches!(wait(cluster.jobs()), Err(ClusterError::Fatal(_))));
    assert!(matches!(wait(cluster.shutdown()), Err(ClusterError::Fatal(_))));
}

#[test]
fn too_few_slots_fail_the_job_with_advice() {
    let config = ClusterConfig {
        worker_threads: 1,
        task_slots: Some(1),
        slot_request_timeout: Duration::from_millis(20),
        ..ClusterConfig::default()
    };
    let cluster = EmbeddedCluster::start(config).unwrap();
    let program = Arc::new(Program::new(graph(1, 2), |_| Does::Finish));
    let result = wait(submit(&cluster, &program).result()).unwrap();
    let failure = result.failure.as_ref().unwrap().to_string();
    assert!(
        failure.contains("needs 2 slots") && failure.contains("taskmanager.numberOfTaskSlots"),
        "{failure}"
    );
    wait(cluster.shutdown()).unwrap();
}

#[test]
fn a_program_with_another_graph_is_refused() {
    let cluster = cluster();
    let program = Arc::new(Program::new(graph(1, 1), |_| Does::Finish));
    let mut graph = graph(1, 1);
    graph.fingerprint = hurtig_dataflow::graph::Fingerprint::from_u128(1);
    let submitted = cluster.submit(graph, Arc::new(Shared(program)), RestartStrategyConfig::None);
    assert!(matches!(wait(submitted), Err(ClusterError::Fingerprint { .. })));
    wait(cluster.shutdown()).unwrap();
}

/// An illegal report is a bug that panics in debug builds: a control-plane panic fails the
/// environment with a typed error, and nobody waits for ever.
#[test]
#[cfg(debug_assertions)]
fn a_control_plane_panic_fails_the_environment() {
    let cluster = cluster();
    let program = Arc::new(Program::new(graph(1, 1), |_| Does::Lie));
    let job = submit(&cluster, &program);
    let error = wait(job.result()).unwrap_err();
    let ClusterError::Fatal(fault) = &error else {
        panic!("{error}")
    };
    assert!(fault.actor.starts_with("job master"), "{fault}");
    assert!(
        fault.to_string().contains("cannot go from DEPLOYING to RUNNING"),
        "{fault}"
    );
    assert_eq!(error.fault(), Fault::Internal);
    assert!(matches!(wait(cluster.shutdown()), Err(ClusterError::Fatal(_))));
}
