//! The Task actor: polls a [`TaskCore`] as an actor future and serves its mailbox between batches.

use crate::alarm::Alarm;
use crate::checkpoint::{CheckpointStorage, Restored};
use crate::in_flight::ChannelName;
use crate::interface::{
    CheckpointOrder, TaskControl, TaskDescriptor, TaskFailure, TaskHandle, TaskLink, TaskReport,
};
use crate::metrics::{TaskMetrics, TimeSpent, Totals};
use crate::orders::PrepareCheckpoint;
use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message};
use hurtig_core::ids::{CheckpointId, NodeId};
use hurtig_core::steps::{Step, reached};
use hurtig_core::time::{Clock, Time};
use hurtig_core::{Barrier, Error, Result};
use hurtig_dataflow::chain::{NodeStats, Round, TaskCore};
use hurtig_dataflow::graph::TaskState;
use hurtig_dataflow::operator::CheckpointEvent;
use hurtig_dataflow::source::Split;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// No task gets less of a round than this.
const SMALLEST_QUANTUM: Duration = Duration::from_micros(250);
/// How often a task reports its totals.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How often the meters of a task are told the time.
const TICK_EVERY: Duration = Duration::from_secs(5);

thread_local! {
    /// Tasks of this arbiter that have work: they share its round.
    static RUNNABLE: Cell<u32> = const { Cell::new(0) };
}

/// What a task is made of, apart from its dataflow.
pub(crate) struct TaskSetup {
    pub(crate) link: Box<dyn TaskLink>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The source of the chain, for split requests.
    pub(crate) source: Option<NodeId>,
    /// The operators of the chain, by the place at which the dataflow runs them.
    pub(crate) places: Vec<Option<NodeId>>,
    /// Time that all tasks of the arbiter share.
    pub(crate) round: Duration,
    /// The metrics of this subtask.
    pub(crate) metrics: TaskMetrics,
    /// Where checkpoints are kept, if any are taken.
    pub(crate) storage: Option<CheckpointStorage>,
    /// How long barriers are aligned before they overtake; `None`: they never do.
    pub(crate) overtake_after: Option<Duration>,
    /// The channels that lead to the task.
    pub(crate) channels: Arc<[ChannelName]>,
    pub(crate) descriptor: TaskDescriptor,
}

/// What the task was doing when it was last polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Idle,
    BackPressured,
    Runnable,
}

/// A subtask behind a mailbox. Records and messages never run at the same time.
pub(crate) struct TaskActor {
    pub(crate) core: Option<Box<TaskCore>>,
    pub(crate) setup: TaskSetup,
    spent: TimeSpent,
    doing: Doing,
    since: Time,
    /// When meters were last told the time.
    ticked: Option<Time>,
    /// Parts of checkpoints that are being stored.
    pub(crate) storing: usize,
    /// What checkpoints will be whose barriers are to come.
    pub(crate) orders: BTreeMap<CheckpointId, CheckpointOrder>,
    /// The last checkpoint that is known to be complete.
    pub(crate) completed: CheckpointId,
    /// Later ones that are known to have been given up.
    pub(crate) given_up: BTreeSet<u64>,
    /// How the task has ended; said when nothing is being stored any more.
    ended: Option<(TaskState, Option<TaskFailure>)>,
}

impl TaskActor {
    /// Starts the actor on the current arbiter.
    pub(crate) fn start(core: TaskCore, setup: TaskSetup) -> TaskHandle {
        let since = setup.clock.now();
        let actor = Self {
            core: Some(Box::new(core)),
            setup,
            spent: TimeSpent::default(),
            doing: Doing::Idle,
            since,
            ticked: None,
            storing: 0,
            orders: BTreeMap::new(),
            completed: CheckpointId::default(),
            given_up: BTreeSet::new(),
            ended: None,
        };
        TaskHandle::new(Control(Actor::start(actor)))
    }

