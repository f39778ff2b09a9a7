//! Random lives of a job of several regions, against a model of its readers: every split is read once, whatever
//! fails when, and what did not fail is left alone.
//!
//! `wide` (two readers, each forwarding to a sink of its own) is two regions that share an enumerator; `shuffled` (two
//! readers, two sinks, all connected) is a third one.

use super::*;
use crate::config::FailoverStrategy;
use crate::job_master::StorageWork;
use crate::job_master::checkpoints::CheckpointTimer;
use hurtig_core::ids::{CheckpointId, SubtaskId};
use hurtig_dataflow::graph::{Chaining, RegionId};
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_dataflow::source::{Assignment, Split};
use hurtig_storage::{CheckpointMetadata, StateHandle};
use hurtig_task::interface::CheckpointPart;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Splits of each source.
const SPLITS: u32 = 12;

pub(super) fn two_pipelines() -> Arc<JobGraph> {
    let mut graph = StreamGraph::new();
    for (name, partition) in [
        ("wide", PartitionKind::Forward),
        (
            "shuffled",
            PartitionKind::Hash {
                key: "u64".to_owned(),
            },
        ),
    ] {
        let mut source = StreamNode::new(name, "Source", NodeKind::Source);
        source.parallelism = Some(2);
        let mut sink = StreamNode::new(format!("{name}-out"), "Sink", NodeKind::Sink);
        sink.parallelism = Some(2);
        sink.chaining = Chaining::Never;
        let (source, sink) = (graph.add_node(source), graph.add_node(sink));
        graph.add_edge(StreamEdge::new(source, sink).partitioned(partition));
    }
    let graph = graph.job_graph(JobId::from_u128(1), &GraphSettings::default());
    Arc::new(graph.unwrap())
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A task does the next thing, or takes the next message.
    Task(usize),
    /// A message of a task arrives at the JobMaster.
    Deliver(usize),
    /// A task fails.
    Fail(usize),
    /// An enumerator does what it was asked for.
    Enumerator(usize),
    /// An enumerator fails at that.
    EnumeratorFails(usize),
    /// A timer fires.
    Timer(usize),
    /// The interval is over.
    Trigger,
    /// The store has written metadata, or could not.
    Store(bool),
    /// Everybody but the store does what is to be done.
    Rest,
}

fn step() -> impl Strategy<Value = Step> {
    let index = || 0..64usize;
    prop_oneof![
        12 => index().prop_map(Step::Task),
        12 => index().prop_map(Step::Deliver),
        1 => index().prop_map(Step::Fail),
        8 => index().prop_map(Step::Enumerator),
        1 => prop::bool::weighted(0.2).prop_map(|fails| if fails { Step::EnumeratorFails(0) } else { Step::Trigger }),
        4 => index().prop_map(Step::Timer),
        1 => Just(Step::Trigger),
        3 => prop::bool::weighted(0.9).prop_map(Step::Store),
        1 => Just(Step::Rest),
    ]
}

/// What a task is told.
#[derive(Clone, Debug)]
enum Order {
    Split(Option<u32>),
    Barrier(CheckpointId),
    Cancel,
}

/// A task as a TaskManager would run it. Sinks have no splits.
#[derive(Clone, Debug)]
struct Task {
    state: TaskState,
    /// The source, for readers.
    node: Option<NodeId>,
    /// What it has read: its state and, as far as a reader goes, its output.
    read: Vec<u32>,
    asked: bool,
    /// It was told that there are no more.
    done: bool,
    begins_finished: bool,
    orders: VecDeque<Order>,
    /// What it has said and nobody has heard.
    says: VecDeque<JobMasterMessage>,
    acknowledged: BTreeSet<CheckpointId>,
}

/// An enumerator, and what it was asked for.
#[derive(Clone, Debug, Default)]
struct Enumerator {
    generation: u32,
    waiting: VecDeque<u32>,
    asked: VecDeque<JobEffect>,
}

struct World {
    bench: Bench,
    tasks: BTreeMap<ExecutionId, Task>,
    /// What each subtask's newest attempt has read.
    read: BTreeMap<SubtaskId, Vec<u32>>,
    enumerators: BTreeMap<NodeId, Enumerator>,
    timers: Vec<(Time, JobEvent)>,
    /// What was stored, by path.
    parts: Vec<Vec<u32>>,
    /// What had finished readers read, by checkpoint.
    finished: BTreeMap<(CheckpointId, SubtaskId), Vec<u32>>,
    publishing: VecDeque<CheckpointId>,
    given_up: BTreeSet<CheckpointId>,
    completed: CheckpointId,
    /// Regions that something has failed in and that were not started again since.
    hit: BTreeSet<RegionId>,
    later: u32,
    ended: Option<JobResult>,
}

