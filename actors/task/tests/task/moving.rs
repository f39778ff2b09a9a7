//! Tasks that are deployed elsewhere after an unaligned checkpoint: what was on its way in a channel within a process goes on over one
//! between two, and back.

use crate::world::*;
use actix_rt::System;
use hurtig_core::ids::{CheckpointId, JobId, NodeId, TaskManagerId};
use hurtig_core::time::SystemClock;
use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Result};
use hurtig_dataflow::graph::{
    GraphSettings, JobVertex, NodeKind, PartitionKind, StreamEdge, StreamGraph, StreamNode, TaskState,
};
use hurtig_dataflow::operator::{Budget, Collector, Cx, OpenContext, Operator, Progress};
use hurtig_dataflow::program::{EdgeName, NodeCode, Program, TypedEdge, TypedOperator, TypedSource};
use hurtig_dataflow::source::{Source, SourceReader, SourceStatus};
use hurtig_exchange::remote::PeerWorker;
use hurtig_exchange::{FlushPolicy, Partitioner};
use hurtig_network::{Network, NetworkSetup, Party, tcp};
use hurtig_rpc::TcpDialer;
use hurtig_state::{OperatorSnapshot, Redistribution};
use hurtig_storage::{BlobStore, Compression, MemoryStore, SubtaskState, read_state};
use hurtig_task::interface::{
    CheckpointPart, InputDescriptor, OperatorRestore, OutputDescriptor, TaskDescriptor, TaskFactory,
    TaskHandle, TaskRestore,
};
use hurtig_task::{BarrierSettings, CheckpointStorage, LinkedProgram, TaskSettings};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};
use uuid::Uuid;

/// Records that the source has more in each life.
const MORE: u64 = 1_000;

/// What the test and the job's operators share.
#[derive(Default)]
struct Shared {
    /// Numbers below this are there to be read.
    there: AtomicU64,
    /// Numbers below this were read.
    read: AtomicU64,
    /// Whether the sink takes more than it must.
    fast: AtomicBool,
    /// What the sink has taken in this life and before.
    taken: AtomicU64,
}

/// 0, 1, 2, … as far as they are there.
struct Numbers {
    shared: Arc<Shared>,
    next: u64,
}

impl SourceReader<u64> for Numbers {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        if let Some(state) = ctx.restored() {
            self.next = state.operator::<u64>("next")?.first().copied().unwrap_or(0);
        }
        Ok(())
    }

    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Collector<u64>,
        b: &mut Budget,
    ) -> Poll<Result<SourceStatus>> {
        if self.next == self.shared.there.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        while !out.full() && self.next < self.shared.there.load(Ordering::SeqCst) && b.spend() {
            out.push_at(self.next, 0);
            self.next += 1;
        }
        self.shared.read.store(self.next, Ordering::SeqCst);
        Poll::Ready(Ok(SourceStatus::More))
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator("next", Redistribution::Split, &[self.next])
    }
}

struct NumbersSource(Arc<Shared>);

impl Source<u64> for NumbersSource {
    fn bounded(&self) -> bool {
        false
    }

    fn reader(&self) -> Box<dyn SourceReader<u64>> {
        Box::new(Numbers {
            shared: self.0.clone(),
            next: 0,
        })
    }
}

/// Keeps what it takes: one after the other, or all at once.
struct Keeps {
    shared: Arc<Shared>,
    taken: Vec<u64>,
}

impl Operator<u64, ()> for Keeps {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        if let Some(state) = ctx.restored() {
            self.taken = state.operator::<u64>("taken")?;
        }
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<u64>,
        _: Cx<'_>,
        _: &mut Collector<()>,
        b: &mut Budget,
    ) -> Result<Progress> {
        let is_fast = self.shared.fast.load(Ordering::SeqCst);
        let n = b.take(if is_fast { input.len() } else { 1 });
        if !is_fast {
            slowly();
        }
        self.taken.extend(input.drain(n));
        self.shared.taken.store(self.taken.len() as u64, Ordering::SeqCst);
        Ok(match input.is_empty() {
            true => Progress::Done,
            false => Progress::More,
        })
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator("taken", Redistribution::Split, &self.taken)
    }
}

#[expect(clippy::disallowed_methods, reason = "what is slow takes time")]
fn slowly() {
    std::thread::sleep(Duration::from_millis(2));
}

