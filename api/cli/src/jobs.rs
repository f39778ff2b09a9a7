//! Jobs of a cluster: which there are, what they do, and ending one.

use crate::client::{Rest, with};
use crate::failure::Failure;
use crate::plan;
use crate::say::Answer;
use crate::session::{At, Session, job_id};
use crate::table::{Table, bytes, cell, duration, time};
use awc::http::Method;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

/// Failures that are asked for.
const EXCEPTIONS: u32 = 20;

/// Which jobs are listed.
#[derive(Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    at: At,
    /// Those that run, restart or are being ended.
    #[arg(short, long)]
    running: bool,
    /// Those that have not begun.
    #[arg(short, long)]
    scheduled: bool,
    /// Those that have ended too.
    #[arg(short, long, conflicts_with_all = ["running", "scheduled"])]
    all: bool,
}

/// Of which job something is shown.
#[derive(Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    at: At,
    /// The job's id.
    #[arg(value_parser = job_id)]
    job: String,
    /// What is shown of it.
    #[arg(value_enum, default_value = "job")]
    part: Part,
}

/// What is shown of a job.
#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// Its state, and its vertices with what they have done
    Job,
    /// Its graph
    Plan,
    /// The subtasks of its vertices: where they run, and what they have done
    Subtasks,
    /// Checkpoints and savepoints that it has taken
    Checkpoints,
    /// What has failed, the last first
    Exceptions,
    /// The settings that it runs with
    Settings,
}

/// Which job is cancelled.
#[derive(Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    at: At,
    /// The job's id.
    #[arg(value_parser = job_id)]
    job: String,
}

/// States after which a job does nothing any more.
const ENDED: [&str; 3] = ["FINISHED", "CANCELED", "FAILED"];

impl ListArgs {
    /// Without a filter, what has not ended.
    fn wants(&self, state: &str) -> bool {
        let both = !self.running && !self.scheduled;
        match state {
            _ if self.all => true,
            ended if ENDED.contains(&ended) => false,
            "CREATED" | "INITIALIZING" => self.scheduled || both,
            _ => self.running || both,
        }
    }
}

pub(crate) fn list(args: &ListArgs, session: &Session) -> Result<Answer, Failure> {
    with(async {
        let mut known = session.rest(&args.at)?.get("/jobs/overview").await?;
        if let Some(jobs) = known["jobs"].as_array_mut() {
            jobs.retain(|job| args.wants(job["state"].as_str().unwrap_or_default()));
            jobs.sort_by_key(|job| job["start-time"].as_i64());
        }
        let human = listed(&known, args.all);
        Ok(Answer::new(known, human))
    })
}

fn listed(known: &Value, all: bool) -> String {
    let mut table = Table::new(&["JOB", "STATE", "TASKS", "STARTED", "DURATION", "NAME"]);
    for job in known["jobs"].as_array().into_iter().flatten() {
        let tasks = &job["tasks"];
        table.row([
            cell(&job["jid"]),
            cell(&job["state"]),
            format!("{}/{}", tasks["running"], tasks["total"]),
            time(&job["start-time"]),
            duration(&job["duration"]),
            cell(&job["name"]),
        ]);
    }
    match (table.is_empty(), all) {
        (false, _) => table.text(),
        (true, true) => "there are no jobs; `hurtig run` starts one".to_owned(),
        (true, false) => {
            "there are no such jobs; `hurtig list -a` shows those that have ended too".to_owned()
        }
    }
}

pub(crate) fn show(args: &ShowArgs, session: &Session) -> Result<Answer, Failure> {
    let job = &args.job;
    with(async {
        let rest = session.rest(&args.at)?;
        let path = |rest: &str| format!("/jobs/{job}{rest}");
        let (path, text): (String, fn(&Value) -> String) = match args.part {
            Part::Subtasks => return subtasks(&rest, job).await,
            Part::Job => (path(""), detail),
            Part::Plan => (path("/plan"), |known| plan::text(&known["plan"])),
            Part::Checkpoints => (path("/checkpoints"), checkpoints),
            Part::Exceptions => (
                path(&format!("/exceptions?maxExceptions={EXCEPTIONS}")),
                exceptions,
            ),
            Part::Settings => (path("/jobmanager/config"), settings),
        };
        let known = rest.get(&path).await.map_err(who_lists)?;
        let human = text(&known);
        Ok(Answer::new(known, human))
    })
}

/// A job that is not known: here is who knows which are.
pub(crate) fn who_lists(failure: Failure) -> Failure {
    match failure.kind {
        crate::failure::Kind::Unknown => Failure::new(
            failure.kind,
            format!("{failure}; `hurtig list -a` shows the jobs that are"),
        ),
        _ => failure,
    }
}

fn detail(job: &Value) -> String {
    let mut table = Table::new(&[
        "STATE",
        "PARALLELISM",
        "RECORDS IN",
        "RECORDS OUT",
        "DURATION",
        "VERTEX",
    ]);
    for vertex in job["vertices"].as_array().into_iter().flatten() {
        let metrics = &vertex["metrics"];
        table.row([
            cell(&vertex["status"]),
            cell(&vertex["parallelism"]),
            cell(&metrics["read-records"]),
            cell(&metrics["write-records"]),
            duration(&vertex["duration"]),
            cell(&vertex["name"]),
        ]);
    }
    let mut head = format!(
        "{}\njob       {}\nstate     {}\nstarted   {}",
        cell(&job["name"]),
        cell(&job["jid"]),
        cell(&job["state"]),
        time(&job["start-time"])
    );
    if job["end-time"].as_i64() > Some(0) {
        head += &format!("\nended     {}", time(&job["end-time"]));
    }
    format!(
        "{head}\nduration  {}\n\n{}",
        duration(&job["duration"]),
        table.text()
    )
}

