//! Options of the exchange between the workers of a job.

use std::time::Duration;

use crate::config::{AnyOption, ByteSize, ConfigOption, ExchangeCompression, RecordForm, Scope};

/// Bytes on their way of a channel, its own.
pub static CREDIT_EXCLUSIVE: ConfigOption<ByteSize> = ConfigOption::new(
    "exchange.credit.exclusive",
    Scope::Cluster,
    || ByteSize::kb(256),
    "Bytes of a channel that may be on their way to another worker, or wait there, whatever other channels do.",
)
.accepting(|size| *size >= ByteSize::kb(4), "a size of at least `4 kb`");

/// Bytes on their way that channels share.
pub static CREDIT_FLOATING: ConfigOption<ByteSize> = ConfigOption::new(
    "exchange.credit.floating",
    Scope::Cluster,
    || ByteSize::mb(8),
    "Bytes beyond those, shared by all channels of a connection between two workers: they go to channels of which more waits.",
);

/// The most that a channel gets of the shared bytes.
pub static CREDIT_FLOATING_PER_CHANNEL: ConfigOption<ByteSize> = ConfigOption::new(
    "exchange.credit.floating-per-channel",
    Scope::Cluster,
    || ByteSize::mb(2),
    "The most that one channel gets of the shared bytes.",
);

/// Bytes written at once.
pub static WRITE_BYTES: ConfigOption<ByteSize> = ConfigOption::new(
    "exchange.write-bytes",
    Scope::Cluster,
    || ByteSize::kb(256),
    "Bytes that are collected of a connection's channels before they are written to its socket. What a barrier or a small batch \
     waits for at most, behind those of other channels.",
)
.accepting(
    |size| (ByteSize::kb(4)..=ByteSize::mb(64)).contains(size),
    "a size from `4 kb` to `64 mb`",
);

/// How records are written.
pub static RECORD_FORM: ConfigOption<RecordForm> = ConfigOption::new(
    "exchange.records.form",
    Scope::Program,
    || RecordForm::Flat,
    "How records are written that go to another worker. `flat`: values one after the other, for types that can be read that way; \
     others, and all with `messagepack`, in MessagePack with named fields.",
);

/// Compression between workers.
pub static NETWORK_COMPRESSION: ConfigOption<ExchangeCompression> = ConfigOption::new(
    "taskmanager.network.compression.codec",
    Scope::Program,
    || ExchangeCompression::None,
    "How batches are compressed that go to another worker: `none`, `lz4`, `zstd`. The tasks' threads do it. A batch that becomes no \
     smaller by an eighth goes as it is. Flink compresses blocking exchanges only.",
)
.flink("LZ4");

/// How long a worker is dialled.
pub static CONNECT_TIMEOUT_SECONDS: ConfigOption<u32> = ConfigOption::new(
    "taskmanager.network.netty.client.connectTimeoutSec",
    Scope::Cluster,
    || 10,
    "Seconds in which a worker must be reached, over all attempts, before the tasks fail that send there.",
)
.flink("120")
.accepting(
    |seconds| (1..=3_600).contains(seconds),
    "an integer from 1 to 3600",
);

/// How long a worker is waited for.
pub static PARTITION_REQUEST_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "taskmanager.network.partition-request-timeout",
    Scope::Cluster,
    || Duration::from_secs(120),
    "How long tasks wait for a worker that is to connect to theirs: it may be told of its tasks later than they of theirs.",
)
.flink("10 s")
.accepting(
    |time| *time >= Duration::from_millis(100),
    "a duration of at least `100 ms`",
);

/// First pause between two attempts.
pub static REQUEST_BACKOFF_INITIAL: ConfigOption<u32> = ConfigOption::new(
    "taskmanager.network.request-backoff.initial",
    Scope::Cluster,
    || 100,
    "Milliseconds before a worker is dialled again; twice as many each time.",
)
.flink("100")
.accepting(
    |millis| (1..=60_000).contains(millis),
    "an integer from 1 to 60000",
);

