//! The chain and the loop that turns it.
//!
//! A task's operators lie in a flat array of nodes with a typed link between neighbours. The loop
//! turns them tail first, so that what is inside leaves before more comes in. A node runs only when
//! its output link has room, an event passes on only behind the records before it, and nothing in
//! here blocks: a [`TaskCore`] is a brain that its shell polls.

mod backlog;
mod capture;
mod cut;
mod driver;
mod gate;
mod link;
mod merged;
mod node;
mod overtaking;
mod panics;
mod replay;
mod scanning;
mod source;
mod stop;
mod tail;
mod two_input;

pub use capture::InFlightPart;
pub use cut::{Arrival, CutTimes, TaskCut};
pub use gate::{GateHead, InputGate};
pub use link::{AnyLink, Link};
pub use node::{Node, OperatorNode};
pub use replay::{InFlightRestore, ReplayedKeys, RestoredChannel};
pub use source::SourceHead;
pub use stop::StopMode;
pub use tail::{Outlet, SidePort, Tail};
pub use two_input::TwoInputHead;

use crate::operator::CheckpointEvent;
use crate::source::Split;
use hurtig_core::accumulators::{AccumulatorValues, merge_accumulators};
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::{Clock, Time};
use hurtig_core::{Barrier, Error, Result};
use hurtig_exchange::Signal;
use hurtig_state::{OperatorSnapshot, ScanBudget};
use overtaking::Overtaking;
use panics::panicked;
use scanning::Scanning;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use stop::Stop;

/// After a pass this long each operator's call is timed, so that a slow one gets less to do at once.
const SLOW_PASS: Duration = Duration::from_micros(200);
/// How old the wall clock's reading may be.
const WALL_EVERY: Duration = Duration::from_micros(500);

/// What one turn of a node achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// It did something; there may be more.
    Worked,
    /// It had nothing to do.
    Starved,
    /// It had no room for its output.
    Blocked,
}

/// The moment at which nodes are turned.
pub struct Turn<'a, 'b> {
    /// Engine time, read once a pass.
    pub now: Time,
    /// Wall-clock milliseconds, read at least once a millisecond.
    pub wall_ms: i64,
    /// The pass before was long enough to ask which operator is slow.
    pub measure: bool,
    /// The clock, for what must be measured within a pass.
    pub clock: &'a dyn Clock,
    /// The task's waker, for readers and futures.
    pub task: &'a mut Context<'b>,
}

/// Counts of one operator.
#[derive(Clone, Debug)]
pub struct NodeStats {
    /// The operator's name.
    pub operator: Arc<str>,
    /// Records consumed.
    pub records_in: u64,
    /// Records emitted into the main output.
    pub records_out: u64,
    /// Last watermark emitted.
    pub watermark: i64,
    /// Last watermark consumed; of a source, the least there is.
    pub input_watermark: i64,
    /// Whether what it reads is backlog.
    pub backlog: bool,
}

