//! Checkpoints as clients see them. What is not measured is -1, as with Flink.

use hurtig_cluster::{
    CheckpointKind, CheckpointRecord, CheckpointStatistics, CheckpointStatus, PartFigures,
    RestoredCheckpoint, SnapshotType, Spread, StoreBytes, SubtaskCheckpoint, VertexCheckpoint,
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
            "checkpointed_size": spread(&known.bytes),
            "state_size": spread(&known.full_bytes),
            "end_to_end_duration": spread(&known.duration_ms),
            "alignment_buffered": spread(&Spread::default()),
            "processed_data": unmeasured(),
            "persisted_data": known.in_flight_bytes.as_ref().map_or_else(unmeasured, spread),
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
    let (written, full) = so_far(record);
    let last = record.vertices.values().filter_map(|vertex| vertex.last).max();
    let mut all = json!({
        "className": class,
        "id": record.checkpoint.0,
        "status": status,
        "is_savepoint": format.is_some(),
        "savepointFormat": format,
        "trigger_timestamp": record.triggered_ms,
        "latest_ack_timestamp": at(record, last),
        "checkpointed_size": written,
        "state_size": full,
        "end_to_end_duration": millis(record.duration),
        "alignment_buffered": 0,
        "processed_data": UNKNOWN,
        "persisted_data": measured(record.in_flight_bytes()),
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

/// Length of what was written, and of everything that is named, as far as it is there.
fn so_far(record: &CheckpointRecord) -> (u64, u64) {
    let vertices = || record.vertices.values();
    match record.status {
        CheckpointStatus::Completed => (record.written(), record.full()),
        _ => (vertices().map(written).sum(), vertices().map(full).sum()),
    }
}

fn written(vertex: &VertexCheckpoint) -> u64 {
    vertex.bytes + vertex.stores.new
}

fn full(vertex: &VertexCheckpoint) -> u64 {
    vertex.bytes + vertex.stores.all
}

/// A number that may not have been measured.
fn measured(number: Option<u64>) -> i64 {
    number.map_or(UNKNOWN, |number| i64::try_from(number).unwrap_or(i64::MAX))
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
        "checkpointed_size": written(vertex),
        "state_size": full(vertex),
        "end_to_end_duration": vertex.last.map_or(UNKNOWN, millis),
        "alignment_buffered": 0,
        "processed_data": UNKNOWN,
        "persisted_data": measured(vertex.in_flight_bytes()),
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
    let parts: Vec<Part> = vertex.parts.values().map(|part| Part::of(record, part)).collect();
    let of = |number: fn(&Part) -> i64| spread_of(parts.iter().map(number).collect());
    // Of those that have measured it.
    let known = |number: fn(&Part) -> i64| {
        let numbers: Vec<i64> = parts
            .iter()
            .map(number)
            .filter(|number| *number != UNKNOWN)
            .collect();
        if numbers.is_empty() {
            unmeasured()
        } else {
            spread_of(numbers)
        }
    };
    let mut answer = task(record, vertex);
    answer["summary"] = json!({
        "checkpointed_size": of(|part| part.written),
        "state_size": of(|part| part.full),
        "end_to_end_duration": of(|part| part.after),
        "checkpoint_duration": { "sync": known(|part| part.sync), "async": of(|part| part.stored_in) },
        "alignment": {
            "buffered": spread(&Spread::default()),
            "processed": unmeasured(),
            "persisted": known(|part| part.persisted),
            "duration": known(|part| part.alignment),
        },
        "start_delay": known(|part| part.start_delay),
    });
    answer["subtasks"] = all.collect();
    Some(answer)
}

/// The numbers of a subtask.
struct Part {
    after: i64,
    written: i64,
    full: i64,
    stored_in: i64,
    sync: i64,
    alignment: i64,
    persisted: i64,
    start_delay: i64,
}

impl Part {
    fn of(record: &CheckpointRecord, part: &SubtaskCheckpoint) -> Self {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let figures = part.figures.as_ref();
        let stores = figures.map(StoreBytes::of).unwrap_or_default();
        let figure = |of: fn(&PartFigures) -> i64| figures.map_or(UNKNOWN, of);
        Self {
            after: millis(part.after),
            written: bytes(part.bytes + stores.new),
            full: bytes(part.bytes + stores.all),
            stored_in: part.stored_in.map_or(0, millis),
            sync: figure(|figures| millis(figures.through)),
            alignment: figure(|figures| millis(figures.alignment)),
            persisted: figures.map_or(UNKNOWN, |figures| bytes(figures.in_flight_bytes)),
            // Two clocks of two machines: the barrier did not come before it was sent.
            start_delay: figures.map_or(UNKNOWN, |figures| {
                figures.came_ms.saturating_sub(record.triggered_ms).max(0)
            }),
        }
    }
}

fn subtask(record: &CheckpointRecord, index: u32, part: &SubtaskCheckpoint) -> Value {
    let numbers = Part::of(record, part);
    json!({
        "className": "completed",
        "index": index,
        "status": "completed",
        "ack_timestamp": at(record, Some(part.after)),
        "end_to_end_duration": numbers.after,
        "checkpointed_size": numbers.written,
        "state_size": numbers.full,
        "checkpoint": { "sync": numbers.sync, "async": numbers.stored_in },
        "alignment": {
            "buffered": 0,
            "processed": UNKNOWN,
            "persisted": numbers.persisted,
            "duration": numbers.alignment,
        },
        "start_delay": numbers.start_delay,
        "unaligned_checkpoint": part.overtook,
        "aborted": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::CheckpointId;
    use std::collections::BTreeMap;

    fn part(figures: Option<PartFigures>) -> SubtaskCheckpoint {
        SubtaskCheckpoint {
            after: Duration::from_millis(90),
            bytes: 10,
            stored_in: Some(Duration::from_millis(20)),
            overtook: figures.is_some(),
            figures,
        }
    }

    #[test]
    fn a_subtask_is_told_as_it_was_measured_and_else_not_at_all() {
        let figures = PartFigures {
            came_ms: 1_005,
            alignment: Duration::from_millis(30),
            through: Duration::from_millis(7),
            in_flight_bytes: 40,
            named_bytes: 1_000,
            new_bytes: 100,
        };
        let vertex = VertexCheckpoint {
            subtasks: 3,
            acknowledged: 2,
            bytes: 20,
            stores: StoreBytes { all: 1_000, new: 100 },
            in_flight_bytes: 40,
            measured: 1,
            parts: BTreeMap::from([(0, part(Some(figures))), (1, part(None))]),
            ..VertexCheckpoint::default()
        };
        let id = VertexId::from_u128(2);
        let record = CheckpointRecord {
            checkpoint: CheckpointId(1),
            kind: SnapshotType::Checkpoint(CheckpointKind::Configured),
            status: CheckpointStatus::InProgress,
            triggered_ms: 1_000,
            duration: Duration::from_millis(100),
            bytes: 0,
            stores: StoreBytes::default(),
            cause: None,
            path: None,
            discarded: false,
            vertices: BTreeMap::from([(id, vertex)]),
        };
        let all = subtasks(&record, id).unwrap();
        assert_eq!(
            (&all["checkpointed_size"], &all["state_size"]),
            (&json!(120), &json!(1_020))
        );
        assert_eq!(all["persisted_data"], UNKNOWN, "one of two has not measured it");
        let one = &all["subtasks"][0];
        assert_eq!(
            (&one["checkpointed_size"], &one["state_size"]),
            (&json!(110), &json!(1_010))
        );
        assert_eq!(one["checkpoint"], json!({ "sync": 7, "async": 20 }));
        assert_eq!(one["start_delay"], 5);
        let alignment = json!({ "buffered": 0, "processed": UNKNOWN, "persisted": 40, "duration": 30 });
        assert_eq!(one["alignment"], alignment);
        let other = &all["subtasks"][1];
        assert_eq!(
            (&other["start_delay"], &other["checkpoint"]["sync"]),
            (&json!(UNKNOWN), &json!(UNKNOWN))
        );
        assert_eq!(all["subtasks"][2]["status"], "pending_or_failed");
        // Who has measured nothing changes no mean.
        assert_eq!(all["summary"]["start_delay"]["avg"], 5);
        assert_eq!(all["summary"]["alignment"]["persisted"]["min"], 40);
        let shown = checkpoint(&record, false);
        assert_eq!(
            (&shown["checkpointed_size"], &shown["state_size"]),
            (&json!(120), &json!(1_020))
        );
    }
}
