//! The Dispatcher's brain: which jobs there are, and what may be done with them.

use crate::error::ClusterError;
use crate::messages::DispatcherMessage;
use crate::result::{JobDetail, JobOverview, JobResult};
use hurtig_core::ids::JobId;
use hurtig_dataflow::graph::{JobGraph, JobStatus};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What reaches a Dispatcher.
#[derive(Clone, Debug, PartialEq)]
pub enum DispatcherEvent {
    /// From a JobMaster.
    Message(DispatcherMessage),
    /// Somebody wants a job to end.
    Cancel(JobId),
    /// The cluster ends: all jobs are cancelled, none is accepted.
    ShutDown,
}

/// What a Dispatcher wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum DispatcherEffect {
    /// Have a JobMaster cancel its job.
    CancelJob(JobId),
    /// Answer everyone who waits for this job's result.
    Publish(Arc<JobResult>),
    /// No job is left, and none will come.
    AllEnded,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submission {
    /// New: start its JobMaster.
    Accepted,
    /// The same job was submitted before; it runs, or has ended.
    Known,
}

/// A job that runs.
#[derive(Clone, Debug)]
struct Running {
    graph: Arc<JobGraph>,
    status: JobStatus,
    times: Times,
}

impl Running {
    fn new(graph: Arc<JobGraph>, status: JobStatus) -> Self {
        let times = Times::default();
        Self { graph, status, times }
    }
}

/// When a job entered its states, in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Times {
    start: i64,
    entered: BTreeMap<JobStatus, i64>,
}

/// A job that has ended.
#[derive(Clone, Debug)]
struct Archived {
    graph: Arc<JobGraph>,
    result: Arc<JobResult>,
    times: Times,
}

/// The jobs of a cluster.
#[derive(Clone, Debug)]
pub struct DispatcherBrain {
    running: BTreeMap<JobId, Running>,
    archive: VecDeque<Archived>,
    max_jobs: usize,
    archive_capacity: usize,
    /// Whether jobs go on when the cluster was shut down and is started again.
    outlive: bool,
    shutting_down: bool,
}

impl DispatcherBrain {
    /// A Dispatcher without jobs, for at most `max_jobs` at once, that remembers `archive_capacity`
    /// ended ones.
    pub fn new(max_jobs: usize, archive_capacity: usize) -> Self {
        let (running, archive) = (BTreeMap::new(), VecDeque::new());
        Self {
            running,
            archive,
            max_jobs,
            archive_capacity: archive_capacity.max(1),
            outlive: false,
            shutting_down: false,
        }
    }

    /// Jobs go on when the cluster is started again.
    pub(super) fn jobs_outlive_the_cluster(&mut self) {
        self.outlive = true;
    }

    /// A job of an earlier term goes on, in this state. It was submitted at the first of the times, and the second one is now.
    pub(super) fn inherit(&mut self, graph: Arc<JobGraph>, status: JobStatus, (submitted, now): (i64, i64)) {
        let mut running = Running::new(graph, status);
        running.times.start = submitted;
        running.times.entered = [(JobStatus::Initializing, submitted), (status, now)].into();
        self.running.insert(running.graph.id, running);
    }

    /// A job has ended in an earlier term. Oldest first.
    pub(super) fn inherit_ended(&mut self, graph: Arc<JobGraph>, result: Arc<JobResult>, times: Times) {
        self.keep(Archived { graph, result, times });
    }

    /// A job that was accepted could not be written down: it was never there.
    pub(super) fn withdraw(&mut self, job: JobId) {
        self.running.remove(&job);
    }

    /// How a job that runs would be remembered if it ended now.
    pub(super) fn times_of(
        &self,
        job: JobId,
        status: JobStatus,
        wall_ms: i64,
    ) -> Option<(&Arc<JobGraph>, Times)> {
        let running = self.running.get(&job)?;
        let mut times = running.times.clone();
        times.entered.insert(status, wall_ms);
        Some((&running.graph, times))
    }

