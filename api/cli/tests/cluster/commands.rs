//! Every command with `--output json`: what it answers is what `answers.tsv` says, and true.

use crate::kit::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// What each command answers: command, field or `=`, type or document.
fn promised() -> BTreeSet<(&'static str, &'static str)> {
    let table = include_str!("../../answers.tsv");
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    let rows = rows.map(|line| line.split('\t').collect::<Vec<_>>());
    let rows = rows.filter(|row| row[1] != "-");
    rows.map(|row| (row[0], if row[1] == "=" { row[2] } else { row[1] }))
        .collect()
}

/// The fields that an answer of the REST API always has, of its outermost object; `[]`: it is a list.
fn fields_of_document(document: &str) -> BTreeSet<&'static str> {
    let contract = include_str!("../../../rest/contract.tsv").lines();
    let rows = contract.map(|line| line.split('\t').collect::<Vec<_>>());
    let rows = rows.filter(|row| row.len() == 6 && format!("{} {}", row[0], row[1]) == document);
    let answers = rows.filter(|row| row[2].parse::<u16>().is_ok() && row[5] != "optional");
    let outermost = answers
        .map(|row| row[3])
        .filter(|field| *field != "." && !field.contains('.'));
    outermost
        .filter(|field| *field == "[]" || !field.contains('['))
        .collect()
}

/// Runs commands, and remembers what they have answered.
struct Transcript {
    cluster: Cluster,
    seen: BTreeSet<(&'static str, &'static str)>,
}

impl Transcript {
    /// A command as a program runs it: with an exit code, one document, and nothing beside it.
    fn run(&self, command: &str, args: &[&str]) -> (Option<i32>, Value) {
        let words: Vec<&str> = command.split(' ').chain(["--output=json"]).collect();
        let output = self.cluster.command(&words).args(args).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let answer = serde_json::from_str(&said);
        let answer = answer.unwrap_or_else(|error| panic!("{command} {args:?}: {error}: {said}"));
        let errors = String::from_utf8(output.stderr).unwrap();
        let failed = !output.status.success() && output.status.code() != Some(2);
        assert_eq!(!errors.is_empty(), failed, "{command} {args:?}: {errors}");
        (output.status.code(), answer)
    }

    /// One that answers with fields of its own.
    fn ask(&mut self, command: &'static str, args: &[&str]) -> Value {
        let (code, answer) = self.run(command, args);
        assert_eq!(code, Some(0), "{command} {args:?}: {answer}");
        self.see(command, &answer);
        answer
    }

    fn see(&mut self, command: &'static str, answer: &Value) {
        for field in answer
            .as_object()
            .unwrap()
            .keys()
            .filter(|field| *field != "errors")
        {
            let promised = promised().into_iter().find(|row| *row == (command, field));
            self.seen
                .insert(promised.unwrap_or_else(|| panic!("{command}: {field} is in no reference")));
        }
    }

    /// One that answers with a document of the REST API.
    fn ask_for(&mut self, document: &str, command: &'static str, args: &[&str]) -> Value {
        let (code, answer) = self.run(command, args);
        assert_eq!(code, Some(0), "{command} {args:?}: {answer}");
        let promised = promised().into_iter().find(|row| *row == (command, document));
        self.seen.insert(promised.unwrap());
        for field in fields_of_document(document) {
            let has = if field == "[]" {
                answer.is_array()
            } else {
                answer.get(field).is_some()
            };
            assert!(has, "{command} {args:?}: no {field} in {answer}");
        }
        answer
    }

