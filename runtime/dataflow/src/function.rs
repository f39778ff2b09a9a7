//! What users implement: function traits and the places that they emit into.
//!
//! Closures suffice for most; a function *struct* keeps handles to state between calls. One instance
//! is made per subtask, on the thread that runs it. Functions hold no other state: what must survive
//! a failure belongs into declared state.

use crate::broadcast::KeyedBroadcastCx;
use crate::operator::{
    Accumulators, CheckpointEvent, Collector, Cx, JobParameters, OpenContext, OutputTag, SubtaskInfo,
};
use crate::timers::{HashedKey, TimeDomain, TimerService};
use hurtig_core::key::{OwnedKey, StableKey};

use hurtig_core::metrics::MetricGroup;
use hurtig_core::time::NO_TIMESTAMP;
use hurtig_core::{Result, UserError};
use hurtig_state::{
    AggregateFunction, AggregatingState, KeyScope, KeyedState, ListState, MapState, OperatorSnapshot,
    ReducingState, StateDescriptor, StateValue, ValueState,
};
use std::cell::RefCell;
use std::fmt;

/// Where a function emits its records.
#[derive(Debug)]
pub struct Emitter<'a, T> {
    out: &'a mut Collector<T>,
}

impl<'a, T> Emitter<'a, T> {
    /// An emitter into a collector.
    pub fn new(out: &'a mut Collector<T>) -> Self {
        Self { out }
    }

    /// Emits a record with the time of the record or timer that is being processed.
    #[inline]
    pub fn emit(&mut self, record: T) {
        self.out.push(record);
    }

    /// Emits a record with an event time of its own, in milliseconds.
    #[inline]
    pub fn emit_at(&mut self, record: T, time: i64) {
        self.out.push_at(record, time);
    }
}

impl<T> Extend<T> for Emitter<'_, T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, records: I) {
        records.into_iter().for_each(|record| self.emit(record));
    }
}

/// What a process function may ask while it handles a record.
#[derive(Clone, Copy, Debug)]
pub struct ProcessCx<'a> {
    cx: Cx<'a>,
    time: i64,
}

impl<'a> ProcessCx<'a> {
    /// The context of a record with event time `time`.
    pub fn new(cx: Cx<'a>, time: i64) -> Self {
        Self { cx, time }
    }

    pub(crate) fn cx(self) -> Cx<'a> {
        self.cx
    }

    /// The record's event time in milliseconds; `None` when it has none.
    pub fn timestamp(self) -> Option<i64> {
        Some(self.time).filter(|&time| time != NO_TIMESTAMP)
    }

    /// The operator's event time: the last watermark that reached it.
    pub fn watermark(self) -> i64 {
        self.cx.watermark()
    }

    /// Processing time in wall-clock milliseconds.
    pub fn processing_time(self) -> i64 {
        self.cx.processing_time()
    }

    /// As [`Cx::is_backlog`].
    pub fn is_backlog(self) -> bool {
        self.cx.is_backlog()
    }

    /// Emits into a side output, with the record's event time.
    pub fn side_output<T: 'static>(self, tag: &OutputTag<T>, record: T) {
        self.cx.side_output(tag, record, self.time);
    }

    /// Where the function runs.
    pub fn info(self) -> &'a SubtaskInfo {
        self.cx.info()
    }

    /// The operator's accumulators, merged over subtasks in the job's result.
    pub fn accumulators(self) -> &'a Accumulators {
        self.cx.accumulators()
    }
}

/// A function over a stream without keys: any number of records for each, side outputs, no timers.
///
/// *Errors*: any error fails the task; so for every function here.
pub trait ProcessFunction<In, Out>: Send {
    /// Called once before any record; for a job that is restored also on a function that is dropped then, see
    /// [`OpenContext::is_trial`]. So for every function.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Handles a record.
    fn process(&mut self, record: In, cx: ProcessCx<'_>, out: &mut Emitter<'_, Out>)
    -> Result<(), UserError>;

    /// What follows is backlog, or is not any more: called where it turns, with a context without event time. What is
    /// emitted here goes before the records that follow, without event time. Nothing is called when the function
    /// opens: then it is not in backlog.
    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError> {
        let _ = (backlog, cx, out);
        Ok(())
    }

    /// Adds state that belongs to no key to `snapshot`; [`Self::open`] reads it back from
    /// [`OpenContext::restored`].
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<(), UserError> {
        let _ = snapshot;
        Ok(())
    }

    /// A checkpoint has completed or was given up. A notice may be lost when the job fails at that time; a checkpoint
    /// that completes later stands for the earlier ones. An error fails the task.
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        let _ = event;
        Ok(())
    }

    /// Called once at the end of a successful run.
    fn close(&mut self) -> Result<(), UserError> {
        Ok(())
    }
}

