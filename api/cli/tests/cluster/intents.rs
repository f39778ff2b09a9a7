//! What was answered with 202 is never forgotten: stops, savepoints, checkpoints and artifacts, whoever is killed.

use crate::etcd_process::Etcd;
use crate::ha::*;
use crate::kit::*;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

const TRIGGER: &str = "0123456789abcdef0123456789abcdef";

/// What the REST API of a jobmanager answers, if there is one.
fn ask(place: Place, method: &str, path: &str, headers: &str, body: &[u8]) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", place.rest)).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let status = String::from_utf8_lossy(&answer[..end])
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some((
        status,
        serde_json::from_slice(&answer[end + 4..]).unwrap_or_default(),
    ))
}

fn get(place: Place, path: &str) -> Option<Value> {
    let (status, answer) = ask(place, "GET", path, "", b"")?;
    (status == 200).then_some(answer)
}

fn post(place: Place, path: &str, body: &Value) -> (u16, Value) {
    until("an answer", || {
        ask(place, "POST", path, "", body.to_string().as_bytes())
    })
}

fn the_job(servers: &Servers, place: Place) -> String {
    let jobs = until("a job", || servers.jobs(place).filter(|jobs| !jobs.is_empty()));
    jobs[0]["jid"].as_str().unwrap().to_owned()
}

/// Savepoints of a directory that are complete.
fn savepoints(dir: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(dir).into_iter().flatten();
    let paths = folders.map(|folder| folder.unwrap().path());
    let complete = paths.filter(|path| path.join("_metadata").exists());
    complete.map(|path| path.display().to_string()).collect()
}

fn completed(place: Place, path: &str) -> Value {
    until("it is over", || {
        let answer = get(place, path)?;
        (answer["status"]["id"] == "COMPLETED").then_some(answer)
    })
}

/// A cluster with a job that has a checkpoint.
struct Running {
    servers: Servers,
    place: Place,
    jobmanager: u32,
    task_manager: u32,
    job: String,
}

impl Running {
    fn begin(count: u64) -> Self {
        let mut servers = Servers::new(&file_store());
        let place = Place::any();
        let jobmanager = servers.jobmanager("jobmanager", place);
        let task_manager = servers.task_manager("taskmanager", &[place], 2);
        let (_, checkpoints) = numbers(&servers, place, count);
        checkpoint(&checkpoints, 0);
        let job = the_job(&servers, place);
        Self {
            servers,
            place,
            jobmanager,
            task_manager,
            job,
        }
    }

    fn restart_the_jobmanager(&mut self) {
        self.servers.kill(self.jobmanager);
        self.jobmanager = self.servers.jobmanager("jobmanager", self.place);
    }

    fn restart_everything(&mut self) {
        self.servers.kill(self.jobmanager);
        self.servers.kill(self.task_manager);
        self.jobmanager = self.servers.jobmanager("jobmanager", self.place);
        self.task_manager = self.servers.task_manager("taskmanager", &[self.place], 2);
    }

    fn of_job(&self, path: &str) -> String {
        format!("/jobs/{}{path}", self.job)
    }

    fn is(&self, state: &str) {
        until(state, || {
            (self.servers.state(self.place).as_deref() == Some(state)).then_some(())
        });
    }

    /// The job goes on from where it was stopped, and nothing is lost or written twice.
    fn goes_on_from(&self, savepoint: &str, count: u64) {
        let out = self.servers.path("out");
        let mut settings = with_checkpoints(&self.servers.path("checkpoints"));
        settings.push(format!("execution.state-recovery.path={savepoint}"));
        let args = [out.to_str().unwrap(), &count.to_string(), "100000"];
        self.servers.run(self.place, &settings, "numbered", &args);
        until("all are finished", || {
            let jobs = self.servers.jobs(self.place)?;
            let finished = jobs.iter().all(|job| job["state"] == "FINISHED");
            (jobs.len() == 2 && finished).then_some(())
        });
        check_numbers(&out, count);
    }
}

#[test]
fn a_stop_is_obeyed_by_whoever_comes_after_those_who_were_asked() {
    let mut running = Running::begin(200_000);
    let place = running.place;
    let target = running.servers.path("savepoints");
    // It can hear of nothing.
    kill(running.servers.processes("job-master")[0], "STOP");
    let body = json!({ "targetDirectory": target, "triggerId": TRIGGER });
    let (status, answer) = post(place, &running.of_job("/stop"), &body);
    assert_eq!(
        (status, &answer["request-id"]),
        (202, &json!(TRIGGER)),
        "{answer}"
    );
    let path = running.of_job(&format!("/savepoints/{TRIGGER}"));
    let under_way = get(place, &path).unwrap();
    assert_eq!(under_way["status"]["id"], "IN_PROGRESS");
    running.restart_everything();
    running.is("FINISHED");
    let over = completed(place, &path);
    let location = over["operation"]["location"].as_str().unwrap().to_owned();
    assert_eq!(
        savepoints(&target),
        std::slice::from_ref(&location),
        "one, and no other"
    );
    // The same request again is the same savepoint, also when another one leads.
    assert_eq!(post(place, &running.of_job("/stop"), &body).0, 202);
    running.restart_the_jobmanager();
    assert_eq!(post(place, &running.of_job("/stop"), &body).0, 202);
    assert_eq!(completed(place, &path), over);
    let other = json!({ "targetDirectory": target, "triggerId": TRIGGER.replace('0', "1") });
    assert_eq!(
        post(place, &running.of_job("/stop"), &other).0,
        409,
        "it has ended"
    );
    assert_eq!(savepoints(&target).len(), 1);
    running.goes_on_from(&location, 200_000);
}

