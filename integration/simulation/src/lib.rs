//! A whole cluster's control plane in one thread, from one seed.
//!
//! **What is real**: the brains of the Dispatcher, the ResourceManager, the JobMaster with its checkpoint coordinator, and the
//! TaskManager; leader election with its questions to the store; the records with their tokens, and the store's own definition
//! (`Machine`); the lives of JobMasters; a JobMaster's work in the checkpoint store; the fences; the inbox of numbered deliveries; the
//! JobGraph and the ExecutionGraph.
//!
//! **What is a model**: the shells around those brains, which are written after the product's for one job; the network (messages are
//! late, reordered between connections, and lost with theirs; what is sent again is refused or taken once by the real inbox); the
//! faults of the store (away, slow, answers lost, writes that come through late) and of the checkpoint store; and tasks: a source
//! with splits, a count by key and a sink with transactions, with barriers that are aligned.
//!
//! **What is not here**: operators, batches, credit between tasks and overtaking barriers; state in RocksDB and shared files;
//! savepoints, cancellation and changes of the parallelism; several jobs; clocks that differ; the codec and the sockets; blobs of
//! artifacts, and whatever the Dispatcher keeps there; deletion of records of jobs that have ended.
//!
//! A run is drawn from its seed alone: the same seed is the same run, event by event. Its plan is rounds of faults, after each of
//! which the job must run and have a new checkpoint within 30 seconds; then its input ends, and so must the job, with every record
//! visible once.

mod blobs;
mod checks;
mod courier;
mod faults;
mod job;
mod kernel;
mod launcher;
mod manager;
mod master;
mod messages;
mod office;
mod placement;
mod plan;
mod random;
mod store;
mod tasks;
mod worker;
mod world;

pub use faults::Fault;

use plan::Plan;
use std::collections::BTreeMap;
use std::time::Duration;
use world::World;

/// A run has no more steps than these.
const MOST_STEPS: u64 = 3_000_000;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Rounds of faults.
    pub rounds: u32,
    /// What may go wrong in them.
    pub faults: Vec<Fault>,
}

impl Scenario {
    /// Nothing goes wrong.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            rounds: 0,
            faults: Vec::new(),
        }
    }

    /// So many rounds of anything.
    #[must_use]
    pub fn standard(rounds: u32) -> Self {
        Self {
            rounds,
            faults: Fault::ALL.to_vec(),
        }
    }
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Two runs with the same trace were the same.
    pub trace: u64,
    /// Events.
    pub steps: u64,
    /// How far time went.
    pub time: Duration,
    /// Messages between processes.
    pub messages: u64,
    /// Those that were lost.
    pub lost: u64,
    /// What went wrong.
    pub faults: BTreeMap<Fault, u64>,
    /// How often something was checked.
    pub checks: u64,
    /// Quiet phases at whose end the job ran and had a new checkpoint.
    pub recoveries: u64,
    /// The slowest of them.
    pub slowest: Duration,
    /// Checkpoints that were recorded.
    pub checkpoints: u64,
    /// Transactions of the sink.
    pub transactions: u64,
    /// Those that were committed again.
    pub repeated_commits: u64,
    /// Terms of leaders.
    pub terms: u64,
    /// JobMasters that were replaced.
    pub replaced: u64,
    /// Messages that were refused for an old token.
    pub fenced: u64,
    /// The job was given up, because its JobMasters ended too often: the run ended there.
    pub gave_up: bool,
    /// What did not hold.
    pub violations: Vec<String>,
    /// What happened before that, for people.
    pub story: Vec<String>,
}

/// Runs a scenario from a seed.
///
/// # Errors
/// When the job of the simulation cannot be planned, which no seed can help.
pub fn simulate(seed: u64, scenario: &Scenario) -> Result<Outcome, String> {
    let plan = Plan::new(scenario.rounds, &scenario.faults);
    let mut world = World::new(seed, plan)?;
    let begin = world.kernel.now;
    world.run(MOST_STEPS);
    let (kernel, plan) = (&world.kernel, world.plan());
    let checks = &kernel.checks;
    Ok(Outcome {
        seed,
        trace: kernel.trace,
        steps: kernel.counts.steps,
        time: kernel.now.since(begin),
        messages: kernel.counts.messages,
        lost: kernel.counts.lost_messages,
        faults: faults::counted(&plan.faults),
        checks: checks.made,
        recoveries: plan.recoveries,
        slowest: plan.slowest,
        checkpoints: checks.checkpoints,
        transactions: checks.transactions,
        repeated_commits: checks.repeated_commits,
        terms: checks.elections,
        replaced: checks.replaced,
        fenced: checks.fenced,
        gave_up: checks.gave_up,
        violations: checks.violations.clone(),
        story: kernel.story.iter().cloned().collect(),
    })
}