/// A function over two streams without keys.
pub trait CoProcessFunction<A, B, Out>: Send {
    /// Called once before any record.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Handles a record of the first stream.
    fn process_first(
        &mut self,
        record: A,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError>;

    /// Handles a record of the second stream.
    fn process_second(
        &mut self,
        record: B,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError>;

    /// As [`ProcessFunction::on_backlog`], of both streams together.
    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError> {
        let _ = (backlog, cx, out);
        Ok(())
    }

    /// As [`ProcessFunction::snapshot`].
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<(), UserError> {
        let _ = snapshot;
        Ok(())
    }

    /// As [`ProcessFunction::on_checkpoint`].
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        let _ = event;
        Ok(())
    }

    /// Called once at the end of a successful run.
    fn close(&mut self) -> Result<(), UserError> {
        Ok(())
    }
}

/// What a keyed function is given when it opens: the place to declare its state.
#[derive(Debug)]
pub struct KeyedOpenContext<'a, K: OwnedKey> {
    cx: Cx<'a>,
    restored: Option<&'a OperatorSnapshot>,
    state: &'a mut KeyedState<K>,
}

impl<'a, K: OwnedKey> KeyedOpenContext<'a, K> {
    /// A context that declares into `state`.
    pub fn new(ctx: &OpenContext<'a>, state: &'a mut KeyedState<K>) -> Self {
        Self {
            cx: ctx.cx(),
            restored: ctx.restored(),
            state,
        }
    }

    /// Where the function runs.
    pub fn info(&self) -> &'a SubtaskInfo {
        self.cx.info()
    }

    /// The operator's accumulators, merged over subtasks in the job's result.
    pub fn accumulators(&self) -> &'a Accumulators {
        self.cx.accumulators()
    }

    /// The program's own parameters.
    pub fn job_parameters(&self) -> &'a JobParameters {
        self.cx.job_parameters()
    }

    /// Where the function registers metrics of its own.
    pub fn metrics(&self) -> &'a MetricGroup {
        self.cx.metrics()
    }

    /// As [`OpenContext::is_trial`].
    pub fn is_trial(&self) -> bool {
        self.restored.is_some_and(|snapshot| snapshot.asked.is_some())
    }

    /// What the subtask begins with; `None` on a fresh start. Keyed state needs no look at it.
    pub fn restored(&self) -> Option<&'a OperatorSnapshot> {
        self.restored
    }

    /// The states declared so far.
    pub fn state(&mut self) -> &mut KeyedState<K> {
        self.state
    }

    /// Declares a state of one value for each key. What is given is its name, or a [`StateDescriptor`] that says how
    /// it expires.
    ///
    /// # Errors
    /// When the name is taken or the time-to-live is too short; so for all kinds of state.
    pub fn value<V: StateValue>(&mut self, state: impl Into<StateDescriptor>) -> Result<ValueState<V>> {
        self.state.value(state)
    }

    /// Declares a state of a list for each key. With a time-to-live, elements expire one by one.
    pub fn list<V: StateValue>(&mut self, state: impl Into<StateDescriptor>) -> Result<ListState<V>> {
        self.state.list(state)
    }

    /// Declares a state of a map for each key. With a time-to-live, user keys expire one by one.
    pub fn map<UK: OwnedKey + Ord, UV: StateValue>(
        &mut self,
        state: impl Into<StateDescriptor>,
    ) -> Result<MapState<UK, UV>> {
        self.state.map(state)
    }

    /// Declares a state that folds what is added to a key into one value.
    pub fn reducing<V: StateValue>(
        &mut self,
        state: impl Into<StateDescriptor>,
        reduce: impl Fn(&mut V, V) + Send + Sync + 'static,
    ) -> Result<ReducingState<V>> {
        self.state.reducing(state, reduce)
    }

    /// Declares a state that folds what is added to a key into an accumulator.
    pub fn aggregating<A: AggregateFunction>(
        &mut self,
        state: impl Into<StateDescriptor>,
        function: A,
    ) -> Result<AggregatingState<A>> {
        self.state.aggregating(state, function)
    }
}

/// What a keyed function may ask while it handles a record or a timer: its key, state, timers,
/// times and side outputs. State handles take it as it is: `self.last.set(cx, 7)`.
pub struct KeyedCx<'a, Q: ?Sized + ToOwned<Owned: OwnedKey>> {
    pub(crate) cx: Cx<'a>,
    pub(crate) state: &'a KeyedState<Q::Owned>,
    pub(crate) timers: &'a RefCell<TimerService<Q::Owned, ()>>,
    pub(crate) key: HashedKey<'a, Q>,
    pub(crate) time: i64,
}

