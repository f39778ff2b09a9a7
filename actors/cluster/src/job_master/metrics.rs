//! What a JobMaster publishes about its job, under Flink's names.

use super::events::Restarts;
use hurtig_core::metrics::{Gauge, MetricGroup};

/// How often tasks of the job were started again.
pub(super) struct RestartMetrics {
    all: Gauge,
    full: Gauge,
}

impl RestartMetrics {
    /// Registers the metrics of a job.
    pub(super) fn new(job: &MetricGroup) -> Self {
        Self {
            all: job.gauge("numRestarts"),
            full: job.gauge("fullRestarts"),
        }
    }

    pub(super) fn set(&self, restarts: Restarts) {
        self.all.set(restarts.all.into());
        self.full.set(restarts.full.into());
    }
}
