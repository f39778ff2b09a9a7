//! [`RpcError`] on the wire: a struct with a code, so that a code that is not known still says its text.

use crate::codec;
use crate::error::{Delivery, RemoteError, RpcError, WireFault};
use crate::fence::{ClusterId, FenceError, FencingToken, Scope};
use hurtig_core::Fault;
use hurtig_core::ids::JobId;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use uuid::Uuid;

/// The longest text, and the most causes, that an error takes along; its body has to fit into one frame.
const MAX_TEXT: usize = 2_048;
const MAX_CAUSES: usize = 16;

const FENCED: u16 = 1;
const SUPERSEDED: u16 = 2;
const UNREGISTERED: u16 = 3;
const UNSTAMPED: u16 = 4;
const UNKNOWN_ENDPOINT: u16 = 5;
const UNSUPPORTED: u16 = 6;
const OVERLOADED: u16 = 7;
const TOO_LARGE: u16 = 8;
const MALFORMED: u16 = 9;
const NO_REPLY: u16 = 10;
const REMOTE: u16 = 11;

/// An error as it travels. Every field but the code may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct WireError {
    code: u16,
    text: String,
    endpoint: String,
    message: String,
    scope: String,
    id: Option<Uuid>,
    yours: Option<(u64, u64)>,
    newer: Option<(u64, u64)>,
    size: u64,
    limit: u64,
    fault: Option<WireFault>,
    chain: Vec<String>,
}

/// The body of an error frame.
pub(crate) fn to_bytes(error: &RpcError) -> Vec<u8> {
    // A struct of texts and numbers encodes; and if not, an error without details is still one.
    codec::encode(&wire(error)).unwrap_or_else(|_| vec![0x80])
}

/// The error that a body tells of, whatever is in it.
pub(crate) fn from_bytes(body: &[u8]) -> RpcError {
    match codec::decode::<WireError>(body) {
        Ok(error) => typed(error),
        Err(problem) => RpcError::malformed("error", &problem),
    }
}

fn wire(error: &RpcError) -> WireError {
    let text = cut(&error.to_string());
    match error.clone() {
        RpcError::Fence(fence) => fence_to_wire(fence, text),
        RpcError::UnknownEndpoint { endpoint } => of(UNKNOWN_ENDPOINT, text, endpoint, String::new()),
        RpcError::Unsupported { endpoint, message } => of(UNSUPPORTED, text, endpoint, message),
        RpcError::Overloaded { what } => of(OVERLOADED, cut(&what), String::new(), String::new()),
        RpcError::TooLarge { what, size, limit } => WireError {
            size,
            limit,
            ..of(TOO_LARGE, cut(&what), String::new(), String::new())
        },
        RpcError::Malformed { message, problem } => of(MALFORMED, cut(&problem), String::new(), message),
        RpcError::NoReply { endpoint } => of(NO_REPLY, text, endpoint, String::new()),
        RpcError::Remote(RemoteError { fault, chain }) => WireError {
            fault: Some(fault.into()),
            chain: chain.iter().take(MAX_CAUSES).map(|cause| cut(cause)).collect(),
            ..of(REMOTE, text, String::new(), String::new())
        },
        // What only the asker's own side can find out is no error of the receiver.
        RpcError::Unreachable { .. } | RpcError::Timeout(_) | RpcError::Incompatible { .. } => WireError {
            fault: Some(WireFault::External),
            ..of(REMOTE, text, String::new(), String::new())
        },
    }
}

fn of(code: u16, text: String, endpoint: String, message: String) -> WireError {
    WireError {
        code,
        text,
        endpoint,
        message,
        ..WireError::default()
    }
}

fn fence_to_wire(fence: FenceError, text: String) -> WireError {
    let (code, scope, yours, newer) = match fence {
        FenceError::Fenced { scope, yours, newer } => (FENCED, Some(scope), Some(yours), Some(newer)),
        FenceError::Superseded { scope, yours, held } => (SUPERSEDED, Some(scope), Some(yours), Some(held)),
        FenceError::Unregistered(scope) => (UNREGISTERED, Some(scope), None, None),
        FenceError::Unstamped => (UNSTAMPED, None, None, None),
    };
    let pair = |token: FencingToken| (token.incarnation, token.number.get());
    let (kind, id) = match scope {
        Some(Scope::Cluster(id)) => ("cluster", Some(id.0)),
        Some(Scope::Job(id)) => ("job", Some(id.0)),
        None => ("", None),
    };
    WireError {
        scope: kind.to_owned(),
        id,
        yours: yours.map(pair),
        newer: newer.map(pair),
        ..of(code, text, String::new(), String::new())
    }
}

