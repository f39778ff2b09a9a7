//! `/jobs` and `/cluster`.

use crate::error::RestError;
use crate::request::{body, job_id};
use crate::server::State;
use crate::settings::Settings;
use crate::shape;
use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data, Path, Query};
use futures_util::future::join_all;
use hurtig_cluster::ClusterError;
use hurtig_dataflow::graph::JobStatus;
use serde::Deserialize;
use serde_json::json;

/// Failures that an answer has unless the request says how many.
const EXCEPTIONS: usize = 20;

/// How a job is ended.
#[derive(Deserialize)]
pub(crate) struct Termination {
    mode: Option<String>,
}

/// How much of the history is wanted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Most {
    max_exceptions: Option<u32>,
    /// `KEY:VALUE`, with commas; otherwise all.
    failure_label_filter: Option<String>,
}

impl Most {
    pub(crate) fn most(&self) -> usize {
        let most = self.max_exceptions.map(usize::try_from);
        most.map_or(EXCEPTIONS, |most| most.unwrap_or(usize::MAX))
    }

    /// The labels that failures must have.
    fn labels(&self) -> Result<Vec<(&str, &str)>, RestError> {
        let pairs = self.failure_label_filter.as_deref().unwrap_or_default();
        let pair = |text: &'_ str| {
            RestError::bad_request(format!(
                "'{text}' is no label: `KEY:VALUE` is, such as `TYPE:USER`"
            ))
        };
        let pairs = pairs.split(',').filter(|text| !text.is_empty());
        pairs
            .map(|text| text.split_once(':').ok_or_else(|| pair(text)))
            .collect()
    }
}

/// How accumulators are wanted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Serialized {
    #[expect(
        dead_code,
        reason = "it must be a truth value; there is no form that others could decode, whatever it is"
    )]
    include_serialized_value: Option<bool>,
}

pub(crate) async fn ids(state: Data<State>) -> Result<HttpResponse, RestError> {
    let jobs = state.jobmanager.cluster().jobs().await?;
    let jobs = jobs
        .iter()
        .map(|job| json!({"id": job.job.to_string(), "status": job.status.name()}));
    let jobs: Vec<_> = jobs.collect();
    Ok(HttpResponse::Ok().json(json!({ "jobs": jobs })))
}

