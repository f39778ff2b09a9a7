//! What a cluster and its jobs are configured with.

use crate::job_master::checkpoints::CheckpointSettings;
use hurtig_dataflow::graph::Elasticity;
use hurtig_storage::{SavepointFormat, SnapshotFolder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How an embedded cluster is built.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// Threads for tasks (`taskmanager.worker-threads`); at least one.
    pub worker_threads: usize,
    /// Slots offered (`taskmanager.numberOfTaskSlots`); `None`: as many as jobs need.
    pub task_slots: Option<u32>,
    /// Which free slots a job gets.
    pub load_balance: LoadBalance,
    /// How long a job may wait for slots (`slot.request.timeout`).
    pub slot_request_timeout: Duration,
    /// How long a task may take to stop (`task.cancellation.timeout`).
    pub cancellation_timeout: Duration,
    /// How long a component may take to answer (`rpc.ask-timeout`).
    pub ask_timeout: Duration,
    /// Jobs that may run at once.
    pub max_jobs: usize,
    /// Ended jobs that are remembered (`jobstore.max-capacity`).
    pub job_store_capacity: usize,
    /// Failures that a job remembers (`web.exception-history-size`).
    pub exception_history: usize,
    /// Whether jobs are kept when the cluster is shut down, and go on when it is started again (`high-availability.type`).
    pub jobs_outlive_the_cluster: bool,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            worker_threads: cores,
            task_slots: None,
            load_balance: LoadBalance::None,
            slot_request_timeout: Duration::from_secs(300),
            cancellation_timeout: Duration::from_secs(30),
            ask_timeout: Duration::from_secs(10),
            max_jobs: 100,
            job_store_capacity: 100,
            exception_history: 16,
            jobs_outlive_the_cluster: false,
        }
    }
}

/// Which free slots a job gets (`--load-balance` of `hurtig jobmanager`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalance {
    /// Those of few TaskManagers, so that few records cross between processes.
    #[default]
    None,
    /// Those of the TaskManagers that are used the least, one after the other.
    Slots,
}

/// What happens after a failure (`restart-strategy.*`).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RestartStrategyConfig {
    /// The job fails.
    #[default]
    None,
    /// So many restarts, each after the same delay.
    FixedDelay {
        /// How many; `None`: any number.
        attempts: Option<u32>,
        /// Time between failure and restart.
        delay: Duration,
    },
    /// Restarts with growing delays.
    ExponentialDelay {
        /// The delay of the first restart; none is shorter.
        initial: Duration,
        /// The longest delay.
        max: Duration,
        /// Growth with each further failure.
        multiplier: f64,
        /// Time without failure after which everything begins anew.
        reset_after: Duration,
        /// Share of the delay that is added or taken away at random.
        jitter: f64,
        /// Restarts in a row; `None`: any number.
        attempts: Option<u32>,
    },
    /// Restarts as long as no more than so many fall into an interval.
    FailureRate {
        /// How many.
        max_failures: u32,
        /// Within which time.
        interval: Duration,
        /// Time between failure and restart.
        delay: Duration,
    },
}

/// What is started again after a failure (`jobmanager.execution.failover-strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailoverStrategy {
    /// The pipelined regions that it has hit: the tasks that are connected with the one that failed.
    #[default]
    Region,
    /// Every task.
    Full,
}

/// What becomes of a job's checkpoints when it ends without having finished
/// (`execution.checkpointing.externalized-checkpoint-retention`). A job that has finished needs none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckpointRetention {
    /// They are kept, so that the job can go on.
    #[default]
    RetainOnCancellation,
    /// They are kept when the job fails, and deleted when it is cancelled.
    DeleteOnCancellation,
    /// They are deleted.
    NoExternalizedCheckpoints,
}

/// What a checkpoint that somebody asks for is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointKind {
    /// As those of the interval.
    #[default]
    Configured,
    /// It writes all of the state and names no file of an earlier one. Later ones may name its files.
    Full,
    /// It writes what earlier ones do not have. Only a state backend that keeps files can do that.
    Incremental,
}

/// The checkpoint or savepoint that a job begins with (`execution.state-recovery.*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreFrom {
    /// Which.
    pub checkpoint: RestoreTarget,
    /// Whether state of operators that the program does not have may be dropped.
    pub allow_non_restored_state: bool,
    /// Whether it belongs to the job from now on, which deletes it when it has one of its own.
    pub claim: bool,
}

/// Which checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreTarget {
    /// The last one of a job of this name; afresh when there is none.
    Latest,
    /// The one in this folder, wherever it is.
    Folder(SnapshotFolder),
}

/// How a job follows the slots that there are (`jobmanager.adaptive-scheduler.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalingConfig {
    /// What its requirements are before anybody declares any (`jobmanager.scheduler`, `scheduler-mode`).
    pub elasticity: Elasticity,
    /// How long a job that is to begin may wait for those slots that it needs at least.
    pub wait: Duration,
    /// How long it waits for more, once it has those.
    pub begin_stabilization: Duration,
    /// How long a job that runs waits for still more, once it could use some.
    pub stabilization: Duration,
    /// How long a job runs at least at one parallelism, unless somebody declares another one.
    pub cooldown: Duration,
    /// How long the checkpoint may take with which a job changes its parallelism; `None`: as long as any.
    pub max_delay: Option<Duration>,
    /// Whether that checkpoint is taken for the purpose; else the next one is waited for.
    pub active_checkpoint: bool,
    /// So many checkpoints that fail are waited for no longer: the last complete one is taken.
    pub max_checkpoint_failures: u32,
}

impl Default for ScalingConfig {
    fn default() -> Self {
        Self {
            elasticity: Elasticity::None,
            wait: Duration::from_secs(300),
            begin_stabilization: Duration::from_secs(10),
            stabilization: Duration::from_secs(60),
            cooldown: Duration::from_secs(30),
            max_delay: None,
            active_checkpoint: true,
            max_checkpoint_failures: 2,
        }
    }
}

/// What the settings of a job say of its requirements.
pub(crate) fn elasticity(settings: &BTreeMap<String, String>) -> Elasticity {
    let says = |key: &str, value: &str| {
        settings
            .get(key)
            .is_some_and(|set| set.eq_ignore_ascii_case(value))
    };
    match () {
        () if says("scheduler-mode", "reactive") => Elasticity::Reactive,
        () if says("jobmanager.scheduler", "adaptive") => Elasticity::Down,
        () => Elasticity::None,
    }
}

/// How a job is run, as its submitter wants it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobOptions {
    /// What happens after a failure.
    pub restart: RestartStrategyConfig,
    /// What is started again after one.
    pub failover: FailoverStrategy,
    /// When checkpoints are taken.
    pub checkpoints: CheckpointSettings,
    /// Complete checkpoints that are kept (`execution.checkpointing.num-retained`); at least one.
    pub retained_checkpoints: usize,
    /// What becomes of them.
    pub retention: CheckpointRetention,
    /// What the job begins with; `None`: afresh.
    pub restore: Option<RestoreFrom>,
    /// Where savepoints go for which nobody says it (`execution.checkpointing.savepoint-dir`).
    pub savepoint_dir: Option<String>,
    /// In which form they hold keyed state, if nobody says it (`execution.checkpointing.savepoint-format`).
    pub savepoint_format: SavepointFormat,
    /// How it follows the slots that there are.
    pub scaling: ScalingConfig,
}

impl From<RestartStrategyConfig> for JobOptions {
    fn from(restart: RestartStrategyConfig) -> Self {
        Self {
            restart,
            ..Self::default()
        }
    }
}
