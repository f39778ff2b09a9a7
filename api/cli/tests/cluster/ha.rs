//! Jobmanagers that are killed, stopped and started again: jobs outlive them.

use crate::etcd_process::Etcd;
use crate::kit::*;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};

/// Processes that this test has started by itself, and ends.
pub(crate) struct Servers {
    dir: tempfile::TempDir,
    pub(crate) settings: Vec<String>,
    all: Vec<Child>,
}

/// Where a jobmanager is.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) rpc: u16,
    pub(crate) rest: u16,
}

impl Place {
    pub(crate) fn any() -> Self {
        let [rpc, rest] = [0, 0].map(|_| free_port());
        Self { rpc, rest }
    }
}

/// One that the system gives to nobody by itself: it stays free while a process that had it is started again.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = std::process::id() * 31 + NEXT.fetch_add(1, Relaxed);
        let port = u16::try_from(20_000 + step % 12_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Servers {
    pub(crate) fn new(settings: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = format!("high-availability.storageDir={}", dir.path().join("ha").display());
        let settings = settings.iter().cloned().chain([storage]).collect();
        let all = Vec::new();
        Self { dir, settings, all }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&mut self, name: &str, args: &[String]) -> u32 {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(name))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hurtig"));
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().unwrap();
        let process = child.id();
        self.all.push(child);
        process
    }

    pub(crate) fn jobmanager(&mut self, name: &str, place: Place) -> u32 {
        let ports = [
            "jobmanager".to_owned(),
            format!("--port={}", place.rpc),
            format!("--rest-port={}", place.rest),
        ];
        let settings = self.settings.iter().map(|setting| format!("-D{setting}"));
        let args: Vec<String> = ports.into_iter().chain(settings).collect();
        self.start(name, &args)
    }

    pub(crate) fn task_manager(&mut self, name: &str, places: &[Place], slots: u32) -> u32 {
        let jobmanagers = places.iter().map(|place| format!("127.0.0.1:{}", place.rpc));
        let jobmanagers: Vec<String> = jobmanagers.collect();
        let args = [
            "taskmanager".to_owned(),
            format!("--jobmanager={}", jobmanagers.join(",")),
            format!("--slots={slots}"),
            format!("--work-dir={}", self.path("work").join(name).display()),
            format!("--log-dir={}", self.path("log").display()),
        ];
        self.start(name, &args)
    }

    /// Kills a process, and waits for its end.
    pub(crate) fn kill(&mut self, process: u32) {
        let at = self.all.iter().position(|child| child.id() == process).unwrap();
        let mut child = self.all.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks a process to end, and says how it has.
    fn end(&mut self, process: u32) -> ExitStatus {
        let at = self.all.iter().position(|child| child.id() == process).unwrap();
        kill(process, "TERM");
        self.all.remove(at).wait().unwrap()
    }

    /// What a command of the program says, when it succeeds.
    pub(crate) fn hurtig(&self, place: Place, args: &[&str]) -> Option<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hurtig"));
        let rest = format!("--rest=http://127.0.0.1:{}", place.rest);
        let output = command.args(args).arg(rest).output().unwrap();
        let said = text(&output);
        output.status.success().then_some(said)
    }

    /// The state of the only job.
    pub(crate) fn state(&self, place: Place) -> Option<String> {
        Some(self.jobs(place)?.first()?["state"].as_str().unwrap().to_owned())
    }

    /// All jobs, those that have ended too.
    pub(crate) fn jobs(&self, place: Place) -> Option<Vec<serde_json::Value>> {
        let list = self.hurtig(place, &["list", "-a", "--output=json"])?;
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        Some(list["jobs"].as_array().unwrap().clone())
    }

    pub(crate) fn run(&self, place: Place, settings: &[String], example: &str, args: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hurtig"));
        command.args(["run", "--detached"]);
        command.arg(format!("--rest=http://127.0.0.1:{}", place.rest));
        settings
            .iter()
            .for_each(|setting| _ = command.args(["-D", setting]));
        let submitted = command.arg(artifact(example)).args(args).output().unwrap();
        assert!(submitted.status.success(), "{}", text(&submitted));
    }

    /// The processes of jobs, by role.
    pub(crate) fn processes(&self, role: &str) -> Vec<u32> {
        let here = self.path("work");
        all_processes(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).contains(&format!("--hurtig-role={role}"))
                && cwd(pid).is_some_and(|cwd| cwd.starts_with(&here))
        })
    }

    pub(crate) fn log(&self, wanted: &str) -> bool {
        std::fs::read_dir(self.dir.path()).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            path.is_file() && std::fs::read_to_string(path).unwrap_or_default().contains(wanted)
        })
    }

    pub(crate) fn logs(&self) -> String {
        let files = std::fs::read_dir(self.dir.path()).unwrap();
        let files = files
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file());
        let texts = files.map(|path| {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            format!("--- {}\n{text}\n", path.display())
        });
        texts.collect()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.all {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            println!("{}", self.logs());
        }
    }
}