pub(crate) async fn overview(state: Data<State>) -> Result<HttpResponse, RestError> {
    let cluster = state.jobmanager.cluster();
    let jobs = cluster.jobs().await?;
    let details = join_all(jobs.iter().map(|job| cluster.job_detail(job.job))).await;
    let mut listed = Vec::new();
    for detail in details {
        match detail {
            Ok(detail) => listed.push(shape::overview(&detail, state.wall_ms())),
            // It was forgotten meanwhile.
            Err(ClusterError::UnknownJob(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(HttpResponse::Ok().json(json!({ "jobs": listed })))
}

pub(crate) async fn detail(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    let detail = state.jobmanager.cluster().job_detail(job_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(shape::detail(&detail, state.wall_ms())))
}

pub(crate) async fn plan(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    let detail = state.jobmanager.cluster().job_detail(job_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(json!({ "plan": shape::plan(&detail.graph) })))
}

pub(crate) async fn status(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    let status = state.jobmanager.cluster().job_status(job_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(json!({ "status": status.name() })))
}

/// What a client says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Heartbeat {
    /// Before when it will be heard of again, in milliseconds since 1970; none: within the time that the submission has said, whatever the
    /// clocks are.
    expired_timestamp: Option<i64>,
}

/// Who waits for the job, and with whom it ends, is there.
pub(crate) async fn client_heartbeat(
    state: Data<State>,
    id: Path<String>,
    bytes: Bytes,
) -> Result<HttpResponse, RestError> {
    let job = job_id(&id)?;
    let Heartbeat { expired_timestamp } = body(&bytes)?;
    let cluster = state.jobmanager.cluster();
    cluster.client_heartbeat(job, expired_timestamp).await?;
    Ok(HttpResponse::Accepted().json(json!({})))
}

pub(crate) async fn result(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    let (job, of_cluster) = (job_id(&id)?, state.jobmanager.cluster());
    let known = of_cluster.job_detail(job).await?.overview;
    if !known.status.is_globally_terminal() {
        return Ok(HttpResponse::Ok().json(json!({ "status": { "id": "IN_PROGRESS" } })));
    }
    let result = of_cluster.job_result(job).await?;
    let application = match result.status {
        JobStatus::Finished => "SUCCEEDED",
        JobStatus::Canceled => "CANCELED",
        _ => "FAILED",
    };
    let mut answer = json!({
        "id": result.job.to_string(),
        "name": result.name,
        "application-id": result.job.to_string(),
        "application-status": application,
        "accumulator-results": {},
        "net-runtime": u64::try_from(result.duration.as_millis()).unwrap_or(u64::MAX),
        "start-time": known.start_ms,
        "end-time": known.end_ms,
    });
    if let Some(failure) = &result.failure {
        answer["failure-cause"] = json!({ "class": "failure", "stack-trace": failure.to_string() });
    }
    Ok(HttpResponse::Ok().json(json!({ "status": { "id": "COMPLETED" }, "job-execution-result": answer })))
}

pub(crate) async fn exceptions(
    state: Data<State>,
    id: Path<String>,
    most: Query<Most>,
) -> Result<HttpResponse, RestError> {
    let (job, of_cluster) = (job_id(&id)?, state.jobmanager.cluster());
    let labels = most.labels()?;
    let start_ms = of_cluster.job_detail(job).await?.overview.start_ms;
    let mut failures = of_cluster.job_exceptions(job).await?;
    failures.retain(|failure| shape::has_labels(&failure.root, &labels));
    let known = state.jobmanager.task_managers().await?;
    let endpoints = known.all.into_iter().map(|one| (one.id, one.address));
    let most = most.most();
    let shown = shape::exceptions(&failures, start_ms, most, &endpoints.collect());
    Ok(HttpResponse::Ok().json(shown))
}

pub(crate) async fn config(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    let detail = state.jobmanager.cluster().job_detail(job_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(Settings::of(&detail.graph).execution(&state.redaction)))
}

/// Values are for people: programs decode their own accumulators, and there is no form that others could.
pub(crate) async fn accumulators(
    state: Data<State>,
    id: Path<String>,
    _: Query<Serialized>,
) -> Result<HttpResponse, RestError> {
    let merged = state.jobmanager.cluster().job_accumulators(job_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(json!({
        "job-accumulators": [],
        "user-task-accumulators": shape::vertices::values(&merged),
        "serialized-user-task-accumulators": {},
    })))
}

pub(crate) async fn cancel(
    state: Data<State>,
    id: Path<String>,
    termination: Query<Termination>,
) -> Result<HttpResponse, RestError> {
    match termination.mode.as_deref() {
        None | Some("cancel") => {}
        Some(mode) => {
            return Err(RestError::bad_request(format!(
                "the mode '{mode}' is not known; `cancel` is"
            )));
        }
    }
    state.jobmanager.cluster().cancel_job(job_id(&id)?).await?;
    Ok(HttpResponse::Accepted().json(json!({})))
}

/// Cancels all jobs, waits for their ends, and ends the jobmanager; its TaskManagers follow.
pub(crate) async fn shut_down(state: Data<State>) -> HttpResponse {
    let (jobmanager, stop) = (state.jobmanager.clone(), state.stop.clone());
    actix_web::rt::spawn(async move {
        if let Err(error) = jobmanager.cluster().shutdown().await {
            tracing::error!(%error, "the cluster did not end cleanly");
        }
        // Whoever serves ends with it.
        stop.send_replace(true);
    });
    HttpResponse::Ok().json(json!({}))
}
