//! A job whose code is linked into this process.

use crate::actor::{TaskActor, TaskSetup};
use crate::assemble::{Assembly, TaskSettings};
use crate::channel_metrics::ChannelMetrics;
use crate::channels::Channels;
use crate::checkpoint::CheckpointStorage;
use crate::in_flight::channels_of;
use crate::interface::{TaskDescriptor, TaskFactory, TaskHandle, TaskLink};
use crate::metrics::TaskMetrics;
use hurtig_core::ids::{NodeId, SubtaskId};
use hurtig_core::metrics::{MetricGroup, MetricRegistry, MetricSample, MetricScope};
use hurtig_core::time::Clock;
use hurtig_core::{Error, Result};
use hurtig_dataflow::graph::{JobGraph, NodeKind};
use hurtig_dataflow::operator::JobParameters;
use hurtig_dataflow::program::{NodeCode, Program};
use hurtig_dataflow::source::SplitEnumerator;
use hurtig_exchange::remote::{Exchange, NetworkConfig};
use hurtig_state::{StateBackend, StateShapes};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The graph of a job with the code that runs it.
pub struct LinkedProgram {
    pub(crate) graph: JobGraph,
    pub(crate) program: Program,
    settings: TaskSettings,
    pub(crate) clock: Arc<dyn Clock>,
    channels: Channels,
    pub(crate) parameters: Arc<JobParameters>,
    metrics: MetricRegistry,
    checkpoints: Option<CheckpointStorage>,
    pub(crate) takes_checkpoints: bool,
    backend: StateBackend,
}

impl LinkedProgram {
    /// The job of `graph`, run by the code of `program`.
    pub fn new(graph: JobGraph, program: Program, settings: TaskSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            parameters: Arc::new(graph.parameters.clone()),
            metrics: MetricRegistry::new(settings.max_metrics),
            graph,
            program,
            settings,
            clock,
            channels: Channels::default(),
            checkpoints: None,
            takes_checkpoints: false,
            backend: StateBackend::Heap,
        }
    }

    /// Keeps the job's checkpoints in `storage`: what sinks write is committed by them.
    #[must_use]
    pub fn with_checkpoints(self, storage: CheckpointStorage) -> Self {
        let with = self.with_savepoints(storage);
        Self {
            takes_checkpoints: true,
            ..with
        }
    }

    /// Lets savepoints be taken of a job that takes no checkpoints, and be restored. `storage` says how
    /// they are written.
    #[must_use]
    pub fn with_savepoints(self, storage: CheckpointStorage) -> Self {
        Self {
            checkpoints: Some(storage),
            ..self
        }
    }

    /// Keeps keyed state in `backend`; in memory without it.
    #[must_use]
    pub fn keeping_state_in(self, backend: StateBackend) -> Self {
        Self { backend, ..self }
    }

    /// The metrics of the job's tasks in this process.
    pub fn metrics(&self) -> &MetricRegistry {
        &self.metrics
    }

    /// The empty group of a subtask: what an earlier attempt has measured is forgotten.
    fn metrics_of(&self, descriptor: &TaskDescriptor) -> MetricGroup {
        let scope = scope_of(&self.graph, descriptor.execution.subtask);
        let subtask = self.metrics.group(scope);
        subtask.close();
        subtask.child("attempt", &descriptor.execution.attempt.0.to_string())
    }

    /// The operators by the place at which the dataflow runs them: the head first, which is none
    /// when it only reads channels.
    fn places(&self, descriptor: &TaskDescriptor) -> Vec<Option<NodeId>> {
        let first = descriptor
            .operators
            .first()
            .and_then(|node| self.program.node(*node).ok());
        let only_reads = matches!(first, Some(NodeCode::OneInput(_)));
        let gate = only_reads.then_some(None);
        gate.into_iter()
            .chain(descriptor.operators.iter().map(|node| Some(*node)))
            .collect()
    }

    fn source(&self, descriptor: &TaskDescriptor) -> Option<NodeId> {
        let vertex = self.graph.vertex(descriptor.execution.subtask.vertex)?;
        let first = vertex
            .operators
            .first()
            .filter(|operator| operator.kind == NodeKind::Source)?;
        Some(first.node)
    }
}

fn scope_of_job(graph: &JobGraph) -> MetricScope {
    MetricScope::root().child("job", &graph.name)
}

