//! Metrics: which there are, and what they are.

use crate::error::RestError;
use crate::request::{job_id, number, vertex_id};
use crate::server::State;
use crate::shape::metrics::{
    Aggregation, Named, Number, aggregated, answer, numbered, of_job, of_values, of_vertex,
};
use crate::vertices::not_found;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, Query};
use futures_util::future::join_all;
use hurtig_cluster::{CheckpointStatistics, ClusterError};
use hurtig_core::ids::{JobId, VertexId};
use hurtig_reporters::{of_availability, of_checkpoints};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Shares of time up to which a task is not, or hardly, back-pressured.
const LEVELS: [(f64, &str); 2] = [(0.1, "ok"), (0.5, "low")];

/// What is wanted of metrics.
#[derive(Deserialize)]
pub(crate) struct Wanted {
    /// Which, with commas; otherwise the list of them.
    get: Option<String>,
    /// How they are put together, with commas; otherwise in every way.
    agg: Option<String>,
    /// Of which subtasks, with commas; otherwise of all.
    subtasks: Option<String>,
    /// Of which jobs, with commas; otherwise of all.
    jobs: Option<String>,
    /// Of which TaskManagers, with commas; otherwise of all.
    pub(crate) taskmanagers: Option<String>,
}

impl Wanted {
    pub(crate) fn get(&self) -> Option<&str> {
        self.get.as_deref().filter(|names| !names.is_empty())
    }

    pub(crate) fn aggregations(&self) -> Result<Vec<Aggregation>, RestError> {
        let Some(names) = self.agg.as_deref().filter(|names| !names.is_empty()) else {
            return Ok(Aggregation::ALL.to_vec());
        };
        let one = |name: &str| {
            let found = Aggregation::ALL
                .into_iter()
                .find(|one| one.name().eq_ignore_ascii_case(name));
            found.ok_or_else(|| {
                RestError::bad_request(format!(
                    "'{name}' is no way to put metrics together: min, max, avg, sum and skew are"
                ))
            })
        };
        names.split(',').map(one).collect()
    }

    /// The numbers of subtasks: `0`, `2-4` and so on.
    fn subtasks(&self) -> Result<Option<Vec<std::ops::RangeInclusive<u32>>>, RestError> {
        let Some(ranges) = self.subtasks.as_deref().filter(|ranges| !ranges.is_empty()) else {
            return Ok(None);
        };
        let one = |range: &str| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            Ok(number("subtask", from)?..=number("subtask", to)?)
        };
        ranges
            .split(',')
            .map(one)
            .collect::<Result<_, RestError>>()
            .map(Some)
    }
}

type Answer = Result<HttpResponse, RestError>;

/// The metrics of the job, with those that follow from what is known of it.
async fn known_of(state: &State, job: JobId) -> Result<Named, RestError> {
    let cluster = state.jobmanager.cluster();
    let detail = cluster.job_detail(job).await?;
    let mut named = match cluster.job_metrics(job).await {
        Ok(samples) => of_job(&samples),
        // It is being started.
        Err(ClusterError::NoMaster(_)) => Named::new(),
        Err(error) => return Err(error.into()),
    };
    if !detail.overview.status.is_globally_terminal() {
        named.extend(of_values(of_availability(&detail.overview, state.wall_ms())));
        if let Ok(statistics) = cluster.job_checkpoints(job).await {
            named.extend(of_values(of_checkpoints(&statistics)));
            named.extend(external_path(&statistics));
        }
    }
    Ok(named)
}

/// Where the last checkpoint is, which is no number.
fn external_path(known: &CheckpointStatistics) -> Option<(String, Number)> {
    let text = known.last_checkpoint.as_ref()?.path.clone()?;
    let path = Number {
        text,
        value: f64::NAN,
    };
    Some(("lastCheckpointExternalPath".to_owned(), path))
}

pub(crate) async fn of_the_job(state: Data<State>, id: Path<String>, wanted: Query<Wanted>) -> Answer {
    let named = known_of(&state, job_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(answer(&named, wanted.get())))
}

pub(crate) async fn of_all_jobs(state: Data<State>, wanted: Query<Wanted>) -> Answer {
    let jobs = match wanted.jobs.as_deref().filter(|jobs| !jobs.is_empty()) {
        Some(jobs) => jobs.split(',').map(job_id).collect::<Result<Vec<_>, _>>()?,
        None => {
            let all = state.jobmanager.cluster().jobs().await?;
            all.iter().map(|job| job.job).collect()
        }
    };
    let aggregations = wanted.aggregations()?;
    let named = join_all(jobs.into_iter().map(|job| known_of(&state, job))).await;
    let named = named.into_iter().collect::<Result<Vec<_>, _>>()?;
    let all: Vec<&Named> = named.iter().collect();
    Ok(HttpResponse::Ok().json(aggregated(&all, wanted.get(), &aggregations)))
}

