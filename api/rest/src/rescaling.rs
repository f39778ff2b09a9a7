//! Between which parallelisms the vertices of a job run.

use crate::error::RestError;
use crate::request::{body, job_id, vertex_id};
use crate::server::State;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path, Query};
use hurtig_cluster::ClusterError;
use hurtig_core::ids::{JobId, VertexId};
use hurtig_dataflow::graph::Bounds;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// The requirements of a job, by the ids of its vertices.
pub type JobRequirements = BTreeMap<String, VertexRequirements>;

/// What is required for a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VertexRequirements {
    /// How many subtasks it has.
    pub parallelism: ParallelismBounds,
}

/// Between which numbers of subtasks a vertex runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParallelismBounds {
    /// The least.
    #[serde(default = "one")]
    pub lower_bound: i64,
    /// The most, which is wanted.
    pub upper_bound: i64,
}

fn one() -> i64 {
    1
}

/// What the requirements would be.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Supposed {
    /// With another parallelism for all vertices but those whose own the program sets.
    parallelism: Option<u32>,
    /// And this one at least.
    at_least: Option<u32>,
}

/// Those of the job; or those that another parallelism would be, which are only said and not declared.
pub(crate) async fn requirements(
    state: Data<State>,
    id: Path<String>,
    supposed: Query<Supposed>,
) -> Result<HttpResponse, RestError> {
    let job = job_id(&id)?;
    let known = state.jobmanager.cluster().job_requirements(job).await;
    let mut known = known.map_err(|error| refusal(job, error))?;
    if let Some(upper) = supposed.parallelism {
        let graph = state.jobmanager.cluster().job_detail(job).await?.graph;
        let lower = supposed.at_least.unwrap_or(1);
        known = known.all_at(&graph, Bounds { lower, upper });
    }
    let known = known.iter().map(|(vertex, Bounds { lower, upper })| {
        let parallelism = ParallelismBounds {
            lower_bound: lower.into(),
            upper_bound: upper.into(),
        };
        (vertex.to_string(), VertexRequirements { parallelism })
    });
    Ok(HttpResponse::Ok().json(known.collect::<JobRequirements>()))
}

pub(crate) async fn declare(
    state: Data<State>,
    id: Path<String>,
    bytes: Bytes,
) -> Result<HttpResponse, RestError> {
    let job = job_id(&id)?;
    let declared = bounds(body(&bytes)?)?;
    let done = state
        .jobmanager
        .cluster()
        .declare_requirements(job, declared)
        .await;
    done.map_err(|error| refusal(job, error))?;
    Ok(HttpResponse::Ok().json(json!({})))
}

/// Each of them named, within what a number of subtasks can be. What a vertex can have is for who knows the job.
fn bounds(said: JobRequirements) -> Result<BTreeMap<VertexId, Bounds>, RestError> {
    let read = said.into_iter().map(|(id, required)| {
        let vertex = vertex_id(&id)?;
        let number = |what: &str, value: i64| {
            let bad = || format!("vertex {id}: the {what} bound is {value}: a number from 1 is one");
            let value = u32::try_from(value).ok().filter(|value| *value > 0);
            value.ok_or_else(|| RestError::bad_request(bad()))
        };
        let lower = number("lower", required.parallelism.lower_bound)?;
        let upper = number("upper", required.parallelism.upper_bound)?;
        Ok((vertex, Bounds { lower, upper }))
    });
    read.collect()
}

/// A job that has ended has no requirements, as Flink has it.
fn refusal(job: JobId, error: ClusterError) -> RestError {
    match error {
        ClusterError::Ended { status, .. } => {
            let text = format!("job {job} has ended ({status}): it has no requirements any more");
            RestError::new(StatusCode::NOT_FOUND, text)
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BTreeMap<VertexId, Bounds>, String> {
        let said = body(text.as_bytes()).map_err(|error| error.to_string())?;
        bounds(said).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_no_bound_is_said_by_its_vertex() {
        let id = "0a448493b4782967b150582570326227";
        let of = |lower: i64, upper: i64| {
            format!(r#"{{"{id}": {{"parallelism": {{"lowerBound": {lower}, "upperBound": {upper}}}}}}}"#)
        };
        let known = read(&of(2, 4)).unwrap();
        assert_eq!(known[&id.parse().unwrap()], Bounds { lower: 2, upper: 4 });
        for (lower, upper, wanted) in [(0, 4, "lower bound is 0"), (-1, 4, "-1"), (1, 1 << 40, "upper")] {
            let why = read(&of(lower, upper)).unwrap_err();
            assert!(why.contains(id) && why.contains(wanted), "{why}");
        }
        assert!(
            read(r#"{"x": {"parallelism": {"upperBound": 1}}}"#)
                .unwrap_err()
                .contains("no vertex id")
        );
        assert!(read(&format!(r#"{{"{id}": {{"parallelism": 3}}}}"#)).is_err());
        assert!(
            read(&format!(r#"{{"{id}": {{"parallelism": {{"upper": 3}}}}}}"#))
                .unwrap_err()
                .contains("upper")
        );
    }
}
