//! `/jobs/:jobid/checkpoints`: what became of checkpoints, how they are taken, and one that somebody wants.

use crate::error::RestError;
use crate::operations::Operation;
use crate::request::{body, job_id, number, trigger_id, vertex_id};
use crate::server::State;
use crate::settings::Settings;
use crate::shape::checkpoints as shape;
use crate::vertices::not_found;
use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data, Path};
use hurtig_cluster::{CheckpointKind, CheckpointRecord, ClusterError};
use hurtig_core::ids::CheckpointId;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

type Answer = Result<HttpResponse, RestError>;

/// A checkpoint that somebody wants.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct CheckpointRequest {
    checkpoint_type: Kind,
    trigger_id: Option<String>,
}

/// What it is to be.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    #[default]
    Configured,
    Full,
    Incremental,
}

impl From<Kind> for CheckpointKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Configured => Self::Configured,
            Kind::Full => Self::Full,
            Kind::Incremental => Self::Incremental,
        }
    }
}

pub(crate) async fn statistics(state: Data<State>, id: Path<String>) -> Answer {
    let known = state.jobmanager.cluster().job_checkpoints(job_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(shape::statistics(&known)))
}

pub(crate) async fn config(state: Data<State>, id: Path<String>) -> Answer {
    let detail = state.jobmanager.cluster().job_detail(job_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(Settings::of(&detail.graph).checkpoints()))
}

async fn find(state: &State, job: &str, id: &str) -> Result<CheckpointRecord, RestError> {
    let (job, id) = (job_id(job)?, CheckpointId(number("checkpoint", id)?));
    let known = state.jobmanager.cluster().job_checkpoints(job).await?;
    let unknown = || {
        not_found(format!(
            "there is no checkpoint {id} of job {job}, or it is forgotten"
        ))
    };
    known.of(id).cloned().ok_or_else(unknown)
}

pub(crate) async fn detail(state: Data<State>, path: Path<(String, String)>) -> Answer {
    let record = find(&state, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(shape::checkpoint(&record, true)))
}

pub(crate) async fn subtasks(state: Data<State>, path: Path<(String, String, String)>) -> Answer {
    let vertex = vertex_id(&path.2)?;
    let record = find(&state, &path.0, &path.1).await?;
    let unknown = || not_found(format!("vertex {vertex} has no part in checkpoint {}", path.1));
    let answer = shape::subtasks(&record, vertex).ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(answer))
}

pub(crate) async fn trigger(state: Data<State>, id: Path<String>, bytes: Bytes) -> Answer {
    let (job, request): (_, CheckpointRequest) = (job_id(&id)?, body(&bytes)?);
    let trigger = match request.trigger_id {
        Some(named) => trigger_id(&named)?,
        None => Uuid::new_v4().simple().to_string(),
    };
    let what = Operation::Checkpoint(job);
    let cluster = state.jobmanager.cluster().clone();
    let status = cluster.job_status(job).await?;
    // A request that is repeated after the job has ended is the same request.
    if status.is_globally_terminal() && state.operations.status(what, &trigger).is_none() {
        return Err(ClusterError::Ended { job, status }.into());
    }
    let answer = HttpResponse::Accepted().json(json!({ "request-id": trigger }));
    if !state.operations.begin(what, &trigger)? {
        return Ok(answer);
    }
    let state = state.clone();
    actix_web::rt::spawn(async move {
        let taken = cluster.job_checkpoint(job, request.checkpoint_type.into()).await;
        let taken = taken.map(|taken| json!({ "checkpointId": taken.id.0 }));
        let taken = taken.map_err(|error| error.to_string());
        tracing::info!(%job, trigger, ?taken, "checkpoint");
        state.operations.end(what, &trigger, taken);
    });
    Ok(answer)
}

pub(crate) async fn status(state: Data<State>, path: Path<(String, String)>) -> Answer {
    let (job, trigger) = (job_id(&path.0)?, trigger_id(&path.1)?);
    let status = state.operations.status(Operation::Checkpoint(job), &trigger);
    let unknown = || not_found(format!("there is no checkpoint request {trigger} of job {job}"));
    Ok(HttpResponse::Ok().json(status.ok_or_else(unknown)?))
}
