//! Jobs whose tasks are in two workers: each has its share of them, its thread, and its end of the one connection, whose sockets are
//! this machine's own. At parallelism 2 half of what is shuffled crosses it.
//!
//! Workers are processes elsewhere; here they are two sides of one, so that both variants run the same code on as many threads.

use crate::measure::Failure;
use crate::probes::{Delays, Fold, OpenLoop};
use crate::schedule::Schedule;
use crate::work::Work;
use actix_rt::System;
use hdrhistogram::Histogram;
use hurtig_connector_datagen::GeneratorSource;
use hurtig_core::ids::{
    AllocationId, AttemptNumber, CheckpointId, ExecutionId, JobId, NodeId, SubtaskId, TaskManagerId,
};
use hurtig_core::key::{KeyGroupRange, StableKey};
use hurtig_core::time::SystemClock;
use hurtig_core::types::TypeInfo;
use hurtig_dataflow::graph::{
    GraphSettings, JobGraph, JobVertex, NodeKind, PartitionKind, StreamEdge, StreamGraph, StreamNode,
    TaskState,
};
use hurtig_dataflow::key::{ByValue, KeySelector};
use hurtig_dataflow::operators::watermark::{WatermarkGenerator, WatermarkOutput, WatermarkStrategy};
use hurtig_dataflow::operators::{KeyedFold, SinkOperator};
use hurtig_dataflow::program::{
    EdgeName, EdgeShape, NodeCode, Program, TypedEdge, TypedOperator, TypedSource,
};
use hurtig_dataflow::sink::Sink;
use hurtig_dataflow::source::Source;
use hurtig_exchange::remote::PeerWorker;
use hurtig_exchange::{HashRecords, Partitioner};
use hurtig_network::{Network, NetworkConfig, NetworkSetup, Party, tcp};
use hurtig_rpc::TcpDialer;
use hurtig_task::interface::{
    CheckpointPart, InputDescriptor, OutputDescriptor, TaskDescriptor, TaskFactory, TaskFailure, TaskLink,
    TaskReport,
};
use hurtig_task::{LinkedProgram, TaskSettings};
use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::thread;
use tokio::sync::mpsc::{Sender, channel};
use uuid::Uuid;

/// Where the tasks of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// All in one worker.
    Together,
    /// One subtask of each vertex in each worker.
    Apart,
}

/// Key groups of each vertex.
const GROUPS: u32 = 128;

/// Running counts of numbers; their sum.
pub(crate) fn keyed_count(parallelism: u32, work: Work, place: Place) -> Result<u64, Failure> {
    let (sink, sum) = Fold::summing(|(_, count): (u64, u64)| count);
    let sink = Arc::new(sink);
    run(parallelism, place, || {
        let source = GeneratorSource::new(work.records, move |index| work.key(index));
        let selector = Arc::new(ByValue::new(|key: &u64| *key));
        let hashed = Arc::new(Hashed(selector.clone()));
        let count = |key: &u64, count: &mut u64, _: &u64| {
            *count += 1;
            (*key, *count)
        };
        let fold = move || KeyedFold::new(selector.clone(), Arc::new(|| 0_u64), Arc::new(count));
        let fold = TypedOperator::<u64, (u64, u64), _>::new(fold);
        let end = ending::<(u64, u64), _>(&sink);
        let nodes = vec![NodeCode::OneInput(Box::new(fold)), end];
        program(parallelism, source, hashed, nodes)
    })?;
    Ok(sum.get())
}

/// One shuffle; each record's delay.
pub(crate) fn latency(parallelism: u32, schedule: Schedule, place: Place) -> Result<Histogram<u64>, Failure> {
    let source = OpenLoop::new(schedule);
    let (sink, delays) = Delays::new(&source, |index: &u64| *index);
    let sink = Arc::new(sink);
    run(parallelism, place, || {
        let selector = Arc::new(ByValue::new(|index: &u64| *index));
        let nodes = vec![ending::<u64, _>(&sink)];
        program(parallelism, source.clone(), Arc::new(Hashed(selector)), nodes)
    })?;
    Ok(delays.take())
}

/// How keys find their consumers, as the API says it.
struct Hashed<S>(Arc<S>);

impl<T, S: KeySelector<T>> HashRecords<T> for Hashed<S> {
    fn hash_all(&self, records: &[T], hashes: &mut Vec<u64>) {
        self.0.hash_all(records, hashes);
    }

