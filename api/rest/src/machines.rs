//! `/jobmanager`, `/taskmanagers`, `/config` and `/overview`: the processes of the cluster, and the machines that they run on.

use crate::error::RestError;
use crate::metrics::Wanted;
use crate::request::{is_id, job_id, trigger_id};
use crate::server::State;
use crate::shape::machines as shape;
use crate::shape::metrics::{Named, Number, aggregated, answer};
use crate::vertices::not_found;
use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data, Path, Query, block};
use futures_util::future::join_all;
use futures_util::stream;
use hurtig_cluster::ClusterError;
use hurtig_cluster::process::{MachineFacts, TaskManagerOverview};
use hurtig_core::ids::{AllocationId, TaskManagerId};
use hurtig_dataflow::graph::JobStatus;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

type Answer = Result<HttpResponse, RestError>;

fn task_manager_id(text: &str) -> Result<TaskManagerId, RestError> {
    let id = text.parse().ok().filter(|_| is_id(text));
    id.ok_or_else(|| {
        RestError::bad_request(format!(
            "'{text}' is no TaskManager id: 32 hexadecimal digits are"
        ))
    })
}

/// The jobmanager's own facts.
async fn own(state: &Data<State>) -> Result<MachineFacts, RestError> {
    let logs = state.logs.clone();
    let read = block(move || MachineFacts::read(&logs)).await;
    read.map_err(|error| RestError::internal(error.to_string()))
}

// The cluster.

pub(crate) async fn overview(state: Data<State>) -> Answer {
    let known = state.jobmanager.task_managers().await?;
    let jobs = state.jobmanager.cluster().jobs().await?;
    let count = |wanted: fn(JobStatus) -> bool| jobs.iter().filter(|job| wanted(job.status)).count();
    Ok(HttpResponse::Ok().json(json!({
        "taskmanagers": known.all.len(),
        "slots-total": known.slots,
        "slots-available": known.free,
        "jobs-running": count(|status| !status.is_globally_terminal()),
        "jobs-finished": count(|status| status == JobStatus::Finished),
        "jobs-cancelled": count(|status| status == JobStatus::Canceled),
        "jobs-failed": count(|status| status == JobStatus::Failed),
        "flink-version": env!("CARGO_PKG_VERSION"),
        "flink-commit": shape::NO_COMMIT,
    })))
}

pub(crate) async fn config(state: Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(shape::config(state.gate.submit, state.gate.cancel))
}

/// There are none: results of one job are not kept for another.
pub(crate) async fn datasets() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "dataSets": [] }))
}

/// Deletions of data sets that are remembered.
const DELETIONS: usize = 1_000;

/// The last deletions of data sets that this jobmanager was asked for. All of them are done.
#[derive(Default)]
pub(crate) struct Deletions(Mutex<VecDeque<String>>);

impl Deletions {
    fn remember(&self, trigger: String) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == DELETIONS {
            all.pop_front();
        }
        all.push_back(trigger);
    }

    fn is_known(&self, trigger: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|known| known == trigger)
    }
}

/// Nothing has to be done for that: afterwards there is no such data set, as before.
pub(crate) async fn delete_dataset(state: Data<State>, id: Path<String>) -> Answer {
    if !is_id(&id) {
        let text = format!("'{id}' is no id of a data set: 32 hexadecimal digits are");
        return Err(RestError::bad_request(text));
    }
    let trigger = Uuid::new_v4().simple().to_string();
    state.deletions.remember(trigger.clone());
    Ok(HttpResponse::Accepted().json(json!({ "request-id": trigger })))
}

pub(crate) async fn dataset_deletion(state: Data<State>, id: Path<String>) -> Answer {
    let trigger = trigger_id(&id)?;
    match state.deletions.is_known(&trigger) {
        true => Ok(HttpResponse::Ok().json(json!({ "status": { "id": "COMPLETED" }, "operation": {} }))),
        false => Err(not_found(format!("there is no deletion {trigger} of a data set"))),
    }
}

// The jobmanager.

pub(crate) async fn settings(state: Data<State>) -> HttpResponse {
    let entries = state.settings.iter();
    let entries: Vec<_> = entries
        .map(|(key, value)| json!({ "key": key, "value": value }))
        .collect();
    HttpResponse::Ok().json(entries)
}

pub(crate) async fn environment(state: Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(shape::environment(&state.redaction))
}

pub(crate) async fn threads(state: Data<State>) -> Answer {
    Ok(HttpResponse::Ok().json(shape::threads(&own(&state).await?)))
}

