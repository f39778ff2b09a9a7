//! The types that single options have: numbers with a word for "no number", and enums.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value::{ConfigValue, config_enum};
use crate::key::{MAX_KEY_GROUPS, default_max_parallelism};

/// The number of key groups of a job: chosen from its parallelism, or given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MaxParallelism {
    /// From the parallelism; see [`default_max_parallelism`].
    Auto,
    /// This many.
    Groups(u32),
}

impl MaxParallelism {
    /// The number of key groups of a vertex with this parallelism.
    #[must_use]
    pub fn resolve(self, parallelism: u32) -> u32 {
        match self {
            Self::Auto => default_max_parallelism(parallelism),
            Self::Groups(groups) => groups,
        }
    }
}

impl ConfigValue for MaxParallelism {
    fn type_name() -> Cow<'static, str> {
        "integer".into()
    }

    fn expected() -> Cow<'static, str> {
        "an integer from 1 to 32768, or -1 or `auto`".into()
    }

    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "-1" | "auto" => Some(Self::Auto),
            number => {
                let groups = number.parse().ok()?;
                (1..=MAX_KEY_GROUPS)
                    .contains(&groups)
                    .then_some(Self::Groups(groups))
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Auto => "-1".to_owned(),
            Self::Groups(groups) => groups.to_string(),
        }
    }
}

/// When a batch that is not full leaves its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BufferTimeout {
    /// After every record: the lowest latency, the highest cost.
    EachRecord,
    /// When the first of its records has waited this long.
    After(Duration),
    /// Never: batches leave when they are full, at barriers and at the end of input.
    OnlyWhenFull,
}

impl ConfigValue for BufferTimeout {
    fn type_name() -> Cow<'static, str> {
        "duration".into()
    }

    fn expected() -> Cow<'static, str> {
        "a duration such as `10 ms`, `0` for each record or -1 for full batches only".into()
    }

    fn parse(text: &str) -> Option<Self> {
        if matches!(text.trim(), "-1" | "-1 ms" | "-1ms") {
            return Some(Self::OnlyWhenFull);
        }
        Some(match Duration::parse(text)? {
            Duration::ZERO => Self::EachRecord,
            interval => Self::After(interval),
        })
    }

    fn text(&self) -> String {
        match self {
            Self::EachRecord => "0 ms".to_owned(),
            Self::After(interval) => interval.text(),
            Self::OnlyWhenFull => "-1".to_owned(),
        }
    }
}

/// A count that may be without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Limit {
    /// No limit.
    Infinite,
    /// At most this many.
    AtMost(u32),
}

impl Limit {
    /// Whether `count` is still within the limit.
    #[must_use]
    pub const fn allows(self, count: u32) -> bool {
        match self {
            Self::Infinite => true,
            Self::AtMost(limit) => count <= limit,
        }
    }
}

impl ConfigValue for Limit {
    fn type_name() -> Cow<'static, str> {
        "integer".into()
    }

    fn expected() -> Cow<'static, str> {
        "an integer of at least 0, or `infinite`".into()
    }

    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "infinite" => Some(Self::Infinite),
            number => number.parse().ok().map(Self::AtMost),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Infinite => "infinite".to_owned(),
            Self::AtMost(limit) => limit.to_string(),
        }
    }
}

config_enum! {
    /// What happens after a job has failed.
    pub enum RestartStrategy {
        /// The job stays failed.
        None = "none" | "off" | "disable",
        /// A fixed number of attempts, each after the same delay.
        FixedDelay = "fixed-delay" | "fixeddelay",
        /// Attempts without end, each after a longer delay.
        ExponentialDelay = "exponential-delay" | "exponentialdelay",
        /// Attempts until failures come too often.
        FailureRate = "failure-rate" | "failurerate",
    }
}

config_enum! {
    /// Where jobs are recorded, and by what a leader is elected.
    pub enum HighAvailability {
        /// Nowhere: jobs end with the cluster.
        None = "none",
        /// In a directory of this machine.
        File = "file",
        /// In etcd.
        Etcd = "etcd",
    }
}