fn number(split: &Split) -> u32 {
    split.id.parse().unwrap()
}

fn split(number: u32) -> Split {
    Split {
        id: number.to_string(),
        bytes: Vec::new(),
    }
}

impl World {
    fn new(failover: FailoverStrategy) -> Self {
        let mut settings = settings(RestartStrategyConfig::FixedDelay {
            attempts: None,
            delay: Duration::from_secs(1),
        });
        settings.failover = failover;
        settings.checkpoints.interval = Some(Duration::from_secs(1));
        let mut world = Self {
            bench: Bench::of_job(two_pipelines(), settings),
            tasks: BTreeMap::new(),
            read: BTreeMap::new(),
            enumerators: BTreeMap::new(),
            timers: Vec::new(),
            parts: Vec::new(),
            finished: BTreeMap::new(),
            publishing: VecDeque::new(),
            given_up: BTreeSet::new(),
            completed: CheckpointId(0),
            hit: BTreeSet::new(),
            later: 0,
            ended: None,
        };
        world.bench.offer(2);
        world.absorb();
        world
    }

    fn region(&self, execution: ExecutionId) -> RegionId {
        self.bench.brain.graph().region_of(execution.subtask).unwrap()
    }

    fn order(&mut self, execution: ExecutionId, order: Order) {
        if let Some(task) = self.tasks.get_mut(&execution) {
            task.orders.push_back(order);
        }
    }

    fn absorb(&mut self) {
        for effect in self.bench.take() {
            assert!(self.ended.is_none(), "nothing follows the end: {effect:?}");
            match effect {
                JobEffect::Deploy { descriptor, .. } => self.deploy(&descriptor),
                JobEffect::CancelTask { execution, .. } => {
                    let region = self.region(execution);
                    assert!(
                        self.hit.contains(&region),
                        "{execution} is stopped, and nothing failed there"
                    );
                    self.order(execution, Order::Cancel);
                }
                JobEffect::SendSplit { execution, split, .. } => {
                    self.order(execution, Order::Split(split.as_ref().map(number)));
                }
                JobEffect::TriggerCheckpoint {
                    execution,
                    checkpoint,
                    ..
                } => self.order(execution, Order::Barrier(checkpoint)),
                JobEffect::NotifyCheckpoint { execution, event, .. } => {
                    assert!(
                        self.tasks.contains_key(&execution) || self.said_its_end(execution),
                        "{execution}"
                    );
                    if let CheckpointEvent::Completed(checkpoint) = event {
                        assert_eq!(checkpoint, self.completed);
                    }
                }
                JobEffect::StartEnumerators(starts) => {
                    for start in starts {
                        let waiting = match &start.state {
                            Some(state) => serde_json::from_slice(state).unwrap(),
                            None => (0..SPLITS).collect(),
                        };
                        let mut enumerator = Enumerator {
                            generation: start.generation,
                            waiting,
                            asked: VecDeque::new(),
                        };
                        enumerator
                            .asked
                            .push_back(JobEffect::StartEnumerators(vec![start.clone()]));
                        self.enumerators.insert(start.node, enumerator);
                    }
                }
                JobEffect::AskEnumerator { node, generation, .. }
                | JobEffect::SnapshotEnumerator { node, generation, .. }
                | JobEffect::ReturnSplits { node, generation, .. } => {
                    let enumerator = self.enumerators.get_mut(&node).unwrap();
                    assert_eq!(enumerator.generation, generation);
                    assert!(enumerator.asked.is_empty(), "one thing at a time: {effect:?}");
                    enumerator.asked.push_back(effect);
                }
                JobEffect::Store(StorageWork::Publish { metadata, .. }) => {
                    self.check(&metadata);
                    self.publishing.push_back(metadata.checkpoint_id);
                }
                JobEffect::Store(StorageWork::DiscardCheckpoint(checkpoint)) => {
                    self.given_up.insert(checkpoint);
                }
                JobEffect::After(delay, event) => self.timers.push((self.bench.now.after(delay), event)),
                JobEffect::Ended(result) => self.ended = Some(*result),
                _ => {}
            }
        }
    }

    /// Whether the end of a task is on its way to the JobMaster, or has come.
    fn said_its_end(&self, execution: ExecutionId) -> bool {
        let subtask = self.bench.brain.graph().subtask(execution.subtask).unwrap();
        subtask.current.id == execution
    }

