//! What the REST API answers, against the OpenAPI document that it has: statuses, names of fields, types, and what may be null.

use crate::document::{Document, Operation};
use crate::kit::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const NOT_SERVED: &str = include_str!("../../../rest/not-served.tsv");
/// An id that nothing has.
const NOBODY: &str = "00000000000000000000000000000000";

/// What Flink has and is not here.
fn not_served() -> BTreeSet<Operation> {
    let lines = NOT_SERVED
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let operation = |line: &str| {
        let [method, path, _] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        (method.to_owned(), path.to_owned())
    };
    lines.map(operation).collect()
}

/// What names in paths stand for: of each, all that there are.
#[derive(Clone, Default)]
struct Names(BTreeMap<&'static str, Vec<String>>);

impl Names {
    fn with(&self, name: &'static str, values: Vec<String>) -> Self {
        let mut names = self.clone();
        names.0.insert(name, values);
        names
    }

    /// A path for every choice of what its names stand for.
    fn fill(&self, path: &str) -> Vec<String> {
        let mut filled = vec![path.to_owned()];
        for (name, values) in &self.0 {
            let hole = format!("{{{name}}}");
            if path.contains(&hole) {
                let all = filled.iter();
                filled = all
                    .flat_map(|path| values.iter().map(|value| path.replace(&hole, value)))
                    .collect();
            }
        }
        filled
    }
}

/// A cluster with a job that runs, and one that has finished, failed, and was cancelled.
struct World {
    cluster: Cluster,
    run: std::process::Child,
    running: String,
    finished: String,
    failed: String,
    cancelled: String,
}

impl World {
    fn start() -> Self {
        let cluster = Cluster::start(2, 2);
        let checkpoints = cluster.path().join("checkpoints");
        let mut settings = with_checkpoints(&checkpoints);
        settings.retain(|setting| !setting.contains("attempts"));
        settings.push("restart-strategy.fixed-delay.attempts=1".to_owned());
        let output = cluster
            .run(&settings, "watched", &["1000", "1000000"])
            .wait_with_output()
            .unwrap();
        assert!(output.status.success(), "{}\n{}", text(&output), cluster.logs());
        let finished = cluster.last_job();
        let output = cluster
            .run(&settings, "watched", &["1000", "10000", "500"])
            .wait_with_output()
            .unwrap();
        assert!(!output.status.success(), "{}", text(&output));
        let failed = cluster.last_job();
        let run = cluster.run(&settings, "watched", &["100000000", "1000"]);
        let cancelled = until("RUNNING", || cluster.job_in("RUNNING"));
        // It is kept when its job is cancelled.
        until("a checkpoint", || {
            let statistics = cluster.get(&format!("/jobs/{cancelled}/checkpoints"));
            (statistics["counts"]["completed"].as_u64() > Some(0)).then_some(())
        });
        assert!(cluster.hurtig(&["cancel", &cancelled]).status.success());
        run.wait_with_output().unwrap();
        let run = cluster.run(&settings, "watched", &["100000000", "1000"]);
        let running = until("RUNNING", || cluster.job_in("RUNNING"));
        until("tasks have reported, and a checkpoint is complete", || {
            let detail = cluster.get(&format!("/jobs/{running}"));
            let metrics = detail["vertices"]
                .as_array()?
                .iter()
                .map(|vertex| &vertex["metrics"]);
            let counted = |one: &Value| {
                one["read-records"].as_u64() > Some(0) || one["write-records"].as_u64() > Some(0)
            };
            let reported = metrics.collect::<Vec<_>>().into_iter().all(counted);
            let statistics = cluster.get(&format!("/jobs/{running}/checkpoints"));
            (reported && statistics["counts"]["completed"].as_u64() > Some(1)).then_some(())
        });
        Self {
            cluster,
            run,
            running,
            finished,
            failed,
            cancelled,
        }
    }

    /// A job that has failed and waits long before it starts again.
    fn fail_and_wait(&self) -> (std::process::Child, String) {
        let mut settings = with_checkpoints(&self.cluster.path().join("checkpoints-of-another"));
        settings.retain(|setting| !setting.starts_with("restart-strategy"));
        settings.push("restart-strategy.type=fixed-delay".to_owned());
        settings.push("restart-strategy.fixed-delay.attempts=1".to_owned());
        settings.push("restart-strategy.fixed-delay.delay=1 h".to_owned());
        let run = self.cluster.run(&settings, "watched", &["1000", "10000", "500"]);
        (run, until("RESTARTING", || self.cluster.job_in("RESTARTING")))
    }

    fn jobs(&self) -> [&String; 4] {
        [&self.running, &self.finished, &self.failed, &self.cancelled]
    }

    fn end(self) {
        assert!(self.cluster.hurtig(&["cancel", &self.running]).status.success());
        self.run.wait_with_output().unwrap();
    }

    /// Names that belong to one job.
    fn names_of(&self, job: &str) -> Names {
        let detail = self.cluster.get(&format!("/jobs/{job}"));
        let vertices = detail["vertices"].as_array().unwrap().iter();
        let vertices = vertices
            .map(|vertex| vertex["id"].as_str().unwrap().to_owned())
            .collect();
        let statistics = self.cluster.get(&format!("/jobs/{job}/checkpoints"));
        let history = statistics["history"].as_array().unwrap().iter();
        let complete = history.filter(|one| one["status"] == "COMPLETED");
        let ids: Vec<String> = complete.map(|one| one["id"].to_string()).take(1).collect();
        Names::default()
            .with("jobid", vec![job.to_owned()])
            .with("applicationid", vec![job.to_owned()])
            .with("vertexid", vertices)
            .with("subtaskindex", vec!["0".to_owned(), "1".to_owned()])
            .with("attempt", vec!["0".to_owned()])
            .with("checkpointid", ids)
    }

    fn task_managers(&self) -> Vec<String> {
        let known = self.cluster.get("/taskmanagers");
        let all = known["taskmanagers"].as_array().unwrap().iter();
        all.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }

    fn posted(&self, path: &str, body: &Value) -> String {
        let answer = self
            .cluster
            .request("POST", path, &[], body.to_string().as_bytes());
        let id = answer["request-id"].as_str();
        id.unwrap_or_else(|| panic!("{path}: {answer}")).to_owned()
    }

    /// Waits for what a request has begun.
    fn done(&self, path: &str) -> Value {
        until(path, || {
            let answer = self.cluster.get(path);
            (answer["status"]["id"] == "COMPLETED").then_some(answer)
        })
    }
}

/// Asks for every path, and says what is wrong with the answers.
fn examine(world: &World, document: &Document, operation: &Operation, paths: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    for path in paths {
        let (status, body) = world.cluster.answer(&operation.0, path, &[], b"");
        let mut found = document.check(operation, status, &body);
        // A job has a worker at some TaskManagers only.
        let is_elsewhere = path.contains("/taskmanagers/") && path.ends_with("/log-url") && status == 404;
        if status != document.success(operation) && !is_elsewhere {
            found.push(format!("status {status}: {}", String::from_utf8_lossy(&body)));
        }
        let name = format!("{} {path}", operation.0);
        problems.extend(found.into_iter().map(|problem| format!("{name}: {problem}")));
    }
    problems
}

#[test]
fn every_path_answers_as_the_contract_says_or_is_listed_as_missing() {
    let world = World::start();
    let (document, missing) = (Document::of(&world.cluster), not_served());
    let (waits, restarting) = world.fail_and_wait();
    let target = world.cluster.path().join("savepoints");
    let savepoints = format!("/jobs/{}/savepoints", world.running);
    let savepoint = world.posted(
        &savepoints,
        &json!({ "target-directory": target.to_str().unwrap() }),
    );
    let location = world.done(&format!("{savepoints}/{savepoint}"))["operation"]["location"].clone();
    let checkpoints = format!("/jobs/{}/checkpoints", world.running);
    let checkpoint = world.posted(&checkpoints, &json!({ "checkpointType": "FULL" }));
    world.done(&format!("{checkpoints}/{checkpoint}"));
    assert!(
        location
            .as_str()
            .is_some_and(|path| std::path::Path::new(path).exists())
    );
    let disposal = world.posted("/savepoint-disposal", &json!({ "savepoint-path": location }));
    world.done(&format!("/savepoint-disposal/{disposal}"));
    assert!(!std::path::Path::new(location.as_str().unwrap()).exists());
    refuse_disposal_of_checkpoints(&world);
    // There is none, and so there is none afterwards.
    let deletion = world
        .cluster
        .request("DELETE", &format!("/datasets/{NOBODY}"), &[], b"");
    let dataset = deletion["request-id"].as_str().unwrap().to_owned();
    let deleted = world.done(&format!("/datasets/delete/{dataset}"));
    assert_eq!(deleted["operation"], json!({}));
    let of_cluster = Names::default().with("taskmanagerid", world.task_managers());
    let (mut problems, mut examined) = (Vec::new(), BTreeSet::new());
    for operation in &document.operations() {
        let (method, path) = operation;
        // A plan runs a program, and is asked for where that is tested.
        if method != "GET" || path.ends_with("/{jarid}/plan") {
            continue;
        }
        let paths = match path.as_str() {
            path if path.contains("{triggerid}") => {
                let trigger = match path {
                    _ if path.contains("/savepoints/") => &savepoint,
                    _ if path.contains("/checkpoints/") => &checkpoint,
                    _ if path.contains("/datasets/") => &dataset,
                    _ => &disposal,
                };
                let names = of_cluster.with("triggerid", vec![trigger.clone()]);
                names.with("jobid", vec![world.running.clone()]).fill(path)
            }
            path if path.contains("/taskmanagers/{taskmanagerid}/logs/") => {
                let of_one = |id: &String| {
                    let logs = world.cluster.get(&format!("/taskmanagers/{id}/logs"));
                    let name = logs["logs"][0]["name"].as_str().unwrap().to_owned();
                    path.replace("{taskmanagerid}", id).replace("{filename}", &name)
                };
                world.task_managers().iter().map(of_one).collect()
            }
            // A job that has ended has none.
            "/jobs/{jobid}/resource-requirements" => {
                vec![format!("/jobs/{}/resource-requirements", world.running)]
            }
            "/jobmanager/logs/{filename}" => vec!["/jobmanager/logs/jobmanager.log".to_owned()],
            path if path.contains("{jobid}") || path.contains("{applicationid}") => {
                let jobs = world.jobs().into_iter().chain([&restarting]);
                let of_one = |job| world.names_of(job).with("taskmanagerid", world.task_managers());
                jobs.flat_map(|job| of_one(job).fill(path)).collect()
            }
            path => of_cluster.fill(path),
        };
        assert!(
            !paths.is_empty() && !paths[0].contains('{'),
            "{method} {path} was not asked: {paths:?}"
        );
        problems.extend(examine(&world, &document, operation, &paths));
        examined.insert(operation.clone());
    }
    // The others change something, and are asked where that is tested.
    for operation in &missing {
        let path = world.names_of(&world.running).fill(&operation.1).remove(0);
        let path = path.replace("{taskmanagerid}", &world.task_managers()[0]);
        let (status, body) = world.cluster.answer(&operation.0, &path, &[], b"");
        let refused = matches!(status, 404 | 405);
        if !refused {
            problems.push(format!(
                "{operation:?} is listed as missing, and answers {status}"
            ));
        }
        check_error(&body);
    }
    let described: BTreeSet<Operation> = document.operations().into_iter().collect();
    let strange = missing.intersection(&described);
    problems.extend(strange.map(|operation| format!("{operation:?} is missing, and in the document")));
    let status = world.cluster.get(&format!("/jobs/{restarting}/status"));
    assert_eq!(status["status"], "RESTARTING", "it was asked while it waits");
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
    assert!(examined.len() > 55, "{examined:?}");
    assert!(world.cluster.hurtig(&["cancel", &restarting]).status.success());
    waits.wait_with_output().unwrap();
    world.end();
}

/// Who deletes savepoints deletes none of a job's checkpoints, and nothing that is no savepoint.
fn refuse_disposal_of_checkpoints(world: &World) {
    let statistics = world
        .cluster
        .get(&format!("/jobs/{}/checkpoints", world.cancelled));
    let checkpoint = statistics["latest"]["completed"]["external_path"]
        .as_str()
        .unwrap();
    for path in [checkpoint, "/", "/etc", "/etc/passwd"] {
        let (status, body) = world.cluster.answer(
            "POST",
            "/savepoint-disposal",
            &[],
            json!({ "savepoint-path": path }).to_string().as_bytes(),
        );
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let done = world.done(&format!(
            "/savepoint-disposal/{}",
            answer["request-id"].as_str().unwrap()
        ));
        assert!(done["operation"]["failure-cause"].is_object(), "{path}: {done}");
        assert!(std::path::Path::new(path).exists(), "{path}");
    }
    let (status, body) = world.cluster.answer(
        "POST",
        "/savepoint-disposal",
        &[],
        br#"{"savepoint-path":"relative"}"#,
    );
    assert_eq!(status, 400);
    check_error(&body);
}

/// Errors are a list of sentences, and show nothing of the inside.
#[track_caller]
fn check_error(body: &[u8]) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let errors = body["errors"].as_array().unwrap();
    assert!(
        body.as_object().unwrap().len() == 1 && errors.len() == 1,
        "{body}"
    );
    let text = errors[0].as_str().unwrap();
    assert!(
        !text.is_empty() && !text.contains(".rs:") && !text.contains('\n'),
        "{text}"
    );
}

