//! Savepoints, stops with one, and the disposal of savepoints.

use crate::access::Role;
use crate::error::RestError;
use crate::operations::Operation;
use crate::request::{body, job_id, trigger_id};
use crate::server::State;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path, ReqData};
use hurtig_cluster::{ClusterError, ClusterHandle};
use hurtig_core::ids::JobId;
use hurtig_dataflow::chain::StopMode;
use hurtig_storage::{BlobStores, SavepointFormat, SnapshotFolder, SnapshotKind, is_whole, read_metadata};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// A savepoint of a job that goes on.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SavepointRequest {
    /// The directory that it goes into; otherwise the job's own.
    #[serde(rename = "target-directory", skip_serializing_if = "Option::is_none")]
    pub target_directory: Option<String>,
    /// Whether the job is cancelled when it is there.
    #[serde(rename = "cancel-job")]
    pub cancel_job: bool,
    /// In which form it holds keyed state; otherwise as the job's settings say.
    #[serde(rename = "formatType", skip_serializing_if = "Option::is_none")]
    pub format_type: Option<Format>,
    /// The id of the request; the same request again is the same savepoint.
    #[serde(rename = "triggerId", skip_serializing_if = "Option::is_none")]
    pub trigger_id: Option<String>,
}

/// A stop with a savepoint.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StopRequest {
    /// The directory that it goes into; otherwise the job's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_directory: Option<String>,
    /// Whether event time ends, so that timers and windows fire, before the savepoint.
    pub drain: bool,
    /// In which form it holds keyed state; otherwise as the job's settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format_type: Option<Format>,
    /// The id of the request; the same request again is the same savepoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_id: Option<String>,
}

/// Names of formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Format {
    /// Readable by any backend.
    Canonical,
    /// The backend's own.
    Native,
}

impl From<Format> for SavepointFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Canonical => Self::Canonical,
            Format::Native => Self::Native,
        }
    }
}

/// Which savepoint is deleted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DisposalRequest {
    #[serde(rename = "savepoint-path")]
    savepoint_path: Option<String>,
}

/// How a savepoint is taken.
struct Taking {
    dir: Option<String>,
    format: Option<SavepointFormat>,
    stop: Option<StopMode>,
    /// Whether the job is cancelled then.
    cancel: bool,
}

pub(crate) async fn trigger(
    state: Data<State>,
    id: Path<String>,
    role: ReqData<Role>,
    bytes: Bytes,
) -> Result<HttpResponse, RestError> {
    let request: SavepointRequest = body(&bytes)?;
    check_directory(*role, request.target_directory.as_deref(), &state.savepoint_dirs)?;
    if request.cancel_job && !state.gate.cancel {
        let text = "`web.cancel.enable: false` has switched off on this cluster that jobs are cancelled";
        return Err(RestError::new(StatusCode::FORBIDDEN, text));
    }
    let taking = Taking {
        dir: request.target_directory,
        format: request.format_type.map(Into::into),
        stop: None,
        cancel: request.cancel_job,
    };
    begin(&state, job_id(&id)?, taking, request.trigger_id).await
}

pub(crate) async fn stop(
    state: Data<State>,
    id: Path<String>,
    role: ReqData<Role>,
    bytes: Bytes,
) -> Result<HttpResponse, RestError> {
    let request: StopRequest = body(&bytes)?;
    check_directory(*role, request.target_directory.as_deref(), &state.savepoint_dirs)?;
    let mode = match request.drain {
        true => StopMode::Drain,
        false => StopMode::Suspend,
    };
    let taking = Taking {
        dir: request.target_directory,
        format: request.format_type.map(Into::into),
        stop: Some(mode),
        cancel: false,
    };
    begin(&state, job_id(&id)?, taking, request.trigger_id).await
}

