//! Fake programs: tasks that finish, fail, panic, hang or read splits; and waiting without a runtime.

use hurtig_cluster::{
    ClusterConfig, ClusterError, ClusterHandle, EmbeddedCluster, JobHandle, RestartStrategyConfig,
};
use hurtig_core::accumulators::AccumulatorValue;
use hurtig_core::ids::{CheckpointId, JobId, NodeId};
use hurtig_core::{Error, Result};
use hurtig_dataflow::graph::{
    GraphSettings, JobGraph, NodeKind, PartitionKind, StreamEdge, StreamGraph, StreamNode, TaskState,
};
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_dataflow::source::{Assignment, Split, SplitEnumerator};
use hurtig_task::interface::{
    CheckpointOrder, TaskControl, TaskDescriptor, TaskFactory, TaskFailure, TaskHandle, TaskLink, TaskReport,
};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Thread, ThreadId};
use std::time::Duration;

pub(crate) const SOURCE: NodeId = NodeId(0);

/// Waits for a future on this thread, for at most so many turns of 10 ms.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    for _ in 0..3_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("the deadline has passed");
}

/// What a fake task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Runs and finishes, with one row counted.
    Finish,
    /// Runs, then fails.
    Fail,
    /// Cannot be built.
    Refuse,
    /// Panics while it is built.
    Panic,
    /// Runs until it is cancelled.
    Run,
    /// Runs, whatever it is told.
    Hang,
    /// Reads splits until there are no more.
    Read,
    /// Says RUNNING before INITIALIZING: a bug.
    Lie,
}

/// What happened, as the tasks saw it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) started: Vec<(TaskDescriptor, ThreadId)>,
    pub(crate) cancelled: usize,
    pub(crate) splits: Vec<(u32, String)>,
    pub(crate) generations: Vec<u32>,
}

type Choose = Box<dyn Fn(&TaskDescriptor) -> Does + Send + Sync>;
type Enumerate = Box<dyn Fn() -> Box<dyn SplitEnumerator> + Send + Sync>;

pub(crate) struct Program {
    graph: JobGraph,
    choose: Choose,
    enumerate: Option<Enumerate>,
    log: Mutex<Log>,
    changed: Condvar,
}

impl Program {
    pub(crate) fn new(
        graph: JobGraph,
        choose: impl Fn(&TaskDescriptor) -> Does + Send + Sync + 'static,
    ) -> Self {
        let (log, changed) = (Mutex::default(), Condvar::new());
        Self {
            graph,
            choose: Box::new(choose),
            enumerate: None,
            log,
            changed,
        }
    }

    pub(crate) fn enumerated(
        mut self,
        make: impl Fn() -> Box<dyn SplitEnumerator> + Send + Sync + 'static,
    ) -> Self {
        self.enumerate = Some(Box::new(make));
        self
    }

    pub(crate) fn graph(&self) -> &JobGraph {
        &self.graph
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Log) -> T) -> T {
        look(&self.log.lock().unwrap())
    }

    fn write(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.log.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until the log is as wanted.
    pub(crate) fn until(&self, wanted: impl Fn(&Log) -> bool) {
        let log = self.log.lock().unwrap();
        let waited = self
            .changed
            .wait_timeout_while(log, Duration::from_secs(20), |log| !wanted(log));
        assert!(!waited.unwrap().1.timed_out(), "the deadline has passed");
    }
}

pub(crate) struct Shared(pub(crate) Arc<Program>);

impl TaskFactory for Shared {
    fn job_graph(&self) -> &JobGraph {
        &self.0.graph
    }

    fn enumerator(&self, node: NodeId) -> Option<Box<dyn SplitEnumerator>> {
        self.0
            .enumerate
            .as_ref()
            .filter(|_| node == SOURCE)
            .map(|make| make())
    }

    fn start_task(&self, descriptor: TaskDescriptor, link: Box<dyn TaskLink>) -> Result<TaskHandle> {
        let does = (self.0.choose)(&descriptor);
        let index = descriptor.execution.subtask.index;
        self.0
            .write(|log| log.started.push((descriptor, std::thread::current().id())));
        match does {
            Does::Refuse => return Err(Error::user("it cannot be built")),
            Does::Panic => panic!("it panics"),
            Does::Lie => link.state_changed(TaskState::Running, None),
            _ => {
                link.state_changed(TaskState::Initializing, None);
                link.state_changed(TaskState::Running, None);
            }
        }
        match does {
            Does::Finish => finish(&*link),
            Does::Fail => {
                let failure = TaskFailure::new(&Error::user("it fails"), None);
                link.state_changed(TaskState::Failed, Some(failure));
            }
            Does::Read => link.request_split(SOURCE),
            _ => {}
        }
        Ok(TaskHandle::new(Task {
            does,
            index,
            program: self.0.clone(),
            link: link.into(),
        }))
    }

    fn generation_ended(&self, generation: u32) {
        self.0.write(|log| log.generations.push(generation));
    }
}

fn finish(link: &dyn TaskLink) {
    let accumulators = [("rows".to_owned(), AccumulatorValue::Long(1))].into();
    link.report(TaskReport {
        accumulators,
        ..TaskReport::default()
    });
    link.state_changed(TaskState::Finished, None);
}

