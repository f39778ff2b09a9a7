//! `/jobs/:jobid/vertices`: what the subtasks of a vertex have gone through and done.

use crate::error::RestError;
use crate::request::{job_id, number, vertex_id};
use crate::server::State;
use crate::shape::vertices as shape;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Query};
use hurtig_cluster::{AttemptDetail, SubtaskDetail, VertexDetail};
use hurtig_core::ids::{JobId, VertexId};
use hurtig_dataflow::graph::{JobGraph, JobVertex};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// A vertex of a job, with all that is known of it.
pub(crate) struct Vertex {
    pub(crate) job: JobId,
    pub(crate) graph: Arc<JobGraph>,
    pub(crate) id: VertexId,
    pub(crate) detail: VertexDetail,
}

impl Vertex {
    pub(crate) async fn find(state: &State, job: &str, vertex: &str) -> Result<Self, RestError> {
        let (job, id, cluster) = (job_id(job)?, vertex_id(vertex)?, state.jobmanager.cluster());
        let detail = cluster.job_vertex(job, id).await?;
        let graph = cluster.job_detail(job).await?.graph;
        Ok(Self {
            job,
            graph,
            id,
            detail,
        })
    }

    /// The vertex in the graph of its job.
    pub(crate) fn planned(&self) -> Result<&JobVertex, RestError> {
        let planned = self.graph.vertex(self.id);
        planned.ok_or_else(|| not_found(format!("job {} has no vertex {}", self.job, self.id)))
    }

    fn subtask(&self, index: &str) -> Result<&SubtaskDetail, RestError> {
        let index: u32 = number("subtask", index)?;
        let mut subtasks = self.detail.subtasks.iter();
        let found = subtasks.find(|subtask| subtask.index == index);
        found.ok_or_else(|| {
            let count = self.detail.subtasks.len();
            not_found(format!(
                "vertex {} has no subtask {index}: it has {count}",
                self.id
            ))
        })
    }

    fn attempt(&self, index: &str, attempt: &str) -> Result<(&SubtaskDetail, &AttemptDetail), RestError> {
        let (subtask, attempt) = (self.subtask(index)?, number("attempt", attempt)?);
        let found = subtask.attempt(attempt);
        let unknown = || {
            not_found(format!(
                "there is no attempt {attempt} of subtask {index}, or it is forgotten"
            ))
        };
        Ok((subtask, found.ok_or_else(unknown)?))
    }
}

pub(crate) fn not_found(text: String) -> RestError {
    RestError::new(StatusCode::NOT_FOUND, text)
}

type Answer = Result<HttpResponse, RestError>;
type OfVertex = Path<(String, String)>;

pub(crate) async fn detail(state: Data<State>, path: OfVertex) -> Answer {
    let vertex = Vertex::find(&state, &path.0, &path.1).await?;
    let answer = shape::vertex(vertex.planned()?, &vertex.detail, state.wall_ms());
    Ok(HttpResponse::Ok().json(answer))
}

pub(crate) async fn times(state: Data<State>, path: OfVertex) -> Answer {
    let vertex = Vertex::find(&state, &path.0, &path.1).await?;
    let answer = shape::times(vertex.planned()?, &vertex.detail, state.wall_ms());
    Ok(HttpResponse::Ok().json(answer))
}

pub(crate) async fn task_managers(state: Data<State>, path: OfVertex) -> Answer {
    let vertex = Vertex::find(&state, &path.0, &path.1).await?;
    let answer = shape::task_managers(vertex.planned()?, &vertex.detail, state.wall_ms());
    Ok(HttpResponse::Ok().json(answer))
}

/// What of stacks is wanted.
#[derive(Deserialize)]
pub(crate) struct Stacks {
    #[serde(rename = "type")]
    kind: Option<String>,
    subtaskindex: Option<u32>,
}

/// Stacks of native threads are not taken: so says Flink where that is switched off.
pub(crate) async fn flame_graph(state: Data<State>, path: OfVertex, wanted: Query<Stacks>) -> Answer {
    const SWITCHED_OFF: i64 = -2;
    if let Some(kind) = wanted
        .kind
        .as_deref()
        .filter(|kind| !["full", "on_cpu", "off_cpu"].contains(kind))
    {
        let text = format!("'{kind}' is no kind of stacks: full, on_cpu and off_cpu are");
        return Err(RestError::bad_request(text));
    }
    let vertex = Vertex::find(&state, &path.0, &path.1).await?;
    if let Some(index) = wanted.subtaskindex {
        vertex.subtask(&index.to_string())?;
    }
    Ok(HttpResponse::Ok().json(json!({ "endTimestamp": SWITCHED_OFF })))
}

pub(crate) async fn accumulators(state: Data<State>, path: OfVertex) -> Answer {
    let vertex = Vertex::find(&state, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(shape::accumulators(&vertex.detail)))
}

pub(crate) async fn subtask_accumulators(state: Data<State>, path: OfVertex) -> Answer {
    let vertex = Vertex::find(&state, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(shape::subtask_accumulators(&vertex.detail)))
}

pub(crate) async fn subtask(state: Data<State>, path: Path<(String, String, String)>) -> Answer {
    let vertex = Vertex::find(&state, &path.0, &path.1).await?;
    let subtask = vertex.subtask(&path.2)?;
    let answer = shape::attempt(subtask.index, &subtask.current, state.wall_ms());
    Ok(HttpResponse::Ok().json(answer))
}

pub(crate) async fn attempt(state: Data<State>, path: Path<(String, String, String, String)>) -> Answer {
    let vertex = Vertex::find(&state, &path.0, &path.1).await?;
    let (subtask, attempt) = vertex.attempt(&path.2, &path.3)?;
    Ok(HttpResponse::Ok().json(shape::attempt(subtask.index, attempt, state.wall_ms())))
}

pub(crate) async fn attempt_accumulators(
    state: Data<State>,
    path: Path<(String, String, String, String)>,
) -> Answer {
    let vertex = Vertex::find(&state, &path.0, &path.1).await?;
    let (subtask, attempt) = vertex.attempt(&path.2, &path.3)?;
    Ok(HttpResponse::Ok().json(json!({
        "subtask": subtask.index,
        "attempt": attempt.attempt,
        "id": vertex.id.to_string(),
        "user-accumulators": shape::values(&attempt.accumulators),
    })))
}
