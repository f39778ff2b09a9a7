//! What an operator can ask of the task that runs it.

use super::accumulators::Accumulators;
use super::side::{OutputTag, SideOutputs};

use hurtig_core::Result;
use hurtig_core::element::WatermarkStatus;
use hurtig_core::key::OwnedKey;
use hurtig_core::metrics::MetricGroup;
use hurtig_core::time::{Clock, MIN_WATERMARK, Time};
use hurtig_state::shape::Asked;
use hurtig_state::{KeyedState, OperatorSnapshot, StateBackend, StateShapes};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

/// A future that a task drives for an operator.
pub type TaskFuture = Pin<Box<dyn Future<Output = Box<dyn Any + Send>> + Send>>;

/// Which of an operator's futures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompletionId(pub u64);

/// A future's result.
pub struct Completion {
    /// As [`Cx::spawn`] returned it.
    pub id: CompletionId,
    /// What the future returned.
    pub value: Box<dyn Any + Send>,
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Completion({})", self.id.0)
    }
}

/// Where an operator runs.
#[derive(Clone, Debug)]
pub struct SubtaskInfo {
    /// The operator's name.
    pub operator: Arc<str>,
    /// The operator's uid, if the user gave one.
    pub uid: Option<Arc<str>>,
    /// Which of the parallel instances, from 0.
    pub index: u32,
    /// How many instances there are.
    pub parallelism: u32,
    /// How many key groups the job has.
    pub max_parallelism: u32,
    /// The key groups of this instance.
    pub key_groups: Range<u16>,
    /// How often this subtask was started before.
    pub attempt: u32,
}

impl SubtaskInfo {
    /// The only instance of an operator with all of 128 key groups, as tests use it.
    pub fn single(operator: &str) -> Self {
        Self {
            operator: operator.into(),
            uid: None,
            index: 0,
            parallelism: 1,
            max_parallelism: 128,
            key_groups: 0..128,
            attempt: 0,
        }
    }
}

/// The program's own parameters, the same in all functions of a job.
pub type JobParameters = BTreeMap<String, String>;

/// What [`super::Operator::open`] is given.
#[derive(Debug)]
pub struct OpenContext<'a> {
    services: &'a Services,
    restored: Option<&'a OperatorSnapshot>,
}

impl<'a> OpenContext<'a> {
    /// A context over `services`, with what a restore brought.
    pub fn new(services: &'a Services, restored: Option<&'a OperatorSnapshot>) -> Self {
        Self { services, restored }
    }

    /// Where the operator runs.
    pub fn info(&self) -> &'a SubtaskInfo {
        &self.services.info
    }

    /// Keyed state of the operator, without states yet, where the job keeps it.
    pub fn keyed_state<K: OwnedKey>(&self) -> KeyedState<K> {
        let info = self.info();
        let backend = self.services.backend.clone();
        let state = KeyedState::kept_in(backend, info.key_groups.clone(), info.max_parallelism)
            .with_clock(Arc::clone(&self.services.clock));
        match self.restored.and_then(|snapshot| snapshot.restored.clone()) {
            Some(restored) => state.with_store(restored),
            None => state,
        }
    }

    /// Says what types states have. What was stored as other types than can be read is refused.
    ///
    /// # Errors
    /// When what is restored cannot be read; the text names the state and every difference.
    pub fn declare(&self, states: StateShapes) -> Result<()> {
        if let Some(snapshot) = self.restored {
            snapshot.check_shapes(&states)?;
        }
        self.services.declared.borrow_mut().extend(states);
        Ok(())
    }

    /// Whether nothing will come: the function is opened only to learn what states it declares, and dropped then. So
    /// it is before a job is restored, where its JobMaster runs.
    pub fn is_trial(&self) -> bool {
        self.restored.is_some_and(|snapshot| snapshot.asked.is_some())
    }

    /// The state to start from; `None` on a fresh start.
    pub fn restored(&self) -> Option<&'a OperatorSnapshot> {
        self.restored
    }

    /// Whether checkpoints are taken of the job. Otherwise what an operator writes is committed when
    /// it is complete: nothing will ever be restored.
    pub fn takes_checkpoints(&self) -> bool {
        self.services.takes_checkpoints
    }

    /// The program's own parameters, as `set_global_job_parameters` or the configuration gave them.
    pub fn job_parameters(&self) -> &'a JobParameters {
        &self.services.parameters
    }

    /// Where the operator registers metrics of its own.
    pub fn metrics(&self) -> &'a MetricGroup {
        &self.services.metrics
    }

    /// The same services that later calls receive.
    pub fn cx(&self) -> Cx<'a> {
        Cx {
            services: self.services,
        }
    }
}

