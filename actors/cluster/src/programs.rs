//! The code of the jobs that run in this process. Messages carry none: who needs it looks here, by the job's id.

use hurtig_core::ids::JobId;
use hurtig_task::interface::TaskFactory;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Programs by the job that they run. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Programs(Arc<Mutex<BTreeMap<JobId, Arc<dyn TaskFactory>>>>);

impl Programs {
    /// The only program of a process that was started for one job.
    pub(crate) fn of(job: JobId, factory: Arc<dyn TaskFactory>) -> Self {
        let programs = Self::default();
        programs.insert(job, factory);
        programs
    }

    pub(crate) fn insert(&self, job: JobId, factory: Arc<dyn TaskFactory>) {
        self.lock().insert(job, factory);
    }

    pub(crate) fn get(&self, job: JobId) -> Option<Arc<dyn TaskFactory>> {
        self.lock().get(&job).cloned()
    }

    /// The job is over: who still runs its tasks has the program already.
    pub(crate) fn remove(&self, job: JobId) {
        // Dropped outside of the lock: what a program holds is the user's.
        let removed = self.lock().remove(&job);
        drop(removed);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<dyn TaskFactory>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}
