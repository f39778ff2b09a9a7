//! A cluster of this machine in the background: a jobmanager and TaskManagers, known by a directory.

use crate::client::{Rest, with};
use crate::say;
use crate::servers::Balance;
use awc::http::Method;
use clap::Args;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// How long the processes may take to be ready.
const START_TURNS: u32 = 1_500;
/// How long jobs may take to end, and the processes after them.
const STOP_TURNS: u32 = 9_000;
/// How long TaskManagers have to end with their jobmanager.
const LEADERLESS_TURNS: u32 = 50;
/// How often they are looked at.
const TURN: Duration = Duration::from_millis(10);

/// Where a cluster is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Where {
    /// Its directory: logs, artifacts, and who its processes are.
    #[arg(long, env = "HURTIG_CLUSTER_DIR")]
    dir: Option<PathBuf>,
}

/// How a cluster is started.
#[derive(Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    place: Where,
    /// How many TaskManagers.
    #[arg(long, default_value_t = 1)]
    task_managers: u32,
    /// How many slots each of them has; otherwise as many as the machine has cores.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
    /// Which free slots a job gets.
    #[arg(long, default_value = "none")]
    load_balance: Balance,
    /// The port of the REST API; 0: any that is free.
    #[arg(long, default_value_t = 8081)]
    rest_port: u16,
    /// The port at which TaskManagers reach the jobmanager; 0: any that is free.
    #[arg(long, default_value_t = 6123)]
    port: u16,
    /// A setting of the jobmanager, as `high-availability.type=file`.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    definitions: Vec<String>,
}

/// What is remembered of a cluster.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    rest: String,
    rpc: String,
    jobmanager: u32,
    task_managers: Vec<u32>,
}

fn directory(dir: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(dir) = dir {
        return std::path::absolute(dir).map_err(|error| format!("{}: {error}", dir.display()));
    }
    let home = std::env::var_os("HOME").ok_or("HOME is not set: name the cluster's directory with --dir")?;
    Ok(Path::new(&home).join(".local/state/hurtig"))
}

fn read(dir: &Path) -> Result<Option<Known>, String> {
    let path = dir.join("cluster.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| format!("{}: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// The REST address of the cluster in a directory.
pub(crate) fn rest_address(dir: Option<&Path>) -> Result<String, String> {
    let dir = directory(dir)?;
    let known = read(&dir)?;
    known.map(|known| known.rest).ok_or_else(|| {
        format!(
            "there is no cluster in {}: start one with `hurtig cluster start`, or name one with --rest",
            dir.display()
        )
    })
}

fn is_alive(process: u32) -> bool {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok()) && !is_zombie(process)
}

fn terminate(process: u32) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw)
        && is_alive(process)
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        say::error(&format!("process {process} cannot be ended: {error}"));
    }
}

/// It has ended, and who has started it has not asked.
fn is_zombie(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Starts a process that outlives this one.
fn spawn(dir: &Path, name: &str, arguments: &[String]) -> Result<Child, String> {
    let log = dir.join("log").join(format!("{name}.log"));
    let open = |log: &Path| -> std::io::Result<[File; 2]> {
        let file = OpenOptions::new().create(true).append(true).open(log)?;
        Ok([file.try_clone()?, file])
    };
    let [out, err] = open(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0);
    command
        .spawn()
        .map_err(|error| format!("{name} cannot be started: {error}"))
}

pub(crate) fn start(args: &StartArgs) -> Result<ExitCode, String> {
    let dir = directory(args.place.dir.as_deref())?;
    if let Some(known) = read(&dir)?
        && is_alive(known.jobmanager)
    {
        return Err(format!(
            "a cluster runs in {} (process {}): stop it first",
            dir.display(),
            known.jobmanager
        ));
    }
    std::fs::create_dir_all(dir.join("log")).map_err(|error| format!("{}: {error}", dir.display()))?;
    let addresses = dir.join("addresses.json");
    // One that a cluster has left behind.
    let _ = std::fs::remove_file(&addresses);
    let mut jobmanager = spawn(&dir, "jobmanager", &jobmanager_arguments(args, &dir, &addresses))?;
    let started = complete(args, &dir, &addresses, jobmanager.id());
    if started.is_err() {
        // It may have ended, and TaskManagers end with it.
        let _ = jobmanager.kill();
        let _ = jobmanager.wait();
        let _ = std::fs::remove_file(dir.join("cluster.json"));
    }
    started
}

/// Waits for the jobmanager, and starts TaskManagers for it.
fn complete(args: &StartArgs, dir: &Path, addresses: &Path, jobmanager: u32) -> Result<ExitCode, String> {
    with(async {
        let (rpc, rest) = addresses_of(addresses, jobmanager, dir).await?;
        let mut known = Known {
            rest,
            rpc,
            jobmanager,
            task_managers: Vec::new(),
        };
        for number in 1..=args.task_managers {
            let arguments = task_manager_arguments(args, dir, &known.rpc, number);
            let spawned = spawn(dir, &format!("taskmanager-{number}"), &arguments)?;
            known.task_managers.push(spawned.id());
        }
        let text = serde_json::to_vec_pretty(&known).map_err(|error| error.to_string())?;
        std::fs::write(dir.join("cluster.json"), text)
            .map_err(|error| format!("{}: {error}", dir.display()))?;
        registered(&Rest::new(&known.rest), args.task_managers, dir).await?;
        say::line(format_args!(
            "jobmanager at {}, {} TaskManagers; logs in {}",
            known.rest,
            args.task_managers,
            dir.join("log").display()
        ));
        Ok(ExitCode::SUCCESS)
    })
}

fn jobmanager_arguments(args: &StartArgs, dir: &Path, addresses: &Path) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    let settings = args.definitions.iter().map(|setting| format!("-D{setting}"));
    let own = [
        "jobmanager".to_owned(),
        format!("--port={}", args.port),
        format!("--rest-port={}", args.rest_port),
        format!("--load-balance={}", args.load_balance.name()),
        format!("--storage-dir={}", path(&dir.join("storage"))),
        format!("--address-file={}", path(addresses)),
    ];
    own.into_iter().chain(settings).collect()
}

