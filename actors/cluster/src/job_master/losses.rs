//! What a JobMaster does when a TaskManager is gone: nobody there will ever report anything.

use super::brain::JobMasterBrain;
use super::events::Effects;
use super::failures::locate;
use super::recovery::Hit;
use hurtig_core::Fault;
use hurtig_core::ids::{ExecutionId, TaskManagerId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::{JobStatus, RegionId, TaskState};
use hurtig_task::interface::TaskFailure;
use std::collections::BTreeSet;

impl JobMasterBrain {
    /// All that ran on a TaskManager has ended, as one failure however many tasks and regions it hits. What was being
    /// stopped there has stopped.
    pub(super) fn on_task_manager_lost(
        &mut self,
        now: Time,
        lost: TaskManagerId,
        cause: &str,
        out: &mut Effects,
    ) {
        if !self.slots.remove(lost) {
            return;
        }
        let mut failed = Vec::new();
        for (execution, state) in self.running_at(lost) {
            let to = match state {
                TaskState::Canceling => TaskState::Canceled,
                _ => TaskState::Failed,
            };
            self.graph.report(execution, to, now);
            if to == TaskState::Failed {
                failed.push(execution);
            }
        }
        self.fail_with(now, lost, (failed, cause), out);
        let over = matches!(self.status(), JobStatus::Cancelling | JobStatus::Failing);
        if !over && !self.status().is_terminal() {
            self.require_slots(out);
        }
    }

    fn running_at(&self, task_manager: TaskManagerId) -> Vec<(ExecutionId, TaskState)> {
        let executions = self.graph.executions();
        let there = executions.filter(|execution| {
            let at = execution.location.map(|location| location.0);
            at == Some(task_manager) && !execution.state().is_terminal()
        });
        there.map(|execution| (execution.id, execution.state())).collect()
    }

    fn fail_with(
        &mut self,
        now: Time,
        lost: TaskManagerId,
        (failed, cause): (Vec<ExecutionId>, &str),
        out: &mut Effects,
    ) {
        let Some(first) = failed.first() else {
            return self.settle(now, out);
        };
        let cause = TaskFailure {
            fault: Fault::External.into(),
            message: format!("the process of its worker {lost} is gone: {cause}"),
            operator: None,
            panicked: false,
            permanent: false,
        };
        let failure = locate(&self.graph, *first, cause, self.after(now));
        let regions: BTreeSet<RegionId> = failed
            .iter()
            .filter_map(|execution| self.graph.region_of(execution.subtask))
            .collect();
        self.fail(now, failure, Hit::Regions(regions), out);
    }
}