fn typed(error: WireError) -> RpcError {
    if let Some(fence) = fence_from_wire(&error) {
        return fence.into();
    }
    let WireError {
        text,
        endpoint,
        message,
        ..
    } = error;
    match error.code {
        UNKNOWN_ENDPOINT => RpcError::UnknownEndpoint { endpoint },
        UNSUPPORTED => RpcError::Unsupported { endpoint, message },
        OVERLOADED => RpcError::Overloaded { what: text },
        TOO_LARGE => RpcError::TooLarge {
            what: text,
            size: error.size,
            limit: error.limit,
        },
        MALFORMED => RpcError::Malformed {
            message,
            problem: text,
        },
        NO_REPLY => RpcError::NoReply { endpoint },
        _ => RpcError::Remote(RemoteError {
            fault: error.fault.map_or(Fault::Internal, Fault::from),
            chain: if error.chain.is_empty() {
                vec![text]
            } else {
                error.chain
            },
        }),
    }
}

fn fence_from_wire(error: &WireError) -> Option<FenceError> {
    let token = |pair: Option<(u64, u64)>| {
        let (incarnation, number) = pair?;
        let number = NonZeroU64::new(number)?;
        Some(FencingToken { incarnation, number })
    };
    let scope = match error.scope.as_str() {
        "cluster" => error.id.map(|id| Scope::Cluster(ClusterId(id))),
        "job" => error.id.map(|id| Scope::Job(JobId(id))),
        _ => None,
    };
    let (yours, newer) = (token(error.yours), token(error.newer));
    match error.code {
        FENCED => Some(FenceError::Fenced {
            scope: scope?,
            yours: yours?,
            newer: newer?,
        }),
        SUPERSEDED => Some(FenceError::Superseded {
            scope: scope?,
            yours: yours?,
            held: newer?,
        }),
        UNREGISTERED => Some(FenceError::Unregistered(scope?)),
        UNSTAMPED => Some(FenceError::Unstamped),
        _ => None,
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// An error of a connection that has ended.
pub(crate) fn unreachable(peer: &str, reason: impl ToString, delivery: Delivery) -> RpcError {
    RpcError::Unreachable {
        peer: peer.to_owned(),
        reason: reason.to_string(),
        delivery,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::Stamp;
    use crate::frame::MAX_FRAME_BODY;

    fn all() -> Vec<RpcError> {
        let number = |number| NonZeroU64::new(number).unwrap();
        let old = Stamp::cluster(ClusterId(Uuid::from_u128(9)), 1, number(3));
        let new = Stamp::cluster(ClusterId(Uuid::from_u128(9)), 1, number(4));
        let epoch = Stamp::job(JobId::from_u128(1), number(2));
        let (scope, yours) = (old.scope, old.token);
        let text = || "x".to_owned();
        vec![
            FenceError::Fenced {
                scope,
                yours,
                newer: new.token,
            }
            .into(),
            FenceError::Superseded {
                scope: epoch.scope,
                yours: new.token,
                held: epoch.token,
            }
            .into(),
            FenceError::Unregistered(epoch.scope).into(),
            FenceError::Unstamped.into(),
            RpcError::UnknownEndpoint { endpoint: text() },
            RpcError::Unsupported {
                endpoint: text(),
                message: "y".to_owned(),
            },
            RpcError::overloaded("the mailbox"),
            RpcError::TooLarge {
                what: text(),
                size: 7,
                limit: 5,
            },
            RpcError::Malformed {
                message: text(),
                problem: "y".to_owned(),
            },
            RpcError::NoReply { endpoint: text() },
            RemoteError {
                fault: Fault::User,
                chain: vec![text(), "y".to_owned()],
            }
            .into(),
        ]
    }

    #[test]
    fn every_error_of_a_receiver_survives_the_wire() {
        for error in all() {
            assert_eq!(from_bytes(&to_bytes(&error)), error);
        }
    }

    #[test]
    fn errors_of_the_future_and_of_nonsense_are_still_errors() {
        let future = WireError {
            code: 999,
            text: "the moon is full".to_owned(),
            ..WireError::default()
        };
        let read = from_bytes(&codec::encode(&future).unwrap());
        assert_eq!(read.to_string(), "the moon is full");
        assert!(matches!(from_bytes(&[0xc1, 0xff]), RpcError::Malformed { .. }));
        // A fence error that lacks what it is about is not taken for one with zeros.
        let lame = WireError {
            code: FENCED,
            text: "lame".to_owned(),
            ..WireError::default()
        };
        assert!(matches!(typed(lame), RpcError::Remote(_)));
    }

    #[test]
    fn long_chains_fit_into_a_frame() {
        let chain = vec!["ä".repeat(100_000); 100];
        let bytes = to_bytes(
            &RemoteError {
                fault: Fault::External,
                chain,
            }
            .into(),
        );
        assert!(bytes.len() < MAX_FRAME_BODY, "{}", bytes.len());
    }
}
