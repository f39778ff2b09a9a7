//! Jobs as clients see them: pure functions from what the cluster says to JSON.
//!
//! Paths and field names are Flink's. What Hurtig does not know is left out, and never made up; where Flink writes -1 or 0 for what has not
//! happened, so does this.

pub(crate) mod applications;
pub(crate) mod checkpoints;
pub(crate) mod machines;
pub(crate) mod metrics;
pub(crate) mod vertices;

use hurtig_cluster::{FailureEntry, JobDetail, JobFailure, JobOverview, VertexOverview};
use hurtig_core::Fault;
use hurtig_core::ids::TaskManagerId;
use hurtig_dataflow::graph::{JobGraph, JobStatus, JobVertex, TaskState};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The label that a failure has.
const LABEL: &str = "TYPE";

type Counts = BTreeMap<TaskState, u32>;

/// What a job and its list entry have in common.
struct Times {
    start: i64,
    /// -1: it has not ended.
    end: i64,
    duration: i64,
}

impl Times {
    fn of(start: Option<i64>, end: Option<i64>, now: i64) -> Self {
        let duration = start.map_or(-1, |start| end.unwrap_or(now).saturating_sub(start).max(0));
        Self {
            start: start.unwrap_or(-1),
            end: end.unwrap_or(-1),
            duration,
        }
    }
}

/// A line of the list of jobs.
pub(crate) fn overview(detail: &JobDetail, now: i64) -> Value {
    let JobOverview {
        job,
        name,
        status,
        entered,
        start_ms,
        end_ms,
    } = &detail.overview;
    let times = Times::of(Some(*start_ms), *end_ms, now);
    let counts = counts_of(&detail.vertices);
    let mut tasks: Map<String, Value> = TaskState::ALL
        .iter()
        .map(|state| (state.name().to_lowercase(), json!(count(&counts, *state))))
        .collect();
    tasks.insert("total".to_owned(), json!(counts.values().sum::<u32>()));
    json!({
        "jid": job.to_string(),
        "name": name,
        "jobType": "STREAMING",
        "schedulerType": scheduler(&detail.graph),
        "pending-operators": 0,
        "start-time": times.start,
        "end-time": times.end,
        "duration": times.duration,
        "state": status.name(),
        "last-modification": entered.values().max().copied().unwrap_or(times.start),
        "tasks": tasks,
    })
}

/// Flink's name of a scheduler that waits for all slots that a job needs, or of one that does not.
fn scheduler(graph: &JobGraph) -> &'static str {
    let set = |key: &str| graph.config.get(key).map(String::as_str);
    match (set("jobmanager.scheduler"), set("scheduler-mode")) {
        (Some("Adaptive"), _) | (_, Some("reactive")) => "Adaptive",
        _ => "Default",
    }
}

/// The one that was set for the whole job; -1: none was.
fn max_parallelism(graph: &JobGraph) -> i64 {
    let set = graph.config.get("pipeline.max-parallelism");
    set.and_then(|text| text.parse().ok()).unwrap_or(-1)
}

/// All of a job.
pub(crate) fn detail(detail: &JobDetail, now: i64) -> Value {
    let overview = &detail.overview;
    let times = Times::of(Some(overview.start_ms), overview.end_ms, now);
    let entered = |status: &JobStatus| overview.entered.get(status).copied().unwrap_or(0);
    let timestamps: Map<String, Value> = JobStatus::ALL
        .iter()
        .map(|status| (status.name().to_owned(), json!(entered(status))))
        .collect();
    let vertices: Vec<Value> = detail.vertices.iter().map(|one| vertex(one, now)).collect();
    let mut of_status: Counts = BTreeMap::new();
    for vertex in &detail.vertices {
        *of_status.entry(aggregate(vertex)).or_default() += 1;
    }
    json!({
        "jid": overview.job.to_string(),
        "application-id": overview.job.to_string(),
        "name": overview.name,
        "isStoppable": false,
        "schedulerType": scheduler(&detail.graph),
        "maxParallelism": max_parallelism(&detail.graph),
        "pending-operators": 0,
        "state": overview.status.name(),
        "job-type": "STREAMING",
        "start-time": times.start,
        "end-time": times.end,
        "duration": times.duration,
        "now": now,
        "timestamps": timestamps,
        "vertices": vertices,
        "status-counts": by_name(&of_status),
        "plan": plan(&detail.graph),
    })
}

