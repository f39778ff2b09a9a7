//! What the processes of jobs may use up on their machine.

use crate::config::{AnyOption, ByteSize, ConfigOption, Scope};

/// The least memory that a process of a job can do anything with.
const LEAST: ByteSize = ByteSize::mb(256);

/// Memory of all workers.
pub static PROCESS_MEMORY: ConfigOption<Option<ByteSize>> = ConfigOption::new(
    "taskmanager.memory.process.size",
    Scope::Cluster,
    || None,
    "Memory that all workers of a TaskManager have together. Each has the share of its slots: a worker that wants more is ended, and its failure \
     says so. Without it workers have what the machine has.",
)
.flink("(none)")
.accepting(|size| size.is_none_or(|size| size >= LEAST), "a size of at least `256 mb`");

/// Memory of a JobMaster.
pub static JOB_MASTER_MEMORY: ConfigOption<Option<ByteSize>> = ConfigOption::new(
    "jobmaster.memory",
    Scope::Cluster,
    || None,
    "Memory of a process that is no worker: a JobMaster, which needs no slot, or a run that plans a program. Without it they have what the machine \
     has.",
)
.accepting(|size| size.is_none_or(|size| size >= LEAST), "a size of at least `256 mb`");

/// Open files.
pub static PROCESS_OPEN_FILES: ConfigOption<Option<u32>> = ConfigOption::new(
    "taskmanager.processes.max-open-files",
    Scope::Cluster,
    || None,
    "Files and connections that a process of a job may have open. Without it: as many as the TaskManager may have at most.",
)
.accepting(|files| files.is_none_or(|files| files >= 64), "an integer of at least 64");

/// Processes and threads.
pub static PROCESS_TASKS: ConfigOption<Option<u32>> = ConfigOption::new(
    "taskmanager.processes.max-threads",
    Scope::Cluster,
    || None,
    "Threads and processes that a process of a job may have, itself included. Holds where there is a control group with the controller `pids`.",
)
.accepting(|tasks| tasks.is_none_or(|tasks| tasks >= 16), "an integer of at least 16");

/// Core dumps.
pub static PROCESS_CORE_DUMPS: ConfigOption<bool> = ConfigOption::new(
    "taskmanager.processes.core-dumps",
    Scope::Cluster,
    || false,
    "Whether the system may write the memory of a process of a job into a file when it crashes. Such a file is as large as that memory, and has \
     its secrets in it.",
);

/// Control groups.
pub static PROCESS_CGROUP: ConfigOption<String> = ConfigOption::new(
    "taskmanager.cgroup",
    Scope::Cluster,
    || "auto".to_owned(),
    "The control group (cgroup v2) below which each process of a job has one of its own, for its memory, its share of the processors and its number of \
     threads. `auto`: that of the TaskManager, if it was delegated to it (`Delegate=yes` of systemd). `none`: none. A directory: the one there, \
     which must be writable; the TaskManager does not start otherwise.",
)
.accepting(
    |group| matches!(group.as_str(), "auto" | "none") || group.starts_with('/'),
    "`auto`, `none` or a whole path",
);

/// Log files of a process.
pub static LOG_FILES: ConfigOption<u32> = ConfigOption::new(
    "env.log.max",
    Scope::Cluster,
    || 10,
    "Old log files that are kept of each process of a job, beside the one that is written: `<process>.log.1` is the youngest. `0`: the log begins anew \
     when it is full.",
)
.flink("10")
.accepting(|files| *files <= 1_000, "an integer from 0 to 1000");

/// Size of a log file.
pub static LOG_SIZE: ConfigOption<ByteSize> = ConfigOption::new(
    "env.log.max-size",
    Scope::Cluster,
    || ByteSize::mb(100),
    "Size from which on a log file of a process of a job is put aside at the end of a line, and another one is begun.",
)
.accepting(|size| *size >= ByteSize::kb(4), "a size of at least `4 kb`");

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &PROCESS_MEMORY,
    &JOB_MASTER_MEMORY,
    &PROCESS_OPEN_FILES,
    &PROCESS_TASKS,
    &PROCESS_CORE_DUMPS,
    &PROCESS_CGROUP,
    &LOG_FILES,
    &LOG_SIZE,
];
