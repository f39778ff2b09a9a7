//! `/jars`: artifacts that were uploaded, and the jobs that are run from them.

use crate::body::Allowance;
use crate::error::RestError;
use crate::request::{job_id, or_default};
use crate::server::State;
use actix_multipart::Multipart;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path, Query, ReqData, block};
use futures_util::TryStreamExt as _;
use hurtig_cluster::process::launch::JobLaunch;
use hurtig_core::config::options::CLAIM_MODE;
use hurtig_core::ids::JobId;
use hurtig_ha::records::ArtifactRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::timeout;
use uuid::Uuid;

/// Where artifacts are uploaded.
pub(crate) const UPLOAD: &str = "/jars/upload";
/// How long the next part of an upload may take to come.
const PART: Duration = Duration::from_secs(30);
/// Parts of an upload that wait to be written.
const PARTS: usize = 4;
/// Uploads at once: each has a thread that writes.
const UPLOADS: usize = 4;
/// Artifacts that are kept.
const MAX_ARTIFACTS: usize = 1_000;
/// What an artifact has that can be run.
const ENTRY: &str = "main";
/// Characters of the name of a file that are kept.
const MAX_NAME: usize = 90;

/// Uploads that are under way.
pub(crate) struct Uploads(Semaphore);

impl Default for Uploads {
    fn default() -> Self {
        Self(Semaphore::new(UPLOADS))
    }
}

impl Uploads {
    /// One of few, while it lasts.
    fn begin(&self) -> Result<SemaphorePermit<'_>, RestError> {
        self.0.try_acquire().map_err(|_| {
            let text = format!("{UPLOADS} uploads are under way: wait for one to end");
            RestError::new(StatusCode::TOO_MANY_REQUESTS, text)
        })
    }
}

/// An id that the server makes, and of the client's name what can stand in a path.
fn named(name: &str) -> (String, String) {
    let good = |c: char| {
        if c.is_ascii_alphanumeric() || ".-_".contains(c) {
            c
        } else {
            '_'
        }
    };
    let name: String = name.chars().take(MAX_NAME).map(good).collect();
    (format!("{}_{name}", Uuid::new_v4()), name)
}

async fn find(state: &State, id: &str) -> Result<ArtifactRecord, RestError> {
    let found = state.jobmanager.artifacts().await?.remove(id);
    found.ok_or_else(|| {
        let text = format!("there is no artifact '{id}'");
        RestError::new(StatusCode::NOT_FOUND, text)
    })
}

/// The answer to an upload.
#[derive(Debug, Serialize, Deserialize)]
pub struct Uploaded {
    /// Its last part is the artifact's id.
    pub filename: String,
    /// `success`.
    pub status: String,
}

/// How a job is run.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RunRequest {
    /// The program's arguments.
    #[serde(deserialize_with = "or_default")]
    pub program_args_list: Vec<String>,
    /// The parallelism of operators that set none.
    pub parallelism: Option<u32>,
    /// Settings.
    #[serde(deserialize_with = "or_default")]
    pub flink_configuration: BTreeMap<String, String>,
    /// The folder of the checkpoint or savepoint that it begins with.
    pub savepoint_path: Option<String>,
    /// Whether state of operators that the program does not have may be dropped.
    pub allow_non_restored_state: Option<bool>,
    /// Whose the checkpoint or savepoint is that it begins with: `CLAIM` or `NO_CLAIM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_mode: Option<String>,
    /// The same, as it was called before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_mode: Option<String>,
    /// What is run of the artifact: its `main`, the only thing that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_class: Option<String>,
    /// The id that the job is to have; otherwise one that nobody else has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The same, for who runs an application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_id: Option<String>,
}

#[derive(Serialize)]
struct Run {
    jobid: String,
    #[serde(rename = "applicationId")]
    application_id: String,
}

#[derive(Serialize)]
struct List {
    address: String,
    files: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    id: String,
    name: String,
    uploaded: i64,
    entry: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    /// Programs have none.
    description: Option<String>,
}

