//! Options of checkpoints and of what a job begins with.

use std::time::Duration;

use crate::config::{
    AnyOption, CheckpointRetention, CheckpointingMode, ClaimMode, ConfigOption, Limit, SavepointFormat,
    Scope, SignalAction, SnapshotCompression,
};

/// Time between two checkpoints.
pub static CHECKPOINT_INTERVAL: ConfigOption<Option<Duration>> = ConfigOption::new(
    "execution.checkpointing.interval",
    Scope::Program,
    || None,
    "Time from one checkpoint to the next. When it is not set, no checkpoints are taken, and a job that is \
     restarted begins from the start.",
)
.flink("(none)")
.accepting(
    |interval| interval.is_none_or(|interval| interval >= Duration::from_millis(1)),
    "a duration of at least `1 ms`",
);

/// Time between two checkpoints while a source reads backlog.
pub static CHECKPOINT_INTERVAL_DURING_BACKLOG: ConfigOption<Option<Duration>> = ConfigOption::new(
    "execution.checkpointing.interval-during-backlog",
    Scope::Program,
    || None,
    "The same while any source says that what it reads is backlog: old records, which nobody waits for. At least as \
     long as `execution.checkpointing.interval`; with 0 no checkpoints are taken then but those that somebody, or the \
     end of a task, asks for. When it is not set, `execution.checkpointing.interval` counts always.",
)
.flink("(none)");

/// Where checkpoints are kept.
pub static CHECKPOINT_DIR: ConfigOption<Option<String>> = ConfigOption::new(
    "execution.checkpointing.dir",
    Scope::Program,
    || None,
    "Directory of checkpoints: a plain path or `file:///path`, on a file system that knows hard links, or \
     `s3://bucket/path` in an object store. When it is not set, checkpoints are kept in memory: a job survives failures of its tasks, not the end of its \
     process.",
)
.flink("(none)");

/// Whether barriers are aligned.
pub static CHECKPOINTING_MODE: ConfigOption<CheckpointingMode> = ConfigOption::new(
    "execution.checkpointing.mode",
    Scope::Program,
    || CheckpointingMode::ExactlyOnce,
    "What a restore promises: with `EXACTLY_ONCE` each record has changed state once; with `AT_LEAST_ONCE` tasks do not \
     wait for barriers, and records that came between those of two channels change state again.",
)
.flink("EXACTLY_ONCE");

/// Whether barriers overtake records.
pub static UNALIGNED_CHECKPOINTS: ConfigOption<bool> = ConfigOption::new(
    "execution.checkpointing.unaligned.enabled",
    Scope::Program,
    || false,
    "Whether barriers overtake the records that wait in channels, which become part of the checkpoint: it is fast \
     under back pressure too, and larger. Savepoints are always aligned.",
)
.flink("false");

/// How long barriers are aligned before they overtake.
pub static ALIGNED_CHECKPOINT_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "execution.checkpointing.aligned-checkpoint-timeout",
    Scope::Program,
    || Duration::ZERO,
    "Time from the beginning of a checkpoint from which its barriers overtake records, when \
     `execution.checkpointing.unaligned.enabled` is set; until then it is aligned. With 0 they overtake at once.",
)
.flink("0 ms");

/// The checkpoint of which records in flight are dropped.
pub static RECOVER_WITHOUT_CHANNEL_STATE: ConfigOption<Option<u64>> = ConfigOption::new(
    "execution.checkpointing.recover-without-channel-state.checkpoint-id",
    Scope::Program,
    || None,
    "Number of an unaligned checkpoint that is restored without the records that were on their way when it was taken. \
     They are lost. For checkpoints whose records cannot be restored, as when the program has changed.",
)
.flink("-1");