/// Where a task's input comes from.
pub trait Head: Send {
    /// Opens readers and operators.
    fn open(&mut self, restored: Option<&OperatorSnapshot>) -> Result<()>;
    /// Puts the next input into the first link if that is empty.
    fn pull(&mut self, output: &mut dyn AnyLink, turn: &mut Turn<'_, '_>) -> Result<Turned>;
    /// Engine time and wall-clock milliseconds at which to pull again without being woken.
    fn wake_at(&self) -> (Option<Time>, i64);
    /// Receives a split, or the news that there are no more.
    fn add_split(&mut self, split: Option<Split>) -> Result<()> {
        drop(split);
        Err(Error::internal("a task without source was assigned a split"))
    }
    /// Whether the reader has asked for a split since the last call.
    fn take_split_request(&mut self) -> bool {
        false
    }
    /// Says of each input whether it begins in backlog: each channel, or what a source reads. Called before anything
    /// is pulled or replayed.
    fn begin_in_backlog(&mut self, inputs: &[bool]) {
        let _ = inputs;
    }
    /// What a source reads from now on is backlog, or is not any more.
    fn set_backlog(&mut self, backlog: bool) {
        let _ = backlog;
    }
    /// Tells the head whether the task is back-pressured: idleness of a source does not count then.
    fn set_back_pressured(&mut self, now: Time, back_pressured: bool) {
        let _ = (now, back_pressured);
    }
    /// Hands over side output buffers that have waited for the buffer timeout.
    fn flush_due(&mut self, now: Time) {
        let _ = now;
    }
    /// The task goes idle: hands over side outputs; returns when to call again.
    fn flush_idle(&mut self, now: Time) -> Option<Time> {
        let _ = now;
        None
    }
    /// Whether side outputs hold nothing back.
    fn is_flushed(&self) -> bool {
        true
    }
    /// Sends a checkpoint's barrier: a source before anything else, any other head before the end of its
    /// input, as all of its producers have finished. False when the end of input has gone.
    fn trigger(&mut self, barrier: Barrier) -> bool {
        let _ = barrier;
        false
    }
    /// Learns of barriers that were announced, and lets one overtake that may from `now` on, before what waits
    /// in the first link too. Returns when to look again.
    fn look(&mut self, now: Time, output: &mut dyn AnyLink) -> Result<Time> {
        let _ = (now, output);
        Ok(merged::NEVER)
    }
    /// The last barrier that the head sent or is about to send.
    fn passed(&self) -> Option<Barrier> {
        None
    }
    /// When its barriers came and were let through.
    fn arrival(&self) -> Arrival {
        Arrival::default()
    }
    /// What a barrier that the head has sent has overtaken; once.
    fn take_in_flight(&mut self, checkpoint: CheckpointId) -> InFlightPart {
        let _ = checkpoint;
        InFlightPart::Nothing
    }
    /// Reads what was in flight before anything else. Called before anything is pulled.
    fn replay(&mut self, restored: InFlightRestore) -> Result<()> {
        let _ = restored;
        Err(Error::internal(
            "records were in flight to a task that reads no channels",
        ))
    }
    /// The input ends here, and what the reader remembers now is its part of the checkpoint. Heads that
    /// read channels wait for the ends of their producers.
    fn drain(&mut self, checkpoint: CheckpointId) -> Result<()> {
        let _ = checkpoint;
        Ok(())
    }
    /// Sends on what side outputs hold back; true when nothing is left.
    fn settle(&mut self, now: Time) -> bool {
        let _ = now;
        true
    }
    /// Whether an operator in the head waits for a checkpoint to commit what it has written.
    fn uncommitted(&self) -> bool {
        false
    }
    /// A barrier behind the end of input: keeps what readers or operators remember.
    fn cut_at_end(&mut self, checkpoint: CheckpointId) -> Result<()> {
        let _ = checkpoint;
        Ok(())
    }
    /// The task had finished before: nothing is opened or called, and side outputs end.
    fn finish_at_once(&mut self, now: Time) {
        let _ = now;
    }
    /// As [`Node::continue_snapshot`].
    fn continue_snapshot(&mut self, budget: &mut ScanBudget) -> Result<bool> {
        let _ = budget;
        Ok(true)
    }
    /// What readers or operators remembered when a barrier passed, once their snapshot has ended; once.
    fn take_snapshot(&mut self, checkpoint: CheckpointId) -> Option<OperatorSnapshot> {
        let _ = checkpoint;
        None
    }
    /// A checkpoint was given up: nothing waits for its barriers any more.
    fn abort(&mut self, checkpoint: CheckpointId) -> Result<()> {
        let _ = checkpoint;
        Ok(())
    }
    /// Tells operators that a checkpoint has completed or was given up.
    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()> {
        let _ = event;
        Ok(())
    }
    /// Ends a successful run.
    fn close(&mut self) -> Result<()>;
    /// The operator's accumulators.
    fn accumulators(&self) -> AccumulatorValues {
        AccumulatorValues::new()
    }
    /// Counts for metrics, if there is an operator in the head.
    fn stats(&self) -> Option<NodeStats>;
}

