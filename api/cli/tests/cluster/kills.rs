//! Processes that are killed, whatever they are: nothing is lost, written twice or left behind.

use crate::kit::*;
use std::time::Duration;

/// Within this nothing is left of what was below a process that was killed: sooner than silence would tell of its death
/// (`rpc.heartbeat-timeout`, 8 s), also on a machine that has other things to do. A quiet one needs a tenth of a second.
const GONE: Duration = Duration::from_secs(6);

#[test]
fn a_worker_and_a_job_master_are_replaced_and_nothing_is_lost() {
    let cluster = Cluster::start(1, 2);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let count = 60_000;
    let args = [out.to_str().unwrap(), &count.to_string(), "4000"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    let mut latest = checkpoint(&checkpoints, 0);
    for role in ["worker", "job-master", "worker", "job-master"] {
        let before = until(role, || cluster.processes(role).first().copied());
        kill(before, "KILL");
        let begin = now();
        latest = checkpoint(&checkpoints, latest);
        println!("a killed {role}: {:?} until the next checkpoint", begin.elapsed());
        assert!(!cluster.processes(role).contains(&before));
    }
    finished(&cluster, run);
    check_numbers(&out, count);
    until("the job's processes end", || {
        cluster.left().is_empty().then_some(())
    });
}

#[test]
fn a_killed_task_manager_leaves_nothing_and_its_job_goes_on_elsewhere() {
    let cluster = Cluster::start(2, 2);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let count = 60_000;
    let args = [out.to_str().unwrap(), &count.to_string(), "4000", "FORK"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    let latest = checkpoint(&checkpoints, 0);
    let worker = until("a worker", || cluster.processes("worker").first().copied());
    let task_manager = cluster.task_manager_of(worker);
    let home = cwd(worker).unwrap();
    let of_home = home.parent().unwrap().to_owned();
    let there = || all_processes(|pid| cwd(pid).is_some_and(|cwd| cwd.starts_with(&of_home)));
    assert!(
        there().len() > 2,
        "the tasks have started children of their own: {:?}",
        there()
    );
    // It can do nothing about its end, nor can what it has started.
    kill(worker, "STOP");
    kill(task_manager, "KILL");
    let begin = now();
    until("nothing is left of it", || there().is_empty().then_some(()));
    println!(
        "a killed TaskManager: {:?} until nothing of it was left",
        begin.elapsed()
    );
    assert!(begin.elapsed() < GONE);
    checkpoint(&checkpoints, latest);
    println!(
        "a killed TaskManager: {:?} until the next checkpoint",
        begin.elapsed()
    );
    finished(&cluster, run);
    check_numbers(&out, count);
}

#[test]
fn a_killed_launcher_leaves_nothing_and_its_job_goes_on_elsewhere() {
    let cluster = Cluster::start(2, 2);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let count = 40_000;
    let args = [out.to_str().unwrap(), &count.to_string(), "4000", "ORPHAN"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    let latest = checkpoint(&checkpoints, 0);
    let worker = until("a worker", || cluster.processes("worker").first().copied());
    let (launcher, task_manager) = (parent(worker).unwrap(), cluster.task_manager_of(worker));
    let there = cluster.beside(worker);
    assert!(there().len() > 2, "the tasks have started orphans: {:?}", there());
    kill(worker, "STOP");
    kill(launcher, "KILL");
    let begin = now();
    until("nothing is left of it", || there().is_empty().then_some(()));
    assert!(begin.elapsed() < GONE, "{:?}", begin.elapsed());
    until("its TaskManager ends", || (!runs(task_manager)).then_some(()));
    checkpoint(&checkpoints, latest);
    finished(&cluster, run);
    check_numbers(&out, count);
}

#[test]
fn with_the_jobmanager_everything_ends() {
    let cluster = Cluster::start(2, 2);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let args = [out.to_str().unwrap(), "100000000", "1000", "ORPHAN"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    checkpoint(&checkpoints, 0);
    let worker = until("a worker", || cluster.processes("worker").first().copied());
    kill(worker, "STOP");
    let known = cluster.known();
    let all = cluster.servers();
    kill(number(&known["jobmanager"]), "KILL");
    let begin = now();
    until("everything ends", || {
        let left = all.iter().any(|process| runs(*process));
        (!left && cluster.left().is_empty()).then_some(())
    });
    println!(
        "a killed jobmanager: {:?} until nothing was left",
        begin.elapsed()
    );
    assert!(begin.elapsed() < GONE, "{:?}", begin.elapsed());
    let said = run.wait_with_output().unwrap();
    assert!(
        !said.status.success() && text(&said).contains("does not answer"),
        "{}",
        text(&said)
    );
}

#[test]
fn a_job_waits_for_a_task_manager_that_is_started_again() {
    let cluster = Cluster::start(1, 2);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let count = 30_000;
    let args = [out.to_str().unwrap(), &count.to_string(), "4000"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    let latest = checkpoint(&checkpoints, 0);
    kill(number(&cluster.known()["task_managers"][0]), "KILL");
    until("its processes end", || cluster.left().is_empty().then_some(()));
    until("it waits", || cluster.job_in("RESTARTING"));
    let mut another = cluster.task_manager("again", 2);
    checkpoint(&checkpoints, latest);
    finished(&cluster, run);
    check_numbers(&out, count);
    drop(cluster);
    assert!(another.wait().is_ok(), "it ends with its cluster");
}

#[test]
fn how_a_worker_has_ended_is_the_failure_of_its_job() {
    let cluster = Cluster::start(1, 1);
    let out = cluster.path().join("out");
    let run = cluster.run(&[], "numbered", &[out.to_str().unwrap(), "100000000", "1000"]);
    let worker = until("a worker", || cluster.processes("worker").first().copied());
    let job = until("RUNNING", || cluster.job_in("RUNNING"));
    kill(worker, "KILL");
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("killed by signal 9"), "{}", text(&output));
    let history = cluster.get(&format!("/jobs/{job}/exceptions"));
    let entry = &history["exceptionHistory"]["entries"][0];
    let said = entry["stacktrace"].as_str().unwrap();
    assert!(said.contains("killed by signal 9"), "{history}");
    let detail = cluster.get(&format!("/jobs/{job}"));
    let at = entry["timestamp"].as_i64().unwrap();
    assert!(at >= detail["start-time"].as_i64().unwrap() && at <= detail["end-time"].as_i64().unwrap());
    assert_eq!(detail["state"], "FAILED");
}

#[test]
fn what_one_job_has_left_alone_ends_with_that_job_and_no_other() {
    let cluster = Cluster::start(1, 2);
    let out = |name: &str| cluster.path().join(name).display().to_string();
    let one = cluster.run(&[], "numbered", &[&out("one"), "100000000", "1000", "ORPHAN"]);
    let first = until("a worker", || cluster.processes("worker").first().copied());
    let orphans = cluster.at(first);
    until("its orphan", || (orphans().len() > 1).then_some(()));
    let other = cluster.run(&[], "numbered", &[&out("other"), "100000000", "1000"]);
    let second = until("another worker", || {
        cluster
            .processes("worker")
            .into_iter()
            .find(|worker| *worker != first)
    });
    kill(second, "KILL");
    assert!(!other.wait_with_output().unwrap().status.success());
    assert_eq!(orphans().len(), 2, "the worker and its orphan go on");
    kill(first, "KILL");
    assert!(!one.wait_with_output().unwrap().status.success());
    until("its orphan ends", || orphans().is_empty().then_some(()));
}

#[test]
fn a_stopped_worker_and_a_stopped_job_master_are_ended_and_replaced() {
    let cluster = Cluster::start(1, 2);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let count = 120_000;
    let args = [out.to_str().unwrap(), &count.to_string(), "4000"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    let mut latest = checkpoint(&checkpoints, 0);
    for role in ["worker", "job-master"] {
        let before = until(role, || cluster.processes(role).first().copied());
        kill(before, "STOP");
        let begin = now();
        until("it is ended", || (!runs(before)).then_some(()));
        latest = checkpoint(&checkpoints, latest);
        println!(
            "a stopped {role}: {:?} until the next checkpoint",
            begin.elapsed()
        );
    }
    finished(&cluster, run);
    check_numbers(&out, count);
}
