//! Options of a job's program.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{
    AnyOption, BufferTimeout, ByteSize, ConfigOption, MaxParallelism, Scope, VertexDescriptionMode,
};
use crate::key::MAX_KEY_GROUPS;

/// Subtasks of an operator that does not say how many it has.
pub static PARALLELISM_DEFAULT: ConfigOption<u32> = ConfigOption::new(
    "parallelism.default",
    Scope::Program,
    || 1,
    "Parallelism of operators that do not set their own.",
)
.flink("1")
.accepting(
    |parallelism| (1..=MAX_KEY_GROUPS).contains(parallelism),
    "an integer from 1 to 32768",
);

/// Key groups of a job.
pub static MAX_PARALLELISM: ConfigOption<MaxParallelism> = ConfigOption::new(
    "pipeline.max-parallelism",
    Scope::Program,
    || MaxParallelism::Auto,
    "Number of key groups, which is the greatest parallelism that the job can be rescaled to. It cannot \
     change once the job has a checkpoint or savepoint. `-1` or `auto`: one and a half times the \
     parallelism, rounded up to a power of two, at least 128 and at most 32768.",
)
.flink("-1");

/// Records of a batch.
pub static BATCH_SIZE: ConfigOption<u32> = ConfigOption::new(
    "pipeline.batch-size",
    Scope::Program,
    || 4_096,
    "Records after which a batch is full and leaves its operator. Batches leave earlier when their task has \
     nothing to do, or when `execution.buffer-timeout.interval` has passed.",
)
.accepting(
    |records| (1..=1 << 20).contains(records),
    "an integer from 1 to 1048576",
);

/// Bytes of a batch.
pub static BATCH_BYTES: ConfigOption<ByteSize> = ConfigOption::new(
    "pipeline.batch-bytes",
    Scope::Program,
    || ByteSize::kb(256),
    "Bytes after which a batch is full, however few its records.",
)
.accepting(|size| *size >= ByteSize::kb(1), "a size of at least `1 kb`");

/// Time between two watermarks of a generator.
pub static AUTO_WATERMARK_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "pipeline.auto-watermark-interval",
    Scope::Program,
    || Duration::from_millis(5),
    "Least time between two watermarks of a source's subtask, or of a generator in mid-stream. `0 ms` sends \
     one behind every batch that moves event time.",
)
.flink("200 ms");

/// Whether operators are chained.
pub static OPERATOR_CHAINING: ConfigOption<bool> = ConfigOption::new(
    "pipeline.operator-chaining.enabled",
    Scope::Program,
    || true,
    "Whether operators that exchange records one to one run as one task. Switched off, every operator is a \
     task of its own, which costs throughput and shows each of them in the job graph.",
)
.flink("true");

/// Whether operators without a uid get one.
pub static AUTO_GENERATE_UIDS: ConfigOption<bool> = ConfigOption::new(
    "pipeline.auto-generate-uids",
    Scope::Program,
    || true,
    "Whether an operator without a `uid` gets one from its place in the program. Switched off, a stateful \
     operator without a uid is an error: a program can then be changed without losing state by accident.",
)
.flink("true");

/// A job's name.
pub static PIPELINE_NAME: ConfigOption<Option<String>> = ConfigOption::new(
    "pipeline.name",
    Scope::Program,
    || None,
    "Name of the job, shown wherever the job is. Without one, the name given to `execute` is used.",
)
.flink("(none)");

/// How vertices are described.
pub static VERTEX_DESCRIPTION_MODE: ConfigOption<VertexDescriptionMode> = ConfigOption::new(
    "pipeline.vertex-description-mode",
    Scope::Program,
    || VertexDescriptionMode::Tree,
    "How plans describe a vertex: `TREE`, one operator a line, or `CASCADING`, `a -> b -> c`.",
)
.flink("TREE");

