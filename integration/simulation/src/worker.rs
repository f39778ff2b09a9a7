//! The process of a worker: the brain of a TaskManager and models of tasks.

use crate::courier::{Couriers, Way};
use crate::job::JOB;
use crate::kernel::Kernel;
use crate::messages::{Ask, Element, Input, Lane, Payload, Pid, Refused, Reply, Then, Timer};
use crate::tasks::{Act, Role, Task};
use hurtig_cluster::messages::{JobMasterMessage, TaskId, TaskManagerMessage};
use hurtig_cluster::simulation::Inbox;
use hurtig_cluster::{TaskManagerBrain, TaskManagerEffect, TaskManagerEvent};
use hurtig_core::ids::{AllocationId, CheckpointId, NodeId, SubtaskId, TaskManagerId};
use hurtig_core::{Error, Fault};
use hurtig_dataflow::graph::TaskState;
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_rpc::{Fences, Stamp};
use hurtig_storage::{BlobStore, CheckpointLayout, StateHandle};
use hurtig_task::interface::{CheckpointPart, TaskDescriptor, TaskFailure};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::time::Duration;

/// How long the JobMaster may take to know this worker.
const OPENING: Duration = Duration::from_secs(10);

/// What it was started with.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) worker: TaskManagerId,
    pub(crate) of: TaskManagerId,
    pub(crate) epoch: NonZeroU64,
    pub(crate) allocations: Vec<AllocationId>,
    pub(crate) master: Pid,
}

struct Running {
    /// `None`: it is being opened.
    task: Option<Task>,
    descriptor: TaskDescriptor,
    /// Parts that are being stored.
    storing: usize,
    /// It has finished, but for those.
    finished: bool,
}

/// See the module.
pub(crate) struct Worker {
    own: Pid,
    order: Order,
    brain: TaskManagerBrain,
    tasks: BTreeMap<TaskId, Running>,
    /// What has come for tasks that are not there yet.
    early: BTreeMap<Lane, VecDeque<Element>>,
    couriers: Couriers,
    inbox: Inbox,
    fences: Fences,
}

impl Worker {
    pub(crate) fn new(own: Pid, order: Order) -> Self {
        let fences = Fences::new();
        // Nobody commands it yet: that cannot be refused.
        let _ = fences.follow(Stamp::job(JOB, order.epoch));
        Self {
            own,
            order,
            brain: TaskManagerBrain::new(2),
            tasks: BTreeMap::new(),
            early: BTreeMap::new(),
            couriers: Couriers::default(),
            inbox: Inbox::default(),
            fences,
        }
    }

    pub(crate) fn handle(&mut self, input: Input, kernel: &mut Kernel) {
        match input {
            Input::Begin => {
                let ask = Ask::OpenWorker {
                    worker: self.order.worker,
                };
                kernel.watch(self.own, self.order.master);
                let stamp = Some(self.stamp());
                kernel.ask((self.own, self.order.master), stamp, ask, (OPENING, Then::Opened));
            }
            Input::Call { from, id, stamp, ask } => self.on_call((from, id), stamp, ask, kernel),
            Input::Lost(peer) if peer == self.order.master => kernel.end(self.own, "its JobMaster is gone"),
            Input::Lost(peer) | Input::Broken(peer) => self.on_broken(peer, kernel),
            Input::Timer(timer) => self.on_timer(timer, kernel),
            Input::Element { lane, element, .. } => self.on_element(lane, element, kernel),
            _ => {}
        }
    }

