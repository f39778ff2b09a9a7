//! Clusters of real processes, and what is found out about them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// An example of this crate, which `cargo test` has built.
pub(crate) fn artifact(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples")
        .join(name)
}

/// The form that uploads an artifact under a name, of `multipart/form-data; boundary=end`.
pub(crate) fn upload_of(artifact_name: &str, as_name: &str) -> Vec<u8> {
    let head = "--end\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=";
    let mut form = format!("{head}\"{as_name}\"\r\n\r\n").into_bytes();
    form.extend(std::fs::read(artifact(artifact_name)).unwrap());
    form.extend(b"\r\n--end--\r\n");
    form
}

/// The id that was given to what was uploaded.
pub(crate) fn uploaded_id(answer: &serde_json::Value) -> String {
    let path = answer["filename"].as_str().unwrap();
    path.rsplit('/').next().unwrap().to_owned()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test measures what a user waits for"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process is waited for, by looking"
)]
pub(crate) fn turn() {
    std::thread::sleep(Duration::from_millis(5));
}

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
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
pub(crate) struct Cluster {
    dir: TempDir,
    /// What all its processes and commands find in their environment.
    pub(crate) environment: Vec<(String, String)>,
}

impl Cluster {
    pub(crate) fn start(task_managers: u32, slots: u32) -> Self {
        Self::start_with(task_managers, slots, &[])
    }

    /// The directory of one that the test starts itself.
    pub(crate) fn not_started() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let environment = Vec::new();
        Self { dir, environment }
    }

    pub(crate) fn start_with(task_managers: u32, slots: u32, more: &[&str]) -> Self {
        let cluster = Self::not_started();
        cluster.begin(task_managers, slots, more);
        cluster
    }

    /// Starts one that has a directory.
    pub(crate) fn begin(&self, task_managers: u32, slots: u32, more: &[&str]) {
        let numbers = [
            format!("--task-managers={task_managers}"),
            format!("--slots={slots}"),
        ];
        let mut command = self.command(&["cluster", "start", "--rest-port=0", "--port=0"]);
        let started = command.args(numbers).args(more).output().unwrap();
        assert!(started.status.success(), "{}\n{}", text(&started), self.logs());
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hurtig"));
        command
            .env("HURTIG_CLUSTER_DIR", self.path())
            .envs(self.environment.clone())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn hurtig(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs an example in the background until its job has ended.
    pub(crate) fn run(&self, settings: &[String], example: &str, args: &[&str]) -> Child {
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
    pub(crate) fn processes(&self, role: &str) -> Vec<u32> {
        let here = self.path().join("work");
        all_processes(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).into_owned();
            arguments.contains(&format!("--hurtig-role={role}"))
                && cwd(pid).is_some_and(|cwd| cwd.starts_with(&here))
        })
    }

    pub(crate) fn known(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.path().join("cluster.json")).unwrap()).unwrap()
    }

    /// The TaskManager of which a process is.
    pub(crate) fn task_manager_of(&self, process: u32) -> u32 {
        let launcher = parent(process).unwrap();
        parent(launcher).unwrap()
    }

    /// The jobmanager and the TaskManagers.
    pub(crate) fn servers(&self) -> Vec<u32> {
        let known = self.known();
        let task_managers = known["task_managers"].as_array().unwrap().iter();
        task_managers.chain([&known["jobmanager"]]).map(number).collect()
    }

    /// Starts one more TaskManager.
    pub(crate) fn task_manager(&self, name: &str, slots: u32) -> Child {
        let (work, log) = (self.path().join("work").join(name), self.path().join("log"));
        let mut command = self.command(&["taskmanager"]);
        command
            .arg(format!("--jobmanager={}", self.known()["rpc"].as_str().unwrap()))
            .arg(format!("--slots={slots}"))
            .arg(format!("--work-dir={}", work.display()))
            .arg(format!("--log-dir={}", log.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// What the REST API answers.
    pub(crate) fn get(&self, path: &str) -> serde_json::Value {
        self.request("GET", path, &[], b"")
    }

    /// Says it as plainly as HTTP can be said, so that nothing but the server makes it right.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> serde_json::Value {
        serde_json::from_slice(&self.answer(method, path, headers, body).1).unwrap()
    }

    /// The same with its status, and an answer that may be anything.
    pub(crate) fn answer(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, Vec<u8>) {
        let known = self.known();
        let address = known["rest"].as_str().unwrap().strip_prefix("http://").unwrap();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: {address}\r\n");
        }
        headers
            .iter()
            .for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head.push_str("\r\n");
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        (status, answer.split_off(end + 4))
    }

    /// A job in this state.
    pub(crate) fn job_in(&self, state: &str) -> Option<String> {
        let jobs = self.get("/jobs");
        let mut jobs = jobs["jobs"].as_array().unwrap().iter();
        let job = jobs.find(|job| job["status"] == state)?;
        Some(job["id"].as_str().unwrap().to_owned())
    }

    /// The job that was submitted last.
    pub(crate) fn last_job(&self) -> String {
        let jobs = self.get("/jobs/overview");
        let jobs = jobs["jobs"].as_array().unwrap().iter();
        let last = jobs.max_by_key(|job| job["start-time"].as_i64()).unwrap();
        last["jid"].as_str().unwrap().to_owned()
    }

    /// Says what runs in the directory of a process, wherever that is by now.
    pub(crate) fn at(&self, process: u32) -> impl Fn() -> Vec<u32> + use<> {
        let home = cwd(process).unwrap();
        move || all_processes(|pid| cwd(pid).is_some_and(|cwd| cwd.starts_with(&home)))
    }

    /// Says what runs in the directories of all processes of its TaskManager.
    pub(crate) fn beside(&self, process: u32) -> impl Fn() -> Vec<u32> + use<> {
        let home = cwd(process).unwrap().parent().unwrap().to_owned();
        move || all_processes(|pid| cwd(pid).is_some_and(|cwd| cwd.starts_with(&home)))
    }

    pub(crate) fn logs(&self) -> String {
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
    pub(crate) fn left(&self) -> Vec<u32> {
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

pub(crate) fn all_processes(wanted: impl Fn(u32) -> bool) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| wanted(*pid)).collect()
}

pub(crate) fn cwd(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Whether a process has not ended.
pub(crate) fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(pid)
}

/// The number of a process.
pub(crate) fn number(value: &serde_json::Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

pub(crate) fn kill(pid: u32, signal: &str) {
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -s {signal} {pid}")])
        .status()
        .unwrap();
    assert!(killed.success(), "kill -s {signal} {pid}");
}

pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub(crate) fn finished(cluster: &Cluster, run: Child) {
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{}", text(&output), cluster.logs());
}

/// Lines of the visible files of a folder and those below it.
pub(crate) fn lines(folder: &Path) -> Vec<String> {
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
pub(crate) fn check_numbers(out: &Path, count: u64) {
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

pub(crate) fn with_checkpoints(dir: &Path) -> Vec<String> {
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
pub(crate) fn checkpoint(dir: &Path, beyond: u64) -> u64 {
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

pub(crate) fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

impl Cluster {
    /// Says how much memory each process has to itself, shared pages counted in part.
    pub(crate) fn figures(&self) {
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
