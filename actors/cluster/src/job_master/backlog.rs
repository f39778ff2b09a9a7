//! The JobMaster's part in backlog: who is told that a source reads it, and what follows for checkpoints.

use super::brain::JobMasterBrain;
use super::events::{Effects, JobEffect};
use hurtig_core::ids::{NodeId, VertexId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::TaskState;
use std::collections::BTreeSet;

impl JobMasterBrain {
    /// An enumerator says that what is being read is backlog, or is not any more. Readers that are deployed later are
    /// described so.
    pub(super) fn on_backlog(&mut self, now: Time, node: NodeId, backlog: bool, out: &mut Effects) {
        if !self.splits.set_backlog(node, backlog) {
            return;
        }
        let vertex = self.graph.job_graph().vertex_of(node).map(|vertex| vertex.id);
        let deployed = self.graph.executions().filter(|execution| {
            Some(execution.id.subtask.vertex) == vertex && execution.state().is_deployed()
        });
        out.extend(deployed.filter_map(|execution| {
            let (to, _) = execution.location?;
            Some(JobEffect::SetBacklog {
                to,
                execution: execution.id,
                node,
                backlog,
            })
        }));
        self.look_at_backlog(now, out);
    }

    /// What sources read may have become backlog, or have ceased to be.
    pub(super) fn look_at_backlog(&mut self, now: Time, out: &mut Effects) {
        let count = self
            .splits
            .in_backlog()
            .filter(|node| self.is_read(*node))
            .count();
        if std::mem::replace(&mut self.in_backlog, count) == count {
            return;
        }
        out.push(JobEffect::SourcesInBacklog(count));
        self.coordinate(now, out, |coordinator, effects| {
            coordinator.set_backlog(now, count > 0, effects);
        });
    }

    /// Whether a source has readers that have not finished.
    fn is_read(&self, node: NodeId) -> bool {
        let vertex = self.graph.job_graph().vertex_of(node).map(|vertex| vertex.id);
        let mut executions = self.graph.executions();
        executions.any(|execution| {
            Some(execution.id.subtask.vertex) == vertex && execution.state() != TaskState::Finished
        })
    }

    /// Whether the tasks of a vertex begin in backlog: a source does that they read, at whatever distance. All of them
    /// are deployed together, so each knows what its producers begin with.
    pub(super) fn begins_in_backlog(&self, vertex: VertexId) -> bool {
        if self.splits.in_backlog().next().is_none() {
            return false;
        }
        let graph = self.graph.job_graph();
        let (mut seen, mut next) = (BTreeSet::new(), vec![vertex]);
        while let Some(vertex) = next.pop() {
            if !seen.insert(vertex) {
                continue;
            }
            let operators = graph.vertex(vertex).map(|vertex| &vertex.operators);
            let mut operators = operators.into_iter().flatten();
            if operators.any(|operator| self.splits.is_backlog(operator.node)) {
                return true;
            }
            next.extend(graph.inputs(vertex).map(|edge| edge.from));
        }
        false
    }
}
