//! What a JobMaster publishes about its job, under Flink's names.

use super::events::Restarts;
use hurtig_core::metrics::{Gauge, MetricGroup, MetricSample};
use std::collections::BTreeMap;

/// How often tasks of the job were started again, and how many of its sources read backlog.
pub(super) struct JobMetrics {
    all: Gauge,
    full: Gauge,
    in_backlog: Gauge,
}

impl JobMetrics {
    /// Registers the metrics of a job.
    pub(super) fn new(job: &MetricGroup) -> Self {
        Self {
            all: job.gauge("numRestarts"),
            full: job.gauge("fullRestarts"),
            in_backlog: job.gauge("numSourcesInBacklog"),
        }
    }

    pub(super) fn set_backlog(&self, sources: usize) {
        self.in_backlog.set(i64::try_from(sources).unwrap_or(i64::MAX));
    }

    pub(super) fn set_restarts(&self, restarts: Restarts) {
        self.all.set(restarts.all.into());
        self.full.set(restarts.full.into());
    }
}

/// One sample of each metric: tasks in the JobMaster's own process are asked twice.
pub(super) fn merged(
    own: Vec<MetricSample>,
    theirs: impl Iterator<Item = MetricSample>,
) -> Vec<MetricSample> {
    let named = |sample: MetricSample| ((sample.scope.clone(), sample.name.clone()), sample);
    let all: BTreeMap<_, _> = own.into_iter().chain(theirs).map(named).collect();
    all.into_values().collect()
}