pub(crate) async fn upload(
    state: Data<State>,
    allowance: ReqData<Allowance>,
    mut form: Multipart,
) -> Result<HttpResponse, RestError> {
    let _one = state.uploads.begin()?;
    if state.jobmanager.artifacts().await?.len() >= MAX_ARTIFACTS {
        return Err(RestError::bad_request(format!(
            "{MAX_ARTIFACTS} artifacts are kept, which is the limit: delete some"
        )));
    }
    let bad = |error: actix_multipart::MultipartError| RestError::bad_request(error.to_string());
    let Some(mut field) = form.try_next().await.map_err(bad)? else {
        return Err(RestError::bad_request("the form has no file"));
    };
    allowance.file_begins();
    let name = field
        .content_disposition()
        .and_then(|field| field.get_filename())
        .unwrap_or("artifact")
        .to_owned();
    let (sender, receiver) = mpsc::channel(PARTS);
    let jobmanager = state.jobmanager.clone();
    let stored = actix_web::rt::spawn(block(move || jobmanager.store_artifact(&mut Body::new(receiver))));
    loop {
        let late = |_| {
            RestError::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("nothing has come for {PART:?}"),
            )
        };
        let part = timeout(PART, field.try_next())
            .await
            .map_err(late)?
            .map_err(bad)?;
        if part.as_ref().is_some_and(Bytes::is_empty) {
            // To who writes, that would be the end.
            continue;
        }
        let end = part.is_none();
        let sent = sender
            .send(part.map(|bytes| bytes.to_vec()).unwrap_or_default())
            .await;
        if end || sent.is_err() {
            break;
        }
    }
    drop(sender);
    let failed =
        |error: &dyn std::fmt::Display| RestError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let stored = stored
        .await
        .map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))?;
    let (digest, _) = stored?;
    let (id, name) = named(&name);
    let artifact = ArtifactRecord {
        name,
        digest,
        uploaded_ms: state.wall_ms(),
    };
    state.jobmanager.add_artifact(id.clone(), artifact).await?;
    Ok(HttpResponse::Ok().json(Uploaded {
        filename: format!("/{id}"),
        status: "success".to_owned(),
    }))
}

/// The parts of an upload as one stream. What ends without its empty part is torn.
struct Body {
    parts: mpsc::Receiver<Vec<u8>>,
    current: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl Body {
    fn new(parts: mpsc::Receiver<Vec<u8>>) -> Self {
        Self {
            parts,
            current: io::Cursor::default(),
            ended: false,
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            if read > 0 || self.ended {
                return Ok(read);
            }
            let part = self.parts.blocking_recv();
            let part = part.ok_or_else(|| io::Error::other("the upload was broken off"))?;
            self.ended = part.is_empty();
            self.current = io::Cursor::new(part);
        }
    }
}

pub(crate) async fn list(state: Data<State>) -> Result<HttpResponse, RestError> {
    let listed = |(id, artifact): (String, ArtifactRecord)| Listed {
        id,
        name: artifact.name,
        uploaded: artifact.uploaded_ms,
        entry: vec![Entry {
            name: ENTRY.to_owned(),
            description: None,
        }],
    };
    let files = state.jobmanager.artifacts().await?;
    let files = files.into_iter().map(listed).collect();
    let address = state.address.clone();
    Ok(HttpResponse::Ok().json(List { address, files }))
}

/// The list forgets it. What runs from it runs on.
pub(crate) async fn forget(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    find(&state, &id).await?;
    state.jobmanager.remove_artifact(id.into_inner()).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({})))
}

/// What may be said in the query as well; the body counts first.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RunQuery {
    /// With commas.
    program_arg: Option<String>,
    #[serde(rename = "entry-class")]
    entry_class: Option<String>,
    parallelism: Option<u32>,
    savepoint_path: Option<String>,
    allow_non_restored_state: Option<bool>,
}

impl RunRequest {
    fn or(self, query: RunQuery) -> Self {
        let args = query
            .program_arg
            .map(|args| args.split(',').map(str::to_owned).collect());
        Self {
            program_args_list: match self.program_args_list.is_empty() {
                true => args.unwrap_or_default(),
                false => self.program_args_list,
            },
            entry_class: self.entry_class.or(query.entry_class),
            parallelism: self.parallelism.or(query.parallelism),
            savepoint_path: self.savepoint_path.or(query.savepoint_path),
            allow_non_restored_state: self.allow_non_restored_state.or(query.allow_non_restored_state),
            ..self
        }
    }