fn job(shared: &Arc<Shared>, store: Arc<dyn BlobStore>) -> LinkedProgram {
    let mut graph = StreamGraph::new();
    let source = graph.add_node(StreamNode::new("in", "Source", NodeKind::Source));
    let sink = graph.add_node(StreamNode::new("out", "Sink", NodeKind::Sink));
    graph.add_edge(StreamEdge::new(source, sink).partitioned(PartitionKind::Rebalance));
    let graph = graph
        .job_graph(JobId::from_u128(1), &GraphSettings::default())
        .unwrap();
    let mut program = Program::default();
    let code = TypedSource::new(NumbersSource(shared.clone()), silent());
    program.add_node(source, NodeCode::Source(Box::new(code)));
    let shared = shared.clone();
    let keeps = move || Keeps {
        shared: shared.clone(),
        taken: Vec::new(),
    };
    program.add_node(
        sink,
        NodeCode::OneInput(Box::new(TypedOperator::<u64, (), _>::new(keeps))),
    );
    let name = EdgeName {
        from: source,
        to: sink,
        input: 0,
        side: None,
    };
    let edge = TypedEdge::new(TypeInfo::<u64>::of(), |_| Partitioner::Rebalance { next: 0 });
    program.add_edge(name, Box::new(edge));
    let settings = TaskSettings {
        flush: FlushPolicy {
            batch_size: 16,
            ..FlushPolicy::default()
        },
        barriers: BarrierSettings::Unaligned(Duration::ZERO),
        ..TaskSettings::default()
    };
    LinkedProgram::new(graph, program, settings, SystemClock::new())
        .with_checkpoints(CheckpointStorage::new(store, Compression::Lz4))
}

fn network(worker: u128) -> Network {
    let own = Party {
        job: Uuid::from_u128(1),
        secret: Uuid::from_u128(2),
        worker: Uuid::from_u128(worker),
    };
    let setup = NetworkSetup {
        own,
        bind: tcp("127.0.0.1:0"),
        dialer: Arc::new(TcpDialer),
        config: hurtig_network::NetworkConfig::default(),
        clock: SystemClock::new(),
    };
    Network::start(setup).unwrap()
}

/// Two workers of the job.
struct Workers {
    shared: Arc<Shared>,
    store: Arc<dyn BlobStore>,
    jobs: [LinkedProgram; 2],
    peers: Vec<PeerWorker>,
}

/// What the two tasks have stored.
type Parts = [CheckpointPart; 2];

impl Workers {
    fn new() -> Self {
        let (shared, store) = (Arc::new(Shared::default()), Arc::new(MemoryStore::default()));
        let jobs = [(); 2].map(|()| job(&shared, store.clone()));
        let peers = (1..).zip(&jobs).map(|(worker, job)| {
            let network = network(worker);
            let address = network.address().to_owned();
            job.connect(Arc::new(network));
            let worker = TaskManagerId(Uuid::from_u128(worker));
            PeerWorker { worker, address }
        });
        let peers = peers.collect();
        Self {
            shared,
            store,
            jobs,
            peers,
        }
    }

    /// The task of a vertex at a worker, whose only neighbour is at another.
    fn descriptor(&self, vertex: &JobVertex, places: [usize; 2], generation: u32) -> TaskDescriptor {
        let graph = self.jobs[0].job_graph();
        let edge = &graph.edges[0];
        let is_source = edge.from == vertex.id;
        let neighbour = places[usize::from(is_source)];
        let elsewhere: BTreeMap<u32, u32> = match places[0] == places[1] {
            true => BTreeMap::new(),
            false => [(0, neighbour as u32)].into(),
        };
        let input = InputDescriptor {
            edge: edge.id,
            input: 0,
            partition: edge.partition.clone(),
            producers: 0..1,
            backlog: false,
            elsewhere: elsewhere.clone(),
        };
        let output = OutputDescriptor {
            edge: edge.id,
            producer: NodeId(0),
            side: None,
            partition: edge.partition.clone(),
            consumers: 0..1,
            consumer_parallelism: 1,
            consumer_max_parallelism: 128,
            elsewhere,
        };
        let mut descriptor = descriptor(graph, 1);
        descriptor.execution.subtask.vertex = vertex.id;
        descriptor.operators = vertex.operators.iter().map(|operator| operator.node).collect();
        descriptor.generation = generation;
        descriptor.peers = self.peers.clone();
        match is_source {
            true => descriptor.outputs.push(output),
            false => descriptor.inputs.push(input),
        }
        descriptor
    }