/// Longest pause between two attempts.
pub static REQUEST_BACKOFF_MAX: ConfigOption<u32> = ConfigOption::new(
    "taskmanager.network.request-backoff.max",
    Scope::Cluster,
    || 1_000,
    "The most milliseconds before a worker is dialled again.",
)
.flink("10000")
.accepting(
    |millis| (1..=60_000).contains(millis),
    "an integer from 1 to 60000",
);

/// How long nothing may come.
pub static SILENCE_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "exchange.silence-timeout",
    Scope::Cluster,
    || Duration::from_secs(12),
    "How long nothing may come from a worker before its connection counts as broken. Who has nothing to say says so in a quarter of it.",
)
.accepting(|time| *time >= Duration::from_secs(2), "a duration of at least `2 s`");

/// Whether credit follows throughput.
pub static DEBLOAT_ENABLED: ConfigOption<bool> = ConfigOption::new(
    "taskmanager.network.memory.buffer-debloat.enabled",
    Scope::Cluster,
    || false,
    "Whether the bytes that are on their way follow what is read: no more than a channel's consumer reads within \
     `taskmanager.network.memory.buffer-debloat.target`, and no more than the other bounds allow.",
)
.flink("false");

/// In which time what is on its way should be read.
pub static DEBLOAT_TARGET: ConfigOption<Duration> = ConfigOption::new(
    "taskmanager.network.memory.buffer-debloat.target",
    Scope::Cluster,
    || Duration::from_secs(1),
    "The time in which a consumer should have read what is on its way to it, and so about how long an aligned barrier stands behind it.",
)
.flink("1 s")
.accepting(
    |time| *time >= Duration::from_millis(1),
    "a duration of at least `1 ms`",
);

/// How often throughput is measured.
pub static DEBLOAT_PERIOD: ConfigOption<Duration> = ConfigOption::new(
    "taskmanager.network.memory.buffer-debloat.period",
    Scope::Cluster,
    || Duration::from_millis(200),
    "How often it is measured what is read.",
)
.flink("200 ms")
.accepting(
    |time| *time >= Duration::from_millis(1),
    "a duration of at least `1 ms`",
);

/// Over how many measurements the mean is taken.
pub static DEBLOAT_SAMPLES: ConfigOption<u32> = ConfigOption::new(
    "taskmanager.network.memory.buffer-debloat.samples",
    Scope::Cluster,
    || 20,
    "Over about how many measurements the mean is taken. Fewer follow changes sooner.",
)
.flink("20")
.accepting(
    |samples| (1..=1_000).contains(samples),
    "an integer from 1 to 1000",
);

/// Which changes count.
pub static DEBLOAT_THRESHOLD: ConfigOption<u32> = ConfigOption::new(
    "taskmanager.network.memory.buffer-debloat.threshold-percentages",
    Scope::Cluster,
    || 25,
    "By how many percent the bytes must differ from those that are in force before they take their place.",
)
.flink("25")
.accepting(|percent| *percent <= 100, "an integer from 0 to 100");

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &CREDIT_EXCLUSIVE,
    &CREDIT_FLOATING,
    &CREDIT_FLOATING_PER_CHANNEL,
    &WRITE_BYTES,
    &RECORD_FORM,
    &NETWORK_COMPRESSION,
    &CONNECT_TIMEOUT_SECONDS,
    &PARTITION_REQUEST_TIMEOUT,
    &REQUEST_BACKOFF_INITIAL,
    &REQUEST_BACKOFF_MAX,
    &SILENCE_TIMEOUT,
    &DEBLOAT_ENABLED,
    &DEBLOAT_TARGET,
    &DEBLOAT_PERIOD,
    &DEBLOAT_SAMPLES,
    &DEBLOAT_THRESHOLD,
];