    fn deploy(&mut self, descriptor: &TaskDescriptor) {
        let id = descriptor.execution;
        let twin = self.tasks.keys().find(|task| task.subtask == id.subtask);
        assert!(twin.is_none(), "{id} is deployed while {twin:?} runs");
        let region = self.region(id);
        self.hit.remove(&region);
        let is_reader = descriptor.inputs.is_empty();
        let restore = descriptor.restore.as_ref();
        assert_eq!(
            restore.map_or(CheckpointId(0), |from| from.checkpoint),
            self.completed,
            "a restart begins with the latest checkpoint"
        );
        let finished = restore.is_some_and(|from| from.finished);
        let read = match restore {
            _ if !is_reader => Vec::new(),
            Some(from) if from.finished => self.finished[&(from.checkpoint, id.subtask)].clone(),
            Some(from) => {
                let states = &from.operators[0].as_ref().unwrap().subtasks;
                let handle = states[&id.subtask.index].handle.as_ref().unwrap();
                self.parts[handle.path.parse::<usize>().unwrap()].clone()
            }
            None => Vec::new(),
        };
        self.read.insert(id.subtask, read.clone());
        let task = Task {
            state: TaskState::Deploying,
            node: is_reader.then(|| descriptor.operators[0]),
            read,
            asked: false,
            done: false,
            begins_finished: finished,
            orders: VecDeque::new(),
            says: VecDeque::new(),
            acknowledged: BTreeSet::new(),
        };
        self.tasks.insert(id, task);
    }

    /// A checkpoint has each split of a source once: with a reader, or with the enumerator.
    fn check(&mut self, metadata: &CheckpointMetadata) {
        let graph = self.bench.brain.graph().job_graph().clone();
        for vertex in graph
            .vertices
            .iter()
            .filter(|vertex| vertex.operators[0].kind == NodeKind::Source)
        {
            let states = metadata
                .operators
                .iter()
                .find(|states| states.operator == vertex.operators[0].id);
            let states = states.unwrap();
            let mut all: Vec<u32> = match &states.coordinator {
                Some(waiting) => serde_json::from_slice(waiting).unwrap(),
                // All tasks have finished before it was asked.
                None => Vec::new(),
            };
            for (index, state) in &states.subtasks {
                let subtask = SubtaskId {
                    vertex: vertex.id,
                    index: *index,
                };
                let read = match &state.handle {
                    Some(handle) => self.parts[handle.path.parse::<usize>().unwrap()].clone(),
                    None => {
                        assert!(state.finished);
                        let read = self.read[&subtask].clone();
                        self.finished
                            .insert((metadata.checkpoint_id, subtask), read.clone());
                        read
                    }
                };
                all.extend(read);
            }
            all.sort_unstable();
            let wanted: Vec<u32> = (0..SPLITS).collect();
            assert_eq!(all, wanted, "checkpoint {}", metadata.checkpoint_id);
        }
    }

    fn pick<K: Copy + Ord, V>(map: &BTreeMap<K, V>, index: usize) -> Option<K> {
        map.keys().nth(index % map.len().max(1)).copied()
    }

    fn say(&mut self, id: ExecutionId, state: TaskState) {
        let failure = (state == TaskState::Failed).then(|| failure(&format!("boom {id}")));
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.state = state;
        task.says.push_back(JobMasterMessage::TaskStateChanged {
            execution: id,
            state,
            failure,
        });
    }

    /// A task takes its next message, or goes on by itself.
    fn act(&mut self, id: ExecutionId) {
        let fed = self.fed(id);
        let Some(task) = self.tasks.get_mut(&id).filter(|task| !task.state.is_terminal()) else {
            return;
        };
        if let Some(order) = task.orders.pop_front() {
            return self.obey(id, order);
        }
        match task.state {
            TaskState::Deploying => self.say(id, TaskState::Initializing),
            TaskState::Initializing => self.say(id, TaskState::Running),
            _ if task.begins_finished => self.say(id, TaskState::Finished),
            _ => match task.node {
                Some(_) if task.done => self.say(id, TaskState::Finished),
                Some(node) if !task.asked => {
                    task.asked = true;
                    let execution = id;
                    task.says
                        .push_back(JobMasterMessage::SplitRequested { execution, node });
                }
                Some(_) => {}
                None if fed => {}
                None => self.say(id, TaskState::Finished),
            },
        }
    }

