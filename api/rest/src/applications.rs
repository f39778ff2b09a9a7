//! `/applications`: each job is one, with the same id.

use crate::error::RestError;
use crate::jobs::Most;
use crate::request::job_id;
use crate::server::State;
use crate::settings::Settings;
use crate::shape;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, Query};
use serde_json::json;

type Answer = Result<HttpResponse, RestError>;

pub(crate) async fn overview(state: Data<State>) -> Answer {
    let jobs = state.jobmanager.cluster().jobs().await?;
    let all = jobs
        .iter()
        .map(|job| shape::applications::overview(job, state.wall_ms()));
    Ok(HttpResponse::Ok().json(json!({ "applications": all.collect::<Vec<_>>() })))
}

pub(crate) async fn detail(state: Data<State>, id: Path<String>) -> Answer {
    let (detail, now) = (
        state.jobmanager.cluster().job_detail(job_id(&id)?).await?,
        state.wall_ms(),
    );
    let line = shape::overview(&detail, now);
    Ok(HttpResponse::Ok().json(shape::applications::detail(&detail.overview, line, now)))
}

pub(crate) async fn cancel(state: Data<State>, id: Path<String>) -> Answer {
    state.jobmanager.cluster().cancel_job(job_id(&id)?).await?;
    Ok(HttpResponse::Accepted().json(json!({})))
}

pub(crate) async fn exceptions(state: Data<State>, id: Path<String>, most: Query<Most>) -> Answer {
    let (job, cluster) = (job_id(&id)?, state.jobmanager.cluster());
    let detail = cluster.job_detail(job).await?;
    let failures = cluster.job_exceptions(job).await?;
    Ok(HttpResponse::Ok().json(shape::applications::exceptions(
        &detail.overview,
        &failures,
        most.most(),
    )))
}

/// Of an application or of a job, which is the same.
pub(crate) async fn settings(state: Data<State>, id: Path<String>) -> Answer {
    let detail = state.jobmanager.cluster().job_detail(job_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(Settings::of(&detail.graph).entries(&state.redaction)))
}
