//! From what a program has built to a job that a cluster can be given: the graph, and the code beside it.

use crate::error::Error;
use crate::role::Built;
use hurtig_cluster::gateway::SubmitJob;
use hurtig_core::config::Configuration;
use hurtig_core::metrics::MetricRegistry;
use hurtig_core::time::SystemClock;
use hurtig_task::LinkedProgram;
use std::sync::Arc;

/// What an environment has given away.
pub(crate) struct Taken {
    pub(crate) built: Built,
    /// Operators with state and without a uid, in quotes.
    pub(crate) without_uid: Vec<String>,
}

/// A job that this process can run.
pub(crate) struct Linked {
    pub(crate) job: SubmitJob,
    pub(crate) config: Configuration,
    pub(crate) metrics: MetricRegistry,
}

impl Taken {
    /// # Errors
    /// When an input is missing or unusable, or the job needs more slots than there will be.
    pub(crate) fn link(self) -> Result<Linked, Error> {
        let Built {
            name,
            graph,
            program,
            config,
            backend,
            setup,
        } = self.built;
        program.validate(setup.goes_on(&name)).map_err(Error::job)?;
        crate::settings::check_slots(&config, &graph)?;
        if setup.takes_checkpoints && !self.without_uid.is_empty() {
            tracing::warn!(
                "job '{name}' takes checkpoints, and operators with state have no uid: {}. A program that has changed may \
                 not find their state again; give each one by .uid(\"…\")",
                self.without_uid.join(", ")
            );
        }
        let settings = crate::settings::task_settings(&config);
        let linked = LinkedProgram::new(graph.clone(), program, settings, SystemClock::new())
            .keeping_state_in(backend);
        let linked = if setup.takes_checkpoints {
            linked.with_checkpoints(setup.storage)
        } else {
            linked.with_savepoints(setup.storage)
        };
        let metrics = linked.metrics().clone();
        let job = SubmitJob {
            graph,
            code: Arc::new(linked),
            options: setup.options,
        };
        Ok(Linked { job, config, metrics })
    }
}
