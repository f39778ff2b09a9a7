//! Savepoints, stops with one, and the disposal of savepoints.

use crate::access::Role;
use crate::error::RestError;
use crate::operations;
use crate::request::{body, job_id, or_default, trigger_id};
use crate::server::State;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path, ReqData};
use hurtig_cluster::process::Family;
use hurtig_core::ids::JobId;
use hurtig_ha::records::Intent;
use hurtig_storage::is_whole;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

/// A savepoint of a job that goes on.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SavepointRequest {
    /// The directory that it goes into; otherwise the job's own.
    #[serde(rename = "target-directory", skip_serializing_if = "Option::is_none")]
    pub target_directory: Option<String>,
    /// Whether the job is cancelled when it is there.
    #[serde(rename = "cancel-job", deserialize_with = "or_default")]
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
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StopRequest {
    /// The directory that it goes into; otherwise the job's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_directory: Option<String>,
    /// Whether event time ends, so that timers and windows fire, before the savepoint.
    #[serde(deserialize_with = "or_default")]
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

impl Format {
    fn name(self) -> String {
        let name = match self {
            Self::Canonical => "CANONICAL",
            Self::Native => "NATIVE",
        };
        name.to_owned()
    }
}

/// Which savepoint is deleted.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DisposalRequest {
    #[serde(rename = "savepoint-path")]
    savepoint_path: Option<String>,
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
    let intent = Intent::Savepoint {
        directory: request.target_directory,
        format: request.format_type.map(Format::name),
        cancel: request.cancel_job,
    };
    begin(&state, job_id(&id)?, intent, request.trigger_id).await
}

pub(crate) async fn stop(
    state: Data<State>,
    id: Path<String>,
    role: ReqData<Role>,
    bytes: Bytes,
) -> Result<HttpResponse, RestError> {
    let request: StopRequest = body(&bytes)?;
    check_directory(*role, request.target_directory.as_deref(), &state.savepoint_dirs)?;
    let intent = Intent::Stop {
        directory: request.target_directory,
        drain: request.drain,
        format: request.format_type.map(Format::name),
    };
    begin(&state, job_id(&id)?, intent, request.trigger_id).await
}

pub(crate) async fn status(
    state: Data<State>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, RestError> {
    let (job, trigger) = (job_id(&path.0)?, trigger_id(&path.1)?);
    let asked = state
        .jobmanager
        .asked(job, (Family::Savepoints, &trigger))
        .await?;
    let unknown = || {
        let text = format!("there is no savepoint request {trigger} of job {job}, or it is forgotten");
        RestError::new(StatusCode::NOT_FOUND, text)
    };
    let (_, outcome) = asked.ok_or_else(unknown)?;
    let status = operations::status(outcome.as_ref(), |done| json!({ "location": done.location }));
    Ok(HttpResponse::Ok().json(status))
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

/// Answered when it is in the store: from then on it is not forgotten, whoever is killed. The same trigger id again is the same request.
pub(crate) async fn begin(
    state: &State,
    job: JobId,
    intent: Intent,
    trigger: Option<String>,
) -> Result<HttpResponse, RestError> {
    let trigger = match trigger {
        Some(named) => trigger_id(&named)?,
        None => Uuid::new_v4().simple().to_string(),
    };
    state.jobmanager.ask_job(job, &trigger, intent).await?;
    Ok(HttpResponse::Accepted().json(json!({ "request-id": trigger })))
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
    let trigger = state.jobmanager.dispose(path).await?;
    Ok(HttpResponse::Ok().json(json!({ "request-id": trigger })))
}

pub(crate) async fn disposal(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    let trigger = trigger_id(&id)?;
    let asked = state.jobmanager.disposal(&trigger).await?;
    let unknown = || {
        let text = format!("there is no disposal {trigger}, or it is forgotten");
        RestError::new(StatusCode::NOT_FOUND, text)
    };
    let asked = asked.ok_or_else(unknown)?;
    let status = operations::status(asked.outcome.as_ref(), |_| json!({}));
    Ok(HttpResponse::Ok().json(status))
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