    /// Forgets the oldest ended job beyond what is remembered.
    fn keep(&mut self, archived: Archived) {
        if self.archive.len() == self.archive_capacity {
            self.archive.pop_front();
        }
        self.archive.push_back(archived);
    }

    /// The job that is forgotten when one more ends.
    pub(super) fn oldest_ended(&self) -> Option<JobId> {
        let full = self.archive.len() == self.archive_capacity;
        self.archive
            .front()
            .filter(|_| full)
            .map(|oldest| oldest.result.job)
    }

    /// A job is submitted. Idempotent: the same id with the same graph is the same job.
    ///
    /// # Errors
    /// When the id belongs to another job, or none can be accepted.
    pub fn submit(&mut self, graph: Arc<JobGraph>) -> Result<Submission, ClusterError> {
        let job = graph.id;
        let running = self.running.get(&job).map(|known| &known.graph);
        match running.or_else(|| self.archived(job).map(|known| &known.graph)) {
            Some(known) if **known == *graph => return Ok(Submission::Known),
            Some(_) => return Err(ClusterError::Conflict(job)),
            None => {}
        }
        if self.shutting_down {
            return Err(ClusterError::ShutDown);
        }
        if self.running.len() >= self.max_jobs {
            return Err(ClusterError::TooManyJobs(self.max_jobs));
        }
        self.running
            .insert(job, Running::new(graph, JobStatus::Initializing));
        Ok(Submission::Accepted)
    }

    /// When a job was submitted that was accepted.
    pub fn note_start(&mut self, job: JobId, wall_ms: i64) {
        if let Some(running) = self.running.get_mut(&job) {
            running.times.start = wall_ms;
            running.times.entered.insert(running.status, wall_ms);
        }
    }

    /// What is known here of a job that runs, or of one that ended not too long ago.
    ///
    /// # Errors
    /// When it is not known.
    pub fn detail(&self, job: JobId) -> Result<JobDetail, ClusterError> {
        if let Some(running) = self.running.get(&job) {
            return Ok(JobDetail {
                overview: overview(job, &running.graph, running.status, &running.times),
                graph: running.graph.clone(),
                vertices: Vec::new(),
            });
        }
        let ended = self.archived(job).ok_or(ClusterError::UnknownJob(job))?;
        let mut detail = JobDetail {
            overview: overview(job, &ended.graph, ended.result.status, &ended.times),
            graph: ended.graph.clone(),
            vertices: ended.result.vertices.clone(),
        };
        detail.scale_graph();
        Ok(detail)
    }

    /// The state of a job that runs, or of one that ended not too long ago.
    ///
    /// # Errors
    /// When it is not known.
    pub fn status(&self, job: JobId) -> Result<JobStatus, ClusterError> {
        let running = self.running.get(&job).map(|running| running.status);
        let status = running.or_else(|| self.result(job).map(|result| result.status));
        status.ok_or(ClusterError::UnknownJob(job))
    }

    /// How a job ended; `None` while it runs, or when it is not known.
    pub fn result(&self, job: JobId) -> Option<&Arc<JobResult>> {
        self.archived(job).map(|archived| &archived.result)
    }

    /// All jobs: the running ones, then those that ended, oldest first.
    pub fn jobs(&self) -> Vec<JobOverview> {
        let running = self
            .running
            .iter()
            .map(|(job, running)| overview(*job, &running.graph, running.status, &running.times));
        let ended = self
            .archive
            .iter()
            .map(|one| overview(one.result.job, &one.graph, one.result.status, &one.times));
        running.chain(ended).collect()
    }

    /// Decides what an event leads to that comes at this time of day.
    ///
    /// # Errors
    /// When a job cannot be cancelled.
    pub fn handle(
        &mut self,
        wall_ms: i64,
        event: DispatcherEvent,
        out: &mut Vec<DispatcherEffect>,
    ) -> Result<(), ClusterError> {
        match event {
            DispatcherEvent::Message(DispatcherMessage::JobStatusChanged { job, status }) => {
                // A job is over when its result is here: until then nobody could be told how it ended.
                if let Some(running) = self.running.get_mut(&job)
                    && !status.is_globally_terminal()
                {
                    running.status = status;
                    running.times.entered.insert(status, wall_ms);
                }
            }
            DispatcherEvent::Message(DispatcherMessage::JobEnded(result)) => self.end(wall_ms, *result, out),
            DispatcherEvent::Cancel(job) => self.cancel(job, out)?,
            DispatcherEvent::ShutDown => self.shut_down(out),
        }
        Ok(())
    }

