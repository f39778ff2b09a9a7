//! What may be set of the exchange between workers.

use super::debloat::Debloat;
use super::packed::MAX_BATCH;
use std::time::Duration;

/// What a connection may hold.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionConfig {
    /// Bytes that may be on their way to each consumer (`exchange.credit.exclusive`).
    pub exclusive: u64,
    /// Bytes beyond that, for channels of which more waits (`exchange.credit.floating`).
    pub floating: u64,
    /// The most that one channel gets of those (`exchange.credit.floating-per-channel`).
    pub floating_per_channel: u64,
    /// Whether what is on its way follows what is read (`taskmanager.network.memory.buffer-debloat`).
    pub debloat: Option<Debloat>,
    /// The longest body of a frame that is taken.
    pub max_frame: usize,
    /// After so long without anything to send it says that it is there.
    pub quiet: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            exclusive: 256 << 10,
            floating: 8 << 20,
            floating_per_channel: 2 << 20,
            debloat: None,
            max_frame: MAX_BATCH,
            quiet: Duration::from_secs(3),
        }
    }
}

/// Bounds of the exchange between workers.
#[derive(Clone, Copy, Debug)]
pub struct NetworkConfig {
    /// Those of each connection.
    pub connection: ConnectionConfig,
    /// How long a worker is dialled before it counts as unreachable (`taskmanager.network.netty.client.connectTimeoutSec`).
    pub connect_timeout: Duration,
    /// The pause before a worker is dialled again; twice as long each time (`taskmanager.network.request-backoff.initial`).
    pub redial: Duration,
    /// The longest such pause (`taskmanager.network.request-backoff.max`).
    pub redial_max: Duration,
    /// How long a worker is waited for that is to dial: it may be told of its tasks later, or be busy with others of them
    /// (`taskmanager.network.partition-request-timeout`).
    pub patience: Duration,
    /// How long nothing may come on a connection (`exchange.silence-timeout`); who has nothing to say says so in a quarter of it.
    pub silence: Duration,
    /// Bytes that are collected before they are written to a socket (`exchange.write-bytes`).
    pub write_bytes: usize,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            connection: ConnectionConfig::default(),
            connect_timeout: Duration::from_secs(10),
            redial: Duration::from_millis(100),
            redial_max: Duration::from_secs(1),
            patience: Duration::from_secs(120),
            silence: Duration::from_secs(12),
            write_bytes: 256 << 10,
        }
    }
}
