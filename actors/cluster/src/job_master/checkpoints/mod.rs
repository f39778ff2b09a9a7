//! The checkpoint coordinator's brain: when a checkpoint begins, what it waits for, how it ends.
//!
//! One checkpoint at a time, those that somebody asked for before those of the interval. It is triggered at the sources, complete when every task that has not
//! finished has acknowledged it, and durable when its metadata is published; only then is anybody told
//! of its completion. Everything else that can happen to it ends it, once, and is told to all tasks.
//!
//! It refuses to know what a task's state looks like (`H` is where it was put), who stores it, and which
//! clock runs.

mod backlog;
#[cfg(test)]
mod backlog_tests;
mod pending;
mod requests;
#[cfg(test)]
mod tests;

use hurtig_core::ids::{CheckpointId, ExecutionId, SubtaskId};
use hurtig_core::time::Time;
use pending::Pending;
pub use requests::{MAX_REQUESTS, RequestId, RequestKind, SnapshotRequest};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

/// From a failure to the next trigger, at least: what is full or away will not be back at once.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);

/// A timer that goes off so long before its time is the one that was set for that time.
const EARLY: Duration = Duration::from_millis(10);

/// When checkpoints are taken, and what becomes of failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// From one trigger to the next; `None`: never by itself.
    pub interval: Option<Duration>,
    /// The same while a source reads backlog, and not shorter; `None`: as always. Zero: never by itself.
    pub interval_during_backlog: Option<Duration>,
    /// A checkpoint that takes longer is given up.
    pub timeout: Duration,
    /// From the end of one to the next trigger, at least.
    pub min_pause: Duration,
    /// So many failures in a row are borne.
    pub tolerable_failures: u32,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            interval: None,
            interval_during_backlog: None,
            timeout: Duration::from_secs(600),
            min_pause: Duration::ZERO,
            tolerable_failures: u32::MAX,
        }
    }
}

/// A task as the coordinator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointTask {
    /// Which attempt.
    pub execution: ExecutionId,
    /// Whether barriers begin there: nobody is left who would send it one.
    pub source: bool,
    /// How far it is.
    pub stage: TaskStage,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStage {
    /// It is being started, or stopped.
    Other,
    /// It takes barriers.
    Running,
    /// It has ended well: it has no state any more.
    Finished,
}

/// What a subtask contributes to a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubtaskCut<H> {
    /// Its state is there.
    State(H),
    /// It had finished; after a restore it has nothing to do.
    Finished,
}

/// A checkpoint that all tasks have contributed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteCut<H> {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// When it was triggered.
    pub triggered: Time,
    /// Every subtask of the job.
    pub subtasks: BTreeMap<SubtaskId, SubtaskCut<H>>,
}

/// Why a checkpoint was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AbortReason {
    /// It took longer than its timeout; these tasks had not answered.
    Expired(Vec<ExecutionId>),
    /// A task could not take part.
    Declined(ExecutionId, String),
    /// Its metadata could not be written.
    NotPublished(String),
    /// The job restarts or ends.
    Stopped,
}

impl AbortReason {
    /// Whether it counts among the failures that are borne only so often.
    pub(in crate::job_master) fn is_failure(&self) -> bool {
        *self != Self::Stopped
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(missing) => {
                let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
                write!(f, "it timed out; still missing: {}", missing.join(", "))
            }
            Self::Declined(task, why) => write!(f, "task {task} declined it: {why}"),
            Self::NotPublished(why) => write!(f, "its metadata could not be written: {why}"),
            Self::Stopped => f.write_str("the job was stopped or restarted"),
        }
    }
}

/// Timers of the coordinator. They are not cancelled; late ones lead to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointTimer {
    /// The next checkpoint may be due.
    Trigger,
    /// This one has had its time.
    Expire(CheckpointId),
    /// This request has waited long enough, if what was asked for has not begun.
    GiveUp(RequestId),
}

