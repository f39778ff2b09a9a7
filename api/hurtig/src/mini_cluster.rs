//! A cluster in this process that many programs share, for tests of programs that run side by side.

use crate::{Error, StreamEnv};
use hurtig_cluster::gateway::DispatcherGateway;
use hurtig_cluster::{ClusterHandle, EmbeddedCluster, JobOverview};
use hurtig_core::config::{Configuration, options};

/// An embedded cluster that outlives its jobs. Programs run on it that were built with [`MiniCluster::env`]; a
/// program whose jobs need more slots than are free waits for them.
///
/// ```
/// use hurtig::prelude::*;
/// use hurtig::testing::MiniCluster;
///
/// # fn main() -> Result<()> { tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let cluster = MiniCluster::start(2)?;
/// let endless = cluster.env();
/// endless.from_source(GeneratorSource::unbounded(|i| i).rate(100), Watermarks::none()).discard();
/// let endless = endless.execute_async("endless").await?;
///
/// let env = cluster.env();
/// let doubled = env.from_sequence(1, 3).map(|n| 2 * n);
/// assert_eq!(doubled.execute_and_collect("short").await?, [2, 4, 6]);
///
/// endless.cancel().await?;
/// cluster.shutdown().await?;
/// # Ok(()) }) }
/// ```
#[derive(Clone, Debug)]
pub struct MiniCluster {
    config: Configuration,
    handle: ClusterHandle,
}

impl MiniCluster {
    /// Starts a cluster with so many slots, whose programs have parallelism 1 unless they set another.
    ///
    /// # Errors
    /// When there are no slots, or its thread cannot be started.
    pub fn start(slots: u32) -> Result<Self, Error> {
        let slots = format!("{}={slots}", options::TASK_SLOTS.key());
        let parallelism = format!("{}=1", options::PARALLELISM_DEFAULT.key());
        let config = Configuration::builder()
            .definitions(&[slots, parallelism])
            .build();
        Self::with_config(config.map_err(|error| Error::Config(error.to_string()))?)
    }

    /// Starts a cluster with the given settings, which are also those of its programs.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn with_config(config: Configuration) -> Result<Self, Error> {
        let handle = EmbeddedCluster::start(crate::settings::cluster_config(&config)?)?;
        Ok(Self { config, handle })
    }

    /// A new program, which will run on this cluster.
    pub fn env(&self) -> StreamEnv {
        StreamEnv::on_cluster(self.config.clone(), self.handle.clone())
    }

    /// Its Dispatcher, for actors: it takes the messages of [`hurtig_cluster::gateway`], such as [`StreamEnv::submission`] makes one.
    pub fn dispatcher(&self) -> actix::Addr<DispatcherGateway> {
        self.handle.dispatcher()
    }

    /// The jobs that run and those that ended lately.
    ///
    /// # Errors
    /// When the cluster has ended.
    pub async fn jobs(&self) -> Result<Vec<JobOverview>, Error> {
        Ok(self.handle.jobs().await?)
    }

    /// Cancels every job, waits for their ends, then ends the cluster.
    ///
    /// # Errors
    /// When tasks could not be stopped, or the cluster had failed before.
    pub async fn shutdown(self) -> Result<(), Error> {
        Ok(self.handle.shutdown().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::GeneratorSource;
    use hurtig_dataflow::graph::JobStatus;
    use hurtig_dataflow::operators::Watermarks;

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(test)
    }

    fn endless(cluster: &MiniCluster) -> StreamEnv {
        let env = cluster.env();
        env.from_source(GeneratorSource::unbounded(|i| i).rate(100), Watermarks::none())
            .discard();
        env
    }

    #[test]
    fn jobs_share_the_cluster_and_it_outlives_them() {
        run(async {
            let cluster = MiniCluster::start(2).unwrap();
            let job = endless(&cluster).execute_async("endless").await.unwrap();
            for round in 1..4_i64 {
                let env = cluster.env();
                let numbers = env.from_sequence(1, round);
                let numbers = numbers.execute_and_collect("short").await.unwrap();
                assert_eq!(numbers, (1..=round).collect::<Vec<_>>());
            }
            assert_eq!(job.status().await.unwrap(), JobStatus::Running);
            let mut jobs = cluster.jobs().await.unwrap();
            jobs.sort_by(|a, b| a.name.cmp(&b.name));
            let names: Vec<&str> = jobs.iter().map(|job| &*job.name).collect();
            assert_eq!(names, ["endless", "short", "short", "short"]);
            cluster.shutdown().await.unwrap();
            assert!(job.result().await.is_err());
        });
    }

    #[test]
    fn a_job_waits_for_the_slots_of_another() {
        run(async {
            let cluster = MiniCluster::start(1).unwrap();
            let first = endless(&cluster).execute_async("first").await.unwrap();
            while first.status().await.unwrap() != JobStatus::Running {}
            let env = cluster.env();
            env.from_sequence(1, 3).discard();
            let second = env.execute_async("second").await.unwrap();
            assert_ne!(second.status().await.unwrap(), JobStatus::Finished);
            first.cancel().await.unwrap();
            second.result().await.unwrap();
            cluster.shutdown().await.unwrap();
        });
    }

    #[test]
    fn no_slots_are_refused() {
        let error = MiniCluster::start(0).unwrap_err().to_string();
        assert!(error.contains("taskmanager.numberOfTaskSlots"), "{error}");
    }
}
