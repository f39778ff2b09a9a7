//! A cluster of processes that a test has started one by one, so that it can kill and stop each of them.

use crate::etcd_process::Etcd;
use hurtig_end_to_end::cluster_binary;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take: a machine that builds something else beside this is slow.
const PATIENCE: Duration = Duration::from_secs(150);
/// Jobmanagers of a cluster with an etcd.
pub(crate) const LEADERS: usize = 3;
pub(crate) const TASK_MANAGERS: usize = 3;

#[expect(
    clippy::disallowed_methods,
    reason = "the test measures what a user waits for"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a fault lasts for a while, whatever happens in it"
)]
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Looks until there is something, and says after which time.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> (T, Duration) {
    let begin = now();
    loop {
        if let Some(found) = look() {
            return (found, begin.elapsed());
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(10));
    }
}

/// A process that is started again, with the same arguments, after it was killed.
struct Server {
    name: String,
    args: Vec<String>,
    child: Child,
}

/// A jobmanager's ports.
#[derive(Clone, Copy)]
struct Place {
    rpc: u16,
    rest: u16,
}

/// A cluster, in a directory of its own.
pub(crate) struct Stand {
    dir: tempfile::TempDir,
    pub(crate) etcd: Option<Etcd>,
    places: Vec<Place>,
    jobmanagers: Vec<Server>,
    task_managers: Vec<Server>,
}