    /// What cannot be done is refused, and not left out.
    fn check(&self) -> Result<(), RestError> {
        let entry = self.entry_class.as_deref().filter(|entry| !entry.is_empty());
        if let Some(entry) = entry.filter(|entry| *entry != ENTRY) {
            let text =
                format!("an artifact has one entry, `{ENTRY}`, and not '{entry}': leave the entry class out");
            return Err(RestError::bad_request(text));
        }
        if self.parallelism == Some(0) {
            return Err(RestError::bad_request("the parallelism is 0: it is 1 at least"));
        }
        Ok(())
    }

    /// The id that the job is to have.
    fn id(&self) -> Result<Option<JobId>, RestError> {
        let ids = (self.job_id.as_deref(), self.application_id.as_deref());
        let id = match ids {
            (Some(job), Some(application)) if !job.eq_ignore_ascii_case(application) => {
                return Err(RestError::bad_request(
                    "an application is its job: `jobId` and `applicationId` are the same, or one of them is left out",
                ));
            }
            (one, other) => one.or(other),
        };
        id.map(job_id).transpose()
    }

    fn claim_mode(&self) -> Result<Option<&str>, RestError> {
        let mode = self.claim_mode.as_deref().or(self.restore_mode.as_deref());
        match mode {
            None | Some("CLAIM" | "NO_CLAIM") => Ok(mode),
            Some(mode) => Err(RestError::bad_request(format!(
                "'{mode}' is no claim mode: `CLAIM` and `NO_CLAIM` are"
            ))),
        }
    }
}

/// What is to be launched of an artifact, and as which job.
async fn launch(
    state: &State,
    id: &str,
    query: RunQuery,
    body: &[u8],
) -> Result<(JobLaunch, Option<JobId>), RestError> {
    let artifact = find(state, id).await?;
    let request: RunRequest = crate::request::body(body)?;
    let request = request.or(query);
    request.check()?;
    let (job, mode) = (request.id()?, request.claim_mode()?.map(ToOwned::to_owned));
    let mut config = request.flink_configuration;
    if let Some(mode) = mode {
        config.insert(CLAIM_MODE.key().to_owned(), mode);
    }
    if let Some(path) = request.savepoint_path {
        config.insert("execution.state-recovery.path".to_owned(), path);
    }
    if request.allow_non_restored_state == Some(true) {
        config.insert(
            "execution.state-recovery.ignore-unclaimed-state".to_owned(),
            "true".to_owned(),
        );
    }
    let launch = JobLaunch {
        artifact: artifact.digest.to_string(),
        args: request.program_args_list,
        config,
        defaults: BTreeMap::new(),
        parallelism: request.parallelism,
        graph: None,
    };
    Ok((launch, job))
}

type Answer = Result<HttpResponse, RestError>;

async fn begin(state: &State, id: &str, query: Query<RunQuery>, body: &[u8]) -> Result<String, RestError> {
    let (launch, job) = launch(state, id, query.into_inner(), body).await?;
    Ok(state.jobmanager.run_as(launch, job).await?.to_string())
}

pub(crate) async fn run(state: Data<State>, id: Path<String>, query: Query<RunQuery>, body: Bytes) -> Answer {
    let jobid = begin(&state, &id, query, &body).await?;
    let application_id = jobid.clone();
    Ok(HttpResponse::Ok().json(Run {
        jobid,
        application_id,
    }))
}

/// An application is its job, so it runs when that does.
pub(crate) async fn run_application(
    state: Data<State>,
    id: Path<String>,
    query: Query<RunQuery>,
    body: Bytes,
) -> Answer {
    let application = begin(&state, &id, query, &body).await?;
    Ok(HttpResponse::Accepted().json(serde_json::json!({ "applicationid": application })))
}

/// The plan of a program, which is built and not run.
pub(crate) async fn plan(
    state: Data<State>,
    id: Path<String>,
    query: Query<RunQuery>,
    body: Bytes,
) -> Answer {
    let (launch, job) = launch(&state, &id, query.into_inner(), &body).await?;
    let mut graph = state.jobmanager.plan(launch).await?;
    graph.id = job.unwrap_or(graph.id);
    Ok(HttpResponse::Ok().json(serde_json::json!({ "plan": crate::shape::plan(&graph) })))
}