impl<Q: ?Sized + ToOwned<Owned: OwnedKey>> Clone for KeyedCx<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q: ?Sized + ToOwned<Owned: OwnedKey>> Copy for KeyedCx<'_, Q> {}

impl<Q: ?Sized + ToOwned<Owned: OwnedKey>> fmt::Debug for KeyedCx<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCx")
            .field("hash", &self.key.hash)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

impl<'a, Q> KeyedCx<'a, Q>
where
    Q: ?Sized + StableKey + ToOwned<Owned: OwnedKey> + 'static,
{
    /// The key of the record or timer.
    pub fn key(self) -> &'a Q {
        self.key.key
    }

    /// The time of the record or timer in milliseconds; `None` for a record that has none.
    pub fn timestamp(self) -> Option<i64> {
        Some(self.time).filter(|&time| time != NO_TIMESTAMP)
    }

    /// The operator's event time: the last watermark that reached it.
    pub fn watermark(self) -> i64 {
        self.cx.watermark()
    }

    /// Processing time in wall-clock milliseconds.
    pub fn processing_time(self) -> i64 {
        self.cx.processing_time()
    }

    /// As [`Cx::is_backlog`].
    pub fn is_backlog(self) -> bool {
        self.cx.is_backlog()
    }

    /// Calls `on_timer` for this key when the watermark reaches `time`. There is one timer for a key
    /// and a time; registering it again changes nothing.
    pub fn register_event_timer(self, time: i64) {
        self.timers
            .borrow_mut()
            .register(TimeDomain::Event, time, self.key, &());
    }

    /// Calls `on_timer` for this key when processing time reaches `wall_ms`.
    pub fn register_processing_timer(self, wall_ms: i64) {
        self.timers
            .borrow_mut()
            .register(TimeDomain::Processing, wall_ms, self.key, &());
        self.cx.schedule(wall_ms);
    }

    /// Takes back an event-time timer; nothing happens when there is none.
    pub fn delete_event_timer(self, time: i64) {
        self.timers
            .borrow_mut()
            .delete(TimeDomain::Event, time, self.key, &());
    }

    /// Takes back a processing-time timer; nothing happens when there is none.
    pub fn delete_processing_timer(self, wall_ms: i64) {
        self.timers
            .borrow_mut()
            .delete(TimeDomain::Processing, wall_ms, self.key, &());
    }

    /// Emits into a side output, with the time of the record or timer.
    pub fn side_output<T: 'static>(self, tag: &OutputTag<T>, record: T) {
        self.cx.side_output(tag, record, self.time);
    }

    /// Where the function runs.
    pub fn info(self) -> &'a SubtaskInfo {
        self.cx.info()
    }

    /// The operator's accumulators, merged over subtasks in the job's result.
    pub fn accumulators(self) -> &'a Accumulators {
        self.cx.accumulators()
    }
}

impl<'a, Q> KeyScope<'a> for KeyedCx<'a, Q>
where
    Q: ?Sized + StableKey + ToOwned<Owned: OwnedKey> + 'static,
{
    type Q = Q;

    #[inline]
    fn state(self) -> &'a KeyedState<Q::Owned> {
        self.state
    }

    #[inline]
    fn key(self) -> &'a Q {
        self.key.key
    }

    #[inline]
    fn hash(self) -> u64 {
        self.key.hash
    }
}