fn task_manager_arguments(args: &StartArgs, dir: &Path, rpc: &str, number: u32) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let slots = args.slots.unwrap_or_else(|| u32::try_from(cores).unwrap_or(1));
    [
        "taskmanager".to_owned(),
        format!("--jobmanager={rpc}"),
        format!("--slots={slots}"),
        format!(
            "--work-dir={}",
            dir.join("work").join(number.to_string()).display()
        ),
        format!("--log-dir={}", dir.join("log").display()),
    ]
    .into()
}

async fn addresses_of(file: &Path, jobmanager: u32, dir: &Path) -> Result<(String, String), String> {
    let log = dir.join("log").join("jobmanager.log");
    for _ in 0..START_TURNS {
        if let Ok(bytes) = std::fs::read(file) {
            let read: serde_json::Value =
                serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
            let text = |key: &str| read[key].as_str().unwrap_or_default().to_owned();
            return Ok((text("rpc"), text("rest")));
        }
        if !is_alive(jobmanager) {
            return Err(format!(
                "the jobmanager has ended at once: {}. More stands in {}",
                last_line(&log),
                log.display()
            ));
        }
        tokio::time::sleep(TURN).await;
    }
    Err(format!(
        "the jobmanager is not ready; what it does stands in {}",
        log.display()
    ))
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.unwrap_or("it has said nothing").to_owned()
}

async fn registered(rest: &Rest, wanted: u32, dir: &Path) -> Result<(), String> {
    for _ in 0..START_TURNS {
        let overview = rest.get("/overview").await?;
        if overview["taskmanagers"].as_u64() >= Some(wanted.into()) {
            return Ok(());
        }
        tokio::time::sleep(TURN).await;
    }
    Err(format!(
        "not all TaskManagers have registered; why stands in {}",
        dir.join("log").display()
    ))
}

pub(crate) fn stop(place: &Where) -> Result<ExitCode, String> {
    let dir = directory(place.dir.as_deref())?;
    let known = read(&dir)?.ok_or_else(|| format!("there is no cluster in {}", dir.display()))?;
    with(async {
        if is_alive(known.jobmanager) {
            Rest::new(&known.rest).send(Method::DELETE, "/cluster").await?;
        }
        let processes = || known.task_managers.iter().chain([&known.jobmanager]);
        let mut told = false;
        for turn in 0..STOP_TURNS {
            if turn >= LEADERLESS_TURNS && !told && !is_alive(known.jobmanager) {
                // They may wait for another jobmanager, and none will come.
                known.task_managers.iter().for_each(|process| terminate(*process));
                told = true;
            }
            if !processes().any(|process| is_alive(*process)) {
                std::fs::remove_file(dir.join("cluster.json")).map_err(|error| error.to_string())?;
                say::line("the cluster has ended");
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(TURN).await;
        }
        let left: Vec<_> = processes().filter(|process| is_alive(**process)).collect();
        Err(format!("processes {left:?} have not ended"))
    })
}

pub(crate) fn status(place: &Where) -> Result<ExitCode, String> {
    let dir = directory(place.dir.as_deref())?;
    let known = read(&dir)?.ok_or_else(|| format!("there is no cluster in {}", dir.display()))?;
    with(async {
        let overview = Rest::new(&known.rest).get("/overview").await?;
        let number = |key: &str| overview[key].as_u64().unwrap_or(0);
        say::line(format_args!("jobmanager {} at {}", known.jobmanager, known.rest));
        say::line(format_args!(
            "{} TaskManagers, {} of {} slots free",
            number("taskmanagers"),
            number("slots-available"),
            number("slots-total")
        ));
        say::line(format_args!(
            "{} jobs run; {} have finished, {} were cancelled, {} have failed",
            number("jobs-running"),
            number("jobs-finished"),
            number("jobs-cancelled"),
            number("jobs-failed")
        ));
        Ok(ExitCode::SUCCESS)
    })
}