/// How a round of the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// The quantum is over and there is more to do.
    Busy,
    /// Nothing to do before the task's signal rings, or before the given time.
    Idle(Option<Time>),
    /// No room for output before the signal rings, or something else to do at the given time.
    BackPressured(Option<Time>),
    /// Input has ended, everything has left, and the operators are closed.
    Finished,
}

/// Whether a task whose input has ended waits for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Its input has not ended.
    NotYet,
    /// It needs a checkpoint, and nobody knows.
    Wanting,
    /// It was asked for one.
    Waiting,
}

/// A task's dataflow: head, nodes, tail, and the links between them.
pub struct TaskCore {
    head: Box<dyn Head>,
    nodes: Vec<Box<dyn Node>>,
    /// `links[i]` stands before node `i`, the last one before the outlet.
    links: Vec<Box<dyn AnyLink>>,
    outlet: Box<dyn Outlet>,
    signal: Signal,
    clock: Arc<dyn Clock>,
    next_flush: Time,
    flush_every: Duration,
    /// The last pass took [`SLOW_PASS`].
    slow: bool,
    /// Checkpoints whose barriers have left, and when.
    cuts: VecDeque<(CheckpointId, CutTimes)>,
    /// The last one that was begun here.
    begun: Arrival,
    /// What concerns barriers that may overtake.
    overtaking: Overtaking,
    /// The last of them, also when it was taken.
    last_cut: Option<CheckpointId>,
    /// Time for the snapshots that began at their barriers.
    scan: Scanning,
    poisoned: bool,
    /// It had finished before a restore: there is nothing to open or close.
    was_finished: bool,
    /// Checkpoints are taken of the job.
    takes_checkpoints: bool,
    ending: Ending,
    /// A checkpoint that was triggered when the end of input was already on its way through the chain.
    missed: Option<CheckpointId>,
    /// How the job is to stop with a savepoint.
    stop: Option<Stop>,
    /// Whose turn it is: 0 for the head, `i + 1` for node `i`.
    at: usize,
}

/// The parts of a [`TaskCore`].
pub struct TaskParts {
    /// Where input comes from.
    pub head: Box<dyn Head>,
    /// The operators, in order.
    pub nodes: Vec<Box<dyn Node>>,
    /// One link before each node and one before the outlet.
    pub links: Vec<Box<dyn AnyLink>>,
    /// Where output goes.
    pub outlet: Box<dyn Outlet>,
    /// The bell that the task's channels ring.
    pub signal: Signal,
    /// The buffer timeout; `None` when buffers are never flushed by time.
    pub buffer_timeout: Option<Duration>,
}

impl TaskCore {
    /// A task made of `parts`.
    ///
    /// # Panics
    /// When there is not one link more than nodes.
    pub fn new(parts: TaskParts, clock: Arc<dyn Clock>) -> Self {
        assert_eq!(
            parts.links.len(),
            parts.nodes.len() + 1,
            "one link before each node and one before the outlet"
        );
        Self {
            head: parts.head,
            nodes: parts.nodes,
            links: parts.links,
            outlet: parts.outlet,
            signal: parts.signal,
            next_flush: Time::ZERO,
            flush_every: parts.buffer_timeout.map_or(Duration::MAX, |timeout| timeout / 4),
            clock,
            slow: false,
            cuts: VecDeque::new(),
            begun: Arrival::default(),
            overtaking: Overtaking::default(),
            last_cut: None,
            scan: Scanning::default(),
            poisoned: false,
            was_finished: false,
            takes_checkpoints: false,
            ending: Ending::NotYet,
            missed: None,
            stop: None,
            at: 0,
        }
    }

    /// Says that checkpoints are taken of the job: what operators have written is committed by them, and
    /// the last of it before the task finishes.
    #[must_use]
    pub fn taking_checkpoints(mut self, takes: bool) -> Self {
        self.takes_checkpoints = takes;
        self
    }