/// At whatever moment behind its savepoint: the job comes to its end, once.
#[test]
fn a_stop_ends_whoever_is_killed_behind_its_savepoint() {
    for everything in [false, true] {
        let mut running = Running::begin(200_000);
        let place = running.place;
        let target = running.servers.path("savepoints");
        let body = json!({ "targetDirectory": target, "triggerId": TRIGGER });
        assert_eq!(post(place, &running.of_job("/stop"), &body).0, 202);
        until("the savepoint", || {
            (!savepoints(&target).is_empty()).then_some(())
        });
        match everything {
            true => running.restart_everything(),
            false => {
                let masters = running.servers.processes("job-master");
                masters.into_iter().for_each(|master| kill(master, "KILL"));
            }
        }
        running.is("FINISHED");
        let over = completed(place, &running.of_job(&format!("/savepoints/{TRIGGER}")));
        let location = over["operation"]["location"].as_str().unwrap().to_owned();
        assert!(savepoints(&target).contains(&location), "{over}");
        running.goes_on_from(&location, 200_000);
    }
}

#[test]
fn what_has_come_of_a_request_is_known_to_the_next_leader() {
    let mut running = Running::begin(100_000_000);
    let place = running.place;
    let target = running.servers.path("savepoints");
    let (status, answer) = post(
        place,
        &running.of_job("/savepoints"),
        &json!({ "target-directory": target }),
    );
    assert_eq!(status, 202, "{answer}");
    let savepoint = running.of_job(&format!("/savepoints/{}", answer["request-id"].as_str().unwrap()));
    let (status, answer) = post(
        place,
        &running.of_job("/checkpoints"),
        &json!({ "triggerId": TRIGGER }),
    );
    assert_eq!(status, 202, "{answer}");
    let checkpoint = running.of_job(&format!("/checkpoints/{TRIGGER}"));
    let failing = TRIGGER.replace('0', "f");
    let body = json!({ "triggerId": failing });
    assert_eq!(
        post(place, &running.of_job("/savepoints"), &body).0,
        202,
        "nobody said where it goes"
    );
    let failed = running.of_job(&format!("/savepoints/{failing}"));
    let before = [&savepoint, &checkpoint, &failed].map(|path| completed(place, path));
    assert_eq!(before[0]["operation"]["location"], json!(savepoints(&target)[0]));
    assert!(
        before[1]["operation"]["checkpointId"].as_u64() > Some(0),
        "{}",
        before[1]
    );
    assert!(before[2].to_string().contains("savepoint-dir"), "{}", before[2]);
    // Other requests than savepoints have other ids.
    let strange = running.of_job(&format!("/savepoints/{TRIGGER}"));
    assert_eq!(ask(place, "GET", &strange, "", b"").unwrap().0, 404);
    let path = savepoints(&target)[0].clone();
    let (status, answer) = post(place, "/savepoint-disposal", &json!({ "savepoint-path": path }));
    assert_eq!(status, 200, "{answer}");
    let disposal = format!("/savepoint-disposal/{}", answer["request-id"].as_str().unwrap());
    let disposed = completed(place, &disposal);
    assert!(disposed["operation"]["failure-cause"].is_null() && savepoints(&target).is_empty());
    running.restart_the_jobmanager();
    running.is("RUNNING");
    let after = [&savepoint, &checkpoint, &failed].map(|path| completed(place, path));
    assert_eq!(before, after);
    assert_eq!(completed(place, &disposal), disposed);
    // A savepoint after which the job is cancelled.
    let body =
        json!({ "target-directory": target, "cancel-job": true, "triggerId": TRIGGER.replace('0', "e") });
    assert_eq!(post(place, &running.of_job("/savepoints"), &body).0, 202);
    running.is("CANCELED");
    assert_eq!(savepoints(&target).len(), 1);
}

