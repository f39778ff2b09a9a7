//! Checkpoints as clients see them. What is not measured is -1, as with Flink.

use hurtig_cluster::{
    CheckpointKind, CheckpointRecord, CheckpointStatistics, CheckpointStatus, RestoredCheckpoint,
    SnapshotType, Spread, SubtaskCheckpoint, VertexCheckpoint,
};
use hurtig_core::ids::VertexId;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What Flink writes for a number that nobody has measured.
const UNKNOWN: i64 = -1;

/// The names of [`Spread::shares`].
const SHARES: [&str; 5] = ["p50", "p90", "p95", "p99", "p999"];

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// All that a job has taken.
pub(crate) fn statistics(known: &CheckpointStatistics) -> Value {
    let (bytes, unmeasured) = (spread(&known.bytes), unmeasured());
    let one = |found: &Option<CheckpointRecord>| found.as_ref().map(|record| checkpoint(record, false));
    let restored = |restored: &RestoredCheckpoint| {
        json!({
            "id": restored.checkpoint.0,
            "restore_timestamp": restored.restored_ms,
            "is_savepoint": restored.savepoint,
            "external_path": restored.path,
        })
    };
    json!({
        "counts": {
            "restored": known.restored,
            "total": known.triggered,
            "in_progress": known.in_progress,
            "completed": known.completed,
            "failed": known.failed,
        },
        "summary": {
            "checkpointed_size": bytes,
            "state_size": bytes,
            "end_to_end_duration": spread(&known.duration_ms),
            "alignment_buffered": spread(&Spread::default()),
            "processed_data": unmeasured,
            "persisted_data": unmeasured,
        },
        "latest": {
            "completed": one(&known.last_checkpoint),
            "savepoint": one(&known.last_savepoint),
            "failed": one(&known.last_failure),
            "restored": known.last_restored.as_ref().map(restored),
        },
        "history": known.history.iter().map(|record| checkpoint(record, false)).collect::<Vec<_>>(),
    })
}

fn spread(spread: &Spread) -> Value {
    let mut all = json!({ "min": spread.min, "max": spread.max, "avg": spread.avg });
    for (name, share) in SHARES.into_iter().zip(spread.shares) {
        all[name] = json!(share);
    }
    all
}

fn unmeasured() -> Value {
    let mut all = json!({ "min": UNKNOWN, "max": UNKNOWN, "avg": UNKNOWN });
    SHARES.into_iter().for_each(|name| all[name] = json!(-1.0));
    all
}

/// How numbers of subtasks are spread, which are few: shares are of all of them.
fn spread_of(mut numbers: Vec<i64>) -> Value {
    numbers.sort_unstable();
    let sum: i128 = numbers.iter().map(|number| i128::from(*number)).sum();
    let count = i128::try_from(numbers.len()).unwrap_or(i128::MAX);
    let mean = i64::try_from(sum.checked_div(count).unwrap_or(0)).unwrap_or(i64::MAX);
    let at = |permille: usize| {
        let place = (permille * numbers.len()).div_ceil(1_000);
        numbers.get(place.saturating_sub(1)).copied().unwrap_or(0)
    };
    let mut all = json!({
        "min": numbers.first().copied().unwrap_or(0),
        "max": numbers.last().copied().unwrap_or(0),
        "avg": mean,
    });
    for (name, permille) in SHARES.into_iter().zip([500, 900, 950, 990, 999]) {
        all[name] = json!(at(permille));
    }
    all
}

