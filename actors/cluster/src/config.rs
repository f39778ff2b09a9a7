//! What a cluster and its jobs are configured with.

use std::time::Duration;

/// How an embedded cluster is built.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// Threads for tasks (`taskmanager.worker-threads`); at least one.
    pub worker_threads: usize,
    /// Slots offered (`taskmanager.numberOfTaskSlots`); `None`: as many as jobs need.
    pub task_slots: Option<u32>,
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
}

impl Default for ClusterConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            worker_threads: cores,
            task_slots: None,
            slot_request_timeout: Duration::from_secs(300),
            cancellation_timeout: Duration::from_secs(30),
            ask_timeout: Duration::from_secs(10),
            max_jobs: 100,
            job_store_capacity: 100,
            exception_history: 16,
        }
    }
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
    /// Restarts with growing delays. The first failure after a stable time restarts at once.
    ExponentialDelay {
        /// The delay of the second restart.
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
