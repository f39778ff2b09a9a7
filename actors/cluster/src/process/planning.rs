//! Plan runs that clients ask for: a TaskManager does them, and a job that will never get its slots is refused.

use super::launch::JobLaunch;
use super::placement::{Cx, ProcessEvent, event, with_secrets};
use crate::config::elasticity;
use crate::resource_manager::ResourceManager;
use crate::wire::{Plan, PlanJob};
use hurtig_dataflow::graph::{JobGraph, Requirements};
use hurtig_kit::Reply;
use hurtig_rpc::RpcError;
use std::time::Duration;

/// How long a plan may take: two runs, and fetching the artifact.
const PLANNING: Duration = Duration::from_secs(120);

impl ResourceManager {
    pub(super) fn plan(&mut self, launch: JobLaunch, reply: Reply<Result<JobGraph, String>>, cx: Cx<'_, '_>) {
        let Some(placement) = &self.placement else { return };
        let Some(starter) = placement.starters.values().next() else {
            let nobody = "the cluster has no TaskManager, and only those run artifacts: start one with `hurtig taskmanager`";
            return reply.send(Err(nobody.to_owned()));
        };
        let launch = with_secrets(&launch, &placement.secrets);
        let planned = starter.gateway.ask(PlanJob { launch }, PLANNING);
        cx.drive(planned, |planned| {
            let planned = planned.unwrap_or_else(|panicked| Ok(Plan::Refused(panicked.to_string())));
            event(ProcessEvent::Planned(reply, planned))
        });
    }

    pub(super) fn on_planned(&self, reply: Reply<Result<JobGraph, String>>, planned: Result<Plan, RpcError>) {
        reply.send(match planned {
            Ok(Plan::Graph(graph)) => self.check_slots(*graph),
            Ok(Plan::Refused(why)) => Err(why),
            Err(error) => Err(format!("the TaskManager that was to plan the job: {error}")),
        });
    }

    /// A job that will never get its slots is refused.
    fn check_slots(&self, graph: JobGraph) -> Result<JobGraph, String> {
        let least = Requirements::initial(&graph, elasticity(&graph.config))
            .slots(&graph)
            .0;
        let (needed, (there, _)) = (least.min(graph.slots_required()), self.brain.totals());
        if needed > there {
            let starters = self
                .placement
                .as_ref()
                .map_or(0, |placement| placement.starters.len());
            return Err(format!(
                "job '{}' needs {needed} slots, and the cluster has {there}, in {starters} TaskManagers: lower the job's \
                 parallelism, raise taskmanager.numberOfTaskSlots, or start more with `hurtig taskmanager`",
                graph.name
            ));
        }
        Ok(graph)
    }
}
