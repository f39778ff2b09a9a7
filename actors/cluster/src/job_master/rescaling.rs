//! The JobMaster's part in rescaling: between which bounds the job's vertices run, with which slots it begins, and when it goes
//! over to another parallelism.
//!
//! A job takes the parallelism that fits into its slots whenever *all* of it is started, after a failure too; there is no
//! other way to change it. What is here decides when that is worth it, and sees to it that a checkpoint comes just before.
//! A job whose bounds leave no choice waits for exactly what it needs.

use super::brain::JobMasterBrain;
use super::checkpoints::RequestId;
use super::events::{Effects, JobEffect, JobEvent, JobSettings, WantedCheckpoint};
use crate::config::CheckpointKind;
use crate::config::FailoverStrategy;
use crate::messages::SlotNeed;
use hurtig_core::ids::{AllocationId, TaskManagerId};
use hurtig_core::time::Time;
use hurtig_dataflow::graph::{JobGraph, JobStatus, Parallelisms, Requirements};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Requests for checkpoints before a change, of which nobody hears, have ids from here on. Each has its own: a change may be over
/// before its checkpoint has begun.
const OWN_REQUESTS: RequestId = 1 << 63;
/// When a change looks again that a savepoint stands in the way of.
const AGAIN: Duration = Duration::from_secs(1);

/// What a change of the parallelism waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalingTimer {
    /// More slots were waited for long enough: the job begins with those that there are.
    Settled {
        /// Which wait: they are numbered.
        round: u32,
    },
    /// A running job may go over to another parallelism, if it could.
    Look,
    /// It goes over: its checkpoint is complete, or was waited for long enough.
    Change {
        /// Which change: they are numbered.
        round: u32,
    },
}

/// What a JobMaster remembers of its job's parallelism.
#[derive(Clone, Debug)]
pub(super) struct Rescaling {
    requirements: Requirements,
    /// Everything is to be started for the first time, when there are slots.
    beginning: bool,
    rounds: u32,
    requests: RequestId,
    wait: Option<Wait>,
    /// Since when the running job could have another parallelism.
    since: Option<Time>,
    /// Somebody has declared other requirements, which are not fulfilled yet.
    declared: bool,
    change: Option<Change>,
    /// When the job began to run as it does.
    began: Time,
    /// Slots that were given back, or given up with their workers, which are not known to have ended.
    returned: BTreeMap<TaskManagerId, BTreeSet<AllocationId>>,
}

/// Everything is to be started, and more slots may come.
#[derive(Clone, Copy, Debug)]
struct Wait {
    round: u32,
    /// Whether the job could run with those that there are.
    enough: bool,
    over: bool,
}

/// A change that waits for a checkpoint.
#[derive(Clone, Copy, Debug)]
struct Change {
    round: u32,
    /// Checkpoints that have failed since.
    failures: u32,
    /// The last checkpoint that was asked for.
    request: Option<RequestId>,
}

impl Rescaling {
    pub(super) fn new(graph: &JobGraph, settings: &JobSettings) -> Self {
        let declared = settings.requirements.clone();
        let initial = || Requirements::initial(graph, settings.scaling.elasticity);
        Self {
            requirements: declared.unwrap_or_else(initial),
            beginning: false,
            rounds: 0,
            requests: OWN_REQUESTS,
            wait: None,
            since: None,
            declared: false,
            change: None,
            began: Time::ZERO,
            returned: BTreeMap::new(),
        }
    }

    fn next_round(&mut self) -> u32 {
        self.rounds += 1;
        self.rounds
    }

    /// The job restarts or ends: what was to be done is not any more.
    pub(super) fn drop_plans(&mut self) {
        (self.beginning, self.wait, self.change) = (false, None, None);
    }

    /// The job does without these slots of a worker, which may still run. False when that is known of all of them.
    pub(super) fn leave(&mut self, worker: TaskManagerId, slots: Vec<AllocationId>) -> bool {
        if slots.is_empty() {
            return false;
        }
        let known = self.returned.entry(worker).or_default();
        let before = known.len();
        known.extend(slots);
        known.len() > before
    }

