//! What can be said: messages with their compile-time facts, and endpoints that take them.

use crate::frame::MAX_NAME;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Messages of one lane, from one sender to one receiver, keep their order; lanes share a connection fairly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Commands: small and urgent. Trigger, notify, abort and cancel of checkpoints share it.
    Control,
    /// What is reported: states, metrics, acknowledgements.
    Report,
    /// What is large: graphs, deployments, restored state.
    Bulk,
}

impl Lane {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; 3] = [Self::Control, Self::Report, Self::Bulk];

    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Report => 1,
            Self::Bulk => 2,
        }
    }

    /// The lane of a number.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    pub(crate) const fn index(self) -> usize {
        self.number() as usize
    }
}

/// A message: a serde type with a reply type. Use [`rpc_message!`](crate::rpc_message), which checks the name.
///
/// A type may gain fields that have a default, and lose fields that had one; then its name stays. Anything else is another
/// message.
pub trait RpcMessage: Serialize + DeserializeOwned + Send + 'static {
    /// What an ask returns; `()` says only that it was taken up.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// Its name on the wire.
    const NAME: &'static str;
    /// Its lane.
    const LANE: Lane;
    /// The protocol version that brought it; it is not sent to peers that speak an older one.
    const SINCE: u16;
}

/// The facts of a message that an endpoint takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageFacts {
    /// Its name.
    pub name: &'static str,
    /// Its lane.
    pub lane: Lane,
    /// The protocol version that brought it.
    pub since: u16,
}

impl MessageFacts {
    /// Those of `M`.
    pub const fn of<M: RpcMessage>() -> Self {
        Self {
            name: M::NAME,
            lane: M::LANE,
            since: M::SINCE,
        }
    }
}

/// A kind of actor that can be spoken to. Use [`rpc_endpoint!`](crate::rpc_endpoint).
pub trait Endpoint: Send + Sync + 'static {
    /// The name of the kind, for errors.
    const KIND: &'static str;
    /// Every message that it takes.
    const MESSAGES: &'static [MessageFacts];
}

/// The endpoint takes `M`.
pub trait Accepts<M: RpcMessage>: Endpoint {}

/// Whether `name` may stand in a header: 1 to 64 lower-case letters, digits, `-`, `.`, `/`, `_`.
pub const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'/' | b'_') {
            return false;
        }
        at += 1;
    }
    at > 0 && at <= MAX_NAME
}

/// Makes a type a message: `rpc_message!(Register => Registered, "register", Control, since 1)`. A name that may not stand
/// in a header does not compile.
#[macro_export]
macro_rules! rpc_message {
    ($message:ty => $reply:ty, $name:literal, $lane:ident, since $since:literal) => {
        impl $crate::RpcMessage for $message {
            type Reply = $reply;
            const NAME: &'static str = $name;
            const LANE: $crate::Lane = $crate::Lane::$lane;
            const SINCE: u16 = $since;
        }
        const _: () = assert!($crate::is_name($name) && $since > 0);
    };
}

/// Declares a kind of endpoint and its messages:
/// `rpc_endpoint!(/** The ResourceManager. */ pub ResourceManagerRpc = "resource-manager" { Register, Require })`.
#[macro_export]
macro_rules! rpc_endpoint {
    ($(#[$meta:meta])* $vis:vis $name:ident = $kind:literal { $($message:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug)]
        $vis struct $name;
        impl $crate::Endpoint for $name {
            const KIND: &'static str = $kind;
            const MESSAGES: &'static [$crate::MessageFacts] = &[$($crate::MessageFacts::of::<$message>()),*];
        }
        $(impl $crate::Accepts<$message> for $name {})*
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_may_stand_in_a_header() {
        assert!(is_name("resource-manager/1_a.b") && is_name(&"a".repeat(MAX_NAME)));
        let bad = ["", "A", "a b", "ä", "a\0"];
        assert!(!bad.iter().any(|name| is_name(name)) && !is_name(&"a".repeat(MAX_NAME + 1)));
    }

    #[test]
    fn lanes_are_numbered_in_order() {
        for (index, lane) in Lane::ALL.into_iter().enumerate() {
            assert_eq!(lane.index(), index);
            assert_eq!(Lane::of(lane.number()), Some(lane));
        }
        assert_eq!(Lane::of(3), None);
    }
}