/// One that the system gives to nobody by itself, and no other test has: it stays free while a process that had it is
/// started again.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = std::process::id() * 37 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(12_000 + step % 8_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Stand {
    /// One jobmanager, or several that have an etcd, and TaskManagers of two slots.
    pub(crate) fn start(etcd: Option<Etcd>) -> Self {
        let mut stand = Self {
            dir: tempfile::tempdir().unwrap(),
            etcd,
            places: Vec::new(),
            jobmanagers: Vec::new(),
            task_managers: Vec::new(),
        };
        for number in 0..stand.etcd.as_ref().map_or(1, |_| LEADERS) {
            let [rpc, rest] = [(); 2].map(|()| free_port());
            stand.places.push(Place { rpc, rest });
            let args = stand.jobmanager(stand.places[number]);
            let server = stand.launch(format!("jobmanager-{number}"), args);
            stand.jobmanagers.push(server);
        }
        for number in 0..TASK_MANAGERS {
            let args = stand.task_manager(number);
            let server = stand.launch(format!("taskmanager-{number}"), args);
            stand.task_managers.push(server);
        }
        stand
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn jobmanager(&self, place: Place) -> Vec<String> {
        let mut args = vec![
            "jobmanager".to_owned(),
            format!("--port={}", place.rpc),
            format!("--rest-port={}", place.rest),
        ];
        match &self.etcd {
            None => args.push(format!("--storage-dir={}", self.path("storage").display())),
            Some(etcd) => args.extend([
                "-Dhigh-availability.type=etcd".to_owned(),
                format!("-Dhigh-availability.etcd.endpoints={}", etcd.url()),
                format!("-Dhigh-availability.storageDir={}", self.path("ha").display()),
            ]),
        }
        args
    }

    fn task_manager(&self, number: usize) -> Vec<String> {
        let jobmanagers = self.places.iter().map(|place| format!("127.0.0.1:{}", place.rpc));
        let jobmanagers: Vec<String> = jobmanagers.collect();
        vec![
            "taskmanager".to_owned(),
            format!("--jobmanager={}", jobmanagers.join(",")),
            "--slots=2".to_owned(),
            format!(
                "--work-dir={}",
                self.path("work").join(number.to_string()).display()
            ),
            format!("--log-dir={}", self.path("log").display()),
        ]
    }

    fn launch(&self, name: String, args: Vec<String>) -> Server {
        let child = self.spawn(&name, &args);
        Server { name, args, child }
    }

    fn spawn(&self, name: &str, args: &[String]) -> Child {
        let mut log = std::fs::OpenOptions::new();
        let log = log
            .create(true)
            .append(true)
            .open(self.path(&format!("{name}.log")))
            .unwrap();
        let mut command = Command::new(cluster_binary());
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.spawn().unwrap()
    }

    /// Runs a command of `hurtig` at some jobmanager that answers.
    pub(crate) fn ask(&self, args: &[&str], more: &[String]) -> Result<String, String> {
        let mut said = String::new();
        for place in &self.places {
            let mut command = Command::new(cluster_binary());
            command.arg(args[0]);
            command.arg(format!("--rest=http://127.0.0.1:{}", place.rest));
            let output = command.args(&args[1..]).args(more).output().unwrap();
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            said.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        Err(said)
    }

    /// The state of the only job.
    pub(crate) fn state(&self) -> Option<String> {
        let list = self.ask(&["list", "-a", "--output=json"], &[]).ok()?;
        let list: serde_json::Value = serde_json::from_str(&list).ok()?;
        Some(list["jobs"][0]["state"].as_str()?.to_owned())
    }

    /// The processes of jobs, by role: those that have a working directory here.
    pub(crate) fn processes(&self, role: &str) -> Vec<u32> {
        let here = self.path("work");
        let entries = std::fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let is_one = |pid: &u32| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
            String::from_utf8_lossy(&arguments).contains(&format!("--hurtig-role={role}"))
                && cwd.is_ok_and(|cwd| cwd.starts_with(&here))
        };
        pids.filter(is_one).collect()
    }

    /// The jobmanager that leads, as far as logs say.
    pub(crate) fn leader(&self) -> usize {
        let terms = (0..self.jobmanagers.len()).map(|number| {
            let log = std::fs::read_to_string(self.path(&format!("jobmanager-{number}.log")));
            let log = log.unwrap_or_default();
            let last = log.rsplit_once("leads term").map_or("", |(_, last)| last);
            let digits = last.trim_start_matches(|c: char| !c.is_ascii_digit());
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            (digits[..end].parse::<u64>().unwrap_or(0), number)
        });
        terms.max().map_or(0, |(_, number)| number)
    }

    fn servers(&mut self, leaders: bool) -> &mut Vec<Server> {
        match leaders {
            true => &mut self.jobmanagers,
            false => &mut self.task_managers,
        }
    }

    /// Kills a jobmanager or a TaskManager, and starts it again after a while.
    pub(crate) fn kill(&mut self, leaders: bool, number: usize, pause: Duration) {
        let server = &mut self.servers(leaders)[number];
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        sleep(pause);
        let (name, args) = (server.name.clone(), server.args.clone());
        let child = self.spawn(&name, &args);
        self.servers(leaders)[number].child = child;
    }

    /// Kills jobmanagers, TaskManagers, launchers and the processes of jobs, and starts the cluster again after a while.
    pub(crate) fn kill_everything(&mut self, pause: Duration) {
        let roles = ["worker", "job-master", "launcher"].map(|role| self.processes(role));
        let servers = self.jobmanagers.iter().chain(&self.task_managers);
        let all: Vec<u32> = servers
            .map(|server| server.child.id())
            .chain(roles.into_iter().flatten())
            .collect();
        signal_all(&all, "KILL");
        for server in self.jobmanagers.iter_mut().chain(&mut self.task_managers) {
            server.child.wait().unwrap();
        }
        sleep(pause);
        for leaders in [true, false] {
            for number in 0..self.servers(leaders).len() {
                let server = &self.servers(leaders)[number];
                let (name, args) = (server.name.clone(), server.args.clone());
                self.servers(leaders)[number].child = self.spawn(&name, &args);
            }
        }
    }

    /// Ends a TaskManager for good, with all that it runs.
    pub(crate) fn remove(&mut self, number: usize) {
        let server = &mut self.task_managers[number];
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }

    /// Starts a TaskManager again that was removed.
    pub(crate) fn add(&mut self, number: usize) {
        let (name, args) = (
            self.task_managers[number].name.clone(),
            self.task_managers[number].args.clone(),
        );
        self.task_managers[number].child = self.spawn(&name, &args);
    }

    /// Stops a jobmanager or a TaskManager for a while.
    pub(crate) fn pause(&mut self, leaders: bool, number: usize, pause: Duration) {
        let process = self.servers(leaders)[number].child.id();
        signal(process, "STOP");
        sleep(pause);
        signal(process, "CONT");
    }

    /// The id of the newest complete checkpoint of the job; 0: there is none.
    pub(crate) fn checkpoint(&self) -> u64 {
        newest(&self.path("checkpoints"))
    }

    fn logs(&self) -> String {
        let mut logs = String::new();
        for folder in [self.dir.path().to_owned(), self.path("log")] {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let from = text.len().saturating_sub(3_000);
                let tail = text.get(from..).unwrap_or(&text);
                let _ = writeln!(logs, "--- {}\n{tail}", entry.path().display());
            }
        }
        logs
    }
}

/// Sends a signal to a process, which may have ended.
pub(crate) fn signal(process: u32, name: &str) -> bool {
    signal_all(&[process], name)
}

/// Sends a signal to processes at once. False when one of them has ended.
fn signal_all(processes: &[u32], name: &str) -> bool {
    let processes: Vec<String> = processes.iter().map(u32::to_string).collect();
    let processes = processes.join(" ");
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -s {name} {processes} 2>/dev/null")])
        .status();
    sent.is_ok_and(|status| status.success())
}

fn newest(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        match name.strip_prefix("chk-").and_then(|id| id.parse().ok()) {
            Some(id) if entry.path().join("_metadata").is_file() => id,
            Some(_) => 0,
            None => newest(&entry.path()),
        }
    };
    entries.map(of).max().unwrap_or(0)
}

impl Drop for Stand {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), self.logs().as_bytes());
        }
        for server in self.task_managers.iter_mut().chain(&mut self.jobmanagers) {
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
        // Their launchers end them; one that is stopped does not hear that its parent has gone.
        for role in ["worker", "job-master", "launcher"] {
            self.processes(role)
                .into_iter()
                .for_each(|process| _ = signal(process, "KILL"));
        }
    }
}