/// What an operator that decides about idleness itself has said.
#[derive(Clone, Copy, Debug, Default)]
struct Idleness {
    /// The operator decides; what comes from above does not count.
    owned: bool,
    idle: bool,
    /// What its consumers have been told.
    told_idle: bool,
}

/// One operator's view of its task. Interior mutability in each part keeps [`Cx`] `Copy`.
pub struct Services {
    info: SubtaskInfo,
    clock: Arc<dyn Clock>,
    side: SideOutputs,
    watermark: Cell<i64>,
    backlog: Cell<bool>,
    held: Cell<bool>,
    idleness: Cell<Idleness>,
    wake_at: Cell<i64>,
    spawned: RefCell<Vec<(CompletionId, TaskFuture)>>,
    next_completion: Cell<u64>,
    accumulators: Accumulators,
    parameters: Arc<JobParameters>,
    metrics: MetricGroup,
    takes_checkpoints: bool,
    backend: StateBackend,
    /// The types of the operator's states, as far as it has said.
    declared: RefCell<StateShapes>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("info", &self.info)
            .field("watermark", &self.watermark)
            .finish_non_exhaustive()
    }
}

impl Services {
    /// Services of an operator that runs as `info`.
    pub fn new(info: SubtaskInfo, clock: Arc<dyn Clock>, side: SideOutputs) -> Self {
        Self {
            info,
            clock,
            side,
            watermark: Cell::new(MIN_WATERMARK),
            backlog: Cell::new(false),
            held: Cell::new(false),
            idleness: Cell::default(),
            wake_at: Cell::new(i64::MAX),
            spawned: RefCell::default(),
            next_completion: Cell::new(0),
            accumulators: Accumulators::default(),
            parameters: Arc::default(),
            metrics: MetricGroup::unregistered(),
            takes_checkpoints: false,
            backend: StateBackend::Heap,
            declared: RefCell::default(),
        }
    }

    /// An empty snapshot that has the types of the operator's states.
    pub fn begin_snapshot(&self) -> OperatorSnapshot {
        OperatorSnapshot {
            shapes: self.declared.borrow().clone(),
            ..OperatorSnapshot::default()
        }
    }

    /// What states `declare` declares, and asks a snapshot for.
    ///
    /// # Errors
    /// Those of `declare`.
    pub fn learn_states(
        &self,
        declare: impl FnOnce(&mut OpenContext<'_>) -> Result<()>,
    ) -> Result<StateShapes> {
        let asked = Arc::<Asked>::default();
        let nothing = OperatorSnapshot {
            asked: Some(Arc::clone(&asked)),
            ..OperatorSnapshot::default()
        };
        declare(&mut OpenContext::new(self, Some(&nothing)))?;
        let mut states = asked.states();
        states.extend(self.declared.borrow().clone());
        Ok(states)
    }

    /// Says that checkpoints are taken of the operator's job.
    #[must_use]
    pub fn taking_checkpoints(mut self, takes: bool) -> Self {
        self.takes_checkpoints = takes;
        self
    }

    /// Says where the operator's keyed state is kept; in memory unless it is said.
    #[must_use]
    pub fn keeping_state_in(mut self, backend: StateBackend) -> Self {
        self.backend = backend;
        self
    }

    /// Adds what the operator's job gives it. Without it there are no parameters, and nobody reads
    /// the operator's metrics.
    #[must_use]
    pub fn in_job(mut self, parameters: Arc<JobParameters>, metrics: MetricGroup) -> Self {
        self.parameters = parameters;
        self.metrics = metrics;
        self
    }

    /// The handle that is passed to calls.
    pub fn cx(&self) -> Cx<'_> {
        Cx { services: self }
    }

    /// Tells the operator's event time; the chain calls it before `on_watermark`.
    pub fn set_watermark(&self, wm: i64) {
        debug_assert!(wm >= self.watermark.get(), "event time moved backwards");
        self.watermark.set(wm);
    }

    /// Tells whether what the operator reads is backlog; the chain calls it before `on_backlog`.
    pub fn set_backlog(&self, backlog: bool) {
        self.backlog.set(backlog);
    }

    /// Whether the operator asked to emit the watermark itself; clears the mark.
    pub fn take_held(&self) -> bool {
        self.held.replace(false)
    }

    /// Whether the operator decides about idleness itself, so that statuses from above end here.
    pub fn owns_status(&self) -> bool {
        self.idleness.get().owned
    }

