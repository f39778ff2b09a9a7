//! What clients see of a job's subtasks: where each attempt ran, what it went through, and what it has done.

use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::{AllocationId, TaskManagerId, VertexId};
use hurtig_dataflow::graph::TaskState;
use hurtig_task::interface::TaskReport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What tasks have done, as they have last reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskTotals {
    /// Records read from channels, or by sources.
    pub records_in: u64,
    /// Records written to channels, or by sinks.
    pub records_out: u64,
    /// The bytes of those that were read from channels: estimated within a worker, as they came from others.
    #[serde(default)]
    pub bytes_in: u64,
    /// The estimated bytes of those that were written to channels.
    pub bytes_out: u64,
    /// Milliseconds spent working.
    pub busy_ms: u64,
    /// Milliseconds spent waiting for input.
    pub idle_ms: u64,
    /// Milliseconds spent waiting for room in an output.
    pub backpressured_ms: u64,
    /// Whether all of the tasks have reported.
    pub complete: bool,
}

impl TaskTotals {
    /// Those of no task.
    pub const NONE: Self = Self {
        records_in: 0,
        records_out: 0,
        bytes_in: 0,
        bytes_out: 0,
        busy_ms: 0,
        idle_ms: 0,
        backpressured_ms: 0,
        complete: true,
    };

    /// Those of a task, which may not have reported yet.
    pub(crate) fn of(report: Option<&TaskReport>) -> Self {
        let Some(report) = report else {
            return Self {
                complete: false,
                ..Self::NONE
            };
        };
        Self {
            records_in: report.records_in,
            records_out: report.records_out,
            bytes_in: report.bytes_in,
            bytes_out: report.bytes_out,
            busy_ms: report.busy_ms,
            idle_ms: report.idle_ms,
            backpressured_ms: report.backpressured_ms,
            complete: true,
        }
    }

    /// Those of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            records_in: self.records_in.saturating_add(other.records_in),
            records_out: self.records_out.saturating_add(other.records_out),
            bytes_in: self.bytes_in.saturating_add(other.bytes_in),
            bytes_out: self.bytes_out.saturating_add(other.bytes_out),
            busy_ms: self.busy_ms.saturating_add(other.busy_ms),
            idle_ms: self.idle_ms.saturating_add(other.idle_ms),
            backpressured_ms: self.backpressured_ms.saturating_add(other.backpressured_ms),
            complete: self.complete && other.complete,
        }
    }
}

/// Where tasks of a job run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPlace {
    /// The TaskManager, as the cluster knows it.
    pub task_manager: TaskManagerId,
    /// Where its worker receives records of tasks elsewhere; `None`: all tasks of the job are in one process.
    pub exchange: Option<String>,
}

/// One attempt at a subtask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptDetail {
    /// Which try it is, from 0.
    pub attempt: u32,
    /// Its state.
    pub state: TaskState,
    /// When it entered its states, in milliseconds since 1970; what it was never in is missing.
    pub entered: BTreeMap<TaskState, i64>,
    /// Where it was deployed; `None`: it was not.
    pub place: Option<TaskPlace>,
    /// In which slot there.
    pub slot: Option<AllocationId>,
    /// What it has done.
    pub totals: TaskTotals,
    /// Its accumulators.
    pub accumulators: AccumulatorValues,
}

impl AttemptDetail {
    /// When it was deployed.
    pub fn start_ms(&self) -> Option<i64> {
        self.entered.get(&TaskState::Deploying).copied()
    }

    /// When it ended; `None`: it has not.
    pub fn end_ms(&self) -> Option<i64> {
        let ended = Some(self.state).filter(|state| state.is_terminal());
        ended.and_then(|state| self.entered.get(&state).copied())
    }

    /// How long it was in each state, in milliseconds.
    pub fn spent(&self, now_ms: i64) -> BTreeMap<TaskState, i64> {
        let mut entered: Vec<(i64, TaskState)> =
            self.entered.iter().map(|(state, at)| (*at, *state)).collect();
        // States are in the order in which they are gone through, which counts when two were entered within a millisecond.
        entered.sort();
        let ends = entered
            .iter()
            .skip(1)
            .map(|(at, _)| *at)
            .chain([self.end_ms().unwrap_or(now_ms)]);
        let spent = entered.iter().zip(ends);
        spent
            .map(|((from, state), to)| (*state, to.saturating_sub(*from).max(0)))
            .collect()
    }
}

/// A subtask of a vertex.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubtaskDetail {
    /// Which, from 0.
    pub index: u32,
    /// The attempt that counts.
    pub current: AttemptDetail,
    /// Earlier ones, oldest first; bounded.
    pub previous: Vec<AttemptDetail>,
}

impl SubtaskDetail {
    /// One of its attempts, as far as they are remembered.
    pub fn attempt(&self, number: u32) -> Option<&AttemptDetail> {
        let mut all = self.previous.iter().chain([&self.current]);
        all.find(|attempt| attempt.attempt == number)
    }
}

/// The subtasks of a vertex.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VertexDetail {
    /// Which vertex.
    pub id: VertexId,
    /// Each of them, in order.
    pub subtasks: Vec<SubtaskDetail>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_spent_in_one_state_after_the_other() {
        use TaskState::{Created, Deploying, Finished, Running};
        let attempt = |state, entered: &[(TaskState, i64)]| AttemptDetail {
            attempt: 0,
            state,
            entered: entered.iter().copied().collect(),
            place: None,
            slot: None,
            totals: TaskTotals::NONE,
            accumulators: AccumulatorValues::new(),
        };
        let runs = attempt(Running, &[(Created, 100), (Deploying, 130), (Running, 130)]);
        assert_eq!(
            runs.spent(200),
            [(Created, 30), (Deploying, 0), (Running, 70)].into()
        );
        let over = attempt(Finished, &[(Created, 100), (Running, 130), (Finished, 150)]);
        assert_eq!(
            over.spent(200),
            [(Created, 30), (Running, 20), (Finished, 0)].into(),
            "what is over grows no older"
        );
        assert_eq!((runs.end_ms(), over.end_ms()), (None, Some(150)));
    }
}