config_enum! {
    /// Who may ask the REST API.
    pub enum RestAuthentication {
        /// Whoever has a token, if there are tokens; else this machine.
        Auto = "auto",
        /// Whoever has a token.
        Token = "token",
        /// Everybody, as administrator.
        None = "none",
    }
}

config_enum! {
    /// What is started again after a failure.
    pub enum FailoverStrategy {
        /// The pipelined regions that it has hit.
        Region = "region",
        /// Every task.
        Full = "full",
    }
}

config_enum! {
    /// Which slots a job waits for.
    pub enum Scheduler {
        /// All that its plan needs.
        Default = "Default" | "default",
        /// Those that there are.
        Adaptive = "Adaptive" | "adaptive",
    }
}

config_enum! {
    /// How much of a cluster a job uses.
    pub enum SchedulerMode {
        /// All of it.
        Reactive = "reactive" | "REACTIVE",
    }
}

config_enum! {
    /// How the operators of a vertex are described in plans.
    pub enum VertexDescriptionMode {
        /// One operator a line, indented.
        Tree = "TREE" | "tree",
        /// `a -> b -> c`.
        Cascading = "CASCADING" | "cascading",
    }
}

config_enum! {
    /// What becomes of the checkpoints of a job that ends without having finished.
    pub enum CheckpointRetention {
        /// They are kept.
        RetainOnCancellation = "RETAIN_ON_CANCELLATION" | "retain_on_cancellation",
        /// They are kept when the job has failed.
        DeleteOnCancellation = "DELETE_ON_CANCELLATION" | "delete_on_cancellation",
        /// They are deleted.
        NoExternalizedCheckpoints = "NO_EXTERNALIZED_CHECKPOINTS" | "no_externalized_checkpoints",
    }
}

config_enum! {
    /// Where keyed state is kept.
    pub enum StateBackendKind {
        /// In memory, as values.
        HashMap = "hashmap",
        /// In RocksDB on local disk, behind caches in memory.
        RocksDb = "rocksdb",
    }
}

config_enum! {
    /// What becomes of the running jobs of a program that is interrupted or told to terminate.
    pub enum SignalAction {
        /// They are cancelled.
        Cancel = "cancel",
        /// They stop with a savepoint.
        Suspend = "suspend",
        /// They stop with a savepoint once event time has ended.
        Drain = "drain",
    }
}

config_enum! {
    /// What a restore promises about the records before it.
    pub enum CheckpointingMode {
        /// Each changes state once.
        ExactlyOnce = "EXACTLY_ONCE" | "exactly_once",
        /// Some change it more than once.
        AtLeastOnce = "AT_LEAST_ONCE" | "at_least_once",
    }
}

config_enum! {
    /// How the files of checkpoints are compressed.
    pub enum SnapshotCompression {
        /// Not at all.
        None = "none" | "false",
        /// Fast.
        Lz4 = "lz4" | "true",
        /// Small.
        Zstd = "zstd",
    }
}

config_enum! {
    /// In which form savepoints hold keyed state.
    pub enum SavepointFormat {
        /// As entries, which any state backend reads.
        Canonical = "canonical" | "CANONICAL",
        /// As the files of the job's state backend.
        Native = "native" | "NATIVE",
    }
}

config_enum! {
    /// Whether a checkpoint that a job begins with becomes the job's own.
    pub enum ClaimMode {
        /// It stays as it is.
        NoClaim = "NO_CLAIM" | "no_claim",
        /// The job deletes it when it does not need it any more.
        Claim = "CLAIM" | "claim",
    }
}

config_enum! {
    /// How batches are compressed that travel to another process.
    #[derive(Default)]
    pub enum ExchangeCompression {
        /// Not at all.
        #[default]
        None = "none",
        /// Fast.
        Lz4 = "lz4",
        /// Small.
        Zstd = "zstd",
    }
}

config_enum! {
    /// In which form records travel to another process.
    pub enum RecordForm {
        /// Values without names, where the type allows it.
        Flat = "flat",
        /// With named fields, as they are stored.
        MessagePack = "messagepack",
    }
}
