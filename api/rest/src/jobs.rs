//! `/jobs`, `/taskmanagers`, `/overview` and `/cluster`.

use crate::error::RestError;
use crate::server::State;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, Query};
use hurtig_cluster::{FailureEntry, JobFailure};
use hurtig_core::ids::JobId;
use hurtig_dataflow::graph::JobStatus;
use serde::Deserialize;
use serde_json::json;

/// How a job is ended.
#[derive(Deserialize)]
pub(crate) struct Termination {
    mode: Option<String>,
}

fn job_id(text: &str) -> Result<JobId, RestError> {
    let bad = || RestError::bad_request(format!("'{text}' is no job id: 32 hexadecimal digits are"));
    let id: JobId = text.parse().map_err(|_| bad())?;
    if text.len() == 32 { Ok(id) } else { Err(bad()) }
}

pub(crate) async fn ids(state: Data<State>) -> Result<HttpResponse, RestError> {
    let jobs = state.jobmanager.cluster().jobs().await?;
    let jobs = jobs
        .iter()
        .map(|job| json!({"id": job.job.to_string(), "status": job.status.to_string()}));
    let jobs: Vec<_> = jobs.collect();
    Ok(HttpResponse::Ok().json(json!({ "jobs": jobs })))
}

pub(crate) async fn overview(state: Data<State>) -> Result<HttpResponse, RestError> {
    let jobs = state.jobmanager.cluster().jobs().await?;
    let jobs = jobs.iter().map(|job| {
        json!({
            "jid": job.job.to_string(),
            "name": job.name,
            "state": job.status.to_string(),
            "jobType": "STREAMING",
        })
    });
    let jobs: Vec<_> = jobs.collect();
    Ok(HttpResponse::Ok().json(json!({ "jobs": jobs })))
}

pub(crate) async fn status(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    let status = state.jobmanager.cluster().job_status(job_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(json!({ "status": status.to_string() })))
}

pub(crate) async fn result(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    let (job, cluster) = (job_id(&id)?, state.jobmanager.cluster());
    if !cluster.job_status(job).await?.is_globally_terminal() {
        return Ok(HttpResponse::Ok().json(json!({ "status": { "id": "IN_PROGRESS" } })));
    }
    let result = cluster.job_result(job).await?;
    let application = match result.status {
        JobStatus::Finished => "SUCCEEDED",
        JobStatus::Canceled => "CANCELED",
        _ => "FAILED",
    };
    let failure = result
        .failure
        .as_ref()
        .map(|failure| json!({"class": "failure", "stack-trace": failure.to_string()}));
    let duration = u64::try_from(result.duration.as_millis()).unwrap_or(u64::MAX);
    Ok(HttpResponse::Ok().json(json!({
        "status": { "id": "COMPLETED" },
        "job-execution-result": {
            "id": result.job.to_string(),
            "application-status": application,
            "net-runtime": duration,
            "failure-cause": failure,
        }
    })))
}

pub(crate) async fn exceptions(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    let failures = state.jobmanager.cluster().job_exceptions(job_id(&id)?).await?;
    let one = |failure: &JobFailure| {
        json!({
            "exceptionName": if failure.cause.panicked { "panic" } else { "failure" },
            "stacktrace": failure.to_string(),
            "taskName": failure.vertex,
            "taskManagerId": failure.task_manager.map(|id| id.to_string()),
        })
    };
    let entry = |entry: &FailureEntry| {
        let mut root = one(&entry.root);
        root["concurrentExceptions"] = entry.concurrent.iter().map(one).collect();
        root
    };
    let entries: Vec<_> = failures.iter().rev().map(entry).collect();
    Ok(HttpResponse::Ok().json(json!({ "exceptionHistory": { "entries": entries, "truncated": false } })))
}

pub(crate) async fn checkpoints(state: Data<State>, id: Path<String>) -> Result<HttpResponse, RestError> {
    let statistics = state.jobmanager.cluster().job_checkpoints(job_id(&id)?).await?;
    let latest = statistics.last_checkpoint.as_ref();
    let completed =
        latest.map(|checkpoint| json!({"id": checkpoint.checkpoint.0, "state_size": checkpoint.bytes}));
    Ok(HttpResponse::Ok().json(json!({
        "counts": {
            "total": statistics.triggered,
            "completed": statistics.completed,
            "failed": statistics.failed,
        },
        "latest": { "completed": completed },
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

pub(crate) async fn task_managers(state: Data<State>) -> Result<HttpResponse, RestError> {
    let known = state.jobmanager.task_managers().await?;
    let all = known.all.iter().map(|task_manager| {
        json!({
            "id": task_manager.id.to_string(),
            "path": task_manager.address,
            "slotsNumber": task_manager.slots,
        })
    });
    let all: Vec<_> = all.collect();
    Ok(HttpResponse::Ok().json(json!({ "taskmanagers": all })))
}

pub(crate) async fn cluster(state: Data<State>) -> Result<HttpResponse, RestError> {
    let known = state.jobmanager.task_managers().await?;
    let jobs = state.jobmanager.cluster().jobs().await?;
    let count = |status: fn(JobStatus) -> bool| jobs.iter().filter(|job| status(job.status)).count();
    Ok(HttpResponse::Ok().json(json!({
        "taskmanagers": known.all.len(),
        "slots-total": known.slots,
        "slots-available": known.free,
        "jobs-running": count(|status| !status.is_globally_terminal()),
        "jobs-finished": count(|status| status == JobStatus::Finished),
        "jobs-cancelled": count(|status| status == JobStatus::Canceled),
        "jobs-failed": count(|status| status == JobStatus::Failed),
        "flink-version": env!("CARGO_PKG_VERSION"),
    })))
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