    /// Counts the time since the last change for what the task was doing.
    fn account(&mut self, doing: Doing) {
        let now = self.setup.clock.now();
        let nanos = u64::try_from(now.since(self.since).as_nanos()).unwrap_or(u64::MAX);
        match self.doing {
            Doing::Idle => self.spent.idle += nanos,
            Doing::BackPressured => self.spent.back_pressured += nanos,
            Doing::Runnable => self.spent.busy += nanos,
        }
        if (doing == Doing::Runnable) != (self.doing == Doing::Runnable) {
            let change = if doing == Doing::Runnable { 1 } else { -1 };
            RUNNABLE.with(|runnable| runnable.set(runnable.get().saturating_add_signed(change)));
        }
        self.since = now;
        self.doing = doing;
    }

    fn quantum(&self) -> Duration {
        let sharing = RUNNABLE.with(Cell::get).max(1);
        (self.setup.round / sharing).max(SMALLEST_QUANTUM)
    }

    /// One round of the dataflow.
    fn round(&mut self, task: &mut std::task::Context<'_>) -> Option<Result<Round>> {
        let quantum = self.quantum();
        let core = self.core.as_mut()?;
        let round = core.round(task, quantum);
        if core.take_split_request()
            && let Some(source) = self.setup.source
        {
            self.setup.link.request_split(source);
        }
        if core.take_checkpoint_request() {
            self.setup.link.request_checkpoint();
        }
        Some(round)
    }

    /// Tells meters the time, when that is due.
    fn tick(&mut self) {
        let now = self.since;
        if self.ticked.is_none_or(|last| now.since(last) >= TICK_EVERY) {
            self.setup.metrics.tick(now);
            self.ticked = Some(now);
        }
    }

    fn report(&mut self) {
        // What the task has been doing until now counts already.
        self.account(self.doing);
        self.tick();
        let Some(core) = &self.core else { return };
        let stats = core.stats();
        let millis = |nanos: u64| nanos / 1_000_000;
        let totals = totals(core, &stats);
        let bytes_in = self.setup.metrics.update(totals, self.spent, &stats);
        self.setup.link.report(TaskReport {
            accumulators: core.accumulators(),
            busy_ms: millis(self.spent.busy),
            idle_ms: millis(self.spent.idle),
            backpressured_ms: millis(self.spent.back_pressured),
            records_in: totals.records_in,
            records_out: totals.records_out,
            bytes_in,
            bytes_out: totals.bytes_out,
        });
    }

    /// Gives the dataflow's memory, files and channels back off the arbiter, then says how it ended.
    pub(crate) fn end(&mut self, ctx: &mut Context<Self>, state: TaskState, failure: Option<TaskFailure>) {
        self.account(Doing::Idle);
        let Some(core) = self.core.take() else { return };
        // Dropping gigabytes of state would hold up the arbiter's other tasks.
        let released = actix::fut::wrap_future(tokio::task::spawn_blocking(move || drop(core)));
        ctx.spawn(
            released.map(move |dropped, task: &mut Self, ctx: &mut Context<Self>| {
                let failure = failure.or_else(|| {
                    let error = dropped.err()?;
                    Some(TaskFailure::panic(
                        hurtig_core::Fault::User,
                        format!("while it was dropped: {error}"),
                        None,
                    ))
                });
                let state = if failure.is_some() {
                    TaskState::Failed
                } else {
                    state
                };
                task.ended = Some((state, failure));
                task.say_end(ctx);
            }),
        );
    }

    /// Says how the task has ended, once everything is released and stored. A checkpoint whose barrier
    /// passed before the end has the task's state, and must not take the task for finished; and what is
    /// stored for nothing must be known to whoever deletes it.
    pub(crate) fn say_end(&mut self, ctx: &mut Context<Self>) {
        if self.storing == 0
            && let Some((state, failure)) = self.ended.take()
        {
            self.setup.link.state_changed(state, failure);
            ctx.stop();
        }
    }

    pub(crate) fn fail(&mut self, ctx: &mut Context<Self>, error: &Error) {
        self.report();
        let place = self.core.as_ref().and_then(|core| core.failed_at());
        let operator = place.and_then(|at| self.setup.places.get(at).copied().flatten());
        self.end(ctx, TaskState::Failed, Some(TaskFailure::new(error, operator)));
    }
}

