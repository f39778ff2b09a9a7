//! What clients see of a job's vertices.

use super::brain::JobMasterBrain;
use crate::result::VertexOverview;
use hurtig_core::ids::VertexId;
use hurtig_core::time::Time;
use hurtig_dataflow::graph::{JobVertex, TaskState};
use std::collections::BTreeMap;

impl JobMasterBrain {
    /// The vertices with the states of their subtasks. `wall_ms` is the time of day.
    pub fn vertices(&self, now: Time, wall_ms: i64) -> Vec<VertexOverview> {
        let mut seen: BTreeMap<VertexId, Seen> = BTreeMap::new();
        for execution in self.graph.executions() {
            let seen = seen.entry(execution.id.subtask.vertex).or_default();
            *seen.tasks.entry(execution.state()).or_default() += 1;
            let began = execution.entered(TaskState::Deploying);
            seen.began = [seen.began, began].into_iter().flatten().min();
            let ended = Some(execution.state()).filter(|state| state.is_terminal());
            seen.ended = seen.ended.max(ended.and_then(|state| execution.entered(state)));
        }
        let at = |time: Time| {
            let ago = i64::try_from(now.since(time).as_millis()).unwrap_or(i64::MAX);
            wall_ms.saturating_sub(ago)
        };
        let vertices = self.graph.job_graph().vertices.iter();
        vertices
            .map(|vertex| seen.remove(&vertex.id).unwrap_or_default().of(vertex, at))
            .collect()
    }
}

/// What the subtasks of a vertex have come to.
#[derive(Default)]
struct Seen {
    tasks: BTreeMap<TaskState, u32>,
    began: Option<Time>,
    ended: Option<Time>,
}

impl Seen {
    fn of(self, vertex: &JobVertex, at: impl Fn(Time) -> i64) -> VertexOverview {
        let over = self.tasks.keys().all(|state| state.is_terminal());
        VertexOverview {
            id: vertex.id,
            name: vertex.name.clone(),
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            slot_sharing_group: vertex.slot_sharing_group.clone(),
            tasks: self.tasks,
            start_ms: self.began.map(&at),
            end_ms: self.ended.filter(|_| over).map(at),
        }
    }
}
