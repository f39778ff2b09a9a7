//! Savepoints and checkpoints that somebody wants.

use crate::artifacts::{cause, whole};
use crate::client::{Rest, with};
use crate::failure::Failure;
use crate::jobs::who_lists;
use crate::say::{self, Answer};
use crate::session::{At, Session, job_id};
use crate::table::{Table, bytes, cell, time};
use clap::{Args, Subcommand, ValueEnum};
use hurtig_rest::{Format, SavepointRequest, StopRequest};
use hurtig_storage::{BlobStores, SnapshotDescription, SnapshotFolder};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

/// How often a request that is under way is looked at.
const TURN: Duration = Duration::from_millis(100);

/// What is done with savepoints; without a word for it, one is taken.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct SavepointArgs {
    #[command(subcommand)]
    command: Option<SavepointCommand>,
    #[command(flatten)]
    create: CreateOrDispose,
}

#[derive(Subcommand)]
enum SavepointCommand {
    /// Takes a savepoint of a job, which goes on.
    Create(CreateArgs),
    /// Deletes a savepoint, with all files of it.
    Dispose {
        #[command(flatten)]
        at: At,
        /// Its folder.
        path: String,
    },
    /// Says what a savepoint or checkpoint consists of. Asks no cluster.
    Inspect {
        /// Its folder.
        path: String,
    },
}

/// What is taken, and how it is waited for.
#[derive(Args)]
struct Taking {
    /// In which form keyed state is in it; otherwise as the job's settings say.
    #[arg(long = "type", value_enum, ignore_case = true, value_name = "FORM")]
    form: Option<Form>,
    /// Return as soon as it is begun.
    #[arg(long)]
    detached: bool,
}

/// In which form a savepoint has keyed state.
#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// Any state backend reads it
    Canonical,
    /// The files of the job's state backend: sooner done
    Native,
}

impl From<Form> for Format {
    fn from(form: Form) -> Self {
        match form {
            Form::Canonical => Self::Canonical,
            Form::Native => Self::Native,
        }
    }
}

/// Of which job a savepoint is taken.
#[derive(Args)]
struct CreateArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    taking: Taking,
    /// The job's id.
    #[arg(value_parser = job_id)]
    job: String,
    /// The directory that it goes into; otherwise the job's `execution.checkpointing.savepoint-dir`.
    target: Option<String>,
}

/// The same without a word, as Flink has it.
#[derive(Args)]
struct CreateOrDispose {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    taking: Taking,
    /// The folder of a savepoint that is deleted, and none taken.
    #[arg(short, long, value_name = "PATH", conflicts_with_all = ["job", "target", "form", "detached"])]
    dispose: Option<String>,
    /// The job's id.
    #[arg(value_parser = job_id, required_unless_present = "dispose")]
    job: Option<String>,
    /// The directory that it goes into; otherwise the job's `execution.checkpointing.savepoint-dir`.
    target: Option<String>,
}

/// Which job is stopped, and how.
#[derive(Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    taking: Taking,
    /// Event time ends first: timers and windows fire, and the job cannot go on from the savepoint as if nothing had been.
    #[arg(short, long)]
    drain: bool,
    /// The directory that the savepoint goes into, as after the job.
    #[arg(
        short = 'p',
        long,
        visible_alias = "savepointPath",
        value_name = "TARGET",
        conflicts_with = "target"
    )]
    savepoint_path: Option<String>,
    /// The job's id.
    #[arg(value_parser = job_id)]
    job: String,
    /// The directory that the savepoint goes into; otherwise the job's `execution.checkpointing.savepoint-dir`.
    target: Option<String>,
}

/// Of which job a checkpoint is taken.
#[derive(Args)]
pub(crate) struct CheckpointArgs {
    #[command(flatten)]
    at: At,
    /// One that shares no files with others.
    #[arg(long, conflicts_with = "incremental")]
    full: bool,
    /// One that shares files with earlier ones, if the state backend can.
    #[arg(long)]
    incremental: bool,
    /// The job's id.
    #[arg(value_parser = job_id)]
    job: String,
}

