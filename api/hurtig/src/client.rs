//! The handle to a running job.

use crate::Error;
use hurtig_cluster::{
    CheckpointKind, CheckpointStatistics, ClusterError, ClusterHandle, FailureEntry, JobHandle,
    TakenCheckpoint,
};
use hurtig_core::accumulators::{Accumulator, AccumulatorValue, AccumulatorValues};
use hurtig_core::ids::JobId;
use hurtig_core::metrics::{MetricRegistry, MetricSample};
use hurtig_dataflow::chain::StopMode;
use hurtig_dataflow::graph::JobStatus;
use hurtig_storage::SavepointFormat;
use std::collections::BTreeMap;
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
    /// How often tasks of it were restarted after a failure.
    pub restarts: u32,
    /// Failures that led to that, oldest first, as many as `web.exception-history-size` says.
    pub exceptions: Vec<FailureEntry>,
}

impl JobResult {
    /// A sum of integers by its accumulator's name; 0 when nothing was added.
    pub fn long(&self, name: &str) -> i64 {
        match self.accumulators.get(name) {
            Some(AccumulatorValue::Long(sum)) => *sum,
            _ => 0,
        }
    }

    /// A sum of floating-point numbers by its accumulator's name; 0 when nothing was added.
    pub fn double(&self, name: &str) -> f64 {
        match self.accumulators.get(name) {
            Some(AccumulatorValue::Double(sum)) => *sum,
            _ => 0.0,
        }
    }

    /// A mean by its accumulator's name; `None` when nothing was added.
    pub fn average(&self, name: &str) -> Option<f64> {
        match self.accumulators.get(name) {
            Some(AccumulatorValue::Average { count, sum }) if *count > 0 => Some(sum / *count as f64),
            _ => None,
        }
    }

    /// How often each value was added to a histogram; empty when none was.
    pub fn histogram(&self, name: &str) -> BTreeMap<i64, u64> {
        match self.accumulators.get(name) {
            Some(AccumulatorValue::Histogram(counts)) => counts.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// An accumulator of the program, merged over all subtasks; its default when nothing was added.
    ///
    /// # Errors
    /// When the accumulator of that name is of another kind.
    pub fn accumulator<A: Accumulator>(&self, name: &str) -> Result<A, Error> {
        typed(&self.accumulators, name)
    }
}

fn typed<A: Accumulator>(values: &AccumulatorValues, name: &str) -> Result<A, Error> {
    let Some(value) = values.get(name) else {
        return Ok(A::default());
    };
    let decoded = value.custom();
    decoded.map_err(|error| Error::program(error.context(format!("accumulator '{name}'")).chain()))
}

/// A running job, as its client sees it. The job's cluster lives as long as this handle.
#[derive(Clone)]
pub struct JobClient {
    /// The job's own cluster, which ends with it.
    own_cluster: Option<ClusterHandle>,
    /// Shared by clones, so that the interrupt knows when the last one is gone.
    job: Arc<JobHandle>,
    parameters: BTreeMap<String, String>,
    metrics: MetricRegistry,
}

impl std::fmt::Debug for JobClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JobClient({} '{}')", self.job.id(), self.job.name())
    }
}

impl JobClient {
    pub(crate) fn new(
        own_cluster: Option<ClusterHandle>,
        job: JobHandle,
        parameters: BTreeMap<String, String>,
        metrics: MetricRegistry,
    ) -> Self {
        Self {
            own_cluster,
            job: Arc::new(job),
            parameters,
            metrics,
        }
    }

    pub(crate) fn job(&self) -> &Arc<JobHandle> {
        &self.job
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.job.id()
    }

    /// The job's name.
    pub fn name(&self) -> &str {
        self.job.name()
    }

    /// The program's own parameters that the job was started with.
    pub fn job_parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// The metrics of the job's operators as they are now, sorted by scope and name; those of its
    /// last attempt also after its end.
    pub fn metrics(&self) -> Vec<MetricSample> {
        self.metrics.samples()
    }

