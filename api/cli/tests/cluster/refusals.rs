//! Programs that are no good jobs: they are refused, or fail with the reason, and nobody else notices.

use crate::kit::*;

#[test]
fn what_cannot_run_is_refused_with_the_reason() {
    let cluster = Cluster::start(1, 2);
    let script = cluster.path().join("script");
    std::fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    let refused = |args: &[&str]| {
        let output = cluster.hurtig(args);
        assert!(!output.status.success(), "{args:?} was accepted");
        text(&output)
    };
    let said = refused(&["run", script.to_str().unwrap()]);
    assert!(said.contains("no executable of Linux"), "{said}");
    let said = refused(&["run", "/bin/sh"]);
    assert!(said.contains("no artifact of Hurtig"), "{said}");
    let numbered = artifact("numbered");
    let numbered = numbered.to_str().unwrap();
    let said = refused(&["run", numbered]);
    assert!(said.contains("usage: numbered"), "{said}");
    let out = cluster.path().join("out");
    let out = out.to_str().unwrap();
    let said = refused(&["run", "-D", "parallelism.default=3", numbered, out, "10", "10"]);
    assert!(said.contains("needs 3 slots") && said.contains("has 2"), "{said}");
    let said = refused(&[
        "run",
        "-D",
        "execution.checkpointing.interval=1s",
        numbered,
        out,
        "10",
        "10",
    ]);
    assert!(said.contains("execution.checkpointing.dir"), "{said}");
    let said = refused(&["run", "-D", "no.such.setting=1", numbered, out, "10", "10"]);
    assert!(said.contains("no.such.setting"), "{said}");
    let said = refused(&["cancel", &"0".repeat(32)]);
    assert!(said.contains("not known"), "{said}");
}

#[test]
fn graphs_that_depend_on_what_differs_are_refused_with_the_place() {
    let cluster = Cluster::start(1, 1);
    let misbehaves = artifact("misbehaves");
    let misbehaves = misbehaves.to_str().unwrap();
    let other = cluster.run(
        &[],
        "numbered",
        &[cluster.path().join("out").to_str().unwrap(), "100000000", "1000"],
    );
    until("RUNNING", || cluster.job_in("RUNNING"));
    let refused = |what: &str| {
        let output = cluster.hurtig(&["run", misbehaves, what]);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", text(&output));
        let said = text(&output);
        assert_eq!(said.trim().lines().count(), 1, "{what}: {said}");
        said
    };
    for what in ["time", "environment", "directory"] {
        let said = refused(what);
        assert!(said.contains("builds another graph each time"), "{what}: {said}");
        assert!(
            said.contains("the first difference is at `vertices[0]."),
            "{what}: {said}"
        );
    }
    let said = refused("nothing");
    assert!(said.contains("without running a job"), "{said}");
    let said = refused("panics");
    assert!(said.contains("it panics on purpose"), "{said}");
    assert!(cluster.job_in("RUNNING").is_some(), "the other job is untouched");
    let job = cluster.job_in("RUNNING").unwrap();
    assert!(cluster.hurtig(&["cancel", &job]).status.success());
    assert_eq!(other.wait_with_output().unwrap().status.code(), Some(2));
}

#[test]
fn a_job_whose_processes_do_not_begin_fails_with_their_last_words() {
    let cluster = Cluster::start(1, 1);
    let misbehaves = artifact("misbehaves");
    let misbehaves = misbehaves.to_str().unwrap();
    let fails = |what: &str| {
        let output = cluster.hurtig(&["run", misbehaves, what]);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", text(&output));
        text(&output)
    };
    let said = fails("ends");
    assert!(
        said.contains("exit code 7") && said.contains("its last words"),
        "{said}"
    );
    let said = fails("another");
    assert!(said.contains("builds another graph"), "{said}");
    let said = fails("aborts");
    assert!(said.contains("ended 6 times within ten minutes"), "{said}");
    assert!(
        said.contains("signal 6") && said.contains("its last words"),
        "{said}"
    );
    let history = cluster.get(&format!("/jobs/{}/exceptions", cluster.last_job()));
    let entries = history["exceptionHistory"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 6, "{history}");
    until("nothing of them is left", || {
        cluster.left().is_empty().then_some(())
    });
}

#[test]
fn artifacts_of_other_machines_and_versions_are_refused() {
    let cluster = Cluster::start(1, 1);
    let bytes = std::fs::read(artifact("words")).unwrap();
    let refused = |name: &str, bytes: &[u8]| {
        let path = cluster.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let output = cluster.hurtig(&["run", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output));
        text(&output)
    };
    let mut other = bytes.clone();
    other[18] = 8;
    let said = refused("other-machine", &other);
    assert!(said.contains("build it for this architecture"), "{said}");
    let note = b"launch=2..2\n";
    let at = bytes.windows(note.len()).position(|found| found == note).unwrap();
    let mut newer = bytes.clone();
    newer[at..at + note.len()].copy_from_slice(b"launch=8..9\n");
    let said = refused("newer", &newer);
    assert!(said.contains("upgrade the cluster"), "{said}");
    let said = refused("half", &bytes[..40]);
    assert!(said.contains("no executable of Linux"), "{said}");
}

#[test]
fn a_job_that_never_found_a_place_is_cancelled_and_its_cluster_stops() {
    let cluster = Cluster::start(1, 1);
    let out = cluster.path().join("out");
    let run = cluster.run(&[], "numbered", &[out.to_str().unwrap(), "100000000", "1000"]);
    until("RUNNING", || cluster.job_in("RUNNING"));
    kill(number(&cluster.known()["task_managers"][0]), "KILL");
    until("it is restarted, somewhere", || cluster.job_in("RESTARTING"));
    let said = cluster.hurtig(&["run", artifact("words").to_str().unwrap()]);
    assert!(text(&said).contains("has no TaskManager"), "{}", text(&said));
    let stopped = cluster.hurtig(&["cluster", "stop"]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    assert!(!run.wait_with_output().unwrap().status.success());
}