pub(crate) fn savepoint(args: SavepointArgs, session: &Session) -> Result<Answer, Failure> {
    match args.command {
        Some(SavepointCommand::Create(args)) => create(args, session),
        Some(SavepointCommand::Dispose { at, path }) => dispose(&at, path, session),
        Some(SavepointCommand::Inspect { path }) => inspect(path),
        None => match (args.create.dispose, args.create.job) {
            (Some(path), _) => dispose(&args.create.at, path, session),
            (None, Some(job)) => {
                let CreateOrDispose {
                    at, taking, target, ..
                } = args.create;
                create(
                    CreateArgs {
                        at,
                        taking,
                        job,
                        target,
                    },
                    session,
                )
            }
            (None, None) => Err(Failure::usage("name a job: `hurtig savepoint JOB`")),
        },
    }
}

fn create(args: CreateArgs, session: &Session) -> Result<Answer, Failure> {
    let request = SavepointRequest {
        target_directory: whole(args.target)?,
        format_type: args.taking.form.map(Into::into),
        ..SavepointRequest::default()
    };
    with(async {
        let rest = session.rest(&args.at)?;
        let begun = Begun::by(&rest, &args.job, "savepoints", &request).await?;
        if args.taking.detached {
            return Ok(begun.answer());
        }
        say::progress("taking the savepoint");
        let location = begun.location(&rest).await?;
        let human = format!("savepoint {location}");
        Ok(Answer::new(
            json!({ "jobid": args.job, "location": location }),
            human,
        ))
    })
}

pub(crate) fn stop(args: StopArgs, session: &Session) -> Result<Answer, Failure> {
    let request = StopRequest {
        target_directory: whole(args.target.or(args.savepoint_path))?,
        drain: args.drain,
        format_type: args.taking.form.map(Into::into),
        ..StopRequest::default()
    };
    with(async {
        let rest = session.rest(&args.at)?;
        let begun = Begun::by(&rest, &args.job, "stop", &request).await?;
        if args.taking.detached {
            return Ok(begun.answer());
        }
        say::progress("stopping the job");
        let location = begun.location(&rest).await?;
        let human = format!("the job has stopped with savepoint {location}");
        Ok(Answer::new(
            json!({ "jobid": args.job, "location": location }),
            human,
        ))
    })
}

pub(crate) fn checkpoint(args: &CheckpointArgs, session: &Session) -> Result<Answer, Failure> {
    let kind = match (args.full, args.incremental) {
        (true, _) => "FULL",
        (_, true) => "INCREMENTAL",
        _ => "CONFIGURED",
    };
    with(async {
        let rest = session.rest(&args.at)?;
        let begun = Begun::by(
            &rest,
            &args.job,
            "checkpoints",
            &json!({ "checkpointType": kind }),
        )
        .await?;
        say::progress("taking the checkpoint");
        let done = begun.done(&rest).await?;
        let id = &done["checkpointId"];
        let human = format!("checkpoint {id}");
        Ok(Answer::new(
            json!({ "jobid": args.job, "checkpointId": id }),
            human,
        ))
    })
}

/// What was begun by one request and is asked after by others.
struct Begun {
    job: String,
    request: String,
    path: String,
}

impl Begun {
    async fn by(rest: &Rest, job: &str, what: &str, request: &impl Serialize) -> Result<Self, Failure> {
        let begun = rest
            .post(&format!("/jobs/{job}/{what}"), request)
            .await
            .map_err(who_lists)?;
        let id = request_id(&begun)?;
        // A stop is a savepoint too.
        let of = if what == "stop" { "savepoints" } else { what };
        let path = format!("/jobs/{job}/{of}/{id}");
        let (job, request) = (job.to_owned(), id);
        Ok(Self { job, request, path })
    }