#[test]
fn artifacts_are_listed_run_and_deleted_under_another_leader() {
    let mut servers = Servers::new(&file_store());
    let place = Place::any();
    let mut jobmanager = servers.jobmanager("jobmanager", place);
    servers.task_manager("taskmanager", &[place], 2);
    until("a TaskManager", || servers.log("registered stamp").then_some(()));
    let form = upload_of("numbered", "numbered");
    let multipart = "Content-Type: multipart/form-data; boundary=end\r\n";
    let (status, uploaded) = until("an upload", || {
        ask(place, "POST", "/jars/upload", multipart, &form)
    });
    assert_eq!(status, 200, "{uploaded}");
    let id = uploaded_id(&uploaded);
    let before = get(place, "/jars").unwrap();
    assert_eq!(before["files"][0]["id"], json!(id));
    servers.kill(jobmanager);
    jobmanager = servers.jobmanager("jobmanager", place);
    let after = until("the list", || get(place, "/jars"));
    assert_eq!(after["files"], before["files"]);
    until("the TaskManager is back", || {
        let overview = get(place, "/overview")?;
        (overview["slots-total"] == 2).then_some(())
    });
    let out = servers.path("out");
    let body = json!({ "programArgsList": [out, "1000", "100000"] });
    let (status, run) = post(place, &format!("/jars/{id}/run"), &body);
    assert_eq!(status, 200, "{run}");
    until("it is finished", || {
        (servers.state(place).as_deref() == Some("FINISHED")).then_some(())
    });
    check_numbers(&out, 1_000);
    let deleted = until("an answer", || {
        ask(place, "DELETE", &format!("/jars/{id}"), "", b"")
    });
    assert_eq!(deleted.0, 200, "{}", deleted.1);
    servers.kill(jobmanager);
    servers.jobmanager("jobmanager", place);
    let list = until("the list", || get(place, "/jars"));
    assert_eq!(list["files"], json!([]));
    assert_eq!(post(place, &format!("/jars/{id}/run"), &body).0, 404);
}

/// Whoever asks for a decision hears at once that there is none; whoever looks sees.
#[test]
fn without_its_store_a_jobmanager_says_so_at_once() {
    let Some(etcd) = Etcd::start() else { return };
    let line = Line::to(etcd.port());
    let settings = [
        "high-availability.type=etcd".to_owned(),
        format!("high-availability.etcd.endpoints=http://127.0.0.1:{}", line.port),
    ];
    let mut servers = Servers::new(&settings);
    let place = Place::any();
    servers.jobmanager("jobmanager", place);
    servers.task_manager("taskmanager", &[place], 2);
    let (_, checkpoints) = numbers(&servers, place, 100_000_000);
    checkpoint(&checkpoints, 0);
    let job = the_job(&servers, place);
    line.cut.store(true, Relaxed);
    // One that had begun before is not left to wait either.
    let cancel = format!("/jobs/{job}");
    let begin = now();
    let (status, answer) = ask(place, "PATCH", &cancel, "", b"").unwrap();
    let waited = begin.elapsed();
    assert_eq!(status, 503, "{answer}");
    assert!(waited.as_secs() < 9, "{waited:?}: {answer}");
    assert!(answer.to_string().contains("not known yet whether"), "{answer}");
    // The quickest of three: who asks the store waits 2 s for it each time.
    let refused = (0..3).map(|_| {
        let begin = now();
        let (status, answer) = ask(place, "PATCH", &cancel, "", b"").unwrap();
        assert!(
            status == 503 && answer.to_string().contains("running jobs go on"),
            "{status}: {answer}"
        );
        begin.elapsed()
    });
    let waited = refused.min().unwrap();
    println!("a request of a suspended jobmanager: {waited:?}");
    assert!(waited.as_secs() < 2, "{waited:?}");
    assert!(get(place, "/jobs").is_some(), "who looks sees");
    line.cut.store(false, Relaxed);
    until("it is cancelled", || {
        let (status, _) = ask(place, "PATCH", &cancel, "", b"")?;
        (status == 202 || status == 409).then_some(())
    });
    until("it is cancelled", || {
        (servers.state(place).as_deref() == Some("CANCELED")).then_some(())
    });
}

/// What the JobMaster never heard of.
#[test]
fn what_is_required_of_a_job_holds_when_everything_was_killed() {
    let mut running = Running::begin(100_000_000);
    let path = running.of_job("/resource-requirements");
    let mut wanted = get(running.place, &path).unwrap();
    for (_, vertex) in wanted.as_object_mut().unwrap() {
        assert_eq!(vertex["parallelism"], json!({ "lowerBound": 2, "upperBound": 2 }));
        vertex["parallelism"] = json!({ "lowerBound": 1, "upperBound": 1 });
    }
    kill(running.servers.processes("job-master")[0], "STOP");
    let body = wanted.to_string();
    let (status, answer) = ask(running.place, "PUT", &path, "", body.as_bytes()).unwrap();
    assert_eq!(status, 200, "{answer}");
    running.restart_everything();
    let known = until("it is known", || get(running.place, &path));
    assert_eq!(known, wanted);
    until("it runs so", || {
        let detail = get(running.place, &running.of_job(""))?;
        let mut vertices = detail["vertices"].as_array()?.iter();
        let narrow = vertices.all(|vertex| vertex["parallelism"] == 1 && vertex["status"] == "RUNNING");
        (narrow && detail["state"] == "RUNNING").then_some(())
    });
}