    fn archived(&self, job: JobId) -> Option<&Archived> {
        self.archive.iter().find(|archived| archived.result.job == job)
    }

    fn end(&mut self, wall_ms: i64, result: JobResult, out: &mut Vec<DispatcherEffect>) {
        let Some(running) = self.running.remove(&result.job) else {
            return;
        };
        let mut times = running.times;
        times.entered.insert(result.status, wall_ms);
        let result = Arc::new(result);
        self.keep(Archived {
            graph: running.graph,
            result: result.clone(),
            times,
        });
        out.push(DispatcherEffect::Publish(result));
        self.finish_shut_down(out);
    }

    fn cancel(&self, job: JobId, out: &mut Vec<DispatcherEffect>) -> Result<(), ClusterError> {
        if self.running.contains_key(&job) {
            out.push(DispatcherEffect::CancelJob(job));
            return Ok(());
        }
        Err(ClusterError::Ended {
            job,
            status: self.status(job)?,
        })
    }

    fn shut_down(&mut self, out: &mut Vec<DispatcherEffect>) {
        self.shutting_down = true;
        if self.outlive {
            return out.push(DispatcherEffect::AllEnded);
        }
        out.extend(self.running.keys().map(|job| DispatcherEffect::CancelJob(*job)));
        self.finish_shut_down(out);
    }

    fn finish_shut_down(&self, out: &mut Vec<DispatcherEffect>) {
        if self.shutting_down && self.running.is_empty() {
            out.push(DispatcherEffect::AllEnded);
        }
    }
}

