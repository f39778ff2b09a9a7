//! What a JobMaster does when a TaskManager is gone: nobody there will ever report anything.

use super::brain::JobMasterBrain;
use super::events::{Effects, JobEffect};
use super::failures::locate;
use super::recovery::Hit;
use crate::result::JobFailure;
use hurtig_core::Fault;
use hurtig_core::ids::{AllocationId, ExecutionId, TaskManagerId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::{JobStatus, RegionId, TaskState};
use hurtig_task::interface::TaskFailure;
use std::collections::BTreeSet;

/// Workers that are gone and remembered, so that a second witness changes nothing.
const REMEMBERED: usize = 64;

impl JobMasterBrain {
    /// A worker that ends before it has offered its slots will not do better the next time: the restart strategy says how
    /// often that is tried.
    pub(super) fn on_worker_ended(
        &mut self,
        now: Time,
        ended: TaskManagerId,
        cause: &str,
        out: &mut Effects,
    ) {
        self.rescaling.ended(ended);
        if self.slots.task_managers().contains(&ended) || self.lost.contains(&ended) {
            return self.lose(now, ended, cause, out);
        }
        self.note_lost(ended);
        let message = format!("the process of a worker could not begin: {cause}");
        let failure = JobFailure::of_job(Fault::External, message, self.after(now));
        self.fail(now, failure, Hit::Job, out);
    }

    /// Whether nothing is expected of a worker any more, though its process may still run.
    pub fn has_given_up(&self, worker: TaskManagerId) -> bool {
        self.lost.contains(&worker)
    }

    pub(super) fn note_lost(&mut self, lost: TaskManagerId) {
        if self.lost.contains(&lost) {
            return;
        }
        if self.lost.len() == REMEMBERED {
            let forgotten = self.lost.pop_front();
            forgotten
                .into_iter()
                .for_each(|worker| self.rescaling.ended(worker));
        }
        self.lost.push_back(lost);
    }

    /// Nothing is expected of a TaskManager any more. Who says so may be a leader that is none any more, and its worker may run:
    /// to the present leader its slots are the job's until it hears that the job does without them.
    pub(super) fn on_task_manager_lost(
        &mut self,
        now: Time,
        lost: TaskManagerId,
        cause: &str,
        out: &mut Effects,
    ) {
        self.rescaling.leave(lost, self.slots.of(lost));
        self.lose(now, lost, cause, out);
    }

    /// Slots of a worker that was given up stand in for no others, which the leader has to know: to it they are the job's.
    pub(super) fn refuse_slots(
        &mut self,
        worker: TaskManagerId,
        offered: Vec<AllocationId>,
        out: &mut Effects,
    ) {
        if self.rescaling.leave(worker, offered) && !self.status().is_terminal() {
            out.push(JobEffect::RequireSlots(self.slot_need()));
        }
    }

    /// All that ran on a TaskManager has ended, as one failure however many tasks and regions it hits. What was being
    /// stopped there has stopped.
    fn lose(&mut self, now: Time, lost: TaskManagerId, cause: &str, out: &mut Effects) {
        self.note_lost(lost);
        if !self.slots.remove(lost) {
            return;
        }
        let (mut failed, mut stopped) = (Vec::new(), None);
        for (execution, state) in self.running_at(lost) {
            let to = match state {
                TaskState::Canceling => TaskState::Canceled,
                _ => TaskState::Failed,
            };
            self.graph.report(execution, to, now);
            match to {
                TaskState::Failed => failed.push(execution),
                _ => stopped = Some(execution),
            }
        }
        self.fail_with(now, lost, (&failed, stopped, cause), out);
        let over = matches!(self.status(), JobStatus::Cancelling | JobStatus::Failing);
        if !over && !self.status().is_terminal() {
            self.require_slots(out);
        }
    }

    pub(super) fn running_at(&self, task_manager: TaskManagerId) -> Vec<(ExecutionId, TaskState)> {
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
        (failed, stopped, cause): (&[ExecutionId], Option<ExecutionId>, &str),
        out: &mut Effects,
    ) {
        // Others may have found out first and said no more than that they do not reach it.
        let Some(first) = failed.first().or(stopped.as_ref()) else {
            return self.settle(now, out);
        };
        let cause = TaskFailure {
            fault: Fault::External.into(),
            message: format!("the process of its worker {lost} is gone: {cause}"),
            operator: None,
            panicked: false,
            permanent: false,
            worker: Some(lost),
        };
        let failure = locate(&self.graph, *first, cause, self.after(now));
        let hit = failed
            .iter()
            .chain(stopped.as_ref().filter(|_| failed.is_empty()));
        let regions: BTreeSet<RegionId> = hit
            .filter_map(|execution| self.graph.region_of(execution.subtask))
            .collect();
        self.fail(now, failure, Hit::Regions(regions), out);
    }
}
