//! Options of the cluster's processes.

use std::time::Duration;

use crate::config::{AnyOption, ByteSize, ConfigOption, Scope};

/// Slots of a task manager.
pub static TASK_SLOTS: ConfigOption<u32> = ConfigOption::new(
    "taskmanager.numberOfTaskSlots",
    Scope::Cluster,
    || 1,
    "Slots that a task manager offers. Each holds one parallel slice of a job.",
)
.flink("1")
.accepting(|slots| *slots >= 1, "an integer of at least 1");

/// Threads of a task manager.
pub static WORKER_THREADS: ConfigOption<u32> = ConfigOption::new(
    "taskmanager.worker-threads",
    Scope::Cluster,
    || 0,
    "Threads on which a task manager runs its tasks. `0`: one for each processor core.",
)
.accepting(|threads| *threads <= 1_024, "an integer from 0 to 1024");

/// Longest round of a worker.
pub static WORKER_ROUND: ConfigOption<Duration> = ConfigOption::new(
    "worker.round",
    Scope::Cluster,
    || Duration::from_millis(2),
    "Time that a worker's tasks run in turn before its thread looks at timers, sockets and messages.",
)
.accepting(|round| !round.is_zero(), "a duration of more than 0");

/// Bytes in flight of a channel.
pub static CHANNEL_MAX_BYTES: ConfigOption<ByteSize> = ConfigOption::new(
    "exchange.channel.max-bytes",
    Scope::Cluster,
    || ByteSize::mb(2),
    "Bytes that wait in a channel between two tasks before its sender is held back. One batch is always \
     let in, however large.",
)
.accepting(|size| *size >= ByteSize::kb(1), "a size of at least `1 kb`");

/// Batches in flight of a channel.
pub static CHANNEL_MAX_BATCHES: ConfigOption<u32> = ConfigOption::new(
    "exchange.channel.max-batches",
    Scope::Cluster,
    || 4,
    "Batches that wait in a channel between two tasks before its sender is held back.",
)
.accepting(
    |batches| (1..=65_536).contains(batches),
    "an integer from 1 to 65536",
);

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &TASK_SLOTS,
    &WORKER_THREADS,
    &WORKER_ROUND,
    &CHANNEL_MAX_BYTES,
    &CHANNEL_MAX_BATCHES,
];