/// What a task has counted: records that came in, and those that left it or that its sink wrote.
fn totals(core: &TaskCore, stats: &[NodeStats]) -> Totals {
    let (written, bytes_out) = core.totals();
    Totals {
        records_in: stats.first().map_or(0, |first| first.records_in),
        records_out: if written > 0 {
            written
        } else {
            stats.last().map_or(0, |last| last.records_out)
        },
        bytes_out,
    }
}

impl Actor for TaskActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.setup.link.state_changed(TaskState::Initializing, None);
        self.restore(ctx);
    }
}

/// The actor future that turns the dataflow.
pub(crate) struct TaskLoop {
    /// What the operators begin with, until they are opened.
    begins: Option<Beginning>,
    alarm: Alarm,
}

/// How a task begins.
pub(crate) enum Beginning {
    /// With nothing.
    Afresh,
    /// With what each operator remembered.
    Restored(Restored),
    /// Not at all: it had finished before.
    Finished,
}

impl TaskLoop {
    /// The loop of a task that begins so. Opening is its first step, so that a cancel that came before
    /// wins.
    pub(crate) fn new(begins: Beginning) -> Self {
        Self {
            begins: Some(begins),
            alarm: Alarm::default(),
        }
    }

    /// Arranges to be polled at `at`.
    fn sleep_until(&mut self, at: Option<Time>, now: Time, task: &mut std::task::Context<'_>) {
        let Some(at) = at else {
            self.alarm.clear();
            return;
        };
        if self.alarm.poll(at, now, task).is_ready() {
            yield_to_runtime(task);
        }
    }

    fn open(begins: Beginning, actor: &mut TaskActor) -> Result<()> {
        let skip = actor.parts_before_operators();
        let Some(core) = &mut actor.core else {
            return Ok(());
        };
        match begins {
            Beginning::Afresh => core.open(&|_| None)?,
            Beginning::Restored(restored) => {
                let operators = RefCell::new(restored.operators);
                let take = |at: usize| operators.borrow_mut().get_mut(at.checked_sub(skip)?)?.take();
                core.open(&take)?;
                reached(Step::Restored);
                if let Some(in_flight) = restored.in_flight {
                    core.replay(in_flight)?;
                }
                if actor
                    .setup
                    .descriptor
                    .restore
                    .as_ref()
                    .is_some_and(|from| from.stopped)
                {
                    core.end_stopped();
                }
            }
            Beginning::Finished => core.finish_at_once(),
        }
        actor.setup.link.state_changed(TaskState::Running, None);
        Ok(())
    }
}

/// Asks to be polled again after the runtime has looked at its sockets and timers. Waking oneself
/// would keep it from doing so.
fn yield_to_runtime(task: &mut std::task::Context<'_>) {
    let deferred = pin!(tokio::task::yield_now());
    let _pending = deferred.poll(task);
}