    /// Opens all operators, the last first, so that each finds its consumers ready.
    pub fn open(&mut self, restored: &dyn Fn(usize) -> Option<OperatorSnapshot>) -> Result<()> {
        self.guarded(|core| {
            for i in (0..core.nodes.len()).rev() {
                core.at = i + 1;
                core.nodes[i].open(restored(i + 1).as_ref())?;
            }
            core.at = 0;
            core.head.open(restored(0).as_ref())
        })
    }

    /// Ends a task that had finished when the checkpoint was taken from which its job was restored: it
    /// tells its consumers so and does nothing else. Instead of [`Self::open`].
    pub fn finish_at_once(&mut self) {
        let now = self.clock.now();
        self.was_finished = true;
        self.head.finish_at_once(now);
        self.nodes.iter_mut().for_each(|node| node.finish_at_once(now));
        if let Some(last) = self.links.last_mut() {
            last.end();
        }
        self.signal.ring();
    }

    /// Turns the chain until the quantum is over or there is nothing to do. The task's waker is
    /// registered when it returns `Idle` or `BackPressured`.
    ///
    /// # Errors
    /// What an operator returned, or its panic. The chain is then poisoned and must be dropped.
    pub fn round(&mut self, task: &mut Context<'_>, quantum: Duration) -> Result<Round> {
        self.guarded(|core| core.round_inner(task, quantum))
    }

    fn round_inner(&mut self, task: &mut Context<'_>, quantum: Duration) -> Result<Round> {
        let clock = self.clock.clone();
        let started = clock.now();
        let (mut now, mut wall_read, mut wall_ms) = (started, started, clock.wall_ms());
        let mut listening = false;
        loop {
            if let Some(round) = self.stopping(now, quantum, task)? {
                return Ok(round);
            }
            let mut turn = Turn {
                now,
                wall_ms,
                measure: self.slow,
                clock: &*clock,
                task: &mut *task,
            };
            let (moved, blocked) = self.pass(&mut turn)?;
            if self.outlet.is_finished() && self.sides_flushed() && !self.scan.is_going_on() {
                let round = self.end(turn.task)?;
                if !self.scan.is_going_on() {
                    return Ok(round);
                }
            }
            let scanned = !moved && self.scan.is_going_on();
            if scanned {
                self.flush_idle(now);
                self.scan_slice()?;
            }
            let worked = moved || scanned;
            if worked {
                self.flush_due(now);
            } else if listening {
                return self.rest(now, wall_ms, blocked);
            } else {
                // Whoever finds room or input from here on rings; one more pass sees what came before.
                self.signal.listen(turn.task.waker());
                listening = true;
            }
            let before = std::mem::replace(&mut now, clock.now());
            self.slow = now.since(before) >= SLOW_PASS;
            if moved && self.scan.is_going_on() {
                now = self.scan_beside(now.since(before), now)?;
            }
            if worked && now.since(started) >= quantum {
                return Ok(Round::Busy);
            }
            if now.since(wall_read) >= WALL_EVERY {
                (wall_read, wall_ms) = (now, clock.wall_ms());
            }
        }
    }

    /// One pass over everything, tail first. Returns whether anything moved, and whether any output had
    /// no room.
    fn pass(&mut self, turn: &mut Turn<'_, '_>) -> Result<(bool, bool)> {
        let nodes = self.nodes.len();
        if let Some(failure) = self.signal.take_failure() {
            return Err(failure);
        }
        if self.signal.take_announced() || self.overtaking.look_at <= turn.now {
            self.at = 0;
            self.overtaking.look_at = self.head.look(turn.now, &mut *self.links[0])?;
        }
        self.at = nodes + 1;
        let out = self.outlet.turn(&mut *self.links[nodes], turn);
        self.at = nodes;
        if self.overtaking.overdraws {
            self.end_overdraft(out);
        }
        if let Some(checkpoint) = self.outlet.take_barrier() {
            self.overtaking.left = Some(checkpoint);
            self.cut(checkpoint);
            if self.is_held() {
                return Ok((true, false));
            }
        }
        let mut worked = out == Turned::Worked;
        let mut blocked = out == Turned::Blocked;
        for i in (0..nodes).rev() {
            self.at = i + 1;
            let (before, after) = self.links.split_at_mut(i + 1);
            let turned = self.nodes[i].turn(&mut *before[i], &mut *after[0], turn)?;
            worked |= turned == Turned::Worked;
            blocked |= turned == Turned::Blocked;
        }
        self.at = 0;
        let pulled = self.head.pull(&mut *self.links[0], turn)?;
        worked |= pulled == Turned::Worked;
        blocked |= pulled == Turned::Blocked;
        self.head.set_back_pressured(turn.now, blocked && !worked);
        Ok((worked, blocked))
    }