    /// The job's state.
    ///
    /// # Errors
    /// When the cluster has ended.
    pub async fn status(&self) -> Result<JobStatus, Error> {
        Ok(self.job.status().await?)
    }

    /// Gives all vertices this parallelism but those whose own the program sets; a source or sink that cannot have as many
    /// subtasks has as many as it can. The job takes a checkpoint and goes over to it, or to what fits into the slots that
    /// there are; without checkpoints it begins afresh. Returns when the job was told.
    ///
    /// # Errors
    /// When a vertex cannot have it; when the job or the cluster has ended.
    pub async fn rescale(&self, parallelism: u32) -> Result<(), Error> {
        Ok(self.job.rescale(parallelism).await?)
    }

    /// Ends the job without waiting for its input's end. Returns when it is accepted.
    ///
    /// # Errors
    /// When the job is over or the cluster has ended.
    pub async fn cancel(&self) -> Result<(), Error> {
        Ok(self.job.cancel().await?)
    }

    /// What failed in the job so far, oldest first: each failure that had consequences, with those that came while
    /// it was dealt with.
    ///
    /// # Errors
    /// When the job's cluster has ended.
    pub async fn exceptions(&self) -> Result<Vec<FailureEntry>, Error> {
        Ok(self.job.exceptions().await?)
    }

    /// What became of the job's checkpoints and savepoints so far: counts, the last ones with sizes and
    /// durations, the last failure with its cause.
    ///
    /// # Errors
    /// When the job or its cluster has ended.
    pub async fn checkpoint_statistics(&self) -> Result<CheckpointStatistics, Error> {
        Ok(self.job.checkpoint_statistics().await?)
    }

    /// Takes a savepoint into a new folder of the directory `dir` and returns that folder's whole path.
    /// Without `dir` it goes into `execution.checkpointing.savepoint-dir`. Returns when the savepoint can be
    /// restored after any failure, with `--restore PATH`.
    ///
    /// The savepoint is the caller's: Hurtig never deletes it, and its folder can be moved. Sinks commit what
    /// it holds with the next checkpoint.
    ///
    /// ```
    /// use hurtig::prelude::*;
    ///
    /// # fn main() -> Result<()> { tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().to_str();
    /// let env = StreamEnv::new();
    /// env.from_source(GeneratorSource::unbounded(|i| i % 10).rate(1_000), Watermarks::none())
    ///     .uid("numbers")
    ///     .key_by(|n| *n)
    ///     .count()
    ///     .uid("counts")
    ///     .discard();
    /// let job = env.execute_async("counts").await?;
    /// let savepoint = job.savepoint(dir).await?;
    /// let last = job.stop(dir, false).await?;
    /// assert_ne!(savepoint, last);
    /// # Ok(()) }) }
    /// ```
    ///
    /// # Errors
    /// Why the savepoint could not be taken; the job goes on all the same. When the job is over.
    ///
    /// # Cancel safety
    /// The savepoint is taken whether somebody waits for it or not.
    pub async fn savepoint(&self, dir: Option<&str>) -> Result<String, Error> {
        Ok(self.job.savepoint(dir.map(str::to_owned)).await?)
    }

    /// Stops the job with a savepoint and returns its path, as [`Self::savepoint`]: no record that the
    /// savepoint does not hold reaches a sink, and sinks have committed what it holds. A job that begins with
    /// the savepoint goes on without a gap.
    ///
    /// With `drain`, event time ends before the savepoint is taken, so that all timers and windows fire:
    /// for a job that will not go on. Without, none of them fires.
    ///
    /// # Errors
    /// Why the savepoint could not be taken: the job goes on, with `drain` from its latest checkpoint. When
    /// the job failed or was cancelled after the savepoint was complete, the error says where it is. When
    /// the job is over.
    ///
    /// # Cancel safety
    /// The job stops whether somebody waits for it or not.
    pub async fn stop(&self, dir: Option<&str>, drain: bool) -> Result<String, Error> {
        let mode = if drain { StopMode::Drain } else { StopMode::Suspend };
        Ok(self.job.stop(dir.map(str::to_owned), mode).await?)
    }

