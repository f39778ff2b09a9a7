//! What clients ask of a jobmanager that has to be in the store before they are answered, and what has come of it.

use super::job_manager::JobManagerHandle;
use crate::dispatcher::{DispatcherCall, DispatcherInput, Durable};
use crate::error::ClusterError;
use hurtig_core::ids::JobId;
use hurtig_ha::records::{
    ArtifactRecord, DisposalRecord, Failure, Intent, IntentOutcome, IntentRecord, JobIntent,
};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

/// How checkpoints are asked for: their trigger ids are others than those of savepoints.
const CHECKPOINT: &str = "checkpoint-";

/// Which requests a trigger id is looked for among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Savepoints, and stops with one.
    Savepoints,
    /// Checkpoints.
    Checkpoints,
}

impl Family {
    fn of(intent: &Intent) -> Option<Self> {
        match intent {
            Intent::Savepoint { .. } | Intent::Stop { .. } => Some(Self::Savepoints),
            Intent::Checkpoint { .. } => Some(Self::Checkpoints),
            Intent::Cancel | Intent::Rescale { .. } | Intent::Unknown => None,
        }
    }

    fn name(self, trigger: &str) -> String {
        match self {
            Self::Savepoints => trigger.to_owned(),
            Self::Checkpoints => format!("{CHECKPOINT}{trigger}"),
        }
    }
}

/// Why the store was not read or written.
fn unavailable(failure: impl fmt::Display) -> ClusterError {
    ClusterError::Unavailable(failure.to_string())
}

impl JobManagerHandle {
    /// Whether it leads and may not decide at the moment, because the store has not confirmed in time that it does.
    pub fn is_suspended(&self) -> bool {
        let durable = self.durable_here().borrow();
        durable.as_ref().is_some_and(Durable::is_suspended)
    }

    /// Asks something of a job. When this returns it is in the store: whoever runs or recovers the job does it, once. The same trigger id again is
    /// the same request, whether it is done or not.
    ///
    /// # Errors
    /// When the job is not known or has ended, or it cannot be written down.
    pub async fn ask_job(&self, job: JobId, trigger: &str, intent: Intent) -> Result<(), ClusterError> {
        let Some(family) = Family::of(&intent) else {
            return Err(ClusterError::NotRecorded {
                job,
                cause: format!("{intent:?} is not asked for so"),
            });
        };
        let asked = JobIntent {
            trigger: family.name(trigger),
            intent,
            asked_ms: self.wall_ms(),
        };
        let question = move |reply| DispatcherInput::Processes(DispatcherCall::Intend(job, asked, reply));
        self.cluster().wait(question).await
    }

    /// What was asked of a job under a trigger id, and what has come of it; without an outcome, it is under way. `None`: nothing was asked, or it is
    /// forgotten.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn asked(
        &self,
        job: JobId,
        (family, trigger): (Family, &str),
    ) -> Result<Option<(IntentRecord, Option<IntentOutcome>)>, ClusterError> {
        let name = family.name(trigger);
        let asked = self.with(move |durable| async move { durable.asked(job, &name).await });
        let asked = asked.await?.map_err(unavailable)?;
        Ok(asked.filter(|(record, _)| Family::of(&record.intent) == Some(family)))
    }

    /// An artifact whose bytes were stored is there for every leader when this returns.
    ///
    /// # Errors
    /// When it cannot be written down, or its bytes were collected meanwhile.
    pub async fn add_artifact(&self, id: String, artifact: ArtifactRecord) -> Result<(), ClusterError> {
        let added = self.with(move |durable| async move { durable.add_artifact(&id, &artifact).await });
        added.await?.map_err(unavailable)
    }

    /// Forgets an artifact; whether there was one. Jobs that run from it run on.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub async fn remove_artifact(&self, id: String) -> Result<bool, ClusterError> {
        let removed = self.with(move |durable| async move { durable.remove_artifact(&id).await });
        removed.await?.map_err(unavailable)
    }

    /// The artifacts that were uploaded, by their ids.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn artifacts(&self) -> Result<BTreeMap<String, ArtifactRecord>, ClusterError> {
        let all = self.with(|durable| async move { durable.artifacts().await });
        all.await?.map_err(unavailable)
    }

    /// Has a savepoint deleted. When this returns that is in the store: a leader that follows does it if this one does not. Returns the trigger id.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn dispose(&self, path: String) -> Result<String, ClusterError> {
        let clock = self.clock();
        let intended = self.with(move |durable| async move {
            let trigger = durable.intend_disposal(&path, clock.wall_ms()).await?;
            let (of, deleted) = (trigger.clone(), (path, false));
            actix::spawn(async move { durable.dispose(&of, deleted, &|| clock.wall_ms()).await });
            Ok(trigger)
        });
        intended
            .await?
            .map_err(|error: crate::dispatcher::NotWritten| unavailable(error))
    }

    /// What has come of a disposal; `None`: nobody has asked for it, or it is forgotten.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn disposal(&self, trigger: &str) -> Result<Option<DisposalRecord>, ClusterError> {
        let trigger = trigger.to_owned();
        let asked = self.with(move |durable| async move { durable.disposal(&trigger).await });
        asked.await?.map_err(|failure: Failure| unavailable(failure))
    }

    /// Does something with the records, on the cluster's own thread.
    async fn with<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        work: impl FnOnce(Durable) -> F + Send + 'static,
    ) -> Result<T, ClusterError> {
        let durable = self.durable_here().borrow().clone();
        let durable = durable.ok_or_else(ClusterError::nobody_leads_here)?;
        let done = self.cluster().there_with(move || work(durable)).await;
        done.ok_or(ClusterError::ShutDown)
    }
}