#[test]
fn unknown_names_are_404_malformed_ones_400_and_strangers_403() {
    let world = World::start();
    let document = Document::of(&world.cluster);
    let names = world
        .names_of(&world.running)
        .with("taskmanagerid", world.task_managers());
    let bad = [
        ("jobid", "zzz", NOBODY),
        ("applicationid", "zzz", NOBODY),
        ("vertexid", "cb", NOBODY),
        ("subtaskindex", "-1", "99"),
        ("attempt", "x", "99"),
        ("checkpointid", "1e3", "999999999"),
        ("taskmanagerid", "tm1", NOBODY),
        ("triggerid", "zzz", NOBODY),
    ];
    let mut asked = 0;
    for operation in &document.operations() {
        let (method, path) = operation;
        for (name, malformed, unknown) in bad {
            if method != "GET" || !path.contains(&format!("{{{name}}}")) {
                continue;
            }
            for (value, expected) in [(malformed, 400), (unknown, 404)] {
                let names = names.with(name, vec![value.to_owned()]);
                let names = if name == "triggerid" {
                    names
                } else {
                    names.with("triggerid", vec![NOBODY.to_owned()])
                };
                let path = names
                    .with("filename", vec!["no.log".to_owned()])
                    .fill(path)
                    .remove(0);
                let (status, body) = world.cluster.answer(method, &path, &[], b"");
                assert_eq!(
                    status,
                    expected,
                    "{method} {path}: {}",
                    String::from_utf8_lossy(&body)
                );
                check_error(&body);
                let problems = document.check(operation, status, &body);
                assert!(problems.is_empty(), "{method} {path}: {problems:?}");
                asked += 1;
            }
        }
        let strangers = [("Host", "evil.example"), ("Origin", "http://evil.example")];
        for header in strangers {
            for version in ["", "/v1"] {
                let path = format!("{version}{}", names.fill(path).remove(0));
                let (status, body) = world.cluster.answer(method, &path, &[header], b"");
                assert_eq!(status, 403, "{method} {path} {header:?}");
                check_error(&body);
            }
        }
    }
    assert!(asked > 60, "{asked}");
    for strange in [
        "..%2f..%2fcluster.json",
        "%2fetc%2fpasswd",
        "cluster.json",
        "..%252fcluster.json",
    ] {
        let (status, _) = world
            .cluster
            .answer("GET", &format!("/jobmanager/logs/{strange}"), &[], b"");
        let expected = if strange.contains('%') { 400 } else { 404 };
        assert_eq!(status, expected, "{strange}");
    }
    let (status, body) = world.cluster.answer("PUT", "/overview", &[], b"");
    assert_eq!(status, 405);
    check_error(&body);
    let (status, body) = world.cluster.answer(
        "GET",
        &format!("/jobs/{}/exceptions?maxExceptions=x", world.failed),
        &[],
        b"",
    );
    assert_eq!(status, 400);
    check_error(&body);
    assert_eq!(world.cluster.get("/v1/overview"), world.cluster.get("/overview"));
    world.end();
}