    /// As [`Self::savepoint`], in this format whatever `execution.checkpointing.savepoint-format` says.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn savepoint_as(&self, format: SavepointFormat, dir: Option<&str>) -> Result<String, Error> {
        Ok(self.job.savepoint_as(format, dir.map(str::to_owned)).await?)
    }

    /// As [`Self::stop`], with a savepoint in this format whatever `execution.checkpointing.savepoint-format` says.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn stop_as(
        &self,
        format: SavepointFormat,
        dir: Option<&str>,
        drain: bool,
    ) -> Result<String, Error> {
        let mode = if drain { StopMode::Drain } else { StopMode::Suspend };
        let dir = dir.map(str::to_owned);
        Ok(self.job.stop_as(format, dir, mode).await?)
    }

    /// Takes a checkpoint now, whatever the interval is, and returns its id and folder. Without an interval the job needs
    /// `execution.checkpointing.dir`. Returns when the checkpoint can be restored after any failure; sinks commit what
    /// it holds then.
    ///
    /// It is a checkpoint like any other: it belongs to the job, which deletes it when newer ones have taken its place. What is
    /// to be kept is a [`Self::savepoint`].
    ///
    /// ```
    /// use hurtig::CheckpointKind;
    /// use hurtig::prelude::*;
    ///
    /// # fn main() -> Result<()> { tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// # let dir = tempfile::tempdir()?;
    /// let env = StreamEnv::new();
    /// env.set("execution.checkpointing.dir", dir.path().to_str().unwrap())?;
    /// env.from_source(GeneratorSource::unbounded(|i| i % 10).rate(1_000), Watermarks::none())
    ///     .uid("numbers")
    ///     .key_by(|n| *n)
    ///     .count()
    ///     .uid("counts")
    ///     .discard();
    /// let job = env.execute_async("counts").await?;
    /// let checkpoint = job.checkpoint(CheckpointKind::Configured).await?;
    /// assert!(checkpoint.path.unwrap().ends_with("/chk-1"));
    /// job.cancel().await?;
    /// # Ok(()) }) }
    /// ```
    ///
    /// # Errors
    /// Why the checkpoint could not be taken. The job goes on, unless more checkpoints have failed than
    /// `execution.checkpointing.tolerable-failed-checkpoints` allows. When the job is over.
    ///
    /// # Cancel safety
    /// The checkpoint is taken whether somebody waits for it or not.
    pub async fn checkpoint(&self, kind: CheckpointKind) -> Result<TakenCheckpoint, Error> {
        Ok(self.job.checkpoint(kind).await?)
    }

    /// The accumulators as they are now.
    ///
    /// # Errors
    /// When the cluster has ended.
    pub async fn accumulators(&self) -> Result<AccumulatorValues, Error> {
        Ok(self.job.accumulators().await?)
    }

    /// An accumulator of the program as it is now.
    ///
    /// # Errors
    /// When the cluster has ended, or the accumulator of that name is of another kind.
    pub async fn accumulator<A: Accumulator>(&self, name: &str) -> Result<A, Error> {
        typed(&self.accumulators().await?, name)
    }

    /// Waits for the job's end, then for the end of its cluster if that is the job's own.
    ///
    /// # Errors
    /// When the job failed or was cancelled.
    pub async fn result(&self) -> Result<JobResult, Error> {
        let result = self.job.result().await?;
        let stopped = match &self.own_cluster {
            Some(cluster) => cluster.shutdown().await,
            None => Ok(()),
        };
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
                    exceptions: result.failures.clone(),
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