/// Longest time of a checkpoint.
pub static CHECKPOINT_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "execution.checkpointing.timeout",
    Scope::Program,
    || Duration::from_secs(600),
    "Time after which a checkpoint that is not complete is given up.",
)
.flink("10 min")
.accepting(
    |timeout| *timeout >= Duration::from_millis(10),
    "a duration of at least `10 ms`",
);

/// Least time between two checkpoints.
pub static CHECKPOINT_MIN_PAUSE: ConfigOption<Duration> = ConfigOption::new(
    "execution.checkpointing.min-pause",
    Scope::Program,
    || Duration::ZERO,
    "Least time from the end of one checkpoint to the beginning of the next.",
)
.flink("0 ms");

/// Failures of checkpoints that a job bears.
pub static TOLERABLE_FAILED_CHECKPOINTS: ConfigOption<Limit> = ConfigOption::new(
    "execution.checkpointing.tolerable-failed-checkpoints",
    Scope::Program,
    || Limit::Infinite,
    "Checkpoints that may fail in a row before the job itself fails; `infinite` for any number. A failed \
     checkpoint costs time after a later failure, a failed job at once.",
)
.flink("0");

/// Complete checkpoints that are kept.
pub static RETAINED_CHECKPOINTS: ConfigOption<u32> = ConfigOption::new(
    "execution.checkpointing.num-retained",
    Scope::Program,
    || 1,
    "Complete checkpoints of a job that are kept; older ones are deleted.",
)
.flink("1")
.accepting(|number| *number >= 1, "an integer of at least 1");

/// What becomes of checkpoints of a job that has not finished.
pub static CHECKPOINT_RETENTION: ConfigOption<CheckpointRetention> = ConfigOption::new(
    "execution.checkpointing.externalized-checkpoint-retention",
    Scope::Program,
    || CheckpointRetention::RetainOnCancellation,
    "What becomes of a job's checkpoints when it ends: `RETAIN_ON_CANCELLATION` keeps them unless the job has \
     finished, `DELETE_ON_CANCELLATION` keeps them when it has failed, `NO_EXTERNALIZED_CHECKPOINTS` deletes \
     them. They are always there after the process was killed.",
)
.flink("NO_EXTERNALIZED_CHECKPOINTS");

/// Whether checkpoints share files.
pub static INCREMENTAL_CHECKPOINTS: ConfigOption<bool> = ConfigOption::new(
    "execution.checkpointing.incremental",
    Scope::Program,
    || false,
    "Whether a checkpoint writes only those of the state backend's files that no earlier checkpoint has. For the \
     backend `rocksdb`; `hashmap` writes all of its state. Savepoints always hold all of the state.",
);

/// Whether copies are kept.
pub static LOCAL_BACKUP: ConfigOption<bool> = ConfigOption::new(
    "execution.checkpointing.local-backup.enabled",
    Scope::Program,
    || false,
    "Whether the files of incremental checkpoints of the backend `rocksdb` stay on local disk, below \
     `state.backend.rocksdb.localdir`, until a later checkpoint is complete. Hard links: they cost no copying.",
)
.flink("false");

/// Whether copies are used.
pub static FROM_LOCAL: ConfigOption<bool> = ConfigOption::new(
    "execution.state-recovery.from-local",
    Scope::Program,
    || false,
    "Whether tasks that are restarted in the same process read these local files in place of those of the checkpoint. \
     One that is missing or damaged is read from the checkpoint.",
)
.flink("false");

/// How state files are compressed.
pub static SNAPSHOT_COMPRESSION: ConfigOption<SnapshotCompression> = ConfigOption::new(
    "execution.checkpointing.snapshot-compression",
    Scope::Program,
    || SnapshotCompression::Lz4,
    "How the files of checkpoints are compressed: `none` (or `false`), `lz4` (or `true`), `zstd`. Either can be \
     restored whatever is set.",
)
.flink("false");