    /// Everything has left. What was written is committed before the task finishes.
    fn end(&mut self, task: &mut Context<'_>) -> Result<Round> {
        if self.was_finished {
            return Ok(Round::Finished);
        }
        if let Some(checkpoint) = self.drains_for() {
            self.cut_at_end(checkpoint)?;
            return Ok(Round::Busy);
        }
        if !self.takes_checkpoints || !self.uncommitted() {
            self.close()?;
            return Ok(Round::Finished);
        }
        // Whoever triggers or completes a checkpoint rings.
        self.signal.listen(task.waker());
        if self.ending == Ending::NotYet {
            self.ending = Ending::Wanting;
            if let Some(checkpoint) = self.missed.take().filter(|missed| !self.has_cut(*missed)) {
                self.cut_at_end(checkpoint)?;
            }
        }
        Ok(Round::Idle(None))
    }

    fn uncommitted(&self) -> bool {
        self.head.uncommitted() || self.nodes.iter().any(|node| node.uncommitted())
    }

    /// A barrier behind the end of input.
    fn cut_at_end(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.at = 0;
        self.head.cut_at_end(checkpoint)?;
        for i in 0..self.nodes.len() {
            self.at = i + 1;
            self.nodes[i].cut_at_end(checkpoint)?;
        }
        self.cut(checkpoint);
        self.ending = Ending::Waiting;
        Ok(())
    }

    /// Whether the task needs a checkpoint to finish, since the last call.
    pub fn take_checkpoint_request(&mut self) -> bool {
        let wanting = self.ending == Ending::Wanting;
        if wanting {
            self.ending = Ending::Waiting;
        }
        wanting
    }

    fn rest(&mut self, now: Time, wall_ms: i64, blocked: bool) -> Result<Round> {
        let mut due_ms = i64::MAX;
        for i in 0..self.nodes.len() {
            self.at = i + 1;
            let node = &mut self.nodes[i];
            let asked = node.wake_at();
            node.on_idle()?;
            // What is overdue could not be called: room, or its future, will wake the task.
            let wake = node.wake_at();
            if wake != asked || wake > wall_ms {
                due_ms = due_ms.min(wake);
            }
        }
        let flush = self.flush_idle(now);
        let (pull_at, head_ms) = self.head.wake_at();
        let pull_at = pull_at.filter(|at| *at > now);
        if head_ms > wall_ms {
            due_ms = due_ms.min(head_ms);
        }
        let due = (due_ms != i64::MAX).then(|| {
            now.after(Duration::from_millis(
                u64::try_from(due_ms.saturating_sub(wall_ms)).unwrap_or(0),
            ))
        });
        let (overdrawn, overdraw_at) = self.overdraw(now, blocked);
        if overdrawn {
            return Ok(Round::Busy);
        }
        let look_at = Some(self.overtaking.look_at).filter(|at| *at != merged::NEVER);
        let wake = [flush, pull_at, due, overdraw_at, look_at];
        let wake = wake.into_iter().flatten().min();
        Ok(if blocked {
            Round::BackPressured(wake)
        } else {
            Round::Idle(wake)
        })
    }

