//! Savepoints from the command line, and what the REST API says of jobs.

use crate::kit::*;
use hurtig_s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};
use serde_json::json;

#[test]
fn a_job_stops_with_a_savepoint_and_goes_on_from_it() {
    let cluster = Cluster::start(1, 2);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let count = 20_000;
    let args = [out.to_str().unwrap(), &count.to_string(), "4000"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    checkpoint(&checkpoints, 0);
    let job = cluster.job_in("RUNNING").unwrap();
    let target = cluster.path().join("savepoints");
    let target = target.to_str().unwrap();
    let taken = cluster.hurtig(&["savepoint", &job, target]);
    assert!(taken.status.success(), "{}\n{}", text(&taken), cluster.logs());
    let said = text(&taken);
    let path = said.trim().strip_prefix("savepoint ").unwrap();
    assert!(
        path.starts_with(target) && std::path::Path::new(path).join("_metadata").exists(),
        "{path}"
    );
    assert_eq!(cluster.job_in("RUNNING").as_ref(), Some(&job), "it goes on");
    let stopped = cluster.hurtig(&["stop", &job, target]);
    assert!(stopped.status.success(), "{}\n{}", text(&stopped), cluster.logs());
    let said = text(&stopped);
    let path = said
        .trim()
        .strip_prefix("the job has stopped with savepoint ")
        .unwrap();
    finished(&cluster, run);
    let written = lines(&out).len();
    assert!(written > 0 && written < 20_000, "{written}");
    let again = cluster.hurtig(&["savepoint", &job, target]);
    assert!(text(&again).contains("has already ended"), "{}", text(&again));
    let mut command = cluster.command(&["run", "--restore", path]);
    for setting in with_checkpoints(&checkpoints) {
        command.args(["-D", &setting]);
    }
    let restored = command.arg(artifact("numbered")).args(args).output().unwrap();
    assert!(
        restored.status.success(),
        "{}\n{}",
        text(&restored),
        cluster.logs()
    );
    check_numbers(&out, count);
}

/// A stop leaves event time where it is; with a drain it ends.
#[test]
fn a_drain_over_rest_fires_what_waits_for_its_time() {
    let cluster = Cluster::start(1, 2);
    for (name, how, last) in [("suspended", &[][..], 0), ("drained", &["--drain"], 20)] {
        let (out, checkpoints) = (
            cluster.path().join(name),
            cluster.path().join(format!("{name}-c")),
        );
        let args = [out.to_str().unwrap(), "100000000", "4000", "LAST"];
        let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
        checkpoint(&checkpoints, 0);
        let job = cluster.job_in("RUNNING").unwrap();
        until("every key was there", || {
            let there = lines(&out).into_iter().filter(|line| line.ends_with(" 0"));
            (there.count() == 20).then_some(())
        });
        let target = cluster.path().join("savepoints");
        let stopped = cluster.hurtig(&[&["stop"], how, &[&*job, target.to_str().unwrap()]].concat());
        assert!(stopped.status.success(), "{}\n{}", text(&stopped), cluster.logs());
        finished(&cluster, run);
        let said = lines(&out).into_iter().filter(|line| line.ends_with(" last"));
        assert_eq!(said.count(), last, "{name}");
    }
}

#[test]
fn a_savepoint_without_a_place_says_what_to_do() {
    let cluster = Cluster::start(1, 1);
    let out = cluster.path().join("out");
    let run = cluster.run(&[], "numbered", &[out.to_str().unwrap(), "100000000", "1000"]);
    let job = until("RUNNING", || cluster.job_in("RUNNING"));
    let said = cluster.hurtig(&["savepoint", &job]);
    assert!(
        !said.status.success() && text(&said).contains("savepoint-dir"),
        "{}",
        text(&said)
    );
    assert_eq!(cluster.job_in("RUNNING").as_ref(), Some(&job), "it goes on");
    assert!(cluster.hurtig(&["cancel", &job]).status.success());
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(2));
}