    fn answer(&self) -> Answer {
        let human = format!("request {}", self.request);
        Answer::new(json!({ "jobid": self.job, "request-id": self.request }), human)
    }

    /// What it has come to.
    async fn done(&self, rest: &Rest) -> Result<Value, Failure> {
        done(rest, &self.path).await
    }

    /// Where the savepoint is, when it is there.
    async fn location(&self, rest: &Rest) -> Result<String, Failure> {
        let done = self.done(rest).await?;
        let location = done["location"].as_str().map(ToOwned::to_owned);
        Ok(location.ok_or("the jobmanager has not said where the savepoint is")?)
    }
}

fn request_id(begun: &Value) -> Result<String, Failure> {
    let id = begun["request-id"].as_str().map(ToOwned::to_owned);
    Ok(id.ok_or("the jobmanager has not said how it can be asked what becomes of it")?)
}

/// Waits for the end of what was begun.
async fn done(rest: &Rest, path: &str) -> Result<Value, Failure> {
    loop {
        let answer = rest.get(path).await?;
        if answer["status"]["id"] == "COMPLETED" {
            let operation = &answer["operation"];
            return match operation["failure-cause"].is_null() {
                true => Ok(operation.clone()),
                false => Err(cause(operation).into()),
            };
        }
        tokio::time::sleep(TURN).await;
    }
}

fn dispose(at: &At, path: String, session: &Session) -> Result<Answer, Failure> {
    let path = folder(path)?;
    with(async {
        let rest = session.rest(at)?;
        let begun = rest
            .post("/savepoint-disposal", &json!({ "savepoint-path": path }))
            .await?;
        done(&rest, &format!("/savepoint-disposal/{}", request_id(&begun)?)).await?;
        let human = format!("the savepoint {path} was deleted");
        Ok(Answer::new(json!({ "location": path }), human))
    })
}

fn folder(path: String) -> Result<String, Failure> {
    match path.as_str() {
        "latest" => Err(Failure::usage(
            "`latest` is no path: name the folder of a savepoint",
        )),
        _ => whole(Some(path))?.ok_or_else(|| Failure::usage("name the folder of a savepoint")),
    }
}

fn inspect(path: String) -> Result<Answer, Failure> {
    let unreadable = |error: hurtig_storage::StorageError| error.to_string();
    let folder = SnapshotFolder::of_path(&folder(path)?).map_err(unreadable)?;
    let metadata = folder.read(&BlobStores::local()).map_err(unreadable)?;
    let described = serde_json::to_value(SnapshotDescription::of(&folder, &metadata));
    let described = described.map_err(|error| error.to_string())?;
    let human = inspected(&described);
    Ok(Answer::new(described, human))
}

fn inspected(known: &Value) -> String {
    let mut table = Table::new(&["UID", "PARALLELISM", "MAX", "SIZE", "STATES", "OPERATOR"]);
    for operator in known["operators"].as_array().into_iter().flatten() {
        let subtasks = operator["subtasks"].as_array().into_iter().flatten();
        let size: u64 = subtasks
            .filter_map(|subtask| subtask["file_bytes"].as_u64())
            .sum();
        let states = ["keyed", "operator"]
            .iter()
            .filter_map(|kind| operator["states"][kind].as_object());
        let states: Vec<&str> = states.flatten().map(|(name, _)| name.as_str()).collect();
        table.row([
            cell(&operator["uid"]),
            cell(&operator["parallelism"]),
            cell(&operator["max_parallelism"]),
            bytes(&json!(size)),
            states.join(", "),
            cell(&operator["name"]),
        ]);
    }
    format!(
        "{}\n{} {} of job {} ({}), begun {}\n\n{}",
        cell(&known["path"]),
        cell(&known["kind"]),
        cell(&known["checkpoint_id"]),
        cell(&known["job_name"]),
        cell(&known["job_id"]),
        time(&known["triggered_ms"]),
        table.text()
    )
}
