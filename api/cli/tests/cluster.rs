//! A cluster of processes, as a user runs it: `hurtig cluster start`, `hurtig run`, and kill -9 of whatever there is.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]
#![allow(clippy::print_stdout, reason = "figures are for people")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// An example of this crate, which `cargo test` has built.
fn artifact(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples")
        .join(name)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test measures what a user waits for"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process is waited for, by looking"
)]
fn turn() {
    std::thread::sleep(Duration::from_millis(5));
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        turn();
    }
}

/// A cluster in a directory of its own, which ends with it.
struct Cluster {
    dir: TempDir,
}

impl Cluster {
    fn start(task_managers: u32, slots: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Self { dir };
        let numbers = [
            format!("--task-managers={task_managers}"),
            format!("--slots={slots}"),
        ];
        let mut command = cluster.command(&["cluster", "start", "--rest-port=0", "--port=0"]);
        let started = command.args(numbers).output().unwrap();
        assert!(started.status.success(), "{}", text(&started));
        cluster
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hurtig"));
        command
            .env("HURTIG_CLUSTER_DIR", self.path())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    fn hurtig(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs an example in the background until its job has ended.
    fn run(&self, settings: &[String], example: &str, args: &[&str]) -> Child {
        let mut command = self.command(&["run"]);
        settings
            .iter()
            .for_each(|setting| _ = command.args(["-D", setting]));
        command
            .arg(artifact(example))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// The processes of jobs, by role: those that have a working directory here.
    fn processes(&self, role: &str) -> Vec<u32> {
        let here = self.path().join("work");
        all_processes(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).into_owned();
            arguments.contains(&format!("--hurtig-role={role}"))
                && cwd(pid).is_some_and(|cwd| cwd.starts_with(&here))
        })
    }

    fn known(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.path().join("cluster.json")).unwrap()).unwrap()
    }

    /// The TaskManager of which a process is.
    fn task_manager_of(&self, process: u32) -> u32 {
        let launcher = parent(process).unwrap();
        parent(launcher).unwrap()
    }

    fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in std::fs::read_dir(self.path().join("log")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let from = text.len().saturating_sub(6_000);
            let tail = text.get(from..).unwrap_or(&text);
            logs.push_str(&format!("--- {}\n{tail}\n", path.display()));
        }
        logs
    }

    /// Everything that runs in a directory of the cluster, or was started by what did.
    fn left(&self) -> Vec<u32> {
        all_processes(|pid| cwd(pid).is_some_and(|cwd| cwd.starts_with(self.path().join("work"))))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = self.hurtig(&["cluster", "stop"]);
        if !stopped.status.success() {
            println!("{}", text(&stopped));
        }
    }
}

fn all_processes(wanted: impl Fn(u32) -> bool) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| wanted(*pid)).collect()
}

fn cwd(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn kill(pid: u32, signal: &str) {
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -s {signal} {pid}")])
        .status()
        .unwrap();
    assert!(killed.success(), "kill -s {signal} {pid}");
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn finished(cluster: &Cluster, run: Child) {
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{}", text(&output), cluster.logs());
}

/// Lines of the visible files of a folder and those below it.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            lines.extend(self::lines(&entry.path()));
        } else if !entry.file_name().to_string_lossy().starts_with('.') {
            lines.extend(
                std::fs::read_to_string(entry.path())
                    .unwrap()
                    .lines()
                    .map(str::to_owned),
            );
        }
    }
    lines
}

/// Every key has each of its counts once: nothing was lost, and nothing counted or written twice.
fn check_numbers(out: &Path, count: u64) {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    lines(out)
        .into_iter()
        .for_each(|line| *seen.entry(line).or_default() += 1);
    let wanted: Vec<String> = (0..count).map(|i| format!("{} {}", i % 20, i / 20)).collect();
    let lost: Vec<_> = wanted
        .iter()
        .filter(|line| !seen.contains_key(*line))
        .take(5)
        .collect();
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).take(5).collect();
    assert!(
        lost.is_empty() && twice.is_empty(),
        "lost {lost:?}, twice {twice:?}"
    );
    assert_eq!(seen.len(), wanted.len(), "there is more than there should be");
}

fn with_checkpoints(dir: &Path) -> Vec<String> {
    vec![
        "execution.checkpointing.interval=100ms".to_owned(),
        format!("execution.checkpointing.dir={}", dir.display()),
        "restart-strategy.type=fixed-delay".to_owned(),
        "restart-strategy.fixed-delay.attempts=10".to_owned(),
        "restart-strategy.fixed-delay.delay=10ms".to_owned(),
        "parallelism.default=2".to_owned(),
    ]
}

/// Waits until a job has completed a checkpoint that is not older than the one before.
fn checkpoint(dir: &Path, beyond: u64) -> u64 {
    until("a checkpoint", || {
        let jobs = std::fs::read_dir(dir).ok()?;
        let folders = jobs
            .filter_map(|job| std::fs::read_dir(job.ok()?.path()).ok())
            .flatten();
        let complete = folders.filter_map(|folder| {
            let path = folder.ok()?.path();
            let id = path.file_name()?.to_str()?.strip_prefix("chk-")?.parse().ok()?;
            path.join("_metadata").exists().then_some(id)
        });
        complete.max().filter(|id: &u64| *id > beyond)
    })
}

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
    let listed = text(&cluster.hurtig(&["list"]));
    assert!(
        listed.contains("FINISHED") && listed.contains("word count"),
        "{listed}"
    );
    until("the job's processes end", || {
        cluster.left().is_empty().then_some(())
    });
}

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
    assert!(begin.elapsed() < Duration::from_secs(2));
    checkpoint(&checkpoints, latest);
    println!(
        "a killed TaskManager: {:?} until the next checkpoint",
        begin.elapsed()
    );
    finished(&cluster, run);
    check_numbers(&out, count);
}

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
        text(&cluster.hurtig(&["list"])).contains("RUNNING").then_some(())
    });
    println!("from `hurtig run` to RUNNING: {:?}", begin.elapsed());
    cluster.figures();
    assert!(cluster.hurtig(&["cancel", &job]).status.success());
    until("CANCELED", || {
        text(&cluster.hurtig(&["list"]))
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

fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

impl Cluster {
    /// Says how much memory each process has to itself, shared pages counted in part.
    fn figures(&self) {
        let known = self.known();
        let mut named = vec![(
            "jobmanager".to_owned(),
            known["jobmanager"].as_u64().unwrap() as u32,
        )];
        let task_manager = known["task_managers"][0].as_u64().unwrap() as u32;
        named.push(("taskmanager".to_owned(), task_manager));
        all_processes(|pid| parent(pid) == Some(task_manager))
            .into_iter()
            .for_each(|pid| named.push(("launcher".to_owned(), pid)));
        for role in ["job-master", "worker"] {
            self.processes(role)
                .into_iter()
                .for_each(|pid| named.push((role.to_owned(), pid)));
        }
        for (name, pid) in named {
            let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let pss = rollup
                .lines()
                .find_map(|line| line.strip_prefix("Pss:"))
                .unwrap_or("?")
                .trim()
                .to_owned();
            println!("PSS of {name}: {pss}");
        }
    }
}