/// What the coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointEffect<H> {
    /// Tell these sources to send barriers.
    Trigger(CheckpointId, Vec<ExecutionId>),
    /// Begin what was asked for: as [`Self::Trigger`], once all tasks know what they have to.
    Begin(CheckpointId, SnapshotRequest),
    /// Make it durable, and report to [`CheckpointCoordinator::published`].
    Publish(CompleteCut<H>),
    /// It is durable: tell all tasks.
    Completed(CheckpointId),
    /// What was asked for is durable: tell who did. Of a checkpoint, [`Self::Completed`] comes before.
    Taken(CheckpointId, SnapshotRequest),
    /// What was asked for will not be taken: tell who did.
    NotTaken(RequestId, String),
    /// It will never complete: tell all tasks, and delete what was stored of it.
    Aborted(CheckpointId, AbortReason),
    /// State of a checkpoint that has ended already: delete it.
    Discard(CheckpointId, H),
    /// Call [`CheckpointCoordinator::on_timer`] later.
    After(Duration, CheckpointTimer),
    /// More failures in a row than are borne: the job fails.
    FailJob(String),
}

/// What effects are collected in.
type Effects<H> = Vec<CheckpointEffect<H>>;

/// One job's checkpoints.
#[derive(Clone, Debug)]
pub struct CheckpointCoordinator<H> {
    settings: CheckpointSettings,
    next: CheckpointId,
    current: Option<Pending<H>>,
    /// When the next checkpoint is due; `None` while stopped, and while none is wanted.
    due: Option<Time>,
    /// From when on the interval counts: the last trigger, or the start.
    counted_from: Time,
    /// A source reads backlog.
    backlog: bool,
    /// The times for which a trigger's timers are known to run.
    armed: BTreeSet<Time>,
    /// Whether the job's tasks run.
    started: bool,
    /// A task needs a checkpoint that begins from now on.
    requested: bool,
    /// What was asked for and has not begun, oldest first.
    requests: VecDeque<SnapshotRequest>,
    /// No checkpoint of the interval before that.
    rest_until: Time,
    failures: u32,
    latest: Option<CheckpointId>,
}

impl<H: Clone> CheckpointCoordinator<H> {
    /// A coordinator whose first checkpoint will be `first`; ids below were used before.
    pub fn new(settings: CheckpointSettings, first: CheckpointId) -> Self {
        Self {
            settings,
            next: first,
            current: None,
            due: None,
            counted_from: Time::ZERO,
            backlog: false,
            armed: BTreeSet::new(),
            started: false,
            requested: false,
            requests: VecDeque::new(),
            rest_until: Time::ZERO,
            failures: 0,
            latest: None,
        }
    }

    /// The job begins with this checkpoint: ids up to it were used before.
    pub fn begin_after(&mut self, checkpoint: CheckpointId) {
        self.next = self.next.max(CheckpointId(checkpoint.0 + 1));
    }

    /// The last checkpoint that is durable.
    pub fn latest(&self) -> Option<CheckpointId> {
        self.latest
    }

    /// The checkpoint that is under way.
    pub fn pending(&self) -> Option<CheckpointId> {
        self.current.as_ref().map(Pending::id)
    }

    /// The job's tasks run (again): checkpoints are taken from here on.
    pub fn start(&mut self, now: Time, out: &mut Effects<H>) {
        self.started = true;
        self.count_from(now);
        self.arm(now, self.due, out);
        if self.requested {
            self.request(now, out);
        }
        self.look_at_requests(out);
    }

    /// A task needs a checkpoint that begins from now on, whatever the interval is.
    pub fn request(&mut self, now: Time, out: &mut Effects<H>) {
        self.requested = true;
        if self.started {
            self.due = Some(now);
            self.arm(now, self.due, out);
        }
    }

    /// The job restarts or ends: no checkpoint is triggered before the next [`Self::start`]. Requests go on
    /// waiting; [`Self::end`] gives them up.
    pub fn stop(&mut self, now: Time, out: &mut Effects<H>) {
        self.requested = false;
        self.suspend(now, out);
    }