    /// A worker has ended, and what it had.
    pub(super) fn ended(&mut self, worker: TaskManagerId) {
        self.returned.remove(&worker);
    }
}

impl JobMasterBrain {
    fn slots_there(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// The slots without which the job cannot run, and those that it can use.
    fn slots_wanted(&self) -> (u32, u32) {
        self.rescaling.requirements.slots(self.graph.job_graph())
    }

    /// What is fitting now; `None`: nothing, or what there is.
    fn fits_better(&self) -> Option<Parallelisms> {
        let graph = self.graph.job_graph();
        let fitting = self.rescaling.requirements.fit(graph, self.slots_there());
        fitting.filter(|fitting| *fitting != graph.parallelisms())
    }

    pub(super) fn slot_need(&self) -> SlotNeed {
        let (least, slots) = self.slots_wanted();
        SlotNeed {
            slots,
            least,
            returned: self.rescaling.returned.values().flatten().copied().collect(),
        }
    }

    /// How many slots have to come, and within which time.
    pub(super) fn slot_patience(&self) -> (u32, Duration) {
        match self.rescaling.requirements.is_elastic() {
            true => (self.slots_wanted().0, self.settings.scaling.wait),
            false => {
                let needed = self.graph.job_graph().slots_required();
                (needed, self.settings.slot_request_timeout)
            }
        }
    }

    /// Somebody has declared between which bounds vertices are to run.
    pub(super) fn on_requirements(&mut self, now: Time, requirements: Requirements, out: &mut Effects) {
        if self.rescaling.requirements == requirements {
            return;
        }
        tracing::info!(job = %self.graph.job_graph().id, ?requirements, "requirements declared");
        self.rescaling.requirements = requirements;
        (self.rescaling.declared, self.rescaling.since) = (true, None);
        if !matches!(self.status(), JobStatus::Cancelling | JobStatus::Failing) {
            self.require_slots(out);
            self.look_at_slots(now, out);
        }
    }

    pub(super) fn on_scaling(&mut self, now: Time, timer: ScalingTimer, out: &mut Effects) {
        match timer {
            ScalingTimer::Settled { round } => {
                let wait = self.rescaling.wait.as_mut();
                wait.filter(|wait| wait.round == round)
                    .into_iter()
                    .for_each(|wait| wait.over = true);
                self.look_at_slots(now, out);
            }
            ScalingTimer::Look => self.look_at_slots(now, out),
            ScalingTimer::Change { round } => self.change(now, round, out),
        }
    }

    /// Slots have come or gone, or something may have been waited for long enough.
    pub(super) fn look_at_slots(&mut self, now: Time, out: &mut Effects) {
        match self.status() {
            JobStatus::Created if self.rescaling.beginning => self.begin(now, out),
            JobStatus::Running => self.look_at_parallelism(now, out),
            JobStatus::Restarting => {
                self.restart_stopped(now, out);
                self.look_at_shortage(now, out);
            }
            _ => {}
        }
    }

    // Starting everything.

    /// The first start of everything.
    pub(super) fn begin(&mut self, now: Time, out: &mut Effects) {
        self.rescaling.beginning = true;
        if !self.slots_settled(out) {
            return;
        }
        self.take_parallelism(now, out);
        self.rescaling.beginning = false;
        self.prepare_all(now, out);
    }

    /// Whether everything can be started with the slots that there are: no more are needed, or none came for a while.
    pub(super) fn slots_settled(&mut self, out: &mut Effects) -> bool {
        if !self.rescaling.requirements.is_elastic() {
            return true;
        }
        let (have, (least, most)) = (self.slots_there(), self.slots_wanted());
        let as_before = !self.rescaling.beginning && have >= self.graph.job_graph().slots_required();
        let enough = have >= least;
        let over = self.rescaling.wait.is_some_and(|wait| wait.over && wait.enough);
        if have >= most || as_before || (enough && over) {
            self.rescaling.wait = None;
            return true;
        }
        if self.rescaling.wait.is_none_or(|wait| wait.enough != enough) {
            let round = self.rescaling.next_round();
            self.rescaling.wait = Some(Wait {
                round,
                enough,
                over: false,
            });
            let settled = JobEvent::Scaling(ScalingTimer::Settled { round });
            let stabilization = self.settings.scaling.begin_stabilization;
            out.extend(enough.then_some(JobEffect::After(stabilization, settled)));
        }
        false
    }

    /// Goes over to the parallelism that fits into the slots that there are, and gives back those beyond. All tasks are over.
    /// Whether it is another one.
    pub(super) fn take_parallelism(&mut self, now: Time, out: &mut Effects) -> bool {
        let graph = Arc::clone(self.graph.job_graph());
        let (requirements, have) = (&self.rescaling.requirements, self.slots_there());
        // What does not fit goes on as it was if it can, and otherwise waits for what is wanted.
        let as_before = !self.rescaling.beginning && have >= graph.slots_required();
        let wanted = || requirements.fit(&graph, requirements.slots(&graph).1);
        let fitting = match requirements.fit(&graph, have) {
            None if as_before => None,
            fitting => fitting.or_else(wanted),
        };
        let other = fitting.filter(|fitting| *fitting != graph.parallelisms());
        if let Some(parallelisms) = &other {
            let next = Arc::new(graph.at(parallelisms));
            let (from, to) = (graph.slots_required(), next.slots_required());
            tracing::info!(job = %graph.id, from, to, slots = have, "the job changes its parallelism");
            let one_region = self.settings.failover == FailoverStrategy::Full;
            self.graph.rescale(next, one_region, now);
        }
        self.give_back(out);
        other.is_some()
    }

    /// Gives back slots that the job cannot use.
    fn give_back(&mut self, out: &mut Effects) {
        let needed = self.graph.job_graph().slots_required().max(self.slots_wanted().1);
        let surplus = self.slots.surplus(needed as usize);
        if surplus.is_empty() {
            return;
        }
        for (worker, slots) in surplus {
            self.rescaling.leave(worker, slots);
            if !self.slots.task_managers().contains(&worker) {
                self.note_lost(worker);
                out.push(JobEffect::Dismiss(worker));
            }
        }
        out.push(JobEffect::RequireSlots(self.slot_need()));
    }

    /// Slots were lost and do not come back: everything is started with those that are left.
    pub(super) fn look_at_shortage(&mut self, now: Time, out: &mut Effects) {
        let elastic = self.rescaling.requirements.is_elastic();
        if self.status() != JobStatus::Restarting || !elastic || !self.failover.is_preparing() {
            return;
        }
        if self.slots_there() < self.graph.job_graph().slots_required() && self.slots_settled(out) {
            self.restart_all(now, "slots were lost, and the job goes on with less", out);
        }
    }

    /// Stops everything, to be started again at once.
    fn restart_all(&mut self, now: Time, why: &str, out: &mut Effects) {
        tracing::info!(job = %self.graph.job_graph().id, why, "everything is started again");
        self.savepoints.because = Some(why.to_owned());
        self.stop_checkpoints(now, out);
        self.savepoints.because = None;
        if self.status() != JobStatus::Restarting {
            self.set_status(JobStatus::Restarting, now, out);
        }
        self.rescaling.drop_plans();
        let regions = self.all_regions();
        let restart = self.failover.stop_as_planned(regions.clone());
        out.push(JobEffect::After(Duration::ZERO, JobEvent::RestartDue { restart }));
        self.stop_tasks(now, &regions, out);
    }

    // Changing the parallelism of a job that runs.

    /// All tasks are started (again).
    pub(super) fn note_running(&mut self, now: Time, out: &mut Effects) {
        (self.rescaling.began, self.rescaling.since) = (now, None);
        self.rescaling.drop_plans();
        self.look_at_parallelism(now, out);
    }

    /// Lets a running job go over to another parallelism when that has its time: slots are waited for until there are all that
    /// it can use, or for a while; and it rests between two changes, unless somebody wants one.
    fn look_at_parallelism(&mut self, now: Time, out: &mut Effects) {
        let busy = self.rescaling.change.is_some() || self.savepoints.has_stopped();
        if busy || self.status() != JobStatus::Running {
            return;
        }
        if self.fits_better().is_none() {
            self.rescaling.since = None;
            self.rescaling.declared &= self.slots_there() < self.slots_wanted().1;
            return;
        }
        let scaling = self.settings.scaling;
        let since = *self.rescaling.since.get_or_insert(now);
        let all = self.slots_there() >= self.slots_wanted().1;
        let steady = if all {
            now
        } else {
            since.after(scaling.stabilization)
        };
        let rested = match self.rescaling.declared {
            true => now,
            false => self.rescaling.began.after(scaling.cooldown),
        };
        let due = steady.max(rested);
        if due > now {
            return out.push(JobEffect::After(
                due.since(now),
                JobEvent::Scaling(ScalingTimer::Look),
            ));
        }
        self.begin_change(now, out);
    }

    /// A job without checkpoints begins afresh, as after a failure.
    fn begin_change(&mut self, now: Time, out: &mut Effects) {
        let round = self.rescaling.next_round();
        self.rescaling.change = Some(Change {
            round,
            failures: 0,
            request: None,
        });
        if self.settings.checkpoints.interval.is_none() {
            return self.change(now, round, out);
        }
        let scaling = self.settings.scaling;
        let late = JobEvent::Scaling(ScalingTimer::Change { round });
        out.extend(scaling.max_delay.map(|delay| JobEffect::After(delay, late)));
        if scaling.active_checkpoint {
            self.ask_for_checkpoint(now, out);
        }
    }

    fn ask_for_checkpoint(&mut self, now: Time, out: &mut Effects) {
        let wanted = WantedCheckpoint {
            kind: CheckpointKind::Configured,
            order: None,
        };
        self.rescaling.requests += 1;
        let request = self.rescaling.requests;
        if let Some(change) = &mut self.rescaling.change {
            change.request = Some(request);
        }
        self.on_checkpoint_wanted(now, request, wanted, out);
    }

    /// A checkpoint is complete: a change that waits for one comes next.
    pub(super) fn change_when_saved(&self, out: &mut Effects) {
        out.extend(self.rescaling.change.map(|Change { round, .. }| {
            let change = JobEvent::Scaling(ScalingTimer::Change { round });
            JobEffect::After(Duration::ZERO, change)
        }));
    }

    /// A checkpoint of the interval has failed, which a change waits for.
    pub(super) fn change_missed_checkpoint(&mut self, out: &mut Effects) {
        if !self.settings.scaling.active_checkpoint {
            self.count_missed(out);
        }
    }

    /// The checkpoint for a change was not taken.
    pub(super) fn own_checkpoint_not_taken(&mut self, now: Time, request: RequestId, out: &mut Effects) {
        let waits = self
            .rescaling
            .change
            .is_some_and(|change| change.request == Some(request));
        if !waits || self.status() != JobStatus::Running {
            return;
        }
        if !self.count_missed(out) {
            self.ask_for_checkpoint(now, out);
        }
    }

    /// Whether the change waits for no other.
    fn count_missed(&mut self, out: &mut Effects) -> bool {
        let Some(change) = &mut self.rescaling.change else {
            return false;
        };
        change.failures += 1;
        let enough = change.failures >= self.settings.scaling.max_checkpoint_failures.max(1);
        if enough {
            self.change_when_saved(out);
        }
        enough
    }

    fn change(&mut self, now: Time, round: u32, out: &mut Effects) {
        if self.rescaling.change.is_none_or(|change| change.round != round) {
            return;
        }
        if self.savepoints.is_taking() {
            let again = JobEvent::Scaling(ScalingTimer::Change { round });
            return out.push(JobEffect::After(AGAIN, again));
        }
        self.rescaling.change = None;
        if self.status() != JobStatus::Running || self.savepoints.has_stopped() {
            return;
        }
        match self.fits_better() {
            Some(_) => self.restart_all(now, "the job changes its parallelism", out),
            None => self.look_at_parallelism(now, out),
        }
    }
}
