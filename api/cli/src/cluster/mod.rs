//! A cluster of this machine in the background: a jobmanager and TaskManagers, known by a directory.

pub(crate) mod known;
mod spawn;

use crate::client::{Rest, with};
use crate::failure::{Failure, Kind};
use crate::say::Answer;
use crate::servers::Balance;
use crate::session::{At, Session};
use awc::http::Method;
use clap::{Args, Subcommand};
use known::{Known, directory, is_alive, terminate};
use serde_json::{Value, json};
use spawn::{addresses_of, next_number, spawn};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the processes may take to be ready.
const START_TURNS: u32 = 1_500;
/// How long jobs may take to end, and the processes after them.
const STOP_TURNS: u32 = 9_000;
/// How long TaskManagers have to end with their jobmanager.
const LEADERLESS_TURNS: u32 = 50;
/// How often they are looked at.
const TURN: Duration = Duration::from_millis(10);
/// TaskManagers that one command may start.
const MAX_TASK_MANAGERS: i64 = 1_000;

/// What is done with a cluster.
#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Starts a jobmanager and TaskManagers.
    Start(StartArgs),
    /// Cancels all jobs and ends the cluster.
    Stop(Where),
    /// Who is there, and what runs.
    Status(At),
    /// Starts more TaskManagers.
    Add(AddArgs),
    /// Ends the TaskManagers that were started last. What runs there is started again elsewhere, from its last checkpoint.
    Remove(RemoveArgs),
}

/// Where a cluster is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Where {
    /// Its directory: logs, artifacts, and who its processes are [default: `~/.local/state/hurtig`].
    #[arg(long, env = "HURTIG_CLUSTER_DIR", hide_env_values = true)]
    dir: Option<PathBuf>,
}

/// How a cluster is started.
#[derive(Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    place: Where,
    /// How many TaskManagers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=MAX_TASK_MANAGERS))]
    task_managers: u32,
    #[command(flatten)]
    slots: Slots,
    /// Which free slots a job gets.
    #[arg(long, default_value = "none")]
    load_balance: Balance,
    /// The port of the REST API; 0: any that is free.
    #[arg(long, default_value_t = 8081)]
    rest_port: u16,
    /// The port at which TaskManagers reach the jobmanager; 0: any that is free.
    #[arg(long, default_value_t = 6123)]
    port: u16,
    /// A setting of the cluster's processes, as `high-availability.type=file`.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    definitions: Vec<String>,
}

/// What a TaskManager offers.
#[derive(Args)]
struct Slots {
    /// How many slots each TaskManager has; otherwise as many as the machine has cores.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
}

/// How many TaskManagers are started.
#[derive(Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    slots: Slots,
    /// How many.
    #[arg(default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_TASK_MANAGERS))]
    count: u32,
}

/// How many TaskManagers are ended.
#[derive(Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    place: Where,
    /// How many.
    #[arg(default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_TASK_MANAGERS))]
    count: u32,
}

impl Slots {
    fn count(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        self.slots.unwrap_or_else(|| u32::try_from(cores).unwrap_or(1))
    }
}

pub(crate) fn run(command: ClusterCommand, session: &Session) -> Result<Answer, Failure> {
    match command {
        ClusterCommand::Start(args) => start(&args, session),
        ClusterCommand::Stop(place) => stop(&place, session),
        ClusterCommand::Status(at) => status(&at, session),
        ClusterCommand::Add(args) => add(&args, session),
        ClusterCommand::Remove(args) => remove(&args, session),
    }
}

fn start(args: &StartArgs, session: &Session) -> Result<Answer, Failure> {
    let dir = directory(args.place.dir.as_deref())?;
    if let Some(known) = known::read(&dir)?
        && is_alive(known.jobmanager)
    {
        let (dir, process) = (dir.display(), known.jobmanager);
        let text =
            format!("a cluster runs in {dir} (process {process}): stop it first, with `hurtig cluster stop`");
        return Err(text.into());
    }
    std::fs::create_dir_all(dir.join("log")).map_err(|error| format!("{}: {error}", dir.display()))?;
    let addresses = dir.join("addresses.json");
    // One that a cluster has left behind.
    let _ = std::fs::remove_file(&addresses);
    let mut jobmanager = spawn(&dir, "jobmanager", &jobmanager_arguments(args, &dir, &addresses))?;
    let started = with(complete(args, &dir, &addresses, jobmanager.id(), session));
    if started.is_err() {
        // It may have ended, and TaskManagers end with it.
        let _ = jobmanager.kill();
        let _ = jobmanager.wait();
        let _ = known::forget(&dir);
    }
    started
}

