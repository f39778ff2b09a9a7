//! What follows when processes of a job end: by themselves, with their TaskManager, or because the job is over.

use super::launch::{ProcessExit, ProcessId};
use super::placement::{Cx, ProcessEvent, event};
use crate::dispatcher::DispatcherCall;
use crate::messages::{JobMasterMessage, ResourceManagerMessage};
use crate::resource_manager::ResourceManager;
use hurtig_core::ids::{JobId, TaskManagerId};
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

/// How long the processes of a job that is over may take to end by themselves.
const GRACE: Duration = Duration::from_secs(10);
/// A worker that ended so soon after its start is not replaced at once.
const SOON: Duration = Duration::from_secs(2);
/// But after this.
const PAUSE: Duration = Duration::from_secs(1);

impl ResourceManager {
    /// Whoever runs it reports its end, which frees its slots.
    pub(super) fn end_worker(&mut self, job: JobId, worker: TaskManagerId, cx: Cx<'_, '_>) {
        let Some(placement) = &self.placement else { return };
        let Some(known) = placement.jobs.get(&job) else {
            return;
        };
        let process = ProcessId::Worker {
            job,
            epoch: known.epoch,
            worker,
        };
        if let Some(at) = known.workers.get(&worker).map(|worker| worker.at) {
            tracing::info!(%process, "its JobMaster does not need it, or does not reach it; it is ended");
            placement.end_process(at, process, cx);
        }
    }

    /// Ends what is left of an epoch; what belongs to the next one waits for that.
    pub(super) fn clear(&mut self, job: JobId, epoch: NonZeroU64, cx: Cx<'_, '_>) {
        let Some(placement) = &mut self.placement else {
            return;
        };
        let cleared = placement.end_processes(job, epoch);
        if let Some(known) = placement.jobs.get_mut(&job) {
            known.clearing = true;
            known.settling = None;
            known.master_at = None;
            known.master = None;
            known.workers.clear();
        }
        cx.drive(cleared, move |_| event(ProcessEvent::Cleared(job, epoch)));
        // Slots are taken away now and granted to the next epoch, which comes later.
        self.decide(ResourceManagerMessage::Release { job }, cx);
    }

    pub(super) fn on_cleared(&mut self, job: JobId, epoch: NonZeroU64, cx: Cx<'_, '_>) {
        let Some(placement) = &mut self.placement else {
            return;
        };
        let Some(known) = placement.jobs.get_mut(&job) else {
            return;
        };
        known.clearing = false;
        if known.over && known.epoch <= epoch {
            placement.jobs.remove(&job);
            return;
        }
        placement.place_masters(cx);
    }

    /// Its processes end by themselves. Who does not is ended.
    pub(super) fn on_job_ended(&mut self, job: JobId, epoch: NonZeroU64, cx: Cx<'_, '_>) {
        let Some(known) = self.job(job) else { return };
        (known.over, known.settling) = (true, None);
        cx.after(GRACE, event(ProcessEvent::Expired(job, epoch)));
        self.decide(ResourceManagerMessage::Release { job }, cx);
    }

    pub(super) fn on_ended(&mut self, process: ProcessId, exit: &ProcessExit, cx: Cx<'_, '_>) {
        let job = process.job();
        let Some(placement) = &mut self.placement else {
            return;
        };
        match process {
            ProcessId::JobMaster { job, epoch } => {
                let cause = exit.to_string();
                placement.tell_dispatcher(DispatcherCall::MasterEnded { job, epoch, cause });
            }
            ProcessId::Worker { worker, .. } => {
                let Some(known) = placement.jobs.get_mut(&job) else {
                    return;
                };
                let Some(ended) = known.workers.remove(&worker) else {
                    return;
                };
                tracing::warn!(%process, %exit, "ended");
                let (task_manager, cause) = (worker, exit.to_string());
                placement.tell_master(job, JobMasterMessage::WorkerEnded { task_manager, cause });
                let freed = ProcessEvent::Freed(ended.at, job, ended.allocations);
                if cx.now().since(ended.since) < SOON {
                    cx.after(PAUSE, event(freed));
                } else {
                    self.on_process_event(freed, cx);
                }
            }
        }
    }

    pub(super) fn on_lost(&mut self, lost: TaskManagerId, cause: &str, cx: Cx<'_, '_>) {
        let Some(placement) = &mut self.placement else {
            return;
        };
        if placement.starters.remove(&lost).is_none() {
            return;
        }
        tracing::warn!(task_manager = %lost, cause, "lost");
        let cause = format!("its TaskManager {lost} is gone: {cause}");
        let mut ended = Vec::new();
        for (job, known) in &mut placement.jobs {
            let (job, epoch) = (*job, known.epoch);
            if known.master_at == Some(lost) {
                ended.push((job, epoch));
            }
            let there = known.workers.iter().filter(|(_, worker)| worker.at == lost);
            let there: BTreeSet<TaskManagerId> = there.map(|(worker, _)| *worker).collect();
            known.workers.retain(|worker, _| !there.contains(worker));
            if let Some((_, master)) = &known.master {
                for task_manager in there {
                    let cause = cause.clone();
                    // A JobMaster that cannot be told is gone too, or sees it by itself.
                    let _ = master.tell(JobMasterMessage::TaskManagerLost { task_manager, cause }.into());
                }
            }
        }
        for (job, epoch) in ended {
            let cause = cause.clone();
            placement.tell_dispatcher(DispatcherCall::MasterEnded { job, epoch, cause });
        }
        self.decide(ResourceManagerMessage::Lost { task_manager: lost }, cx);
    }
}
