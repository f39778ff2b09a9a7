//! Where keyed state is kept.

use crate::config::{AnyOption, ByteSize, ConfigOption, Scope, StateBackendKind};

/// Where keyed state is kept.
pub static STATE_BACKEND: ConfigOption<StateBackendKind> = ConfigOption::new(
    "state.backend.type",
    Scope::Program,
    || StateBackendKind::HashMap,
    "Where keyed state is kept: `hashmap` in memory, `rocksdb` in RocksDB on local disk with the recently used \
     values in memory, for state that memory does not hold. Windows and timers are in memory with either. \
     Checkpoints and savepoints of either can be restored by the other.",
)
.flink("hashmap");

/// Directories of RocksDB.
pub static ROCKSDB_LOCAL_DIR: ConfigOption<Option<String>> = ConfigOption::new(
    "state.backend.rocksdb.localdir",
    Scope::Program,
    || None,
    "Directory on a local disk in which RocksDB keeps its files while a job runs; each process has a directory of \
     its own in it, which is removed when the process ends, or by the next process. The system's directory for \
     temporary files if it is not set.",
)
.flink("(none)");

/// Memory of state backends.
pub static MANAGED_MEMORY: ConfigOption<ByteSize> = ConfigOption::new(
    "taskmanager.memory.managed.size",
    Scope::Program,
    || ByteSize::mb(512),
    "Memory that the `rocksdb` state backend may use in a process: half of it for the values that are cached, the \
     other half for RocksDB's blocks and what it has not written yet. `hashmap` takes what the state needs.",
)
.flink("(none)");

pub(super) static OPTIONS: &[&dyn AnyOption] = &[&STATE_BACKEND, &ROCKSDB_LOCAL_DIR, &MANAGED_MEMORY];