    /// Starts source and sink at these workers, with what was stored.
    fn start(
        &self,
        places: [usize; 2],
        generation: u32,
        parts: Option<&Parts>,
    ) -> [(TaskHandle, Receiver<Told>); 2] {
        [0, 1].map(|which: usize| {
            let graph = self.jobs[0].job_graph();
            let edge = &graph.edges[0];
            let id = if which == 0 { edge.from } else { edge.to };
            let mut descriptor = self.descriptor(graph.vertex(id).unwrap(), places, generation);
            descriptor.restore = parts.map(|parts| restore(&parts[which], u64::from(generation) - 1));
            let (sender, told) = channel(4_096);
            let job = &self.jobs[places[which]];
            (job.start_task(descriptor, Box::new(Link(sender))).unwrap(), told)
        })
    }

    /// Numbers that were read and those that were taken, by the checkpoint.
    fn stored(&self, parts: &Parts) -> (u64, Vec<u64>) {
        let of = |part: &CheckpointPart, name| {
            let operators = read_state(&*self.store, part.handle.as_ref().unwrap()).unwrap();
            operators[0].operator::<u64>(name).unwrap()
        };
        (of(&parts[0], "next")[0], of(&parts[1], "taken"))
    }
}

fn restore(part: &CheckpointPart, checkpoint: u64) -> TaskRestore {
    let state = SubtaskState {
        handle: part.handle.clone(),
        index_in_file: 0,
        finished: false,
    };
    let operator = OperatorRestore {
        parallelism: 1,
        max_parallelism: 128,
        shapes: [].into(),
        subtasks: [(0, state)].into(),
    };
    TaskRestore {
        checkpoint: CheckpointId(checkpoint),
        store: None,
        stopped: false,
        finished: false,
        operators: vec![Some(operator)],
    }
}

async fn part_of(told: &mut Receiver<Told>) -> CheckpointPart {
    let waiting = async {
        loop {
            match next(told).await {
                Told::Stored(_, part) => return part,
                Told::Declined(_, reason) => panic!("declined: {reason}"),
                Told::State(state, failure) => panic!("{state}: {failure:?}"),
                Told::Split(_) | Told::Report(_) | Told::WantsCheckpoint | Told::Prepared(_) => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap()
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap();
}

#[test]
fn what_is_on_its_way_moves_between_channels_of_one_process_and_of_two() {
    System::new().block_on(async {
        let workers = Workers::new();
        let shared = &workers.shared;
        let mut parts: Option<Parts> = None;
        // Together, apart, together at the other one, apart the other way round, together again.
        let lives = [[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]];
        for (generation, places) in (1_u32..).zip(lives) {
            let there = u64::from(generation) * MORE;
            shared.there.store(there, Ordering::SeqCst);
            let before = parts.as_ref().map_or(0, |parts| workers.stored(parts).0);
            shared.read.store(before, Ordering::SeqCst);
            let [(source, mut of_source), (sink, mut of_sink)] =
                workers.start(places, generation, parts.as_ref());
            running(&mut of_source).await;
            running(&mut of_sink).await;
            // Far more than the sink has taken by then.
            until(|| shared.read.load(Ordering::SeqCst) >= before + 100).await;
            source.trigger_checkpoint(CheckpointId(generation.into()));
            let now = [part_of(&mut of_source).await, part_of(&mut of_sink).await];
            let (read, taken) = workers.stored(&now);
            assert!(read > before, "the source goes on in life {generation}");
            assert_eq!(taken, (0..taken.len() as u64).collect::<Vec<_>>());
            let on_its_way = read - taken.len() as u64;
            assert!(
                on_its_way > 16,
                "{on_its_way} records are on their way in life {generation}"
            );
            parts = Some(now);
            for (task, told) in [(source, &mut of_source), (sink, &mut of_sink)] {
                task.cancel();
                assert_eq!(state(told).await.0, TaskState::Canceled);
            }
            workers
                .jobs
                .iter()
                .for_each(|job| job.generation_ended(generation));
        }
        // In the last life the sink takes everything: what was on its way, and what comes behind it.
        let last = lives.len() as u32 + 1;
        shared.fast.store(true, Ordering::SeqCst);
        let all = shared.there.load(Ordering::SeqCst);
        let [(source, mut of_source), (sink, mut of_sink)] = workers.start([0, 1], last, parts.as_ref());
        running(&mut of_source).await;
        running(&mut of_sink).await;
        until(|| shared.taken.load(Ordering::SeqCst) >= all).await;
        source.trigger_checkpoint(CheckpointId(last.into()));
        let parts = [part_of(&mut of_source).await, part_of(&mut of_sink).await];
        assert_eq!(workers.stored(&parts), (all, (0..all).collect::<Vec<_>>()));
        source.cancel();
        sink.cancel();
    });
}
