//! Commands to a cluster.

use crate::client::{Rest, with};
use crate::{At, cluster, say};
use awc::http::Method;
use clap::Args;
use hurtig_rest::RunRequest;
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

fn rest(at: &At) -> Result<Rest, String> {
    let address = match &at.rest {
        Some(address) => address.clone(),
        None => cluster::rest_address(at.dir.as_deref())?,
    };
    Ok(Rest::new(&address))
}

pub(crate) fn run(args: RunArgs) -> Result<ExitCode, String> {
    let mut request = RunRequest {
        program_args_list: args.args,
        parallelism: args.parallelism,
        savepoint_path: args.restore,
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
            say::line(format_args!(
                "{}  {:12}  {}",
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
