//! Jobs from their beginning to their end.

use crate::kit::*;
use std::process::Command;

#[test]
fn word_count_through_all_processes_is_what_sort_and_uniq_say() {
    let cluster = Cluster::start(1, 2);
    let (input, output) = (cluster.path().join("in.txt"), cluster.path().join("out.txt"));
    let words: String = (0..40_000_u64)
        .map(|i| format!("w{} {}\n", i * i % 991, i % 7))
        .collect();
    std::fs::write(&input, words).unwrap();
    let begin = now();
    let args = [input.to_str().unwrap(), output.to_str().unwrap()];
    let run = cluster.run(&["parallelism.default=2".to_owned()], "words", &args);
    finished(&cluster, run);
    println!("word count: {:?} from the command to its end", begin.elapsed());
    let reference = format!(
        "tr -s '[:space:]' '\n' < {} | sort | uniq -c | awk '{{print $2\"\\t\"$1}}' | sort",
        input.display()
    );
    let wanted = Command::new("sh")
        .args(["-c", &reference])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let wanted: Vec<String> = String::from_utf8(wanted.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let mut found: Vec<String> = std::fs::read_to_string(&output)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    found.sort_unstable();
    assert_eq!(found.len(), 503);
    assert!(found == wanted);
    let listed = text(&cluster.hurtig(&["list", "-a"]));
    assert!(
        listed.contains("FINISHED") && listed.contains("word count"),
        "{listed}"
    );
    until("the job's processes end", || {
        cluster.left().is_empty().then_some(())
    });
}

#[test]
fn a_job_is_cancelled_and_a_cluster_leaves_nothing() {
    let cluster = Cluster::start(1, 1);
    let out = cluster.path().join("out");
    let begin = now();
    let started = cluster.hurtig(&[
        "run",
        "-d",
        artifact("numbered").to_str().unwrap(),
        out.to_str().unwrap(),
        "100000000",
        "1000",
    ]);
    assert!(started.status.success(), "{}", text(&started));
    let job = text(&started)
        .lines()
        .find_map(|line| line.strip_prefix("job ").map(str::to_owned))
        .unwrap();
    until("RUNNING", || {
        text(&cluster.hurtig(&["list", "-a"]))
            .contains("RUNNING")
            .then_some(())
    });
    println!("from `hurtig run` to RUNNING: {:?}", begin.elapsed());
    cluster.figures();
    assert!(cluster.hurtig(&["cancel", &job]).status.success());
    until("CANCELED", || {
        text(&cluster.hurtig(&["list", "-a"]))
            .contains("CANCELED")
            .then_some(())
    });
    until("the job's processes end", || {
        cluster.left().is_empty().then_some(())
    });
    let known = cluster.known();
    let stopped = cluster.hurtig(&["cluster", "stop"]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    let ours = [&known["jobmanager"], &known["task_managers"][0]].map(|pid| pid.as_u64().unwrap());
    let left = all_processes(|pid| ours.contains(&u64::from(pid)) && !is_zombie(pid));
    assert_eq!(left, Vec::<u32>::new());
}

#[test]
fn a_cluster_that_cannot_start_says_why_and_leaves_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = Command::new(env!("CARGO_BIN_EXE_hurtig"))
        .args([
            "cluster",
            "start",
            "--port=0",
            &format!("--rest-port={port}"),
            "--dir",
        ])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = text(&output);
    assert!(
        said.contains("Address already in use") && said.contains(&port.to_string()),
        "{said}"
    );
    assert!(!dir.path().join("cluster.json").exists());
    let address = dir.path().join("addresses.json").display().to_string();
    let left = all_processes(|pid| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(&address)
    });
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn jobs_begin_with_what_the_cluster_is_configured_with() {
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = with_checkpoints(own.path());
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["-D", setting]).collect();
    let cluster = Cluster::start_with(1, 2, &settings);
    let out = cluster.path().join("out");
    let args = [out.to_str().unwrap(), "4000", "1000"];
    // Nothing is said of parallelism, checkpoints and restarts by whoever submits it.
    let run = cluster.run(&[], "numbered", &args);
    let first = checkpoint(own.path(), 0);
    let job = cluster.job_in("RUNNING").unwrap();
    let detail = cluster.get(&format!("/jobs/{job}"));
    assert_eq!(detail["vertices"][0]["parallelism"], 2, "{detail}");
    kill(cluster.processes("worker")[0], "KILL");
    checkpoint(own.path(), first);
    // The record of the job has them: its next JobMaster goes on with what it was submitted under.
    kill(cluster.processes("job-master")[0], "KILL");
    finished(&cluster, run);
    check_numbers(&out, 4000);

    // Whoever submits it knows better.
    let out = cluster.path().join("other");
    let settings = [
        "parallelism.default=1".to_owned(),
        format!("execution.checkpointing.dir={}", other.path().display()),
    ];
    let run = cluster.run(&settings, "numbered", &[out.to_str().unwrap(), "1000", "1000"]);
    checkpoint(other.path(), 0);
    let job = cluster.job_in("RUNNING").unwrap();
    let detail = cluster.get(&format!("/jobs/{job}"));
    assert_eq!(detail["vertices"][0]["parallelism"], 1, "{detail}");
    finished(&cluster, run);
    check_numbers(&out, 1000);
}
