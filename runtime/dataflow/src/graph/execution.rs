//! The ExecutionGraph: every subtask with its attempts and states. A brain's memory, not a brain:
//! it keeps the tables and refuses what they do not allow; the JobMaster decides.

use super::channels::{consumers_of, producers_of};
use super::job::{JobEdge, JobGraph, JobVertex};
use super::regions::{Region, RegionId, pipelined_regions, subtasks};
use super::states::{JobStatus, TaskState};
use hurtig_core::ids::{AllocationId, AttemptNumber, ExecutionId, SubtaskId, TaskManagerId};
use hurtig_core::key::KeyGroupRange;
use hurtig_core::time::Time;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Attempts of a subtask that are remembered after it was started again.
const ATTEMPT_HISTORY: usize = 16;

/// One attempt at a subtask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Which subtask and try.
    pub id: ExecutionId,
    state: TaskState,
    entered: BTreeMap<TaskState, Time>,
    /// Where it was deployed.
    pub location: Option<(TaskManagerId, AllocationId)>,
}

impl Execution {
    fn new(id: ExecutionId, now: Time) -> Self {
        let entered = BTreeMap::from([(TaskState::Created, now)]);
        Self {
            id,
            state: TaskState::Created,
            entered,
            location: None,
        }
    }

    /// Its state.
    pub fn state(&self) -> TaskState {
        self.state
    }

    /// When it entered a state; `None` when it has not been in it.
    pub fn entered(&self, state: TaskState) -> Option<Time> {
        self.entered.get(&state).copied()
    }

    fn enter(&mut self, state: TaskState, now: Time) {
        self.state = state;
        self.entered.insert(state, now);
    }
}

/// One subtask: its present attempt and the last few before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionVertex {
    /// The attempt that counts.
    pub current: Execution,
    /// Earlier attempts, oldest first; bounded.
    pub previous: Vec<Execution>,
    /// What it starts and fails with.
    pub region: RegionId,
}

impl ExecutionVertex {
    fn remember(&mut self, attempt: Execution) {
        self.previous.push(attempt);
        if self.previous.len() > ATTEMPT_HISTORY {
            self.previous.remove(0);
        }
    }
}

/// What became of a reported state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// The execution is now in `to`.
    Applied {
        /// The state before.
        from: TaskState,
        /// The state now.
        to: TaskState,
    },
    /// It was in that state already: a repeated report.
    Duplicate,
    /// The report is about an attempt that was replaced, or was overtaken by a cancel.
    Stale,
    /// There is no such subtask.
    Unknown,
    /// The table does not allow it; nothing changed.
    Illegal {
        /// The state that it stays in.
        from: TaskState,
    },
}

/// The running form of a job.
#[derive(Clone, Debug)]
pub struct ExecutionGraph {
    graph: Arc<JobGraph>,
    status: JobStatus,
    entered: BTreeMap<JobStatus, Time>,
    subtasks: BTreeMap<SubtaskId, ExecutionVertex>,
    regions: Vec<Region>,
    /// The next deployment of a region.
    next_generation: u32,
    /// The next attempts at subtasks that there were at another parallelism.
    gone: BTreeMap<SubtaskId, AttemptNumber>,
}

impl ExecutionGraph {
    /// One subtask for every parallel instance of every vertex, all CREATED, in pipelined regions.
    pub fn new(graph: Arc<JobGraph>, now: Time) -> Self {
        let regions = pipelined_regions(&graph);
        Self::of_regions(graph, regions, now)
    }

    /// The same in one region, so that all subtasks start and fail together.
    pub fn as_one_region(graph: Arc<JobGraph>, now: Time) -> Self {
        let regions = vec![subtasks(&graph).collect()];
        Self::of_regions(graph, regions, now)
    }

    fn of_regions(graph: Arc<JobGraph>, regions: Vec<Vec<SubtaskId>>, now: Time) -> Self {
        let mut all = BTreeMap::new();
        let mut numbered = Vec::with_capacity(regions.len());
        for (generation, subtasks) in (0..).zip(regions) {
            for subtask in &subtasks {
                let id = ExecutionId {
                    subtask: *subtask,
                    attempt: AttemptNumber(0),
                };
                let vertex = ExecutionVertex {
                    current: Execution::new(id, now),
                    previous: Vec::new(),
                    region: RegionId(generation),
                };
                all.insert(*subtask, vertex);
            }
            numbered.push(Region { subtasks, generation });
        }
        Self {
            graph,
            status: JobStatus::Initializing,
            entered: BTreeMap::from([(JobStatus::Initializing, now)]),
            subtasks: all,
            next_generation: u32::try_from(numbered.len()).unwrap_or(u32::MAX),
            regions: numbered,
            gone: BTreeMap::new(),
        }
    }

