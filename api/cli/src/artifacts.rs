//! Programs on a cluster: what they would do, and running them.

use crate::attached::{self, Attachment};
use crate::client::{Rest, with};
use crate::failure::{CANCELLED, Failure, Kind};
use crate::plan;
use crate::say::{self, Answer};
use crate::session::{At, Session};
use crate::table::{Table, cell, time};
use awc::http::Method;
use clap::{Args, Subcommand, ValueEnum};
use hurtig_core::config::options;
use hurtig_rest::RunRequest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How often a job that runs is looked at.
const TURN: Duration = Duration::from_millis(200);
/// How long who waits for the end of a job waits for somebody who knows of it, at least.
const SILENCE: Duration = Duration::from_secs(60);

/// How a program is run.
#[derive(Args)]
pub(crate) struct JobOptions {
    /// A setting of the job.
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = definition)]
    definitions: Vec<(String, String)>,
    /// The parallelism of operators that set none.
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..))]
    parallelism: Option<u32>,
}

/// How a job begins, and whether its end is waited for.
#[derive(Args)]
pub(crate) struct Begin {
    /// Return as soon as the job is accepted.
    #[arg(short, long)]
    detached: bool,
    /// Cancel the job when this command ends before it: at once when it is interrupted, and after `client.heartbeat.timeout` when it is
    /// killed or cut off.
    #[arg(long, visible_alias = "shutdownOnAttachedExit", conflicts_with = "detached")]
    shutdown_on_attached_exit: bool,
    /// The checkpoint or savepoint that the job begins with; `latest`: the last one of its checkpoint directory.
    #[arg(short = 's', long, visible_alias = "fromSavepoint", value_name = "PATH")]
    restore: Option<String>,
    /// Drop state of operators that the program does not have any more.
    #[arg(short = 'n', long, visible_alias = "allowNonRestoredState")]
    allow_non_restored_state: bool,
    /// To whom the files belong that the job begins with.
    #[arg(long, visible_alias = "claimMode", value_name = "MODE", ignore_case = true)]
    claim_mode: Option<Claim>,
}

/// To whom a checkpoint or savepoint belongs that a job begins with.
#[derive(Clone, Copy, ValueEnum)]
enum Claim {
    /// The job, which deletes them when it does not need them any more
    Claim,
    /// Whoever they have belonged to
    #[value(name = "no_claim", alias = "no-claim")]
    NoClaim,
}

/// What is run, and how.
#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    options: JobOptions,
    #[command(flatten)]
    begin: Begin,
    #[command(flatten)]
    program: Program,
}

/// Of what the plan is shown.
#[derive(Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    options: JobOptions,
    #[command(flatten)]
    program: Program,
}