/// A function over a keyed stream: any number of records for each, with state and timers by key.
///
/// `Q` is the key as the function sees it: `str` where the stream is keyed by a borrowed string.
///
/// ```
/// use hurtig_core::UserError;
/// use hurtig_core::time::DurationExt;
/// use hurtig_dataflow::function::{Emitter, KeyedCx, KeyedProcessFunction};
/// use hurtig_dataflow::key::ByValue;
/// use hurtig_dataflow::operators::KeyedProcess;
/// use hurtig_dataflow::testing::Harness;
/// use hurtig_dataflow::timers::TimeDomain;
/// use hurtig_state::ValueState;
/// use std::sync::Arc;
///
/// /// Says how many readings a sensor has sent once it has been silent for 10 ms.
/// struct Silence { count: ValueState<u64>, last: ValueState<i64> }
///
/// impl KeyedProcessFunction<u32, (u32, f64), (u32, u64)> for Silence {
///     fn process(&mut self, _: (u32, f64), cx: KeyedCx<'_, u32>, _: &mut Emitter<'_, (u32, u64)>) -> Result<(), UserError> {
///         let Some(time) = cx.timestamp() else { return Err("a reading without time".into()) };
///         self.count.update(cx, |count| *count += 1);
///         self.last.set(cx, time);
///         cx.register_event_timer(time + 10);
///         Ok(())
///     }
///
///     fn on_timer(&mut self, time: i64, _: TimeDomain, cx: KeyedCx<'_, u32>, out: &mut Emitter<'_, (u32, u64)>) -> Result<(), UserError> {
///         if self.last.get_cloned(cx) == Some(time - 10) {
///             out.emit((*cx.key(), self.count.get_cloned(cx).unwrap_or(0)));
///             self.count.clear(cx);
///         }
///         Ok(())
///     }
/// }
///
/// let by_sensor = Arc::new(ByValue::new(|reading: &(u32, f64)| reading.0));
/// let mut harness = Harness::new(move || {
///     KeyedProcess::with_state(by_sensor.clone(), |ctx| {
///         Ok(Silence { count: ctx.value("count")?, last: ctx.value("last")? })
///     })
/// })?;
/// harness.push((7, 20.5), 1_000)?;
/// harness.push((7, 20.7), 1_008)?;
/// harness.watermark(1_010)?;
/// assert!(harness.records().is_empty());
/// harness.watermark(1_018)?;
/// assert_eq!(harness.records(), [((7, 2), 1_018)]);
/// # Ok::<(), hurtig_core::Error>(())
/// ```
pub trait KeyedProcessFunction<Q, In, Out>: Send
where
    Q: ?Sized + StableKey + ToOwned<Owned: OwnedKey> + 'static,
{
    /// Called once before any record: declares state, unless the function was made with its handles.
    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, Q::Owned>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Handles a record.
    fn process(
        &mut self,
        record: In,
        cx: KeyedCx<'_, Q>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError>;

    /// Handles a timer that this key has registered. What an event-time timer emits has its time;
    /// what a processing-time timer emits has none.
    fn on_timer(
        &mut self,
        time: i64,
        domain: TimeDomain,
        cx: KeyedCx<'_, Q>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError> {
        let _ = (time, domain, cx, out);
        Ok(())
    }

    /// As [`ProcessFunction::on_backlog`]. There is no key here, but all of them can be visited.
    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: KeyedBroadcastCx<'_, Q>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError> {
        let _ = (backlog, cx, out);
        Ok(())
    }

    /// Adds state that belongs to no key to `snapshot`; [`Self::open`] reads it back from
    /// [`KeyedOpenContext::restored`].
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<(), UserError> {
        let _ = snapshot;
        Ok(())
    }

    /// As [`ProcessFunction::on_checkpoint`].
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        let _ = event;
        Ok(())
    }

    /// Called once at the end of a successful run.
    fn close(&mut self) -> Result<(), UserError> {
        Ok(())
    }
}

/// A function over two streams with keys of one type, which share state and timers.
pub trait KeyedCoProcessFunction<Q, A, B, Out>: Send
where
    Q: ?Sized + StableKey + ToOwned<Owned: OwnedKey> + 'static,
{
    /// As [`KeyedProcessFunction::open`].
    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, Q::Owned>) -> Result<(), UserError> {
        let _ = ctx;
        Ok(())
    }

    /// Handles a record of the first stream.
    fn process_first(
        &mut self,
        record: A,
        cx: KeyedCx<'_, Q>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError>;

    /// Handles a record of the second stream.
    fn process_second(
        &mut self,
        record: B,
        cx: KeyedCx<'_, Q>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError>;

    /// As [`KeyedProcessFunction::on_timer`].
    fn on_timer(
        &mut self,
        time: i64,
        domain: TimeDomain,
        cx: KeyedCx<'_, Q>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError> {
        let _ = (time, domain, cx, out);
        Ok(())
    }

    /// As [`KeyedProcessFunction::on_backlog`], of both streams together.
    fn on_backlog(
        &mut self,
        backlog: bool,
        cx: KeyedBroadcastCx<'_, Q>,
        out: &mut Emitter<'_, Out>,
    ) -> Result<(), UserError> {
        let _ = (backlog, cx, out);
        Ok(())
    }

    /// Adds state that belongs to no key to `snapshot`; [`Self::open`] reads it back from
    /// [`KeyedOpenContext::restored`].
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<(), UserError> {
        let _ = snapshot;
        Ok(())
    }

    /// As [`ProcessFunction::on_checkpoint`].
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<(), UserError> {
        let _ = event;
        Ok(())
    }

    /// Called once at the end of a successful run.
    fn close(&mut self) -> Result<(), UserError> {
        Ok(())
    }
}