    /// What a command says to people.
    fn people(&self, args: &[&str]) -> String {
        let output = self.cluster.hurtig(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        let said = text(&output);
        assert!(
            !said.starts_with('{') && !said.contains('\x1b'),
            "{args:?}: {said}"
        );
        said
    }

    fn jobs(&mut self, filter: &str) -> Vec<(String, String)> {
        let known = self.ask_for("GET /jobs/overview", "list", &[filter]);
        let jobs = known["jobs"].as_array().unwrap().iter();
        jobs.map(|job| (string(&job["jid"]), string(&job["state"])))
            .collect()
    }

    /// Waits until a job is in a state.
    fn until(&mut self, job: &str, state: &str) {
        let wanted = (job.to_owned(), state.to_owned());
        until(state, || self.jobs("-a").contains(&wanted).then_some(()));
    }
}

fn string(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

#[test]
fn every_command_answers_what_the_reference_says_and_the_truth() {
    let mut all = Transcript {
        cluster: Cluster::not_started(),
        seen: BTreeSet::new(),
    };
    begins(&mut all);
    plans(&mut all);
    let job = runs(&mut all);
    shows(&mut all, &job);
    takes_snapshots(&mut all, &job);
    rescales(&mut all, &job);
    keeps_artifacts(&mut all);
    logs(&mut all);
    settings(&mut all);
    gives_to_shells(&mut all);
    ends(&mut all, &job);
    let promised = promised();
    let missing: Vec<_> = promised.difference(&all.seen).collect();
    assert!(missing.is_empty(), "promised and not seen: {missing:?}");
}

fn begins(all: &mut Transcript) {
    let start = ["--rest-port=0", "--port=0", "--slots=2", "--task-managers=1"];
    let started = all.ask("cluster start", &start);
    assert!(
        Path::new(&string(&started["log"]))
            .join("jobmanager.log")
            .exists()
    );
    let processes = started["task_managers"].as_array().unwrap();
    assert!(processes.len() == 1 && runs_as(&processes[0], "taskmanager"));
    assert!(runs_as(&started["jobmanager"], "jobmanager"));
    let added = all.ask("cluster add", &["--slots=1"]);
    assert!(runs_as(&added["task_managers"][0], "taskmanager"));
    let status = all.ask("cluster status", &[]);
    assert_eq!(status["task_managers"].as_array().unwrap().len(), 2);
    let of = |key: &str| status["overview"][key].as_u64();
    assert_eq!((of("taskmanagers"), of("slots-total")), (Some(2), Some(3)));
    let rest = string(&started["rest"]);
    let elsewhere = all.ask("cluster status", &["-m", &rest]);
    assert_eq!(elsewhere["overview"], status["overview"]);
    let bare = rest.strip_prefix("http://").unwrap();
    assert!(
        all.people(&["cluster", "status", "--jobmanager", bare])
            .contains("3 of 3 slots free")
    );
    let known = all.ask_for("GET /taskmanagers", "task-managers", &[]);
    let known = known["taskmanagers"].as_array().unwrap().clone();
    assert_eq!(known.len(), 2);
    let id = string(&known[0]["id"]);
    let one = all.ask_for("GET /taskmanagers/{taskmanagerid}", "task-managers", &[&id]);
    assert_eq!(
        (&one["id"], &one["slotsNumber"]),
        (&known[0]["id"], &known[0]["slotsNumber"])
    );
    assert!(
        all.people(&["task-managers"]).contains(&id) && all.people(&["task-managers", &id]).contains(&id)
    );
}

fn runs_as(process: &Value, role: &str) -> bool {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).split('\0').nth(1) == Some(role)
}

fn plans(all: &mut Transcript) {
    let numbered = artifact("numbered");
    let args = ["-p", "2", numbered.to_str().unwrap(), "/nowhere", "10", "10"];
    let planned = all.ask_for("POST /jars/{jarid}/plan", "info", &args);
    let nodes = planned["plan"]["nodes"].as_array().unwrap();
    assert!(
        nodes.iter().all(|node| node["parallelism"] == 2) && nodes.len() == 2,
        "{planned}"
    );
    assert!(
        all.people(&[&["info"][..], &args].concat())
            .contains("numbered\n\nVERTEX")
    );
    assert_eq!(all.jobs("-a"), [], "it is not run");
    let kept = all.ask_for("GET /jars", "artifacts list", &[]);
    assert_eq!(kept["files"], serde_json::json!([]), "nothing is left of it");
    assert!(all.people(&["list"]).contains("hurtig list -a"));
}

/// A job that goes on for the rest of the test.
fn runs(all: &mut Transcript) -> String {
    let (out, checkpoints) = (
        all.cluster.path().join("out"),
        all.cluster.path().join("checkpoints"),
    );
    let settings = with_checkpoints(&checkpoints);
    let numbered = artifact("numbered");
    let mut args: Vec<&str> = settings.iter().flat_map(|setting| ["-D", setting]).collect();
    args.extend(["-d", "-p", "2", numbered.to_str().unwrap(), out.to_str().unwrap()]);
    args.extend(["100000000", "1000"]);
    let job = string(&all.ask("run", &args)["jobid"]);
    all.until(&job, "RUNNING");
    assert_eq!(all.jobs("-r"), [(job.clone(), "RUNNING".to_owned())]);
    assert_eq!(all.jobs("-s"), []);
    checkpoint(&checkpoints, 0);
    assert!(all.people(&["list"]).lines().nth(1).unwrap().starts_with(&job));
    job
}

fn shows(all: &mut Transcript, job: &str) {
    let known = all.ask_for("GET /jobs/{jobid}", "show", &[job]);
    assert_eq!(
        (&known["name"], &known["state"]),
        (&"numbered".into(), &"RUNNING".into())
    );
    let plan = all.ask_for("GET /jobs/{jobid}/plan", "show", &[job, "plan"]);
    assert_eq!(plan["plan"], known["plan"]);
    let failed = all.ask_for("GET /jobs/{jobid}/exceptions", "show", &[job, "exceptions"]);
    assert_eq!(failed["exceptionHistory"]["entries"], serde_json::json!([]));
    let set = all.ask_for("GET /jobs/{jobid}/jobmanager/config", "show", &[job, "settings"]);
    let interval = set.as_array().unwrap().iter();
    let interval = interval
        .clone()
        .find(|entry| entry["key"] == "execution.checkpointing.interval");
    assert_eq!(interval.unwrap()["value"], "100 ms");
    let of_vertices = all.ask("show", &[job, "subtasks"]);
    let vertices = of_vertices["vertices"].as_array().unwrap();
    let ids = |vertices: &[Value]| -> Vec<Value> { vertices.iter().map(|one| one["id"].clone()).collect() };
    assert_eq!(ids(vertices), ids(known["vertices"].as_array().unwrap()));
    assert!(
        vertices
            .iter()
            .all(|vertex| vertex["subtasks"].as_array().unwrap().len() == 2)
    );
    for (part, wanted) in [
        ("job", "state     RUNNING"),
        ("plan", "HASH"),
        ("subtasks", "TASKMANAGER"),
        ("checkpoints", " completed, "),
        ("exceptions", "nothing has failed"),
        ("settings", "execution.checkpointing.interval "),
    ] {
        let said = all.people(&["show", job, part]);
        assert!(said.contains(wanted), "{part}: {said}");
    }
}

fn rescales(all: &mut Transcript, job: &str) {
    let bounds = |known: &Value| -> Vec<(i64, i64)> {
        let vertices = known["requirements"].as_object().unwrap().values();
        let of = |one: &Value, bound: &str| one["parallelism"][bound].as_i64().unwrap();
        vertices
            .map(|one| (of(one, "lowerBound"), of(one, "upperBound")))
            .collect()
    };
    let known = all.ask("rescale", &[job]);
    assert_eq!(
        (bounds(&known), &known["declared"]),
        (vec![(2, 2); 2], &false.into())
    );
    let before = all.ask_for("GET /jobs/{jobid}", "show", &[job]);
    let first = format!("{}=1", string(&before["vertices"][0]["id"]));
    let declared = all.ask(
        "rescale",
        &["-p", "3", "--at-least", "2", "--vertex", &first, job],
    );
    assert_eq!(declared["declared"], true);
    assert!(
        bounds(&declared).contains(&(2, 3)) && bounds(&declared).contains(&(1, 1)),
        "{declared}"
    );
    let again = all.ask("rescale", &[job]);
    assert_eq!(again["requirements"], declared["requirements"], "they are kept");
    runs_at(all, job, [1, 3]);
    for wrong in [
        &["-p", "0"][..],
        &["-p", "200"],
        &["--vertex", "x=1"],
        &["-p", "2", "--at-least", "3"],
    ] {
        let (code, answer) = all.run("rescale", &[wrong, &[job]].concat());
        assert!(
            code != Some(0) && answer["errors"].is_array(),
            "{wrong:?}: {answer}"
        );
    }
    assert!(all.people(&["rescale", job]).contains("AT LEAST"));
    // The slot that it gives back is for the next job.
    all.ask("rescale", &["-p", "2", job]);
    runs_at(all, job, [2, 2]);
}

fn runs_at(all: &mut Transcript, job: &str, wanted: [u64; 2]) {
    until("it runs so", || {
        let known = all.ask_for("GET /jobs/{jobid}", "show", &[job]);
        let vertices = known["vertices"].as_array().unwrap().iter();
        let widths: Vec<_> = vertices.map(|one| one["parallelism"].as_u64().unwrap()).collect();
        (widths == wanted && known["state"] == "RUNNING").then_some(())
    });
}

fn takes_snapshots(all: &mut Transcript, job: &str) {
    let taken = all.ask("checkpoint", &["--full", job]);
    let known = all.ask_for("GET /jobs/{jobid}/checkpoints", "show", &[job, "checkpoints"]);
    let mut history = known["history"].as_array().unwrap().iter();
    let found = history.find(|one| one["id"] == taken["checkpointId"]).unwrap();
    assert_eq!(found["checkpoint_type"], "FULL_CHECKPOINT");
    let target = all.cluster.path().join("savepoints");
    let target = target.to_str().unwrap();
    let first = string(&all.ask("savepoint", &[job, target])["location"]);
    let second = string(&all.ask("savepoint create", &["--type", "canonical", job, target])["location"]);
    for command in ["savepoint", "savepoint create"] {
        all.ask(command, &["--detached", job, target]);
    }
    let inspected = all.ask("savepoint inspect", &[&first]);
    assert_eq!(
        (string(&inspected["path"]), string(&inspected["job_id"])),
        (first.clone(), job.to_owned())
    );
    let uids: BTreeSet<_> = inspected["operators"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| string(&one["uid"]))
        .collect();
    assert_eq!(uids, ["numbers", "count", "out"].map(str::to_owned).into());
    assert!(all.people(&["savepoint", "inspect", &first]).contains("count"));
    let gone = all.ask("savepoint dispose", &[&first]);
    assert_eq!(gone["location"], *first);
    assert!(!Path::new(&first).exists() && Path::new(&second).exists());
    all.people(&["savepoint", "-d", &second]);
    assert!(!Path::new(&second).exists());
}

fn keeps_artifacts(all: &mut Transcript) {
    let (input, output) = (
        all.cluster.path().join("in.txt"),
        all.cluster.path().join("out.txt"),
    );
    std::fs::write(&input, "a b a\n").unwrap();
    let words = artifact("words");
    let args = [input.to_str().unwrap(), output.to_str().unwrap()];
    let id = string(&all.ask("artifacts upload", &[words.to_str().unwrap()])["id"]);
    let kept = all.ask_for("GET /jars", "artifacts list", &[]);
    assert_eq!(kept["files"][0]["id"], *id);
    assert!(all.people(&["artifacts", "list"]).contains(&id));
    let counted = || {
        let mut lines = lines_of(&output);
        lines.sort_unstable();
        std::fs::remove_file(&output).unwrap();
        lines
    };
    let done = all.ask("artifacts run", &[&[&*id][..], &args].concat());
    assert_eq!(
        (&done["status"], counted()),
        (&"SUCCEEDED".into(), vec!["a\t2".to_owned(), "b\t1".to_owned()])
    );
    assert_eq!(all.ask("artifacts delete", &[&id])["id"], *id);
    let done = all.ask("run", &[&[words.to_str().unwrap(), "--"][..], &args].concat());
    assert!(done["net-runtime"].as_u64().is_some() && done["status"] == "SUCCEEDED");
    assert_eq!(counted().len(), 2);
    let kept = all.ask_for("GET /jars", "artifacts list", &[]);
    assert_eq!(kept["files"], serde_json::json!([]));
    let (code, failed) = all.run("run", &[artifact("misbehaves").to_str().unwrap(), "ends"]);
    all.see("run", &failed);
    assert_eq!((code, &failed["status"]), (Some(1), &"FAILED".into()));
    assert!(
        failed["errors"][0].as_str().unwrap().contains("exit code 7"),
        "{failed}"
    );
    assert!(
        all.people(&["show", failed["jobid"].as_str().unwrap(), "exceptions"])
            .contains("exit code 7")
    );
}

fn lines_of(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn logs(all: &mut Transcript) {
    let known = all.ask("logs", &[]);
    let known = known["logs"].as_array().unwrap();
    let mut of_task_managers = known.iter().filter(|log| log["process"] != "jobmanager");
    let one = of_task_managers
        .find(|log| log["name"] == "taskmanager-1.log")
        .unwrap();
    let (process, name) = (string(&one["process"]), string(&one["name"]));
    let text = string(&all.ask("logs", &[&process, &name])["text"]);
    assert!(text.contains("registered"), "{text}");
    assert_eq!(
        text,
        std::fs::read_to_string(all.cluster.path().join("log").join(name)).unwrap()
    );
    assert!(all.people(&["logs", "jobmanager"]).contains("ready"));
    assert!(all.people(&["logs"]).contains("taskmanager-2.log"));
}

fn settings(all: &mut Transcript) {
    let file = all.cluster.path().join("hurtig.yaml");
    std::fs::write(&file, "parallelism.default: 3\nworker.round: 5 ms\n").unwrap();
    let file = file.to_str().unwrap();
    let layers = ["--config", file, "-D", "parallelism.default=4"];
    let shown = all.ask("config show", &layers);
    let wanted = serde_json::json!([
        { "key": "parallelism.default", "value": "4", "source": "-D" },
        { "key": "worker.round", "value": "5 ms", "source": format!("{file}:2") },
    ]);
    assert_eq!(shown["settings"], wanted);
    assert_eq!(all.ask("config check", &layers)["set"], 2);
    let of_cluster = all.ask_for("GET /jobmanager/config", "config show", &["--cluster"]);
    assert!(
        of_cluster
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["key"] == "rest.port")
    );
    let options = all.ask("config docs", &[])["options"].as_array().unwrap().len();
    let defaults = all.ask("config show", &["--all"]);
    assert_eq!(defaults["settings"].as_array().unwrap().len(), options);
    let yaml = string(&all.ask("config docs", &["--yaml"])["yaml"]);
    assert!(yaml.contains("#parallelism.default: 1"));
    let one = all.ask("config docs", &["parallelism.default"]);
    assert_eq!((&one["default"], &one["scope"]), (&"1".into(), &"program".into()));
}

fn gives_to_shells(all: &mut Transcript) {
    for (shell, wanted) in [
        ("bash", "complete -F _hurtig"),
        ("zsh", "#compdef hurtig"),
        ("fish", "complete -c hurtig"),
    ] {
        let script = string(&all.ask("completions", &[shell])["script"]);
        assert!(
            script.contains(wanted) && script.contains("savepoint"),
            "{shell}: {script}"
        );
    }
    assert_eq!(
        completed(&all.people(&["completions", "bash"]), "hurtig check"),
        ["checkpoint"]
    );
    assert!(string(&all.ask("man", &[])["page"]).contains(".TH hurtig 1"));
    let dir = all.cluster.path().join("man");
    let written = all.ask("man", &["--dir", dir.to_str().unwrap()]);
    assert_eq!(written["dir"], *dir.to_str().unwrap());
    let page = std::fs::read_to_string(dir.join("hurtig-cluster-start.1")).unwrap();
    assert!(page.contains("load\\-balance"), "{page}");
}

/// What bash would complete a line to.
fn completed(script: &str, line: &str) -> Vec<String> {
    let asked = format!(
        "{script}\nCOMP_LINE='{line}'; COMP_WORDS=({line}); COMP_CWORD=1; COMP_POINT=${{#COMP_LINE}}\n\
         _hurtig hurtig \"${{COMP_WORDS[1]}}\" hurtig; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    );
    let bash = Command::new("bash")
        .arg("-c")
        .arg(asked)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(bash.stderr.is_empty(), "{}", text(&bash));
    text(&bash).lines().map(str::to_owned).collect()
}

fn ends(all: &mut Transcript, job: &str) {
    let target = all.cluster.path().join("savepoints");
    let stopped = all.ask("stop", &["-p", target.to_str().unwrap(), job]);
    all.until(job, "FINISHED");
    let mode = [
        "--fromSavepoint",
        stopped["location"].as_str().unwrap(),
        "-n",
        "--claimMode",
        "NO_CLAIM",
    ];
    let (out, numbered) = (all.cluster.path().join("out"), artifact("numbered"));
    let program = [
        numbered.to_str().unwrap(),
        out.to_str().unwrap(),
        "100000000",
        "1000",
    ];
    let args = [&["-d"][..], &mode, &program].concat();
    let restored = string(&all.ask("run", &args)["jobid"]);
    all.until(&restored, "RUNNING");
    let known = all.ask_for(
        "GET /jobs/{jobid}/checkpoints",
        "show",
        &[&restored, "checkpoints"],
    );
    assert_eq!(known["latest"]["restored"]["external_path"], stopped["location"]);
    assert_eq!(
        all.ask("stop", &["--detached", &restored, target.to_str().unwrap()])["jobid"],
        *restored
    );
    all.until(&restored, "FINISHED");
    let elsewhere = all.cluster.path().join("elsewhere");
    let program = [program[0], elsewhere.to_str().unwrap(), program[2], program[3]];
    let third = string(&all.ask("run", &[&["-d"][..], &program].concat())["jobid"]);
    all.until(&third, "RUNNING");
    assert_eq!(all.ask("cancel", &[&third])["jobid"], *third);
    all.until(&third, "CANCELED");
    let removed = all.ask("cluster remove", &[]);
    assert!(!runs_as(&removed["task_managers"][0], "taskmanager"));
    let status = all.ask("cluster status", &[]);
    assert_eq!(
        (
            &status["overview"]["taskmanagers"],
            &status["overview"]["slots-total"]
        ),
        (&1.into(), &2.into())
    );
    let servers = all.cluster.servers();
    let stopped = all.ask("cluster stop", &[]);
    assert_eq!(stopped["jobmanager"], status["jobmanager"]);
    assert!(!servers.into_iter().any(crate::kit::runs));
}
