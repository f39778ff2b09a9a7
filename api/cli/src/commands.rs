//! Commands to a cluster.

use crate::client::{Rest, with};
use crate::{At, cluster, say};
use awc::http::Method;
use clap::Args;
use hurtig_rest::{RunRequest, SavepointRequest, StopRequest};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How often a job that runs is looked at.
const TURN: Duration = Duration::from_millis(200);

/// What is run, and how.
#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    at: At,
    /// A setting of the job, as `key=value`.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    definitions: Vec<String>,
    /// The parallelism of operators that set none.
    #[arg(short, value_parser = clap::value_parser!(u32).range(1..))]
    parallelism: Option<u32>,
    /// Return as soon as the job is accepted.
    #[arg(short, long)]
    detached: bool,
    /// The checkpoint or savepoint that the job begins with.
    #[arg(long, value_name = "PATH")]
    restore: Option<String>,
    /// The program.
    artifact: PathBuf,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Which job is cancelled.
#[derive(Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    at: At,
    /// The job's id.
    job: String,
}

/// Of which job a savepoint is taken.
#[derive(Args)]
pub(crate) struct SavepointArgs {
    #[command(flatten)]
    at: At,
    /// The job's id.
    job: String,
    /// The directory that it goes into; otherwise the job's `execution.checkpointing.savepoint-dir`.
    target: Option<String>,
}

/// Which job is stopped, and how.
#[derive(Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    savepoint: SavepointArgs,
    /// Event time ends first: timers and windows fire, and the job cannot go on from the savepoint as if nothing had been.
    #[arg(long)]
    drain: bool,
}

fn rest(at: &At) -> Result<Rest, String> {
    let address = match &at.rest {
        Some(address) => address.clone(),
        None => cluster::rest_address(at.dir.as_deref())?,
    };
    Ok(Rest::new(&address))
}

/// A path of this directory means the same to the processes of a job, which have others. `latest` and what has a scheme is none.
fn whole(path: Option<String>) -> Result<Option<String>, String> {
    let Some(path) = path else { return Ok(None) };
    if path == "latest" || path.contains("://") {
        return Ok(Some(path));
    }
    let whole = std::path::absolute(&path).map_err(|error| format!("{path}: {error}"))?;
    let text = whole.to_str().map(ToOwned::to_owned);
    text.map(Some)
        .ok_or_else(|| format!("{}: the path is no UTF-8", whole.display()))
}

pub(crate) fn run(args: RunArgs) -> Result<ExitCode, String> {
    let mut request = RunRequest {
        program_args_list: args.args,
        parallelism: args.parallelism,
        savepoint_path: whole(args.restore)?,
        ..RunRequest::default()
    };
    for definition in args.definitions {
        let (key, value) = definition
            .split_once('=')
            .ok_or_else(|| format!("-D is followed by a setting, `key=value`, not by '{definition}'"))?;
        request
            .flink_configuration
            .insert(key.to_owned(), value.to_owned());
    }
    with(async {
        let rest = rest(&args.at)?;
        let uploaded = rest.upload("/jars/upload", &args.artifact).await;
        let uploaded = uploaded.map_err(|error| format!("{}: {error}", args.artifact.display()))?;
        let file = uploaded["filename"].as_str().unwrap_or_default();
        let id = file.rsplit('/').next().unwrap_or_default();
        let run = rest.post(&format!("/jars/{id}/run"), &request).await?;
        let job = run["jobid"]
            .as_str()
            .ok_or("the jobmanager has named no job")?
            .to_owned();
        say::line(format_args!("job {job}"));
        if args.detached {
            return Ok(ExitCode::SUCCESS);
        }
        wait(&rest, &job).await
    })
}

/// Waits for the end of a job, and says how it was.
async fn wait(rest: &Rest, job: &str) -> Result<ExitCode, String> {
    let path = format!("/jobs/{job}/execution-result");
    let result = loop {
        let answer = rest.get(&path).await?;
        if answer["status"]["id"] == "COMPLETED" {
            break answer["job-execution-result"].clone();
        }
        tokio::time::sleep(TURN).await;
    };
    let status = result["application-status"].as_str().unwrap_or_default();
    let seconds = result["net-runtime"].as_f64().unwrap_or_default() / 1_000.0;
    say::line(format_args!("{status} after {seconds:.1} s"));
    match status {
        "SUCCEEDED" => Ok(ExitCode::SUCCESS),
        "CANCELED" => Ok(ExitCode::from(2)),
        _ => Err(format!(
            "the job failed: {}",
            text(&result["failure-cause"]["stack-trace"])
        )),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("nobody knows why")
}

pub(crate) fn list(at: &At) -> Result<ExitCode, String> {
    with(async {
        let jobs = rest(at)?.get("/jobs/overview").await?;
        for job in jobs["jobs"].as_array().into_iter().flatten() {
            let seconds = job["duration"].as_f64().unwrap_or_default() / 1_000.0;
            say::line(format_args!(
                "{}  {:12}  {seconds:>9.1} s  {}",
                text(&job["jid"]),
                text(&job["state"]),
                text(&job["name"])
            ));
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn cancel(args: &CancelArgs) -> Result<ExitCode, String> {
    with(async {
        rest(&args.at)?
            .send(Method::PATCH, &format!("/jobs/{}?mode=cancel", args.job))
            .await?;
        say::line("the job is being cancelled");
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn savepoint(args: SavepointArgs) -> Result<ExitCode, String> {
    let request = SavepointRequest {
        target_directory: whole(args.target)?,
        ..SavepointRequest::default()
    };
    with(async {
        let rest = rest(&args.at)?;
        let path = taken(&rest, &args.job, "savepoints", &request).await?;
        say::line(format_args!("savepoint {path}"));
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn stop(args: StopArgs) -> Result<ExitCode, String> {
    let request = StopRequest {
        target_directory: whole(args.savepoint.target)?,
        drain: args.drain,
        ..StopRequest::default()
    };
    with(async {
        let rest = rest(&args.savepoint.at)?;
        let path = taken(&rest, &args.savepoint.job, "stop", &request).await?;
        say::line(format_args!("the job has stopped with savepoint {path}"));
        Ok(ExitCode::SUCCESS)
    })
}

/// Where the savepoint is, when it is there.
async fn taken(rest: &Rest, job: &str, what: &str, request: &impl Serialize) -> Result<String, String> {
    let begun = rest.post(&format!("/jobs/{job}/{what}"), request).await?;
    let id = begun["request-id"]
        .as_str()
        .ok_or("the jobmanager has not said how it can be asked for the savepoint")?;
    let path = format!("/jobs/{job}/savepoints/{id}");
    loop {
        let answer = rest.get(&path).await?;
        if answer["status"]["id"] == "COMPLETED" {
            let operation = &answer["operation"];
            return match operation["location"].as_str() {
                Some(location) => Ok(location.to_owned()),
                None => Err(text(&operation["failure-cause"]["stack-trace"]).to_owned()),
            };
        }
        tokio::time::sleep(TURN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn paths_mean_the_same_everywhere_and_locations_stay() {
        let of = |path: &str| whole(Some(path.to_owned())).unwrap().unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(of("a/b"), here.join("a/b").to_str().unwrap());
        for same in ["/a/b", "latest", "s3://bucket/a", "file:///a"] {
            assert_eq!(of(same), same);
        }
        assert_eq!(whole(None).unwrap(), None);
    }
}
