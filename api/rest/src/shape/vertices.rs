//! Vertices and subtasks as clients see them.

use super::{Times, aggregate_of, by_name};
use hurtig_cluster::{AttemptDetail, SubtaskDetail, TaskTotals, VertexDetail};
use hurtig_core::accumulators::{AccumulatorValue, AccumulatorValues, merge_accumulators};
use hurtig_core::ids::TaskManagerId;
use hurtig_dataflow::graph::{JobVertex, TaskState};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Numbers of tasks, by the names that clients know them by.
pub(crate) fn io(totals: &TaskTotals) -> Value {
    json!({
        "read-bytes": totals.bytes_in,
        "read-bytes-complete": totals.complete,
        "write-bytes": totals.bytes_out,
        "write-bytes-complete": totals.complete,
        "read-records": totals.records_in,
        "read-records-complete": totals.complete,
        "write-records": totals.records_out,
        "write-records-complete": totals.complete,
        "accumulated-backpressured-time": totals.backpressured_ms,
        "accumulated-idle-time": totals.idle_ms,
        "accumulated-busy-time": whole(totals.busy_ms),
    })
}

/// A whole number as one that may have a fraction.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is shown needs no more than 53 bits"
)]
fn whole(number: u64) -> f64 {
    number as f64
}

/// Where an attempt ran, as clients name places.
fn endpoint(attempt: &AttemptDetail) -> String {
    let place = attempt.place.as_ref();
    let named = place.map(|place| place.exchange.clone().unwrap_or_else(|| "localhost".to_owned()));
    named.unwrap_or_else(|| UNASSIGNED.to_owned())
}

/// What clients expect as the name of no place.
const UNASSIGNED: &str = "(unassigned)";

fn task_manager(attempt: &AttemptDetail) -> String {
    let place = attempt.place.as_ref();
    place.map_or_else(|| UNASSIGNED.to_owned(), |place| place.task_manager.to_string())
}

fn states(spent: &BTreeMap<TaskState, i64>) -> Map<String, Value> {
    let active = spent.iter().filter(|(state, _)| !state.is_terminal());
    active
        .map(|(state, ms)| (state.name().to_owned(), json!(ms)))
        .collect()
}

/// One attempt at a subtask.
pub(crate) fn attempt(index: u32, attempt: &AttemptDetail, now: i64) -> Value {
    let times = Times::of(attempt.start_ms(), attempt.end_ms(), now);
    json!({
        "subtask": index,
        "status": attempt.state.name(),
        "attempt": attempt.attempt,
        "endpoint": endpoint(attempt),
        "start-time": times.start,
        "start_time": times.start,
        "end-time": times.end,
        "duration": times.duration,
        "metrics": io(&attempt.totals),
        "taskmanager-id": task_manager(attempt),
        "status-duration": states(&attempt.spent(now)),
    })
}

/// A vertex with its subtasks.
pub(crate) fn vertex(vertex: &JobVertex, detail: &VertexDetail, now: i64) -> Value {
    let subtasks = detail.subtasks.iter();
    let subtasks: Vec<Value> = subtasks
        .map(|one| attempt(one.index, &one.current, now))
        .collect();
    json!({
        "id": vertex.id.to_string(),
        "name": vertex.name,
        "parallelism": vertex.parallelism,
        "maxParallelism": vertex.max_parallelism,
        "now": now,
        "subtasks": subtasks,
        "aggregated": aggregated(&detail.subtasks.iter().collect::<Vec<_>>(), now),
    })
}

/// How numbers are spread over subtasks.
fn aggregated(subtasks: &[&SubtaskDetail], now: i64) -> Value {
    let of = |number: fn(&TaskTotals) -> u64| {
        let numbers = subtasks.iter().map(|one| number(&one.current.totals));
        spread(
            numbers
                .map(|number| i64::try_from(number).unwrap_or(i64::MAX))
                .collect(),
        )
    };
    let mut durations: BTreeMap<TaskState, Vec<i64>> = BTreeMap::new();
    for (state, ms) in subtasks.iter().flat_map(|one| one.current.spent(now)) {
        if !state.is_terminal() {
            durations.entry(state).or_default().push(ms);
        }
    }
    let durations = durations.into_iter();
    let durations: Map<String, Value> = durations
        .map(|(state, ms)| (state.name().to_owned(), spread(ms)))
        .collect();
    json!({
        "metrics": {
            "read-bytes": of(|totals| totals.bytes_in),
            "write-bytes": of(|totals| totals.bytes_out),
            "read-records": of(|totals| totals.records_in),
            "write-records": of(|totals| totals.records_out),
            "accumulated-backpressured-time": of(|totals| totals.backpressured_ms),
            "accumulated-idle-time": of(|totals| totals.idle_ms),
            "accumulated-busy-time": of(|totals| totals.busy_ms),
        },
        "status-duration": durations,
    })
}