    /// The status that the operator has turned to and that its consumers do not know yet.
    pub fn turned_status(&self) -> Option<WatermarkStatus> {
        let Idleness { idle, told_idle, .. } = self.idleness.get();
        let status = if idle {
            WatermarkStatus::Idle
        } else {
            WatermarkStatus::Active
        };
        (idle != told_idle).then_some(status)
    }

    /// The consumers were told the status.
    pub fn status_told(&self) {
        let mut idleness = self.idleness.get();
        idleness.told_idle = idleness.idle;
        self.idleness.set(idleness);
    }

    /// The earliest processing time that was asked for; `i64::MAX` when none.
    pub fn wake_at(&self) -> i64 {
        self.wake_at.get()
    }

    /// Clears what [`Cx::schedule`] asked for, before `on_processing_time` is called.
    pub fn clear_schedule(&self) {
        self.wake_at.set(i64::MAX);
    }

    /// Takes the futures that were spawned since the last call.
    pub fn take_spawned(&self) -> Vec<(CompletionId, TaskFuture)> {
        self.spawned.take()
    }

    /// Whether futures wait to be taken.
    pub fn has_spawned(&self) -> bool {
        !self.spawned.borrow().is_empty()
    }

    /// The accumulators.
    pub fn accumulators(&self) -> &Accumulators {
        &self.accumulators
    }

    /// The side outputs.
    pub fn side(&self) -> &SideOutputs {
        &self.side
    }

    /// Where the operator runs.
    pub fn info(&self) -> &SubtaskInfo {
        &self.info
    }
}

/// Shared access to the services of the operator that is being called.
#[derive(Clone, Copy, Debug)]
pub struct Cx<'a> {
    services: &'a Services,
}

impl<'a> Cx<'a> {
    /// Where the operator runs.
    pub fn info(self) -> &'a SubtaskInfo {
        &self.services.info
    }

    /// Monotonic engine time, for measuring.
    pub fn now(self) -> Time {
        self.services.clock.now()
    }

    /// Processing time in wall-clock milliseconds.
    pub fn processing_time(self) -> i64 {
        self.services.clock.wall_ms()
    }

    /// The operator's event time: the last watermark that reached it.
    pub fn watermark(self) -> i64 {
        self.services.watermark.get()
    }

    /// Whether what the operator reads is backlog: old records, which nobody waits for. True as long as any of its
    /// inputs is in backlog.
    pub fn is_backlog(self) -> bool {
        self.services.backlog.get()
    }

    /// Emits into a side output.
    pub fn side_output<T: 'static>(self, tag: &OutputTag<T>, record: T, time: i64) {
        self.services.side.push(tag, record, time);
    }

    /// Whether a side output is full, so that the operator should return `Progress::More`.
    pub fn side_full(self) -> bool {
        self.services.side.full()
    }

    /// Asks for `on_processing_time` at or after `at_ms` (wall-clock milliseconds). Several calls
    /// keep the earliest; the request is gone once it was served.
    pub fn schedule(self, at_ms: i64) {
        self.services.wake_at.set(self.services.wake_at.get().min(at_ms));
    }

    /// Keeps the watermark that is being processed from being forwarded; the operator emits it
    /// later with `Collector::watermark`.
    pub fn hold_watermark(self) {
        self.services.held.set(true);
    }

    /// Says whether the operator's output is idle, so that its consumers do not wait for its
    /// watermarks. From the first call on the operator alone decides: statuses from above end at it.
    /// A turn to active leaves before a watermark of the same call, a turn to idle behind it.
    pub fn set_idle(self, idle: bool) {
        let before = self.services.idleness.get();
        let owned = true;
        self.services.idleness.set(Idleness {
            owned,
            idle,
            ..before
        });
    }

    /// Hands a future to the task; its result comes back through `on_completion`.
    pub fn spawn(self, future: TaskFuture) -> CompletionId {
        let id = CompletionId(self.services.next_completion.get());
        self.services.next_completion.set(id.0 + 1);
        self.services.spawned.borrow_mut().push((id, future));
        id
    }

    /// The operator's accumulators, merged over subtasks in the job's result.
    pub fn accumulators(self) -> &'a Accumulators {
        &self.services.accumulators
    }

    /// The program's own parameters.
    pub fn job_parameters(self) -> &'a JobParameters {
        &self.services.parameters
    }

    /// Where the operator registers metrics of its own: once each, when it opens or when there is
    /// something to tell.
    pub fn metrics(self) -> &'a MetricGroup {
        &self.services.metrics
    }
}