    pub(crate) fn answered(&mut self, then: Then, answer: Result<Reply, Refused>, kernel: &mut Kernel) {
        match (then, answer) {
            (Then::Opened, Ok(_)) => {
                let stamp = self.stamp();
                self.couriers
                    .lead(Way::Master, (self.own, self.order.master), stamp, kernel);
                let (job, allocations) = (JOB, self.order.allocations.clone());
                self.decide(
                    TaskManagerEvent::Message(TaskManagerMessage::RequestSlots { job, allocations }),
                    kernel,
                );
            }
            (Then::Opened, Err(_)) => kernel.end(self.own, "the JobMaster does not know it"),
            (Then::Delivered { way, place, sent }, answer) => {
                let lost = self
                    .couriers
                    .answered(self.own, (way, place, sent), answer.err(), kernel);
                if lost.is_some() {
                    kernel.end(self.own, "its JobMaster has been replaced");
                }
            }
            _ => {}
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp::job(JOB, self.order.epoch)
    }

    fn on_call(&mut self, (from, id): (Pid, u64), stamp: Option<Stamp>, ask: Ask, kernel: &mut Kernel) {
        if let Err(fenced) = self.fences.admit(stamp) {
            kernel.checks.fenced += 1;
            return kernel.answer(self.own, id, Err(Refused::Fenced(fenced)));
        }
        let _ = from;
        let Ask::Deliver(delivery) = ask else {
            return kernel.answer(self.own, id, Err(Refused::Failed("no such question".to_owned())));
        };
        match self.inbox.accept(delivery) {
            Ok(messages) => {
                for message in messages.collect::<Vec<_>>() {
                    if let Payload::Worker(message) = message {
                        self.decide(TaskManagerEvent::Message(message), kernel);
                    }
                }
                kernel.answer(self.own, id, Ok(Reply::Done));
            }
            Err(missing) => {
                let error = Error::from(missing).to_string();
                kernel.answer(self.own, id, Err(Refused::Failed(error)));
            }
        }
    }

    fn on_timer(&mut self, timer: Timer, kernel: &mut Kernel) {
        match timer {
            Timer::Courier { way, place } => self.couriers.rested(self.own, (way, place), kernel),
            Timer::Opened(task) => self.open(task, kernel),
            Timer::Step(task) => self.step(task, kernel),
            Timer::Stored {
                task,
                checkpoint,
                state,
            } => self.store(task, checkpoint, &state, kernel),
            _ => {}
        }
    }

    fn decide(&mut self, event: TaskManagerEvent, kernel: &mut Kernel) {
        let mut effects = Vec::new();
        self.brain.handle(event, &mut effects);
        for effect in effects {
            self.carry_out(effect, kernel);
        }
    }

    fn report(&mut self, message: JobMasterMessage, kernel: &mut Kernel) {
        self.couriers
            .send(self.own, Way::Master, Payload::Master(message), kernel);
    }

    fn carry_out(&mut self, effect: TaskManagerEffect, kernel: &mut Kernel) {
        match effect {
            TaskManagerEffect::OfferSlots { allocations, .. } => {
                let offer = JobMasterMessage::SlotsOffered {
                    task_manager: self.order.worker,
                    allocations,
                    exchange: Some(self.own.to_string()),
                    of: Some(self.order.of),
                };
                self.report(offer, kernel);
            }
            TaskManagerEffect::Start { descriptor, .. } => self.start(*descriptor, kernel),
            TaskManagerEffect::Cancel { task, .. } => {
                if self.tasks.remove(&task).is_some() {
                    self.say(task, TaskState::Canceled, None, kernel);
                }
            }
            TaskManagerEffect::AddSplit { task, split, .. } => {
                let split = split.and_then(|split| split.id.parse().ok());
                if let Some(running) = self.running(task) {
                    running.add_split(split);
                    self.step_soon(task, kernel);
                }
            }
            TaskManagerEffect::TriggerCheckpoint { task, checkpoint, .. } => {
                self.act(task, kernel, |running, out| running.trigger(checkpoint, out));
            }
            TaskManagerEffect::NotifyCheckpoint { task, event, .. } => {
                self.act(task, kernel, |running, out| match event {
                    CheckpointEvent::Completed(checkpoint) => running.completed(checkpoint, out),
                    CheckpointEvent::Aborted(checkpoint) => running.aborted(checkpoint, out),
                });
            }
            TaskManagerEffect::PrepareCheckpoint { task, checkpoint, .. } => {
                self.decide(TaskManagerEvent::CheckpointPrepared { task, checkpoint }, kernel);
            }
            TaskManagerEffect::Report { message, .. } => self.report(message, kernel),
            TaskManagerEffect::EndGeneration { generation, .. } => {
                self.early.retain(|lane, _| lane.generation != generation);
            }
            TaskManagerEffect::Forget { task, .. } => drop(self.tasks.remove(&task)),
            TaskManagerEffect::CloseJob(_) => kernel.end(self.own, "done"),
            TaskManagerEffect::SetBacklog { .. } => {}
        }
    }

    // Tasks.

    fn running(&mut self, task: TaskId) -> Option<&mut Task> {
        self.tasks.get_mut(&task)?.task.as_mut()
    }

    fn say(&mut self, task: TaskId, state: TaskState, failure: Option<TaskFailure>, kernel: &mut Kernel) {
        self.decide(TaskManagerEvent::TaskState { task, state, failure }, kernel);
    }

    fn start(&mut self, descriptor: TaskDescriptor, kernel: &mut Kernel) {
        let task = TaskId {
            job: descriptor.job,
            execution: descriptor.execution,
        };
        for peer in &descriptor.peers {
            if let Ok(pid) = peer.address.parse() {
                kernel.watch(self.own, pid);
            }
        }
        let running = Running {
            task: None,
            descriptor,
            storing: 0,
            finished: false,
        };
        self.tasks.insert(task, running);
        self.say(task, TaskState::Initializing, None, kernel);
        let delay = kernel.random.millis(1, 200);
        kernel.timer(self.own, delay, Timer::Opened(task));
    }

    /// A task has read its state, or cannot.
    fn open(&mut self, id: TaskId, kernel: &mut Kernel) {
        let Some(running) = self.tasks.get(&id) else {
            return;
        };
        let descriptor = running.descriptor.clone();
        let lanes: Vec<Lane> = lanes_to(&descriptor, kernel);
        let broken = descriptor.peers.iter().find(|peer| {
            let pid = peer.address.parse().unwrap_or_default();
            let generation = descriptor.generation;
            kernel.is_broken((pid, self.own), generation) || kernel.is_broken((self.own, pid), generation)
        });
        if let Some(worker) = broken.map(|peer| peer.worker) {
            let why = "a connection was broken before it began".to_owned();
            return self.fail(id, (why, Some(worker)), kernel);
        }
        match build(descriptor, kernel) {
            Ok(task) => {
                if let Some(running) = self.tasks.get_mut(&id) {
                    running.task = Some(task);
                }
                self.say(id, TaskState::Running, None, kernel);
                self.act(id, kernel, |task, out| task.begin(out));
                for lane in lanes {
                    for element in self.early.remove(&lane).unwrap_or_default() {
                        self.act(id, kernel, |task, out| task.take(lane.from, element, out));
                    }
                }
                self.step_soon(id, kernel);
            }
            Err(why) => self.fail(id, (why, None), kernel),
        }
    }

    fn fail(&mut self, id: TaskId, (why, worker): (String, Option<TaskManagerId>), kernel: &mut Kernel) {
        let failure = TaskFailure {
            fault: Fault::External.into(),
            message: why,
            operator: None,
            panicked: false,
            permanent: false,
            worker,
        };
        kernel.tell(
            self.own,
            format_args!("task {} fails: {}", id.execution, failure.message),
        );
        self.tasks.remove(&id);
        self.say(id, TaskState::Failed, Some(failure), kernel);
    }

    fn step_soon(&self, task: TaskId, kernel: &mut Kernel) {
        let delay = kernel.random.millis(20, 300);
        kernel.timer(self.own, delay, Timer::Step(task));
    }

    fn step(&mut self, id: TaskId, kernel: &mut Kernel) {
        let Some(task) = self.running(id).filter(|task| task.is_source()) else {
            return;
        };
        let mut acts = Vec::new();
        task.step(&mut acts);
        let asks = acts.contains(&Act::RequestSplit);
        let idle = acts.is_empty();
        self.carry_all(id, acts, kernel);
        if !asks && !idle {
            self.step_soon(id, kernel);
        }
    }

    fn act(&mut self, id: TaskId, kernel: &mut Kernel, what: impl FnOnce(&mut Task, &mut Vec<Act>)) {
        let Some(task) = self.running(id) else { return };
        let mut acts = Vec::new();
        what(task, &mut acts);
        self.carry_all(id, acts, kernel);
    }

    fn carry_all(&mut self, id: TaskId, acts: Vec<Act>, kernel: &mut Kernel) {
        for act in acts {
            match act {
                Act::Send(to, element) => self.send(id, to, element, kernel),
                Act::RequestSplit => {
                    let node = NodeId(0);
                    self.decide(TaskManagerEvent::SplitRequest { task: id, node }, kernel);
                }
                Act::Cut(checkpoint, state) => {
                    if let Some(running) = self.tasks.get_mut(&id) {
                        running.storing += 1;
                        let delay = kernel.random.millis(1, 150);
                        let task = id;
                        kernel.timer(
                            self.own,
                            delay,
                            Timer::Stored {
                                task,
                                checkpoint,
                                state,
                            },
                        );
                    }
                }
                Act::RequestCheckpoint => {
                    self.decide(TaskManagerEvent::CheckpointRequest { task: id }, kernel);
                }
                Act::Commit(name, records) => kernel.checks.commit(&name, records),
                Act::Finished => {
                    if let Some(running) = self.tasks.get_mut(&id) {
                        running.finished = true;
                    }
                    self.look_at_end(id, kernel);
                }
            }
        }
    }

    fn look_at_end(&mut self, id: TaskId, kernel: &mut Kernel) {
        let over = self
            .tasks
            .get(&id)
            .is_some_and(|running| running.finished && running.storing == 0);
        if over {
            self.say(id, TaskState::Finished, None, kernel);
        }
    }

    /// A part of a checkpoint is written, beside the records.
    fn store(&mut self, id: TaskId, checkpoint: CheckpointId, state: &[u8], kernel: &mut Kernel) {
        let Some(running) = self.tasks.get_mut(&id) else {
            return;
        };
        running.storing -= 1;
        let dir = CheckpointLayout::new(JOB).checkpoint(checkpoint);
        let path = CheckpointLayout::state_file(&dir, id.execution, kernel.random.next());
        let event = match kernel.blobs.put_new(&path, state) {
            Ok(()) => TaskManagerEvent::CheckpointStored {
                task: id,
                checkpoint,
                part: part_of(path, state),
            },
            Err(error) => {
                let _ = kernel.blobs.delete(&path);
                let reason = error.to_string();
                TaskManagerEvent::CheckpointDeclined {
                    task: id,
                    checkpoint,
                    reason,
                }
            }
        };
        self.decide(event, kernel);
        self.look_at_end(id, kernel);
    }

    // Streams.

    fn send(&mut self, id: TaskId, to: SubtaskId, element: Element, kernel: &mut Kernel) {
        let Some(running) = self.tasks.get(&id) else {
            return;
        };
        let descriptor = &running.descriptor;
        let lane = Lane {
            generation: descriptor.generation,
            from: id.execution.subtask,
            to,
        };
        let output = descriptor
            .outputs
            .iter()
            .find_map(|output| output.elsewhere.get(&to.index));
        let peer = output.and_then(|place| descriptor.peers.get(*place as usize));
        let pid = peer.map_or(Some(self.own), |peer| peer.address.parse().ok());
        kernel.stream((self.own, pid.unwrap_or(self.own)), lane, element);
    }

    fn on_element(&mut self, lane: Lane, element: Element, kernel: &mut Kernel) {
        let to = self.tasks.iter().find(|(id, running)| {
            id.execution.subtask == lane.to
                && running.descriptor.generation == lane.generation
                && running.task.is_some()
        });
        match to.map(|(id, _)| *id) {
            Some(id) => self.act(id, kernel, |task, out| task.take(lane.from, element, out)),
            None => self.early.entry(lane).or_default().push_back(element),
        }
    }

    /// What is connected with that process fails.
    fn on_broken(&mut self, peer: Pid, kernel: &mut Kernel) {
        let address = peer.to_string();
        let hit = self.tasks.iter().filter_map(|(id, running)| {
            let peer = running
                .descriptor
                .peers
                .iter()
                .find(|known| known.address == address)?;
            Some((*id, peer.worker))
        });
        for (id, worker) in hit.collect::<Vec<_>>() {
            let why = format!("the connection with worker {worker} is broken");
            self.fail(id, (why, Some(worker)), kernel);
        }
    }
}

fn part_of(path: String, state: &[u8]) -> CheckpointPart {
    let handle = StateHandle {
        path,
        bytes: state.len() as u64,
        checksum: 0,
        shared: Vec::new(),
    };
    CheckpointPart {
        handle: Some(handle),
        shapes: Vec::new(),
        stored_in: Duration::ZERO,
        overtook: false,
        figures: None,
    }
}

/// The channels that lead to a task.
fn lanes_to(descriptor: &TaskDescriptor, kernel: &Kernel) -> Vec<Lane> {
    let to = descriptor.execution.subtask;
    let lane = |from| Lane {
        generation: descriptor.generation,
        from,
        to,
    };
    producers(descriptor, kernel).into_iter().map(lane).collect()
}

fn producers(descriptor: &TaskDescriptor, kernel: &Kernel) -> Vec<SubtaskId> {
    let edges = kernel.graph.inputs(descriptor.execution.subtask.vertex);
    let all = edges.zip(&descriptor.inputs).flat_map(|(edge, input)| {
        let vertex = edge.from;
        input
            .producers
            .clone()
            .map(move |index| SubtaskId { vertex, index })
    });
    all.collect()
}

fn build(descriptor: TaskDescriptor, kernel: &Kernel) -> Result<Task, String> {
    let vertex = descriptor.execution.subtask.vertex;
    let place = kernel.graph.vertices.iter().position(|known| known.id == vertex);
    let role = match place {
        Some(0) => Role::Source,
        Some(1) => Role::Count,
        _ => Role::Sink,
    };
    let edges = kernel.graph.outputs(vertex).zip(&descriptor.outputs);
    let outputs = edges.flat_map(|(edge, output)| {
        let vertex = edge.to;
        output
            .consumers
            .clone()
            .map(move |index| SubtaskId { vertex, index })
    });
    let outputs = outputs.collect();
    let inputs = producers(&descriptor, kernel);
    let state = match &descriptor.restore {
        Some(restore) => stored(restore, descriptor.execution.subtask.index, kernel)?,
        None => None,
    };
    Task::new(descriptor, role, (inputs, outputs), state.as_deref())
}

/// What a subtask had stored.
fn stored(
    restore: &hurtig_task::interface::TaskRestore,
    index: u32,
    kernel: &Kernel,
) -> Result<Option<Vec<u8>>, String> {
    let operator = restore.operators.first().and_then(Option::as_ref);
    let subtask = operator.and_then(|operator| operator.subtasks.get(&index));
    let Some(handle) = subtask.and_then(|subtask| subtask.handle.as_ref()) else {
        return Ok(None);
    };
    kernel
        .blobs
        .get(&handle.path)
        .map(Some)
        .map_err(|error| error.to_string())
}
