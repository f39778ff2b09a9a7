//! Between which bounds the vertices of jobs run: declared by clients, written down, and told to JobMasters.

use super::durable::NotWritten;
use super::shell::{Answer, Dispatcher};
use super::writes::Write;
use crate::config::elasticity;
use crate::error::ClusterError;
use crate::messages::JobMasterMessage;
use hurtig_core::ids::{JobId, VertexId};
use hurtig_dataflow::graph::{Bounds, JobGraph, Requirements};
use hurtig_ha::records::Failure;
use hurtig_kit::ShellCx;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Dispatcher {
    /// The graph of a job that has not ended.
    fn graph_of(&self, job: JobId) -> Result<Arc<JobGraph>, ClusterError> {
        let detail = self.brain.detail(job)?;
        match detail.overview.status {
            status if status.is_globally_terminal() => Err(ClusterError::Ended { job, status }),
            _ => Ok(detail.graph),
        }
    }

    pub(super) fn requirements(&self, job: JobId) -> Result<Requirements, ClusterError> {
        let graph = self.graph_of(job)?;
        let written = self.declared_of(job);
        let declared = written.or_else(|| self.declared.get(&job).cloned());
        Ok(declared.unwrap_or_else(|| Requirements::initial(&graph, elasticity(&graph.config))))
    }

    /// Answered when whoever runs the job, or will run it, knows of it.
    pub(super) fn declare(
        &mut self,
        job: JobId,
        bounds: BTreeMap<VertexId, Bounds>,
        answer: Answer<()>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        let declared = self.graph_of(job).and_then(|graph| {
            let declared = Requirements::declared(&graph, bounds);
            declared.map_err(|cause| ClusterError::Requirements { job, cause })
        });
        match declared {
            Err(error) => answer.send(Err(error)),
            Ok(declared) if self.job(job).is_some() => self.write(job, Write::Require(declared, answer), cx),
            Ok(declared) => {
                self.declared.insert(job, declared.clone());
                self.tell_requirements(job, declared);
                answer.send(Ok(()));
            }
        }
    }

    fn tell_requirements(&self, job: JobId, declared: Requirements) {
        // Whoever comes to have the job hears of it with its claim.
        if let Some(outbox) = self.masters.get(&job).and_then(|master| master.outbox.as_ref()) {
            outbox.send(JobMasterMessage::RequirementsDeclared(declared).into());
        }
    }

    /// They are in the store, or never will be.
    pub(super) fn on_required(
        &mut self,
        job: JobId,
        (declared, answer): (Requirements, Answer<()>),
        outcome: Result<(), NotWritten>,
        cx: &mut ShellCx<'_, Self>,
    ) {
        match outcome {
            Ok(()) => {
                if let Some(known) = self.job(job) {
                    known.requirements = Some(declared.clone());
                }
                self.tell_requirements(job, declared);
                answer.send(Ok(()));
            }
            Err(error) => {
                if matches!(error, NotWritten::Record(Failure::Ended(_))) {
                    self.write(job, Write::Learn, cx);
                }
                let cause = error.to_string();
                answer.send(Err(ClusterError::NotRecorded { job, cause }));
            }
        }
    }
}