/// One of them; in full with what each vertex has contributed.
pub(crate) fn checkpoint(record: &CheckpointRecord, full: bool) -> Value {
    let (class, status) = match record.status {
        CheckpointStatus::InProgress => ("in_progress", "IN_PROGRESS"),
        CheckpointStatus::Completed => ("completed", "COMPLETED"),
        CheckpointStatus::Failed => ("failed", "FAILED"),
    };
    let (format, kind) = match record.kind {
        SnapshotType::Checkpoint(CheckpointKind::Configured | CheckpointKind::Incremental) => {
            (None, "CHECKPOINT")
        }
        SnapshotType::Checkpoint(CheckpointKind::Full) => (None, "FULL_CHECKPOINT"),
        SnapshotType::Savepoint(format) => (Some(format!("{format:?}").to_uppercase()), "SAVEPOINT"),
    };
    let tasks = record.vertices.iter().filter(|_| full);
    let tasks: Map<String, Value> = tasks
        .map(|(id, vertex)| (id.to_string(), task(record, vertex)))
        .collect();
    let bytes = so_far(record);
    let last = record.vertices.values().filter_map(|vertex| vertex.last).max();
    let mut all = json!({
        "className": class,
        "id": record.checkpoint.0,
        "status": status,
        "is_savepoint": format.is_some(),
        "savepointFormat": format,
        "trigger_timestamp": record.triggered_ms,
        "latest_ack_timestamp": at(record, last),
        "checkpointed_size": bytes,
        "state_size": bytes,
        "end_to_end_duration": millis(record.duration),
        "alignment_buffered": 0,
        "processed_data": UNKNOWN,
        "persisted_data": UNKNOWN,
        "num_subtasks": record.vertices.values().map(|vertex| vertex.subtasks).sum::<u32>(),
        "num_acknowledged_subtasks": record.vertices.values().map(|vertex| vertex.acknowledged).sum::<u32>(),
        "checkpoint_type": kind,
        "tasks": tasks,
    });
    match record.status {
        CheckpointStatus::Completed => {
            let nowhere = || "<checkpoint-not-externally-addressable>".to_owned();
            all["external_path"] = json!(record.path.clone().unwrap_or_else(nowhere));
            all["discarded"] = json!(record.discarded);
        }
        CheckpointStatus::Failed => {
            all["failure_timestamp"] = json!(record.triggered_ms.saturating_add(millis(record.duration)));
            all["failure_message"] = json!(record.cause);
        }
        CheckpointStatus::InProgress => {}
    }
    all
}

/// Length of the state files that are there.
fn so_far(record: &CheckpointRecord) -> u64 {
    match record.status {
        CheckpointStatus::Completed => record.bytes,
        _ => record.vertices.values().map(|vertex| vertex.bytes).sum(),
    }
}

fn at(record: &CheckpointRecord, after: Option<Duration>) -> i64 {
    after.map_or(UNKNOWN, |after| record.triggered_ms.saturating_add(millis(after)))
}

/// What a vertex has contributed.
fn task(record: &CheckpointRecord, vertex: &VertexCheckpoint) -> Value {
    let status = match record.status {
        _ if vertex.acknowledged == vertex.subtasks => "COMPLETED",
        CheckpointStatus::Failed => "FAILED",
        _ => "IN_PROGRESS",
    };
    json!({
        "id": record.checkpoint.0,
        "status": status,
        "latest_ack_timestamp": at(record, vertex.last),
        "checkpointed_size": vertex.bytes,
        "state_size": vertex.bytes,
        "end_to_end_duration": vertex.last.map_or(UNKNOWN, millis),
        "alignment_buffered": 0,
        "processed_data": UNKNOWN,
        "persisted_data": UNKNOWN,
        "num_subtasks": vertex.subtasks,
        "num_acknowledged_subtasks": vertex.acknowledged,
    })
}

/// The same with each subtask; `None`: the vertex had no part in it.
pub(crate) fn subtasks(record: &CheckpointRecord, id: VertexId) -> Option<Value> {
    let vertex = record.vertices.get(&id)?;
    let all = (0..vertex.subtasks).map(|index| match vertex.parts.get(&index) {
        Some(part) => subtask(record, index, part),
        None => json!({ "className": "pending", "index": index, "status": "pending_or_failed" }),
    });
    let of = |number: fn(&SubtaskCheckpoint) -> i64| spread_of(vertex.parts.values().map(number).collect());
    let size = of(|part| i64::try_from(part.bytes).unwrap_or(i64::MAX));
    let stored_in = of(|part| part.stored_in.map_or(0, millis));
    let mut answer = task(record, vertex);
    answer["summary"] = json!({
        "checkpointed_size": size,
        "state_size": size,
        "end_to_end_duration": of(|part| millis(part.after)),
        "checkpoint_duration": { "sync": unmeasured(), "async": stored_in },
        "alignment": {
            "buffered": spread(&Spread::default()),
            "processed": unmeasured(),
            "persisted": unmeasured(),
            "duration": unmeasured(),
        },
        "start_delay": unmeasured(),
    });
    answer["subtasks"] = all.collect();
    Some(answer)
}

fn subtask(record: &CheckpointRecord, index: u32, part: &SubtaskCheckpoint) -> Value {
    json!({
        "className": "completed",
        "index": index,
        "status": "completed",
        "ack_timestamp": at(record, Some(part.after)),
        "end_to_end_duration": millis(part.after),
        "checkpointed_size": part.bytes,
        "state_size": part.bytes,
        "checkpoint": { "sync": UNKNOWN, "async": part.stored_in.map_or(0, millis) },
        "alignment": { "buffered": 0, "processed": UNKNOWN, "persisted": UNKNOWN, "duration": UNKNOWN },
        "start_delay": UNKNOWN,
        "unaligned_checkpoint": part.overtook,
        "aborted": false,
    })
}