pub(crate) fn file_store() -> Vec<String> {
    vec!["high-availability.type=file".to_owned()]
}

pub(crate) fn numbers(servers: &Servers, place: Place, count: u64) -> (PathBuf, PathBuf) {
    let (out, checkpoints) = (servers.path("out"), servers.path("checkpoints"));
    until("a TaskManager", || servers.log("registered stamp").then_some(()));
    let args = [out.to_str().unwrap(), &count.to_string(), "4000"];
    servers.run(place, &with_checkpoints(&checkpoints), "numbered", &args);
    (out, checkpoints)
}

fn finishes(servers: &Servers, place: Place, out: &Path, count: u64) {
    until("it is finished", || {
        (servers.state(place).as_deref() == Some("FINISHED")).then_some(())
    });
    check_numbers(out, count);
}

/// Under another leader tasks run on: nothing is started again, by whomever.
#[test]
fn a_job_runs_on_while_its_jobmanager_is_killed_and_started_again() {
    let mut servers = Servers::new(&file_store());
    let (place, count) = (Place::any(), 100_000);
    let jobmanager = servers.jobmanager("jobmanager", place);
    servers.task_manager("taskmanager", &[place], 2);
    let (out, checkpoints) = numbers(&servers, place, count);
    let latest = checkpoint(&checkpoints, 0);
    let before = [servers.processes("worker"), servers.processes("job-master")];
    servers.kill(jobmanager);
    servers.jobmanager("jobmanager", place);
    let begin = now();
    until("it is RUNNING", || {
        (servers.state(place).as_deref() == Some("RUNNING")).then_some(())
    });
    println!(
        "a killed jobmanager: {:?} until the next one knew of the job",
        begin.elapsed()
    );
    checkpoint(&checkpoints, latest);
    println!(
        "a killed jobmanager: {:?} until the next checkpoint",
        begin.elapsed()
    );
    let after = [servers.processes("worker"), servers.processes("job-master")];
    assert_eq!(before, after, "{}", servers.logs());
    // It has its slots, and what becomes of a worker is known.
    kill(after[0][0], "KILL");
    finishes(&servers, place, &out, count);
}

#[test]
fn servers_that_are_asked_to_end_do_so_well() {
    let mut servers = Servers::new(&file_store());
    let place = Place::any();
    let jobmanager = servers.jobmanager("jobmanager", place);
    let task_manager = servers.task_manager("taskmanager", &[place], 2);
    until("a TaskManager", || servers.log("registered stamp").then_some(()));
    for (name, process) in [("jobmanager", jobmanager), ("taskmanager", task_manager)] {
        let ended = servers.end(process);
        let log = std::fs::read_to_string(servers.path(name)).unwrap();
        assert!(ended.success() && !log.contains("panicked"), "{ended}: {log}");
    }
}

#[test]
fn a_jobmanager_can_be_asked_to_end_as_soon_as_it_leads() {
    for _ in 0..5 {
        let mut servers = Servers::new(&file_store());
        let jobmanager = servers.jobmanager("jobmanager", Place::any());
        let begin = now();
        while !servers.log("leads term=") {
            assert!(begin.elapsed() < PATIENCE, "{}", servers.logs());
        }
        let ended = servers.end(jobmanager);
        assert!(ended.success(), "{ended}");
    }
}