/// Waits for the jobmanager, and starts TaskManagers for it.
async fn complete(
    args: &StartArgs,
    dir: &Path,
    addresses: &Path,
    jobmanager: u32,
    session: &Session,
) -> Result<Answer, Failure> {
    let (rpc, rest) = addresses_of(addresses, jobmanager, dir).await?;
    let mut known = Known {
        rest,
        rpc,
        jobmanager,
        task_managers: Vec::new(),
        settings: args.definitions.clone(),
    };
    for number in 1..=args.task_managers {
        let started = task_manager(dir, &known, number, args.slots.count())?;
        known.task_managers.push(started);
    }
    known.write(dir)?;
    let rest = session.rest_of(&known)?;
    registered(&rest, args.task_managers.into(), dir).await?;
    let log = dir.join("log");
    let human = format!(
        "jobmanager at {}, {} TaskManagers; logs in {}",
        known.rest,
        args.task_managers,
        log.display()
    );
    let mut document = facts(&known)?;
    document["log"] = json!(log);
    Ok(Answer::new(document, human))
}

fn facts(known: &Known) -> Result<Value, Failure> {
    let mut facts = serde_json::to_value(known).map_err(|error| error.to_string())?;
    // They may be secrets, and `hurtig config show --cluster` shows the others.
    facts.as_object_mut().map(|facts| facts.remove("settings"));
    Ok(facts)
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

/// Starts a TaskManager, and returns its process.
fn task_manager(dir: &Path, known: &Known, number: u32, slots: u32) -> Result<u32, Failure> {
    let work = dir.join("work").join(number.to_string());
    let own = [
        "taskmanager".to_owned(),
        format!("--jobmanager={}", known.rpc),
        format!("--slots={slots}"),
        format!("--work-dir={}", work.display()),
        format!("--log-dir={}", dir.join("log").display()),
    ];
    let settings = known.settings.iter().map(|setting| format!("-D{setting}"));
    let arguments: Vec<String> = own.into_iter().chain(settings).collect();
    Ok(spawn(dir, &format!("taskmanager-{number}"), &arguments)?.id())
}

async fn count(rest: &Rest) -> Result<u64, Failure> {
    Ok(rest.get("/overview").await?["taskmanagers"].as_u64().unwrap_or(0))
}

async fn registered(rest: &Rest, wanted: u64, dir: &Path) -> Result<(), Failure> {
    for _ in 0..START_TURNS {
        if count(rest).await? >= wanted {
            return Ok(());
        }
        tokio::time::sleep(TURN).await;
    }
    Err(format!(
        "not all TaskManagers have registered; why stands in {}",
        dir.join("log").display()
    )
    .into())
}

fn add(args: &AddArgs, session: &Session) -> Result<Answer, Failure> {
    let dir = directory(args.place.dir.as_deref())?;
    let mut known = Known::of(&dir)?;
    with(async {
        let rest = session.rest_of(&known)?;
        let before = count(&rest).await?;
        let first = next_number(&dir);
        let mut added = Vec::new();
        for number in first..first.saturating_add(args.count) {
            let started = task_manager(&dir, &known, number, args.slots.count())?;
            added.push(started);
            // It is known as soon as it is there: whatever fails then, `cluster stop` ends it.
            known.task_managers.push(started);
            known.write(&dir)?;
        }
        registered(&rest, before + u64::from(args.count), &dir).await?;
        let human = format!("{} TaskManagers were added: processes {added:?}", added.len());
        Ok(Answer::new(json!({ "task_managers": added }), human))
    })
}

fn remove(args: &RemoveArgs, session: &Session) -> Result<Answer, Failure> {
    let dir = directory(args.place.dir.as_deref())?;
    let mut known = Known::of(&dir)?;
    let there = known.task_managers.len();
    let left = there.checked_sub(args.count as usize);
    let left = left.ok_or_else(|| {
        Failure::usage(format!(
            "{} TaskManagers cannot be removed: the cluster has started {there} that are still known",
            args.count
        ))
    })?;
    let removed = known.task_managers.split_off(left);
    with(async {
        let rest = session.rest_of(&known)?;
        let before = count(&rest).await?;
        removed.iter().for_each(|process| terminate(*process));
        for _ in 0..STOP_TURNS {
            if !removed.iter().any(|process| is_alive(*process)) {
                known.write(&dir)?;
                forgotten(&rest, before.saturating_sub(removed.len() as u64)).await?;
                let human = format!("{} TaskManagers have ended: processes {removed:?}", removed.len());
                return Ok(Answer::new(json!({ "task_managers": removed }), human));
            }
            tokio::time::sleep(TURN).await;
        }
        Err(still_there(removed.iter()))
    })
}

/// Waits until the jobmanager has noticed, so that nothing is sent there any more. Others may come and go meanwhile.
async fn forgotten(rest: &Rest, wanted: u64) -> Result<(), Failure> {
    for _ in 0..START_TURNS {
        if count(rest).await? <= wanted {
            break;
        }
        tokio::time::sleep(TURN).await;
    }
    Ok(())
}

fn still_there<'a>(processes: impl Iterator<Item = &'a u32>) -> Failure {
    let left: Vec<_> = processes.filter(|process| is_alive(**process)).collect();
    format!("processes {left:?} have not ended").into()
}