    fn cheap(&self) -> bool {
        S::hashes_cheaply()
    }

    fn split(&self, records: &[T], bound: u32, lists: (&mut [u32], &mut [u32])) -> Option<usize> {
        self.0.split_places(records, bound, lists)
    }
}

/// Emits no watermarks.
struct Silent;

impl WatermarkGenerator<u64> for Silent {
    fn on_event(&mut self, _: &u64, _: i64, _: &mut WatermarkOutput) {}
    fn on_periodic(&mut self, _: &mut WatermarkOutput) {}
}

fn ending<T: Clone + Send + 'static, S: Sink<T> + 'static>(sink: &Arc<S>) -> NodeCode {
    let sink = sink.clone();
    let end = TypedOperator::<T, (), _>::new(move || SinkOperator::new(sink.writer()));
    NodeCode::OneInput(Box::new(end))
}

/// A source of numbers, a shuffle by key, and a chain behind it.
fn program(
    parallelism: u32,
    source: impl Source<u64>,
    hasher: Arc<dyn HashRecords<u64>>,
    nodes: Vec<NodeCode>,
) -> Result<LinkedProgram, Failure> {
    let (mut graph, mut code) = (StreamGraph::new(), Program::default());
    let node = |name: &str, kind| {
        let mut node = StreamNode::new(name, name, kind);
        (node.parallelism, node.max_parallelism) = (Some(parallelism), Some(GROUPS));
        node
    };
    let first = graph.add_node(node("numbers", NodeKind::Source));
    let source = TypedSource::new(source, WatermarkStrategy::for_generator(|| Silent));
    code.add_node(first, NodeCode::Source(Box::new(source)));
    let mut last = first;
    let ending = nodes.len() - 1;
    for (at, operator) in nodes.into_iter().enumerate() {
        let kind = if at == ending {
            NodeKind::Sink
        } else {
            NodeKind::Operator
        };
        let to = graph.add_node(node("behind", kind));
        let edge = StreamEdge::new(last, to);
        graph.add_edge(match at {
            0 => edge.partitioned(PartitionKind::Hash { key: key_shape() }),
            _ => edge.partitioned(PartitionKind::Forward),
        });
        if at == 0 {
            code.add_edge(edge_name(last, to), shuffle(hasher.clone()));
        }
        code.add_node(to, operator);
        last = to;
    }
    let settings = GraphSettings {
        auto_generate_uids: true,
        ..GraphSettings::default()
    };
    let graph = graph.job_graph(JobId::from_u128(1), &settings)?;
    Ok(LinkedProgram::new(
        graph,
        code,
        TaskSettings::default(),
        SystemClock::new(),
    ))
}

fn key_shape() -> String {
    let mut shape = String::new();
    u64::shape(&mut shape);
    shape
}

fn edge_name(from: NodeId, to: NodeId) -> EdgeName {
    EdgeName {
        from,
        to,
        input: 0,
        side: None,
    }
}

fn shuffle(hasher: Arc<dyn HashRecords<u64>>) -> Box<dyn hurtig_dataflow::program::EdgeCode> {
    let by = hasher.clone();
    let partitioner =
        move |shape: EdgeShape| Partitioner::hash(by.clone(), shape.max_parallelism, shape.consumers);
    Box::new(TypedEdge::new(TypeInfo::<u64>::of(), partitioner).hashed_by(Some(hasher)))
}