#[test]
fn who_waits_for_a_job_waits_while_its_jobmanager_is_started_again() {
    let mut servers = Servers::new(&file_store());
    let (place, count) = (Place::any(), 20_000);
    let jobmanager = servers.jobmanager("jobmanager", place);
    servers.task_manager("taskmanager", &[place], 2);
    until("a TaskManager", || servers.log("registered stamp").then_some(()));
    let (out, checkpoints) = (servers.path("out"), servers.path("checkpoints"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_hurtig"));
    command.args(["run", &format!("--rest=http://127.0.0.1:{}", place.rest)]);
    for setting in with_checkpoints(&checkpoints) {
        command.args(["-D", &setting]);
    }
    let args = [out.to_str().unwrap(), &count.to_string(), "4000"];
    command.arg(artifact("numbered")).args(args);
    let waiting = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    checkpoint(&checkpoints, 0);
    servers.kill(jobmanager);
    // It asks five times a second, and says what it waits for to a terminal only.
    let begin = now();
    until("it is missed", || (begin.elapsed().as_secs() >= 1).then_some(()));
    servers.jobmanager("jobmanager", place);
    let output = waiting.wait_with_output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}\n{}", servers.logs());
    assert!(said.contains("SUCCEEDED"), "{said}");
    check_numbers(&out, count);
}

#[test]
fn jobs_go_on_when_everything_was_killed_and_those_that_ended_do_not() {
    let mut servers = Servers::new(&file_store());
    let (place, count) = (Place::any(), 80_000);
    let mut jobmanager = servers.jobmanager("jobmanager", place);
    let mut task_manager = servers.task_manager("taskmanager", &[place], 2);
    let (out, checkpoints) = numbers(&servers, place, count);
    let mut latest = 0;
    for _ in 0..3 {
        latest = checkpoint(&checkpoints, latest);
        servers.kill(jobmanager);
        servers.kill(task_manager);
        jobmanager = servers.jobmanager("jobmanager", place);
        task_manager = servers.task_manager("taskmanager", &[place], 2);
    }
    finishes(&servers, place, &out, count);
    servers.kill(jobmanager);
    servers.jobmanager("jobmanager", place);
    let state = until("it is remembered", || servers.state(place));
    assert_eq!(state, "FINISHED");
    assert_eq!(servers.processes("job-master"), Vec::<u32>::new());
    let jobs = servers.jobs(place).unwrap();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
}

#[test]
fn a_cancellation_is_not_forgotten_with_who_was_asked() {
    let mut servers = Servers::new(&file_store());
    let place = Place::any();
    let jobmanager = servers.jobmanager("jobmanager", place);
    let task_manager = servers.task_manager("taskmanager", &[place], 2);
    let (_, checkpoints) = numbers(&servers, place, 100_000_000);
    checkpoint(&checkpoints, 0);
    let job = servers.jobs(place).unwrap()[0]["jid"]
        .as_str()
        .unwrap()
        .to_owned();
    // It can hear of nothing.
    let master = servers.processes("job-master")[0];
    kill(master, "STOP");
    servers.hurtig(place, &["cancel", &job]).unwrap();
    servers.kill(jobmanager);
    servers.kill(task_manager);
    servers.jobmanager("jobmanager", place);
    servers.task_manager("taskmanager", &[place], 2);
    until("it is cancelled", || {
        (servers.state(place).as_deref() == Some("CANCELED")).then_some(())
    });
}

#[test]
fn of_two_jobmanagers_the_other_one_leads_when_one_is_killed_or_stopped() {
    let Some(etcd) = Etcd::start() else { return };
    let settings = [
        "high-availability.type=etcd".to_owned(),
        format!("high-availability.etcd.endpoints={}", etcd.url()),
    ];
    let mut servers = Servers::new(&settings);
    let [one, other] = [Place::any(), Place::any()];
    let first = servers.jobmanager("jobmanager-1", one);
    until("it leads", || servers.hurtig(one, &["list"]));
    let second = servers.jobmanager("jobmanager-2", other);
    servers.task_manager("taskmanager", &[one, other], 2);
    // By way of the one that does not lead, the artifact too.
    let (_, checkpoints) = numbers(&servers, other, 100_000_000);
    let mut latest = checkpoint(&checkpoints, 0);
    let before = [servers.processes("worker"), servers.processes("job-master")];
    assert_eq!(servers.state(other).as_deref(), Some("RUNNING"));
    let running =
        |place: Place| move |servers: &Servers| servers.state(place).filter(|state| state == "RUNNING");
    servers.kill(first);
    let begin = now();
    until("the other one leads", || running(other)(&servers));
    println!(
        "a killed leader: {:?} until the other one knew of the job",
        begin.elapsed()
    );
    latest = checkpoint(&checkpoints, latest);
    servers.jobmanager("jobmanager-1", one);
    kill(second, "STOP");
    let begin = now();
    until("the first one leads again", || running(one)(&servers));
    println!(
        "a stopped leader: {:?} until the other one knew of the job",
        begin.elapsed()
    );
    kill(second, "CONT");
    latest = checkpoint(&checkpoints, latest);
    until("who was stopped begins again, and does not lead", || {
        let begun = servers.log("begins again: another jobmanager leads");
        (begun && running(other)(&servers).is_some()).then_some(())
    });
    checkpoint(&checkpoints, latest);
    let after = [servers.processes("worker"), servers.processes("job-master")];
    assert_eq!(before, after, "nothing was started again:\n{}", servers.logs());
    let job = servers.jobs(other).unwrap()[0]["jid"]
        .as_str()
        .unwrap()
        .to_owned();
    servers.hurtig(other, &["cancel", &job]).unwrap();
    until("it is cancelled", || {
        (servers.state(other).as_deref() == Some("CANCELED")).then_some(())
    });
}

#[test]
fn a_cluster_that_is_stopped_and_started_goes_on_with_its_jobs() {
    let durable = ["-D", "high-availability.type=file"];
    let cluster = Cluster::start_with(1, 2, &durable);
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let args = [out.to_str().unwrap(), "100000000", "4000"];
    let run = cluster.run(&with_checkpoints(&checkpoints), "numbered", &args);
    let latest = checkpoint(&checkpoints, 0);
    let stopped = cluster.hurtig(&["cluster", "stop"]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    assert!(cluster.left().is_empty(), "{:?}", cluster.left());
    assert!(
        !run.wait_with_output().unwrap().status.success(),
        "nobody answers it"
    );
    let mut start = cluster.command(&["cluster", "start", "--rest-port=0", "--port=0", "--slots=2"]);
    let started = start.args(durable).output().unwrap();
    assert!(started.status.success(), "{}", text(&started));
    checkpoint(&checkpoints, latest);
    let job = until("RUNNING", || cluster.job_in("RUNNING"));
    let cancelled = cluster.hurtig(&["cancel", &job]);
    assert!(cancelled.status.success(), "{}", text(&cancelled));
    until("CANCELED", || cluster.job_in("CANCELED"));
}

/// A way to a port that can be cut.
pub(crate) struct Line {
    pub(crate) port: u16,
    pub(crate) cut: Arc<AtomicBool>,
}

impl Line {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Self {
            port: listener.local_addr().unwrap().port(),
            cut: Arc::default(),
        };
        let cut = line.cut.clone();
        std::thread::spawn(move || {
            for here in listener.incoming() {
                let Ok(here) = here else { return };
                if cut.load(Relaxed) {
                    continue;
                }
                let Ok(there) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                for (from, to) in [(&here, &there), (&there, &here)] {
                    let (from, to, cut) = (from.try_clone().unwrap(), to.try_clone().unwrap(), cut.clone());
                    std::thread::spawn(move || carry(from, to, &cut));
                }
            }
        });
        line
    }
}

/// What was sent after the cut never arrives, and nobody is told.
fn carry(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(some @ 1..) = from.read(&mut bytes) {
        if !cut.load(Relaxed) && to.write_all(&bytes[..some]).is_err() {
            return;
        }
    }
}

/// It answers TaskManagers and JobMasters as before, and does not know that somebody else leads.
#[test]
fn a_leader_that_is_cut_off_from_etcd_is_left_and_nothing_is_started_again() {
    let Some(etcd) = Etcd::start() else { return };
    let line = Line::to(etcd.port());
    let kind = "high-availability.type=etcd".to_owned();
    let mut servers = Servers::new(&[kind]);
    let storage = servers.settings.clone();
    let endpoints = |url: &str| [format!("high-availability.etcd.endpoints={url}")];
    let with = |url: &str| storage.iter().cloned().chain(endpoints(url)).collect::<Vec<_>>();
    let [one, other] = [Place::any(), Place::any()];
    servers.settings = with(&format!("http://127.0.0.1:{}", line.port));
    servers.jobmanager("jobmanager-1", one);
    until("it leads", || servers.hurtig(one, &["list"]));
    servers.settings = with(&etcd.url());
    servers.jobmanager("jobmanager-2", other);
    servers.task_manager("taskmanager", &[one, other], 2);
    let (_, checkpoints) = numbers(&servers, one, 100_000_000);
    let latest = checkpoint(&checkpoints, 0);
    let before = [servers.processes("worker"), servers.processes("job-master")];
    line.cut.store(true, Relaxed);
    let begin = now();
    until("the other one leads, and has the job", || {
        (servers.state(other).as_deref() == Some("RUNNING")).then_some(())
    });
    println!(
        "a leader that was cut off: {:?} until the other one had its job",
        begin.elapsed()
    );
    checkpoint(&checkpoints, latest);
    line.cut.store(false, Relaxed);
    until("who was cut off begins again", || {
        servers
            .log("begins again: another jobmanager leads")
            .then_some(())
    });
    until("and serves by way of the other", || {
        (servers.state(one).as_deref() == Some("RUNNING")).then_some(())
    });
    let after = [servers.processes("worker"), servers.processes("job-master")];
    assert_eq!(before, after, "nothing was started again:\n{}", servers.logs());
}