#[derive(Args)]
struct Program {
    /// The program.
    artifact: PathBuf,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// What is done with artifacts that a cluster keeps.
#[derive(Subcommand)]
pub(crate) enum ArtifactsCommand {
    /// Lists them.
    List(At),
    /// Uploads one, to be run later, or by others.
    Upload {
        #[command(flatten)]
        at: At,
        /// The program.
        artifact: PathBuf,
    },
    /// Takes one off the list. What runs from it runs on.
    Delete {
        #[command(flatten)]
        at: At,
        /// Its id.
        id: String,
    },
    /// Runs one.
    Run {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        options: JobOptions,
        #[command(flatten)]
        begin: Begin,
        /// Its id.
        id: String,
        /// The program's arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

impl Begin {
    /// Whether the job's end is waited for, and whether the job ends with who does: what the cluster has to know of that goes into the
    /// settings of the job.
    fn attachment(&self, settings: &mut BTreeMap<String, String>) -> Result<Attachment, Failure> {
        if self.detached && settings.contains_key(options::ATTACHED.key()) {
            settings.insert(options::ATTACHED.key().to_owned(), false.to_string());
        }
        if self.shutdown_on_attached_exit {
            let key = options::SHUTDOWN_ON_ATTACHED_EXIT.key().to_owned();
            settings.insert(key, true.to_string());
        }
        match self.detached {
            true => Ok(Attachment::Detached),
            false => Attachment::of(settings),
        }
    }
}

fn definition(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a setting is `key=value`")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// A path of this directory means the same to the processes of a job, which have others. `latest` and what has a scheme is none.
pub(crate) fn whole(path: Option<String>) -> Result<Option<String>, Failure> {
    let Some(path) = path else { return Ok(None) };
    if path == "latest" || path.contains("://") {
        return Ok(Some(path));
    }
    let whole =
        std::path::absolute(&path).map_err(|error| Failure::usage(format!("the path '{path}': {error}")))?;
    let text = whole.to_str().map(ToOwned::to_owned);
    let text = text.ok_or_else(|| Failure::usage(format!("{}: the path is no UTF-8", whole.display())));
    text.map(Some)
}

fn request(job: JobOptions, begin: Option<&Begin>, args: Vec<String>) -> Result<RunRequest, Failure> {
    let mut request = RunRequest {
        program_args_list: args,
        parallelism: job.parallelism,
        flink_configuration: job.definitions.into_iter().collect(),
        ..RunRequest::default()
    };
    let Some(begin) = begin else { return Ok(request) };
    request.savepoint_path = whole(begin.restore.clone())?;
    request.allow_non_restored_state = begin.allow_non_restored_state.then_some(true);
    if let Some(mode) = begin.claim_mode {
        let mode = match mode {
            Claim::Claim => "CLAIM",
            Claim::NoClaim => "NO_CLAIM",
        };
        let key = options::CLAIM_MODE.key().to_owned();
        request.flink_configuration.insert(key, mode.to_owned());
    }
    Ok(request)
}

async fn upload(rest: &Rest, artifact: &Path) -> Result<String, Failure> {
    let uploaded = rest.upload("/jars/upload", artifact).await?;
    let file = uploaded["filename"].as_str().unwrap_or_default();
    let id = file.rsplit('/').next().filter(|id| !id.is_empty());
    Ok(id
        .ok_or("the jobmanager has not said under which id the artifact is")?
        .to_owned())
}

/// What this command has uploaded is of no use to others. That it is not forgotten fails nothing.
async fn forget(rest: &Rest, id: &str) {
    let _ = rest.send(Method::DELETE, &format!("/jars/{id}")).await;
}

pub(crate) fn run(args: RunArgs, session: &Session) -> Result<Answer, Failure> {
    let mut request = request(args.options, Some(&args.begin), args.program.args)?;
    let attachment = args.begin.attachment(&mut request.flink_configuration)?;
    with(async {
        let rest = session.rest(&args.at)?;
        let id = upload(&rest, &args.program.artifact).await?;
        let begun = begin_job(&rest, &id, &request).await;
        forget(&rest, &id).await;
        accepted(&rest, begun?, attachment, session).await
    })
}

async fn begin_job(rest: &Rest, id: &str, request: &RunRequest) -> Result<String, Failure> {
    say::progress("planning the job");
    let run = rest.post(&format!("/jars/{id}/run"), request).await?;
    Ok(run["jobid"]
        .as_str()
        .ok_or("the jobmanager has named no job")?
        .to_owned())
}

async fn accepted(
    rest: &Rest,
    job: String,
    attachment: Attachment,
    session: &Session,
) -> Result<Answer, Failure> {
    let human = format!("job {job}");
    if attachment == Attachment::Detached {
        return Ok(Answer::new(json!({ "jobid": job }), human));
    }
    session.output.meanwhile(human);
    let waiting = wait(rest, &job);
    match attachment {
        Attachment::EndsWith { interval } => attached::wait((rest, &job), interval, waiting).await,
        _ => waiting.await,
    }
}

/// Waits for the end of a job, and says how it was. Jobs outlive jobmanagers: one that does not answer may be started again,
/// or another one take its place.
async fn wait(rest: &Rest, job: &str) -> Result<Answer, Failure> {
    let path = format!("/jobs/{job}/execution-result");
    let lost = |failure: Failure| {
        let failure = failure.about(&format!("what becomes of job {job} is not known"));
        failure.with_facts(json!({ "jobid": job }))
    };
    // Not how often it was asked: who is stopped, and not dead, takes long to not answer.
    let mut silent_since = None;
    let result = loop {
        match rest.get(&path).await {
            Ok(answer) if answer["status"]["id"] == "COMPLETED" => {
                break answer["job-execution-result"].clone();
            }
            Ok(_) => silent_since = None,
            Err(failure) if failure.kind == Kind::Unreachable => {
                let since = *silent_since.get_or_insert_with(|| {
                    say::progress("the jobmanager does not answer: waiting for it, or for the next one");
                    Instant::now()
                });
                if since.elapsed() >= SILENCE {
                    return Err(lost(failure));
                }
            }
            Err(failure) => return Err(lost(failure)),
        }
        tokio::time::sleep(TURN).await;
    };
    let status = result["application-status"].as_str().unwrap_or_default();
    let seconds = result["net-runtime"].as_f64().unwrap_or_default() / 1_000.0;
    let facts = json!({ "jobid": job, "status": status, "net-runtime": result["net-runtime"] });
    let human = format!("{status} after {seconds:.1} s");
    match status {
        "SUCCEEDED" => Ok(Answer::new(facts, human)),
        "CANCELED" => Ok(Answer::new(facts, human).with_code(CANCELLED)),
        _ => {
            let why = format!("the job failed: {}", cause(&result));
            Err(Failure::from(why).with_facts(facts))
        }
    }
}

/// Why what was begun has not succeeded.
pub(crate) fn cause(operation: &Value) -> &str {
    let why = operation["failure-cause"]["stack-trace"].as_str();
    why.unwrap_or("nobody knows why")
}

pub(crate) fn info(args: InfoArgs, session: &Session) -> Result<Answer, Failure> {
    let request = request(args.options, None, args.program.args)?;
    with(async {
        let rest = session.rest(&args.at)?;
        let id = upload(&rest, &args.program.artifact).await?;
        say::progress("planning the job");
        let planned = rest.post(&format!("/jars/{id}/plan"), &request).await;
        forget(&rest, &id).await;
        let planned = planned?;
        let human = plan::text(&planned["plan"]);
        Ok(Answer::new(planned, human))
    })
}

pub(crate) fn artifacts(command: ArtifactsCommand, session: &Session) -> Result<Answer, Failure> {
    match command {
        ArtifactsCommand::List(at) => list(&at, session),
        ArtifactsCommand::Upload { at, artifact } => with(async {
            let id = upload(&session.rest(&at)?, &artifact).await?;
            let human = format!("artifact {id}");
            Ok(Answer::new(json!({ "id": id }), human))
        }),
        ArtifactsCommand::Delete { at, id } => with(async {
            let id = part_of_path(&id)?;
            let rest = session.rest(&at)?;
            rest.send(Method::DELETE, &format!("/jars/{id}"))
                .await
                .map_err(who_lists)?;
            Ok(Answer::new(json!({ "id": id }), "the artifact was deleted"))
        }),
        ArtifactsCommand::Run {
            at,
            options,
            begin,
            id,
            args,
        } => {
            let mut request = request(options, Some(&begin), args)?;
            let attachment = begin.attachment(&mut request.flink_configuration)?;
            with(async {
                let id = part_of_path(&id)?;
                let rest = session.rest(&at)?;
                let begun = begin_job(&rest, id, &request).await.map_err(who_lists);
                accepted(&rest, begun?, attachment, session).await
            })
        }
    }
}

/// What can stand in a path by itself, as ids of artifacts and names of logs can.
pub(crate) fn part_of_path(text: &str) -> Result<&str, Failure> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match !text.is_empty() && !text.starts_with('.') && text.bytes().all(good) {
        true => Ok(text),
        false => Err(Failure::usage(format!(
            "'{text}' is no name that a cluster gives: those have letters, digits, `.`, `_` and `-`"
        ))),
    }
}

/// What was named is not there: here is who knows what is.
fn who_lists(failure: Failure) -> Failure {
    match failure.kind {
        Kind::Unknown => Failure::new(
            failure.kind,
            format!("{failure}; `hurtig artifacts list` shows what there is"),
        ),
        _ => failure,
    }
}

fn list(at: &At, session: &Session) -> Result<Answer, Failure> {
    with(async {
        let known = session.rest(at)?.get("/jars").await?;
        let mut table = Table::new(&["UPLOADED", "ID"]);
        for file in known["files"].as_array().into_iter().flatten() {
            table.row([time(&file["uploaded"]), cell(&file["id"])]);
        }
        let human = match table.is_empty() {
            true => "there are no artifacts; `hurtig artifacts upload` brings one there".to_owned(),
            false => table.text(),
        };
        Ok(Answer::new(known, human))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert!(part_of_path("0c1d-_a.b").is_ok());
        for wrong in ["", "..", "a/b", "a?b", "a b", ".hidden", "a%2f"] {
            assert!(part_of_path(wrong).is_err(), "{wrong}");
        }
    }
}
