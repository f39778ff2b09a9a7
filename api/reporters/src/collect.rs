//! All metrics of a cluster at one moment, from those who know them.

use crate::job::{of_availability, of_checkpoints};
use crate::machine::{of_machine, whole};
use crate::metric::{JobNames, Level, Metric};
use futures_util::future::{join, join_all};
use hurtig_cluster::process::{JobManagerHandle, Logs, MachineFacts, TaskManagers};
use hurtig_cluster::{CheckpointStatistics, ClusterError, JobOverview};
use hurtig_core::metrics::{MetricSample, MetricValue};
use hurtig_core::time::{Clock, Time};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long a JobMaster or a TaskManager may take to answer: shorter than those who scrape wait by themselves (10 s).
const PATIENCE: Duration = Duration::from_secs(4);
/// How long what was collected is told again: so many who ask at once do not multiply the questions.
const FRESH: Duration = Duration::from_millis(500);

/// All metrics of a cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Each of them.
    pub metrics: Vec<Metric>,
    /// TaskManagers that did not answer in time.
    pub silent_task_managers: u64,
    /// Jobs whose JobMasters did not answer in time.
    pub silent_jobs: u64,
    /// How long it took.
    pub took: Duration,
}

/// Asks a cluster for its metrics.
#[derive(Debug)]
pub struct Collector {
    jobmanager: JobManagerHandle,
    logs: Logs,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<(Time, Arc<Snapshot>)>>,
}

/// What a job's JobMaster says.
struct Told {
    job: JobOverview,
    samples: Result<Vec<MetricSample>, Silence>,
    checkpoints: Option<CheckpointStatistics>,
}

/// Why there are no samples of a job.
enum Silence {
    /// It has no JobMaster that could say anything.
    NotThere,
    /// Its JobMaster should have answered.
    Late,
}

impl Collector {
    /// Asks this jobmanager, whose own logs are `logs`.
    pub fn new(jobmanager: JobManagerHandle, logs: Logs, clock: Arc<dyn Clock>) -> Self {
        Self {
            jobmanager,
            logs,
            clock,
            last: Mutex::new(None),
        }
    }

    /// All metrics as they are now, or were half a second ago. Who does not answer within seconds is left out, and counted.
    ///
    /// # Errors
    /// When the jobmanager does not lead, or has ended.
    pub async fn collect(&self) -> Result<Arc<Snapshot>, ClusterError> {
        let mut last = self.last.lock().await;
        let now = self.clock.now();
        if let Some((at, snapshot)) = last.as_ref().filter(|(at, _)| now.since(*at) < FRESH) {
            tracing::trace!(?at, "told again");
            return Ok(Arc::clone(snapshot));
        }
        let mut snapshot = self.ask().await?;
        let end = self.clock.now();
        snapshot.took = end.since(now);
        let snapshot = Arc::new(snapshot);
        *last = Some((end, Arc::clone(&snapshot)));
        Ok(snapshot)
    }

    async fn ask(&self) -> Result<Snapshot, ClusterError> {
        let known = self.jobmanager.task_managers().await?;
        let jobs = self.jobmanager.cluster().jobs().await?;
        let running = jobs.into_iter().filter(|job| !job.status.is_globally_terminal());
        let running: Vec<JobOverview> = running.collect();
        let mut snapshot = Snapshot::default();
        let host = host_of(self.jobmanager.address()).to_owned();
        let own = self.own().await;
        let cluster = of_cluster(&known, running.len());
        let all = of_machine(&own).into_iter().chain(cluster);
        let variables = [("host", host.as_str())];
        snapshot
            .metrics
            .extend(all.map(|named| Metric::of_the_system(Level::JobManager, &variables, named)));
        let machines = known.all.iter().map(|one| self.machine(one.id));
        let told = running.into_iter().map(|job| self.job(job));
        let (machines, told) = join(join_all(machines), join_all(told)).await;
        for (task_manager, facts) in known.all.iter().zip(machines) {
            let id = task_manager.id.to_string();
            match facts {
                Some(facts) => snapshot.add_machine((&id, host_of(&task_manager.address)), &facts),
                None => snapshot.silent_task_managers += 1,
            }
        }
        let hosts = known.all.iter();
        let hosts = hosts.map(|one| (one.id.to_string(), host_of(&one.address).to_owned()));
        let hosts: BTreeMap<String, String> = hosts.collect();
        let now = self.clock.wall_ms();
        told.into_iter()
            .for_each(|told| snapshot.add_job(told, (&host, &hosts), now));
        Ok(snapshot)
    }

    /// What this process uses.
    async fn own(&self) -> MachineFacts {
        let logs = self.logs.clone();
        let read = tokio::task::spawn_blocking(move || MachineFacts::read(&logs)).await;
        read.inspect_err(|error| tracing::warn!(%error, "the jobmanager's own process cannot be looked at"))
            .unwrap_or_default()
    }

