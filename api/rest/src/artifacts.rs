//! `/jars`: artifacts that were uploaded, and the jobs that are run from them.

use crate::body::Allowance;
use crate::error::RestError;
use crate::server::State;
use actix_multipart::Multipart;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path, Query, ReqData, block};
use futures_util::TryStreamExt as _;
use hurtig_cluster::process::launch::JobLaunch;
use hurtig_ha::records::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
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
/// Artifacts that are remembered.
const MAX_ARTIFACTS: usize = 1_000;
/// Characters of the name of a file that are kept.
const MAX_NAME: usize = 100;

/// The artifacts that were uploaded, by their ids.
pub(crate) struct Artifacts {
    known: Mutex<BTreeMap<String, Artifact>>,
    uploads: Semaphore,
}

impl Default for Artifacts {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            uploads: Semaphore::new(UPLOADS),
        }
    }
}

#[derive(Clone)]
struct Artifact {
    name: String,
    digest: Digest,
    uploaded_ms: i64,
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
#[serde(default, rename_all = "camelCase")]
pub struct RunRequest {
    /// The program's arguments.
    pub program_args_list: Vec<String>,
    /// The parallelism of operators that set none.
    pub parallelism: Option<u32>,
    /// Settings.
    pub flink_configuration: BTreeMap<String, String>,
    /// The folder of the checkpoint or savepoint that it begins with.
    pub savepoint_path: Option<String>,
    /// Whether state of operators that the program does not have may be dropped.
    pub allow_non_restored_state: Option<bool>,
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

impl Artifacts {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Artifact>) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Under an id that the server makes; of the client's name, what can stand in a path.
    fn add(&self, name: &str, digest: Digest, uploaded_ms: i64) -> Result<String, RestError> {
        let good = |c: char| {
            if c.is_ascii_alphanumeric() || ".-_".contains(c) {
                c
            } else {
                '_'
            }
        };
        let name: String = name.chars().take(MAX_NAME).map(good).collect();
        let id = format!("{}_{name}", Uuid::new_v4());
        let artifact = Artifact {
            name,
            digest,
            uploaded_ms,
        };
        self.with(|all| match all.len() {
            MAX_ARTIFACTS.. => Err(RestError::bad_request(format!(
                "{MAX_ARTIFACTS} artifacts were uploaded, which is the limit"
            ))),
            _ => {
                all.insert(id.clone(), artifact);
                Ok(id)
            }
        })
    }

    /// One of few, while it lasts.
    fn begin_upload(&self) -> Result<SemaphorePermit<'_>, RestError> {
        self.uploads.try_acquire().map_err(|_| {
            let text = format!("{UPLOADS} uploads are under way: wait for one to end");
            RestError::new(StatusCode::TOO_MANY_REQUESTS, text)
        })
    }

    fn get(&self, id: &str) -> Result<Artifact, RestError> {
        let found = self.with(|all| all.get(id).cloned());
        found.ok_or_else(|| {
            let text = format!("there is no artifact '{id}'");
            RestError::new(StatusCode::NOT_FOUND, text)
        })
    }
}

pub(crate) async fn upload(
    state: Data<State>,
    allowance: ReqData<Allowance>,
    mut form: Multipart,
) -> Result<HttpResponse, RestError> {
    let _one = state.artifacts.begin_upload()?;
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
    let id = state.artifacts.add(&name, digest, state.wall_ms())?;
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

pub(crate) async fn list(state: Data<State>) -> HttpResponse {
    let listed = |(id, artifact): (&String, &Artifact)| Listed {
        id: id.clone(),
        name: artifact.name.clone(),
        uploaded: artifact.uploaded_ms,
        entry: vec![Entry {
            name: "main".to_owned(),
            description: None,
        }],
    };
    let files = state.artifacts.with(|all| all.iter().map(listed).collect());
    let address = state.address.clone();
    HttpResponse::Ok().json(List { address, files })
}

/// The list forgets it. What runs from it runs on.
pub(crate) async fn forget(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    state.artifacts.get(&id)?;
    state.artifacts.with(|all| all.remove(id.as_str()));
    Ok(HttpResponse::Ok().json(serde_json::json!({})))
}

/// What may be said in the query as well; the body counts first.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RunQuery {
    /// With commas.
    program_arg: Option<String>,
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
            parallelism: self.parallelism.or(query.parallelism),
            savepoint_path: self.savepoint_path.or(query.savepoint_path),
            allow_non_restored_state: self.allow_non_restored_state.or(query.allow_non_restored_state),
            ..self
        }
    }
}

/// What is to be launched of an artifact.
fn launch(state: &State, id: &str, query: RunQuery, body: &[u8]) -> Result<JobLaunch, RestError> {
    let artifact = state.artifacts.get(id)?;
    let request: RunRequest = crate::request::body(body)?;
    let request = request.or(query);
    let mut config = request.flink_configuration;
    if let Some(path) = request.savepoint_path {
        config.insert("execution.state-recovery.path".to_owned(), path);
    }
    if request.allow_non_restored_state == Some(true) {
        config.insert(
            "execution.state-recovery.ignore-unclaimed-state".to_owned(),
            "true".to_owned(),
        );
    }
    Ok(JobLaunch {
        artifact: artifact.digest.to_string(),
        args: request.program_args_list,
        config,
        defaults: BTreeMap::new(),
        parallelism: request.parallelism,
        graph: None,
    })
}

pub(crate) async fn run(
    state: Data<State>,
    id: Path<String>,
    query: Query<RunQuery>,
    body: Bytes,
) -> Result<HttpResponse, RestError> {
    let job = state
        .jobmanager
        .run(launch(&state, &id, query.into_inner(), &body)?)
        .await?;
    let jobid = job.to_string();
    let application_id = jobid.clone();
    Ok(HttpResponse::Ok().json(Run {
        jobid,
        application_id,
    }))
}

/// The plan of a program, which is built and not run.
pub(crate) async fn plan(
    state: Data<State>,
    id: Path<String>,
    query: Query<RunQuery>,
    body: Bytes,
) -> Result<HttpResponse, RestError> {
    let graph = state
        .jobmanager
        .plan(launch(&state, &id, query.into_inner(), &body)?)
        .await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "plan": crate::shape::plan(&graph) })))
}