fn overview(job: JobId, graph: &JobGraph, status: JobStatus, times: &Times) -> JobOverview {
    let end = times.entered.get(&status).copied();
    JobOverview {
        job,
        name: graph.name.clone(),
        status,
        entered: times.entered.clone(),
        start_ms: times.start,
        end_ms: end.filter(|_| status.is_globally_terminal()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::graph::{GraphSettings, NodeKind, StreamEdge, StreamGraph, StreamNode};

    fn graph(job: u128, name: &str) -> Arc<JobGraph> {
        let mut graph = StreamGraph::new();
        let source = graph.add_node(StreamNode::new("source", "Source", NodeKind::Source));
        let sink = graph.add_node(StreamNode::new("sink", "Sink", NodeKind::Sink));
        graph.add_edge(StreamEdge::new(source, sink));
        let settings = GraphSettings {
            job_name: name.to_owned(),
            ..GraphSettings::default()
        };
        Arc::new(graph.job_graph(JobId::from_u128(job), &settings).unwrap())
    }

    fn end(brain: &mut DispatcherBrain, job: u128) -> Vec<DispatcherEffect> {
        let result = JobResult {
            job: JobId::from_u128(job),
            name: "a".to_owned(),
            status: JobStatus::Finished,
            accumulators: std::collections::BTreeMap::new(),
            failure: None,
            failures: Vec::new(),
            restarts: 0,
            duration: std::time::Duration::ZERO,
            vertices: Vec::new(),
            details: Vec::new(),
            checkpoints: None,
        };
        let mut out = Vec::new();
        let ended = DispatcherEvent::Message(DispatcherMessage::JobEnded(Box::new(result)));
        brain.handle(0, ended, &mut out).unwrap();
        out
    }

    #[test]
    fn submission_is_idempotent_by_id_and_graph() {
        let mut brain = DispatcherBrain::new(10, 10);
        assert_eq!(brain.submit(graph(1, "a")).unwrap(), Submission::Accepted);
        assert_eq!(brain.submit(graph(1, "a")).unwrap(), Submission::Known);
        assert!(matches!(
            brain.submit(graph(1, "b")),
            Err(ClusterError::Conflict(_))
        ));
        end(&mut brain, 1);
        assert_eq!(
            brain.submit(graph(1, "a")).unwrap(),
            Submission::Known,
            "also after its end"
        );
        assert!(matches!(
            brain.submit(graph(1, "b")),
            Err(ClusterError::Conflict(_))
        ));
    }

    #[test]
    fn the_first_result_counts_and_late_states_do_not() {
        let mut brain = DispatcherBrain::new(10, 10);
        brain.submit(graph(1, "a")).unwrap();
        let job = JobId::from_u128(1);
        assert_eq!(end(&mut brain, 1).len(), 1);
        assert!(end(&mut brain, 1).is_empty());
        let late = DispatcherMessage::JobStatusChanged {
            job,
            status: JobStatus::Running,
        };
        brain
            .handle(0, DispatcherEvent::Message(late), &mut Vec::new())
            .unwrap();
        assert_eq!(brain.status(job).unwrap(), JobStatus::Finished);
        let cancel = brain.handle(0, DispatcherEvent::Cancel(job), &mut Vec::new());
        assert!(matches!(cancel, Err(ClusterError::Ended { .. })));
    }

    #[test]
    fn a_job_is_over_when_its_result_is_here() {
        let mut brain = DispatcherBrain::new(10, 10);
        brain.submit(graph(1, "a")).unwrap();
        let job = JobId::from_u128(1);
        for status in [JobStatus::Running, JobStatus::Finished] {
            let changed = DispatcherMessage::JobStatusChanged { job, status };
            brain
                .handle(5, DispatcherEvent::Message(changed), &mut Vec::new())
                .unwrap();
            assert_eq!(brain.status(job).unwrap(), JobStatus::Running);
            assert_eq!(brain.jobs()[0].end_ms, None);
        }
        end(&mut brain, 1);
        assert_eq!(brain.status(job).unwrap(), JobStatus::Finished);
        assert_eq!(brain.jobs()[0].end_ms, Some(0));
    }

    #[test]
    fn jobs_and_the_archive_are_bounded() {
        let mut brain = DispatcherBrain::new(1, 2);
        for job in 1..=3 {
            brain.submit(graph(job, "a")).unwrap();
            assert!(matches!(
                brain.submit(graph(99, "x")),
                Err(ClusterError::TooManyJobs(1))
            ));
            end(&mut brain, job);
        }
        let jobs: Vec<JobId> = brain.jobs().into_iter().map(|job| job.job).collect();
        assert_eq!(jobs, [2, 3].map(JobId::from_u128));
        assert!(matches!(
            brain.status(JobId::from_u128(1)),
            Err(ClusterError::UnknownJob(_))
        ));
    }

    #[test]
    fn jobs_that_outlive_the_cluster_are_not_cancelled_with_it() {
        let mut brain = DispatcherBrain::new(5, 5);
        brain.jobs_outlive_the_cluster();
        brain.inherit(graph(1, "a"), JobStatus::Restarting, (7, 9));
        assert_eq!(
            (brain.jobs()[0].status, brain.jobs()[0].start_ms),
            (JobStatus::Restarting, 7)
        );
        let mut out = Vec::new();
        brain.handle(0, DispatcherEvent::ShutDown, &mut out).unwrap();
        assert_eq!(out, [DispatcherEffect::AllEnded]);
    }

    #[test]
    fn shutting_down_cancels_everything_and_accepts_nothing() {
        let mut brain = DispatcherBrain::new(5, 5);
        brain.submit(graph(1, "a")).unwrap();
        brain.submit(graph(2, "a")).unwrap();
        let mut out = Vec::new();
        brain.handle(0, DispatcherEvent::ShutDown, &mut out).unwrap();
        assert_eq!(out.len(), 2);
        assert!(matches!(brain.submit(graph(3, "a")), Err(ClusterError::ShutDown)));
        assert!(!end(&mut brain, 1).contains(&DispatcherEffect::AllEnded));
        assert!(end(&mut brain, 2).contains(&DispatcherEffect::AllEnded));
    }
}