    async fn machine(&self, id: hurtig_core::ids::TaskManagerId) -> Option<MachineFacts> {
        let asked = tokio::time::timeout(PATIENCE, self.jobmanager.machine(id)).await;
        asked.ok()?.ok()
    }

    async fn job(&self, job: JobOverview) -> Told {
        let (cluster, id) = (self.jobmanager.cluster(), job.job);
        let samples = tokio::time::timeout(PATIENCE, cluster.job_metrics(id));
        let checkpoints = tokio::time::timeout(PATIENCE, cluster.job_checkpoints(id));
        let (samples, checkpoints) = join(samples, checkpoints).await;
        let samples = match samples {
            Ok(Ok(samples)) => Ok(samples),
            Ok(Err(ClusterError::NoMaster(_) | ClusterError::UnknownJob(_))) => Err(Silence::NotThere),
            Ok(Err(_)) | Err(_) => Err(Silence::Late),
        };
        Told {
            job,
            samples,
            checkpoints: checkpoints.ok().and_then(Result::ok),
        }
    }
}

impl Snapshot {
    fn add_machine(&mut self, (id, host): (&str, &str), facts: &MachineFacts) {
        let variables = [("host", host), ("tm_id", id)];
        let all = of_machine(facts).into_iter();
        let all = all.map(|named| Metric::of_the_system(Level::TaskManager, &variables, named));
        self.metrics.extend(all);
    }

    fn add_job(&mut self, told: Told, (host, hosts): (&str, &BTreeMap<String, String>), now_ms: i64) {
        let id = told.job.job.to_string();
        let name = told.job.name.clone();
        let variables = [("host", host), ("job_id", &id), ("job_name", &name)];
        let checkpoints = told.checkpoints.as_ref().map(of_checkpoints);
        let known = of_availability(&told.job, now_ms)
            .into_iter()
            .chain(checkpoints.unwrap_or_default());
        self.metrics
            .extend(known.map(|named| Metric::of_the_system(Level::JobManagerJob, &variables, named)));
        let names = JobNames { id: &id, name: &name };
        let host_of = |id: &str| hosts.get(id).cloned();
        match told.samples {
            Ok(samples) => {
                let all = samples.into_iter();
                let all = all.filter_map(|sample| Metric::of_a_job(names, sample, (host, &host_of)));
                self.metrics.extend(all);
            }
            Err(Silence::NotThere) => {}
            Err(Silence::Late) => self.silent_jobs += 1,
        }
    }
}

/// What the jobmanager knows of its cluster.
fn of_cluster(known: &TaskManagers, running: usize) -> [(String, MetricValue); 4] {
    [
        ("numRegisteredTaskManagers", known.all.len() as u64),
        ("taskSlotsTotal", known.slots.into()),
        ("taskSlotsAvailable", known.free.into()),
        ("numRunningJobs", running as u64),
    ]
    .map(|(name, number)| (name.to_owned(), whole(number)))
}

/// The host of an address, as it is known to those who speak to it.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::JobId;
    use hurtig_core::metrics::MetricScope;
    use hurtig_dataflow::graph::JobStatus;

    #[test]
    fn hosts_are_what_stands_before_the_port() {
        assert_eq!(host_of("127.0.0.1:80"), "127.0.0.1");
        assert_eq!(host_of("[::1]:80"), "::1");
        assert_eq!(host_of("there"), "there");
    }

    #[test]
    fn a_job_that_does_not_answer_is_told_of_and_counted() {
        let job = JobOverview {
            job: JobId::from_u128(1),
            name: "clicks".to_owned(),
            status: JobStatus::Running,
            entered: [(JobStatus::Running, 5)].into(),
            start_ms: 0,
            end_ms: None,
        };
        let told = |samples| Told {
            job: job.clone(),
            samples,
            checkpoints: None,
        };
        let mut snapshot = Snapshot::default();
        let hosts = BTreeMap::from([("m".to_owned(), "there".to_owned())]);
        snapshot.add_job(told(Err(Silence::NotThere)), ("here", &hosts), 10);
        assert_eq!(snapshot.silent_jobs, 0);
        let known = snapshot.metrics.len();
        assert!(snapshot.metrics.iter().any(|one| one.name == "uptime"));
        snapshot.add_job(told(Err(Silence::Late)), ("here", &hosts), 10);
        assert_eq!((snapshot.silent_jobs, snapshot.metrics.len()), (1, 2 * known));
        let at = |id: &str| MetricSample {
            scope: MetricScope::root().child("job", "clicks").at_task_manager(id),
            name: "x".to_owned(),
            value: MetricValue::Counter(1),
        };
        let samples = Ok(vec![at("m"), at("left")]);
        snapshot.add_job(told(samples), ("here", &hosts), 10);
        assert_eq!(
            snapshot.metrics.len(),
            3 * known + 1,
            "a TaskManager that has left"
        );
    }
}
