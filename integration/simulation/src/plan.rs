//! What happens to a cluster: rounds of faults, with quiet between them in which it must recover.

use crate::faults::Fault;
use crate::world::World;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use std::time::Duration;

/// Within this time after the last fault the job runs again and has a new checkpoint.
const RECOVERY: Duration = Duration::from_secs(30);
/// Within this time a job that has no more input ends.
const ENDING: Duration = Duration::from_secs(60);
/// How long it is watched after its end.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// A run has at least so many checkpoints.
const CHECKPOINTS: u64 = 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// All is well, and the job is to run and to have a checkpoint newer than this one.
    #[default]
    Begin,
    Quiet {
        since: Time,
        before: Option<CheckpointId>,
    },
    /// It goes on like that for a while.
    Well(Time),
    Faulty(Time),
    /// The input ends.
    Ending(Time),
    Ended(Time),
    Over,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    phase: Phase,
    rounds: u32,
    allowed: Vec<Fault>,
    /// What has to happen in one of the rounds.
    due: Vec<Fault>,
    pub(crate) faults: Vec<Fault>,
    /// Quiet phases at whose end all was well.
    pub(crate) recoveries: u64,
    pub(crate) slowest: Duration,
}

impl Plan {
    /// So many rounds of faults of these kinds. The leader is replaced in one of them and the JobMaster in another one, if there are as many.
    pub(crate) fn new(rounds: u32, allowed: &[Fault]) -> Self {
        let mut due = vec![Fault::KillLeader, Fault::KillJobMaster];
        due.truncate(rounds as usize);
        due.retain(|fault| allowed.contains(fault));
        Self {
            rounds,
            allowed: allowed.to_vec(),
            due,
            ..Self::default()
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub(crate) fn step(&mut self, world: &mut World) {
        let now = world.kernel.now;
        if world.kernel.checks.gave_up {
            self.phase = Phase::Over;
        }
        match self.phase {
            Phase::Begin => {
                self.phase = Phase::Quiet {
                    since: now,
                    before: None,
                }
            }
            Phase::Quiet { since, before } => self.look(world, since, before),
            Phase::Well(until) if now >= until => self.go_on(world),
            Phase::Faulty(until) if now >= until => {
                world.heal();
                let before = world.kernel.checks.latest();
                self.phase = Phase::Quiet { since: now, before };
            }
            Phase::Ending(since) => self.look_at_end(world, since),
            Phase::Ended(since) if now.since(since) > AFTERWARDS => {
                let splits = world.kernel.splits_end.unwrap_or(0);
                world.kernel.checks.complete(splits);
                self.phase = Phase::Over;
            }
            _ => {}
        }
    }

    fn look(&mut self, world: &mut World, since: Time, before: Option<CheckpointId>) {
        let now = world.kernel.now;
        let took = now.since(since);
        let new = world.kernel.checks.latest() > before;
        world.kernel.checks.made += 1;
        if new && world.runs() {
            self.recoveries += 1;
            self.slowest = self.slowest.max(took);
            let well = world.kernel.random.millis(100, 3_000);
            self.phase = Phase::Well(now.after(well));
        } else if took > RECOVERY {
            let (runs, latest) = (world.runs(), world.kernel.checks.latest());
            world.kernel.checks.violated(format!(
                "{took:?} after the last fault: the job runs: {runs}; its last checkpoint is {latest:?}, and was {before:?}"
            ));
        }
    }

    fn go_on(&mut self, world: &mut World) {
        let now = world.kernel.now;
        if self.rounds == 0 || self.allowed.is_empty() {
            if world.kernel.checks.checkpoints < CHECKPOINTS {
                self.phase = Phase::Well(now.after(Duration::from_secs(1)));
                return;
            }
            world.kernel.splits_end = Some(world.kernel.splits() + 3);
            self.phase = Phase::Ending(now);
            return;
        }
        let faults = 1 + world.kernel.random.below(2);
        if let Some(fault) = self.due(world) {
            self.inflict(fault, world);
        }
        for _ in 0..faults {
            if let Some(fault) = world.kernel.random.pick(&self.allowed) {
                self.inflict(fault, world);
            }
        }
        self.rounds -= 1;
        let lasts = world.kernel.random.millis(500, 14_000);
        let still = world.kernel.paused.values().max().copied().unwrap_or(now);
        self.phase = Phase::Faulty(still.max(now.after(lasts)));
    }

    /// What has to happen in this round: at some time, and at last when there are no more rounds than that.
    fn due(&mut self, world: &mut World) -> Option<Fault> {
        let last = self.due.len() == self.rounds as usize;
        if self.due.is_empty() || !(last || world.kernel.random.percent(40)) {
            return None;
        }
        let which = world.kernel.random.below(self.due.len() as u64);
        Some(self.due.swap_remove(usize::try_from(which).unwrap_or(0)))
    }

    fn inflict(&mut self, fault: Fault, world: &mut World) {
        if world.inflict(fault) {
            self.faults.push(fault);
        }
    }

    fn look_at_end(&mut self, world: &mut World, since: Time) {
        let now = world.kernel.now;
        if world.kernel.checks.result.is_some() {
            self.phase = Phase::Ended(now);
        } else if now.since(since) > ENDING {
            world
                .kernel
                .checks
                .violated(format!("the job has not ended {ENDING:?} after its input"));
        }
    }
}