/// Whole numbers, with those between which a quarter, a half and so on of them lie.
fn spread(mut numbers: Vec<i64>) -> Value {
    numbers.sort_unstable();
    let sum = numbers
        .iter()
        .fold(0_i64, |sum, number| sum.saturating_add(*number));
    let count = i64::try_from(numbers.len()).unwrap_or(i64::MAX);
    json!({
        "min": numbers.first().copied().unwrap_or(0),
        "max": numbers.last().copied().unwrap_or(0),
        "avg": sum.checked_div(count).unwrap_or(0),
        "sum": sum,
        "median": share(&numbers, 50),
        "p25": share(&numbers, 25),
        "p75": share(&numbers, 75),
        "p95": share(&numbers, 95),
    })
}

/// The number at the place `percent * (n + 1)`, or between those around it, rounded down.
fn share(sorted: &[i64], percent: usize) -> i64 {
    let place = percent * (sorted.len() + 1);
    let (below, rest) = (place / 100, i128::try_from(place % 100).unwrap_or(0));
    match (
        below.checked_sub(1).and_then(|at| sorted.get(at)),
        sorted.get(below),
    ) {
        (Some(low), Some(high)) => {
            let between = (i128::from(*high) - i128::from(*low)) * rest / 100;
            i64::try_from(i128::from(*low) + between).unwrap_or(*low)
        }
        (None, _) => sorted.first().copied().unwrap_or(0),
        (Some(_), None) => sorted.last().copied().unwrap_or(0),
    }
}

/// When each subtask entered its states.
pub(crate) fn times(vertex: &JobVertex, detail: &VertexDetail, now: i64) -> Value {
    let one = |subtask: &SubtaskDetail| {
        let attempt = &subtask.current;
        let entered = |state: &TaskState| attempt.entered.get(state).copied().unwrap_or(0);
        let timestamps = TaskState::ALL.iter();
        let timestamps: Map<String, Value> = timestamps
            .map(|state| (state.name().to_owned(), json!(entered(state))))
            .collect();
        let begin = attempt.entered.get(&TaskState::Scheduled).copied();
        json!({
            "subtask": subtask.index,
            "endpoint": endpoint(attempt),
            "duration": Times::of(begin, attempt.end_ms(), now).duration,
            "timestamps": timestamps,
        })
    };
    json!({
        "id": vertex.id.to_string(),
        "name": vertex.name,
        "now": now,
        "subtasks": detail.subtasks.iter().map(one).collect::<Vec<_>>(),
    })
}

/// The subtasks of a vertex by where they are.
pub(crate) fn task_managers(vertex: &JobVertex, detail: &VertexDetail, now: i64) -> Value {
    let mut places: BTreeMap<Option<TaskManagerId>, Vec<&SubtaskDetail>> = BTreeMap::new();
    for subtask in &detail.subtasks {
        let place = subtask.current.place.as_ref().map(|place| place.task_manager);
        places.entry(place).or_default().push(subtask);
    }
    json!({
        "id": vertex.id.to_string(),
        "name": vertex.name,
        "now": now,
        "taskmanagers": places.values().map(|here| at_one_place(here, now)).collect::<Vec<_>>(),
    })
}

fn at_one_place(subtasks: &[&SubtaskDetail], now: i64) -> Value {
    let attempts = || subtasks.iter().map(|subtask| &subtask.current);
    let mut counts = BTreeMap::new();
    attempts().for_each(|attempt| *counts.entry(attempt.state).or_insert(0_u32) += 1);
    let totals = attempts().fold(TaskTotals::NONE, |sum, attempt| sum.plus(&attempt.totals));
    let over = attempts().all(|attempt| attempt.end_ms().is_some());
    let times = Times::of(
        attempts().filter_map(AttemptDetail::start_ms).min(),
        attempts()
            .filter_map(AttemptDetail::end_ms)
            .max()
            .filter(|_| over),
        now,
    );
    let all = u32::try_from(subtasks.len()).unwrap_or(u32::MAX);
    let first = attempts().next();
    json!({
        "endpoint": first.map(endpoint),
        "taskmanager-id": first.map(task_manager),
        "status": aggregate_of(&counts, all).name(),
        "start-time": times.start,
        "end-time": times.end,
        "duration": times.duration,
        "metrics": io(&totals),
        "status-counts": by_name(&counts),
        "aggregated": aggregated(subtasks, now),
    })
}