    /// As [`Self::stop`], for a while in which some tasks run on: what they have asked for is done at the next
    /// [`Self::start`]. What is being made durable is not given up: it may be recorded already, and is what the job goes on from then.
    pub fn suspend(&mut self, now: Time, out: &mut Effects<H>) {
        (self.started, self.due) = (false, None);
        if !self.is_publishing() {
            self.abort(now, AbortReason::Stopped, out);
        }
    }

    /// Whether a checkpoint is being made durable: nobody may begin anew before it is known whether it is.
    pub fn is_publishing(&self) -> bool {
        self.current.as_ref().is_some_and(Pending::is_publishing)
    }

    /// A timer has gone off. `tasks` are all tasks of the job.
    pub fn on_timer(
        &mut self,
        now: Time,
        timer: CheckpointTimer,
        tasks: &[CheckpointTask],
        out: &mut Effects<H>,
    ) {
        match timer {
            CheckpointTimer::Trigger => self.on_trigger(now, tasks, out),
            CheckpointTimer::GiveUp(request) => self.give_up(request, out),
            CheckpointTimer::Expire(checkpoint) => {
                let expired = self.collecting(checkpoint).map(|pending| pending.missing());
                if let Some(missing) = expired {
                    self.abort(now, AbortReason::Expired(missing), out);
                }
            }
        }
    }

    fn on_trigger(&mut self, now: Time, tasks: &[CheckpointTask], out: &mut Effects<H>) {
        self.armed.retain(|armed| *armed > now.after(EARLY));
        // The end of the one that is under way looks again.
        if self.current.is_some() || self.begin_requested(now, tasks, out) {
            return;
        }
        let Some(due) = self.due else { return };
        let earliest = due.max(self.rest_until);
        if now < earliest {
            return self.arm(now, Some(earliest), out);
        }
        self.count_from(now);
        if self.trigger(now, tasks, out) {
            self.requested = false;
            return;
        }
        // What was asked for is tried again, also where none is taken by itself now.
        let again = self.settings.interval.filter(|_| self.requested);
        self.due = self.due.or(again.map(|interval| now.after(interval)));
        self.arm(now, self.due, out);
    }

    /// Sees to it that a timer goes off at this time, or earlier: that one looks again.
    fn arm(&mut self, now: Time, at: Option<Time>, out: &mut Effects<H>) {
        // Those whose time is over go off by themselves, or are lost.
        self.armed.retain(|armed| *armed > now);
        let Some(at) = at.filter(|at| self.armed.first().is_none_or(|armed| armed > at)) else {
            return;
        };
        self.armed.insert(at);
        out.push(CheckpointEffect::After(at.since(now), CheckpointTimer::Trigger));
    }

    /// Begins a checkpoint, unless some task cannot take part or no source is left.
    fn trigger(&mut self, now: Time, tasks: &[CheckpointTask], out: &mut Effects<H>) -> bool {
        let Some(sources) = sources_of(tasks) else {
            return false;
        };
        let checkpoint = self.begin(now, tasks, None);
        out.push(CheckpointEffect::Trigger(checkpoint, sources));
        self.expire_later(checkpoint, out);
        true
    }

    fn begin(
        &mut self,
        now: Time,
        tasks: &[CheckpointTask],
        request: Option<SnapshotRequest>,
    ) -> CheckpointId {
        let checkpoint = self.next;
        self.next = CheckpointId(checkpoint.0 + 1);
        self.current = Some(Pending::new(checkpoint, now, tasks).asked_for_by(request));
        checkpoint
    }

    fn expire_later(&self, checkpoint: CheckpointId, out: &mut Effects<H>) {
        let timer = CheckpointTimer::Expire(checkpoint);
        out.push(CheckpointEffect::After(self.settings.timeout, timer));
    }

    /// The pending checkpoint of this id, if it still collects.
    fn collecting(&mut self, checkpoint: CheckpointId) -> Option<&mut Pending<H>> {
        let current = self.current.as_mut()?;
        (current.id() == checkpoint && !current.is_publishing()).then_some(current)
    }

