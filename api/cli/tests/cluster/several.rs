//! Jobs that are too large for one worker: their tasks exchange records between processes.

use crate::kit::*;
use std::path::Path;

fn over_four_slots(checkpoints: &Path) -> Vec<String> {
    let mut settings = with_checkpoints(checkpoints);
    settings.retain(|setting| !setting.starts_with("parallelism"));
    settings.push("parallelism.default=4".to_owned());
    settings
}

/// The workers of a job that has two, once it has.
fn two_workers(cluster: &Cluster) -> Vec<u32> {
    until("two workers", || {
        let workers = cluster.processes("worker");
        (workers.len() == 2).then_some(workers)
    })
}

#[test]
fn a_job_on_two_task_managers_survives_the_loss_of_either_worker() {
    for unaligned in [false, true] {
        let cluster = Cluster::start(2, 2);
        let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
        let count = 40_000;
        let args = [out.to_str().unwrap(), &count.to_string(), "4000"];
        let mut settings = over_four_slots(&checkpoints);
        if unaligned {
            settings.push("execution.checkpointing.unaligned.enabled=true".to_owned());
        }
        let run = cluster.run(&settings, "numbered", &args);
        let mut latest = checkpoint(&checkpoints, 0);
        let homes: Vec<_> = two_workers(&cluster)
            .iter()
            .map(|worker| cluster.task_manager_of(*worker))
            .collect();
        assert_ne!(homes[0], homes[1], "each is at a TaskManager of its own");
        for home in homes {
            let before = two_workers(&cluster);
            let killed = before
                .iter()
                .find(|worker| cluster.task_manager_of(**worker) == home);
            kill(*killed.unwrap(), "KILL");
            let begin = now();
            latest = checkpoint(&checkpoints, latest);
            println!(
                "one of two workers killed: {:?} until the next checkpoint",
                begin.elapsed()
            );
            let after = two_workers(&cluster);
            let kept = after.iter().filter(|worker| before.contains(worker)).count();
            assert_eq!(kept, 1, "the other one stays");
        }
        let job = cluster.last_job();
        finished(&cluster, run);
        check_numbers(&out, count);
        let failures = cluster.get(&format!("/jobs/{job}/exceptions"));
        let failures = failures["exceptionHistory"]["entries"].as_array().unwrap();
        assert_eq!(failures.len(), 2, "each loss is one failure: {failures:?}");
        until("the job's processes end", || {
            cluster.left().is_empty().then_some(())
        });
    }
}

#[test]
fn a_job_stops_on_two_task_managers_and_goes_on_within_one_worker() {
    let cluster = Cluster::start(2, 2);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let savepoints = cluster.path().join("savepoints");
    let count = 60_000;
    let args = [out.to_str().unwrap(), &count.to_string(), "6000"];
    let mut settings = over_four_slots(&checkpoints);
    // Workers that begin one after the other are no failure.
    settings.push("restart-strategy.type=none".to_owned());
    let run = cluster.run(&settings, "numbered", &args);
    checkpoint(&checkpoints, 0);
    two_workers(&cluster);
    let job = cluster.last_job();
    let stopped = cluster.hurtig(&["stop", &job, savepoints.to_str().unwrap()]);
    assert!(stopped.status.success(), "{}\n{}", text(&stopped), cluster.logs());
    finished(&cluster, run);
    let savepoint = std::fs::read_dir(&savepoints).unwrap().next().unwrap();
    let mut command = cluster.command(&["run", "--restore"]);
    command.arg(savepoint.unwrap().path());
    for setting in with_checkpoints(&checkpoints) {
        command.args(["-D", &setting]);
    }
    let run = command.arg(artifact("numbered")).args(args).spawn().unwrap();
    until("a worker", || {
        (cluster.processes("worker").len() == 1).then_some(())
    });
    finished(&cluster, run);
    check_numbers(&out, count);
}

#[test]
fn balanced_slots_come_from_both_task_managers() {
    let cluster = Cluster::start_with(2, 2, &["--load-balance=slots"]);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let args = [out.to_str().unwrap(), "8000", "2000"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    let homes: Vec<_> = two_workers(&cluster)
        .iter()
        .map(|worker| cluster.task_manager_of(*worker))
        .collect();
    assert_ne!(homes[0], homes[1]);
    let task_managers = cluster.get("/taskmanagers");
    let free = task_managers["taskmanagers"].as_array().unwrap().iter();
    assert!(free.clone().all(|one| one["freeSlots"] == 1), "{task_managers}");
    finished(&cluster, run);
    check_numbers(&out, 8_000);
}
