//! Identities. Each is its own type, so that none can be passed for another.

mod hashed;

pub use hashed::{Fingerprint, OperatorId, PartHasher};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident, $repr:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $repr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The id whose 128 bits are `bits`.
            pub const fn from_u128(bits: u128) -> Self {
                Self(Uuid::from_u128(bits))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map($name)
            }
        }
    };
}

hex_id!(
    /// A submitted job. 32 hexadecimal digits.
    JobId
);
hex_id!(
    /// A vertex of the JobGraph: the operators of one chain. 32 hexadecimal digits.
    VertexId
);
hex_id!(
    /// A process that offers slots.
    TaskManagerId
);
hex_id!(
    /// A slot promised to a job.
    AllocationId
);
numeric_id!(
    /// An operator of the StreamGraph, numbered in the order of its creation.
    NodeId,
    u32
);
numeric_id!(
    /// An edge of the JobGraph.
    EdgeId,
    u32
);
numeric_id!(
    /// A checkpoint; never reused within a job.
    CheckpointId,
    u64
);
numeric_id!(
    /// How often a subtask was started before: 0 for the first attempt.
    AttemptNumber,
    u32
);

impl JobId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl TaskManagerId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

/// A random number, for names that nobody else may choose.
pub fn random_number() -> u64 {
    Uuid::new_v4().as_u64_pair().0 ^ Uuid::new_v4().as_u64_pair().1
}

/// One parallel instance of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubtaskId {
    /// The vertex.
    pub vertex: VertexId,
    /// Which of its instances, from 0.
    pub index: u32,
}

/// One try at running a subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecutionId {
    /// The subtask.
    pub subtask: SubtaskId,
    /// Which try.
    pub attempt: AttemptNumber,
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}_{}_{}",
            self.subtask.vertex, self.subtask.index, self.attempt
        )
    }
}

/// A channel: one producing and one consuming subtask of an edge, in one attempt of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelId {
    /// The edge.
    pub edge: EdgeId,
    /// The producing subtask's index.
    pub producer: u32,
    /// The consuming subtask's index.
    pub consumer: u32,
    /// The deployment that it belongs to; a restart makes new channels.
    pub generation: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_ids_print_and_parse_as_32_digits() {
        let id = JobId::from_u128(0xabc);
        assert_eq!(id.to_string(), "00000000000000000000000000000abc");
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        assert!("zz".parse::<JobId>().is_err());
    }
}
