//! The processes of a cluster: its TaskManagers, and what all of them log.

use crate::artifacts::part_of_path;
use crate::client::{Rest, with};
use crate::failure::{Failure, Kind};
use crate::say::Answer;
use crate::session::{At, Session, task_manager_id};
use crate::table::{Table, bytes, cell, time};
use clap::Args;
use serde_json::{Value, json};

/// The name of the process that is no TaskManager.
const JOBMANAGER: &str = "jobmanager";

/// Which TaskManagers are shown.
#[derive(Args)]
pub(crate) struct TaskManagersArgs {
    #[command(flatten)]
    at: At,
    /// One of them: its machine, and whose its slots are.
    #[arg(value_parser = task_manager_id)]
    id: Option<String>,
}

/// Which log is shown.
#[derive(Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    at: At,
    /// Whose log: `jobmanager`, or the id of a TaskManager; without it, the logs are listed.
    #[arg(value_parser = process)]
    process: Option<String>,
    /// Which of its logs; otherwise its own. Those of JobMasters and workers are with their TaskManager.
    #[arg(requires = "process")]
    name: Option<String>,
}

fn process(text: &str) -> Result<String, String> {
    match text {
        JOBMANAGER => Ok(text.to_owned()),
        _ => task_manager_id(text),
    }
}

pub(crate) fn task_managers(args: &TaskManagersArgs, session: &Session) -> Result<Answer, Failure> {
    with(async {
        let rest = session.rest(&args.at)?;
        let Some(id) = &args.id else {
            let known = rest.get("/taskmanagers").await?;
            let human = listed(&known);
            return Ok(Answer::new(known, human));
        };
        let known = rest
            .get(&format!("/taskmanagers/{id}"))
            .await
            .map_err(who_lists)?;
        let human = described(&known);
        Ok(Answer::new(known, human))
    })
}

/// What was named is not there: here is who knows what is.
fn who_lists(failure: Failure) -> Failure {
    match failure.kind {
        Kind::Unknown => {
            let text = format!("{failure}; `hurtig task-managers` and `hurtig logs` show what there is");
            Failure::new(Kind::Unknown, text)
        }
        _ => failure,
    }
}

fn listed(known: &Value) -> String {
    let mut table = Table::new(&["ID", "SLOTS", "FREE", "TASKS", "CORES", "MEMORY FREE", "ADDRESS"]);
    for one in known["taskmanagers"].as_array().into_iter().flatten() {
        let hardware = &one["hardware"];
        table.row([
            cell(&one["id"]),
            cell(&one["slotsNumber"]),
            cell(&one["freeSlots"]),
            cell(&one["assignedTasks"]),
            cell(&hardware["cpuCores"]),
            bytes(&hardware["freeMemory"]),
            cell(&one["path"]),
        ]);
    }
    match table.is_empty() {
        true => "there are no TaskManagers; `hurtig cluster add` starts one".to_owned(),
        false => table.text(),
    }
}

fn described(one: &Value) -> String {
    let hardware = &one["hardware"];
    let mut text = format!(
        "TaskManager {}\naddress   {}\nslots     {}, of which {} free\ncores     {}\nmemory    {}, of which {} free",
        cell(&one["id"]),
        cell(&one["path"]),
        one["slotsNumber"],
        one["freeSlots"],
        hardware["cpuCores"],
        bytes(&hardware["physicalMemory"]),
        bytes(&hardware["freeMemory"])
    );
    let mut table = Table::new(&["SLOT OF JOB", "TASKS"]);
    for slot in one["allocatedSlots"].as_array().into_iter().flatten() {
        table.row([cell(&slot["jobId"]), cell(&slot["assignedTasks"])]);
    }
    if !table.is_empty() {
        text += &format!("\n\n{}", table.text());
    }
    text
}

pub(crate) fn logs(args: &LogsArgs, session: &Session) -> Result<Answer, Failure> {
    with(async {
        let rest = session.rest(&args.at)?;
        match &args.process {
            None => list_logs(&rest).await,
            Some(process) => log(&rest, process, args.name.as_deref()).await,
        }
    })
}

/// Where the logs of a process are.
fn path(process: &str) -> String {
    match process {
        JOBMANAGER => "/jobmanager".to_owned(),
        id => format!("/taskmanagers/{id}"),
    }
}

async fn list_logs(rest: &Rest) -> Result<Answer, Failure> {
    let known = rest.get("/taskmanagers").await?;
    let ids = known["taskmanagers"].as_array().into_iter().flatten();
    let processes = std::iter::once(JOBMANAGER.to_owned()).chain(ids.map(|one| cell(&one["id"])));
    let (mut all, mut table) = (Vec::new(), Table::new(&["PROCESS", "SIZE", "WRITTEN", "NAME"]));
    for process in processes {
        let known = rest.get(&format!("{}/logs", path(&process))).await?;
        for log in known["logs"].as_array().into_iter().flatten() {
            table.row([
                process.clone(),
                bytes(&log["size"]),
                time(&log["mtime"]),
                cell(&log["name"]),
            ]);
            let mut log = log.clone();
            log["process"] = json!(process);
            all.push(log);
        }
    }
    Ok(Answer::new(json!({ "logs": all }), table.text()))
}

async fn log(rest: &Rest, process: &str, name: Option<&str>) -> Result<Answer, Failure> {
    let path = match name {
        Some(name) => format!("{}/logs/{}", path(process), part_of_path(name)?),
        None => format!("{}/log", path(process)),
    };
    let text = rest.get_text(&path).await.map_err(who_lists)?;
    Ok(Answer::new(
        json!({ "process": process, "name": name, "text": text }),
        text,
    ))
}