#[test]
fn the_rest_api_says_what_runs_where() {
    let cluster = Cluster::start(2, 2);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let args = [out.to_str().unwrap(), "100000000", "1000"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    checkpoint(&checkpoints, 0);
    let job = until("RUNNING", || cluster.job_in("RUNNING"));
    let line = until("all tasks run", || {
        let jobs = cluster.get("/jobs/overview");
        let line = jobs["jobs"][0].clone();
        (line["tasks"]["running"] == line["tasks"]["total"]).then_some(line)
    });
    assert_eq!(
        (line["jid"].as_str(), line["name"].as_str()),
        (Some(&*job), Some("numbered"))
    );
    assert!(line["start-time"].as_i64().unwrap() > 1_600_000_000_000 && line["end-time"] == -1);
    let detail = cluster.get(&format!("/jobs/{job}"));
    let vertices = detail["vertices"].as_array().unwrap();
    assert_eq!(vertices.len(), detail["plan"]["nodes"].as_array().unwrap().len());
    assert!(
        vertices.iter().all(|vertex| vertex["status"] == "RUNNING"),
        "{detail}"
    );
    let total: u64 = vertices
        .iter()
        .map(|vertex| vertex["parallelism"].as_u64().unwrap())
        .sum();
    assert_eq!(line["tasks"]["total"], total);
    assert!(detail["timestamps"]["RUNNING"].as_i64() >= detail["start-time"].as_i64());
    let overview = cluster.get("/overview");
    assert_eq!(
        (&overview["taskmanagers"], &overview["slots-total"]),
        (&2.into(), &4.into())
    );
    assert_eq!(
        (&overview["slots-available"], &overview["jobs-running"]),
        (&2.into(), &1.into())
    );
    let task_managers = cluster.get("/taskmanagers");
    let free: Vec<u64> = task_managers["taskmanagers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["freeSlots"].as_u64().unwrap())
        .collect();
    assert!(free == [0, 2] || free == [2, 0], "{free:?}");
    let statistics = cluster.get(&format!("/jobs/{job}/checkpoints"));
    assert!(
        statistics["counts"]["completed"].as_u64() >= Some(1),
        "{statistics}"
    );
    assert!(cluster.hurtig(&["cancel", &job]).status.success());
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(2));
    let detail = cluster.get(&format!("/jobs/{job}"));
    assert_eq!(detail["state"], "CANCELED");
    assert_eq!(
        detail["duration"],
        detail["end-time"].as_i64().unwrap() - detail["start-time"].as_i64().unwrap()
    );
    assert!(
        detail["vertices"]
            .as_array()
            .unwrap()
            .iter()
            .all(|vertex| vertex["status"] == "CANCELED")
    );
}

/// Who asks again for the same job gets it, and another one does not get its id, whatever is wrong with its program.
fn taken_while_it_runs(cluster: &Cluster, id: &str, request: &serde_json::Value) {
    let (job, out) = ("ffeeddccbbaa99887766554433221100", cluster.path().join("taken"));
    let run = |how: &str, args: serde_json::Value| {
        let mut body = request.clone();
        body["programArgsList"] = args;
        body["jobId"] = job.into();
        let path = format!("/jars/{id}/{how}");
        let (status, answer) = cluster.answer("POST", &path, &[], body.to_string().as_bytes());
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        (status, answer)
    };
    let endless = json!([out, "100000000", "1000"]);
    let (status, answer) = run("run", endless.clone());
    assert_eq!((status, &answer["jobid"]), (200, &json!(job)), "{answer}");
    until("it writes", || out.exists().then_some(()));
    let (status, answer) = run("run", endless);
    assert_eq!(
        (status, &answer["jobid"]),
        (200, &json!(job)),
        "the same: {answer}"
    );
    for (how, args) in [
        ("run", json!(["nothing that it understands"])),
        ("run-application", json!([out, "1", "1"])),
    ] {
        let (status, answer) = run(how, args);
        let text = answer["errors"][0].as_str().unwrap();
        assert!(
            status == 409 && text.contains("already submitted as something else"),
            "{status} {answer}"
        );
    }
    assert!(cluster.hurtig(&["cancel", job]).status.success());
    until("CANCELED", || {
        let status = cluster.get(&format!("/jobs/{job}/status"));
        (status["status"] == "CANCELED").then_some(())
    });
}

/// Under the id that was chosen, as an application too; what cannot be done is refused and not left out.
fn runs_as_it_is_told(cluster: &Cluster, id: &str, request: &serde_json::Value) {
    let send = |how: &str, more: serde_json::Value| {
        let mut body = request.clone();
        body["programArgsList"][0] = cluster.path().join("chosen").to_str().unwrap().into();
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        let path = format!("/jars/{id}/{how}");
        let (status, answer) = cluster.answer("POST", &path, &[], body.to_string().as_bytes());
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        (status, answer)
    };
    let chosen = "00112233445566778899aabbccddeeff";
    for (wrong, says) in [
        (json!({ "entryClass": "com.example.Main" }), "one entry, `main`"),
        (json!({ "claimMode": "LEGACY" }), "NO_CLAIM"),
        (json!({ "jobId": "zzz" }), "32 hexadecimal digits"),
        (
            json!({ "jobId": chosen, "applicationId": &chosen.replace('0', "1") }),
            "an application is its job",
        ),
        (json!({ "parallelism": 0 }), "the parallelism is 0"),
        (json!({ "savePointPath": "/x" }), "unknown field `savePointPath`"),
    ] {
        let (status, answer) = send("run", wrong.clone());
        let text = answer["errors"][0].as_str().unwrap();
        assert!(status == 400 && text.contains(says), "{wrong}: {status} {text}");
    }
    let told =
        json!({ "entryClass": "main", "jobId": chosen, "claimMode": "NO_CLAIM", "savepointPath": null });
    let (status, answer) = send("run", told.clone());
    assert_eq!((status, &answer["jobid"]), (200, &json!(chosen)), "{answer}");
    until("FINISHED", || {
        let status = cluster.get(&format!("/jobs/{chosen}/status"));
        (status["status"] == "FINISHED").then_some(())
    });
    check_numbers(&cluster.path().join("chosen"), 1_000);
    taken_while_it_runs(cluster, id, request);
    let settings = cluster.get(&format!("/jobs/{chosen}/jobmanager/config"));
    let claim = json!({ "key": "execution.state-recovery.claim-mode", "value": "NO_CLAIM" });
    assert!(settings.as_array().unwrap().contains(&claim), "{settings}");
    // The id is taken, and the job is over: that is said, and not that the program would refuse to run, because its output is there.
    for how in ["run", "run-application"] {
        let (status, answer) = send(how, told.clone());
        let text = answer["errors"][0].as_str().unwrap();
        assert!(
            status == 409 && text.contains("has already ended: FINISHED"),
            "{status} {answer}"
        );
    }
    std::fs::remove_dir_all(cluster.path().join("chosen")).unwrap();
    let (status, answer) = send("run-application", json!({}));
    assert_eq!(status, 202, "{answer}");
    let application = answer["applicationid"].as_str().unwrap();
    until("the application has done what it is for", || {
        let known = cluster.get(&format!("/applications/{application}"));
        (known["id"] == application && known["status"] == "FINISHED").then_some(())
    });
    check_numbers(&cluster.path().join("chosen"), 1_000);
}

#[test]
fn artifacts_are_listed_run_and_forgotten() {
    let cluster = Cluster::start(1, 2);
    let out = cluster.path().join("out");
    let form = upload_of("numbered", "../num bered");
    let multipart = [("Content-Type", "multipart/form-data; boundary=end")];
    let uploaded = cluster.request("POST", "/jars/upload", &multipart, &form);
    assert_eq!(uploaded["status"], "success");
    let id = uploaded_id(&uploaded);
    assert!(
        id.ends_with("_.._num_bered"),
        "of the name, what can stand in a path: {id}"
    );
    let listed = cluster.get("/jars");
    assert_eq!(listed["files"][0]["id"].as_str(), Some(&*id));
    assert!(listed["files"][0]["uploaded"].as_i64().unwrap() > 1_600_000_000_000);
    let request = serde_json::json!({
        "programArgsList": [out.to_str().unwrap(), "1000", "100000"],
        "parallelism": 2,
        "flinkConfiguration": { "execution.checkpointing.interval": "1s",
            "execution.checkpointing.dir": cluster.path().join("checkpoints").to_str().unwrap() },
    });
    let body = request.to_string();
    let planned = cluster.request("POST", &format!("/jars/{id}/plan"), &[], body.as_bytes());
    assert_eq!(planned["plan"]["name"], "numbered");
    assert!(
        cluster.get("/jobs")["jobs"].as_array().unwrap().is_empty(),
        "it is not run"
    );
    let run = |id: &str| cluster.request("POST", &format!("/jars/{id}/run"), &[], body.as_bytes());
    let begun = run(&id);
    let job = begun["jobid"].as_str().unwrap().to_owned();
    until("FINISHED", || {
        cluster.job_in("FINISHED").filter(|finished| *finished == job)
    });
    check_numbers(&out, 1_000);
    let detail = cluster.get(&format!("/jobs/{job}"));
    let widest = detail["vertices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vertex| vertex["parallelism"].as_u64().unwrap())
        .max();
    assert_eq!(widest, Some(2));
    let nodes = |plan: &serde_json::Value| plan["plan"]["nodes"].clone();
    assert_eq!(nodes(&planned), nodes(&detail), "what was planned is what runs");
    assert_eq!(cluster.get(&format!("/jobs/{job}/plan"))["plan"], detail["plan"]);
    assert_eq!(cluster.get(&format!("/jobs/{job}/status"))["status"], "FINISHED");
    let result = cluster.get(&format!("/jobs/{job}/execution-result"));
    assert_eq!(result["job-execution-result"]["application-status"], "SUCCEEDED");
    runs_as_it_is_told(&cluster, &id, &request);
    cluster.request("DELETE", &format!("/jars/{id}"), &[], b"");
    assert!(cluster.get("/jars")["files"].as_array().unwrap().is_empty());
    let gone = run(&id);
    assert!(
        gone["errors"][0]
            .as_str()
            .unwrap()
            .contains("there is no artifact"),
        "{gone}"
    );
    let strange = cluster.request("GET", "/overview", &[("Host", "evil.example")], b"");
    assert!(
        strange["errors"][0]
            .as_str()
            .unwrap()
            .contains("no host of this machine"),
        "{strange}"
    );
    let wrong = cluster.get("/jobs/zzz");
    assert!(
        wrong["errors"][0]
            .as_str()
            .unwrap()
            .contains("32 hexadecimal digits"),
        "{wrong}"
    );
    let nothing = cluster.get("/nope");
    assert!(
        nothing["errors"][0].as_str().unwrap().contains("/nope"),
        "{nothing}"
    );
}

/// Copies a savepoint to where the server keeps its objects.
fn upload(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_savepoint_in_an_object_store_is_deleted_by_the_cluster() {
    let cluster = Cluster::not_started();
    let objects = cluster.path().join("objects");
    let mut server = S3Server::start(&objects).unwrap();
    server.make_bucket("jobs").unwrap();
    let settings = [
        format!("s3.endpoint={}", server.endpoint()),
        format!("s3.access-key={ACCESS_KEY}"),
        format!("s3.secret-key={SECRET_KEY}"),
        "s3.request.timeout=500ms".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["-D", setting]).collect();
    cluster.begin(1, 2, &settings);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let args = [out.to_str().unwrap(), "100000000", "1000"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    checkpoint(&checkpoints, 0);
    let job = cluster.job_in("RUNNING").unwrap();
    let target = cluster.path().join("savepoints");
    let stopped = cluster.hurtig(&["stop", &job, target.to_str().unwrap()]);
    assert!(stopped.status.success(), "{}\n{}", text(&stopped), cluster.logs());
    finished(&cluster, run);
    let folder = std::fs::read_dir(&target).unwrap().next().unwrap().unwrap();
    let name = folder.file_name().into_string().unwrap();
    let uploaded = objects.join("jobs/savepoints").join(&name);
    upload(&folder.path(), &uploaded);
    std::fs::write(objects.join("jobs/savepoints/of-somebody-else"), "x").unwrap();

    let place = format!("s3://jobs/savepoints/{name}");
    let dispose = |path: &str| {
        let said = cluster.hurtig(&["savepoint", "dispose", path]);
        (said.status.success(), text(&said))
    };
    server.stop();
    let (done, said) = dispose(&place);
    let has_cause = said.contains(&format!("{name}/_metadata': "));
    assert!(!done && has_cause, "nobody is there: {said}");
    server.start_again().unwrap();
    assert!(uploaded.join("_metadata").exists());
    let (done, said) = dispose(&place);
    assert!(done, "{said}\n{}", cluster.logs());
    let left = std::fs::read_dir(&uploaded).map_or(0, Iterator::count);
    assert_eq!(left, 0, "{said}");
    assert!(objects.join("jobs/savepoints/of-somebody-else").exists());
    let (done, said) = dispose(&place);
    assert!(!done && said.contains(&name), "it is gone: {said}");
    let (done, said) = dispose("gs://jobs/savepoints/savepoint-1");
    assert!(
        !done && said.contains("no scheme 'gs'") && said.contains("'s3'"),
        "{said}"
    );
    assert!(
        folder.path().join("_metadata").exists(),
        "what it is a copy of is another one"
    );
}

/// What is asked for in the query counts as what a body says.
#[test]
fn a_run_begins_with_the_savepoint_that_its_request_names() {
    let cluster = Cluster::start(1, 2);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let args = [out.to_str().unwrap(), "20000", "4000"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    checkpoint(&checkpoints, 0);
    let job = cluster.job_in("RUNNING").unwrap();
    let target = cluster.path().join("savepoints");
    let stopped = text(&cluster.hurtig(&["stop", &job, target.to_str().unwrap()]));
    let (_, savepoint) = stopped.trim().split_once("with savepoint ").unwrap();
    finished(&cluster, run);
    let upload = |name: &str| {
        let multipart = [("Content-Type", "multipart/form-data; boundary=end")];
        let form = upload_of(name, name);
        uploaded_id(&cluster.request("POST", "/jars/upload", &multipart, &form))
    };
    let run = |id: &str, query: &str| {
        let path = format!("/jars/{id}/run?savepointPath={savepoint}&{query}");
        let begun = cluster.request("POST", &path, &[], b"");
        let job = begun["jobid"]
            .as_str()
            .unwrap_or_else(|| panic!("{begun}"))
            .to_owned();
        until("an end", || {
            let detail = cluster.get(&format!("/jobs/{job}"));
            detail["end-time"]
                .as_i64()
                .is_some_and(|end| end > 0)
                .then_some(detail)
        })
    };
    let query = format!(
        "entry-class=main&parallelism=1&programArg={},20000,100000",
        args[0]
    );
    let detail = run(&upload("numbered"), &query);
    assert_eq!(detail["state"], "FINISHED", "{}", cluster.logs());
    let mut vertices = detail["vertices"].as_array().unwrap().iter();
    assert!(vertices.all(|vertex| vertex["parallelism"] == 1), "{detail}");
    check_numbers(&out, 20_000);
    // Another program has no operator for what was counted.
    let other = upload("watched");
    let refused = run(&other, "programArg=20000,100000");
    assert_eq!(refused["state"], "FAILED");
    let job = refused["jid"].as_str().unwrap();
    let why = cluster.get(&format!("/jobs/{job}/exceptions")).to_string();
    assert!(why.contains("ignore-unclaimed-state"), "{why}");
    let allowed = run(&other, "programArg=20000,100000&allowNonRestoredState=true");
    assert_eq!(allowed["state"], "FINISHED", "{}", cluster.logs());
}
