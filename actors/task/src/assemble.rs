//! Builds the dataflow of one subtask from the program's code.

use crate::channel_metrics::ChannelEnds;
use crate::channels::{Channels, End, Wanted};
use crate::interface::{InputDescriptor, OutputDescriptor, TaskDescriptor};
use crate::metrics::operator_group;
use hurtig_core::ids::{ChannelId, NodeId, SubtaskId};
use hurtig_core::metrics::MetricGroup;
use hurtig_core::time::Clock;
use hurtig_core::{Error, Result};
use hurtig_dataflow::chain::{AnyLink, Head, Node, TaskCore, TaskParts};
use hurtig_dataflow::graph::{JobEdge, JobGraph, JobOperator, JobVertex};
use hurtig_dataflow::operator::{JobParameters, Services, SideOutputs, SideSink, SubtaskInfo};
use hurtig_dataflow::program::{EdgeShape, Erased, NodeCode, OneInputCode, Program};
use hurtig_exchange::remote::NetworkConfig;
use hurtig_exchange::{BarrierMode, ChannelKind, ChannelOptions, FlushPolicy};
use hurtig_state::StateBackend;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What barriers do to records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BarrierSettings {
    /// A task reads nothing behind a barrier before it has all: each record changes state once.
    #[default]
    Aligned,
    /// Tasks read on: records may change state more than once after a restore.
    AtLeastOnce,
    /// As aligned for so long from the beginning of a checkpoint; then barriers overtake records, which become
    /// part of the checkpoint.
    Unaligned(Duration),
}

impl BarrierSettings {
    /// How long barriers wait before they overtake; `None`: they never do.
    pub(crate) fn overtake_after(self) -> Option<Duration> {
        match self {
            Self::Unaligned(after) => Some(after),
            Self::Aligned | Self::AtLeastOnce => None,
        }
    }

    fn mode(self, edge: &JobEdge) -> BarrierMode {
        match self {
            Self::AtLeastOnce => BarrierMode::Passes,
            Self::Unaligned(_) if edge.can_be_overtaken() => BarrierMode::Overtakes,
            Self::Aligned | Self::Unaligned(_) => BarrierMode::Blocks,
        }
    }
}

/// Settings of a job's tasks, frozen when it was submitted.
#[derive(Clone, Copy, Debug)]
pub struct TaskSettings {
    /// Bounds of channels.
    pub channels: ChannelOptions,
    /// When output buffers are handed over.
    pub flush: FlushPolicy,
    /// How often sources emit watermarks, of engine time.
    pub watermark_interval: Duration,
    /// The time that an arbiter gives to all of its tasks in a round.
    pub round: Duration,
    /// Metrics that the job may register in this process.
    pub max_metrics: usize,
    /// What barriers do.
    pub barriers: BarrierSettings,
    /// Bounds of the exchange with other workers.
    pub network: NetworkConfig,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self {
            channels: ChannelOptions::default(),
            flush: FlushPolicy::default(),
            watermark_interval: Duration::from_millis(5),
            round: Duration::from_millis(2),
            max_metrics: 100_000,
            barriers: BarrierSettings::default(),
            network: NetworkConfig::default(),
        }
    }
}

/// Everything that building a task needs.
pub(crate) struct Assembly<'a> {
    pub(crate) program: &'a Program,
    pub(crate) graph: &'a JobGraph,
    pub(crate) channels: &'a Channels,
    pub(crate) settings: TaskSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) descriptor: &'a TaskDescriptor,
    pub(crate) parameters: &'a Arc<JobParameters>,
    pub(crate) takes_checkpoints: bool,
    pub(crate) backend: &'a StateBackend,
    /// The group of this subtask.
    pub(crate) metrics: &'a MetricGroup,
    /// The ends of its channels that were made so far.
    pub(crate) ends: RefCell<ChannelEnds>,
}

