//! [`RollingPolicy`]: when a part is complete and the next one begins.

use std::time::Duration;

/// When a part is complete and the next one begins. The defaults are Flink's: at 128 MiB, after 60 seconds, and
/// after 60 seconds without a record.
///
/// A part that is complete becomes visible with the next checkpoint. At the end of the input every part is
/// complete.
///
/// ```
/// use hurtig_connector_files::RollingPolicy;
/// use std::time::Duration;
///
/// // Few and large files; what was written is visible after at most ten minutes and a checkpoint.
/// let large = RollingPolicy::default()
///     .part_bytes(1 << 30)
///     .rollover_interval(Duration::from_secs(600))
///     .inactivity_interval(Duration::from_secs(600));
/// // Everything that a checkpoint holds is visible when it has completed.
/// let soon = RollingPolicy::on_checkpoint();
/// assert_ne!(large, soon);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollingPolicy {
    part_bytes: u64,
    rollover_ms: i64,
    inactivity_ms: i64,
    on_checkpoint: bool,
}

const DEFAULT_PART_BYTES: u64 = 128 * 1024 * 1024;
const DEFAULT_INTERVAL_MS: i64 = 60_000;
/// An interval that never ends.
const NEVER: i64 = i64::MAX;

impl Default for RollingPolicy {
    fn default() -> Self {
        Self {
            part_bytes: DEFAULT_PART_BYTES,
            rollover_ms: DEFAULT_INTERVAL_MS,
            inactivity_ms: DEFAULT_INTERVAL_MS,
            on_checkpoint: false,
        }
    }
}

fn millis(interval: Duration) -> i64 {
    i64::try_from(interval.as_millis()).unwrap_or(NEVER)
}

impl RollingPolicy {
    /// A part is complete at every checkpoint, and never between two.
    pub fn on_checkpoint() -> Self {
        Self {
            part_bytes: u64::MAX,
            rollover_ms: NEVER,
            inactivity_ms: NEVER,
            on_checkpoint: true,
        }
    }

    /// A part is complete when it has so many bytes.
    #[must_use]
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.part_bytes = bytes;
        self
    }

    /// A part is complete so long after its first record.
    #[must_use]
    pub fn rollover_interval(mut self, interval: Duration) -> Self {
        self.rollover_ms = millis(interval);
        self
    }

    /// A part is complete so long after its last record.
    #[must_use]
    pub fn inactivity_interval(mut self, interval: Duration) -> Self {
        self.inactivity_ms = millis(interval);
        self
    }

    /// Whether a part is also complete at every checkpoint.
    #[must_use]
    pub fn at_checkpoints(mut self, yes: bool) -> Self {
        self.on_checkpoint = yes;
        self
    }

    pub(super) fn is_full(&self, bytes: u64) -> bool {
        bytes >= self.part_bytes
    }

    pub(super) fn rolls_on_checkpoint(&self) -> bool {
        self.on_checkpoint
    }

    /// When a part is complete that was begun and last written at these wall-clock milliseconds.
    pub(super) fn due_ms(&self, begun_ms: i64, written_ms: i64) -> i64 {
        let rollover = begun_ms.saturating_add(self.rollover_ms);
        rollover.min(written_ms.saturating_add(self.inactivity_ms))
    }
}