pub(crate) async fn status(
    state: Data<State>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, RestError> {
    let (job, trigger) = (job_id(&path.0)?, trigger_id(&path.1)?);
    let status = state.operations.status(Operation::Savepoint(job), &trigger);
    let unknown = || {
        let text = format!("there is no savepoint request {trigger} of job {job}");
        RestError::new(StatusCode::NOT_FOUND, text)
    };
    Ok(HttpResponse::Ok().json(status.ok_or_else(unknown)?))
}

/// Whoever may run no code may not have the cluster write wherever they like.
fn check_directory(role: Role, dir: Option<&str>, allowed: &[String]) -> Result<(), RestError> {
    let Some(dir) = dir.filter(|dir| !dir.is_empty()) else {
        return Ok(());
    };
    let path = dir.split_once("://").map_or(dir, |(_, path)| path);
    let winds = path.split('/').any(|part| matches!(part, "." | ".."));
    if winds || dir.chars().any(char::is_control) {
        let text = "a directory has neither `.` nor `..` nor control characters in it";
        return Err(RestError::bad_request(text));
    }
    let dir = dir.strip_prefix("file://").unwrap_or(dir);
    let below = |allowed: &String| {
        let allowed = allowed
            .strip_prefix("file://")
            .unwrap_or(allowed)
            .trim_end_matches('/');
        let rest = dir.strip_prefix(allowed);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if role == Role::Admin || allowed.iter().any(below) {
        return Ok(());
    }
    let text = "an operator names a directory below one of `rest.savepoint-directories`, or none: then the job's own is taken";
    Err(RestError::new(StatusCode::FORBIDDEN, text))
}

async fn begin(
    state: &Data<State>,
    job: JobId,
    taking: Taking,
    trigger: Option<String>,
) -> Result<HttpResponse, RestError> {
    let trigger = match trigger {
        Some(named) => trigger_id(&named)?,
        None => Uuid::new_v4().simple().to_string(),
    };
    let answer = HttpResponse::Accepted().json(json!({ "request-id": trigger }));
    let cluster = state.jobmanager.cluster().clone();
    let status = cluster.job_status(job).await?;
    // A request that is repeated after the job has ended is the same request.
    if status.is_globally_terminal()
        && state
            .operations
            .status(Operation::Savepoint(job), &trigger)
            .is_none()
    {
        return Err(ClusterError::Ended { job, status }.into());
    }
    if !state.operations.begin(Operation::Savepoint(job), &trigger)? {
        return Ok(answer);
    }
    let state = state.clone();
    actix_web::rt::spawn(async move {
        let taken = take(&cluster, job, taking).await;
        let taken = taken.map_err(|error| error.to_string());
        tracing::info!(%job, trigger, ?taken, "savepoint");
        let taken = taken.map(|location| json!({ "location": location }));
        state.operations.end(Operation::Savepoint(job), &trigger, taken);
    });
    Ok(answer)
}

async fn take(cluster: &ClusterHandle, job: JobId, taking: Taking) -> Result<String, ClusterError> {
    let path = cluster
        .job_savepoint(job, taking.dir, taking.stop, taking.format)
        .await?;
    if taking.cancel {
        cluster.cancel_job(job).await?;
    }
    Ok(path)
}

/// Deletes a savepoint: its metadata, and the files of its own that they name.
pub(crate) async fn dispose(state: Data<State>, bytes: Bytes) -> Result<HttpResponse, RestError> {
    let request: DisposalRequest = body(&bytes)?;
    let path = request.savepoint_path.filter(|path| !path.is_empty());
    let path =
        path.ok_or_else(|| RestError::bad_request("nobody said which savepoint: name its `savepoint-path`"))?;
    if !is_whole(&path) {
        let text = format!("'{path}' is no whole path: name the savepoint by one");
        return Err(RestError::bad_request(text));
    }
    let trigger = Uuid::new_v4().simple().to_string();
    state.operations.begin(Operation::Disposal, &trigger)?;
    let answer = HttpResponse::Ok().json(json!({ "request-id": trigger }));
    actix_web::rt::spawn(async move {
        let of = path.clone();
        let disposed = actix_web::web::block(move || delete(&of)).await;
        let disposed = disposed.unwrap_or_else(|error| Err(error.to_string()));
        tracing::info!(path, ?disposed, "disposal of a savepoint");
        let disposed = disposed.map(|()| json!({}));
        state.operations.end(Operation::Disposal, &trigger, disposed);
    });
    Ok(answer)
}

/// Blocks.
fn delete(path: &str) -> Result<(), String> {
    let stores = BlobStores::local();
    let failed = |error: hurtig_storage::StorageError| error.to_string();
    let folder = SnapshotFolder::of_path(path).map_err(failed)?;
    let store = folder.open(&stores).map_err(failed)?;
    let metadata = read_metadata(&*store, &folder.folder).map_err(failed)?;
    match metadata.kind {
        SnapshotKind::Savepoint => folder.delete(&stores).map_err(failed),
        SnapshotKind::Checkpoint => Err(format!(
            "'{path}' is a checkpoint, which belongs to its job: only savepoints are deleted"
        )),
    }
}

pub(crate) async fn disposal(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    let trigger = trigger_id(&id)?;
    let status: Option<Value> = state.operations.status(Operation::Disposal, &trigger);
    let unknown = || RestError::new(StatusCode::NOT_FOUND, format!("there is no disposal {trigger}"));
    Ok(HttpResponse::Ok().json(status.ok_or_else(unknown)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::ResponseError as _;

    #[test]
    fn operators_have_savepoints_written_where_it_was_said() {
        let allowed = ["/savepoints/".to_owned(), "s3://bucket/a".to_owned()];
        let of = |role, dir| {
            check_directory(role, Some(dir), &allowed).map_err(|error| error.status_code().as_u16())
        };
        for good in [
            "",
            "/savepoints",
            "/savepoints/x",
            "file:///savepoints/x",
            "s3://bucket/a",
            "s3://bucket/a/b",
        ] {
            assert_eq!(of(Role::Operator, good), Ok(()), "{good}");
        }
        for other in [
            "/",
            "/savepoints2",
            "/etc",
            "savepoints",
            "s3://bucket/ab",
            "s3://bucket",
            "s3://169.254.169.254/a",
            "http://169.254.169.254/latest",
            "\\\\host\\share",
        ] {
            assert_eq!(of(Role::Operator, other), Err(403), "{other}");
            assert_eq!(of(Role::Admin, other), Ok(()), "{other}");
        }
        for winding in [
            "/savepoints/../etc",
            "/savepoints/./x",
            "s3://bucket/a/../../x",
            "/savepoints/\0",
        ] {
            assert_eq!(of(Role::Operator, winding), Err(400), "{winding}");
            assert_eq!(of(Role::Admin, winding), Err(400), "{winding}");
        }
        assert!(check_directory(Role::Operator, None, &[]).is_ok());
        assert!(check_directory(Role::Operator, Some("/x"), &[]).is_err());
    }
}