/// Of all vertices, as one document.
async fn subtasks(rest: &Rest, job: &str) -> Result<Answer, Failure> {
    let known = rest.get(&format!("/jobs/{job}")).await.map_err(who_lists)?;
    let mut vertices = Vec::new();
    let mut table = Table::new(&[
        "VERTEX",
        "SUBTASK",
        "STATE",
        "ATTEMPT",
        "RECORDS IN",
        "RECORDS OUT",
        "TASKMANAGER",
    ]);
    for vertex in known["vertices"].as_array().into_iter().flatten() {
        let id = cell(&vertex["id"]);
        let known = rest.get(&format!("/jobs/{job}/vertices/{id}")).await?;
        for subtask in known["subtasks"].as_array().into_iter().flatten() {
            let metrics = &subtask["metrics"];
            table.row([
                cell(&known["name"]),
                cell(&subtask["subtask"]),
                cell(&subtask["status"]),
                cell(&subtask["attempt"]),
                cell(&metrics["read-records"]),
                cell(&metrics["write-records"]),
                cell(&subtask["taskmanager-id"]),
            ]);
        }
        vertices.push(known);
    }
    Ok(Answer::new(json!({ "vertices": vertices }), table.text()))
}

fn checkpoints(known: &Value) -> String {
    let counts = &known["counts"];
    let mut table = Table::new(&[
        "COUNT",
        "TYPE",
        "STATE",
        "BEGAN",
        "DURATION",
        "SIZE",
        "PATH OR FAILURE",
    ]);
    for one in known["history"].as_array().into_iter().flatten() {
        table.row([
            cell(&one["id"]),
            cell(&one["checkpoint_type"]),
            cell(&one["status"]),
            time(&one["trigger_timestamp"]),
            duration(&one["end_to_end_duration"]),
            bytes(&one["state_size"]),
            format!("{}{}", cell(&one["external_path"]), cell(&one["failure_message"])),
        ]);
    }
    let head = format!(
        "{} completed, {} failed, {} under way, {} restored",
        counts["completed"], counts["failed"], counts["in_progress"], counts["restored"]
    );
    match table.is_empty() {
        true => head,
        false => format!("{head}\n\n{}", table.text()),
    }
}

fn exceptions(known: &Value) -> String {
    let history = &known["exceptionHistory"];
    let entries = history["entries"].as_array().into_iter().flatten();
    let said = |entry: &Value| {
        let place = entry["taskName"].as_str().map(|task| format!("{task}: "));
        let text = entry["stacktrace"].as_str().unwrap_or_default();
        format!(
            "{}  {}{text}",
            time(&entry["timestamp"]),
            place.unwrap_or_default()
        )
    };
    let mut lines: Vec<String> = entries.map(said).collect();
    if lines.is_empty() {
        return "nothing has failed".to_owned();
    }
    if history["truncated"] == true {
        lines.push("…".to_owned());
    }
    lines.join("\n")
}

/// Settings of a jobmanager or job, as the REST API lists them.
pub(crate) fn settings(known: &Value) -> String {
    let mut table = Table::new(&["KEY", "VALUE"]);
    for entry in known.as_array().into_iter().flatten() {
        table.row([cell(&entry["key"]), cell(&entry["value"])]);
    }
    match table.is_empty() {
        true => "nothing is set".to_owned(),
        false => table.text(),
    }
}

pub(crate) fn cancel(args: &CancelArgs, session: &Session) -> Result<Answer, Failure> {
    with(async {
        let rest = session.rest(&args.at)?;
        let path = format!("/jobs/{}?mode=cancel", args.job);
        rest.send(Method::PATCH, &path).await.map_err(who_lists)?;
        Ok(Answer::new(
            json!({ "jobid": args.job }),
            "the job is being cancelled",
        ))
    })
}

#[cfg(test)]
mod tests {
    use crate::{Command, Line};
    use clap::Parser as _;

    fn wants(flags: &[&str], state: &str) -> bool {
        let line = ["hurtig", "list"].iter().chain(flags);
        match Line::try_parse_from(line).unwrap().command {
            Command::List(args) => args.wants(state),
            _ => unreachable!("`list` is another command"),
        }
    }

    #[test]
    fn without_a_flag_jobs_that_have_not_ended_are_listed() {
        for (flags, wanted) in [
            (&[][..], &["CREATED", "RUNNING", "RESTARTING", "CANCELLING"][..]),
            (&["-r"], &["RUNNING", "RESTARTING", "CANCELLING"]),
            (&["-s"], &["CREATED"]),
            (&["-rs"], &["CREATED", "RUNNING", "RESTARTING", "CANCELLING"]),
            (
                &["-a"],
                &[
                    "CREATED",
                    "RUNNING",
                    "RESTARTING",
                    "CANCELLING",
                    "FINISHED",
                    "CANCELED",
                    "FAILED",
                ],
            ),
        ] {
            let all = [
                "CREATED",
                "RUNNING",
                "RESTARTING",
                "CANCELLING",
                "FINISHED",
                "CANCELED",
                "FAILED",
            ];
            let found: Vec<&str> = all.into_iter().filter(|state| wants(flags, state)).collect();
            assert_eq!(found, wanted, "{flags:?}");
        }
    }
}
