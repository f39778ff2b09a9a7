//! Learning what states a program declares, without running it.

use crate::program::LinkedProgram;
use hurtig_core::Result;
use hurtig_core::ids::NodeId;
use hurtig_core::key::KeyGroupRange;
use hurtig_core::metrics::MetricGroup;
use hurtig_dataflow::graph::{JobOperator, JobVertex};
use hurtig_dataflow::operator::{Services, SideOutputs, SubtaskInfo};
use hurtig_kit::guard;
use hurtig_state::StateShapes;
use std::collections::BTreeMap;

impl LinkedProgram {
    /// What the operators declare. Those that cannot be opened on trial are missing: they say why when they are opened
    /// in earnest.
    pub(crate) fn learn_states(&self) -> BTreeMap<NodeId, StateShapes> {
        let vertices = self.graph.vertices.iter();
        let operators =
            vertices.flat_map(|vertex| vertex.operators.iter().map(move |operator| (vertex, operator)));
        let learned = operators.filter_map(|(vertex, operator)| {
            let states = guard(|| self.states_of(vertex, operator));
            let problem = match states {
                Ok(Ok(states)) => return Some((operator.node, states)),
                Ok(Err(error)) => error.chain(),
                Err(panicked) => panicked.to_string(),
            };
            tracing::warn!(
                operator = operator.name,
                problem,
                "what states it declares is seen only when it runs"
            );
            None
        });
        learned.collect()
    }

    fn states_of(&self, vertex: &JobVertex, operator: &JobOperator) -> Result<StateShapes> {
        let groups = KeyGroupRange::of_subtask(0, vertex.parallelism, vertex.max_parallelism);
        // Group numbers are below 2^15.
        let end = u16::try_from(groups.last().get()).unwrap_or(u16::MAX) + 1;
        let info = SubtaskInfo {
            operator: operator.name.as_str().into(),
            uid: operator.uid.as_deref().map(Into::into),
            index: 0,
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            key_groups: 0..end,
            attempt: 0,
        };
        let services = Services::new(info, self.clock.clone(), SideOutputs::new(Vec::new()))
            .in_job(self.parameters.clone(), MetricGroup::unregistered())
            .taking_checkpoints(self.takes_checkpoints);
        self.program.node(operator.node)?.states(services)
    }
}
