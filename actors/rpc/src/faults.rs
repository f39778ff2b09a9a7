//! Faults on command, for messages that stay in the process: what a network could do to them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// What happens to one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalFault {
    /// Nothing.
    #[default]
    None,
    /// It is not delivered, and the sender hears so.
    Unreachable,
    /// It is not delivered, and an ask runs into its timeout.
    RequestLost,
    /// It is delivered, and an ask runs into its timeout.
    ReplyLost,
    /// It is delivered twice; the first answer counts.
    Duplicate,
}

/// Decides what happens to messages.
pub trait LocalFaults: Send + Sync + 'static {
    /// What happens to the next message of this name to this endpoint.
    fn next(&self, endpoint: &str, message: &str) -> LocalFault;
}

/// Faults one after the other, whatever the message; none when the list is at its end.
#[derive(Debug, Default)]
pub struct ScriptedFaults(Mutex<VecDeque<LocalFault>>);

impl ScriptedFaults {
    /// Appends faults.
    pub fn then(&self, faults: impl IntoIterator<Item = LocalFault>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(faults);
    }
}

impl LocalFaults for ScriptedFaults {
    fn next(&self, _: &str, _: &str) -> LocalFault {
        let mut script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        script.pop_front().unwrap_or_default()
    }
}