fn vertex(vertex: &VertexOverview, now: i64) -> Value {
    let times = Times::of(vertex.start_ms, vertex.end_ms, now);
    json!({
        "id": vertex.id.to_string(),
        "slotSharingGroupId": vertex.slot_sharing_group,
        "name": vertex.name,
        "maxParallelism": vertex.max_parallelism,
        "parallelism": vertex.parallelism,
        "status": aggregate(vertex).name(),
        "start-time": times.start,
        "end-time": times.end,
        "duration": times.duration,
        "tasks": by_name(&vertex.tasks),
        "metrics": vertices::io(&vertex.totals),
    })
}

/// The state of a vertex, from those of its subtasks: what is wrong first, then what goes on.
fn aggregate(vertex: &VertexOverview) -> TaskState {
    aggregate_of(&vertex.tasks, vertex.parallelism)
}

/// The same of so many tasks.
fn aggregate_of(tasks: &Counts, all: u32) -> TaskState {
    use TaskState::{Canceled, Canceling, Created, Failed, Finished, Initializing, Running};
    let has = |state| count(tasks, state) > 0;
    let first = [Failed, Canceling, Canceled, Initializing, Running]
        .into_iter()
        .find(|state| has(*state));
    match first {
        Some(state) => state,
        None if count(tasks, Finished) == all => Finished,
        None if has(Finished) => Running,
        None => Created,
    }
}

fn count(counts: &Counts, state: TaskState) -> u32 {
    counts.get(&state).copied().unwrap_or(0)
}

fn counts_of(vertices: &[VertexOverview]) -> Counts {
    let mut all = Counts::new();
    for (state, count) in vertices.iter().flat_map(|vertex| &vertex.tasks) {
        *all.entry(*state).or_default() += count;
    }
    all
}

fn by_name(counts: &Counts) -> Map<String, Value> {
    let states = TaskState::ALL.iter();
    states
        .map(|state| (state.name().to_owned(), json!(count(counts, *state))))
        .collect()
}

/// The graph, consumers first.
pub(crate) fn plan(graph: &JobGraph) -> Value {
    let node = |vertex: &JobVertex| {
        let inputs = graph.edges.iter().filter(|edge| edge.to == vertex.id);
        let inputs: Vec<Value> = inputs
            .enumerate()
            .map(|(number, edge)| {
                json!({
                    "num": number,
                    "id": edge.from.to_string(),
                    "ship_strategy": edge.partition.ship_strategy(),
                    "exchange": "pipelined_bounded",
                })
            })
            .collect();
        let mut node = json!({
            "id": vertex.id.to_string(),
            "operator": "",
            "operator_strategy": "",
            "optimizer_properties": {},
            "parallelism": vertex.parallelism,
            "description": html(&vertex.description),
        });
        if !inputs.is_empty() {
            node["inputs"] = json!(inputs);
        }
        node
    };
    let nodes: Vec<Value> = graph.vertices.iter().rev().map(node).collect();
    json!({ "jid": graph.id.to_string(), "name": graph.name, "type": "STREAMING", "nodes": nodes })
}

/// Text for a page: what a program has named may not become part of it.
fn html(text: &str) -> String {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    escaped.lines().map(|line| format!("{line}<br/>")).collect()
}

/// One failure, as a history has it.
/// Where each TaskManager that is there listens.
pub(crate) type Endpoints = BTreeMap<TaskManagerId, String>;

/// Whose fault a failure is, as Flink's enricher says it.
fn label(failure: &JobFailure) -> &'static str {
    match failure.fault() {
        Fault::User => "USER",
        _ => "SYSTEM",
    }
}

/// Whether a failure is of one of these kinds.
pub(crate) fn has_labels(failure: &JobFailure, wanted: &[(&str, &str)]) -> bool {
    wanted
        .iter()
        .all(|(key, value)| *key == LABEL && *value == label(failure))
}

fn exception(failure: &JobFailure, start_ms: i64, endpoints: &Endpoints) -> Value {
    let after = i64::try_from(failure.after.as_millis()).unwrap_or(i64::MAX);
    let task = failure.vertex.as_ref().map(|vertex| match failure.subtask {
        Some((index, of)) => format!("{vertex} ({}/{of})", index + 1),
        None => vertex.clone(),
    });
    json!({
        "exceptionName": if failure.cause.panicked { "panic" } else { "failure" },
        "stacktrace": failure.to_string(),
        "timestamp": start_ms.saturating_add(after),
        "taskName": task,
        "endpoint": failure.task_manager.and_then(|id| endpoints.get(&id)),
        "taskManagerId": failure.task_manager.map(|id| id.to_string()),
        "failureLabels": { LABEL: label(failure) },
    })
}