    /// What it was made from.
    pub fn job_graph(&self) -> &Arc<JobGraph> {
        &self.graph
    }

    /// The job's state.
    pub fn status(&self) -> JobStatus {
        self.status
    }

    /// When the job last entered a state.
    pub fn entered(&self, status: JobStatus) -> Option<Time> {
        self.entered.get(&status).copied()
    }

    /// The regions, by their ids.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// What a subtask starts and fails with.
    pub fn region_of(&self, subtask: SubtaskId) -> Option<RegionId> {
        self.subtasks.get(&subtask).map(|subtask| subtask.region)
    }

    /// A region; `None` when there is none of this name.
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        self.regions.get(id.0 as usize)
    }

    /// Whether every present attempt of a region is in a state for which `holds` is true.
    pub fn all_of(&self, region: RegionId, holds: impl Fn(TaskState) -> bool) -> bool {
        let subtasks = self.region(region).map_or(&[][..], |region| &region.subtasks);
        let mut executions = subtasks.iter().filter_map(|id| self.subtasks.get(id));
        executions.all(|subtask| holds(subtask.current.state))
    }

    /// Moves the job to another state. False, with nothing changed, when the table forbids it.
    ///
    /// # Panics
    /// In debug builds, when the table forbids it.
    pub fn set_status(&mut self, to: JobStatus, now: Time) -> bool {
        if !self.status.can_become(to) {
            let from = self.status;
            tracing::error!(job = %self.graph.id, %from, %to, "illegal transition of a job refused");
            debug_assert!(false, "job {} cannot go from {from} to {to}", self.graph.id);
            return false;
        }
        self.status = to;
        self.entered.insert(to, now);
        true
    }

    /// A subtask.
    pub fn subtask(&self, id: SubtaskId) -> Option<&ExecutionVertex> {
        self.subtasks.get(&id)
    }

    /// All subtasks, by vertex id and index.
    pub fn subtasks(&self) -> impl Iterator<Item = &ExecutionVertex> {
        self.subtasks.values()
    }

    /// All present attempts.
    pub fn executions(&self) -> impl Iterator<Item = &Execution> {
        self.subtasks.values().map(|subtask| &subtask.current)
    }

    /// Whether every subtask's present attempt is in a state for which `holds` is true.
    pub fn all(&self, holds: impl Fn(TaskState) -> bool) -> bool {
        self.executions().all(|execution| holds(execution.state))
    }

    /// Moves an execution to another state, as the JobMaster decides. A state that a task reports
    /// goes through [`Self::report`].
    ///
    /// # Panics
    /// In debug builds, when the table forbids it.
    pub fn set_state(&mut self, id: ExecutionId, to: TaskState, now: Time) -> StateChange {
        let change = self.change(id, to, now);
        if let StateChange::Illegal { from } = change {
            tracing::error!(execution = %id, %from, %to, "illegal transition of a task refused");
            debug_assert!(false, "task {id} cannot go from {from} to {to}");
        }
        change
    }

    /// Applies a state that a task reported. Reports may be repeated, may be about an attempt that
    /// was replaced, and may have crossed with a cancel: a task that finished before the cancel
    /// reached it counts as cancelled.
    ///
    /// # Panics
    /// In debug builds, when the table forbids it.
    pub fn report(&mut self, id: ExecutionId, state: TaskState, now: Time) -> StateChange {
        let current = self.subtasks.get(&id.subtask).map(|subtask| &subtask.current);
        match current.filter(|current| current.id == id).map(Execution::state) {
            Some(TaskState::Canceling) if state == TaskState::Finished => {
                self.set_state(id, TaskState::Canceled, now)
            }
            Some(TaskState::Canceling) if state.is_deployed() => StateChange::Stale,
            // What is over is over: a late report changes nothing.
            Some(over) if over.is_terminal() && state != over => StateChange::Stale,
            _ => self.set_state(id, state, now),
        }
    }

    fn change(&mut self, id: ExecutionId, to: TaskState, now: Time) -> StateChange {
        let Some(subtask) = self.subtasks.get_mut(&id.subtask) else {
            return StateChange::Unknown;
        };
        let execution = &mut subtask.current;
        if execution.id.attempt != id.attempt {
            return if id.attempt < execution.id.attempt {
                StateChange::Stale
            } else {
                StateChange::Unknown
            };
        }
        let from = execution.state;
        match () {
            () if from == to => StateChange::Duplicate,
            () if !from.can_become(to) => StateChange::Illegal { from },
            () => {
                execution.enter(to, now);
                StateChange::Applied { from, to }
            }
        }
    }

    /// Remembers where an execution was sent.
    pub fn set_location(&mut self, id: ExecutionId, location: (TaskManagerId, AllocationId)) {
        let subtask = self
            .subtasks
            .get_mut(&id.subtask)
            .filter(|subtask| subtask.current.id == id);
        if let Some(subtask) = subtask {
            subtask.current.location = Some(location);
        }
    }

    /// Replaces every attempt of a region by the next one, CREATED, with new channels.
    ///
    /// # Panics
    /// When an attempt is not over: two attempts of one subtask would run at once. When there is no such region.
    pub fn restart(&mut self, region: RegionId, now: Time) {
        assert!(
            self.all_of(region, TaskState::is_terminal),
            "an attempt is replaced only after it is over"
        );
        let region = &mut self.regions[region.0 as usize];
        region.generation = self.next_generation;
        self.next_generation += 1;
        for subtask in &region.subtasks {
            let Some(vertex) = self.subtasks.get_mut(subtask) else {
                continue;
            };
            let id = ExecutionId {
                subtask: *subtask,
                attempt: AttemptNumber(vertex.current.id.attempt.0 + 1),
            };
            let before = std::mem::replace(&mut vertex.current, Execution::new(id, now));
            vertex.remember(before);
        }
    }

    /// Goes on with the same job at another parallelism: every attempt is replaced by the next one, CREATED, in regions that
    /// are new. No attempt has the number of an earlier one, also where a subtask had gone meanwhile.
    ///
    /// # Panics
    /// When an attempt is neither over nor only CREATED.
    pub fn rescale(&mut self, graph: Arc<JobGraph>, one_region: bool, now: Time) {
        let idle = |state: TaskState| state.is_terminal() || state == TaskState::Created;
        assert!(self.all(idle), "an attempt is replaced only after it is over");
        let regions = match one_region {
            true => vec![subtasks(&graph).collect()],
            false => pipelined_regions(&graph),
        };
        let mut next = Self::of_regions(graph, regions, now);
        let mut gone = std::mem::take(&mut self.gone);
        for (id, before) in std::mem::take(&mut self.subtasks) {
            let begun = before.current.state != TaskState::Created;
            let attempt = AttemptNumber(before.current.id.attempt.0 + u32::from(begun));
            gone.insert(id, attempt);
            if let Some(subtask) = next.subtasks.get_mut(&id) {
                subtask.previous = before.previous;
                if begun {
                    subtask.remember(before.current);
                }
            }
        }
        for (id, subtask) in &mut next.subtasks {
            if let Some(attempt) = gone.remove(id) {
                subtask.current.id.attempt = attempt;
            }
        }
        for (region, generation) in next.regions.iter_mut().zip(self.next_generation..) {
            region.generation = generation;
        }
        next.next_generation += self.next_generation;
        (next.status, next.gone) = (self.status, gone);
        next.entered = std::mem::take(&mut self.entered);
        *self = next;
    }

    /// The key groups of a subtask.
    pub fn key_groups(vertex: &JobVertex, index: u32) -> KeyGroupRange {
        KeyGroupRange::of_subtask(index, vertex.parallelism, vertex.max_parallelism)
    }

    /// The subtasks of the consuming vertex that subtask `producer` of the producing one feeds.
    pub fn consumers(&self, edge: &JobEdge, producer: u32) -> Range<u32> {
        let (producers, consumers) = self.widths(edge);
        consumers_of(edge.partition.distribution(), producer, producers, consumers)
    }

    /// The subtasks of the producing vertex that feed subtask `consumer` of the consuming one.
    pub fn producers(&self, edge: &JobEdge, consumer: u32) -> Range<u32> {
        let (producers, consumers) = self.widths(edge);
        producers_of(edge.partition.distribution(), consumer, producers, consumers)
    }

    fn widths(&self, edge: &JobEdge) -> (u32, u32) {
        let width = |id| self.graph.vertex(id).map_or(0, |vertex| vertex.parallelism);
        (width(edge.from), width(edge.to))
    }
}
