//! Jobs of one source and one sink, and a TaskManager that writes down what it is told.

use hurtig_core::ids::{AllocationId, AttemptNumber, CheckpointId, ExecutionId, JobId, NodeId, SubtaskId};
use hurtig_core::key::KeyGroupRange;
use hurtig_core::time::{Clock, SystemClock};
use hurtig_core::{Batch, Result};
use hurtig_dataflow::graph::{
    GraphSettings, JobGraph, NodeKind, StreamEdge, StreamGraph, StreamNode, TaskState,
};
use hurtig_dataflow::operator::{Budget, Collector, Cx, Operator, Progress};
use hurtig_dataflow::operators::watermark::{WatermarkGenerator, WatermarkOutput, WatermarkStrategy};
use hurtig_dataflow::program::{NodeCode, Program, TypedOperator, TypedSource};
use hurtig_dataflow::source::{Source, SourceReader, SourceStatus, Split};
use hurtig_task::interface::{
    CheckpointPart, TaskDescriptor, TaskFactory, TaskFailure, TaskHandle, TaskLink, TaskReport,
};
use hurtig_task::{LinkedProgram, TaskSettings};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reads {
    Endlessly,
    /// One record for each of two splits, then the end.
    Splits,
    /// Nothing, ever.
    Nothing,
}

pub(crate) struct Reader {
    reads: Reads,
    wants: bool,
    splits: Vec<u8>,
    over: bool,
}

impl SourceReader<u64> for Reader {
    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Collector<u64>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        match self.reads {
            Reads::Nothing => Poll::Pending,
            Reads::Endlessly => {
                while !out.full() && b.spend() {
                    out.push_at(7, 0);
                }
                Poll::Ready(Ok(SourceStatus::More))
            }
            Reads::Splits if self.over => Poll::Ready(Ok(SourceStatus::Finished)),
            Reads::Splits => match self.splits.pop() {
                Some(n) => {
                    b.spend();
                    out.push_at(u64::from(n), 0);
                    self.wants = true;
                    Poll::Ready(Ok(SourceStatus::SplitFinished))
                }
                None => Poll::Pending,
            },
        }
    }

    fn wants_split(&self) -> bool {
        self.reads == Reads::Splits && self.wants
    }

    fn add_split(&mut self, split: Option<Split>) -> Result<()> {
        self.wants = false;
        match split {
            Some(split) => self.splits.extend(split.bytes),
            None => self.over = true,
        }
        Ok(())
    }
}

pub(crate) struct Input(pub(crate) Reads);

impl Source<u64> for Input {
    fn bounded(&self) -> bool {
        true
    }

    fn reader(&self) -> Box<dyn SourceReader<u64>> {
        Box::new(Reader {
            reads: self.0,
            wants: true,
            splits: Vec::new(),
            over: false,
        })
    }
}

pub(crate) struct Silent;

impl WatermarkGenerator<u64> for Silent {
    fn on_event(&mut self, _: &u64, _: i64, _: &mut WatermarkOutput) {}
    fn on_periodic(&mut self, _: &mut WatermarkOutput) {}
}

pub(crate) struct Discard {
    pub(crate) panics: bool,
}

impl Operator<u64, u64> for Discard {
    fn process(
        &mut self,
        input: &mut Batch<u64>,
        _: Cx<'_>,
        _: &mut Collector<u64>,
        b: &mut Budget,
    ) -> Result<Progress> {
        assert!(!self.panics, "planted");
        let n = b.take(input.len());
        for record in input.drain(n) {
            std::hint::black_box(record);
        }
        Ok(if input.is_empty() {
            Progress::Done
        } else {
            Progress::More
        })
    }
}

pub(crate) const SINK: NodeId = NodeId(1);

pub(crate) fn job(reads: Reads, panics: bool) -> LinkedProgram {
    job_at(reads, panics, SystemClock::new())
}

pub(crate) fn job_at(reads: Reads, panics: bool, clock: Arc<dyn Clock>) -> LinkedProgram {
    let source = NodeCode::Source(Box::new(TypedSource::new(Input(reads), silent())));
    let make = move || Discard { panics };
    let sink = NodeCode::OneInput(Box::new(TypedOperator::<u64, u64, _>::new(make)));
    chain_at(source, sink, clock)
}