/// The metrics of a vertex by subtask; empty when it has ended.
async fn of_subtasks(
    state: &State,
    job: &str,
    vertex: &str,
) -> Result<(VertexId, BTreeMap<u32, Named>), RestError> {
    let (job, vertex, cluster) = (job_id(job)?, vertex_id(vertex)?, state.jobmanager.cluster());
    if cluster.job_detail(job).await?.graph.vertex(vertex).is_none() {
        return Err(ClusterError::UnknownVertex(job, vertex).into());
    }
    let samples = cluster.job_metrics(job).await?;
    Ok((vertex, of_vertex(&samples, vertex)))
}

pub(crate) async fn of_the_vertex(
    state: Data<State>,
    path: Path<(String, String)>,
    wanted: Query<Wanted>,
) -> Answer {
    let (_, subtasks) = of_subtasks(&state, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(answer(&numbered(&subtasks), wanted.get())))
}

pub(crate) async fn over_subtasks(
    state: Data<State>,
    path: Path<(String, String)>,
    wanted: Query<Wanted>,
) -> Answer {
    let (ranges, aggregations) = (wanted.subtasks()?, wanted.aggregations()?);
    let (_, subtasks) = of_subtasks(&state, &path.0, &path.1).await?;
    let is_wanted = |index: &u32| {
        ranges
            .as_ref()
            .is_none_or(|ranges| ranges.iter().any(|range| range.contains(index)))
    };
    let all: Vec<&Named> = subtasks
        .iter()
        .filter(|(index, _)| is_wanted(index))
        .map(|(_, named)| named)
        .collect();
    Ok(HttpResponse::Ok().json(aggregated(&all, wanted.get(), &aggregations)))
}

pub(crate) async fn of_the_subtask(
    state: Data<State>,
    path: Path<(String, String, String)>,
    wanted: Query<Wanted>,
) -> Answer {
    let index: u32 = number("subtask", &path.2)?;
    let (vertex, subtasks) = of_subtasks(&state, &path.0, &path.1).await?;
    let empty = Named::new();
    let named = match subtasks.get(&index) {
        Some(named) => named,
        None => {
            let detail = state
                .jobmanager
                .cluster()
                .job_vertex(job_id(&path.0)?, vertex)
                .await?;
            if detail.subtasks.len() <= index as usize {
                return Err(not_found(format!("vertex {vertex} has no subtask {index}")));
            }
            &empty
        }
    };
    Ok(HttpResponse::Ok().json(answer(named, wanted.get())))
}

/// Those of the vertex that its JobMaster has: none are kept there by vertex.
pub(crate) async fn of_coordinators(state: Data<State>, path: Path<(String, String)>) -> Answer {
    of_subtasks(&state, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(json!([])))
}

/// What has reached each subtask of event time; nothing of a source.
pub(crate) async fn watermarks(state: Data<State>, path: Path<(String, String)>) -> Answer {
    const NAME: &str = "currentInputWatermark";
    let (_, subtasks) = of_subtasks(&state, &path.0, &path.1).await?;
    let found = subtasks.iter().filter_map(|(index, named)| {
        let number = named.get(NAME)?;
        Some(json!({ "id": format!("{index}.{NAME}"), "value": number.text }))
    });
    Ok(HttpResponse::Ok().json(found.collect::<Value>()))
}

/// Which share of their time the subtasks spend waiting for room in their outputs.
pub(crate) async fn back_pressure(state: Data<State>, path: Path<(String, String)>) -> Answer {
    let (_, subtasks) = of_subtasks(&state, &path.0, &path.1).await?;
    if subtasks.is_empty() {
        return Ok(HttpResponse::Ok().json(json!({ "status": "deprecated", "subtasks": [] })));
    }
    let ratio = |named: &Named, name: &str| {
        let number = named.get(&format!("{name}TimeMsPerSecond"));
        number.map_or(0.0, |number| number.value / 1_000.0)
    };
    let level = |ratio: f64| {
        let found = LEVELS.iter().find(|(most, _)| ratio <= *most);
        found.map_or("high", |(_, level)| *level)
    };
    let most = subtasks
        .values()
        .map(|named| ratio(named, "backPressured"))
        .fold(0.0, f64::max);
    let one = |(index, named): (&u32, &Named)| {
        let own = ratio(named, "backPressured");
        json!({
            "subtask": index,
            "backpressureLevel": level(own),
            "backpressure-level": level(own),
            "ratio": own,
            "idleRatio": ratio(named, "idle"),
            "busyRatio": ratio(named, "busy"),
        })
    };
    Ok(HttpResponse::Ok().json(json!({
        "status": "ok",
        "backpressureLevel": level(most),
        "backpressure-level": level(most),
        "end-timestamp": state.wall_ms(),
        "subtasks": subtasks.iter().map(one).collect::<Vec<_>>(),
    })))
}