impl ActorFuture<TaskActor> for TaskLoop {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut TaskActor,
        ctx: &mut Context<TaskActor>,
        task: &mut std::task::Context<'_>,
    ) -> Poll<()> {
        if actor.core.is_none() {
            return Poll::Ready(());
        }
        actor.account(Doing::Runnable);
        if let Some(begins) = self.begins.take() {
            if let Err(error) = Self::open(begins, actor) {
                actor.fail(ctx, &error);
                return Poll::Ready(());
            }
            ctx.run_interval(REPORT_EVERY, |actor, _| actor.report());
        }
        let Some(round) = actor.round(task) else {
            return Poll::Ready(());
        };
        actor.store_cuts(ctx);
        match round {
            Ok(Round::Busy) => yield_to_runtime(task),
            Ok(Round::Idle(at)) => {
                actor.account(Doing::Idle);
                self.sleep_until(at, actor.since, task);
            }
            Ok(Round::BackPressured(at)) => {
                actor.account(Doing::BackPressured);
                self.sleep_until(at, actor.since, task);
            }
            Ok(Round::Finished) => {
                actor.report();
                actor.end(ctx, TaskState::Finished, None);
                return Poll::Ready(());
            }
            Err(error) => {
                actor.fail(ctx, &error);
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

/// Stop and report CANCELED. Legal in any stage; a repeated one means the same.
#[derive(Message)]
#[rtype(result = "()")]
struct Cancel;

/// The answer to a split request.
#[derive(Message)]
#[rtype(result = "()")]
struct AddSplit(Option<Split>);

/// What the source reads from now on is backlog, or is not any more.
#[derive(Message)]
#[rtype(result = "()")]
struct SetBacklog(bool);

/// Report totals now.
#[derive(Message)]
#[rtype(result = "()")]
struct ReportNow;

/// Begin a checkpoint here.
#[derive(Message)]
#[rtype(result = "()")]
struct TriggerCheckpoint(CheckpointId);

/// News about a checkpoint.
#[derive(Message)]
#[rtype(result = "()")]
struct NotifyCheckpoint(CheckpointEvent);

impl Handler<TriggerCheckpoint> for TaskActor {
    type Result = ();

    fn handle(&mut self, TriggerCheckpoint(checkpoint): TriggerCheckpoint, ctx: &mut Self::Context) {
        // Savepoints are always aligned.
        let after = self.setup.overtake_after;
        let after = after.filter(|_| !self.is_savepoint(checkpoint));
        let Some(core) = &mut self.core else { return };
        let barrier = Barrier {
            checkpoint,
            overtakes: after.map(|after| self.setup.clock.now().after(after)),
        };
        if let Err(error) = core.trigger(barrier) {
            self.fail(ctx, &error);
        }
    }
}

impl Handler<NotifyCheckpoint> for TaskActor {
    type Result = ();

    fn handle(&mut self, NotifyCheckpoint(event): NotifyCheckpoint, ctx: &mut Self::Context) {
        self.note(event);
        let Some(core) = &mut self.core else { return };
        reached(Step::Notified);
        match core.on_checkpoint(event) {
            Ok(()) => reached(Step::Committed),
            Err(error) => self.fail(ctx, &error),
        }
    }
}

impl Handler<Cancel> for TaskActor {
    type Result = ();

    fn handle(&mut self, _: Cancel, ctx: &mut Self::Context) {
        self.end(ctx, TaskState::Canceled, None);
    }
}

impl Handler<AddSplit> for TaskActor {
    type Result = ();

    fn handle(&mut self, AddSplit(split): AddSplit, ctx: &mut Self::Context) {
        let Some(core) = &mut self.core else { return };
        if let Err(error) = core.add_split(split) {
            self.fail(ctx, &error);
        }
    }
}

impl Handler<SetBacklog> for TaskActor {
    type Result = ();

    fn handle(&mut self, SetBacklog(backlog): SetBacklog, _: &mut Self::Context) {
        if let Some(core) = &mut self.core {
            core.set_backlog(backlog);
        }
    }
}

impl Handler<ReportNow> for TaskActor {
    type Result = ();

    fn handle(&mut self, _: ReportNow, _: &mut Self::Context) {
        self.report();
    }
}

/// The actor's address as its TaskManager sees it.
struct Control(Addr<TaskActor>);

impl Control {
    /// Delivers in the order of calls, without blocking. An ended task needs no message.
    #[expect(
        clippy::disallowed_methods,
        reason = "a split must not overtake a checkpoint, and the protocol bounds what waits: one split a request, one \
                  checkpoint at a time"
    )]
    fn tell<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        TaskActor: Handler<M>,
    {
        self.0.do_send(message);
    }
}

impl TaskControl for Control {
    fn cancel(&self) {
        self.tell(Cancel);
    }

    fn add_split(&self, _node: NodeId, split: Option<Split>) {
        self.tell(AddSplit(split));
    }

    fn set_backlog(&self, _node: NodeId, backlog: bool) {
        self.tell(SetBacklog(backlog));
    }

    fn report_now(&self) {
        self.tell(ReportNow);
    }

    fn prepare_checkpoint(&self, checkpoint: CheckpointId, order: CheckpointOrder) {
        self.tell(PrepareCheckpoint(checkpoint, order));
    }

    fn trigger_checkpoint(&self, checkpoint: CheckpointId) {
        self.tell(TriggerCheckpoint(checkpoint));
    }

    fn notify_checkpoint(&self, event: CheckpointEvent) {
        self.tell(NotifyCheckpoint(event));
    }
}
