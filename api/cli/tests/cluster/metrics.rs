//! `/metrics`, as strictly as Prometheus reads it, against what is known of a cluster by other ways.

use crate::kit::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A series: the values of its labels, and its own.
#[derive(Clone, Debug, PartialEq)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Everything that one answer says.
#[derive(Debug, Default)]
struct Scrape {
    /// Types by name.
    kinds: BTreeMap<String, String>,
    series: Vec<Series>,
}

fn is_name(name: &str, colons: bool) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || (colons && byte == b':');
    let (first, all) = (name.bytes().next(), name.bytes());
    first.is_some_and(letter) && all.into_iter().all(|byte| letter(byte) || byte.is_ascii_digit())
}

/// Reads `a="b",c="d"` and what follows the brace.
fn labels(text: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let (mut labels, mut rest) = (BTreeMap::new(), text);
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("a label without value")?;
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().ok_or("a value without end")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next().ok_or("half an escape")?.1 {
                    'n' => value.push('\n'),
                    c @ ('"' | '\\') => value.push(c),
                    c => return Err(format!("an escape of {c:?}")),
                },
                (_, c) => value.push(c),
            }
        };
        if !is_name(name, false) || name.starts_with("__") || labels.insert(name.to_owned(), value).is_some()
        {
            return Err(format!("the label '{name}' is none, or is there twice"));
        }
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok((labels, rest.strip_prefix('}').ok_or("no brace at the end")?)),
        }
    }
}

fn series(line: &str) -> Result<Series, String> {
    let at = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(at);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let text = rest.strip_prefix(' ').ok_or("no blank before the value")?;
    let value = match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        text if text.bytes().all(|byte| b"0123456789+-.e".contains(&byte)) => {
            text.parse().map_err(|error| format!("{text}: {error}"))?
        }
        text => return Err(format!("'{text}' is no number")),
    };
    Ok(Series {
        name: name.to_owned(),
        labels,
        value,
    })
}

impl Scrape {
    /// Refuses what Prometheus would refuse or misread: names that are none, a type that comes twice or too late, a series that
    /// comes twice or apart from the others of its name, values that are none.
    fn parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        let (mut scrape, mut now, mut seen) = (Self::default(), String::new(), BTreeSet::new());
        let mut helps = BTreeSet::new();
        for line in text.lines() {
            let place = |error: String| format!("{error}: {line}");
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, _) = help.split_once(' ').ok_or_else(|| place("no help".to_owned()))?;
                if !helps.insert(name.to_owned()) {
                    return Err(place("the help comes twice".to_owned()));
                }
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').ok_or_else(|| place("no type".to_owned()))?;
                let known = ["counter", "gauge", "summary", "untyped"].contains(&kind);
                let again = scrape.kinds.insert(name.to_owned(), kind.to_owned()).is_some();
                if !known || again || !is_name(name, true) || !helps.contains(name) {
                    return Err(place("the type is none, comes twice, or has no help".to_owned()));
                }
                now = name.to_owned();
            } else {
                let series = series(line).map_err(place)?;
                let part = series.name.strip_prefix(now.as_str());
                let belongs = match scrape.kinds.get(&now).map(String::as_str) {
                    Some("summary") => match part {
                        Some("") => series.labels.contains_key("quantile"),
                        part => matches!(part, Some("_sum" | "_count")),
                    },
                    Some(_) => part == Some(""),
                    None => false,
                };
                let new = seen.insert((series.name.clone(), series.labels.clone()));
                if !belongs || !new {
                    return Err(place("the series comes twice, or under another name".to_owned()));
                }
                scrape.series.push(series);
            }
        }
        Ok(scrape)
    }

    fn of(cluster: &Cluster) -> Self {
        let (status, body) = cluster.answer("GET", "/metrics", &[], b"");
        let text = String::from_utf8(body).unwrap();
        assert_eq!(status, 200, "{text}");
        Self::parse(&text).unwrap()
    }

    /// All series of a name with these labels.
    fn all<'a>(&'a self, name: &str, labels: &[(&str, &str)]) -> Vec<&'a Series> {
        let fits = |series: &&Series| {
            series.name == name
                && labels
                    .iter()
                    .all(|(name, value)| series.labels.get(*name).is_some_and(|of| of == value))
        };
        self.series.iter().filter(fits).collect()
    }

    /// The value of the only one; `None`: there is none.
    fn one(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let all = self.all(name, labels);
        assert!(all.len() <= 1, "{name} {labels:?}: {all:?}");
        all.first().map(|series| series.value)
    }

    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).iter().map(|series| series.value).sum()
    }
}