    /// Whether a producer of a sink runs.
    fn fed(&self, sink: ExecutionId) -> bool {
        self.neighbours(sink, false).iter().any(|task| {
            let current = self.bench.brain.graph().subtask(*task).unwrap().current.id;
            self.tasks
                .get(&current)
                .is_none_or(|task| task.state != TaskState::Finished)
                && self.bench.brain.graph().subtask(*task).unwrap().current.state() != TaskState::Finished
        })
    }

    fn neighbours(&self, of: ExecutionId, ahead: bool) -> Vec<SubtaskId> {
        let graph = self.bench.brain.graph();
        let job = graph.job_graph();
        let (vertex, index) = (of.subtask.vertex, of.subtask.index);
        let tasks = |vertex, range: std::ops::Range<u32>| range.map(move |index| SubtaskId { vertex, index });
        if ahead {
            let edges = job.outputs(vertex);
            edges
                .flat_map(|edge| tasks(edge.to, graph.consumers(edge, index)))
                .collect()
        } else {
            let edges = job.inputs(vertex);
            edges
                .flat_map(|edge| tasks(edge.from, graph.producers(edge, index)))
                .collect()
        }
    }

    fn obey(&mut self, id: ExecutionId, order: Order) {
        let path = self.parts.len();
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        match order {
            Order::Cancel => self.say(id, TaskState::Canceled),
            Order::Split(None) => task.done = true,
            Order::Split(Some(number)) => {
                task.asked = false;
                task.read.push(number);
                self.read.insert(id.subtask, task.read.clone());
            }
            Order::Barrier(checkpoint) if task.acknowledged.insert(checkpoint) => {
                self.parts.push(task.read.clone());
                let handle = StateHandle {
                    path: path.to_string(),
                    bytes: 1,
                    checksum: 2,
                    shared: Vec::new(),
                };
                task.says.push_back(JobMasterMessage::CheckpointAcknowledged {
                    execution: id,
                    checkpoint,
                    part: CheckpointPart {
                        handle: Some(handle),
                        shapes: Vec::new(),
                        stored_in: Duration::ZERO,
                        overtook: false,
                        figures: None,
                    },
                });
                for consumer in self.neighbours(id, true) {
                    let current = self.bench.brain.graph().subtask(consumer).unwrap().current.id;
                    self.order(current, Order::Barrier(checkpoint));
                }
            }
            Order::Barrier(_) => {}
        }
    }