/// Whether the names of vertices begin with their numbers.
pub static VERTEX_NAME_INDEX_PREFIX: ConfigOption<bool> = ConfigOption::new(
    "pipeline.vertex-name-include-index-prefix",
    Scope::Program,
    || false,
    "Whether the names of vertices begin with their places in the job, as in `[vertex-0]`.",
)
.flink("false");

/// Parameters of a job.
pub static GLOBAL_JOB_PARAMETERS: ConfigOption<BTreeMap<String, String>> = ConfigOption::new(
    "pipeline.global-job-parameters",
    Scope::Program,
    BTreeMap::new,
    "Parameters of the program itself: Hurtig hands them to every function and shows them with the job. A map in YAML, or `name:value,name:value`. The program's own settings of single parameters win.",
)
.flink("(none)");

/// Metrics of a job in one process.
pub static MAX_METRICS: ConfigOption<u32> = ConfigOption::new(
    "metrics.max-registered",
    Scope::Program,
    || 100_000,
    "Metrics that a job may register in one process. Those beyond it are counted and not shown.",
);

/// Parallelism of single vertices.
pub static PARALLELISM_OVERRIDES: ConfigOption<BTreeMap<String, u32>> = ConfigOption::new(
    "pipeline.jobvertex-parallelism-overrides",
    Scope::Program,
    BTreeMap::new,
    "Parallelism of single vertices by their ids, over what the program says: a map in YAML, or \
     `id:parallelism,id:parallelism`.",
)
.flink("(empty)")
.accepting(
    |overrides| {
        overrides
            .values()
            .all(|parallelism| (1..=MAX_KEY_GROUPS).contains(parallelism))
    },
    "a map `id:parallelism,id:parallelism`, each parallelism an integer from 1 to 32768",
);

/// Time that a record may wait in a batch.
pub static BUFFER_TIMEOUT: ConfigOption<BufferTimeout> = ConfigOption::new(
    "execution.buffer-timeout.interval",
    Scope::Program,
    || BufferTimeout::After(Duration::from_millis(10)),
    "Longest time that a record waits for its batch to fill. `0` sends every record on at once; `-1` waits \
     until the batch is full.",
)
.flink("100 ms");

/// Whether batches leave before they are full.
pub static BUFFER_TIMEOUT_ENABLED: ConfigOption<bool> = ConfigOption::new(
    "execution.buffer-timeout.enabled",
    Scope::Program,
    || true,
    "Whether `execution.buffer-timeout.interval` is in force. Switched off, batches leave when they are full.",
)
.flink("true");

/// Bytes of one record of a source.
pub static MAX_RECORD_BYTES: ConfigOption<ByteSize> = ConfigOption::new(
    "source.max-record-bytes",
    Scope::Program,
    || ByteSize::mb(64),
    "Largest record that a source reads. A larger one is malformed: it is counted or handed out, and does not \
     exhaust the process's memory.",
)
.accepting(
    |size| (ByteSize::kb(1)..=ByteSize::mb(2_048)).contains(size),
    "a size from `1 kb` to `2 gb`",
);

/// Time that a task has to stop.
pub static CANCELLATION_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "task.cancellation.timeout",
    Scope::Program,
    || Duration::from_secs(30),
    "Time that a cancelled task has to stop. After it, the task manager's process ends, because nothing else \
     stops user code that does not return. `0 ms` waits for ever.",
)
.flink("3 min");

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &PARALLELISM_DEFAULT,
    &MAX_PARALLELISM,
    &PARALLELISM_OVERRIDES,
    &PIPELINE_NAME,
    &VERTEX_DESCRIPTION_MODE,
    &VERTEX_NAME_INDEX_PREFIX,
    &GLOBAL_JOB_PARAMETERS,
    &OPERATOR_CHAINING,
    &AUTO_GENERATE_UIDS,
    &AUTO_WATERMARK_INTERVAL,
    &BATCH_SIZE,
    &BATCH_BYTES,
    &BUFFER_TIMEOUT,
    &BUFFER_TIMEOUT_ENABLED,
    &MAX_RECORD_BYTES,
    &MAX_METRICS,
    &CANCELLATION_TIMEOUT,
];