/// The numbers of a job that has finished follow from its input.
#[test]
fn what_is_said_of_a_job_is_true() {
    let world = World::start();
    let get = |path: &str| world.cluster.get(path);
    let job = format!("/jobs/{}", world.finished);
    let detail = get(&job);
    let [source, watch] = &detail["vertices"].as_array().unwrap()[..] else {
        panic!("{detail}")
    };
    assert_eq!(
        (
            &source["metrics"]["write-records"],
            &watch["metrics"]["read-records"]
        ),
        (&json!(1_000), &json!(1_000))
    );
    assert_eq!(source["metrics"]["write-records-complete"], true);
    assert!(source["metrics"]["write-bytes"].as_u64() >= Some(1_000));
    // A source reads no channels. The other has read what was written, in the form in which it came.
    assert_eq!(source["metrics"]["read-bytes"], 0);
    assert!(watch["metrics"]["read-bytes"].as_u64() >= Some(1_000));
    assert_eq!(watch["metrics"]["read-bytes-complete"], true);
    for vertex in [source, watch] {
        let path = format!("{job}/vertices/{}", vertex["id"].as_str().unwrap());
        let subtasks = get(&path);
        let read = |subtask: &Value| subtask["metrics"]["read-records"].as_u64().unwrap();
        let all = subtasks["subtasks"].as_array().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(
            json!(all.iter().map(read).sum::<u64>()),
            vertex["metrics"]["read-records"]
        );
        assert_eq!(
            subtasks["aggregated"]["metrics"]["read-records"]["sum"],
            vertex["metrics"]["read-records"]
        );
        let places: BTreeSet<&str> = all
            .iter()
            .map(|one| one["taskmanager-id"].as_str().unwrap())
            .collect();
        assert!(
            places
                .iter()
                .all(|place| world.task_managers().iter().any(|known| known == place)),
            "{places:?}"
        );
        assert_eq!(get(&format!("{path}/subtasks/1"))["metrics"], all[1]["metrics"]);
    }
    let numbers = json!([{ "name": "numbers", "type": "LongCounter", "value": "1000" }]);
    assert_eq!(
        get(&format!("{job}/accumulators"))["user-task-accumulators"],
        numbers
    );
    let path = format!("{job}/vertices/{}/accumulators", watch["id"].as_str().unwrap());
    assert_eq!(get(&path)["user-accumulators"], numbers);
    // One that has failed twice, with a restart between: at the number that it was told to fail at.
    let failed = format!("/jobs/{}", world.failed);
    let history = get(&format!("{failed}/exceptions"));
    let entries = history["exceptionHistory"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    for entry in entries {
        assert!(
            entry["stacktrace"]
                .as_str()
                .unwrap()
                .contains("the number 500 is what it fails at"),
            "{entry}"
        );
        assert!(entry["taskName"].as_str().unwrap().ends_with("/2)"), "{entry}");
        assert!(
            world
                .task_managers()
                .contains(&entry["taskManagerId"].as_str().unwrap().to_owned()),
            "{entry}"
        );
    }
    for (query, wanted) in [
        ("failureLabelFilter=TYPE:USER", 2),
        ("failureLabelFilter=TYPE:SYSTEM", 0),
        ("maxExceptions=1", 1),
    ] {
        let history = get(&format!("{failed}/exceptions?{query}"));
        let found = history["exceptionHistory"]["entries"].as_array().unwrap();
        assert_eq!(found.len(), wanted, "{query}");
    }
    let watch = get(&failed)["vertices"][1]["id"].as_str().unwrap().to_owned();
    let subtasks = get(&format!("{failed}/vertices/{watch}"));
    assert_eq!(
        (
            &subtasks["subtasks"][0]["attempt"],
            &subtasks["subtasks"][1]["attempt"]
        ),
        (&json!(1), &json!(1))
    );
    let states = [0, 1].map(|index| {
        let attempt = get(&format!("{failed}/vertices/{watch}/subtasks/{index}/attempts/0"));
        attempt["status"].as_str().unwrap().to_owned()
    });
    assert!(
        states.contains(&"FAILED".to_owned()) && states.contains(&"CANCELED".to_owned()),
        "{states:?}"
    );
    where_logs_are(&world);
    of_running(&world);
    world.end();
}

/// The log of a JobMaster, and those of workers, are read where it is said.
fn where_logs_are(world: &World) {
    let job = format!("/jobs/{}", world.running);
    let read = |path: &str| {
        let (status, body) = world.cluster.answer("GET", path, &[], b"");
        let body: Value = serde_json::from_slice(&body).unwrap();
        let url = body["url"].as_str()?;
        assert_eq!(status, 200);
        let path = url.split_once("/taskmanagers/").unwrap().1;
        assert!(path.contains(&world.running), "{url}");
        let (status, _) = world
            .cluster
            .answer("GET", &format!("/taskmanagers/{path}"), &[], b"");
        assert_eq!(status, 200, "{url}");
        Some(())
    };
    read(&format!("{job}/jobmanager/log-url")).unwrap();
    let managers = world.task_managers();
    let mut workers = managers
        .iter()
        .map(|id| read(&format!("{job}/taskmanagers/{id}/log-url")));
    assert!(workers.any(|worker| worker.is_some()));
}

/// What is said of one that runs agrees, wherever it is said.
fn of_running(world: &World) {
    let get = |path: &str| world.cluster.get(path);
    let job = format!("/jobs/{}", world.running);
    let settings = get(&format!("{job}/checkpoints/config"));
    assert_eq!(
        (&settings["interval"], &settings["mode"]),
        (&json!(100), &json!("exactly_once"))
    );
    assert_eq!(
        get(&format!("{job}/config"))["execution-config"]["job-parallelism"],
        2
    );
    let known = get(&format!("{job}/checkpoints"));
    let last = &known["latest"]["completed"];
    // No record was overtaken, and everything was written anew.
    assert_eq!(last["persisted_data"], 0);
    assert_eq!(last["state_size"], last["checkpointed_size"]);
    let path = last["external_path"].as_str().unwrap();
    assert!(path.starts_with(world.cluster.path().to_str().unwrap()), "{path}");
    let id = last["id"].as_u64().unwrap();
    let full = get(&format!("{job}/checkpoints/details/{id}"));
    let tasks = full["tasks"].as_object().unwrap();
    assert_eq!((tasks.len(), &full["num_acknowledged_subtasks"]), (2, &json!(4)));
    let sizes = tasks.values().map(|task| task["state_size"].as_u64().unwrap());
    assert_eq!(json!(sizes.sum::<u64>()), full["state_size"]);
    for (vertex, task) in tasks {
        let subtasks = get(&format!("{job}/checkpoints/details/{id}/subtasks/{vertex}"));
        let all = subtasks["subtasks"].as_array().unwrap().iter();
        let sizes = all.clone().map(|one| one["state_size"].as_u64().unwrap());
        assert_eq!(json!(sizes.sum::<u64>()), task["state_size"]);
        for one in all {
            let parts = [
                &one["start_delay"],
                &one["alignment"]["duration"],
                &one["checkpoint"]["sync"],
            ];
            let parts = parts.map(|part| part.as_u64().unwrap());
            // Each is rounded down, and where the wall clock is read, so is that.
            let whole = one["end_to_end_duration"].as_u64().unwrap() + 3;
            assert!(parts.iter().sum::<u64>() <= whole, "{one}");
        }
    }
    let summary = &known["summary"]["end_to_end_duration"];
    assert!(
        summary["min"].as_u64() <= summary["avg"].as_u64()
            && summary["avg"].as_u64() <= summary["max"].as_u64()
    );
    let detail = get(&job);
    let [source, watch] = [0, 1].map(|at| detail["vertices"][at]["id"].as_str().unwrap().to_owned());
    let sum = |name: &str| {
        let all = get(&format!(
            "{job}/vertices/{watch}/subtasks/metrics?get={name}&agg=sum"
        ));
        all[0]["sum"].as_f64().unwrap()
    };
    until("records are counted", || {
        (sum("numRecordsIn") > 0.0).then_some(())
    });
    let one_by_one = get(&format!(
        "{job}/vertices/{watch}/metrics?get=0.numRecordsIn,1.numRecordsIn"
    ));
    assert_eq!(one_by_one.as_array().unwrap().len(), 2);
    let watermarks = until("event time", || {
        let watermarks = get(&format!("{job}/vertices/{watch}/watermarks"));
        let passed = watermarks
            .as_array()?
            .iter()
            .all(|one| one["value"].as_str().unwrap().parse::<i64>().unwrap() > 0);
        passed.then_some(watermarks)
    });
    assert_eq!(watermarks.as_array().unwrap().len(), 2);
    assert_eq!(get(&format!("{job}/vertices/{source}/watermarks")), json!([]));
    let shares = get(&format!("{job}/vertices/{source}/backpressure"));
    assert_eq!(
        (&shares["status"], &shares["backpressure-level"]),
        (&json!("ok"), &json!("ok"))
    );
    let all = get("/taskmanagers");
    let tasks = all["taskmanagers"].as_array().unwrap().iter();
    assert_eq!(
        tasks
            .map(|one| one["assignedTasks"].as_u64().unwrap())
            .sum::<u64>(),
        4
    );
    for id in world.task_managers() {
        let one = get(&format!("/taskmanagers/{id}"));
        let slots = one["allocatedSlots"].as_array().unwrap();
        assert_eq!(json!(slots.len()), json!(2 - one["freeSlots"].as_u64().unwrap()));
        assert!(
            slots
                .iter()
                .all(|slot| slot["assignedTasks"] == 2 && slot["jobId"] == *world.running),
            "{one}"
        );
        assert!(
            one["hardware"]["physicalMemory"].as_u64() > Some(1 << 28),
            "{one}"
        );
        assert!(one["metrics"]["heapUsed"].as_u64() > Some(1 << 20), "{one}");
    }
    let (_, log) = world.cluster.answer("GET", "/jobmanager/log", &[], b"");
    assert!(
        String::from_utf8_lossy(&log).contains("ready"),
        "the jobmanager has said so"
    );
}