/// Runs a job to its end: one thread a subtask, one worker or one for each thread.
fn run(
    parallelism: u32,
    place: Place,
    job: impl Fn() -> Result<LinkedProgram, Failure>,
) -> Result<(), Failure> {
    let workers = if place == Place::Apart { parallelism } else { 1 };
    let jobs = (0..workers)
        .map(|_| job().map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let mut peers = Vec::new();
    for (number, job) in (0..).zip(&jobs) {
        let network = network(number)?;
        let worker = TaskManagerId(id_of(number));
        let address = network.address().to_owned();
        peers.push(PeerWorker { worker, address });
        job.connect(Arc::new(network));
    }
    let begin = Arc::new(Barrier::new(parallelism as usize));
    let threads: Vec<_> = (0..parallelism)
        .map(|index| {
            let job = jobs[(index % workers) as usize].clone();
            let worker = Worker {
                index,
                parallelism,
                peers: peers.clone(),
            };
            let begin = begin.clone();
            thread::spawn(move || {
                begin.wait();
                System::new().block_on(worker.run(&job))
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a worker has panicked")??;
    }
    Ok(())
}

fn id_of(worker: u32) -> Uuid {
    Uuid::from_u128(u128::from(worker) + 1)
}

fn network(worker: u32) -> Result<Network, Failure> {
    let own = Party {
        job: Uuid::from_u128(1),
        secret: Uuid::from_u128(2),
        worker: id_of(worker),
    };
    Ok(Network::start(NetworkSetup {
        own,
        bind: tcp("127.0.0.1:0"),
        dialer: Arc::new(TcpDialer),
        config: NetworkConfig::default(),
        clock: SystemClock::new(),
    })?)
}

/// One subtask of each vertex, on this thread.
struct Worker {
    index: u32,
    parallelism: u32,
    /// All workers; one: everything is here.
    peers: Vec<PeerWorker>,
}

impl Worker {
    async fn run(self, job: &LinkedProgram) -> Result<(), Failure> {
        let graph = job.job_graph();
        let (sender, mut ends) = channel(graph.vertices.len());
        let mut tasks = Vec::new();
        for vertex in &graph.vertices {
            let link = Box::new(Link(sender.clone()));
            tasks.push(job.start_task(self.descriptor(graph, vertex), link)?);
        }
        for _ in &tasks {
            match ends.recv().await {
                Some((TaskState::Finished, _)) => {}
                other => return Err(format!("a task has ended otherwise: {other:?}").into()),
            }
        }
        Ok(())
    }

    /// The subtasks of a vertex that are in another worker, and in which.
    fn elsewhere(&self) -> BTreeMap<u32, u32> {
        let others = (0..self.parallelism).filter(|index| *index != self.index && self.peers.len() > 1);
        others.map(|index| (index, index)).collect()
    }

    fn descriptor(&self, graph: &JobGraph, vertex: &JobVertex) -> TaskDescriptor {
        let all = 0..self.parallelism;
        let input = |edge: &hurtig_dataflow::graph::JobEdge| InputDescriptor {
            edge: edge.id,
            input: edge.input,
            partition: edge.partition.clone(),
            producers: all.clone(),
            backlog: false,
            elsewhere: self.elsewhere(),
        };
        let output = |edge: &hurtig_dataflow::graph::JobEdge| OutputDescriptor {
            edge: edge.id,
            producer: edge.producer,
            side: None,
            partition: edge.partition.clone(),
            consumers: all.clone(),
            consumer_parallelism: self.parallelism,
            consumer_max_parallelism: GROUPS,
            elsewhere: self.elsewhere(),
        };
        TaskDescriptor {
            job: graph.id,
            execution: ExecutionId {
                subtask: SubtaskId {
                    vertex: vertex.id,
                    index: self.index,
                },
                attempt: AttemptNumber(0),
            },
            name: vertex.name.clone(),
            operators: vertex.operators.iter().map(|operator| operator.node).collect(),
            parallelism: self.parallelism,
            max_parallelism: GROUPS,
            key_groups: KeyGroupRange::of_subtask(self.index, self.parallelism, GROUPS),
            slot: AllocationId::from_u128(1),
            blocking: false,
            generation: 1,
            inputs: graph.inputs(vertex.id).map(input).collect(),
            outputs: graph.outputs(vertex.id).map(output).collect(),
            restore: None,
            backlog: false,
            peers: self.peers.clone(),
        }
    }
}

/// Waits for the ends of tasks.
struct Link(Sender<(TaskState, Option<TaskFailure>)>);

impl TaskLink for Link {
    fn state_changed(&self, state: TaskState, failure: Option<TaskFailure>) {
        if state.is_terminal() {
            // There is room for the end of each task.
            let _ = self.0.try_send((state, failure));
        }
    }
    fn request_split(&self, _: NodeId) {}
    fn report(&self, _: TaskReport) {}
    fn request_checkpoint(&self) {}
    fn checkpoint_prepared(&self, _: CheckpointId) {}
    fn acknowledge(&self, _: CheckpointId, _: CheckpointPart) {}
    fn decline(&self, _: CheckpointId, _: String) {}
}