/// What failed, the last first, at most so much.
pub(crate) fn exceptions(
    failures: &[FailureEntry],
    start_ms: i64,
    most: usize,
    endpoints: &Endpoints,
) -> Value {
    let entry = |entry: &FailureEntry| {
        let mut root = exception(&entry.root, start_ms, endpoints);
        let concurrent = entry.concurrent.iter();
        root["concurrentExceptions"] = concurrent
            .map(|failure| exception(failure, start_ms, endpoints))
            .collect();
        root
    };
    let entries: Vec<Value> = failures.iter().rev().take(most).map(entry).collect();
    json!({ "exceptionHistory": { "truncated": failures.len() > most, "entries": entries } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_cluster::TaskTotals;
    use hurtig_core::Fault;
    use hurtig_core::ids::{JobId, VertexId};
    use hurtig_dataflow::graph::{GraphSettings, NodeKind, StreamEdge, StreamGraph, StreamNode};
    use std::sync::Arc;
    use std::time::Duration;

    fn graph() -> JobGraph {
        let mut graph = StreamGraph::new();
        let mut source = StreamNode::new("numbers <b>", "Source", NodeKind::Source);
        source.parallelism = Some(2);
        let mut sink = StreamNode::new("count", "Sink", NodeKind::Sink);
        sink.parallelism = Some(3);
        let (source, sink) = (graph.add_node(source), graph.add_node(sink));
        graph.add_edge(StreamEdge::new(source, sink));
        graph
            .job_graph(JobId::from_u128(1), &GraphSettings::default())
            .unwrap()
    }

    fn vertex_of(tasks: &[(TaskState, u32)]) -> VertexOverview {
        VertexOverview {
            id: VertexId::from_u128(2),
            name: "count".to_owned(),
            parallelism: 3,
            max_parallelism: 128,
            slot_sharing_group: "default".to_owned(),
            tasks: tasks.iter().copied().collect(),
            start_ms: Some(1_500),
            end_ms: None,
            totals: TaskTotals::NONE,
        }
    }

    fn job(end_ms: Option<i64>, vertices: Vec<VertexOverview>) -> JobDetail {
        let status = end_ms.map_or(JobStatus::Running, |_| JobStatus::Finished);
        let mut entered = BTreeMap::from([(JobStatus::Initializing, 1_000), (JobStatus::Running, 1_200)]);
        entered.extend(end_ms.map(|end| (JobStatus::Finished, end)));
        JobDetail {
            overview: JobOverview {
                job: JobId::from_u128(1),
                name: "words".to_owned(),
                status,
                entered,
                start_ms: 1_000,
                end_ms,
            },
            graph: Arc::new(graph()),
            vertices,
        }
    }

    /// The fields of an answer that Flink gave, by their places; what Hurtig answers has no others.
    #[track_caller]
    fn has_only(ours: &Value, theirs: &str) {
        let theirs: Vec<&str> = theirs.split_whitespace().collect();
        let fields = ours.as_object().unwrap().keys();
        let strange: Vec<_> = fields.filter(|field| !theirs.contains(&field.as_str())).collect();
        assert!(strange.is_empty(), "{strange:?}");
    }

    #[test]
    fn a_running_job_has_no_end_and_its_fields_are_flinks() {
        let vertices = vec![vertex_of(&[
            (TaskState::Running, 2),
            (TaskState::Initializing, 1),
        ])];
        let job = job(None, vertices);
        let line = overview(&job, 5_000);
        has_only(
            &line,
            "jid name jobType schedulerType start-time end-time duration state last-modification tasks pending-operators",
        );
        has_only(
            &line["tasks"],
            "running canceling canceled total created scheduled deploying reconciling finished initializing failed",
        );
        assert_eq!(
            (&line["start-time"], &line["end-time"]),
            (&json!(1_000), &json!(-1))
        );
        assert_eq!(
            (&line["duration"], &line["last-modification"]),
            (&json!(4_000), &json!(1_200))
        );
        assert_eq!(
            (&line["tasks"]["running"], &line["tasks"]["total"]),
            (&json!(2), &json!(3))
        );
        let all = detail(&job, 5_000);
        has_only(
            &all,
            "jid application-id name isStoppable state job-type schedulerType start-time end-time duration maxParallelism now \
             timestamps vertices status-counts plan pending-operators",
        );
        assert_eq!(all["timestamps"]["RUNNING"], 1_200);
        assert_eq!(all["timestamps"]["FAILED"], 0);
        assert_eq!(all["status-counts"]["INITIALIZING"], 1);
        let vertex = &all["vertices"][0];
        has_only(
            vertex,
            "id slotSharingGroupId name maxParallelism parallelism status start-time end-time duration tasks metrics",
        );
        assert_eq!(
            (&vertex["status"], &vertex["duration"]),
            (&json!("INITIALIZING"), &json!(3_500))
        );
    }

    #[test]
    fn a_job_that_has_ended_grows_no_older() {
        let line = overview(&job(Some(3_000), Vec::new()), 9_000);
        assert_eq!(
            (&line["end-time"], &line["duration"]),
            (&json!(3_000), &json!(2_000))
        );
        assert_eq!(
            (&line["state"], &line["last-modification"]),
            (&json!("FINISHED"), &json!(3_000))
        );
    }

    #[test]
    fn a_vertex_is_what_its_worst_subtask_is() {
        use TaskState::{Canceling, Created, Failed, Finished, Running, Scheduled};
        let of = |tasks: &[(TaskState, u32)]| aggregate(&vertex_of(tasks));
        assert_eq!(of(&[(Running, 1), (Failed, 1), (Canceling, 1)]), Failed);
        assert_eq!(of(&[(Running, 1), (Canceling, 2)]), Canceling);
        assert_eq!(of(&[(Finished, 3)]), Finished);
        assert_eq!(of(&[(Finished, 2), (Scheduled, 1)]), Running);
        assert_eq!(of(&[(Scheduled, 2), (Created, 1)]), Created);
    }

    #[test]
    fn a_plan_names_what_feeds_what_and_no_name_becomes_markup() {
        let plan = plan(&graph());
        let nodes = plan["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[0]["inputs"][0]["id"], nodes[1]["id"]);
        assert_eq!(nodes[0]["inputs"][0]["ship_strategy"], "REBALANCE");
        assert!(nodes[1].get("inputs").is_none());
        let text = nodes[1]["description"].as_str().unwrap();
        assert!(text.contains("&lt;b&gt;") && text.ends_with("<br/>"), "{text}");
    }

    #[test]
    fn the_last_failures_come_first_with_the_time_of_day() {
        let failure = |after| FailureEntry {
            root: JobFailure::of_job(
                Fault::External,
                format!("boom {after}"),
                Duration::from_secs(after),
            ),
            concurrent: Vec::new(),
        };
        let there = TaskManagerId::from_u128(7);
        let endpoints = Endpoints::from([(there, "host:6122".to_owned())]);
        let all = exceptions(&[failure(1), failure(2), failure(3)], 1_000, 2, &endpoints);
        let history = &all["exceptionHistory"];
        assert_eq!(history["truncated"], true);
        assert_eq!(history["entries"].as_array().unwrap().len(), 2);
        assert_eq!(history["entries"][0]["stacktrace"], "boom 3");
        assert_eq!(history["entries"][0]["timestamp"], 4_000);
        assert_eq!(
            exceptions(&[failure(1)], 0, 1, &endpoints)["exceptionHistory"]["truncated"],
            false
        );
        // Where it was, while that is there, and whose fault it was.
        assert_eq!(history["entries"][0]["endpoint"], Value::Null);
        assert_eq!(
            history["entries"][0]["failureLabels"],
            json!({ "TYPE": "SYSTEM" })
        );
        let mut of_user = JobFailure::of_job(Fault::User, "boom", Duration::ZERO);
        of_user.task_manager = Some(there);
        let shown = exception(&of_user, 0, &endpoints);
        assert_eq!(
            (&shown["endpoint"], &shown["failureLabels"]["TYPE"]),
            (&json!("host:6122"), &json!("USER"))
        );
        assert!(has_labels(&of_user, &[]) && has_labels(&of_user, &[("TYPE", "USER")]));
        assert!(!has_labels(&of_user, &[("TYPE", "SYSTEM")]) && !has_labels(&of_user, &[("X", "USER")]));
    }
}
