//! What processes of jobs may use up: memory, open files, room for logs; and what is said of one that wants more.

use crate::kit::*;
use std::path::{Path, PathBuf};

/// A limit of a process, as the kernel says it.
fn limit(process: u32, name: &str) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

fn oom_score(process: u32) -> i32 {
    let score = std::fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap();
    score.trim().parse().unwrap()
}

fn endless(cluster: &Cluster, more: &[&str]) -> (std::process::Child, u32) {
    let out = cluster.path().join("out").display().to_string();
    let mut args = vec![out.as_str(), "100000000", "1000"];
    args.extend(more);
    let run = cluster.run(&[], "numbered", &args);
    let worker = until("a worker", || cluster.processes("worker").first().copied());
    until("RUNNING", || cluster.job_in("RUNNING"));
    (run, worker)
}

#[test]
fn processes_of_jobs_have_limits_and_die_before_those_of_the_cluster() {
    let settings = [
        "-Dtaskmanager.memory.process.size=4 gb",
        "-Djobmaster.memory=1 gb",
        "-Dtaskmanager.processes.max-open-files=500",
    ];
    let cluster = Cluster::start_with(1, 2, &settings);
    let (run, worker) = endless(&cluster, &["FORK"]);
    let there = cluster.at(worker);
    until("its child", || (there().len() > 1).then_some(()));
    let master = cluster.processes("job-master")[0];
    for process in there() {
        // One of two slots.
        assert_eq!(limit(process, "Max data size"), (2_u64 << 30).to_string());
        assert_eq!(limit(process, "Max open files"), "500");
        assert_eq!(limit(process, "Max core file size"), "0");
        assert_eq!(oom_score(process), 500);
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    assert_eq!(limit(master, "Max data size"), (1_u64 << 30).to_string());
    assert_eq!(oom_score(master), 300, "after the workers");
    let servers = cluster.servers();
    let launcher = parent(worker).unwrap();
    for process in servers.into_iter().chain([launcher]) {
        assert_eq!(oom_score(process), 0);
        assert_eq!(limit(process, "Max data size"), "unlimited");
    }
    let said = cluster.logs();
    assert!(said.contains("there is no control group"), "{said}");
    kill(worker, "KILL");
    let output = run.wait_with_output().unwrap();
    // The machine's memory has nothing to do with it.
    assert!(!text(&output).contains("memory"), "{}", text(&output));
}

#[test]
fn a_worker_that_uses_up_its_memory_fails_its_job_which_says_so() {
    let cluster = Cluster::start_with(1, 1, &["-Dtaskmanager.memory.process.size=256 mb"]);
    let run = cluster.run(&[], "greedy", &["HOARD"]);
    let output = run.wait_with_output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "used up its memory",
        "256 mb",
        "taskmanager.memory.process.size",
        "rocksdb",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let history = cluster.get(&format!("/jobs/{}/exceptions", cluster.last_job()));
    assert!(history.to_string().contains("used up its memory"), "{history}");
    assert_eq!(cluster.get("/overview")["taskmanagers"], 1, "nobody else was hit");
    let (out, count) = (cluster.path().join("out"), 2_000);
    let args = [out.to_str().unwrap(), &count.to_string(), "4000"];
    finished(&cluster, cluster.run(&[], "numbered", &args));
    check_numbers(&out, count);
}

fn put(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

/// The group of a process of a TaskManager.
fn group(dir: &Path, begin: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.find(|path| path.file_name().unwrap().to_string_lossy().contains(begin))
}

/// The files of a delegated group, without the kernel behind them: what would be said to it.
#[test]
fn each_process_of_a_job_is_put_into_a_group_with_its_share() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "cgroup.controllers", "cpu memory pids\n");
    put(dir.path(), "cgroup.subtree_control", "");
    put(dir.path(), "cgroup.procs", "");
    let group_dir = format!("-Dtaskmanager.cgroup={}", dir.path().display());
    let settings = [
        group_dir.as_str(),
        "-Dtaskmanager.memory.process.size=2 gb",
        "-Dtaskmanager.processes.max-threads=400",
    ];
    let cluster = Cluster::start_with(1, 2, &settings);
    let (run, worker) = endless(&cluster, &[]);
    let of_worker = group(dir.path(), "-worker-").unwrap();
    let of_master = group(dir.path(), "-jobmaster-").unwrap();
    let task_manager = cluster.task_manager_of(worker);
    assert!(
        of_worker
            .display()
            .to_string()
            .contains(&format!("hurtig-{task_manager}-worker"))
    );
    let set = |group: &Path, name: &str| std::fs::read_to_string(group.join(name)).unwrap_or_default();
    assert_eq!(set(&of_worker, "cgroup.procs"), worker.to_string());
    assert_eq!(set(&of_worker, "memory.max"), (1_u64 << 30).to_string());
    assert_eq!(set(&of_worker, "memory.oom.group"), "1");
    assert_eq!(set(&of_worker, "cpu.weight"), "100");
    assert_eq!(set(&of_worker, "pids.max"), "400");
    assert_eq!(set(&of_master, "memory.max"), "", "nothing bounds it");
    // What the kernel would count when it kills for memory.
    put(
        &of_worker,
        "memory.events",
        "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\n",
    );
    kill(worker, "KILL");
    let output = run.wait_with_output().unwrap();
    assert!(text(&output).contains("used up its memory"), "{}", text(&output));
    assert_eq!(
        set(&of_worker, "cgroup.kill"),
        "1",
        "what it had started ends with it"
    );
    let said = cluster.logs();
    assert!(said.contains("has a control group of its own"), "{said}");
}