pub(crate) async fn metrics(state: Data<State>, wanted: Query<Wanted>) -> Answer {
    let mut named = shape::metrics(&own(&state).await?);
    let known = state.jobmanager.task_managers().await?;
    let jobs = state.jobmanager.cluster().jobs().await?;
    let running = jobs
        .iter()
        .filter(|job| !job.status.is_globally_terminal())
        .count();
    named.insert("taskSlotsTotal".to_owned(), Number::count(known.slots.into()));
    named.insert("taskSlotsAvailable".to_owned(), Number::count(known.free.into()));
    named.insert(
        "numRegisteredTaskManagers".to_owned(),
        Number::count(known.all.len() as u64),
    );
    named.insert("numRunningJobs".to_owned(), Number::count(running as u64));
    Ok(HttpResponse::Ok().json(answer(&named, wanted.get())))
}

pub(crate) async fn logs(state: Data<State>) -> Answer {
    Ok(HttpResponse::Ok().json(shape::logs(&own(&state).await?)))
}

pub(crate) async fn log(state: Data<State>) -> Answer {
    let name = state.logs.own();
    let name = name.ok_or_else(|| not_found("the jobmanager writes no log file".to_owned()))?;
    send_log(state, None, name).await
}

pub(crate) async fn named_log(state: Data<State>, name: Path<String>) -> Answer {
    send_log(state, None, name.into_inner()).await
}

// TaskManagers.

/// A TaskManager, with what it says of itself; without that, if it does not answer.
async fn described(state: &State, known: TaskManagerOverview) -> (TaskManagerOverview, Option<MachineFacts>) {
    let facts = state.jobmanager.machine(known.id).await;
    let facts = facts.inspect_err(|error| tracing::warn!(%error, "a TaskManager is shown without its facts"));
    (known, facts.ok())
}

/// How many tasks run in each slot of each TaskManager.
async fn assigned(state: &State) -> Result<BTreeMap<TaskManagerId, BTreeMap<AllocationId, u32>>, RestError> {
    let cluster = state.jobmanager.cluster();
    let mut tasks: BTreeMap<TaskManagerId, BTreeMap<AllocationId, u32>> = BTreeMap::new();
    for job in cluster.jobs().await? {
        if job.status.is_globally_terminal() {
            continue;
        }
        let Ok(detail) = cluster.job_detail(job.job).await else {
            continue;
        };
        let vertices = detail.graph.vertices.iter();
        let asked = join_all(vertices.map(|vertex| cluster.job_vertex(job.job, vertex.id))).await;
        let subtasks = asked.into_iter().flatten().flat_map(|vertex| vertex.subtasks);
        let running = subtasks.filter(|subtask| !subtask.current.state.is_terminal());
        for (place, slot) in running.filter_map(|subtask| subtask.current.place.zip(subtask.current.slot)) {
            *tasks
                .entry(place.task_manager)
                .or_default()
                .entry(slot)
                .or_default() += 1;
        }
    }
    Ok(tasks)
}

pub(crate) async fn task_managers(state: Data<State>) -> Answer {
    let known = state.jobmanager.task_managers().await?;
    let tasks = assigned(&state).await?;
    let all = join_all(known.all.into_iter().map(|one| described(&state, one))).await;
    let now = state.wall_ms();
    let none = BTreeMap::new();
    let all = all.iter().map(|(known, facts)| {
        let tasks = tasks.get(&known.id).unwrap_or(&none);
        shape::task_manager(known, facts.as_ref(), tasks, now)
    });
    Ok(HttpResponse::Ok().json(json!({ "taskmanagers": all.collect::<Vec<_>>() })))
}

pub(crate) async fn task_manager(state: Data<State>, id: Path<String>) -> Answer {
    let id = task_manager_id(&id)?;
    let known = state.jobmanager.task_managers().await?;
    let known = known.all.into_iter().find(|one| one.id == id);
    let known = known.ok_or(ClusterError::UnknownTaskManager(id))?;
    let tasks = assigned(&state).await?.remove(&id).unwrap_or_default();
    let (known, facts) = described(&state, known).await;
    let mut answer = shape::task_manager(&known, facts.as_ref(), &tasks, state.wall_ms());
    answer["allocatedSlots"] = shape::slots(&known, &tasks);
    answer["metrics"] = shape::memory(facts.as_ref());
    Ok(HttpResponse::Ok().json(answer))
}

pub(crate) async fn task_manager_logs(state: Data<State>, id: Path<String>) -> Answer {
    let facts = state.jobmanager.machine(task_manager_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(shape::logs(&facts)))
}

pub(crate) async fn task_manager_threads(state: Data<State>, id: Path<String>) -> Answer {
    let facts = state.jobmanager.machine(task_manager_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(shape::threads(&facts)))
}

pub(crate) async fn task_manager_metrics(
    state: Data<State>,
    id: Path<String>,
    wanted: Query<Wanted>,
) -> Answer {
    let facts = state.jobmanager.machine(task_manager_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(answer(&shape::metrics(&facts), wanted.get())))
}

