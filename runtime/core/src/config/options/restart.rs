//! Options of the restart strategies.

use std::time::Duration;

use crate::config::{AnyOption, ConfigOption, FailoverStrategy, Limit, RestartStrategy, Scope};

/// The strategy.
pub static RESTART_STRATEGY: ConfigOption<Option<RestartStrategy>> = ConfigOption::new(
    "restart-strategy.type",
    Scope::Program,
    || None,
    "What happens after a job has failed: `none`, `fixed-delay`, `exponential-delay` or `failure-rate`. When \
     it is not set: `exponential-delay` for jobs with checkpoints, `none` for others.",
)
.flink("(none)");

/// Attempts of `fixed-delay`.
pub static FIXED_DELAY_ATTEMPTS: ConfigOption<Limit> = ConfigOption::new(
    "restart-strategy.fixed-delay.attempts",
    Scope::Program,
    || Limit::AtMost(1),
    "Restarts of `fixed-delay` before the job stays failed; `infinite` for any number.",
)
.flink("1");

/// Delay of `fixed-delay`.
pub static FIXED_DELAY: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.fixed-delay.delay",
    Scope::Program,
    || Duration::from_secs(1),
    "Time between a failure and the restart of `fixed-delay`.",
)
.flink("1 s");

/// First delay of `exponential-delay`.
pub static EXPONENTIAL_INITIAL_BACKOFF: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.exponential-delay.initial-backoff",
    Scope::Program,
    || Duration::from_secs(1),
    "Time between a failure and the first restart of `exponential-delay`; no later one takes less.",
)
.flink("1 s")
.accepting(|delay| !delay.is_zero(), "a duration of more than 0");

/// Greatest delay of `exponential-delay`.
pub static EXPONENTIAL_MAX_BACKOFF: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.exponential-delay.max-backoff",
    Scope::Program,
    || Duration::from_secs(60),
    "Greatest time before a restart of `exponential-delay`.",
)
.flink("1 min")
.accepting(|delay| !delay.is_zero(), "a duration of more than 0");

/// Growth of the delay of `exponential-delay`.
pub static EXPONENTIAL_MULTIPLIER: ConfigOption<f64> = ConfigOption::new(
    "restart-strategy.exponential-delay.backoff-multiplier",
    Scope::Program,
    || 1.5,
    "Factor by which the delay of `exponential-delay` grows with each failure.",
)
.flink("1.5")
.accepting(|factor| *factor >= 1.0, "a number of at least 1");

/// Time after which `exponential-delay` begins anew.
pub static EXPONENTIAL_RESET_THRESHOLD: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.exponential-delay.reset-backoff-threshold",
    Scope::Program,
    || Duration::from_secs(3_600),
    "Time without a failure, counted from the last restart, after which `exponential-delay` returns to its \
     initial delay and forgets the attempts made.",
)
.flink("1 h");

/// Randomness of the delay of `exponential-delay`.
pub static EXPONENTIAL_JITTER: ConfigOption<f64> = ConfigOption::new(
    "restart-strategy.exponential-delay.jitter-factor",
    Scope::Program,
    || 0.1,
    "Share of the delay of `exponential-delay` that is added or taken away at random within the bounds of \
     the delay, so that many jobs do not restart at the same moment.",
)
.flink("0.1")
.accepting(|factor| (0.0..=1.0).contains(factor), "a number from 0 to 1");

/// Attempts of `exponential-delay`.
pub static EXPONENTIAL_ATTEMPTS: ConfigOption<Limit> = ConfigOption::new(
    "restart-strategy.exponential-delay.attempts-before-reset-backoff",
    Scope::Program,
    || Limit::Infinite,
    "Failures of `exponential-delay` in a row before the job stays failed; `infinite` for any number.",
)
.flink("infinite");

/// Failures that `failure-rate` bears.
pub static FAILURE_RATE_MAX_FAILURES: ConfigOption<u32> = ConfigOption::new(
    "restart-strategy.failure-rate.max-failures-per-interval",
    Scope::Program,
    || 1,
    "Failures within the interval of `failure-rate` after which the job stays failed when one more comes.",
)
.flink("1")
.accepting(|failures| *failures >= 1, "an integer of at least 1");

/// Interval of `failure-rate`.
pub static FAILURE_RATE_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.failure-rate.failure-rate-interval",
    Scope::Program,
    || Duration::from_secs(60),
    "Interval in which `failure-rate` counts failures.",
)
.flink("1 min")
.accepting(|interval| !interval.is_zero(), "a duration of more than 0");

/// Delay of `failure-rate`.
pub static FAILURE_RATE_DELAY: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.failure-rate.delay",
    Scope::Program,
    || Duration::from_secs(1),
    "Time between a failure and the restart of `failure-rate`.",
)
.flink("1 s");

/// What is started again.
pub static FAILOVER_STRATEGY: ConfigOption<FailoverStrategy> = ConfigOption::new(
    "jobmanager.execution.failover-strategy",
    Scope::Program,
    || FailoverStrategy::Region,
    "What is started again after a failure: `region`, the tasks that channels connect with the one that failed; \
     `full`, every task of the job.",
)
.flink("region");

/// Failures that are remembered.
pub static EXCEPTION_HISTORY_SIZE: ConfigOption<u32> = ConfigOption::new(
    "web.exception-history-size",
    Scope::Cluster,
    || 16,
    "Failures that a job remembers, each with up to 16 that came while it was dealt with.",
)
.flink("16")
.accepting(|size| (1..=10_000).contains(size), "an integer from 1 to 10000");

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &RESTART_STRATEGY,
    &FIXED_DELAY_ATTEMPTS,
    &FIXED_DELAY,
    &EXPONENTIAL_INITIAL_BACKOFF,
    &EXPONENTIAL_MAX_BACKOFF,
    &EXPONENTIAL_MULTIPLIER,
    &EXPONENTIAL_RESET_THRESHOLD,
    &EXPONENTIAL_JITTER,
    &EXPONENTIAL_ATTEMPTS,
    &FAILURE_RATE_MAX_FAILURES,
    &FAILURE_RATE_INTERVAL,
    &FAILURE_RATE_DELAY,
    &FAILOVER_STRATEGY,
    &EXCEPTION_HISTORY_SIZE,
];