#[test]
fn the_parser_refuses_what_prometheus_would() {
    let good = "# HELP a a\n# TYPE a gauge\na{b=\"c\\\"\\\\\\n\"} 1\na 2.5e-3\n";
    let read = Scrape::parse(good).unwrap();
    assert_eq!(read.series[0].labels["b"], "c\"\\\n");
    assert_eq!(read.one("a", &[("b", "x")]), None);
    let head = "# HELP a a\n# TYPE a gauge\n";
    let bad = [
        "a 1",
        "a{b=\"c\"} 1\na{b=\"c\"} 2\n",
        "a{b=\"c\",b=\"d\"} 1\n",
        "a{b=\"c} 1\n",
        "a{b:c=\"d\"} 1\n",
        "a{__name__=\"d\"} 1\n",
        "a{b=\"\\x\"} 1\n",
        "a one\n",
        "a inf\n",
        "a\n",
        "b 1\n",
        "# TYPE a gauge\n",
        "# HELP b b\n# TYPE b histo\n",
        "# TYPE c gauge\n",
        "# HELP s s\n# TYPE s summary\ns 1\n",
        "a 1\n# HELP b b\n# TYPE b gauge\nb 1\na{c=\"d\"} 1\n",
    ];
    for lines in bad {
        assert!(Scrape::parse(&format!("{head}{lines}")).is_err(), "{lines}");
    }
}

fn settings(cluster: &Cluster) -> Vec<String> {
    with_checkpoints(&cluster.path().join("checkpoints"))
}

/// A job that runs and has reported.
fn started(cluster: &Cluster, args: &[&str]) -> (std::process::Child, String) {
    let run = cluster.run(&settings(cluster), "watched", args);
    let job = until("RUNNING", || cluster.job_in("RUNNING"));
    (run, job)
}

const TASK: &str = "flink_taskmanager_job_task";
const OPERATOR: &str = "flink_taskmanager_job_task_operator";
const JOB: &str = "flink_jobmanager_job";

#[test]
fn a_scrape_says_of_the_whole_cluster_what_is_true() {
    let cluster = Cluster::start_with(2, 2, &["--load-balance=slots"]);
    let idle = Scrape::of(&cluster);
    assert_eq!(idle.one("flink_jobmanager_numRunningJobs", &[]), Some(0.0));
    assert_eq!(idle.one("flink_jobmanager_taskSlotsAvailable", &[]), Some(4.0));
    assert!(idle.all(&format!("{TASK}_numRecordsIn"), &[]).is_empty());
    let (run, job) = started(&cluster, &["100000000", "1000"]);
    let of_job = [("job_id", job.as_str()), ("job_name", "watched")];
    let name = format!("{TASK}_numRecordsIn");
    let scrape = until("tasks have counted, and a checkpoint is complete", || {
        let scrape = Scrape::of(&cluster);
        let watching = scrape.all(&name, &of_job);
        let counted = watching.iter().filter(|one| one.value > 0.0).count();
        let duration = scrape.one(&format!("{JOB}_lastCheckpointDuration"), &of_job);
        (counted >= 2 && duration.is_some()).then_some(scrape)
    });
    of_the_table(&scrape);
    of_the_cluster(&cluster, &scrape);
    of_processes(&cluster, &scrape, &job);
    of_tasks(&cluster, &scrape, &job);
    of_checkpoints(&cluster, &scrape, &job);
    of_the_program(&scrape, &job);
    for (status, path) in [(200, "/v1/metrics"), (405, "/metrics")] {
        let method = if status == 200 { "GET" } else { "POST" };
        assert_eq!(
            cluster.answer(method, path, &[], b"").0,
            status,
            "{method} {path}"
        );
    }
    assert!(cluster.hurtig(&["cancel", &job]).status.success());
    run.wait_with_output().unwrap();
    until("nothing is said of a job that has ended", || {
        let scrape = Scrape::of(&cluster);
        let about = scrape
            .series
            .iter()
            .any(|series| series.labels.contains_key("job_id"));
        let free = scrape.one("flink_jobmanager_taskSlotsAvailable", &[]);
        (!about && free == Some(4.0)).then_some(())
    });
}