    /// Hands over what is buffered, as there is nothing to do; returns when to call again.
    fn flush_idle(&mut self, now: Time) -> Option<Time> {
        let nodes = self.nodes.iter_mut();
        let sides = nodes.filter_map(|node| node.flush_idle(now)).min();
        [self.outlet.flush_idle(now), self.head.flush_idle(now), sides]
            .into_iter()
            .flatten()
            .min()
    }

    fn flush_due(&mut self, now: Time) {
        if now < self.next_flush || self.flush_every == Duration::MAX {
            return;
        }
        self.next_flush = now.after(self.flush_every);
        self.outlet.flush_due(now);
        self.head.flush_due(now);
        self.nodes.iter_mut().for_each(|node| node.flush_due(now));
    }

    fn sides_flushed(&self) -> bool {
        self.head.is_flushed() && self.nodes.iter().all(|node| node.is_flushed())
    }

    fn close(&mut self) -> Result<()> {
        self.at = 0;
        self.head.close()?;
        for i in 0..self.nodes.len() {
            self.at = i + 1;
            self.nodes[i].close()?;
        }
        Ok(())
    }

    /// Hands a split to the source.
    pub fn add_split(&mut self, split: Option<Split>) -> Result<()> {
        self.guarded(|core| core.head.add_split(split))
    }

    /// Whether the source has asked for a split since the last call.
    pub fn take_split_request(&mut self) -> bool {
        self.head.take_split_request()
    }

    /// A barrier has left the task: what the operators remembered when it passed them is a cut, once their
    /// snapshots have ended.
    fn cut(&mut self, checkpoint: CheckpointId) {
        let times = Arrival::of([self.head.arrival(), self.begun], checkpoint, self.clock.now());
        self.cuts.push_back((checkpoint, times));
        self.last_cut = Some(checkpoint);
        self.scan.begin();
        self.hold_behind(checkpoint);
    }

    /// Whether a checkpoint's barrier has left: what came behind it is not part of the checkpoint.
    fn has_cut(&self, checkpoint: CheckpointId) -> bool {
        self.last_cut >= Some(checkpoint)
    }

    /// Gives one slice of time to the operators' snapshots, from the tail to the head.
    fn scan_slice(&mut self) -> Result<()> {
        let mut budget = ScanBudget::new(Scanning::SLICE);
        for i in (0..self.nodes.len()).rev() {
            self.at = i + 1;
            if !self.nodes[i].continue_snapshot(&mut budget)? {
                return Ok(());
            }
        }
        self.at = 0;
        if self.head.continue_snapshot(&mut budget)? {
            self.scan.end();
        }
        Ok(())
    }

    /// Gives the operators' snapshots their share of the time, of which `worked` went to records.
    fn scan_beside(&mut self, worked: Duration, mut now: Time) -> Result<Time> {
        self.scan.earn(worked);
        let clock = self.clock.clone();
        while self.scan.may_go_on() {
            self.scan_slice()?;
            let before = std::mem::replace(&mut now, clock.now());
            self.scan.spend(now.since(before));
        }
        Ok(now)
    }

    /// Begins a checkpoint here: at a source, or where all producers have finished. Nothing happens when
    /// the end of input is on its way and everything is committed: the task's end is the answer.
    ///
    /// # Errors
    /// What an operator returned; the chain is then poisoned.
    pub fn trigger(&mut self, barrier: impl Into<Barrier>) -> Result<()> {
        let barrier = barrier.into();
        let checkpoint = barrier.checkpoint;
        self.begun.came(checkpoint, self.clock.now());
        self.guarded(|core| {
            if core.is_held() || core.has_cut(checkpoint) {
                // It has said what it remembers. Who triggers it here did not know that the barrier would come
                // from its producers before they finished.
            } else if core.ending != Ending::NotYet {
                core.cut_at_end(checkpoint)?;
            } else if core.drains_for() == Some(checkpoint) {
                core.head.drain(checkpoint)?;
            } else if !core.head.trigger(barrier) {
                core.missed = Some(checkpoint);
            }
            core.overtaking.look_at = Time::ZERO;
            core.signal.ring();
            Ok(())
        })
    }