    /// A task has stored its part.
    pub fn acknowledge(
        &mut self,
        checkpoint: CheckpointId,
        execution: ExecutionId,
        state: H,
        out: &mut Effects<H>,
    ) {
        match self.collecting(checkpoint) {
            Some(pending) if pending.expects(execution) => pending.acknowledge(execution, state),
            // Of a checkpoint that has ended, of an attempt that was replaced, or a second time.
            _ => return out.push(CheckpointEffect::Discard(checkpoint, state)),
        }
        self.publish_if_complete(out);
    }

    /// A task cannot take part.
    pub fn decline(
        &mut self,
        now: Time,
        checkpoint: CheckpointId,
        (execution, why): (ExecutionId, String),
        out: &mut Effects<H>,
    ) {
        let expected = self
            .collecting(checkpoint)
            .is_some_and(|pending| pending.expects(execution));
        if expected {
            self.abort(now, AbortReason::Declined(execution, why), out);
        }
    }

    /// A task has finished. What it owes to a checkpoint it will not bring any more.
    pub fn task_finished(&mut self, execution: ExecutionId, out: &mut Effects<H>) {
        let Some(pending) = &mut self.current else { return };
        if !pending.is_publishing() && pending.expects(execution) {
            pending.finished(execution);
            self.publish_if_complete(out);
        }
    }

    fn publish_if_complete(&mut self, out: &mut Effects<H>) {
        let cut = self.current.as_mut().and_then(Pending::publish);
        out.extend(cut.map(CheckpointEffect::Publish));
    }

    /// The metadata is durable, or could not be written.
    pub fn published(
        &mut self,
        now: Time,
        checkpoint: CheckpointId,
        result: Result<(), String>,
        out: &mut Effects<H>,
    ) {
        let ours = self
            .current
            .as_ref()
            .is_some_and(|current| current.id() == checkpoint);
        if !ours {
            return;
        }
        if let Err(why) = result {
            return self.abort(now, AbortReason::NotPublished(why), out);
        }
        let Some(done) = self.current.take() else { return };
        if !done.is_savepoint() {
            self.latest = Some(checkpoint);
            self.failures = 0;
            out.push(CheckpointEffect::Completed(checkpoint));
        }
        if let Some(request) = done.request() {
            self.taken(checkpoint, request, out);
        }
        self.rest(now, out);
    }

    /// Ends the pending checkpoint, if there is one.
    fn abort(&mut self, now: Time, reason: AbortReason, out: &mut Effects<H>) {
        let Some(pending) = self.current.take() else {
            return;
        };
        let (checkpoint, text) = (pending.id(), reason.to_string());
        if reason.is_failure() && !pending.is_savepoint() && self.started {
            self.failures += 1;
            self.rest_until = now.after(FAILURE_PAUSE);
        }
        out.push(CheckpointEffect::Aborted(checkpoint, reason));
        if let Some(request) = pending.request() {
            out.push(CheckpointEffect::NotTaken(request.id, text.clone()));
        }
        if self.failures > self.settings.tolerable_failures {
            out.push(CheckpointEffect::FailJob(format!(
                "checkpoint {checkpoint} failed ({text}), the {} in a row; \
                 execution.checkpointing.tolerable-failed-checkpoints is {}",
                ordinal(self.failures),
                self.settings.tolerable_failures
            )));
            self.failures = 0;
        }
        self.rest(now, out);
    }

    /// Arranges for the next checkpoint.
    fn rest(&mut self, now: Time, out: &mut Effects<H>) {
        self.rest_until = self.rest_until.max(now.after(self.settings.min_pause));
        let due = self.due.map(|due| due.max(self.rest_until));
        self.arm(now, due, out);
        self.look_at_requests(out);
    }
}

/// The tasks at which barriers begin, if every task can take part and there is one.
fn sources_of(tasks: &[CheckpointTask]) -> Option<Vec<ExecutionId>> {
    let ready = tasks.iter().all(|task| task.stage != TaskStage::Other);
    let sources = tasks
        .iter()
        .filter(|task| task.source && task.stage == TaskStage::Running);
    let sources: Vec<ExecutionId> = sources.map(|task| task.execution).collect();
    (ready && !sources.is_empty()).then_some(sources)
}

/// `1st`, `2nd`, `3rd`, `4th`, …
fn ordinal(n: u32) -> String {
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}
