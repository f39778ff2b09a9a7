//! Ids that are hashes: XXH3-128 over tagged, length-prefixed parts.

use super::VertexId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use xxhash_rust::xxh3::Xxh3;

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The id with these bits.
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// Its bits.
            pub const fn as_u128(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let bits = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
                bits.map(Self).ok_or_else(|| format!("'{text}' is not an id of 32 hexadecimal digits"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hash_id!(
    /// To whom state belongs: 128 bits from an operator's uid, or from its place in the graph.
    OperatorId
);
hash_id!(
    /// What two builds of one program must agree on: uids, operator types, edges and chains; not
    /// parallelism, names or configuration.
    Fingerprint
);

impl OperatorId {
    /// The id that belongs to a uid.
    pub fn of_uid(uid: &str) -> Self {
        let mut hasher = PartHasher::new("uid");
        hasher.part(uid.as_bytes());
        Self(hasher.finish())
    }

    /// The vertex that this operator heads.
    pub fn vertex(self) -> VertexId {
        VertexId::from_u128(self.0)
    }
}

/// Hashes a sequence of parts so that no two sequences share their bytes.
pub struct PartHasher(Xxh3);

impl PartHasher {
    /// A hasher whose results differ from those of every other domain.
    pub fn new(domain: &str) -> Self {
        let mut hasher = Self(Xxh3::new());
        hasher.part(domain.as_bytes());
        hasher
    }

    /// Adds bytes.
    pub fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Adds a text, or that there is none.
    pub fn optional(&mut self, text: Option<&str>) {
        self.0.update(&[u8::from(text.is_some())]);
        self.part(text.unwrap_or_default().as_bytes());
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    /// The hash of all parts so far.
    pub fn finish(&self) -> u128 {
        self.0.digest128()
    }
}