pub(crate) fn silent() -> WatermarkStrategy<u64> {
    WatermarkStrategy::for_generator(|| Silent)
}

/// A source and a sink in one task.
pub(crate) fn chain_of(source: NodeCode, sink: NodeCode) -> LinkedProgram {
    chain_at(source, sink, SystemClock::new())
}

fn chain_at(source_code: NodeCode, sink_code: NodeCode, clock: Arc<dyn Clock>) -> LinkedProgram {
    let mut graph = StreamGraph::new();
    let source = graph.add_node(StreamNode::new("in", "Source", NodeKind::Source));
    let sink = graph.add_node(StreamNode::new("out", "Sink", NodeKind::Sink));
    graph.add_edge(StreamEdge::new(source, sink));
    let graph = graph
        .job_graph(JobId::from_u128(1), &GraphSettings::default())
        .unwrap();
    let mut program = Program::default();
    program.add_node(source, source_code);
    program.add_node(sink, sink_code);
    LinkedProgram::new(graph, program, TaskSettings::default(), clock)
}

pub(crate) fn descriptor(graph: &JobGraph, operators: usize) -> TaskDescriptor {
    let vertex = &graph.vertices[0];
    assert_eq!(vertex.operators.len(), operators, "operators of the first chain");
    TaskDescriptor {
        job: graph.id,
        execution: ExecutionId {
            subtask: SubtaskId {
                vertex: vertex.id,
                index: 0,
            },
            attempt: AttemptNumber(0),
        },
        name: vertex.name.clone(),
        operators: vertex.operators.iter().map(|operator| operator.node).collect(),
        parallelism: 1,
        max_parallelism: 128,
        key_groups: KeyGroupRange::all(128),
        slot: AllocationId::from_u128(1),
        blocking: false,
        generation: 0,
        inputs: Vec::new(),
        outputs: Vec::new(),
        restore: None,
        backlog: false,
        peers: Vec::new(),
    }
}

pub(crate) enum Told {
    State(TaskState, Option<TaskFailure>),
    Split(NodeId),
    Report(TaskReport),
    WantsCheckpoint,
    Prepared(CheckpointId),
    Stored(CheckpointId, CheckpointPart),
    Declined(CheckpointId, String),
}

pub(crate) struct Link(pub(crate) Sender<Told>);

impl TaskLink for Link {
    fn state_changed(&self, state: TaskState, failure: Option<TaskFailure>) {
        let _gone = self.0.try_send(Told::State(state, failure));
    }
    fn request_split(&self, node: NodeId) {
        let _gone = self.0.try_send(Told::Split(node));
    }
    fn report(&self, report: TaskReport) {
        let _gone = self.0.try_send(Told::Report(report));
    }
    fn request_checkpoint(&self) {
        let _gone = self.0.try_send(Told::WantsCheckpoint);
    }
    fn checkpoint_prepared(&self, checkpoint: CheckpointId) {
        let _gone = self.0.try_send(Told::Prepared(checkpoint));
    }
    fn acknowledge(&self, checkpoint: CheckpointId, part: CheckpointPart) {
        let _gone = self.0.try_send(Told::Stored(checkpoint, part));
    }
    fn decline(&self, checkpoint: CheckpointId, reason: String) {
        let _gone = self.0.try_send(Told::Declined(checkpoint, reason));
    }
}

pub(crate) fn start(job: &LinkedProgram) -> (TaskHandle, Receiver<Told>) {
    let (sender, told) = channel(4_096);
    (
        job.start_task(descriptor(job.job_graph(), 2), Box::new(Link(sender)))
            .unwrap(),
        told,
    )
}

pub(crate) async fn next(told: &mut Receiver<Told>) -> Told {
    tokio::time::timeout(Duration::from_secs(10), told.recv())
        .await
        .unwrap()
        .unwrap()
}

/// The next state, skipping all else.
pub(crate) async fn state(told: &mut Receiver<Told>) -> (TaskState, Option<TaskFailure>) {
    loop {
        if let Told::State(state, failure) = next(told).await {
            return (state, failure);
        }
    }
}

pub(crate) async fn running(told: &mut Receiver<Told>) {
    assert_eq!(state(told).await.0, TaskState::Initializing);
    assert_eq!(state(told).await.0, TaskState::Running);
}
