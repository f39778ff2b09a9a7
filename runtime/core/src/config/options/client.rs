//! Options of those who submit jobs and wait for them.

use std::time::Duration;

use crate::config::{AnyOption, ConfigOption, Scope};

/// Whether the client waits for the job's end.
pub static ATTACHED: ConfigOption<bool> = ConfigOption::new(
    "execution.attached",
    Scope::Program,
    || false,
    "Whether who submits the job waits for its end. `hurtig run` says so itself, unless it is to return at once (`--detached`, or \
     `false` here).",
)
.flink("false");

/// Whether the job ends with its client.
pub static SHUTDOWN_ON_ATTACHED_EXIT: ConfigOption<bool> = ConfigOption::new(
    "execution.shutdown-on-attached-exit",
    Scope::Program,
    || false,
    "Whether a job that somebody waits for (`execution.attached`) is cancelled when that process is gone: at once when it is interrupted, \
     and after `client.heartbeat.timeout` when nothing is heard of it. Counts where it is said with the submission, as \
     `hurtig run --shutdown-on-attached-exit` does.",
)
.flink("false");

/// How often a client says that it is there.
pub static CLIENT_HEARTBEAT_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "client.heartbeat.interval",
    Scope::Program,
    || Duration::from_secs(30),
    "How often who waits for a job says that it is there, if the job is to end with it (`execution.shutdown-on-attached-exit`).",
)
.flink("30 s")
.accepting(
    |interval| *interval >= Duration::from_millis(1),
    "a duration of at least 1 ms",
);

/// After how long a client is gone.
pub static CLIENT_HEARTBEAT_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "client.heartbeat.timeout",
    Scope::Program,
    || Duration::from_secs(180),
    "How long nothing is heard of who waits for a job, before the job is cancelled that is to end with it \
     (`execution.shutdown-on-attached-exit`). Longer than `client.heartbeat.interval`. Time in which no jobmanager leads does not count.",
)
.flink("3 min")
.accepting(
    |timeout| *timeout >= Duration::from_millis(1),
    "a duration of at least 1 ms",
);

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &ATTACHED,
    &SHUTDOWN_ON_ATTACHED_EXIT,
    &CLIENT_HEARTBEAT_INTERVAL,
    &CLIENT_HEARTBEAT_TIMEOUT,
];