impl Assembly<'_> {
    /// The task, ready to be opened.
    pub(crate) fn build(&self) -> Result<TaskCore> {
        let vertex = self.vertex()?;
        let policy = self.flush_policy(vertex);
        let mut links: Vec<Box<dyn AnyLink>> = Vec::new();
        let mut nodes: Vec<Box<dyn Node>> = Vec::new();
        let head = self.head(&vertex.operators[0])?;
        let headed = !matches!(
            self.program.node(vertex.operators[0].node)?,
            NodeCode::OneInput(_)
        );
        for operator in &vertex.operators[usize::from(headed)..] {
            let code = self.one_input(operator.node)?;
            links.push(code.input_link(&policy));
            nodes.push(code.node(self.services(operator)?));
        }
        let last = vertex
            .operators
            .last()
            .map_or(NodeId(0), |operator| operator.node);
        let output = self.program.node(last)?.output();
        links.push(output.link(&policy));
        let outlet = output.tail(self.writers(last, None)?)?;
        let signal = self
            .channels
            .signal(self.descriptor.generation, self.descriptor.execution.subtask);
        let parts = TaskParts {
            head,
            nodes,
            links,
            outlet,
            signal,
            buffer_timeout: policy.timeout,
        };
        let mut core = TaskCore::new(parts, self.clock.clone()).taking_checkpoints(self.takes_checkpoints);
        core.begin_in_backlog(&self.backlog());
        Ok(core)
    }

    /// Whether each of the task's channels, or its source, begins in backlog.
    fn backlog(&self) -> Vec<bool> {
        let inputs = &self.descriptor.inputs;
        if inputs.is_empty() {
            return vec![self.descriptor.backlog];
        }
        // The channels of the first input are before those of the second.
        let of = |input| inputs.iter().filter(move |descriptor| descriptor.input == input);
        let channels = of(0).chain(of(1));
        channels
            .flat_map(|input| vec![input.backlog; input.producers.len()])
            .collect()
    }

    fn vertex(&self) -> Result<&JobVertex> {
        let id = self.descriptor.execution.subtask.vertex;
        let vertex = self
            .graph
            .vertex(id)
            .filter(|vertex| !vertex.operators.is_empty());
        vertex.ok_or_else(|| Error::internal(format!("the job has no vertex {id}")))
    }

    fn flush_policy(&self, vertex: &JobVertex) -> FlushPolicy {
        let mut policy = self.settings.flush;
        if let Some(timeout) = vertex.buffer_timeout {
            policy.timeout = Some(timeout);
        }
        policy
    }

    fn one_input(&self, node: NodeId) -> Result<&dyn OneInputCode> {
        match self.program.node(node)? {
            NodeCode::OneInput(code) => Ok(&**code),
            _ => Err(Error::internal(format!(
                "operator {node} stands inside a chain and is no operator with one input"
            ))),
        }
    }

    fn head(&self, operator: &JobOperator) -> Result<Box<dyn Head>> {
        match self.program.node(operator.node)? {
            NodeCode::Source(code) => {
                Ok(code.head(self.services(operator)?, self.settings.watermark_interval))
            }
            NodeCode::OneInput(code) => code.gate(self.receivers(0)?),
            NodeCode::TwoInput(code) => {
                code.head(self.receivers(0)?, self.receivers(1)?, self.services(operator)?)
            }
        }
    }

    fn services(&self, operator: &JobOperator) -> Result<Services> {
        let descriptor = self.descriptor;
        let groups = descriptor.key_groups;
        let index_of = |group: hurtig_core::key::KeyGroup| u16::try_from(group.get()).unwrap_or(u16::MAX);
        let info = SubtaskInfo {
            operator: operator.name.as_str().into(),
            uid: operator.uid.as_deref().map(Into::into),
            index: descriptor.execution.subtask.index,
            parallelism: descriptor.parallelism,
            max_parallelism: descriptor.max_parallelism,
            key_groups: index_of(groups.first())..index_of(groups.last()) + 1,
            attempt: descriptor.execution.attempt.0,
        };
        let side = SideOutputs::new(self.sides(operator.node)?);
        let metrics = operator_group(self.metrics, operator);
        Ok(Services::new(info, self.clock.clone(), side)
            .in_job(self.parameters.clone(), metrics)
            .keeping_state_in(self.backend.clone())
            .taking_checkpoints(self.takes_checkpoints))
    }

    fn sides(&self, node: NodeId) -> Result<Vec<Box<dyn SideSink>>> {
        let mut by_tag: BTreeMap<&str, &OutputDescriptor> = BTreeMap::new();
        for output in self
            .descriptor
            .outputs
            .iter()
            .filter(|output| output.producer == node)
        {
            if let Some(tag) = &output.side {
                by_tag.entry(tag).or_insert(output);
            }
        }
        let side = |(tag, output): (&str, &OutputDescriptor)| {
            let stream = self.program.edge(self.graph, self.edge(output.edge)?)?.stream();
            stream.side(tag, self.writers(node, Some(tag))?)
        };
        by_tag.into_iter().map(side).collect()
    }

    fn edge(&self, id: hurtig_core::ids::EdgeId) -> Result<&JobEdge> {
        let edge = self.graph.edges.iter().find(|edge| edge.id == id);
        edge.ok_or_else(|| Error::internal(format!("the job has no edge {id}")))
    }

    /// One writer for each edge that leaves `node` by `side`.
    fn writers(&self, node: NodeId, side: Option<&str>) -> Result<Vec<Erased>> {
        let vertex = self.vertex()?;
        let outputs = self.descriptor.outputs.iter();
        let outputs = outputs.filter(|output| output.producer == node && output.side.as_deref() == side);
        outputs.map(|output| self.writer(output, vertex)).collect()
    }

    fn writer(&self, output: &OutputDescriptor, vertex: &JobVertex) -> Result<Erased> {
        let edge = self.edge(output.edge)?;
        let code = self.program.edge(self.graph, edge)?;
        let producer = self.descriptor.execution.subtask;
        let sender = |index: u32| {
            let wanted = Wanted {
                id: self.channel_id(edge, producer.index, index),
                end: End::Sender,
                producer,
                consumer: SubtaskId {
                    vertex: edge.to,
                    index,
                },
                stream: code.stream(),
                kind: self.kind(edge),
            };
            self.end_of(wanted, output.elsewhere.get(&index))
        };
        let shape = EdgeShape {
            consumers: output.consumers.end - output.consumers.start,
            max_parallelism: output.consumer_max_parallelism,
            producer: producer.index,
        };
        code.writer(
            output.consumers.clone().map(sender).collect::<Result<Vec<_>>>()?,
            shape,
            self.flush_policy(vertex),
        )
    }

    /// The receivers of one input of the task, over all of its edges.
    fn receivers(&self, input: u8) -> Result<Vec<Erased>> {
        let inputs = self
            .descriptor
            .inputs
            .iter()
            .filter(|descriptor| descriptor.input == input);
        let receivers = inputs
            .map(|descriptor| self.receivers_of(descriptor))
            .collect::<Result<Vec<_>>>()?;
        Ok(receivers.into_iter().flatten().collect())
    }

    fn receivers_of(&self, input: &InputDescriptor) -> Result<Vec<Erased>> {
        let edge = self.edge(input.edge)?;
        let code = self.program.edge(self.graph, edge)?;
        let consumer = self.descriptor.execution.subtask;
        let receiver = |index: u32| {
            let wanted = Wanted {
                id: self.channel_id(edge, index, consumer.index),
                end: End::Receiver,
                producer: SubtaskId {
                    vertex: edge.from,
                    index,
                },
                consumer,
                stream: code.stream(),
                kind: self.kind(edge),
            };
            self.end_of(wanted, input.elsewhere.get(&index))
        };
        input.producers.clone().map(receiver).collect()
    }

    /// One end of a channel whose other end is here, or at one of the descriptor's peers.
    fn end_of(&self, wanted: Wanted<'_>, peer: Option<&u32>) -> Result<Erased> {
        let made = self.make_end(wanted, peer)?;
        let mut ends = self.ends.borrow_mut();
        let side = match wanted.end {
            End::Sender => &mut ends.outputs,
            End::Receiver => &mut ends.inputs,
        };
        side.extend(wanted.stream.watched(&made));
        Ok(made)
    }

    fn make_end(&self, wanted: Wanted<'_>, peer: Option<&u32>) -> Result<Erased> {
        let Some(&peer) = peer else {
            return Ok(self.channels.take(wanted));
        };
        let known = self.descriptor.peers.get(peer as usize).ok_or_else(|| {
            let peers = self.descriptor.peers.len();
            Error::internal(format!(
                "channel {:?} leads to peer {peer} of {peers} that the task was told of",
                wanted.id
            ))
        })?;
        self.channels.take_remote(wanted, known)
    }

    fn kind(&self, edge: &JobEdge) -> ChannelKind {
        ChannelKind {
            options: self.settings.channels,
            barriers: self.settings.barriers.mode(edge),
        }
    }

    fn channel_id(&self, edge: &JobEdge, producer: u32, consumer: u32) -> ChannelId {
        ChannelId {
            edge: edge.id,
            producer,
            consumer,
            generation: self.descriptor.generation,
        }
    }
}
