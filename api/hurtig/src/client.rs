//! The handle to a running job.

use crate::Error;
use hurtig_cluster::{ClusterError, ClusterHandle, JobHandle};
use hurtig_core::accumulators::{AccumulatorValue, AccumulatorValues};
use hurtig_core::ids::JobId;
use hurtig_dataflow::graph::JobStatus;
use std::sync::Arc;
use std::time::Duration;

/// How a successful job ended.
#[derive(Clone, Debug)]
pub struct JobResult {
    /// The job.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// From submission to the end.
    pub duration: Duration,
    /// Accumulators, merged over all subtasks.
    pub accumulators: AccumulatorValues,
    /// How often it was restarted after a failure.
    pub restarts: u32,
}

impl JobResult {
    /// A sum of integers by its accumulator's name; 0 when nothing was added.
    pub fn long(&self, name: &str) -> i64 {
        match self.accumulators.get(name) {
            Some(AccumulatorValue::Long(sum)) => *sum,
            _ => 0,
        }
    }
}

/// A running job, as its client sees it. The job's cluster lives as long as this handle.
#[derive(Clone)]
pub struct JobClient {
    cluster: ClusterHandle,
    /// Shared by clones, so that the interrupt knows when the last one is gone.
    job: Arc<JobHandle>,
}

impl std::fmt::Debug for JobClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JobClient({} '{}')", self.job.id(), self.job.name())
    }
}

impl JobClient {
    pub(crate) fn new(cluster: ClusterHandle, job: JobHandle) -> Self {
        let job = Arc::new(job);
        Self { cluster, job }
    }

    pub(crate) fn job(&self) -> &Arc<JobHandle> {
        &self.job
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.job.id()
    }

    /// The job's state.
    ///
    /// # Errors
    /// When the cluster has ended.
    pub async fn status(&self) -> Result<JobStatus, Error> {
        Ok(self.job.status().await?)
    }

    /// Ends the job without waiting for its input's end. Returns when it is accepted.
    ///
    /// # Errors
    /// When the job is over or the cluster has ended.
    pub async fn cancel(&self) -> Result<(), Error> {
        Ok(self.job.cancel().await?)
    }

    /// The accumulators as they are now.
    ///
    /// # Errors
    /// When the cluster has ended.
    pub async fn accumulators(&self) -> Result<AccumulatorValues, Error> {
        Ok(self.job.accumulators().await?)
    }

    /// Waits for the job's end, then for the end of its cluster.
    ///
    /// # Errors
    /// When the job failed or was cancelled.
    pub async fn result(&self) -> Result<JobResult, Error> {
        let result = self.job.result().await?;
        let stopped = self.cluster.shutdown().await;
        let name = result.name.clone();
        match (result.status, &result.failure) {
            (JobStatus::Finished, _) => {
                stopped?;
                Ok(JobResult {
                    id: result.job,
                    name,
                    duration: result.duration,
                    accumulators: result.accumulators.clone(),
                    restarts: result.restarts,
                })
            }
            (JobStatus::Canceled, _) => Err(Error::JobCanceled { job: name }),
            (_, Some(failure)) => Err(Error::JobFailed {
                job: name,
                cause: failure.to_string(),
            }),
            (status, None) => Err(Error::JobFailed {
                job: name,
                cause: format!("it ended as {status}"),
            }),
        }
    }
}

impl From<ClusterError> for Error {
    fn from(error: ClusterError) -> Self {
        Self::Cluster(error.to_string())
    }
}