/// Where savepoints go.
pub static SAVEPOINT_DIR: ConfigOption<Option<String>> = ConfigOption::new(
    "execution.checkpointing.savepoint-dir",
    Scope::Program,
    || None,
    "Directory of savepoints for which none is named: a plain path or `file:///path`, on a file system that knows \
     hard links, or `s3://bucket/path`. Each savepoint gets a folder of its own in it.",
)
.flink("(none)");

/// In which form savepoints hold keyed state.
pub static SAVEPOINT_FORMAT: ConfigOption<SavepointFormat> = ConfigOption::new(
    "execution.checkpointing.savepoint-format",
    Scope::Program,
    || SavepointFormat::Canonical,
    "In which form savepoints hold keyed state, where nobody says otherwise: `canonical`, as entries that any state \
     backend reads; `native`, as the files of the job's own, which is faster for `rocksdb` and can be restored with the same \
     backend only.",
);

/// What Ctrl-C and SIGTERM do.
pub static ON_SIGNAL: ConfigOption<SignalAction> = ConfigOption::new(
    "execution.on-signal",
    Scope::Program,
    || SignalAction::Cancel,
    "What Ctrl-C and SIGTERM do to the running jobs of a program: `cancel` them; `suspend`, stop each with a savepoint in \
     `execution.checkpointing.savepoint-dir` from which it can go on; `drain`, the same once event time has ended and \
     all timers and windows have fired. If the savepoint cannot be taken, and at a second signal, they are cancelled.",
);

/// What a job begins with.
pub static RESTORE_PATH: ConfigOption<Option<String>> = ConfigOption::new(
    "execution.state-recovery.path",
    Scope::Program,
    || None,
    "Savepoint or checkpoint that the job begins with: its folder, by a whole path, a URL or a path within \
     `execution.checkpointing.dir`; or `latest` for the last checkpoint in that directory of a job of the same \
     name, and from the start when there is none. `--restore` on the command line sets it.",
)
.flink("(none)");

/// Whether state may be dropped.
pub static IGNORE_UNCLAIMED_STATE: ConfigOption<bool> = ConfigOption::new(
    "execution.state-recovery.ignore-unclaimed-state",
    Scope::Program,
    || false,
    "Whether state of operators that the program does not have any more is dropped at a restore. \
     `--allow-non-restored-state` on the command line sets it.",
)
.flink("false");

/// Who owns the checkpoint that a job begins with.
pub static CLAIM_MODE: ConfigOption<Option<ClaimMode>> = ConfigOption::new(
    "execution.state-recovery.claim-mode",
    Scope::Program,
    || None,
    "Whether the savepoint or checkpoint that a job begins with becomes its own: `NO_CLAIM` leaves it as it is, \
     `CLAIM` deletes it when the job keeps as many checkpoints of its own as it has to, or has finished. When it \
     is not set: `CLAIM` for `latest`, `NO_CLAIM` for what was named.",
)
.flink("NO_CLAIM");

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &CHECKPOINT_INTERVAL,
    &CHECKPOINT_INTERVAL_DURING_BACKLOG,
    &CHECKPOINT_DIR,
    &CHECKPOINTING_MODE,
    &UNALIGNED_CHECKPOINTS,
    &ALIGNED_CHECKPOINT_TIMEOUT,
    &RECOVER_WITHOUT_CHANNEL_STATE,
    &CHECKPOINT_TIMEOUT,
    &CHECKPOINT_MIN_PAUSE,
    &TOLERABLE_FAILED_CHECKPOINTS,
    &RETAINED_CHECKPOINTS,
    &CHECKPOINT_RETENTION,
    &INCREMENTAL_CHECKPOINTS,
    &LOCAL_BACKUP,
    &FROM_LOCAL,
    &SNAPSHOT_COMPRESSION,
    &SAVEPOINT_DIR,
    &SAVEPOINT_FORMAT,
    &ON_SIGNAL,
    &RESTORE_PATH,
    &IGNORE_UNCLAIMED_STATE,
    &CLAIM_MODE,
];
