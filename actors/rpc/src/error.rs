//! What can go wrong between an asker and an answer, for the one who must react.

use crate::fence::FenceError;
use crate::version::{Side, VersionRange};
use hurtig_core::Fault;
use hurtig_kit::TellError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Whether a message that failed may have been acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It has not left this process.
    NotSent,
    /// It was sent, and nobody has said what became of it.
    Unknown,
}

/// Why an ask has no reply, or a tell was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// There is no way to the process, or there was one until now.
    #[error("{peer} cannot be reached ({reason}); the message {}", match .delivery {
        Delivery::NotSent => "was not sent",
        Delivery::Unknown => "was sent, and whether it was acted upon is not known",
    })]
    Unreachable {
        /// The process.
        peer: String,
        /// What happened.
        reason: String,
        /// Whether it may have arrived.
        delivery: Delivery,
    },
    /// No answer in time. Whether it was acted upon is not known.
    #[error("no answer within {0:?}; whether it was acted upon is not known")]
    Timeout(Duration),
    /// The receiver does not obey the sender.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// Nobody is registered under that name.
    #[error("no endpoint is called '{endpoint}' there")]
    UnknownEndpoint {
        /// The name.
        endpoint: String,
    },
    /// The endpoint does not take this message: it is of another kind, or its process speaks an older protocol.
    #[error("endpoint '{endpoint}' does not take '{message}'")]
    Unsupported {
        /// The endpoint.
        endpoint: String,
        /// The message.
        message: String,
    },
    /// The processes have no protocol version in common.
    #[error("{older} is the older one and has to be upgraded: it speaks protocol {}, the other one {}", match .older {
        Side::Ours => (.ours, .theirs).0,
        Side::Theirs => (.ours, .theirs).1,
    }, match .older {
        Side::Ours => (.ours, .theirs).1,
        Side::Theirs => (.ours, .theirs).0,
    })]
    Incompatible {
        /// What this process speaks.
        ours: VersionRange,
        /// What the peer speaks.
        theirs: VersionRange,
        /// Which one is behind.
        older: Side,
    },
    /// Something is full; trying again later may help.
    #[error("overloaded: {what} is full")]
    Overloaded {
        /// What.
        what: String,
    },
    /// The message or the reply is larger than it may be.
    #[error("{what} has {size} bytes, and {limit} are allowed (`rpc.max-message-size`)")]
    TooLarge {
        /// What.
        what: String,
        /// Its size.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// A body that is not of its type: the two sides do not mean the same message.
    #[error("the body of '{message}' {problem}")]
    Malformed {
        /// The message.
        message: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The receiver ended, or dropped the question. Whether it was acted upon is not known.
    #[error("endpoint '{endpoint}' ended before it answered, or has dropped the question")]
    NoReply {
        /// The endpoint.
        endpoint: String,
    },
    /// The receiver says that it failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl RpcError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unreachable { .. } | Self::Timeout(_) | Self::Overloaded { .. } | Self::NoReply { .. } => {
                Fault::External
            }
            Self::Incompatible { .. } | Self::TooLarge { .. } => Fault::User,
            Self::Remote(error) => error.fault,
            _ => Fault::Internal,
        }
    }

    /// Whether sending the same again may help.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout(_) | Self::Overloaded { .. } | Self::NoReply { .. } => {
                true
            }
            Self::Remote(error) => error.fault == Fault::External,
            _ => false,
        }
    }

    /// Whether the message may have been acted upon although there is no reply.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Unreachable { delivery, .. } => *delivery == Delivery::Unknown,
            Self::Timeout(_) | Self::NoReply { .. } | Self::Remote(_) => true,
            _ => false,
        }
    }

    pub(crate) fn overloaded(what: impl Into<String>) -> Self {
        Self::Overloaded { what: what.into() }
    }

    pub(crate) fn refused(error: TellError, endpoint: &str) -> Self {
        match error {
            TellError::Overloaded => Self::overloaded(format!("the mailbox of endpoint '{endpoint}'")),
            TellError::Closed => Self::NoReply {
                endpoint: endpoint.to_owned(),
            },
        }
    }

    pub(crate) fn malformed(message: &str, problem: &(dyn std::error::Error + 'static)) -> Self {
        let (message, problem) = (message.to_owned(), chain(problem).join(": "));
        Self::Malformed { message, problem }
    }
}

/// A failure of the receiver, with the chain of its causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError {
    /// Whose fault it is, as the receiver sees it.
    pub fault: Fault,
    /// What failed, then each cause.
    pub chain: Vec<String>,
}

impl RemoteError {
    /// That of an engine error.
    pub fn new(error: &hurtig_core::Error) -> Self {
        Self {
            fault: error.fault(),
            chain: chain(error),
        }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain.join(": "))
    }
}

impl std::error::Error for RemoteError {}

fn chain(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect()
}

/// [`Fault`] on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WireFault {
    User,
    External,
    #[serde(other)]
    Internal,
}

impl From<Fault> for WireFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::User => Self::User,
            Fault::External => Self::External,
            Fault::Internal => Self::Internal,
        }
    }
}

impl From<WireFault> for Fault {
    fn from(fault: WireFault) -> Self {
        match fault {
            WireFault::User => Self::User,
            WireFault::External => Self::External,
            WireFault::Internal => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_side_is_named_with_its_versions() {
        let (old, new) = (VersionRange { min: 1, max: 2 }, VersionRange { min: 3, max: 4 });
        let error = |ours, theirs, older| RpcError::Incompatible { ours, theirs, older }.to_string();
        assert_eq!(
            error(old, new, Side::Ours),
            "this process is the older one and has to be upgraded: it speaks protocol 1 to 2, the other one 3 to 4"
        );
        assert_eq!(
            error(new, old, Side::Theirs),
            "the peer is the older one and has to be upgraded: it speaks protocol 1 to 2, the other one 3 to 4"
        );
    }

    #[test]
    fn a_chain_of_causes_survives() {
        let cause = hurtig_core::Error::user("no such file").context("cannot read a");
        let error = RemoteError::new(&cause);
        assert_eq!(error.chain, ["cannot read a", "no such file"]);
        assert_eq!(
            (error.to_string().as_str(), error.fault),
            ("cannot read a: no such file", Fault::User)
        );
    }
}
