//! Savepoints, and stops with one: begun by one request, and asked after by another.

use crate::error::RestError;
use crate::request::{body, job_id, trigger_id};
use crate::server::State;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path};
use hurtig_cluster::{ClusterError, ClusterHandle};
use hurtig_core::ids::JobId;
use hurtig_dataflow::chain::StopMode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// Requests that are remembered.
const REMEMBERED: usize = 1_000;

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
    /// There is one format, which both names stand for.
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
    /// There is one format, which both names stand for.
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

/// How a savepoint is taken.
struct Taking {
    dir: Option<String>,
    stop: Option<StopMode>,
    /// Whether the job is cancelled then.
    cancel: bool,
}

/// Requests and their outcomes, the last ones.
#[derive(Default)]
pub(crate) struct Savepoints(Mutex<VecDeque<Requested>>);

struct Requested {
    job: JobId,
    trigger: String,
    /// `None`: it is under way.
    outcome: Option<Result<String, String>>,
}

impl Savepoints {
    fn with<T>(&self, act: impl FnOnce(&mut VecDeque<Requested>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// True: the request is new.
    fn begin(&self, job: JobId, trigger: &str) -> Result<bool, RestError> {
        self.with(|all| {
            if all.iter().any(|known| known.is(job, trigger)) {
                return Ok(false);
            }
            if all.len() >= REMEMBERED {
                let over = all.iter().position(|known| known.outcome.is_some());
                let full = || {
                    let text = format!("{REMEMBERED} savepoints are under way: wait for one to end");
                    RestError::new(StatusCode::SERVICE_UNAVAILABLE, text)
                };
                all.remove(over.ok_or_else(full)?);
            }
            let (trigger, outcome) = (trigger.to_owned(), None);
            all.push_back(Requested {
                job,
                trigger,
                outcome,
            });
            Ok(true)
        })
    }

    fn end(&self, job: JobId, trigger: &str, outcome: Result<String, String>) {
        self.with(|all| {
            if let Some(known) = all.iter_mut().find(|known| known.is(job, trigger)) {
                known.outcome = Some(outcome);
            }
        });
    }

    fn status(&self, job: JobId, trigger: &str) -> Option<Value> {
        self.with(|all| {
            let known = all.iter().find(|known| known.is(job, trigger))?;
            let operation = match &known.outcome {
                None => return Some(json!({ "status": { "id": "IN_PROGRESS" } })),
                Some(Ok(location)) => json!({ "location": location }),
                Some(Err(why)) => json!({ "failure-cause": { "class": "failure", "stack-trace": why } }),
            };
            Some(json!({ "status": { "id": "COMPLETED" }, "operation": operation }))
        })
    }
}

impl Requested {
    fn is(&self, job: JobId, trigger: &str) -> bool {
        self.job == job && self.trigger == trigger
    }
}

pub(crate) async fn trigger(
    state: Data<State>,
    id: Path<String>,
    bytes: Bytes,
) -> Result<HttpResponse, RestError> {
    let request: SavepointRequest = body(&bytes)?;
    let taking = Taking {
        dir: request.target_directory,
        stop: None,
        cancel: request.cancel_job,
    };
    begin(&state, job_id(&id)?, taking, request.trigger_id).await
}

pub(crate) async fn stop(
    state: Data<State>,
    id: Path<String>,
    bytes: Bytes,
) -> Result<HttpResponse, RestError> {
    let request: StopRequest = body(&bytes)?;
    let mode = match request.drain {
        true => StopMode::Drain,
        false => StopMode::Suspend,
    };
    let taking = Taking {
        dir: request.target_directory,
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
    let status = state.savepoints.status(job, &trigger);
    let unknown = || {
        let text = format!("there is no savepoint request {trigger} of job {job}");
        RestError::new(StatusCode::NOT_FOUND, text)
    };
    Ok(HttpResponse::Ok().json(status.ok_or_else(unknown)?))
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
    if status.is_globally_terminal() && state.savepoints.status(job, &trigger).is_none() {
        return Err(ClusterError::Ended { job, status }.into());
    }
    if !state.savepoints.begin(job, &trigger)? {
        return Ok(answer);
    }
    let state = state.clone();
    actix_web::rt::spawn(async move {
        let taken = take(&cluster, job, taking).await;
        let taken = taken.map_err(|error| error.to_string());
        tracing::info!(%job, trigger, ?taken, "savepoint");
        state.savepoints.end(job, &trigger, taken);
    });
    Ok(answer)
}

async fn take(cluster: &ClusterHandle, job: JobId, taking: Taking) -> Result<String, ClusterError> {
    let path = cluster.job_savepoint(job, taking.dir, taking.stop).await?;
    if taking.cancel {
        cluster.cancel_job(job).await?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u128) -> JobId {
        JobId::from_u128(number)
    }

    #[test]
    fn a_request_is_one_savepoint_however_often_it_is_made() {
        let all = Savepoints::default();
        assert!(all.begin(job(1), "a").unwrap() && !all.begin(job(1), "a").unwrap());
        assert!(all.begin(job(2), "a").unwrap(), "of another job");
        let under_way = all.status(job(1), "a").unwrap();
        assert_eq!(under_way, json!({ "status": { "id": "IN_PROGRESS" } }));
        all.end(job(1), "a", Ok("/s/savepoint-1".to_owned()));
        all.end(job(2), "a", Err("no directory".to_owned()));
        let done = all.status(job(1), "a").unwrap();
        assert_eq!(done["operation"], json!({ "location": "/s/savepoint-1" }));
        let failed = all.status(job(2), "a").unwrap();
        assert_eq!(
            failed["operation"]["failure-cause"]["stack-trace"],
            "no directory"
        );
        assert!(!all.begin(job(1), "a").unwrap() && all.status(job(1), "b").is_none());
    }

    #[test]
    fn the_oldest_outcome_is_forgotten_and_nothing_that_is_under_way() {
        let all = Savepoints::default();
        for number in 0..REMEMBERED as u128 {
            assert!(all.begin(job(number), "a").unwrap());
        }
        assert!(all.begin(job(5_000), "a").is_err());
        all.end(job(3), "a", Ok("/s".to_owned()));
        assert!(all.begin(job(5_000), "a").unwrap());
        assert!(all.status(job(3), "a").is_none() && all.status(job(2), "a").is_some());
    }
}