/// The accumulators of a vertex, merged over its subtasks.
pub(crate) fn accumulators(detail: &VertexDetail) -> Value {
    let mut merged = AccumulatorValues::new();
    for subtask in &detail.subtasks {
        merge_accumulators(&mut merged, &subtask.current.accumulators);
    }
    json!({ "id": detail.id.to_string(), "user-accumulators": values(&merged) })
}

pub(crate) fn subtask_accumulators(detail: &VertexDetail) -> Value {
    let one = |subtask: &SubtaskDetail| {
        json!({
            "subtask": subtask.index,
            "attempt": subtask.current.attempt,
            "endpoint": endpoint(&subtask.current),
            "user-accumulators": values(&subtask.current.accumulators),
        })
    };
    json!({
        "id": detail.id.to_string(),
        "parallelism": detail.subtasks.len(),
        "subtasks": detail.subtasks.iter().map(one).collect::<Vec<_>>(),
    })
}

/// Accumulators for people.
pub(crate) fn values(values: &AccumulatorValues) -> Vec<Value> {
    let one = |(name, value): (&String, &AccumulatorValue)| {
        let (kind, text) = shown(value);
        json!({ "name": name, "type": kind, "value": text })
    };
    values.iter().map(one).collect()
}

/// The name of an accumulator's kind among Flink's, and its value as text.
fn shown(value: &AccumulatorValue) -> (String, String) {
    let (kind, text) = match value {
        AccumulatorValue::Long(sum) => ("LongCounter", sum.to_string()),
        AccumulatorValue::Double(sum) => ("DoubleCounter", sum.to_string()),
        AccumulatorValue::LongMin(least) => ("LongMinimum", least.to_string()),
        AccumulatorValue::LongMax(most) => ("LongMaximum", most.to_string()),
        AccumulatorValue::DoubleMin(least) => ("DoubleMinimum", least.to_string()),
        AccumulatorValue::DoubleMax(most) => ("DoubleMaximum", most.to_string()),
        AccumulatorValue::Histogram(seen) => {
            let seen: Vec<String> = seen
                .iter()
                .map(|(value, times)| format!("{value}={times}"))
                .collect();
            ("Histogram", format!("{{{}}}", seen.join(", ")))
        }
        AccumulatorValue::Average { count: 0, .. } => ("AverageAccumulator", "no value".to_owned()),
        AccumulatorValue::Average { count, sum } => ("AverageAccumulator", (sum / whole(*count)).to_string()),
        AccumulatorValue::Custom { kind, parts } => {
            return (
                kind.clone(),
                format!("of {} subtasks, which the program merges", parts.len()),
            );
        }
        AccumulatorValue::Failed(why) => ("Failed", why.clone()),
    };
    (kind.to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_as_flink_spreads_them() {
        // Of two recorded subtasks, and what was answered of them.
        let answer = spread(vec![120_538, 120_532]);
        let expected = json!({
            "p25": 120_532, "min": 120_532, "avg": 120_535, "median": 120_535, "max": 120_538, "sum": 241_070,
            "p95": 120_538, "p75": 120_538,
        });
        assert_eq!(answer, expected);
        assert_eq!(spread(vec![])["sum"], 0);
        assert_eq!(spread(vec![1, 2, 3, 4])["median"], 2);
    }

    #[test]
    fn accumulators_have_flinks_kinds() {
        let shown = |value: AccumulatorValue| shown(&value);
        assert_eq!(
            shown(AccumulatorValue::Long(5)),
            ("LongCounter".into(), "5".into())
        );
        assert_eq!(
            shown(AccumulatorValue::Histogram([(1, 2), (7, 1)].into())),
            ("Histogram".into(), "{1=2, 7=1}".into())
        );
        let mean = AccumulatorValue::Average { count: 4, sum: 6.0 };
        assert_eq!(shown(mean), ("AverageAccumulator".into(), "1.5".into()));
    }
}