/// The reference says what there is, what there is not, and nothing else is there.
fn of_the_table(scrape: &Scrape) {
    const TABLE: &str = include_str!("../../../reporters/metrics.tsv");
    let (mut known, mut problems) = (BTreeSet::new(), Vec::new());
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let row: Vec<&str> = line.split('\t').collect();
        let scope = match row[0] {
            "task" => "taskmanager_job_task",
            "operator" => "taskmanager_job_task_operator",
            level => level,
        };
        let name = format!("flink_{scope}_{}", row[1]).replace('.', "_");
        let there = scrape.kinds.contains_key(&name);
        match row[2] {
            "served" | "own" if !there => problems.push(format!("{name} is said to be there")),
            "none" if there => problems.push(format!("{name} is said not to be there")),
            _ => {}
        }
        known.insert(name);
    }
    let others = scrape.kinds.keys();
    let others = others.filter(|name| name.starts_with("flink_") && !known.contains(*name));
    // Those of the program itself.
    let others = others.filter(|name| !name.starts_with(&format!("{OPERATOR}_half")));
    problems.extend(others.map(|name| format!("{name} stands in no table")));
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Each process of the job is where the operating system has it.
fn of_processes(cluster: &Cluster, scrape: &Scrape, job: &str) {
    let of_job = [("job_id", job)];
    let threads = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() as f64;
    let name = "flink_taskmanager_job_Status_JVM_Threads_Count";
    let told = scrape.all(name, &of_job);
    let mut told: Vec<f64> = told.iter().map(|series| series.value).collect();
    let mut real: Vec<f64> = cluster.processes("worker").into_iter().map(threads).collect();
    told.sort_by(f64::total_cmp);
    real.sort_by(f64::total_cmp);
    assert_eq!(told.len(), 2);
    let near = |(told, real): (&f64, &f64)| (told - real).abs() <= 4.0;
    assert!(told.iter().zip(&real).all(near), "{told:?} {real:?}");
    let time = scrape.one("flink_jobmanager_job_Status_JVM_CPU_Time", &of_job);
    assert!(time > Some(0.0), "{time:?}");
}

fn of_the_cluster(cluster: &Cluster, scrape: &Scrape) {
    let number = |name: &str| scrape.one(&format!("flink_jobmanager_{name}"), &[("host", "127_0_0_1")]);
    assert_eq!(number("numRegisteredTaskManagers"), Some(2.0));
    assert_eq!(number("numRunningJobs"), Some(1.0));
    assert_eq!(
        (number("taskSlotsTotal"), number("taskSlotsAvailable")),
        (Some(4.0), Some(2.0))
    );
    assert_eq!(scrape.one("hurtig_scrape_left_out", &[]), Some(0.0));
    assert_eq!(scrape.sum("hurtig_scrape_silent", &[]), 0.0);
    let jobmanager = cluster.known()["jobmanager"].as_u64().unwrap();
    let resident = std::fs::read_to_string(format!("/proc/{jobmanager}/statm")).unwrap();
    let pages: f64 = resident.split(' ').nth(1).unwrap().parse().unwrap();
    let told = number("Status_JVM_Memory_Heap_Used").unwrap();
    let share = told / (pages * 4_096.0);
    assert!((0.5..2.0).contains(&share), "{told} of {pages} pages");
    let known = cluster.get("/taskmanagers");
    for one in known["taskmanagers"].as_array().unwrap() {
        let id = [("tm_id", one["id"].as_str().unwrap())];
        let threads = scrape.one("flink_taskmanager_Status_JVM_Threads_Count", &id);
        assert!(threads > Some(0.0), "{one}");
    }
}