/// What a subtask's metrics are about. Names need not be unique, ids are.
fn scope_of(graph: &JobGraph, subtask: SubtaskId) -> MetricScope {
    let vertex = graph.vertex(subtask.vertex);
    scope_of_job(graph)
        .child("task", vertex.map_or("", |vertex| &vertex.name))
        .child("task_id", &subtask.vertex.to_string())
        .child("subtask", &subtask.index.to_string())
}

impl TaskFactory for LinkedProgram {
    fn job_graph(&self) -> &JobGraph {
        &self.graph
    }

    fn enumerator(&self, node: NodeId) -> Option<Box<dyn SplitEnumerator>> {
        match self.program.node(node).ok()? {
            NodeCode::Source(code) => code.enumerator(),
            _ => None,
        }
    }

    fn start_task(&self, descriptor: TaskDescriptor, link: Box<dyn TaskLink>) -> Result<TaskHandle, Error> {
        let metrics = self.metrics_of(&descriptor);
        let assembly = Assembly {
            parameters: &self.parameters,
            metrics: &metrics,
            takes_checkpoints: self.takes_checkpoints,
            backend: &self.backend,
            program: &self.program,
            graph: &self.graph,
            channels: &self.channels,
            settings: self.settings,
            clock: self.clock.clone(),
            descriptor: &descriptor,
            ends: RefCell::default(),
        };
        let core = assembly.build()?;
        let ends = assembly.ends.into_inner();
        let credit = self.settings.network.connection;
        let channels = ChannelMetrics::new(&metrics, ends, credit.exclusive + credit.floating_per_channel);
        let vertex = self.graph.vertex(descriptor.execution.subtask.vertex);
        let operators = vertex.map_or(&[][..], |vertex| &vertex.operators);
        let setup = TaskSetup {
            link,
            clock: self.clock.clone(),
            source: self.source(&descriptor),
            places: self.places(&descriptor),
            round: self.settings.round,
            metrics: TaskMetrics::new(metrics, operators).with_channels(channels),
            storage: self.checkpoints.clone(),
            overtake_after: self.settings.barriers.overtake_after(),
            channels: channels_of(&descriptor, &self.graph)?.into(),
            descriptor,
        };
        Ok(TaskActor::start(core, setup))
    }

    fn declared_states(&self) -> BTreeMap<NodeId, StateShapes> {
        self.learn_states()
    }

    fn checkpoints(&self) -> Option<&CheckpointStorage> {
        self.checkpoints.as_ref()
    }

    fn job_metrics(&self) -> Option<MetricGroup> {
        Some(self.metrics.group(scope_of_job(&self.graph)))
    }

    fn metrics(&self) -> Vec<MetricSample> {
        self.metrics.samples()
    }

    fn generation_ended(&self, generation: u32) {
        self.channels.forget(generation);
    }

    fn connect(&self, exchange: Arc<dyn Exchange>) {
        self.channels.connect(exchange);
    }

    fn network(&self) -> NetworkConfig {
        self.settings.network
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::ids::JobId;
    use hurtig_dataflow::graph::{GraphSettings, StreamEdge, StreamGraph, StreamNode};

    #[test]
    fn tasks_of_one_name_have_metrics_of_their_own() {
        let mut graph = StreamGraph::new();
        let sink = graph.add_node(StreamNode::new("Sink", "Sink", NodeKind::Sink));
        for _ in 0..2 {
            let source = graph.add_node(StreamNode::new("Same", "Source", NodeKind::Source));
            graph.add_edge(StreamEdge::new(source, sink));
        }
        let graph = graph
            .job_graph(JobId::from_u128(1), &GraphSettings::default())
            .unwrap();
        let same = graph.vertices.iter().filter(|vertex| vertex.name == "Same");
        let scope = |vertex: &hurtig_dataflow::graph::JobVertex, index| {
            let vertex = vertex.id;
            scope_of(&graph, SubtaskId { vertex, index })
        };
        let scopes: Vec<_> = same
            .flat_map(|vertex| [scope(vertex, 1), scope(vertex, 10)])
            .collect();
        assert_eq!(scopes.len(), 4);
        for (at, one) in scopes.iter().enumerate() {
            assert_eq!(one.get("task"), Some("Same"));
            assert!(scopes[at + 1..].iter().all(|other| !other.is_within(one)));
        }
    }
}