/// A directory of the kernel's own control groups in which others can be made, if there is one here.
fn real_group() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let root = mounts
        .find(|mount| mount[2] == "cgroup2")
        .map(|mount| PathBuf::from(mount[1]))?;
    let dir = root.join(format!("hurtig-test-{}", std::process::id()));
    std::fs::create_dir(&dir).ok().map(|()| dir)
}

#[test]
fn a_real_group_has_the_process_in_it_and_goes_with_it() {
    let Some(dir) = real_group() else {
        println!("this machine lets nobody make a control group: only the files were looked at");
        return;
    };
    let setting = format!("-Dtaskmanager.cgroup={}", dir.display());
    let cluster = Cluster::start_with(1, 2, &[&setting]);
    let (run, worker) = endless(&cluster, &["ORPHAN"]);
    let of_worker = group(&dir, "-worker-").unwrap();
    let inside = || std::fs::read_to_string(of_worker.join("cgroup.procs")).unwrap_or_default();
    let there = cluster.at(worker);
    // A process that is just being made is listed before it is in its group, and one that makes another may be gone a moment later.
    until("it and its orphan are in the group", || {
        let (there, inside) = (there(), inside());
        let is_inside = |process: &u32| inside.lines().any(|line| line == process.to_string());
        (there.len() > 1 && there.iter().all(is_inside)).then_some(())
    });
    kill(worker, "STOP");
    kill(worker, "KILL");
    assert!(!run.wait_with_output().unwrap().status.success());
    until("the group is gone", || (!of_worker.exists()).then_some(()));
    assert!(there().is_empty());
    drop(cluster);
    until("all groups are gone", || std::fs::remove_dir(&dir).ok());
}

#[test]
fn a_task_manager_does_not_start_with_a_group_that_is_none() {
    let cluster = Cluster::not_started();
    let path = cluster.path().display().to_string();
    let mut command = cluster.command(&["taskmanager", "--jobmanager=127.0.0.1:1", "--patience=60"]);
    let output = command
        .arg(format!("--work-dir={path}/work"))
        .arg(format!("--log-dir={path}/log"))
        .arg(format!("-Dtaskmanager.cgroup={path}"))
        .output()
        .unwrap();
    let said = text(&output);
    assert!(
        !output.status.success() && said.contains("`taskmanager.cgroup`"),
        "{said}"
    );
    assert!(
        said.contains(&path) && said.contains("no control group of version 2"),
        "{said}"
    );
}

#[test]
fn a_process_that_shouts_has_bounded_logs_and_its_last_words_are_heard() {
    let cluster = Cluster::start_with(1, 1, &["-Denv.log.max=2", "-Denv.log.max-size=64 kb"]);
    let output = cluster.run(&[], "greedy", &["SHOUT"]).wait_with_output().unwrap();
    let said = text(&output);
    assert!(
        !output.status.success() && said.contains("the last words of it all"),
        "{said}"
    );
    let logs = || {
        std::fs::read_dir(cluster.path().join("log"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let mut of_worker: Vec<_> = logs()
        .filter(|path| path.to_string_lossy().contains("/worker-"))
        .collect();
    of_worker.sort();
    assert_eq!(of_worker.len(), 3, "{of_worker:?}");
    let texts: Vec<_> = of_worker
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for text in &texts {
        assert!(text.len() < 200 << 10, "{}", text.len());
    }
    // From the oldest on, nothing is missing between two files.
    let whole = [texts[2].as_str(), texts[1].as_str(), texts[0].as_str()].concat();
    let numbers: Vec<u64> = whole
        .lines()
        .filter_map(|line| line.strip_prefix("shout ")?.get(..6)?.parse().ok())
        .collect();
    assert!(
        numbers.len() > 1_000 && numbers.last() == Some(&20_000),
        "{}",
        numbers.len()
    );
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    let task_manager = cluster.get("/taskmanagers")["taskmanagers"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let name = of_worker[1].file_name().unwrap().to_str().unwrap();
    let served = cluster.hurtig(&["logs", &task_manager, name]);
    assert_eq!(String::from_utf8_lossy(&served.stdout).trim(), texts[1].trim());
}
