//! Jobs that end with who waits for them, and those that do not.

use crate::ha::{Place, Servers, file_store};
use crate::kit::*;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a client may be silent here.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Waits for a job that has no end, with these settings.
fn wait_for_a_job(mut command: Command, dir: &Path, settings: &[&str]) -> Child {
    let (out, checkpoints) = (dir.join("out"), dir.join("checkpoints"));
    for setting in with_checkpoints(&checkpoints) {
        command.args(["-D", &setting]);
    }
    for setting in settings {
        command.args(["-D", setting]);
    }
    command
        .arg(artifact("numbered"))
        .args([out.to_str().unwrap(), "100000000", "100"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

const ENDS_WITH_IT: [&str; 3] = [
    "execution.shutdown-on-attached-exit=true",
    "client.heartbeat.interval=200ms",
    "client.heartbeat.timeout=3s",
];

fn killed(mut client: Child) {
    client.kill().unwrap();
    client.wait().unwrap();
}

/// For longer than a client may be silent.
fn stays(what: &str, is: impl Fn() -> bool) {
    let begin = now();
    until(what, || {
        assert!(is(), "{what}: not any more after {:?}", begin.elapsed());
        (begin.elapsed() > TIMEOUT + Duration::from_secs(2)).then_some(())
    });
}

#[test]
fn a_job_ends_with_the_client_that_is_killed_if_it_was_to_and_another_one_does_not() {
    let cluster = Cluster::start(2, 2);
    let dirs = ["one", "other"].map(|name| cluster.path().join(name));
    let goes_on = wait_for_a_job(cluster.command(&["run"]), &dirs[1], &ENDS_WITH_IT[1..]);
    let left = until("RUNNING", || cluster.job_in("RUNNING"));
    let ends = wait_for_a_job(cluster.command(&["run"]), &dirs[0], &ENDS_WITH_IT);
    let state = |job: &str| {
        cluster.get(&format!("/jobs/{job}"))["state"]
            .as_str()
            .map(str::to_owned)
    };
    let running = |job: &str| state(job).as_deref() == Some("RUNNING");
    let job = until("another job", || {
        let jobs = cluster.get("/jobs");
        let mut jobs = jobs["jobs"].as_array().unwrap().iter();
        let job = jobs.find_map(|job| job["id"].as_str().filter(|id| *id != left).map(str::to_owned))?;
        running(&job).then_some(job)
    });
    stays("it runs while its client says that it is there", || running(&job));
    killed(goes_on);
    killed(ends);
    let begin = now();
    until("it is CANCELED", || {
        (state(&job).as_deref() == Some("CANCELED")).then_some(())
    });
    let after = begin.elapsed();
    println!("a killed client: {after:?} until its job was CANCELED");
    assert!(after >= TIMEOUT - Duration::from_secs(1), "{after:?}: too soon");
    assert!(
        cluster.logs().contains("client.heartbeat.timeout"),
        "the log says why"
    );
    assert!(running(&left), "nobody has said that it ends with its client");
    let of = |job: &str, body: &[u8]| {
        let path = format!("/jobs/{job}/clientHeartbeat");
        cluster.answer("PATCH", &path, &[], body).0
    };
    assert_eq!(of(&left, br#"{"expiredTimestamp": 0}"#), 202);
    assert_eq!(of(&job, b""), 202, "it has ended");
    assert_eq!(of(&job.replace(|_| true, "0"), b""), 404);
    assert_eq!(of(&left, br#"{"expiredTimestamp": "soon"}"#), 400);
    stays(
        "a heartbeat changes nothing of a job that goes on without its client",
        || running(&left),
    );
}

#[test]
fn a_job_is_cancelled_when_its_client_is_interrupted() {
    let cluster = Cluster::start(1, 2);
    let command = cluster.command(&["run", "--shutdown-on-attached-exit"]);
    let client = wait_for_a_job(command, cluster.path(), &[]);
    let job = until("RUNNING", || cluster.job_in("RUNNING"));
    kill(client.id(), "INT");
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("CANCELED"), "{}", text(&output));
    assert_eq!(cluster.job_in("CANCELED"), Some(job));
}

#[test]
fn the_next_leader_knows_which_job_ends_with_its_client() {
    let mut servers = Servers::new(&file_store());
    let place = Place::any();
    let jobmanager = servers.jobmanager("jobmanager", place);
    servers.task_manager("taskmanager", &[place], 2);
    until("a TaskManager", || servers.log("registered stamp").then_some(()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_hurtig"));
    command.args(["run", &format!("--rest=http://127.0.0.1:{}", place.rest)]);
    let client = wait_for_a_job(command, &servers.path("job"), &ENDS_WITH_IT);
    let state = |servers: &Servers| servers.state(place);
    let running = |servers: &Servers| state(servers).as_deref() == Some("RUNNING");
    until("RUNNING", || running(&servers).then_some(()));
    servers.kill(jobmanager);
    let jobmanager = servers.jobmanager("jobmanager", place);
    until("RUNNING again", || running(&servers).then_some(()));
    stays("its client is heard by the next leader", || running(&servers));
    // Both at once: nobody was there who has noticed.
    servers.kill(jobmanager);
    killed(client);
    servers.jobmanager("jobmanager", place);
    until("it is CANCELED", || {
        (state(&servers).as_deref() == Some("CANCELED")).then_some(())
    });
}