struct Task {
    does: Does,
    index: u32,
    program: Arc<Program>,
    link: Rc<dyn TaskLink>,
}

impl TaskControl for Task {
    fn prepare_checkpoint(&self, checkpoint: CheckpointId, _: CheckpointOrder) {
        self.link.checkpoint_prepared(checkpoint);
    }

    fn trigger_checkpoint(&self, _: CheckpointId) {}

    fn notify_checkpoint(&self, _: CheckpointEvent) {}

    fn cancel(&self) {
        self.program.write(|log| log.cancelled += 1);
        if self.does != Does::Hang {
            self.link.state_changed(TaskState::Canceled, None);
        }
    }

    fn set_backlog(&self, _: NodeId, _: bool) {}

    fn add_split(&self, node: NodeId, split: Option<Split>) {
        match split {
            Some(split) => {
                self.program.write(|log| log.splits.push((self.index, split.id)));
                self.link.request_split(node);
            }
            None => finish(&*self.link),
        }
    }
}

/// Deals out numbered splits; says "later" before each, once.
struct Numbers {
    left: VecDeque<u32>,
    hesitates: bool,
}

pub(crate) fn numbers(count: u32) -> Box<dyn SplitEnumerator> {
    Box::new(Numbers {
        left: (0..count).collect(),
        hesitates: false,
    })
}

impl SplitEnumerator for Numbers {
    fn start(&mut self, _: u32) -> Result<()> {
        Ok(())
    }

    fn next_split(&mut self, _: u32) -> Result<Assignment> {
        self.hesitates = !self.hesitates;
        if self.hesitates {
            return Ok(Assignment::Later(1));
        }
        let split = |number: u32| {
            Assignment::Split(Split {
                id: number.to_string(),
                bytes: Vec::new(),
            })
        };
        Ok(self.left.pop_front().map_or(Assignment::NoMore, split))
    }

    fn add_back(&mut self, _: Vec<Split>) {}

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: &[u8], parallelism: u32) -> Result<()> {
        self.start(parallelism)
    }
}

/// An enumerator that cannot start.
pub(crate) struct Broken {
    pub(crate) panics: bool,
}

impl SplitEnumerator for Broken {
    fn start(&mut self, _: u32) -> Result<()> {
        assert!(!self.panics, "the enumerator panics");
        Err(Error::user("/data does not exist"))
    }

    fn next_split(&mut self, _: u32) -> Result<Assignment> {
        Ok(Assignment::NoMore)
    }

    fn add_back(&mut self, _: Vec<Split>) {}

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: &[u8], parallelism: u32) -> Result<()> {
        self.start(parallelism)
    }
}

/// An enumerator that blocks for good: on its start, or when it is asked.
pub(crate) struct Stuck {
    pub(crate) at_start: bool,
    pub(crate) stuck: SyncSender<()>,
}

impl Stuck {
    fn block(&self) -> ! {
        // The test may have ended.
        let _ = self.stuck.send(());
        loop {
            std::thread::park();
        }
    }
}

impl SplitEnumerator for Stuck {
    fn start(&mut self, _: u32) -> Result<()> {
        if self.at_start {
            self.block();
        }
        Ok(())
    }

    fn next_split(&mut self, _: u32) -> Result<Assignment> {
        self.block()
    }

    fn add_back(&mut self, _: Vec<Split>) {}

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: &[u8], parallelism: u32) -> Result<()> {
        self.start(parallelism)
    }
}

/// in -> hash -> out, with this parallelism.
pub(crate) fn graph(job: u128, parallelism: u32) -> JobGraph {
    let mut graph = StreamGraph::new();
    let mut source = StreamNode::new("in", "Source", NodeKind::Source);
    source.uid = Some("in-uid".to_owned());
    let source = graph.add_node(source);
    let sink = graph.add_node(StreamNode::new("out", "Sink", NodeKind::Sink));
    let hash = PartitionKind::Hash {
        key: "u64".to_owned(),
    };
    graph.add_edge(StreamEdge::new(source, sink).partitioned(hash));
    let settings = GraphSettings {
        default_parallelism: parallelism,
        ..GraphSettings::default()
    };
    graph.job_graph(JobId::from_u128(job), &settings).unwrap()
}

/// Whether a task is one of the sink's.
pub(crate) fn is_sink(task: &TaskDescriptor) -> bool {
    task.operators[0] != SOURCE
}

pub(crate) fn cluster() -> ClusterHandle {
    EmbeddedCluster::start(ClusterConfig {
        worker_threads: 2,
        ..ClusterConfig::default()
    })
    .unwrap()
}

pub(crate) fn submit(cluster: &ClusterHandle, program: &Arc<Program>) -> JobHandle {
    submit_with(cluster, program, RestartStrategyConfig::None).unwrap()
}

pub(crate) fn submit_with(
    cluster: &ClusterHandle,
    program: &Arc<Program>,
    restart: RestartStrategyConfig,
) -> Result<JobHandle, ClusterError> {
    wait(cluster.submit(program.graph.clone(), Arc::new(Shared(program.clone())), restart))
}
