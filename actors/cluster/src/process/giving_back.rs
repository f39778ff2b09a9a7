//! Slots that a JobMaster does not need any more.

use crate::resource_manager::ResourceManager;
use hurtig_core::ids::{AllocationId, JobId};
use hurtig_kit::ShellCx;

impl ResourceManager {
    /// A JobMaster has given slots back. A worker that has none left is ended, which frees those that it had; others go on
    /// without.
    pub(super) fn take_slots_back(
        &mut self,
        job: JobId,
        returned: &[AllocationId],
        cx: &mut ShellCx<'_, Self>,
    ) {
        let Some(known) = self.job(job) else { return };
        known.returned = returned.iter().copied().collect();
        let (mut useless, mut freed) = (Vec::new(), Vec::new());
        for (id, worker) in &mut known.workers {
            if worker.allocations.iter().all(|slot| returned.contains(slot)) {
                useless.push(*id);
                continue;
            }
            let gone = worker.allocations.extract_if(.., |slot| returned.contains(slot));
            freed.extend(gone);
        }
        self.brain.give_back(job, &freed);
        for worker in useless {
            self.end_worker(job, worker, cx);
        }
    }
}