/// Each subtask of each vertex and each operator, where it runs, with what REST says of it.
fn of_tasks(cluster: &Cluster, scrape: &Scrape, job: &str) {
    let detail = cluster.get(&format!("/jobs/{job}"));
    let vertices = detail["vertices"].as_array().unwrap();
    let name = format!("{TASK}_numRecordsIn");
    assert_eq!(scrape.all(&name, &[("job_id", job)]).len(), 2 * vertices.len());
    for vertex in vertices {
        let (id, task) = (vertex["id"].as_str().unwrap(), vertex["name"].as_str().unwrap());
        let keep = |c: char| {
            if c.is_ascii_alphanumeric() || c == ':' {
                c
            } else {
                '_'
            }
        };
        let task: String = task.chars().map(keep).collect();
        for index in ["0", "1"] {
            let subtask = cluster.get(&format!("/jobs/{job}/vertices/{id}/subtasks/{index}"));
            let place = subtask["taskmanager-id"].as_str().unwrap();
            let labels = [
                ("task_id", id),
                ("subtask_index", index),
                ("tm_id", place),
                ("host", "127_0_0_1"),
                ("task_name", task.as_str()),
                ("task_attempt_num", "0"),
            ];
            let told = scrape.one(&name, &labels).unwrap();
            let path = format!("/jobs/{job}/vertices/{id}/subtasks/{index}/metrics?get=numRecordsIn");
            let later = cluster.get(&path)[0]["value"]
                .as_str()
                .unwrap()
                .parse::<f64>()
                .unwrap();
            assert!(told <= later, "{task}: {told}, then {later}");
            let worked = scrape.one(&format!("{TASK}_numRecordsOut"), &labels).unwrap() + told;
            assert!(worked > 0.0, "{task}");
            let shares = ["busy", "idle", "backPressured"];
            let shares = shares.map(|of| {
                scrape
                    .one(&format!("{TASK}_{of}TimeMsPerSecond"), &labels)
                    .unwrap()
            });
            assert!(shares.iter().sum::<f64>() > 990.0, "{shares:?}");
        }
    }
    // The source and what reads it have different operators, each twice.
    let name = format!("{OPERATOR}_numRecordsOut");
    let operators = scrape.all(&name, &[("job_id", job)]);
    let of = |label: &str| {
        operators
            .iter()
            .map(|one| one.labels[label].clone())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(operators.len(), 2 * of("operator_id").len());
    assert!(
        of("operator_name").iter().any(|name| name.starts_with("Source")),
        "{operators:?}"
    );
    assert_eq!(scrape.kinds[&name], "counter");
    let watermarks = scrape.all(&format!("{TASK}_currentInputWatermark"), &[("job_id", job)]);
    assert_eq!(watermarks.len(), 2, "a source has none");
}

fn of_checkpoints(cluster: &Cluster, scrape: &Scrape, job: &str) {
    let of_job = [("job_id", job), ("host", "127_0_0_1")];
    let number = |name: &str| scrape.one(&format!("{JOB}_{name}"), &of_job).unwrap();
    let later = cluster.get(&format!("/jobs/{job}/checkpoints"));
    let count = |name: &str| later["counts"][name].as_f64().unwrap();
    let completed = number("numberOfCompletedCheckpoints");
    assert!(completed >= 1.0 && completed <= count("completed"));
    assert_eq!(number("numberOfFailedCheckpoints"), count("failed"));
    assert!(number("lastCompletedCheckpointId") <= later["latest"]["completed"]["id"].as_f64().unwrap());
    assert!(number("lastCheckpointSize") > 0.0);
    assert_eq!(number("numRestarts"), 0.0);
    assert_eq!(number("numSilentWorkers"), 0.0);
    let (up, running) = (number("uptime"), number("runningTime"));
    let age = cluster.get(&format!("/jobs/{job}"))["duration"].as_f64().unwrap();
    assert!(
        up > 0.0 && up <= age && (up - running).abs() < 1.0,
        "{up} of {age}"
    );
    assert_eq!(number("restartingTime"), 0.0);
}

/// What the program counts itself, by the halves of its numbers.
fn of_the_program(scrape: &Scrape, job: &str) {
    let name = format!("{OPERATOR}_half_numbers");
    assert_eq!(scrape.kinds[&name], "counter");
    let of = |half: &str| scrape.sum(&name, &[("job_id", job), ("half", half)]);
    let (even, odd) = (of("even"), of("odd"));
    assert!(even > 0.0 && odd > 0.0, "{even} {odd}");
    let sizes = format!("{OPERATOR}_half_sizes");
    assert_eq!(scrape.kinds[&sizes], "summary");
    assert_eq!(
        scrape.all(&sizes, &[("half", "odd"), ("quantile", "0.5")]).len(),
        2
    );
    let counted = scrape.sum(&format!("{sizes}_count"), &[("half", "odd")]);
    assert!(counted > 0.0);
}

#[test]
fn reporters_tell_a_statsd_server_and_the_log() {
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = server.local_addr().unwrap().port();
    let settings = [
        "metrics.reporter.s.factory.class=statsd".to_owned(),
        "metrics.reporter.s.host=127.0.0.1".to_owned(),
        format!("metrics.reporter.s.port={port}"),
        "metrics.reporter.s.interval=1 s".to_owned(),
        "metrics.reporter.s.filter.includes=jobmanager:num*".to_owned(),
        "metrics.reporter.l.factory.class=slf4j".to_owned(),
        "metrics.reporter.l.interval=1 s".to_owned(),
    ];
    let definitions: Vec<String> = settings.iter().map(|setting| format!("-D{setting}")).collect();
    let definitions: Vec<&str> = definitions.iter().map(String::as_str).collect();
    let cluster = Cluster::start_with(1, 2, &definitions);
    let mut buffer = [0; 2_000];
    let wanted = "127_0_0_1.jobmanager.numRegisteredTaskManagers:1|g";
    let heard = until("the server hears of the TaskManager", || {
        let (length, _) = server.recv_from(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        text.contains(wanted).then_some(text)
    });
    let lines: BTreeSet<&str> = heard.lines().collect();
    let other = "127_0_0_1.jobmanager.numRunningJobs:0|g";
    assert_eq!(
        lines,
        BTreeSet::from([wanted, other]),
        "and nothing that is not included"
    );
    until("the log has it", || {
        let log = cluster.path().join("log/jobmanager.log");
        let text = std::fs::read_to_string(log).unwrap();
        text.contains("127_0_0_1.jobmanager.taskSlotsTotal: 2")
            .then_some(())
    });
}

#[test]
fn a_reporter_that_there_is_not_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hurtig"));
    let output = command
        .args([
            "jobmanager",
            "--port=0",
            "--rest-port=0",
            "-Dmetrics.reporter.x.factory.class=jmx",
        ])
        .arg(format!("--storage-dir={}", dir.path().display()))
        .output()
        .unwrap();
    let said = text(&output);
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("`metrics.reporter.x.factory.class` is 'jmx'"),
        "{said}"
    );
    assert!(said.contains("slf4j, statsd and prometheus"), "{said}");
}

