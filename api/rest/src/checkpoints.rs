//! `/jobs/:jobid/checkpoints`: what became of checkpoints, how they are taken, and one that somebody wants.

use crate::error::RestError;
use crate::operations;
use crate::request::{body, job_id, number, or_default, trigger_id, vertex_id};
use crate::savepoints::begin;
use crate::server::State;
use crate::settings::Settings;
use crate::shape::checkpoints as shape;
use crate::vertices::not_found;
use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data, Path};
use hurtig_cluster::CheckpointRecord;
use hurtig_cluster::process::Family;
use hurtig_core::ids::CheckpointId;
use hurtig_ha::records::{Intent, IntentOutcome};
use serde::Deserialize;
use serde_json::json;

type Answer = Result<HttpResponse, RestError>;

/// A checkpoint that somebody wants.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CheckpointRequest {
    #[serde(deserialize_with = "or_default")]
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

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Configured => "CONFIGURED",
            Self::Full => "FULL",
            Self::Incremental => "INCREMENTAL",
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
    let form = request.checkpoint_type.name().to_owned();
    begin(&state, job, Intent::Checkpoint { form }, request.trigger_id).await
}

pub(crate) async fn status(state: Data<State>, path: Path<(String, String)>) -> Answer {
    let (job, trigger) = (job_id(&path.0)?, trigger_id(&path.1)?);
    let asked = state
        .jobmanager
        .asked(job, (Family::Checkpoints, &trigger))
        .await?;
    let unknown = || {
        not_found(format!(
            "there is no checkpoint request {trigger} of job {job}, or it is forgotten"
        ))
    };
    let (_, outcome) = asked.ok_or_else(unknown)?;
    let taken = |done: &IntentOutcome| json!({ "checkpointId": done.checkpoint.map(|id| id.0) });
    Ok(HttpResponse::Ok().json(operations::status(outcome.as_ref(), taken)))
}
