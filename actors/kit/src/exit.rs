//! Why actors end.

use std::fmt;
use std::sync::Arc;

/// Why an actor ended.
#[derive(Clone, Debug)]
pub enum ExitReason {
    /// It had done what it was for.
    Done,
    /// Its kill switch was thrown; the fault that threw it is elsewhere.
    Killed,
    /// It could not go on.
    Failed(Arc<hurtig_core::Error>),
    /// Its code panicked: a bug. The message is what the panic said.
    Panicked(String),
}

impl ExitReason {
    /// A failure.
    pub fn failed(error: hurtig_core::Error) -> Self {
        Self::Failed(Arc::new(error))
    }

    /// Whether the ending is a fault that others must hear of.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Panicked(_))
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Killed => f.write_str("killed"),
            Self::Failed(error) => write!(f, "failed: {}", error.chain()),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

/// The fault that ended an actor, and with it everything under the same kill switch.
#[derive(Clone, Debug, thiserror::Error)]
#[error("actor '{actor}' {reason}")]
pub struct ActorFault {
    /// The actor's name.
    pub actor: String,
    /// Why it ended.
    pub reason: ExitReason,
}