fn stop(place: &Where, session: &Session) -> Result<Answer, Failure> {
    let dir = directory(place.dir.as_deref())?;
    let known = Known::of(&dir)?;
    with(async {
        if is_alive(known.jobmanager) {
            let rest = session.rest_of(&known)?;
            rest.send(Method::DELETE, "/cluster").await?;
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
                known::forget(&dir).map_err(|error| error.to_string())?;
                return Ok(Answer::new(facts(&known)?, "the cluster has ended"));
            }
            tokio::time::sleep(TURN).await;
        }
        Err(still_there(processes()))
    })
}

fn status(at: &At, session: &Session) -> Result<Answer, Failure> {
    let known = match at.rest {
        Some(_) => None,
        None => Some(Known::of(&directory(at.dir.as_deref())?)?),
    };
    with(async {
        let rest = session.rest(at)?;
        let overview = rest
            .get("/overview")
            .await
            .map_err(|failure| dead(failure, known.as_ref()))?;
        let number = |key: &str| overview[key].as_u64().unwrap_or(0);
        let process = known
            .as_ref()
            .map(|known| format!(" (process {})", known.jobmanager));
        let human = format!(
            "jobmanager at {}{}\n{} TaskManagers, {} of {} slots free\n{} jobs run; {} have finished, {} were cancelled, \
             {} have failed",
            rest.address(),
            process.unwrap_or_default(),
            number("taskmanagers"),
            number("slots-available"),
            number("slots-total"),
            number("jobs-running"),
            number("jobs-finished"),
            number("jobs-cancelled"),
            number("jobs-failed")
        );
        let mut document = match &known {
            Some(known) => facts(known)?,
            None => json!({ "rest": rest.address() }),
        };
        document["overview"] = overview;
        Ok(Answer::new(document, human))
    })
}

/// A cluster that is known and does not answer is one that has died, or was started before the machine was.
fn dead(failure: Failure, known: Option<&Known>) -> Failure {
    match known {
        Some(known) if failure.kind == Kind::Unreachable && !is_alive(known.jobmanager) => Failure::new(
            Kind::Unreachable,
            format!(
                "the jobmanager (process {}) has died: `hurtig cluster start` starts another one, `hurtig cluster stop` ends what it \
                 has left",
                known.jobmanager
            ),
        ),
        _ => failure,
    }
}
