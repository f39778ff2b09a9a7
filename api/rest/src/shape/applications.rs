//! Applications as clients see them: a program runs one job on a cluster, so that each job is an application, with the same id.

use super::Times;
use hurtig_cluster::{FailureEntry, JobOverview};
use hurtig_dataflow::graph::JobStatus;
use serde_json::{Map, Value, json};

/// States of applications, and the jobs' that they stand for.
const STATES: [(&str, &[JobStatus]); 6] = [
    ("CREATED", &[JobStatus::Initializing, JobStatus::Created]),
    ("RUNNING", &[JobStatus::Running, JobStatus::Restarting]),
    ("FAILING", &[JobStatus::Failing]),
    ("FAILED", &[JobStatus::Failed]),
    ("CANCELING", &[JobStatus::Cancelling]),
    ("CANCELED", &[JobStatus::Canceled]),
];

fn state(status: JobStatus) -> &'static str {
    let found = STATES.iter().find(|(_, statuses)| statuses.contains(&status));
    found.map_or("FINISHED", |(name, _)| *name)
}

pub(crate) fn overview(job: &JobOverview, now: i64) -> Value {
    let times = Times::of(Some(job.start_ms), job.end_ms, now);
    json!({
        "id": job.job.to_string(),
        "name": job.name,
        "start-time": times.start,
        "end-time": times.end,
        "duration": times.duration,
        "status": state(job.status),
        "jobs": { job.status.name(): 1 },
    })
}

/// One of them; `line` is what the list of jobs has of its job.
pub(crate) fn detail(job: &JobOverview, line: Value, now: i64) -> Value {
    let times = Times::of(Some(job.start_ms), job.end_ms, now);
    let entered = |statuses: &[JobStatus]| {
        let entered = statuses.iter().filter_map(|status| job.entered.get(status));
        entered.min().copied().unwrap_or(0)
    };
    let mut timestamps: Map<String, Value> = STATES
        .iter()
        .map(|(name, statuses)| ((*name).to_owned(), json!(entered(statuses))))
        .collect();
    timestamps.insert("FINISHED".to_owned(), json!(entered(&[JobStatus::Finished])));
    json!({
        "id": job.job.to_string(),
        "name": job.name,
        "status": state(job.status),
        "start-time": times.start,
        "end-time": times.end,
        "duration": times.duration,
        "timestamps": timestamps,
        "jobs": [line],
    })
}

/// What ended it, if it has failed; at most so much.
pub(crate) fn exceptions(job: &JobOverview, failures: &[FailureEntry], most: usize) -> Value {
    let failed = failures.last().filter(|_| job.status == JobStatus::Failed);
    let entry = failed.map(|entry| {
        let one = super::exception(&entry.root, job.start_ms, &super::Endpoints::new());
        json!({
            "exceptionName": one["exceptionName"],
            "stacktrace": one["stacktrace"],
            "timestamp": one["timestamp"],
            "jobId": job.job.to_string(),
        })
    });
    json!({ "exceptionHistory": { "entries": entry.into_iter().take(most).collect::<Vec<_>>() } })
}
