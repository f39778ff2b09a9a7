//! What the Dispatcher answers about jobs: of one that runs by asking its JobMaster, of one that has ended from the archive.

use super::shell::{Answer, Dispatcher};
use crate::details::VertexDetail;
use crate::error::ClusterError;
use crate::job_master::{CheckpointStatistics, JobMasterEvent};
use crate::result::{FailureEntry, JobDetail, JobResult};
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::{JobId, VertexId};
use hurtig_core::metrics::MetricSample;
use hurtig_kit::{Reply, ShellCx};

/// A question about a job. Each is answered, or dropped when the Dispatcher ends.
pub(crate) enum JobQuery {
    /// What is known of it.
    Detail(Answer<JobDetail>),
    /// The subtasks of a vertex.
    Vertex(VertexId, Answer<VertexDetail>),
    /// Its accumulators, merged.
    Accumulators(Answer<AccumulatorValues>),
    /// What became of its checkpoints.
    Checkpoints(Answer<CheckpointStatistics>),
    /// What failed in it so far.
    Exceptions(Answer<Vec<FailureEntry>>),
    /// The metrics of it and of its tasks; of one that has ended, none.
    Metrics(Answer<Vec<MetricSample>>),
}

/// Where an answer is.
enum Found<T> {
    Here(Result<T, ClusterError>),
    /// The JobMaster is asked.
    There,
}

impl Dispatcher {
    pub(super) fn answer(&self, job: JobId, query: JobQuery, cx: &mut ShellCx<'_, Self>) {
        match query {
            JobQuery::Detail(answer) => self.detail(job, answer, cx),
            JobQuery::Exceptions(answer) => self.exceptions(job, answer, cx),
            JobQuery::Vertex(vertex, answer) => self.vertex(job, vertex, answer, cx),
            JobQuery::Accumulators(answer) => {
                let ended = |result: &JobResult| Ok(result.accumulators.clone());
                if let Some(answer) = self.settle(job, answer, ended) {
                    self.ask(
                        job,
                        ("accumulators", JobMasterEvent::Accumulators),
                        cx,
                        |values| {
                            answer.send(values);
                        },
                    );
                }
            }
            JobQuery::Checkpoints(answer) => {
                let ended = |result: &JobResult| {
                    let known = result.checkpoints.as_deref().cloned();
                    known.ok_or(ClusterError::Unrecorded(job, "its checkpoints"))
                };
                if let Some(answer) = self.settle(job, answer, ended) {
                    let event = JobMasterEvent::Checkpoints;
                    self.ask(job, ("checkpoint statistics", event), cx, |known| {
                        answer.send(known);
                    });
                }
            }
            JobQuery::Metrics(answer) => {
                if let Some(answer) = self.settle(job, answer, |_| Ok(Vec::new())) {
                    self.ask(job, ("metrics", JobMasterEvent::Metrics), cx, |samples| {
                        answer.send(samples);
                    });
                }
            }
        }
    }

    /// Answers from the result of a job that has ended; gives the answer back when its JobMaster has to be asked.
    fn settle<T>(
        &self,
        job: JobId,
        answer: Answer<T>,
        ended: impl FnOnce(&JobResult) -> Result<T, ClusterError>,
    ) -> Option<Answer<T>> {
        let found = match self.master(job) {
            Some(Ok(_)) => Found::There,
            Some(Err(error)) => Found::Here(Err(error)),
            None => {
                let result = self.brain.result(job).ok_or(ClusterError::UnknownJob(job));
                Found::Here(result.and_then(|result| ended(result)))
            }
        };
        match found {
            Found::There => Some(answer),
            Found::Here(known) => {
                answer.send(known);
                None
            }
        }
    }

    /// Asks a job's JobMaster, which is there, and hands on what it says.
    fn ask<T: Send + 'static>(
        &self,
        job: JobId,
        (what, event): (&'static str, impl FnOnce(Reply<T>) -> JobMasterEvent + 'static),
        cx: &mut ShellCx<'_, Self>,
        say: impl FnOnce(Result<T, ClusterError>) + 'static,
    ) {
        let Some(Ok(outbox)) = self.master(job) else {
            return;
        };
        let (mailbox, deadline) = (outbox.mailbox().clone(), self.setup.config.ask_timeout);
        cx.detach(async move {
            let asked = mailbox.ask(event, deadline).await;
            say(asked.map_err(|source| ClusterError::Ask { what, source }));
        });
    }

    fn exceptions(&self, job: JobId, answer: Answer<Vec<FailureEntry>>, cx: &mut ShellCx<'_, Self>) {
        let exits = self.exits(job);
        if let Some(Err(_)) = self.master(job) {
            return answer.send(Ok(exits));
        }
        if let Some(answer) = self.settle(job, answer, |result| Ok(result.failures.clone())) {
            self.ask(job, ("exceptions", JobMasterEvent::Exceptions), cx, |failures| {
                answer.send(failures.map(|failures| exits.into_iter().chain(failures).collect()));
            });
        }
    }

    fn detail(&self, job: JobId, answer: Answer<JobDetail>, cx: &mut ShellCx<'_, Self>) {
        let mut detail = match self.brain.detail(job) {
            Ok(detail) => detail,
            Err(unknown) => return answer.send(Err(unknown)),
        };
        let Some(Ok(_)) = self.master(job) else {
            return answer.send(Ok(detail));
        };
        self.ask(job, ("vertices", JobMasterEvent::Vertices), cx, |vertices| {
            // While it has no JobMaster that answers, the rest is true all the same.
            if let Ok(vertices) = vertices {
                detail.vertices = vertices;
                detail.scale_graph();
            }
            answer.send(Ok(detail));
        });
    }

    fn vertex(&self, job: JobId, vertex: VertexId, answer: Answer<VertexDetail>, cx: &mut ShellCx<'_, Self>) {
        let known = self
            .brain
            .detail(job)
            .map(|detail| detail.graph.vertex(vertex).is_some());
        match known {
            Err(unknown) => return answer.send(Err(unknown)),
            Ok(false) => return answer.send(Err(ClusterError::UnknownVertex(job, vertex))),
            Ok(true) => {}
        }
        let ended = |result: &JobResult| {
            let mut details = result.details.iter();
            let found = details.find(|detail| detail.id == vertex).cloned();
            found.ok_or(ClusterError::Unrecorded(job, "the subtasks of this vertex"))
        };
        if let Some(answer) = self.settle(job, answer, ended) {
            let event = move |reply| JobMasterEvent::Vertex(vertex, reply);
            self.ask(job, ("subtasks", event), cx, move |found| {
                let found = found.and_then(|found| found.ok_or(ClusterError::UnknownVertex(job, vertex)));
                answer.send(found);
            });
        }
    }
}