pub(crate) async fn task_managers_metrics(state: Data<State>, wanted: Query<Wanted>) -> Answer {
    let ids = match wanted.taskmanagers.as_deref().filter(|ids| !ids.is_empty()) {
        Some(ids) => ids
            .split(',')
            .map(task_manager_id)
            .collect::<Result<Vec<_>, _>>()?,
        None => {
            let known = state.jobmanager.task_managers().await?;
            known.all.iter().map(|one| one.id).collect()
        }
    };
    let aggregations = wanted.aggregations()?;
    let facts = join_all(ids.into_iter().map(|id| state.jobmanager.machine(id))).await;
    let facts = facts.into_iter().collect::<Result<Vec<_>, _>>()?;
    let named: Vec<Named> = facts.iter().map(shape::metrics).collect();
    let all: Vec<&Named> = named.iter().collect();
    Ok(HttpResponse::Ok().json(aggregated(&all, wanted.get(), &aggregations)))
}

pub(crate) async fn task_manager_log(state: Data<State>, id: Path<String>) -> Answer {
    let id = task_manager_id(&id)?;
    let name = state.jobmanager.machine(id).await?.log;
    let name = name.ok_or_else(|| not_found(format!("TaskManager {id} writes no log file")))?;
    send_log(state, Some(id), name).await
}

pub(crate) async fn task_manager_named_log(state: Data<State>, path: Path<(String, String)>) -> Answer {
    let (id, name) = path.into_inner();
    send_log(state, Some(task_manager_id(&id)?), name).await
}

// Logs.

/// Where the log of a process of a job is read: the last one that it has written to.
fn log_url(state: &State, all: &[(TaskManagerOverview, Option<MachineFacts>)], name: &str) -> Answer {
    let logs = all.iter().flat_map(|(known, facts)| {
        let logs = facts.iter().flat_map(|facts| &facts.logs);
        logs.map(|log| (known.id, log))
    });
    let own = logs.filter(|(_, log)| log.name.starts_with(name));
    let last = own.max_by_key(|(_, log)| log.modified_ms);
    let (id, log) = last.ok_or_else(|| {
        not_found(format!(
            "no TaskManager has a log '{name}*': its process has not begun, or is forgotten"
        ))
    })?;
    let url = format!("{}/taskmanagers/{id}/logs/{}", state.address, log.name);
    Ok(HttpResponse::Ok().json(json!({ "url": url })))
}

pub(crate) async fn log_of_job_master(state: Data<State>, id: Path<String>) -> Answer {
    let job = job_id(&id)?;
    state.jobmanager.cluster().job_status(job).await?;
    let known = state.jobmanager.task_managers().await?;
    let all = join_all(known.all.into_iter().map(|one| described(&state, one))).await;
    log_url(&state, &all, &format!("jobmaster-{job}-"))
}

pub(crate) async fn log_of_worker(state: Data<State>, path: Path<(String, String)>) -> Answer {
    let (job, id) = (job_id(&path.0)?, task_manager_id(&path.1)?);
    state.jobmanager.cluster().job_status(job).await?;
    let known = state.jobmanager.task_managers().await?;
    let known = known.all.into_iter().find(|one| one.id == id);
    let known = known.ok_or(ClusterError::UnknownTaskManager(id))?;
    let facts = state.jobmanager.machine(id).await?;
    log_url(&state, &[(known, Some(facts))], &format!("worker-{job}-"))
}

/// A part of a log of the jobmanager, or of a TaskManager.
async fn part(
    state: &Data<State>,
    of: Option<TaskManagerId>,
    name: &str,
    offset: u64,
) -> Result<Option<Vec<u8>>, RestError> {
    let internal = |error: &dyn std::fmt::Display| RestError::internal(error.to_string());
    match of {
        Some(id) => Ok(state.jobmanager.log(id, name, offset).await?),
        None => {
            let (logs, name) = (state.logs.clone(), name.to_owned());
            let read = block(move || logs.read(&name, offset)).await;
            read.map_err(|error| internal(&error))?
                .map_err(|error| internal(&error))
        }
    }
}

/// Sends a log part by part, to the end that it has when that is reached.
async fn send_log(state: Data<State>, of: Option<TaskManagerId>, name: String) -> Answer {
    let first = part(&state, of, &name, 0).await?;
    let first = first.ok_or_else(|| not_found(format!("there is no log '{name}'")))?;
    let rest = stream::try_unfold(
        (state, name, 0_u64, Some(first)),
        move |(state, name, offset, read)| async move {
            let bytes = match read {
                Some(bytes) => bytes,
                None => part(&state, of, &name, offset).await?.unwrap_or_default(),
            };
            if bytes.is_empty() {
                return Ok::<_, RestError>(None);
            }
            let offset = offset + bytes.len() as u64;
            Ok(Some((Bytes::from(bytes), (state, name, offset, None))))
        },
    );
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .streaming(rest))
}
