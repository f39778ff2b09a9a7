//! Bounds and times of messages between processes.

use crate::frame::MAX_FRAME_BODY;
use crate::version::{SUPPORTED, VersionRange};
use std::time::Duration;

/// Whether messages that stay in the process go through the codec (`rpc.local-codec`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalCodec {
    /// They are handed over as they are.
    #[default]
    Never,
    /// They are encoded and decoded, as if they had travelled: for tests.
    Always,
}

/// How processes talk. Every bound holds for one link, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcConfig {
    /// Protocol versions that are offered: [`SUPPORTED`], or less.
    pub versions: VersionRange,
    /// `rpc.local-codec`.
    pub local_codec: LocalCodec,
    /// The largest body of a message or reply, in bytes (`rpc.max-message-size`).
    pub max_message: usize,
    /// Bodies that wait to be sent, in bytes (`rpc.max-queued-size`).
    pub max_queued_bytes: usize,
    /// Messages that wait to be sent (`rpc.max-queued-messages`).
    pub max_queued: usize,
    /// Asks in flight, in each direction (`rpc.max-in-flight`).
    pub max_in_flight: usize,
    /// Links with peers that have dialled, in the whole process (`rpc.max-connections`).
    pub max_connections: usize,
    /// Connections that have not introduced themselves, in the whole process (`rpc.max-handshakes`).
    pub max_handshakes: usize,
    /// Pings are sent so often (`heartbeat.interval`).
    pub heartbeat_interval: Duration,
    /// A peer that was silent for so long is dead (`heartbeat.timeout`).
    pub heartbeat_timeout: Duration,
    /// Connecting and the handshake may take so long (`rpc.connect-timeout`).
    pub connect_timeout: Duration,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            versions: SUPPORTED,
            local_codec: LocalCodec::Never,
            max_message: 10 << 20,
            max_queued_bytes: 64 << 20,
            max_queued: 4_096,
            max_in_flight: 1_024,
            max_connections: 1_024,
            max_handshakes: 64,
            heartbeat_interval: Duration::from_secs(2),
            heartbeat_timeout: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(4),
        }
    }
}

/// A setting that contradicts another one, or itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// Which.
    pub setting: &'static str,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl RpcConfig {
    /// Checks what must hold between the settings.
    ///
    /// # Errors
    /// The first one that does not fit.
    pub fn check(&self) -> Result<(), ConfigError> {
        let check = |holds: bool, setting, problem: &str| {
            let problem = problem.to_owned();
            if holds {
                Ok(())
            } else {
                Err(ConfigError { setting, problem })
            }
        };
        let bounds = [
            self.max_queued,
            self.max_in_flight,
            self.max_connections,
            self.max_handshakes,
        ];
        check(
            bounds.iter().all(|bound| *bound > 0),
            "rpc.max-*",
            "a bound of 0 lets nothing through",
        )?;
        check(
            self.versions.is_within(SUPPORTED),
            "versions",
            "this build does not speak all of them",
        )?;
        let fits = |bytes: usize| self.max_message <= bytes;
        check(
            self.max_message >= MAX_FRAME_BODY && fits(1 << 30),
            "rpc.max-message-size",
            "it must lie between 64 KiB and 1 GiB",
        )?;
        check(
            fits(self.max_queued_bytes),
            "rpc.max-queued-size",
            "it must have room for one message",
        )?;
        check(
            !self.heartbeat_interval.is_zero() && self.heartbeat_timeout >= self.heartbeat_interval * 2,
            "heartbeat.timeout",
            "it must be at least two intervals, or one late answer is a death",
        )?;
        check(
            !self.connect_timeout.is_zero() && self.connect_timeout < self.heartbeat_timeout,
            "rpc.connect-timeout",
            "it must be below heartbeat.timeout, or a lost connection is never made again",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_and_contradictions_are_named() {
        assert_eq!(RpcConfig::default().check(), Ok(()));
        let setting = |change: fn(&mut RpcConfig)| {
            let mut config = RpcConfig::default();
            change(&mut config);
            config.check().map_err(|error| error.setting)
        };
        assert_eq!(setting(|c| c.max_queued = 0), Err("rpc.max-*"));
        assert_eq!(setting(|c| c.max_message = 1), Err("rpc.max-message-size"));
        assert_eq!(
            setting(|c| c.heartbeat_timeout = c.heartbeat_interval),
            Err("heartbeat.timeout")
        );
        assert_eq!(
            setting(|c| c.connect_timeout = c.heartbeat_timeout),
            Err("rpc.connect-timeout")
        );
        assert_eq!(setting(|c| c.versions.max = 99), Err("versions"));
    }
}