    /// What the task remembered at a barrier that has left it, oldest first, once all of it is there.
    pub fn take_cut(&mut self) -> Option<TaskCut> {
        if self.scan.is_going_on() {
            return None;
        }
        let (checkpoint, times) = *self.cuts.front()?;
        let in_flight = match self.head.take_in_flight(checkpoint) {
            InFlightPart::Nothing => None,
            InFlightPart::Here(in_flight) => Some(in_flight),
            InFlightPart::Coming => return None,
        };
        self.cuts.pop_front();
        let head = self.head.take_snapshot(checkpoint).unwrap_or_default();
        let rest = self.nodes.iter_mut();
        let rest = rest.map(|node| node.take_snapshot(checkpoint).unwrap_or_default());
        Some(TaskCut {
            checkpoint,
            operators: std::iter::once(head).chain(rest).collect(),
            in_flight,
            times,
        })
    }

    /// A checkpoint has completed or was given up.
    ///
    /// # Errors
    /// What an operator returned; the chain is then poisoned.
    pub fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()> {
        self.guarded(|core| {
            core.at = 0;
            if let CheckpointEvent::Aborted(checkpoint) = event {
                core.cuts.retain(|(cut, _)| *cut != checkpoint);
                core.missed = core.missed.filter(|missed| *missed != checkpoint);
                if core.ending == Ending::Waiting {
                    core.ending = Ending::Wanting;
                }
                core.head.abort(checkpoint)?;
                core.forget_overdraft(checkpoint);
            }
            core.head.on_checkpoint(event)?;
            for i in 0..core.nodes.len() {
                core.at = i + 1;
                core.nodes[i].on_checkpoint(event)?;
            }
            core.at = 0;
            core.ask_again(event);
            core.stop_on(event);
            // Inputs that were blocked may be read again.
            core.signal.ring();
            Ok(())
        })
    }

    /// At the end of input, asks for a checkpoint if what has completed did not hold everything.
    fn ask_again(&mut self, event: CheckpointEvent) {
        let CheckpointEvent::Completed(done) = event else {
            return;
        };
        if self.ending == Ending::Waiting && self.last_cut <= Some(done) && self.uncommitted() {
            self.ending = Ending::Wanting;
        }
    }

    /// Counts of the head, if it is an operator or source, and of every node.
    pub fn stats(&self) -> Vec<NodeStats> {
        self.head
            .stats()
            .into_iter()
            .chain(self.nodes.iter().map(|node| node.stats()))
            .collect()
    }

    /// The accumulators of all operators, merged.
    pub fn accumulators(&self) -> AccumulatorValues {
        let mut merged = self.head.accumulators();
        for node in &self.nodes {
            // Kinds that differ between operators are reported where subtasks are merged.
            merge_accumulators(&mut merged, &node.accumulators());
        }
        merged
    }

    /// Records and estimated bytes that left the task.
    pub fn totals(&self) -> (u64, u64) {
        self.outlet.totals()
    }

    /// Where the chain failed: 0 for the head, `i + 1` for node `i`; `None` while it has not. What chooses the
    /// channels of the chain's output counts as part of its last operator.
    pub fn failed_at(&self) -> Option<usize> {
        self.poisoned.then_some(self.at.min(self.nodes.len()))
    }

    /// Runs `f` unless the chain is poisoned, and poisons it when `f` fails or panics: a chain that
    /// stopped half-way is never called again.
    fn guarded<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        if self.poisoned {
            return Err(Error::internal("the task has failed before"));
        }
        // The chain is not looked at again after a panic, so nobody sees it half changed.
        let result = catch_unwind(AssertUnwindSafe(|| f(&mut *self)));
        let result = result.unwrap_or_else(|panic| {
            let place = if self.at > self.nodes.len() {
                "a key selector or partitioner of its output "
            } else {
                ""
            };
            Err(panicked(place, &*panic))
        });
        self.poisoned = result.is_err();
        result
    }
}