#[test]
fn who_is_silent_holds_up_nothing_and_is_missed() {
    let cluster = Cluster::start(2, 1);
    let (run, job) = started(&cluster, &["100000000", "1000"]);
    let name = format!("{TASK}_numRecordsOut");
    until("both workers are heard", || {
        (Scrape::of(&cluster).all(&name, &[]).len() == 4).then_some(())
    });
    let worker = cluster.processes("worker")[0];
    kill(worker, "STOP");
    let (of_job, silent) = ([("job_id", job.as_str())], format!("{JOB}_numSilentWorkers"));
    let (took, scrape) = until(
        "it is missed, and not what was known a moment ago is told again",
        || {
            let (begin, scrape) = (now(), Scrape::of(&cluster));
            let took = begin.elapsed();
            (scrape.one(&silent, &of_job) == Some(1.0)).then_some((took, scrape))
        },
    );
    kill(worker, "CONT");
    // Who scrapes waits for 10 s.
    assert!(took < Duration::from_secs(8), "a scrape took {took:?}");
    assert_eq!(scrape.all(&name, &[]).len(), 2, "the other worker's");
    assert!(cluster.hurtig(&["cancel", &job]).status.success());
    run.wait_with_output().unwrap();
}

#[test]
fn after_a_restart_only_what_runs_now_is_told_of() {
    let cluster = Cluster::start(2, 1);
    let (run, job) = started(&cluster, &["100000000", "1000"]);
    let name = format!("{TASK}_numRecordsOut");
    let of = |scrape: &Scrape, attempt: &str| scrape.all(&name, &[("task_attempt_num", attempt)]).len();
    until("all tasks are heard", || {
        (of(&Scrape::of(&cluster), "0") == 4).then_some(())
    });
    kill(cluster.processes("worker")[0], "KILL");
    let scrape = until("all tasks are heard again", || {
        let scrape = Scrape::of(&cluster);
        (of(&scrape, "1") == 4).then_some(scrape)
    });
    assert_eq!(scrape.all(&name, &[]).len(), 4, "nothing of the first attempts");
    let of_job = [("job_id", job.as_str())];
    assert_eq!(scrape.one(&format!("{JOB}_numRestarts"), &of_job), Some(1.0));
    assert!(cluster.hurtig(&["cancel", &job]).status.success());
    run.wait_with_output().unwrap();
}