    fn deliver(&mut self, id: ExecutionId) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let message = task.says.pop_front();
        if task.says.is_empty() && task.state.is_terminal() {
            self.tasks.remove(&id);
        }
        if let Some(message) = message {
            if let JobMasterMessage::TaskStateChanged {
                state: TaskState::Failed,
                ..
            } = message
            {
                let region = self.region(id);
                self.hit.insert(region);
            }
            self.bench.message(message);
        }
    }

    fn enumerate(&mut self, node: NodeId, fails: bool) {
        let Some(enumerator) = self.enumerators.get_mut(&node) else {
            return;
        };
        let Some(asked) = enumerator.asked.pop_front() else {
            return;
        };
        let generation = enumerator.generation;
        // What fails at the first start ends the job, which is a matter of other tests.
        if fails && self.bench.brain.status() != JobStatus::Created {
            let graph = self.bench.brain.graph();
            let vertex = graph.job_graph().vertex_of(node).unwrap().id;
            let readers = graph
                .executions()
                .filter(|execution| execution.id.subtask.vertex == vertex);
            let regions: Vec<_> = readers
                .map(|reader| graph.region_of(reader.id.subtask).unwrap())
                .collect();
            self.hit.extend(regions);
            return self.bench.event(JobEvent::EnumeratorFailed {
                generation,
                node,
                failure: failure("cannot enumerate"),
            });
        }
        let event = match asked {
            JobEffect::AskEnumerator { reader, .. } => {
                self.later += 1;
                let assignment = match enumerator.waiting.front() {
                    _ if self.later.is_multiple_of(5) => Assignment::Later(10),
                    Some(_) => Assignment::Split(split(enumerator.waiting.pop_front().unwrap())),
                    None => Assignment::NoMore,
                };
                JobEvent::SplitAssigned {
                    generation,
                    node,
                    reader,
                    assignment,
                }
            }
            JobEffect::SnapshotEnumerator { checkpoint, .. } => JobEvent::EnumeratorSnapshot {
                generation,
                node,
                checkpoint,
                snapshot: serde_json::to_vec(&enumerator.waiting).unwrap(),
            },
            JobEffect::ReturnSplits { splits, .. } => {
                splits
                    .iter()
                    .rev()
                    .for_each(|split| enumerator.waiting.push_front(number(split)));
                JobEvent::SplitsTakenBack { generation, node }
            }
            _ => JobEvent::EnumeratorStarted {
                generation,
                node,
                enumerates: true,
            },
        };
        self.bench.event(event);
    }

    fn fire(&mut self, at: usize) {
        let (due, event) = self.timers.remove(at);
        self.bench.now = self.bench.now.max(due);
        match event {
            // Nobody hangs here, and time flies.
            JobEvent::CancellationDeadline | JobEvent::SlotDeadline { .. } => {}
            JobEvent::CheckpointTimer(CheckpointTimer::Expire(_)) => {}
            event => self.bench.event(event),
        }
    }

    fn step(&mut self, step: Step) {
        if self.ended.is_some() {
            return;
        }
        match step {
            Step::Task(index) => {
                if let Some(id) = Self::pick(&self.tasks, index) {
                    self.act(id);
                }
            }
            Step::Deliver(index) => {
                if let Some(id) = Self::pick(&self.tasks, index) {
                    self.deliver(id);
                }
            }
            Step::Fail(index) => {
                if let Some(id) = Self::pick(&self.tasks, index)
                    && !self.tasks[&id].state.is_terminal()
                {
                    self.say(id, TaskState::Failed);
                }
            }
            Step::Enumerator(index) => {
                if let Some(node) = Self::pick(&self.enumerators, index) {
                    self.enumerate(node, false);
                }
            }
            Step::EnumeratorFails(index) => {
                if let Some(node) = Self::pick(&self.enumerators, index) {
                    self.enumerate(node, true);
                }
            }
            Step::Timer(index) if !self.timers.is_empty() => self.fire(index % self.timers.len()),
            Step::Trigger => {
                self.bench.now = self.bench.now.after(Duration::from_secs(1));
                self.bench
                    .event(JobEvent::CheckpointTimer(CheckpointTimer::Trigger));
            }
            Step::Store(done) => {
                if let Some(checkpoint) = self.publishing.pop_front() {
                    let result = if done {
                        Ok(())
                    } else {
                        Err("the disk is full".to_owned())
                    };
                    self.publish(checkpoint, result);
                }
            }
            Step::Rest => self.rest(),
            Step::Timer(_) => {}
        }
        self.absorb();
    }

    fn publish(&mut self, checkpoint: CheckpointId, result: Result<(), String>) {
        // One that was given up meanwhile is deleted behind this.
        if result.is_ok() && !self.given_up.contains(&checkpoint) {
            self.completed = checkpoint;
        }
        self.bench
            .event(JobEvent::CheckpointPublished(checkpoint, result));
    }

    fn rest(&mut self) {
        for index in 0..24 {
            self.step(Step::Task(index));
            self.step(Step::Deliver(index));
            self.step(Step::Enumerator(index));
        }
    }

    /// Lets everything that is under way happen, and nothing new fail.
    fn come_to_rest(&mut self) {
        for _ in 0..1_000 {
            if self.ended.is_some() {
                return;
            }
            self.step(Step::Rest);
            self.step(Step::Timer(0));
            self.step(Step::Store(true));
        }
    }

    fn show(&self) -> String {
        format!(
            "{:#?} {:#?} {:#?} {:?}",
            self.tasks, self.enumerators, self.timers, self.bench.brain.splits
        )
    }

    /// Each split was read by one of the last attempts, which nothing was undone of.
    fn each_split_was_read_once(&self) {
        let graph = self.bench.brain.graph().job_graph();
        for vertex in graph
            .vertices
            .iter()
            .filter(|vertex| vertex.operators[0].kind == NodeKind::Source)
        {
            let readers = self
                .read
                .iter()
                .filter(|(subtask, _)| subtask.vertex == vertex.id);
            let mut all: Vec<u32> = readers.flat_map(|(_, read)| read.iter().copied()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..SPLITS).collect::<Vec<_>>(), "{}", vertex.name);
        }
    }
}

proptest! {
    #[test]
    fn every_split_is_read_once_whatever_fails(
        steps in prop::collection::vec(step(), 0..400),
        full in prop::bool::weighted(0.1),
    ) {
        let failover = if full { FailoverStrategy::Full } else { FailoverStrategy::Region };
        let mut world = World::new(failover);
        steps.into_iter().for_each(|step| world.step(step));
        world.come_to_rest();
        let result = world.ended.as_ref();
        prop_assert!(result.is_some(), "stuck in {}: {}", world.bench.brain.status(), world.show());
        prop_assert_eq!(result.unwrap().status, JobStatus::Finished);
        world.each_split_was_read_once();
    }
}
